//! What does an item look like? Its thumbnail, and the frame on screen at any second of its video.
//!
//! A video is cut like a real one: a new scene every few seconds, each showing one of a handful of *shots* (a
//! composition with its own framing); within a scene the camera drifts and things move. All items of a production
//! share a *look* (light, palette, kind of motif); each item has colours and compositions of its own. The thumbnail is
//! one of the item's shots, so that frames resemble it more than they resemble other items.

use crate::domain::Pixels;

use super::painting::{self, Shot};
use super::random::{derive, unit};
use super::theme::Theme;

/// Width and height of a thumbnail in pixels.
pub const THUMBNAIL_SIZE: (u32, u32) = (320, 180);
/// Width and height of a frame in pixels.
pub const FRAME_SIZE: (u32, u32) = (640, 360);

/// Everything needed to paint an item: a theme and two seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Artwork {
    theme: Theme,
    look: u64,
    item: u64,
}

/// A stretch of a video between two cuts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene {
    /// When it begins, in seconds of the video.
    pub starts_at_s: f64,
    /// When it ends, in seconds of the video.
    pub ends_at_s: f64,
    /// What it shows: nearly always the item's own theme.
    pub theme: Theme,
    /// Which of the item's shots it shows; shots return.
    pub shot: u32,
}

/// Scenes come in blocks of this many seconds, so that any second can be reached without playing what lies before it.
const BLOCK_S: f64 = 14.0;
/// Where in a block the cuts lie, in seconds; each is moved by up to [`CUT_JITTER_S`] either way.
const CUTS_S: [f64; 4] = [0.0, 4.0, 7.0, 10.5];
const CUT_JITTER_S: f64 = 1.2;
/// How many shots of its own an item has; the first is the thumbnail's.
const SHOTS: u32 = 5;
/// The shot of the thumbnail is held at this second.
const THUMBNAIL_AT_S: f64 = 1.5;

impl Artwork {
    /// The artwork of an item: `look` is shared by the parts of one production, `item` is the item's own.
    pub(super) fn new(theme: Theme, look: u64, item: u64) -> Self {
        Self { theme, look, item }
    }

    /// The light in words, to go after "shot": part of the production's look.
    pub(super) fn light(&self) -> &'static str {
        painting::light(self.theme, self.look)
    }

    /// The thumbnail: [`THUMBNAIL_SIZE`], about 4 ms.
    pub fn thumbnail(&self) -> Pixels {
        self.thumbnail_sized(THUMBNAIL_SIZE.0, THUMBNAIL_SIZE.1)
    }

    /// The thumbnail in another size; sizes are drawn into 16 to 4096 pixels. Best at 16:9, else cut at the sides.
    pub fn thumbnail_sized(&self, width: u32, height: u32) -> Pixels {
        painting::paint(self.theme, &self.shot(self.theme, 0, THUMBNAIL_AT_S), width, height)
    }

    /// The frame `at_s` seconds into the video (before 0 counts as 0): [`FRAME_SIZE`], about 15 ms.
    pub fn frame(&self, at_s: f64) -> Pixels {
        self.frame_sized(at_s, FRAME_SIZE.0, FRAME_SIZE.1)
    }

    /// The frame in another size; see [`Self::thumbnail_sized`].
    pub fn frame_sized(&self, at_s: f64, width: u32, height: u32) -> Pixels {
        let at_s = if at_s.is_finite() { at_s.max(0.0) } else { 0.0 };
        let scene = self.scene_at(at_s);
        painting::paint(scene.theme, &self.shot(scene.theme, scene.shot, at_s - scene.starts_at_s), width, height)
    }

    /// The scene on screen `at_s` seconds into the video.
    pub fn scene_at(&self, at_s: f64) -> Scene {
        let at_s = if at_s.is_finite() { at_s.clamp(0.0, 1e7) } else { 0.0 };
        let mut block = (at_s / BLOCK_S) as u64;
        let mut place = CUTS_S.len() - 1;
        while place > 0 && self.cut_s(block, place) > at_s {
            place -= 1;
        }
        let starts_at_s = self.cut_s(block, place);
        let number = block * CUTS_S.len() as u64 + place as u64;
        place += 1;
        if place == CUTS_S.len() {
            place = 0;
            block += 1;
        }
        let (shot, theme) = self.shot_of_scene(number);
        Scene { starts_at_s, ends_at_s: self.cut_s(block, place), theme, shot }
    }

    fn cut_s(&self, block: u64, place: usize) -> f64 {
        let begin = block as f64 * BLOCK_S;
        if place == 0 {
            return begin;
        }
        let share = unit(derive(self.item, 0xC07_0000 + block * CUTS_S.len() as u64 + place as u64));
        begin + CUTS_S[place] + CUT_JITTER_S * (2.0 * share - 1.0)
    }

    /// Which shot the `number`-th scene shows: never the one before it again.
    fn shot_of_scene(&self, number: u64) -> (u32, Theme) {
        // Two interleaved halves, so that a scene's choice needs no knowledge of the choice before it.
        let half = SHOTS.div_ceil(2);
        let draw = derive(self.item, 0x5C_0000 + number);
        let shot = if number.is_multiple_of(2) {
            // The thumbnail's shot is the one to which the video returns most.
            if draw % 5 < 2 { 0 } else { (draw >> 8) as u32 % half }
        } else {
            half + (draw >> 8) as u32 % (SHOTS - half)
        };
        // Now and then a video looks elsewhere, a forest film at the peaks above it.
        let elsewhere = number > 1 && !number.is_multiple_of(2) && (draw >> 40).is_multiple_of(8);
        (shot, if elsewhere { self.theme.neighbour() } else { self.theme })
    }

    fn shot(&self, theme: Theme, shot: u32, t_s: f64) -> Shot {
        Shot::new(theme, self.look, self.item, shot, t_s)
    }
}

