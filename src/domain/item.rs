//! What is there to recommend? An item of the catalogue and what its owner says about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ItemId, Timestamp};

const MAX_TITLE_BYTES: usize = 1_000;
const MAX_DESCRIPTION_BYTES: usize = 20_000;
const MAX_LABELS: usize = 256;
const MAX_LABEL_BYTES: usize = 256;
const MAX_ATTRIBUTES: usize = 64;

/// A value of an item's own attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// True or false.
    Flag(bool),
    /// A number, for range filters.
    Number(f64),
    /// A word or an id.
    Text(String),
    /// Several words, each of which a filter can match.
    Texts(Vec<String>),
}

/// Something that can be recommended. Its images live with its embeddings, not here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The owner's id.
    pub id: ItemId,
    /// A line to show.
    #[serde(default)]
    pub title: String,
    /// A paragraph to show or search.
    #[serde(default)]
    pub description: String,
    /// Free labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Labels from the owner's own hierarchy, for example genres.
    #[serde(default)]
    pub categories: Vec<String>,
    /// The regions it may be shown in; empty means everywhere.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Playing time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f32>,
    /// The least age in years at which it may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_rating: Option<u8>,
    /// Not to be shown before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_from: Option<Timestamp>,
    /// Not to be shown from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_until: Option<Timestamp>,
    /// Further fields to filter by.
    #[serde(default)]
    pub attributes: BTreeMap<String, Attribute>,
}

/// Which part of an item cannot be accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ItemError {
    /// The field, by its name on the wire.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Item {
    /// An item of which nothing but the id is known.
    pub fn new(id: ItemId) -> Self {
        Self {
            id,
            title: String::new(),
            description: String::new(),
            tags: Vec::new(),
            categories: Vec::new(),
            regions: Vec::new(),
            duration_s: None,
            age_rating: None,
            available_from: None,
            available_until: None,
            attributes: BTreeMap::new(),
        }
    }

    /// Whether it may be shown at `now` to someone in `region` (when it is known).
    pub fn available(&self, now: Timestamp, region: Option<&str>) -> bool {
        self.available_from.is_none_or(|from| now >= from)
            && self.available_until.is_none_or(|until| now < until)
            && (self.regions.is_empty() || region.is_none_or(|r| self.regions.iter().any(|own| own == r)))
    }

    /// Checks the bounds of every field.
    pub fn check(&self) -> Result<(), ItemError> {
        let fail = |field, reason: String| Err(ItemError { field, reason });
        if self.title.len() > MAX_TITLE_BYTES {
            return fail("title", format!("must have at most {MAX_TITLE_BYTES} bytes"));
        }
        if self.description.len() > MAX_DESCRIPTION_BYTES {
            return fail("description", format!("must have at most {MAX_DESCRIPTION_BYTES} bytes"));
        }
        for (field, labels) in [("tags", &self.tags), ("categories", &self.categories), ("regions", &self.regions)] {
            if labels.len() > MAX_LABELS {
                return fail(field, format!("must have at most {MAX_LABELS} entries"));
            }
            if labels.iter().any(|l| l.is_empty() || l.len() > MAX_LABEL_BYTES) {
                return fail(field, format!("entries must have 1 to {MAX_LABEL_BYTES} bytes"));
            }
        }
        if self.duration_s.is_some_and(|d| !d.is_finite() || d < 0.0) {
            return fail("duration_s", "must be a number of at least 0".into());
        }
        if let (Some(from), Some(until)) = (self.available_from, self.available_until)
            && from >= until
        {
            return fail("available_until", "must lie after available_from".into());
        }
        if self.attributes.len() > MAX_ATTRIBUTES {
            return fail("attributes", format!("must have at most {MAX_ATTRIBUTES} entries"));
        }
        for (name, value) in &self.attributes {
            let fits = |text: &String| text.len() <= MAX_LABEL_BYTES;
            let good = !name.is_empty()
                && fits(name)
                && match value {
                    Attribute::Flag(_) => true,
                    Attribute::Number(n) => n.is_finite(),
                    Attribute::Text(text) => fits(text),
                    Attribute::Texts(texts) => texts.len() <= MAX_LABELS && texts.iter().all(fits),
                };
            if !good {
                return fail(
                    "attributes",
                    format!("names and texts have at most {MAX_LABEL_BYTES} bytes, numbers are finite"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item::new(ItemId::new("i").unwrap())
    }

    #[test]
    fn availability_has_a_window_and_regions() {
        let mut it = item();
        assert!(it.available(Timestamp(0), Some("de")));
        it.available_from = Some(Timestamp(10));
        it.available_until = Some(Timestamp(20));
        it.regions = vec!["de".into(), "at".into()];
        assert!(!it.available(Timestamp(9), None));
        assert!(it.available(Timestamp(10), None));
        assert!(it.available(Timestamp(19), Some("at")));
        assert!(!it.available(Timestamp(19), Some("fr")));
        assert!(!it.available(Timestamp(20), Some("de")));
    }

    #[test]
    fn bounds_name_the_field() {
        let mut it = item();
        assert!(it.check().is_ok());
        it.tags = vec![String::new()];
        assert_eq!(it.check().unwrap_err().field, "tags");
        it.tags.clear();
        it.duration_s = Some(f32::NAN);
        assert_eq!(it.check().unwrap_err().field, "duration_s");
    }
}
