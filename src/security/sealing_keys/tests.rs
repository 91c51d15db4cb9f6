//! Are sealing keys kept, changed and followed as they should be? With real files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

const NOW: Timestamp = Timestamp(1_750_000_000_123);

fn in_file(dir: &Path) -> SealingKeys {
    SealingKeys::new(dir, &[], None)
}

fn configured(ids: &[u32]) -> Vec<SealingKey> {
    ids.iter().map(|id| SealingKey::new(*id, [0xc7; 32])).collect()
}

fn ids(keys: &[SealingKey]) -> Vec<u32> {
    keys.iter().map(SealingKey::id).collect()
}

fn listed(keys: &SealingKeys) -> Vec<(u32, bool)> {
    keys.list().unwrap().iter().map(|info| (info.id, info.active)).collect()
}

/// The names of what lies in a folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_first_start_makes_one_key_and_later_ones_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new");
    let keys = in_file(&folder);
    assert!(keys.list().unwrap().is_empty() && !folder.exists(), "asking makes nothing");
    let first = keys.load(false, NOW).unwrap();
    assert_eq!(ids(&first), [1]);
    assert_ne!(first[0].bytes(), &[0; 32]);
    assert_eq!(keys.load(false, NOW).unwrap(), first);
    assert_eq!(in_file(&folder).load(true, NOW).unwrap(), first);
    assert_eq!(in_file(&folder).load(false, NOW).unwrap(), first);
    assert_eq!(keys.list().unwrap(), [SealingKeyInfo { id: 1, created_at: Some(NOW), active: true }]);
    assert_eq!(names(&folder), ["sealing-keys"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.join("sealing-keys")), mode(&folder)), (0o600, 0o700));
        keys.rotate(NOW).unwrap();
        assert_eq!(mode(&folder.join("sealing-keys")), 0o600);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    assert_ne!(in_file(elsewhere.path()).load(false, NOW).unwrap(), first);
}

#[test]
fn a_lost_file_is_not_replaced_once_something_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let keys = in_file(dir.path());
    let error = keys.load(true, NOW).unwrap_err();
    assert_eq!(error, SecurityError::SealingKeysMissing { file: dir.path().join("sealing-keys") });
    let text = error.to_string();
    for said in ["sealing-keys", "cannot be read", "put it back", "UPNEXT__SECURITY__SEALING_KEYS"] {
        assert!(text.contains(said), "{text}");
    }
    let text = keys.rotate(NOW).unwrap_err().to_string();
    assert!(text.contains("sealing-keys") && text.contains("put back"), "{text}");
    assert!(keys.retire(1).is_err());
    assert!(!dir.path().join("sealing-keys").exists());

    keys.load(false, NOW).unwrap();
    fs::remove_file(dir.path().join("sealing-keys")).unwrap();
    assert!(keys.load(false, NOW).is_err(), "one that was there a moment ago is lost, not new");
    assert!(!dir.path().join("sealing-keys").exists());
}

#[test]
fn the_file_may_lie_elsewhere() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = elsewhere.path().join("deep/my-keys.toml");
    let keys = SealingKeys::new(dir.path(), &[], Some(&file));
    assert_eq!(keys.file(), Some(file.as_path()));
    assert_eq!(ids(&keys.load(false, NOW).unwrap()), [1]);
    keys.rotate(NOW).unwrap();
    assert_eq!(names(file.parent().unwrap()), ["my-keys.lock", "my-keys.toml"]);
    assert!(names(dir.path()).is_empty());
    assert!(SealingKeys::new(dir.path(), &[], Some(&dir.path().join("no"))).load(true, NOW).is_err());
}

