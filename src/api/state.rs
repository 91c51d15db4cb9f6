//! What does every handler need? The engine and the rim's own parts.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

use super::admission::Admission;
use super::auth::{Admits, Door};
use super::live::Hub;
use super::options::{ApiOptions, Limits};
use super::problem::ApiError;
use crate::domain::{Clock, ItemId, Timestamp, UserId, UserKey};
use crate::engine::{Engine, EngineError, Readiness};
use crate::security::{
    KeyRing, Principal, RateLimiter, Receipts, Scope, SecurityError, Ticket, Tickets, Tokens, UserHasher,
};
use crate::telemetry::Metrics;

/// Patches of the same item wait for each other; two items rarely share a lock.
const PATCH_LOCKS: usize = 64;

/// Who may ask, how often, and under which pseudonym.
#[derive(Debug, Clone)]
pub struct Access {
    /// The keys that are accepted.
    pub keys: Arc<KeyRing>,
    /// How often each key may ask.
    pub limiter: Arc<RateLimiter>,
    /// Makes the pseudonyms of users.
    pub hasher: Arc<UserHasher>,
    /// The tokens of end users, if any are accepted.
    pub tokens: Option<Arc<Tokens>>,
    /// Signs what was erased.
    pub receipts: Arc<Receipts>,
}

/// What handlers work with. Cheap to clone: every layer of every request does.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Joined>);

/// The parts that handlers need, side by side.
pub struct Joined {
    pub(super) engine: Arc<Engine>,
    pub(super) options: ApiOptions,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hub: Hub,
    pub(super) admission: Admission,
    access: Access,
    tickets: Arc<Tickets>,
    started_at: Timestamp,
    /// A patch reads, changes and writes; in between nobody else may patch the same item.
    patches: [Mutex<()>; PATCH_LOCKS],
    /// The last readiness and when it was found out; held while a check runs, so that probes that come together
    /// cost one inference.
    readiness: Mutex<Option<(Timestamp, Readiness)>>,
    /// One for each export that may be sent beside others: it holds a page in memory for as long as its reader likes.
    exports: Arc<Semaphore>,
}

impl AppState {
    /// Joins the parts that handlers need.
    pub fn new(
        engine: Arc<Engine>,
        access: Access,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        options: ApiOptions,
    ) -> Self {
        Self(Arc::new(Joined {
            started_at: clock.now(),
            admission: Admission::new(&options, &metrics),
            hub: Hub::new(options.live.clone(), metrics.clone()),
            tickets: Arc::new(Tickets::new(options.live.ticket_ttl.as_secs_f64(), options.live.max_tickets)),
            patches: std::array::from_fn(|_| Mutex::new(())),
            readiness: Mutex::new(None),
            exports: Arc::new(Semaphore::new(options.limits.exports)),
            engine,
            options,
            metrics,
            clock,
            access,
        }))
    }

    /// The pseudonym of a person: what leaves the rim in place of their id.
    pub(super) fn user_key(&self, user: &UserId) -> UserKey {
        self.access.hasher.user_key(user)
    }

    /// What `statement` says, signed.
    pub(super) fn sign(&self, statement: &impl serde::Serialize) -> Result<String, ApiError> {
        let payload = serde_json::to_value(statement).map_err(|e| EngineError::Internal(e.to_string()))?;
        Ok(self.access.receipts.sign(&payload))
    }

    /// The public key of signatures, as a JSON Web Key.
    pub(super) fn receipt_key(&self) -> serde_json::Value {
        self.access.receipts.public_key_jwk()
    }

    /// A ticket with which its holder is `principal`, once.
    pub(super) fn issue_ticket(&self, principal: Principal) -> Result<Ticket, ApiError> {
        let ticket = self.tickets.issue(principal, self.clock.now());
        ticket.map_err(|error: SecurityError| EngineError::Internal(error.to_string()).into())
    }

    /// Whether somebody who was let in some time ago would still be.
    pub(super) fn still_good(&self, principal: &Principal) -> bool {
        let now = self.clock.now();
        match principal.expires_at() {
            Some(end) => now < end,
            None => *principal.key_id() == *Principal::ANONYMOUS || self.access.keys.is_usable(principal.key_id(), now),
        }
    }

    /// The door of routes for which one of the scopes will do.
    pub(super) fn door(&self, any_of: &'static [Scope], admits: Admits) -> Arc<Door> {
        Arc::new(Door {
            tickets: Arc::clone(&self.tickets),
            tokens: self.access.tokens.clone(),
            hasher: Arc::clone(&self.access.hasher),
            admits,
            keys: Arc::clone(&self.access.keys),
            limiter: Arc::clone(&self.access.limiter),
            metrics: self.metrics.clone(),
            clock: Arc::clone(&self.clock),
            require_keys: self.options.require_keys,
            any_of,
        })
    }

    /// Waits until nobody else patches the item.
    pub(super) async fn patching(&self, item: &ItemId) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(item);
        self.patches[hash as usize % PATCH_LOCKS].lock().await
    }

    /// What an export holds for as long as it is sent.
    pub(super) fn export_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.exports).try_acquire_owned();
        permit.map_err(|_| ApiError::Overloaded { retry_after: Duration::from_secs(5) })
    }

    /// The engine's readiness, at most as old as the options allow.
    pub(super) async fn readiness(&self) -> Readiness {
        let mut last = self.readiness.lock().await;
        let now = self.clock.now();
        if let Some((at, readiness)) = last.as_ref()
            && (0.0..self.options.readiness_reuse.as_secs_f64()).contains(&now.seconds_since(*at))
        {
            return readiness.clone();
        }
        let readiness = self.engine.readiness().await;
        self.metrics.set_ready(readiness.ready);
        *last = Some((self.clock.now(), readiness.clone()));
        readiness
    }

    /// Seconds since the state was made.
    pub(super) fn uptime_s(&self) -> f64 {
        self.clock.now().seconds_since(self.started_at)
    }
}

impl Deref for AppState {
    type Target = Joined;

    fn deref(&self) -> &Joined {
        &self.0
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("options", &self.options).finish_non_exhaustive()
    }
}

impl FromRef<AppState> for Limits {
    fn from_ref(state: &AppState) -> Self {
        state.options.limits
    }
}
