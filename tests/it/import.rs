//! Does what one server gave another take, and does an import that was interrupted go on?

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use upnext::security::{RateLimit, Scope};

use crate::export::{export, filled, pictures, rows};
use crate::support::command::{at, at_with, done, failed, upnext};
use crate::support::world::click;
use crate::support::{Server, Setup, list, run};

fn import_words(what: &str, file: &Path, more: &[String]) -> Vec<String> {
    let words = ["import", what, &file.display().to_string()].map(str::to_owned);
    words.into_iter().chain(more.iter().cloned()).collect()
}

fn import(server: &Server, what: &str, file: &Path, more: &[&str]) -> String {
    let more: Vec<String> = at(server).into_iter().chain(more.iter().map(ToString::to_string)).collect();
    done(import_words(what, file, &more))
}

/// All events of a server, without their places in the log.
fn events(server: &Server) -> Vec<Value> {
    let body = run(async { server.client().get("/v1/events/export").await.body });
    let mut events = rows(&body);
    for event in &mut events {
        event.as_object_mut().unwrap().remove("sequence");
    }
    events
}

#[test]
fn what_one_server_exports_another_imports() {
    let (server, dir) = (filled(), tempfile::tempdir().unwrap());
    let folder = pictures(&dir);
    let items = run(async { server.client().get("/v1/items/export").await.body });
    for ending in ["ndjson", "csv"] {
        let file = |what: &str| dir.path().join(format!("{what}.{ending}"));
        export(&server, "items", &file("items"), &[]);
        export(&server, "events", &file("events"), &[]);
        let other = Setup::default().with("security.user_secret=a secret that two servers share").start();
        let images = ["--images", &folder.display().to_string(), "--image-name", "{item_id}-0.jpg,{item_id}-1.jpg"];
        let said = import(&other, "items", &file("items"), &images);
        assert!(said.starts_with("items: 7 rows, 7 stored, 0 failed, 4 pictures, 5 items sent without"), "{said}");
        let said = import(&other, "events", &file("events"), &[]);
        assert!(said.starts_with("events: 40 rows, 40 stored, 0 failed, 0 duplicates, 0 of unknown items"), "{said}");
        assert_eq!(run(async { other.client().get("/v1/items/export").await.body }), items, "{ending}");
        assert_eq!(events(&other), events(&server), "{ending}");
        // What was known of a person is known again, by the id that their client uses.
        run(async {
            let mut event = click("s-9", "x", other.now());
            event["user_id"] = json!("user 1");
            other.client().tell(&[event]).await;
        });
        let told = events(&other);
        assert_eq!(told[40]["user_key"], told[1]["user_key"]);
        let said = import(&other, "events", &file("events"), &[]);
        assert!(said.contains(" 0 stored, 0 failed, 40 duplicates"), "{said}");
    }
}

#[test]
fn only_administrators_may_name_pseudonyms() {
    let server = Setup::default().start();
    let key = server.new_key(&[Scope::Ingest], None);
    let server = server.restart();
    let pseudonym = "5bdcc146bf60754e6a042426089575c7";
    let named = |name: &str, value: &str| {
        let mut event = click("s", "x", server.now());
        event[name] = json!(value);
        event
    };
    run(async {
        let (ingest, admin) = (server.client_with(Some(&key)), server.client());
        let body = json!({"events": [named("user_id", "alice"), named("user_key", pseudonym)]});
        assert_eq!(ingest.post("/v1/events", &body).await.problem(), (403, "user_key_needs_admin".into()));
        assert!(admin.get("/v1/events/export").await.body.is_empty(), "nothing of a refused request is stored");
        let told = admin.post("/v1/events", &body).await.ok();
        assert_eq!(told["accepted"], 2);
        let garbage = json!({"events": [named("user_key", "alice"), named("user_id", "alice")]});
        let answer = admin.post("/v1/events", &garbage).await.ok();
        assert_eq!(answer["results"][0]["error"]["errors"][0]["field"], "events[0].user_key", "{answer}");
        assert_eq!(list(&answer["results"])[1]["status"], "stored");
    });
    assert_eq!(events(&server)[1]["user_key"], pseudonym);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    std::fs::write(&file, named("user_key", pseudonym).to_string()).unwrap();
    let complaint = failed(import_words("events", &file, &at_with(&server, &key)));
    assert!(complaint.contains("403 Forbidden: `user_key` takes a key with the scope admin"), "{complaint}");
}

