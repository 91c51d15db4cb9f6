//! What do those who run the service see of it?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::world::{base64, click};
use crate::support::{Answer, Client, Setup, World, ids, list, number, run, shared, text};

#[test]
fn it_lives_and_a_real_picture_goes_through_the_model() {
    let server = shared();
    run(async {
        let client = server.client();
        assert_eq!(client.get("/livez").await.body, "ok\n");
        let ready = client.get("/readyz").await.ok();
        assert_eq!((&ready["status"], &ready["provider"]), (&json!("ready"), &json!("cpu")));
        assert!(
            text(&ready["model"]).starts_with("efficientnet-lite0-160@") && number(&ready["inference_ms"]) > 0.0,
            "{ready}"
        );
        let status = client.get("/v1/admin/status").await.ok();
        assert_eq!((&status["ready"], &status["items"]), (&json!(true), &json!(24)));
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        let root = client.get("/").await;
        assert!(root.body.contains("/v1/recommendations"), "{}", root.body);
        for (header, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
            assert_eq!(root.header(header), value);
        }
    });
}

/// One line of Prometheus's text format: name, labels, value.
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, &str>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
    };
    let plain = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut found = BTreeMap::new();
    // Label values here have neither commas nor quotes.
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=')?;
        found.insert(name, value.strip_prefix('"')?.strip_suffix('"')?);
        if !plain(name) {
            return None;
        }
    }
    plain(name).then_some((name, found, value))
}

#[test]
fn every_stage_is_measured() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        let now = server.now();
        client.tell(&[click("s", world.id(0), now.plus_seconds(-9.0)), click("s", world.id(1), now)]).await;
        client.post_bytes("/v1/sessions/s/frames?recommend=true", "image/jpeg", world.frame(1, 3.0)).await.ok();
        client.post_bytes("/v1/search", "image/jpeg", world.frame(2, 3.0)).await.ok();
        client.get("/v1/items/nothing").await;
        let answer = client.get("/metrics").await;
        assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
        let mut types = BTreeMap::new();
        let mut samples = Vec::new();
        for line in answer.body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) {
                    assert!(types.insert(name, kind).is_none(), "{name} is declared twice");
                }
                continue;
            }
            samples.push(sample(line).unwrap_or_else(|| panic!("not Prometheus's text format: {line}")));
        }
        let stage = |stage: &str| {
            let of_stage = |(name, labels, _): &&(&str, BTreeMap<&str, &str>, f64)| {
                *name == "upnext_stage_seconds_count" && labels.get("stage") == Some(&stage)
            };
            samples.iter().find(of_stage).map_or(0.0, |&(.., count)| count)
        };
        assert_eq!(types["upnext_stage_seconds"], "histogram");
        for name in [
            "decode",
            "preprocess",
            "queue",
            "inference",
            "source_visual",
            "source_trajectory",
            "source_session",
            "source_co_visitation",
            "source_transition",
            "source_trending",
            "source_metadata",
            "source_fresh",
            "features",
            "ranking",
            "rerank",
            "search",
            "commit",
            "apply",
            "request",
        ] {
            assert!(stage(name) > 0.0, "nothing was measured of the stage {name}");
        }
        assert_eq!(stage("request"), 1.0);
        let value = |wanted: &str| samples.iter().find(|(name, ..)| *name == wanted).map(|&(.., value)| value);
        for gauge in
            ["upnext_queue_depth", "upnext_sessions", "upnext_items", "upnext_index_vectors", "upnext_index_bytes"]
        {
            assert_eq!(types.get(gauge), Some(&"gauge"), "{gauge}");
            assert!(value(gauge).is_some(), "{gauge}");
        }
        // Sizes are taken once a second.
        for _ in 0..200 {
            if client.metric("upnext_items").await == 24.0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(client.metric("upnext_items").await, 24.0);
        assert_eq!(client.metric("upnext_index_vectors").await, 48.0);
        let by_route = "upnext_http_requests_total{method=\"GET\",route=\"/v1/items/{item_id}\",status=\"404\"}";
        assert!(answer.body.contains(by_route), "requests are counted by route, not by path");
    });
}

/// Whether `value` fits a schema of the document; what is not described may not be there.
fn check_schema(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let schema = document.pointer(pointer).ok_or_else(|| format!("{reference} leads nowhere"))?;
        return check_schema(document, schema, value, place);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let fits = choices.iter().any(|schema| check_schema(document, schema, value, place).is_ok());
            return if fits { Ok(()) } else { Err(format!("{place}: {value} fits no choice")) };
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number")) {
        return Err(format!("{place}: {kind}, documented is {kinds:?}"));
    }
    if let Value::Array(entries) = value {
        for (n, entry) in entries.iter().enumerate() {
            check_schema(document, &schema["items"], entry, &format!("{place}[{n}]"))?;
        }
    }
    if let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{place}.{name} is missing"));
            }
        }
        for (name, value) in fields {
            let schema = properties.get(name).ok_or_else(|| format!("{place}.{name} is not documented"))?;
            check_schema(document, schema, value, &format!("{place}.{name}"))?;
        }
    }
    Ok(())
}

