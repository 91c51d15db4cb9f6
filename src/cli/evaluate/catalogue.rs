//! What is known of items beyond who turned to them? Their words and their pictures, as sources of candidates.
//!
//! The picture of the item that somebody turned to last is taken for the frame on their screen. The catalogue is taken
//! as known from the beginning of the log, as it is where items are put in before anybody can turn to them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::cli::output::{bar, note};
use crate::cli::{CliError, runtime, tokio_runtime};
use crate::config::Settings;
use crate::domain::{Embedding, Item, ItemNo};
use crate::evaluation::{ItemNumbers, Source, Stop, Surroundings};
use crate::index::{self, IndexSettings, SearchOptions, TextIndex, VectorIndex};
use crate::inference::{self, Embedder, EmbedderOptions, Manifest, Priority};
use crate::ranking::{Candidate, RequestContext};
use crate::store::Store;
use crate::vision::{self, DecodeLimits};

/// Pictures that are decoded ahead of the model.
const AT_ONCE: usize = 64;
/// Candidates by looks and by words.
const VISUAL: usize = 80;
const METADATA: usize = 40;
/// As the service scales likeness of descriptions.
const METADATA_SCALE: f32 = 2.0;

/// Words and looks of items.
#[derive(Debug, Default)]
pub(in crate::cli) struct Catalogue {
    text: TextIndex,
    looks: HashMap<ItemNo, Vec<Embedding>>,
    index: Option<Arc<dyn VectorIndex>>,
}

/// The catalogue during one replay.
struct View<'a> {
    catalogue: &'a Catalogue,
    without: Option<Source>,
    /// Who shares words with the current item.
    related: HashMap<ItemNo, f32>,
    frame: Option<&'a Embedding>,
}

impl Catalogue {
    /// Takes in the words of items; those that no log names get numbers, too.
    pub(super) fn describe(&mut self, items: &[Item], numbers: &mut ItemNumbers) {
        for item in items {
            self.text.upsert(numbers.number(item.id.as_str()), item);
        }
    }

    /// Looks at the pictures of a folder; a file is called like its item.
    pub(super) fn look_at(&mut self, dir: &Path, numbers: &ItemNumbers, settings: &Settings) -> Result<(), CliError> {
        let files = std::fs::read_dir(dir).map_err(CliError::io(dir.display()))?;
        let mut pictures: Vec<_> = files
            .filter_map(|file| {
                let path = file.ok()?.path();
                let item = numbers.get(path.file_stem()?.to_str()?)?;
                Some((item, path))
            })
            .collect();
        pictures.sort_unstable();
        if pictures.is_empty() {
            return Err(CliError::Failed(format!("{}: no file is called like an item", dir.display())));
        }
        let located = runtime::ensure(settings.inference.runtime_path.as_deref())?;
        inference::runtime::load(&located)?;
        let start = || -> Result<Embedder, inference::InferenceError> {
            Embedder::start(Manifest::builtin()?, EmbedderOptions::default())
        };
        let embedder = start().map_err(|error| CliError::Failed(error.to_string()))?;
        let progress = bar("looking at pictures", pictures.len() as u64);
        let (tokio, mut unusable) = (tokio_runtime()?, 0);
        for some in pictures.chunks(AT_ONCE) {
            let prepared: Vec<Option<Vec<u8>>> = some
                .par_iter()
                .map(|(_, path)| {
                    let pixels = vision::decode(&std::fs::read(path).ok()?, &DecodeLimits::default()).ok()?;
                    vision::preprocess(&pixels, embedder.input()).ok()
                })
                .collect();
            let embedded = tokio.block_on(join_all(
                prepared.into_iter().map(async |pixels| embedder.embed(pixels?, Priority::Bulk, None).await.ok()),
            ));
            for ((item, _), embedded) in some.iter().zip(embedded) {
                match embedded {
                    Some(embedded) => self.looks.entry(*item).or_default().push(embedded.embedding),
                    None => unusable += 1,
                }
            }
            progress.inc(some.len() as u64);
        }
        progress.finish_and_clear();
        embedder.shutdown();
        if unusable > 0 {
            note(format_args!("{}: {unusable} pictures cannot be used", dir.display()));
        }
        self.index_looks()
    }

    /// Takes in what a server knows of its items.
    pub(in crate::cli) fn take_over(&mut self, store: &Store, numbers: &mut ItemNumbers) -> Result<(), CliError> {
        let mut by_model: HashMap<String, HashMap<ItemNo, Vec<Embedding>>> = HashMap::new();
        store.for_each_item(|record| {
            let no = numbers.number(record.item.id.as_str());
            self.text.upsert(no, &record.item);
            for (model, embedding) in record.images.into_iter().flat_map(|image| image.embeddings) {
                by_model.entry(model).or_default().entry(no).or_default().push(embedding);
            }
            ControlFlow::Continue(())
        })?;
        // Embeddings of different models must not be compared: those of the one that saw the most items count.
        let best = by_model.into_iter().max_by(|a, b| (a.1.len(), &a.0).cmp(&(b.1.len(), &b.0)));
        self.looks = best.map(|(_, looks)| looks).unwrap_or_default();
        self.index_looks()
    }

