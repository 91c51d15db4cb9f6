//! A frame in, three lists out: is the main job done, and done right?

use std::collections::HashMap;

use serde_json::{Value, json};
use upnext::domain::Timestamp;

use crate::support::client::fresh_session;
use crate::support::world::{base64, click, jpeg_of_width, large_png, rfc3339};
use crate::support::{Answer, Setup, World, all_ids, ids, list, number, probabilities, run, shared, text};

/// What must hold for every recommendation.
fn check_lists(answer: &Value, seconds: &[u64], count: usize) {
    assert!(!text(&answer["recommendation_id"]).is_empty());
    assert!(text(&answer["model"]).starts_with("efficientnet-lite0-160@"), "{}", answer["model"]);
    assert_eq!(answer["degraded"], false, "{answer}");
    assert!(number(&answer["took_ms"]) > 0.0);
    let horizons = list(&answer["horizons"]);
    let answered: Vec<u64> = horizons.iter().map(|h| h["seconds"].as_u64().unwrap()).collect();
    assert_eq!(answered, seconds);
    let mut before: HashMap<&str, f64> = HashMap::new();
    for horizon in horizons {
        let items = list(&horizon["items"]);
        assert_eq!(items.len(), count, "{horizon}");
        for (place, item) in items.iter().enumerate() {
            let (id, probability) = (text(&item["item_id"]), number(&item["probability"]));
            assert_eq!(item["rank"], place + 1);
            assert!(probability > 0.0 && probability < 1.0, "{item}");
            let earlier = before.insert(id, probability).unwrap_or_default();
            assert!(probability >= earlier, "{id} falls from {earlier} to {probability}");
        }
        let mut unique = ids(&horizon["items"]);
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), count, "an item stands twice in {horizon}");
    }
}

/// Without diversity, lists are in the order of their probabilities.
fn check_order(answer: &Value) {
    for horizon in list(&answer["horizons"]) {
        let falling: Vec<f64> = list(&horizon["items"]).iter().map(|item| number(&item["probability"])).collect();
        assert!(falling.is_sorted_by(|a, b| a >= b), "{falling:?}");
    }
}

#[test]
fn a_frame_becomes_three_lists_over_either_version_of_http() {
    let (server, world) = (shared(), World::get());
    run(async {
        for (client, version) in
            [(server.client(), reqwest::Version::HTTP_2), (server.http1_client(), reqwest::Version::HTTP_11)]
        {
            let path = format!("/v1/sessions/{}/frames?recommend=true&at_s=12&count=8", fresh_session());
            let answer = client.post_bytes(&path, "image/jpeg", world.frame(3, 12.0)).await;
            assert_eq!(answer.version, version);
            let answer = answer.ok();
            let frame = &answer["frame"];
            assert_eq!((&frame["width"], &frame["height"]), (&json!(256), &json!(144)), "{frame}");
            assert_eq!(frame["near_duplicate"], false);
            let answer = &answer["recommendation"];
            // Everything is all candidates of a small catalogue, so that each item has its place in each list.
            check_lists(answer, &[15, 30, 60], 8);
            check_order(answer);
            let used = answer["sources_used"].to_string();
            for source in ["visual", "trajectory", "trending", "fresh"] {
                assert!(used.contains(&format!("\"{source}\"")), "{source} is not among {used}");
            }
        }
    });
}

#[test]
fn an_items_probability_never_falls_with_the_horizon() {
    let (server, world) = (shared(), World::get());
    run(async {
        // All items in each list, so that every item can be followed through the horizons.
        let request = json!({"count": 24, "exclude_seen": false, "item_id": world.id(5)});
        let frames = [world.frame(5, 3.0)];
        let client = server.client();
        let answer = client.send_parts("POST", "/v1/recommendations", ("request", &request), ("frame", &frames));
        // All but the one on screen.
        check_lists(&answer.await.ok(), &[15, 30, 60], 23);
    });
}

