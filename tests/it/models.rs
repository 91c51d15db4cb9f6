//! Do several models see together, and do others take over without anybody noticing?
//!
//! The models are small ones (tests/fixtures/models/make.py) that see blocks of pixels. `UPNEXT_SWAPS=200` makes the test under load a
//! soak, which then also looks at the memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::fresh_session;
use crate::support::{Client, Server, Setup, World, ids, list, number, run, text, tokio};

const FOLDER: &str = "tests/fixtures/models";

fn setup(folder: &Path, model: &str) -> Setup {
    Setup::default().with(format!("inference.models_dir={}", folder.display())).with(format!("inference.model={model}"))
}

/// A copy of the models' folder, to be spoilt.
fn copied() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

async fn activate(client: &Client, models: &Value) -> Value {
    let answer = client.post("/v1/admin/models/activate", &json!({ "models": models })).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.ok()
}

/// Waits until these models, by name, are in use.
async fn taken_over(client: &Client, names: &[&str]) -> Value {
    for _ in 0..3_000 {
        let report = client.get("/v1/admin/models").await.ok();
        let active: Vec<&str> = list(&report["active"]["models"]).iter().map(|model| text(&model["name"])).collect();
        if active == names && report["coming"].is_null() {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{names:?} did not take over: {}", client.get("/v1/admin/models").await.body);
}

async fn best(client: &Client, request: &Value) -> (String, f64) {
    let hits = client.post("/v1/search", request).await.ok();
    let hit = &hits["items"][0];
    (text(&hit["item_id"]).to_owned(), number(&hit["score"]))
}

/// A picture of item `n` finds it: what is in the index and what asks are of the same models.
async fn finds(client: &Client, n: usize) {
    let world = World::get();
    let picture = crate::support::world::base64(&world.pictures[n][0]);
    let (id, score) = best(client, &json!({"image_base64": picture})).await;
    // The same picture as the one that was written; what was looked at again is its thumbnail.
    assert!(id == world.id(n) && score > 0.98, "{id} {score}");
}

/// Plain grey pictures of these shades are all in one direction for `blocks-4`; the brighter one is, the longer what it makes of it.
#[test]
fn models_whose_lengths_count_say_by_which_metric() {
    let folder = copied();
    for metric in ["dot", "l2"] {
        let manifest = fs::read_to_string(folder.path().join("blocks-4.toml")).unwrap();
        let manifest = manifest.replace("name = \"blocks-4\"", &format!("name = \"by-{metric}\""));
        let manifest = format!("{manifest}metric = \"{metric}\"\nmax_norm = 5.0\n");
        fs::write(folder.path().join(format!("by-{metric}.toml")), manifest).unwrap();
    }
    let grey = |shade: u8| {
        let picture = image::RgbImage::from_pixel(64, 64, image::Rgb([shade; 3]));
        crate::support::world::base64(&crate::support::world::png(&picture))
    };
    let server = setup(folder.path(), "by-l2").start();
    run(async {
        let client = server.client();
        for shade in [100, 140, 180, 220, 250] {
            let item = json!({"title": "grey", "images_base64": [grey(shade)]});
            client.put(&format!("/v1/items/{shade}"), &item).await.ok();
        }
        let found = async || {
            let answer = client.post("/v1/search", &json!({"image_base64": grey(185), "limit": 5})).await.ok();
            let found: Vec<String> =
                list(&answer["items"]).iter().map(|hit| text(&hit["item_id"]).to_owned()).collect();
            found
        };
        assert_eq!(found().await, ["180", "220", "140", "250", "100"], "the nearest shade first");
        activate(&client, &json!([{"name": "by-dot"}])).await;
        taken_over(&client, &["by-dot"]).await;
        assert_eq!(found().await, ["250", "220", "180", "140", "100"], "the brightest first");
        let similar = client.get("/v1/items/140/similar?limit=4").await.ok();
        assert_eq!(ids(&similar["items"]), ["250", "220", "180", "100"]);
    });
}

#[test]
fn several_models_see_together_and_each_request_may_weigh_them() {
    let (server, world) =
        (setup(Path::new(FOLDER), "blocks-4").with("inference.also=blocks-2:0.5").start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        let asked = json!({"item_id": world.id(3), "limit": 24});
        let with = |weights: Value| {
            let mut asked = asked.clone();
            asked["model_weights"] = weights;
            asked
        };
        let scores = async |request: &Value| -> Vec<(String, f64)> {
            let found = client.post("/v1/search", request).await.ok();
            let mut scores: Vec<(String, f64)> = list(&found["items"])
                .iter()
                .map(|hit| (text(&hit["item_id"]).to_owned(), number(&hit["score"])))
                .collect();
            assert!(scores.is_sorted_by(|a, b| a.1 >= b.1), "{scores:?}");
            scores.sort_by(|a, b| a.0.cmp(&b.0));
            scores
        };
        // Of one picture an item, so that the best picture is the same for all.
        for n in 0..24 {
            let mut document = world.document(n);
            document["images_base64"].as_array_mut().unwrap().truncate(1);
            let id = document.as_object_mut().unwrap().remove("item_id").unwrap();
            client.put(&format!("/v1/items/{}", text(&id)), &document).await.ok();
        }
        let fine = scores(&with(json!({"blocks-4": 2.0}))).await;
        let coarse = scores(&with(json!({"blocks-2": 0.1, "blocks-4": 0.0}))).await;
        assert_ne!(fine, coarse);
        assert_eq!(scores(&asked).await, scores(&with(json!({}))).await);
        for (weights, share) in [(json!({}), 0.5 / 1.5), (json!({"blocks-4": 1, "blocks-2": 3}), 0.75)] {
            let both = scores(&with(weights)).await;
            assert_eq!(both.len(), 23);
            for (((id, both), (_, fine)), (_, coarse)) in both.iter().zip(&fine).zip(&coarse) {
                let mean = fine * (1.0 - share) + coarse * share;
                assert!((both - mean).abs() < 5e-3, "{id}: {both} is not the mean {mean} of {fine} and {coarse}");
            }
        }
        let refused = client.post("/v1/search", &with(json!({"efficientnet-lite0": 1.0}))).await;
        assert_eq!(refused.problem(), (422, "invalid_value".to_owned()));
        assert_eq!(refused.json()["errors"][0]["field"], "model_weights");

        let session = fresh_session();
        let frames = format!("/v1/sessions/{session}/frames");
        client.post_bytes(&frames, "image/jpeg", world.frame(3, 12.0)).await.ok();
        let explained = async |weights: Value| {
            let request = json!({"session_id": session, "model_weights": weights, "explain": true});
            client.recommend(&request).await["horizons"].clone()
        };
        let (fine, coarse) = (explained(json!({"blocks-4": 1})).await, explained(json!({"blocks-2": 1})).await);
        assert_ne!(fine, coarse, "looks count otherwise");
        let refused = client.post("/v1/recommendations", &json!({"model_weights": {"x": 1}})).await;
        assert_eq!(refused.problem(), (422, "invalid_value".to_owned()));
        // The same in query strings.
        let path =
            |weights: &str| format!("/v1/recommendations?session_id={session}&explain=true&model_weights={weights}");
        let listed = async |weights: &str| client.get(&path(weights)).await.ok()["horizons"].clone();
        assert_ne!(listed("blocks-4").await, listed("blocks-2:0.5,blocks-4:0").await);
        let found = async |weights: &str| {
            let path = format!("/v1/search?limit=30&model_weights={weights}");
            client.post_bytes(&path, "image/jpeg", world.pictures[3][0].clone()).await
        };
        let score = async |weights: &str| number(&found(weights).await.ok()["items"][5]["score"]);
        assert_ne!(score("blocks-4:2").await, score("blocks-2").await);
        for refused in [found("x:1").await, found("blocks-4:much").await, client.get(&path("x")).await] {
            assert!([400, 422].contains(&refused.problem().0), "{}", refused.body);
            assert_eq!(refused.json()["errors"][0]["field"], "model_weights");
        }
    });
}

#[test]
fn others_take_over_once_they_have_seen_the_catalogue_and_back_and_a_restart_keeps_them() {
    let (server, world) = (setup(Path::new(FOLDER), "blocks-4").start(), World::get());
    let report = run(async {
        world.load(&server).await;
        let client = server.client();
        let session = fresh_session();
        let frames = format!("/v1/sessions/{session}/frames?recommend=true");
        let watch = async |at_s: f64| {
            client.post_bytes(&frames, "image/jpeg", world.frame(3, at_s)).await.ok()["recommendation"]["model"].clone()
        };
        assert!(text(&watch(12.0).await).starts_with("blocks-4@"));
        activate(&client, &json!([{"name": "mixed"}, {"name": "blocks-2", "weight": 0.25}])).await;
        let report = taken_over(&client, &["mixed", "blocks-2"]).await;
        assert_eq!((&report["active"]["dims"], &report["active"]["items_lost"]), (&json!(36), &json!(0)), "{report}");
        assert_eq!(report["previous"], json!([{"name": "blocks-4", "weight": 1.0}]));
        let states: Vec<(&str, &str)> =
            list(&report["models"]).iter().map(|model| (text(&model["name"]), text(&model["state"]))).collect();
        for state in [("blocks-2", "active"), ("blocks-4", "previous"), ("mixed", "active")] {
            assert!(states.contains(&state), "{state:?} {states:?}");
        }
        // Also the session goes on, with the new models, and the same frame is no repetition: others see it.
        assert!(text(&watch(12.0).await).starts_with("mixed@"));
        let state = client.get(&format!("/v1/sessions/{session}")).await.ok();
        assert_eq!((&state["frames"], &state["near_duplicates"]), (&json!(1), &json!(0)), "{state}");
        for n in [0, 7, 23] {
            finds(&client, n).await;
        }
        report
    });
    let server = server.restart();
    run(async {
        let client = server.client();
        assert_eq!(taken_over(&client, &["mixed", "blocks-2"]).await["active"], report["active"]);
        assert_eq!(server.recovered().not_embedded, 0);
        finds(&client, 5).await;
        // Written now, so that the models before have not seen it.
        let changed =
            json!({"title": "changed", "images_base64": [crate::support::world::base64(&world.pictures[9][1])]});
        client.put(&format!("/v1/items/{}", world.id(9)), &changed).await.ok();
        client.delete(&format!("/v1/items/{}", world.id(4))).await.ok();
        let answer = client.post("/v1/admin/models/rollback", &Value::Null).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        taken_over(&client, &["blocks-4"]).await;
        let picture = crate::support::world::base64(&world.pictures[9][1]);
        assert_eq!(best(&client, &json!({"image_base64": picture})).await.0, world.id(9));
        finds(&client, 0).await;
        let found = client.post("/v1/search", &json!({"item_id": world.id(0), "limit": 30})).await.ok();
        assert_eq!(ids(&found["items"]).len(), 22, "all but the deleted one and the one that asks");
    });
    // The settings ask for others: the ones in use answer until these have seen everything.
    let server = server.restart_with("inference.model=blocks-2");
    run(async {
        let client = server.client();
        finds(&client, 0).await;
        let report = taken_over(&client, &["blocks-2"]).await;
        assert_eq!(report["previous"], json!([{"name": "blocks-4", "weight": 1.0}]));
        finds(&client, 0).await;
    });
}

#[test]
fn pictures_of_which_nothing_is_kept_are_counted_and_do_not_hold_up_the_others() {
    let (server, world) = (setup(Path::new(FOLDER), "blocks-4").with("vision.thumbnail_px=0").start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        activate(&client, &json!([{"name": "blocks-2"}])).await;
        let report = taken_over(&client, &["blocks-2"]).await;
        assert_eq!(report["active"]["items_lost"], 24, "{report}");
        // Written again, it is seen.
        let picture = crate::support::world::base64(&world.pictures[2][0]);
        let body = json!({"title": "again", "images_base64": [picture]});
        client.put(&format!("/v1/items/{}", world.id(2)), &body).await.ok();
        assert_eq!(best(&client, &json!({"image_base64": picture})).await.0, world.id(2));
        assert_eq!(client.get("/v1/admin/models").await.ok()["active"]["items_lost"], 23);
    });
}

