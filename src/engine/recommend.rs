//! What will this person want next? Frames and history in, a ranked list for each horizon out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, trace_span};
use uuid::Uuid;

use super::candidates::{Gathered, Situation, gather};
use super::course::{Course, Waiting};
use super::gallery::{Gallery, Gaze, weights_of};
use super::learn::{Explored, Serving};
use super::live::session_key;
use super::observe::{before, take_in};
use super::parts::Parts;
use super::see::Sight;
use super::{Engine, EngineError, FrameOutcome, HorizonList, RecommendRequest, Recommendation, Recommended};
use crate::domain::{Embedding, Filter, ItemId, ItemNo, Timestamp};
use crate::inference::{Priority, Weights};
use crate::ranking::{Candidate, FeatureMatrix, POOL, Predictions, Ranked, diversify, explain, order};
use crate::session::{LiveSession, SessionView};
use crate::telemetry::{Stage, TRACE_TARGET};

/// The share of the time for an answer that is kept for the candidate sources when frames are slow.
const RESERVED_FOR_SOURCES: u32 = 5;

thread_local! {
    /// Working memory that a thread keeps from one request to the next.
    static SCRATCH: RefCell<(Vec<Candidate>, FeatureMatrix, Predictions)> = RefCell::default();
}

impl Engine {
    /// Ranks items for each horizon.
    pub async fn recommend(&self, request: RecommendRequest) -> Result<Recommendation, EngineError> {
        let started = Instant::now();
        let timer = self.parts.metrics.stage_timer(Stage::Request);
        let id = Uuid::now_v7().to_string();
        let session = request.session.as_ref().map(session_key);
        let serving = self.parts.learning.serve(request.user, session, &id);
        let arm = self.parts.learning.names(&serving);
        let wanted = Wanted::check(&self.parts, &request, &serving)?;
        let reserve = wanted.budget / RESERVED_FOR_SOURCES;
        let frames_due = request.deadline.map(|budget| started + budget.saturating_sub(reserve));

        let gallery = self.parts.live.gallery();
        let weights = weights_of(&gallery, &request.model_weights)?;
        let watching = self.watch(&gallery, &request, &wanted, frames_due);
        let (view, frames, missed) = watching.instrument(trace_span!(target: TRACE_TARGET, "watch")).await?;
        let deadline = (started + wanted.budget).max(Instant::now() + reserve);

        let (model, unknown_items) = (gallery.ensemble.id().to_owned(), wanted.unknown.clone());
        let parts = self.parts.clone();
        let ranking = Arc::new(Ranking { parts, gallery, weights, wanted, serving, view, session });
        let (lists, gathered) = ranking.by(deadline).await?;
        let degraded = gathered.degraded || missed;
        if degraded {
            self.parts.metrics.count_degraded();
        }
        timer.stop();
        Ok(Recommendation {
            id,
            arm,
            lists,
            sources_used: gathered.used,
            degraded,
            model,
            unknown_items,
            frames,
            took: started.elapsed(),
        })
    }

    /// Looks at the request's frames and brings the session up to date; says whether a frame was missed.
    async fn watch(
        &self,
        gallery: &Gallery,
        request: &RecommendRequest,
        wanted: &Wanted,
        due: Option<Instant>,
    ) -> Result<(SessionView, Vec<FrameOutcome>, bool), EngineError> {
        let parts = &self.parts;
        let mut seen = Vec::new();
        if !request.frames.is_empty() {
            let now = parts.clock.now();
            let predecessor = request
                .session
                .as_ref()
                .and_then(|id| parts.live.sessions.peek(id, now, |session| before(session, gallery.number)))
                .flatten();
            seen = parts.eyes.look(gallery, &request.frames, predecessor, Priority::Live, due).await?;
        }
        let missed = seen.iter().any(|s| matches!(s.sight, Sight::Missed | Sight::Failed));
        let now = parts.clock.now();
        let update = |session: &mut LiveSession| {
            session.user = request.user.or(session.user);
            if let Some(region) = &request.region {
                session.region = Some(Arc::from(region.as_str()));
            }
            if let Some(device) = &request.device {
                session.device = Some(Arc::from(device.as_str()));
            }
            if let Some(playing) = wanted.playing {
                session.watch(playing, request.position_s.map(|s| s as f32), now);
            }
            let outcomes = seen
                .iter()
                .zip(&request.frames)
                .map(|(seen, frame)| take_in(session, (seen, gallery.number), wanted.playing, frame.at_s, now))
                .collect();
            (session.view(), outcomes)
        };
        let (view, outcomes) = match &request.session {
            Some(id) => parts.live.sessions.with(id, now, update),
            None => update(&mut LiveSession::new(now, parts.live.sessions.limits())),
        };
        Ok((view.seen_by(gallery.number), outcomes, missed))
    }
}