#[test]
fn reasons_add_up_to_the_score_and_the_score_is_the_probabilitys_logit() {
    let (server, world) = (shared(), World::get());
    run(async {
        let (client, session) = (server.client(), fresh_session());
        let path =
            format!("/v1/sessions/{session}/frames?recommend=true&explain=true&count=24&item_id={}", world.id(2));
        let answer = client.post_bytes(&path, "image/jpeg", world.frame(2, 20.0)).await.ok();
        let mut visual = 0;
        for horizon in list(&answer["recommendation"]["horizons"]) {
            for item in list(&horizon["items"]) {
                let reasons = item["reasons"].as_object().unwrap();
                let (score, sum) = (number(&item["score"]), reasons.values().map(number).sum::<f64>());
                assert!((score - sum).abs() < 1e-6, "{item}");
                let probability = number(&item["probability"]);
                let logit = (probability / (1.0 - probability)).ln();
                assert!((score - logit).abs() < 1e-6, "{logit} in {item}");
                visual += usize::from(reasons.contains_key("visual"));
            }
        }
        assert!(visual > 0, "what is on screen is no reason for anything");
        let plain = client.recommend(&json!({"session_id": session})).await;
        let first = &plain["horizons"][0]["items"][0];
        assert!(first.get("reasons").is_none() && first.get("score").is_none(), "{first}");
    });
}

#[test]
fn several_frames_come_in_their_order() {
    let (server, world) = (shared(), World::get());
    run(async {
        let (client, session) = (server.client(), fresh_session());
        let frames = [world.frame(1, 10.0), world.frame(1, 10.0), world.frame(9, 5.0)];
        let request = json!({"session_id": session, "frames_at_s": [10.0, 10.5, 11.0], "count": 5});
        let answer =
            client.send_parts("POST", "/v1/recommendations", ("request", &request), ("frame", &frames)).await.ok();
        check_lists(&answer, &[15, 30, 60], 5);
        let repeated: Vec<bool> =
            list(&answer["frames"]).iter().map(|frame| frame["near_duplicate"].as_bool().unwrap()).collect();
        assert_eq!(repeated, [false, true, false]);
        assert_eq!(answer["frames"][2]["motion"]["cut"], true, "another item's picture is another scene");
        let known = client.get(&format!("/v1/sessions/{session}")).await.ok();
        assert_eq!((&known["frames"], &known["near_duplicates"]), (&json!(3), &json!(1)));
        // The request is optional.
        let bare = client.send_parts("POST", "/v1/recommendations", ("request", &Value::Null), ("frame", &frames[..1]));
        check_lists(&bare.await.ok(), &[15, 30, 60], 10);
    });
}

#[test]
fn callers_who_hang_up_cost_no_inference() {
    const CALLERS: usize = 20;
    let setup = Setup::default().with("session.near_duplicate_difference=0").with("vision.decode_workers=1");
    let (server, world) = (setup.start(), World::get());
    run(async {
        let watcher = server.client();
        let inferences = || watcher.metric("upnext_stage_seconds_count{stage=\"inference\"}");
        // With the request that asks for it.
        let in_flight = || watcher.metric("upnext_http_requests_in_flight");
        let before = inferences().await;
        let frame = world.frame(4, 8.0);
        let look = |who: &str, n: usize| {
            let (client, frame) = (server.client(), frame.clone());
            let path = format!("/v1/sessions/{who}-{n}/frames");
            tokio::spawn(async move { client.post_bytes(&path, "image/jpeg", frame).await })
        };
        let patient: Vec<_> = (0..CALLERS).map(|n| look("patient", n)).collect();
        while in_flight().await < 2.0 {
            tokio::task::yield_now().await;
        }
        let hasty: Vec<_> = (0..CALLERS).map(|n| look("hasty", n)).collect();
        // Most have arrived, and wait behind the others.
        while in_flight().await < CALLERS as f64 && !patient.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        hasty.iter().for_each(tokio::task::JoinHandle::abort);
        for answer in patient {
            answer.await.unwrap().ok();
        }
        while in_flight().await > 1.0 {
            tokio::task::yield_now().await;
        }
        let cost = inferences().await - before;
        let (all, patient) = (2.0 * CALLERS as f64, CALLERS as f64);
        assert!((patient..all).contains(&cost), "{cost} frames went through the model");
    });
}