/// Viewers without sessions, some of whom go on for long: where a session begins depends on the rows before.
fn history(file: &Path, count: u32) {
    let mut text = String::from("user_id,item_id,occurred_at,value\n");
    for n in 0..count {
        // Two rows that cannot be used, one of them late.
        let value = if n == 10 || n == count - 10 { "much" } else { "4.5" };
        let at = 1_700_000_000 + u64::from(n) * 7 + u64::from(n / 3_000) * 4_000;
        text.push_str(&format!("viewer {},item {},{at},{value}\n", n % 17, n % 50));
    }
    std::fs::write(file, text).unwrap();
}

#[test]
fn an_interrupted_import_goes_on_where_it_stopped() {
    const ROWS: u32 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (file, report, progress) = (path("history.csv"), path("report.jsonl"), path("report.jsonl.progress"));
    history(&file, ROWS);
    std::fs::write(path("secret"), "sixteen bytes at least").unwrap();
    let options = |report: &Path| {
        let words = ["--type", "rate", "--id-secret-file", &path("secret").display().to_string()].map(str::to_owned);
        words.into_iter().chain(["--report".to_owned(), report.display().to_string()]).collect::<Vec<_>>()
    };
    let resumed = |target: Vec<String>| {
        let more: Vec<String> = target.into_iter().chain(options(&report)).chain(["--resume".to_owned()]).collect();
        import_words("events", &file, &more)
    };

    // A key that may send three batches at once and one a second from then on.
    let server = Setup::default().start();
    let slow = server.new_key(&[Scope::Ingest], RateLimit::new(1, 3));
    let server = server.restart();
    let mut words = upnext(resumed(at_with(&server, &slow)));
    let child = words.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stopped_at = || -> Option<Value> { serde_json::from_slice(&std::fs::read(&progress).ok()?).ok() };
    for _ in 0..3_000 {
        if stopped_at().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{complained}");
    assert!(complained.contains("interrupted"), "{complained}");
    let stopped = stopped_at().unwrap();
    let rows_done = stopped["rows"].as_u64().unwrap();
    assert!((1_000..u64::from(ROWS)).contains(&rows_done) && rows_done.is_multiple_of(1_000), "{stopped}");
    assert!(said.starts_with(&format!("events: {rows_done} rows, {} stored, 1 failed", rows_done - 1)), "{said}");

    // Another file, other options, another server: not what was interrupted.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [whole.as_slice(), b"viewer 1,item 1,1700000000,3\n"].concat()).unwrap();
    assert!(failed(resumed(at(&server))).contains("the file has changed since the import was interrupted"));
    let cut = whole.iter().rposition(|&byte| byte == b',').unwrap();
    let longer_row = [&whole[..900], b"0", &whole[900..cut], &whole[cut + 1..]].concat();
    assert_eq!(longer_row.len(), whole.len());
    std::fs::write(&file, longer_row).unwrap();
    assert!(failed(resumed(at(&server))).contains("the file has changed since the import was interrupted"));
    std::fs::write(&file, &whole).unwrap();
    let again = failed(resumed(at(&server)).into_iter().chain(["--session-gap-s".to_owned(), "60".to_owned()]));
    assert!(again.contains("begun with another target or other columns and options"), "{again}");
    assert_eq!(stopped_at().unwrap(), stopped);

    let said = done(resumed(at(&server)));
    let count = |what: &str| -> u64 {
        let before = said.split(what).next().unwrap();
        before.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!((count("rows,"), count("failed,")), (u64::from(ROWS), 2), "{said}");
    // At most the batch that was on its way came twice.
    assert!(count("stored,") + count("duplicates,") == u64::from(ROWS) - 2 && count("duplicates,") <= 1_000, "{said}");
    assert!(!progress.exists());
    let reported: Vec<u64> =
        rows(&std::fs::read_to_string(&report).unwrap()).iter().map(|row| row["row"].as_u64().unwrap()).collect();
    assert_eq!(reported, [11, u64::from(ROWS) - 9]);

    // The same as without an interruption, sessions and all.
    let other = Setup::default().with("security.user_secret=a secret that two servers share").start();
    let more: Vec<String> = at(&other).into_iter().chain(options(&path("other.jsonl"))).collect();
    let said = done(import_words("events", &file, &more));
    assert!(said.contains("11998 stored, 2 failed, 0 duplicates"), "{said}");
    let without_users = |mut events: Vec<Value>| {
        for event in &mut events {
            event.as_object_mut().unwrap().remove("user_key");
        }
        events
    };
    assert!(without_users(events(&server)) == without_users(events(&other)), "the logs differ");
}
