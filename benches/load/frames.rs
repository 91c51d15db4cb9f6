//! What do the viewers see? Files of a folder, or frames painted from the catalogue's videos.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use upnext::vision::{DecodeLimits, decode, thumbnail_jpeg};

use crate::Failure;
use crate::world::World;

/// Frames of a folder that are taken, and their bytes: all are kept in memory.
const MAX_FRAMES: usize = 5_000;
const MAX_BYTES: usize = 512 << 20;
/// Painted: so many videos, and frames of each, a second apart.
const VIDEOS: usize = 24;
const FRAMES_A_VIDEO: usize = 10;
const LONGEST_SIDE: u32 = 640;

/// A picture on its way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// A file as a client sends it.
    pub(crate) bytes: Bytes,
    /// The item that plays, if it is one of the catalogue.
    pub(crate) item_id: Option<String>,
    /// Where in the video it stands.
    pub(crate) at_s: f64,
}

/// The pictures of a folder, a second apart.
pub(crate) fn read(dir: &Path) -> Result<Vec<Frame>, Failure> {
    let is_picture = |file: &PathBuf| {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        ["jpg", "jpeg", "png", "webp"].contains(&extension.as_str())
    };
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(is_picture).collect();
    files.sort();
    let (mut frames, mut held_bytes) = (Vec::new(), 0);
    for file in files.iter().take(MAX_FRAMES) {
        let bytes = Bytes::from(std::fs::read(file)?);
        held_bytes += bytes.len();
        if held_bytes > MAX_BYTES {
            break;
        }
        frames.push(Frame { bytes, item_id: None, at_s: frames.len() as f64 });
    }
    if frames.is_empty() { Err(format!("there are no pictures in {}", dir.display()).into()) } else { Ok(frames) }
}

/// Each frame `times` times in a row; if `recompressed`, as another file of the same picture from the second time on.
pub(crate) fn repeated(frames: Vec<Frame>, times: u16, recompressed: bool) -> Result<Vec<Frame>, Failure> {
    let mut all = Vec::with_capacity(frames.len() * usize::from(times));
    for frame in frames {
        let mut again = frame.clone();
        if recompressed && times > 1 {
            let pixels = decode(&frame.bytes, &DecodeLimits::default())?;
            again.bytes = thumbnail_jpeg(&pixels, pixels.width().max(pixels.height()))?.into();
        }
        all.push(frame);
        all.extend((1..times).map(|_| again.clone()));
    }
    Ok(all)
}

/// Frames of the first videos of the catalogue, 640 × 360.
pub(crate) fn paint(world: &World) -> Result<Vec<Frame>, Failure> {
    let mut frames = Vec::with_capacity(VIDEOS * FRAMES_A_VIDEO);
    for item in world.catalogue().items().iter().take(VIDEOS) {
        for second in 0..FRAMES_A_VIDEO {
            let at_s = second as f64;
            let bytes = thumbnail_jpeg(&item.frame(at_s), LONGEST_SIDE)?.into();
            frames.push(Frame { bytes, item_id: Some(item.item.id.as_str().to_owned()), at_s });
        }
    }
    if frames.is_empty() { Err("the catalogue is empty".into()) } else { Ok(frames) }
}
