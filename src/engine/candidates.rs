//! Which items come into question, and what does each source say about them?
//!
//! Every source proposes items; then all sources are asked about all proposed items, so that an item that came in by
//! its looks still gets its share of what people do. A source that is late or hangs (`engine/course.rs`) is left out, and the
//! answer says so.

use std::cell::RefCell;

use roaring::RoaringBitmap;
use rustc_hash::FxHashSet;
use tracing::trace_span;

use super::catalogue::Catalogue;
use super::course::{Course, Source};
use super::gallery::{Gaze, Turned};
use super::live::Live;
use super::parts::CandidateLimits;
use crate::collab::{
    CoVisitationScratch, Popularity, PreferenceScratch, SessionKnnScratch, TransitionScratch, TrendingScratch,
};
use crate::domain::{Embedding, Horizons, ItemNo, Scored, Timestamp, UserKey};
use crate::index::SearchOptions;
use crate::ranking::{Answered, Candidate, RequestContext, TrajectoryCosines};
use crate::session::Trajectory;
use crate::telemetry::{Metrics, TRACE_TARGET};

/// An item with fewer engagements than this is new to the audience.
const COLD_BELOW: f32 = 5.0;
/// For how long an item that nobody has turned to yet counts as left alone: a month. To the weights, which were learned
/// from items with a past, not knowing would look like just now.
const NEVER_TOUCHED_S: f32 = 30.0 * 86_400.0;
/// Items with much in common have about this metadata similarity in the world that the weights were learned in.
const METADATA_SCALE: f32 = 2.0;
/// How sure it is that somebody likes an item of which it is only known that they turned to it just now.
const JUST_TURNED_TO: f32 = 0.5;
/// Where a filter leaves no more items than this, all of them are scored by preference.
const FEW_ALLOWED: u64 = 2_000;
/// How many items are taken from the catalogue when the sources propose too few.
const FILL_CANDIDATES: usize = 200;

/// What a request comes down to: who watches what, since when, and what may be answered.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) now: Timestamp,
    /// The session in the collaborative models, so that it does not vote for itself.
    pub(super) session: Option<u64>,
    /// The person, if known.
    pub(super) user: Option<UserKey>,
    /// Engagements, oldest first; the last one is the current item.
    pub(super) history: &'a [(ItemNo, Timestamp)],
    pub(super) playing: Option<ItemNo>,
    pub(super) position_s: Option<f64>,
    pub(super) region: Option<&'a str>,
    pub(super) trajectory: &'a Trajectory,
    /// The models that the trajectory is of, and what they have seen.
    pub(super) gaze: Gaze<'a>,
    /// Only these may be answered; `None` for all.
    pub(super) allowed: Option<&'a RoaringBitmap>,
    /// These may not.
    pub(super) excluded: &'a RoaringBitmap,
    /// By when sources have to answer, and whether somebody waits for it.
    pub(super) course: &'a Course,
    /// How many items the lists should have.
    pub(super) count: usize,
    /// How many candidates each source proposes.
    pub(super) limits: CandidateLimits,
}

/// What is known about the request, beside the candidates.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) context: RequestContext,
    /// The sources that ran, by name.
    pub(super) used: Vec<&'static str>,
    /// Whether a source was left out because it was late or failed.
    pub(super) degraded: bool,
}

/// Working memory that a thread keeps from one request to the next.
#[derive(Debug, Default)]
struct Scratch {
    session: SessionKnnScratch,
    transition: TransitionScratch,
    trending: TrendingScratch,
    co_visitation: CoVisitationScratch,
    preference: PreferenceScratch,
    best: Vec<Scored>,
    latest: Vec<(ItemNo, f32)>,
    popularity: Vec<Popularity>,
    /// What the taste makes of the candidates.
    liking: Vec<f32>,
    items: Vec<ItemNo>,
    proposed: Proposed,
    /// What the metadata source found, by rising item number.
    related: Vec<Scored>,
}

/// Items that came into question, each once, in the order in which they came.
#[derive(Debug, Default)]
struct Proposed {
    items: Vec<ItemNo>,
    taken: FxHashSet<ItemNo>,
}

impl Proposed {
    fn clear(&mut self) {
        self.items.clear();
        self.taken.clear();
    }

    fn push(&mut self, item: ItemNo) {
        if self.taken.insert(item) {
            self.items.push(item);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Asks all sources; leaves the candidates and what is known about them in `candidates`. `None` if nobody waits for it any more.
pub(super) fn gather(
    live: &Live,
    horizons: &Horizons,
    metrics: &Metrics,
    situation: &Situation<'_>,
    candidates: &mut Vec<Candidate>,
) -> Option<Gathered> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut gathering = Gathering {
            live,
            metrics,
            situation,
            scratch,
            answered: Answered::default(),
            used: Vec::new(),
            degraded: false,
        };
        gathering.propose(horizons);
        if situation.course.is_over() {
            return None;
        }
        Some(gathering.describe(horizons, candidates))
    })
}

