//! How does derived state become bytes, and state again? Little-endian fields one after the other, checked on reading.
//!
//! A part writes itself with a [`StateWriter`] and reads itself with a [`StateReader`]. Reading trusts nothing: every
//! field is a `Result`, and [`StateReader::count`] refuses a number of elements that the remaining bytes cannot hold, so
//! that nothing is allocated that was not there. Whether the values make sense is for the part to say.

/// Why saved state cannot be taken up. The remedy is always the same: leave it, and learn from the log again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is another part's state, or in another format.
    #[error("the saved state is not in the format that this version reads")]
    Format,
    /// It was saved under other limits, and what those left out cannot be made up.
    #[error("the saved state was made with another {0}")]
    Incompatible(&'static str),
    /// It contradicts itself or ends early.
    #[error("the saved state is damaged: {0}")]
    Damaged(&'static str),
}

/// Collects the fields of saved state.
#[derive(Debug)]
pub struct StateWriter(Vec<u8>);

/// Hands out the fields of saved state in the order in which they were written.
#[derive(Debug)]
pub struct StateReader<'a>(&'a [u8]);

impl StateWriter {
    /// Begins the state of `part` in its format `version`; about `bytes` bytes are to come.
    pub fn new(part: [u8; 4], version: u32, bytes: usize) -> Self {
        let mut writer = Self(Vec::with_capacity(bytes + 8));
        writer.0.extend_from_slice(&part);
        writer.u32(version);
        writer
    }

    /// Appends a number of elements; more than four billion would be refused on reading.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Appends numbers one after the other; their [count](Self::count) must be known otherwise.
    pub fn u32s(&mut self, values: &[u32]) {
        let start = self.0.len();
        self.0.resize(start + values.len() * 4, 0);
        for (bytes, value) in self.0[start..].chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The same of numbers with a point.
    pub fn f32s(&mut self, values: &[f32]) {
        self.0.reserve(values.len() * 4);
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Appends text and its length.
    pub fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Appends bytes; their number must be known otherwise.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The state as written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl<'a> StateReader<'a> {
    /// Reads the state of `part`, which must be in format `version`.
    pub fn new(part: [u8; 4], version: u32, bytes: &'a [u8]) -> Result<Self, LoadError> {
        let mut reader = Self(bytes);
        let found: [u8; 4] = reader.array().map_err(|_| LoadError::Format)?;
        if found != part || reader.u32().map_err(|_| LoadError::Format)? != version {
            return Err(LoadError::Format);
        }
        Ok(reader)
    }

    /// A number of elements of at least `bytes_each` bytes, of which there may be at most `limit`.
    pub fn count(&mut self, bytes_each: usize, limit: usize) -> Result<usize, LoadError> {
        let count = self.u32()? as usize;
        if count > limit || count.saturating_mul(bytes_each) > self.0.len() {
            return Err(LoadError::Damaged("it counts more elements than it can have"));
        }
        Ok(count)
    }

    /// The next `count` numbers.
    pub fn u32s(&mut self, count: usize) -> Result<impl ExactSizeIterator<Item = u32> + use<'a>, LoadError> {
        let bytes = self.bytes(count.saturating_mul(4))?;
        Ok(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])))
    }

    /// Text as long as it says.
    pub fn text(&mut self) -> Result<&'a str, LoadError> {
        let length = self.count(1, usize::MAX)?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| LoadError::Damaged("a text is not UTF-8"))
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], LoadError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(LoadError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(LoadError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// Checks that everything was read.
    pub fn end(self) -> Result<(), LoadError> {
        if self.0.is_empty() { Ok(()) } else { Err(LoadError::Damaged("it goes on too long")) }
    }
}

macro_rules! fields {
    ($($kind:ident)*) => {
        impl StateWriter {$(
            #[doc = concat!("Appends one `", stringify!($kind), "`.")]
            pub fn $kind(&mut self, value: $kind) {
                self.0.extend_from_slice(&value.to_le_bytes());
            }
        )*}

        impl StateReader<'_> {$(
            #[doc = concat!("One `", stringify!($kind), "`.")]
            pub fn $kind(&mut self) -> Result<$kind, LoadError> {
                Ok($kind::from_le_bytes(self.array()?))
            }
        )*}
    };
}

fields!(u8 u16 u32 u64 i32 i64 f32 f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut writer = StateWriter::new(*b"test", 3, 64);
        writer.u8(7);
        writer.f64(-0.5);
        writer.i64(i64::MIN);
        writer.text("häm");
        writer.count(2);
        writer.u32s(&[1, u32::MAX]);
        let bytes = writer.finish();
        let mut reader = StateReader::new(*b"test", 3, &bytes).unwrap();
        assert_eq!((reader.u8(), reader.f64(), reader.i64()), (Ok(7), Ok(-0.5), Ok(i64::MIN)));
        assert_eq!(reader.text(), Ok("häm"));
        let count = reader.count(4, 2).unwrap();
        assert_eq!(reader.u32s(count).unwrap().collect::<Vec<_>>(), [1, u32::MAX]);
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut writer = StateWriter::new(*b"test", 3, 0);
        writer.count(1000);
        let bytes = writer.finish();
        assert_eq!(StateReader::new(*b"else", 3, &bytes).unwrap_err(), LoadError::Format);
        assert_eq!(StateReader::new(*b"test", 4, &bytes).unwrap_err(), LoadError::Format);
        assert_eq!(StateReader::new(*b"test", 3, &bytes[..6]).unwrap_err(), LoadError::Format);
        let reader = || StateReader::new(*b"test", 3, &bytes).unwrap();
        assert!(reader().count(1, usize::MAX).is_err(), "the bytes do not hold a thousand elements");
        assert!(reader().count(0, 999).is_err(), "the limit does not either");
        assert!(reader().u64().is_err() && reader().text().is_err() && reader().end().is_err());
    }
}
