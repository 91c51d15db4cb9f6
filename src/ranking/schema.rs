//! Which numbers describe a candidate, under which names? The feature schema.
//!
//! Every feature is made such that 0 means "nothing known", and each source has an indicator that is 1 when it spoke:
//! a source that is missing then contributes exactly nothing to a linear model, whatever its weights are.

use crate::domain::Horizons;

/// A part of the explanation: where a contribution to the log-odds comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The item looks like the frame on screen.
    Visual,
    /// The item looks like where the frames are heading.
    Trajectory,
    /// Similar sessions turned to it.
    Session,
    /// It follows the items of the session.
    Transition,
    /// It occurs in the same sessions.
    CoVisitation,
    /// It suits the person's taste.
    Preference,
    /// Everybody turns to it.
    Trending,
    /// Its description is like what was watched.
    Metadata,
    /// The moment, and the item's age and place.
    Context,
    /// What holds before anything is known.
    Baseline,
}

impl Group {
    /// Every group, in the order of its index.
    pub const ALL: [Self; 10] = [
        Self::Visual,
        Self::Trajectory,
        Self::Session,
        Self::Transition,
        Self::CoVisitation,
        Self::Preference,
        Self::Trending,
        Self::Metadata,
        Self::Context,
        Self::Baseline,
    ];

    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visual => "visual",
            Self::Trajectory => "trajectory",
            Self::Session => "session",
            Self::Transition => "transition",
            Self::CoVisitation => "co_visitation",
            Self::Preference => "preference",
            Self::Trending => "trending",
            Self::Metadata => "metadata",
            Self::Context => "context",
            Self::Baseline => "baseline",
        }
    }

    /// The position in [`Group::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Declares an enum of features whose discriminants are the columns, and the table of their names and groups.
macro_rules! columns {
    ($(#[$doc:meta])* $enum:ident, $table:ident: $($variant:ident = $name:literal in $group:ident,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub(super) enum $enum { $($variant),+ }
        pub(super) const $table: &[(&str, Group)] = &[$(($name, Group::$group)),+];
    };
}

columns! {
    /// Features that are the same for all intervals.
    Shared, SHARED:
    SessionKnown = "session_known" in Session,
    SessionRelative = "session_relative" in Session,
    SessionLog = "session_log" in Session,
    SessionFollowShare = "session_follow_share" in Session,
    SessionReciprocalRank = "session_reciprocal_rank" in Session,
    CoVisitationKnown = "co_visitation_known" in CoVisitation,
    CoVisitationRelative = "co_visitation_relative" in CoVisitation,
    CoVisitationLog = "co_visitation_log" in CoVisitation,
    CoVisitationReciprocalRank = "co_visitation_reciprocal_rank" in CoVisitation,
    TransitionKnown = "transition_known" in Transition,
    ForwardRelative = "forward_relative" in Transition,
    ForwardLog = "forward_log" in Transition,
    ForwardReciprocalRank = "forward_reciprocal_rank" in Transition,
    TransitionAnyLog = "transition_any_log" in Transition,
    TransitionBackwardLog = "transition_backward_log" in Transition,
    TransitionWithinRatio = "transition_within_ratio" in Transition,
    TrendingKnown = "trending_known" in Trending,
    PopularityLog = "popularity_log" in Trending,
    TrendingShortLog = "trending_short_log" in Trending,
    TrendingMediumLog = "trending_medium_log" in Trending,
    TrendingLongLog = "trending_long_log" in Trending,
    RegionKnown = "region_known" in Trending,
    TrendingRegionLog = "trending_region_log" in Trending,
    TouchedKnown = "touched_known" in Trending,
    IdleLog = "idle_log" in Trending,
    AloneKnown = "alone_known" in Trending,
    AlonePopularityLog = "alone_popularity_log" in Trending,
    AloneShortLog = "alone_short_log" in Trending,
    AloneMediumLog = "alone_medium_log" in Trending,
    AloneLongLog = "alone_long_log" in Trending,
    AloneIdleLog = "alone_idle_log" in Trending,
    VisualKnown = "visual_known" in Visual,
    VisualCosine = "visual_cosine" in Visual,
    VisualRelative = "visual_relative" in Visual,
    VisualReciprocalRank = "visual_reciprocal_rank" in Visual,
    TrajectoryKnown = "trajectory_known" in Trajectory,
    TrajectoryScene = "trajectory_scene" in Trajectory,
    TrajectoryFast = "trajectory_fast" in Trajectory,
    TrajectorySlow = "trajectory_slow" in Trajectory,
    PreferenceKnown = "preference_known" in Preference,
    PreferenceScore = "preference_score" in Preference,
    PreferenceRelative = "preference_relative" in Preference,
    MetadataKnown = "metadata_known" in Metadata,
    MetadataRelative = "metadata_relative" in Metadata,
    MetadataLog = "metadata_log" in Metadata,
    Seen = "seen" in Context,
    SeenStepsAgo = "seen_steps_ago" in Context,
    SeenRecency = "seen_recency" in Context,
    SessionLengthLog = "session_length_log" in Context,
    GapKnown = "gap_known" in Context,
    LastGapLog = "last_gap_log" in Context,
    MeanGapLog = "mean_gap_log" in Context,
    SinceEventLog = "since_event_log" in Context,
    CandidatesLog = "candidates_log" in Context,
    CurrentCountLog = "current_count_log" in Context,
    PlayingKnown = "playing_known" in Context,
    PlayingLeftLog = "playing_left_log" in Context,
    FramesKnown = "frames_known" in Context,
    MotionEnergy = "motion_energy" in Context,
    SceneAgeLog = "scene_age_log" in Context,
    AgeKnown = "age_known" in Context,
    ItemAgeLog = "item_age_log" in Context,
    IsCold = "is_cold" in Context,
    RegionMatch = "region_match" in Context,
}

columns! {
    /// Features with a value of their own for each interval.
    Varying, VARYING:
    TransitionInterval = "transition_interval_log" in Transition,
    TrajectoryAhead = "trajectory_ahead" in Trajectory,
    PlayingEnds = "playing_ends_in_interval" in Context,
}

/// The columns of a [`super::FeatureMatrix`] for a set of horizons.
///
/// A row holds the shared features, then one transition feature a horizon (also seen by all intervals), then the
/// varying features of the first interval, of the second, and so on. The model of an interval sees the first two
/// parts and its own varying ones: [`Schema::names`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    horizons: Horizons,
    names: Vec<String>,
    groups: Vec<Group>,
    row_names: Vec<String>,
    row_groups: Vec<Group>,
}

