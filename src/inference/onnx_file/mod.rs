//! What does an ONNX file say of itself, before anything runs it? Operator sets, inputs, outputs, and files of weights beside it.
//!
//! An ONNX file is a protobuf message. Of it are read the few fields that are needed; all else, the weights above all, is passed
//! over without a copy. [ONNX Runtime](super::OnnxBackend) reads the whole again, and has the last word.

mod wire;

use std::path::{Component, PathBuf};

use self::wire::{Fields, Value, WireError};

/// The operator sets of ONNX that are taken. ONNX Runtime promises those from 7 on; the newest is what the version that
/// `upnext runtime install` fetches knows as released.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;

/// Operators that ONNX Runtime has beside those of ONNX.
const KNOWN_DOMAINS: [&str; 7] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
];

/// Subgraphs within subgraphs; real models have one or two levels.
const MAX_DEPTH: usize = 16;

/// What is read of an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnnxFile {
    /// The version of the operators of ONNX itself.
    pub opset: i64,
    /// What made the file, such as `pytorch 2.9`; empty if it does not say.
    pub producer: String,
    /// What the graph takes, weights left out.
    pub inputs: Vec<TensorInfo>,
    /// What the graph gives.
    pub outputs: Vec<TensorInfo>,
    /// The files of weights beside it, each once, as it names them.
    pub external: Vec<PathBuf>,
}

/// An input or an output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The number that ONNX has for the type of its elements: 1 is `f32`, 2 is `u8`.
    pub element_type: i64,
    /// Its sides; `None` for those that are open. Empty as well if nothing is said of it.
    pub shape: Vec<Option<i64>>,
}

/// Why a file is not one that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxFileError {
    /// The bytes are something else, or damaged.
    #[error("is no ONNX file, or a damaged one")]
    Malformed,
    /// Too old, or newer than ONNX Runtime knows.
    #[error(
        "uses operator set {0}; those from {oldest} to {newest} can be run. Export it again with another one (17 is a good choice)",
        oldest = OPSETS.start(), newest = OPSETS.end()
    )]
    Opset(i64),
    /// Operators that are in a library of their own.
    #[error("needs operators of `{0}`, which ONNX Runtime does not have")]
    CustomOperators(String),
    /// Weights that lie somewhere else.
    #[error("keeps weights in {}, which is not a file of its folder", .0.display())]
    Escape(PathBuf),
}

