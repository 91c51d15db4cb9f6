//! A person can be forgotten, and told what is known of them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use upnext::security::ReceiptKey;
use upnext::store::Snapshots;

use crate::support::command::upnext;
use crate::support::world::{click, rfc3339};
use crate::support::{Answer, Client, Server, Setup, World, list, number, run, text};

const PERSON: &str = "somebody@example.org";

/// Lists and sessions, without what differs from one answer to the next.
async fn answers(client: &Client, world: &World) -> Vec<Value> {
    let mut all = Vec::new();
    for question in [
        json!({}),
        json!({"item_id": world.id(2)}),
        // Not an item for which two others tie: which comes first would hang on a rounding.
        json!({"context": {"region": "xx"}}),
        json!({"session_id": "s-3"}),
        json!({"session_id": "s-4", "exclude_seen": true, "context": {"region": "de"}}),
    ] {
        let mut asked = question;
        (asked["explain"], asked["count"]) = (json!(true), json!(24));
        let answer = client.recommend(&asked).await;
        for horizon in list(&answer["horizons"]) {
            // By id: what differs by a rounding may change places.
            let items = list(&horizon["items"]).iter();
            let by_id: serde_json::Map<String, Value> = items
                .map(|item| (text(&item["item_id"]).to_owned(), json!([item["probability"], item["reasons"]])))
                .collect();
            all.push(Value::Object(by_id));
        }
        all.push(answer["sources_used"].clone());
    }
    all.push(client.get("/v1/sessions/s-3").await.ok()["items"].clone());
    all
}

/// Like, not equal: what is taken back leaves roundings.
fn alike(place: &str, a: &Value, b: &Value) {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            a.iter().zip(b).enumerate().for_each(|(n, (a, b))| alike(&format!("{place}[{n}]"), a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{place}");
            a.iter().for_each(|(name, value)| alike(&format!("{place}.{name}"), value, &b[name]));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 2e-3 * b.abs().max(0.05), "{place}: {a} and {b}");
        }
        (a, b) => assert_eq!(a, b, "{place}"),
    }
}

fn views(world: &World, now: upnext::domain::Timestamp) -> Vec<Value> {
    let mut events = Vec::new();
    for viewer in 0..10_u32 {
        for step in 0..6_u32 {
            let item = world.id(((viewer * 5 + step * (1 + viewer % 3)) % 24) as usize);
            let at = now.plus_seconds(-2000.0 + f64::from(viewer * 120) + f64::from(step * (7 + viewer)));
            let mut event = click(&format!("s-{viewer}"), item, at);
            event["user_id"] = json!(format!("user-{viewer}"));
            event["region"] = json!(if viewer % 2 == 0 { "de" } else { "fr" });
            events.push(event);
        }
    }
    events
}

/// What the person did, in three sessions, one of which says only once whose it is.
fn past(world: &World, now: upnext::domain::Timestamp) -> Vec<Value> {
    let mut events = Vec::new();
    for session in 0..3_u32 {
        for step in 0..9_u32 {
            let item = world.id(((session * 7 + step * 5) % 24) as usize);
            // Before the others: what stays is when an item was last touched, if others touched it too.
            let at = now.plus_seconds(-3400.0 + f64::from(session * 300 + step * 11));
            let mut event = click(&format!("private-session-{session}"), item, at);
            event["event_id"] = json!(format!("private-event-{session}-{step}"));
            event["region"] = json!("xx");
            if session < 2 || step == 0 {
                event["user_id"] = json!(PERSON);
            }
            events.push(event);
        }
    }
    events
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind(lines: &[Value], kind: &str) -> usize {
    lines.iter().filter(|line| line["kind"] == kind).count()
}

/// Every file below `dir`, with its name.
fn raw_bytes(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(raw_bytes(&path));
        } else {
            all.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    all
}

fn assert_nothing_readable(server: &Server, pseudonym: &str) {
    let key: Vec<u8> = (0..16).map(|n| u8::from_str_radix(&pseudonym[2 * n..2 * n + 2], 16).unwrap()).collect();
    let secrets: [&[u8]; 6] =
        [PERSON.as_bytes(), b"somebody", b"private-session", b"private-event", pseudonym.as_bytes(), &key];
    for (file, bytes) in raw_bytes(server.data_dir()) {
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{file} holds {:?}", String::from_utf8_lossy(secret));
        }
    }
}

fn path(user: &str) -> String {
    format!("/v1/users/{}", user.replace('@', "%40"))
}

