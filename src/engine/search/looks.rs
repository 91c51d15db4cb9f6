//! How alike is a picture to several examples, some of which are good and some bad? Pure sums over vectors.
//!
//! The two strategies are those of Qdrant's recommendations: one direction made of all examples, or the best of the good
//! examples against the best of the bad ones.

use crate::domain::{Embedding, dot};
use crate::engine::Strategy;
use crate::inference::Blend;

/// Pictures that are one example together: one upload, or all pictures of an item.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// The number of the example.
    pub(super) example: usize,
    pub(super) weight: f32,
    pub(super) negative: bool,
    /// Never empty.
    pub(super) vectors: Vec<Embedding>,
}

/// What an example has to do with a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    /// The number of the example.
    pub(super) example: usize,
    /// Cosine similarity.
    pub(super) similarity: f32,
    /// What it adds to the likeness.
    pub(super) contribution: f32,
}

/// Examples, ready to be compared with pictures.
#[derive(Debug)]
pub(super) struct Looks {
    /// What all of them count beside words.
    pub(super) weight: f32,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Best {
        good: Vec<Ray>,
        bad: Vec<Ray>,
    },
    Average {
        direction: Embedding,
        /// What a cosine with it is multiplied with, see [`Blend::reach`].
        scale: f32,
        /// The examples' means; weighted by their factors they sum to `direction`.
        means: Vec<Ray>,
    },
}

/// A vector of an example.
#[derive(Debug)]
struct Ray {
    example: usize,
    vector: Embedding,
    /// What its cosine is multiplied with to be a similarity, see [`Blend::reach`].
    scale: f32,
    /// What the similarity is multiplied with.
    factor: f32,
}

/// Good and bad examples cancel each other out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoDirection;

impl Looks {
    /// Prepares `samples`; `None` if there are none.
    pub(super) fn new(samples: &[Sample], strategy: Strategy, blend: &Blend) -> Result<Option<Self>, NoDirection> {
        if samples.is_empty() {
            return Ok(None);
        }
        let sum = |negative: bool| samples.iter().filter(|s| s.negative == negative).map(|s| s.weight).sum::<f32>();
        let (good, bad) = (sum(false), sum(true));
        let rule = match strategy {
            Strategy::BestScore => best(samples, blend),
            Strategy::AverageVector => average(samples, good, bad, blend)?,
        };
        Ok(Some(Self { weight: if good > 0.0 { good } else { bad }, rule }))
    }

    /// What to search an index with. No picture's likeness is greater than the greatest of its cosines with these, each
    /// times the factor beside it, or than 0 where there are bad examples to be nearer to.
    pub(super) fn queries(&self) -> Vec<(&Embedding, f32)> {
        match &self.rule {
            Rule::Best { good, .. } => good.iter().map(|ray| (&ray.vector, ray.scale * ray.factor)).collect(),
            Rule::Average { direction, scale, .. } => vec![(direction, *scale)],
        }
    }

    /// Whether pictures are looked for, and not only to be kept away from.
    pub(super) fn seeks(&self) -> bool {
        match &self.rule {
            Rule::Best { good, .. } => !good.is_empty(),
            Rule::Average { .. } => true,
        }
    }

    /// Whether a picture may be more like a bad example than like any good one.
    pub(super) fn has_bad(&self) -> bool {
        matches!(&self.rule, Rule::Best { bad, .. } if !bad.is_empty())
    }

    /// The least cosine that a picture can have with one of the [`queries`](Self::queries) if its likeness is at least
    /// `least`; `None` if that cannot be told.
    pub(super) fn least_cosine(&self, least: f32) -> Option<f32> {
        match &self.rule {
            // Factors are at most 1, so that a likeness above 0 needs a similarity that is at least as great.
            Rule::Best { good, .. } => {
                let most = good.iter().map(|ray| ray.scale).fold(1.0, f32::max);
                (least > 0.0).then_some(least / most)
            }
            Rule::Average { scale, .. } => Some(least / scale),
        }
    }

