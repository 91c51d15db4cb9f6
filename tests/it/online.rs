//! What comes of its answers teaches the service, while it serves.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::world::{click, rfc3339};
use crate::support::{Client, Server, Setup, ids, list, number, run, text};

/// Learns from everything that happens, and is told when to train.
fn learning() -> Setup {
    Setup::default()
        .with("ranking.learn=true")
        .with("ranking.learning.decisions_per_s=100000")
        .with("ranking.learning.train_decisions=0")
        .with("ranking.learning.candidates=16")
}

/// Items without pictures, `item-0` to `item-19`.
async fn with_items(server: &Server) -> Client {
    let client = server.client();
    let lines: String = (0..20).map(|n| json!({"item_id": format!("item-{n}")}).to_string() + "\n").collect();
    client.post_bytes("/v1/items/batch", "application/x-ndjson", lines).await.ok();
    client
}

/// Waits until the state of learning is as wanted; the learning thread comes round about once a second.
async fn until(client: &Client, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..2_400 {
        let state = client.get("/v1/admin/training").await.ok();
        if wanted(&state) {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came: {}", client.get("/v1/admin/training").await.body);
}

/// An hour ago, viewers came one after the other, and turned from each item to the next one after a few seconds, which
/// is far likelier than the weights that ship would think.
fn past(server: &Server, viewers: u32) -> Vec<Value> {
    let mut events = Vec::new();
    for viewer in 0..viewers {
        let from = server.now().plus_seconds(-7_200.0 + 7.0 * f64::from(viewer));
        for step in 0..2 {
            let item = format!("item-{}", (viewer * 7 + step) % 20);
            let at = from.plus_seconds([9.0, 20.0, 40.0][viewer as usize % 3] * f64::from(step));
            let mut event = click(&format!("viewer-{viewer}"), &item, at);
            event["user_id"] = json!(format!("person-{}", viewer % 5));
            events.push((at, event));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

fn numbers(values: &Value) -> Vec<f64> {
    list(values).iter().map(number).collect()
}

#[test]
fn an_imported_past_changes_the_model_and_a_restart_keeps_it() {
    let server = learning().start();
    let before = run(async {
        let client = with_items(&server).await;
        let events = past(&server, 150);
        for events in events.chunks(100) {
            client.tell(events).await;
        }
        let state = until(&client, |state| number(&state["decisions"]["closed"]) >= 200.0).await;
        assert_eq!((&state["enabled"], &state["trained"]), (&json!(true), &json!(false)));
        let figures = &state["organic"][2];
        assert!(number(&figures["engaged"]) > 50.0 && number(&figures["hit_rate"]) > 0.2, "{state}");
        assert!(number(&state["served"][2]["decisions"]) == 0.0 && number(&state["examples"]) > 1_000.0, "{state}");
        assert!(numbers(&state["online"]["shifts"]).iter().any(|shift| shift.abs() > 0.05), "{state}");
        for (metric, least) in [
            ("upnext_live_hit_rate{decisions=\"organic\",horizon_s=\"60\"}", 0.2),
            ("upnext_live_calibration_ratio{decisions=\"organic\",horizon_s=\"60\"}", 0.01),
            ("upnext_decisions_total{outcome=\"closed\"}", 200.0),
        ] {
            assert!(client.metric(metric).await >= least, "{metric}");
        }
        assert_eq!(client.post("/v1/admin/training", &json!({})).await.status, 202);
        let trained = until(&client, |state| state["last_training"].is_object()).await;
        let run = &trained["last_training"];
        assert!(number(&run["decisions"]) >= 200.0, "{run}");
        // The audience is like nothing that the weights were made for.
        assert_eq!(run["adopted"], true, "{run}");
        assert!(number(&run["comparison"]["trained"]) < number(&run["comparison"]["running"]), "{run}");
        assert_eq!(client.metric("upnext_trainings_total{result=\"adopted\"}").await, 1.0);
        let file = std::fs::read_to_string(server.data_dir().join("ranking.toml")).unwrap();
        assert!(file.starts_with("# The weights of the ranking, trained by the service itself"), "{file}");
        // The correction began anew, and goes on from here.
        assert!(number(&trained["online"]["steps"]) < number(&state["online"]["steps"]), "{trained}");
        client.tell(&[click("x", "item-3", server.now().plus_seconds(-400.0))]).await;
        client.tell(&[click("y", "item-4", server.now().plus_seconds(-300.0))]).await;
        until(&client, |state| number(&state["online"]["steps"]) >= 1.0).await
    });
    let server = server.restart();
    run(async {
        let after = server.client().get("/v1/admin/training").await.ok();
        assert_eq!(after["trained"], true);
        assert_eq!(after["online"], before["online"]);
        assert_eq!(after["decisions"]["open"], 0, "decisions are not kept");
    });
    // The weights in the file alone are enough.
    let stopped = server.stop();
    std::fs::remove_dir_all(stopped.settings.data_dir.join("checkpoints")).unwrap();
    let server = stopped.start();
    run(async { assert_eq!(server.client().get("/v1/admin/training").await.ok()["trained"], true) });
    let server = server.restart_with("ranking.learn=false");
    run(async {
        let client = server.client();
        let state = client.get("/v1/admin/training").await.ok();
        assert_eq!((&state["enabled"], &state["trained"]), (&json!(false), &json!(false)));
        assert_eq!(client.post("/v1/admin/training", &json!({})).await.problem().0, 422);
    });
}

#[test]
fn answers_are_judged_by_what_follows_and_carry_their_arm() {
    let arms =
        r#"{name="as-is",share=0.5},{name="varied",share=0.5,diversity=0.5,sources_off=["trending"],learned=false}"#;
    let server = learning().with(format!(r#"experiments=[{{name="variety",arms=[{arms}]}}]"#)).start();
    run(async {
        let client = with_items(&server).await;
        let start = server.now();
        let mut arms = std::collections::BTreeMap::new();
        for person in 0..12 {
            let (user, session) = (format!("user-{person}"), format!("of-{person}"));
            let question = json!({"session_id": session, "user_id": user, "count": 5});
            let answer = client.recommend(&question).await;
            assert_eq!(answer["experiment"], "variety");
            let arm = text(&answer["arm"]).to_owned();
            let trending = list(&answer["sources_used"]).contains(&json!("trending"));
            assert_eq!(trending, arm == "as-is", "{answer}");
            // Another session of the same person, and the same session again, are served alike.
            let other = client.recommend(&json!({"session_id": format!("again-{person}"), "user_id": user})).await;
            assert_eq!(other["arm"], arm.as_str());
            *arms.entry(arm).or_insert(0) += 1;
            // The second place of the last list, from where the answer was shown, but under another session.
            let chosen = ids(&answer["horizons"][2]["items"])[1];
            let mut event = click(&format!("player-{person}"), chosen, start.plus_seconds(20.0));
            event["recommendation_id"] = answer["recommendation_id"].clone();
            client.tell(&[event]).await;
        }
        assert_eq!(arms.len(), 2, "{arms:?}");
        server.set_time(start.plus_seconds(90.0));
        let state = until(&client, |state| number(&state["served"][2]["decisions"]) >= 24.0).await;
        let (first, last) = (&state["served"][0], &state["served"][2]);
        assert_eq!((&first["engaged"], &last["engaged"]), (&json!(0), &json!(12)), "20 s are past the first horizon");
        assert!(
            (number(&last["hit_rate"]) - 1.0).abs() < 1e-9 && (number(&last["reciprocal_rank"]) - 0.5).abs() < 1e-9
        );
        assert!(number(&last["log_loss"]) > 0.0 && number(&last["calibration"]) > 0.0, "{last}");
        let report = client.get("/v1/admin/experiments").await.ok();
        let experiment = &report["experiments"][0];
        assert_eq!(
            (&experiment["name"], &report["experiments"][1]["arms"][0]["name"]),
            (&json!("variety"), &json!("default"))
        );
        for arm in list(&experiment["arms"]) {
            let count = arms[text(&arm["name"])];
            assert_eq!(arm["horizons"][2]["decisions"], 2 * count, "{arm}");
            assert_eq!(arm["horizons"][2]["engaged"], count, "{arm}");
        }
        assert!(client.metric("upnext_live_reciprocal_rank{decisions=\"served\",horizon_s=\"60\"}").await > 0.49);
    });
}

#[test]
fn an_arm_may_do_without_the_trees() {
    // A tree that adds 1 to the log-odds of whatever comes.
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/ranking.toml")).unwrap();
    let leaves = "leaves = [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]";
    let tree = format!("\n[[tree]]\nfeature = [\"popularity_log\"]\nabove = [1.0]\n{leaves}\n");
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("ranking.toml");
    std::fs::write(&weights, shipped + &tree).unwrap();
    let arms = [
        r#"{name="trees",share=0.4}"#,
        r#"{name="linear",share=0.3,linear=true}"#,
        r#"{name="frozen",share=0.3,linear=true,learned=false}"#,
    ]
    .join(",");
    let server = learning()
        .with(format!("ranking.weights={}", weights.display()))
        .with(format!(r#"experiments=[{{name="stages",arms=[{arms}]}}]"#))
        .start();
    run(async {
        let client = with_items(&server).await;
        let mut scores = std::collections::BTreeMap::new();
        for person in 0..24 {
            let answer =
                client.recommend(&json!({"user_id": format!("user-{person}"), "count": 1, "explain": true})).await;
            let first = &answer["horizons"][0]["items"][0];
            let score = number(&first["score"]);
            let known = *scores.entry(text(&answer["arm"]).to_owned()).or_insert(score);
            assert!((known - score).abs() < 1e-9, "an arm answers everybody of whom nothing is known alike");
        }
        let (trees, linear) = (scores["trees"], scores["linear"]);
        assert!((trees - linear - 1.0).abs() < 1e-6, "{scores:?}");
        assert!((scores["frozen"] - linear).abs() < 1e-9, "nothing has been learned yet");
        // What is learned reaches the linear arm, too.
        for events in past(&server, 150).chunks(100) {
            client.tell(events).await;
        }
        until(&client, |state| number(&state["online"]["steps"]) >= 100.0).await;
        let mut after = std::collections::BTreeMap::new();
        for person in 0..24 {
            let answer =
                client.recommend(&json!({"user_id": format!("user-{person}"), "count": 1, "explain": true})).await;
            after.insert(text(&answer["arm"]).to_owned(), number(&answer["horizons"][0]["items"][0]["score"]));
        }
        assert!((after["linear"] - after["frozen"]).abs() > 0.01, "{after:?}");
    });
}

#[test]
fn nothing_that_is_kept_for_learning_survives_an_erasure() {
    let server = learning().start();
    run(async {
        let client = with_items(&server).await;
        client.tell(&past(&server, 60)).await;
        let before = until(&client, |state| number(&state["decisions"]["closed"]) >= 60.0).await;
        for person in 0..5 {
            client.delete(&format!("/v1/users/person-{person}")).await.ok();
        }
        let after = client.get("/v1/admin/training").await.ok();
        assert!(number(&before["examples"]) > 100.0, "{before}");
        assert_eq!((&after["examples"], &after["lessons"]), (&json!(0), &json!(0)));
        assert_eq!(after["decisions"]["open"], 0);
        assert_eq!(after["online"]["steps"], before["online"]["steps"], "the weights name nobody and stay");
    });
}

#[test]
fn new_items_are_tried_but_never_in_the_first_place() {
    let server = learning().with("ranking.exploration=1").with("ranking.learning.impressions=2").start();
    run(async {
        let client = with_items(&server).await;
        // One is liked by all, so that the order is not a matter of chance.
        let fans: Vec<Value> = (0..30).map(|n| click(&format!("fan-{n}"), "item-7", server.now())).collect();
        client.tell(&fans).await;
        let mut tried = std::collections::BTreeMap::new();
        for n in 0..60 {
            let answer = client.recommend(&json!({"session_id": format!("s-{n}"), "count": 4, "explain": true})).await;
            for horizon in list(&answer["horizons"]) {
                let items = list(&horizon["items"]);
                assert_eq!((items.len(), &items[0]["item_id"]), (4, &json!("item-7")), "{horizon}");
                assert_eq!(
                    items.iter().map(|i| text(&i["item_id"])).collect::<std::collections::BTreeSet<_>>().len(),
                    4
                );
            }
            let explored = list(&answer["horizons"][2]["items"]).iter().filter(|item| item["explored"] == true);
            for item in explored {
                assert!(number(&item["rank"]) > 1.0);
                *tried.entry(text(&item["item_id"]).to_owned()).or_insert(0) += 1;
            }
        }
        assert!(tried.len() > 5, "{tried:?}");
        assert!(tried.values().all(|&times| times <= 2), "each gets its chance and no more: {tried:?}");
        assert!(client.metric("upnext_explored_answers_total").await >= tried.len() as f64);
        // Nothing is known of what an answer without a session leads to, so it is not learned from.
        let state = client.get("/v1/admin/training").await.ok();
        client.recommend(&json!({"item_id": rfc3339(server.now())})).await;
        until(&client, |now| number(&now["decisions"]["opened"]) >= number(&state["decisions"]["opened"])).await;
    });
}
