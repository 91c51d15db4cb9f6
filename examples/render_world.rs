//! Paints the simulated catalogue into a folder, to look at: `cargo run --release --example render_world -- FOLDER [SEED]`.
//!
//! Writes a contact sheet of thumbnails, one of frames for every theme, and times both.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::RgbImage;
use upnext::domain::Pixels;
use upnext::simulation::{Catalogue, Theme, contact_sheet};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder for the pictures")?);
    let seed = arguments.next().map_or(Ok(1), |text| text.parse())?;
    std::fs::create_dir_all(&folder)?;
    let catalogue = Catalogue::generate(seed, 240);
    let mut out = std::io::stdout().lock();

    let started = Instant::now();
    let thumbnails: Vec<Pixels> = catalogue.items().iter().map(|entry| entry.thumbnail()).collect();
    let per_thumbnail_ms = started.elapsed().as_secs_f64() * 1000.0 / thumbnails.len() as f64;
    writeln!(out, "thumbnail 320×180: {per_thumbnail_ms:.2} ms")?;
    for theme in Theme::ALL {
        let entries = catalogue.items().iter().zip(&thumbnails).filter(|(entry, _)| entry.theme == theme);
        let own: Vec<Pixels> = entries.clone().map(|(_, picture)| picture.clone()).take(24).collect();
        save(&folder.join(format!("thumbnails-{theme}.png")), &contact_sheet(&own, 4).ok_or("no pictures")?)?;
        let Some((entry, _)) = entries.clone().nth(1) else { continue };
        let started = Instant::now();
        let mut frames: Vec<Pixels> = (0..12).map(|k| entry.frame(f64::from(k) * 1.5)).collect();
        writeln!(out, "frame 640×360 of {theme}: {:.2} ms", started.elapsed().as_secs_f64() * 1000.0 / 12.0)?;
        save(&folder.join(format!("frame-{theme}.png")), &frames[0])?;
        frames = (0..12).map(|k| entry.artwork.frame_sized(f64::from(k) * 1.5, 320, 180)).collect();
        save(&folder.join(format!("frames-{theme}.png")), &contact_sheet(&frames, 4).ok_or("no pictures")?)?;
    }
    let mixed: Vec<Pixels> = thumbnails.iter().step_by(5).take(48).cloned().collect();
    save(&folder.join("world.png"), &contact_sheet(&mixed, 6).ok_or("no pictures")?)?;
    for entry in catalogue.items().iter().take(20) {
        writeln!(
            out,
            "{} | {} | {:?}\n    {}",
            entry.item.id, entry.item.title, entry.item.tags, entry.item.description
        )?;
    }
    Ok(())
}

fn save(path: &Path, pixels: &Pixels) -> Result<(), Box<dyn Error>> {
    let picture = RgbImage::from_raw(pixels.width(), pixels.height(), pixels.rgb().to_vec()).ok_or("wrong size")?;
    Ok(picture.save(path)?)
}
