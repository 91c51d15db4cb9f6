//! Scan or graph? The rules that decide it, without the data.

use std::fmt;
use std::str::FromStr;

/// How neighbours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexKind {
    /// Every search scans all vectors: exact in effect, no graph to build.
    Flat,
    /// There is a graph from the first vectors on; only heavily filtered searches scan.
    Hnsw,
    /// A scan while there are few vectors, a graph once it is faster.
    #[default]
    Auto,
}

/// A word that is not the name of an [`IndexKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a kind of index: use flat, hnsw or auto")]
pub struct UnknownIndexKind(pub String);

impl FromStr for IndexKind {
    type Err = UnknownIndexKind;

    fn from_str(name: &str) -> Result<Self, UnknownIndexKind> {
        match name {
            "flat" => Ok(Self::Flat),
            "hnsw" => Ok(Self::Hnsw),
            "auto" => Ok(Self::Auto),
            other => Err(UnknownIndexKind(other.into())),
        }
    }
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
            Self::Auto => "auto",
        })
    }
}
