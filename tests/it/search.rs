//! Search by pictures, items, vectors and words, alone and together.

use serde_json::{Value, json};

use crate::support::client::fresh_session;
use crate::support::world::{base64, click, rfc3339};
use crate::support::{Answer, Client, Setup, World, ids, list, number, run, shared, text};

/// Searches; it must succeed. Every score is what its parts sum to, and hits come best first.
async fn search(client: &Client, body: &Value) -> Value {
    let mut body = body.clone();
    body["explain"] = json!(true);
    let found = client.post("/v1/search", &body).await.ok();
    let hits = list(&found["items"]);
    let offset = body["offset"].as_u64().unwrap_or(0);
    for (hit, place) in hits.iter().zip(offset + 1..) {
        let sum: f64 = list(&hit["parts"]).iter().map(|part| number(&part["contribution"])).sum();
        assert!((sum - number(&hit["score"])).abs() < 1e-3, "{hit}");
        assert_eq!(hit["rank"], place, "{found}");
    }
    assert!(hits.is_sorted_by(|a, b| number(&a["score"]) >= number(&b["score"])), "{found}");
    found["items"].clone()
}

fn picture(world: &World, n: usize) -> Value {
    json!({"image_base64": base64(&world.pictures[n][0])})
}

#[test]
fn several_pictures_are_looked_for_together() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let both = json!({"positive": [picture(world, 2), picture(world, 9)], "limit": 5});
        let found = search(&client, &both).await;
        let mut first = ids(&found)[..2].to_vec();
        first.sort_unstable();
        let mut expected = vec![world.id(2), world.id(9)];
        expected.sort_unstable();
        assert_eq!(first, expected, "either picture's own item is as alike as can be");
        assert!(list(&found)[..2].iter().all(|hit| number(&hit["score"]) > 0.999), "{found}");
        assert_eq!(list(&found)[0]["parts"][0]["example"].as_str().map(|e| &e[..9]), Some("positive["));

        // The same as parts of a multipart request, one of them with half the weight.
        let pictures = [world.pictures[2][0].clone(), world.pictures[9][0].clone()];
        let weights = json!({"positive": [{"image_part": 1, "weight": 0.5}], "limit": 5, "explain": true});
        let weighted = client.send_parts("POST", "/v1/search", ("request", &weights), ("image", &pictures)).await.ok();
        assert_eq!(ids(&weighted["items"])[0], world.id(2));
        let half = list(&weighted["items"]).iter().find(|hit| hit["item_id"] == world.id(9));
        assert!(half.is_none_or(|hit| number(&hit["score"]) < 0.9), "{weighted}");

        // One direction instead: every score is a cosine with the mean, to which both contribute.
        let mean = json!({"positive": both["positive"], "strategy": "average_vector", "limit": 5});
        let found = search(&client, &mean).await;
        assert_eq!(list(&list(&found)[0]["parts"]).len(), 2);
        assert!(ids(&found)[..2].contains(&world.id(2)) || ids(&found)[..2].contains(&world.id(9)), "{found}");
    });
}

#[test]
fn what_is_to_be_kept_away_from_goes_down() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let place = |found: &Value, id: &str| ids(found).iter().position(|other| *other == id).unwrap();
        let alone = search(&client, &json!({"positive": [picture(world, 4)], "limit": 24})).await;
        let neighbour = ids(&alone)[1].to_owned();
        for strategy in ["best_score", "average_vector"] {
            let body = json!({"positive": [picture(world, 4)], "negative": [{"item_id": neighbour}],
                "strategy": strategy, "limit": 24});
            let found = search(&client, &body).await;
            assert!(!ids(&found).contains(&neighbour.as_str()), "an example is no answer");
            assert_eq!(ids(&found)[0], world.id(4), "{strategy}");
            let same = json!({"positive": [picture(world, 4)], "negative": [picture(world, 4)], "limit": 24});
            assert!(strategy != "best_score" || number(&list(&search(&client, &same).await)[0]["score"]) <= 0.0);
        }
        // By its pictures instead of its id, so that it stays among the answers and can be seen to go down.
        let n = (0..24).find(|&n| world.id(n) == neighbour).unwrap();
        let mut negative = vec![picture(world, n)];
        let body = json!({"positive": [picture(world, 4)], "negative": negative, "limit": 48, "group": false});
        let found = search(&client, &body).await;
        let last = list(&found).last().unwrap();
        assert_eq!((&last["item_id"], &last["image"]), (&json!(neighbour), &json!(0)), "{last}");
        assert!(number(&last["score"]) < -0.999 && last["parts"][0]["example"] == "negative[0]", "{last}");
        // An item is its best picture, so that all of them have to be kept away from for it to go.
        negative.push(json!({"image_base64": base64(&world.pictures[n][1])}));
        let body = json!({"positive": [picture(world, 4)], "negative": negative, "limit": 24});
        let found = search(&client, &body).await;
        assert!(place(&found, &neighbour) > place(&alone, &neighbour), "{found}");
        // Words alone are looked for, a picture is kept away from.
        let words = json!({"text": world.item(4).item.title, "negative": [picture(world, 4)], "limit": 24});
        let away = search(&client, &words).await;
        let own = list(&away).iter().find(|hit| hit["item_id"] == world.id(4)).unwrap();
        let plain = search(&client, &json!({"text": world.item(4).item.title})).await;
        assert_eq!(ids(&plain)[0], world.id(4));
        assert!(number(&own["score"]) < number(&plain[0]["score"]), "{own}");
        // Only what is unlike something.
        let unlike = json!({"negative": [picture(world, 4)], "strategy": "average_vector", "limit": 24});
        assert_eq!(*ids(&search(&client, &unlike).await).last().unwrap(), world.id(4));
    });
}

