//! Items, from their first writing to their deletion.

use serde_json::{Value, json};

use crate::support::world::{base64, click};
use crate::support::{Answer, Setup, World, all_ids, ids, list, number, probabilities, run, text};

#[test]
fn an_item_is_written_read_changed_and_deleted() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        let path = "/v1/items/film%2F42";
        let item = json!({"title": "Sea", "tags": ["waves"], "categories": ["Nature"], "regions": ["de"],
            "duration_s": 90.5, "age_rating": 6, "available_from": "2026-01-31T18:30:00.25Z",
            "attributes": {"uhd": true, "year": 2025.0, "studio": "North"}});
        let mut with_picture = item.clone();
        with_picture["images_base64"] = json!([base64(&world.pictures[0][0])]);
        let created = client.put(path, &with_picture).await;
        assert_eq!(created.status, 201);
        assert_eq!(created.json(), json!({"item_id": "film/42", "created": true, "images": 1}));

        let read = client.get(path).await.ok();
        for (field, value) in item.as_object().unwrap() {
            assert_eq!(&read[field], value, "{field}");
        }
        assert_eq!((&read["item_id"], &read["description"]), (&json!("film/42"), &json!("")));
        let image = &read["images"][0];
        assert_eq!((&image["width"], &image["height"]), (&json!(256), &json!(144)));
        assert_eq!(text(&image["sha256"]).len(), 64);
        let thumbnail = client.get(text(&image["url"])).await;
        assert_eq!((thumbnail.status, thumbnail.header("content-type")), (200, "image/jpeg"));
        let decoded = image::load_from_memory(&thumbnail.bytes).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (256, 144));

        // A merge patch: null clears, objects are merged, the rest stays.
        let patch = json!({"title": "Ocean", "duration_s": null, "tags": ["deep", "blue"],
            "attributes": {"uhd": null, "year": 2026}});
        let request = client.request("PATCH", path).header("content-type", "application/merge-patch+json");
        let patched = Answer::of(request.body(patch.to_string())).await;
        assert_eq!((patched.status, &patched.json()["created"]), (200, &json!(false)));
        let read = client.get(path).await.ok();
        assert_eq!((&read["title"], &read["tags"]), (&json!("Ocean"), &json!(["deep", "blue"])));
        assert_eq!(read["attributes"], json!({"year": 2026.0, "studio": "North"}));
        assert!(read.get("duration_s").is_none(), "{read}");
        assert_eq!((&read["regions"], &read["categories"]), (&json!(["de"]), &json!(["Nature"])));
        assert_eq!(list(&read["images"]).len(), 1, "a patch without pictures keeps them");

        // A put replaces the fields, and keeps the pictures unless it brings others.
        assert_eq!(client.put(path, &json!({"title": "Bare"})).await.status, 200);
        let read = client.get(path).await.ok();
        assert_eq!((&read["title"], &read["tags"], &read["regions"]), (&json!("Bare"), &json!([]), &json!([])));
        assert_eq!(list(&read["images"]).len(), 1);
        client.put(path, &json!({"images_base64": []})).await.ok();
        assert_eq!(client.get(path).await.ok()["images"], json!([]), "an empty list removes them");
        assert_eq!(client.get(&format!("{path}/images/0")).await.status, 404);

        assert_eq!(client.delete(path).await.status, 204);
        assert_eq!(client.get(path).await.problem(), (404, "item_not_found".into()));
        assert_eq!(client.delete(path).await.problem(), (404, "item_not_found".into()));
        let gone = client.send_json("PATCH", path, &json!({})).await;
        assert_eq!(gone.problem(), (404, "item_not_found".into()), "a patch makes no item");
    });
}