/// A request after its checks: settings filled in, ids turned into numbers.
struct Wanted {
    /// Positions of the wanted horizons among the model's.
    horizons: Vec<usize>,
    count: usize,
    diversity: f32,
    exclude_seen: bool,
    explain: bool,
    budget: Duration,
    filter: Filter,
    playing: Option<ItemNo>,
    exclude: Vec<ItemNo>,
    unknown: Vec<ItemId>,
}

impl Wanted {
    fn check(parts: &Parts, request: &RecommendRequest, serving: &Serving) -> Result<Self, EngineError> {
        let options = &parts.options;
        let invalid = |field, reason: String| Err(EngineError::Invalid { field, reason });
        let count = request.count.unwrap_or(options.default_count);
        if count == 0 || count > options.max_count {
            return invalid("count", format!("must be 1 to {}", options.max_count));
        }
        if request.frames.len() > options.max_frames {
            return invalid(
                "frame",
                format!("at most {} frames, these are {}", options.max_frames, request.frames.len()),
            );
        }
        let diversity =
            request.diversity.unwrap_or_else(|| parts.learning.diversity(serving, options.default_diversity));
        if !(0.0..=1.0).contains(&diversity) {
            return invalid("diversity", "must be 0 to 1".into());
        }
        if request.position_s.is_some_and(|s| !s.is_finite() || s < 0.0) {
            return invalid("position_s", "must be a number of at least 0".into());
        }
        let known = serving.model().schema().horizons().seconds();
        let horizons = match &request.horizons_s {
            None => (0..known.len()).collect(),
            Some(seconds) if seconds.is_empty() => {
                return invalid("horizons_s", format!("must name some of {known:?}"));
            }
            Some(seconds) => {
                let mut places = Vec::with_capacity(seconds.len());
                for wanted in seconds {
                    let Some(place) = known.iter().position(|k| k == wanted) else {
                        return invalid("horizons_s", format!("{wanted} is not one of {known:?}"));
                    };
                    places.push(place);
                }
                places.sort_unstable();
                places.dedup();
                places
            }
        };
        let catalogue = parts.live.catalogue.read();
        let mut unknown = Vec::new();
        let mut number = |id: &ItemId| {
            let found = catalogue.find(id).map(|(no, _)| no);
            if found.is_none() {
                unknown.push(id.clone());
            }
            found
        };
        let playing = request.playing.as_ref().and_then(&mut number);
        let exclude = request.exclude.iter().filter_map(&mut number).collect();
        Ok(Self {
            horizons,
            count,
            diversity,
            exclude_seen: request.exclude_seen.unwrap_or(options.exclude_seen),
            explain: request.explain,
            budget: request.deadline.unwrap_or(options.default_deadline),
            filter: request.filter.clone(),
            playing,
            exclude,
            unknown,
        })
    }
}

/// Everything that ranking needs.
struct Ranking {
    parts: Arc<Parts>,
    gallery: Arc<Gallery>,
    /// What each model counts, if the request says so.
    weights: Option<Weights>,
    wanted: Wanted,
    serving: Serving,
    view: SessionView,
    session: Option<u64>,
}

