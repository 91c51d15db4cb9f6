//! Which bounds do live connections have, and whose tokens are good? From the settings.

use std::time::Duration;

use crate::api::LiveOptions;
use crate::config::Settings;
use crate::security::TokenOptions;

pub(super) fn live_options(settings: &Settings) -> LiveOptions {
    let live = &settings.live;
    LiveOptions {
        max_connections: live.max_connections,
        connections_per_key: live.connections_per_key,
        connections_per_user: live.connections_per_user,
        max_frames_per_s: live.max_frames_per_s,
        max_pushes_per_s: live.max_pushes_per_s,
        max_messages_per_s: live.max_messages_per_s,
        rank_change: live.rank_change,
        probability_change: live.probability_change,
        refresh: Duration::from_secs_f64(live.refresh_s),
        heartbeat: Duration::from_secs_f64(live.heartbeat_s),
        idle: Duration::from_secs_f64(live.idle_s),
        write_timeout: Duration::from_secs_f64(live.write_timeout_s),
        ticket_ttl: Duration::from_secs_f64(live.ticket_ttl_s),
        max_tickets: live.max_tickets,
    }
}

/// Whose tokens are good; `None` if there are no keys to check them with.
pub(super) fn token_options(settings: &Settings) -> Option<TokenOptions> {
    let tokens = &settings.security.tokens;
    (tokens.jwks_file.is_some() || !tokens.public_keys.is_empty()).then(|| TokenOptions {
        jwks_file: tokens.jwks_file.clone(),
        public_keys: tokens.public_keys.clone(),
        issuer: tokens.issuer.clone(),
        audience: tokens.audience.clone(),
        leeway_s: tokens.leeway_s,
        age_claim: tokens.age_claim.clone(),
        region_claim: tokens.region_claim.clone(),
    })
}
