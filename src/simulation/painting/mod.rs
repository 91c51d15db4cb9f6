//! How is a picture painted? Each theme is a small program of layered strokes; this is their common frame.
//!
//! A painter asks its [`Shot`] for numbers of four kinds: those of the look (shared by a production), of the item, of the
//! shot (a composition that returns in the video), and of time. So episodes of a series share their light and motif, and
//! the frames of an item share its colours.

mod animals;
mod canvas;
mod city;
mod colour;
mod concert;
mod court;
mod desert;
mod forest;
mod kitchen;
mod mountains;
mod noise;
mod reef;
mod road;
mod sea;
mod space;

use crate::domain::Pixels;

use self::canvas::{Canvas, Grade, WIDE};
use super::random::{derive, unit};
use super::theme::Theme;

/// One composition at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shot {
    look: u64,
    item: u64,
    shot: u64,
    /// Seconds since the scene began.
    t: f32,
}

impl Shot {
    pub(super) fn new(theme: Theme, look: u64, item: u64, shot: u32, t_s: f64) -> Self {
        let part = theme.index() as u64;
        Self {
            look: derive(look, part),
            item: derive(item, 100 + part),
            shot: derive(item, 1_000 + u64::from(shot) * 32 + part),
            t: t_s as f32,
        }
    }

    /// Number `name` of the look, in [0, 1).
    fn look(&self, name: u64) -> f32 {
        unit(derive(self.look, name)) as f32
    }

    /// Number `name` of the item, in [0, 1).
    fn item(&self, name: u64) -> f32 {
        unit(derive(self.item, name)) as f32
    }

    /// Number `name` of the shot, in [0, 1).
    fn own(&self, name: u64) -> f32 {
        unit(derive(self.shot, name)) as f32
    }

    /// One of `count` variants of the look.
    fn look_of(&self, name: u64, count: usize) -> usize {
        (derive(self.look, name) % count as u64) as usize
    }

    /// One of `count` variants of the item.
    fn item_of(&self, name: u64, count: usize) -> usize {
        (derive(self.item, name) % count as u64) as usize
    }

    /// One of `count` variants of the shot.
    fn own_of(&self, name: u64, count: usize) -> usize {
        (derive(self.shot, name) % count as u64) as usize
    }

    /// A seed for noise of the shot.
    fn seed(&self, name: u64) -> u32 {
        (derive(self.shot, name) >> 32) as u32
    }

    /// A seed for noise that all shots of the item share.
    fn item_seed(&self, name: u64) -> u32 {
        (derive(self.item, name) >> 32) as u32
    }

    /// How far the camera has travelled sideways: layers shift by this times their nearness.
    fn pan(&self) -> f32 {
        let speed = 0.012 + 0.03 * self.own(900);
        let start = 8.0 * self.own(901);
        start + self.t * if self.own(902) < 0.5 { speed } else { -speed }
    }
}

/// Paints `shot` in a size drawn into 16 to 4096 pixels a side.
pub(super) fn paint(theme: Theme, shot: &Shot, width: u32, height: u32) -> Pixels {
    let (width, height) = (width.clamp(16, 4096), height.clamp(16, 4096));
    // Framing: from the whole view to close-ups, slowly moving in or out.
    let closeness = 1.0 + 0.35 * shot.own(910) * shot.own(911);
    let zoom = closeness + 0.012 * if shot.own(912) < 0.6 { shot.t } else { (6.0 - shot.t).max(0.0) };
    let (x, y) = (WIDE * (0.35 + 0.3 * shot.own(913)), 0.35 + 0.35 * shot.own(914));
    let mut canvas = Canvas::new(width as usize, height as usize, x, y, zoom);
    let painter = match theme {
        Theme::Sea => sea::paint,
        Theme::Forest => forest::paint,
        Theme::City => city::paint,
        Theme::Desert => desert::paint,
        Theme::Kitchen => kitchen::paint,
        Theme::Court => court::paint,
        Theme::Space => space::paint,
        Theme::Mountains => mountains::paint,
        Theme::Animals => animals::paint,
        Theme::Concert => concert::paint,
        Theme::Road => road::paint,
        Theme::Reef => reef::paint,
    };
    painter(&mut canvas, shot);
    let grade = Grade {
        hue: 0.05 * (shot.look(920) - 0.5) + 0.07 * (shot.item(920) - 0.5),
        saturation: 0.92 + 0.2 * shot.look(921) + 0.2 * (shot.item(921) - 0.5),
        warmth: 0.10 * (shot.look(922) - 0.5) + 0.06 * (shot.item(922) - 0.5),
        contrast: 1.0 + 0.10 * shot.look(923) + 0.05 * shot.item(923),
        vignette: 0.25 + 0.2 * shot.look(924),
        grain_seed: shot.seed(925) ^ (shot.t * 24.0) as u32,
    };
    canvas.finish(grade)
}

/// The light of a look in words; goes after "shot".
pub(super) fn light(theme: Theme, look: u64) -> &'static str {
    let look = derive(look, theme.index() as u64);
    let names: &[&str] = match theme {
        Theme::Sea => &sea::LIGHTS,
        Theme::Forest => &forest::LIGHTS,
        Theme::City => &city::LIGHTS,
        Theme::Desert => &desert::LIGHTS,
        Theme::Kitchen => &kitchen::LIGHTS,
        Theme::Court => &court::LIGHTS,
        Theme::Space => &space::LIGHTS,
        Theme::Mountains => &mountains::LIGHTS,
        Theme::Animals => &animals::LIGHTS,
        Theme::Concert => &concert::LIGHTS,
        Theme::Road => &road::LIGHTS,
        Theme::Reef => &reef::LIGHTS,
    };
    names[(derive(look, LIGHT) % names.len() as u64) as usize]
}

/// The name of the look's number that chooses the light; painters use `shot.look_of(LIGHT, LIGHTS.len())`.
const LIGHT: u64 = 0;
