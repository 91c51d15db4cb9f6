//! Snapshots are whole, say when they are not, and bring back what was there, but nobody who was erased.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::tests::{event, image, item, item_id, keys, open};
use super::*;
use crate::domain::{Event, SealingKey, Timestamp, UserKey};

fn by(user: u8, id: &str) -> Event {
    Event { user: Some(UserKey([user; 16])), ..event(id) }
}

/// Snapshots take their time, so not where tasks run.
async fn snapshot(store: &Store, dir: &Path, name: &str, now: i64) -> Result<SnapshotInfo, StoreError> {
    let (store, snapshots, name) = (store.clone(), Snapshots::in_dir(dir), name.to_owned());
    let create = move || snapshots.create(&store, Some(&name), Timestamp(now), |_, _| {});
    tokio::task::spawn_blocking(create).await.unwrap()
}

fn count(store: &Store) -> Replayed {
    store.replay_entries(0, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_back_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::in_dir(dir.path());
    let store = open(dir.path());
    assert_eq!(snapshots.list().unwrap(), []);
    let with_thumbnail = ImageRecord { thumbnail: Some(vec![3; 500].into()), ..image(1) };
    store.put_items(vec![item("kept", vec![with_thumbnail])]).await.unwrap();
    store.append_events((0..50).map(|n| by(n % 3, &format!("before-{n}"))).collect()).await.unwrap();
    let info = snapshot(&store, dir.path(), "monday", 1000).await.unwrap();
    assert_eq!((info.name.as_str(), info.sequence, info.entries, info.items), ("monday", 51, 51, 1));
    let again = snapshot(&store, dir.path(), "monday", 1000).await;
    assert!(matches!(again, Err(StoreError::Snapshot(_))), "{again:?}");
    for name in ["", "..", "a/b", ".hidden", "x.tmp", "ä"] {
        assert!(matches!(snapshot(&store, dir.path(), name, 0).await, Err(StoreError::Snapshot(_))), "{name:?}");
    }
    store.append_events((0..20).map(|n| by(n % 3, &format!("after-{n}"))).collect()).await.unwrap();
    store.put_items(vec![item("new", vec![])]).await.unwrap();
    snapshot(&store, dir.path(), "tuesday", 2000).await.unwrap();
    let names: Vec<String> = snapshots.list().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["monday", "tuesday"]);

    let verified = snapshots.verify("monday", &keys()).unwrap();
    assert!(verified.is_good());
    assert_eq!((verified.entries, verified.items, verified.thumbnails), (51, 1, 1));
    assert_eq!(verified.sealing_keys, BTreeSet::from([1]));
    assert_eq!(snapshots.verify_with("monday", &store).unwrap(), verified);
    assert!(matches!(snapshots.verify("friday", &keys()), Err(StoreError::NoSnapshot { .. })));
    let other_key = snapshots.verify("monday", &[SealingKey::new(1, [9; 32])]);
    assert!(matches!(other_key, Err(StoreError::WrongKey { .. })), "{other_key:?}");

    assert!(matches!(snapshots.restore("monday", &keys()), Err(StoreError::Locked { .. })), "it is in use");
    store.erase_user(UserKey([1; 16])).unwrap();
    store.save_checkpoint(Checkpoint { sequence: 60, ..Checkpoint::default() }, 1).unwrap();
    drop(store);
    let restored = snapshots.restore("monday", &keys()).unwrap();
    assert_eq!((restored.entries, restored.erased), (34, 17), "nobody comes back who was erased since");
    let store = open(dir.path());
    assert_eq!(count(&store), Replayed { entries: 34, skipped: 0, erased: 17 });
    assert!(store.get_item(&item_id("kept")).unwrap().is_some() && store.get_item(&item_id("new")).unwrap().is_none());
    assert!(store.checkpoints().is_empty(), "they belonged to another log");
    assert_eq!(store.thumbnail(&item_id("kept"), &[1; 32]).unwrap().unwrap().len(), 500);
    assert_eq!(store.append_events(vec![by(2, "before-2")]).await.unwrap(), [Appended::Duplicate]);
    assert!(dir.path().join("upnext.redb.before-restore").exists());
    snapshots.delete("tuesday").unwrap();
    assert!(matches!(snapshots.delete("tuesday"), Err(StoreError::NoSnapshot { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_noticed_and_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::in_dir(dir.path());
    let store = open(dir.path());
    store.append_events((0..500).map(|n| by(1, &n.to_string())).collect()).await.unwrap();
    snapshot(&store, dir.path(), "good", 1000).await.unwrap();
    drop(store);
    let file = dir.path().join("snapshots/good/upnext.redb");
    let good = fs::read(&file).unwrap();
    for place in [good.len() / 3, good.len() / 2] {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        fs::write(&file, bytes).unwrap();
        let refused = snapshots.restore("good", &keys());
        assert!(
            matches!(&refused, Err(StoreError::Corrupt { file, .. }) if file.ends_with("upnext.redb")),
            "{refused:?}"
        );
    }
    fs::write(&file, &good).unwrap();
    fs::write(dir.path().join("snapshots/good/snapshot.json"), "{").unwrap();
    assert!(matches!(snapshots.verify("good", &keys()), Err(StoreError::Corrupt { .. })));
    assert_eq!(snapshots.list().unwrap(), [], "one that cannot be read is no snapshot");
    assert_eq!(count(&open(dir.path())).entries, 500, "the database is as it was");
    assert_eq!(verify_store(dir.path(), &keys()).unwrap().entries, 500);
}
