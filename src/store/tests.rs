//! The store as a whole: what is acknowledged is found again, in order, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use redb::ReadableTable;

use super::*;
use crate::domain::{
    Attribute, Embedding, Event, EventId, EventKind, Item, ItemId, SealingKey, SessionId, Timestamp, UserKey,
};
use crate::telemetry::Metrics;

/// Small and quick; the cache of the default would be allocated for each test.
pub(super) fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 4 * 1024 * 1024, min_free_bytes: 0, ..StoreOptions::default() }
}

pub(super) fn keys() -> Vec<SealingKey> {
    vec![SealingKey::new(1, [0x5E; 32])]
}

pub(super) fn open(dir: &Path) -> Store {
    open_with(dir, options())
}

fn open_with(dir: &Path, options: StoreOptions) -> Store {
    Store::open(dir, &keys(), options).unwrap()
}

pub(super) fn event(id: &str) -> Event {
    Event {
        id: EventId::new(id).unwrap(),
        kind: EventKind::Play,
        session: SessionId::new("s1").unwrap(),
        user: Some(UserKey([7; 16])),
        item: ItemId::new("i1").unwrap(),
        occurred_at: Timestamp(1_700_000_000_123),
        position_s: Some(43.2),
        watched_s: None,
        recommendation_id: Some("r-1".into()),
        value: None,
        region: Some("de".into()),
    }
}

/// Of nobody: whoever has no key waits for it before they wait for the writer.
fn anonymous(id: &str) -> Event {
    Event { user: None, ..event(id) }
}

pub(super) fn item_id(text: &str) -> ItemId {
    ItemId::new(text).unwrap()
}

pub(super) fn image(seed: u8) -> ImageRecord {
    let embedding = |dims: usize| Embedding::unit((0..dims).map(|i| ((i as f32) + f32::from(seed)).sin()).collect());
    ImageRecord {
        sha256: [seed; 32],
        width: 640,
        height: 360,
        embeddings: BTreeMap::from([("a".into(), embedding(5).unwrap()), ("b".into(), embedding(3).unwrap())]),
        thumbnail: None,
    }
}

pub(super) fn item(id: &str, images: Vec<ImageRecord>) -> ItemRecord {
    let mut item = Item::new(item_id(id));
    item.title = "The sea".into();
    item.attributes.insert("year".into(), Attribute::Number(1995.0));
    ItemRecord { item, images, created_at: Timestamp(1), updated_at: Timestamp(2) }
}