#[test]
fn a_new_key_comes_first_and_no_id_comes_twice() {
    let dir = tempfile::tempdir().unwrap();
    let keys = in_file(dir.path());
    let first = keys.load(false, NOW).unwrap();
    let later = Timestamp(NOW.0 + 1000);
    let made = keys.rotate(later).unwrap();
    assert_eq!(made.info, SealingKeyInfo { id: 2, created_at: Some(later), active: true });
    assert_eq!(made.new_setting, None);
    let both = in_file(dir.path()).load(true, NOW).unwrap();
    assert_eq!(ids(&both), [2, 1]);
    assert_eq!(both[1], first[0]);
    assert_ne!(both[0].bytes(), both[1].bytes());

    assert!(keys.retire(2).unwrap_err().to_string().contains("active"));
    assert_eq!(keys.retire(7), Err(SecurityError::NoSuchSealingKey(7)));
    let gone = keys.retire(1).unwrap();
    assert_eq!(gone, SealingKeyInfo { id: 1, created_at: Some(NOW), active: false });
    assert_eq!(keys.retire(1), Err(SecurityError::NoSuchSealingKey(1)));
    assert!(keys.retire(2).is_err(), "the last one stays");
    assert_eq!(listed(&keys), [(2, true)]);

    // Someone put the old key in front again and retired the newer one.
    keys.rotate(NOW).unwrap();
    let file = dir.path().join("sealing-keys");
    let text = fs::read_to_string(&file).unwrap();
    let parts: Vec<&str> = text.split("\n[[keys]]\n").collect();
    fs::write(&file, format!("{}\n[[keys]]\n{}\n[[keys]]\n{}", parts[0], parts[2], parts[1])).unwrap();
    assert_eq!(listed(&keys), [(2, true), (3, false)]);
    keys.retire(3).unwrap();
    assert_eq!(keys.rotate(NOW).unwrap().info.id, 4);
    assert_eq!(listed(&keys), [(4, true), (2, false)]);
}

#[test]
fn there_are_at_most_64_keys_and_ids_end() {
    let dir = tempfile::tempdir().unwrap();
    let keys = in_file(dir.path());
    keys.load(false, NOW).unwrap();
    for _ in 1..64 {
        keys.rotate(NOW).unwrap();
    }
    let before = fs::read(dir.path().join("sealing-keys")).unwrap();
    assert!(keys.rotate(NOW).unwrap_err().to_string().contains("too many"));
    assert_eq!(fs::read(dir.path().join("sealing-keys")).unwrap(), before);
    assert_eq!(in_file(dir.path()).load(true, NOW).unwrap().len(), 64);
    keys.retire(30).unwrap();
    assert_eq!(keys.rotate(NOW).unwrap().info.id, 65);

    let full = SealingKeys::new(dir.path(), &configured(&(1..=64).collect::<Vec<_>>()), None);
    assert!(full.rotate(NOW).unwrap_err().to_string().contains("too many"));
    let last = SealingKeys::new(dir.path(), &configured(&[u32::MAX]), None);
    assert!(last.rotate(NOW).unwrap_err().to_string().contains("no ids left"));
}

#[test]
fn keys_from_the_setting_win_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let keys = SealingKeys::new(dir.path(), &configured(&[5, 2]), None);
    assert_eq!(keys.file(), None);
    assert_eq!(keys.load(true, NOW).unwrap(), configured(&[5, 2]));
    assert_eq!(keys.load(false, NOW).unwrap(), configured(&[5, 2]));
    assert_eq!(keys.reload_if_changed(), Ok(None));
    assert_eq!(listed(&keys), [(5, true), (2, false)]);
    assert_eq!(keys.list().unwrap()[0].created_at, None);

    let made = keys.rotate(NOW).unwrap();
    assert_eq!(made.info, SealingKeyInfo { id: 6, created_at: None, active: true });
    let setting = made.new_setting.clone().unwrap();
    let next = SealingKey::parse_list(&setting).unwrap();
    assert_eq!(ids(&next), [6, 5, 2]);
    assert_eq!(next[1..], configured(&[5, 2]));
    assert!(!format!("{made:?}").contains(&setting[..20]));
    assert_eq!(listed(&keys), [(5, true), (2, false)]);

    let text = keys.retire(2).unwrap_err().to_string();
    assert!(text.contains("key 2") && text.contains("security.sealing_keys"), "{text}");
    assert_eq!(keys.retire(3), Err(SecurityError::NoSuchSealingKey(3)));
    assert!(SealingKeys::new(dir.path(), &configured(&[2, 2]), None).load(false, NOW).is_err());
    assert!(names(dir.path()).is_empty(), "the folder is not touched");
}

