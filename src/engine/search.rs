//! Which items look or read like this? Search by picture, by item and by words.

use std::time::Instant;

use super::{Engine, EngineError, Hit, Query, SearchAnswer, SearchRequest};
use crate::domain::{Embedding, ItemNo, Scored};
use crate::index::SearchOptions;
use crate::telemetry::Stage;

impl Engine {
    /// Finds items by picture, item or words. Items that are not available now are found too: a search looks into the
    /// catalogue, it does not recommend.
    pub async fn search(&self, request: SearchRequest) -> Result<SearchAnswer, EngineError> {
        let started = Instant::now();
        let limit = self.checked_limit(request.limit)?;
        let live = &self.parts.live;
        let allowed = if request.filter.is_empty() { None } else { Some(live.attributes.allowed(&request.filter)) };
        let found = match request.query {
            Query::Text(words) => {
                let _timer = self.parts.metrics.stage_timer(Stage::Search);
                live.text.read().search(&words, limit, allowed.as_ref())
            }
            Query::Image(bytes) => {
                let embedding = self.parts.eyes.embed_query(bytes, "image").await?;
                self.nearest(&[embedding], limit, allowed, None).await?
            }
            Query::Item(id) => {
                let no = live.catalogue.read().find(&id).map(|(no, _)| no);
                let no = no.ok_or_else(|| EngineError::UnknownItem(id.clone()))?;
                let vectors = live.vectors.get(no);
                if vectors.is_empty() {
                    return Err(EngineError::ItemWithoutImage(id));
                }
                self.nearest(&vectors, limit, allowed, Some(no)).await?
            }
        };
        let catalogue = live.catalogue.read();
        let hits = found
            .into_iter()
            .filter(|scored| request.score_threshold.is_none_or(|least| scored.score >= least))
            .filter_map(|scored| {
                let entry = catalogue.entry(scored.item)?;
                Some(Hit { item: entry.item.id.clone(), score: scored.score })
            })
            .collect();
        Ok(SearchAnswer { hits, took: started.elapsed() })
    }

    /// The items nearest to any of `queries`, each by its best pair; `but` is left out.
    async fn nearest(
        &self,
        queries: &[Embedding],
        limit: usize,
        allowed: Option<roaring::RoaringBitmap>,
        but: Option<ItemNo>,
    ) -> Result<Vec<Scored>, EngineError> {
        let (vectors, metrics) = (self.parts.live.vectors.clone(), self.parts.metrics.clone());
        let queries = queries.to_vec();
        let search = move || {
            let _timer = metrics.stage_timer(Stage::Search);
            let excluded = but.map(|no| roaring::RoaringBitmap::from_iter([no.0]));
            let options = SearchOptions {
                limit,
                allowed: allowed.as_ref(),
                excluded: excluded.as_ref(),
                ..SearchOptions::default()
            };
            let slices: Vec<&[f32]> = queries.iter().map(Embedding::as_slice).collect();
            let mut found: Vec<Scored> = vectors.search_many(&slices, &options)?.into_iter().flatten().collect();
            // Best first, so that of an item's scores the best one is kept.
            let everything = found.len();
            Scored::keep_best(&mut found, everything);
            let mut taken = std::collections::HashSet::new();
            found.retain(|scored| taken.insert(scored.item));
            found.truncate(limit);
            Ok(found)
        };
        tokio::task::spawn_blocking(search)
            .await
            .map_err(|e| EngineError::Internal(format!("a search stopped: {e}")))?
    }

    fn checked_limit(&self, limit: usize) -> Result<usize, EngineError> {
        let most = self.parts.options.max_search_results;
        if limit == 0 || limit > most {
            return Err(EngineError::Invalid { field: "limit", reason: format!("must be 1 to {most}") });
        }
        Ok(limit)
    }
}
