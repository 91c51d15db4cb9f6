//! Are only the right tokens good? Signed here with real keys of each kind.

use std::fs;
use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_750_000_000_000);
const RSA_PRIVATE: &str = include_str!("../../../tests/fixtures/tokens/rsa-private.pem");
const RSA_PUBLIC: &str = include_str!("../../../tests/fixtures/tokens/rsa-public.pem");

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn claims() -> Value {
    json!({"sub": "alice", "iss": "https://id.example", "aud": ["other", "upnext"], "exp": 1_750_000_060, "nbf": 1_750_000_000})
}

fn options(dir: &Path) -> TokenOptions {
    TokenOptions {
        jwks_file: Some(dir.join("jwks.json")),
        public_keys: Vec::new(),
        issuer: "https://id.example".into(),
        audience: "upnext".into(),
        leeway_s: 0.0,
        age_claim: "age".into(),
        region_claim: "region".into(),
    }
}

fn ed25519() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

fn ed25519_jwk(kid: &str, pair: &Ed25519KeyPair) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key()), "use": "sig", "alg": "EdDSA"})
}

fn write(dir: &Path, keys: &[Value]) {
    fs::write(dir.join("jwks.json"), json!({"keys": keys}).to_string()).unwrap();
}

#[test]
fn each_kind_of_key_verifies_its_own_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let random = SystemRandom::new();
    let ed = ed25519();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    use rustls::pki_types::pem::PemObject as _;
    let der = PrivatePkcs8KeyDer::from_pem_slice(RSA_PRIVATE.as_bytes()).unwrap();
    let rsa = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let point = ec.public_key().as_ref();
    write(
        dir.path(),
        &[
            ed25519_jwk("ed", &ed),
            json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(&point[1..33]), "y": encode(&point[33..])}),
            json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}),
            json!({"kty": "EC", "crv": "P-384", "kid": "large", "x": "AA", "y": "AA"}),
        ],
    );
    fs::write(dir.path().join("rsa.pem"), RSA_PUBLIC).unwrap();
    let tokens =
        Tokens::open(TokenOptions { public_keys: vec![dir.path().join("rsa.pem")], ..options(dir.path()) }, NOW)
            .unwrap();
    let sign_ed = |m: &[u8]| ed.sign(m).as_ref().to_vec();
    let sign_ec = |m: &[u8]| ec.sign(&random, m).unwrap().as_ref().to_vec();
    let sign_rsa = |m: &[u8]| {
        let mut signature = vec![0; rsa.public().modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, m, &mut signature).unwrap();
        signature
    };
    let verify = |token: String| tokens.verify(&token, NOW).map(|claims| claims.key_id);
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"});
    assert_eq!(verify(token(&header("EdDSA", "ed"), &claims(), sign_ed)).as_deref(), Ok("ed"));
    assert_eq!(verify(token(&header("ES256", "ec"), &claims(), sign_ec)).as_deref(), Ok("ec"));
    assert_eq!(verify(token(&header("RS256", "rsa"), &claims(), sign_rsa)).as_deref(), Ok("rsa"));

    // Another algorithm than the key's, in every way.
    for (alg, kid) in
        [("none", "rsa"), ("HS256", "rsa"), ("RS256", "ec"), ("ES256", "rsa"), ("EdDSA", "ec"), ("", "ed")]
    {
        assert_eq!(verify(token(&header(alg, kid), &claims(), sign_rsa)), Err(TokenError::Algorithm), "{alg} {kid}");
    }
    assert_eq!(verify(token(&header("none", "ed"), &claims(), |_| Vec::new())), Err(TokenError::Algorithm));
    // The public key as the secret of an HMAC.
    let hmac = |m: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, RSA_PUBLIC.as_bytes());
        ring::hmac::sign(&key, m).as_ref().to_vec()
    };
    assert_eq!(verify(token(&header("HS256", "rsa"), &claims(), hmac)), Err(TokenError::Algorithm));
    assert_eq!(verify(token(&header("RS256", "rsa"), &claims(), hmac)), Err(TokenError::Signature));
    for kid in ["secret", "large", "nobody"] {
        assert_eq!(verify(token(&header("HS256", kid), &claims(), hmac)), Err(TokenError::UnknownKey), "{kid}");
    }
    assert_eq!(verify(token(&json!({"alg": "EdDSA"}), &claims(), sign_ed)), Err(TokenError::UnknownKey), "which one?");
    let critical = json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false});
    assert_eq!(verify(token(&critical, &claims(), sign_ed)), Err(TokenError::Malformed));
    assert_eq!(verify(token(&header("EdDSA", "ed"), &claims(), |_| vec![0; 64])), Err(TokenError::Signature));
    for text in ["", ".", "..", "a.b.c", "e30.e30.", &"x".repeat(9000)] {
        assert_eq!(verify(text.to_owned()), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn claims_are_judged_and_time_is_the_callers() {
    let dir = tempfile::tempdir().unwrap();
    let pair = ed25519();
    write(dir.path(), &[ed25519_jwk("k", &pair)]);
    let tokens = Tokens::open(TokenOptions { leeway_s: 5.0, ..options(dir.path()) }, NOW).unwrap();
    let with = |name: &str, value: Value, at: Timestamp| {
        let mut claims = claims();
        claims[name] = value;
        tokens.verify(&token(&json!({"alg": "EdDSA"}), &claims, |m| pair.sign(m).as_ref().to_vec()), at)
    };
    let good = with("age", 12.into(), NOW).unwrap();
    assert_eq!((good.user.as_str(), good.age_years, good.region), ("alice", Some(12), None));
    assert_eq!(good.expires_at, NOW.plus_seconds(65.0));
    assert_eq!(with("region", "de".into(), NOW).unwrap().region.as_deref(), Some("de"));
    assert!(with("aud", "upnext".into(), NOW.plus_seconds(64.9)).is_ok());
    assert_eq!(with("x", 1.into(), NOW.plus_seconds(65.0)), Err(TokenError::Expired));
    assert!(with("x", 1.into(), NOW.plus_seconds(-5.0)).is_ok());
    assert_eq!(with("x", 1.into(), NOW.plus_seconds(-5.1)), Err(TokenError::NotYet));
    for (name, value, expected) in [
        ("exp", Value::Null, TokenError::Claims),
        ("exp", json!("soon"), TokenError::Claims),
        ("nbf", json!("now"), TokenError::Claims),
        ("iss", json!("https://evil.example"), TokenError::Issuer),
        ("iss", Value::Null, TokenError::Issuer),
        ("aud", json!("others"), TokenError::Audience),
        ("aud", json!(["others"]), TokenError::Audience),
        ("aud", Value::Null, TokenError::Audience),
        ("sub", json!(""), TokenError::Claims),
        ("sub", json!(7), TokenError::Claims),
        ("age", json!(-1), TokenError::Claims),
        ("age", json!("12"), TokenError::Claims),
        ("age", Value::Null, TokenError::Claims),
        ("region", json!("a\nb"), TokenError::Claims),
        ("region", json!(""), TokenError::Claims),
    ] {
        assert_eq!(with(name, value.clone(), NOW), Err(expected), "{name}: {value}");
    }
}

#[test]
fn keys_are_rotated_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (ed25519(), ed25519());
    write(dir.path(), &[ed25519_jwk("old", &old)]);
    let tokens = Tokens::open(options(dir.path()), NOW).unwrap();
    let made = |kid: &str, pair: &Ed25519KeyPair| {
        token(&json!({"alg": "EdDSA", "kid": kid}), &claims(), |m| pair.sign(m).as_ref().to_vec())
    };
    let at = |s: f64| NOW.plus_seconds(s);
    assert!(tokens.verify(&made("old", &old), at(0.0)).is_ok());
    write(dir.path(), &[ed25519_jwk("old", &old), ed25519_jwk("new-one", &new)]);
    assert!(
        tokens.verify(&made("new-one", &new), at(2.0)).is_ok() && tokens.verify(&made("old", &old), at(2.0)).is_ok()
    );
    fs::write(dir.path().join("jwks.json"), "{").unwrap();
    assert!(tokens.verify(&made("new-one", &new), at(4.0)).is_ok(), "a file that cannot be read changes nothing");
    write(dir.path(), &[ed25519_jwk("new-one", &new)]);
    assert_eq!(tokens.verify(&made("old", &old), at(6.0)), Err(TokenError::UnknownKey));
    for bad in ["{", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"oct\"}]}"] {
        fs::write(dir.path().join("jwks.json"), bad).unwrap();
        assert!(Tokens::open(options(dir.path()), NOW).is_err(), "{bad}");
    }
}
