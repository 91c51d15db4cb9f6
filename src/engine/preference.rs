//! When are tastes learned anew? In the background, when enough is new; nobody waits for it.

use std::sync::atomic::AtomicBool;

use super::Engine;
use crate::collab::TrainingReport;
use crate::domain::ItemNo;

impl Engine {
    /// Learns tastes anew if enough has happened since the last time. Blocks for as long as that takes; ends soon after
    /// `stop` becomes true. To be called again and again, by one thread.
    pub fn tend_preference(&self, stop: &AtomicBool) {
        let parts = &self.parts;
        let (live, now) = (&parts.live, parts.clock.now());
        let preference = &live.collab.preference;
        if !preference.is_due(now) {
            return;
        }
        let items: Vec<ItemNo> = live.catalogue.read().numbers().collect();
        let round = |round| tracing::debug!(round, "tastes are being learned");
        // One gallery from the beginning to the end: pictures seen by different models are not to be mixed.
        let gallery = live.gallery();
        let describe = |no| live.features_of(&gallery, no);
        let Some(report) = preference.train(now, &items, &describe, stop, round) else { return };
        if live.gallery().number != gallery.number {
            preference.forget_pictures();
        }
        let TrainingReport { took, tastes, engagements, learned, guessed, loss } = report;
        parts.metrics.set_preference(took, learned + guessed, loss);
        tracing::info!(
            seconds = took.as_secs_f64(),
            tastes,
            engagements,
            learned,
            guessed,
            loss,
            "tastes were learned"
        );
    }
}