struct Gathering<'a> {
    live: &'a Live,
    metrics: &'a Metrics,
    situation: &'a Situation<'a>,
    scratch: &'a mut Scratch,
    answered: Answered,
    used: Vec<&'static str>,
    degraded: bool,
}

impl Gathering<'_> {
    fn propose(&mut self, horizons: &Horizons) {
        let Situation { history, trajectory, now, region, .. } = *self.situation;
        let limits = self.situation.limits;
        self.scratch.session.clear();
        self.scratch.transition.clear();
        self.scratch.co_visitation.clear();
        self.scratch.proposed.clear();
        self.scratch.related.clear();
        if !history.is_empty() {
            self.answered.session = self.source(Source::Session, limits.session, |this, limit, best| {
                let session = &mut this.scratch.session;
                this.live.collab.session_knn.candidates(history, this.situation.session, limit, session, best);
                true
            });
            self.answered.transition = self.source(Source::Transition, limits.transition, |this, limit, best| {
                this.live.collab.transitions.candidates(history, limit, &mut this.scratch.transition, best);
                true
            });
            self.answered.co_visitation =
                self.source(Source::CoVisitation, limits.co_visitation, |this, limit, best| {
                    this.live.collab.co_visitation.candidates(history, limit, &mut this.scratch.co_visitation, best);
                    true
                });
        }
        self.propose_liked();
        if let Some(last) = trajectory.last() {
            self.answered.visual = self.source(Source::Visual, limits.visual, |this, limit, best| {
                this.neighbours(std::slice::from_ref(last), limit, best)
            });
            self.answered.trajectory = self.source(Source::Trajectory, limits.trajectory, |this, limit, best| {
                let ahead = trajectory.extrapolate(f64::from(horizons.last_s()));
                let heading: Vec<Embedding> =
                    trajectory.scene_mean().into_iter().chain(trajectory.slow_mean()).chain(ahead).collect();
                this.neighbours(&heading, limit.div_ceil(heading.len().max(1)), best)
            });
        }
        if let Some(&(current, _)) = history.last() {
            self.answered.metadata = self.source(Source::Metadata, limits.metadata, |this, limit, best| {
                best.extend(this.live.text.read().similar(current, limit, this.situation.allowed));
                this.scratch.related.extend_from_slice(best);
                this.scratch.related.sort_unstable_by_key(|scored| scored.item);
                true
            });
        }
        self.answered.trending = self.source(Source::Trending, limits.trending, |this, limit, best| {
            this.live.collab.trending.candidates(region, now, limit, &mut this.scratch.trending, best);
            true
        });
        self.source(Source::Fresh, limits.fresh, |this, limit, best| {
            let newest = this.live.newest.read();
            best.extend(newest.iter().take(limit).map(|item| Scored { item, score: 0.0 }));
            true
        });
        self.fill();
    }

    /// Asks what this person likes; there is no such source while nothing has been learned, or nothing is known of them.
    fn propose_liked(&mut self) {
        let Situation { session, user, history, .. } = *self.situation;
        self.scratch.preference.clear();
        let limit = self.situation.limits.preference;
        if limit == 0 {
            return;
        }
        if !self.situation.course.enter(Source::Preference) {
            self.degraded = true;
            return;
        }
        let timer = self.metrics.stage_timer(Source::Preference.stage());
        let Scratch { preference, best, latest, .. } = &mut *self.scratch;
        latest.clear();
        latest.extend(history.iter().map(|&(item, _)| (item, JUST_TURNED_TO)));
        if !self.live.collab.preference.fold_in(session, user, latest, preference) {
            self.situation.course.leave(Source::Preference);
            return timer.discard();
        }
        let Situation { allowed, excluded, .. } = *self.situation;
        match allowed.filter(|allowed| allowed.len() <= FEW_ALLOWED) {
            Some(allowed) => {
                best.clear();
                let permitted = allowed.iter().filter(|no| !excluded.contains(*no)).map(ItemNo);
                let scored = permitted.filter_map(|item| Some(Scored { item, score: preference.score(item)? }));
                best.extend(scored);
                Scored::keep_best(best, limit);
            }
            None => {
                let permitted =
                    |item: ItemNo| allowed.is_none_or(|set| set.contains(item.0)) && !excluded.contains(item.0);
                self.live.collab.preference.candidates(limit, permitted, preference, best);
            }
        }
        timer.stop();
        let found = std::mem::take(best);
        self.admit(&found);
        self.scratch.best = found;
        if !self.situation.course.leave(Source::Preference) {
            return;
        }
        self.used.push(Source::Preference.name());
        self.answered.preference = true;
    }

    /// Runs one source unless it is turned off, too late or known to hang; says whether it answered.
    fn source(
        &mut self,
        source: Source,
        limit: usize,
        ask: impl FnOnce(&mut Self, usize, &mut Vec<Scored>) -> bool,
    ) -> bool {
        if limit == 0 {
            return false;
        }
        if !self.situation.course.enter(source) {
            self.degraded = true;
            return false;
        }
        let _span = trace_span!(target: TRACE_TARGET, "source", name = source.name()).entered();
        let timer = self.metrics.stage_timer(source.stage());
        let mut found = std::mem::take(&mut self.scratch.best);
        found.clear();
        let answered = ask(self, limit, &mut found);
        if answered {
            timer.stop();
            self.admit(&found);
            self.used.push(source.name());
        } else {
            self.degraded = true;
        }
        self.scratch.best = found;
        self.situation.course.leave(source) && answered
    }

    fn neighbours(&self, queries: &[Embedding], limit: usize, best: &mut Vec<Scored>) -> bool {
        let queries: Vec<Turned> = queries.iter().filter_map(|query| self.situation.gaze.turn(query)).collect();
        let slices: Vec<&[f32]> = queries.iter().map(|query| query.vector.as_slice()).collect();
        let options = SearchOptions {
            limit,
            quick: true,
            allowed: self.situation.allowed,
            excluded: Some(self.situation.excluded),
            ..SearchOptions::default()
        };
        match self.situation.gaze.gallery.vectors.search_many(&slices, &options) {
            Ok(found) => {
                best.extend(found.into_iter().flatten());
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a visual source failed");
                false
            }
        }
    }

    fn admit(&mut self, found: &[Scored]) {
        let (situation, proposed) = (self.situation, &mut self.scratch.proposed);
        for &Scored { item, .. } in found {
            if proposed.items.len() >= situation.limits.in_all {
                break;
            }
            let permitted =
                situation.allowed.is_none_or(|set| set.contains(item.0)) && !situation.excluded.contains(item.0);
            if permitted {
                proposed.push(item);
            }
        }
    }

    /// A strict filter can leave next to nothing of what the sources propose; then the catalogue itself proposes.
    fn fill(&mut self) {
        if self.scratch.proposed.items.len() >= 2 * self.situation.count {
            return;
        }
        let any = |item| Scored { item, score: 0.0 };
        let some: Vec<Scored> = match self.situation.allowed {
            Some(allowed) => allowed.iter().take(FILL_CANDIDATES).map(|no| any(ItemNo(no))).collect(),
            None => self.live.catalogue.read().numbers().take(FILL_CANDIDATES).map(any).collect(),
        };
        self.admit(&some);
    }

    /// Asks all sources about all proposed items.
    fn describe(self, horizons: &Horizons, candidates: &mut Vec<Candidate>) -> Gathered {
        let Situation { now, history, region, .. } = *self.situation;
        let catalogue = self.live.catalogue.read();
        // Only now, because items that nobody may see (deleted, or named by events only) take no part.
        candidates.clear();
        for &item in &self.scratch.proposed.items {
            let Some(entry) = catalogue.entry(item) else { continue };
            let mut candidate = Candidate::new(item);
            candidate.age_s = Some(now.seconds_since(entry.created_at).max(0.0) as f32);
            candidate.region_match = region.is_some_and(|region| entry.packed.names_region(region));
            candidates.push(candidate);
        }
        let context = self.context(&catalogue);
        drop(catalogue);
        let Scratch { session, transition, co_visitation, preference, popularity, liking, items, related, .. } =
            self.scratch;
        items.clear();
        items.extend(candidates.iter().map(|candidate| candidate.item));
        self.live.collab.trending.look_up(items, region, now, popularity);
        preference.scores(items, liking);
        for ((candidate, popularity), &liking) in candidates.iter_mut().zip(popularity.iter()).zip(liking.iter()) {
            let item = candidate.item;
            let vote = session.vote(item);
            candidate.session_score = vote.score;
            candidate.session_follow_share = vote.follow_share;
            candidate.co_visitation = co_visitation.score(item);
            candidate.forward = transition.score(item);
            let counts = transition.counts(item);
            candidate.transition_within = counts.within;
            candidate.transition_any = counts.any;
            candidate.transition_backward = counts.backward;
            candidate.transition_within_ratio = counts.within_ratio;
            candidate.preference = (!liking.is_nan()).then_some(liking);
            candidate.popularity = popularity.total;
            candidate.trending = popularity.recent;
            candidate.trending_in_region = popularity.in_region;
            let idle_s = popularity.last_touched.map(|at| now.seconds_since(at).max(0.0) as f32);
            candidate.idle_s = Some(idle_s.unwrap_or(NEVER_TOUCHED_S));
            candidate.is_cold = popularity.total < COLD_BELOW;
            let found = related.binary_search_by_key(&item, |scored| scored.item);
            candidate.metadata = found.map_or(0.0, |place| METADATA_SCALE * related[place].score);
            candidate.seen_steps_ago = history
                .iter()
                .rev()
                .position(|&(seen, _)| seen == item)
                .map(|steps| u32::try_from(steps).unwrap_or(u32::MAX));
        }
        let gaze = self.situation.gaze;
        if let Some(likeness) = Likeness::new(gaze, self.situation.trajectory, horizons) {
            gaze.gallery.vectors.liken(items, &likeness.queries(), &mut |place, cosines| {
                if let Some(candidate) = candidates.get_mut(place) {
                    likeness.describe(candidate, cosines);
                }
            });
        }
        Gathered { context, used: self.used, degraded: self.degraded }
    }

    fn context(&self, catalogue: &Catalogue) -> RequestContext {
        let Situation { now, history, playing, position_s, region, trajectory, .. } = *self.situation;
        let gap = |later: usize| history[later].1.seconds_since(history[later - 1].1).max(0.0);
        let gaps = history.len().saturating_sub(1);
        let span_s = history.first().zip(history.last()).map(|(first, last)| last.1.seconds_since(first.1).max(0.0));
        let duration_s = playing.and_then(|no| catalogue.entry(no)?.packed.duration_s());
        RequestContext {
            answered: self.answered,
            session_length: u32::try_from(history.len()).unwrap_or(u32::MAX),
            last_gap_s: (gaps > 0).then(|| gap(gaps) as f32),
            mean_gap_s: span_s.filter(|_| gaps > 0).map(|span| (span / gaps as f64) as f32),
            since_event_s: history.last().map(|&(_, at)| now.seconds_since(at).max(0.0) as f32),
            current_item_count: self.scratch.transition.current_count(),
            playing_left_s: duration_s
                .zip(position_s)
                .map(|(duration, position)| (f64::from(duration) - position).max(0.0) as f32),
            motion_energy: trajectory.last().map(|_| trajectory.motion_energy()),
            scene_age_s: trajectory.last().map(|_| trajectory.scene_age_s() as f32),
            region_known: region.is_some(),
        }
    }
}

