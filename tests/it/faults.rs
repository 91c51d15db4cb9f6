//! What happens when something breaks? The cases of docs/live.md, each with what it says.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use upnext::domain::Pixels;
use upnext::security::{KeyFile, Scope};

use crate::live::{path, until_metric};
use crate::support::socket::Socket;
use crate::support::world::jpeg;
use crate::support::{Setup, World, all_ids, list, number, run, text, tls};

const MODELS: &str = "inference.models_dir=tests/fixtures/models";

/// A JPEG of one grey.
fn grey(level: u8) -> Vec<u8> {
    jpeg(&Pixels::new(64, 64, vec![level; 64 * 64 * 3]).unwrap())
}

#[test]
fn a_model_that_fails_costs_the_frame_and_not_the_lists() {
    let (server, world) = (Setup::default().with(MODELS).with("inference.model=fails").start(), World::get());
    run(async {
        let client = server.client();
        for n in 0..6 {
            client.put(&format!("/v1/items/{}", world.id(n)), &json!({"title": "Plain"})).await.ok();
        }
        let post = async |query: &str, level| {
            let path = format!("/v1/sessions/s/frames?{query}");
            client.post_bytes(&path, "image/jpeg", grey(level)).await
        };
        let good = post("recommend=true", 40).await.ok();
        assert_eq!(good["recommendation"]["degraded"], false, "{good}");
        let bad = post("recommend=true", 220).await.ok();
        assert_eq!(
            (&bad["frame"]["missed"], &bad["recommendation"]["degraded"]),
            (&json!(true), &json!(true)),
            "{bad}"
        );
        assert!(!all_ids(&bad["recommendation"]).is_empty());
        // Whoever asks for nothing but the frame hears that it failed.
        let plain =
            client.request("POST", "/v1/sessions/s/frames").header("content-type", "image/jpeg").body(grey(230));
        let failed = plain.send().await.unwrap();
        assert_eq!(failed.status(), 500);
        assert_eq!(failed.json::<Value>().await.unwrap()["code"], "internal");
        assert_eq!(
            number(&client.get("/v1/sessions/s").await.ok()["frames"]),
            1.0,
            "what was not seen counts for nothing"
        );

        let mut socket = Socket::open(&server, &path("t", "frames=true")).await;
        socket.hear_type("lists").await;
        socket.frame(1.0, &grey(210)).await;
        // Lists may have been due with it or not.
        loop {
            let message = socket.hear().await.unwrap();
            match text(&message["type"]) {
                "frame" => assert_eq!((&message["missed"], &message["dropped_frames"]), (&json!(true), &json!(1))),
                "error" => assert_eq!((&message["code"], &message["at_s"]), (&json!("internal"), &json!(1.0))),
                _ => continue,
            }
            break;
        }
        socket.frame(2.0, &grey(30)).await;
        let frame = socket.hear_type("frame").await;
        assert_eq!((&frame["missed"], &frame["at_s"]), (&Value::Null, &json!(2.0)), "the session goes on: {frame}");
        socket.close().await;
    });
}

#[test]
fn a_slow_model_drops_stale_frames_and_says_how_many() {
    let setup = Setup::default().with(MODELS).with("inference.model=slow").with("live.max_frames_per_s=1000");
    let (server, world) = (setup.with("live.max_messages_per_s=1000").start(), World::get());
    let frames: Vec<Vec<u8>> = (0..20).map(|n| world.frame(n, 1.0)).collect();
    run(async {
        let mut socket = Socket::open(&server, &path("s", "frames=true&deadline_ms=60000")).await;
        socket.hear_type("lists").await;
        for (n, frame) in frames.iter().enumerate() {
            socket.frame(n as f64, frame).await;
        }
        let mut seen = 0.0;
        let dropped = loop {
            let frame = socket.hear_type("frame").await;
            seen += 1.0;
            if frame["at_s"] == 19.0 {
                break number(&frame["dropped_frames"]);
            }
        };
        assert_eq!(seen + dropped, 20.0, "each was looked at or counted as dropped");
        assert!(dropped > 0.0, "none was queued");
        assert_eq!(number(&server.client().get("/v1/sessions/s").await.ok()["frames"]), seen);
        socket.close().await;
    });
}