impl Ranking {
    /// The lists, from the sources that answer in time. With frames, for which the index is searched, it ranks on a thread that may be
    /// blocked; a ranking that hangs in a source is given up, and another one leaves that source out. Without, ranking is shorter than
    /// handing it to another thread (which halves how many lists a second a server makes), and only leaves out what is known to hang.
    async fn by(self: &Arc<Self>, deadline: Instant) -> Result<(Vec<HorizonList>, Gathered), EngineError> {
        let span = || trace_span!(target: TRACE_TARGET, "rank");
        let nobody = || EngineError::Internal("nobody waits for this ranking".into());
        if self.view.trajectory.last().is_none() {
            let course = Course::new(&self.parts.stuck, deadline);
            return span().in_scope(|| self.lists(&course)).ok_or_else(nobody);
        }
        loop {
            // More rankings at a time than processors would only take memory; one that is given up gives its turn back.
            let _turn = self.parts.rankers.acquire().await.map_err(|_| EngineError::ShuttingDown)?;
            let course = Course::new(&self.parts.stuck, deadline);
            // Whoever asks may go; then nobody waits for the rest.
            let _waiting = Waiting(Arc::clone(&course));
            let (ranking, told) = (Arc::clone(self), Arc::clone(&course));
            let span = span();
            let rank = move || span.in_scope(|| ranking.lists(&told));
            let ranked = AbortOnDropHandle::new(tokio::task::spawn_blocking(rank));
            tokio::select! {
                biased;
                ranked = ranked => {
                    let lists = ranked.map_err(|e| EngineError::Internal(format!("ranking stopped: {e}")))?;
                    return lists.ok_or_else(nobody);
                }
                source = course.overrun() => {
                    tracing::warn!(source = source.name(), "a source hangs; it is left out");
                }
            }
        }
    }

    /// The lists; from here on nothing waits for anything. `None` if they were given up.
    fn lists(&self, course: &Course) -> Option<(Vec<HorizonList>, Gathered)> {
        let Self { parts, wanted, serving, view, .. } = self;
        let now = parts.clock.now();
        let region = view.region.as_deref();
        let allowed = parts.live.attributes.restriction(&wanted.filter, now, region);
        let history = self.history(now);
        let excluded = self.excluded(&history);
        let model = serving.model();
        let situation = Situation {
            now,
            session: self.session,
            user: view.user,
            history: &history,
            playing: view.playing,
            position_s: view.position_s.map(|s| f64::from(s) + now.seconds_since(view.position_at).max(0.0)),
            region,
            trajectory: &view.trajectory,
            gaze: self.gaze(),
            allowed: allowed.as_ref(),
            excluded: &excluded,
            course,
            count: wanted.count,
            limits: parts.learning.limits(serving, &parts.options.candidates),
        };
        SCRATCH.with_borrow_mut(|(candidates, matrix, predictions)| {
            let gathered = gather(&parts.live, model.schema().horizons(), &parts.metrics, &situation, candidates)?;
            let timer = parts.metrics.stage_timer(Stage::Features);
            matrix.assemble(model.schema(), &gathered.context, candidates);
            timer.stop();
            let timer = parts.metrics.stage_timer(Stage::Ranking);
            let contenders = if wanted.diversity > 0.0 { POOL * wanted.count } else { wanted.count };
            model.predict_for(matrix, contenders, predictions);
            timer.stop();
            let _timer = parts.metrics.stage_timer(Stage::Rerank);
            let newest = || parts.live.newest.read().iter().collect();
            let explored = parts.learning.explore(serving, matrix.items(), wanted.count, newest);
            let mut shown = vec![Vec::new(); model.schema().horizons().count()];
            let mut lists = Vec::with_capacity(wanted.horizons.len());
            let (mut drawn, mut images) = (None, HashMap::new());
            for &horizon in &wanted.horizons {
                let mut picked = self.pick(horizon, matrix, predictions, &mut images);
                let tried = explored.filter(|explored| explored.put_into(&mut picked, matrix, predictions, horizon));
                lists.push(self.list(horizon, matrix, predictions, &picked, tried));
                shown[horizon] = picked;
                // In a list that has it anyway it is no draw.
                drawn = drawn.or(tried);
            }
            parts.learning.served(serving, self.session, now, (matrix, predictions), &shown, drawn);
            Some((lists, gathered))
        })
    }

