//! Does everything come out again, whole and in an order that lasts?

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use upnext::domain::UserId;
use upnext::security::{Scope, UserHasher};

use crate::support::command::{at, at_with, done, failed};
use crate::support::world::click;
use crate::support::{Client, Server, Setup, World, run, text};

const SECRET: &str = "a secret that two servers share";

/// The lines of an answer.
pub(crate) fn rows(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut off: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A server with a few items and events of all sorts.
pub(crate) fn filled() -> Server {
    let (server, world) = (Setup::default().with(format!("security.user_secret={SECRET}")).start(), World::get());
    run(async {
        let client = server.client();
        for n in 0..6 {
            let mut item = world.document(n);
            if n > 1 {
                item.as_object_mut().unwrap().remove("images_base64");
            }
            client.put(&format!("/v1/items/{}", world.id(n)), &item).await.ok();
        }
        // Awkward on purpose: quotes, line breaks, numbers that a float does not hold, an id that is a route's.
        let awkward = json!({"title": "She said \"no\", twice", "description": "two\nlines", "tags": ["a b", "c"],
            "available_from": "2026-01-31T18:30:00.25Z", "duration_s": 0.1,
            "attributes": {"a:b": "c", "cast": ["A", "B"], "hd": false, "ratio": 0.1, "year": 1999}});
        client.put("/v1/items/%65xport", &awkward).await.ok();
        client.put("/v1/items/gone", &json!({})).await.ok();

        let now = server.now();
        for n in 0..40_u32 {
            let mut event =
                click(&format!("s-{}", n % 7), world.id(n as usize % 6), now.plus_seconds(f64::from(n) - 99.0));
            event["user_id"] = json!(format!("user {}", n % 5));
            if n % 2 == 0 {
                event["event_id"] = json!(format!("own, \"{n}\""));
                event["region"] = json!("de");
            }
            if n % 5 == 0 {
                event["type"] = json!("rate");
                event["value"] = json!(4.1);
                (event["position_s"], event["watched_s"]) = (json!(0.3), json!(12_345.678));
                event["recommendation_id"] = json!("r");
            }
            if n % 9 == 0 {
                event.as_object_mut().unwrap().remove("user_id");
            }
            client.tell(&[event]).await;
        }
        assert_eq!(client.delete("/v1/items/gone").await.status, 204);
    });
    server
}

async fn exported(client: &Client, path: &str) -> Vec<Value> {
    let answer = client.get(path).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{}", answer.body);
    rows(&answer.body)
}

#[test]
fn events_come_out_in_the_order_of_the_log() {
    let (server, world) = (filled(), World::get());
    let hasher = UserHasher::from_secret(SECRET.as_bytes());
    run(async {
        let client = server.client();
        let answer = client.get("/v1/events/export").await;
        assert!(!answer.body.contains("user_id") && !answer.body.contains("user 1"), "an id of a person");
        let all = rows(&answer.body);
        assert_eq!(all.len(), 40);
        // An event that names nobody belongs to whoever its session is known to be.
        let mut known = std::collections::HashMap::new();
        for (n, event) in all.iter().enumerate() {
            // Eight items were written before.
            assert_eq!(event["sequence"], 9 + n, "{event}");
            assert_eq!(
                (text(&event["session_id"]), text(&event["item_id"])),
                (format!("s-{}", n % 7).as_str(), world.id(n % 6))
            );
            let user = UserId::new(format!("user {}", n % 5)).unwrap();
            let pseudonym: String = hasher.user_key(&user).0.iter().map(|byte| format!("{byte:02x}")).collect();
            if n % 9 != 0 {
                known.insert(n % 7, pseudonym);
            }
            let expected = known.get(&(n % 7)).map_or(Value::Null, |pseudonym| json!(pseudonym));
            assert_eq!(event["user_key"], expected, "{event}");
        }
        let first = &all[0];
        assert_eq!((&first["event_id"], &first["type"]), (&json!("own, \"0\""), &json!("rate")));
        assert_eq!((&first["value"], &first["watched_s"]), (&json!(4.1), &json!(12_345.678)));
        assert!(all[1].get("value").is_none() && text(&all[1]["event_id"]).len() == 36);

        assert_eq!(exported(&client, "/v1/events/export?from_sequence=20&limit=3").await, all[11..14]);
        assert_eq!(exported(&client, "/v1/events/export?from_sequence=48").await, all[39..]);
        assert!(exported(&client, "/v1/events/export?from_sequence=49").await.is_empty(), "only a deletion is behind");
        assert!(exported(&client, "/v1/events/export?from_sequence=18446744073709551615").await.is_empty());
        for wrong in ["limit=0", "limit=-1", "from_sequence=x", "from=1"] {
            assert_eq!(
                client.get(&format!("/v1/events/export?{wrong}")).await.problem(),
                (400, "invalid_query".into())
            );
        }
    });
}

#[test]
fn items_come_out_by_their_ids_and_can_be_sent_back() {
    let (server, world) = (filled(), World::get());
    run(async {
        let client = server.client();
        let all = exported(&client, "/v1/items/export").await;
        let ids: Vec<&str> = all.iter().map(|item| text(&item["item_id"])).collect();
        let mut expected: Vec<&str> = (0..6).map(|n| world.id(n)).chain(["export"]).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected);
        for item in &all {
            let read = client.get(&format!("/v1/items/{}", text(&item["item_id"]).replace('e', "%65"))).await.ok();
            for (field, value) in item.as_object().unwrap() {
                if field != "exported_images" {
                    assert_eq!(&read[field], value);
                }
            }
            let pictures = |images: &Value| -> Vec<Value> {
                let each = images.as_array().into_iter().flatten();
                each.map(|i| json!([i["sha256"], i["width"], i["height"]])).collect()
            };
            assert_eq!(pictures(&item["exported_images"]), pictures(&read["images"]), "{item}");
        }
        let pictured = all.iter().find(|item| item["item_id"] == world.id(0)).unwrap();
        let sha256 = ring::digest::digest(&ring::digest::SHA256, &world.pictures[0][0]);
        let sha256: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(pictured["exported_images"][0], json!({"sha256": sha256, "width": 256, "height": 144}));

        let after = format!("/v1/items/export?after={}&limit=2", ids[2]);
        assert_eq!(exported(&client, &after).await, all[3..5]);
        assert!(exported(&client, "/v1/items/export?after=zzz").await.is_empty());
        // As it is, to the same server: it keeps its pictures.
        let body = client.get("/v1/items/export").await.body;
        let written = client.post_bytes("/v1/items/batch", "application/x-ndjson", body.clone()).await.ok();
        assert_eq!((&written["stored"], &written["failed"]), (&json!(7), &json!(0)), "{written}");
        assert_eq!(client.get("/v1/items/export").await.body, body);
    });
}

