//! What is refused, and what is not looked at twice?

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::{EmbeddingError, Fit};
use crate::index::{self, IndexSettings};
use crate::inference::{Backend, BackendError, EmbedderOptions, Ensemble, Metric, ModelSpec, PixelBatch};

/// At least what a picture costs with [`Slow`].
const COST: Duration = Duration::from_millis(20);

/// Takes its time, and counts.
struct Slow(Arc<AtomicUsize>);

impl Backend for Slow {
    fn embed(&mut self, batch: &PixelBatch<'_>) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError> {
        self.0.fetch_add(batch.pictures().len(), Ordering::SeqCst);
        std::thread::sleep(COST);
        Ok(batch.pictures().iter().map(|rgb| Embedding::unit(vec![1.0, f32::from(rgb[0])])).collect())
    }
}

fn eyes(max_wait: Duration) -> (Eyes, Gallery, Arc<AtomicUsize>) {
    let looked = Arc::new(AtomicUsize::new(0));
    let input = InputSize { width: 8, height: 8, fit: Fit::Stretch };
    let spec = ModelSpec { model_id: "slow@0".into(), input, dims: 2, metric: Metric::Cosine };
    let options = EmbedderOptions { workers: 1, max_batch: Some(1), ..EmbedderOptions::default() };
    let embedder = Embedder::with_backends(spec, vec![Box::new(Slow(looked.clone()))], &options).unwrap();
    let eyes = Eyes {
        limits: DecodeLimits::default(),
        near_duplicate_difference: 0.01,
        queue_timeout: Duration::from_secs(60),
        max_wait,
        always_wait_per_worker: 1,
        thumbnail_side: 0,
        metrics: Metrics::new().unwrap(),
        frames: Line::new(8),
        queries: Line::new(8),
        bulk: Semaphore::new(2),
        decoders: Decoders::new(1, 0).unwrap(),
        known: KnownPictures::new(1 << 20),
        spare: Arc::default(),
    };
    let gallery = Gallery::new(1, Ensemble::of(embedder).unwrap(), index::open(&IndexSettings::new(2)).unwrap());
    (eyes, gallery, looked)
}

/// A JPEG of one grey.
fn jpeg(grey: u8) -> Bytes {
    let pixels = Pixels::new(32, 32, vec![grey; 32 * 32 * 3]).unwrap();
    vision::thumbnail_jpeg(&pixels, 32).unwrap().into()
}

fn frame(bytes: &Bytes) -> FrameUpload {
    FrameUpload { bytes: bytes.clone(), at_s: None }
}

fn before(seen: &Seen) -> Option<Before> {
    Some(Before { last: seen.thumb.clone(), embedded: Some(seen.thumb.clone()), upload: Some(seen.upload) })
}

#[tokio::test]
async fn what_would_come_too_late_is_refused_before_it_costs_anything() {
    let (eyes, gallery, looked) = eyes(COST / 2);
    let look = |grey, budget: Option<Duration>| {
        let deadline = budget.map(|budget| Instant::now() + budget);
        let (eyes, gallery, frames) = (&eyes, &gallery, [frame(&jpeg(grey))]);
        async move { eyes.look(gallery, &frames, None, Priority::Live, deadline).await }
    };
    // Nobody is ahead, and what a picture costs is not known yet.
    assert!(look(10, None).await.is_ok());
    assert!(look(10, None).await.is_ok(), "nobody is ahead");
    let a_query = eyes.queries.admit().unwrap();
    assert!(look(10, None).await.is_ok(), "frames go first");
    let someone = eyes.frames.admit().unwrap();
    drop(a_query);
    let refused = look(60, None).await;
    assert!(matches!(refused, Err(EngineError::Busy { retry_after }) if retry_after >= COST), "{refused:?}");
    assert!(matches!(look(60, Some(COST / 2)).await, Err(EngineError::Busy { .. })), "not by its own deadline either");
    assert!(matches!(eyes.embed_query(&gallery, jpeg(60), "image").await, Err(EngineError::Busy { .. })));
    assert_eq!(looked.load(Ordering::SeqCst), 3);
    assert!(look(60, Some(Duration::from_secs(60))).await.is_ok(), "whoever has time may wait");
    drop(someone);
    assert!(look(110, None).await.is_ok());
    assert_eq!(eyes.waiting(), 0);
}

#[tokio::test]
async fn a_file_that_comes_again_is_not_even_decoded() {
    let (mut eyes, gallery, looked) = eyes(Duration::from_secs(60));
    let (first, other) = (jpeg(10), jpeg(200));
    let seen = eyes.look(&gallery, &[frame(&first)], None, Priority::Live, None).await.unwrap().remove(0);
    assert_eq!((seen.upload.width, seen.upload.height), (32, 32));
    // Nobody is left to decode.
    let decoder = eyes.decoders.occupy();
    let again = eyes.look(&gallery, &[frame(&first)], before(&seen), Priority::Live, None).await.unwrap().remove(0);
    assert!(matches!(again.sight, Sight::Repeat));
    assert_eq!((again.upload, again.motion), (seen.upload, Motion::default()));
    drop(decoder);
    let new = eyes.look(&gallery, &[frame(&other)], before(&seen), Priority::Live, None).await.unwrap().remove(0);
    assert!(matches!(new.sight, Sight::New(_)));
    assert_eq!(looked.load(Ordering::SeqCst), 2);
    // Whoever wants every frame embedded gets it.
    eyes.near_duplicate_difference = 0.0;
    let new = eyes.look(&gallery, &[frame(&first)], before(&seen), Priority::Live, None).await.unwrap().remove(0);
    assert!(matches!(new.sight, Sight::New(_)));
    assert_eq!(looked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_picture_that_another_item_has_is_not_looked_at_again() {
    let (eyes, gallery, looked) = eyes(Duration::from_secs(60));
    let one = eyes.portray(jpeg(10), "image[0]", gallery.ensemble.embedders()).await.unwrap();
    let same = eyes.portray(jpeg(10), "image[1]", gallery.ensemble.embedders()).await.unwrap();
    assert_eq!((one.width, &one.embeddings), (same.width, &same.embeddings));
    assert_eq!(looked.load(Ordering::SeqCst), 1);
    eyes.portray(jpeg(200), "image[2]", gallery.ensemble.embedders()).await.unwrap();
    assert_eq!(looked.load(Ordering::SeqCst), 2);
}
