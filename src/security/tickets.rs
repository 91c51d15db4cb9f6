//! How does a browser, which can set no headers, open a live session? With a ticket: short-lived, for one use, in the
//! query string.
//!
//! Only hashes of tickets are kept, in a bounded table: past the bound the oldest ticket makes room.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use super::{Principal, SecurityError, api_keys, random_bytes};
use crate::domain::Timestamp;

const PREFIX: &str = "ut_";
const SECRET_BYTES: usize = 32;

/// The tickets that were given out and not used yet.
pub struct Tickets {
    ttl_s: f64,
    max_tickets: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_hash: HashMap<[u8; 32], Entry>,
    /// In the order in which they were given out, which is the order in which they end. Used ones stay until then.
    order: VecDeque<[u8; 32]>,
}

struct Entry {
    principal: Principal,
    expires_at: Timestamp,
}

/// A new ticket. The text is shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What the client passes on.
    pub text: String,
    /// When it ends, used or not.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("ttl_s", &self.ttl_s).finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets that are good for `ttl_s` seconds, at most `max_tickets` at a time.
    pub fn new(ttl_s: f64, max_tickets: usize) -> Self {
        Self { ttl_s, max_tickets: max_tickets.max(1), open: Mutex::default() }
    }

    /// A ticket with which its holder is `principal`, once.
    pub fn issue(&self, principal: Principal, now: Timestamp) -> Result<Ticket, SecurityError> {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<SECRET_BYTES>()?));
        let hash = api_keys::hash(&text);
        let expires_at = now.plus_seconds(self.ttl_s);
        let mut open = self.open.lock();
        open.forget_expired(now);
        while open.order.len() >= self.max_tickets {
            open.forget_oldest();
        }
        open.by_hash.insert(hash, Entry { principal, expires_at });
        open.order.push_back(hash);
        Ok(Ticket { text, expires_at })
    }

    /// Who holds this ticket; from then on nobody does. `None` if it was used, is too old or never was one.
    pub fn redeem(&self, text: &str, now: Timestamp) -> Option<Principal> {
        if !text.starts_with(PREFIX) || text.len() > 64 {
            return None;
        }
        // Looked up by its hash, so that how long it takes says nothing about the tickets that there are.
        let entry = self.open.lock().by_hash.remove(&api_keys::hash(text))?;
        (now < entry.expires_at).then_some(entry.principal)
    }
}

impl Open {
    fn forget_expired(&mut self, now: Timestamp) {
        while let Some(hash) = self.order.front()
            && self.by_hash.get(hash).is_none_or(|entry| now >= entry.expires_at)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(hash) = self.order.pop_front() {
            self.by_hash.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SessionId;

    fn principal(session: &str) -> Principal {
        Principal::anonymous().bound_to(SessionId::new(session).unwrap(), None)
    }

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let tickets = Tickets::new(30.0, 10);
        let start = Timestamp(1_000_000);
        let ticket = tickets.issue(principal("s"), start).unwrap();
        assert_eq!(ticket.expires_at, start.plus_seconds(30.0));
        assert!(tickets.redeem("ut_nobody", start).is_none() && tickets.redeem("", start).is_none());
        assert_eq!(tickets.redeem(&ticket.text, start.plus_seconds(29.9)), Some(principal("s")));
        assert!(tickets.redeem(&ticket.text, start).is_none(), "used");
        let late = tickets.issue(principal("s"), start).unwrap();
        assert!(tickets.redeem(&late.text, start.plus_seconds(30.0)).is_none(), "too old");
        assert!(tickets.redeem(&late.text, start).is_none(), "an attempt uses it up");
        assert!(!format!("{late:?}{tickets:?}").contains(&late.text[4..12]));
    }

    #[test]
    fn the_oldest_makes_room() {
        let tickets = Tickets::new(30.0, 3);
        let start = Timestamp(0);
        let given: Vec<Ticket> = (0..5).map(|n| tickets.issue(principal(&n.to_string()), start).unwrap()).collect();
        let good = |n: usize| tickets.redeem(&given[n].text, start).is_some();
        assert_eq!([0, 1, 2, 3, 4].map(good), [false, false, true, true, true]);
        for n in 0..100 {
            tickets.issue(principal("s"), start.plus_seconds(f64::from(n) * 31.0)).unwrap();
            assert_eq!(tickets.open.lock().order.len(), 1, "what has ended is forgotten");
        }
    }

    #[test]
    fn a_bound_principal_may_not_do_more_than_before() {
        let bound = principal("s");
        assert!(bound.scopes().allow(crate::security::Scope::Ingest));
        assert!(!bound.scopes().allow(crate::security::Scope::Admin));
        assert_eq!(bound.session().map(SessionId::as_str), Some("s"));
    }
}
