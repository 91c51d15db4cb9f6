//! What people do changes the next answer: at once, once, and only where it should.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::world::{base64, click, rfc3339};
use crate::support::{Client, Server, Setup, all_ids, ids, list, number, probabilities, run, text};

/// Items without pictures, `item-0` to `item-9`.
///
/// Each was turned to a few times, so that none is new to the audience.
async fn with_items(server: &Server) -> Client {
    let client = with_new_items(server).await;
    let old = |n: u32| {
        let at = server.now().plus_seconds(-7_200.0 - 60.0 * f64::from(n));
        click(&format!("past-{n}"), &format!("item-{}", n % 10), at)
    };
    client.tell(&(0..40).map(old).collect::<Vec<Value>>()).await;
    client
}

/// The same, of which nobody has heard yet.
async fn with_new_items(server: &Server) -> Client {
    let client = server.client();
    let lines: String = (0..10).map(|n| json!({"item_id": format!("item-{n}")}).to_string() + "\n").collect();
    client.post_bytes("/v1/items/batch", "application/x-ndjson", lines).await.ok();
    client
}

fn probability_of(answer: &Value, horizon: usize, item: &str) -> f64 {
    let items = list(&answer["horizons"][horizon]["items"]);
    number(&items.iter().find(|i| i["item_id"] == item).unwrap_or_else(|| panic!("no {item}"))["probability"])
}

#[test]
fn what_others_did_next_comes_first() {
    let server = Setup::default().start();
    run(async {
        let client = with_items(&server).await;
        let now = server.now();
        let mut events = Vec::new();
        for viewer in 0..30 {
            let (session, from) = (format!("viewer-{viewer}"), now.plus_seconds(-600.0 - 10.0 * f64::from(viewer)));
            events.push(click(&session, "item-1", from));
            events.push(click(&session, "item-2", from.plus_seconds(8.0)));
            // More popular than either, but it follows on nothing.
            events.push(click(&format!("other-{viewer}"), "item-7", from));
            events.push(click(&format!("another-{viewer}"), "item-7", from));
        }
        events.push(click("me", "item-1", now.plus_seconds(-1.0)));
        events.push(click("you", "item-5", now.plus_seconds(-1.0)));
        let told = client.tell(&events).await;
        assert_eq!(told["accepted"], events.len());
        let ask =
            async |session: &str| client.recommend(&json!({"session_id": session, "explain": true, "count": 9})).await;
        let (mine, yours) = (ask("me").await, ask("you").await);
        for horizon in list(&mine["horizons"]) {
            let first = &horizon["items"][0];
            assert_eq!(first["item_id"], "item-2", "{horizon}");
            assert!(number(&first["reasons"]["transition"]) > 0.0, "{first}");
        }
        let used = mine["sources_used"].to_string();
        assert!(used.contains("transition") && used.contains("session") && used.contains("co_visitation"), "{used}");
        assert_ne!(ids(&yours["horizons"][0]["items"])[0], "item-2");
        assert!(probability_of(&mine, 0, "item-2") > probability_of(&yours, 0, "item-2"));
        // The item on screen leads on even when the session has no events.
        let watching = client.recommend(&json!({"item_id": "item-1", "count": 9})).await;
        assert_eq!(ids(&watching["horizons"][0]["items"])[0], "item-2");
    });
}

#[test]
fn what_everybody_turns_to_now_rises_for_everybody() {
    let server = Setup::default().start();
    run(async {
        let client = with_items(&server).await;
        let before = client.recommend(&json!({"count": 10})).await;
        let events: Vec<Value> =
            (0..40).map(|n| click(&format!("fan-{n}"), "item-9", server.now().plus_seconds(-f64::from(n)))).collect();
        client.tell(&events).await;
        let after = client.recommend(&json!({"count": 10, "explain": true})).await;
        for horizon in list(&after["horizons"]) {
            assert_eq!(horizon["items"][0]["item_id"], "item-9");
        }
        assert!(probability_of(&after, 0, "item-9") > probability_of(&before, 0, "item-9"));
        // Impressions are not engagement: nobody turned to it.
        let shown: Vec<Value> = (0..80)
            .map(|n| json!({"type": "impression", "session_id": format!("shown-{n}"), "item_id": "item-3"}))
            .collect();
        client.tell(&shown).await;
        let answer = client.recommend(&json!({"count": 10})).await;
        assert_eq!(probability_of(&answer, 0, "item-3"), probability_of(&after, 0, "item-3"));
    });
}

