//! What can an operator see from outside? Every metric of the service, in one struct.
//!
//! Names begin with `upnext_` (those of the process with `process_`); units are seconds and bytes. Every label
//! has a bounded set of values. [`Metrics::encode`] is the text that a Prometheus server reads.

use std::sync::Arc;
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::admission::AdmissionFamilies;
use super::live::LiveFamilies;
use super::process::{self, ProcessUsage};
use super::stage::{Stage, StageTimer};

/// From 50 µs to 10 s, close together where a request should be.
pub(super) const SECONDS_BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const GROUP_BUCKETS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0];

/// A queue whose length is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Pictures waiting for a model.
    Inference,
    /// Writes waiting for the next commit.
    Store,
    /// Uploads waiting to be decoded.
    Decode,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// Logged for the first time.
    Accepted,
    /// Logged before.
    Duplicate,
    /// Not logged, because it is not valid.
    Rejected,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Stored, new or changed.
    Stored,
    /// Deleted.
    Deleted,
    /// Not stored, because it is not valid.
    Rejected,
}

/// What became of a decision that the ranking learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionOutcome {
    /// It waits for its outcome.
    Opened,
    /// Its outcome is known.
    Closed,
    /// Its outcome will not be known.
    Censored,
    /// It found no room, or was too much like another.
    Dropped,
}

/// What became of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingResult {
    /// The new weights took over.
    Adopted,
    /// The new weights were no better.
    Kept,
    /// There are no new weights.
    Failed,
}

/// How good answers turn out to be; what is not known yet is left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LiveFigures {
    /// Share of the engagements that the list had.
    pub hit_rate: Option<f64>,
    /// Mean of 1 / its place.
    pub reciprocal_rank: Option<f64>,
    /// Mean log loss of the probabilities.
    pub log_loss: Option<f64>,
    /// Predicted over observed engagements.
    pub calibration: Option<f64>,
}

/// How much there is of everything; gauges that are set from time to time, or when metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Live sessions.
    pub sessions: u64,
    /// Items in the catalogue.
    pub items: u64,
    /// Vectors in the index.
    pub vectors: u64,
    /// Memory of the index, in bytes.
    pub index_bytes: u64,
    /// Items whose taste was guessed since tastes were learned.
    pub preference_added: u64,
    /// The sequence number of the last entry of the log.
    pub log_sequence: u64,
    /// The sequence number of its first entry.
    pub log_first_sequence: u64,
    /// Bytes of its records.
    pub log_bytes: u64,
    /// The last entry that the newest checkpoint includes.
    pub checkpoint_sequence: u64,
    /// Bytes free on the disk.
    pub disk_free_bytes: u64,
    /// Persons who have a key of their own.
    pub users: u64,
    /// Items that the models to come have seen, are still to see, and cannot see; `None` if there are none to come.
    pub takeover: Option<[u64; 3]>,
}

/// All metrics of one service. Clones share them; each `new` has a registry of its own.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    /// By [`Stage::index`], so that a timer costs no look-up by name.
    stages: Vec<Histogram>,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    http_in_flight: IntGauge,
    http_cancelled: IntCounter,
    events: [IntCounter; 3],
    items: [IntCounter; 3],
    queues: [IntGauge; 3],
    sessions: IntGauge,
    item_count: IntGauge,
    vectors: IntGauge,
    index_bytes: IntGauge,
    preference_added: IntGauge,
    log_sequence: IntGauge,
    log_first_sequence: IntGauge,
    log_bytes: IntGauge,
    checkpoint_sequence: IntGauge,
    disk_free_bytes: IntGauge,
    users: IntGauge,
    takeover: IntGauge,
    takeover_items: [IntGauge; 3],
    inference_batch: Histogram,
    commit_group: Histogram,
    frames_skipped: IntCounter,
    degraded: IntCounter,
    rate_limited: IntCounter,
    overloaded: IntCounter,
    auth_failures: IntCounterVec,
    resident_bytes: IntGauge,
    resident_peak_bytes: IntGauge,
    cpu_seconds: Counter,
    threads: IntGauge,
    open_files: IntGauge,
    build: IntGaugeVec,
    ready: Gauge,
    decisions: [IntCounter; 4],
    trainings: [IntCounter; 3],
    roll_backs: IntCounter,
    explored: IntCounter,
    /// Hit rate, reciprocal rank, log loss, calibration.
    live: [GaugeVec; 4],
    preference_seconds: Gauge,
    preference_items: IntGauge,
    preference_loss: Gauge,
    rim: LiveFamilies,
    admission: AdmissionFamilies,
}

