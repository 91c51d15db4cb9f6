//! Do models of other people run, and what do they see? Embeds labelled photos with each model of a folder.
//!
//! ```text
//! UPNEXT_DATA=<folder> cargo run --release --example embed_photos
//! ```
//!
//! The folder holds `models/` (the files that `models/examples/*.toml` name), `images/labels.csv` with the columns
//! `file`, `imagenet_index` and `group`, and `images/neardup_dev/refs/`. For each model the example prints how many photos
//! have a nearest neighbour of their own group, and, for models that also answer `logits`, how many are classified
//! right; wrong colours, layout or normalisation would show in both. Without the folder it says so and ends well.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use upnext::domain::{Embedding, Pixels};
use upnext::inference::{Backend, Manifest, OnnxBackend, OnnxOptions, PixelBatch, runtime};
use upnext::vision::{DecodeLimits, decode, preprocess};

/// Enough to tell a wrong colour order from a right one, few enough for a minute.
const PHOTOS: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let Some(data) = std::env::var_os("UPNEXT_DATA").map(PathBuf::from) else {
        writeln!(out, "skipped: UPNEXT_DATA does not name a folder of photos and models")?;
        return Ok(());
    };
    let located = runtime::ensure(None, &runtime::InstallOptions::default(), &mut |_| {})?;
    runtime::load(&located)?;
    let photos = photos(&data)?;
    writeln!(out, "{} photos, ONNX Runtime 1.{}", photos.len(), located.minor_version)?;

    report(&mut out, &Manifest::builtin()?, &photos, false)?;
    for name in ["squeezenet", "mobilenet-v1-025-128", "mobilenet-v2"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/examples").join(name).with_extension("toml");
        report(&mut out, &Manifest::load_from(&path, &data.join("models"))?, &photos, false)?;
        // The same file once more, with its other output as the "embedding": the largest number is the class.
        let folder = tempfile::tempdir()?;
        let text = std::fs::read_to_string(&path)?;
        let (input, _) = text.split_once("[output]").ok_or("the manifest has no output")?;
        let logits = folder.path().join("logits.toml");
        std::fs::write(&logits, format!("{input}[output]\nname = \"logits\"\ndims = 1000\n"))?;
        report(&mut out, &Manifest::load_from(&logits, &data.join("models"))?, &photos, true)?;
    }
    Ok(())
}

struct Photo {
    picture: Pixels,
    class: usize,
    group: String,
}

fn photos(data: &Path) -> Result<Vec<Photo>, Box<dyn Error>> {
    let mut labels = HashMap::new();
    for row in csv::Reader::from_path(data.join("images/labels.csv"))?.deserialize() {
        let row: HashMap<String, String> = row?;
        let stem = Path::new(&row["file"]).file_stem().unwrap_or_default().to_owned();
        labels.insert(stem, (row["imagenet_index"].parse::<usize>()?, row["group"].clone()));
    }
    let mut paths: Vec<PathBuf> = std::fs::read_dir(data.join("images/neardup_dev/refs"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut photos = Vec::new();
    for path in paths.iter().step_by(paths.len().div_ceil(PHOTOS).max(1)) {
        if let Some((class, group)) = labels.get(path.file_stem().unwrap_or_default()) {
            let picture = decode(&std::fs::read(path)?, &DecodeLimits::default())?;
            photos.push(Photo { picture, class: *class, group: group.clone() });
        }
    }
    Ok(photos)
}

fn report(
    out: &mut impl std::io::Write,
    manifest: &Manifest,
    photos: &[Photo],
    logits: bool,
) -> Result<(), Box<dyn Error>> {
    let options = OnnxOptions::default();
    let mut backend = OnnxBackend::load(manifest, &options)?;
    let (mut embeddings, mut spent) = (Vec::new(), Duration::ZERO);
    for photo in photos {
        let pixels = preprocess(&photo.picture, manifest.input())?;
        let batch = PixelBatch::new(manifest.input(), vec![&pixels]).ok_or("the picture has another size")?;
        let start = Instant::now();
        embeddings.extend(backend.embed(&batch)?.into_iter().collect::<Result<Vec<Embedding>, _>>()?);
        spent += start.elapsed();
    }
    let share = |count: usize| 100.0 * count as f64 / photos.len() as f64;
    let pairs = || photos.iter().zip(&embeddings);
    let (what, right) = if logits {
        let best = |e: &Embedding| e.as_slice().iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
        ("right class", pairs().filter(|(photo, e)| best(e) == Some(photo.class)).count())
    } else {
        let nearest = |photo: &Photo, own: &Embedding| {
            let others = pairs().filter(|(other, _)| !std::ptr::eq(*other, photo));
            others.max_by(|a, b| own.cosine(a.1).total_cmp(&own.cosine(b.1))).map(|(other, _)| &other.group)
        };
        ("neighbour of the same group", pairs().filter(|(photo, e)| nearest(photo, e) == Some(&photo.group)).count())
    };
    let each_ms = spent.as_secs_f64() * 1e3 / photos.len() as f64;
    writeln!(
        out,
        "{:<32} {:>5} dims {:>5.1} % {what}, {each_ms:.1} ms",
        manifest.model_id(),
        manifest.dims(),
        share(right)
    )?;
    Ok(())
}
