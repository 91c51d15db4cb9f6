//! Do `upnext models list`, `check`, `bench` and `add` do what their help says? Real processes on real files.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::command::{at, done, failed};
use crate::support::{Setup, list, run, text};

const FIXTURES: &str = "tests/fixtures/models";

/// The words that make a command use this folder of models.
fn with<'a>(folder: &'a str, words: &[&'a str]) -> Vec<String> {
    let setting = format!("inference.models_dir={folder}");
    ["models"].iter().chain(words).map(|&word| word.to_owned()).chain(["--set".to_owned(), setting]).collect()
}

fn empty() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    (folder, path)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_folder_and_the_built_in_ones_are_listed() {
    let out = done(with(FIXTURES, &["list"]));
    let line =
        |start: &str| out.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{out}"));
    assert!(line("efficientnet-lite0-160@").ends_with("chosen"), "{out}");
    assert!(line("blocks-4@").contains("48 numbers") && line("blocks-4@").contains("16 × 16"), "{out}");
    assert!(line("appearance@").contains("229 numbers"), "{out}");
    let (folder, path) = empty();
    fs::write(folder.path().join("odd.toml"), "name = 1").unwrap();
    assert!(done(with(&path, &["list"])).contains("cannot be used: the manifest is not valid"));
}

#[test]
fn a_server_says_what_it_does_with_each() {
    let server =
        Setup::default().with(format!("inference.models_dir={FIXTURES}")).with("inference.model=blocks-4").start();
    let out = done(["models", "list"].map(str::to_owned).into_iter().chain(at(&server)));
    let states: Vec<(&str, &str)> =
        out.lines().map(|line| (line.split('@').next().unwrap(), line.rsplit(' ').next().unwrap())).collect();
    assert!(states.contains(&("blocks-4", "active")) && states.contains(&("mixed", "available")), "{out}");
}

