//! What does a model look at? Eight-bit RGB pixels, the size it wants them in, and how they moved.

use std::sync::Arc;

/// An upright picture: RGB, 8 bits a channel, rows from top to bottom without gaps. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    rgb: Arc<Vec<u8>>,
}

impl Pixels {
    /// Wraps `rgb`, which must have `width × height × 3` bytes and at least one pixel; `None` otherwise.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes > 0 && bytes == rgb.len()).then(|| Self { width, height, rgb: Arc::new(rgb) })
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes themselves, unless there are clones that have them too.
    pub fn into_rgb(self) -> Option<Vec<u8>> {
        Arc::into_inner(self.rgb)
    }

    /// `height × width × 3` bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({}×{})", self.width, self.height)
    }
}

/// How a picture of any shape becomes a model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Scale so that the short side has `short_side` pixels, then cut the input out of the middle.
    CentreCrop {
        /// Length of the short side before the cut, in pixels; at least the input's longer side.
        short_side: u32,
    },
    /// Scale both sides independently; nothing is cut, proportions change.
    Stretch,
}

/// The picture that a model wants: its size in pixels and how to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputSize {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How the picture is made to fit.
    pub fit: Fit,
}

impl InputSize {
    /// The bytes of one RGB picture of this size.
    pub fn bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }
}

/// What changed from one frame to the next.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Motion {
    /// Mean absolute change of luma after shifting by (`dx`, `dy`), 0 (none) to 1.
    pub energy: f32,
    /// Horizontal shift as a share of the width, positive to the right.
    pub dx: f32,
    /// Vertical shift as a share of the height, positive downwards.
    pub dy: f32,
    /// Whether a new scene began.
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_must_fill_their_size() {
        assert!(Pixels::new(2, 1, vec![0; 6]).is_some());
        assert!(Pixels::new(2, 1, vec![0; 5]).is_none());
        assert!(Pixels::new(0, 1, vec![]).is_none());
        assert!(Pixels::new(u32::MAX, u32::MAX, vec![]).is_none());
    }
}
