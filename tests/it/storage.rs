//! What operators do with what is stored: snapshots, rewriting, new keys, restarts from checkpoints, a full disk.

use std::process::Command;

use serde_json::json;
use upnext::domain::SystemClock;
use upnext::security::SealingKeys;

use crate::support::command::{at, done, failed, outcome};
use crate::support::world::click;
use crate::support::{Server, Setup, World, list, number, run, text};

fn events(server: &Server, world: &World, from: usize, count: usize) -> Vec<serde_json::Value> {
    let event = |n: usize| {
        let mut event =
            click(&format!("s-{}", n % 7), world.id(n % 24), server.now().plus_seconds(n as f64 / 10.0 - 500.0));
        (event["event_id"], event["user_id"]) = (json!(format!("event-{n}")), json!(format!("user-{}", n % 5)));
        event
    };
    (from..from + count).map(event).collect()
}

#[test]
fn a_start_goes_on_from_a_checkpoint_and_from_an_older_one_or_the_log() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        server.client().tell(&events(&server, world, 0, 40)).await;
    });
    let question = json!({"session_id": "s-3", "count": 24, "explain": true});
    let ask = |server: &Server| {
        let answer = run(async { server.client().recommend(&question).await });
        answer["horizons"].clone()
    };
    let before = ask(&server);
    let server = server.restart();
    let first = server.recovered();
    assert_eq!((first.events, first.items), (0, 24), "nothing is replayed");
    assert!(first.checkpoint >= 64, "{first:?}");
    assert_eq!(ask(&server), before);

    run(async { server.client().tell(&events(&server, world, 40, 10)).await });
    let with_more = ask(&server);
    assert_ne!(with_more, before);
    // One that was cut short is set aside, and the one before is gone on from.
    let stopped = server.stop();
    let folder = stopped.settings.data_dir.join("checkpoints");
    let newest = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let server = stopped.start();
    let second = server.recovered();
    assert_eq!((second.checkpoint, second.events), (first.checkpoint, 10));
    assert_eq!(ask(&server), with_more);
    assert!(newest.with_extension("damaged").exists());
    let stopped = server.stop();
    std::fs::remove_dir_all(&folder).unwrap();
    let server = stopped.start();
    assert_eq!((server.recovered().checkpoint, server.recovered().events), (0, 50));
    assert_eq!(ask(&server), with_more);
}

#[test]
fn snapshots_are_made_listed_verified_and_deleted_while_serving() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        client.tell(&events(&server, world, 0, 30)).await;
        let made = client.post("/v1/admin/snapshots", &json!({"name": "first"})).await;
        assert_eq!(made.status, 201);
        assert_eq!((number(&made.json()["entries"]), number(&made.json()["items"])), (54.0, 24.0));
        let unnamed = client.request("POST", "/v1/admin/snapshots");
        assert_eq!(crate::support::Answer::of(unnamed).await.status, 201, "a body is not needed");
        let all = client.get("/v1/admin/snapshots").await.ok();
        assert_eq!(list(&all["snapshots"]).len(), 2);
        let verified = client.post("/v1/admin/snapshots/first/verify", &json!({})).await.ok();
        assert_eq!((&verified["good"], number(&verified["entries"])), (&json!(true), 54.0));
        assert_eq!(number(&verified["thumbnails"]), 48.0);
        let twice = client.post("/v1/admin/snapshots", &json!({"name": "first"})).await.problem();
        assert_eq!(twice, (422, "unusable_snapshot".into()));
        let evil = client.post("/v1/admin/snapshots", &json!({"name": "../evil"})).await.problem();
        assert_eq!(evil.0, 422);
        let none = client.post("/v1/admin/snapshots/none/verify", &json!({})).await.problem();
        assert_eq!(none, (404, "snapshot_not_found".into()));
        assert_eq!(client.delete("/v1/admin/snapshots/first").await.status, 204);
        assert_eq!(list(&client.get("/v1/admin/snapshots").await.ok()["snapshots"]).len(), 1);
    });
}

#[test]
fn keys_are_rotated_and_everything_is_sealed_anew_while_serving() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        server.client().tell(&events(&server, world, 0, 30)).await;
    });
    let sealing = SealingKeys::new(server.data_dir(), &[], None);
    let new = sealing.rotate(upnext::domain::Clock::now(&SystemClock)).unwrap();
    assert_eq!(new.info.id, 2);
    run(async {
        let client = server.client();
        let mut resealed = 0.0;
        for attempt in 0..50 {
            // The server takes the new key over within about a second.
            resealed += number(&client.post("/v1/admin/store/rewrite", &json!({})).await.ok()["resealed"]);
            if resealed > 0.0 {
                break;
            }
            assert!(attempt < 49, "the key is never taken over");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(resealed >= 24.0 + 24.0 + 48.0, "items, their entries and their thumbnails: {resealed}");
        client.tell(&events(&server, world, 30, 10)).await;
        let again = client.tell(&events(&server, world, 0, 30)).await;
        assert!(list(&again["results"]).iter().all(|row| row["status"] == "duplicate"));
    });
    let stopped = server.stop();
    sealing.retire(1).unwrap();
    let server = stopped.start();
    assert_eq!(server.recovered().skipped, 0, "nothing needs the old key");
    run(async {
        let thumbnail = server.client().get(&format!("/v1/items/{}/images/0", world.id(3))).await;
        assert_eq!(thumbnail.status, 200);
        let told = server.client().tell(&events(&server, world, 0, 40)).await;
        assert!(list(&told["results"]).iter().all(|row| row["status"] == "duplicate"));
    });
}