#[test]
fn pictures_and_words_count_by_their_weights() {
    let server = Setup::default().start();
    let world = World::get();
    run(async {
        let client = server.client();
        world.load(&server).await;
        let words = json!({"title": "Zyzzyva", "tags": ["weevil"], "description": "An insect of the tropics"});
        client.put("/v1/items/weevil", &words).await.ok();
        let mixed = |image: f64, text: f64| {
            json!({"limit": 30, "positive": [
                {"image_base64": picture(world, 6)["image_base64"], "weight": image},
                {"text": "zyzzyva weevil", "weight": text}]})
        };
        let found = search(&client, &mixed(1.0, 0.01)).await;
        assert_eq!(ids(&found)[0], world.id(6));
        assert_eq!(list(&list(&found)[0]["parts"]).len(), 2, "{found}");
        let found = search(&client, &mixed(0.01, 1.0)).await;
        assert_eq!(ids(&found)[0], "weevil");
        let score = number(&list(&found)[0]["score"]);
        assert!(score > 0.5 && score < 1.0, "words score at most 1: {score}");
        assert!(list(&found)[0].get("image").is_none() && list(&found)[1].get("image").is_some(), "{found}");

        // In short, and by places.
        let short = json!({"image_base64": picture(world, 6)["image_base64"], "text": "zyzzyva", "fusion": "rrf"});
        let found = search(&client, &short).await;
        let first = &ids(&found)[..2];
        assert!(first.contains(&"weevil") && first.contains(&world.id(6)), "{found}");
        let top = &list(&found)[0];
        assert!((number(&top["score"]) - 1.0 / 61.0).abs() < 1e-6, "{top}");
        assert_eq!((&top["parts"][0]["rank"], list(&top["parts"]).len()), (&json!(1), 1));

        // Words to keep away from.
        let away =
            json!({"positive": [{"text": "insect tropics"}, picture(world, 6)], "negative": [{"text": "weevil"}]});
        let near = search(&client, &json!({"positive": away["positive"]})).await;
        let far =
            search(&client, &json!({"positive": away["positive"], "negative": away["negative"], "limit": 30})).await;
        let score = |found: &Value| {
            list(found).iter().find(|hit| hit["item_id"] == "weevil").map_or(0.0, |hit| number(&hit["score"]))
        };
        assert!(score(&far) < score(&near) - 0.1, "{far}");
    });
}

