//! What do we know about each candidate, in numbers? From the sources' raw findings to a matrix.
//!
//! Fill a [`RequestContext`] and one [`Candidate`] for each item (zeros and `None` where nothing is known), then call
//! [`FeatureMatrix::assemble`]. Any input is accepted: what is not finite counts as unknown, counts below 0 as 0.

use multiversion::multiversion;

use super::schema::{SHARED, Schema, Shared, VARYING, Varying};
use crate::domain::{ItemNo, LANES, fast_ln};

/// The most horizons that [`Candidate`] has room for.
pub const MAX_HORIZONS: usize = 8;

/// How many half-lives of trending counts a candidate has.
pub const TRENDING_SCALES: usize = 3;

/// Shares below a thousandth are as good as none; keeps logarithms of shares from running away.
const SHARE_FLOOR: f32 = 1e-3;

/// No feature is larger, so that one absurd input cannot swamp the others.
const LARGEST: f32 = 1e4;

/// Which sources answered in time. A source that did not is left out of every feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    /// Session-kNN.
    pub session: bool,
    /// Transitions.
    pub transition: bool,
    /// Co-visitation.
    pub co_visitation: bool,
    /// Neighbours of the frame on screen.
    pub visual: bool,
    /// Neighbours of the frames' trajectory.
    pub trajectory: bool,
    /// Matrix factorisation.
    pub preference: bool,
    /// Popularity.
    pub trending: bool,
    /// Metadata similarity.
    pub metadata: bool,
}

/// What is known about the request as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RequestContext {
    /// Which sources answered.
    pub answered: Answered,
    /// Engagements in the session so far.
    pub session_length: u32,
    /// Seconds between the last two engagements.
    pub last_gap_s: Option<f32>,
    /// Mean seconds between engagements of the session.
    pub mean_gap_s: Option<f32>,
    /// Seconds since the last engagement.
    pub since_event_s: Option<f32>,
    /// Decayed engagements that everybody had with the current item.
    pub current_item_count: f32,
    /// Seconds left of what is playing.
    pub playing_left_s: Option<f32>,
    /// Motion in the frames, 0 to 1.
    pub motion_energy: Option<f32>,
    /// Seconds since the scene on screen began.
    pub scene_age_s: Option<f32>,
    /// Whether the request names a region.
    pub region_known: bool,
}

/// Likeness of an item's images to the session's frames: the largest cosine over the item's images.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TrajectoryCosines {
    /// With the mean of the scene on screen.
    pub scene: f32,
    /// With the quickly decaying mean.
    pub fast: f32,
    /// With the slowly decaying mean.
    pub slow: f32,
    /// With the extrapolation to each horizon.
    pub ahead: [f32; MAX_HORIZONS],
}

/// What the sources found out about one item. `Candidate::new(item)` is an item of which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The item.
    pub item: ItemNo,
    /// Session-kNN score, 0 if no neighbour has the item.
    pub session_score: f32,
    /// Share of the neighbours' weight in which the item directly follows the current one.
    pub session_follow_share: f32,
    /// Co-visitation score.
    pub co_visitation: f32,
    /// Decayed forward transition score over the session's latest items.
    pub forward: f32,
    /// Share of the current item's engagements that this one followed within each horizon, cumulative.
    pub transition_within: [f32; MAX_HORIZONS],
    /// The same at any lag.
    pub transition_any: f32,
    /// Transitions from this item to the current one, as a share of the current item's engagements.
    pub transition_backward: f32,
    /// Share of its transitions from the current item that took no longer than the last horizon.
    pub transition_within_ratio: f32,
    /// Engagements ever.
    pub popularity: f32,
    /// Decayed engagements, shortest half-life first.
    pub trending: [f32; TRENDING_SCALES],
    /// Decayed engagements in the request's region.
    pub trending_in_region: f32,
    /// Seconds since anybody engaged with the item.
    pub idle_s: Option<f32>,
    /// Largest cosine of the item's images with the frame on screen; `None` without an image.
    pub visual: Option<f32>,
    /// Likeness to the frames' trajectory; `None` without an image.
    pub trajectory: Option<TrajectoryCosines>,
    /// Matrix-factorisation score; `None` without a factor.
    pub preference: Option<f32>,
    /// Metadata similarity, 0 if there is nothing in common.
    pub metadata: f32,
    /// How many engagements ago it was in the session (0: the current item); `None` if it was not.
    pub seen_steps_ago: Option<u32>,
    /// Seconds since the item was added to the catalogue.
    pub age_s: Option<f32>,
    /// Whether hardly anybody has engaged with it yet.
    pub is_cold: bool,
    /// Whether the item names the request's region as its own.
    pub region_match: bool,
}