#[test]
fn models_that_cannot_be_used_are_refused_with_the_reason_and_those_in_use_stay() {
    let (folder, outside) = (copied(), tempfile::tempdir().unwrap());
    let manifest = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(folder.path().join("mixed.toml")).unwrap();
        assert!(text.contains(from));
        fs::write(folder.path().join(format!("{name}.toml")), text.replace(from, to)).unwrap();
    };
    manifest("dims", "dims = 24", "dims = 25");
    manifest("input", "\"image\"", "\"picture\"");
    manifest("shape", "width = 16", "width = 24");
    manifest("dtype", "\"u8\"", "\"f32\"");
    manifest("output", "\"embedding\"", "\"logits\"");
    manifest("above", "\"mixed.weights\"", "\"../mixed.weights\"");
    manifest("absolute", "\"mixed.onnx\"", "\"/etc/hostname\"");
    manifest("linked", "\"mixed.weights\"", "\"linked.weights\"");
    fs::copy(folder.path().join("mixed.weights"), outside.path().join("weights")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("weights"), folder.path().join("linked.weights")).unwrap();
    manifest("metric", "dims = 24", "dims = 24\nmetric = \"dot\"");
    manifest("eight", "dims = 24", "dims = 24\nprecision = \"int8\"");
    let sixteen = fs::read_to_string(folder.path().join("blocks-2.toml")).unwrap();
    let sixteen = sixteen.replace("dims = 12", "dims = 12\nprecision = \"int16\"");
    fs::write(folder.path().join("sixteen.toml"), sixteen).unwrap();
    manifest("hash", "file = \"mixed.onnx\"", "file = \"blocks-4.onnx\"");
    let text_of_mixed = fs::read_to_string(folder.path().join("mixed.toml")).unwrap();
    let without = text_of_mixed.split("[[external_data]]").next().unwrap();
    fs::write(folder.path().join("without.toml"), without).unwrap();
    let garbage: PathBuf = folder.path().join("garbage.onnx");
    fs::write(&garbage, b"garbage").unwrap();
    fs::write(folder.path().join("broken.toml"), text_of_mixed.replace("mixed.onnx", "garbage.onnx")).unwrap();
    fs::write(folder.path().join("syntax.toml"), "name = ").unwrap();

    let (server, world) = (setup(folder.path(), "blocks-4").start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        let before = client.get("/v1/admin/models").await.ok();
        for (name, reason) in [
            ("dims", "[-1, 25]"),
            ("input", "its input is called `image`"),
            ("shape", "shape"),
            ("dtype", "not a tensor of f32"),
            ("output", "no output `logits`"),
            ("above", "outside the folder"),
            ("absolute", "outside the folder"),
            ("linked", "outside the folder"),
            ("hash", "SHA-256"),
            ("metric", "is needed with this metric"),
            ("broken", "SHA-256"),
            ("without", "does not name under `external_data`"),
            ("syntax", "no TOML"),
            ("nowhere", "no such model"),
            ("../blocks-4", "`name` must have"),
        ] {
            let body = json!({"models": [{"name": name}]});
            let answer = client.post("/v1/admin/models/activate", &body).await;
            assert_eq!(answer.problem(), (422, "model_refused".to_owned()), "{name}: {}", answer.body);
            assert!(text(&answer.json()["detail"]).contains(reason), "{name}: {}", answer.body);
        }
        for body in [json!({"models": []}), json!({"models": [{"name": "mixed", "weight": 0}]}), json!({})] {
            assert_eq!(client.post("/v1/admin/models/activate", &body).await.status, 422, "{body}");
        }
        let unlike = json!({"models": [{"name": "eight"}, {"name": "blocks-4"}, {"name": "sixteen"}]});
        let answer = client.post("/v1/admin/models/activate", &unlike).await;
        assert_eq!(answer.problem().1, "model_refused");
        assert!(
            text(&answer.json()["detail"]).contains("eight asks for the precision int8 and sixteen"),
            "{}",
            answer.body
        );
        let twice = json!({"models": [{"name": "mixed"}, {"name": "mixed"}]});
        assert_eq!(client.post("/v1/admin/models/activate", &twice).await.problem().1, "model_refused");
        assert_eq!(client.post("/v1/admin/models/rollback", &Value::Null).await.problem().1, "model_refused");
        assert_eq!(client.get("/v1/admin/models").await.ok(), before);
        finds(&client, 1).await;

        // What was in use before is not what it was: to go back there is refused.
        activate(&client, &json!([{"name": "mixed"}])).await;
        taken_over(&client, &["mixed"]).await;
        let changed = fs::read_to_string(folder.path().join("blocks-4.toml")).unwrap().replace("\"rgb\"", "\"bgr\"");
        fs::write(folder.path().join("blocks-4.toml"), changed).unwrap();
        let answer = client.post("/v1/admin/models/rollback", &Value::Null).await;
        assert_eq!(answer.problem().1, "model_refused");
        assert!(text(&answer.json()["detail"]).contains("is there no more"), "{}", answer.body);
        finds(&client, 1).await;
    });
}

