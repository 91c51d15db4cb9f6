//! Which build of ONNX Runtime, and where inside its wheel is the library? Python wheels are zip files that carry it
//! for every platform, signed off by their hash.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::RuntimeError;

/// The version that is installed: the one that the bindings were written for.
pub const PINNED_VERSION: &str = "1.31.1";

/// Files in a wheel are at most this large when unpacked.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// A wheel whose hash is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PinnedWheel {
    pub(super) file: &'static str,
    /// What pip calls the platform.
    pub(super) platform: &'static str,
    /// Of the wheel, in hexadecimal digits.
    pub(super) sha256: &'static str,
    /// Its size.
    pub(super) bytes: u64,
    os: &'static str,
    arch: &'static str,
}

/// The wheels' Python version does not matter, since only the C library is used; fixing it fixes the hash.
pub(super) const PYTHON_VERSION: &str = "312";

const PINNED: [PinnedWheel; 3] = [
    PinnedWheel {
        file: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        platform: "manylinux_2_28_x86_64",
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        bytes: 23_760_988,
        os: "linux",
        arch: "x86_64",
    },
    PinnedWheel {
        file: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_aarch64.whl",
        platform: "manylinux_2_28_aarch64",
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        bytes: 21_420_803,
        os: "linux",
        arch: "aarch64",
    },
    PinnedWheel {
        file: "onnxruntime-1.31.1-cp312-cp312-macosx_14_0_arm64.whl",
        platform: "macosx_14_0_arm64",
        sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        bytes: 20_882_125,
        os: "macos",
        arch: "aarch64",
    },
];

/// With the execution providers for NVIDIA's devices. They need CUDA 13 and cuDNN 9 on the machine.
const PINNED_GPU: [PinnedWheel; 1] = [PinnedWheel {
    file: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
    platform: "manylinux_2_28_x86_64",
    sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
    bytes: 255_569_273,
    os: "linux",
    arch: "x86_64",
}];

/// The wheel for the system that this program runs on.
pub(super) fn pinned() -> Result<PinnedWheel, RuntimeError> {
    for_this_system(&PINNED, "")
}

/// The same for machines with a graphics device.
pub(super) fn pinned_gpu() -> Result<PinnedWheel, RuntimeError> {
    for_this_system(&PINNED_GPU, " with a graphics device")
}

fn for_this_system(wheels: &[PinnedWheel], with: &str) -> Result<PinnedWheel, RuntimeError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let fits = |wheel: &&PinnedWheel| wheel.os == os && wheel.arch == arch;
    wheels.iter().find(fits).copied().ok_or_else(|| RuntimeError::Platform(format!("{os} on {arch}{with}")))
}

/// The folder for the library of a wheel: `onnxruntime-1.31.1-manylinux_2_28_x86_64`.
pub(super) fn folder_name(wheel_file: &str) -> Option<String> {
    let mut parts = wheel_file.strip_suffix(".whl")?.split('-');
    let (package, version) = (parts.next()?, parts.next()?);
    let platform = parts.next_back()?;
    let plain = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+'));
    let is_runtime = package.starts_with("onnxruntime") && [package, version, platform].iter().all(|part| plain(part));
    is_runtime.then(|| format!("{package}-{version}-{platform}"))
}

/// Where the pinned library is, if it is installed in `folder`.
pub(super) fn pinned_library(folder: &Path) -> Option<PathBuf> {
    library_in(&folder.join(folder_name(pinned().ok()?.file)?))
}

/// Whether a library lies in the folder of a wheel for GPUs.
pub(super) fn is_for_gpu(library: &Path) -> bool {
    let folder = library.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder.is_some_and(|name| name.starts_with("onnxruntime_gpu-"))
}

/// The library in an install folder, whatever its version.
pub(super) fn library_in(folder: &Path) -> Option<PathBuf> {
    if !folder.file_name()?.to_str()?.starts_with("onnxruntime") {
        return None;
    }
    library_among(folder)
}

/// The library among the files of a folder of any name.
pub(super) fn library_among(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?;
    files
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library))
}

/// Unpacks the libraries and the licences of `wheel` into `folder`, which exists.
pub(super) fn unpack(wheel: &Path, folder: &Path) -> Result<(), RuntimeError> {
    let io = |source| RuntimeError::Io { path: wheel.to_owned(), source };
    unpack_from(BufReader::new(File::open(wheel).map_err(io)?), folder)
}

