//! May a person with a token do what docs/tokens.md says, and nothing else?

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use upnext::domain::Timestamp;

use crate::support::socket::Socket;
use crate::support::world::click;
use crate::support::{Client, Server, Setup, World, all_ids, run, text};

/// Who signs tokens.
struct Issuer {
    folder: tempfile::TempDir,
    key: Ed25519KeyPair,
}

fn new_key() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

fn publish(folder: &Path, key: &Ed25519KeyPair, id: &str) {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": URL_SAFE_NO_PAD.encode(key.public_key())});
    std::fs::write(folder.join("jwks.json"), json!({"keys": [jwk]}).to_string()).unwrap();
}

fn sign(key: &Ed25519KeyPair, header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())))
}

impl Issuer {
    fn start() -> (Self, Server) {
        let issuer = Self { folder: tempfile::tempdir().unwrap(), key: new_key() };
        publish(issuer.folder.path(), &issuer.key, "one");
        let server = Setup::default()
            .with(format!("security.tokens.jwks_file={}", issuer.folder.path().join("jwks.json").display()))
            .with("security.tokens.issuer=https://id.example")
            .with("security.tokens.audience=upnext")
            .start();
        (issuer, server)
    }

    fn claims(person: &str, now: Timestamp) -> Value {
        let now_s = now.0 / 1000;
        json!({"sub": person, "iss": "https://id.example", "aud": "upnext", "exp": now_s + 600})
    }

    fn client(&self, server: &Server, claims: &Value) -> Client {
        server.client_with(Some(&self.token(claims)))
    }

    fn token(&self, claims: &Value) -> String {
        sign(&self.key, &json!({"alg": "EdDSA", "kid": "one"}), claims)
    }
}

#[test]
fn a_person_asks_for_themselves_only() {
    let (issuer, server) = Issuer::start();
    let world = World::get();
    run(async {
        world.load(&server).await;
        let now = server.now();
        let alice = issuer.client(&server, &Issuer::claims("alice", now));
        let bob = issuer.client(&server, &Issuer::claims("bob", now));
        let lists = alice.recommend(&json!({"session_id": "of-alice", "user_id": "alice", "count": 3})).await;
        assert_eq!(all_ids(&lists).len(), 9);
        alice.post_bytes("/v1/sessions/of-alice/frames", "image/jpeg", world.frame(1, 1.0)).await.ok();
        alice.tell(&[click("of-alice", world.id(1), now)]).await;
        alice.get("/v1/sessions/of-alice").await.ok();

        let other_user = alice.post("/v1/recommendations", &json!({"user_id": "bob"})).await;
        assert_eq!(other_user.problem(), (403, "other_user".into()));
        let foreign = (403, "foreign_session".to_owned());
        assert_eq!(bob.get("/v1/sessions/of-alice").await.problem(), foreign);
        assert_eq!(bob.delete("/v1/sessions/of-alice").await.problem(), foreign);
        let frame = bob.post_bytes("/v1/sessions/of-alice/frames", "image/jpeg", world.frame(1, 1.0)).await;
        assert_eq!(frame.problem(), foreign);
        let lists = bob.get("/v1/recommendations?session_id=of-alice").await;
        assert_eq!(lists.problem(), foreign);
        let events = json!({"events": [click("of-alice", world.id(2), now)]});
        assert_eq!(bob.post("/v1/events", &events).await.problem(), foreign);
        // A session that goes on and is nobody's may be somebody's.
        server.client().tell(&[click("of-nobody", world.id(2), now)]).await;
        assert_eq!(bob.get("/v1/recommendations?session_id=of-nobody").await.problem(), foreign);
        // The operator's own key says whose it is.
        let path = "/v1/recommendations?session_id=of-nobody&user_id=bob";
        server.client().get(path).await.ok();
        bob.get("/v1/recommendations?session_id=of-nobody").await.ok();

        for (method, path) in [
            ("GET", "/v1/items"),
            ("POST", "/v1/search"),
            ("GET", "/metrics"),
            ("GET", "/v1/admin/status"),
            ("PUT", "/v1/items/x"),
            ("DELETE", "/v1/users/alice"),
            ("GET", "/v1/users/alice/export"),
        ] {
            let answer = alice.send_json(method, path, &json!({})).await;
            let (status, code) = answer.problem();
            assert!(status == 403 && ["needs_key", "forbidden"].contains(&code.as_str()), "{method} {path}: {code}");
        }
        let exported = server.client().get("/v1/users/alice/export").await;
        assert!(exported.body.contains(world.id(1)), "the event is hers: {}", exported.body);
    });
}

