//! By what do embeddings compare, if not by their angle? Inner products and distances, turned into angles.
//!
//! Everything past the models compares unit vectors by their cosine. For a model whose outputs' lengths count, a picture is *lifted*
//! into one or two dimensions more, where it has unit length again, and whoever looks for pictures like it asks with another vector
//! ([`Metric::ask`]). The cosine of the two puts pictures into exactly the order that the metric would (Bachrach et al., `RecSys` 2014, for
//! inner products; distances are inner products on a paraboloid). With outputs *x* and *q* in units of the greatest length:
//!
//! | | a picture | a question | their product |
//! |---|---|---|---|
//! | dot | (*x*, √(1 − ‖*x*‖²)) | (*q*, 0) / ‖*q*‖ | *q*·*x* / ‖*q*‖ |
//! | l2 | (*x*, ‖*x*‖²/2, √(5/4 − ‖*x*‖² − ‖*x*‖⁴/4)) / √5⁄4 | (*q*, −1, 0) / √(‖*q*‖² + 1) | falls as ‖*q* − *x*‖ grows |

use crate::domain::{Embedding, EmbeddingError};

/// What `(x, ‖x‖²/2)` is at most in length, squared, where `x` is at most 1.
const PARABOLOID: f64 = 1.25;

/// How a model's outputs are compared.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Metric {
    /// By their angle; lengths do not count.
    #[default]
    Cosine,
    /// By their inner product.
    Dot {
        /// The greatest length of an output; longer ones are shortened to it.
        max_norm: f32,
    },
    /// By their Euclidean distance.
    L2 {
        /// As for the inner product.
        max_norm: f32,
    },
}

impl Metric {
    /// How many dimensions an embedding has beyond the model's.
    pub fn added_dims(self) -> usize {
        match self {
            Self::Cosine => 0,
            Self::Dot { .. } => 1,
            Self::L2 { .. } => 2,
        }
    }

    /// The embedding of a picture for which a model answered `output`.
    pub fn lift(self, output: &[f32]) -> Result<Embedding, EmbeddingError> {
        let max_norm = match self {
            Self::Cosine => return Embedding::unit(output.to_vec()),
            Self::Dot { max_norm } | Self::L2 { max_norm } => f64::from(max_norm),
        };
        if output.is_empty() {
            return Err(EmbeddingError::Empty);
        }
        let length = output.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let unit = length.max(max_norm);
        let mut values: Vec<f32> = output.iter().map(|&v| (f64::from(v) / unit) as f32).collect();
        let square = (length / unit).powi(2);
        match self {
            Self::Cosine => {}
            Self::Dot { .. } => values.push((1.0 - square).max(0.0).sqrt() as f32),
            Self::L2 { .. } => {
                let height = square / 2.0;
                values.push(height as f32);
                values.push((PARABOLOID - square - height * height).max(0.0).sqrt() as f32);
            }
        }
        Embedding::unit(values)
    }

    /// Turns `part`, an embedding of any length, into what to ask with for pictures like it, of the same length; `false` if it
    /// points nowhere.
    pub fn ask(self, part: &mut [f32]) -> bool {
        let norm = |part: &[f32]| part.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let length = norm(part);
        match (self, &mut *part) {
            (Self::Cosine, _) => return true,
            (Self::Dot { .. }, [.., slack]) => *slack = 0.0,
            (Self::L2 { .. }, [.., height, slack]) => {
                *height = -(length / PARABOLOID.sqrt()) as f32;
                *slack = 0.0;
            }
            _ => return false,
        }
        let asked = norm(part);
        if asked <= 1e-6 * length || length <= 0.0 {
            return false;
        }
        let scale = (length / asked) as f32;
        part.iter_mut().for_each(|value| *value *= scale);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assume, proptest};

    use super::*;

    const DOT: Metric = Metric::Dot { max_norm: 8.0 };
    const L2: Metric = Metric::L2 { max_norm: 8.0 };

    fn asked(metric: Metric, output: &[f32]) -> Option<Vec<f32>> {
        let mut question = metric.lift(output).unwrap().as_slice().to_vec();
        metric.ask(&mut question).then_some(question)
    }

    fn product(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    proptest! {
        #[test]
        fn pictures_come_in_the_order_of_the_metric(
            q in prop::collection::vec(-2.0_f32..2.0, 5),
            a in prop::collection::vec(-2.0_f32..2.0, 5),
            b in prop::collection::vec(-2.0_f32..2.0, 5),
        ) {
            prop_assume!(product(&q, &q) > 1e-3);
            let (dot, l2) = (asked(DOT, &q).unwrap(), asked(L2, &q).unwrap());
            let score = |metric: Metric, question: &[f32], x: &[f32]| product(question, metric.lift(x).unwrap().as_slice());
            let by_dot = |x: &[f32]| product(&q, x) / product(&q, &q).sqrt() / 8.0;
            for x in [&a, &b] {
                prop_assert!((score(DOT, &dot, x) - by_dot(x)).abs() < 1e-5);
            }
            let distance = |x: &[f32]| q.iter().zip(x).map(|(q, x)| f64::from(q - x).powi(2)).sum::<f64>();
            let (nearer, farther) = if distance(&a) < distance(&b) { (&a, &b) } else { (&b, &a) };
            if distance(farther) - distance(nearer) > 1e-3 {
                prop_assert!(score(L2, &l2, nearer) > score(L2, &l2, farther));
            }
        }
    }

    #[test]
    fn lengths_count_where_the_metric_says_so() {
        let (short, long) = ([1.0, 0.0], [3.0, 1.0]);
        let best = |metric: Metric, query: &[f32]| {
            let question = asked(metric, query).unwrap();
            let [short, long] = [short, long].map(|x| product(&question, metric.lift(&x).unwrap().as_slice()));
            if short > long { "short" } else { "long" }
        };
        assert_eq!(best(Metric::Cosine, &[1.0, 0.0]), "short");
        assert_eq!(best(DOT, &[1.0, 0.0]), "long");
        assert_eq!(best(L2, &[1.0, 0.0]), "short");
        assert_eq!(best(L2, &[3.0, 0.0]), "long");
    }

    #[test]
    fn whatever_a_model_answers_has_an_embedding_or_a_reason() {
        for metric in [DOT, L2] {
            assert_eq!(metric.lift(&[]), Err(EmbeddingError::Empty));
            assert_eq!(metric.lift(&[1.0, f32::NAN]), Err(EmbeddingError::NotFinite));
            assert_eq!(metric.lift(&[f32::INFINITY, 0.0]), Err(EmbeddingError::NotFinite));
            let longest = metric.lift(&[8.0, 0.0]).unwrap();
            assert!(longest.cosine(&metric.lift(&[800.0, 0.0]).unwrap()) > 0.999_99, "longer ones are shortened");
            assert_eq!(longest.dims(), 2 + metric.added_dims());
            assert_eq!(metric.lift(&[0.0, 0.0]).unwrap().dims(), longest.dims());
        }
        assert_eq!(Metric::Cosine.lift(&[0.0, 0.0]), Err(EmbeddingError::Zero));
        assert_eq!(asked(DOT, &[0.0, 0.0]), None, "every product with nothing is the same");
        assert!(asked(L2, &[0.0, 0.0]).is_some(), "but some pictures are nearer to it than others");
        assert!(!L2.ask(&mut [1.0]) && !DOT.ask(&mut []) && !DOT.ask(&mut [0.0, 0.0]));
    }
}