#[test]
fn models_are_checked_by_running_them_and_refused_with_the_reason() {
    let out = done(with(FIXTURES, &["check", "mixed", "blocks-2", "appearance"]));
    for part in [
        "mixed@",
        "weights  mixed.weights",
        "operator set 13",
        "`image`, 16 × 16 pixels, nhwc, u8, rgb",
        "24 numbers",
        "runs ",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let (folder, path) = empty();
    for file in ["mixed.onnx", "mixed.weights", "blocks-4.onnx"] {
        fs::copy(Path::new(FIXTURES).join(file), folder.path().join(file)).unwrap();
    }
    let manifest = fs::read_to_string(Path::new(FIXTURES).join("mixed.toml")).unwrap();
    let without = manifest.split("\n[[external_data]]").next().unwrap().to_owned();
    for (name, manifest, reason) in [
        ("hash", manifest.replace("\"mixed.onnx\"", "\"blocks-4.onnx\""), "SHA-256"),
        ("dims", manifest.replace("dims = 24", "dims = 25"), "[-1, 25]"),
        ("names", manifest.replace("\"image\"", "\"picture\""), "its input is called `image`"),
        ("above", manifest.replace("\"mixed.weights\"", "\"../mixed.weights\""), "outside the folder"),
        ("weights", without, "keeps weights in mixed.weights"),
    ] {
        fs::write(folder.path().join(format!("{name}.toml")), manifest).unwrap();
        let output = crate::support::command::outcome(with(&path, &["check", name]));
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(!output.status.success() && out.contains(reason), "{name}: {out}{err}");
    }
    assert!(failed(with(&path, &["check"])).contains("5 models cannot be used"));
    assert!(done(with(&path, &["check", "efficientnet-lite0-160"])).contains(": good"));
}

#[test]
fn a_model_is_measured_by_batch_and_threads() {
    let out = done(with(FIXTURES, &["bench", "blocks-2", "--batches", "1,3", "--threads", "1,2", "--duration-s", "0"]));
    let rows: Vec<&str> = out.lines().filter(|line| line.starts_with("cpu")).collect();
    assert_eq!(rows.len(), 4, "{out}");
    assert!(rows.iter().all(|row| row.ends_with("pictures/s")) && rows[1].contains("batch   3"), "{out}");
    assert!(failed(with(FIXTURES, &["bench", "nothing"])).contains("nothing"));
}

#[test]
fn a_model_that_is_added_serves() {
    let (folder, path) = empty();
    let add = |words: &[&str]| with(&path, &[&["add"], words].concat());
    let mixed = format!("{FIXTURES}/mixed.onnx");
    // The same model as the fixture's, whose manifest was written by what made the model.
    let out = done(add(&[
        &mixed,
        "--name",
        "mine",
        "--licence",
        "MIT",
        "--source",
        "a \"quoted\" place",
        "--fit",
        "stretch",
    ]));
    assert!(out.contains("mine@") && out.contains("24 numbers"), "{out}");
    assert_eq!(files(folder.path()), ["mine.onnx", "mine.toml", "mixed.weights"]);
    let written = fs::read_to_string(folder.path().join("mine.toml")).unwrap();
    let (written, fixture): (toml::Table, toml::Table) = (
        written.parse().unwrap(),
        fs::read_to_string(Path::new(FIXTURES).join("mixed.toml")).unwrap().parse().unwrap(),
    );
    for key in ["sha256", "input", "output", "external_data"] {
        assert_eq!(written[key], fixture[key], "{key}");
    }
    assert_eq!(written["source"].as_str(), Some("a \"quoted\" place"));
    done(with(&path, &["check", "mine"]));

    let server = Setup::default().with(format!("inference.models_dir={path}")).with("inference.model=mine").start();
    run(async {
        let report = server.client().get("/v1/admin/models").await.ok();
        assert_eq!(report["active"]["dims"], json!(24), "{report}");
        assert_eq!(text(&list(&report["active"]["models"])[0]["name"]), "mine");
    });
}

#[test]
fn what_does_not_run_is_not_added() {
    let (folder, path) = empty();
    let add = |file: &str, words: &[&str]| with(&path, &[&["add", file, "--licence", "MIT"], words].concat());
    let blocks = format!("{FIXTURES}/blocks-4.onnx");
    let garbage = folder.path().join("garbage.bin").display().to_string();
    fs::write(&garbage, b"garbage").unwrap();
    for (words, reason) in [
        (add(&garbage, &["--name", "a"]), "is no ONNX file"),
        (add(&format!("{path}/nowhere.onnx"), &["--name", "a"]), "nowhere.onnx"),
        (add(&blocks, &["--name", "../a"]), "`name` must have"),
        (add(&blocks, &["--name", "appearance"]), "--replace"),
        (add(&blocks, &["--name", "a", "--output", "logits"]), "has the outputs `embedding`"),
        (add(&blocks, &["--name", "a", "--size", "24"]), "shape"),
        (add(&blocks, &["--name", "a", "--dims", "47"]), "[-1, 47]"),
        (add(&blocks, &["--name", "a", "--layout", "nchw"]), "no batch of colour pictures"),
        (add(&blocks, &["--name", "a", "--preset", "caffe"]), "takes bytes"),
    ] {
        let complaint = failed(&words);
        assert!(complaint.contains(reason), "{words:?}: {complaint}");
    }
    assert_eq!(files(folder.path()), ["garbage.bin"], "nothing is left of what was refused");
    done(add(&blocks, &["--name", "a"]));
    assert!(failed(add(&blocks, &["--name", "a"])).contains("there is a model a already"));
    done(add(&blocks, &["--name", "a", "--replace", "--fit", "stretch"]));
}

#[test]
fn embeddings_are_those_that_a_server_finds_by() {
    let (world, folder) = (crate::support::World::get(), tempfile::tempdir().unwrap());
    let files: Vec<String> = (0..2)
        .map(|n| {
            let file = folder.path().join(format!("{n}.jpg"));
            fs::write(&file, &world.pictures[n][0]).unwrap();
            file.display().to_string()
        })
        .collect();
    let words = [&["embed", "--model", "blocks-4"], &[files[0].as_str(), files[1].as_str()][..]].concat();
    let lines: Vec<serde_json::Value> =
        done(with(FIXTURES, &words)).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let server =
        Setup::default().with(format!("inference.models_dir={FIXTURES}")).with("inference.model=blocks-4").start();
    run(async {
        world.load(&server).await;
        for (n, line) in lines.iter().enumerate() {
            assert_eq!((text(&line["file"]), list(&line["embedding"]).len()), (files[n].as_str(), 48));
            let found =
                server.client().post("/v1/search", &json!({"positive": [{"embedding": line["embedding"]}]})).await.ok();
            let best = &found["items"][0];
            assert_eq!(text(&best["item_id"]), world.id(n), "{found}");
            assert!(crate::support::number(&best["score"]) > 0.999, "{best}");
        }
    });
    assert!(failed(with(FIXTURES, &["embed", "--model", "blocks-4", "Cargo.toml"])).contains("Cargo.toml"));
}
