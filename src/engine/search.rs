//! Which items look or read like this? Search by pictures, items, vectors and words, alone or together.

mod looks;
mod mix;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use roaring::RoaringBitmap;

use self::looks::{Looks, NoDirection, Sample};
use self::mix::{By, Described, Found, Mix, Part};
use super::gallery::{Gallery, Gaze, weights_of};
use super::live::Live;
use super::parts::Parts;
use super::{
    AvailableAt, Engine, EngineError, Example, Fusion, Hit, HitPart, SearchAnswer, SearchRequest, WeightedExample,
};
use crate::collab::CoVisitationScratch;
use crate::domain::{Condition, Embedding, ItemId, ItemNo, Test};
use crate::index::TextIndex;
use crate::telemetry::Stage;

/// How far pages reach: `offset` and `limit` together.
const MAX_WINDOW: usize = 5_000;

impl Engine {
    /// Finds items by examples. Unless asked otherwise, items that are not available now are found too: a search looks
    /// into the catalogue, it does not recommend.
    pub async fn search(&self, request: SearchRequest) -> Result<SearchAnswer, EngineError> {
        let started = Instant::now();
        check(&request, self.parts.options.max_search_results)?;
        let gallery = self.parts.live.gallery();
        let weights = weights_of(&gallery, &request.model_weights)?;
        let examples = [&request.positive, &request.negative].into_iter().flatten();
        let seen = try_join_all(examples.map(|example| self.see(&gallery, example)));
        let seen = seen.await?;
        let parts = Arc::clone(&self.parts);
        let search = move || {
            let _timer = parts.metrics.stage_timer(Stage::Search);
            hits(&parts, Gaze { gallery: &gallery, weights: weights.as_ref() }, request, seen)
        };
        let _turn = self.parts.searchers.acquire().await.map_err(|_| EngineError::ShuttingDown)?;
        let hits = tokio::task::spawn_blocking(search)
            .await
            .map_err(|e| EngineError::Internal(format!("a search stopped: {e}")))??;
        Ok(SearchAnswer { hits, took: started.elapsed() })
    }

    /// What an example looks like, if it came as a picture or a vector.
    async fn see(&self, gallery: &Gallery, example: &WeightedExample) -> Result<Option<Embedding>, EngineError> {
        match &example.example {
            Example::Image(bytes) => {
                self.parts.eyes.embed_query(gallery, bytes.clone(), &example.place).await.map(Some)
            }
            Example::Embedding(values) => {
                let refused = |reason| EngineError::InvalidExample { place: example.place.clone(), reason };
                let dims = gallery.vectors.dims();
                if values.len() != dims {
                    let models = gallery.ensemble.id();
                    return Err(refused(format!("must have {dims} numbers, as {models} makes them")));
                }
                Embedding::unit(values.clone()).map(Some).map_err(|error| refused(error.to_string()))
            }
            Example::Item(_) | Example::ItemWords(_) | Example::ItemAudience(_) | Example::Text(_) => Ok(None),
        }
    }
}

fn check(request: &SearchRequest, most: usize) -> Result<(), EngineError> {
    let refuse = |field, reason: String| Err(EngineError::Invalid { field, reason });
    if request.limit == 0 || request.limit > most {
        return refuse("limit", format!("must be 1 to {most}"));
    }
    if request.offset.saturating_add(request.limit) > MAX_WINDOW.max(most) {
        return refuse("offset", format!("with `limit`, must be at most {}", MAX_WINDOW.max(most)));
    }
    if request.fusion == Fusion::Rrf && request.each_image {
        return refuse("group", "places of pictures are not fused: `fusion` must be `weighted`".into());
    }
    Ok(())
}

/// Answers a request whose pictures have been seen. Blocks for as long as it takes.
fn hits(
    parts: &Parts,
    gaze: Gaze<'_>,
    request: SearchRequest,
    seen: Vec<Option<Embedding>>,
) -> Result<Vec<Hit>, EngineError> {
    let live = &parts.live;
    let allowed = allowed(parts, &request);
    let all: Vec<&WeightedExample> = request.positive.iter().chain(&request.negative).collect();
    // Not held for pictures alone: who writes an item would have to wait.
    let empty = TextIndex::default();
    let with_words = all.iter().any(|e| matches!(e.example, Example::Text(_) | Example::ItemWords(_)));
    let held = with_words.then(|| live.text.read());
    let text = held.as_deref().unwrap_or(&empty);
    let mut examples =
        Examples { live, gaze, text, samples: Vec::new(), described: Vec::new(), excluded: RoaringBitmap::new() };
    let negative = std::iter::repeat_n(false, request.positive.len()).chain(std::iter::repeat(true));
    for (number, ((example, seen), negative)) in all.iter().zip(seen).zip(negative).enumerate() {
        examples.take(number, example, seen, negative)?;
    }
    let Examples { samples, described, excluded, .. } = examples;
    let looks = Looks::new(&samples, request.strategy, gaze.gallery.ensemble.blend()).map_err(|NoDirection| {
        EngineError::Invalid { field: "positive", reason: "the examples cancel each other out".into() }
    })?;
    let seeks = looks.as_ref().is_some_and(Looks::seeks);
    if !seeks && described.iter().all(|d| d.negative) {
        // None but examples of which nothing is known, as an item without any picture.
        if request.positive.is_empty() {
            let reason = "needs at least one example; only `average_vector` finds pictures that are unlike others";
            return Err(EngineError::Invalid { field: "positive", reason: reason.into() });
        }
        return Ok(Vec::new());
    }
    if request.fusion == Fusion::Rrf && (described.iter().any(|d| d.negative) || looks.is_some() && !seeks) {
        let reason = "what is only to be kept away from has no ranking: `fusion` must be `weighted`";
        return Err(EngineError::Invalid { field: "negative", reason: reason.into() });
    }
    let floor = request.score_threshold.unwrap_or(f32::NEG_INFINITY);
    let mix = Mix { vectors: &*gaze.gallery.vectors, text, looks, described, allowed, excluded, floor };
    let window = request.offset + request.limit;
    let explained = |found: Found| (request.explain.then(|| mix.parts(&found)), found);
    let page: Vec<(Option<Vec<Part>>, Found)> = match (request.fusion, request.each_image) {
        (Fusion::Rrf, _) => mix
            .fused(window)?
            .into_iter()
            .skip(request.offset)
            .map(|(f, p)| (request.explain.then_some(p), f))
            .collect(),
        (Fusion::Weighted, false) => mix.best(window)?.into_iter().skip(request.offset).map(explained).collect(),
        (Fusion::Weighted, true) => mix.best_images(window)?.into_iter().skip(request.offset).map(explained).collect(),
    };
    let catalogue = live.catalogue.read();
    let hit = |(parts, found): (Option<Vec<Part>>, Found)| {
        let entry = catalogue.entry(found.item)?;
        let images = entry.images.len();
        // A picture without a vector of this model would shift the numbers of those after it.
        let image = found.image.filter(|&(_, compared)| compared == images).map(|(image, _)| image);
        let named = |part: Part| HitPart {
            place: part.example.map_or_else(|| "images".to_owned(), |n| all[n].place.clone()),
            by: part.by,
            similarity: part.similarity,
            rank: part.rank,
            contribution: part.contribution,
        };
        let parts = parts.map(|parts| parts.into_iter().map(named).collect());
        Some(Hit { item: entry.item(), images, image, score: found.score, parts })
    };
    Ok(page.into_iter().filter_map(hit).collect())
}

