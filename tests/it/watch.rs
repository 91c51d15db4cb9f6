//! Does `upnext watch` play what it is given to a real server, and say what comes back?

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::command::{at, done, failed};
use crate::support::{World, list, number, shared, text};

fn words(source: &str, server: &crate::support::Server, more: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = vec!["watch".into(), source.into(), "--speed".into(), "0".into()];
    words.extend(at(server));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

#[test]
fn a_folder_of_pictures_becomes_lists() {
    let (server, world) = (shared(), World::get());
    let folder = tempfile::tempdir().unwrap();
    for (n, at_s) in [3.0, 4.0, 40.0].into_iter().enumerate() {
        std::fs::write(folder.path().join(format!("{n}.jpg")), world.frame(2, at_s)).unwrap();
    }
    std::fs::write(folder.path().join("3.png"), "no picture").unwrap();
    let source = folder.path().display().to_string();
    let out = done(words(&source, &server, &["--json", "--count", "3", "--item", world.id(2), "--session", "watched"]));
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.iter().map(|a| number(&a["at_s"])).collect::<Vec<_>>(), [0.0, 1.0, 2.0], "{out}");
    for answer in &answers {
        let horizons = list(&answer["recommendation"]["horizons"]);
        assert_eq!(horizons.len(), 3);
        assert!(horizons.iter().all(|horizon| list(&horizon["items"]).len() == 3), "{answer}");
        assert!(answer["frame"]["motion"]["cut"].is_boolean(), "{answer}");
    }
    let shown = done(words(&source, &server, &["--count", "3", "--item", world.id(2)]));
    let first = text(&answers[0]["recommendation"]["horizons"][0]["items"][0]["item_id"]);
    let title = &world.catalogue.items().iter().find(|item| item.item.id.as_str() == first).unwrap().item.title;
    assert!(shown.contains("within 15 s") && shown.contains("within 60 s"), "{shown}");
    assert!(shown.contains(title.get(..8).unwrap()), "{title}: {shown}");
    assert!(!shown.contains('\u{1b}'), "no escapes where there is no terminal");
}

/// A program in the place of ffmpeg, which sends these bytes to standard output.
fn decoder(folder: &std::path::Path, frames: &[u8], ending: &str) -> String {
    let (program, stream) = (folder.join("decoder"), folder.join("stream"));
    std::fs::write(&stream, frames).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\ncat '{}'\n{ending}\n", stream.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program.display().to_string()
}

#[test]
fn a_video_goes_through_a_decoder() {
    let (server, world) = (shared(), World::get());
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("video.mp4");
    std::fs::write(&video, "whatever the decoder makes of it").unwrap();
    let video = video.display().to_string();
    let frames = [world.frame(1, 2.0), world.frame(1, 30.0)].concat();
    let program = decoder(folder.path(), &frames, "");
    let out = done(words(&video, &server, &["--json", "--ffmpeg", &program]));
    assert_eq!(out.lines().count(), 2, "{out}");

    let silent = decoder(folder.path(), b"", "echo 'first' >&2; echo 'moov atom not found' >&2; exit 1");
    let said = failed(words(&video, &server, &["--ffmpeg", &silent]));
    assert!(said.contains("moov atom not found"), "{said}");
    let garbage = decoder(folder.path(), b"GIF89a and so on", "");
    assert!(failed(words(&video, &server, &["--ffmpeg", &garbage])).contains("is no JPEG"));
    let missing = failed(words(&video, &server, &["--ffmpeg", "/nowhere/ffmpeg"]));
    assert!(missing.contains("is not installed") && missing.contains("folder of pictures"), "{missing}");
    let nothing = failed(words("/nowhere/video.mp4", &server, &[]));
    assert!(nothing.contains("/nowhere/video.mp4"), "{nothing}");
}
