//! What was acknowledged is there after a restart, and nothing is looked at twice.

use serde_json::{Value, json};

use crate::support::world::{base64, click};
use crate::support::{Client, Setup, World, ids, list, probabilities, run};

const INFERENCES: &str = "upnext_stage_seconds_count{stage=\"inference\"}";

/// Everything that can be asked of a server, without what differs from one answer to the next.
async fn everything(client: &Client, world: &World) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for path in ["/v1/items?limit=100", "/v1/sessions/s-0", "/v1/sessions/s-7"] {
        all.push((path.to_owned(), client.get(path).await.ok()));
    }
    for id in [world.id(0), world.id(4)] {
        let found = client.get(&format!("/v1/items/{id}/similar?limit=8")).await.ok();
        all.push((format!("similar to {id}"), found["items"].clone()));
        let thumbnail = client.get(&format!("/v1/items/{id}/images/0")).await;
        all.push((format!("thumbnail of {id}"), json!(base64(&thumbnail.bytes))));
    }
    let words = client.post("/v1/search", &json!({"text": world.item(3).item.title})).await.ok();
    all.push(("words".into(), words["items"].clone()));
    for question in [
        json!({}),
        json!({"session_id": "s-0"}),
        json!({"session_id": "s-7", "exclude_seen": true, "context": {"region": "de"}}),
        json!({"item_id": world.id(2)}),
        json!({"item_id": world.id(4), "position_s": 5, "diversity": 0.4}),
        json!({"filter": {"must": [{"field": "even", "any": [true]}]}}),
    ] {
        let mut asked = question.clone();
        (asked["explain"], asked["count"]) = (json!(true), json!(24));
        let answer = client.recommend(&asked).await;
        all.push((question.to_string(), json!([answer["horizons"], answer["sources_used"], answer["unknown_items"]])));
    }
    all
}

/// Says which question is answered differently, and where.
fn compare(before: &[(String, Value)], after: &[(String, Value)]) {
    assert_eq!(before.len(), after.len());
    for ((question, before), (_, after)) in before.iter().zip(after) {
        compare_values(question, before, after);
    }
}

/// Numbers may differ by a rounding: sums of single-precision numbers depend on their order.
fn compare_values(place: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let entries = before.iter().zip(after).enumerate();
            entries.for_each(|(n, (before, after))| compare_values(&format!("{place}[{n}]"), before, after));
        }
        (Value::Object(before), Value::Object(after)) if before.keys().eq(after.keys()) => {
            // The reasons first: they say more than the probability that they add up to.
            let mut fields: Vec<_> = before.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_str() != "reasons");
            fields.iter().for_each(|(name, value)| compare_values(&format!("{place}.{name}"), value, &after[*name]));
        }
        (Value::Number(before), Value::Number(after)) => {
            let (before, after) = (before.as_f64().unwrap(), after.as_f64().unwrap());
            assert!((before - after).abs() <= 1e-5 * before.abs().max(1e-3), "{place}: {before}, then {after}");
        }
        (before, after) => assert_eq!(before, after, "{place}"),
    }
}

/// Viewers who go from one item to the next, each in their own rhythm.
fn views(world: &World, now: upnext::domain::Timestamp) -> Vec<Value> {
    let mut events = Vec::new();
    for viewer in 0..12_u32 {
        for step in 0..5_u32 {
            let item = world.id(((viewer * 3 + step * (1 + viewer % 2)) % 24) as usize);
            let at = now.plus_seconds(-900.0 + f64::from(viewer * 60) + f64::from(step * (9 + viewer)));
            let mut event = click(&format!("s-{viewer}"), item, at);
            event["user_id"] = json!(format!("user-{}", viewer % 4));
            event["event_id"] = json!(format!("event-{viewer}-{step}"));
            if viewer % 3 == 0 {
                event["region"] = json!("de");
            }
            events.push(event);
        }
    }
    events
}

#[test]
fn everything_that_was_acknowledged_is_there_again() {
    let (server, world) = (Setup::default().start(), World::get());
    let events = views(world, server.now());
    let before = run(async {
        world.load(&server).await;
        let client = server.client();
        client.tell(&events).await;
        client.send_json("PATCH", &format!("/v1/items/{}", world.id(5)), &json!({"title": "Renamed"})).await.ok();
        everything(&client, world).await
    });
    // From a checkpoint, and from the log alone.
    let server = server.restart();
    let found = server.recovered();
    assert_eq!((found.items, found.events, found.skipped, found.not_embedded), (24, 0, 0, 0));
    assert!(found.checkpoint >= 24 + events.len() as u64, "{found:?}");
    run(async { compare(&before, &everything(&server.client(), world).await) });
    let stopped = server.stop();
    std::fs::remove_dir_all(stopped.settings.data_dir.join("checkpoints")).unwrap();
    let server = stopped.start();
    let found = server.recovered();
    assert_eq!((found.items, found.events, found.checkpoint), (24, events.len() as u64, 0));
    assert_eq!((found.skipped, found.not_embedded), (0, 0));
    run(async {
        let client = server.client();
        let after = everything(&client, world).await;
        compare(&before, &after);
        assert_eq!(client.metric(INFERENCES).await, 0.0, "no picture is embedded again");
        // Not even when it is sent again.
        let again = json!({"images_base64": [base64(&world.pictures[0][0])]});
        client.put(&format!("/v1/items/{}", world.id(0)), &again).await.ok();
        assert_eq!(client.metric(INFERENCES).await, 0.0);
        let told = client.tell(&events).await;
        assert!(list(&told["results"]).iter().all(|row| row["status"] == "duplicate"), "events are known by their ids");
    });
}

