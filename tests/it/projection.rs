//! Does `upnext train projection` learn what is turned to together, and refuse what does not help?

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::support::command::{done, failed};
use crate::support::world::{base64, png, rfc3339};
use upnext::domain::Timestamp;

const ITEMS: usize = 240;
const KINDS: usize = 5;
const BEGIN_MS: i64 = 1_750_000_000_000;

/// Pictures of noise; one of their sixteen blocks, dimly, has a colour that tells the kind.
fn picture(item: usize, random: &mut StdRng) -> Vec<u8> {
    let blocks: Vec<[u8; 3]> = (0..16).map(|_| std::array::from_fn(|_| random.random_range(20..230))).collect();
    let angle = (item % KINDS) as f64 * std::f64::consts::TAU / KINDS as f64;
    let wave = |shift: f64| (128.0 + 60.0 * (angle + shift).cos()) as u8;
    let told = [wave(0.0), wave(2.1), wave(4.2)];
    png(&RgbImage::from_fn(16, 16, |x, y| match (y / 4 * 4 + x / 4) as usize {
        5 => Rgb(told),
        block => Rgb(blocks[block]),
    }))
}

/// A data folder with items and with sessions that stay with one kind of them, or with none.
fn filled(dir: &Path, models: &Path, faithful: bool) {
    let mut random = StdRng::seed_from_u64(5);
    let items: String = (0..ITEMS)
        .map(|item| {
            json!({"item_id": format!("i{item}"), "images_base64": [base64(&picture(item, &mut random))]}).to_string()
                + "\n"
        })
        .collect();
    let mut events = String::from("session_id,item_id,type,occurred_at\n");
    for session in 0..900 {
        let kind = random.random_range(0..KINDS);
        for click in 0..4 {
            let item = random.random_range(0..ITEMS / KINDS) * KINDS;
            let item = item + if faithful { kind } else { random.random_range(0..KINDS) };
            let at = rfc3339(Timestamp(BEGIN_MS + session * 60_000 + click * 10_000));
            writeln!(events, "s{session},i{item},click,{at}").unwrap();
        }
    }
    let (items_file, events_file) = (dir.join("items.ndjson"), dir.join("events.csv"));
    fs::write(&items_file, items).unwrap();
    fs::write(&events_file, events).unwrap();
    done(words(dir, models, &["import", "items", items_file.to_str().unwrap()]));
    done(words(dir, models, &["import", "events", events_file.to_str().unwrap()]));
}

fn words(dir: &Path, models: &Path, words: &[&str]) -> Vec<String> {
    let settings = [
        "--data-dir".to_owned(),
        dir.join("data").display().to_string(),
        "--set".to_owned(),
        format!("inference.models_dir={}", models.display()),
        "--set".to_owned(),
        "inference.model=blocks-4".to_owned(),
    ];
    words.iter().map(|&word| word.to_owned()).chain(settings).collect()
}

fn models(dir: &Path) -> std::path::PathBuf {
    let models = dir.join("models");
    fs::create_dir(&models).unwrap();
    for file in ["blocks-4.onnx", "blocks-4.toml"] {
        fs::copy(Path::new("tests/fixtures/models").join(file), models.join(file)).unwrap();
    }
    models
}

#[test]
fn a_projection_is_learned_written_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let models = models(dir.path());
    filled(dir.path(), &models, true);
    let train = words(dir.path(), &models, &["train", "projection"]);
    let said = done(&train);
    assert!(said.contains("wrote") && said.contains("inference.model=blocks-4-learned"), "{said}");
    let manifest: toml::Table = fs::read_to_string(models.join("blocks-4-learned.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["output"]["projection"]["file"].as_str(), Some("blocks-4-learned.npy"));
    let checked = done(words(dir.path(), &models, &["models", "check", "blocks-4-learned", "blocks-4"]));
    assert!(checked.matches(": good").count() == 2 && checked.contains("projection"), "{checked}");
    assert!(failed(&train).contains("--replace"));
    // On top of itself it makes no sense.
    let again = words(dir.path(), &models, &["train", "projection", "--model", "blocks-4-learned"]);
    assert!(failed(again).contains("has a projection already"));
    // Another file in the projection's place is refused.
    fs::write(models.join("blocks-4-learned.npy"), b"garbage").unwrap();
    assert!(failed(words(dir.path(), &models, &["models", "check", "blocks-4-learned"])).contains("cannot be used"));
}

#[test]
fn where_nothing_is_to_be_learned_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let models = models(dir.path());
    filled(dir.path(), &models, false);
    let complaint = failed(words(dir.path(), &models, &["train", "projection"]));
    assert!(complaint.contains("no projection is written: likenesses would not be better"), "{complaint}");
    assert_eq!(fs::read_dir(&models).unwrap().count(), 2);
}