#[test]
fn commands_and_servers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| in_file(dir.path()).load(false, NOW).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(loaded.iter().all(|keys| *keys == loaded[0]), "all start with the same key");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    in_file(dir.path()).rotate(NOW).unwrap();
                }
            });
        }
        let mut seen = 0;
        while seen < 21 {
            seen = in_file(dir.path()).load(true, NOW).unwrap().len();
        }
    });
    assert_eq!(
        listed(&in_file(dir.path())).iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        (1..=21).rev().collect::<Vec<_>>()
    );
    assert_eq!(names(dir.path()), ["sealing-keys", "sealing-keys.lock"]);
}

#[test]
fn changes_of_the_file_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = in_file(dir.path());
    let first = server.load(false, NOW).unwrap();
    assert_eq!(server.reload_if_changed(), Ok(None));
    let command = in_file(dir.path());
    command.rotate(NOW).unwrap();
    let both = server.reload_if_changed().unwrap().unwrap();
    assert_eq!(ids(&both), [2, 1]);
    assert_eq!(both[1], first[0]);
    assert_eq!(server.reload_if_changed(), Ok(None));
    command.retire(1).unwrap();
    assert_eq!(ids(&server.reload_if_changed().unwrap().unwrap()), [2]);

    // Written again without a change of the keys.
    let file = dir.path().join("sealing-keys");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}# looked at\n")).unwrap();
    assert_eq!(server.reload_if_changed(), Ok(None));
}

#[test]
fn a_file_that_cannot_be_used_is_reported_once_and_the_keys_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealing-keys");
    let server = in_file(dir.path());
    server.load(false, NOW).unwrap();
    let good = fs::read_to_string(&file).unwrap();

    fs::remove_file(&file).unwrap();
    assert!(matches!(server.reload_if_changed(), Err(SecurityError::SealingKeysMissing { .. })));
    assert_eq!(server.reload_if_changed(), Ok(None));
    assert!(!file.exists());
    fs::write(&file, "format = 1\n").unwrap();
    assert!(matches!(server.reload_if_changed(), Err(SecurityError::BadFile { .. })), "another fault is told again");
    assert_eq!(server.reload_if_changed(), Ok(None));
    fs::write(&file, &good).unwrap();
    assert_eq!(server.reload_if_changed(), Ok(None), "as before");

    let secret = good.lines().find_map(|line| line.strip_prefix("key = \"")).unwrap().trim_end_matches('"');
    fs::write(&file, good.replace(secret, &"77".repeat(32))).unwrap();
    let text = server.reload_if_changed().unwrap_err().to_string();
    assert!(text.contains("key 1 is another one") && !text.contains("7777"), "{text}");
    fs::write(&file, &good).unwrap();
    in_file(dir.path()).rotate(NOW).unwrap();
    assert_eq!(ids(&server.reload_if_changed().unwrap().unwrap()), [2, 1]);
}

/// A key as it stands in the file.
fn entry(id: u32) -> String {
    format!("\n[[keys]]\nid = {id}\ncreated_at = \"2025-06-15T15:06:40Z\"\nkey = \"{}\"\n", "ab".repeat(32))
}

/// A folder, the file in it, and the two keys in that.
fn two_keys() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sealing-keys");
    let text = format!("format = 1\nnext_id = 3\n{}{}", entry(2), entry(1));
    fs::write(&file, &text).unwrap();
    (dir, file, text)
}

