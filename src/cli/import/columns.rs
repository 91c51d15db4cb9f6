//! Which column of a table holds which field, and how does its text become the field's value?

use csv::StringRecord;
use serde_json::{Map, Value};

use super::batch::Kind;
use super::instant;

/// What a column's text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Text,
    List,
    Number,
    Whole,
    Flag,
    Instant,
}

const ITEM_FIELDS: [(&str, Cell); 10] = [
    ("item_id", Cell::Text),
    ("title", Cell::Text),
    ("description", Cell::Text),
    ("tags", Cell::List),
    ("categories", Cell::List),
    ("regions", Cell::List),
    ("duration_s", Cell::Number),
    ("age_rating", Cell::Whole),
    ("available_from", Cell::Instant),
    ("available_until", Cell::Instant),
];
const EVENT_FIELDS: [(&str, Cell); 12] = [
    ("event_id", Cell::Text),
    ("session_id", Cell::Text),
    ("user_id", Cell::Text),
    ("user_key", Cell::Text),
    ("item_id", Cell::Text),
    ("type", Cell::Text),
    ("occurred_at", Cell::Instant),
    ("value", Cell::Number),
    ("position_s", Cell::Number),
    ("watched_s", Cell::Number),
    ("recommendation_id", Cell::Text),
    ("region", Cell::Text),
];
const ATTRIBUTES: &str = "attributes";

/// What the operator says about columns.
#[derive(Debug)]
pub(super) struct Columns {
    kind: Kind,
    /// Fields and their columns' names; none: columns that are called like fields.
    named: Vec<(Field, String)>,
    list_separator: String,
}

/// Columns, found in a file's first row.
#[derive(Debug)]
pub(super) struct Bound {
    fields: Vec<(Field, usize)>,
    list_separator: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    /// The field's name, or the attribute's.
    name: String,
    attribute: bool,
    cell: Cell,
}

impl Columns {
    /// Reads entries of the form `field=column`.
    pub(super) fn parse(kind: Kind, entries: &[String], list_separator: &str) -> Result<Self, String> {
        if list_separator.is_empty() {
            return Err("the list separator must not be empty".into());
        }
        let mut named: Vec<(Field, String)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let (field, column) = entry
                .split_once('=')
                .ok_or_else(|| format!("--columns needs entries like item_id=movieId, not `{entry}`"))?;
            let field = Field::parse(kind, field.trim())
                .ok_or_else(|| format!("`{}` is no field; there are: {}", field.trim(), names(kind)))?;
            if named.iter().any(|(other, _)| other.name == field.name && other.attribute == field.attribute) {
                return Err(format!("--columns names `{}` twice", field.name));
            }
            named.push((field, column.trim().to_owned()));
        }
        Ok(Self { kind, named, list_separator: list_separator.to_owned() })
    }

    /// Whether the operator named columns.
    pub(super) fn are_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Finds the columns in a table's header.
    pub(super) fn bind(&self, header: &StringRecord) -> Result<Bound, String> {
        let place = |name: &str| header.iter().position(|column| column == name);
        let there = || format!("the file has the columns: {}", header.iter().collect::<Vec<_>>().join(", "));
        let mut fields = Vec::new();
        if self.named.is_empty() {
            fields
                .extend(header.iter().enumerate().filter_map(|(at, name)| Some((Field::parse(self.kind, name)?, at))));
        }
        for (field, column) in &self.named {
            let at = place(column).ok_or_else(|| format!("there is no column `{column}`; {}", there()))?;
            fields.push((field.clone(), at));
        }
        if !fields.iter().any(|(field, _)| field.name == "item_id" && !field.attribute) {
            return Err(format!("no column is known to hold item_id; say so with --columns item_id=…; {}", there()));
        }
        Ok(Bound { fields, list_separator: self.list_separator.clone() })
    }
}

impl Bound {
    /// A row of the table as the API's fields; empty cells are left out.
    pub(super) fn read(&self, record: &StringRecord) -> Result<Map<String, Value>, String> {
        let (mut fields, mut attributes) = (Map::new(), Map::new());
        for (field, at) in &self.fields {
            let text = record.get(*at).unwrap_or_default();
            if text.is_empty() {
                continue;
            }
            let value = self.value(field.cell, text).map_err(|reason| format!("{}: {reason}", field.name))?;
            let place = if field.attribute { &mut attributes } else { &mut fields };
            place.insert(field.name.clone(), value);
        }
        if !attributes.is_empty() {
            fields.insert(ATTRIBUTES.into(), attributes.into());
        }
        Ok(fields)
    }

