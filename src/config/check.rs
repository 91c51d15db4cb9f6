//! Which settings do not go together? Ranges, and what one setting demands of another.

use std::ops::RangeInclusive;

use super::{ClientAuth, Settings, TlsMode};

/// What is wrong: the setting and the end of a sentence about it.
pub(super) type Complaint = (&'static str, String);

/// Checks what types cannot say.
pub(super) fn check(settings: &Settings) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    check_ranges(settings, &mut complaints);
    check_lists(settings, &mut complaints);
    check_exposure(settings, &mut complaints);
    check_tls(settings, &mut complaints);
    check_relations(settings, &mut complaints);
    check_experiments(settings, &mut complaints);
    complaints
}

fn check_ranges(s: &Settings, complaints: &mut Vec<Complaint>) {
    const DAY_S: f64 = 86_400.0;
    const MIB: usize = 1024 * 1024;
    let learning = &s.ranking.learning;
    let numbers: [(&'static str, f64, RangeInclusive<f64>); 30] = [
        ("server.request_timeout_s", s.server.request_timeout_s, 0.1..=3600.0),
        ("server.drain_s", s.server.drain_s, 0.0..=3600.0),
        ("server.tls.reload_check_s", s.server.tls.reload_check_s, 0.0..=DAY_S),
        ("session.ttl_s", s.session.ttl_s, 1.0..=30.0 * DAY_S),
        ("session.near_duplicate_difference", s.session.near_duplicate_difference.into(), 0.0..=1.0),
        ("security.tokens.leeway_s", s.security.tokens.leeway_s, 0.0..=600.0),
        ("live.max_frames_per_s", s.live.max_frames_per_s, 0.01..=1000.0),
        ("live.max_pushes_per_s", s.live.max_pushes_per_s, 0.01..=1000.0),
        ("live.probability_change", s.live.probability_change, 0.0..=1.0),
        ("live.refresh_s", s.live.refresh_s, 0.1..=3600.0),
        ("live.heartbeat_s", s.live.heartbeat_s, 0.05..=3600.0),
        ("live.write_timeout_s", s.live.write_timeout_s, 0.05..=3600.0),
        ("live.ticket_ttl_s", s.live.ticket_ttl_s, 0.1..=3600.0),
        ("collab.half_life_days", s.collab.half_life_days, 0.01..=10_000.0),
        ("collab.preference.regularisation", s.collab.preference.regularisation.into(), 1e-6..=1e4),
        ("collab.preference.regularisation_exponent", s.collab.preference.regularisation_exponent.into(), 0.0..=1.0),
        ("collab.preference.unobserved_weight", s.collab.preference.unobserved_weight.into(), 1e-6..=1e3),
        ("collab.preference.new_share", s.collab.preference.new_share, 0.0..=10.0),
        ("collab.preference.train_every_s", s.collab.preference.train_every_s, 0.0..=30.0 * DAY_S),
        ("ranking.diversity", s.ranking.diversity.into(), 0.0..=1.0),
        ("ranking.exploration", s.ranking.exploration, 0.0..=1.0),
        ("ranking.learning.decisions_per_s", learning.decisions_per_s, 0.0..=1e5),
        ("ranking.learning.spacing_s", learning.spacing_s, 0.0..=3600.0),
        ("ranking.learning.grace_s", learning.grace_s, 0.0..=3600.0),
        ("ranking.learning.train_every_s", learning.train_every_s, 0.0..=30.0 * DAY_S),
        ("store.checkpoint_every_s", s.store.checkpoint_every_s, 0.0..=DAY_S),
        ("store.retention_days", s.store.retention_days, 0.0..=36_500.0),
        ("ranking.deadline_ms", s.ranking.deadline_ms as f64, 1.0..=60_000.0),
        ("inference.queue_timeout_ms", s.inference.queue_timeout_ms as f64, 1.0..=600_000.0),
        ("vision.max_pixels", s.vision.max_pixels as f64, 1.0..=1e9),
    ];
    for (key, value, range) in numbers {
        // Also refuses NaN, which is in no range.
        if !range.contains(&value) {
            complaints.push((key, format!("must be from {} to {}, not {value}", range.start(), range.end())));
        }
    }
    let counts: [(&'static str, usize, RangeInclusive<usize>); 59] = [
        ("server.body_limit_bytes", s.server.body_limit_bytes, 1024..=4096 * MIB),
        ("server.max_connections", s.server.max_connections, 1..=1_000_000),
        ("server.max_in_flight", s.server.max_in_flight, 1..=1_000_000),
        ("server.min_in_flight", s.server.min_in_flight, 1..=1_000_000),
        ("server.upload_memory_bytes", s.server.upload_memory_bytes, MIB..=1 << 40),
        ("vision.max_image_bytes", s.vision.max_image_bytes, 1024..=1024 * MIB),
        ("vision.max_side_px", s.vision.max_side_px as usize, 1..=65_535),
        (
            "vision.max_decode_bytes",
            usize::try_from(s.vision.max_decode_bytes).unwrap_or(usize::MAX),
            MIB..=16_384 * MIB,
        ),
        ("vision.max_images", s.vision.max_images, 1..=16),
        ("vision.decode_workers", s.vision.decode_workers, 0..=1024),
        ("vision.decode_queue", s.vision.decode_queue, 1..=65_536),
        ("vision.thumbnail_px", s.vision.thumbnail_px as usize, 0..=1024),
        ("inference.device", s.inference.device as usize, 0..=255),
        ("inference.workers", s.inference.workers, 0..=256),
        ("inference.intra_threads", s.inference.intra_threads, 0..=256),
        ("inference.wide_threads", s.inference.wide_threads, 0..=256),
        ("inference.queue_capacity", s.inference.queue_capacity, 1..=65_536),
        ("inference.max_batch", s.inference.max_batch, 0..=256),
        ("index.links", s.index.links, 4..=128),
        ("index.build_effort", s.index.build_effort, 8..=2000),
        ("index.max_items", s.index.max_items, 1..=1 << 26),
        ("index.build_threads", s.index.build_threads, 1..=256),
        ("session.max_sessions", s.session.max_sessions, 1..=100_000_000),
        ("session.max_items", s.session.max_items, 1..=10_000),
        ("session.max_seen", s.session.max_seen, 1..=100_000),
        ("live.max_connections", s.live.max_connections, 1..=1_000_000),
        ("live.connections_per_key", s.live.connections_per_key, 1..=1_000_000),
        ("live.connections_per_user", s.live.connections_per_user, 1..=1_000_000),
        ("live.max_messages_per_s", s.live.max_messages_per_s as usize, 1..=100_000),
        ("live.rank_change", s.live.rank_change, 1..=1000),
        ("live.max_tickets", s.live.max_tickets, 1..=10_000_000),
        ("collab.sessions", s.collab.sessions, 2..=1 << 28),
        ("collab.recency_sample", s.collab.recency_sample, 1..=100_000),
        ("collab.neighbours", s.collab.neighbours, 1..=100_000),
        ("collab.session_items", s.collab.session_items, 1..=10_000),
        ("collab.successors", s.collab.successors, 1..=10_000),
        ("collab.preference.tastes", s.collab.preference.tastes, 1..=100_000_000),
        ("collab.preference.items_per_taste", s.collab.preference.items_per_taste, 2..=10_000),
        ("collab.preference.engagements", s.collab.preference.engagements, 10_000..=4_000_000_000),
        ("collab.preference.dims", s.collab.preference.dims, 1..=512),
        ("collab.preference.iterations", s.collab.preference.iterations, 1..=1_000),
        ("collab.preference.threads", s.collab.preference.threads, 0..=256),
        ("collab.preference.min_engagements", s.collab.preference.min_engagements, 1..=1 << 40),
        ("ranking.max_count", s.ranking.max_count, 1..=1000),
        ("ranking.learning.open_decisions", learning.open_decisions, 1..=1_000_000),
        ("ranking.learning.candidates", learning.candidates, 2..=1000),
        ("ranking.learning.queue_capacity", learning.queue_capacity, 1..=16_777_216),
        ("ranking.learning.examples", learning.examples, 1..=10_000_000),
        ("ranking.learning.train_decisions", learning.train_decisions, 0..=10_000_000),
        ("ranking.learning.figures_decisions", learning.figures_decisions, 1..=10_000_000),
        ("ranking.learning.impressions", learning.impressions as usize, 0..=1_000_000),
        ("ranking.default_count", s.ranking.default_count, 1..=1000),
        ("ranking.max_candidates", s.ranking.max_candidates, 1..=100_000),
        ("store.cache_bytes", s.store.cache_bytes, MIB..=1 << 40),
        ("store.queue_capacity", s.store.queue_capacity, 1..=1_000_000),
        ("store.queue_bytes", s.store.queue_bytes, MIB..=1 << 40),
        ("store.commit_records", s.store.commit_records, 1..=1_000_000),
        ("store.max_users", s.store.max_users, 1..=(u32::MAX as usize)),
        ("security.rate_limited_keys", s.security.rate_limited_keys, 1..=10_000_000),
    ];
    for (key, value, range) in counts {
        if !range.contains(&value) {
            complaints.push((key, format!("must be from {} to {}, not {value}", range.start(), range.end())));
        }
    }
    for (key, value) in s.ranking.candidates.by_key() {
        if value > 10_000 {
            complaints.push((key, format!("must be at most 10000, not {value}")));
        }
    }
}

fn check_lists(s: &Settings, complaints: &mut Vec<Complaint>) {
    let inference = &s.inference;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
    let reason = "must be the name of a manifest: letters, digits, `-`, `_`, `.`";
    if !is_name(&inference.model) {
        complaints.push(("inference.model", reason.into()));
    }
    let also: Vec<&str> = inference.also.iter().map(|also| also.name.as_str()).collect();
    let twice = |n: usize| also[n] == inference.model || also[..n].contains(&also[n]);
    if also.len() > 3 || (0..also.len()).any(twice) {
        complaints.push(("inference.also", "must name at most 3 further models, and none twice".into()));
    } else if !also.iter().all(|name| is_name(name)) {
        complaints.push(("inference.also", reason.into()));
    }
    let providers = &inference.providers;
    if providers.is_empty() || (1..providers.len()).any(|i| providers[..i].contains(&providers[i])) {
        complaints.push(("inference.providers", "must name at least one provider, and none twice".into()));
    }
    let lives = &s.collab.trending_half_lives_min;
    let rising = lives.windows(2).all(|pair| pair[0] < pair[1]);
    if !rising || lives.iter().any(|l| !(0.1..=1e6).contains(l)) {
        complaints.push(("collab.trending_half_lives_min", "must be 3 rising numbers from 0.1 to 1000000".into()));
    }
    let is_origin = |origin: &str| {
        origin == "*"
            || origin
                .strip_prefix("https://")
                .or_else(|| origin.strip_prefix("http://"))
                .is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/'))
    };
    if let Some(bad) = s.server.cors_origins.iter().find(|origin| !is_origin(origin)) {
        let reason = format!("has `{bad}`, which is no origin such as https://tv.example.org");
        complaints.push(("server.cors_origins", reason));
    }
}

fn check_exposure(s: &Settings, complaints: &mut Vec<Complaint>) {
    if s.server.bind.ip().is_loopback() || s.server.allow_insecure_public {
        return;
    }
    let way_out = "or set server.allow_insecure_public if something in front of the server sees to it";
    if s.server.tls.mode == TlsMode::Off {
        let reason = format!("is reachable from outside, which needs TLS: set server.tls.mode, {way_out}");
        complaints.push(("server.bind", reason));
    }
    if !s.security.require_keys {
        let reason = format!("is reachable from outside, which needs keys: set security.require_keys, {way_out}");
        complaints.push(("server.bind", reason));
    }
}

fn check_tls(s: &Settings, complaints: &mut Vec<Complaint>) {
    let tls = &s.server.tls;
    for (key, given) in [("server.tls.cert", tls.cert.is_some()), ("server.tls.key", tls.key.is_some())] {
        match (tls.mode, given) {
            (TlsMode::Files, false) => complaints.push((key, "must be set when server.tls.mode is \"files\"".into())),
            (TlsMode::Development | TlsMode::Off, true) => {
                complaints.push((key, "is set, but server.tls.mode is not \"files\"".into()));
            }
            (TlsMode::Files, true) | (TlsMode::Development | TlsMode::Off, false) => {}
        }
    }
    match (tls.client_auth, tls.client_ca.is_some()) {
        (ClientAuth::None, true) => {
            complaints.push(("server.tls.client_auth", "must not be \"none\" when server.tls.client_ca is set".into()));
        }
        (ClientAuth::Optional | ClientAuth::Required, false) => {
            complaints.push(("server.tls.client_ca", "must be set when client certificates are asked for".into()));
        }
        (ClientAuth::Optional | ClientAuth::Required, true) if tls.mode == TlsMode::Off => {
            complaints.push(("server.tls.client_auth", "needs TLS, but server.tls.mode is \"off\"".into()));
        }
        (ClientAuth::Optional | ClientAuth::Required, true) | (ClientAuth::None, false) => {}
    }
}

fn check_relations(s: &Settings, complaints: &mut Vec<Complaint>) {
    if !(s.live.idle_s > s.live.heartbeat_s && s.live.idle_s <= 86_400.0) {
        complaints.push(("live.idle_s", "must be more than live.heartbeat_s, and at most 86400".into()));
    }
    if s.ranking.default_count > s.ranking.max_count {
        complaints.push(("ranking.default_count", "must not be more than ranking.max_count".into()));
    }
    if s.ranking.max_candidates < s.ranking.max_count {
        complaints.push(("ranking.max_candidates", "must not be less than ranking.max_count".into()));
    }
    if s.vision.max_image_bytes > s.server.body_limit_bytes {
        complaints.push(("vision.max_image_bytes", "must not be more than server.body_limit_bytes".into()));
    }
    if s.security.rate_limit_burst > 0 && s.security.rate_limit_per_s == 0 {
        complaints.push(("security.rate_limit_burst", "means nothing without security.rate_limit_per_s".into()));
    }
    if s.security.user_secret.as_ref().is_some_and(|secret| secret.reveal().chars().count() < 16) {
        complaints.push(("security.user_secret", "must have at least 16 characters".into()));
    }
    let tokens = &s.security.tokens;
    if tokens.jwks_file.is_some() || !tokens.public_keys.is_empty() {
        for (key, text) in [("security.tokens.issuer", &tokens.issuer), ("security.tokens.audience", &tokens.audience)]
        {
            if text.is_empty() {
                complaints.push((key, "must be set when there are keys of tokens".into()));
            }
        }
    }
    if !s.security.sealing_keys.is_empty() && s.security.sealing_key_file.is_some() {
        complaints.push(("security.sealing_key_file", "means nothing when security.sealing_keys is set".into()));
    }
    if s.data_dir.as_os_str().is_empty() {
        complaints.push(("data_dir", "must not be empty".into()));
    }
    let endpoint = s.telemetry.traces_endpoint.as_str();
    if !endpoint.is_empty() && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        complaints.push(("telemetry.traces_endpoint", "must begin with http:// or https://, or be empty".into()));
    }
    if !(0.0..=1.0).contains(&s.telemetry.traces_share) {
        complaints.push(("telemetry.traces_share", "must be 0 to 1".into()));
    }
    if s.telemetry.log_filter.trim().is_empty() {
        complaints.push(("telemetry.log_filter", "must not be empty; \"off\" logs nothing".into()));
    }
}

fn check_experiments(s: &Settings, complaints: &mut Vec<Complaint>) {
    let sources = s.ranking.candidates.by_key().map(|(key, _)| key.trim_start_matches("ranking.candidates."));
    let mut complain = |reason: String| complaints.push(("experiments", reason));
    // The names stand in answers and reports.
    let plain = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (1..=64).contains(&name.len()) && name.chars().all(fits)
    };
    if s.experiments.len() > 16 {
        complain("may be at most 16".into());
    }
    for (n, experiment) in s.experiments.iter().enumerate() {
        let name = &experiment.name;
        if !plain(name) || s.experiments[..n].iter().any(|other| other.name == *name) {
            complain(format!("`{name}` must be a name of its own: 1 to 64 letters, digits, `-`, `_`, `.`"));
        }
        let sum: f64 = experiment.arms.iter().map(|arm| arm.share).sum();
        if experiment.arms.is_empty() || experiment.arms.len() > 16 || sum.is_nan() || sum > 1.0 + 1e-9 {
            complain(format!("`{name}` must have 1 to 16 arms whose shares add up to at most 1"));
        }
        for (m, arm) in experiment.arms.iter().enumerate() {
            let place = format!("`{name}`, arm `{}`", arm.name);
            if !plain(&arm.name) || experiment.arms[..m].iter().any(|other| other.name == arm.name) {
                complain(format!("{place}: must be a name of its own: 1 to 64 letters, digits, `-`, `_`, `.`"));
            }
            let shares = [Some(arm.share), arm.exploration, arm.diversity.map(f64::from)];
            if shares.into_iter().flatten().any(|share| !(0.0..=1.0).contains(&share)) {
                complain(format!("{place}: share, exploration and diversity must be from 0 to 1"));
            }
            if let Some(unknown) = arm.sources_off.iter().find(|source| !sources.contains(&source.as_str())) {
                complain(format!("{place}: there is no source `{unknown}`; there are {}", sources.join(", ")));
            }
            if arm.weights.is_some() && arm.learned == Some(true) {
                complain(format!("{place}: weights of its own do not learn"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    /// The complaints about the defaults with `overrides`.
    fn complaints(overrides: &[&str]) -> String {
        let sources = Sources { overrides: overrides.iter().map(ToString::to_string).collect(), ..Sources::default() };
        Settings::load(&sources).map_or_else(|e| e.to_string(), |_| String::new())
    }

    #[test]
    fn a_public_address_needs_tls_and_keys() {
        assert_eq!(complaints(&["server.bind=0.0.0.0:443"]), "");
        assert_eq!(complaints(&["server.tls.mode=off", "security.require_keys=false"]), "");
        assert_eq!(complaints(&["server.bind=[::1]:80", "server.tls.mode=off"]), "");
        let text = complaints(&["server.bind=0.0.0.0:443", "server.tls.mode=off"]);
        assert!(text.contains("`server.bind`") && text.contains("needs TLS") && !text.contains("needs keys"), "{text}");
        let text = complaints(&["server.bind=[::]:443", "security.require_keys=false"]);
        assert!(text.contains("needs keys") && !text.contains("needs TLS"), "{text}");
        let insecure = ["server.bind=0.0.0.0:80", "server.tls.mode=off", "security.require_keys=false"];
        assert_eq!(complaints(&insecure).matches("server.bind`").count(), 2);
        assert_eq!(complaints(&[&insecure[..], &["server.allow_insecure_public=true"]].concat()), "");
    }

    #[test]
    fn tls_files_come_together() {
        let text = complaints(&["server.tls.mode=files", "server.tls.cert=c.pem"]);
        assert!(text.contains("`server.tls.key` must be set"), "{text}");
        assert_eq!(complaints(&["server.tls.mode=files", "server.tls.cert=c.pem", "server.tls.key=k.pem"]), "");
        assert!(complaints(&["server.tls.cert=c.pem"]).contains("`server.tls.cert` is set, but"));
        assert!(complaints(&["server.tls.client_auth=required"]).contains("`server.tls.client_ca` must be set"));
        assert!(
            complaints(&["telemetry.traces_endpoint=localhost:4318"])
                .contains("`telemetry.traces_endpoint` must begin")
        );
        assert!(complaints(&["telemetry.traces_share=2"]).contains("`telemetry.traces_share` must be 0 to 1"));
        assert!(complaints(&["server.tls.client_ca=ca.pem"]).contains("`server.tls.client_auth` must not be"));
        let with_ca = ["server.tls.client_auth=optional", "server.tls.client_ca=ca.pem"];
        assert_eq!(complaints(&with_ca), "");
        assert!(complaints(&[&with_ca[..], &["server.tls.mode=off"]].concat()).contains("needs TLS"));
    }

    #[test]
    fn lists_have_their_own_rules() {
        for good in ["server.cors_origins=*", "server.cors_origins=https://a.example,http://localhost:3000"] {
            assert_eq!(complaints(&[good]), "");
        }
        for bad in [
            "server.cors_origins=tv.example.org",
            "server.cors_origins=https://a.example/path",
            "inference.model=",
            "inference.model=../elsewhere",
            "inference.also=efficientnet-lite0-160",
            "inference.also=../elsewhere:2",
            "inference.also=other:0",
            "inference.providers=",
            "inference.providers=cpu,cpu",
            "collab.trending_half_lives_min=5,4,3",
            "ranking.horizons_s=30,15",
        ] {
            let key = bad.split('=').next().unwrap();
            let text = complaints(&[bad]);
            assert!(text.contains(&format!("`{key}`")), "{bad}: {text}");
        }
    }

    #[test]
    fn experiments_have_names_and_shares() {
        let with = |arms: &str| complaints(&[&format!("experiments=[{{name=\"a\", arms=[{arms}]}}]")]);
        assert_eq!(
            with("{name=\"x\", share=0.5}, {name=\"y\", share=0.5, sources_off=[\"visual\", \"preference\"]}"),
            ""
        );
        for (arms, word) in [
            ("", "1 to 16 arms"),
            ("{name=\"x\", share=0.7}, {name=\"y\", share=0.4}", "add up"),
            ("{name=\"x\", share=0.1}, {name=\"x\", share=0.1}", "name of its own"),
            ("{name=\"x y\", share=0.1}", "name of its own"),
            ("{name=\"x\", share=-0.1}", "from 0 to 1"),
            ("{name=\"x\", share=0.1, diversity=2.0}", "from 0 to 1"),
            ("{name=\"x\", share=0.1, sources_off=[\"sight\"]}", "no source `sight`"),
            ("{name=\"x\", share=0.1, weights=\"w.toml\", learned=true}", "do not learn"),
            ("{name=\"x\", share=0.1, divers=2.0}", "unknown field"),
        ] {
            let text = with(arms);
            assert!(text.contains("`experiments`") && text.contains(word), "{arms}: {text}");
        }
    }

    #[test]
    fn settings_that_depend_on_each_other_are_compared() {
        assert!(complaints(&["ranking.default_count=50", "ranking.max_count=20"]).contains("`ranking.default_count`"));
        assert!(complaints(&["ranking.max_candidates=50"]).contains("`ranking.max_candidates`"));
        assert!(complaints(&["server.body_limit_bytes=1048576"]).contains("`vision.max_image_bytes`"));
        assert!(complaints(&["security.rate_limit_burst=5"]).contains("`security.rate_limit_burst`"));
        assert!(complaints(&["ranking.candidates.fresh=10001"]).contains("`ranking.candidates.fresh`"));
        assert!(complaints(&["data_dir="]).contains("`data_dir`"));
        let keys = format!("security.sealing_keys=1:{}", "0a".repeat(32));
        assert_eq!(complaints(&[&keys]), "");
        assert_eq!(complaints(&["security.sealing_key_file=k"]), "");
        assert!(complaints(&[&keys, "security.sealing_key_file=k"]).contains("`security.sealing_key_file`"));
    }
}
