//! How is a model kept in a file that people can read? TOML, one line a feature.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::forest::{Forest, Split, Tree};
use super::hazard::{HazardModel, HazardParameters, ModelError};
use super::schema::Schema;
use crate::domain::Horizons;

/// Version of the features' meaning. Raise it whenever a feature changes without changing its name.
const VERSION: u32 = 1;

/// The weights that ship with the program.
const DEFAULT: &str = include_str!("../../config/ranking.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    horizons_s: Vec<u32>,
    intercept: Vec<f64>,
    feature: BTreeMap<String, Line>,
    #[serde(default)]
    tree: Vec<TreeLines>,
}

/// A tree: at each level the feature that is asked about and the threshold; then, for each interval, what its leaves add.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeLines {
    feature: Vec<String>,
    above: Vec<f32>,
    leaves: Vec<Vec<f32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    mean: Vec<f64>,
    sd: Vec<f64>,
    weight: Vec<f64>,
}

impl HazardModel {
    /// The weights that ship with the program, for horizons of 15, 30 and 60 s.
    pub fn shipped() -> Result<Self, ModelError> {
        Self::from_toml(DEFAULT)
    }

    /// Reads what [`HazardModel::to_toml`] wrote.
    pub fn from_toml(text: &str) -> Result<Self, ModelError> {
        let mut file: File = toml::from_str(text).map_err(|error| ModelError::Syntax(error.to_string()))?;
        if file.version != VERSION {
            return Err(ModelError::Version { found: file.version, expected: VERSION });
        }
        let schema = Schema::new(&Horizons::new(file.horizons_s)?);
        let intervals = schema.horizons().count();
        let empty = || vec![Vec::with_capacity(schema.model_width()); intervals];
        let (mut mean, mut sd, mut weights) = (empty(), empty(), empty());
        for name in schema.names() {
            let line = file.feature.remove(name).ok_or_else(|| ModelError::MissingFeature(name.clone()))?;
            for (table, numbers) in [(&mut mean, line.mean), (&mut sd, line.sd), (&mut weights, line.weight)] {
                if numbers.len() != intervals {
                    let found = numbers.len();
                    return Err(ModelError::Shape { feature: name.clone(), found, expected: intervals });
                }
                for (row, number) in table.iter_mut().zip(numbers) {
                    row.push(number);
                }
            }
        }
        if let Some(name) = file.feature.into_keys().next() {
            return Err(ModelError::UnknownFeature(name));
        }
        let forest = forest(&schema, file.tree)?;
        Self::new(schema, HazardParameters { mean, sd, weights, intercepts: file.intercept })?.with_forest(Some(forest))
    }

    /// The model as a file, after `header` (lines of comment, without the `#`).
    pub fn to_toml(&self, header: &str) -> String {
        let mut text = String::new();
        for line in header.lines() {
            text.push_str(if line.is_empty() { "#" } else { "# " });
            text.push_str(line);
            text.push('\n');
        }
        let parameters = self.parameters();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "version = {VERSION}");
        let _ = writeln!(text, "horizons_s = {:?}", self.schema().horizons().seconds());
        let _ = writeln!(text, "\n# Log-odds of the mean candidate in each interval.");
        let _ = writeln!(text, "intercept = {}", numbers(parameters.intercepts.iter().copied()));
        let _ = writeln!(text, "\n# Of each feature, for each interval: mean, standard deviation, and the weight of");
        let _ = writeln!(text, "# (feature - mean) / sd.\n[feature]");
        for (column, name) in self.schema().names().iter().enumerate() {
            let of = |table: &[Vec<f64>]| numbers(table.iter().map(|row| row[column]).collect::<Vec<_>>().into_iter());
            let (mean, sd, weight) = (of(&parameters.mean), of(&parameters.sd), of(&parameters.weights));
            let _ = writeln!(text, "{name} = {{ mean = {mean}, sd = {sd}, weight = {weight} }}");
        }
        if let Some(forest) = self.forest() {
            let _ = writeln!(
                text,
                "\n# Trees that correct the log-odds of the best candidates. Bit l of a leaf's place is 1 if the feature of"
            );
            let _ =
                writeln!(text, "# level l is above its threshold; of the leaves there is one list for each interval.");
            for tree in forest.trees() {
                let names: Vec<&str> =
                    tree.splits.iter().map(|split| self.schema().row_names()[split.column].as_str()).collect();
                let above: Vec<f32> = tree.splits.iter().map(|split| split.above).collect();
                let _ = writeln!(text, "\n[[tree]]\nfeature = {names:?}\nabove = {above:?}\nleaves = [");
                let intervals = self.schema().horizons().count();
                for interval in 0..intervals {
                    let values: Vec<String> =
                        tree.leaves.iter().skip(interval).step_by(intervals).map(|v| format!("{v:?}")).collect();
                    let _ = writeln!(text, "  [{}],", values.join(", "));
                }
                text.push_str("]\n");
            }
        }
        text
    }
}