    /// Takes in how one model sees the pictures of a server's items.
    pub(in crate::cli) fn take_over_looks(
        &mut self,
        store: &Store,
        numbers: &mut ItemNumbers,
        model_id: &str,
    ) -> Result<(), CliError> {
        store.for_each_item(|record| {
            let no = numbers.number(record.item.id.as_str());
            let looks = record.images.into_iter().flat_map(|image| image.embeddings);
            let looks: Vec<Embedding> = looks.filter(|(model, _)| model == model_id).map(|(_, look)| look).collect();
            if !looks.is_empty() {
                self.looks.insert(no, looks);
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// How the model sees an item's first picture.
    pub(in crate::cli) fn look(&self, item: ItemNo) -> Option<&Embedding> {
        self.looks.get(&item)?.first()
    }

    fn index_looks(&mut self) -> Result<(), CliError> {
        let failed = |error: index::IndexError| CliError::Failed(format!("the pictures cannot be indexed: {error}"));
        let Some(dims) = self.looks.values().flatten().next().map(Embedding::dims) else { return Ok(()) };
        let index = index::open(&IndexSettings::new(dims)).map_err(failed)?;
        for (&item, looks) in &mut self.looks {
            looks.truncate(index::MAX_VECTORS_PER_ITEM);
            index.upsert(item, looks).map_err(failed)?;
        }
        self.index = Some(index);
        Ok(())
    }

    /// Items with pictures, and items with words.
    pub(in crate::cli) fn sizes(&self) -> (usize, usize) {
        (self.looks.len(), self.text.len())
    }

    /// What one replay sees of it, without what `without` proposes.
    pub(in crate::cli) fn surroundings(&self, without: Option<Source>) -> Box<dyn Surroundings + '_> {
        Box::new(View { catalogue: self, without, related: HashMap::new(), frame: None })
    }
}

impl Surroundings for View<'_> {
    fn propose(&mut self, stop: &Stop<'_>, items: &mut Vec<ItemNo>) {
        self.related.clear();
        self.frame = None;
        let Some(&(current, _)) = stop.history.last() else { return };
        let catalogue = self.catalogue;
        if self.without != Some(Source::Metadata) {
            let found = catalogue.text.similar(current, METADATA, None);
            items.extend(found.iter().map(|scored| scored.item));
            self.related = found.into_iter().map(|scored| (scored.item, METADATA_SCALE * scored.score)).collect();
        }
        if self.without != Some(Source::Visual) {
            self.frame = catalogue.looks.get(&current).and_then(|looks| looks.first());
            if let (Some(frame), Some(index)) = (self.frame, &catalogue.index) {
                let own = RoaringBitmap::from_iter([current.0]);
                let found = index.search(frame.as_slice(), &SearchOptions::top(VISUAL).excluded(&own));
                items.extend(found.unwrap_or_default().into_iter().map(|scored| scored.item));
            }
        }
    }

    fn describe(&mut self, _: &Stop<'_>, context: &mut RequestContext, candidates: &mut [Candidate]) {
        let looks = &self.catalogue.looks;
        context.answered.metadata = !self.catalogue.text.is_empty() && self.without != Some(Source::Metadata);
        context.answered.visual = self.frame.is_some();
        for candidate in candidates {
            candidate.metadata = self.related.get(&candidate.item).copied().unwrap_or_default();
            if let (Some(frame), Some(own)) = (self.frame, looks.get(&candidate.item)) {
                candidate.visual = own.iter().map(|look| look.cosine(frame)).max_by(f32::total_cmp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemId, Timestamp};

    #[test]
    fn words_and_looks_propose_and_describe_unless_silenced() {
        let mut numbers = ItemNumbers::default();
        let mut catalogue = Catalogue::default();
        let items: Vec<Item> = [("a", "red car"), ("b", "red bus"), ("c", "blue sky")]
            .map(|(id, title)| Item { title: title.into(), ..Item::new(ItemId::new(id).unwrap()) })
            .into();
        catalogue.describe(&items, &mut numbers);
        let looks = [("a", [1.0, 0.0]), ("c", [0.8, 0.6])];
        for (id, look) in looks {
            catalogue.looks.insert(numbers.number(id), vec![Embedding::unit(look.to_vec()).unwrap()]);
        }
        catalogue.index_looks().unwrap();
        assert_eq!(catalogue.sizes(), (2, 3));
        let [a, b, c] = ["a", "b", "c"].map(|id| numbers.get(id).unwrap());
        let history = [(a, Timestamp(0))];
        let stop = Stop { session_index: 0, session: 0, user: None, history: &history, future: &[], now: Timestamp(0) };
        let seen = |without| {
            let mut view = catalogue.surroundings(without);
            let (mut items, mut context) = (Vec::new(), RequestContext::default());
            view.propose(&stop, &mut items);
            let mut candidates = [Candidate::new(b), Candidate::new(c)];
            view.describe(&stop, &mut context, &mut candidates);
            (items, context.answered, candidates)
        };
        let (items, answered, candidates) = seen(None);
        assert_eq!(items, [b, c], "one shares a word, one looks alike");
        assert!(answered.visual && answered.metadata);
        assert!(candidates[0].metadata > 0.0 && candidates[0].visual.is_none());
        assert!((candidates[1].visual.unwrap() - 0.8).abs() < 1e-6 && candidates[1].metadata == 0.0);
        let (items, answered, _) = seen(Some(Source::Visual));
        assert!(items == [b] && !answered.visual && answered.metadata);
        let (items, answered, _) = seen(Some(Source::Metadata));
        assert!(items == [c] && answered.visual && !answered.metadata);
    }
}