    fn value(&self, cell: Cell, text: &str) -> Result<Value, String> {
        Ok(match cell {
            Cell::Text => text.into(),
            Cell::List => {
                let entries = text.split(&self.list_separator).map(str::trim).filter(|entry| !entry.is_empty());
                entries.map(Value::from).collect()
            }
            // `inf` and `NaN` are no JSON.
            Cell::Number => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => number.into(),
                _ => return Err(format!("`{}` is no number", shown(text))),
            },
            Cell::Whole => match text.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => return Err(format!("`{}` is no whole number", shown(text))),
            },
            Cell::Flag => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => true.into(),
                "false" | "no" | "0" => false.into(),
                _ => return Err(format!("`{}` is neither true nor false", shown(text))),
            },
            Cell::Instant => instant::write(instant::read_text(text)?)?.into(),
        })
    }
}

impl Field {
    /// A field of `kind` by its name, or an item's attribute: `attributes.year`, `attributes.year:number`.
    fn parse(kind: Kind, text: &str) -> Option<Self> {
        let table: &[(&str, Cell)] = match kind {
            Kind::Items => &ITEM_FIELDS,
            Kind::Events => &EVENT_FIELDS,
        };
        if let Some((name, cell)) = table.iter().find(|(name, _)| *name == text) {
            return Some(Self { name: (*name).to_owned(), attribute: false, cell: *cell });
        }
        let attribute = text.strip_prefix(ATTRIBUTES)?.strip_prefix('.').filter(|_| kind == Kind::Items)?;
        let (name, cell) = match attribute.rsplit_once(':') {
            None => (attribute, Cell::Text),
            Some((name, "text")) => (name, Cell::Text),
            Some((name, "number")) => (name, Cell::Number),
            Some((name, "flag")) => (name, Cell::Flag),
            Some((name, "list")) => (name, Cell::List),
            Some(_) => return None,
        };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), attribute: true, cell })
    }
}

fn names(kind: Kind) -> String {
    match kind {
        Kind::Items => {
            let names: Vec<&str> = ITEM_FIELDS.iter().map(|(name, _)| *name).collect();
            format!("{}, attributes.NAME[:number|:flag|:list]", names.join(", "))
        }
        Kind::Events => EVENT_FIELDS.map(|(name, _)| name).join(", "),
    }
}

/// As much of a cell as a message can bear.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns(kind: Kind, entries: &[&str]) -> Result<Columns, String> {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        Columns::parse(kind, &entries, "|")
    }

    fn row(columns: &Columns, header: &[&str], cells: &[&str]) -> Result<Map<String, Value>, String> {
        columns.bind(&StringRecord::from(header.to_vec()))?.read(&StringRecord::from(cells.to_vec()))
    }

    #[test]
    fn columns_become_fields_of_their_types() {
        let columns = columns(
            Kind::Items,
            &[
                "item_id=movieId",
                "categories=genres",
                "duration_s=min",
                "attributes.year:number=year",
                "attributes.x=x",
            ],
        )
        .unwrap();
        let header = ["x", "movieId", "genres", "min", "year", "title"];
        let fields = row(&columns, &header, &["007", "1", "A| B ||C", "95.5", "1995", "ignored"]).unwrap();
        assert_eq!(
            Value::Object(fields),
            json!({"item_id": "1", "categories": ["A", "B", "C"], "duration_s": 95.5,
                "attributes": {"year": 1995.0, "x": "007"}})
        );
    }

    #[test]
    fn without_a_mapping_columns_are_known_by_their_names() {
        let columns = columns(Kind::Events, &[]).unwrap();
        let header = ["user_id", "item_id", "rating", "occurred_at", "value"];
        let fields = row(&columns, &header, &["u", "i", "9", "830247106", ""]).unwrap();
        assert_eq!(
            Value::Object(fields),
            json!({"user_id": "u", "item_id": "i", "occurred_at": "1996-04-23T08:11:46Z"})
        );
    }

    #[test]
    fn mistakes_are_named() {
        let parse = |entry: &str| columns(Kind::Items, &[entry]).unwrap_err();
        assert!(parse("item_id").contains("item_id=movieId"));
        assert!(parse("itm=x").contains("`itm` is no field"));
        assert!(parse("attributes.=x").contains("no field"));
        assert!(parse("attributes.a:date=x").contains("no field"));
        assert!(columns(Kind::Events, &["attributes.a=x"]).is_err());
        assert!(columns(Kind::Items, &["title=a", "title=b"]).unwrap_err().contains("twice"));
        assert!(Columns::parse(Kind::Items, &[], "").is_err());

        let items = columns(Kind::Items, &["item_id=movieId", "age_rating=age"]).unwrap();
        assert!(
            row(&items, &["id", "age"], &[])
                .unwrap_err()
                .contains("no column `movieId`; the file has the columns: id, age")
        );
        assert!(row(&items, &["movieId", "age"], &["1", "old"]).unwrap_err().starts_with("age_rating: `old`"));
        assert!(row(&columns(Kind::Items, &[]).unwrap(), &["id"], &[]).unwrap_err().contains("--columns item_id"));
        let events = columns(Kind::Events, &[]).unwrap();
        assert!(row(&events, &["item_id", "value"], &["1", "NaN"]).is_err());
    }
}
