//! What colour? Red, green and blue as fractions, mixed the way paint on a screen is.

use std::ops::{Add, Mul};

/// Red, green and blue; 0 is dark, 1 is full. Not clamped until the picture is finished.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour {
    pub(super) r: f32,
    pub(super) g: f32,
    pub(super) b: f32,
}

/// The colour written as `0xRRGGBB`.
pub(super) const fn rgb(hex: u32) -> Colour {
    Colour {
        r: ((hex >> 16) & 255) as f32 / 255.0,
        g: ((hex >> 8) & 255) as f32 / 255.0,
        b: (hex & 255) as f32 / 255.0,
    }
}

pub(super) const BLACK: Colour = rgb(0);
pub(super) const WHITE: Colour = rgb(0xFF_FFFF);

impl Colour {
    /// From this colour (share 0) to `other` (share 1).
    pub(super) fn mix(self, other: Self, share: f32) -> Self {
        Self {
            r: self.r + (other.r - self.r) * share,
            g: self.g + (other.g - self.g) * share,
            b: self.b + (other.b - self.b) * share,
        }
    }

    /// Light `other` added without burning out.
    pub(super) fn screen(self, other: Self) -> Self {
        let one = |a: f32, b: f32| a + b * (1.0 - a).max(0.0);
        Self { r: one(self.r, other.r), g: one(self.g, other.g), b: one(self.b, other.b) }
    }
}

impl Mul<f32> for Colour {
    type Output = Self;

    fn mul(self, by: f32) -> Self {
        Self { r: self.r * by, g: self.g * by, b: self.b * by }
    }
}

impl Add for Colour {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { r: self.r + other.r, g: self.g + other.g, b: self.b + other.b }
    }
}

/// A colour of hue `hue` (a turn is 1), `saturation` and `value` in 0 to 1.
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    let channel = |shift: f32| {
        let k = (shift + hue.rem_euclid(1.0) * 6.0) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    };
    Colour { r: channel(5.0), g: channel(3.0), b: channel(1.0) }
}

/// The colour at `place` of a gradient; stops are in rising order of their places.
pub(super) fn gradient(stops: &[(f32, Colour)], place: f32) -> Colour {
    let Some(mut before) = stops.first().copied() else { return BLACK };
    for &stop in stops {
        if place <= stop.0 {
            let span = stop.0 - before.0;
            let share = if span > 0.0 { ((place - before.0) / span).clamp(0.0, 1.0) } else { 0.0 };
            return before.1.mix(stop.1, smooth(share));
        }
        before = stop;
    }
    before.1
}

/// Eases 0 to 1 in and out.
pub(super) fn smooth(share: f32) -> f32 {
    let s = share.clamp(0.0, 1.0);
    s * s * (3.0 - 2.0 * s)
}

/// 0 below `low`, 1 above `high`, eased between; also with `low` above `high`.
pub(super) fn step_between(low: f32, high: f32, value: f32) -> f32 {
    smooth((value - low) / (high - low))
}