#[test]
fn a_deletion_survives_a_restart() {
    let (server, world) = (Setup::default().start(), World::get());
    let events = views(world, server.now());
    let before = run(async {
        world.load(&server).await;
        let client = server.client();
        client.tell(&events).await;
        assert_eq!(client.delete(&format!("/v1/items/{}", world.id(6))).await.status, 204);
        everything(&client, world).await
    });
    let server = server.restart();
    run(async {
        let client = server.client();
        assert_eq!(client.get(&format!("/v1/items/{}", world.id(6))).await.status, 404);
        let found = client.post_bytes("/v1/search", "image/jpeg", world.pictures[6][0].clone()).await.ok();
        assert!(!ids(&found["items"]).contains(&world.id(6)));
        let after = everything(&client, world).await;
        compare(&before, &after);
    });
}

#[test]
fn a_saved_index_is_taken_up_but_never_believed_over_the_store() {
    let (server, world) = (Setup::default().start(), World::get());
    let picture = |n: usize| world.pictures[n][0].clone();
    let found = async |client: &Client, n: usize| {
        let answer = client.post_bytes("/v1/search", "image/jpeg", picture(n)).await.ok();
        ids(&answer["items"]).iter().map(|id| (*id).to_owned()).collect::<Vec<String>>()
    };
    let before = run(async {
        world.load(&server).await;
        found(&server.client(), 3).await
    });
    let stopped = server.stop();
    let file = stopped.settings.data_dir.join("index.snapshot");
    let old = std::fs::read(&file).unwrap();
    let server = stopped.start();
    assert!(server.recovered().indexed >= 24);
    run(async {
        let client = server.client();
        assert_eq!(found(&client, 3).await, before);
        assert_eq!(client.delete(&format!("/v1/items/{}", world.id(3))).await.status, 204);
        let other = json!({"images_base64": [base64(&picture(9))]});
        client.put(&format!("/v1/items/{}", world.id(4)), &other).await.ok();
    });
    // The index of the day before, as a crash would leave it.
    let stopped = server.stop();
    std::fs::write(&file, &old).unwrap();
    let server = stopped.start();
    assert!(server.recovered().indexed >= 24, "deleted ones too, at first");
    run(async {
        let client = server.client();
        assert!(!found(&client, 3).await.contains(&world.id(3).to_owned()), "what was deleted stays deleted");
        let alike = found(&client, 9).await;
        assert!(alike[..2].contains(&world.id(4).to_owned()), "what was replaced looks as it does now: {alike:?}");
    });
    // A damaged one is set aside.
    let stopped = server.stop();
    let mut damaged = old;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let server = stopped.start();
    assert_eq!(server.recovered().indexed, 0);
    assert!(file.with_extension("snapshot.damaged").exists());
    run(async {
        let client = server.client();
        assert!(!found(&client, 3).await.contains(&world.id(3).to_owned()));
        assert_eq!(found(&client, 5).await[0], world.id(5));
    });
}

#[test]
fn an_index_is_kept_while_the_server_runs() {
    let (server, world) = (Setup::default().with("store.checkpoint_every_s=0.1").start(), World::get());
    run(world.load(&server));
    let file = server.data_dir().join("index.snapshot");
    let written = std::iter::repeat_with(|| {
        server.set_time(server.now().plus_seconds(1.0));
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::read(&file).ok()
    });
    let as_a_crash_leaves_it = written.take(5_000).flatten().next().expect("the index is kept beside checkpoints");
    let stopped = server.stop();
    std::fs::write(&file, as_a_crash_leaves_it).unwrap();
    let server = stopped.start();
    assert!(server.recovered().indexed > 0, "{:?}", server.recovered());
    run(async {
        for n in [0, 11, 23] {
            let picture = world.pictures[n][0].clone();
            let answer = server.client().post_bytes("/v1/search", "image/jpeg", picture).await.ok();
            assert_eq!(ids(&answer["items"])[0], world.id(n));
        }
    });
    // Vectors of other models, or kept otherwise, are not taken up.
    let server = server.restart_with("index.precision=int8");
    assert_eq!(server.recovered().indexed, 0);
    let server = server.restart();
    assert!(server.recovered().indexed > 0);
}

#[test]
fn restarts_do_not_add_up() {
    let (server, world) = (Setup::default().start(), World::get());
    let question = json!({"session_id": "s-1", "count": 24});
    let before = run(async {
        world.load(&server).await;
        server.client().tell(&views(world, server.now())).await;
        probabilities(&server.client().recommend(&question).await)
    });
    let server = server.restart().restart().restart();
    let after = run(async { probabilities(&server.client().recommend(&question).await) });
    compare_values("after three restarts", &json!(before), &json!(after));
}