#[test]
fn a_person_is_forgotten_everywhere_and_stays_forgotten() {
    let world = World::get();
    let server = Setup::default().start();
    let without = Setup::default().start();
    without.set_time(server.now());
    let (others, theirs) = (views(world, server.now()), past(world, server.now()));
    run(async {
        world.load(&server).await;
        world.load(&without).await;
        let client = server.client();
        // In between the others', as life is.
        client.tell(&others[..30]).await;
        client.tell(&theirs).await;
        client.tell(&others[30..]).await;
        without.client().tell(&others).await;
    });
    let pseudonym = run(async {
        let client = server.client();
        let export = lines(&client.get(&format!("{}/export", path(PERSON))).await);
        assert_eq!((of_kind(&export, "user"), of_kind(&export, "session"), of_kind(&export, "event")), (1, 3, 27));
        assert_eq!((text(&export[0]["user_id"]), number(&export[0]["events"])), (PERSON, 27.0));
        assert!(export.iter().any(|line| line["event_id"] == "private-event-2-8"), "the session's person was known");
        client.post("/v1/admin/snapshots", &json!({"name": "before"})).await.ok();
        let different = answers(&client, world).await != answers(&without.client(), world).await;
        assert!(different, "what they did shows");

        let erased = client.delete(&path(PERSON)).await.ok();
        assert_eq!((number(&erased["events"]), number(&erased["sessions"])), (27.0, 3.0), "{erased}");
        assert_eq!(erased["known"], true);
        let key = ReceiptKey::from_jwk(&client.get("/v1/admin/receipt-key").await.ok()).unwrap();
        let certified = key.verify(text(&erased["receipt"])).unwrap();
        for field in ["erasure_id", "user_key", "events", "sessions", "erased_at", "log_sequence", "first_event_at"] {
            assert_eq!(certified[field], erased[field], "{field}");
            assert!(!certified[field].is_null(), "{field}");
        }
        assert!(!certified.to_string().contains("somebody"), "a receipt can be shown around");
        text(&erased["user_key"]).to_owned()
    });
    let check = |server: &Server, when: &str| {
        run(async {
            let client = server.client();
            let export = lines(&client.get(&format!("{}/export", path(PERSON))).await);
            assert_eq!((export.len(), number(&export[0]["events"])), (1, 0.0), "{when}");
            assert_eq!(client.get("/v1/sessions/private-session-0").await.status, 404, "{when}");
            let after = answers(&client, world).await;
            alike(when, &json!(after), &json!(answers(&without.client(), world).await));
        });
    };
    check(&server, "after the erasure");
    assert_nothing_readable(&server, &pseudonym);
    run(async {
        let client = server.client();
        let again = client.delete(&path(PERSON)).await.ok();
        assert_eq!((&again["known"], number(&again["events"])), (&json!(false), 0.0), "nothing is left to erase");
        // A copy of the log that somebody sends again, as a retry would, brings nobody back.
        let told = client.tell(&theirs[..9]).await;
        assert!(list(&told["results"]).iter().all(|row| row["status"] == "duplicate"), "{told}");
    });
    check(&server, "after a retry");
    // It made them known again, as nobody of whom there is anything to tell.
    run(async { assert_eq!(number(&server.client().delete(&path(PERSON)).await.ok()["events"]), 0.0) });

    let server = server.restart();
    check(&server, "after a restart");
    assert_nothing_readable(&server, &pseudonym);

    // The snapshot is from before.
    let stopped = server.stop();
    let keys = upnext::app::sealing_keys(&stopped.settings).unwrap();
    let restored = Snapshots::in_dir(&stopped.settings.data_dir).restore("before", &keys).unwrap();
    assert_eq!(restored.erased, 27);
    let server = stopped.start();
    assert_eq!(server.recovered().checkpoint, 0);
    check(&server, "after the restore of a snapshot from before");
    assert_nothing_readable(&server, &pseudonym);
    run(async {
        let client = server.client();
        let mut fresh = click("a-new-life", world.id(1), server.now());
        fresh["user_id"] = json!(PERSON);
        client.tell(&[fresh]).await;
        let export = lines(&client.get(&format!("{}/export", path(PERSON))).await);
        assert_eq!(of_kind(&export, "event"), 1, "who comes back begins anew");
        assert_eq!(text(&export[2]["occurred_at"]), rfc3339(server.now()));
    });
}

#[test]
fn no_log_line_and_no_metric_names_a_person() {
    let stopped = Setup::default().start().stop();
    let dir = &stopped.settings.data_dir;
    let log = dir.join("log");
    let mut server = upnext(["--data-dir", dir.to_str().unwrap(), "serve", "--bind", "127.0.0.1:0"])
        .args(["--set", "telemetry.log_filter=trace,h2=info,hyper=info,rustls=info,tower=info"])
        .stdin(std::process::Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let outcome = std::panic::catch_unwind(|| {
        let port = (0..600).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let text = fs::read_to_string(&log).unwrap();
            let (_, after) = text.split_once("://127.0.0.1:")?;
            after.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u16>().ok()
        });
        let trusted = fs::read(&stopped.certificate).unwrap();
        let http = Client::builder(&trusted).build().unwrap();
        let client = Client::new(([127, 0, 0, 1], port.unwrap()).into(), http, Some(&stopped.key));
        run(async {
            while client.get("/readyz").await.status != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            let good = json!({"type": "click", "session_id": "s", "item_id": "i", "user_id": PERSON});
            let bad = json!({"type": "none", "session_id": "s", "item_id": "i", "user_id": PERSON});
            client.tell(&[good]).await;
            client.post("/v1/events", &json!({"events": [bad]})).await;
            client.post("/v1/recommendations", &json!({"session_id": "s", "user_id": PERSON})).await;
            client.get(&format!("/v1/recommendations?session_id=s&user_id={PERSON}&count=none")).await;
            client.get(&format!("{}/export", path(PERSON))).await;
            client.get(&format!("{}/nothing", path(PERSON))).await;
            client.delete(&path(PERSON)).await.ok();
            client.get("/metrics").await.body
        })
    });
    server.kill().unwrap();
    server.wait().unwrap();
    let metrics = outcome.unwrap();
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.lines().count() > 10 && log.contains("route"), "{log}");
    for text in [&log, &metrics] {
        assert!(!text.contains("somebody") && !text.contains("example.org"), "{text}");
    }
}

#[test]
fn whoever_may_not_forget_people_cannot() {
    let server = Setup::default().start();
    let key = server.new_key(&[upnext::security::Scope::Ingest, upnext::security::Scope::Recommend], None);
    // Keys are found at a start.
    let server = server.restart();
    run(async {
        let client = server.client_with(Some(&key));
        assert_eq!(client.delete(&path("anybody")).await.problem().0, 403);
        assert_eq!(client.get(&format!("{}/export", path("anybody"))).await.problem().0, 403);
        assert_eq!(client.post("/v1/admin/snapshots", &json!({})).await.problem().0, 403);
    });
}
