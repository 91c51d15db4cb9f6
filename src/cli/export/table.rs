//! Which columns does a table of an export have, and what stands in a cell? The names and texts that an import reads.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::cli::CliError;
use crate::cli::import::Kind;

/// The last column of each table is one whose texts have neither quotes nor line breaks: whether a file ends with a whole
/// row can then be seen from its last row alone.
const EVENT_COLUMNS: [&str; 12] = [
    "event_id",
    "type",
    "session_id",
    "user_key",
    "item_id",
    "occurred_at",
    "position_s",
    "watched_s",
    "value",
    "recommendation_id",
    "region",
    "sequence",
];
const ITEM_COLUMNS: [&str; 10] = [
    "item_id",
    "title",
    "description",
    "tags",
    "categories",
    "regions",
    "duration_s",
    "age_rating",
    "available_from",
    "available_until",
];
const IMAGES: &str = "exported_images";
const ATTRIBUTES: &str = "attributes.";

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    kind: Kind,
    /// Names of the columns of attributes, with their types.
    attributes: BTreeSet<String>,
}

impl Table {
    /// Without attributes.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, attributes: BTreeSet::new() }
    }

    /// The table that begins with `header`; `None` if no export begins so.
    pub(super) fn of_header(kind: Kind, header: &[&str]) -> Option<Self> {
        let attributes = header.iter().filter(|name| name.starts_with(ATTRIBUTES)).map(|&name| name.to_owned());
        let table = Self { kind, attributes: attributes.collect() };
        (table.columns() == header).then_some(table)
    }

    /// Gives a column to each of an item's attributes.
    pub(super) fn note_attributes(&mut self, line: &[u8]) -> Result<(), CliError> {
        if let Some(Value::Object(attributes)) = parse(line)?.get("attributes") {
            self.attributes.extend(attributes.iter().map(|(name, value)| attribute_column(name, value)));
        }
        Ok(())
    }

    /// The names of the columns.
    pub(super) fn columns(&self) -> Vec<&str> {
        match self.kind {
            Kind::Events => EVENT_COLUMNS.to_vec(),
            Kind::Items => {
                let own = self.attributes.iter().map(String::as_str);
                ITEM_COLUMNS.into_iter().chain(own).chain([IMAGES]).collect()
            }
        }
    }

    /// The cells of a row.
    pub(super) fn cells(&self, line: &[u8], separator: &str) -> Result<Vec<String>, CliError> {
        let row = parse(line)?;
        let no_attributes = Map::new();
        let attributes = row.get("attributes").and_then(Value::as_object).unwrap_or(&no_attributes);
        let named: Vec<(String, &Value)> =
            attributes.iter().map(|(name, value)| (attribute_column(name, value), value)).collect();
        if named.iter().any(|(column, _)| !self.attributes.contains(column)) {
            let reason = "the catalogue has got a new attribute meanwhile; export it again, without --resume";
            return Err(CliError::Failed(reason.into()));
        }
        let cell_of = |column: &str| match column {
            IMAGES => Ok(images(row.get(IMAGES))),
            _ if column.starts_with(ATTRIBUTES) => named
                .iter()
                .find(|(name, _)| name == column)
                .map_or(Ok(String::new()), |(_, value)| cell(value, separator)),
            _ => row.get(column).map_or(Ok(String::new()), |value| cell(value, separator)),
        };
        let fault = |column: &str, reason: String| {
            let whose = row.get("item_id").and_then(Value::as_str).unwrap_or_default();
            CliError::Failed(format!("{column} of {whose}: {reason}"))
        };
        let columns = self.columns();
        columns.into_iter().map(|column| cell_of(column).map_err(|reason| fault(column, reason))).collect()
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, CliError> {
    serde_json::from_slice(line).map_err(|e| CliError::Failed(format!("a row of the export cannot be understood: {e}")))
}

/// The name under which an import finds an attribute and its type.
fn attribute_column(name: &str, value: &Value) -> String {
    match value {
        Value::Bool(_) => format!("{ATTRIBUTES}{name}:flag"),
        Value::Number(_) => format!("{ATTRIBUTES}{name}:number"),
        Value::Array(_) => format!("{ATTRIBUTES}{name}:list"),
        // Else a part of the name would be taken for a type.
        Value::String(_) | Value::Null | Value::Object(_) if name.contains(':') => format!("{ATTRIBUTES}{name}:text"),
        Value::String(_) | Value::Null | Value::Object(_) => format!("{ATTRIBUTES}{name}"),
    }
}

fn cell(value: &Value, separator: &str) -> Result<String, String> {
    Ok(match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(entries) => {
            let entries: Vec<&str> = entries.iter().filter_map(Value::as_str).collect();
            if let Some(entry) = entries.iter().find(|entry| entry.contains(separator)) {
                return Err(format!(
                    "`{entry}` has `{separator}` in it; choose another --list-separator, or --format ndjson"
                ));
            }
            entries.join(separator)
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    })
}

/// Hash and size of each picture, for people; an import has no use for it.
fn images(value: Option<&Value>) -> String {
    let one = |image: &Value| {
        Some(format!("{} {}x{}", image["sha256"].as_str()?, image["width"].as_u64()?, image["height"].as_u64()?))
    };
    let all: Vec<String> = value.and_then(Value::as_array).into_iter().flatten().filter_map(one).collect();
    all.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_becomes_the_cells_that_an_import_reads() {
        let line = br#"{"item_id":"a","title":"T","description":"","tags":["x","y"],"categories":[],"regions":["de"],
            "duration_s":90.5,"attributes":{"a:b":"c","cast":["A","B"],"hd":true,"studio":"North","year":1999.0},
            "exported_images":[{"sha256":"00ff","width":4,"height":3}]}"#;
        let mut table = Table::new(Kind::Items);
        assert!(table.cells(line, "|").is_err(), "attributes without columns");
        table.note_attributes(line).unwrap();
        let cells = table.cells(line, "|").unwrap();
        let filled: Vec<(&str, &str)> = table
            .columns()
            .into_iter()
            .zip(cells.iter().map(String::as_str))
            .filter(|(_, cell)| !cell.is_empty())
            .collect();
        assert_eq!(
            filled,
            [
                ("item_id", "a"),
                ("title", "T"),
                ("tags", "x|y"),
                ("regions", "de"),
                ("duration_s", "90.5"),
                ("attributes.a:b:text", "c"),
                ("attributes.cast:list", "A|B"),
                ("attributes.hd:flag", "true"),
                ("attributes.studio", "North"),
                ("attributes.year:number", "1999.0"),
                ("exported_images", "00ff 4x3"),
            ]
        );
        assert_eq!(Table::of_header(Kind::Items, &table.columns()), Some(table.clone()));
        assert_eq!(Table::of_header(Kind::Events, &table.columns()), None);
        assert!(table.cells(line, "x").unwrap_err().to_string().contains("tags of a: `x`"));
    }

    #[test]
    fn an_event_becomes_cells() {
        let line = br#"{"sequence":7,"event_id":"e","type":"rate","session_id":"s","item_id":"i","value":4.1}"#;
        let cells = Table::new(Kind::Events).cells(line, "|").unwrap();
        assert_eq!(cells, ["e", "rate", "s", "", "i", "", "", "", "4.1", "", "", "7"]);
    }
}
