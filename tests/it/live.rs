//! Do live sessions do what docs/live.md says? Over real sockets with TLS, and with clients that misbehave.

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use upnext::security::Scope;

use crate::support::client::fresh_session;
use crate::support::socket::Socket;
use crate::support::world::click;
use crate::support::{Server, Setup, World, all_ids, list, number, probabilities, run, shared, text};

pub(crate) fn path(session: &str, query: &str) -> String {
    format!("/v1/sessions/{session}/live?{query}")
}

fn seconds(lists: &Value) -> Vec<u64> {
    list(&lists["recommendation"]["horizons"]).iter().map(|h| h["seconds"].as_u64().unwrap()).collect()
}

#[test]
fn frames_stream_in_and_lists_stream_out() {
    let (server, world) = (shared(), World::get());
    run(async {
        let session = fresh_session();
        let mut socket = Socket::open(&server, &path(&session, "count=5&frames=true")).await;
        let hello = socket.hear().await.unwrap();
        assert_eq!((&hello["type"], &hello["resumed"]), (&json!("hello"), &json!(false)), "{hello}");
        let first = socket.hear_type("lists").await;
        assert_eq!((&first["because"], &first["number"]), (&json!("start"), &json!(1)));
        assert_eq!(seconds(&first), [15, 30, 60]);

        socket.frame(12.0, &world.frame(3, 12.0)).await;
        let seen = socket.hear_type("frame").await;
        assert_eq!((&seen["width"], &seen["near_duplicate"]), (&json!(256), &json!(false)), "{seen}");
        let lists = socket.hear_type("lists").await;
        let used = lists["recommendation"]["sources_used"].to_string();
        assert!(used.contains("visual"), "what is on screen counts: {used}");
        assert_eq!((number(&lists["frames"]), &lists["dropped_frames"]), (1.0, &json!(0)), "{lists}");
        assert_eq!(lists["recommendation"]["degraded"], false);

        // The same picture again.
        socket.frame(12.5, &world.frame(3, 12.0)).await;
        assert_eq!(socket.hear_type("frame").await["near_duplicate"], true);
        socket.say(&json!({"type": "ping"})).await;
        socket.hear_type("pong").await;
        socket.frame(20.0, &world.frame(9, 5.0)).await;
        assert_eq!(socket.hear_type("frame").await["motion"]["cut"], true);
        socket.close().await;
    });
}

#[test]
fn a_click_is_durable_acknowledged_and_changes_the_lists() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        // What was turned to after item 2, by others.
        let now = server.now();
        for n in 0..6 {
            let session = format!("other-{n}");
            let at = now.plus_seconds(-60.0);
            let events = [click(&session, world.id(2), at), click(&session, world.id(7), at.plus_seconds(10.0))];
            server.client().tell(&events).await;
        }
        let mut socket = Socket::open(&server, &path("s", "count=3")).await;
        let before = socket.hear_type("lists").await;
        socket.say(&json!({"type": "click", "event_id": "e1", "item_id": world.id(2)})).await;
        let ack = socket.hear_type("ack").await;
        assert_eq!((&ack["event_id"], &ack["status"]), (&json!("e1"), &json!("stored")), "{ack}");
        let after = socket.hear_type("lists").await;
        assert_eq!(after["because"], "change");
        assert_eq!(all_ids(&after["recommendation"])[0], world.id(7), "what others turned to next");
        assert_ne!(probabilities(&before["recommendation"]), probabilities(&after["recommendation"]));
        socket.say(&json!({"type": "click", "event_id": "e1", "item_id": world.id(2)})).await;
        assert_eq!(socket.hear_type("ack").await["status"], "duplicate");
        // An event that comes another way counts as well.
        server.client().tell(&[click("s", world.id(11), now)]).await;
        socket.hear_type("lists").await;
        socket.close().await;
    });
    let server = server.restart();
    run(async {
        let known = server.client().get("/v1/sessions/s").await.ok();
        assert_eq!(text(&known["items"][0]["item_id"]), world.id(2), "acknowledged is durable: {known}");
    });
}

#[test]
fn of_frames_that_come_too_fast_the_latest_counts() {
    let setup = Setup::default().with("live.max_frames_per_s=0.2").with("live.max_messages_per_s=1000");
    let (server, world) = (setup.start(), World::get());
    let frames: Vec<Vec<u8>> = (0..21).map(|n| world.frame(n, 1.0)).collect();
    run(async {
        let mut socket = Socket::open(&server, &path("s", "frames=true")).await;
        socket.hear_type("lists").await;
        socket.frame(0.0, &frames[0]).await;
        assert_eq!(socket.hear_type("frame").await["at_s"], 0.0);
        for (n, frame) in frames.iter().enumerate().skip(1) {
            socket.frame(n as f64, frame).await;
        }
        let next = socket.hear_type("frame").await;
        assert_eq!((number(&next["at_s"]), number(&next["dropped_frames"])), (20.0, 19.0), "{next}");
        let client = server.client();
        assert_eq!(client.metric("upnext_live_frames_total{outcome=\"dropped\"}").await, 19.0);
        assert_eq!(client.metric("upnext_live_frames_total{outcome=\"seen\"}").await, 2.0);
        assert_eq!(number(&client.get("/v1/sessions/s").await.ok()["frames"]), 2.0, "none was queued");
    });
}