impl Candidate {
    /// An item of which nothing is known.
    pub fn new(item: ItemNo) -> Self {
        Self {
            item,
            session_score: 0.0,
            session_follow_share: 0.0,
            co_visitation: 0.0,
            forward: 0.0,
            transition_within: [0.0; MAX_HORIZONS],
            transition_any: 0.0,
            transition_backward: 0.0,
            transition_within_ratio: 0.0,
            popularity: 0.0,
            trending: [0.0; TRENDING_SCALES],
            trending_in_region: 0.0,
            idle_s: None,
            visual: None,
            trajectory: None,
            preference: None,
            metadata: 0.0,
            seen_steps_ago: None,
            age_s: None,
            is_cold: false,
            region_match: false,
        }
    }
}

/// Candidates × features, row by row; see [`Schema`] for the columns. Keep it and assemble into it again.
#[derive(Debug, Clone, Default)]
pub struct FeatureMatrix {
    /// Each row is followed by zeros up to the stride.
    values: Vec<f32>,
    items: Vec<ItemNo>,
    width: usize,
    /// From one row to the next: whole registers, so that no number of a row is left to be dealt with on its own.
    stride: usize,
    /// Working memory for the ranks: a score, inverted, and a row.
    order: Vec<u64>,
    /// Which columns hold the logarithm of what the candidate has; all at once they take a tenth of the time.
    logarithmic: Vec<bool>,
}

impl FeatureMatrix {
    /// Computes the features of `candidates`; replaces what was in the matrix.
    pub fn assemble(&mut self, schema: &Schema, context: &RequestContext, candidates: &[Candidate]) {
        self.width = schema.row_width();
        self.items.clear();
        self.items.extend(candidates.iter().map(|c| c.item));
        self.stride = self.width.next_multiple_of(LANES);
        if self.logarithmic.len() != self.stride {
            self.logarithmic = logarithmic(schema);
            self.logarithmic.resize(self.stride, false);
        }
        let mut template = Self::context_row(schema, context, candidates.len());
        template.resize(self.stride, 0.0);
        self.values.clear();
        for candidate in candidates {
            let start = self.values.len();
            self.values.extend_from_slice(&template);
            fill(&mut self.values[start..], schema, context, candidate);
        }
        finish(&mut self.values, &self.logarithmic);
        let answered = context.answered;
        if answered.trending && !candidates.iter().any(|candidate| follows(&answered, candidate)) {
            self.stand_alone();
        }
        if answered.session {
            self.compare(candidates, |c| c.session_score, Some(Shared::SessionRelative), Shared::SessionReciprocalRank);
        }
        if answered.co_visitation {
            let rank = Shared::CoVisitationReciprocalRank;
            self.compare(candidates, |c| c.co_visitation, Some(Shared::CoVisitationRelative), rank);
        }
        if answered.transition {
            self.compare(candidates, |c| c.forward, Some(Shared::ForwardRelative), Shared::ForwardReciprocalRank);
        }
        if answered.visual {
            let cosine = |c: &Candidate| c.visual.unwrap_or(0.0);
            self.compare(candidates, cosine, Some(Shared::VisualRelative), Shared::VisualReciprocalRank);
        }
        if answered.preference {
            self.relate(candidates, |c| c.preference.unwrap_or(0.0), Shared::PreferenceRelative);
        }
        if answered.metadata {
            self.relate(candidates, |c| c.metadata, Shared::MetadataRelative);
        }
    }

    /// How many candidates there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no candidates.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The candidates' items, in the order of the rows.
    pub fn items(&self) -> &[ItemNo] {
        &self.items
    }