#[test]
fn the_same_event_counts_once() {
    let server = Setup::default().start();
    run(async {
        let client = with_new_items(&server).await;
        let event = |n: i32, item: &str| {
            let mut event = click(&format!("s-{}", n % 5), item, server.now().plus_seconds(f64::from(n) - 100.0));
            event["event_id"] = json!(format!("event-{n}"));
            event
        };
        let events: Vec<Value> = (0..20).map(|n| event(n, &format!("item-{}", n % 4))).collect();
        let first = client.tell(&events).await;
        assert!(list(&first["results"]).iter().all(|row| row["status"] == "stored"), "{first}");
        let question = json!({"session_id": "s-1", "count": 9, "explain": true});
        let before = client.recommend(&question).await;
        let again = client.tell(&events).await;
        assert!(list(&again["results"]).iter().all(|row| row["status"] == "duplicate"), "{again}");
        assert_eq!(again["accepted"], 20);
        // The same id decides, whatever else is in the event; and twice in one request is twice as well.
        let other = client.tell(&[event(3, "item-8"), event(99, "item-8"), event(99, "item-8")]).await;
        let status: Vec<&str> = list(&other["results"]).iter().map(|row| text(&row["status"])).collect();
        assert_eq!(status, ["duplicate", "stored", "duplicate"]);
        let after = client.recommend(&json!({"session_id": "s-1", "count": 9, "exclude": ["item-8"]})).await;
        let without = |answer: &Value| -> Vec<(u64, String)> {
            probabilities(answer).into_iter().filter(|(_, id, _)| id != "item-8").map(|(h, id, _)| (h, id)).collect()
        };
        assert_eq!(without(&after), without(&before));
        let known = client.get("/v1/sessions/s-1").await.ok();
        assert_eq!(list(&known["items"]).len(), 4, "{known}");
        assert_eq!(client.metric("upnext_events_total{outcome=\"duplicate\"}").await, 22.0);
        assert_eq!(client.metric("upnext_events_total{outcome=\"accepted\"}").await, 21.0);
    });
}

#[test]
fn answers_do_not_change_when_nothing_happens() {
    let server = Setup::default().start();
    run(async {
        let client = with_items(&server).await;
        let events: Vec<Value> = (0..12)
            .map(|n| {
                click(
                    &format!("s-{}", n % 3),
                    &format!("item-{}", n % 5),
                    server.now().plus_seconds(f64::from(n) - 60.0),
                )
            })
            .collect();
        client.tell(&events).await;
        let question = json!({"session_id": "s-0", "count": 9, "explain": true});
        let first = client.recommend(&question).await;
        client.tell(&[json!({"type": "impression", "session_id": "s-9", "item_id": "item-0"})]).await;
        let second = client.recommend(&question).await;
        assert_eq!(first["horizons"], second["horizons"]);
        assert_ne!(first["recommendation_id"], second["recommendation_id"]);
    });
}

