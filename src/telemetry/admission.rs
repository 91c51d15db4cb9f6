//! What can be seen of admission: the limit of the moment, and whom it kept out.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};

use super::metrics::{Metrics, Registrar};

/// How important work is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionClass {
    /// Somebody watches.
    Live,
    /// Somebody waits.
    Interactive,
    /// Nobody waits: imports and administration.
    Bulk,
}

#[derive(Debug)]
pub(super) struct AdmissionFamilies {
    limit: IntGauge,
    beside_live: IntGauge,
    refused: [IntCounter; 3],
}

impl AdmissionFamilies {
    pub(super) fn register(add: &mut Registrar) -> prometheus::Result<Self> {
        let refused = add.add(IntCounterVec::new(
            Opts::new("upnext_admission_refused_total", "Requests refused because their class had its share."),
            &["class"],
        ))?;
        Ok(Self {
            limit: add.gauge("upnext_admission_limit", "Requests that may be worked on at a time, at the moment.")?,
            beside_live: add.gauge(
                "upnext_admission_beside_live_limit",
                "Requests of others that may be worked on at a time while live sessions' frames come.",
            )?,
            refused: ["live", "interactive", "bulk"].map(|class| refused.with_label_values(&[class])),
        })
    }
}

impl Metrics {
    /// So many requests may be worked on at a time now.
    pub fn set_admission_limit(&self, limit: usize) {
        self.admission().limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// So many of those that are not live may be worked on beside live sessions.
    pub fn set_admission_beside_live_limit(&self, limit: usize) {
        self.admission().beside_live.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// A request of this class was refused.
    pub fn count_admission_refused(&self, class: AdmissionClass) {
        self.admission().refused[class as usize].inc();
    }
}