#[test]
fn pictures_come_as_parts_too() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        let pictures: Vec<Vec<u8>> = (0..3).map(|n| world.pictures[n][0].clone()).collect();
        let document = json!({"title": "Three pictures"});
        let created = client.send_parts("PUT", "/v1/items/three", ("item", &document), ("image", &pictures)).await;
        assert_eq!((created.status, &created.json()["images"]), (201, &json!(3)));
        client.put("/v1/items/one", &json!({"images_base64": [base64(&world.pictures[9][0])]})).await.ok();
        // An item is as near as its nearest picture, and stands in a list once.
        for picture in &pictures {
            let found = client.post_bytes("/v1/search", "image/jpeg", picture.clone()).await.ok();
            assert_eq!(ids(&found["items"]), ["three", "one"]);
            assert!(number(&found["items"][0]["score"]) > 0.999, "{found}");
        }
        let inferences = client.metric("upnext_stage_seconds_count{stage=\"inference\"}").await;
        client.send_parts("PUT", "/v1/items/three", ("item", &document), ("image", &pictures)).await.ok();
        let after = client.metric("upnext_stage_seconds_count{stage=\"inference\"}").await;
        assert_eq!(after, inferences, "the same pictures are not embedded again");
        // A patch with pictures replaces all of them.
        let none = Value::Null;
        let patched = client.send_parts("PATCH", "/v1/items/three", ("item", &none), ("image", &pictures[..1])).await;
        assert_eq!((patched.status, &patched.json()["images"]), (200, &json!(1)));
        assert_eq!(client.get("/v1/items/three").await.ok()["title"], "Three pictures");
        let many = vec![world.pictures[0][0].clone(); 17];
        let refused = client.send_parts("PUT", "/v1/items/many", ("item", &document), ("image", &many)).await;
        assert_eq!(refused.problem(), (400, "invalid_multipart".into()));
        assert_eq!(refused.json()["errors"][0]["field"], "image");
        // One bad picture among good ones: the item is refused whole, and the picture named.
        let mixed = [world.pictures[0][0].clone(), world.pictures[0][0][..2_000].to_vec()];
        let refused = client.send_parts("PUT", "/v1/items/mixed", ("item", &document), ("image", &mixed)).await;
        assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (422, &json!("image[1]")));
        assert_eq!(client.get("/v1/items/mixed").await.status, 404);
    });
}

#[test]
fn a_batch_judges_each_line_on_its_own() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        client.put("/v1/items/old", &json!({"title": "before"})).await.ok();
        let lines = [
            json!({"item_id": "a", "images_base64": [base64(&world.pictures[0][0]), base64(&world.pictures[1][0])]})
                .to_string(),
            "{\"item_id\": \"b\", ".to_owned(),
            String::new(),
            json!({"title": "nobody"}).to_string(),
            json!({"item_id": "c", "titel": "typo"}).to_string(),
            json!({"item_id": "d", "images_base64": [base64(b"no picture at all")]}).to_string(),
            json!({"item_id": "old", "title": "after"}).to_string(),
            json!({"item_id": "e", "duration_s": -1}).to_string(),
            json!({"item_id": "twice", "title": "first"}).to_string(),
            json!({"item_id": "twice", "title": "second"}).to_string(),
        ]
        .join("\n");
        let answer = client.post_bytes("/v1/items/batch", "application/x-ndjson", lines.clone()).await.ok();
        assert_eq!((&answer["stored"], &answer["failed"]), (&json!(4), &json!(5)));
        let rows = list(&answer["results"]);
        let status: Vec<&str> = rows.iter().map(|row| text(&row["status"])).collect();
        let expected = ["created", "failed", "failed", "failed", "failed", "updated", "failed", "created", "updated"];
        assert_eq!(status, expected, "{answer}");
        let codes: Vec<&str> = rows.iter().filter_map(|row| row["error"]["code"].as_str()).collect();
        assert_eq!(codes, ["malformed_json", "invalid_value", "invalid_value", "unsupported_image", "invalid_value"]);
        let field = |row: usize| text(&rows[row]["error"]["errors"][0]["field"]);
        assert_eq!([field(2), field(3), field(6)], ["item_id", "titel", "duration_s"]);
        assert_eq!(rows[4]["item_id"], "d");
        assert_eq!(client.get("/v1/items/old").await.ok()["title"], "after");
        assert_eq!(client.get("/v1/items/twice").await.ok()["title"], "second");
        assert_eq!(client.get("/v1/items/d").await.status, 404);
        // The same, line by line.
        let request = client.request("POST", "/v1/items/batch").header("content-type", "application/x-ndjson");
        let stream = Answer::of(request.header("accept", "application/x-ndjson").body(lines)).await;
        assert_eq!(stream.header("content-type"), "application/x-ndjson");
        let rows: Vec<Value> = stream.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let status: Vec<&str> = rows.iter().map(|row| text(&row["status"])).collect();
        assert_eq!((status.len(), status[0], status[5], status[7]), (9, "updated", "updated", "updated"));
        let numbers: Vec<u64> = rows.iter().map(|row| row["row"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..9).collect::<Vec<u64>>());
        assert_eq!(
            client.post_bytes("/v1/items/batch", "application/x-ndjson", "").await.problem(),
            (400, "empty_body".into())
        );
    });
}