#[test]
fn age_and_region_of_the_token_stand() {
    let (issuer, server) = Issuer::start();
    let world = World::get();
    run(async {
        world.load(&server).await;
        let mut claims = Issuer::claims("alice", server.now());
        claims["age"] = 12.into();
        claims["region"] = "de".into();
        let alice = issuer.client(&server, &claims);
        // Every fourth item is for adults, every third of those left for another region.
        let allowed: Vec<&str> = (0..24).filter(|n| n % 4 != 0 && n % 3 != 2).map(|n| world.id(n)).collect();
        let wish = json!({"count": 24, "context": {"region": "fr"}, "filter": {"should": [
            {"field": "age_rating", "any": ["18"]}, {"field": "age_rating", "any": ["6"]}]}});
        let answer = alice.post("/v1/recommendations", &wish).await;
        let lists = answer.ok();
        let shown = all_ids(&lists);
        assert!(!shown.is_empty(), "{lists}");
        for id in shown {
            assert!(allowed.contains(&id), "{id} is not for her");
        }
        let mut socket =
            Socket::try_open(&server, "/v1/sessions/a/live?count=24", Some(&issuer.token(&claims))).await.unwrap();
        let live = socket.hear_type("lists").await;
        assert!(all_ids(&live["recommendation"]).iter().all(|id| allowed.contains(id)), "{live}");
        socket.close().await;
    });
}

#[test]
fn tokens_that_are_not_good_open_nothing() {
    let (issuer, server) = Issuer::start();
    run(async {
        let now = server.now();
        let good = Issuer::claims("alice", now);
        let refused = |token: String| {
            let client = server.client_with(Some(&token));
            async move { client.get("/v1/recommendations").await.problem() }
        };
        let unauthorized = (401, "unauthorized".to_owned());
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            claims
        };
        let past = now.0 / 1000 - 31;
        for claims in
            [with("exp", past.into()), with("aud", "others".into()), with("iss", "else".into()), with("sub", "".into())]
        {
            assert_eq!(refused(issuer.token(&claims)).await, unauthorized, "{claims}");
        }
        for header in [
            json!({"alg": "none", "kid": "one"}),
            json!({"alg": "HS256", "kid": "one"}),
            json!({"alg": "EdDSA", "kid": "two"}),
        ] {
            assert_eq!(refused(sign(&issuer.key, &header, &good)).await, unauthorized, "{header}");
        }
        assert_eq!(refused(sign(&new_key(), &json!({"alg": "EdDSA", "kid": "one"}), &good)).await, unauthorized);
        issuer.client(&server, &good).get("/v1/recommendations").await.ok();
        let failures = server.client().metric("upnext_auth_failures_total{reason=\"token_algorithm\"}").await;
        assert_eq!(failures, 2.0);
    });
}

#[test]
fn keys_of_tokens_are_rotated_while_serving() {
    let (issuer, server) = Issuer::start();
    run(async {
        let claims = Issuer::claims("alice", server.now());
        let old = issuer.client(&server, &claims);
        old.get("/v1/recommendations").await.ok();
        let key = new_key();
        publish(issuer.folder.path(), &key, "two-new");
        server.set_time(server.now().plus_seconds(2.0));
        let new = server.client_with(Some(&sign(&key, &json!({"alg": "EdDSA", "kid": "two-new"}), &claims)));
        new.get("/v1/recommendations").await.ok();
        assert_eq!(text(&old.get("/v1/recommendations").await.json()["code"]), "unauthorized");
    });
}

#[test]
fn a_live_connection_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer { folder, key: new_key() };
    publish(issuer.folder.path(), &issuer.key, "one");
    let server = Setup::default()
        .with(format!("security.tokens.jwks_file={}", issuer.folder.path().join("jwks.json").display()))
        .with("security.tokens.issuer=https://id.example")
        .with("security.tokens.audience=upnext")
        .with("live.heartbeat_s=0.1")
        .start();
    run(async {
        let token = issuer.token(&Issuer::claims("alice", server.now()));
        let mut socket = Socket::try_open(&server, "/v1/sessions/s/live", Some(&token)).await.unwrap();
        socket.hear_type("lists").await;
        server.set_time(server.now().plus_seconds(700.0));
        assert_eq!(socket.hear_end().await, ("unauthorized".into(), (4002, "unauthorized".into())));
    });
}
