//! Where does the time of a request go? The stages that are timed.

use std::time::Instant;

use prometheus::Histogram;

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// A part of the work, timed on its own; the label `stage` of `upnext_stage_seconds`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Stage {
            $($(#[$doc])* $variant,)+
        }

        impl Stage {
            /// Every stage, in the order in which a request passes them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

stages! {
    /// Image bytes become pixels.
    Decode => "decode",
    /// Pixels become a model's input.
    Preprocess => "preprocess",
    /// Waiting for a model.
    Queue => "queue",
    /// One run of a model, for a whole batch.
    Inference => "inference",
    /// Candidates that look like the frame on screen.
    SourceVisual => "source_visual",
    /// Candidates that look like where the frames are heading.
    SourceTrajectory => "source_trajectory",
    /// Candidates from sessions like this one.
    SourceSession => "source_session",
    /// Candidates that were watched together with the session's items.
    SourceCoVisitation => "source_co_visitation",
    /// Candidates that followed the item on screen.
    SourceTransition => "source_transition",
    /// Candidates by matrix factorisation.
    SourcePreference => "source_preference",
    /// Candidates that everybody turns to at the moment.
    SourceTrending => "source_trending",
    /// Candidates with tags, categories or words in common.
    SourceMetadata => "source_metadata",
    /// New items that few people have seen.
    SourceFresh => "source_fresh",
    /// Candidates become rows of numbers.
    Features => "features",
    /// Rows of numbers become probabilities.
    Ranking => "ranking",
    /// Rules and diversity.
    Rerank => "rerank",
    /// Nearest neighbours of a picture, for a search.
    Search => "search",
    /// One durable commit of the store, for a whole group of writes.
    Commit => "commit",
    /// A durable event is learned by the collaborative models.
    Apply => "apply",
    /// A whole recommendation, from the first byte read to the answer.
    Request => "request",
}

impl Stage {
    /// The place in [`Stage::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// Records the time from its creation to its end into a stage's histogram.
#[derive(Debug)]
#[must_use = "a timer that is dropped at once measures nothing"]
pub struct StageTimer {
    histogram: Option<Histogram>,
    started: Instant,
}

impl StageTimer {
    pub(super) fn start(histogram: Histogram) -> Self {
        Self { histogram: Some(histogram), started: Instant::now() }
    }

    /// Ends the measurement and returns the seconds that it took.
    pub fn stop(mut self) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        if let Some(histogram) = self.histogram.take() {
            histogram.observe(seconds);
        }
        seconds
    }

    /// Ends the measurement without recording it, for work that turned out not to be needed.
    pub fn discard(mut self) {
        self.histogram = None;
    }
}

impl Drop for StageTimer {
    fn drop(&mut self) {
        if let Some(histogram) = self.histogram.take() {
            histogram.observe(self.started.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_found_at_its_own_index_and_names_differ() {
        let mut names = std::collections::BTreeSet::new();
        for (i, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(stage.index(), i);
            assert!(names.insert(stage.name()));
        }
    }
}
