//! How long does an answer take without a wire? The same visits, asked of the engine in this process, one after another.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use upnext::app::App;
use upnext::config::{Settings, Sources};
use upnext::domain::{ItemId, SessionId, SystemClock};
use upnext::engine::RecommendRequest;

use super::clicks::Clicks;
use crate::{Args, Failure, interrupted, note};

/// Latencies of the engine alone.
#[derive(Debug, Serialize)]
pub(crate) struct Inside {
    requests: usize,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// Opens the data that a server has left in `dir`, and asks for `args.warmup_s` unheard and then for `args.duration_s`.
pub(super) fn run(args: &Args, dir: &Path, clicks: &Clicks) -> Result<Inside, Failure> {
    let mut overrides = vec![format!("data_dir={}", dir.display()), "server.tls.mode=off".into()];
    overrides.extend(args.overrides.clone());
    let sources = Sources { overrides, ..Sources::default() };
    let settings = Settings::load(&sources)?.settings;
    note("the engine in this process");
    let app = App::build(settings, Arc::new(SystemClock), |_| ControlFlow::Continue(()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let ids: Vec<ItemId> = clicks.items.iter().map(ItemId::new).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let (mut latencies_us, mut heard) = (Vec::new(), false);
    let run = std::process::id();
    for (number, visit) in clicks.visits.iter().cycle().enumerate() {
        let elapsed_s = began.elapsed().as_secs_f64();
        if elapsed_s > args.warmup_s + args.duration_s || interrupted() {
            break;
        }
        if !heard && elapsed_s > args.warmup_s {
            (latencies_us, heard) = (Vec::new(), true);
        }
        let session = SessionId::new(format!("i{run}-{number}"))?;
        for &item in visit {
            let request = RecommendRequest {
                session: Some(session.clone()),
                playing: ids.get(item as usize).cloned(),
                count: Some(args.count),
                ..RecommendRequest::default()
            };
            let asked = Instant::now();
            let answer = runtime.block_on(app.engine().recommend(request))?;
            latencies_us.push(asked.elapsed().as_secs_f64() * 1e6);
            if answer.lists.is_empty() {
                return Err("an answer has no lists".into());
            }
        }
    }
    app.stop();
    latencies_us.sort_unstable_by(f64::total_cmp);
    let requests = latencies_us.len();
    let quantile = |q: f64| latencies_us.get((requests as f64 * q) as usize).copied().unwrap_or_default();
    Ok(Inside {
        requests,
        mean_us: latencies_us.iter().sum::<f64>() / requests.max(1) as f64,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        max_us: latencies_us.last().copied().unwrap_or_default(),
    })
}

impl Inside {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let Self { requests, mean_us, p50_us, p99_us, max_us } = self;
        format!(
            "in process: mean {mean_us:.1} us, p50 {p50_us:.1}, p99 {p99_us:.1}, max {max_us:.0} of {requests} requests\n"
        )
    }
}
