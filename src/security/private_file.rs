//! How is a secret written so that only its owner reads it, and a crash leaves the old or the new file but no half?

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{SecurityError, random_bytes, to_hex};

/// Replaces `file` by one with these contents, readable by its owner only.
pub(super) fn replace(file: &Path, contents: &[u8]) -> Result<(), SecurityError> {
    let temporary = write_beside(file, contents)?;
    fs::rename(&temporary, file).map_err(|e| {
        fs::remove_file(&temporary).ok();
        SecurityError::io(file, &e)
    })?;
    sync_folder(file)
}

/// Writes `file` unless there is one; `false` if there was. Of two processes that try at once, one wins.
pub(super) fn create(file: &Path, contents: &[u8]) -> Result<bool, SecurityError> {
    let temporary = write_beside(file, contents)?;
    // Unlike a rename, a hard link does not replace what is there.
    let linked = fs::hard_link(&temporary, file);
    fs::remove_file(&temporary).ok();
    match linked {
        Ok(()) => sync_folder(file).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(SecurityError::io(file, &e)),
    }
}

fn write_beside(file: &Path, contents: &[u8]) -> Result<PathBuf, SecurityError> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(|e| SecurityError::io(folder, &e))?;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", to_hex(&random_bytes::<6>()?)));
    let temporary = file.with_file_name(name);
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut open = options.open(&temporary)?;
        open.write_all(contents)?;
        open.sync_all()
    })();
    match written {
        Ok(()) => Ok(temporary),
        Err(e) => {
            fs::remove_file(&temporary).ok();
            Err(SecurityError::io(file, &e))
        }
    }
}

/// Makes the file's name durable.
fn sync_folder(file: &Path) -> Result<(), SecurityError> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|open| open.sync_all()).map_err(|e| SecurityError::io(folder, &e))
}

/// Tells one version of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// A file that was replaced within one tick of the clock has another number.
    inode: u64,
}

impl Stamp {
    /// `None` if there is no such file, or none that may be looked at.
    pub(super) fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { modified: metadata.modified().ok(), bytes: metadata.len(), inode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_whole_private_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/er/secret");
        assert!(create(&file, b"one").unwrap());
        assert!(!create(&file, b"two").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"one");
        let before = Stamp::of(&file);
        replace(&file, b"six").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"six");
        assert_ne!(Stamp::of(&file), before);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(Stamp::of(&dir.path().join("none")), None);
    }
}
