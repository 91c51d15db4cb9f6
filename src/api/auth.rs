//! Who may do this? Keys, scopes and rates, route by route.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Uri, header};

use super::middleware::API_KEY;
use super::problem::ApiError;
use super::server::Peer;
use crate::domain::Clock;
use crate::security::{
    AuthError, KeyRing, Person, Principal, RateLimiter, RetryAfter, Scope, Tickets, Tokens, UserHasher,
};
use crate::telemetry::Metrics;

/// Whom a door admits beside the holders of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Admits {
    /// Nobody.
    #[default]
    Keys,
    /// Persons with a token of their own: their handlers bring requests within what a person may ask for.
    Persons,
    /// Those too, and whoever has a ticket in the query string.
    Tickets,
}

/// The door of a group of routes.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) keys: Arc<KeyRing>,
    pub(super) limiter: Arc<RateLimiter>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) require_keys: bool,
    pub(super) tickets: Arc<Tickets>,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) hasher: Arc<UserHasher>,
    pub(super) admits: Admits,
    /// One of these will do; `admin` always does.
    pub(super) any_of: &'static [Scope],
}

/// Lets requests with the right key through; for `route_layer`. Handlers find the [`Principal`] in the request's
/// extensions.
pub(super) async fn check(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let host = host_of(request.headers(), request.uri());
    let ticket = if door.admits == Admits::Tickets { ticket(request.uri()) } else { None };
    let peer = request.extensions().get::<Peer>();
    match door.admit(request.headers(), host.as_deref(), ticket.as_deref(), peer) {
        Ok(principal) => {
            tracing::Span::current().record("key", principal.key_id());
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

impl Door {
    fn admit(
        &self,
        headers: &HeaderMap,
        host: Option<&str>,
        ticket: Option<&str>,
        peer: Option<&Peer>,
    ) -> Result<Principal, ApiError> {
        let refuse = |reason, error| {
            self.metrics.count_auth_failure(reason);
            Err(error)
        };
        let principal = match presented(headers) {
            Presented::Key(token)
                if let Some(tokens) = &self.tokens
                    && Tokens::looks_like_one(token) =>
            {
                match tokens.verify(token, self.clock.now()) {
                    Ok(claims) => {
                        let user = self.hasher.user_key(&claims.user);
                        let region = claims.region.as_deref().map(Arc::from);
                        let person = Person { user, age_years: claims.age_years, region };
                        Principal::of_person(&claims.key_id, person, claims.expires_at)
                    }
                    Err(error) => return refuse(error.reason(), ApiError::Unauthorized(error.sentence())),
                }
            }
            Presented::Key(key) => match self.keys.authenticate(key, self.clock.now()) {
                Ok(principal) => principal,
                Err(error) => return refuse(error.reason(), unauthorized(error)),
            },
            Presented::Nothing if let Some(ticket) = ticket => match self.tickets.redeem(ticket, self.clock.now()) {
                Some(principal) => principal,
                None => {
                    return refuse(
                        "ticket",
                        ApiError::Unauthorized("this ticket was used, is too old or was never given out"),
                    );
                }
            },
            // A setting may open the door only to this machine, whatever address the server listens on.
            Presented::Nothing if !self.require_keys && peer.is_some_and(is_local) => {
                if !local_page(headers, host) {
                    return refuse("foreign_page", ApiError::Unauthorized("web pages from elsewhere need a key"));
                }
                Principal::anonymous()
            }
            Presented::Nothing => {
                let hint = "a key is needed, as `Authorization: Bearer …` or `x-api-key: …`";
                return refuse("missing", ApiError::Unauthorized(hint));
            }
            Presented::Garbage => return refuse("malformed", unauthorized(AuthError::Malformed)),
        };
        if !self.any_of.iter().any(|&scope| principal.scopes().allow(scope)) {
            return refuse("scope", ApiError::Forbidden { needed: names(self.any_of) });
        }
        if principal.person().is_some() && self.admits == Admits::Keys {
            return refuse("person", ApiError::PersonForbidden);
        }
        // After the scope: a key that may not ask cannot use up anybody's allowance.
        match self.limiter.check(principal.rate_key(), principal.rate_limit(), Instant::now()) {
            Ok(()) => Ok(principal),
            Err(RetryAfter(retry_after)) => {
                self.metrics.count_rate_limited();
                Err(ApiError::RateLimited { retry_after })
            }
        }
    }
}

fn is_local(peer: &Peer) -> bool {
    peer.address.ip().to_canonical().is_loopback()
}

/// Whether no web page from elsewhere stands behind a request that comes from this machine. A browser here would
/// carry such a page's requests to us; its origin, or a name that was pointed at this machine, gives it away.
fn local_page(headers: &HeaderMap, host: Option<&str>) -> bool {
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("null"));
    origin.is_none_or(|origin| origin.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(names_this_machine)))
        && host.is_none_or(names_this_machine)
}

fn names_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map_or_else(
        |_| bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost"),
        |address| address.to_canonical().is_loopback(),
    )
}

/// The name under which the client knows this server, without the port.
fn host_of(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    if let Some(host) = uri.host() {
        return Some(host.to_owned());
    }
    let text = headers.get(header::HOST)?.to_str().unwrap_or_default();
    Some(text.parse::<http::uri::Authority>().map_or_else(|_| text.to_owned(), |a| a.host().to_owned()))
}

/// The ticket in a query string. Tickets have no characters that would be encoded.
fn ticket(uri: &Uri) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket=")).map(str::to_owned)
}