/// Registers one family after the other and keeps the first error.
pub(super) struct Registrar {
    registry: Registry,
    first_error: Option<prometheus::Error>,
}

impl Registrar {
    pub(super) fn add<C: Collector + Clone + 'static>(&mut self, made: prometheus::Result<C>) -> prometheus::Result<C> {
        let collector = made?;
        if let Err(e) = self.registry.register(Box::new(collector.clone())) {
            self.first_error.get_or_insert(e);
        }
        Ok(collector)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }

    fn live(&mut self, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), &["decisions", "horizon_s"]))
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }
}

impl Metrics {
    /// A fresh set, all at zero. It fails only if two metrics here have the same name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut add = Registrar { registry: registry.clone(), first_error: None };
        let stages = add.add(HistogramVec::new(
            HistogramOpts::new("upnext_stage_seconds", "Time spent in one stage of the work.")
                .buckets(SECONDS_BUCKETS.to_vec()),
            &["stage"],
        ))?;
        let events = add.add(IntCounterVec::new(
            Opts::new("upnext_events_total", "Events received, by what became of them."),
            &["outcome"],
        ))?;
        let items = add.add(IntCounterVec::new(
            Opts::new("upnext_items_total", "Writes to the catalogue, by what became of them."),
            &["outcome"],
        ))?;
        let queues =
            add.add(IntGaugeVec::new(Opts::new("upnext_queue_depth", "Entries waiting in a queue."), &["queue"]))?;
        let takeover = add.add(IntGaugeVec::new(
            Opts::new("upnext_takeover_items", "Items, by what the models to come know of them."),
            &["state"],
        ))?;
        let decisions = add.add(IntCounterVec::new(
            Opts::new("upnext_decisions_total", "Decisions to learn from, by what became of them."),
            &["outcome"],
        ))?;
        let trainings = add.add(IntCounterVec::new(
            Opts::new("upnext_trainings_total", "Trainings of new weights, by what became of them."),
            &["result"],
        ))?;
        let families = Families {
            rim: LiveFamilies::register(&mut add)?,
            admission: AdmissionFamilies::register(&mut add)?,
            decisions: ["opened", "closed", "censored", "dropped"].map(|o| decisions.with_label_values(&[o])),
            trainings: ["adopted", "kept", "failed"].map(|r| trainings.with_label_values(&[r])),
            roll_backs: add
                .counter("upnext_roll_backs_total", "Times that what was learned online was rolled back.")?,
            explored: add.counter("upnext_explored_answers_total", "Answers that tried a new item.")?,
            live: [
                add.live("upnext_live_hit_rate", "Share of the engagements that the list had, lately.")?,
                add.live("upnext_live_reciprocal_rank", "Mean of 1 / the place that the list gave it, lately.")?,
                add.live("upnext_live_log_loss", "Mean log loss of the predicted probabilities, lately.")?,
                add.live("upnext_live_calibration_ratio", "Predicted over observed engagements, lately.")?,
            ],
            stages: Stage::ALL.iter().map(|stage| stages.with_label_values(&[stage.name()])).collect(),
            http_requests: add.add(IntCounterVec::new(
                Opts::new("upnext_http_requests_total", "Answered HTTP requests."),
                &["route", "method", "status"],
            ))?,
            http_seconds: add.add(HistogramVec::new(
                HistogramOpts::new("upnext_http_request_seconds", "Time from a request's head to its answer's head.")
                    .buckets(SECONDS_BUCKETS.to_vec()),
                &["route", "method"],
            ))?,
            http_in_flight: add.gauge("upnext_http_requests_in_flight", "HTTP requests being worked on.")?,
            http_cancelled: add.counter(
                "upnext_http_requests_cancelled_total",
                "HTTP requests whose client went away before the answer.",
            )?,
            events: ["accepted", "duplicate", "rejected"].map(|outcome| events.with_label_values(&[outcome])),
            items: ["stored", "deleted", "rejected"].map(|outcome| items.with_label_values(&[outcome])),
            queues: ["inference", "store", "decode"].map(|queue| queues.with_label_values(&[queue])),
            sessions: add.gauge("upnext_sessions", "Live sessions.")?,
            item_count: add.gauge("upnext_items", "Items in the catalogue.")?,
            vectors: add.gauge("upnext_index_vectors", "Vectors in the index.")?,
            index_bytes: add.gauge("upnext_index_bytes", "Memory of the index.")?,
            preference_added: add
                .gauge("upnext_preference_added_items", "Items with a guessed factor since the last training.")?,
            log_sequence: add.gauge("upnext_log_sequence", "Sequence number of the last entry of the log.")?,
            log_first_sequence: add
                .gauge("upnext_log_first_sequence", "Sequence number of the first entry that the log still has.")?,
            log_bytes: add.gauge("upnext_log_bytes", "Bytes of the log's records.")?,
            checkpoint_sequence: add
                .gauge("upnext_checkpoint_sequence", "Last entry of the log that the newest checkpoint includes.")?,
            disk_free_bytes: add.gauge("upnext_disk_free_bytes", "Bytes free on the disk of the data folder.")?,
            users: add.gauge("upnext_users", "Persons who have a key of their own.")?,
            takeover: add.gauge("upnext_takeover", "Whether other models look at the catalogue, to take over.")?,
            takeover_items: ["seen", "left", "lost"].map(|state| takeover.with_label_values(&[state])),
            inference_batch: add.histogram(
                "upnext_inference_batch_size",
                "Pictures in one run of a model.",
                &BATCH_BUCKETS,
            )?,
            commit_group: add.histogram(
                "upnext_commit_group_size",
                "Records made durable by one commit.",
                &GROUP_BUCKETS,
            )?,
            frames_skipped: add.counter(
                "upnext_frames_skipped_total",
                "Frames that looked like the one before and needed no inference.",
            )?,
            degraded: add.counter(
                "upnext_degraded_answers_total",
                "Recommendations for which at least one candidate source was late or failed.",
            )?,
            rate_limited: add.counter("upnext_rate_limited_total", "Requests beyond the rate limit of their key.")?,
            overloaded: add.counter("upnext_overloaded_total", "Requests refused because a queue was full.")?,
            auth_failures: add.add(IntCounterVec::new(
                Opts::new("upnext_auth_failures_total", "Requests refused for want of a valid key, by reason."),
                &["reason"],
            ))?,
            resident_bytes: add.gauge("process_resident_memory_bytes", "Memory of the process in RAM.")?,
            resident_peak_bytes: add
                .gauge("process_resident_memory_peak_bytes", "Most memory of the process in RAM so far.")?,
            cpu_seconds: add.add(Counter::new("process_cpu_seconds_total", "Processor time of the process."))?,
            threads: add.gauge("process_threads", "Threads of the process.")?,
            open_files: add.gauge("process_open_fds", "Open files and sockets of the process.")?,
            build: add.add(IntGaugeVec::new(
                Opts::new("upnext_build_info", "Always 1; the labels say what runs."),
                &["version", "model", "runtime"],
            ))?,
            preference_seconds: add.add(Gauge::new(
                "upnext_preference_training_seconds",
                "How long the last training of the preference model took.",
            ))?,
            preference_items: add.gauge("upnext_preference_items", "Items with a factor in the preference model.")?,
            preference_loss: add.add(Gauge::new(
                "upnext_preference_loss",
                "What the last training of the preference model minimised, for each engagement.",
            ))?,
            ready: add.add(Gauge::new("upnext_ready", "1 when the service answers requests, else 0."))?,
            registry,
        };
        match add.first_error {
            Some(error) => Err(error),
            None => Ok(Self(Arc::new(families))),
        }
    }

    /// Everything in Prometheus's text format, with the process's own figures read anew.
    pub fn encode(&self) -> String {
        if let Some(usage) = process::read() {
            self.set_process(usage);
        }
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_else(|error| {
            ::tracing::error!(%error, "metrics could not be encoded");
            String::new()
        })
    }

    /// Sets the gauges of the preference model after a training of `items` factors.
    pub fn set_preference(&self, took: std::time::Duration, items: usize, loss: f64) {
        self.0.preference_seconds.set(took.as_secs_f64());
        self.0.preference_items.set(i64::try_from(items).unwrap_or(i64::MAX));
        self.0.preference_loss.set(loss);
    }

    /// Starts timing `stage`; the time is recorded when the timer ends.
    pub fn stage_timer(&self, stage: Stage) -> StageTimer {
        StageTimer::start(self.0.stages[stage.index()].clone())
    }

    /// Records a time that was measured elsewhere.
    pub fn observe_stage(&self, stage: Stage, seconds: f64) {
        self.0.stages[stage.index()].observe(seconds);
    }

    /// A request has come in; keep the guard until it is answered.
    pub fn http_request_started(&self) -> HttpRequest {
        self.0.http_in_flight.inc();
        HttpRequest { families: Arc::clone(&self.0), started: Instant::now(), answered: false }
    }

    /// Counts events that met the same end.
    pub fn count_events(&self, outcome: EventOutcome, count: u64) {
        self.0.events[match outcome {
            EventOutcome::Accepted => 0,
            EventOutcome::Duplicate => 1,
            EventOutcome::Rejected => 2,
        }]
        .inc_by(count);
    }

    /// Counts items that met the same end.
    pub fn count_items(&self, outcome: ItemOutcome, count: u64) {
        self.0.items[match outcome {
            ItemOutcome::Stored => 0,
            ItemOutcome::Deleted => 1,
            ItemOutcome::Rejected => 2,
        }]
        .inc_by(count);
    }

    /// Shows the length of a queue.
    pub fn set_queue_depth(&self, queue: Queue, depth: usize) {
        self.0.queues[match queue {
            Queue::Inference => 0,
            Queue::Store => 1,
            Queue::Decode => 2,
        }]
        .set(clamp(depth as u64));
    }

    /// Shows how much there is of everything.
    pub fn set_sizes(&self, sizes: Sizes) {
        self.0.sessions.set(clamp(sizes.sessions));
        self.0.item_count.set(clamp(sizes.items));
        self.0.vectors.set(clamp(sizes.vectors));
        self.0.index_bytes.set(clamp(sizes.index_bytes));
        self.0.preference_added.set(clamp(sizes.preference_added));
        self.0.log_sequence.set(clamp(sizes.log_sequence));
        self.0.log_first_sequence.set(clamp(sizes.log_first_sequence));
        self.0.log_bytes.set(clamp(sizes.log_bytes));
        self.0.checkpoint_sequence.set(clamp(sizes.checkpoint_sequence));
        self.0.disk_free_bytes.set(clamp(sizes.disk_free_bytes));
        self.0.users.set(clamp(sizes.users));
        self.0.takeover.set(i64::from(sizes.takeover.is_some()));
        for (gauge, items) in self.0.takeover_items.iter().zip(sizes.takeover.unwrap_or_default()) {
            gauge.set(clamp(items));
        }
    }

    /// Records the number of pictures in one run of a model.
    pub fn observe_inference_batch(&self, pictures: usize) {
        self.0.inference_batch.observe(pictures as f64);
    }

    /// Records the number of records in one commit of the store.
    pub fn observe_commit_group(&self, records: usize) {
        self.0.commit_group.observe(records as f64);
    }

    /// A frame looked like the one before it and needed no inference.
    pub fn count_skipped_frame(&self) {
        self.0.frames_skipped.inc();
    }

    /// A recommendation had to do without at least one of its sources.
    pub fn count_degraded(&self) {
        self.0.degraded.inc();
    }

    /// A request was beyond its key's rate limit.
    pub fn count_rate_limited(&self) {
        self.0.rate_limited.inc();
    }

    /// A request was refused because a queue was full.
    pub fn count_overloaded(&self) {
        self.0.overloaded.inc();
    }

    /// A request had no valid key; `reason` is one of a few fixed words.
    pub fn count_auth_failure(&self, reason: &'static str) {
        self.0.auth_failures.with_label_values(&[reason]).inc();
    }

    /// Counts decisions that met the same end.
    pub fn count_decisions(&self, outcome: DecisionOutcome, count: u64) {
        self.0.decisions[match outcome {
            DecisionOutcome::Opened => 0,
            DecisionOutcome::Closed => 1,
            DecisionOutcome::Censored => 2,
            DecisionOutcome::Dropped => 3,
        }]
        .inc_by(count);
    }

    /// New weights were, or should have been, trained.
    pub fn count_training(&self, result: TrainingResult) {
        self.0.trainings[match result {
            TrainingResult::Adopted => 0,
            TrainingResult::Kept => 1,
            TrainingResult::Failed => 2,
        }]
        .inc();
    }

    /// What was learned online was rolled back.
    pub fn count_roll_back(&self) {
        self.0.roll_backs.inc();
    }

    /// An answer tried a new item.
    pub fn count_explored(&self) {
        self.0.explored.inc();
    }

    /// Shows how good answers turn out to be; `decisions` is `served` or `organic`, the horizon one of the model's.
    pub fn set_live_figures(&self, decisions: &'static str, horizon_s: u32, figures: LiveFigures) {
        let LiveFigures { hit_rate, reciprocal_rank, log_loss, calibration } = figures;
        let horizon = horizon_s.to_string();
        for (family, value) in self.0.live.iter().zip([hit_rate, reciprocal_rank, log_loss, calibration]) {
            if let Some(value) = value {
                family.with_label_values(&[decisions, &horizon]).set(value);
            }
        }
    }

    /// Says what runs: this build, its model and the version of its inference runtime.
    pub fn set_build(&self, model: &str, runtime: &str) {
        self.0.build.reset();
        self.0.build.with_label_values(&[env!("CARGO_PKG_VERSION"), model, runtime]).set(1);
    }

    /// Says whether the service answers requests.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.set(if ready { 1.0 } else { 0.0 });
    }

    pub(super) fn live(&self) -> &LiveFamilies {
        &self.0.rim
    }

    pub(super) fn admission(&self) -> &AdmissionFamilies {
        &self.0.admission
    }

    fn set_process(&self, usage: ProcessUsage) {
        self.0.resident_bytes.set(clamp(usage.resident_bytes));
        self.0.resident_peak_bytes.set(clamp(usage.resident_peak_bytes));
        self.0.threads.set(clamp(usage.threads));
        self.0.open_files.set(clamp(usage.open_files));
        // A counter can only be moved on; two readers at once may both have read the same old value, which is
        // why it can run ahead by at most the time between the two.
        let more = usage.cpu_s - self.0.cpu_seconds.get();
        if more > 0.0 {
            self.0.cpu_seconds.inc_by(more);
        }
    }
}

fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A request on its way. Dropping it without an answer counts the request as cancelled.
#[derive(Debug)]
#[must_use = "the request counts as over when this is dropped"]
pub struct HttpRequest {
    families: Arc<Families>,
    started: Instant,
    answered: bool,
}

impl HttpRequest {
    /// The request was answered with `status`. `route` is the pattern that matched (`/v1/items/{item_id}`), or
    /// `None` when none did; never the path itself, which has no bound.
    pub fn answered(mut self, route: Option<&str>, method: &str, status: u16) {
        self.answered = true;
        let route = route.unwrap_or("unmatched");
        // Clients may invent methods; a label must not grow with them.
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
            _ => "other",
        };
        let mut digits = [0_u8; 5];
        let status = write_decimal(status, &mut digits);
        self.families.http_requests.with_label_values(&[route, method, status]).inc();
        self.families.http_seconds.with_label_values(&[route, method]).observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        self.families.http_in_flight.dec();
        if !self.answered {
            self.families.http_cancelled.inc();
        }
    }
}

/// The number in decimal, without an allocation a request.
fn write_decimal(mut number: u16, digits: &mut [u8; 5]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&digits[at..]).unwrap_or("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, line_start: &str) -> f64 {
        let line =
            text.lines().find(|l| l.starts_with(line_start)).unwrap_or_else(|| panic!("no {line_start}\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn every_stage_has_a_histogram_from_the_start() {
        let metrics = Metrics::new().unwrap();
        metrics.stage_timer(Stage::Decode).stop();
        drop(metrics.stage_timer(Stage::Decode));
        metrics.stage_timer(Stage::Decode).discard();
        metrics.observe_stage(Stage::SourceVisual, 0.003);
        let text = metrics.encode();
        for stage in Stage::ALL {
            let count = value(&text, &format!("upnext_stage_seconds_count{{stage=\"{}\"}}", stage.name()));
            let expected = match stage.name() {
                "decode" => 2.0,
                "source_visual" => 1.0,
                _ => 0.0,
            };
            assert_eq!(count, expected, "{}", stage.name());
        }
        assert_eq!(value(&text, "upnext_stage_seconds_bucket{stage=\"source_visual\",le=\"0.0025\"}"), 0.0);
        assert_eq!(value(&text, "upnext_stage_seconds_bucket{stage=\"source_visual\",le=\"0.005\"}"), 1.0);
    }

    #[test]
    fn requests_are_counted_once_and_leave() {
        let metrics = Metrics::new().unwrap();
        let first = metrics.http_request_started();
        let second = metrics.http_request_started();
        let third = metrics.http_request_started();
        assert_eq!(value(&metrics.encode(), "upnext_http_requests_in_flight"), 3.0);
        first.answered(Some("/v1/items/{item_id}"), "GET", 200);
        second.answered(None, "BREW", 418);
        drop(third);
        let text = metrics.encode();
        assert_eq!(value(&text, "upnext_http_requests_in_flight"), 0.0);
        assert_eq!(value(&text, "upnext_http_requests_cancelled_total"), 1.0);
        let of = |labels: &str| value(&text, &format!("upnext_http_requests_total{{{labels}}}"));
        assert_eq!(of("method=\"GET\",route=\"/v1/items/{item_id}\",status=\"200\""), 1.0);
        assert_eq!(of("method=\"other\",route=\"unmatched\",status=\"418\""), 1.0);
    }

    #[test]
    fn counters_and_gauges_show_what_was_said() {
        let original = Metrics::new().unwrap();
        let metrics = original.clone();
        metrics.count_events(EventOutcome::Duplicate, 3);
        metrics.count_items(ItemOutcome::Stored, 2);
        metrics.set_queue_depth(Queue::Store, 7);
        metrics.set_sizes(Sizes {
            sessions: 1,
            items: 2,
            vectors: 3,
            index_bytes: 4,
            log_sequence: u64::MAX,
            takeover: Some([5, 6, 0]),
            ..Sizes::default()
        });
        metrics.count_auth_failure("unknown_key");
        metrics.set_build("a", "1");
        metrics.set_build("b", "2");
        metrics.set_ready(true);
        let text = original.encode();
        assert_eq!(value(&text, "upnext_events_total{outcome=\"duplicate\"}"), 3.0);
        assert_eq!(value(&text, "upnext_events_total{outcome=\"accepted\"}"), 0.0);
        assert_eq!(value(&text, "upnext_items_total{outcome=\"stored\"}"), 2.0);
        assert_eq!(value(&text, "upnext_queue_depth{queue=\"store\"}"), 7.0);
        assert_eq!(value(&text, "upnext_index_vectors"), 3.0);
        assert_eq!(value(&text, "upnext_ready"), 1.0);
        assert_eq!(value(&text, "upnext_takeover"), 1.0);
        assert_eq!(value(&text, "upnext_takeover_items{state=\"left\"}"), 6.0);
        original.set_sizes(Sizes::default());
        assert_eq!(value(&original.encode(), "upnext_takeover_items{state=\"left\"}"), 0.0);
        assert_eq!(text.matches("upnext_build_info{").count(), 1);
    }

    #[test]
    fn processor_time_never_falls() {
        let metrics = Metrics::new().unwrap();
        for cpu_s in [2.0, 1.5, 2.5] {
            metrics.set_process(ProcessUsage { cpu_s, resident_bytes: 9, ..ProcessUsage::default() });
        }
        assert!((metrics.0.cpu_seconds.get() - 2.5).abs() < 1e-9);
        assert_eq!(metrics.0.resident_bytes.get(), 9);
    }

    #[test]
    fn two_services_in_one_process_do_not_mix() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.count_degraded();
        assert_eq!(value(&other.encode(), "upnext_degraded_answers_total"), 0.0);
    }

    #[test]
    fn decimals() {
        for n in [0, 7, 200, 65_535] {
            assert_eq!(write_decimal(n, &mut [0; 5]), n.to_string());
        }
    }
}