    /// The features of the candidate at `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..][..self.width]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.stride.max(1)).map(|row| &row[..self.width])
    }

    /// All rows, each followed by zeros, and how far it is from one to the next.
    pub(super) fn padded(&self) -> (&[f32], usize) {
        (&self.values, self.stride)
    }

    /// The features that all candidates of a request share.
    fn context_row(schema: &Schema, context: &RequestContext, candidates: usize) -> Vec<f32> {
        let mut row = vec![0.0; schema.row_width()];
        let answered = context.answered;
        let mut set = |column: Shared, value: f32| row[column as usize] = value;
        set(Shared::SessionKnown, flag(answered.session));
        set(Shared::CoVisitationKnown, flag(answered.co_visitation));
        set(Shared::TransitionKnown, flag(answered.transition));
        set(Shared::TrendingKnown, flag(answered.trending));
        set(Shared::MetadataKnown, flag(answered.metadata));
        set(Shared::RegionKnown, flag(context.region_known));
        set(Shared::SessionLengthLog, (context.session_length as f32).ln_1p());
        if let Some(gap_s) = known(context.last_gap_s) {
            set(Shared::GapKnown, 1.0);
            set(Shared::LastGapLog, log(gap_s));
            set(Shared::MeanGapLog, log(known(context.mean_gap_s).unwrap_or(gap_s)));
        }
        set(Shared::SinceEventLog, log(context.since_event_s.unwrap_or(0.0)));
        set(Shared::CandidatesLog, (candidates as f32).ln_1p());
        set(Shared::CurrentCountLog, log(context.current_item_count));
        if let Some(left_s) = known(context.playing_left_s) {
            set(Shared::PlayingKnown, 1.0);
            set(Shared::PlayingLeftLog, log(left_s));
        }
        if let Some(energy) = known(context.motion_energy) {
            set(Shared::FramesKnown, 1.0);
            set(Shared::MotionEnergy, energy.clamp(0.0, 1.0));
            set(Shared::SceneAgeLog, log(context.scene_age_s.unwrap_or(0.0)));
        }
        if let Some(left_s) = known(context.playing_left_s) {
            let mut opens = 0.0;
            for (interval, &seconds) in schema.horizons().seconds().iter().enumerate() {
                let closes = seconds as f32;
                let ends = left_s <= closes && (left_s > opens || interval == 0);
                row[varying(schema, interval, Varying::PlayingEnds)] = flag(ends);
                opens = closes;
            }
        }
        row
    }

    /// Says once more what everybody turns to, where nothing says what this session turns to: popularity then has weights of
    /// its own. Beside better knowledge it is but a correction, and may well count against an item.
    fn stand_alone(&mut self) {
        for row in self.values.chunks_exact_mut(self.stride.max(1)) {
            row[Shared::AloneKnown as usize] = 1.0;
            for (from, to) in ALONE {
                row[to as usize] = row[from as usize];
            }
        }
    }

    /// Fills `rank` with 1/(1 + rank) by `score`, 0 for those without a score, and `relative` as [`Self::relate`].
    fn compare(
        &mut self,
        candidates: &[Candidate],
        score: impl Fn(&Candidate) -> f32,
        relative: Option<Shared>,
        rank: Shared,
    ) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let scored = candidates.iter().enumerate().map(|(index, c)| (score(c), index as u64));
        let scored = scored.filter(|(score, _)| score.is_finite() && *score > 0.0);
        // The bits of positive numbers rise with them: best first, then in the order of the rows.
        order.extend(scored.map(|(score, index)| u64::from(!score.to_bits()) << 32 | index));
        order.sort_unstable();
        for (position, &entry) in order.iter().enumerate() {
            let index = entry as u32 as usize;
            self.values[index * self.stride + rank as usize] = 1.0 / (1.0 + position as f32);
        }
        self.order = order;
        if let Some(relative) = relative {
            self.relate(candidates, score, relative);
        }
    }

    /// Fills `column` with the score relative to the best.
    fn relate(&mut self, candidates: &[Candidate], score: impl Fn(&Candidate) -> f32, column: Shared) {
        let best = candidates.iter().map(&score).filter(|s| s.is_finite()).fold(0.0_f32, f32::max);
        if best <= 0.0 {
            return;
        }
        for (row, candidate) in self.values.chunks_exact_mut(self.stride).zip(candidates) {
            row[column as usize] = known(Some(score(candidate) / best)).unwrap_or(0.0).clamp(-1.0, 1.0);
        }
    }
}

/// What is said of popularity, and where it is said again when nothing else is known.
const ALONE: [(Shared, Shared); 5] = [
    (Shared::PopularityLog, Shared::AlonePopularityLog),
    (Shared::TrendingShortLog, Shared::AloneShortLog),
    (Shared::TrendingMediumLog, Shared::AloneMediumLog),
    (Shared::TrendingLongLog, Shared::AloneLongLog),
    (Shared::IdleLog, Shared::AloneIdleLog),
];

