//! Who may do this? Keys, scopes and rates, route by route.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use super::middleware::API_KEY;
use super::problem::ApiError;
use super::server::Peer;
use crate::domain::{UserId, UserKey};
use crate::telemetry::Metrics;

/// What the rim asks of whoever knows keys, rates and pseudonyms.
pub trait Doorkeeper: Send + Sync + fmt::Debug {
    /// Whose key this is; `None` if nobody's.
    fn holder(&self, presented: &str) -> Option<KeyHolder>;
    /// Counts a request of `key_id`; an error says when to come back.
    fn count_request(&self, key_id: &str) -> Result<(), Duration>;
    /// The pseudonym of a person.
    fn pseudonym(&self, user: &UserId) -> UserKey;
}

/// The holder of a valid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// Names the key without giving it away.
    pub key_id: String,
    /// Whether it may ask for recommendations, search and read items.
    pub recommend: bool,
    /// Whether it may write items and events, and read items.
    pub ingest: bool,
    /// Whether it may read metrics.
    pub metrics: bool,
    /// Whether it may do everything.
    pub admin: bool,
}

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Recommend,
    Ingest,
    /// What both of those who ask and those who write have to read.
    RecommendOrIngest,
    Metrics,
    Admin,
}

impl Needs {
    fn met_by(self, holder: &KeyHolder) -> bool {
        holder.admin
            || match self {
                Self::Recommend => holder.recommend,
                Self::Ingest => holder.ingest,
                Self::RecommendOrIngest => holder.recommend || holder.ingest,
                Self::Metrics => holder.metrics,
                Self::Admin => false,
            }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Recommend => "recommend",
            Self::Ingest => "ingest",
            Self::RecommendOrIngest => "recommend or ingest",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

/// The door of a group of routes.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) keeper: Arc<dyn Doorkeeper>,
    pub(super) metrics: Metrics,
    pub(super) require_keys: bool,
    pub(super) needs: Needs,
}

/// Lets requests with the right key through; for `route_layer`.
pub(super) async fn check(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.admit(request.headers(), request.extensions().get::<Peer>()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

impl Door {
    fn admit(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<(), ApiError> {
        let refuse = |reason, error| {
            self.metrics.count_auth_failure(reason);
            Err(error)
        };
        let key = match presented(headers) {
            Presented::Key(key) => key,
            Presented::Nothing => {
                // A setting may open the door only to this machine, whatever address the server listens on.
                if !self.require_keys && peer.is_some_and(|peer| peer.address.ip().to_canonical().is_loopback()) {
                    return self.count("keyless");
                }
                return refuse(
                    "missing",
                    ApiError::Unauthorized("a key is needed: `Authorization: Bearer …` or `x-api-key`"),
                );
            }
            Presented::Garbage => {
                return refuse(
                    "malformed",
                    ApiError::Unauthorized("the key cannot be read; use `Authorization: Bearer …`"),
                );
            }
        };
        let Some(holder) = self.keeper.holder(key) else {
            return refuse("unknown", ApiError::Unauthorized("the key is not valid"));
        };
        if !self.needs.met_by(&holder) {
            return refuse("scope", ApiError::Forbidden { needed: self.needs.name() });
        }
        self.count(&holder.key_id)
    }

    fn count(&self, key_id: &str) -> Result<(), ApiError> {
        self.keeper.count_request(key_id).map_err(|retry_after| {
            self.metrics.count_rate_limited();
            ApiError::RateLimited { retry_after }
        })
    }
}

enum Presented<'a> {
    Key(&'a str),
    Nothing,
    Garbage,
}

fn presented(headers: &HeaderMap) -> Presented<'_> {
    if let Some(value) = headers.get(API_KEY) {
        return value.to_str().map_or(Presented::Garbage, |key| Presented::Key(key.trim()));
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Presented::Nothing };
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Presented::Key(key.trim()),
        _ => Presented::Garbage,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Knows the keys `un_recommend`, `un_ingest`, `un_metrics`, `un_admin`; `un_recommend` is out of requests.
    #[derive(Debug)]
    pub(in crate::api) struct FourKeys;

    impl Doorkeeper for FourKeys {
        fn holder(&self, presented: &str) -> Option<KeyHolder> {
            let scope = presented.strip_prefix("un_")?;
            ["recommend", "ingest", "metrics", "admin"].contains(&scope).then(|| KeyHolder {
                key_id: scope.to_owned(),
                recommend: scope == "recommend",
                ingest: scope == "ingest",
                metrics: scope == "metrics",
                admin: scope == "admin",
            })
        }

        fn count_request(&self, key_id: &str) -> Result<(), Duration> {
            if key_id == "recommend" { Err(Duration::from_secs(3)) } else { Ok(()) }
        }

        fn pseudonym(&self, _: &UserId) -> UserKey {
            UserKey([9; 16])
        }
    }

    fn status(needs: Needs, require_keys: bool, peer: &str, headers: &[(&str, &str)]) -> u16 {
        let door = Door { keeper: Arc::new(FourKeys), metrics: Metrics::new().unwrap(), require_keys, needs };
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let peer = Peer { address: peer.parse().unwrap(), tls: true, client_certificate: false };
        door.admit(&headers, Some(&peer)).map_or_else(|error| error.kind().0.as_u16(), |()| 200)
    }

    const HERE: &str = "127.0.0.1:9";
    const AWAY: &str = "10.0.0.7:9";

    #[test]
    fn a_key_opens_what_its_scope_names_and_admin_opens_all() {
        let with = |needs, key| status(needs, true, AWAY, &[("authorization", key)]);
        assert_eq!(with(Needs::Ingest, "Bearer un_ingest"), 200);
        assert_eq!(with(Needs::RecommendOrIngest, "bearer un_ingest"), 200);
        assert_eq!(with(Needs::Recommend, "Bearer un_ingest"), 403);
        assert_eq!(with(Needs::Admin, "Bearer un_metrics"), 403);
        for needs in [Needs::Recommend, Needs::Ingest, Needs::RecommendOrIngest, Needs::Metrics, Needs::Admin] {
            assert_eq!(with(needs, "Bearer un_admin"), 200);
        }
        assert_eq!(status(Needs::Metrics, true, AWAY, &[("x-api-key", "un_metrics")]), 200);
    }

    #[test]
    fn no_key_or_a_wrong_one_stays_outside() {
        assert_eq!(status(Needs::Metrics, true, HERE, &[]), 401);
        assert_eq!(status(Needs::Metrics, true, HERE, &[("authorization", "Bearer un_nobody")]), 401);
        assert_eq!(status(Needs::Metrics, true, HERE, &[("authorization", "Basic dTpw")]), 401);
        assert_eq!(status(Needs::Metrics, true, HERE, &[("x-api-key", "")]), 401);
    }

    #[test]
    fn an_open_door_is_open_to_this_machine_only() {
        assert_eq!(status(Needs::Admin, false, HERE, &[]), 200);
        assert_eq!(status(Needs::Admin, false, "[::ffff:127.0.0.1]:9", &[]), 200);
        assert_eq!(status(Needs::Admin, false, AWAY, &[]), 401);
        assert_eq!(status(Needs::Admin, false, HERE, &[("x-api-key", "un_nobody")]), 401, "a wrong key is no key");
    }

    #[test]
    fn a_key_that_asks_too_often_is_told_to_wait() {
        assert_eq!(status(Needs::Recommend, true, AWAY, &[("x-api-key", "un_recommend")]), 429);
    }
}
