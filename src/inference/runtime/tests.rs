//! Finding, installing and loading, with the library that the other tests use as well.

use std::fs;
use std::io::{Cursor, Read as _, Write as _};

use super::*;
use crate::inference::checksum;

fn ensured() -> Located {
    ensure(None, &InstallOptions::default(), &mut |_| {}).unwrap()
}

/// A wheel with `library` inside and the options to install it into `folder`.
fn wheel_of(library: &[u8], folder: &Path) -> InstallOptions {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("onnxruntime/capi/libonnxruntime.so.1", stored).unwrap();
    writer.write_all(library).unwrap();
    let wheel = writer.finish().unwrap().into_inner();
    let path = folder.join("onnxruntime-1.99.0-cp312-cp312-test.whl");
    fs::write(&path, &wheel).unwrap();
    InstallOptions {
        folder: Some(folder.join("runtime")),
        sha256: Some(checksum::hex(&checksum::sha256(&wheel))),
        wheel: Some(path),
        index_url: None,
        gpu: false,
    }
}

/// Names in a folder, without the lock.
fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

#[test]
fn whoever_names_a_library_gets_that_one_or_an_error() {
    let good = ensured();
    let found = find_in(Some(&good.path), None, None).unwrap();
    assert_eq!((found.minor_version, found.origin), (good.minor_version, Origin::Setting));
    let found = find_in(None, Some(good.path.clone()), None).unwrap();
    assert_eq!(found.origin, Origin::Environment);

    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so");
    fs::write(&text, "this is no library").unwrap();
    for bad in [text.as_path(), Path::new("/no/such/library.so"), folder.path()] {
        let by_setting = find_in(Some(bad), Some(good.path.clone()), install_folder().as_deref());
        assert!(matches!(&by_setting, Err(RuntimeError::Unusable { .. })), "{by_setting:?}");
        let by_environment = find_in(None, Some(bad.to_owned()), install_folder().as_deref());
        assert!(matches!(&by_environment, Err(RuntimeError::Unusable { .. })), "{by_environment:?}");
    }
}

#[test]
fn a_library_is_loaded_once_for_the_whole_process() {
    let located = ensured();
    load(&located).unwrap();
    load(&located).unwrap();
    environment().unwrap();
    let other = Located { path: PathBuf::from("/another/libonnxruntime.so"), ..located };
    assert!(matches!(load(&other), Err(RuntimeError::AlreadyLoaded { .. })));
}

#[test]
fn an_installation_is_found_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let options = wheel_of(&fs::read(ensured().path).unwrap(), folder.path());
    let place = options.folder.clone().unwrap();
    // What a crash would have left behind.
    fs::create_dir_all(place.join(".staging-1/unpacked")).unwrap();

    let installed: Vec<Located> = std::thread::scope(|scope| {
        let installs: Vec<_> = (0..3).map(|_| scope.spawn(|| install(&options, &mut |_| {}).unwrap())).collect();
        installs.into_iter().map(|install| install.join().unwrap()).collect()
    });
    assert!(installed.iter().all(|located| *located == installed[0]), "{installed:?}");
    assert_eq!(names_in(&place), ["onnxruntime-1.99.0-test"]);
    assert_eq!(find_in(None, None, Some(&place)).unwrap(), installed[0]);

    let mut steps = Vec::new();
    install(&options, &mut |step| steps.push(step)).unwrap();
    assert_eq!(steps, [Progress::Installed]);

    // A build for GPUs goes first.
    let gpu_wheel = folder.path().join("onnxruntime_gpu-1.2.0-cp312-cp312-test.whl");
    fs::copy(options.wheel.as_ref().unwrap(), &gpu_wheel).unwrap();
    let for_gpu = install(&InstallOptions { wheel: Some(gpu_wheel), ..options.clone() }, &mut |_| {}).unwrap();
    assert_ne!(for_gpu, installed[0]);
    assert_eq!(find_in(None, None, Some(&place)).unwrap(), for_gpu);

    // A damaged one is replaced.
    fs::write(&installed[0].path, "damaged").unwrap();
    assert_eq!(install(&options, &mut |_| {}).unwrap(), installed[0]);
}

#[test]
fn what_cannot_be_trusted_or_opened_is_not_put_into_place() {
    let folder = tempfile::tempdir().unwrap();
    let options = wheel_of(b"this is no library", folder.path());
    let place = options.folder.clone().unwrap();
    let error = install(&options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, RuntimeError::Unusable { .. }), "{error}");
    assert!(names_in(&place).is_empty());

    let other_hash = InstallOptions { sha256: Some("0".repeat(64)), ..options.clone() };
    assert!(matches!(install(&other_hash, &mut |_| {}), Err(RuntimeError::Hash { .. })));
    // Without a hash of its own, a wheel must be the pinned one.
    let pinned_hash = InstallOptions { sha256: None, ..options.clone() };
    assert!(matches!(install(&pinned_hash, &mut |_| {}), Err(RuntimeError::Hash { .. })));
    let missing = InstallOptions { wheel: Some(folder.path().join("onnxruntime-1-cp312-x.whl")), ..options.clone() };
    assert!(matches!(install(&missing, &mut |_| {}), Err(RuntimeError::Io { .. })));
    let unnamed = InstallOptions { wheel: Some(folder.path().join("something.whl")), ..options };
    assert!(matches!(install(&unnamed, &mut |_| {}), Err(RuntimeError::Unpack(_))));
    assert!(names_in(&place).is_empty());
}

/// An index of one project with one file, for as many requests as `answers`; returns its address.
fn serve(answers: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (path, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let found = request.starts_with(format!("GET {path} ").as_bytes());
            let status = if found { "200 OK" } else { "404 Not Found" };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            // The other side hangs up when it has seen enough.
            let _ = stream.write_all(&body);
        }
    });
    format!("http://{address}/simple")
}

#[test]
fn a_wheel_comes_from_an_index_without_pip() {
    const PAGE: &[u8] = b"<a href=\"/files/onnxruntime-1-cp312-cp312-test.whl#sha256=00\">wheel</a>";
    let wheel = wheel::for_test("onnxruntime-1-cp312-cp312-test.whl", 1000);
    let folder = tempfile::tempdir().unwrap();
    let index = |body: Vec<u8>| {
        serve(vec![("/simple/onnxruntime/", PAGE.to_vec()), ("/files/onnxruntime-1-cp312-cp312-test.whl", body)])
    };

    let mut steps = Vec::new();
    let path = download::over_http(&wheel, &index(vec![7; 1000]), folder.path(), &mut |step| steps.push(step)).unwrap();
    assert_eq!(fs::read(path).unwrap(), [7; 1000]);
    assert_eq!(steps.last(), Some(&Progress::Fetching { bytes: 1000, total: 1000 }));

    let too_long = download::over_http(&wheel, &index(vec![7; 1001]), folder.path(), &mut |_| {});
    assert!(matches!(too_long, Err(RuntimeError::Download(_))));
    let elsewhere = serve(vec![("/other/", Vec::new())]);
    let not_found = download::over_http(&wheel, &elsewhere, folder.path(), &mut |_| {}).unwrap_err();
    assert!(not_found.to_string().contains("404"), "{not_found}");
    let without = serve(vec![("/simple/onnxruntime/", b"<a href=\"other.whl\">".to_vec())]);
    let not_offered = download::over_http(&wheel, &without, folder.path(), &mut |_| {}).unwrap_err();
    assert!(not_offered.to_string().contains("does not offer"), "{not_offered}");
}