/// Everything that a hit can bring of its item.
const HIT_FIELDS: [&str; 11] = [
    "title",
    "description",
    "tags",
    "categories",
    "regions",
    "duration_s",
    "age_rating",
    "available_from",
    "available_until",
    "attributes",
    "thumbnail",
];

/// A good request for an operation of the document.
async fn good_request(client: &Client, world: &World, method: &str, path: &str) -> Answer {
    let item = world.id(1);
    let filled = path.replace("{item_id}", item).replace("{n}", "0").replace("{session_id}", "known");
    let filled = filled.replace("{user_id}", "known").replace("{name}", "known");
    let request = client.request(&method.to_uppercase(), &filled);
    let jpeg = world.frame(1, 2.0);
    if path == "/v1/admin/models/rollback" {
        // There is no way back before the models that were told to have taken over.
        for _ in 0..600 {
            if client.get("/v1/admin/models").await.json()["coming"].is_null() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Answer::of(match (method, path) {
        ("get", "/v1/items/{item_id}/similar") => {
            request.query(&[("by", "mixed"), ("explain", "true"), ("with", &HIT_FIELDS.join(","))])
        }
        ("get" | "delete", _) => request,
        ("put", "/v1/items/{item_id}") => request.json(&json!({"title": "put", "images_base64": [base64(&jpeg)]})),
        ("patch", "/v1/items/{item_id}") => request.json(&json!({"title": "patched"})),
        ("post", "/v1/items/batch") => {
            request.header("content-type", "application/x-ndjson").body("{\"item_id\":\"row\"}\n{\"item_id\":7}\n")
        }
        ("post", "/v1/events") => request.json(&json!({"events": [
            {"type": "click", "session_id": "known", "item_id": item}, {"type": "none", "session_id": "known", "item_id": item}]})),
        ("post", "/v1/admin/snapshots") => request.json(&json!({"name": "another"})),
        ("post", "/v1/admin/snapshots/{name}/verify" | "/v1/admin/store/rewrite" | "/v1/admin/training") => request,
        ("post", "/v1/recommendations") => {
            request.json(&json!({"session_id": "known", "item_id": "unknown", "explain": true, "count": 3}))
        }
        ("post", "/v1/sessions/{session_id}/frames") => {
            request.query(&[("recommend", "true"), ("at_s", "2")]).header("content-type", "image/jpeg").body(jpeg)
        }
        ("post", "/v1/admin/models/activate") => request.json(&json!({"models": [{"name": "appearance"}]})),
        ("post", "/v1/admin/models/rollback") => request,
        ("post", "/v1/sessions/{session_id}/tickets") => request.json(&json!({})),
        ("post", "/v1/search") => request.json(&json!({"image_base64": base64(&jpeg), "positive": [{"text": "sea"}],
            "explain": true, "with": HIT_FIELDS})),
        _ => panic!("{method} {path} is documented, but this test does not know how to ask for it"),
    })
    .await
}

#[test]
fn the_document_describes_the_server() {
    let (server, world) = (Setup::default().with("ranking.learn=true").start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        client.tell(&[click("known", world.id(0), server.now())]).await;
        client.post("/v1/admin/snapshots", &json!({"name": "known"})).await.ok();
        let document = client.get("/openapi.json").await.ok();
        assert!(text(&document["openapi"]).starts_with("3.1"));
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            operations.extend(methods.as_object().unwrap().iter().map(|(method, operation)| (path, method, operation)));
        }
        assert!(operations.len() >= 20, "{}", operations.len());
        // What is deleted cannot be asked for afterwards.
        operations.sort_by_key(|(path, method, _)| (method.as_str() == "delete", path.as_str()));
        for (path, method, operation) in operations {
            // What goes on for ever has tests of its own.
            if path.contains("/live") && path.starts_with("/v1/sessions/") {
                continue;
            }
            let answer = good_request(&client, world, method, path).await;
            let responses = operation["responses"].as_object().unwrap();
            let place = format!("{method} {path}: {}", answer.status);
            assert!((200..300).contains(&answer.status), "{place} {}", answer.body);
            let response =
                responses.get(&answer.status.to_string()).unwrap_or_else(|| panic!("{place} is not documented"));
            let essence = answer.header("content-type").split(';').next().unwrap_or_default();
            let Some(content) = response["content"].as_object() else {
                assert!(answer.bytes.is_empty(), "{place}: a body, but none is documented");
                continue;
            };
            let described = content.get(essence).unwrap_or_else(|| panic!("{place}: {essence} is not documented"));
            if essence == "application/json" && !["/openapi.json", "/asyncapi.json"].contains(&path.as_str()) {
                check_schema(&document, &described["schema"], &answer.json(), &place).unwrap();
            }
            // Errors are as documented, too: nobody may ask for these without a key.
            if operation["security"].is_null() {
                let nobody = server.client_with(None);
                let refused = good_request(&nobody, world, method, path).await;
                let documented = responses.get("401").or_else(|| responses.get("default"));
                let schema = &documented.unwrap()["content"]["application/problem+json"]["schema"];
                assert_eq!(refused.status, 401, "{place}");
                check_schema(&document, schema, &refused.json(), &place).unwrap();
            }
        }
        // Nothing is documented that the document does not define.
        let text = document.to_string();
        let references: BTreeSet<&str> =
            text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(!references.is_empty() && references.iter().all(|pointer| document.pointer(pointer).is_some()));
    });
}

