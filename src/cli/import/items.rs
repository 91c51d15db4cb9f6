//! What does an item get that its row does not hold? Its pictures, from files named after it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::cli::CliError;

/// As base64 it must fit into a row of the API, which has at most 32 MiB.
const MAX_PICTURE_BYTES: u64 = 20_000_000;
const PLACEHOLDER: &str = "{item_id}";

/// Where pictures are.
#[derive(Debug)]
pub(super) struct Pictures {
    dir: PathBuf,
    patterns: Vec<String>,
}

impl Pictures {
    /// Pictures in `dir`, whose names are `patterns` with the item's id in place of `{item_id}`.
    pub(super) fn new(dir: PathBuf, patterns: Vec<String>) -> Result<Self, CliError> {
        if let Some(pattern) = patterns.iter().find(|pattern| !pattern.contains(PLACEHOLDER)) {
            return Err(CliError::Failed(format!("the image name `{pattern}` lacks {PLACEHOLDER}")));
        }
        if dir.is_dir() {
            Ok(Self { dir, patterns })
        } else {
            Err(CliError::Failed(format!("{} is no folder", dir.display())))
        }
    }

    /// The pictures of an item that are there, in the order of the patterns.
    fn of(&self, item_id: &str) -> Result<Vec<Vec<u8>>, String> {
        // An id must not lead out of the folder.
        if item_id.contains(['/', '\\', '\0']) || item_id == "." || item_id == ".." {
            return Ok(Vec::new());
        }
        let mut pictures = Vec::new();
        for pattern in &self.patterns {
            let file = self.dir.join(pattern.replace(PLACEHOLDER, item_id));
            match read(&file) {
                Ok(bytes) => pictures.push(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("the picture {}: {error}", file.display())),
            }
        }
        Ok(pictures)
    }
}

/// Completes rows.
#[derive(Debug)]
pub(super) struct ItemMaker {
    pictures: Option<Pictures>,
}

impl ItemMaker {
    /// Without `pictures`, items keep those that they have.
    pub(super) fn new(pictures: Option<Pictures>) -> Self {
        Self { pictures }
    }

    /// The item as the API reads it, and how many pictures it has.
    pub(super) fn complete(&self, mut fields: Map<String, Value>) -> Result<(Map<String, Value>, u64), String> {
        let own = fields.get("images_base64").or_else(|| fields.get("images"));
        if let Some(own) = own.filter(|own| !own.is_null()) {
            let count = own.as_array().map_or(0, Vec::len) as u64;
            return Ok((fields, count));
        }
        let Some(Value::String(item_id)) = fields.get("item_id") else { return Err("item_id: is missing".into()) };
        let found = self.pictures.as_ref().map(|pictures| pictures.of(item_id)).transpose()?.unwrap_or_default();
        let count = found.len() as u64;
        if count > 0 {
            let texts = found.iter().map(|bytes| Value::from(STANDARD.encode(bytes)));
            fields.insert("images_base64".into(), texts.collect());
        }
        Ok((fields, count))
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PICTURE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("has more than {MAX_PICTURE_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complete(maker: &ItemMaker, value: Value) -> Result<(Map<String, Value>, u64), String> {
        let Value::Object(fields) = value else { panic!("an object") };
        maker.complete(fields)
    }

    #[test]
    fn pictures_are_found_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        for (name, bytes) in [("in/1.jpg", "poster"), ("in/1-b.jpg", "scene"), ("2.jpg", "secret")] {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let patterns = vec!["{item_id}.jpg".to_owned(), "{item_id}-a.jpg".to_owned(), "{item_id}-b.jpg".to_owned()];
        let maker = ItemMaker::new(Some(Pictures::new(dir.path().join("in"), patterns).unwrap()));
        let (fields, count) = complete(&maker, json!({"item_id": "1"})).unwrap();
        assert_eq!((fields["images_base64"].clone(), count), (json!(["cG9zdGVy", "c2NlbmU="]), 2));
        for id in ["3", "../2", ".."] {
            let (fields, count) = complete(&maker, json!({"item_id": id})).unwrap();
            assert_eq!((fields.contains_key("images_base64"), count), (false, 0), "{id}");
        }
        let own = json!({"item_id": "1", "images": ["eA=="]});
        assert_eq!(complete(&maker, own.clone()).unwrap(), (own.as_object().unwrap().clone(), 1));
        assert!(complete(&maker, json!({"title": "x"})).is_err());
    }

    #[test]
    fn patterns_and_folders_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Pictures::new(dir.path().to_owned(), vec!["poster.jpg".into()]).is_err());
        assert!(Pictures::new(dir.path().join("no"), vec!["{item_id}.jpg".into()]).is_err());
    }
}
