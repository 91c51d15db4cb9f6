//! On what does the model run, and did it work out? CPU, CUDA or TensorRT, and a report for each that was asked for.
//!
//! A provider that cannot be used is reported, never skipped in silence: a service that was given a GPU and runs on
//! the CPU is ten times slower than its owner believes.

use std::fmt;
use std::str::FromStr;

/// One of ONNX Runtime's execution providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The processor; always there.
    Cpu,
    /// NVIDIA's GPUs through CUDA and cuDNN.
    Cuda,
    /// NVIDIA's GPUs through TensorRT, which compiles the model for the device when it is loaded.
    TensorRt,
}

impl Provider {
    /// The name used in settings: `cpu`, `cuda` or `tensorrt`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A provider's name that is none of `cpu`, `cuda` and `tensorrt`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no execution provider; there are cpu, cuda and tensorrt")]
pub struct UnknownProvider(String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Cpu, Self::Cuda, Self::TensorRt]
            .into_iter()
            .find(|provider| provider.name() == name)
            .ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}

/// What became of a provider that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderReport {
    /// The one asked for.
    pub provider: Provider,
    /// Whether the sessions use it.
    pub outcome: ProviderOutcome,
}

/// Whether a provider is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderOutcome {
    /// It was registered and the model was loaded with it.
    Active,
    /// It could not be registered, or the model could not be loaded with it; why.
    Unavailable(String),
}

impl ProviderReport {
    /// Whether the provider is used.
    pub fn is_active(&self) -> bool {
        self.outcome == ProviderOutcome::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for provider in [Provider::Cpu, Provider::Cuda, Provider::TensorRt] {
            assert_eq!(provider.to_string().parse(), Ok(provider));
        }
        assert_eq!("gpu".parse::<Provider>(), Err(UnknownProvider("gpu".to_owned())));
    }
}
