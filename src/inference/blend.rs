//! How do several models' embeddings of a picture become one? By weighted concatenation of unit vectors.
//!
//! With weights `w` that sum to 1, the parts are multiplied with the square roots of their weights and written one after the
//! other. The cosine of two such vectors is then the weighted mean of the models' cosines, `Σ wᵢ cᵢ`, so one index of
//! them finds what all models together find alike.
//!
//! A question may weigh the models otherwise: with weights `v`, part `i` of the query is multiplied with `vᵢ / wᵢ` more. Its dot
//! products with the stored vectors are the means by `v`, up to a factor that is the same for all pictures; nothing that is stored
//! changes.

use std::collections::BTreeMap;

use super::embedder::{InferenceError, ModelSpec};
use super::metric::Metric;
use crate::domain::{Embedding, dot};

/// The most models that look at a picture together.
pub const MAX_MODELS: usize = 4;

/// Where each model's part lies in the vectors of several, and how much it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Blend {
    parts: Vec<Part>,
    dims: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Part {
    model_id: String,
    start: usize,
    dims: usize,
    metric: Metric,
    /// All sum to 1.
    weight: f32,
}

impl Blend {
    /// Of these models, with what each counts beside the others: above 0.
    pub fn new(models: &[(&ModelSpec, f32)]) -> Result<Self, InferenceError> {
        let refused = |reason: String| Err(InferenceError::Models { reason });
        if models.is_empty() || models.len() > MAX_MODELS {
            return refused(format!("1 to {MAX_MODELS} models look at a picture together, not {}", models.len()));
        }
        let whole: f32 = models.iter().map(|(_, weight)| weight).sum();
        if !whole.is_finite() || models.iter().any(|&(_, weight)| !(weight.is_finite() && weight > 0.0)) {
            return refused("a model's weight must be a number above 0".to_owned());
        }
        let mut parts: Vec<Part> = Vec::with_capacity(models.len());
        let mut start = 0;
        for (spec, weight) in models {
            if parts.iter().any(|part| name(&part.model_id) == name(&spec.model_id)) {
                return refused(format!("the model {} is named twice", name(&spec.model_id)));
            }
            let weight = weight / whole;
            parts.push(Part { model_id: spec.model_id.clone(), start, dims: spec.dims, metric: spec.metric, weight });
            start += spec.dims;
        }
        Ok(Self { parts, dims: start })
    }

    /// Dimensions of the vectors.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// A name that differs wherever vectors must not be compared: the model's id, or all ids with their weights.
    pub fn id(&self) -> String {
        match self.parts.as_slice() {
            [only] => only.model_id.clone(),
            parts => {
                let each = parts.iter().map(|part| format!("{}:{:.3}", part.model_id, part.weight));
                each.collect::<Vec<_>>().join("+")
            }
        }
    }

