//! Where does an image stand among all others? A vector of unit length.

use std::sync::Arc;

use super::dot;

/// A vector of unit L2 norm; the dot product of two of them is their cosine similarity. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

/// Why numbers are not an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingError {
    /// There are no numbers.
    #[error("an embedding needs at least one dimension")]
    Empty,
    /// A number is infinite or not a number.
    #[error("an embedding must consist of finite numbers")]
    NotFinite,
    /// The vector has (almost) no length, so it points nowhere.
    #[error("an embedding must not be the zero vector")]
    Zero,
}

impl Embedding {
    /// Scales `values` to unit length.
    pub fn unit(mut values: Vec<f32>) -> Result<Self, EmbeddingError> {
        if values.is_empty() {
            return Err(EmbeddingError::Empty);
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(EmbeddingError::NotFinite);
        }
        // In f64, so that large components cannot overflow the sum.
        let norm = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm < 1e-12 {
            return Err(EmbeddingError::Zero);
        }
        for v in &mut values {
            *v = (f64::from(*v) / norm) as f32;
        }
        Ok(Self(values.into()))
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The number of dimensions.
    pub fn dims(&self) -> usize {
        self.0.len()
    }

    /// Cosine similarity in [−1, 1]. Both must have the same number of dimensions.
    pub fn cosine(&self, other: &Self) -> f32 {
        dot(&self.0, &other.0).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_have_unit_length() {
        let e = Embedding::unit(vec![3.0, 0.0, 4.0]).unwrap();
        assert_eq!(e.as_slice(), [0.6, 0.0, 0.8]);
        assert!((e.cosine(&e) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_points_nowhere_is_refused() {
        assert_eq!(Embedding::unit(vec![]), Err(EmbeddingError::Empty));
        assert_eq!(Embedding::unit(vec![0.0; 4]), Err(EmbeddingError::Zero));
        assert_eq!(Embedding::unit(vec![1.0, f32::NAN]), Err(EmbeddingError::NotFinite));
        assert!(Embedding::unit(vec![f32::MAX; 4]).is_ok());
    }

    #[test]
    fn dot_handles_every_length() {
        for n in 0..40 {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected: f32 = a.iter().map(|v| v * v).sum();
            assert_eq!(dot(&a, &a), expected);
        }
    }
}
