//! Do traces reach a collector? A real server process, and a small collector that listens as a real one does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::kill::child::{Child, Folder};
use crate::support::world::World;
use crate::support::{list, run, text, tokio};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

type Heard = Arc<Mutex<Vec<Value>>>;

/// Listens on a port of its own and keeps every span.
async fn collector() -> (u16, Heard) {
    let heard = Heard::default();
    let keep = heard.clone();
    let take = move |Json(message): Json<Value>| {
        let keep = keep.clone();
        async move {
            let resource = &message["resourceSpans"][0];
            assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "upnext");
            keep.lock().unwrap().extend(list(&resource["scopeSpans"][0]["spans"]).iter().cloned());
            Json(json!({}))
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio().spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(take))).await });
    (port, heard)
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let found = list(&span["attributes"]).iter().find(|attribute| attribute["key"] == name);
    found.map_or(&Value::Null, |attribute| &attribute["value"])
}

#[test]
fn a_request_is_a_trace_with_its_stages() {
    let (port, heard) = run(collector());
    let folder = Folder::new();
    let endpoint = format!("telemetry.traces_endpoint=http://127.0.0.1:{port}/v1/traces");
    // Only who asks for it is traced.
    let child = Child::start_with(&folder, &[&endpoint, "telemetry.traces_share=0"]);
    run(async {
        let client = child.client(true);
        client.get("/v1/items").await.ok();
        let request =
            client.request("POST", "/v1/sessions/s/frames?recommend=true").header("content-type", "image/jpeg");
        let request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).body(World::get().frame(3, 1.0));
        assert_eq!(request.send().await.unwrap().status(), 200);
        let spans = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let spans = heard.lock().unwrap().clone();
            // The request ends last.
            if spans.iter().any(|span| span["parentSpanId"] == CALLER) {
                break spans;
            }
        };
        assert!(spans.iter().all(|span| span["traceId"] == TRACE), "{spans:?}");
        let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
        let [request] = named("POST /v1/sessions/{session_id}/frames")[..] else { panic!("{spans:?}") };
        assert_eq!(
            (&request["kind"], attribute(request, "http.response.status_code")),
            (&json!(2), &json!({"intValue": "200"}))
        );
        for (name, parent) in
            [("watch", "POST"), ("rank", "POST"), ("decode", "watch"), ("model", "watch"), ("source", "rank")]
        {
            let found = named(name);
            assert!(!found.is_empty(), "no {name}: {spans:?}");
            for span in found {
                let above = spans.iter().find(|other| other["spanId"] == span["parentSpanId"]).unwrap();
                assert!(text(&above["name"]).starts_with(parent), "{span} in {above}");
                let at = |span: &Value, name: &str| text(&span[name]).parse::<u64>().unwrap();
                assert!(at(span, "startTimeUnixNano") >= at(above, "startTimeUnixNano"));
                assert!(at(span, "endTimeUnixNano") >= at(span, "startTimeUnixNano"));
            }
        }
        let sources =
            named("source").into_iter().map(|span| text(&attribute(span, "upnext.name")["stringValue"]).to_owned());
        assert!(sources.collect::<Vec<_>>().contains(&"visual".to_owned()));
    });
}