#[test]
fn filters_hold_inside_the_search() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let of = |id: &str| (0..24).find(|&n| world.id(n) == id).unwrap();
        let asked = async |filter: Value| {
            let body =
                json!({"positive": [picture(world, 1), {"text": "sea night forest"}], "limit": 24, "filter": filter});
            let mut found: Vec<usize> = ids(&search(&client, &body).await).into_iter().map(of).collect();
            found.sort_unstable();
            found
        };
        let numbers = |from: usize, to: usize| (from..to).collect::<Vec<_>>();
        let range = |bounds: Value| {
            let mut condition = json!({"field": "number"});
            condition.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
            json!({"must": [condition]})
        };
        assert_eq!(asked(range(json!({"gte": 5, "lte": 8}))).await, numbers(5, 9));
        assert_eq!(asked(range(json!({"gt": 5, "lt": 8}))).await, numbers(6, 8));
        assert_eq!(asked(range(json!({"gt": 5, "gte": 3, "lt": 9, "lte": 20}))).await, numbers(6, 9));
        assert_eq!(asked(range(json!({"gt": 8, "lt": 8}))).await, numbers(0, 0));
        let adults = asked(json!({"must": [{"field": "age_rating", "gt": 17}]})).await;
        assert_eq!(adults, (0..24).step_by(4).collect::<Vec<_>>());
        let filter = json!({"must": [{"field": "even", "any": [true]}], "must_not": [{"field": "region", "any": ["fr"]}],
            "should": [{"field": "number", "lt": 4}, {"field": "number", "gt": 20}]});
        // Items for all regions are for `fr`, too.
        assert_eq!(asked(filter).await, [4, 10, 16, 22].into_iter().filter(|n| *n < 4 || *n > 20).collect::<Vec<_>>());
        let text = json!({"text": "sea night forest", "limit": 24, "filter": range(json!({"lt": 6}))});
        assert!(ids(&search(&client, &text).await).into_iter().all(|id| of(id) < 6));
        // A region, with nothing said about when.
        let german = search(&client, &json!({"positive": [picture(world, 1)], "limit": 24, "region": "de"})).await;
        assert_eq!(list(&german).len(), 16);
        assert!(ids(&german).into_iter().all(|id| of(id) % 3 != 2));
    });
}

#[test]
fn a_search_can_look_at_what_is_available_only() {
    let server = Setup::default().start();
    let world = World::get();
    run(async {
        let client = server.client();
        let now = server.now();
        let windows = [("past", -200.0, -100.0), ("present", -100.0, 100.0), ("future", 100.0, 200.0)];
        for (n, (id, from, until)) in windows.into_iter().enumerate() {
            let item = json!({"title": "A window", "images_base64": [base64(&world.pictures[n][0])],
                "available_from": rfc3339(now.plus_seconds(from)), "available_until": rfc3339(now.plus_seconds(until))});
            client.put(&format!("/v1/items/{id}"), &item).await.ok();
        }
        let found = async |at: Value| {
            let mut body = json!({"positive": [picture(world, 1), {"text": "window"}]});
            if !at.is_null() {
                body["available_at"] = at;
            }
            let mut found: Vec<String> = ids(&search(&client, &body).await).into_iter().map(str::to_owned).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(found(Value::Null).await, ["future", "past", "present"], "a search looks into the whole catalogue");
        assert_eq!(found(json!("now")).await, ["present"]);
        assert_eq!(found(json!(rfc3339(now.plus_seconds(150.0)))).await, ["future"]);
        assert_eq!(found(json!(rfc3339(now.plus_seconds(-150.0)))).await, ["past"]);
        let similar = client.get("/v1/items/past/similar?available_at=now").await.ok();
        assert_eq!(ids(&similar["items"]), ["present"]);
    });
}

#[test]
fn pages_and_thresholds_fit_together() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        for more in [
            json!({"positive": [picture(world, 3)]}),
            json!({"positive": [picture(world, 3), {"text": "sea"}, picture(world, 8)]}),
            json!({"positive": [picture(world, 3), {"text": "sea night"}], "fusion": "rrf"}),
            json!({"positive": [picture(world, 3)], "negative": [picture(world, 5)], "group": false}),
        ] {
            let page = |limit: usize, offset: usize| {
                let mut body = more.clone();
                (body["limit"], body["offset"]) = (json!(limit), json!(offset));
                body
            };
            let whole = search(&client, &page(15, 0)).await;
            let mut pages = Vec::new();
            for offset in [0, 4, 8, 12] {
                pages.extend(list(&search(&client, &page(4, offset)).await).to_vec());
            }
            assert_eq!(list(&whole), &pages[..15], "{more}");
            // A threshold leaves out what is below it, and nothing else.
            let least = number(&list(&whole)[6]["score"]);
            let mut strict = page(15, 0);
            strict["score_threshold"] = json!(least - 1e-6);
            let strict = search(&client, &strict).await;
            let above = list(&whole).iter().filter(|hit| number(&hit["score"]) >= least - 1e-6).count();
            assert_eq!(list(&strict), &list(&whole)[..above], "{more}");
        }
        assert_eq!(list(&search(&client, &json!({"text": "sea", "offset": 900})).await).len(), 0);
    });
}