#[test]
fn only_administrators_may_take_everything_out() {
    let server = Setup::default().start();
    let key = server.new_key(&[Scope::Ingest, Scope::Recommend, Scope::Metrics], None);
    // Keys are found at a start.
    let server = server.restart();
    run(async {
        let client = server.client_with(Some(&key));
        for path in ["/v1/events/export", "/v1/items/export"] {
            assert_eq!(server.client_with(None).get(path).await.problem(), (401, "unauthorized".into()));
        }
        for path in ["/v1/events/export", "/v1/items/export"] {
            assert_eq!(client.get(path).await.problem(), (403, "forbidden".into()));
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("events.ndjson").display().to_string();
    let words = ["export", "events", "--out", &out].map(str::to_owned).into_iter();
    let complaint = failed(words.chain(at_with(&server, &key)));
    assert!(complaint.contains("403 Forbidden: the key lacks the scope"), "{complaint}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_few_exports_are_sent_at_a_time_and_more_are_told_to_wait() {
    let server = Setup::default().start();
    run(async {
        let client = server.client();
        // More than the buffers between here and there hold.
        let description = "x".repeat(19_000);
        let line = |n: u32| json!({"item_id": format!("item-{n:04}"), "description": description}).to_string() + "\n";
        for first in [0, 150, 300, 450] {
            let lines: String = (first..first + 150).map(line).collect();
            client.post_bytes("/v1/items/batch", "application/x-ndjson", lines).await.ok();
        }
        let mut open = Vec::new();
        for _ in 0..4 {
            // A connection each: on one, those that are not read would leave the others no room.
            let answer = server.client().request("GET", "/v1/items/export").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            open.push(answer);
        }
        let refused = client.get("/v1/items/export").await;
        assert_eq!((refused.problem(), refused.header("retry-after")), ((503, "busy".into()), "5"));
        // One is read to its end, the others are left: there is room again.
        let whole = open.pop().unwrap().text().await.unwrap();
        assert_eq!(rows(&whole).len(), 600);
        drop(open);
        for _ in 0..4 {
            let mut status = 0;
            for _ in 0..400 {
                status = client.get("/v1/items/export?limit=1").await.status;
                if status == 200 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            }
            assert_eq!(status, 200);
        }
    });
}

/// Exports with the program.
pub(crate) fn export(server: &Server, what: &str, out: &Path, more: &[&str]) -> String {
    let words = ["export", what, "--out", &out.display().to_string()].map(str::to_owned).into_iter();
    done(words.chain(at(server)).chain(more.iter().map(|&word| word.to_owned())))
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

#[test]
fn the_command_saves_what_the_server_answers_and_goes_on_where_it_stopped() {
    let (server, dir) = (filled(), tempfile::tempdir().unwrap());
    for (what, count) in [("items", 7), ("events", 40)] {
        let said = export(&server, what, &file(&dir, what), &[]);
        assert!(said.starts_with(&format!("{what}: {count} rows in ")), "{said}");
        let whole = std::fs::read(file(&dir, what)).unwrap();
        let answered = run(async { server.client().get(&format!("/v1/{what}/export")).await.body });
        assert_eq!(String::from_utf8(whole.clone()).unwrap(), answered);
        let table = format!("{what}.csv");
        export(&server, what, &file(&dir, &table), &[]);
        // A table is known by its name; the rest of a file that broke off in the middle of a row is fetched.
        for (name, whole) in [(what, whole), (&table, std::fs::read(file(&dir, &table)).unwrap())] {
            let out = file(&dir, &format!("again-{name}"));
            std::fs::write(file(&dir, &format!("again-{name}.part")), &whole[..whole.len() * 2 / 3]).unwrap();
            let said = export(&server, what, &out, &["--resume"]);
            assert!(said.starts_with(&format!("{what}: {count} rows")), "{said}");
            assert_eq!(std::fs::read(&out).unwrap(), whole, "{name}");
            assert!(!file(&dir, &format!("again-{name}.part")).exists());
        }
    }
    let header = std::fs::read_to_string(file(&dir, "items.csv")).unwrap();
    let attributes = "attributes.a:b:text,attributes.cast:list,attributes.even:flag,attributes.hd:flag";
    assert!(header.lines().next().unwrap().contains(attributes), "{header}");
    // A file that is no export is not written on.
    std::fs::write(file(&dir, "notes.part"), "remember the milk\n").unwrap();
    let words = ["export", "items", "--resume", "--out", &file(&dir, "notes").display().to_string()].map(str::to_owned);
    assert!(failed(words.into_iter().chain(at(&server))).contains("notes.part"));
    assert_eq!(std::fs::read_to_string(file(&dir, "notes.part")).unwrap(), "remember the milk\n");
}

#[test]
fn a_folder_without_a_server_is_exported_by_the_command_itself() {
    let stopped = filled().stop();
    let dir = tempfile::tempdir().unwrap();
    let out = file(&dir, "events.ndjson").display().to_string();
    let folder = stopped.settings.data_dir.display().to_string();
    let said = done(["export", "events", "--out", &out, "--data-dir", &folder]);
    assert!(said.starts_with("events: 40 rows"), "{said}");
    assert_eq!(rows(&std::fs::read_to_string(&out).unwrap()).len(), 40);
    let complaint =
        failed(["export", "events", "--out", &out, "--data-dir", &file(&dir, "nowhere").display().to_string()]);
    assert!(complaint.contains("there is no data folder"), "{complaint}");
}

/// The pictures of a server's items, in a folder, as an import finds them.
pub(crate) fn pictures(dir: &TempDir) -> PathBuf {
    let folder = file(dir, "pictures");
    std::fs::create_dir_all(&folder).unwrap();
    for n in 0..2 {
        for (place, picture) in World::get().pictures[n].iter().enumerate() {
            std::fs::write(folder.join(format!("{}-{place}.jpg", World::get().id(n))), picture).unwrap();
        }
    }
    folder
}