#[test]
fn the_catalogue_is_listed_page_by_page() {
    let server = Setup::default().start();
    run(async {
        let client = server.client();
        let names: Vec<String> = ["ä", "z", "a b", "a/b", "B", "10", "9"].map(str::to_owned).into();
        let lines: String = names.iter().map(|id| json!({"item_id": id}).to_string() + "\n").collect();
        client.post_bytes("/v1/items/batch", "application/x-ndjson", lines).await.ok();
        let mut sorted = names;
        sorted.sort_unstable();
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = client.get(&format!("/v1/items?limit=3{cursor}")).await.ok();
            seen.extend(ids(&page["items"]).into_iter().map(str::to_owned));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((pages, seen), (3, sorted));
        for (query, field) in
            [("limit=0", "limit"), ("limit=101", "limit"), ("cursor=%21", "cursor"), ("lmit=3", "lmit")]
        {
            let refused = client.get(&format!("/v1/items?{query}")).await;
            assert_eq!(refused.problem(), (400, "invalid_query".into()), "{query}");
            assert_eq!(refused.json()["errors"][0]["field"], field);
        }
    });
}

#[test]
fn similar_items_are_found_by_item_picture_and_words() {
    let server = Setup::default().start();
    let world = World::get();
    run(async {
        world.load(&server).await;
        let client = server.client();
        let path = format!("/v1/items/{}/similar?limit=5", world.id(3));
        let similar = client.get(&path).await.ok();
        assert_eq!(list(&similar["items"]).len(), 5);
        assert!(!ids(&similar["items"]).contains(&world.id(3)), "nothing is similar to itself");
        let scores: Vec<f64> = list(&similar["items"]).iter().map(|item| number(&item["score"])).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b) && scores[0] < 1.0001, "{scores:?}");
        let searched = client.post("/v1/search", &json!({"item_id": world.id(3), "limit": 5})).await.ok();
        assert_eq!(searched["items"], similar["items"]);
        let filter = r#"{"must":[{"field":"even","any":[false]}]}"#;
        let filtered = Answer::of(client.request("GET", &path).query(&[("filter", filter)])).await.ok();
        let odd = |id: &str| world.catalogue.items().iter().position(|i| i.item.id.as_str() == id).unwrap() % 2 == 1;
        assert!(list(&filtered["items"]).len() == 5 && ids(&filtered["items"]).into_iter().all(odd), "{filtered}");
        // The same picture, three ways.
        let picture = world.pictures[8][0].clone();
        let raw = client.post_bytes("/v1/search?limit=4", "image/jpeg", picture.clone()).await.ok();
        let inline = client.post("/v1/search", &json!({"image_base64": base64(&picture), "limit": 4})).await.ok();
        let pictures = [picture];
        let part =
            client.send_parts("POST", "/v1/search", ("request", &json!({"limit": 4})), ("image", &pictures)).await.ok();
        assert_eq!((&raw["items"], &inline["items"]), (&inline["items"], &part["items"]));
        assert_eq!(ids(&raw["items"])[0], world.id(8));
        let strict =
            client.post_bytes("/v1/search?score_threshold=0.999", "image/jpeg", pictures[0].clone()).await.ok();
        assert_eq!(ids(&strict["items"]), [world.id(8)]);
        // Words.
        client.put("/v1/items/word", &json!({"title": "Quokkas", "description": "of Rottnest island"})).await.ok();
        let found = client.post("/v1/search", &json!({"text": "quokkas rottnest"})).await.ok();
        assert_eq!(ids(&found["items"])[0], "word");
        let none = client.get("/v1/items/word/similar").await;
        assert_eq!(none.problem(), (422, "item_without_image".into()));
        assert_eq!(client.get("/v1/items/nothing/similar").await.problem(), (404, "item_not_found".into()));
    });
}