#[test]
fn events_may_come_before_their_item() {
    let server = Setup::default().start();
    run(async {
        let client = with_items(&server).await;
        let now = server.now();
        let mut events = Vec::new();
        for viewer in 0..20 {
            let (session, from) = (format!("viewer-{viewer}"), now.plus_seconds(-300.0));
            events.push(click(&session, "item-1", from));
            events.push(click(&session, "later", from.plus_seconds(5.0)));
        }
        let told = client.tell(&events).await;
        let known: Vec<bool> = list(&told["results"]).iter().map(|row| row["known_item"].as_bool().unwrap()).collect();
        assert_eq!(known[..4], [true, false, true, false]);
        let question = json!({"item_id": "item-1", "count": 10});
        assert!(!all_ids(&client.recommend(&question).await).contains(&"later"));
        client.put("/v1/items/later", &json!({"title": "Here at last"})).await.ok();
        assert_eq!(ids(&client.recommend(&question).await["horizons"][0]["items"])[0], "later");
        let mut known = client.tell(&[click("x", "later", now)]).await;
        assert_eq!(known["results"][0].take()["known_item"], true);
    });
}

#[test]
fn every_event_is_judged_on_its_own() {
    let server = Setup::default().start();
    run(async {
        let client = with_items(&server).await;
        let now = server.now();
        let mut future = click("s", "item-3", now.plus_seconds(3_600.0));
        future["event_id"] = json!("from-the-future");
        let told = client
            .tell(&[
                click("s", "item-1", now),
                json!({"type": "clik", "session_id": "s", "item_id": "item-2"}),
                json!({"type": "click", "item_id": "item-2"}),
                json!("click"),
                future,
                json!({"type": "rate", "session_id": "s", "item_id": "item-4", "value": 4.5, "user_id": "u",
                    "watched_s": 12, "position_s": 3, "region": "de", "occurred_at": rfc3339(now)}),
                json!({"type": "progress", "session_id": "s", "item_id": "item-4", "watched_s": -1}),
            ])
            .await;
        assert_eq!((&told["accepted"], &told["failed"]), (&json!(2), &json!(5)));
        let results = list(&told["results"]);
        let status: Vec<&str> = results.iter().map(|row| text(&row["status"])).collect();
        assert_eq!(status, ["stored", "failed", "failed", "failed", "failed", "stored", "failed"]);
        for (row, field) in [
            (1, "events[1].type"),
            (2, "events[2].session_id"),
            (3, "events[3]"),
            (4, "events[4].occurred_at"),
            (6, "events[6].watched_s"),
        ] {
            let error = &results[row]["error"];
            assert_eq!(
                (&error["code"], &error["errors"][0]["field"]),
                (&json!("invalid_value"), &json!(field)),
                "{error}"
            );
        }
        let items = client.get("/v1/sessions/s").await.ok()["items"].clone();
        assert_eq!(ids(&items), ["item-1", "item-4"]);
        // Not one good event is a bad request.
        let none = client.post("/v1/events", &json!({"events": [{"type": "click"}, 7]})).await;
        assert_eq!(none.problem(), (422, "invalid_value".into()));
        let fields: Vec<String> = list(&none.json()["errors"]).iter().map(|e| text(&e["field"]).to_owned()).collect();
        assert_eq!(fields, ["events[0].session_id", "events[1]"]);
        let empty = client.post("/v1/events", &json!({"events": []})).await;
        assert_eq!(empty.json()["errors"][0]["field"], "events");
    });
}

#[test]
fn a_session_is_known_until_it_is_ended() {
    let server = Setup::default().start();
    run(async {
        let client = with_items(&server).await;
        client
            .tell(&[click("s", "item-1", server.now().plus_seconds(-30.0)), click("s", "item-2", server.now())])
            .await;
        let known = client.get("/v1/sessions/s").await.ok();
        assert_eq!((&known["session_id"], &known["frames"]), (&json!("s"), &json!(0)));
        assert_eq!(known["last_seen"], rfc3339(server.now()));
        assert_eq!(ids(&known["items"]), ["item-1", "item-2"]);
        assert_eq!(client.delete("/v1/sessions/s").await.status, 204);
        assert_eq!(client.get("/v1/sessions/s").await.problem(), (404, "session_not_found".into()));
        assert_eq!(client.delete("/v1/sessions/s").await.problem(), (404, "session_not_found".into()));
    });
}

