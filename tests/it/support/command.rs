//! How does a test run the program itself, as an operator would?

use std::ffi::OsStr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Server;

/// The program with these words, not yet started. Settings of the surroundings do not reach it.
pub(crate) fn upnext<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upnext"));
    command.args(words).env_remove("UPNEXT_KEY");
    command
}

/// The words that point a command at a server, with its key in a file.
pub(crate) fn at(server: &Server) -> Vec<String> {
    at_with(server, server.key())
}

/// The same with another key.
pub(crate) fn at_with(server: &Server, key: &str) -> Vec<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let key_file = server.data_dir().join(format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&key_file, key).unwrap();
    let url = format!("https://{}", server.address());
    let certificate = server.certificate().display().to_string();
    ["--url", &url, "--key-file", &key_file.display().to_string(), "--cacert", &certificate].map(str::to_owned).into()
}

/// Runs the program to its end.
pub(crate) fn outcome<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Output {
    upnext(words).output().unwrap()
}

/// Runs the program, which must succeed, and gives what it answers.
pub(crate) fn done<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    let output = outcome(words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail, and gives what it complains about.
pub(crate) fn failed<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    let output = outcome(words);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
