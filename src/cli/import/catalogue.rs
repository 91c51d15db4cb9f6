//! Which items does a file describe? For commands that need their words and not a server.

use std::path::Path;

use serde_json::{Map, Value};

use super::batch::Kind;
use super::columns::Columns;
use super::source::Source;
use crate::cli::CliError;
use crate::domain::{Item, ItemId};

/// The items of a CSV, TSV or JSON-lines file with what is written about them, and how many rows could not be used.
/// `columns` are entries like `item_id=movieId`.
pub(in crate::cli) fn read_items(
    file: &Path,
    columns: &[String],
    list_separator: &str,
) -> Result<(Vec<Item>, u64), CliError> {
    let columns = Columns::parse(Kind::Items, columns, list_separator).map_err(CliError::Failed)?;
    let mut source = Source::open(file, None, &columns)?;
    let (mut items, mut skipped) = (Vec::new(), 0);
    while let Some(row) = source.next_row()? {
        match row.fields.ok().as_ref().and_then(item_of) {
            Some(item) => items.push(item),
            None => skipped += 1,
        }
    }
    if items.is_empty() {
        return Err(CliError::Failed(format!("{}: has no usable item ({skipped} rows without)", file.display())));
    }
    Ok((items, skipped))
}

fn item_of(fields: &Map<String, Value>) -> Option<Item> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |name: &str| -> Vec<String> {
        let entries = fields.get(name).and_then(Value::as_array).into_iter().flatten();
        entries.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut item = Item::new(ItemId::new(fields.get("item_id")?.as_str()?).ok()?);
    (item.title, item.description) = (text("title"), text("description"));
    (item.tags, item.categories) = (list("tags"), list("categories"));
    Some(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_tables_and_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (table, lines) = (dir.path().join("x.csv"), dir.path().join("x.jsonl"));
        std::fs::write(&table, "id,name,kinds\n1,Up,A|B\n,x,\n").unwrap();
        let columns = ["item_id=id", "title=name", "categories=kinds"].map(str::to_owned);
        let (items, skipped) = read_items(&table, &columns, "|").unwrap();
        assert_eq!((items.len(), skipped, items[0].title.as_str()), (1, 1, "Up"));
        assert_eq!(items[0].categories, ["A", "B"]);
        std::fs::write(&lines, "{\"item_id\":\"7\",\"tags\":[\"x\"]}\n").unwrap();
        assert_eq!(read_items(&lines, &[], "|").unwrap().0[0].tags, ["x"]);
        std::fs::write(&lines, "{}\n").unwrap();
        assert!(read_items(&lines, &[], "|").unwrap_err().to_string().contains("no usable item"));
    }
}
