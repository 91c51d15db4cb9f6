//! Where is ONNX Runtime? Found, or installed, and then loaded once for the whole process.
//!
//! The search goes from the explicit to the accidental: a setting, the environment variable `ORT_DYLIB_PATH`, the
//! install folder, the system's library path. Whoever names a library that cannot be used gets an error, not another
//! library. Each candidate is opened and asked for its version before the one real initialisation, because what
//! failed to initialise cannot be initialised again.

mod download;
mod install;
mod wheel;

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

pub use install::{InstallOptions, Progress, install, install_folder};
pub use wheel::PINNED_VERSION;

/// The oldest release whose interface this program can use: the `17` of ONNX Runtime 1.17.
pub const OLDEST_MINOR_VERSION: u32 = ort::MINOR_VERSION;

/// A library that was opened and has a version that this program can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The library; a bare file name if the system's loader finds it.
    pub path: PathBuf,
    /// The `31` of ONNX Runtime 1.31.
    pub minor_version: u32,
    /// Where it was found.
    pub origin: Origin,
}

/// Where a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The caller named it.
    Setting,
    /// `ORT_DYLIB_PATH` names it.
    Environment,
    /// [`install`] put it there.
    Installed,
    /// The system's loader finds it by name.
    System,
}

/// Why there is no ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It is nowhere.
    #[error(
        "ONNX Runtime was not found: no setting, no ORT_DYLIB_PATH, not installed, not on the system; \
         `upnext runtime install` gets it"
    )]
    NotFound,
    /// A file is no library that this program can use.
    #[error("{path} cannot be used as ONNX Runtime: {reason}")]
    Unusable {
        /// The library.
        path: PathBuf,
        /// What the loader said, or which version it has.
        reason: String,
    },
    /// Another library was loaded before.
    #[error("ONNX Runtime was already loaded from {loaded}; {requested} needs another process")]
    AlreadyLoaded {
        /// The one in use.
        loaded: PathBuf,
        /// The one asked for.
        requested: PathBuf,
    },
    /// [`load`] has not been called.
    #[error("ONNX Runtime has not been loaded")]
    NotLoaded,
    /// ONNX Runtime did not start; its own words.
    #[error("ONNX Runtime did not start: {0}")]
    Start(String),
    /// There is no pinned build for this system.
    #[error("there is no ONNX Runtime to install for {0}; name a library with ORT_DYLIB_PATH")]
    Platform(String),
    /// Neither `XDG_DATA_HOME` nor `HOME` is set, so there is no place to install to.
    #[error("no folder to install to: neither XDG_DATA_HOME nor HOME is set")]
    NoFolder,
    /// The wheel cannot be fetched.
    #[error("cannot fetch ONNX Runtime: {0}")]
    Download(String),
    /// The wheel is not the one that was expected.
    #[error("the SHA-256 of {file} is {actual}; expected was {expected}")]
    Hash {
        /// The wheel's file name.
        file: String,
        /// The pinned hash, or the one that the caller gave.
        expected: String,
        /// Of what came.
        actual: String,
    },
    /// The wheel is damaged or has no library inside.
    #[error("the wheel cannot be unpacked: {0}")]
    Unpack(String),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Finds a library that can be used: `explicit`, else `ORT_DYLIB_PATH`, else the installed one, else the system's.
pub fn find(explicit: Option<&Path>) -> Result<Located, RuntimeError> {
    find_in(explicit, std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from), install_folder().as_deref())
}