    /// The models' ids in the order of their parts.
    pub fn model_ids(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.model_id.as_str())
    }

    /// One vector of what each model made of a picture, in the order of the parts; `None` if there are not as many, or of other
    /// dimensions.
    pub fn fuse(&self, each: &[Embedding]) -> Option<Embedding> {
        if each.len() != self.parts.len() || each.iter().zip(&self.parts).any(|(own, part)| own.dims() != part.dims) {
            return None;
        }
        if let [only] = each {
            return Some(only.clone());
        }
        let scaled = each.iter().zip(&self.parts).flat_map(|(own, part)| {
            let scale = part.weight.sqrt();
            own.as_slice().iter().map(move |value| value * scale)
        });
        Embedding::unit(scaled.collect()).ok()
    }

    /// What to ask with for pictures like `fused`: itself, unless a model's [`Metric`] asks otherwise; `None` if that says nothing.
    pub fn ask(&self, fused: &Embedding) -> Option<Embedding> {
        if self.parts.iter().all(|part| part.metric == Metric::Cosine) {
            return Some(fused.clone());
        }
        let mut values = fused.as_slice().to_vec();
        for part in &self.parts {
            let own = values.get_mut(part.start..part.start + part.dims)?;
            if !part.metric.ask(own) {
                own.fill(0.0);
            }
        }
        Embedding::unit(values).ok()
    }

    /// What a question's weights by model name come down to; the reason if they cannot be used. Models that it does not name do
    /// not count.
    pub fn weights(&self, by_name: &BTreeMap<String, f32>) -> Result<Weights, String> {
        let known: Vec<&str> = self.parts.iter().map(|part| name(&part.model_id)).collect();
        if let Some(unknown) = by_name.keys().find(|own| !known.contains(&own.as_str())) {
            return Err(format!("there is no model `{unknown}` in use; there are {}", known.join(", ")));
        }
        if by_name.values().any(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err("weights must be numbers of at least 0".to_owned());
        }
        let whole: f32 = by_name.values().sum();
        if !whole.is_finite() || whole <= 0.0 {
            return Err("at least one model must count".to_owned());
        }
        Ok(Weights(known.iter().map(|known| by_name.get(*known).map_or(0.0, |weight| weight / whole)).collect()))
    }

    /// A vector that asks with other weights; `None` if those models say nothing.
    pub fn reweigh(&self, fused: &Embedding, weights: &Weights) -> Option<Embedding> {
        let mut values = fused.as_slice().to_vec();
        for (part, weight) in self.parts.iter().zip(&weights.0) {
            let own = values.get_mut(part.start..part.start + part.dims)?;
            own.iter_mut().for_each(|value| *value *= weight / part.weight);
        }
        Embedding::unit(values).ok()
    }

    /// The greatest cosine that the vector of any picture can have with `direction`: 1 where its parts are as long as a
    /// picture's. A cosine divided by it is the mean of the models' cosines by the weights that `direction` was made with.
    pub fn reach(&self, direction: &Embedding) -> f32 {
        if self.parts.len() == 1 {
            return 1.0;
        }
        let length = |part: &Part| {
            let own = direction.as_slice().get(part.start..part.start + part.dims).unwrap_or_default();
            (dot(own, own) * part.weight).sqrt()
        };
        self.parts.iter().map(length).sum::<f32>().clamp(f32::MIN_POSITIVE, 1.0)
    }
}

/// How much each model counts in a question; they sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights(Vec<f32>);

