//! What do the two sides of a live session say, for programs? The `AsyncAPI` document (3.0), made of the schemas that the OpenAPI
//! document has, so that both are of the same types.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// What the server says: the `type`, and what it means.
const FROM_SERVER: [(&str, &str); 7] = [
    ("hello", "The first message: what a client should know of its connection"),
    ("lists", "Lists that differ from those pushed before in a way that a viewer would notice"),
    ("frame", "With `frames=true`: a frame was looked at"),
    ("ack", "An event is durable"),
    ("error", "Something that the client sent cannot be used, or could not be done; the session goes on"),
    ("pong", "The answer to `ping`"),
    ("bye", "The last message; the connection is closed next, with the code as the reason"),
];
/// What the player of a client does.
const PLAYER: [&str; 4] = ["item", "pause", "resume", "seek"];

/// The document; `openapi` is the other one.
pub(super) fn document(openapi: &Value) -> Value {
    let schemas = &openapi["components"]["schemas"];
    let mut messages = Map::new();
    messages.insert(
        "picture".into(),
        json!({
            "title": "A frame",
            "summary": "Eight bytes with the media time in seconds (IEEE 754 double, big-endian; NaN if it is not known), \
                        then the picture's file. Of frames that come too fast the latest counts.",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }),
    );
    messages.insert(
        "event".into(),
        json!({
            "title": "An event",
            "summary": "As in `POST /v1/events`, without `session_id`; answered by `ack` when it is durable",
            "contentType": "application/json",
            "payload": event_schema(schemas),
            "examples": [{"name": "a click", "payload": {"type": "click", "event_id": "e1", "item_id": "film-42"}}],
        }),
    );
    messages.insert(
        "player".into(),
        json!({
            "title": "What the player does",
            "summary": "It shows another item, stands still, goes on, has jumped. Not logged",
            "contentType": "application/json",
            "payload": {
                "type": "object",
                "required": ["type"],
                "additionalProperties": false,
                "properties": {
                    "type": {"enum": PLAYER},
                    "item_id": {"type": ["string", "null"], "description": "With `item`: the item"},
                    "at_s": {"type": ["number", "null"], "minimum": 0, "description": "Media time in seconds"},
                },
            },
            "examples": [
                {"name": "another item", "payload": {"type": "item", "item_id": "film-42", "at_s": 0}},
                {"name": "a pause", "payload": {"type": "pause", "at_s": 12.5}},
            ],
        }),
    );
    for (kind, summary) in
        [("ask", "Lists are wanted, whether they have changed or not"), ("ping", "Answered by `pong`")]
    {
        let word = if kind == "ask" { "lists" } else { kind };
        messages.insert(
            kind.into(),
            json!({
                "title": word,
                "summary": summary,
                "contentType": "application/json",
                "payload": {"type": "object", "required": ["type"], "properties": {"type": {"const": word}}},
                "examples": [{"name": word, "payload": {"type": word}}],
            }),
        );
    }
    for (kind, summary) in FROM_SERVER {
        let payload = variant(schemas, kind).cloned().unwrap_or_default();
        let message = json!({"title": kind, "summary": summary, "contentType": "application/json", "payload": payload});
        messages.insert(kind.into(), message);
    }
    let names = |wanted: &[&str]| -> Vec<Value> {
        wanted.iter().map(|name| json!({"$ref": format!("#/channels/live/messages/{name}")})).collect()
    };
    let from_server: Vec<&str> = FROM_SERVER.iter().map(|(kind, _)| *kind).collect();
    let refs: Map<String, Value> =
        messages.keys().map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")}))).collect();
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "UpNext live sessions",
            "version": openapi["info"]["version"],
            "description": "Frames stream in, lists stream out. Tickets, tokens and everything else are in /openapi.json.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "live": {
                "address": "/v1/sessions/{session_id}/live",
                "title": "A live session",
                "description": "A WebSocket (RFC 6455) over HTTP/1.1. Its query string is that of the OpenAPI document.",
                "parameters": {"session_id": {"description": "The client's id of the session, percent-encoded"}},
                "messages": refs,
                "bindings": {"ws": {"method": "GET"}},
            },
        },
        "operations": {
            "listen": {
                "action": "receive",
                "channel": {"$ref": "#/channels/live"},
                "summary": "What the server takes in",
                "messages": names(&["picture", "event", "player", "ask", "ping"]),
            },
            "tell": {
                "action": "send",
                "channel": {"$ref": "#/channels/live"},
                "summary": "What the server says",
                "messages": names(&from_server),
            },
        },
        "components": {"messages": messages},
    });
    let used = referenced(&document, schemas);
    document["components"]["schemas"] = used.into_iter().map(|name| (name.clone(), schemas[&name].clone())).collect();
    document
}