impl From<WireError> for OnnxFileError {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

impl OnnxFile {
    /// Reads what `bytes`, an ONNX file, say.
    pub fn read(bytes: &[u8]) -> Result<Self, OnnxFileError> {
        let mut file = Self::default();
        let (mut has_graph, mut opset, mut producer) = (false, None, (String::new(), String::new()));
        let mut found = Found::default();
        for field in Fields::of(bytes) {
            match field? {
                (2, Value::Bytes(name)) => producer.0 = text(name)?,
                (3, Value::Bytes(version)) => producer.1 = text(version)?,
                (7, Value::Bytes(graph)) => {
                    has_graph = true;
                    found.graph(graph, 0, Some(&mut file))?;
                }
                (8, Value::Bytes(import)) => {
                    let (domain, version) = operator_set(import)?;
                    if domain.is_empty() || domain == "ai.onnx" {
                        opset = Some(version);
                    }
                }
                // Functions: graphs by another name.
                (25, Value::Bytes(function)) => found.function(function)?,
                _ => {}
            }
        }
        let opset = opset.filter(|_| has_graph).ok_or(OnnxFileError::Malformed)?;
        if !OPSETS.contains(&opset) {
            return Err(OnnxFileError::Opset(opset));
        }
        if let Some(domain) =
            found.domains.into_iter().find(|d| !KNOWN_DOMAINS.contains(&d.as_str()) && !found.own_domains.contains(d))
        {
            return Err(OnnxFileError::CustomOperators(domain));
        }
        file.opset = opset;
        file.producer = format!("{} {}", producer.0, producer.1).trim().to_owned();
        file.external = found.external;
        Ok(file)
    }
}

/// What is collected on the way through graphs and their subgraphs.
#[derive(Default)]
struct Found {
    external: Vec<PathBuf>,
    domains: Vec<String>,
    /// Domains of functions that the file itself defines.
    own_domains: Vec<String>,
}

impl Found {
    fn graph(&mut self, bytes: &[u8], depth: usize, mut file: Option<&mut OnnxFile>) -> Result<(), OnnxFileError> {
        if depth > MAX_DEPTH {
            return Err(OnnxFileError::Malformed);
        }
        let mut weights = Vec::new();
        for field in Fields::of(bytes) {
            match (field?, &mut file) {
                ((1, Value::Bytes(node)), _) => self.node(node, depth)?,
                ((5, Value::Bytes(tensor)), _) => weights.push(self.tensor(tensor)?),
                ((11, Value::Bytes(input)), Some(file)) => file.inputs.push(tensor_info(input)?),
                ((12, Value::Bytes(output)), Some(file)) => file.outputs.push(tensor_info(output)?),
                _ => {}
            }
        }
        if let Some(file) = file {
            // Old exports list weights among the inputs.
            file.inputs.retain(|input| !weights.contains(&input.name));
        }
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), OnnxFileError> {
        for field in Fields::of(bytes) {
            match field? {
                (7, Value::Bytes(node)) => self.node(node, 0)?,
                (10, Value::Bytes(domain)) => self.own_domains.push(text(domain)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<(), OnnxFileError> {
        for field in Fields::of(bytes) {
            match field? {
                (5, Value::Bytes(attribute)) => self.attribute(attribute, depth)?,
                (7, Value::Bytes(domain)) => {
                    let domain = text(domain)?;
                    if !self.domains.contains(&domain) {
                        self.domains.push(domain);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn attribute(&mut self, bytes: &[u8], depth: usize) -> Result<(), OnnxFileError> {
        for field in Fields::of(bytes) {
            match field? {
                (5 | 10, Value::Bytes(tensor)) => drop(self.tensor(tensor)?),
                (6 | 11, Value::Bytes(graph)) => self.graph(graph, depth + 1, None)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The tensor's name; the file that holds it is noted, if it is not in this one.
    fn tensor(&mut self, bytes: &[u8]) -> Result<String, OnnxFileError> {
        let (mut name, mut outside, mut location) = (String::new(), false, None);
        for field in Fields::of(bytes) {
            match field? {
                (8, Value::Bytes(bytes)) => name = text(bytes)?,
                (13, Value::Bytes(entry)) => {
                    if let (key, value) = entry_of_map(entry)?
                        && key == "location"
                    {
                        location = Some(PathBuf::from(value));
                    }
                }
                (14, Value::Number(1)) => outside = true,
                _ => {}
            }
        }
        if outside {
            let path = location.ok_or(OnnxFileError::Malformed)?;
            let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            let path: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
            if !inside || path.as_os_str().is_empty() {
                return Err(OnnxFileError::Escape(path));
            }
            if !self.external.contains(&path) {
                self.external.push(path);
            }
        }
        Ok(name)
    }
}

fn operator_set(bytes: &[u8]) -> Result<(String, i64), OnnxFileError> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Bytes(name)) => domain = text(name)?,
            (2, Value::Number(number)) => version = number as i64,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn entry_of_map(bytes: &[u8]) -> Result<(String, String), OnnxFileError> {
    let (mut key, mut value) = (String::new(), String::new());
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => key = text(bytes)?,
            (2, Value::Bytes(bytes)) => value = text(bytes)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn tensor_info(bytes: &[u8]) -> Result<TensorInfo, OnnxFileError> {
    let mut info = TensorInfo::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Bytes(name)) => info.name = text(name)?,
            (2, Value::Bytes(kind)) => {
                for field in Fields::of(kind) {
                    if let (1, Value::Bytes(tensor)) = field? {
                        tensor_type(tensor, &mut info)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(bytes: &[u8], info: &mut TensorInfo) -> Result<(), OnnxFileError> {
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Number(kind)) => info.element_type = kind as i64,
            (2, Value::Bytes(shape)) => {
                for field in Fields::of(shape) {
                    if let (1, Value::Bytes(side)) = field? {
                        let mut sides = Fields::of(side);
                        let length = sides.find_map(|field| match field {
                            Ok((1, Value::Number(length))) => Some(Ok(length as i64)),
                            Ok(_) => None,
                            Err(error) => Some(Err(error)),
                        });
                        info.shape.push(length.transpose()?.filter(|length| *length > 0));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String, OnnxFileError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| OnnxFileError::Malformed)
}

#[cfg(test)]
mod tests;
