//! What is in the catalogue of a test? A few items of the simulation, with pictures that are painted here.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use upnext::domain::{Pixels, Timestamp};
use upnext::simulation::{Catalogue, CatalogueItem};
use upnext::vision::thumbnail_jpeg;

use super::Server;

const SEED: u64 = 7;
const ITEMS: usize = 24;
/// Where in an item its second picture is taken, as a share of its playing time.
const SCENE_SHARE: f64 = 0.3;
const PICTURE_WIDTH: u32 = 256;

/// Items and their pictures, painted once in a process.
pub(crate) struct World {
    pub(crate) catalogue: Catalogue,
    /// Two JPEGs for each item: its thumbnail, and a frame of the scene at [`World::scene_s`].
    pub(crate) pictures: Vec<[Vec<u8>; 2]>,
}

impl World {
    pub(crate) fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let catalogue = Catalogue::generate(SEED, ITEMS);
            let scene = |item: &CatalogueItem| item.artwork.frame_sized(SCENE_SHARE * item.duration_s(), 320, 180);
            let pictures = catalogue.items().iter().map(|item| [jpeg(&item.thumbnail()), jpeg(&scene(item))]).collect();
            Self { catalogue, pictures }
        })
    }

    pub(crate) fn item(&self, n: usize) -> &CatalogueItem {
        &self.catalogue.items()[n]
    }

    /// The id of item number `n`.
    pub(crate) fn id(&self, n: usize) -> &str {
        self.item(n).item.id.as_str()
    }

    /// Where in item number `n` its second picture was taken.
    pub(crate) fn scene_s(&self, n: usize) -> f64 {
        SCENE_SHARE * self.item(n).duration_s()
    }

    /// The frame of item number `n` at `at_s`, as a JPEG.
    pub(crate) fn frame(&self, n: usize, at_s: f64) -> Vec<u8> {
        jpeg(&self.item(n).artwork.frame_sized(at_s, 320, 180))
    }

    /// Item number `n` as a client would write it. Every third is for `de` only, every third for `fr` only; every
    /// fourth is for adults.
    pub(crate) fn document(&self, n: usize) -> Value {
        let item = &self.item(n).item;
        let regions = [vec![], vec!["de"], vec!["fr"]][n % 3].clone();
        json!({
            "item_id": item.id.as_str(),
            "title": item.title,
            "description": item.description,
            "tags": item.tags,
            "categories": item.categories,
            "regions": regions,
            "duration_s": item.duration_s,
            "age_rating": if n.is_multiple_of(4) { 18 } else { 6 },
            "attributes": {"number": n, "even": n.is_multiple_of(2)},
            "images_base64": self.pictures[n].iter().map(|picture| base64(picture)).collect::<Vec<_>>(),
        })
    }

    /// Writes the items into a server.
    pub(crate) async fn load(&self, server: &Server) {
        let lines: String = (0..ITEMS).map(|n| self.document(n).to_string() + "\n").collect();
        let answer = server.client().post_bytes("/v1/items/batch", "application/x-ndjson", lines).await.ok();
        assert_eq!(answer["stored"], ITEMS, "{answer}");
    }
}

pub(crate) fn jpeg(pixels: &Pixels) -> Vec<u8> {
    thumbnail_jpeg(pixels, PICTURE_WIDTH).unwrap()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// An instant as the wire has it.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).unwrap();
    instant.format(&Rfc3339).unwrap()
}

/// A click in `session` on `item`.
pub(crate) fn click(session: &str, item: &str, at: Timestamp) -> Value {
    json!({"type": "click", "session_id": session, "item_id": item, "occurred_at": rfc3339(at)})
}

/// A JPEG of this width at most.
pub(crate) fn jpeg_of_width(pixels: &Pixels, width: u32) -> Vec<u8> {
    thumbnail_jpeg(pixels, width).unwrap()
}

/// A PNG of 2,000 by 1,500 pixels, in colours that change slowly.
pub(crate) fn large_png() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(2_000, 1_500, |x, y| image::Rgb([(x / 8) as u8, (y / 6) as u8, 90]));
    png(&picture)
}

/// A picture as a PNG.
pub(crate) fn png(picture: &image::RgbImage) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}