/// As [`find`]; installs the pinned version if there is none at all. Blocks; an installation takes seconds to minutes.
pub fn ensure(
    explicit: Option<&Path>,
    options: &InstallOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Located, RuntimeError> {
    let folder = options.folder.clone().or_else(install_folder);
    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    match find_in(explicit, named, folder.as_deref()) {
        Err(RuntimeError::NotFound) => install(options, progress),
        found => found,
    }
}

/// Loads a library for the whole process. Doing it again with the same library does nothing.
pub fn load(located: &Located) -> Result<(), RuntimeError> {
    let mut loaded = LOADED.lock();
    if let Some(before) = &*loaded
        && before.path != located.path
    {
        return Err(RuntimeError::AlreadyLoaded { loaded: before.path.clone(), requested: located.path.clone() });
    }
    if loaded.as_ref().is_some_and(|before| before.environment.is_some()) {
        return Ok(());
    }
    let unusable = |reason| RuntimeError::Unusable { path: located.path.clone(), reason };
    let builder = ort::init_from(&located.path).map_err(|error| unusable(error.to_string()))?;
    // From here on this library is the process's only one, even if it does not start.
    let entry = loaded.insert(Loaded { path: located.path.clone(), environment: None });
    let environment = builder.with_name("upnext").with_telemetry(false).build();
    entry.environment = Some(environment.map_err(|error| RuntimeError::Start(error.to_string()))?);
    tracing::info!(path = %located.path.display(), version = %format!("1.{}", located.minor_version), "ONNX Runtime loaded");
    Ok(())
}

/// The environment that sessions live in.
pub(super) fn environment() -> Result<Environment, RuntimeError> {
    LOADED.lock().as_ref().and_then(|loaded| loaded.environment.clone()).ok_or(RuntimeError::NotLoaded)
}

/// A library and its environment last as long as the process.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

struct Loaded {
    path: PathBuf,
    environment: Option<Environment>,
}

fn find_in(
    explicit: Option<&Path>,
    environment: Option<PathBuf>,
    install_folder: Option<&Path>,
) -> Result<Located, RuntimeError> {
    if let Some(path) = explicit {
        return probe(path, Origin::Setting);
    }
    if let Some(path) = environment.filter(|path| !path.as_os_str().is_empty()) {
        return probe(&path, Origin::Environment);
    }
    if let Some(located) = install_folder.and_then(find_installed) {
        return Ok(located);
    }
    let system_names: &[&str] = if cfg!(target_os = "macos") {
        &["libonnxruntime.dylib"]
    } else if cfg!(windows) {
        // Windows ships an old one of its own under this name; its version is refused below.
        &["onnxruntime.dll"]
    } else {
        &["libonnxruntime.so", "libonnxruntime.so.1"]
    };
    let usable = |name: &&str| ort::util::probe(name).filter(|&minor| minor >= OLDEST_MINOR_VERSION);
    let system = system_names.iter().find_map(|name| usable(name).map(|minor| (name, minor)));
    let (name, minor_version) = system.ok_or(RuntimeError::NotFound)?;
    Ok(Located { path: PathBuf::from(name), minor_version, origin: Origin::System })
}

/// A build for GPUs if one is installed, for nobody installs one without wanting it; else the pinned version, else the
/// last by name.
fn find_installed(folder: &Path) -> Option<Located> {
    let mut libraries: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| wheel::library_in(&entry.ok()?.path())).collect();
    let pinned = wheel::pinned_library(folder);
    libraries.sort();
    libraries.sort_by_key(|path| (wheel::is_for_gpu(path), pinned.as_ref() == Some(path)));
    libraries.iter().rev().find_map(|path| {
        probe(path, Origin::Installed)
            .inspect_err(|error| tracing::warn!(%error, "an installed library is passed over"))
            .ok()
    })
}

/// Opens a library and asks for its version.
fn probe(path: &Path, origin: Origin) -> Result<Located, RuntimeError> {
    let unusable = |reason: String| RuntimeError::Unusable { path: path.to_owned(), reason };
    // Absolute, because the loader would look for a relative one beside the program.
    let path = path.canonicalize().map_err(|error| unusable(error.to_string()))?;
    match ort::util::probe(&path) {
        Some(minor_version) if minor_version >= OLDEST_MINOR_VERSION => Ok(Located { path, minor_version, origin }),
        Some(minor) => Err(unusable(format!("it is version 1.{minor}; at least 1.{OLDEST_MINOR_VERSION} is needed"))),
        None => Err(unusable(match ort::util::preload_dylib(&path) {
            Err(error) => error.to_string(),
            Ok(()) => "it is a library, but not version 1 of ONNX Runtime".to_owned(),
        })),
    }
}

#[cfg(test)]
mod tests;