#[test]
fn an_items_pictures_can_be_hits_of_their_own() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let frame = world.pictures[7][1].clone();
        let grouped = client.post_bytes("/v1/search?limit=24", "image/jpeg", frame.clone()).await.ok();
        let mut of_items = ids(&grouped["items"]);
        assert_eq!((of_items[0], &grouped["items"][0]["image"]), (world.id(7), &json!(1)));
        of_items.sort_unstable();
        of_items.dedup();
        assert_eq!(of_items.len(), 24, "one hit an item");
        let each = client.post_bytes("/v1/search?limit=48&group=false", "image/jpeg", frame).await.ok();
        assert_eq!(list(&each["items"]).len(), 48, "two pictures an item");
        assert_eq!(each["items"][0]["image"], 1);
        let own: Vec<&Value> = list(&each["items"]).iter().filter(|hit| hit["item_id"] == world.id(7)).collect();
        assert!(own.len() == 2 && own[0]["image"] == 1 && own[1]["image"] == 0, "{own:?}");
        assert!(number(&own[0]["score"]) > number(&own[1]["score"]), "{own:?}");
    });
}

#[test]
fn hits_bring_what_is_asked_for() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let body = json!({"image_base64": base64(&world.pictures[5][1]), "limit": 1,
            "with": ["title", "tags", "duration_s", "attributes", "thumbnail"]});
        let hit = &search(&client, &body).await[0];
        let item = &world.item(5).item;
        assert_eq!((&hit["item"]["title"], &hit["item"]["tags"]), (&json!(item.title), &json!(item.tags)));
        assert_eq!(hit["item"]["attributes"]["number"], 5.0);
        assert!(hit["item"].get("description").is_none() && hit["item"].get("regions").is_none(), "{hit}");
        let thumbnail = client.get(text(&hit["item"]["thumbnail"])).await;
        assert_eq!((thumbnail.status, thumbnail.header("content-type")), (200, "image/jpeg"));
        assert!(text(&hit["item"]["thumbnail"]).ends_with("/images/1"), "of the picture that was found: {hit}");
        let similar = client.get(&format!("/v1/items/{}/similar?with=title,thumbnail&limit=2", world.id(5))).await.ok();
        assert!(list(&similar["items"]).iter().all(|hit| hit["item"]["title"].is_string()), "{similar}");
        let bare = client.get(&format!("/v1/items/{}/similar?limit=2", world.id(5))).await.ok();
        assert!(bare["items"][0].get("item").is_none() && bare["items"][0].get("parts").is_none(), "{bare}");
    });
}

#[test]
fn items_are_alike_in_looks_words_and_audience() {
    let server = Setup::default().start();
    let world = World::get();
    run(async {
        let client = server.client();
        for (id, title, n) in
            [("a", "Quokka island", 0), ("b", "Quokka beach", 9), ("c", "Deep space", 0), ("d", "Rain", 17)]
        {
            let item = json!({"title": title, "images_base64": [base64(&world.pictures[n][usize::from(id == "c")])]});
            client.put(&format!("/v1/items/{id}"), &item).await.ok();
        }
        client.put("/v1/items/blind", &json!({"title": "Quokka radio"})).await.ok();
        for _ in 0..5 {
            let (session, at) = (fresh_session(), server.now().plus_seconds(-100.0));
            client.tell(&[click(&session, "a", at), click(&session, "d", at.plus_seconds(9.0))]).await;
        }
        let first = async |query: &str| {
            let found = client.get(&format!("/v1/items/a/similar?{query}")).await.ok();
            assert!(!ids(&found["items"]).contains(&"a"), "nothing is similar to itself");
            ids(&found["items"]).first().map(|id| (*id).to_owned())
        };
        assert_eq!(first("").await.as_deref(), Some("c"), "another frame of the same film");
        assert_eq!(first("by=image").await.as_deref(), Some("c"));
        let words = client.get("/v1/items/a/similar?by=metadata").await.ok();
        let mut found = ids(&words["items"]);
        found.sort_unstable();
        assert_eq!(found, ["b", "blind"]);
        assert_eq!(first("by=engagement").await.as_deref(), Some("d"));
        let mixed = client.get("/v1/items/a/similar?by=mixed&explain=true&limit=4").await.ok();
        assert_eq!(list(&mixed["items"]).len(), 4);
        let b = list(&mixed["items"]).iter().find(|hit| hit["item_id"] == "b").unwrap();
        assert_eq!((&b["parts"][0]["by"], &b["parts"][1]["by"]), (&json!("image"), &json!("metadata")), "{mixed}");
        // What lacks pictures is compared in words where both count, and refused where only pictures do.
        let blind = client.get("/v1/items/blind/similar?by=mixed").await.ok();
        assert!(ids(&blind["items"]).contains(&"a"), "{blind}");
        assert_eq!(client.get("/v1/items/blind/similar").await.problem(), (422, "item_without_image".into()));
        assert_eq!(client.get("/v1/items/a/similar?by=smell").await.json()["errors"][0]["field"], "by");
        // The same as examples, several at once.
        let body = json!({"positive": [{"item_id": "a", "by": "engagement"}, {"item_id": "b", "by": "metadata"}]});
        let found = search(&client, &body).await;
        assert!(ids(&found).contains(&"d") && ids(&found).contains(&"blind"), "{found}");
        assert!(!ids(&found).contains(&"a") && !ids(&found).contains(&"b"), "{found}");
    });
}

