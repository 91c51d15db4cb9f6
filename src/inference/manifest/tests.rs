//! What is accepted, and what is refused with which words.

use super::*;
use crate::domain::{Fit, Precision};

/// An ONNX file of operator set 17 with nothing in it.
const MODEL: &[u8] = b"\x08\x08\x42\x04\x0a\x00\x10\x11\x3a\x00";

/// A folder with a model and the manifest `m.toml`, whose text is `edit`ed before it is written.
fn folder(edit: impl Fn(String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = BUILTIN_MANIFEST
        .replace("efficientnet-lite0.onnx", "m.onnx")
        .replace(&hex(&sha256(BUILTIN_MODEL)), &hex(&sha256(MODEL)));
    std::fs::write(folder.path().join("m.toml"), edit(text)).unwrap();
    std::fs::write(folder.path().join("m.onnx"), MODEL).unwrap();
    folder
}

fn load(edit: impl Fn(String) -> String) -> Result<Manifest, ManifestError> {
    Manifest::load(&folder(edit).path().join("m.toml"))
}

fn refused_key(from: &str, to: &str) -> &'static str {
    assert!(BUILTIN_MANIFEST.contains(from), "the test would change nothing");
    match load(|text| text.replace(from, to)) {
        Err(ManifestError::Value { key, .. }) => key,
        other => panic!("`{to}` was not refused as a value: {other:?}"),
    }
}

#[test]
fn the_builtin_model_needs_no_files() {
    let manifest = Manifest::builtin().unwrap();
    // Stored embeddings carry this id: if it changes, everybody has to compute theirs again.
    assert_eq!(manifest.model_id(), "efficientnet-lite0-160@75742d5f");
    assert_eq!(manifest.input(), InputSize { width: 160, height: 160, fit: Fit::CentreCrop { short_side: 183 } });
    assert_eq!(manifest.dims(), 320);
    assert_eq!(manifest.model().len(), BUILTIN_MODEL.len());
}

#[test]
fn each_builtin_model_has_its_own_name_and_id() {
    let builtin = Manifest::builtin_names().map(|name| Manifest::builtin_named(name).unwrap().unwrap());
    assert_eq!(builtin.each_ref().map(Manifest::name), Manifest::builtin_names());
    assert_eq!(builtin[0].model_id(), Manifest::builtin().unwrap().model_id());
    let ids: std::collections::HashSet<&str> = builtin.iter().map(Manifest::model_id).collect();
    assert_eq!(ids.len(), builtin.len());
    assert!(Manifest::builtin_named("efficientnet-lite1").is_none());
}

#[test]
fn a_model_is_read_from_the_folder_of_its_manifest() {
    let manifest = load(|text| text).unwrap();
    assert_eq!(manifest.model(), MODEL);
    assert_eq!(manifest.licence(), "Apache-2.0");
}

#[test]
fn the_id_changes_with_the_way_a_model_is_fed() {
    let (as_it_is, stretched) = (
        load(|text| text).unwrap(),
        load(|text| text.replace("\"centre_crop\"\nshort_side = 183", "\"stretch\"")).unwrap(),
    );
    assert_ne!(as_it_is.model_id(), stretched.model_id());
    // Prose is no part of it.
    let documented = load(|text| text.replace("Apache-2.0", "CC0-1.0")).unwrap();
    assert_eq!(as_it_is.model_id(), documented.model_id());
}

#[test]
fn another_file_than_the_one_named_is_refused() {
    let folder = folder(|text| text);
    std::fs::write(folder.path().join("m.onnx"), b"something else").unwrap();
    let error = Manifest::load(&folder.path().join("m.toml")).unwrap_err();
    assert!(matches!(&error, ManifestError::Hash { actual, .. } if *actual == hex(&sha256(b"something else"))));
}

