//! What becomes of an embedding before anybody compares it? A linear map that was learned from what people turn to together.
//!
//! The file is numpy's (`.npy`, version 1, little-endian `f4`, rows one after another): a row for each number of the result, with a weight
//! for each number of the model's output and, last, what is added.

use crate::domain::{Embedding, EmbeddingError, dot};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// A linear map of embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearMap {
    rows: usize,
    /// Weights of a row and what is added, row after row.
    numbers: Vec<f32>,
}

impl LinearMap {
    /// A map of these rows, each with its weights and what is added; `None` unless they are of one length and of finite numbers.
    pub fn new(rows: &[Vec<f32>]) -> Option<Self> {
        let width = rows.first().map_or(0, Vec::len);
        let good =
            width >= 2 && rows.iter().all(|row| row.len() == width && row.iter().all(|number| number.is_finite()));
        good.then(|| Self { rows: rows.len(), numbers: rows.concat() })
    }

    /// Reads a file of numpy; `None` if it is none, or of other numbers.
    pub fn read(file: &[u8]) -> Option<Self> {
        let rest = file.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (header, data) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let header: String = std::str::from_utf8(header).ok()?.chars().filter(|c| !c.is_whitespace()).collect();
        if !header.contains("'descr':'<f4'") || !header.contains("'fortran_order':False") {
            return None;
        }
        let (rows, width) = header.split_once("'shape':(")?.1.split_once(')')?.0.split_once(',')?;
        let (rows, width): (usize, usize) = (rows.parse().ok()?, width.parse().ok()?);
        let (numbers, left) = data.as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let good = rows > 0 && width >= 2 && left.is_empty() && rows.checked_mul(width) == Some(numbers.len());
        (good && numbers.iter().all(|number| number.is_finite())).then_some(Self { rows, numbers })
    }

    /// The map as a file of numpy.
    pub fn to_npy(&self) -> Vec<u8> {
        let shape = (self.rows, self.numbers.len() / self.rows);
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", shape.0, shape.1);
        // Data begin at a multiple of 64 bytes; the header ends with a line feed.
        while !(MAGIC.len() + 2 + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut file = MAGIC.to_vec();
        file.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(self.numbers.iter().flat_map(|number| number.to_le_bytes()));
        file
    }

    /// Numbers of what goes in.
    pub fn from_dims(&self) -> usize {
        self.numbers.len() / self.rows - 1
    }

    /// Numbers of what comes out.
    pub fn dims(&self) -> usize {
        self.rows
    }

    /// The embedding's image, of unit length.
    pub fn apply(&self, embedding: &Embedding) -> Result<Embedding, EmbeddingError> {
        let look = embedding.as_slice();
        let row =
            |row: &[f32]| dot(row.get(..look.len()).unwrap_or_default(), look) + row.last().copied().unwrap_or(0.0);
        Embedding::unit(self.numbers.chunks_exact(self.from_dims() + 1).map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_turns_and_shifts() {
        let map = LinearMap::new(&[vec![0.0, 2.0, 0.0], vec![-1.0, 0.0, 0.5]]).unwrap();
        let image = map.apply(&Embedding::unit(vec![0.6, 0.8]).unwrap()).unwrap();
        let norm = (1.6_f32 * 1.6 + 0.01).sqrt();
        assert!((image.as_slice()[0] - 1.6 / norm).abs() < 1e-6 && (image.as_slice()[1] + 0.1 / norm).abs() < 1e-6);
        assert_eq!((map.from_dims(), map.dims()), (2, 2));
        // What is mapped to nothing has no direction.
        let nothing = LinearMap::new(&[vec![0.0, 0.0, 0.0]]).unwrap();
        assert!(nothing.apply(&Embedding::unit(vec![1.0, 0.0]).unwrap()).is_err());
    }

    #[test]
    fn files_come_back_and_others_are_refused() {
        let map = LinearMap::new(&[vec![0.25, -2.0, 1.5], vec![3.0, 0.0, -1e-3]]).unwrap();
        let file = map.to_npy();
        assert_eq!((file.len() - 24) % 64, 0);
        assert_eq!(LinearMap::read(&file), Some(map));
        let text = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let at = file.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            [&file[..at], to.as_bytes(), &file[at + from.len()..]].concat()
        };
        for bad in [
            text("'<f4'", "'<f8'"),
            text("False", "True "),
            text("(2, 3)", "(3, 2) "[..6].as_ref()).into_iter().chain([0]).collect(),
            text("(2, 3)", "(2, 4)"),
            text("(2, 3)", "(0, 3)"),
            text("(2, 3)", "(6, 1)"),
            file[..file.len() - 1].to_vec(),
            file[..20].to_vec(),
            b"garbage".to_vec(),
        ] {
            assert_eq!(LinearMap::read(&bad), None);
        }
        assert_eq!(LinearMap::new(&[vec![1.0, f32::NAN]]), None);
        assert_eq!(LinearMap::new(&[vec![1.0, 2.0], vec![1.0]]), None);
    }
}
