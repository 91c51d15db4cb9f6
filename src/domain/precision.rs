//! How exactly are vectors kept in memory?

use std::fmt;
use std::str::FromStr;

/// How exactly an index keeps its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 8 bits a number: the least memory, and of the ten nearest among many alike one or two are missed.
    Int8,
    /// 16 bits a number: what is found by the first eight is ranked by all.
    #[default]
    Int16,
}

/// A word that is not the name of a [`Precision`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a precision of an index: use int8 or int16")]
pub struct UnknownPrecision(pub String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        match name {
            "int8" => Ok(Self::Int8),
            "int16" => Ok(Self::Int16),
            other => Err(UnknownPrecision(other.into())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for precision in [Precision::Int8, Precision::Int16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert!("f16".parse::<Precision>().is_err());
    }
}