#[test]
fn no_model_lies_outside_its_folder() {
    for outside in ["../m.onnx", "/etc/hostname", "a/../../m.onnx", "./m.onnx", ""] {
        let error = load(|text| text.replace("m.onnx", outside)).unwrap_err();
        assert!(matches!(error, ManifestError::Escape { .. }), "{outside}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn no_link_leads_outside() {
    let (folder, elsewhere) = (folder(|text| text), tempfile::tempdir().unwrap());
    std::fs::write(elsewhere.path().join("m.onnx"), MODEL).unwrap();
    std::fs::remove_file(folder.path().join("m.onnx")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("m.onnx"), folder.path().join("m.onnx")).unwrap();
    let error = Manifest::load(&folder.path().join("m.toml")).unwrap_err();
    assert!(matches!(error, ManifestError::Escape { .. }), "{error}");
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let error = load(|text| text.replace("channels =", "chanels =")).unwrap_err();
    assert!(error.to_string().contains("chanels"), "{error}");
    let error = load(|text| text.replace("dims = 320", "")).unwrap_err();
    assert!(error.to_string().contains("dims"), "{error}");
    assert!(matches!(load(|_| "\u{0}".to_owned()), Err(ManifestError::Syntax(_))));
    let missing = Manifest::load(Path::new("no/such/manifest.toml"));
    assert!(matches!(missing, Err(ManifestError::Read { .. })));
}

#[test]
fn embeddings_may_be_kept_as_a_model_says() {
    let with = |lines: &str| load(|text| text.replace("dims = 320", &format!("dims = 320\n{lines}"))).unwrap();
    let (plain, int8) = (with(""), with("metric = \"cosine\"\nprecision = \"int8\""));
    assert_eq!((plain.precision(), int8.precision()), (None, Some(Precision::Int8)));
    assert_eq!(plain.model_id(), int8.model_id(), "what it sees is the same");
}

#[test]
fn embeddings_may_be_compared_as_a_model_says() {
    let with = |lines: &str| load(|text| text.replace("dims = 320", &format!("dims = 320\n{lines}"))).unwrap();
    let [plain, cosine, dot, l2, wider] = [
        with(""),
        with("metric = \"cosine\""),
        with("metric = \"dot\"\nmax_norm = 9.5"),
        with("metric = \"l2\"\nmax_norm = 9.5"),
        with("metric = \"l2\"\nmax_norm = 19"),
    ];
    assert_eq!((dot.metric(), l2.metric()), (Metric::Dot { max_norm: 9.5 }, Metric::L2 { max_norm: 9.5 }));
    assert_eq!([plain.dims(), cosine.dims(), dot.dims(), l2.dims()], [320, 320, 321, 322]);
    assert_eq!(plain.model_id(), cosine.model_id());
    let ids = [&plain, &dot, &l2, &wider].map(Manifest::model_id);
    let distinct: std::collections::HashSet<&str> = ids.into_iter().collect();
    assert_eq!(distinct.len(), 4, "vectors of one must not meet those of another: {ids:?}");
}

#[test]
fn values_that_make_no_sense_are_refused() {
    assert_eq!(refused_key("name = \"efficientnet-lite0-160\"", "name = \"a b\""), "name");
    assert_eq!(refused_key("sha256 = \"", "sha256 = \"0"), "sha256");
    assert_eq!(refused_key("width = 160", "width = 0"), "input.width");
    assert_eq!(refused_key("height = 160", "height = 1000000"), "input.height");
    assert_eq!(refused_key("short_side = 183", "short_side = 159"), "input.short_side");
    assert_eq!(refused_key("\"centre_crop\"", "\"stretch\""), "input.short_side");
    assert_eq!(refused_key("dims = 320", "dims = 0"), "output.dims");
    assert_eq!(refused_key("dims = 320", "dims = 320\nmetric = \"dot\""), "output.max_norm");
    assert_eq!(refused_key("dims = 320", "dims = 320\nmetric = \"l2\"\nmax_norm = 0.0"), "output.max_norm");
    assert_eq!(refused_key("dims = 320", "dims = 320\nmax_norm = 1.0"), "output.max_norm");
    let projected =
        "dims = 320\nmetric = \"dot\"\nmax_norm = 1.0\n[output.projection]\nfile = \"p.npy\"\nsha256 = \"\"";
    assert_eq!(
        refused_key("dims = 320", &projected.replace("sha256 = \"\"", &format!("sha256 = \"{}\"", "0".repeat(64)))),
        "output.projection"
    );
    assert_eq!(refused_key("\"u8\"", "\"u8\"\nmean = [1.0, 1.0, 1.0]"), "input.mean");
    assert_eq!(refused_key("\"u8\"", "\"f32\"\nmean = [nan, 1.0, 1.0]"), "input.mean");
    assert_eq!(refused_key("\"u8\"", "\"f32\"\nstd = [1.0, 0.0, 1.0]"), "input.std");
}