    fn gaze(&self) -> Gaze<'_> {
        Gaze { gallery: &self.gallery, weights: self.weights.as_ref() }
    }

    /// The session's engagements, and the item on screen as the newest of them if it is not: it was turned to when it
    /// began to play.
    fn history(&self, now: Timestamp) -> Vec<(ItemNo, Timestamp)> {
        let mut history: Vec<(ItemNo, Timestamp)> = self.view.items.iter().map(|i| (i.item, i.at)).collect();
        if let Some(playing) = self.view.playing
            && history.last().is_none_or(|&(last, _)| last != playing)
        {
            let played_s = f64::from(self.view.position_s.unwrap_or(0.0));
            let began = self.view.position_at.plus_seconds(-played_s).min(now);
            let after = history.last().map_or(began, |&(_, at)| began.max(at));
            history.push((playing, after));
        }
        history
    }

    /// What must not be answered: what is on screen (or was turned to last), what the request excludes, and what was
    /// seen, if that is wanted.
    fn excluded(&self, history: &[(ItemNo, Timestamp)]) -> RoaringBitmap {
        let mut excluded: RoaringBitmap = self.wanted.exclude.iter().map(|no| no.0).collect();
        excluded.extend(history.last().map(|&(no, _)| no.0));
        if self.wanted.exclude_seen {
            excluded.extend(self.view.seen.iter().map(|no| no.0));
        }
        excluded
    }

    /// What stands in the list of horizon number `horizon`.
    fn pick(
        &self,
        horizon: usize,
        matrix: &FeatureMatrix,
        predictions: &Predictions,
        images: &mut HashMap<usize, Option<Embedding>>,
    ) -> Vec<Ranked> {
        let wanted = &self.wanted;
        if wanted.diversity == 0.0 {
            return order(matrix.items(), predictions, horizon, wanted.count);
        }
        let ranked = order(matrix.items(), predictions, horizon, POOL * wanted.count);
        for ranked in &ranked {
            images.entry(ranked.candidate).or_insert_with(|| self.gallery.vectors.vector(ranked.item));
        }
        let image = |candidate: usize| images.get(&candidate).and_then(Option::as_ref);
        // Items without an image count as unlike everything.
        let similarity = |a, b| image(a).zip(image(b)).map_or(0.0, |(a, b)| a.cosine(b).max(0.0));
        diversify(&ranked, wanted.count, wanted.diversity, similarity)
    }

    /// The list of horizon number `horizon`, in words of the answer.
    fn list(
        &self,
        horizon: usize,
        matrix: &FeatureMatrix,
        predictions: &Predictions,
        picked: &[Ranked],
        tried: Option<Explored>,
    ) -> HorizonList {
        let Self { parts, wanted, .. } = self;
        let model = self.serving.model();
        let catalogue = parts.live.catalogue.read();
        let items = picked
            .iter()
            .filter_map(|ranked| Some((catalogue.id(ranked.item)?.clone(), ranked)))
            .enumerate()
            .map(|(place, (item, ranked))| Recommended {
                item,
                probability: ranked.probability,
                rank: place + 1,
                score: predictions.score(ranked.candidate, horizon),
                explored: tried.is_some_and(|tried| tried.candidate == ranked.candidate),
                reasons: wanted.explain.then(|| {
                    let reasons = explain(model, matrix, predictions, ranked.candidate, horizon);
                    reasons.iter().map(|(group, contribution)| (group.name(), contribution)).collect()
                }),
            })
            .collect();
        HorizonList { seconds: model.schema().horizons().seconds()[horizon], items }
    }
}