/// Many pictures on one sheet, `columns` beside each other with a narrow dark gap; all must have the size of the first,
/// others are left out. `None` for no pictures.
pub fn contact_sheet(pictures: &[Pixels], columns: usize) -> Option<Pixels> {
    const GAP: usize = 4;
    let first = pictures.first()?;
    let (width, height) = (first.width() as usize, first.height() as usize);
    let columns = columns.clamp(1, pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (sheet_width, sheet_height) = (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP);
    let mut rgb = vec![18; sheet_width * sheet_height * 3];
    for (place, picture) in pictures.iter().enumerate() {
        if (picture.width(), picture.height()) != (first.width(), first.height()) {
            continue;
        }
        let (left, top) = (GAP + place % columns * (width + GAP), GAP + place / columns * (height + GAP));
        for (row, line) in picture.rgb().chunks_exact(width * 3).enumerate() {
            let start = ((top + row) * sheet_width + left) * 3;
            rgb[start..start + line.len()].copy_from_slice(line);
        }
    }
    Pixels::new(u32::try_from(sheet_width).ok()?, u32::try_from(sheet_height).ok()?, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(a: &Pixels, b: &Pixels) -> f64 {
        let sum: u64 = a.rgb().iter().zip(b.rgb()).map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
        sum as f64 / a.rgb().len() as f64
    }

    #[test]
    fn the_same_item_paints_the_same_bytes() {
        for theme in Theme::ALL {
            let artwork = Artwork::new(theme, 1, 2);
            assert_eq!(artwork.thumbnail(), artwork.thumbnail());
            assert_eq!((artwork.thumbnail().width(), artwork.thumbnail().height()), THUMBNAIL_SIZE);
            let frame = artwork.frame_sized(30.25, 160, 90);
            assert_eq!(frame, artwork.frame_sized(30.25, 160, 90));
            assert_eq!((frame.width(), frame.height()), (160, 90));
            let (small, other) = (artwork.thumbnail_sized(160, 90), Artwork::new(theme, 1, 3).thumbnail_sized(160, 90));
            assert!(difference(&small, &other) > 2.0, "{theme}: two items look the same");
        }
    }

    #[test]
    fn pictures_have_content() {
        for theme in Theme::ALL {
            for look in 0..6 {
                let picture = Artwork::new(theme, look, 9).thumbnail_sized(96, 54);
                let mean = picture.rgb().iter().map(|&v| f64::from(v)).sum::<f64>() / picture.rgb().len() as f64;
                let spread = picture.rgb().iter().map(|&v| (f64::from(v) - mean).abs()).sum::<f64>()
                    / picture.rgb().len() as f64;
                assert!((15.0..235.0).contains(&mean) && spread > 12.0, "{theme} {look}: {mean} ± {spread}");
            }
        }
    }

    #[test]
    fn scenes_tile_the_video() {
        let artwork = Artwork::new(Theme::Sea, 1, 7);
        let (mut at_s, mut before, mut scenes, mut own) = (0.0, u32::MAX, 0, 0);
        while at_s < 600.0 {
            let scene = artwork.scene_at(at_s);
            assert_eq!(scene.starts_at_s, at_s);
            let length = scene.ends_at_s - scene.starts_at_s;
            assert!((0.5..=6.5).contains(&length), "{length}");
            assert_eq!(artwork.scene_at(scene.ends_at_s - 0.001), scene);
            assert_ne!(scene.shot, before, "a cut has to show");
            before = scene.shot;
            at_s = scene.ends_at_s;
            scenes += 1;
            own += u32::from(scene.theme == Theme::Sea);
        }
        assert!((120..240).contains(&scenes) && own * 10 > scenes * 8, "{own} of {scenes}");
        assert_eq!(artwork.scene_at(f64::NAN), artwork.scene_at(-3.0));
    }

    #[test]
    fn a_cut_changes_more_than_a_moment() {
        for theme in Theme::ALL {
            let artwork = Artwork::new(theme, 4, 11);
            let scene = artwork.scene_at(0.0);
            let frame = |at_s| artwork.frame_sized(at_s, 160, 90);
            let middle = scene.ends_at_s * 0.5;
            let (drift, cut) = (
                difference(&frame(middle), &frame(middle + 0.25)),
                difference(&frame(scene.ends_at_s - 0.1), &frame(scene.ends_at_s + 0.1)),
            );
            assert!(drift > 0.1, "{theme}: nothing moves, {drift}");
            assert!(cut > 1.5 * drift, "{theme}: cut {cut}, drift {drift}");
        }
    }

    #[test]
    fn a_contact_sheet_holds_all_pictures() {
        let picture = Artwork::new(Theme::Space, 1, 1).thumbnail_sized(32, 18);
        let sheet = contact_sheet(&vec![picture; 5], 3).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (3 * 36 + 4, 2 * 22 + 4));
        assert!(contact_sheet(&[], 3).is_none());
    }
}