pub(super) fn all_events(store: &Store) -> Vec<(u64, Event)> {
    let mut events = Vec::new();
    let replayed = store
        .replay_entries(0, &mut |sequence, entry| {
            if let LogEntry::Event(event) = entry {
                events.push((sequence, event));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((replayed.skipped, replayed.erased), (0, 0));
    events
}

fn close_to(a: &ItemRecord, b: &ItemRecord, least_cosine: f32) -> bool {
    a.item == b.item
        && (a.created_at, a.updated_at) == (b.created_at, b.updated_at)
        && a.images.len() == b.images.len()
        && a.images.iter().zip(&b.images).all(|(x, y)| {
            (x.sha256, x.width, x.height) == (y.sha256, y.width, y.height)
                && x.embeddings.keys().eq(y.embeddings.keys())
                && x.embeddings.values().zip(y.embeddings.values()).all(|(e, f)| e.cosine(f) > least_cosine)
        })
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        assert_eq!(store.last_sequence(), 0);
        let appended = store.append_events(vec![event("a"), event("b")]).await.unwrap();
        assert_eq!(appended, [Appended::New(1), Appended::New(2)]);
        assert_eq!(store.put_items(vec![item("i1", vec![image(1), image(2)])]).await.unwrap(), [3]);
        assert_eq!(store.append_events(vec![event("c")]).await.unwrap(), [Appended::New(4)]);
    }
    let store = open(dir.path());
    assert_eq!(store.last_sequence(), 4);
    assert_eq!(all_events(&store), [(1, event("a")), (2, event("b")), (4, event("c"))]);
    let found = store.get_item(&item_id("i1")).unwrap().unwrap();
    assert!(close_to(&found, &item("i1", vec![image(1), image(2)]), 0.999_999));
    assert_eq!(store.get_item(&item_id("i2")).unwrap(), None);
    assert_eq!(store.append_events(vec![event("d")]).await.unwrap(), [Appended::New(5)]);
}

#[tokio::test]
async fn an_event_counts_once_in_a_batch_across_batches_and_across_starts() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        let batch = vec![event("a"), event("b"), event("a")];
        let appended = store.append_events(batch).await.unwrap();
        assert_eq!(appended, [Appended::New(1), Appended::New(2), Appended::Duplicate]);
        assert_eq!(store.append_events(vec![event("b")]).await.unwrap(), [Appended::Duplicate]);
    }
    let store = open(dir.path());
    let appended = store.append_events(vec![event("b"), event("c"), event("a")]).await.unwrap();
    assert_eq!(appended, [Appended::Duplicate, Appended::New(3), Appended::Duplicate]);
    assert_eq!(all_events(&store).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_are_all_acknowledged_and_kept_in_their_order() {
    const WRITERS: usize = 24;
    const CALLS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap();
    let store = open_with(dir.path(), StoreOptions { metrics: Some(metrics.clone()), ..options() });
    let writers = (0..WRITERS).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut numbers = Vec::new();
            for call in 0..CALLS {
                let events = vec![event(&format!("{w}-{call}-0")), event(&format!("{w}-{call}-1"))];
                for appended in store.append_events(events).await.unwrap() {
                    let Appended::New(sequence) = appended else { panic!("no id was used twice") };
                    assert!(store.last_sequence() >= sequence, "what is acknowledged is visible");
                    numbers.push(sequence);
                }
            }
            assert!(numbers.is_sorted(), "a writer's events keep their order");
            (w, numbers)
        })
    });
    let mut acknowledged = BTreeMap::new();
    for writer in writers.collect::<Vec<_>>() {
        let (w, numbers) = writer.await.unwrap();
        for (i, sequence) in numbers.into_iter().enumerate() {
            let former = acknowledged.insert(sequence, format!("{w}-{}-{}", i / 2, i % 2));
            assert_eq!(former, None, "a number is given once");
        }
    }
    assert_eq!(acknowledged.len(), WRITERS * CALLS * 2);
    drop(store);
    let logged: BTreeMap<u64, String> =
        all_events(&open(dir.path())).into_iter().map(|(n, e)| (n, e.id.as_str().to_owned())).collect();
    assert_eq!(logged, acknowledged);
    assert_eq!(logged.keys().copied().collect::<Vec<_>>(), (1..=logged.len() as u64).collect::<Vec<_>>());
    assert!(metrics.encode().contains("upnext_commit_group_size_sum 960"));
}