#[test]
fn a_client_that_stops_reading_is_cut_off_and_others_do_not_notice() {
    let setup = Setup::default().with("live.write_timeout_s=0.5").with("live.max_pushes_per_s=1000");
    let (server, world) = (setup.with("live.max_messages_per_s=100000").start(), World::get());
    run(async {
        world.load(&server).await;
        let mut deaf = Socket::open(&server, &path("deaf", "count=100&explain=true")).await;
        let mut other = Socket::open(&server, &path("other", "count=3")).await;
        other.hear_type("lists").await;
        let client = server.client();
        // Until what nobody reads fills all buffers on the way.
        while client.metric("upnext_live_ended_total{reason=\"stalled\"}").await < 1.0 {
            for _ in 0..20 {
                if !deaf.send_if_taken(Message::text(r#"{"type": "lists"}"#)).await {
                    break;
                }
            }
            other.say(&json!({"type": "lists"})).await;
            other.hear_type("lists").await;
        }
        other.close().await;
        until_metric(&server, "upnext_live_connections{kind=\"socket\"}", 0.0).await;
    });
}

#[test]
fn a_key_that_is_revoked_ends_its_connections() {
    let server = Setup::default().with("live.heartbeat_s=0.1").start();
    let key = server.new_key(&[Scope::Recommend], None);
    let server = server.restart();
    run(async {
        let mut socket = Socket::try_open(&server, &path("s", ""), Some(&key)).await.unwrap();
        let mut other = Socket::open(&server, &path("t", "")).await;
        socket.hear_type("lists").await;
        KeyFile::in_dir(server.data_dir()).revoke(&key, server.now()).unwrap();
        // Files are looked at once a second, by the server's clock.
        server.set_time(server.now().plus_seconds(2.0));
        assert_eq!(socket.hear_end().await, ("unauthorized".into(), (4002, "unauthorized".into())));
        let again = Socket::try_open(&server, &path("s", ""), Some(&key)).await.err();
        assert_eq!(again, Some((401, "unauthorized".to_owned())));
        other.say(&json!({"type": "ping"})).await;
        other.hear_type("pong").await;
    });
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let server = Setup::default().with("server.request_timeout_s=0.5").start();
    run(async {
        let mut slow = tls::connect(server.address(), server.certificate()).await;
        let head = format!(
            "POST /v1/sessions/s/frames HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: image/jpeg\r\ncontent-length: 100000\r\n\r\n",
            server.key()
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(slow);
        let dripping = tokio::spawn(async move {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut answer = Vec::new();
        // Ends only when the server closes.
        let _ = reading.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("timed_out"), "{answer}");
        dripping.abort();
    });
}

#[test]
fn a_full_disk_refuses_events_and_lists_go_on() {
    let (server, world) = (Setup::default().start(), World::get());
    run(world.load(&server));
    // No disk has that much room.
    let server = server.restart_with("store.min_free_bytes=9000000000000000");
    run(async {
        let mut socket = Socket::open(&server, &path("s", "count=3")).await;
        socket.hear_type("lists").await;
        socket.say(&json!({"type": "click", "event_id": "e1", "item_id": world.id(2)})).await;
        let error = socket.hear_type("error").await;
        assert_eq!((text(&error["code"]), text(&error["event_id"])), ("disk_full", "e1"), "{error}");
        socket.frame(1.0, &world.frame(3, 1.0)).await;
        let lists = socket.hear_type("lists").await;
        assert!(list(&lists["recommendation"]["sources_used"]).contains(&json!("visual")), "{lists}");
        socket.close().await;
    });
}

#[test]
fn live_sessions_go_on_after_a_restart() {
    let (mut server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let mut socket = Socket::open(&server, &path("s", "frames=true&count=3")).await;
        socket.frame(1.0, &world.frame(3, 1.0)).await;
        socket.hear_type("frame").await;
        socket.say(&json!({"type": "click", "event_id": "e1", "item_id": world.id(2)})).await;
        socket.hear_type("ack").await;
        let drained = server.begin_stop();
        assert_eq!(socket.hear_end().await.1.0, 1001);
        assert_eq!(drained.await.unwrap().cut_off, 0);
    });
    let server = server.restart();
    run(async {
        let mut socket = Socket::open(&server, &path("s", "count=3")).await;
        let hello = socket.hear_type("hello").await;
        assert_eq!(hello["resumed"], true, "its events are remembered: {hello}");
        let lists = socket.hear_type("lists").await;
        let used = list(&lists["recommendation"]["sources_used"]);
        assert!(used.contains(&json!("transition")) && !used.contains(&json!("visual")), "its frames are not: {lists}");
        // What was not acknowledged is sent again, and this might have been.
        socket.say(&json!({"type": "click", "event_id": "e1", "item_id": world.id(2)})).await;
        assert_eq!(socket.hear_type("ack").await["status"], "duplicate");
        socket.frame(2.0, &world.frame(3, 1.0)).await;
        let lists = socket.hear_type("lists").await;
        assert!(list(&lists["recommendation"]["sources_used"]).contains(&json!("visual")), "{lists}");
        socket.close().await;
    });
}
