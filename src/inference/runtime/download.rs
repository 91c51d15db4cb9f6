//! How is the wheel fetched? With pip, which knows the local mirrors and proxies; without pip, over HTTP from an index
//! that the caller names.
//!
//! Nothing here is trusted: the caller checks the hash of what comes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::wheel::{PYTHON_VERSION, PinnedWheel};
use super::{Progress, RuntimeError};

const POLL: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Index pages of large projects have a few hundred kilobytes.
const MAX_INDEX_BYTES: u64 = 32 << 20;

/// Fetches a wheel into `folder` and says where it is.
pub(super) fn fetch(
    wheel: &PinnedWheel,
    index_url: Option<&str>,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, RuntimeError> {
    progress(Progress::Fetching { bytes: 0, total: wheel.bytes });
    let mut no_pip = String::new();
    for python in ["python3", "python"] {
        match with_pip(python, wheel, index_url, folder, progress)? {
            PipOutcome::Fetched => return Ok(folder.join(wheel.file)),
            PipOutcome::Failed(reason) => return Err(RuntimeError::Download(reason)),
            PipOutcome::NoPip(reason) => no_pip = reason,
        }
    }
    let configured = std::env::var("PIP_INDEX_URL").ok();
    match index_url.or(configured.as_deref()) {
        Some(index_url) => over_http(wheel, index_url, folder, progress),
        None => Err(RuntimeError::Download(format!(
            "there is no Python with pip ({no_pip}), and no package index was named; name one, or give a wheel"
        ))),
    }
}

enum PipOutcome {
    Fetched,
    /// There is pip, but it did not get the wheel.
    Failed(String),
    NoPip(String),
}

fn with_pip(
    python: &str,
    wheel: &PinnedWheel,
    index_url: Option<&str>,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PipOutcome, RuntimeError> {
    let failed = |error: io::Error| RuntimeError::Download(format!("{python}: {error}"));
    let mut parts = wheel.file.split('-');
    let (package, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // Into a file, because a pipe that nobody reads while pip runs could fill up.
    let messages_path = folder.join("pip.txt");
    let messages = File::create(&messages_path).map_err(failed)?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"])
        // Fixed tags, so that the file and its hash do not depend on the Python that is here.
        .args(["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON_VERSION])
        .args(["--abi", &format!("cp{PYTHON_VERSION}"), "--platform", wheel.platform])
        .arg("--dest")
        .arg(folder)
        .arg(format!("{package}=={version}"))
        // pip downloads there first: so that it can be watched, and is removed with the folder.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(messages);
    if let Some(index_url) = index_url {
        command.args(["--index-url", index_url]);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(PipOutcome::NoPip(format!("{python}: {error}"))),
    };
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None => std::thread::sleep(POLL),
        }
        progress(Progress::Fetching { bytes: bytes_below(folder).min(wheel.bytes), total: wheel.bytes });
    };
    if status.success() && folder.join(wheel.file).is_file() {
        return Ok(PipOutcome::Fetched);
    }
    let messages = fs::read_to_string(&messages_path).unwrap_or_default();
    let last = messages.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned();
    let no_pip = messages.contains("No module named pip");
    Ok(if no_pip { PipOutcome::NoPip(last) } else { PipOutcome::Failed(format!("pip: {last}")) })
}

/// The size of all files in a folder and below.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.fold(0, |bytes, entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes + bytes_below(&entry.path()),
        Ok(data) => bytes + data.len(),
        // pip removes its files while they are counted.
        Err(_) => bytes,
    })
}

/// From an index that follows Python's "simple repository" interface (PEP 503): a page of links for each project.
///
/// On a thread of its own, because the caller may stand inside an asynchronous runtime, where blocking is not allowed.
pub(super) fn over_http(
    wheel: &PinnedWheel,
    index_url: &str,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, RuntimeError> {
    let path = folder.join(wheel.file);
    let (sender, progressed) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| RuntimeError::Download(error.to_string()))?;
            // `sender` ends with this closure, and with it the loop below.
            let sender = sender;
            runtime.block_on(download(wheel, index_url, &path, |bytes| {
                let _ = sender.send(bytes);
            }))
        });
        for bytes in progressed {
            progress(Progress::Fetching { bytes, total: wheel.bytes });
        }
        fetching.join().unwrap_or_else(|_| Err(RuntimeError::Download("the download panicked".to_owned())))
    })?;
    Ok(path)
}

async fn download(
    wheel: &PinnedWheel,
    index_url: &str,
    path: &Path,
    progress: impl Fn(u64),
) -> Result<(), RuntimeError> {
    let failed = |error: reqwest::Error| RuntimeError::Download(error.to_string());
    // Fails if the program has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
    let client = client.build().map_err(failed)?;

    let project = wheel.file.split('-').next().unwrap_or_default().replace('_', "-");
    let page_url = format!("{}/{project}/", index_url.trim_end_matches('/'));
    let request = client.get(&page_url).header(http::header::ACCEPT, "text/html");
    let mut page = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let base = page.url().clone();
    let mut html = Vec::new();
    while let Some(chunk) = page.chunk().await.map_err(failed)? {
        html.extend_from_slice(&chunk);
        if html.len() as u64 > MAX_INDEX_BYTES {
            return Err(RuntimeError::Download(format!("{page_url} is longer than {MAX_INDEX_BYTES} bytes")));
        }
    }
    let html = String::from_utf8_lossy(&html);
    let link = link_to(&html, wheel.file)
        .ok_or_else(|| RuntimeError::Download(format!("{page_url} does not offer {}", wheel.file)))?;
    let url = base.join(&link).map_err(|error| RuntimeError::Download(format!("{link}: {error}")))?;

    let mut response = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let io_failed = |source| RuntimeError::Io { path: path.to_owned(), source };
    let mut file = File::create(path).map_err(io_failed)?;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes += chunk.len() as u64;
        if bytes > wheel.bytes {
            return Err(RuntimeError::Download(format!("{} is longer than {} bytes", wheel.file, wheel.bytes)));
        }
        file.write_all(&chunk).map_err(io_failed)?;
        progress(bytes);
    }
    Ok(())
}

/// The target of the link whose last part is `file`, without the fragment that carries its hash.
fn link_to(html: &str, file: &str) -> Option<String> {
    let targets = html.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest[1..].split(quote).next()
    });
    targets
        .map(|target| target.split('#').next().unwrap_or_default().replace("&amp;", "&"))
        .find(|target| target.split('?').next().and_then(|path| path.rsplit('/').next()) == Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_with_the_files_name_is_found() {
        let html =
            r##"<a href="../a/x-1-cp312-l.whl#sha256=00">x</a> <a class=b href='/f/y-1.whl?a=1&amp;b=2#c'>y</a>"##;
        assert_eq!(link_to(html, "x-1-cp312-l.whl").as_deref(), Some("../a/x-1-cp312-l.whl"));
        assert_eq!(link_to(html, "y-1.whl").as_deref(), Some("/f/y-1.whl?a=1&b=2"));
        assert_eq!(link_to(html, "1.whl"), None);
        assert_eq!(link_to("href=", "x"), None);
    }

    #[test]
    fn a_machine_without_python_is_no_failure_of_pip() {
        let (folder, wheel) = (tempfile::tempdir().unwrap(), super::super::wheel::pinned().unwrap());
        let outcome = with_pip("no-such-python", &wheel, None, folder.path(), &mut |_| {}).unwrap();
        assert!(matches!(outcome, PipOutcome::NoPip(reason) if reason.contains("no-such-python")));
    }
}