#[tokio::test]
async fn items_change_and_go_and_leave_entries_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_items(vec![item("b", vec![]), item("a", vec![image(1)]), item("c", vec![])]).await.unwrap();
    let mut changed = item("b", vec![image(9)]);
    changed.item.title = "Another".into();
    store.put_items(vec![changed.clone()]).await.unwrap();
    assert_eq!(store.delete_item(&item_id("c")).await.unwrap(), Some(5));
    assert_eq!(store.delete_item(&item_id("c")).await.unwrap(), None, "it is gone already");
    assert_eq!(store.item_count().unwrap(), 2);

    let mut ids = Vec::new();
    let scanned = store.for_each_item(|record| {
        ids.push(record.item.id.as_str().to_owned());
        ControlFlow::Continue(())
    });
    assert_eq!(scanned.unwrap(), Scanned { items: 2, skipped: 0 });
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    assert!(close_to(&store.get_item(&item_id("b")).unwrap().unwrap(), &changed, 0.999_999));

    let mut entries = Vec::new();
    store
        .replay_entries(2, &mut |sequence, entry| {
            entries.push((sequence, entry));
            if entries.len() < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    let put = |id| LogEntry::ItemPut(item_id(id));
    let expected = [(2, put("a")), (3, put("c")), (4, put("b")), (5, LogEntry::ItemDeleted(item_id("c")))];
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn thumbnails_stay_with_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let with =
        |seed: u8, jpeg: Option<&'static [u8]>| ImageRecord { thumbnail: jpeg.map(Bytes::from_static), ..image(seed) };
    let images = vec![with(1, Some(b"one")), with(2, Some(b"two"))];
    store.put_items(vec![item("a", images), item("b", vec![with(1, Some(b"other"))])]).await.unwrap();
    let thumbnail = |id: &str, seed: u8| store.thumbnail(&item_id(id), &[seed; 32]).unwrap();
    assert_eq!(thumbnail("a", 2).as_deref(), Some(&b"two"[..]));
    assert_eq!(thumbnail("a", 3), None);

    // The first image stays without being sent again, the second one goes, a third one comes.
    store.put_items(vec![item("a", vec![with(3, Some(b"three")), with(1, None)])]).await.unwrap();
    assert_eq!(thumbnail("a", 1).as_deref(), Some(&b"one"[..]));
    assert_eq!(thumbnail("a", 2), None);
    assert_eq!(thumbnail("a", 3).as_deref(), Some(&b"three"[..]));

    store.delete_item(&item_id("a")).await.unwrap();
    assert_eq!(thumbnail("a", 1), None);
    assert_eq!(thumbnail("b", 1).as_deref(), Some(&b"other"[..]), "another item's thumbnail is not touched");
}

#[tokio::test]
async fn half_precision_takes_half_the_room_and_stays_close() {
    let dir = tempfile::tempdir().unwrap();
    let half = StoreOptions { embedding_precision: EmbeddingPrecision::F16, ..options() };
    let store = open_with(dir.path(), half);
    let record = item("a", vec![image(1)]);
    store.put_items(vec![record.clone()]).await.unwrap();
    assert!(close_to(&store.get_item(&item_id("a")).unwrap().unwrap(), &record, 0.999));
    let bytes = |precision| super::record::encode_item(&record, precision).unwrap().len();
    assert_eq!(bytes(EmbeddingPrecision::F32) - bytes(EmbeddingPrecision::F16), 8 * 2);
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), &keys(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("upnext.redb"));
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn a_closed_store_reads_but_writes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_events(vec![event("a")]).await.unwrap();
    store.close();
    store.close();
    assert_eq!(store.append_events(vec![event("b")]).await, Err(StoreError::Closed));
    assert_eq!(store.append_events(vec![]).await, Ok(vec![]));
    assert_eq!(all_events(&store).len(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // With one record to a commit the writer takes no more than one call out before it stalls.
    let store = open_with(dir.path(), StoreOptions { queue_capacity: 2, commit_records: 1, ..options() });
    let stalled = store.stall_writer();
    let mut waiting = Vec::new();
    let mut refused = 0;
    for i in 0..10 {
        let mut call = Box::pin(store.append_events(vec![anonymous(&i.to_string())]));
        match futures_util::poll!(&mut call) {
            std::task::Poll::Ready(answer) => {
                assert_eq!(answer, Err(StoreError::Busy));
                refused += 1;
            }
            std::task::Poll::Pending => waiting.push(call),
        }
    }
    // Two in the queue, and perhaps one that the writer has taken out already.
    assert!((7..=8).contains(&refused), "{refused}");
    drop(stalled);
    for call in waiting {
        call.await.unwrap();
    }
    assert_eq!(all_events(&store).len(), 10 - refused);

    let tight = tempfile::tempdir().unwrap();
    let store = open_with(tight.path(), StoreOptions { queue_bytes: 1, ..options() });
    let stalled = store.stall_writer();
    let mut first = Box::pin(store.append_events(vec![anonymous("a")]));
    assert!(futures_util::poll!(&mut first).is_pending(), "alone, any call gets in");
    assert_eq!(store.append_events(vec![anonymous("b")]).await, Err(StoreError::Busy));
    drop(stalled);
    assert_eq!(first.await.unwrap(), [Appended::New(1)]);
    assert_eq!(store.append_events(vec![event("b")]).await.unwrap(), [Appended::New(2)]);
}

#[tokio::test]
async fn a_record_of_any_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let huge = Event { region: Some("x".repeat(17 * 1024 * 1024)), ..event("a") };
    assert!(matches!(store.append_events(vec![huge]).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.append_events(vec![event("a")]).await.unwrap(), [Appended::New(1)]);
}

#[tokio::test]
async fn a_damaged_file_gives_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        let events = (0..2000).map(|i| event(&i.to_string())).collect();
        store.append_events(events).await.unwrap();
    }
    let file = dir.path().join("upnext.redb");
    let good = fs::read(&file).unwrap();
    assert!(good.len() > 100_000);

    let text = b"this is no database but a long enough text ".repeat(200);
    let cut = good[..good.len() / 3].to_vec();
    let mut flipped_head = good.clone();
    flipped_head[..16].fill(0xAA);
    let mut flipped_pages = good.clone();
    // Past the head; every page of the upper half loses a byte, so some page that is in use is hit.
    for byte in flipped_pages[64 * 1024..].iter_mut().step_by(1024) {
        *byte ^= 0xFF;
    }
    for (what, bytes) in [("text", text), ("cut", cut), ("head", flipped_head), ("pages", flipped_pages)] {
        fs::write(&file, bytes).unwrap();
        let error = Store::open(dir.path(), &keys(), options()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("upnext.redb") && error.to_string().contains("restore"), "{error}");
    }
    fs::write(&file, good).unwrap();
    assert_eq!(all_events(&open(dir.path())).len(), 2000);
}