/// Whether anything links the candidate with what the session did.
fn follows(answered: &Answered, candidate: &Candidate) -> bool {
    answered.session && candidate.session_score > 0.0
        || answered.co_visitation && candidate.co_visitation > 0.0
        || answered.transition && candidate.forward > 0.0
}

/// Shared columns of which [`fill`] leaves the logarithm to [`finish`].
const LOGARITHMIC: [Shared; 13] = [
    Shared::SessionLog,
    Shared::CoVisitationLog,
    Shared::ForwardLog,
    Shared::TransitionAnyLog,
    Shared::TransitionBackwardLog,
    Shared::PopularityLog,
    Shared::TrendingShortLog,
    Shared::TrendingMediumLog,
    Shared::TrendingLongLog,
    Shared::TrendingRegionLog,
    Shared::IdleLog,
    Shared::MetadataLog,
    Shared::ItemAgeLog,
];

/// By column of a row, whether [`fill`] leaves its logarithm to [`finish`].
fn logarithmic(schema: &Schema) -> Vec<bool> {
    let mut columns = vec![false; schema.row_width()];
    LOGARITHMIC.iter().for_each(|&column| columns[column as usize] = true);
    for interval in 0..schema.horizons().count().min(MAX_HORIZONS) {
        columns[SHARED.len() + interval] = true;
        columns[varying(schema, interval, Varying::TransitionInterval)] = true;
    }
    columns
}

/// Takes the logarithms that are due, and leaves no value that is no number or absurdly large.
#[multiversion(targets("x86_64+avx2", "x86_64+avx"))]
fn finish(values: &mut [f32], logarithmic: &[bool]) {
    for row in values.chunks_exact_mut(logarithmic.len().max(1)) {
        // Without branches, so that it is done in wide registers.
        for (value, &logarithmic) in row.iter_mut().zip(logarithmic) {
            let known = if value.is_finite() { *value } else { 0.0 };
            // ln(1 + x): `ln_1p` is many times slower, and its accuracy for tiny values of no use here.
            let log = fast_ln(1.0 + known.max(0.0));
            *value = (if logarithmic { log } else { known }).clamp(-LARGEST, LARGEST);
        }
    }
}

/// Fills in what belongs to one candidate; what [`LOGARITHMIC`] names as it is.
fn fill(row: &mut [f32], schema: &Schema, context: &RequestContext, candidate: &Candidate) {
    let answered = context.answered;
    let mut set = |column: Shared, value: f32| row[column as usize] = value;
    if answered.session {
        set(Shared::SessionLog, candidate.session_score);
        set(Shared::SessionFollowShare, candidate.session_follow_share);
    }
    if answered.co_visitation {
        set(Shared::CoVisitationLog, share(candidate.co_visitation));
    }
    if answered.transition {
        set(Shared::ForwardLog, share(candidate.forward));
        set(Shared::TransitionAnyLog, share(candidate.transition_any));
        set(Shared::TransitionBackwardLog, share(candidate.transition_backward));
        set(Shared::TransitionWithinRatio, candidate.transition_within_ratio);
    }
    if answered.trending {
        set(Shared::PopularityLog, candidate.popularity);
        set(Shared::TrendingShortLog, candidate.trending[0]);
        set(Shared::TrendingMediumLog, candidate.trending[1]);
        set(Shared::TrendingLongLog, candidate.trending[2]);
        set(Shared::TrendingRegionLog, candidate.trending_in_region);
        if let Some(idle_s) = known(candidate.idle_s) {
            set(Shared::TouchedKnown, 1.0);
            set(Shared::IdleLog, idle_s);
        }
    }
    if let Some(cosine) = candidate.visual.filter(|_| answered.visual) {
        set(Shared::VisualKnown, 1.0);
        set(Shared::VisualCosine, cosine.clamp(-1.0, 1.0));
    }
    if let Some(score) = candidate.preference.filter(|_| answered.preference) {
        set(Shared::PreferenceKnown, 1.0);
        set(Shared::PreferenceScore, score.clamp(-4.0, 4.0));
    }
    if answered.metadata {
        set(Shared::MetadataLog, candidate.metadata);
    }
    if let Some(steps) = candidate.seen_steps_ago {
        set(Shared::Seen, 1.0);
        set(Shared::SeenStepsAgo, steps.min(20) as f32 / 20.0);
        set(Shared::SeenRecency, 1.0 / (1.0 + steps as f32));
    }
    if let Some(age_s) = known(candidate.age_s) {
        set(Shared::AgeKnown, 1.0);
        set(Shared::ItemAgeLog, age_s / 3600.0);
    }
    set(Shared::IsCold, flag(candidate.is_cold));
    set(Shared::RegionMatch, flag(candidate.region_match));
    let trajectory = candidate.trajectory.filter(|_| answered.trajectory);
    if let Some(cosines) = trajectory {
        set(Shared::TrajectoryKnown, 1.0);
        set(Shared::TrajectoryScene, cosines.scene.clamp(-1.0, 1.0));
        set(Shared::TrajectoryFast, cosines.fast.clamp(-1.0, 1.0));
        set(Shared::TrajectorySlow, cosines.slow.clamp(-1.0, 1.0));
    }
    let mut before = 0.0;
    for interval in 0..schema.horizons().count().min(MAX_HORIZONS) {
        if answered.transition {
            let within = candidate.transition_within[interval];
            row[SHARED.len() + interval] = share(within);
            row[varying(schema, interval, Varying::TransitionInterval)] = share(within - before);
            before = within;
        }
        if let Some(cosines) = trajectory {
            row[varying(schema, interval, Varying::TrajectoryAhead)] = cosines.ahead[interval].clamp(-1.0, 1.0);
        }
    }
}