#[test]
fn what_cannot_be_used_is_told_and_the_session_goes_on() {
    let (server, world) = (shared(), World::get());
    run(async {
        let mut socket = Socket::open(&server, &path(&fresh_session(), "")).await;
        socket.hear_type("lists").await;
        for (message, code) in [
            (Message::text("{"), "malformed_json"),
            (Message::text(" ".repeat(70_000)), "body_too_large"),
            (Message::text(r#"{"type": "clik"}"#), "invalid_value"),
            (Message::text(r#"{"type": "click"}"#), "invalid_value"),
            (Message::text(r#"{"type": "item"}"#), "invalid_value"),
            (Message::text(r#"{"type": "click", "item_id": "i", "session_id": "other"}"#), "invalid_value"),
            (Message::binary(vec![1, 2, 3]), "empty_body"),
            (Message::binary([&[0; 8][..], b"this is no picture"].concat()), "unsupported_image"),
            (Message::binary([&[0; 8][..], &world.frame(0, 0.0)[..900]].concat()), "bad_image"),
        ] {
            socket.send(message).await;
            let error = socket.hear_type("error").await;
            assert_eq!(text(&error["code"]), code, "{error}");
            assert!(number(&error["status"]) >= 400.0 && !text(&error["detail"]).is_empty());
        }
        socket.frame(1.0, &world.frame(0, 0.0)).await;
        socket.hear_type("lists").await;
        socket.close().await;
    });
}

#[test]
fn floods_and_giants_end_their_own_connection() {
    let setup = Setup::default().with("live.max_messages_per_s=5");
    let server = setup.start();
    run(async {
        let mut flood = Socket::open(&server, &path("a", "")).await;
        for _ in 0..12 {
            flood.say(&json!({"type": "lists"})).await;
        }
        assert_eq!(flood.hear_end().await, ("rate_limited".into(), (1008, "rate_limited".into())));
        let mut giant = Socket::open(&server, &path("b", "")).await;
        giant.send_anyway(Message::binary(vec![0; 1_100_000])).await;
        let (_, (code, _)) = giant.hear_end().await;
        assert!(code == 1009 || code == 1006, "{code}");
        let mut good = Socket::open(&server, &path("c", "")).await;
        good.hear_type("lists").await;
        let client = server.client();
        assert_eq!(client.metric("upnext_live_ended_total{reason=\"refused\"}").await, 2.0);
    });
}

#[test]
fn clients_that_vanish_leave_nothing_behind_and_come_back() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        let mut socket = Socket::open(&server, &path("s", "frames=true")).await;
        socket.frame(1.0, &world.frame(3, 1.0)).await;
        socket.hear_type("frame").await;
        drop(socket);
        let mut again = Socket::open(&server, &path("s", "")).await;
        let hello = again.hear_type("hello").await;
        assert_eq!((&hello["resumed"], number(&hello["frames"])), (&json!(true), 1.0), "{hello}");
        again.hear_type("lists").await;
        // A second one takes over, which the first one hears.
        let mut third = Socket::open(&server, &path("s", "")).await;
        third.hear_type("lists").await;
        assert_eq!(again.hear_end().await, ("replaced".into(), (4001, "replaced".into())));
        third.close().await;
        until_metric(&server, "upnext_live_connections{kind=\"socket\"}", 0.0).await;
    });
}

/// Waits until a metric has a value.
pub(crate) async fn until_metric(server: &Server, name: &str, wanted: f64) {
    while server.client().metric(name).await != wanted {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn a_client_that_is_silent_is_given_up() {
    let setup = Setup::default().with("live.heartbeat_s=0.1").with("live.idle_s=0.5").with("live.write_timeout_s=0.5");
    let server = setup.start();
    run(async {
        // Answers no ping, because nobody reads its stream.
        let socket = Socket::open(&server, &path("s", "")).await;
        until_metric(&server, "upnext_live_ended_total{reason=\"idle\"}", 1.0).await;
        drop(socket);
    });
}

#[test]
fn tickets_open_one_session_once() {
    let (server, world) = (shared(), World::get());
    run(async {
        let (client, session) = (server.client(), fresh_session());
        let ask = |body: Value| {
            let (client, path) = (client.clone(), format!("/v1/sessions/{session}/tickets"));
            async move { client.post(&path, &body).await }
        };
        let answer = ask(json!({"user_id": "alice", "age_rating": 12})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let ticket = text(&answer.json()["ticket"]).to_owned();
        let with = |session: &str, ticket: &str| path(session, &format!("ticket={ticket}"));
        let mut socket = Socket::try_open(&server, &with(&session, &ticket), None).await.unwrap();
        let lists = socket.hear_type("lists").await;
        let adults: Vec<&str> = (0..24).step_by(4).map(|n| world.id(n)).collect();
        let shown = all_ids(&lists["recommendation"]);
        assert!(!shown.is_empty() && !shown.iter().any(|id| adults.contains(id)), "{shown:?}");
        // She may speak for herself only.
        socket.say(&json!({"type": "like", "item_id": world.id(1), "user_id": "bob"})).await;
        assert_eq!(socket.hear_type("error").await["code"], "other_user");
        socket.close().await;

        let server = &server;
        let refused = |path: String| async move { Socket::try_open(server, &path, None).await.err() };
        let unauthorized = Some((401, "unauthorized".to_owned()));
        assert_eq!(refused(with(&session, &ticket)).await, unauthorized, "used twice");
        assert_eq!(refused(with(&session, "ut_nothing")).await, unauthorized);
        assert_eq!(refused(path(&session, "")).await, unauthorized, "neither key nor ticket");
        let other = text(&ask(json!({})).await.json()["ticket"]).to_owned();
        assert_eq!(refused(with("another", &other)).await, Some((403, "foreign_session".to_owned())));
        assert_eq!(refused(with(&session, &other)).await, unauthorized, "the attempt has used it up");
        let bad = ask(json!({"age_rating": 12})).await;
        assert_eq!(bad.problem(), (422, "invalid_value".into()));
        // A key that may not ask for lists may not give tickets either.
        let metrics = server.client_with(Some(&server.new_key(&[Scope::Metrics], None)));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let answer = metrics.post(&format!("/v1/sessions/{session}/tickets"), &json!({})).await;
        assert!(matches!(answer.status, 401 | 403), "{}", answer.body);
    });
}

#[test]
fn a_ticket_ends_with_its_time() {
    let server = Setup::default().start();
    run(async {
        let answer = server.client().post("/v1/sessions/s/tickets", &json!({})).await.ok();
        let ticket = text(&answer["ticket"]).to_owned();
        server.set_time(server.now().plus_seconds(31.0));
        let late = Socket::try_open(&server, &path("s", &format!("ticket={ticket}")), None).await.err();
        assert_eq!(late, Some((401, "unauthorized".to_owned())));
    });
}

#[test]
fn connections_are_bounded() {
    let server = Setup::default().with("live.max_connections=1").start();
    run(async {
        let first = Socket::open(&server, &path("a", "")).await;
        let second = Socket::try_open(&server, &path("b", ""), Some(server.key())).await.err();
        assert_eq!(second, Some((429, "too_many_connections".to_owned())));
        first.close().await;
        until_metric(&server, "upnext_live_connections{kind=\"socket\"}", 0.0).await;
        Socket::open(&server, &path("b", "")).await.close().await;
    });
}

#[test]
fn a_drain_says_goodbye_to_live_sessions() {
    let mut server = Setup::default().start();
    run(async {
        let mut socket = Socket::open(&server, &path("s", "")).await;
        socket.hear_type("lists").await;
        let mut reader = server.client().request("GET", "/v1/sessions/s/live/events").send().await.unwrap();
        let mut heard = String::new();
        while !heard.contains("event: lists") {
            heard += std::str::from_utf8(&reader.chunk().await.unwrap().expect("lists come first")).unwrap();
        }
        let drained = server.begin_stop();
        assert_eq!(socket.hear_end().await, ("shutting_down".into(), (1001, "shutting_down".into())));
        reader.text().await.expect("the stream ends as it should");
        assert_eq!(drained.await.unwrap().cut_off, 0, "nothing had to be cut off");
    });
}

#[test]
fn readers_hear_of_changes_and_go_on_where_they_were() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        let follow = |last: Option<String>| {
            let request = client.request("GET", "/v1/sessions/s/live/events?count=3");
            let request = last.iter().fold(request, |request, id| request.header("last-event-id", id));
            async move { request.send().await.unwrap() }
        };
        let answer = follow(None).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut stream = Box::pin(answer.bytes_stream());
        let first = next_event(&mut stream).await;
        let id = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        assert!(first.contains("event: lists") && first.contains("\"because\":\"start\""), "{first}");
        let mut again = Box::pin(follow(Some(id)).await.bytes_stream());
        until_metric(&server, "upnext_live_lists_total{outcome=\"unchanged\"}", 1.0).await;
        client.tell(&[click("s", world.id(5), server.now())]).await;
        client.post_bytes("/v1/sessions/s/frames", "image/jpeg", world.frame(3, 1.0)).await.ok();
        for stream in [&mut stream, &mut again] {
            let next = next_event(stream).await;
            assert!(next.contains("event: lists") && !next.contains("\"because\":\"start\""), "{next}");
        }
        let plain = client.get("/v1/sessions/s/live").await;
        assert_eq!(plain.problem(), (426, "upgrade_required".into()));
    });
}

/// The next event of a stream, without the comments before it.
async fn next_event(stream: &mut (impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin)) -> String {
    let mut heard = String::new();
    loop {
        let chunk = stream.next().await.expect("the stream goes on").unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
        if heard.contains("data: ") && heard.ends_with("\n\n") {
            return heard;
        }
    }
}
