//! The power fails at every single write and sync of a workload: what was acknowledged is there, once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::crash_disk::{CrashDisk, Survivors};
use super::tests::{event, image, item, item_id, keys, options};
use super::*;
use crate::domain::{Event, UserKey};

/// What the workload was told.
#[derive(Debug, Default, Clone)]
struct Told {
    /// Sequence of each acknowledged event.
    events: BTreeMap<u64, String>,
    /// Titles of acknowledged items; `None` once deleted.
    items: BTreeMap<String, Option<String>>,
    /// Items whose last write has no answer.
    open_items: BTreeSet<String>,
    /// Everything was answered.
    finished: bool,
}

fn small() -> StoreOptions {
    StoreOptions { cache_bytes: 512 * 1024, ..options() }
}

fn by(user: u8, id: &str) -> Event {
    Event { user: (user > 0).then_some(UserKey([user; 16])), ..event(id) }
}

/// Events of several people and of nobody, items that come, change and go, a rewrite of the file.
async fn work(disk: &Arc<CrashDisk>, told: &mut Told) -> Result<(), StoreError> {
    let store = Store::open_on(Arc::clone(disk) as Arc<dyn disk::Disk>, &keys(), small())?;
    for round in 0..6_u8 {
        let events: Vec<Event> = (0..4).map(|n| by((round + n) % 4, &format!("e-{round}-{n}"))).collect();
        let ids: Vec<String> = events.iter().map(|e| e.id.as_str().to_owned()).collect();
        for (id, appended) in ids.into_iter().zip(store.append_events(events).await?) {
            let Appended::New(sequence) = appended else { panic!("{id} is new") };
            told.events.insert(sequence, id);
        }
        let (name, title) = (format!("i-{}", round % 3), format!("title {round}"));
        told.open_items.insert(name.clone());
        let mut record = item(&name, vec![ImageRecord { thumbnail: Some(vec![round; 300].into()), ..image(round) }]);
        record.item.title.clone_from(&title);
        store.put_items(vec![record]).await?;
        told.items.insert(name.clone(), Some(title));
        told.open_items.remove(&name);
        if round == 3 {
            told.open_items.insert("i-1".into());
            store.delete_item(&item_id("i-1")).await?;
            told.items.insert("i-1".into(), None);
            told.open_items.remove("i-1");
            let rewriting = store.clone();
            tokio::task::spawn_blocking(move || rewriting.rewrite(|_, _| {})).await.unwrap()?;
        }
    }
    store.close();
    told.finished = true;
    Ok(())
}