#[test]
fn a_deleted_item_is_gone_everywhere_and_can_come_back() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        let pictures: Vec<Vec<u8>> = (0..4).map(|n| world.pictures[n][0].clone()).collect();
        for (n, picture) in pictures.iter().enumerate() {
            let item = json!({"title": format!("number {n}"), "images_base64": [base64(picture)]});
            client.put(&format!("/v1/items/item-{n}"), &item).await.ok();
        }
        let learn = async |round: i32| {
            let mut events = Vec::new();
            for viewer in 0..10 {
                let (session, at) = (format!("viewer-{round}-{viewer}"), server.now().plus_seconds(-200.0));
                events.push(click(&session, "item-0", at));
                events.push(click(&session, "item-1", at.plus_seconds(5.0)));
            }
            client.tell(&events).await;
        };
        learn(1).await;
        let watching = json!({"item_id": "item-0", "count": 10, "exclude_seen": false});
        let first = async || {
            let answer = client.recommend(&watching).await;
            ids(&answer["horizons"][0]["items"])[0].to_owned()
        };
        assert_eq!(first().await, "item-1");
        assert_eq!(client.delete("/v1/items/item-1").await.status, 204);

        let frames = [pictures[1].clone()];
        let seen =
            client.send_parts("POST", "/v1/recommendations", ("request", &json!({})), ("frame", &frames)).await.ok();
        let by_session = client.recommend(&json!({"session_id": "viewer-1-3", "exclude_seen": false})).await;
        for answer in [client.recommend(&watching).await, seen, by_session] {
            assert!(!all_ids(&answer).is_empty() && !all_ids(&answer).contains(&"item-1"), "{answer}");
        }
        for body in
            [json!({"image_base64": base64(&pictures[1])}), json!({"item_id": "item-0"}), json!({"text": "number"})]
        {
            let found = client.post("/v1/search", &body).await.ok();
            assert!(!ids(&found["items"]).contains(&"item-1"), "{found}");
            assert!(!list(&found["items"]).is_empty());
        }
        assert_eq!(client.get("/v1/items/item-1/images/0").await.status, 404);
        assert_eq!(client.get("/v1/items/item-1/similar").await.problem(), (404, "item_not_found".into()));
        assert!(!ids(&client.get("/v1/items").await.ok()["items"]).contains(&"item-1"));
        let unknown = client.recommend(&json!({"item_id": "item-1"})).await;
        assert_eq!(unknown["unknown_items"], json!(["item-1"]));
        let told = client.tell(&[click("x", "item-1", server.now())]).await;
        assert_eq!(told["results"][0]["known_item"], false);

        // It comes back, with another picture, and is learned about again.
        let back = json!({"title": "number 1 again", "images_base64": [base64(&world.pictures[20][0])]});
        assert_eq!(client.put("/v1/items/item-1", &back).await.status, 201);
        let found = client.post_bytes("/v1/search?limit=1", "image/jpeg", world.pictures[20][0].clone()).await.ok();
        assert_eq!(ids(&found["items"]), ["item-1"]);
        let old = client.post_bytes("/v1/search", "image/jpeg", pictures[1].clone()).await.ok();
        let score =
            list(&old["items"]).iter().find(|item| item["item_id"] == "item-1").map(|item| number(&item["score"]));
        assert!(score.is_some_and(|score| score < 0.99), "its old picture is forgotten: {old}");
        learn(2).await;
        assert_eq!(first().await, "item-1");
        let explained = client.recommend(&json!({"item_id": "item-0", "explain": true, "count": 1})).await;
        let reasons = &explained["horizons"][0]["items"][0]["reasons"];
        assert!(number(&reasons["session"]) > 0.0, "sessions with an item that came back count again: {reasons}");
        assert_eq!(probabilities(&explained).len(), 3);
    });
}

#[test]
fn a_new_item_is_answered_at_once() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let client = server.client();
        assert_eq!(
            all_ids(&client.recommend(&json!({})).await),
            Vec::<&str>::new(),
            "an empty catalogue has an answer"
        );
        client.put("/v1/items/new", &json!({"images_base64": [base64(&world.pictures[2][0])]})).await.ok();
        assert_eq!(all_ids(&client.recommend(&json!({})).await), ["new"; 3]);
        let path = "/v1/sessions/s/frames?recommend=true";
        let answer = client.post_bytes(path, "image/jpeg", world.frame(2, 4.0)).await.ok();
        assert_eq!(all_ids(&answer["recommendation"]), ["new"; 3]);
    });
}