#[test]
fn vectors_are_searched_with_as_they_are() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let unit = |place: usize| -> Vec<f32> { (0..320).map(|n| if n == place { 2.5 } else { 0.0 }).collect() };
        let found = search(&client, &json!({"positive": [{"embedding": unit(3)}], "limit": 24})).await;
        assert_eq!(list(&found).len(), 24);
        let against = json!({"negative": [{"embedding": unit(3)}], "strategy": "average_vector", "limit": 24});
        let turned: Vec<String> = ids(&search(&client, &against).await).into_iter().rev().map(str::to_owned).collect();
        assert_ne!(ids(&found), turned, "an item is its best picture, so that this is not simply the other way round");
        assert!(list(&found).iter().all(|hit| number(&hit["score"]).abs() <= 1.0));
        let pictured = json!({"positive": [{"embedding": unit(3)}, picture(world, 2)], "limit": 1});
        assert_eq!(ids(&search(&client, &pictured).await), [world.id(2)]);
    });
}

#[test]
fn what_cannot_be_searched_with_is_refused_by_name() {
    let (server, world) = (shared(), World::get());
    run(async {
        let client = server.client();
        let good = picture(world, 1);
        let table = [
            (json!({"positive": [good, {"embedding": [1.0, 2.0]}]}), "positive[1]"),
            (json!({"positive": [{"embedding": vec![0.0; 320]}]}), "positive[0]"),
            (json!({"positive": [good, {"image_base64": "aGVsbG8gd29ybGQ="}]}), "positive[1]"),
            (json!({"negative": [good]}), "positive"),
            (json!({"negative": [good], "positive": [{"text": "sea"}], "fusion": "rrf"}), "negative"),
            (json!({"positive": [good], "negative": [{"text": "sea"}], "fusion": "rrf"}), "negative"),
            (json!({"positive": [good], "fusion": "rrf", "group": false}), "group"),
            (json!({"positive": [good], "limit": 1, "offset": 5_000}), "offset"),
            (json!({"positive": [good], "offset": -1}), "offset"),
            (json!({"positive": [good], "score_threshold": "high"}), "score_threshold"),
            (
                json!({"positive": [good], "filter": {"must": [{"field": "number", "any": [1], "gt": 1}]}}),
                "filter.must[0]",
            ),
        ];
        for (body, field) in table {
            let refused = client.post("/v1/search", &body).await;
            assert!([415, 422].contains(&refused.status), "{field}: {}", refused.body);
            assert_eq!(refused.json()["errors"][0]["field"], field, "{}", refused.body);
        }
        // Opposite directions of the same weight lead nowhere.
        let vector: Vec<f32> = (0..320).map(|n| (n as f32).sin()).collect();
        let opposite: Vec<f32> = vector.iter().map(|v| -v).collect();
        let nowhere =
            json!({"positive": [{"embedding": vector}, {"embedding": opposite}], "strategy": "average_vector"});
        let refused = client.post("/v1/search", &nowhere).await;
        assert_eq!(refused.json()["errors"][0]["field"], "positive", "{}", refused.body);
        let unknown = client.post("/v1/search", &json!({"positive": [good, {"item_id": "nothing"}]})).await;
        assert_eq!(unknown.problem(), (404, "item_not_found".into()));
        for query in ["offset=x", "with=price", "by=smell", "available_at=later", "unknown=1"] {
            let path = format!("/v1/items/{}/similar?{query}", world.id(1));
            let refused = client.get(&path).await;
            assert!([400, 422].contains(&refused.status), "{query}: {}", refused.body);
            assert_eq!(refused.json()["errors"][0]["field"], query.split('=').next().unwrap(), "{}", refused.body);
        }
        let nobody = server.client_with(None);
        assert_eq!(Answer::of(nobody.request("POST", "/v1/search").json(&json!({"text": "sea"}))).await.status, 401);
    });
}
