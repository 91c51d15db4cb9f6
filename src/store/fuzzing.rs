//! What of the store is fuzzed? What stands in records, as if their seals had been opened. Built with `--cfg fuzzing` only (`fuzz/`).

use super::codec::LogRecord;
use super::record::{EmbeddingPrecision, decode_event, decode_item, decode_item_id, encode_event, encode_item};

/// The bytes of a record: whatever can be read can be written, and then says the same.
pub fn record(bytes: &[u8]) {
    if let Ok(event) = decode_event(bytes) {
        let again = encode_event(&event).and_then(|bytes| decode_event(&bytes));
        assert_eq!(again.ok(), Some(event));
    }
    if let Ok(item) = decode_item(bytes) {
        let again = encode_item(&item, EmbeddingPrecision::F32).and_then(|bytes| decode_item(&bytes));
        assert!(again.is_ok_and(|again| again.item == item.item && again.images.len() == item.images.len()));
    }
    let _ = decode_item_id(bytes);
    if let Ok(record) = LogRecord::of(bytes) {
        let _ = record.slot();
    }
}