    /// How alike the picture is: −1 to 1.
    pub(super) fn likeness(&self, image: &Embedding) -> f32 {
        match &self.rule {
            Rule::Average { direction, scale, .. } => (direction.cosine(image) * scale).clamp(-1.0, 1.0),
            Rule::Best { .. } => self.shares(image).iter().map(|share| share.contribution).sum(),
        }
    }

    /// What sums to the [`likeness`](Self::likeness).
    pub(super) fn shares(&self, image: &Embedding) -> Vec<Share> {
        match &self.rule {
            Rule::Average { means, scale, .. } => means
                .iter()
                .map(|ray| {
                    let cosine = dot(ray.vector.as_slice(), image.as_slice());
                    let (similarity, contribution) = (ray.scale * cosine, ray.factor * cosine * scale);
                    Share { example: ray.example, similarity, contribution }
                })
                .collect(),
            Rule::Best { good, bad } => {
                let (good, bad) = (nearest(good, image), nearest(bad, image));
                let share = match (good, bad) {
                    // More like a bad example than like any good one: below all that are not.
                    (Some((good, _)), Some((bad, own))) if bad >= good => Some((own, -(bad * bad))),
                    (Some((good, own)), _) => Some((own, good)),
                    // Where only words are looked for, being unlike is no merit.
                    (None, Some((bad, own))) => Some((own, -(bad.max(0.0) * bad))),
                    (None, None) => None,
                };
                let share =
                    share.map(|((example, similarity), contribution)| Share { example, similarity, contribution });
                share.into_iter().collect()
            }
        }
    }
}

fn best(samples: &[Sample], blend: &Blend) -> Rule {
    let heaviest = samples.iter().map(|s| s.weight).fold(f32::MIN_POSITIVE, f32::max);
    let rays = |negative: bool| {
        let of = |s: &Sample| {
            let (example, factor) = (s.example, s.weight / heaviest);
            let ray = move |vector: Embedding| Ray { example, scale: 1.0 / blend.reach(&vector), vector, factor };
            s.vectors.clone().into_iter().map(ray)
        };
        samples.iter().filter(|s| s.negative == negative).flat_map(of).collect()
    };
    Rule::Best { good: rays(false), bad: rays(true) }
}

/// Twice the good examples' mean less the bad ones': from the bad mean over the good one as far again.
fn average(samples: &[Sample], good: f32, bad: f32, blend: &Blend) -> Result<Rule, NoDirection> {
    let dims = samples.first().and_then(|s| s.vectors.first()).map_or(0, Embedding::dims);
    let mut sum = vec![0.0_f32; dims];
    let mut means = Vec::with_capacity(samples.len());
    for sample in samples {
        let factor = match (sample.negative, good > 0.0, bad > 0.0) {
            (false, _, true) => 2.0 * sample.weight / good,
            (false, _, false) => sample.weight / good,
            (true, ..) => -sample.weight / bad,
        };
        let vector = mean(&sample.vectors, dims).ok_or(NoDirection)?;
        sum.iter_mut().zip(vector.as_slice()).for_each(|(sum, own)| *sum += factor * own);
        means.push(Ray { example: sample.example, scale: 1.0 / blend.reach(&vector), vector, factor });
    }
    let length = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
    // Rounding leaves some length where there is none.
    if length < 1e-4 {
        return Err(NoDirection);
    }
    means.iter_mut().for_each(|ray| ray.factor /= length);
    let direction = Embedding::unit(sum).map_err(|_| NoDirection)?;
    Ok(Rule::Average { scale: 1.0 / blend.reach(&direction), direction, means })
}

/// The direction of the vectors' mean; the first one's if they cancel out.
fn mean(vectors: &[Embedding], dims: usize) -> Option<Embedding> {
    let mut sum = vec![0.0_f32; dims];
    for vector in vectors {
        sum.iter_mut().zip(vector.as_slice()).for_each(|(sum, own)| *sum += own);
    }
    Embedding::unit(sum).ok().or_else(|| vectors.first().cloned())
}

