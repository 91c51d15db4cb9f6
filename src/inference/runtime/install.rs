//! How does ONNX Runtime get here? The pinned wheel is fetched, checked, unpacked aside and moved into place in one
//! step.
//!
//! Installing twice does nothing the second time. Two processes may install at once: a lock file lets one wait for
//! the other, and what a crash leaves behind is a folder that the next installation removes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::wheel::PinnedWheel;
use super::{Located, Origin, RuntimeError, download, probe, wheel};
use crate::inference::checksum;

/// Where the library comes from and where it goes.
#[derive(Debug, Clone, Default)]
pub struct InstallOptions {
    /// Where to; [`install_folder`] if `None`.
    pub folder: Option<PathBuf>,
    /// A wheel of `onnxruntime` that lies here already; fetched if `None`.
    pub wheel: Option<PathBuf>,
    /// The SHA-256 of `wheel`, 64 hexadecimal digits, if it is another build than the pinned one.
    pub sha256: Option<String>,
    /// The package index to fetch from; what pip is configured for if `None`. Without pip it must be given, here or as
    /// `PIP_INDEX_URL`.
    pub index_url: Option<String>,
    /// The build for NVIDIA's graphics devices (256 MB), where no wheel is named.
    pub gpu: bool,
}

impl InstallOptions {
    /// The wheel that is fetched.
    fn pinned(&self) -> Result<PinnedWheel, RuntimeError> {
        if self.gpu { wheel::pinned_gpu() } else { wheel::pinned() }
    }
}

/// What an installation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The wheel is being fetched.
    Fetching {
        /// Bytes so far.
        bytes: u64,
        /// All of them.
        total: u64,
    },
    /// The wheel's hash is being checked and its libraries are being unpacked.
    Unpacking,
    /// The library is in place and was opened.
    Installed,
}

/// Where libraries are installed: `$XDG_DATA_HOME/upnext/runtime`, else `~/.local/share/upnext/runtime`; `None` if
/// neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn install_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")))?;
    Some(data.join("upnext").join("runtime"))
}

/// Installs ONNX Runtime and says where it is; does nothing if it is there already. Blocks for seconds to minutes.
pub fn install(options: &InstallOptions, progress: &mut dyn FnMut(Progress)) -> Result<Located, RuntimeError> {
    let folder = options.folder.clone().or_else(install_folder).ok_or(RuntimeError::NoFolder)?;
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let _lock = lock(&folder.join(".lock"))?;
    remove_leftovers(&folder);

    let wanted = Wanted::from_options(options)?;
    let place = folder.join(&wanted.folder_name);
    if let Some(library) = wheel::library_in(&place)
        && let Ok(located) = probe(&library, Origin::Installed)
    {
        progress(Progress::Installed);
        return Ok(located);
    }

    let staging = Staging::create(&folder)?;
    let wheel_path = match &options.wheel {
        Some(path) => path.clone(),
        None => download::fetch(&options.pinned()?, options.index_url.as_deref(), &staging.0, progress)?,
    };
    progress(Progress::Unpacking);
    wanted.check(&wheel_path)?;
    let unpacked = staging.0.join("unpacked");
    fs::create_dir(&unpacked).map_err(at(&unpacked))?;
    wheel::unpack(&wheel_path, &unpacked)?;
    let library = wheel::library_among(&unpacked).ok_or(RuntimeError::NotFound)?;
    // What cannot be opened here, for want of a C library for instance, must not be put into place.
    probe(&library, Origin::Installed)?;
    if place.exists() {
        // It was found to be unusable above.
        fs::remove_dir_all(&place).map_err(at(&place))?;
    }
    fs::rename(&unpacked, &place).map_err(at(&place))?;
    let library = wheel::library_in(&place).ok_or(RuntimeError::NotFound)?;
    let located = probe(&library, Origin::Installed)?;
    progress(Progress::Installed);
    Ok(located)
}

/// The wheel that is to be installed.
struct Wanted {
    file: String,
    sha256: String,
    folder_name: String,
}

impl Wanted {
    fn from_options(options: &InstallOptions) -> Result<Self, RuntimeError> {
        let file = match &options.wheel {
            Some(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => options.pinned()?.file.to_owned(),
        };
        let sha256 = match &options.sha256 {
            Some(sha256) => sha256.to_lowercase(),
            None => options.pinned()?.sha256.to_owned(),
        };
        let folder_name = wheel::folder_name(&file)
            .ok_or_else(|| RuntimeError::Unpack(format!("`{file}` is not the name of a wheel of onnxruntime")))?;
        Ok(Self { file, sha256, folder_name })
    }

    fn check(&self, path: &Path) -> Result<(), RuntimeError> {
        let file = File::open(path).map_err(at(path))?;
        let actual = checksum::hex(&checksum::sha256_of(file).map_err(at(path))?);
        if actual == self.sha256 {
            return Ok(());
        }
        Err(RuntimeError::Hash { file: self.file.clone(), expected: self.sha256.clone(), actual })
    }
}

const STAGING_PREFIX: &str = ".staging-";

/// A folder beside the final one, so that moving is renaming; removed with all that is still in it.
struct Staging(PathBuf);

impl Staging {
    /// The caller holds the lock, so that the name is not in use.
    fn create(folder: &Path) -> Result<Self, RuntimeError> {
        let path = folder.join(format!("{STAGING_PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(at(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next installation.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whoever holds the lock is the only one at work, so what is there belongs to nobody.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits for its turn; the lock ends with the file, so a crash cannot leave it behind.
fn lock(path: &Path) -> Result<File, RuntimeError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(at(path))?;
    file.lock().map_err(at(path))?;
    Ok(file)
}

/// Names the file that an error is about.
fn at(path: &Path) -> impl Fn(std::io::Error) -> RuntimeError {
    move |source| RuntimeError::Io { path: path.to_owned(), source }
}