/// The trees of a file.
fn forest(schema: &Schema, trees: Vec<TreeLines>) -> Result<Forest, ModelError> {
    let intervals = schema.horizons().count();
    let mut read = Vec::with_capacity(trees.len());
    for (number, TreeLines { feature, above, leaves }) in trees.into_iter().enumerate() {
        let wrong = |reason| ModelError::Tree { number: number + 1, reason };
        if feature.len() != above.len() {
            return Err(wrong("it must have a threshold for each feature"));
        }
        let count = leaves.first().map_or(0, Vec::len);
        if leaves.len() != intervals || leaves.iter().any(|values| values.len() != count) {
            return Err(wrong("it must have a number for each leaf and interval"));
        }
        let mut splits = Vec::with_capacity(feature.len());
        for (name, above) in feature.into_iter().zip(above) {
            let column = schema.row_names().iter().position(|known| *known == name);
            splits.push(Split { column: column.ok_or(ModelError::UnknownFeature(name))?, above });
        }
        let leaves = (0..count).flat_map(|leaf| leaves.iter().map(move |values| values[leaf])).collect();
        read.push(Tree { splits, leaves });
    }
    Forest::new(read, intervals, schema.row_width())
}

/// Six significant digits are far finer than what can be learned, and keep the lines short.
fn numbers(values: impl Iterator<Item = f64>) -> String {
    let texts: Vec<String> = values.map(|v| if v == 0.0 { "0.0".into() } else { format!("{v:.5e}") }).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_weights_load_and_survive_a_round_trip() {
        let model = HazardModel::shipped().unwrap();
        assert_eq!(model.schema().horizons(), &Horizons::default());
        let text = model.to_toml("First line.\n\nThird line.");
        assert!(text.starts_with("# First line.\n#\n# Third line.\n"));
        assert_eq!(HazardModel::from_toml(&text).unwrap(), model);
    }

    fn with_trees() -> HazardModel {
        let shipped = HazardModel::shipped().unwrap();
        let column = |name: &str| shipped.schema().row_names().iter().position(|known| known == name).unwrap();
        let splits = vec![
            Split { column: column("session_relative"), above: 0.1 },
            Split { column: column("transition_interval_log_30s"), above: 1.0 / 3.0 },
        ];
        let tree = Tree { splits, leaves: (0..12).map(|n| n as f32 / 7.0).collect() };
        let forest = Forest::new(vec![tree.clone(), tree], 3, shipped.schema().row_width()).unwrap();
        shipped.with_forest(Some(forest)).unwrap()
    }

    #[test]
    fn trees_survive_a_round_trip() {
        let model = HazardModel::from_toml(&with_trees().to_toml("")).unwrap();
        // Of the linear weights a few digits are written.
        let text = model.to_toml("");
        assert_eq!(HazardModel::from_toml(&text).unwrap(), model);
        assert_eq!(model.forest(), with_trees().forest());
        assert_eq!(model.linear().forest(), None);
        let error = |text: &str| HazardModel::from_toml(text).unwrap_err().to_string();
        assert!(error(&text.replace("\"session_relative\", ", "\"shoe_size\", ")).contains("`shoe_size`"));
        assert!(error(&text.replace("above = [0.1, ", "above = [")).contains("tree 1"));
        assert!(error(&text.replace("  [0.0, ", "  [")).contains("a number for each leaf"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let good = HazardModel::shipped().unwrap().to_toml("");
        let error = |text: &str| HazardModel::from_toml(text).unwrap_err().to_string();
        assert!(error(&good.replace("session_log =", "session_lag =")).contains("lack the feature `session_log`"));
        assert!(error(&format!("{good}shoe_size = {{ mean = [], sd = [], weight = [] }}\n")).contains("`shoe_size`"));
        assert!(error(&good.replace("version = 1", "version = 7")).contains("version 7"));
        assert!(error(&good.replace("horizons_s = [15, 30, 60]", "horizons_s = [60, 30]")).contains("horizons"));
        assert!(error(&good.replace("horizons_s = [15, 30, 60]", "horizons_s = [15, 30]")).contains("3 numbers"));
        assert!(error("version = ").contains("cannot be read"));
        let line = good.lines().find(|l| l.starts_with("session_log =")).unwrap();
        let not_a_number = "session_log = { mean = [nan, 0.0, 0.0], sd = [1.0, 1.0, 1.0], weight = [0.0, 0.0, 0.0] }";
        assert!(error(&good.replace(line, not_a_number)).contains("`session_log`"));
        let short = "session_log = { mean = [0.0], sd = [1.0, 1.0, 1.0], weight = [0.0, 0.0, 0.0] }";
        assert!(error(&good.replace(line, short)).contains("1 numbers"));
    }
}