#[test]
fn tastes_are_learned_in_the_background_and_reach_new_items_by_their_looks() {
    // The weights decide how much tastes count beside the rest; here they count much, whatever the shipped ones say.
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/ranking.toml")).unwrap();
    let weigh = |line: &str| match (line.split(' ').next(), line.rsplit_once("weight = ")) {
        (Some("preference_score"), Some((before, _))) => format!("{before}weight = [0.5, 0.5, 0.5] }}\n"),
        (Some("preference_relative"), Some((before, _))) => format!("{before}weight = [0.0, 0.0, 0.0] }}\n"),
        _ => format!("{line}\n"),
    };
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("ranking.toml");
    std::fs::write(&weights, shipped.lines().map(weigh).collect::<String>()).unwrap();
    let server = Setup::default()
        .with(format!("ranking.weights={}", weights.display()))
        .with("collab.preference.dims=8")
        .with("collab.preference.min_engagements=200")
        .with("collab.preference.regularisation=0.1")
        .start();
    run(async {
        let (client, world) = (server.client(), World::get());
        // Two kinds of items, each with pictures of its own kind: the last ones of both nobody has turned to.
        let put = async |name: String, kind: usize, at_s: f64| {
            let picture = base64(&world.frame(kind, at_s));
            let item = json!({"title": name, "images_base64": [picture]});
            client.put(&format!("/v1/items/{name}"), &item).await.ok();
        };
        let kinds = [("a", 0), ("b", 1)];
        for (kind, artwork) in kinds {
            for n in 0..10 {
                put(format!("{kind}-{n}"), artwork, 3.0 + 2.0 * f64::from(n)).await;
            }
        }
        let mut events = Vec::new();
        for viewer in 0..40 {
            let kind = kinds[viewer % 2].0;
            for n in 0..7 {
                let at = server.now().plus_seconds(-90_000.0 - 600.0 * viewer as f64 - 60.0 * f64::from(n));
                let item = format!("{kind}-{}", (viewer / 2 + n as usize * 2) % 9);
                let mut event = click(&format!("session-{viewer}"), &item, at);
                event["type"] = json!("play");
                event["user_id"] = json!(format!("viewer-{viewer}"));
                events.push(event);
            }
        }
        client.tell(&events).await;
        let question = |viewer: usize| json!({"user_id": format!("viewer-{viewer}"), "count": 20});
        let mut answer = client.recommend(&question(0)).await;
        for _ in 0..600 {
            if answer["sources_used"].to_string().contains("preference") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            answer = client.recommend(&question(0)).await;
        }
        assert!(answer["sources_used"].to_string().contains("preference"), "{answer}");
        assert_eq!(client.metric("upnext_preference_items").await, 20.0);
        // What nobody has turned to yet; popularity and co-visitation know nothing of it.
        let mut right = 0;
        for viewer in 0..10 {
            let answer = client.recommend(&question(viewer)).await;
            let (own, other) = if viewer % 2 == 0 { ("a-9", "b-9") } else { ("b-9", "a-9") };
            right += usize::from(probability_of(&answer, 0, own) > probability_of(&answer, 0, other));
        }
        assert!(right >= 9, "{right} of 10");
        // Whoever is unknown has no taste, and nothing is made up.
        let nobody = client.recommend(&json!({"count": 5})).await;
        assert!(!nobody["sources_used"].to_string().contains("preference"), "{nobody}");
    });
    // What was guessed stays at a start, and is not guessed anew; only what comes then is new.
    let server = server.restart();
    run(async {
        let client = server.client();
        let answer = client.recommend(&json!({"user_id": "viewer-0", "count": 20})).await;
        assert!(answer["sources_used"].to_string().contains("preference"), "{answer}");
        let item = json!({"title": "a-10", "images_base64": [base64(&World::get().frame(0, 29.0))]});
        client.put("/v1/items/a-10", &item).await.ok();
        let added = async || client.metric("upnext_preference_added_items").await;
        while added().await < 1.0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(added().await, 1.0);
    });
}
