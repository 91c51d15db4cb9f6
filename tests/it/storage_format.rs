//! Are the files of earlier versions still read? Data folders that each version left are kept in `tests/fixtures/storage`.
//!
//! A new format gets a new folder: `UPNEXT_KEEP_FIXTURE=tests/fixtures/storage/format-N cargo test --test it storage_format`
//! leaves one of the present version.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::world::click;
use crate::support::{Server, Setup, Stopped, World, list, number, run, text};

/// The files of a data folder that a later version has to read, beside its checkpoints.
const FILES: [&str; 5] = ["upnext.redb", "user-keys", "sealing-keys", "user-secret", "receipt-key"];

/// What has to be found in every folder.
fn check(server: &Server) {
    run(async {
        let client = server.client();
        let items = client.get("/v1/items?limit=100").await.ok();
        assert_eq!(list(&items["items"]).len(), 6);
        let pictured = client.get("/v1/items/pictured").await.ok();
        assert_eq!((text(&pictured["title"]), list(&pictured["images"]).len()), ("With a picture", 1));
        assert_eq!(client.get("/v1/items/pictured/images/0").await.status, 200);
        assert_eq!(client.get("/v1/items/deleted").await.status, 404);
        let picture = World::get().pictures[0][0].clone();
        let found = client.post_bytes("/v1/search", "image/jpeg", picture).await.ok();
        assert_eq!(text(&list(&found["items"])[0]["item_id"]), "pictured", "its embedding is there");

        let all = client.get("/v1/events/export").await;
        assert_eq!(all.body.lines().count(), 30, "{}", all.body);
        let of = |user: &'static str| {
            let client = client.clone();
            async move {
                let export = client.get(&format!("/v1/users/{user}/export")).await.body;
                export.lines().filter(|line| line.contains("\"kind\":\"event\"")).count()
            }
        };
        assert_eq!((of("user-0").await, of("user-1").await, of("erased").await), (10, 10, 0));
        let again =
            json!({"events": [{"event_id": "event-3", "type": "click", "session_id": "s", "item_id": "plain-0"}]});
        assert_eq!(client.post("/v1/events", &again).await.ok()["results"][0]["status"], "duplicate");
        let lists = client.recommend(&json!({"session_id": "s-0", "item_id": "plain-1", "explain": true})).await;
        let items = list(&lists["horizons"][0]["items"]);
        let learned = items.iter().any(|item| item["reasons"]["transition"].as_f64().is_some_and(|part| part != 0.0));
        assert!(learned, "what people did is known: {lists}");
    });
}

/// Starts on a folder from its checkpoint, and from its log alone.
fn check_starts(stopped: Stopped) {
    let dir = stopped.settings.data_dir.clone();
    let server = stopped.start();
    let found = server.recovered();
    assert!(found.skipped == 0 && found.checkpoint > 0 && found.events == 0, "{found:?}");
    check(&server);
    let stopped = server.stop();
    fs::remove_dir_all(dir.join("checkpoints")).unwrap();
    let server = stopped.start();
    let found = server.recovered();
    assert_eq!((found.checkpoint, found.events, found.erased, found.skipped), (0, 30, 5, 0));
    check(&server);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn folders_of_every_version_are_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/storage");
    let mut versions = 0;
    for entry in fs::read_dir(fixtures).unwrap() {
        let fixture = entry.unwrap().path();
        versions += 1;
        let fresh = Setup::default().start().stop();
        let dir = fresh.settings.data_dir.clone();
        for left in FILES {
            fs::remove_file(dir.join(left)).unwrap();
        }
        fs::remove_dir_all(dir.join("checkpoints")).unwrap();
        copy(&fixture, &dir);
        check_starts(fresh);
    }
    assert!(versions >= 1, "there is no fixture");
}

#[test]
fn a_folder_of_this_version_is_read() {
    let server = Setup::default().with("store.cache_bytes=1048576").start();
    run(fill(&server));
    check(&server);
    let stopped = server.stop();
    if let Some(to) = std::env::var_os("UPNEXT_KEEP_FIXTURE") {
        let (dir, to) = (&stopped.settings.data_dir, Path::new(&to));
        copy(&dir.join("checkpoints"), &to.join("checkpoints"));
        for file in FILES {
            fs::copy(dir.join(file), to.join(file)).unwrap();
        }
    }
    check_starts(stopped);
}

/// Puts in what [`check`] finds.
async fn fill(server: &Server) {
    let client = server.client();
    for n in 0..5 {
        let item = json!({"title": format!("Plain {n}"), "tags": ["sea", "night"]});
        client.put(&format!("/v1/items/plain-{n}"), &item).await.ok();
    }
    let picture = crate::support::world::base64(&World::get().pictures[0][0]);
    let pictured = json!({"title": "With a picture", "images_base64": [picture]});
    client.put("/v1/items/pictured", &pictured).await.ok();
    client.put("/v1/items/deleted", &json!({"title": "Gone"})).await.ok();
    assert_eq!(client.delete("/v1/items/deleted").await.status, 204);
    let event = |n: usize| {
        let user = if n >= 30 { "erased".to_owned() } else { format!("user-{}", n % 3) };
        let item = format!("plain-{}", n / 3 % 5);
        let mut event = click(&format!("s-{user}"), &item, server.now().plus_seconds(n as f64 * 4.0 - 600.0));
        (event["event_id"], event["user_id"]) = (json!(format!("event-{n}")), json!(user));
        event["region"] = json!("de");
        event
    };
    client.tell(&(0..35).map(event).collect::<Vec<_>>()).await;
    assert_eq!(number(&client.delete("/v1/users/erased").await.ok()["events"]), 5.0);
}