fn unauthorized(error: AuthError) -> ApiError {
    ApiError::Unauthorized(match error {
        AuthError::Malformed => "this is not an API key",
        AuthError::Expired => "this API key has expired",
        AuthError::Revoked => "this API key was revoked",
        AuthError::Unknown | AuthError::Forbidden(_) => "this API key is not known",
    })
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" or ")
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
mod tests {
    use super::*;
    use crate::domain::{ManualClock, Timestamp};
    use crate::security::{KeyFile, NewKey, RateLimit};

    const HERE: &str = "127.0.0.1:9";
    const AWAY: &str = "10.0.0.7:9";
    const NOW: Timestamp = Timestamp(1_000_000);

    /// A door, and a key for each scope in the order of [`Scope::ALL`].
    fn door(any_of: &'static [Scope], require_keys: bool) -> (Door, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let new = |scope: Scope| NewKey {
            name: scope.name().into(),
            scopes: [scope].into_iter().collect(),
            expires_at: Some(NOW.plus_seconds(60.0)),
            rate_limit: RateLimit::new(1, if scope == Scope::Metrics { 1 } else { 1_000 }),
        };
        let keys = Scope::ALL.map(|scope| file.create(new(scope), NOW).unwrap().key);
        let door = Door {
            keys: Arc::new(KeyRing::open(file, NOW).unwrap()),
            limiter: Arc::new(RateLimiter::new(None, 10, Instant::now())),
            metrics: Metrics::new().unwrap(),
            clock: Arc::new(ManualClock::at(NOW)),
            require_keys,
            tickets: Arc::new(Tickets::new(30.0, 10)),
            tokens: None,
            hasher: Arc::new(UserHasher::from_secret(b"a secret of tests")),
            admits: Admits::Keys,
            any_of,
        };
        (door, keys.into())
    }

    fn status(door: &Door, peer: &str, header: Option<(&str, &str)>) -> u16 {
        let headers: HeaderMap = header
            .into_iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let peer = Peer { address: peer.parse().unwrap(), tls: true, client_certificate: false };
        door.admit(&headers, None, None, Some(&peer)).map_or_else(|error| error.kind().0.as_u16(), |_| 200)
    }

    #[test]
    fn a_key_opens_what_its_scope_names_and_admin_opens_all() {
        let (door, keys) = door(&[Scope::Recommend, Scope::Ingest], true);
        for (key, expected) in keys.iter().zip([200, 200, 403, 200]) {
            assert_eq!(status(&door, AWAY, Some(("x-api-key", key))), expected);
            assert_eq!(status(&door, AWAY, Some(("authorization", &format!("bearer {key}")))), expected);
        }
        let headers = [(API_KEY, keys[2].parse().unwrap())].into_iter().collect();
        assert_eq!(
            door.admit(&headers, None, None, None).unwrap_err().detail(),
            "the key lacks the scope that this route needs: recommend or ingest"
        );
    }

    #[test]
    fn no_key_or_a_wrong_one_stays_outside() {
        let (door, keys) = door(&[Scope::Recommend], true);
        assert_eq!(status(&door, HERE, None), 401);
        for wrong in ["Bearer un_nobody", "Basic dTpw", "Bearer", &keys[0]] {
            assert_eq!(status(&door, HERE, Some(("authorization", wrong))), 401, "{wrong}");
        }
        let text = door.metrics.encode();
        assert!(text.contains(r#"upnext_auth_failures_total{reason="missing"} 1"#), "{text}");
        let late = Door { clock: Arc::new(ManualClock::at(NOW.plus_seconds(60.0))), ..door };
        assert_eq!(status(&late, HERE, Some(("x-api-key", &keys[0]))), 401, "expired");
    }

    #[test]
    fn an_open_door_is_open_to_this_machine_only() {
        let (door, _) = door(&[Scope::Admin], false);
        assert_eq!(status(&door, HERE, None), 200);
        assert_eq!(status(&door, "[::ffff:127.0.0.1]:9", None), 200);
        assert_eq!(status(&door, AWAY, None), 401);
        assert_eq!(status(&door, HERE, Some(("x-api-key", "un_nobody"))), 401, "a wrong key is not no key");
    }

    #[test]
    fn an_open_door_is_closed_to_web_pages_from_elsewhere() {
        let (door, _) = door(&[Scope::Admin], false);
        for (origin, expected) in [
            ("http://localhost:3000", 200),
            ("https://127.0.0.1:8443", 200),
            ("http://[::1]:80", 200),
            ("https://evil.example", 401),
            ("http://localhost.evil.example", 401),
            ("null", 401),
        ] {
            assert_eq!(status(&door, HERE, Some(("origin", origin))), expected, "{origin}");
        }
        let host = |uri: &str, host: Option<&str>| {
            let headers = host.map(|h| (header::HOST, h.parse().unwrap())).into_iter().collect();
            local_page(&headers, host_of(&headers, &uri.parse().unwrap()).as_deref())
        };
        assert!(host("/v1/items", Some("localhost:8443")) && host("/", Some("[::1]:80")) && host("/", None));
        assert!(!host("/v1/items", Some("rebound.example:8443")));
        assert!(!host("https://rebound.example:8443/", None), "HTTP/2 has the name in the URI");
    }

    #[test]
    fn a_key_that_asks_too_often_is_told_to_wait() {
        let (door, keys) = door(&[Scope::Metrics], true);
        assert_eq!(status(&door, AWAY, Some(("x-api-key", &keys[2]))), 200);
        assert_eq!(status(&door, AWAY, Some(("x-api-key", &keys[2]))), 429);
        assert!(door.metrics.encode().contains("upnext_rate_limited_total 1"));
    }
}
