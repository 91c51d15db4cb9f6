//! What is lost when frames that hardly differ from the last one are not looked at? Neighbours with and without.
//!
//! ```text
//! ffmpeg -i film.mp4 -vf fps=4 -q:v 3 frames/film-%05d.jpg
//! cargo run --release --example skip_frames -- CATALOGUE FRAMES [FRAMES …]
//! ```
//!
//! `CATALOGUE` is a folder of pictures; each `FRAMES` is a folder with the frames of one film, in the order of their
//! names. Every frame is embedded. Then, for several thresholds, the frames are gone through as the service does it: what
//! hardly differs from the last embedded frame takes over its embedding. Printed are the share of frames that were skipped,
//! how much of the ten nearest pictures differs from those of the frame's own embedding (over all frames, and over those that
//! were skipped), and how like the two embeddings are. Without arguments it says so and ends well.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use upnext::domain::{Embedding, ItemNo, LumaThumb, dot};
use upnext::inference::{Backend, Manifest, OnnxBackend, OnnxOptions, PixelBatch, runtime};
use upnext::vision::{DecodeLimits, decode, difference, luma_thumb, preprocess};

/// Neighbours that are compared.
const TOP: usize = 10;
const THRESHOLDS: [f32; 8] = [0.002, 0.0025, 0.003, 0.004, 0.006, 0.008, 0.0125, 0.016];

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [catalogue, films @ ..] = folders.as_slice() else {
        writeln!(out, "skipped: no folder of pictures and no folders of frames were named")?;
        return Ok(());
    };
    if films.is_empty() || !folders.iter().all(|folder| folder.is_dir()) {
        writeln!(out, "skipped: a folder is missing")?;
        return Ok(());
    }
    let located = runtime::ensure(None, &runtime::InstallOptions::default(), &mut |_| {})?;
    runtime::load(&located)?;
    let manifest = Manifest::builtin()?;
    let mut eye = Eye { backend: OnnxBackend::load(&manifest, &OnnxOptions::default())?, manifest };
    let catalogue: Vec<Embedding> = eye.look_at(catalogue)?.into_iter().map(|look| look.embedding).collect();
    let films = films.iter().map(|film| eye.look_at(film)).collect::<Result<Vec<_>, _>>()?;
    let frames: usize = films.iter().map(Vec::len).sum();
    writeln!(out, "{} pictures, {frames} frames of {} films", catalogue.len(), films.len())?;
    for threshold in THRESHOLDS {
        let (mut skipped, mut changed, mut worst, mut cosines) = (0, 0.0, 1.0_f32, 0.0);
        for film in &films {
            let mut kept: Option<&Look> = None;
            for look in film {
                match kept.filter(|kept| difference(&kept.thumb, &look.thumb) < threshold) {
                    None => kept = Some(look),
                    Some(kept) => {
                        let cosine = kept.embedding.cosine(&look.embedding);
                        skipped += 1;
                        changed += difference_of_top(&catalogue, &kept.embedding, &look.embedding);
                        worst = worst.min(cosine);
                        cosines += f64::from(cosine);
                    }
                }
            }
        }
        let each = |sum: f64| sum / f64::from(skipped).max(1.0);
        writeln!(
            out,
            "below {threshold:.4}: {:5.1} % skipped; top {TOP} changed by {:.2} % of all frames, {:.2} % of the skipped; \
             cosine {:.4} on average, {worst:.4} at worst",
            100.0 * f64::from(skipped) / frames.max(1) as f64,
            100.0 * changed / frames.max(1) as f64,
            100.0 * each(changed),
            each(cosines),
        )?;
    }
    Ok(())
}

struct Eye {
    backend: OnnxBackend,
    manifest: Manifest,
}

struct Look {
    thumb: LumaThumb,
    embedding: Embedding,
}

impl Eye {
    /// Looks at all pictures of a folder, in the order of their names.
    fn look_at(&mut self, folder: &Path) -> Result<Vec<Look>, Box<dyn Error>> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        files.sort();
        let mut looks = Vec::with_capacity(files.len());
        for file in files {
            let pixels = decode(&std::fs::read(&file)?, &DecodeLimits::default())
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let input = preprocess(&pixels, self.manifest.input())?;
            let batch = PixelBatch::new(self.manifest.input(), vec![&input]).ok_or("a picture has another size")?;
            let embedding = self.backend.embed(&batch)?.pop().ok_or("no embedding")??;
            looks.push(Look { thumb: luma_thumb(&pixels), embedding });
        }
        Ok(looks)
    }
}

/// The share of the nearest pictures of `own` that are not among those of `used`.
fn difference_of_top(catalogue: &[Embedding], used: &Embedding, own: &Embedding) -> f64 {
    let (used, own) = (nearest(catalogue, used), nearest(catalogue, own));
    let missing = own.iter().filter(|item| !used.contains(item)).count();
    missing as f64 / own.len().max(1) as f64
}

fn nearest(catalogue: &[Embedding], query: &Embedding) -> Vec<ItemNo> {
    let mut scored: Vec<(f32, u32)> =
        (0..).zip(catalogue).map(|(n, picture)| (dot(picture.as_slice(), query.as_slice()), n)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.iter().take(TOP).map(|&(_, n)| ItemNo(n)).collect()
}