/// Who asks meanwhile, and what has been answered.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(server: &Server) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..4_usize).map(|caller| {
            let (client, stop, asked) = (server.client(), stop.clone(), asked.clone());
            let (world, session) = (World::get(), fresh_session());
            tokio().spawn(async move {
                let mut n = caller;
                while !stop.load(Ordering::Relaxed) {
                    n = (n + 5) % 24;
                    match caller {
                        // Any failure, also of the checks in here, ends the caller, which is noticed.
                        0 => finds(&client, n).await,
                        1 => {
                            let at_s = n as f64 * 7.0;
                            let path = format!("/v1/sessions/{session}/frames?recommend=true&at_s={at_s}");
                            let answer = client.post_bytes(&path, "image/jpeg", world.frame(n, at_s)).await.ok();
                            assert!(!list(&answer["recommendation"]["horizons"]).is_empty());
                        }
                        2 => {
                            let similar = client.get(&format!("/v1/items/{}/similar?limit=5", world.id(n))).await.ok();
                            assert_eq!(list(&similar["items"]).len(), 5, "{similar}");
                        }
                        _ => {
                            let mut document = world.document(n);
                            let id = document.as_object_mut().unwrap().remove("item_id").unwrap();
                            client.put(&format!("/v1/items/{}", text(&id)), &document).await.ok();
                        }
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self { callers: callers.collect(), stop, asked }
    }

    /// How many requests were answered; all of them as they should.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        self.asked.load(Ordering::Relaxed)
    }
}

fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024.0 * line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
}

