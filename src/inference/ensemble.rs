//! Which models look at a picture together? One, or several whose embeddings become one vector.

use std::time::Duration;

use super::blend::Blend;
use super::embedder::{Embedder, InferenceError};
use crate::domain::{InputSize, Precision};

/// Models that look at every picture, each with threads and a queue of its own. The threads end when the last owner has let go.
#[derive(Debug)]
pub struct Ensemble {
    embedders: Vec<Embedder>,
    blend: Blend,
    id: String,
    precision: Option<Precision>,
}

impl Ensemble {
    /// Of these models, with what each counts beside the others.
    pub fn new(models: Vec<(Embedder, f32)>) -> Result<Self, InferenceError> {
        let specs: Vec<_> = models.iter().map(|(embedder, weight)| (embedder.spec(), *weight)).collect();
        let blend = Blend::new(&specs)?;
        let embedders = models.into_iter().map(|(embedder, _)| embedder).collect();
        Ok(Self { id: blend.id(), embedders, blend, precision: None })
    }

    /// The same, whose vectors are to be kept as these models say, by name; they must agree as far as they say anything.
    pub fn kept_as<'a>(
        self,
        models: impl IntoIterator<Item = (&'a str, Option<Precision>)>,
    ) -> Result<Self, InferenceError> {
        let mut said = models.into_iter().filter_map(|(name, precision)| Some((name, precision?)));
        let Some((first, precision)) = said.next() else { return Ok(self) };
        match said.find(|(_, other)| *other != precision) {
            None => Ok(Self { precision: Some(precision), ..self }),
            Some((other, differs)) => {
                let reason = format!(
                    "{first} asks for the precision {precision} and {other} for {differs}, but their vectors are kept as one"
                );
                Err(InferenceError::Models { reason })
            }
        }
    }

    /// How exactly vectors are to be kept in memory; `None` for as the settings say.
    pub fn precision(&self) -> Option<Precision> {
        self.precision
    }

    /// One model.
    pub fn of(embedder: Embedder) -> Result<Self, InferenceError> {
        Self::new(vec![(embedder, 1.0)])
    }

    /// Differs wherever vectors must not be compared.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The models, in the order of their parts.
    pub fn embedders(&self) -> &[Embedder] {
        &self.embedders
    }

    /// How their embeddings become one.
    pub fn blend(&self) -> &Blend {
        &self.blend
    }

    /// Dimensions of the vectors.
    pub fn dims(&self) -> usize {
        self.blend.dims()
    }

    /// The sizes of the pictures that the models take, in their order.
    pub fn inputs(&self) -> Vec<InputSize> {
        self.embedders.iter().map(Embedder::input).collect()
    }

    /// Pictures that wait for any of the models.
    pub fn queue_depth(&self) -> usize {
        self.embedders.iter().map(Embedder::queue_depth).sum()
    }

    /// How long a picture that comes now will take to come out of the slowest model, see [`Embedder::wait_behind`].
    pub fn wait_behind(&self, ahead: usize) -> Duration {
        self.embedders.iter().map(|embedder| embedder.wait_behind(ahead)).max().unwrap_or_default()
    }

    /// Threads that run the model with the fewest of them.
    pub fn workers(&self) -> usize {
        self.embedders.iter().map(Embedder::workers).min().unwrap_or_default()
    }

    /// Ends the models' threads, see [`Embedder::shutdown`].
    pub fn shutdown(&self) {
        self.embedders.iter().for_each(Embedder::shutdown);
    }
}