#[test]
fn a_frame_like_the_one_before_needs_no_inference() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        let inferences = || client.metric("upnext_stage_seconds_count{stage=\"inference\"}");
        let path = "/v1/sessions/s/frames";
        let before = inferences().await;
        let frame = |n, at_s| client.post_bytes(path, "image/jpeg", world.frame(n, at_s));
        assert_eq!(frame(4, 8.0).await.ok()["frame"]["near_duplicate"], false);
        assert_eq!(inferences().await, before + 1.0);
        assert_eq!(frame(4, 8.0).await.ok()["frame"]["near_duplicate"], true);
        assert_eq!(inferences().await, before + 1.0, "the embedding of the frame before is used again");
        assert_eq!(client.metric("upnext_frames_skipped_total").await, 1.0);
        assert_eq!(frame(17, 8.0).await.ok()["frame"]["near_duplicate"], false);
        // Somebody else's session knows nothing of it.
        let other = client.post_bytes("/v1/sessions/t/frames", "image/jpeg", world.frame(17, 8.0)).await.ok();
        assert_eq!(other["frame"]["near_duplicate"], false);
    });
}

#[test]
fn a_frame_finds_the_item_that_it_is_from() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        for n in 0..world.catalogue.len() {
            // Of another size than the item's own picture, and not the same file.
            let frame = world.item(n).artwork.frame_sized(world.scene_s(n), 480, 270);
            let frame = jpeg_of_width(&frame, 400);
            let found = client.post_bytes("/v1/search?limit=3", "image/jpeg", frame).await.ok();
            assert_eq!(ids(&found["items"])[0], world.id(n), "item {n}: {found}");
        }
        // The picture itself is its own nearest neighbour.
        let own = client.post_bytes("/v1/search?limit=1", "image/jpeg", world.pictures[11][0].clone()).await.ok();
        assert_eq!(ids(&own["items"]), [world.id(11)]);
        assert!(number(&own["items"][0]["score"]) > 0.999, "{own}");
    });
}

#[test]
fn what_is_on_screen_draws_its_like_upwards() {
    let (server, world) = (shared(), World::get());
    run(async {
        let frames = [world.pictures[13][0].clone()];
        let request = json!({"count": 1, "explain": true});
        let client = server.client();
        let answer = client.send_parts("POST", "/v1/recommendations", ("request", &request), ("frame", &frames));
        let answer = answer.await.ok();
        assert_eq!(ids(&answer["horizons"][0]["items"]), [world.id(13)]);
        let reasons = &answer["horizons"][0]["items"][0]["reasons"];
        assert!(number(&reasons["visual"]) > 0.0, "{reasons}");
    });
}

#[test]
fn filters_and_exclusions_hold_in_every_list() {
    let (server, world) = (shared(), World::get());
    let numbers_of = |answer: &Value| -> Vec<usize> {
        let of_id = |id| world.catalogue.items().iter().position(|item| item.item.id.as_str() == id).unwrap();
        all_ids(answer).into_iter().map(of_id).collect()
    };
    run(async {
        let client = server.client();
        let even = json!({"must": [{"field": "even", "any": [true]}]});
        let children =
            json!({"must": [{"field": "age_rating", "lte": 12}], "must_not": [{"field": "number", "gte": 20}]});
        let few = json!({"should": [{"field": "number", "any": [3]}, {"field": "item_id", "any": [world.id(8)]}]});
        let frames = [world.frame(0, 2.0)];
        type Rule = fn(usize) -> bool;
        let rules: [(Value, Rule, usize); 3] =
            [(even, |n| n % 2 == 0, 12), (children, |n| n % 4 != 0 && n < 20, 15), (few, |n| n == 3 || n == 8, 2)];
        for (filter, rule, kept) in rules {
            let request = json!({"filter": filter, "count": 24});
            let with_frames =
                client.send_parts("POST", "/v1/recommendations", ("request", &request), ("frame", &frames));
            for answer in [client.recommend(&request).await, with_frames.await.ok()] {
                let numbers = numbers_of(&answer);
                assert_eq!(numbers.len(), 3 * kept, "{filter}");
                assert!(numbers.into_iter().all(rule), "{filter}");
            }
        }
        let excluded = json!({"exclude": [world.id(0), world.id(1), "no-such-item"], "count": 24});
        let answer = client.recommend(&excluded).await;
        assert_eq!(answer["unknown_items"], json!(["no-such-item"]));
        let numbers = numbers_of(&answer);
        assert_eq!(numbers.len(), 3 * 22);
        assert!(numbers.into_iter().all(|n| n > 1));
    });
}

