//! A person's past can be found, and lost for good; keys change; the log gets shorter; the file is rewritten.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::tests::{all_events, event, image, item, item_id, keys, open, options};
use super::*;
use crate::domain::{Event, EventId, ManualClock, SealingKey, SessionId, Timestamp, UserKey};

fn user(n: u8) -> UserKey {
    UserKey([n; 16])
}

fn by(n: u8, id: &str) -> Event {
    Event { user: Some(user(n)), session: SessionId::new(format!("session-of-{n}")).unwrap(), ..event(id) }
}

fn ids(store: &Store, of: UserKey) -> Vec<String> {
    let sequences = store.entries_of(of, 1000).unwrap();
    let entries = store.entries(&sequences).unwrap();
    let id = |entry: &LogEntry| match entry {
        LogEntry::Event(event) => event.id.as_str().to_owned(),
        LogEntry::ItemPut(_) | LogEntry::ItemDeleted(_) => panic!("no person's"),
    };
    entries.iter().map(|(_, entry)| id(entry)).collect()
}

/// Every file in the folder, the names too.
fn raw_bytes(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        all.extend(path.to_string_lossy().as_bytes());
        all.extend(if path.is_dir() { raw_bytes(&path) } else { fs::read(&path).unwrap() });
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_s_entries_are_found_and_lost_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..30 {
        let batch = (1..=3).map(|who| by(who, &format!("event-{who}-{n}"))).collect();
        store.append_events(batch).await.unwrap();
    }
    let expected: Vec<String> = (0..30).map(|n| format!("event-2-{n}")).collect();
    assert_eq!(ids(&store, user(2)), expected);
    assert_eq!(store.entries_of(user(2), 7).unwrap().len(), 7);
    assert!(ids(&store, user(9)).is_empty());
    let backup = copies.path().join("old.redb");
    let (cloned, to) = (store.clone(), backup.clone());
    tokio::task::spawn_blocking(move || cloned.copy_to(&to, |_, _| {})).await.unwrap().unwrap();

    assert!(store.erase_user(user(2)).unwrap());
    assert!(!store.erase_user(user(2)).unwrap(), "there is no key any more");
    assert_eq!(store.erasures(), 1);
    assert!(ids(&store, user(2)).is_empty());
    assert_eq!(ids(&store, user(1)).len(), 30);
    let count = |store: &Store| store.replay_entries(0, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(count(&store), Replayed { entries: 60, skipped: 0, erased: 30 });
    // The same id does not come back by being sent again, and the person may begin anew.
    assert_eq!(store.append_events(vec![by(2, "event-2-0")]).await.unwrap(), [Appended::Duplicate]);
    assert_eq!(store.append_events(vec![by(2, "new")]).await.unwrap(), [Appended::New(91)]);
    assert_eq!(ids(&store, user(2)), ["new"]);
    drop(store);

    // Nothing readable is left, not even while the person was known.
    let bytes = raw_bytes(dir.path());
    // Long enough not to stand there by chance.
    for text in ["event-2-1", "event-1-2", "session-of-2", "session-of-1", "1700000000123"] {
        assert!(!holds(&bytes, text), "{text}");
    }
    // A backup from before does not bring them back.
    fs::copy(&backup, dir.path().join("upnext.redb")).unwrap();
    let store = open(dir.path());
    assert_eq!(count(&store), Replayed { entries: 60, skipped: 0, erased: 30 });
    assert!(ids(&store, user(2)).is_empty());
    assert_eq!(ids(&store, user(3)).len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_and_the_old_ones_can_go_after_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let new = SealingKey::new(2, [0x2E; 32]);
    let both = [vec![new.clone()], keys()].concat();
    let thumbnail = ImageRecord { thumbnail: Some(vec![9; 100].into()), ..image(1) };
    {
        let store = open(dir.path());
        store.append_events(vec![by(1, "a"), Event { user: None, ..event("b") }]).await.unwrap();
        store.put_items(vec![item("x", vec![thumbnail])]).await.unwrap();
        store.set_sealing_keys(&both).unwrap();
        store.append_events(vec![by(1, "c"), by(2, "d"), Event { user: None, ..event("e") }]).await.unwrap();
    }
    let only_new = Store::open(dir.path(), std::slice::from_ref(&new), options()).unwrap_err();
    assert!(matches!(only_new, StoreError::MissingKey { id: 1, .. }), "{only_new:?}");
    let wrong = Store::open(dir.path(), &[SealingKey::new(1, [1; 32])], options()).unwrap_err();
    assert!(matches!(wrong, StoreError::WrongKey { .. }), "{wrong:?}");
    assert!(matches!(Store::open(dir.path(), &[], options()), Err(StoreError::NoSealingKey)));
    {
        let store = Store::open(dir.path(), &both, options()).unwrap();
        assert_eq!(all_events(&store).len(), 5);
        let writing = store.clone();
        let rewritten = tokio::task::spawn_blocking(move || writing.rewrite(|_, _| {})).await.unwrap().unwrap();
        assert_eq!((rewritten.entries, rewritten.items, rewritten.unreadable), (6, 1, 0));
        assert!(rewritten.resealed >= 4, "{rewritten:?}");
        store.append_events(vec![by(3, "f")]).await.unwrap();
    }
    let store = Store::open(dir.path(), &[new], options()).unwrap();
    assert_eq!(all_events(&store).len(), 6);
    assert_eq!(store.thumbnail(&item_id("x"), &[1; 32]).unwrap().unwrap().len(), 100);
    assert_eq!((ids(&store, user(1)).len(), ids(&store, user(3)).len()), (2, 1));
    assert_eq!(store.append_events(vec![by(1, "a")]).await.unwrap(), [Appended::Duplicate]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_come_in_the_middle_of_a_rewrite_wait_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let new = SealingKey::new(2, [0x2E; 32]);
    let both = [vec![new.clone()], keys()].concat();
    let thumbnail = ImageRecord { thumbnail: Some(vec![9; 100].into()), ..image(1) };
    {
        let store = open(dir.path());
        store.append_events(vec![by(1, "a"), by(2, "b")]).await.unwrap();
        store.put_items(vec![item("x", vec![thumbnail])]).await.unwrap();
        let many = (0..1000).map(|n| Event { user: None, ..event(&format!("e{n}")) });
        store.append_events(many.collect()).await.unwrap();
        let (handle, mut changes) = (tokio::runtime::Handle::current(), 0);
        tokio::task::block_in_place(|| {
            // Heard once, in the log: the user keys are done by then, the items and their thumbnails are still to come.
            let change = |_: u64, _: u64| {
                changes += 1;
                store.set_sealing_keys(&both).unwrap();
                let late = vec![by(3, "late"), Event { user: None, ..event("later") }];
                handle.block_on(store.append_events(late)).unwrap();
            };
            let first = store.rewrite(change).unwrap();
            assert_eq!((first.resealed, first.unreadable, changes), (0, 0, 1), "one key for all of it: {first:?}");
            // The entries of nobody and the item's, the item and its thumbnail; what came late is under the new key.
            let second = store.rewrite(|_, _| {}).unwrap();
            assert_eq!((second.resealed, second.unreadable), (1000 + 1 + 1 + 1, 0), "{second:?}");
        });
    }
    let verified = verify_store(dir.path(), &both).unwrap();
    assert!(verified.is_good() && verified.sealing_keys == BTreeSet::from([2]), "{verified:?}");
    let store = Store::open(dir.path(), &[new], options()).unwrap();
    assert_eq!(all_events(&store).len(), 1004);
    assert_eq!((ids(&store, user(1)).len(), ids(&store, user(3)).len()), (1, 1));
}

/// Trimming blocks, so not where tasks run.
fn trim(store: &Store, trim: Trim) -> Trimmed {
    tokio::task::block_in_place(|| store.trim(trim)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_gets_shorter_by_age_and_size_and_the_catalogue_stays() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000_000)));
    let store = Store::open(dir.path(), &keys(), StoreOptions { clock: clock.clone(), ..options() }).unwrap();
    store.put_items(vec![item("x", vec![])]).await.unwrap();
    for hour in 0..10 {
        let batch = (0..20).map(|n| by(1, &format!("{hour}-{n}"))).collect();
        store.append_events(batch).await.unwrap();
        clock.advance_s(3600.0);
    }
    assert_eq!(store.first_since(Timestamp(1_000_000_000 + 4 * 3_600_000)).unwrap(), 82);
    assert_eq!(store.first_since(Timestamp(1_000_000_000 + 4 * 3_600_000 - 1)).unwrap(), 62, "the hour before");
    assert_eq!(store.first_since(Timestamp(0)).unwrap(), 0);

    let by_age = Trim { before: 82, max_bytes: None, not_from: u64::MAX, at_most: 50 };
    assert_eq!(trim(&store, by_age), Trimmed { removed: 50, more: true });
    assert_eq!(trim(&store, by_age), Trimmed { removed: 31, more: false });
    assert_eq!(trim(&store, by_age), Trimmed { removed: 0, more: false });
    let sizes = store.sizes().unwrap();
    assert_eq!((sizes.first_sequence, sizes.last_sequence), (82, 201));
    assert!(store.get_item(&item_id("x")).unwrap().is_some(), "its contents are in the catalogue");
    assert_eq!(ids(&store, user(1)).len(), 120, "the chain ends where the log does");
    assert_eq!(store.append_events(vec![by(1, "0-0")]).await.unwrap(), [Appended::New(202)], "its id went too");
    assert_eq!(store.append_events(vec![by(1, "9-0")]).await.unwrap(), [Appended::Duplicate]);

    let by_size = Trim { before: 0, max_bytes: Some(sizes.log_bytes / 3), not_from: 150, at_most: 1000 };
    let trimmed = trim(&store, by_size);
    assert!(trimmed.removed > 60 && !trimmed.more, "{trimmed:?}");
    assert!(store.sizes().unwrap().first_sequence <= 150, "what a checkpoint needs stays");
    let all = Trim { before: u64::MAX, max_bytes: None, not_from: u64::MAX, at_most: 1000 };
    trim(&store, all);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.last_sequence(), 202, "the last entry stays, for its number");
    assert_eq!(store.append_events(vec![by(1, "z")]).await.unwrap(), [Appended::New(203)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rewrite_loses_nothing_that_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..40 {
        let batch = (0..100).map(|m| by((m % 7) as u8 + 1, &format!("before-{n}-{m}"))).collect();
        store.append_events(batch).await.unwrap();
        store.put_items(vec![item(&format!("i-{}", n % 10), vec![image(n)])]).await.unwrap();
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 0..60_u8 {
                store.append_events(vec![by(n % 9 + 1, &format!("meanwhile-{n}"))]).await.unwrap();
                store.put_items(vec![item(&format!("i-{}", n % 13), vec![image(n)])]).await.unwrap();
                if n % 10 == 0 {
                    store.delete_item(&item_id(&format!("i-{}", n % 13))).await.unwrap();
                }
                let oldest = Trim { before: u64::from(n) * 4, max_bytes: None, not_from: u64::MAX, at_most: 1000 };
                trim(&store, oldest);
            }
        }
    });
    let mut rewrites = 0;
    while !writer.is_finished() || rewrites < 2 {
        let rewriting = store.clone();
        tokio::task::spawn_blocking(move || rewriting.rewrite(|_, _| {})).await.unwrap().unwrap();
        rewrites += 1;
    }
    writer.await.unwrap();
    let state = |store: &Store| {
        let mut items = BTreeSet::new();
        store
            .for_each_item(|record| {
                items.insert((record.item.id.as_str().to_owned(), record.images[0].sha256));
                ControlFlow::Continue(())
            })
            .unwrap();
        let of_people: Vec<Vec<String>> = (1..10).map(|n| ids(store, user(n))).collect();
        (all_events(store), items, of_people, store.sizes().unwrap().log_bytes)
    };
    let before = state(&store);
    assert!(before.0.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!((0..60).all(|n| before.0.iter().any(|(_, e)| e.id == EventId::new(format!("meanwhile-{n}")).unwrap())));
    drop(store);
    let store = open(dir.path());
    assert_eq!(state(&store), before);
    assert!(!dir.path().join("upnext.redb.new").exists());
}

#[test]
fn a_file_of_user_keys_that_is_none_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("user-keys");
    let text = b"this is no file of keys, but long enough to be taken for one by who does not look twice";
    fs::write(&file, text).unwrap();
    let error = Store::open(dir.path(), &keys(), options()).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { file, .. } if file.ends_with("user-keys")), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), text);
}