#[test]
fn no_request_fails_while_models_take_turns() {
    let soak = std::env::var("UPNEXT_SWAPS").ok().and_then(|swaps| swaps.parse::<usize>().ok());
    let (server, world) = (setup(Path::new(FOLDER), "blocks-4").start(), World::get());
    run(async {
        world.load(&server).await;
        let (client, load) = (server.client(), Load::start(&server));
        let (mut settled, mut active, mut previous) = (0.0, "blocks-4", None);
        for swap in 0..soak.unwrap_or(20) {
            let next = match (previous, active) {
                (Some(previous), _) if swap % 5 == 4 => previous,
                (_, "blocks-4") => "mixed",
                (_, "mixed") => "blocks-2",
                _ => "blocks-4",
            };
            let answer = if swap % 5 == 4 {
                client.post("/v1/admin/models/rollback", &Value::Null).await
            } else {
                client.post("/v1/admin/models/activate", &json!({"models": [{"name": next}]})).await
            };
            assert_eq!(answer.status, 202, "{}", answer.body);
            taken_over(&client, &[next]).await;
            (active, previous) = (next, Some(active));
            if swap == 19 {
                settled = resident_bytes();
            }
        }
        let asked = load.end().await;
        assert!(asked > 20, "{asked}");
        if soak.is_some() {
            let now = resident_bytes();
            eprintln!("{asked} requests; {:.0} MB after 20 exchanges, {:.0} MB at the end", settled / 1e6, now / 1e6);
            assert!(now <= settled * 1.05, "{settled} {now}");
        }
    });
}