#[test]
fn regions_and_availability_are_respected() {
    let (server, world) = (Setup::default().start(), World::get());
    let (now, day_s) = (server.now(), 86_400.0);
    run(async {
        let client = server.client();
        let at = |days: f64| rfc3339(Timestamp(now.0).plus_seconds(days * day_s));
        let picture = base64(&world.pictures[0][0]);
        for (id, item) in [
            ("anywhere", json!({"images_base64": [picture]})),
            ("german", json!({"regions": ["de", "at"], "images_base64": [picture]})),
            ("french", json!({"regions": ["fr"], "images_base64": [picture]})),
            ("tomorrow", json!({"available_from": at(1.0), "images_base64": [picture]})),
            ("yesterday", json!({"available_until": at(-1.0), "images_base64": [picture]})),
            ("today", json!({"available_from": at(-1.0), "available_until": at(1.0)})),
        ] {
            client.put(&format!("/v1/items/{id}"), &item).await.ok();
        }
        let sorted = |answer: &Value| {
            let mut found: Vec<String> = ids(&answer["horizons"][0]["items"]).into_iter().map(str::to_owned).collect();
            found.sort_unstable();
            found
        };
        for (region, expected) in [
            (json!({"region": "de"}), vec!["anywhere", "german", "today"]),
            (json!({"region": "fr"}), vec!["anywhere", "french", "today"]),
            (json!({"region": "us"}), vec!["anywhere", "today"]),
            (json!({}), vec!["anywhere", "french", "german", "today"]),
        ] {
            let request = json!({"context": region});
            assert_eq!(sorted(&client.recommend(&request).await), expected, "{region}");
            let frames = [world.pictures[0][0].clone()];
            let path = "/v1/recommendations";
            let seen = client.send_parts("POST", path, ("request", &request), ("frame", &frames)).await.ok();
            assert_eq!(sorted(&seen), expected, "with a frame, {region}");
        }
        // A session stays where it was.
        client.recommend(&json!({"session_id": "s", "context": {"region": "us"}})).await;
        assert_eq!(sorted(&client.recommend(&json!({"session_id": "s"})).await), ["anywhere", "today"]);
    });
}

#[test]
fn counts_and_horizons_are_as_asked() {
    let server = shared();
    run(async {
        let client = server.client();
        check_lists(&client.recommend(&json!({})).await, &[15, 30, 60], 10);
        check_lists(&client.recommend(&json!({"count": 1, "horizons_s": [60, 15]})).await, &[15, 60], 1);
        check_lists(&client.recommend(&json!({"count": 24, "horizons_s": [30]})).await, &[30], 24);
        // A list is as long as the catalogue allows.
        check_lists(&client.recommend(&json!({"count": 100})).await, &[15, 30, 60], 24);
        let all = client.recommend(&json!({"count": 24})).await;
        let one = client.recommend(&json!({"count": 24, "horizons_s": [30]})).await;
        let thirty: Vec<_> = probabilities(&all).into_iter().filter(|(seconds, ..)| *seconds == 30).collect();
        assert_eq!(probabilities(&one), thirty, "a list is the same whichever others are asked for");
    });
}

#[test]
fn a_query_string_says_the_same_as_json() {
    let (server, world) = (shared(), World::get());
    run(async {
        let (client, session) = (server.client(), fresh_session());
        let path = format!("/v1/sessions/{session}/frames?at_s=1");
        client.post_bytes(&path, "image/jpeg", world.frame(6, 1.0)).await.ok();
        let filter = json!({"must": [{"field": "even", "any": [true]}]});
        let posted = client
            .recommend(&json!({"session_id": session, "user_id": "u", "item_id": world.id(6), "position_s": 4.5,
                "horizons_s": [15, 60], "count": 5, "filter": filter, "context": {"region": "de", "device": "tv"},
                "exclude_seen": true, "exclude": [world.id(2), world.id(4)], "diversity": 0.3, "explain": true,
                "deadline_ms": 50_000}))
            .await;
        let query = [
            ("session_id", session.as_str()),
            ("user_id", "u"),
            ("item_id", world.id(6)),
            ("position_s", "4.5"),
            ("horizons_s", "15,60"),
            ("count", "5"),
            ("filter", &filter.to_string()),
            ("region", "de"),
            ("device", "tv"),
            ("exclude_seen", "true"),
            ("exclude", &format!("{},{}", world.id(2), world.id(4))),
            ("diversity", "0.3"),
            ("explain", "true"),
            ("deadline_ms", "50000"),
        ];
        let request = client.request("GET", "/v1/recommendations").query(&query);
        let got = Answer::of(request).await.ok();
        check_lists(&got, &[15, 60], 5);
        assert_eq!(got["horizons"], posted["horizons"]);
        assert_eq!(got["sources_used"], posted["sources_used"]);
    });
}

