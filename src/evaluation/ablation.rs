//! What would be lost without a source? A source is silenced: it proposes nothing, and nothing it says is a feature.

use super::gather::{CandidateLimits, Surroundings};
use super::replay::Stop;
use crate::domain::ItemNo;
use crate::ranking::{Answered, Candidate, RequestContext};

/// A source that can be silenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Session-kNN.
    Session,
    /// Transitions.
    Transition,
    /// Co-visitation.
    CoVisitation,
    /// Popularity.
    Trending,
    /// Matrix factorisation.
    Preference,
    /// The frame on screen and where frames are heading.
    Visual,
    /// Descriptions.
    Metadata,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 7] = [
        Self::Session,
        Self::Transition,
        Self::CoVisitation,
        Self::Trending,
        Self::Preference,
        Self::Visual,
        Self::Metadata,
    ];

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transition => "transition",
            Self::CoVisitation => "co_visitation",
            Self::Trending => "trending",
            Self::Preference => "preference",
            Self::Visual => "visual",
            Self::Metadata => "metadata",
        }
    }

    /// Whether it is one of those that answered.
    pub fn is_in(self, answered: &Answered) -> bool {
        match self {
            Self::Session => answered.session,
            Self::Transition => answered.transition,
            Self::CoVisitation => answered.co_visitation,
            Self::Trending => answered.trending,
            Self::Preference => answered.preference,
            Self::Visual => answered.visual || answered.trajectory,
            Self::Metadata => answered.metadata,
        }
    }

    /// `limits` with which it proposes nothing.
    pub(super) fn silenced(self, mut limits: CandidateLimits) -> CandidateLimits {
        match self {
            Self::Session => limits.session = 0,
            Self::Transition => limits.transition = 0,
            Self::CoVisitation => limits.co_visitation = 0,
            Self::Trending => limits.trending = 0,
            Self::Preference => limits.preference = 0,
            // What they propose comes from the surroundings.
            Self::Visual | Self::Metadata => {}
        }
        limits
    }

    fn silence(self, context: &mut RequestContext) {
        let answered = &mut context.answered;
        match self {
            Self::Session => answered.session = false,
            Self::Transition => {
                answered.transition = false;
                context.current_item_count = 0.0;
            }
            Self::CoVisitation => answered.co_visitation = false,
            Self::Trending => answered.trending = false,
            Self::Preference => answered.preference = false,
            Self::Visual => {
                (answered.visual, answered.trajectory) = (false, false);
                (context.motion_energy, context.scene_age_s) = (None, None);
            }
            Self::Metadata => answered.metadata = false,
        }
    }
}

/// Surroundings in which one source is silent, if any is. What the silent one would propose they must leave out themselves.
pub(super) struct Without<'a> {
    pub(super) source: Option<Source>,
    pub(super) inner: &'a mut dyn Surroundings,
}

impl Surroundings for Without<'_> {
    fn propose(&mut self, stop: &Stop<'_>, items: &mut Vec<ItemNo>) {
        self.inner.propose(stop, items);
    }

    fn describe(&mut self, stop: &Stop<'_>, context: &mut RequestContext, candidates: &mut [Candidate]) {
        self.inner.describe(stop, context, candidates);
        if let Some(source) = self.source {
            source.silence(context);
        }
    }
}