/// An event without what the connection says already.
fn event_schema(schemas: &Value) -> Value {
    let mut schema = schemas["Event"].clone();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("session_id");
        properties.remove("user_key");
        properties.remove("sequence");
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|name| name != "session_id");
    }
    schema
}

/// The schema of the server's message of type `kind`.
fn variant<'a>(schemas: &'a Value, kind: &str) -> Option<&'a Value> {
    schemas["LiveMessage"]["oneOf"].as_array()?.iter().find(|schema| kinds(schema).contains(kind))
}

/// The values of `type` that a schema allows, however it is put together.
fn kinds(schema: &Value) -> BTreeSet<&str> {
    let mut found: BTreeSet<&str> =
        schema["properties"]["type"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    found.extend(schema["properties"]["type"]["const"].as_str());
    for part in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(kinds(part));
    }
    found
}

/// The names of the schemas that the document refers to, and that these refer to.
fn referenced(document: &Value, schemas: &Value) -> BTreeSet<String> {
    let (mut known, mut open) = (BTreeSet::new(), Vec::new());
    collect(document, &mut open);
    while let Some(name) = open.pop() {
        if known.insert(name.clone()) {
            collect(&schemas[&name], &mut open);
        }
    }
    known
}

fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/components/schemas/"));
            into.extend(name.map(str::to_owned));
            fields.values().for_each(|value| collect(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::ClientMessage;
    use crate::domain::{EventKind, SessionId};

    fn both() -> (Value, Value) {
        let openapi = serde_json::to_value(crate::api::openapi()).unwrap();
        (document(&openapi), openapi)
    }

    fn read(payload: &Value) -> Result<ClientMessage, String> {
        let session = SessionId::new("s").unwrap();
        ClientMessage::read(payload.to_string().as_bytes(), &session).map_err(|error| error.detail())
    }

    #[test]
    fn the_servers_messages_are_those_of_its_type() {
        let (document, openapi) = both();
        let variants = openapi["components"]["schemas"]["LiveMessage"]["oneOf"].as_array().unwrap();
        let says: BTreeSet<&str> = variants.iter().flat_map(kinds).collect();
        assert_eq!(says, FROM_SERVER.iter().map(|(kind, _)| *kind).collect());
        for (kind, _) in FROM_SERVER {
            assert_eq!(kinds(&document["components"]["messages"][kind]["payload"]), BTreeSet::from([kind]));
        }
    }

    #[test]
    fn what_it_says_of_clients_is_what_the_service_reads() {
        let (document, _) = both();
        let messages = document["components"]["messages"].as_object().unwrap();
        let mut examples = 0;
        for message in messages.values() {
            for example in message["examples"].as_array().into_iter().flatten() {
                read(&example["payload"]).unwrap();
                examples += 1;
            }
        }
        assert!(examples >= 5);
        let event = &messages["event"]["payload"];
        let kinds: BTreeSet<&str> =
            event["properties"]["type"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for kind in EventKind::ALL {
            assert!(matches!(read(&json!({"type": kind.name(), "item_id": "i"})), Ok(ClientMessage::Event(_))));
            assert!(kinds.is_empty() || kinds.contains(kind.name()), "{}", kind.name());
        }
        for action in PLAYER {
            assert!(matches!(read(&json!({"type": action, "item_id": "i", "at_s": 1})), Ok(ClientMessage::Player(_))));
        }
        assert!(read(&json!({"type": "pause", "at": 1})).is_err(), "no other fields");
        assert!(event["properties"].get("session_id").is_none() && event["properties"].get("item_id").is_some());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn follow(value: &Value, document: &Value, count: &mut usize) {
            if let Some(reference) = value["$ref"].as_str() {
                assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
                *count += 1;
            }
            match value {
                Value::Object(fields) => fields.values().for_each(|value| follow(value, document, count)),
                Value::Array(values) => values.iter().for_each(|value| follow(value, document, count)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let (document, _) = both();
        let mut count = 0;
        follow(&document, &document, &mut count);
        assert!(count > 30, "{count}");
    }
}
