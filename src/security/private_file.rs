//! How is a secret written so that only its owner reads it, and a crash leaves the old or the new file but no half?

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
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

/// What `file` holds, if there is one. One of more than `max_bytes`, or of other things than text, is none of ours.
pub(super) fn read(file: &Path, max_bytes: u64) -> Result<Option<String>, SecurityError> {
    let open = match File::open(file) {
        Ok(open) => open,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(SecurityError::io(file, &e)),
    };
    let mut bytes = Vec::new();
    open.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| SecurityError::io(file, &e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(SecurityError::bad_file(file, format!("it has more than {max_bytes} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| SecurityError::bad_file(file, "it is not text"))
}

/// Lets one process after the other change `file`: the turn lasts until the answer is dropped. The lock is a file of its
/// own beside it, because `file` itself is replaced.
pub(super) fn take_turn(file: &Path) -> Result<File, SecurityError> {
    let path = file.with_extension("lock");
    let attempt = || {
        if let Some(folder) = path.parent() {
            create_private_folder(folder)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    attempt().map_err(|e| SecurityError::io(&path, &e))
}

fn write_beside(file: &Path, contents: &[u8]) -> Result<PathBuf, SecurityError> {
    if let Some(folder) = file.parent() {
        create_private_folder(folder).map_err(|e| SecurityError::io(folder, &e))?;
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

/// Makes the folder if there is none, for its owner only.
pub(super) fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
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
            let mode = |path: &Path| {
                std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
            };
            assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        }
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(Stamp::of(&dir.path().join("none")), None);
    }

    #[test]
    fn what_is_read_is_text_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        assert_eq!(read(&file, 4), Ok(None));
        fs::write(&file, "four").unwrap();
        assert_eq!(read(&file, 4).unwrap().as_deref(), Some("four"));
        assert!(read(&file, 3).unwrap_err().to_string().ends_with("it has more than 3 bytes"));
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(read(&file, 4).unwrap_err().to_string().ends_with("it is not text"));
        assert!(matches!(read(dir.path(), 4), Err(SecurityError::Io { .. })));
    }
}