/// The greatest weighted cosine, and whose it is with the cosine itself.
fn nearest(rays: &[Ray], image: &Embedding) -> Option<(f32, (usize, f32))> {
    let weighed = rays.iter().map(|ray| {
        let similarity = (ray.vector.cosine(image) * ray.scale).clamp(-1.0, 1.0);
        (ray.factor * similarity, (ray.example, similarity))
    });
    weighed.max_by(|a, b| a.0.total_cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;
    use crate::domain::{Fit, InputSize};
    use crate::inference::{Metric, ModelSpec};

    fn unit(values: &[f32]) -> Embedding {
        Embedding::unit(values.to_vec()).unwrap()
    }

    fn sample(example: usize, weight: f32, negative: bool, vectors: &[&[f32]]) -> Sample {
        Sample { example, weight, negative, vectors: vectors.iter().map(|v| unit(v)).collect() }
    }

    /// Two models whose parts make up `dims` dimensions, or one.
    fn blend(dims: usize, models: usize) -> Blend {
        let input = InputSize { width: 8, height: 8, fit: Fit::Stretch };
        let spec = |name: &str, dims| ModelSpec { model_id: name.to_owned(), input, dims, metric: Metric::Cosine };
        match models {
            1 => Blend::new(&[(&spec("a", dims), 1.0)]).unwrap(),
            _ => Blend::new(&[(&spec("a", 1), 0.3), (&spec("b", dims - 1), 0.7)]).unwrap(),
        }
    }

    fn looks(samples: &[Sample], strategy: Strategy) -> Looks {
        Looks::new(samples, strategy, &blend(samples[0].vectors[0].dims(), 1)).unwrap().unwrap()
    }

    #[test]
    fn one_example_is_its_cosine_in_either_way() {
        let one = [sample(0, 3.0, false, &[&[3.0, 4.0]])];
        for strategy in [Strategy::BestScore, Strategy::AverageVector] {
            let looks = looks(&one, strategy);
            assert!((looks.likeness(&unit(&[1.0, 0.0])) - 0.6).abs() < 1e-6);
            assert!((looks.likeness(&unit(&[0.0, -1.0])) + 0.8).abs() < 1e-6);
        }
        assert!(Looks::new(&[], Strategy::BestScore, &blend(2, 1)).unwrap().is_none());
    }

    #[test]
    fn the_best_good_example_counts_unless_a_bad_one_is_nearer() {
        let samples = [
            sample(0, 1.0, false, &[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0]]),
            sample(1, 0.5, false, &[&[0.0, 0.0, 1.0]]),
            sample(2, 1.0, true, &[&[1.0, 1.0, 0.0]]),
        ];
        let looks = looks(&samples, Strategy::BestScore);
        let share = |image: &[f32]| looks.shares(&unit(image))[0];
        assert_eq!(share(&[0.0, 1.0, 0.0]), Share { example: 0, similarity: 1.0, contribution: 1.0 });
        assert_eq!(share(&[0.0, 0.0, 1.0]), Share { example: 1, similarity: 1.0, contribution: 0.5 });
        let bad = share(&[1.0, 1.0, 0.0]);
        assert!(bad.example == 2 && (bad.contribution + 1.0).abs() < 1e-5, "{bad:?}");
    }

    #[test]
    fn the_average_leads_away_from_the_bad() {
        let (good, bad) = (sample(0, 1.0, false, &[&[1.0, 1.0]]), sample(1, 1.0, true, &[&[0.0, 1.0]]));
        let with = looks(&[good.clone(), bad.clone()], Strategy::AverageVector);
        let without = looks(&[good], Strategy::AverageVector);
        let (like_good, like_bad) = (unit(&[1.0, 0.2]), unit(&[0.1, 1.0]));
        assert!(with.likeness(&like_good) > without.likeness(&like_good));
        assert!(with.likeness(&like_bad) < without.likeness(&like_bad));
        let only_bad = looks(&[bad], Strategy::AverageVector);
        assert!((only_bad.likeness(&unit(&[0.0, -1.0])) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn an_item_with_many_pictures_counts_as_much_as_one_with_one() {
        let many = sample(0, 1.0, false, &[[1.0_f32, 0.0].as_slice(); 9]);
        let one = sample(1, 1.0, false, &[&[0.0, 1.0]]);
        let looks = looks(&[many, one], Strategy::AverageVector);
        let (a, b) = (looks.likeness(&unit(&[1.0, 0.0])), looks.likeness(&unit(&[0.0, 1.0])));
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }

    #[test]
    fn examples_that_cancel_out_are_refused() {
        let opposite = [sample(0, 1.0, false, &[&[1.0, 0.0]]), sample(1, 1.0, false, &[&[-1.0, 0.0]])];
        assert_eq!(Looks::new(&opposite, Strategy::AverageVector, &blend(2, 1)).unwrap_err(), NoDirection);
    }

    #[test]
    fn what_is_only_to_be_kept_away_from_takes_away_and_never_adds() {
        let looks = looks(&[sample(0, 1.0, true, &[&[1.0, 0.0]])], Strategy::BestScore);
        assert!(!looks.seeks() && looks.queries().is_empty());
        assert!((looks.likeness(&unit(&[0.6, 0.8])) + 0.36).abs() < 1e-6);
        assert_eq!(looks.likeness(&unit(&[-1.0, 0.0])), 0.0);
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_likeness_and_queries_bound_it(
            vectors in prop::collection::vec((prop::array::uniform4(-1.0_f32..1.0), 0.1_f32..3.0, any::<bool>()), 1..6),
            image in prop::array::uniform4(-1.0_f32..1.0),
            average in any::<bool>(),
            models in 1_usize..3,
        ) {
            // Pictures' parts are as long as the models' weights say.
            let unit = |part: &[f32]| Embedding::unit(part.to_vec()).ok();
            let image = match models {
                1 => unit(&image),
                _ => unit(&image[..1]).zip(unit(&image[1..])).and_then(|(a, b)| blend(4, 2).fuse(&[a, b])),
            };
            let Some(image) = image else { return Ok(()) };
            let samples: Vec<Sample> = vectors.iter().enumerate().filter_map(|(example, (values, weight, negative))| {
                let vectors = vec![Embedding::unit(values.to_vec()).ok()?];
                Some(Sample { example, weight: *weight, negative: *negative, vectors })
            }).collect();
            let strategy = if average { Strategy::AverageVector } else { Strategy::BestScore };
            let Ok(Some(looks)) = Looks::new(&samples, strategy, &blend(4, models)) else { return Ok(()) };
            let likeness = looks.likeness(&image);
            prop_assert!((-1.0001..1.0001).contains(&likeness));
            let sum: f32 = looks.shares(&image).iter().map(|share| share.contribution).sum();
            // Where good and bad nearly cancel out, what is left is known less well.
            prop_assert!((sum - likeness).abs() < 2e-3, "{} {}", sum, likeness);
            let bound = looks.queries().iter().map(|(query, factor)| factor * query.cosine(&image)).fold(-1.0, f32::max);
            let bound = if looks.has_bad() { bound.max(0.0) } else { bound };
            prop_assert!(likeness <= bound + 1e-5, "{} {}", likeness, bound);
            if !looks.seeks() { return Ok(()) }
            if let Some(least) = looks.least_cosine(likeness) {
                let cosines = looks.queries().into_iter().map(|(query, _)| query.cosine(&image));
                prop_assert!(cosines.fold(-1.0, f32::max) >= least - 1e-5);
            }
        }
    }
}