fn unpack_from(wheel: impl Read + Seek, folder: &Path) -> Result<(), RuntimeError> {
    let damaged = |error: zip::result::ZipError| RuntimeError::Unpack(error.to_string());
    let mut archive = zip::ZipArchive::new(wheel).map_err(damaged)?;
    let mut found = false;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(damaged)?;
        // Only the last part of a name is used, so that no file can land elsewhere.
        let Some(name) = wanted(file.name()).map(str::to_owned) else { continue };
        if file.size() > MAX_FILE_BYTES {
            return Err(RuntimeError::Unpack(format!("{name} has {} bytes", file.size())));
        }
        found |= is_library(&name);
        let path = folder.join(name);
        let io = |source| RuntimeError::Io { path: path.clone(), source };
        let mut out = File::create(&path).map_err(io)?;
        std::io::copy(&mut (&mut file).take(MAX_FILE_BYTES), &mut out).map_err(io)?;
        // Whoever finds the folder after a power cut must find whole files in it.
        out.sync_all().map_err(io)?;
    }
    if found { Ok(()) } else { Err(RuntimeError::Unpack("there is no libonnxruntime inside".to_owned())) }
}

/// The file's own name if it is a library of the runtime or one of its licences.
fn wanted(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/')?;
    let provider = name.starts_with("libonnxruntime_providers_") && !name.contains('\\');
    let licence = folder == "onnxruntime" && matches!(name, "LICENSE" | "ThirdPartyNotices.txt");
    let library = folder == "onnxruntime/capi" && (is_library(name) || provider);
    (library || licence).then_some(name)
}

/// `libonnxruntime.so.1.31.1`, but not `libonnxruntime_providers_shared.so`.
fn is_library(name: &str) -> bool {
    let rest = name.strip_prefix("libonnxruntime.");
    rest.is_some_and(|rest| rest == "so" || rest.starts_with("so.") || rest.ends_with("dylib")) && !name.contains('\\')
}

#[cfg(test)]
pub(super) fn for_test(file: &'static str, bytes: u64) -> PinnedWheel {
    PinnedWheel { file, platform: "test", sha256: "", bytes, os: "", arch: "" }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    /// A zip file of names and contents.
    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn folders_are_named_after_wheels() {
        for wheel in PINNED {
            assert_eq!(folder_name(wheel.file), Some(format!("onnxruntime-{PINNED_VERSION}-{}", wheel.platform)));
            assert!(crate::inference::checksum::parse_sha256(wheel.sha256).is_some());
        }
        for wheel in PINNED_GPU {
            let folder = Path::new("runtime").join(folder_name(wheel.file).unwrap());
            assert!(is_for_gpu(&folder.join("libonnxruntime.so")), "{}", folder.display());
            assert!(wheel.file.contains(PINNED_VERSION));
            assert!(crate::inference::checksum::parse_sha256(wheel.sha256).is_some());
        }
        for bad in ["onnxruntime.whl", "numpy-1-cp312-x.whl", "onnxruntime-1.0-../x.whl", "onnxruntime-1-cp312-x.zip"] {
            assert_eq!(folder_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_libraries_and_licences_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = zipped(&[
            ("onnxruntime/capi/libonnxruntime.so.1.31.1", b"library"),
            ("onnxruntime/capi/libonnxruntime_providers_shared.so", b"shared"),
            ("onnxruntime/capi/onnxruntime_pybind11_state.so", b"python"),
            ("onnxruntime/LICENSE", b"licence"),
            ("../onnxruntime/capi/libonnxruntime.so.9", b"outside"),
            ("onnxruntime/capi/../../libonnxruntime.so.9", b"outside"),
        ]);
        unpack_from(Cursor::new(wheel), folder.path()).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["LICENSE", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so"]);
    }

    #[test]
    fn what_is_no_wheel_of_the_runtime_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let without = zipped(&[("onnxruntime/LICENSE", b"licence")]);
        assert!(matches!(unpack_from(Cursor::new(without), folder.path()), Err(RuntimeError::Unpack(_))));
        let mut damaged = zipped(&[("onnxruntime/capi/libonnxruntime.so", &[7; 1000])]);
        damaged.truncate(damaged.len() / 2);
        assert!(matches!(unpack_from(Cursor::new(damaged), folder.path()), Err(RuntimeError::Unpack(_))));
    }
}
