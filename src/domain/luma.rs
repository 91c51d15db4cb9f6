//! What does a frame look like from far away? A small grey picture, cheap to keep and to compare.

/// Columns and rows of a [`LumaThumb`].
pub const LUMA_SIDE: usize = 32;

/// A frame shrunk to 32 × 32 luma values (0 black to 255 white), rows from top to bottom. 1 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct LumaThumb(pub Box<[u8; LUMA_SIDE * LUMA_SIDE]>);

impl std::fmt::Debug for LumaThumb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LumaThumb")
    }
}