#[test]
fn the_format_is_the_one_that_is_documented() {
    let (dir, file, text) = two_keys();
    let keys = in_file(dir.path());
    assert_eq!(ids(&keys.load(true, NOW).unwrap()), [2, 1]);
    assert_eq!(keys.list().unwrap()[0].created_at, Some(Timestamp(1_750_000_000_000)));
    assert_eq!(read(&file).unwrap().unwrap().to_text(&file).unwrap(), format!("{REMARK}{text}"));
    // A `next_id` that is behind does not make an id come twice.
    fs::write(&file, text.replace("next_id = 3", "next_id = 1")).unwrap();
    assert_eq!(keys.rotate(NOW).unwrap().info.id, 3);
    fs::write(&file, text.replace("next_id = 3", "next_id = 9")).unwrap();
    assert_eq!(keys.rotate(NOW).unwrap().info.id, 9);
}

#[test]
fn a_damaged_file_is_named_left_alone_and_not_shown() {
    let (dir, file, good) = two_keys();
    let hex = "ab".repeat(32);
    let change = |from: &str, to: &str| good.replacen(from, to, 1);
    let cases = [
        (String::new(), "does not say its format"),
        (good[..good.len() / 2].to_owned(), "line"),
        (good[..60].to_owned(), "line"),
        (change("format = 1", "format = 2"), "format 2 is not known"),
        (change("format = 1", "format = \"1\""), "does not say its format"),
        (change("next_id = 3\n", ""), "as it was written"),
        (change("next_id = 3", &format!("more = \"{hex}\"")), "line 2"),
        (change("next_id = 3", &format!("next_id = \"{hex}\"")), "line 2"),
        (change("next_id = 3", &format!("next_id = 3\n{hex} = 1")), "line 3"),
        (change(&format!("\"{hex}\""), &hex), "line 7"),
        (change(&format!("\"{hex}\""), "12"), "line 7"),
        (change(&hex, &hex[2..]), "key number 1 "),
        (change(&hex, &format!("x{}", &hex[1..])), "key number 1 "),
        (change("id = 2", "id = 0"), "key number 1 "),
        (change("id = 2", "id = -2"), "line 5"),
        (change("id = 2", "id = 1"), "two sealing keys with the id 1"),
        (change("2025-06-15", "yesterday"), "key 2 has no date"),
        ("format = 1\nnext_id = 1\nkeys = []\n".to_owned(), "at least one"),
        (format!("{good}{}", "#".repeat(70_000)), "more than 65536 bytes"),
        ((3..=65).fold(good.clone(), |text, id| text + &entry(id)), "at most 64 sealing keys"),
    ];
    for (text, said) in cases {
        fs::write(&file, &text).unwrap();
        let keys = in_file(dir.path());
        let errors = [
            keys.load(true, NOW).unwrap_err(),
            keys.load(false, NOW).unwrap_err(),
            keys.list().unwrap_err(),
            keys.rotate(NOW).unwrap_err(),
            keys.retire(1).unwrap_err(),
        ];
        for error in errors {
            let shown = error.to_string() + &format!("{error:?}");
            assert!(
                shown.contains("sealing-keys") && shown.contains(said) && !shown.contains("abab"),
                "{shown}\n{text}"
            );
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::write(&file, [0xff, 0x00]).unwrap();
    assert!(in_file(dir.path()).load(false, NOW).unwrap_err().to_string().contains("not text"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(in_file(dir.path()).load(false, NOW).is_err());
}

#[test]
fn no_debug_text_shows_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let keys = in_file(dir.path());
    let loaded = keys.load(false, NOW).unwrap();
    let made = keys.rotate(NOW).unwrap();
    let setting = SealingKeys::new(dir.path(), &loaded, None);
    let shown = format!("{keys:?}{loaded:?}{made:?}{setting:?}");
    assert!(!shown.contains(&loaded[0].reveal_hex()), "{shown}");
    assert!(!shown.contains(&format!("{:?}", loaded[0].bytes())), "{shown}");
}
