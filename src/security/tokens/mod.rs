//! Which person is this, says somebody whom the operator trusts? End users' tokens: JWTs (RFC 7519) that another service signs.
//!
//! A key has one algorithm, which its own type decides: `EdDSA` for Ed25519, ES256 for P-256, RS256 for RSA. A token whose
//! header names another algorithm than that of its key is refused before anything is computed, so that there is nothing
//! to confuse; there is no algorithm with a shared secret, and none without a signature. Keys come from a JWKS file
//! (RFC 7517) and from public keys in PEM; changed files are taken over while the server runs.

mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::keys::{KeySet, Stamps};
use super::SecurityError;
use crate::domain::{Timestamp, UserId};

/// The files are looked at no more often than this.
const CHECK_EVERY_MS: i64 = 1000;
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest word of a region.
const MAX_REGION_BYTES: usize = 64;

/// Whose tokens are good.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOptions {
    /// A JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// Public keys in PEM; a key's id is the name of its file without the extension.
    pub public_keys: Vec<PathBuf>,
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to be, or to have among others.
    pub audience: String,
    /// By how much clocks may differ, in seconds.
    pub leeway_s: f64,
    /// The claim with the person's age in years.
    pub age_claim: String,
    /// The claim with the person's region.
    pub region_claim: String,
}

/// The tokens that a server accepts.
pub struct Tokens {
    options: TokenOptions,
    loaded: ArcSwap<Loaded>,
    next_check_ms: AtomicI64,
}

struct Loaded {
    stamps: Stamps,
    keys: KeySet,
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenClaims {
    /// The id of the key that signed it, as the operator's files have it.
    pub key_id: String,
    /// Who it is.
    pub user: UserId,
    /// How old they are.
    pub age_years: Option<u8>,
    /// Where they are.
    pub region: Option<String>,
    /// From then on the token is good for nothing.
    pub expires_at: Timestamp,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of a token.
    #[error("this is not a token")]
    Malformed,
    /// Its header names an algorithm that is not that of the key.
    #[error("the token's algorithm is not that of its key")]
    Algorithm,
    /// Its key is not known.
    #[error("the token's key is not known")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It comes from somebody else.
    #[error("the token's issuer is not the one that is trusted")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// A claim is missing or cannot be used.
    #[error("a claim of the token is missing or cannot be used")]
    Claims,
}

impl TokenError {
    /// One fixed sentence for clients.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "this is not a token",
            Self::Algorithm => "the token's algorithm is not that of its key",
            Self::UnknownKey => "the token's key is not known",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the token's issuer is not the one that is trusted",
            Self::Audience => "the token is for another audience",
            Self::Claims => "a claim of the token is missing or cannot be used",
        }
    }

    /// One fixed word for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::UnknownKey => "token_key",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::NotYet => "token_early",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Claims => "token_claims",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that would have to be understood; none is.
    crit: Option<Value>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the keys. There must be one at least.
    pub fn open(options: TokenOptions, now: Timestamp) -> Result<Self, SecurityError> {
        let loaded = load(&options)?;
        let next_check_ms = AtomicI64::new(now.0.saturating_add(CHECK_EVERY_MS));
        Ok(Self { options, loaded: ArcSwap::from_pointee(loaded), next_check_ms })
    }

    /// Whether a text has the form of a token rather than that of an API key.
    pub fn looks_like_one(text: &str) -> bool {
        text.bytes().filter(|&byte| byte == b'.').count() == 2
    }

    /// What a token says, if it is good at `now`. At most once a second it also looks whether the files have changed; if new
    /// ones cannot be read, the keys stay as they were and a warning is logged.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<TokenClaims, TokenError> {
        self.follow_files(now);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let loaded = self.loaded.load();
        let (key_id, key) = loaded.keys.find(header.kid.as_deref()).ok_or(TokenError::UnknownKey)?;
        if header.alg != key.algorithm().name() {
            return Err(TokenError::Algorithm);
        }
        if !key.verifies(signed.as_bytes(), &decode(signature)?) {
            return Err(TokenError::Signature);
        }
        // Only what is signed is looked at.
        let claims: Map<String, Value> =
            serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        self.judge(key_id, &claims, now)
    }

    fn judge(&self, key_id: &str, claims: &Map<String, Value>, now: Timestamp) -> Result<TokenClaims, TokenError> {
        let options = &self.options;
        let instant = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) if seconds.is_finite() => Ok(Some(Timestamp::from_seconds(seconds))),
                Some(_) | None => Err(TokenError::Claims),
            },
        };
        let expires_at = instant("exp")?.ok_or(TokenError::Claims)?.plus_seconds(options.leeway_s);
        if now >= expires_at {
            return Err(TokenError::Expired);
        }
        if instant("nbf")?.is_some_and(|start| now < start.plus_seconds(-options.leeway_s)) {
            return Err(TokenError::NotYet);
        }
        if claims.get("iss").and_then(Value::as_str) != Some(options.issuer.as_str()) {
            return Err(TokenError::Issuer);
        }
        let audience = Some(options.audience.as_str());
        let meant = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == audience),
            Some(one) => one.as_str() == audience,
            None => false,
        };
        if !meant {
            return Err(TokenError::Audience);
        }
        let user = claims.get("sub").and_then(Value::as_str).and_then(|sub| UserId::new(sub).ok());
        // A claim that is there must be understood: to pass over an age would be to forget it.
        let age_years = match claims.get(&options.age_claim) {
            None => None,
            Some(age) => Some(age.as_u64().and_then(|age| u8::try_from(age).ok()).ok_or(TokenError::Claims)?),
        };
        let region = match claims.get(&options.region_claim) {
            None => None,
            Some(region) => {
                let usable =
                    |text: &&str| (1..=MAX_REGION_BYTES).contains(&text.len()) && !text.contains(char::is_control);
                Some(region.as_str().filter(usable).ok_or(TokenError::Claims)?.to_owned())
            }
        };
        let user = user.ok_or(TokenError::Claims)?;
        Ok(TokenClaims { key_id: key_id.to_owned(), user, age_years, region, expires_at })
    }

    fn follow_files(&self, now: Timestamp) {
        let due_ms = self.next_check_ms.load(Ordering::Relaxed);
        // A clock that was set back must not stop the checks.
        if now.0 < due_ms && due_ms - now.0 <= CHECK_EVERY_MS {
            return;
        }
        let next_ms = now.0.saturating_add(CHECK_EVERY_MS);
        if self.next_check_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return; // Another request is looking.
        }
        if keys::stamps(&self.options) == self.loaded.load().stamps {
            return;
        }
        match load(&self.options) {
            Ok(loaded) => {
                tracing::info!(keys = loaded.keys.len(), "the keys of end users' tokens have changed");
                self.loaded.store(Arc::new(loaded));
            }
            Err(error) => {
                tracing::warn!(%error, "the changed keys of tokens cannot be read; the former ones stay valid")
            }
        }
    }
}

fn load(options: &TokenOptions) -> Result<Loaded, SecurityError> {
    // Before reading: a change in between is noticed the next time.
    let stamps = keys::stamps(options);
    Ok(Loaded { stamps, keys: KeySet::load(options)? })
}