#[test]
fn the_shape_of_a_recommendation_is_kept() {
    let (server, world) = (shared(), World::get());
    let answer = run(async {
        let path = "/v1/sessions/snapshot/frames?recommend=true&explain=true&count=2&horizons_s=15,60&at_s=4";
        server.client().post_bytes(path, "image/jpeg", world.frame(7, 4.0)).await.ok()
    });
    insta::assert_json_snapshot!(answer, {
        ".recommendation.recommendation_id" => "[id]",
        ".recommendation.model" => "[model]",
        ".recommendation.took_ms" => "[ms]",
        ".recommendation.horizons[].items[].item_id" => "[item]",
        ".recommendation.horizons[].items[].probability" => "[probability]",
        ".recommendation.horizons[].items[].score" => "[score]",
        ".recommendation.horizons[].items[].reasons" => "[log-odds by name]",
    }, @r#"
    {
      "frame": {
        "height": 144,
        "motion": {
          "cut": false,
          "dx": 0.0,
          "dy": 0.0,
          "energy": 0.0
        },
        "near_duplicate": false,
        "width": 256
      },
      "recommendation": {
        "degraded": false,
        "frames": [],
        "horizons": [
          {
            "items": [
              {
                "item_id": "[item]",
                "probability": "[probability]",
                "rank": 1,
                "reasons": "[log-odds by name]",
                "score": "[score]"
              },
              {
                "item_id": "[item]",
                "probability": "[probability]",
                "rank": 2,
                "reasons": "[log-odds by name]",
                "score": "[score]"
              }
            ],
            "seconds": 15
          },
          {
            "items": [
              {
                "item_id": "[item]",
                "probability": "[probability]",
                "rank": 1,
                "reasons": "[log-odds by name]",
                "score": "[score]"
              },
              {
                "item_id": "[item]",
                "probability": "[probability]",
                "rank": 2,
                "reasons": "[log-odds by name]",
                "score": "[score]"
              }
            ],
            "seconds": 60
          }
        ],
        "model": "[model]",
        "recommendation_id": "[id]",
        "sources_used": [
          "visual",
          "trajectory",
          "trending",
          "fresh"
        ],
        "took_ms": "[ms]",
        "unknown_items": []
      }
    }
    "#);
}

#[test]
fn a_request_in_flight_is_finished_before_the_server_stops() {
    let mut server = Setup::default().start();
    run(async {
        let client = server.client();
        // A batch whose second line comes only once the server has been told to stop.
        let (send, lines) = tokio::sync::mpsc::channel::<Bytes>(4);
        let lines = futures_util::stream::unfold(lines, |mut lines| async move {
            let line = lines.recv().await?;
            Some((Ok::<_, std::io::Error>(line), lines))
        });
        send.send(Bytes::from_static(b"{\"item_id\":\"before\"}\n")).await.unwrap();
        let request = client.request("POST", "/v1/items/batch").header("content-type", "application/x-ndjson");
        let request = request.header("accept", "application/x-ndjson").body(reqwest::Body::wrap_stream(lines));
        // The head of the answer comes at once, so that the request is known to be in flight.
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let stopping = server.begin_stop();
        let mut refused = false;
        for _ in 0..600 {
            refused = tokio::net::TcpStream::connect(server.address()).await.is_err();
            if refused {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(refused, "a server that stops takes no new connections");
        send.send(Bytes::from_static(b"{\"item_id\":\"after\"}\n")).await.unwrap();
        drop(send);
        let rows: Vec<Bytes> = answer.bytes_stream().map(Result::unwrap).collect().await;
        let rows: Vec<Value> = rows
            .concat()
            .split(|&b| b == b'\n')
            .filter(|row| !row.is_empty())
            .map(|row| serde_json::from_slice(row).unwrap())
            .collect();
        assert!(rows.len() == 2 && rows.iter().all(|row| row["status"] == "created"), "{rows:?}");
        assert_eq!(stopping.await.unwrap().cut_off, 0);
    });
    let server = server.restart();
    run(async {
        let items = server.client().get("/v1/items").await.ok();
        assert_eq!(ids(&items["items"]), ["after", "before"], "what was acknowledged while stopping is durable");
        assert_eq!(list(&items["items"]).len(), 2);
    });
}
