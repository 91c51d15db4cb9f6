//! Is a deadline kept, whatever hangs, and is nothing done for those who have gone?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::live::path;
use crate::support::socket::Socket;
use crate::support::{Server, Setup, World, all_ids, list, run};

/// Makes a source hang until it is let go.
struct Hung {
    held: Arc<AtomicBool>,
    /// Rankings that hang in it at the moment.
    inside: Arc<AtomicUsize>,
}

impl Hung {
    fn source(server: &Server, name: &'static str) -> Self {
        let (held, inside) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (listener_held, listener_inside) = (held.clone(), inside.clone());
        server.engine().before_sources(move |source| {
            if source == name && listener_held.load(Ordering::SeqCst) {
                listener_inside.fetch_add(1, Ordering::SeqCst);
                while listener_held.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                listener_inside.fetch_sub(1, Ordering::SeqCst);
            }
        });
        Self { held, inside }
    }

    fn let_go(&self) {
        self.held.store(false, Ordering::SeqCst);
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // A server that stops waits for its threads.
        self.let_go();
    }
}

fn used(answer: &Value) -> Vec<&str> {
    list(&answer["sources_used"]).iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_source_that_hangs_is_left_out_and_comes_back() {
    let (server, world) = (Setup::default().start(), World::get());
    run(async {
        world.load(&server).await;
        let client = server.client();
        let hung = Hung::source(&server, "trending");
        client.post_bytes("/v1/sessions/s/frames", "image/jpeg", world.frame(3, 1.0)).await.ok();
        let ask = json!({"session_id": "s", "item_id": world.id(2), "count": 5, "deadline_ms": 2_000});
        for round in 0..3 {
            let answer = client.recommend(&ask).await;
            assert_eq!(answer["degraded"], true, "round {round}: {answer}");
            let used = used(&answer);
            assert!(used.contains(&"fresh") && !used.contains(&"trending"), "round {round}: {used:?}");
            assert_eq!(all_ids(&answer).len(), 15, "there is an answer without it");
            assert_eq!(hung.inside.load(Ordering::SeqCst), 1, "others do not walk into it");
        }
        let answer = client.recommend(&json!({"item_id": world.id(2), "count": 5})).await;
        assert!(
            answer["degraded"] == true && !used(&answer).contains(&"trending"),
            "nor do those without frames: {answer}"
        );
        assert_eq!(client.metric("upnext_degraded_answers_total").await, 4.0);
        hung.let_go();
        loop {
            let answer = client.recommend(&ask).await;
            if used(&answer).contains(&"trending") {
                assert_eq!(answer["degraded"], false, "{answer}");
                break;
            }
        }
    });
}

#[test]
fn the_servers_own_deadline_counts_when_the_request_has_none() {
    let (server, world) = (Setup::default().with("ranking.deadline_ms=1000").start(), World::get());
    run(async {
        world.load(&server).await;
        let _hung = Hung::source(&server, "visual");
        let mut socket = Socket::open(&server, &path("s", "count=5")).await;
        let first = socket.hear_type("lists").await;
        assert_eq!(first["recommendation"]["degraded"], false, "there is nothing to look at yet: {first}");
        socket.frame(1.0, &world.frame(3, 1.0)).await;
        let lists = socket.hear_type("lists").await;
        let recommendation = &lists["recommendation"];
        assert_eq!(recommendation["degraded"], true, "{lists}");
        assert!(!used(recommendation).contains(&"visual"), "{lists}");
        assert_eq!(all_ids(recommendation).len(), 15);
        socket.close().await;
    });
}

#[test]
fn frames_of_those_who_have_gone_do_not_reach_the_model() {
    let setup = Setup::default().with("inference.models_dir=tests/fixtures/models").with("inference.model=slow");
    let (server, world) = (setup.start(), World::get());
    run(async {
        let client = server.client();
        let inferences = async || client.metric("upnext_stage_seconds_count{stage=\"inference\"}").await;
        let before = inferences().await;
        let mut requests = tokio::task::JoinSet::new();
        for n in 0..20 {
            let (client, frame) = (server.http1_client(), world.frame(n, 1.0));
            requests.spawn(async move {
                client.post_bytes(&format!("/v1/sessions/s{n}/frames"), "image/jpeg", frame).await.status
            });
        }
        assert_eq!(requests.join_next().await.unwrap().unwrap(), 200);
        // The others wait for the model, or are on their way to it; their connections break off.
        requests.abort_all();
        drop(requests);
        let last = client.post_bytes("/v1/sessions/last/frames", "image/jpeg", world.frame(21, 1.0)).await;
        assert_eq!(last.status, 200, "{}", last.body);
        let after = inferences().await;
        assert!(after - before < 20.0, "{} pictures were looked at for two who waited", after - before);
    });
}