#[test]
fn a_start_without_the_sealing_keys_says_what_is_missing() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async { world.load(&server).await });
    let stopped = server.stop();
    let dir = stopped.settings.data_dir.clone();
    let start = || {
        let output = Command::new(env!("CARGO_BIN_EXE_upnext"))
            .args(["--data-dir", dir.to_str().unwrap(), "--set", "server.bind=127.0.0.1:0", "serve"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let file = dir.join("sealing-keys");
    let keys = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let missing = start();
    assert!(missing.contains("sealing-keys"), "{missing}");
    let digits = keys.lines().find_map(|line| line.trim().strip_prefix("key = \"")).unwrap().trim_end_matches('"');
    std::fs::write(&file, keys.replace(digits, &"ab".repeat(32))).unwrap();
    let wrong = start();
    assert!(wrong.contains("upnext.redb") && wrong.contains("another key"), "{wrong}");
    assert!(!wrong.contains("abab"), "keys are never shown: {wrong}");
    std::fs::write(&file, keys).unwrap();
    assert_eq!(stopped.start().recovered().items, 24);
}

/// The words that point a command at a folder.
fn in_folder(dir: &std::path::Path, words: &[&str]) -> Vec<String> {
    let dir = ["--data-dir", dir.to_str().unwrap()];
    dir.iter().chain(words).map(|&word| word.to_owned()).collect()
}

#[test]
fn an_operator_makes_and_restores_snapshots() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        server.client().tell(&events(&server, world, 0, 30)).await;
    });
    let words = ["snapshot", "create", "monday"].map(str::to_owned).into_iter();
    let made = done(words.chain(at(&server)));
    assert!(made.starts_with("monday ") && made.contains("54 entries up to 54, 24 items"), "{made}");
    let dir = server.data_dir().to_owned();
    let busy = failed(in_folder(&dir, &["snapshot", "create", "tuesday"]));
    assert!(busy.contains("in use by another process"), "{busy}");
    assert!(failed(in_folder(&dir, &["snapshot", "restore", "monday"])).contains("in use by another process"));
    run(async { server.client().tell(&events(&server, world, 30, 10)).await });
    let stopped = server.stop();
    done(in_folder(&dir, &["snapshot", "create", "tuesday"]));
    let listed = done(in_folder(&dir, &["snapshot", "list"]));
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let verified = done(in_folder(&dir, &["snapshot", "verify", "tuesday"]));
    assert!(verified.contains("log: 64 entries, 0 of erased users, 0 unreadable"), "{verified}");
    done(in_folder(&dir, &["snapshot", "restore", "monday"]));
    let server = stopped.start();
    assert_eq!((server.recovered().events, server.recovered().items), (30, 24));
    let stopped = server.stop();
    let kept = failed(in_folder(&dir, &["keys", "retire", "7", "--yes"]));
    assert!(kept.contains('7'), "{kept}");
    done(in_folder(&dir, &["keys", "rotate"]));
    let in_use = failed(in_folder(&dir, &["keys", "retire", "1", "--yes"]));
    assert!(in_use.contains("still sealed under key 1"), "{in_use}");
    let rewritten = done(in_folder(&dir, &["store", "rewrite"]));
    assert!(rewritten.contains("0 unreadable"), "{rewritten}");
    done(in_folder(&dir, &["keys", "retire", "1", "--yes"]));
    let verified = done(in_folder(&dir, &["store", "verify"]));
    assert!(verified.contains("sealing keys in use: 2\n"), "{verified}");
    assert_eq!(stopped.start().recovered().items, 24);
}