/// A model's name: its id without the digits of its hash.
pub(super) fn name(model_id: &str) -> &str {
    model_id.split('@').next().unwrap_or(model_id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop, prop_assert, proptest};

    use super::*;
    use crate::domain::{Fit, InputSize};

    fn spec(name: &str, dims: usize) -> ModelSpec {
        let input = InputSize { width: 8, height: 8, fit: Fit::Stretch };
        ModelSpec { model_id: format!("{name}@01234567"), input, dims, metric: Metric::Cosine }
    }

    fn blend(weights: &[f32], dims: &[usize]) -> Blend {
        let specs: Vec<ModelSpec> =
            dims.iter().enumerate().map(|(n, &dims)| spec(["a", "b", "c", "d"][n], dims)).collect();
        Blend::new(&specs.iter().zip(weights.iter().copied()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn one_model_stays_as_it_is() {
        let (blend, own) = (blend(&[0.3], &[3]), Embedding::unit(vec![1.0, 2.0, 3.0]).unwrap());
        assert_eq!(blend.id(), "a@01234567");
        assert_eq!(blend.fuse(std::slice::from_ref(&own)), Some(own.clone()));
        assert_eq!(blend.reach(&own), 1.0);
        assert_eq!(blend.fuse(&[]), None);
        assert_eq!(blend.fuse(&[Embedding::unit(vec![1.0]).unwrap()]), None);
    }

    #[test]
    fn what_cannot_be_blended_is_refused() {
        let (a, b) = (spec("a", 2), spec("b", 2));
        for models in [vec![], vec![(&a, 1.0), (&a, 1.0)], vec![(&a, 0.0)], vec![(&a, 1.0), (&b, f32::NAN)]] {
            assert!(Blend::new(&models).is_err(), "{models:?}");
        }
        let blend = blend(&[1.0, 3.0], &[2, 2]);
        assert_eq!(blend.id(), "a@01234567:0.250+b@01234567:0.750");
        let weights = |of: &[(&str, f32)]| blend.weights(&of.iter().map(|&(n, w)| (n.to_owned(), w)).collect());
        assert!(weights(&[("c", 1.0)]).unwrap_err().contains("no model `c`"));
        for bad in [vec![], vec![("a", 0.0)], vec![("a", -1.0), ("b", 2.0)], vec![("a", f32::INFINITY)]] {
            assert!(weights(&bad).is_err(), "{bad:?}");
        }
        assert_eq!(weights(&[("b", 2.0)]), Ok(Weights(vec![0.0, 1.0])));
    }

    #[test]
    fn each_model_is_asked_by_its_own_metric() {
        let dot = Metric::Dot { max_norm: 4.0 };
        let (a, b) = (spec("a", 3), ModelSpec { metric: dot, ..spec("b", 3) });
        let blend = Blend::new(&[(&a, 1.0), (&b, 3.0)]).unwrap();
        let see = |by_a: &[f32], by_b: &[f32]| {
            blend.fuse(&[Embedding::unit(by_a.to_vec()).unwrap(), dot.lift(by_b).unwrap()]).unwrap()
        };
        let query = see(&[1.0, 0.0, 0.0], &[2.0, 0.0]);
        let asked = blend.ask(&query).unwrap();
        for (by_a, by_b) in [([1.0, 0.0, 0.0], [3.0, 1.0]), ([0.6, 0.8, 0.0], [1.0, -1.0])] {
            let expected = 0.25 * by_a[0] + 0.75 * by_b[0] / 4.0;
            assert!((asked.cosine(&see(&by_a, &by_b)) - expected).abs() < 1e-5);
        }
        let only_b = blend.weights(&[("b".to_owned(), 1.0)].into()).unwrap();
        let asked = blend.reweigh(&asked, &only_b).unwrap();
        assert!((asked.cosine(&see(&[0.0, 1.0, 0.0], &[4.0, 0.0])) / blend.reach(&asked) - 1.0).abs() < 1e-5);
    }

    fn pictures(dims: usize) -> impl Strategy<Value = (Embedding, Embedding)> {
        let one = move || {
            prop::collection::vec(-1.0_f32..1.0, dims).prop_filter_map("zero", |values| Embedding::unit(values).ok())
        };
        (one(), one())
    }

    proptest! {
        #[test]
        fn the_cosine_is_the_weighted_mean_of_the_models_cosines_by_any_weights(
            (dims, each) in prop::collection::vec(1_usize..6, 2..=4)
                .prop_flat_map(|dims| (Just(dims.clone()), dims.into_iter().map(pictures).collect::<Vec<_>>())),
            stored in prop::array::uniform4(0.05_f32..5.0),
            asked in prop::array::uniform4(0.0_f32..5.0),
        ) {
            let blend = blend(&stored[..dims.len()], &dims);
            let (left, right): (Vec<Embedding>, Vec<Embedding>) = each.iter().cloned().unzip();
            let (left, right) = (blend.fuse(&left).unwrap(), blend.fuse(&right).unwrap());
            let mean = |weights: &[f32]| {
                let sum: f32 = each.iter().zip(weights).map(|((a, b), w)| w * a.cosine(b)).sum();
                sum / weights.iter().take(each.len()).sum::<f32>()
            };
            prop_assert!((left.cosine(&right) - mean(&stored)).abs() < 1e-4);
            prop_assert!((blend.reach(&left) - 1.0).abs() < 1e-4);
            let by_name = ["a", "b", "c", "d"].iter().zip(asked).take(dims.len()).map(|(n, w)| ((*n).to_owned(), w));
            let Ok(weights) = blend.weights(&by_name.collect()) else { return Ok(()) };
            let query = blend.reweigh(&left, &weights).unwrap();
            prop_assert!((query.cosine(&right) / blend.reach(&query) - mean(&asked)).abs() < 1e-3);
        }
    }
}