#[tokio::test]
async fn another_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_events(vec![event("a")]).await.unwrap();
    drop(store);
    let file = dir.path().join("upnext.redb");
    {
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(super::tables::META).unwrap().insert("format_version", 3).unwrap();
        transaction.commit().unwrap();
    }
    let before = fs::read(&file).unwrap();
    let error = Store::open(dir.path(), &keys(), StoreOptions { check_on_open: false, ..options() }).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 3, supported: 2, .. }), "{error:?}");
    assert_eq!(before.len(), fs::read(&file).unwrap().len());
}

#[tokio::test]
async fn records_that_make_no_sense_are_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append_events(vec![event("a")]).await.unwrap();
    {
        let database = redb::Database::open(dir.path().join("upnext.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut log = transaction.open_table(super::tables::LOG).unwrap();
        let good = log.get(1).unwrap().unwrap().value().to_vec();
        let mut flipped = good.clone();
        flipped[40] ^= 1;
        let rows: [&[u8]; 4] = [&[], &[1, 9, 1], &good[..good.len() - 1], &flipped];
        for (i, row) in rows.iter().enumerate() {
            log.insert(i as u64 + 2, *row).unwrap();
        }
        // A good record keeps its meaning wherever it stands.
        log.insert(6, good.as_slice()).unwrap();
        drop(log);
        transaction.open_table(super::tables::CATALOGUE).unwrap().insert(&[1; 16], &[1_u8, 4, 255][..]).unwrap();
        transaction.commit().unwrap();
    }
    let store = open(dir.path());
    let mut seen = BTreeSet::new();
    let replayed = store.replay_entries(0, &mut |sequence, _| {
        seen.insert(sequence);
        ControlFlow::Continue(())
    });
    assert_eq!(replayed.unwrap(), Replayed { entries: 2, skipped: 4, erased: 0 });
    assert_eq!(seen, BTreeSet::from([1, 6]));
    let scanned = store.for_each_item(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(scanned, Scanned { items: 0, skipped: 1 });
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        super::record::decode_event(&bytes).ok();
        super::record::decode_item(&bytes).ok();
        super::record::decode_item_id(&bytes).ok();
        super::codec::LogRecord::of(&bytes).ok();
    }

    #[test]
    fn a_cut_item_is_noticed(seed in 0..50_u8, cut in 0.0..1.0_f64) {
        let bytes = super::record::encode_item(&item("a", vec![image(seed)]), EmbeddingPrecision::F32).unwrap();
        let keep = (bytes.len() as f64 * cut) as usize;
        prop_assert!(super::record::decode_item(&bytes[..keep]).is_err());
        prop_assert!(super::record::decode_item(&bytes).is_ok());
    }

    #[test]
    fn events_survive_their_encoding(
        id in "[a-zA-Z0-9 äß/-]{1,40}",
        kind in prop::sample::select(EventKind::ALL.to_vec()),
        at in any::<i64>(),
        number in prop::option::of(-1e6_f32..1e6),
        user in prop::option::of(any::<[u8; 16]>()),
    ) {
        let original = Event {
            kind,
            occurred_at: Timestamp(at),
            value: number,
            watched_s: number,
            position_s: None,
            user: user.map(UserKey),
            ..event(&id)
        };
        let bytes = super::record::encode_event(&original).unwrap();
        prop_assert_eq!(super::record::decode_event(&bytes).unwrap(), original);
    }
}
