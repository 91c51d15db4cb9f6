//! Are the cuts of a film found, and only those? Compares what the service would see with a list of scenes.
//!
//! ```text
//! UPNEXT_DATA=<folder> cargo run --release --example find_cuts
//! ```
//!
//! The folder holds `video/dev_60s.mp4` and `video/dev_60s.csv` (`scene,start_s,…`); further films in `video/` without a list count
//! as single scenes. `ffmpeg` takes frames out of them at one, two and four a second. A cut counts as found if it is seen at the first
//! frame of the new scene. After that, single scenes made of photographs (`images/neardup_dev/refs/`) go by: a pan, a zoom, a fade to
//! black, a flash, somebody passing, and cuts between two photographs. Without the folder or `ffmpeg` it says so and ends well.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};
use upnext::domain::{LumaThumb, Pixels};
use upnext::vision::{luma_thumb, motion};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 180;
const PHOTOS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let Some(data) = std::env::var_os("UPNEXT_DATA").map(PathBuf::from) else {
        writeln!(out, "skipped: UPNEXT_DATA does not name a folder with video/")?;
        return Ok(());
    };
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        writeln!(out, "skipped: there is no ffmpeg")?;
        return Ok(());
    }
    let mut films: Vec<PathBuf> = std::fs::read_dir(data.join("video"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    films.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
    films.sort();
    for film in &films {
        let starts_s = scene_starts(&film.with_extension("csv"))?;
        for frames_a_second in [1, 2, 4] {
            report_film(&mut out, film, &starts_s, frames_a_second)?;
        }
    }
    report_photos(&mut out, &data.join("images/neardup_dev/refs"))
}

/// Where scenes begin, but for the first; none without a list.
fn scene_starts(list: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut starts_s = Vec::new();
    if list.exists() {
        for row in csv::Reader::from_path(list)?.records() {
            starts_s.push(row?.get(1).ok_or("a row has no start")?.parse::<f64>()?);
        }
    }
    starts_s.retain(|&start_s| start_s > 0.0);
    Ok(starts_s)
}

fn report_film(
    out: &mut impl Write,
    film: &Path,
    starts_s: &[f64],
    frames_a_second: u32,
) -> Result<(), Box<dyn Error>> {
    let thumbs = frames(film, frames_a_second)?;
    let (mut found, mut wrong) = (0, Vec::new());
    for (n, pair) in thumbs.array_windows::<2>().enumerate() {
        // ffmpeg's filter `fps` gives the frame nearest to each moment, from zero on.
        let at = |frame: usize| frame as f64 / f64::from(frames_a_second);
        let half_s = 0.5 / f64::from(frames_a_second);
        let begins = starts_s.iter().any(|&s| s > at(n) - half_s && s <= at(n + 1) + half_s);
        match (motion(&pair[0], &pair[1]).cut, begins) {
            (true, true) => found += 1,
            (true, false) => wrong.push(at(n + 1)),
            (false, _) => {}
        }
    }
    let percent = |part: usize, of: usize| if of == 0 { 100.0 } else { 100.0 * part as f64 / of as f64 };
    writeln!(
        out,
        "{:<24} {frames_a_second} a second: {:>4} frames, {} cuts, recall {:>5.1} %, precision {:>5.1} %; wrong at {wrong:?} s",
        film.file_name().unwrap_or_default().to_string_lossy(),
        thumbs.len(),
        starts_s.len(),
        percent(found.min(starts_s.len()), starts_s.len()),
        percent(found, found + wrong.len()),
    )?;
    Ok(())
}

fn frames(film: &Path, frames_a_second: u32) -> Result<Vec<LumaThumb>, Box<dyn Error>> {
    let filter = format!("fps={frames_a_second},scale={WIDTH}:{HEIGHT}");
    let ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(film)
        .args(["-vf", &filter, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()?;
    if !ffmpeg.status.success() {
        return Err(String::from_utf8_lossy(&ffmpeg.stderr).into_owned().into());
    }
    ffmpeg.stdout.chunks_exact((WIDTH * HEIGHT * 3) as usize).map(|rgb| thumb(WIDTH, HEIGHT, rgb.to_vec())).collect()
}

fn thumb(width: u32, height: u32, rgb: Vec<u8>) -> Result<LumaThumb, Box<dyn Error>> {
    Ok(luma_thumb(&Pixels::new(width, height, rgb).ok_or("a frame has another size")?))
}

fn report_photos(out: &mut impl Write, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut photos = Vec::new();
    for path in paths.iter().step_by(paths.len().div_ceil(PHOTOS).max(1)) {
        photos.push(resize(&image::open(path)?.to_rgb8(), 2 * WIDTH, 2 * HEIGHT, FilterType::Triangle));
    }
    let window = |photo: &RgbImage, left: f64, top: f64, share: f64| {
        let side = |length: u32| (f64::from(length) * share) as u32;
        let at = |length: u32, place: f64| (f64::from(length) * place) as u32;
        let (w, h) = (photo.width(), photo.height());
        crop_imm(photo, at(w, left), at(h, top), side(w), side(h)).to_image()
    };
    let levels = |photo: &RgbImage, change: &dyn Fn(f64) -> f64| {
        let mut copy = window(photo, 0.2, 0.2, 0.6);
        copy.iter_mut().for_each(|value| *value = change(f64::from(*value)).clamp(0.0, 255.0) as u8);
        copy
    };
    let passed = |photo: &RgbImage| {
        let mut copy = window(photo, 0.2, 0.2, 0.6);
        let (from, to) = (copy.width() / 4, copy.width() * 11 / 20);
        copy.enumerate_pixels_mut().filter(|(x, ..)| (from..to).contains(x)).for_each(|(.., p)| p.0 = [70, 60, 50]);
        copy
    };
    type Change<'a> = &'a dyn Fn(&RgbImage) -> RgbImage;
    let within: [(&str, Change<'_>); 9] = [
        ("pan by 10 %", &|p| window(p, 0.26, 0.2, 0.6)),
        ("pan by 20 %", &|p| window(p, 0.32, 0.2, 0.6)),
        ("tilt and pan by 15 %", &|p| window(p, 0.29, 0.29, 0.6)),
        ("zoom in by 1.2", &|p| window(p, 0.25, 0.25, 0.5)),
        ("fade by half", &|p| levels(p, &|v| 0.5 * v)),
        ("nearly black", &|p| levels(p, &|v| 0.15 * v)),
        ("flash", &|p| levels(p, &|v| 0.6 * v + 102.0)),
        ("strong flash", &|p| levels(p, &|v| 1.3 * v + 80.0)),
        ("somebody passes", &passed),
    ];
    let seen = |picture: RgbImage| thumb(picture.width(), picture.height(), picture.into_raw());
    for (name, change) in within {
        let mut cuts = 0;
        for photo in &photos {
            cuts += usize::from(motion(&seen(window(photo, 0.2, 0.2, 0.6))?, &seen(change(photo))?).cut);
        }
        writeln!(out, "{name:<24} {cuts} of {} called a cut", photos.len())?;
    }
    let mut cuts = 0;
    for pair in photos.array_windows::<2>() {
        cuts += usize::from(motion(&seen(pair[0].clone())?, &seen(pair[1].clone())?).cut);
    }
    writeln!(out, "{:<24} {cuts} of {} called a cut", "another photograph", photos.len().saturating_sub(1))?;
    Ok(())
}
