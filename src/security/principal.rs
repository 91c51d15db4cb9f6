//! Who asks, and what follows from it? The holder of a key, or one person whose token or ticket says so.

use std::sync::Arc;

use super::{AuthError, RateLimit, Scope, Scopes};
use crate::domain::{SessionId, Timestamp, UserKey};

/// Who asks. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal(Arc<Holder>);

#[derive(Debug, Clone, PartialEq)]
struct Holder {
    key_id: String,
    /// Under which name the rate is counted.
    rate_key: String,
    name: String,
    scopes: Scopes,
    rate_limit: Option<RateLimit>,
    person: Option<Person>,
    session: Option<SessionId>,
    expires_at: Option<Timestamp>,
}

/// Somebody who may ask for themselves only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their pseudonym.
    pub user: UserKey,
    /// Their age in years: items with a higher age rating are not for them.
    pub age_years: Option<u8>,
    /// Where they are, whatever a request says.
    pub region: Option<Arc<str>>,
}

impl Principal {
    /// The holder of an API key.
    pub(super) fn of_key(key_id: String, name: String, scopes: Scopes, rate_limit: Option<RateLimit>) -> Self {
        let rate_key = key_id.clone();
        Self(Arc::new(Holder {
            key_id,
            rate_key,
            name,
            scopes,
            rate_limit,
            person: None,
            session: None,
            expires_at: None,
        }))
    }

    /// The key id of somebody without a key.
    pub const ANONYMOUS: &str = "anonymous";

    /// Someone without a key who may do everything; for servers that need no keys.
    pub fn anonymous() -> Self {
        Self::of_key(Self::ANONYMOUS.into(), Self::ANONYMOUS.into(), Scopes::all(), None)
    }

    /// A person with a token that was signed with the key `key_id` and is good until `expires_at`.
    pub fn of_person(key_id: &str, person: Person, expires_at: Timestamp) -> Self {
        let rate_key = format!("person-{}", super::to_hex(&person.user.0));
        Self(Arc::new(Holder {
            key_id: format!("token:{key_id}"),
            rate_key,
            name: "person".into(),
            scopes: [Scope::Recommend, Scope::Ingest].into_iter().collect(),
            rate_limit: None,
            person: Some(person),
            session: None,
            expires_at: Some(expires_at),
        }))
    }

    /// The same, for one session only, and for `person` if that is given. It may ask for lists and tell events, as far as
    /// it could before, and nothing else.
    #[must_use]
    pub fn bound_to(&self, session: SessionId, person: Option<Person>) -> Self {
        let mut holder = (*self.0).clone();
        holder.scopes = [Scope::Recommend, Scope::Ingest].into_iter().filter(|&s| self.0.scopes.allow(s)).collect();
        holder.session = Some(session);
        holder.person = person.or(holder.person);
        Self(Arc::new(holder))
    }

    /// The id of the key; it may be logged.
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// The name under which rates and connections are counted: the key's id, or a person's pseudonym. Not for logs.
    pub fn rate_key(&self) -> &str {
        &self.0.rate_key
    }

    /// What the operator calls the key.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the key may be used for.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The key's own rate limit, if it has one.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.0.rate_limit
    }

    /// The person who asks, if it is one who may ask for themselves only.
    pub fn person(&self) -> Option<&Person> {
        self.0.person.as_ref()
    }

    /// The only session that may be used, if there is only one.
    pub fn session(&self) -> Option<&SessionId> {
        self.0.session.as_ref()
    }

    /// When a token ends; `None` for keys, whose end the key ring knows.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Refuses a use that the key is not for.
    pub fn require(&self, scope: Scope) -> Result<(), AuthError> {
        if self.0.scopes.allow(scope) { Ok(()) } else { Err(AuthError::Forbidden(scope)) }
    }
}
