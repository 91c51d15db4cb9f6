//! Settings: a file, or `key=value` lines as on the command line.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use upnext::config::{Settings, Sources};

fuzz_target!(|text: &str| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap());
    let sources = match text.strip_prefix('=') {
        Some(flags) => Sources { overrides: flags.lines().map(str::to_owned).collect(), ..Sources::default() },
        None => {
            let file: PathBuf = folder.path().join("settings.toml");
            std::fs::write(&file, text).unwrap();
            Sources { file: Some(file), ..Sources::default() }
        }
    };
    if let Err(error) = Settings::load(&sources) {
        assert!(!error.to_string().is_empty());
    }
});