fn varying(schema: &Schema, interval: usize, column: Varying) -> usize {
    schema.shared_width() + interval * VARYING.len() + column as usize
}

fn flag(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}

fn known(value: Option<f32>) -> Option<f32> {
    value.filter(|v| v.is_finite())
}

/// ln(1 + x), 0 for what is negative or no number.
fn log(value: f32) -> f32 {
    if value > 0.0 { fast_ln((1.0 + value).min(f32::MAX)) } else { 0.0 }
}

/// What [`SHARE_FLOOR`] is to a share: ln(1 + x / floor) is like ln(x), but 0 where there is nothing.
fn share(share: f32) -> f32 {
    share / SHARE_FLOOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Horizons;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![any::<f32>(), -1.0_f32..2.0, Just(f32::NAN), Just(f32::INFINITY)]
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let numbers = proptest::collection::vec(number(), 20);
        (any::<u32>(), numbers, any::<[bool; 5]>()).prop_map(|(item, n, b)| Candidate {
            session_score: n[0],
            session_follow_share: n[1],
            co_visitation: n[2],
            forward: n[3],
            transition_within: [n[4], n[5], n[6], n[7], n[4], n[5], n[6], n[7]],
            transition_any: n[8],
            transition_backward: n[9],
            transition_within_ratio: n[10],
            popularity: n[11],
            trending: [n[12], n[13], n[14]],
            trending_in_region: n[15],
            idle_s: b[0].then_some(n[16]),
            visual: b[1].then_some(n[17]),
            trajectory: b[2].then_some(TrajectoryCosines { scene: n[18], fast: n[17], slow: n[0], ahead: [n[1]; 8] }),
            preference: b[3].then_some(n[19]),
            metadata: n[18],
            seen_steps_ago: b[4].then_some(item),
            age_s: b[0].then_some(n[2]),
            is_cold: b[1],
            region_match: b[2],
            ..Candidate::new(ItemNo(item))
        })
    }

    proptest! {
        #[test]
        fn features_are_finite_whatever_comes_in(
            candidates in proptest::collection::vec(candidate(), 0..12),
            n in proptest::collection::vec(number(), 7),
            b in any::<[bool; 9]>(),
            seconds in prop_oneof![Just(vec![15, 30, 60]), Just(vec![5]), Just((1..=8).collect::<Vec<u32>>())],
        ) {
            let context = RequestContext {
                answered: Answered {
                    session: b[0], transition: b[1], co_visitation: b[2], visual: b[3], trajectory: b[4],
                    preference: b[5], trending: b[6], metadata: b[7],
                },
                session_length: 3,
                last_gap_s: b[8].then_some(n[0]),
                mean_gap_s: b[0].then_some(n[1]),
                since_event_s: b[1].then_some(n[2]),
                current_item_count: n[3],
                playing_left_s: b[2].then_some(n[4]),
                motion_energy: b[3].then_some(n[5]),
                scene_age_s: b[4].then_some(n[6]),
                region_known: b[5],
            };
            let schema = Schema::new(&Horizons::new(seconds).unwrap());
            let mut matrix = FeatureMatrix::default();
            matrix.assemble(&schema, &context, &candidates);
            prop_assert_eq!(matrix.len(), candidates.len());
            for row in matrix.rows() {
                prop_assert_eq!(row.len(), schema.row_width());
                prop_assert!(row.iter().all(|v| v.is_finite()));
            }
        }
    }

    #[test]
    fn a_source_that_did_not_answer_leaves_only_zeros() {
        let schema = Schema::new(&Horizons::default());
        let full = Candidate {
            session_score: 3.0,
            co_visitation: 0.2,
            forward: 0.1,
            transition_within: [0.1; 8],
            transition_any: 0.1,
            visual: Some(0.5),
            trajectory: Some(TrajectoryCosines::default()),
            popularity: 9.0,
            metadata: 1.0,
            preference: Some(0.3),
            ..Candidate::new(ItemNo(1))
        };
        let mut matrix = FeatureMatrix::default();
        matrix.assemble(&schema, &RequestContext::default(), &[full]);
        let row = matrix.row(0);
        let spoken: Vec<_> = SHARED.iter().zip(row).filter(|(_, v)| **v != 0.0).map(|((name, _), _)| *name).collect();
        assert_eq!(spoken, ["candidates_log"]);
        assert!(row[SHARED.len()..].iter().all(|&v| v == 0.0));
    }

    #[test]
    fn popularity_stands_alone_where_nothing_follows() {
        let schema = Schema::new(&Horizons::default());
        let answered = Answered { session: true, trending: true, ..Answered::default() };
        let context = RequestContext { answered, ..RequestContext::default() };
        let popular = Candidate { popularity: 9.0, trending: [1.0, 2.0, 3.0], ..Candidate::new(ItemNo(1)) };
        let mut matrix = FeatureMatrix::default();
        let alone = |matrix: &FeatureMatrix| {
            let row = matrix.row(0);
            ALONE.iter().all(|&(from, to)| row[to as usize] == row[from as usize])
                && row[Shared::AloneKnown as usize] == 1.0
        };
        matrix.assemble(&schema, &context, &[popular, popular]);
        assert!(alone(&matrix) && matrix.row(0)[Shared::AloneLongLog as usize] > 0.0);
        assert_eq!(matrix.row(0), matrix.row(1), "rows beyond the first, too");
        let next = Candidate { session_score: 1.0, ..Candidate::new(ItemNo(2)) };
        matrix.assemble(&schema, &context, &[popular, next]);
        assert!(ALONE.iter().all(|&(_, to)| matrix.row(0)[to as usize] == 0.0), "one that follows is enough");
        // A source that is silent says nothing, whatever the candidate has of it.
        let silent = Answered { session: false, ..answered };
        matrix.assemble(&schema, &RequestContext { answered: silent, ..context }, &[popular, next]);
        assert!(alone(&matrix));
    }

    #[test]
    fn relations_and_intervals_are_as_named() {
        let schema = Schema::new(&Horizons::default());
        let answered = Answered { session: true, transition: true, ..Answered::default() };
        let context = RequestContext { answered, playing_left_s: Some(20.0), ..RequestContext::default() };
        let mut best = Candidate { session_score: 4.0, ..Candidate::new(ItemNo(1)) };
        best.transition_within[..3].copy_from_slice(&[0.1, 0.1, 0.3]);
        let other = Candidate { session_score: 1.0, ..Candidate::new(ItemNo(2)) };
        let mut matrix = FeatureMatrix::default();
        matrix.assemble(&schema, &context, &[other, best]);
        assert_eq!(matrix.row(0)[Shared::SessionRelative as usize], 0.25);
        assert_eq!(matrix.row(0)[Shared::SessionReciprocalRank as usize], 0.5);
        assert_eq!(matrix.row(1)[Shared::SessionReciprocalRank as usize], 1.0);
        let interval = |k| schema.varying(matrix.row(1), k);
        assert_eq!(interval(1)[Varying::TransitionInterval as usize], 0.0, "nothing between 15 and 30 s");
        assert!(interval(2)[Varying::TransitionInterval as usize] > interval(0)[Varying::TransitionInterval as usize]);
        assert_eq!([0, 1, 2].map(|k| interval(k)[Varying::PlayingEnds as usize]), [0.0, 1.0, 0.0]);
    }
}