/// Opens what a crash has left and compares it with what was told.
async fn check(disk: CrashDisk, told: &Told, place: &str) {
    let disk: Arc<dyn disk::Disk> = Arc::new(disk);
    let store = Store::open_on(Arc::clone(&disk), &keys(), small()).unwrap_or_else(|e| panic!("{place}: {e}"));
    let (mut events, mut before) = (BTreeMap::new(), 0);
    let replayed = store
        .replay_entries(0, &mut |sequence, entry| {
            assert_eq!(sequence, before + 1, "{place}: no gaps");
            before = sequence;
            if let LogEntry::Event(event) = entry {
                events.insert(sequence, event.id.as_str().to_owned());
            }
            ControlFlow::Continue(())
        })
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    assert_eq!((replayed.skipped, replayed.erased), (0, 0), "{place}");
    for (sequence, id) in &told.events {
        assert_eq!(events.get(sequence), Some(id), "{place}: acknowledged, so it is there");
    }
    let distinct: BTreeSet<&String> = events.values().collect();
    assert_eq!(distinct.len(), events.len(), "{place}: nothing is there twice");
    let in_order: Vec<&String> = events.values().collect();
    assert!(in_order.is_sorted(), "{place}: {in_order:?}");
    for (name, title) in &told.items {
        let found = store.get_item(&item_id(name)).unwrap().map(|found| found.item.title);
        assert!(found == *title || told.open_items.contains(name), "{place}: {name} is {found:?}, not {title:?}");
    }
    // The chains of people are whole too.
    for user in 1..4_u8 {
        let of_user = store.entries_of(UserKey([user; 16]), 100).unwrap();
        let entries = store.entries(&of_user).unwrap();
        let all = events.len();
        let belonging =
            entries.iter().all(|(_, entry)| matches!(entry, LogEntry::Event(e) if e.user == Some(UserKey([user; 16]))));
        assert!(belonging && entries.len() == of_user.len(), "{place}");
        let mut expected = 0;
        let entries_of_all: Vec<u64> = events.keys().copied().collect();
        for (_, entry) in store.entries(&entries_of_all).unwrap() {
            expected += usize::from(matches!(entry, LogEntry::Event(e) if e.user == Some(UserKey([user; 16]))));
        }
        assert_eq!(entries.len(), expected, "{place}: of {all} events");
    }
    // It goes on, and still knows what it has.
    let again = told.events.values().next().cloned();
    if let Some(id) = again {
        assert_eq!(store.append_events(vec![by(1, &id)]).await.unwrap(), [Appended::Duplicate], "{place}");
    }
    let next = store.append_events(vec![by(2, "next")]).await.unwrap();
    assert_eq!(next, [Appended::New(before + 1)], "{place}");
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_fails() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(CrashDisk::new());
        let mut told = Told::default();
        work(&disk, &mut told).await.unwrap();
        assert!(told.finished);
        let operations = disk.operations();
        assert!(operations > 150, "{operations} operations are no workload");
        check(disk.after_crash(Survivors::None), &told, "no crash").await;
        let mut crashed_midway = 0;
        for at in 0..operations {
            let disk = Arc::new(CrashDisk::new());
            disk.freeze_at(at);
            let mut told = Told::default();
            let outcome = work(&disk, &mut told).await;
            // How many pages a commit writes may differ a little from run to run, so the last ones may come through.
            assert!(disk.is_frozen() || at + 20 > operations, "the disk must fail at {at} of {operations}");
            crashed_midway += u64::from(outcome.is_err() && !told.events.is_empty());
            for survivors in
                [Survivors::None, Survivors::All, Survivors::Some { seed: at }, Survivors::Some { seed: !at }]
            {
                check(disk.after_crash(survivors), &told, &format!("frozen at {at}, {survivors:?}")).await;
            }
        }
        assert!(crashed_midway > operations / 2, "{crashed_midway} of {operations}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_reads_on_and_recovers_by_itself() {
    let disk = Arc::new(CrashDisk::new());
    let store = Store::open_on(Arc::clone(&disk) as Arc<dyn disk::Disk>, &keys(), small()).unwrap();
    let image = ImageRecord { thumbnail: Some(vec![7; 2000].into()), ..image(1) };
    store.put_items(vec![item("first", vec![image.clone()])]).await.unwrap();
    disk.set_free_bytes(Some(0));
    let mut stored = 0;
    let refused = loop {
        match store.put_items(vec![item(&format!("i-{stored}"), vec![image.clone()])]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10_000, "the file cannot hold that much without growing");
    };
    assert!(matches!(refused, StoreError::NoSpace { .. }), "{refused:?}");
    for _ in 0..3 {
        let again = store.append_events(vec![by(0, "a")]).await;
        assert!(again.is_ok() || matches!(again, Err(StoreError::NoSpace { .. })), "{again:?}");
    }
    disk.set_free_bytes(None);
    let sequences = store.put_items(vec![item("last", vec![image])]).await.unwrap();
    assert_eq!(sequences, [store.last_sequence()]);
    for n in 0..stored {
        assert!(store.get_item(&item_id(&format!("i-{n}"))).unwrap().is_some(), "acknowledged, so it is there");
    }
    assert!(store.get_item(&item_id("first")).unwrap().is_some());
    store.close();
    drop(store);
    let again = Store::open_on(disk as Arc<dyn disk::Disk>, &keys(), small()).unwrap();
    assert!(again.item_count().unwrap() >= stored + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_and_cut_tails_are_noticed_and_cost_no_more_than_they_hit() {
    let disk = Arc::new(CrashDisk::new());
    let mut told = Told::default();
    work(&disk, &mut told).await.unwrap();
    let good = disk.bytes(DATABASE);
    let mut refused = 0;
    for step in 0..60_usize {
        let damaged = disk.after_crash(Survivors::All);
        let mut bytes = good.clone();
        if step % 3 == 0 {
            bytes.truncate(bytes.len() * (step + 1) / 61);
        } else {
            let place = (step * 7919 + step * step * 104_729) % bytes.len();
            bytes[place] ^= 1 << (step % 8);
        }
        damaged.set_bytes(DATABASE, bytes);
        match Store::open_on(Arc::new(damaged) as Arc<dyn disk::Disk>, &keys(), small()) {
            Err(StoreError::Corrupt { file, .. }) => {
                assert!(file.ends_with(DATABASE));
                refused += 1;
            }
            Err(other) => panic!("{step}: {other:?}"),
            // A bit that nothing uses, or a damage that the older commit heals.
            Ok(store) => {
                let mut ids = BTreeSet::new();
                let replayed = store.replay_entries(0, &mut |_, entry| {
                    if let LogEntry::Event(event) = entry {
                        assert!(ids.insert(event.id.as_str().to_owned()));
                    }
                    ControlFlow::Continue(())
                });
                assert!(replayed.is_ok() || ids.len() <= told.events.len());
                assert!(ids.iter().all(|id| told.events.values().any(|known| known == id)), "nothing is made up");
            }
        }
    }
    assert!(refused > 10, "{refused}");
}