#[test]
fn a_damaged_database_stops_the_start_and_what_is_left_can_be_saved() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        for n in 0..20 {
            server.client().tell(&events(&server, world, n * 100, 100)).await;
        }
    });
    let stopped = server.stop();
    let dir = stopped.settings.data_dir.clone();
    assert!(done(in_folder(&dir, &["store", "repair"])).contains("nothing is wrong"));
    let keys = upnext::app::sealing_keys(&stopped.settings).unwrap();
    let file = dir.join("upnext.redb");
    let good = std::fs::read(&file).unwrap();
    // Not every page is in use, and some hold up more than others: the first one that costs little is taken.
    let damage_that_costs_little = (1..16).any(|step| {
        let mut bytes = good.clone();
        let place = (bytes.len() * step / 16) & !4095;
        bytes[place + 1000..place + 1032].fill(0x5A);
        std::fs::write(&file, &bytes).unwrap();
        if upnext::store::verify_store(&dir, &keys).is_ok() {
            return false;
        }
        std::fs::write(&file, &bytes).unwrap();
        let refused = failed(in_folder(&dir, &["--set", "server.bind=127.0.0.1:0", "serve"]));
        for hint in ["upnext.redb is damaged", "upnext store verify", "upnext store repair", "upnext snapshot restore"]
        {
            assert!(refused.contains(hint), "{hint}: {refused}");
        }
        assert!(failed(in_folder(&dir, &["store", "verify"])).contains("upnext.redb"));
        let repaired = outcome(in_folder(&dir, &["store", "repair"]));
        let told = String::from_utf8(repaired.stdout).unwrap();
        let entries = told.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
        entries.is_some_and(|entries| entries > 1500) && told.contains("upnext.redb.damaged")
    });
    assert!(damage_that_costs_little);
    let server = stopped.start();
    let found = server.recovered();
    assert!(found.skipped == 0 && found.items <= 24 && found.events <= 2000, "{found:?}");
    assert!(found.items + found.events > 1000, "most of it is there: {found:?}");
    run(async { server.client().tell(&events(&server, world, 3000, 1)).await });
}

#[test]
fn the_log_is_kept_within_its_bounds_and_what_was_learned_stays() {
    let world = World::get();
    let server = Setup::default().with("store.retention_bytes=4000").with("store.checkpoint_every_s=1").start();
    run(async {
        world.load(&server).await;
        server.client().tell(&events(&server, world, 0, 200)).await;
    });
    let first = || run(async { number(&server.client().get("/v1/admin/status").await.ok()["log_first_sequence"]) });
    assert_eq!(first(), 1.0);
    // Two checkpoints are kept, and nothing goes that the older one needs: the clock has to move, and something to happen.
    for minute in 1..60_u32 {
        server.set_time(server.now().plus_seconds(90.0));
        run(async { server.client().tell(&events(&server, world, 200 + minute as usize, 1)).await });
        std::thread::sleep(std::time::Duration::from_millis(300));
        if first() > 180.0 {
            break;
        }
    }
    assert!(first() > 180.0, "{}", first());
    run(async {
        assert_eq!(list(&server.client().get("/v1/items?limit=100").await.ok()["items"]).len(), 24);
        assert!(server.client().get("/v1/events/export").await.body.lines().count() < 60);
    });
    let question = json!({"session_id": "s-3", "item_id": world.id(3), "count": 24});
    let before = run(async { server.client().recommend(&question).await });
    let server = server.restart();
    assert!(server.recovered().checkpoint > 200 && server.recovered().skipped == 0, "{:?}", server.recovered());
    let after = run(async { server.client().recommend(&question).await });
    assert_eq!(after["horizons"], before["horizons"], "what was learned outlives the entries");
}

#[test]
fn a_full_disk_refuses_writes_and_answers_go_on() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        server.client().tell(&events(&server, world, 0, 20)).await;
    });
    // No disk has that much room.
    let server = server.restart_with("store.min_free_bytes=9000000000000000");
    run(async {
        let client = server.client();
        let refused = client.post("/v1/events", &json!({"events": events(&server, world, 20, 1)})).await.problem();
        assert_eq!(refused, (507, "disk_full".into()));
        let item = client.put(&format!("/v1/items/{}", world.id(0)), &json!({"title": "New"})).await.problem();
        assert_eq!(item, (507, "disk_full".into()));
        assert_eq!(client.get("/readyz").await.status, 200);
        assert!(!list(&client.recommend(&json!({"session_id": "s-1"})).await["horizons"]).is_empty());
        assert_eq!(client.get(&format!("/v1/items/{}/images/0", world.id(0))).await.status, 200);
    });
    let server = server.restart_with("store.min_free_bytes=1000");
    run(async {
        let told = server.client().tell(&events(&server, world, 20, 1)).await;
        assert_eq!(text(&told["results"][0]["status"]), "stored", "there is room again");
    });
}

#[test]
fn who_does_not_wait_is_answered_at_once_and_stored_all_the_same() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        let body = json!({"events": events(&server, world, 0, 5)});
        let answer = client.post("/v1/events?wait=false", &body).await;
        assert_eq!(answer.status, 202);
        assert!(list(&answer.json()["results"]).iter().all(|row| row["status"] == "accepted"));
        // A write that waits comes after it.
        client.tell(&events(&server, world, 5, 1)).await;
        let told = client.post("/v1/events", &body).await.ok();
        assert!(list(&told["results"]).iter().all(|row| row["status"] == "duplicate"), "{told}");
        assert_eq!(client.post("/v1/events?wait=maybe", &body).await.status, 400);
        let put = client.put("/v1/items/unwaited?wait=false", &json!({"title": "Soon"})).await;
        assert_eq!(put.status, 202);
        client.put("/v1/items/waited", &json!({"title": "Later"})).await.ok();
        assert_eq!(client.get("/v1/items/unwaited").await.ok()["title"], "Soon");
    });
}