impl Schema {
    /// The schema for `horizons`.
    pub fn new(horizons: &Horizons) -> Self {
        let own = |table: &[(&str, Group)]| -> Vec<(String, Group)> {
            table.iter().map(|&(name, group)| (name.to_owned(), group)).collect()
        };
        let mut columns = own(SHARED);
        for seconds in horizons.seconds() {
            columns.push((format!("transition_within_{seconds}s_log"), Group::Transition));
        }
        let mut row = columns.clone();
        columns.extend(own(VARYING));
        for seconds in horizons.seconds() {
            row.extend(own(VARYING).into_iter().map(|(name, group)| (format!("{name}_{seconds}s"), group)));
        }
        let (names, groups) = columns.into_iter().unzip();
        let (row_names, row_groups) = row.into_iter().unzip();
        Self { horizons: horizons.clone(), names, groups, row_names, row_groups }
    }

    /// The horizons.
    pub fn horizons(&self) -> &Horizons {
        &self.horizons
    }

    /// The names of the features that the model of each interval sees, in its order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the contribution of each of those features is accounted.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The names of the columns of a row: those of all intervals.
    pub fn row_names(&self) -> &[String] {
        &self.row_names
    }

    /// Where the contribution of each column of a row is accounted.
    pub fn row_groups(&self) -> &[Group] {
        &self.row_groups
    }

    /// How many features the model of each interval sees.
    pub fn model_width(&self) -> usize {
        self.names.len()
    }

    /// How many of those are the same for all intervals; they come first.
    pub fn shared_width(&self) -> usize {
        SHARED.len() + self.horizons.count()
    }

    /// How many numbers a row of the matrix has.
    pub fn row_width(&self) -> usize {
        self.shared_width() + VARYING.len() * self.horizons.count()
    }

    /// The part of `row` that varies, for interval `interval`.
    pub fn varying<'a>(&self, row: &'a [f32], interval: usize) -> &'a [f32] {
        let start = self.shared_width() + interval * VARYING.len();
        &row[start..start + VARYING.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_groups_indexed() {
        let schema = Schema::new(&Horizons::default());
        assert_eq!(schema.names().iter().collect::<HashSet<_>>().len(), schema.model_width());
        assert_eq!(schema.groups().len(), schema.model_width());
        assert_eq!(schema.row_names().len(), schema.row_width());
        assert_eq!(schema.row_names().iter().collect::<HashSet<_>>().len(), schema.row_width());
        assert!(schema.names().contains(&"transition_within_30s_log".to_owned()));
        for (index, group) in Group::ALL.into_iter().enumerate() {
            assert_eq!(group.index(), index);
        }
    }
}
