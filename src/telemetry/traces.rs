//! Where does one request's time go? Spans, sent to a collector as OTLP over HTTP (JSON), if the settings name one.
//!
//! A layer of `tracing` remembers the spans of requests that are chosen ([`Choice`]) and of what is done for them, and hands those
//! that end to a thread, which sends them in batches. Nothing waits for it: what finds no room is left out and counted. It speaks
//! the one form of the protocol that needs nothing but JSON, so that there is no second HTTP stack and no code generator.

mod export;
mod ids;

use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, TrySendError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

pub use self::export::TracesGuard;
use self::export::{Exporter, Finished};
use self::ids::{Choice, Origin};

/// The target of spans that are for traces only; log lines do not carry them.
pub const TRACE_TARGET: &str = "upnext_trace";
/// The field of a request's span in which the caller's trace stands (W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";
/// Spans that may wait to be sent.
const QUEUE: usize = 8_192;

/// Where traces go, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// The collector's address, with its path: `http://localhost:4318/v1/traces`.
    pub endpoint: String,
    /// The share of requests that are traced, 0 to 1, of those whose caller does not say.
    pub share: f64,
}

/// Remembers spans for the collector.
#[derive(Debug)]
pub(super) struct TraceLayer {
    choice: Choice,
    queue: Sender<Finished>,
}

/// A span that goes on.
struct Open {
    origin: Origin,
    span_id: u64,
    began_ns: u64,
    attributes: Vec<(&'static str, String)>,
}

impl TraceLayer {
    /// The layer, and what sends the rest at the end.
    pub(super) fn new(options: &TraceOptions) -> std::io::Result<(Self, TracesGuard)> {
        let (queue, waiting) = crossbeam_channel::bounded(QUEUE);
        let guard = Exporter::start(&options.endpoint, waiting)?;
        Ok((Self { choice: Choice::new(options.share), queue }, guard))
    }

    /// Which spans the layer wants to hear of.
    pub(super) fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
            && (metadata.target() == TRACE_TARGET
                || metadata.target().starts_with("upnext") && *metadata.level() <= Level::INFO)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = span.parent().map(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| open.origin.below(open.span_id))
        });
        let origin = match parent {
            Some(Some(origin)) => origin,
            // Below a span that is not traced.
            Some(None) => return,
            None => match self.choice.make(fields.trace_parent.as_deref()) {
                Some(origin) => origin,
                None => return,
            },
        };
        let open = Open { origin, span_id: ids::span_id(), began_ns: now_ns(), attributes: fields.all };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.attributes.append(&mut fields.all);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let finished = Finished {
            name: span.name(),
            trace_id: open.origin.trace_id,
            parent_id: open.origin.parent_id,
            span_id: open.span_id,
            began_ns: open.began_ns,
            ended_ns: now_ns(),
            attributes: open.attributes,
        };
        if let Err(TrySendError::Full(_)) = self.queue.try_send(finished) {
            export::LEFT_OUT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Fields {
    all: Vec<(&'static str, String)>,
    trace_parent: Option<String>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            TRACE_PARENT => self.trace_parent = Some(value),
            name if !value.is_empty() => self.all.push((name, value)),
            _ => {}
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
