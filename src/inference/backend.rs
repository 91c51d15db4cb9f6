//! What turns a batch of pictures into embeddings? Anything that implements [`Backend`].
//!
//! The service uses [`OnnxBackend`](super::OnnxBackend); tests put slow or failing ones in its place.

use crate::domain::{Embedding, EmbeddingError, InputSize};

/// A model that one worker thread owns.
pub trait Backend: Send {
    /// One result for each picture, in the order of the batch.
    ///
    /// The outer error fails the whole batch, the inner one only the picture it stands for.
    fn embed(&mut self, batch: &PixelBatch<'_>) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError>;
}

/// Why a batch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The runtime refused or broke off the run; its own words.
    #[error("the model did not run: {0}")]
    Run(String),
    /// The model answered something that is not one vector for each picture.
    #[error("the model answered {got} numbers where {expected} were expected")]
    Output {
        /// Numbers that the batch calls for.
        expected: usize,
        /// Numbers that came.
        got: usize,
    },
}

/// Pictures of one size: RGB, 8 bits a channel, rows from top to bottom, each [`InputSize::bytes`] long.
#[derive(Debug)]
pub struct PixelBatch<'a> {
    input: InputSize,
    pictures: Vec<&'a [u8]>,
}

impl<'a> PixelBatch<'a> {
    /// A batch of `pictures`; `None` if it is empty or one of them has another size than `input`.
    pub fn new(input: InputSize, pictures: Vec<&'a [u8]>) -> Option<Self> {
        let fits = !pictures.is_empty() && pictures.iter().all(|rgb| rgb.len() == input.bytes());
        fits.then_some(Self { input, pictures })
    }

    /// The size that all pictures have.
    pub fn input(&self) -> InputSize {
        self.input
    }

    /// The pictures; never empty.
    pub fn pictures(&self) -> &[&'a [u8]] {
        &self.pictures
    }
}
