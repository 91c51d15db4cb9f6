//! Do the dashboard and the alerts speak of metrics that there are?

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use upnext::telemetry::{LiveFigures, Metrics};

use crate::support::{list, text};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every name that the registry has. A family with labels shows itself once a label has been seen.
fn registered() -> BTreeSet<String> {
    let metrics = Metrics::new().unwrap();
    metrics.http_request_started().answered(Some("/livez"), "GET", 200);
    metrics.count_auth_failure("missing");
    metrics.set_build("model", "runtime");
    let figures =
        LiveFigures { hit_rate: Some(0.1), reciprocal_rank: Some(0.1), log_loss: Some(0.1), calibration: Some(1.0) };
    metrics.set_live_figures("served", 15, figures);
    let text = metrics.encode();
    let mut names = BTreeSet::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
    }
    assert!(names.len() > 40, "{names:?}");
    names
}

/// What in an expression looks like one of our metrics.
fn named(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("upnext_") || word.starts_with("process_")).collect()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_exists() {
    let registered = registered();
    let dashboard: Value = serde_json::from_str(&read("config/grafana/upnext.json")).unwrap();
    let panels = list(&dashboard["panels"]).iter();
    let expressions = panels.flat_map(|panel| list(&panel["targets"])).map(|target| text(&target["expr"]).to_owned());
    let rules = read("config/prometheus/upnext-alerts.yml");
    let conditions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned);
    let all: Vec<String> = expressions.chain(conditions).collect();
    assert!(all.len() > 40, "{all:?}");
    let mut used = BTreeSet::new();
    for expression in &all {
        for name in named(expression) {
            assert!(registered.contains(name), "there is no {name}: {expression}");
            used.insert(name);
        }
    }
    assert!(used.len() > 30, "{used:?}");
}