/// What the frames look like, to be compared with many items. Early in a scene most of it is the same, which is compared
/// once.
struct Likeness {
    distinct: Vec<Turned>,
    /// Where among them the last frame is, and the rest, as far as it is known.
    last: usize,
    scene: Option<usize>,
    fast: Option<usize>,
    slow: Option<usize>,
    ahead: Vec<Option<usize>>,
}

impl Likeness {
    /// `None` before the first frame, and if the models that count say nothing of it.
    fn new(gaze: Gaze<'_>, trajectory: &Trajectory, horizons: &Horizons) -> Option<Self> {
        let mut distinct: Vec<Turned> = Vec::with_capacity(4 + horizons.count());
        let mut place = |vector: Embedding| {
            let turned = gaze.turn(&vector)?;
            Some(distinct.iter().position(|known| known.vector == turned.vector).unwrap_or_else(|| {
                distinct.push(turned);
                distinct.len() - 1
            }))
        };
        let last = place(trajectory.last()?.clone())?;
        let scene = trajectory.scene_mean().and_then(&mut place);
        let fast = trajectory.fast_mean().and_then(&mut place);
        let slow = trajectory.slow_mean().and_then(&mut place);
        let ahead = horizons.seconds().iter().map(|&h| trajectory.extrapolate(f64::from(h)).and_then(&mut place));
        Some(Self { last, scene, fast, slow, ahead: ahead.collect(), distinct })
    }

    fn queries(&self) -> Vec<&Embedding> {
        self.distinct.iter().map(|turned| &turned.vector).collect()
    }

    /// Takes in the cosines of an item's nearest picture with each of the [`queries`](Self::queries).
    fn describe(&self, candidate: &mut Candidate, cosines: &[f32]) {
        let similarity = |place: usize| Some((cosines.get(place)? * self.distinct.get(place)?.scale).clamp(-1.0, 1.0));
        let of = |place: Option<usize>| place.and_then(similarity).unwrap_or(0.0);
        candidate.visual = Some(of(Some(self.last)));
        let mut trajectory = TrajectoryCosines {
            scene: of(self.scene),
            fast: of(self.fast),
            slow: of(self.slow),
            ..TrajectoryCosines::default()
        };
        for (ahead, &place) in trajectory.ahead.iter_mut().zip(&self.ahead) {
            *ahead = of(place);
        }
        candidate.trajectory = Some(trajectory);
    }
}