#[test]
fn diversity_moves_like_things_apart() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let frames = [world.pictures[13][0].clone()];
        let ask = async |diversity: f64| {
            let request = json!({"count": 6, "diversity": diversity, "horizons_s": [15]});
            let answer = client.send_parts("POST", "/v1/recommendations", ("request", &request), ("frame", &frames));
            answer.await.ok()
        };
        let (plain, mixed) = (ask(0.0).await, ask(0.9).await);
        check_order(&plain);
        check_lists(&mixed, &[15], 6);
        let first = |answer: &Value| all_ids(answer)[0].to_owned();
        assert_eq!(first(&plain), first(&mixed), "the best stays the best");
        assert_ne!(all_ids(&plain), all_ids(&mixed));
        let theme = |id: &str| world.catalogue.items().iter().find(|i| i.item.id.as_str() == id).unwrap().theme;
        let themes = |answer: &Value| {
            let found: std::collections::HashSet<_> =
                all_ids(answer).into_iter().map(|id| format!("{:?}", theme(id))).collect();
            found.len()
        };
        assert!(themes(&mixed) >= themes(&plain), "{} themes, without diversity {}", themes(&mixed), themes(&plain));
    });
}

#[test]
fn a_deadline_is_kept_and_the_answer_says_what_it_cost() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        // So large that it cannot be decoded within a millisecond.
        let large = large_png();
        let path = format!("/v1/sessions/{}/frames?recommend=true&count=5&deadline_ms=1", fresh_session());
        let answer = client.post_bytes(&path, "image/png", large).await.ok();
        let answer = &answer["recommendation"];
        assert_eq!(answer["degraded"], true, "{answer}");
        assert_eq!(list(&answer["horizons"]).len(), 3);
        assert_eq!(all_ids(answer).len(), 15, "without the frame there is still an answer");
        let path = format!("/v1/sessions/{}/frames?recommend=true&deadline_ms=60000", fresh_session());
        let in_time = client.post_bytes(&path, "image/jpeg", world.frame(0, 0.0)).await.ok();
        check_lists(&in_time["recommendation"], &[15, 30, 60], 10);
    });
}

#[test]
fn items_that_nobody_knows_are_named_and_do_no_harm() {
    let server = shared();
    run(async {
        let answer = server.client().recommend(&json!({"item_id": "nowhere", "exclude": ["nothing"]})).await;
        check_lists(&answer, &[15, 30, 60], 10);
        assert_eq!(answer["unknown_items"], json!(["nowhere", "nothing"]));
    });
}

#[test]
fn seen_items_come_back_only_if_wanted() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        for n in 0..6 {
            client.put(&format!("/v1/items/{}", world.id(n)), &json!({})).await.ok();
        }
        let now = server.now();
        let events: Vec<Value> =
            (0..3).map(|n| click("s", world.id(n), now.plus_seconds(n as f64 * 20.0 - 60.0))).collect();
        client.tell(&events).await;
        let unseen = client.recommend(&json!({"session_id": "s", "exclude_seen": true})).await;
        let answered = all_ids(&unseen);
        assert_eq!(answered.len(), 3 * 3);
        assert!((0..3).all(|n| !answered.contains(&world.id(n))), "{answered:?}");
        let all = client.recommend(&json!({"session_id": "s", "exclude_seen": false})).await;
        let answered = all_ids(&all);
        assert!(answered.contains(&world.id(0)) && answered.contains(&world.id(1)));
        assert!(!answered.contains(&world.id(2)), "the last one is still on screen");
    });
}
