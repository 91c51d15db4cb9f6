//! Do the commands for keys and receipts do what their help says? Real processes on a real data folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use upnext::domain::{SealingKey, Timestamp};
use upnext::security::{Receipts, SealingKeys};

const NOW: Timestamp = Timestamp(1_750_000_000_000);
const SETTING: &str = "UPNEXT__SECURITY__SEALING_KEYS";

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upnext"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("UPNEXT__")) {
        command.env_remove(name);
    }
    command.arg("--data-dir").arg(dir).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output and standard error of a command that succeeded, or else of one that failed.
fn texts(output: Output) -> Result<(String, String), (String, String)> {
    let texts = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(texts) } else { Err(texts) }
}

fn upnext(dir: &Path, arguments: &[&str]) -> Result<(String, String), (String, String)> {
    texts(command(dir, arguments).output().unwrap())
}

fn complaint(result: Result<(String, String), (String, String)>) -> String {
    let (out, err) = result.unwrap_err();
    assert_eq!(out, "", "a refusal is no answer");
    err
}

fn loaded(dir: &Path) -> Vec<SealingKey> {
    SealingKeys::new(dir, &[], None).load(true, NOW).unwrap()
}

#[test]
fn sealing_keys_are_rotated_listed_and_retired() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = complaint(upnext(dir, &["keys", "rotate"]));
    assert!(text.contains("sealing-keys") && !dir.join("sealing-keys").exists(), "{text}");
    assert_eq!(upnext(dir, &["keys", "list"]).unwrap().0, "");

    let server = SealingKeys::new(dir, &[], None);
    let first = server.load(false, NOW).unwrap();
    let (out, err) = upnext(dir, &["keys", "rotate"]).unwrap();
    assert!(out.contains("sealing key 2 is the active one") && err.contains("upnext store rewrite"), "{out}{err}");
    let both = server.reload_if_changed().unwrap().unwrap();
    assert_eq!((both[0].id(), &both[1]), (2, &first[0]), "a running server takes it over");

    upnext(dir, &["keys", "create", "--name", "tv", "--scopes", "recommend"]).unwrap();
    let (out, _) = upnext(dir, &["keys", "list"]).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].ends_with("tv"), "{out}");
    assert!(lines[1].starts_with("sealing key 2  made 20") && lines[1].ends_with("active"), "{out}");
    assert_eq!(lines[2], "sealing key 1  made 2025-06-15T15:06:40Z  for what was stored before");
    assert!(both.iter().all(|key| !out.contains(&key.reveal_hex())));

    let text = complaint(upnext(dir, &["keys", "retire", "1"]));
    assert!(text.contains("lost for ever") && text.contains("--yes"), "{text}");
    assert_eq!(loaded(dir), both);
    let text = complaint(upnext(dir, &["keys", "retire", "2", "--yes"]));
    assert!(text.contains("active"), "{text}");
    upnext(dir, &["keys", "retire", "1", "--yes"]).unwrap();
    assert_eq!(loaded(dir), both[..1]);
    assert!(complaint(upnext(dir, &["keys", "retire", "1", "--yes"])).contains("there is no sealing key 1"));
}

#[test]
fn processes_at_once_lose_no_sealing_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = SealingKeys::new(dir.path(), &[], None).load(false, NOW).unwrap();
    let running: Vec<_> = (0..6).map(|_| command(dir.path(), &["keys", "rotate"]).spawn().unwrap()).collect();
    for child in running {
        texts(child.wait_with_output().unwrap()).unwrap();
    }
    let keys = loaded(dir.path());
    assert_eq!(keys.iter().map(SealingKey::id).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(keys[6], first[0]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(dir.path().join("sealing-keys")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn keys_from_the_environment_are_printed_anew_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let hex = "c0ffee99".repeat(8);
    let with = |setting: &str, arguments: &[&str]| {
        texts(command(dir.path(), arguments).env(SETTING, setting).output().unwrap())
    };
    let (out, err) = with(&format!("4:{hex}"), &["keys", "rotate"]).unwrap();
    assert!(err.contains(SETTING) && err.contains("sealing key 5") && !err.contains("c0ffee"), "{err}");
    let keys = SealingKey::parse_list(out.trim_end()).unwrap();
    assert_eq!((keys[0].id(), keys[1].id(), keys[1].reveal_hex()), (5, 4, hex.clone()));
    let (listed, _) = with(out.trim_end(), &["keys", "list"]).unwrap();
    let expected =
        ["5  set by security.sealing_keys  active", "4  set by security.sealing_keys  for what was stored before"];
    assert_eq!(listed, format!("sealing key {}\nsealing key {}\n", expected[0], expected[1]));
    assert!(complaint(with(out.trim_end(), &["keys", "retire", "4", "--yes"])).contains("security.sealing_keys"));
    let (shown, _) = with(out.trim_end(), &["config", "show"]).unwrap();
    assert!(shown.contains("sealing_keys = \"(hidden)\"") && !shown.contains("c0ffee"), "{shown}");
    for bad in [format!("4:{hex}0"), hex.clone(), format!("4:{hex},4:{hex}"), format!("4={hex}")] {
        let text = complaint(with(&bad, &["keys", "list"]));
        assert!(text.contains(SETTING) && !text.contains("c0ffee"), "{text}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn receipts_are_checked_here_and_elsewhere() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_owned();
    let (receipt, jwk) = (path("receipt.jws"), path("key.json"));
    assert!(complaint(upnext(dir.path(), &["receipt", "public-key"])).contains("no receipt key"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "checking makes no key");

    let receipts = Receipts::open(dir.path()).unwrap();
    let signed = receipts.sign(&json!({"records": 17}));
    fs::write(&receipt, format!("{signed}\n")).unwrap();
    let (out, _) = upnext(dir.path(), &["receipt", "verify", &receipt]).unwrap();
    assert!(
        out.contains("is genuine") && out.contains(&receipts.key().id()) && out.contains("\"records\": 17"),
        "{out}"
    );

    let (public, _) = upnext(dir.path(), &["receipt", "public-key"]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&public).unwrap(), receipts.public_key_jwk());
    fs::write(&jwk, &public).unwrap();
    let verify = || upnext(elsewhere.path(), &["receipt", "verify", &receipt, "--public-key", &jwk]);
    assert!(verify().unwrap().0.contains("\"records\": 17"));

    let (start, end) = signed.split_at(signed.len() - 50);
    let changed = end.replacen(&end[..1], if end.starts_with('A') { "B" } else { "A" }, 1);
    fs::write(&receipt, format!("{start}{changed}")).unwrap();
    let text = complaint(verify());
    assert!(text.contains("certifies nothing: its signature is wrong"), "{text}");

    fs::write(&receipt, &signed).unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(&jwk, Receipts::open(other.path()).unwrap().public_key_jwk().to_string()).unwrap();
    assert!(complaint(verify()).contains("signed with another key"));
    fs::write(&jwk, "{\"kty\": \"RSA\"}").unwrap();
    assert!(complaint(verify()).contains("key.json"));
}