/// The items that may be found; `None` for all.
fn allowed(parts: &Parts, request: &SearchRequest) -> Option<RoaringBitmap> {
    let (attributes, region) = (&parts.live.attributes, request.region.as_deref());
    let at = match request.available_at {
        AvailableAt::Now => parts.clock.now(),
        AvailableAt::Then(at) => at,
        AvailableAt::Whenever => {
            let mut filter = request.filter.clone();
            // An item that names no region passes this, too.
            filter.must.extend(
                region.map(|region| Condition { field: "region".into(), test: Test::Any(vec![region.to_owned()]) }),
            );
            return (!filter.is_empty()).then(|| attributes.allowed(&filter));
        }
    };
    attributes.restriction(&request.filter, at, region)
}

/// What a request's examples come down to.
struct Examples<'a> {
    live: &'a Live,
    gaze: Gaze<'a>,
    text: &'a TextIndex,
    samples: Vec<Sample>,
    described: Vec<Described>,
    /// The items among the examples, which are no answer.
    excluded: RoaringBitmap,
}

impl Examples<'_> {
    fn take(
        &mut self,
        number: usize,
        example: &WeightedExample,
        seen: Option<Embedding>,
        negative: bool,
    ) -> Result<(), EngineError> {
        let weight = example.weight;
        let gaze = self.gaze;
        let turn = |vectors: Vec<Embedding>| -> Vec<Embedding> {
            vectors.iter().filter_map(|vector| gaze.turn(vector)).map(|turned| turned.vector).collect()
        };
        let sample = |vectors: Vec<Embedding>| Sample { example: number, weight, negative, vectors };
        let described = |by| Described { example: number, weight, negative, by };
        match &example.example {
            Example::Image(_) | Example::Embedding(_) => {
                let vectors = turn(seen.into_iter().collect());
                self.samples.extend((!vectors.is_empty()).then(|| sample(vectors)));
            }
            Example::Text(words) => self.described.push(described(By::Words(self.text.query(words)))),
            Example::Item(id) => {
                let no = self.number_of(id)?;
                let vectors = turn(gaze.gallery.vectors.get(no));
                if !vectors.is_empty() {
                    self.samples.push(sample(vectors));
                } else if example.required {
                    return Err(EngineError::ItemWithoutImage(id.clone()));
                }
            }
            Example::ItemWords(id) => {
                let query = self.text.query_like(self.number_of(id)?);
                self.described.extend(query.map(|query| described(By::Words(query))));
            }
            Example::ItemAudience(id) => {
                let no = self.number_of(id)?;
                self.described.push(described(By::Audience(audience(self.live, no))));
            }
        }
        Ok(())
    }

    /// The number of an item, which from here on is no answer.
    fn number_of(&mut self, id: &ItemId) -> Result<ItemNo, EngineError> {
        let no = self.live.catalogue.read().find(id).map(|(no, _)| no);
        let no = no.ok_or_else(|| EngineError::UnknownItem(id.clone()))?;
        self.excluded.insert(no.0);
        Ok(no)
    }
}

/// The items of the catalogue that are turned to in the same sessions as `no`, and how much so: 0 to 1.
fn audience(live: &Live, no: ItemNo) -> HashMap<ItemNo, f32> {
    let (mut scratch, mut best) = (CoVisitationScratch::default(), Vec::new());
    // The moment is of no matter to who was there.
    let history = [(no, crate::domain::Timestamp(0))];
    live.collab.co_visitation.candidates(&history, usize::MAX, &mut scratch, &mut best);
    let catalogue = live.catalogue.read();
    let present = best.into_iter().filter(|scored| catalogue.entry(scored.item).is_some());
    present.map(|scored| (scored.item, scored.score.clamp(0.0, 1.0))).collect()
}
