//! Which items may be answered at all? Conditions on the items' own fields.

use super::{Attribute, Item};

/// What one condition asks of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The field has at least one of these values. Numbers and flags are compared by their text.
    Any(Vec<String>),
    /// The field is a number in this range.
    Range(Range),
}

/// A range of numbers; a missing bound is open, and of two bounds on one side both hold.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// At least this much.
    pub gte: Option<f64>,
    /// More than this.
    pub gt: Option<f64>,
    /// At most this much.
    pub lte: Option<f64>,
    /// Less than this.
    pub lt: Option<f64>,
}

impl Range {
    /// Whether `number` lies in it. What is not a number lies only in the range without bounds.
    pub fn contains(&self, number: f64) -> bool {
        self.gte.is_none_or(|bound| number >= bound)
            && self.gt.is_none_or(|bound| number > bound)
            && self.lte.is_none_or(|bound| number <= bound)
            && self.lt.is_none_or(|bound| number < bound)
    }
}

/// A field and what is asked of it.
///
/// Fields are `item_id`, `tag`, `category`, `region`, `age_rating`, `duration_s`, or the name of one of the item's
/// own attributes. An item that lacks the field does not meet the condition, but for `region`: no regions
/// means all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The field's name.
    pub field: String,
    /// What is asked of it.
    pub test: Test,
}

/// All of `must`, none of `must_not`, and, if there are any, at least one of `should`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Every one of these has to hold.
    pub must: Vec<Condition>,
    /// Not one of these may hold.
    pub must_not: Vec<Condition>,
    /// If not empty, at least one of these has to hold.
    pub should: Vec<Condition>,
}

impl Filter {
    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.must.is_empty() && self.must_not.is_empty() && self.should.is_empty()
    }

    /// Whether `item` passes.
    pub fn accepts(&self, item: &Item) -> bool {
        self.must.iter().all(|c| c.holds(item))
            && !self.must_not.iter().any(|c| c.holds(item))
            && (self.should.is_empty() || self.should.iter().any(|c| c.holds(item)))
    }
}

impl Condition {
    /// Whether `item` meets the condition.
    pub fn holds(&self, item: &Item) -> bool {
        match &self.test {
            Test::Any(values) => {
                let is = |own: &str| values.iter().any(|v| v == own);
                match self.field.as_str() {
                    "item_id" => is(item.id.as_str()),
                    "tag" | "tags" => item.tags.iter().any(|t| is(t)),
                    "category" | "categories" => item.categories.iter().any(|c| is(c)),
                    "region" | "regions" => item.regions.is_empty() || item.regions.iter().any(|r| is(r)),
                    "age_rating" => item.age_rating.is_some_and(|a| is(&a.to_string())),
                    "duration_s" => item.duration_s.is_some_and(|d| is(&d.to_string())),
                    own => item.attributes.get(own).is_some_and(|value| match value {
                        Attribute::Flag(flag) => is(if *flag { "true" } else { "false" }),
                        Attribute::Number(number) => is(&number.to_string()),
                        Attribute::Text(text) => is(text),
                        Attribute::Texts(texts) => texts.iter().any(|t| is(t)),
                    }),
                }
            }
            Test::Range(range) => {
                let number = match self.field.as_str() {
                    "age_rating" => item.age_rating.map(f64::from),
                    "duration_s" => item.duration_s.map(f64::from),
                    own => match item.attributes.get(own) {
                        Some(Attribute::Number(number)) => Some(*number),
                        Some(Attribute::Flag(_) | Attribute::Text(_) | Attribute::Texts(_)) | None => None,
                    },
                };
                number.is_some_and(|n| range.contains(n))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemId;

    fn any(field: &str, values: &[&str]) -> Condition {
        Condition { field: field.into(), test: Test::Any(values.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn conditions_read_every_field() {
        let mut item = Item::new(ItemId::new("i1").unwrap());
        item.tags = vec!["sea".into()];
        item.categories = vec!["Drama".into()];
        item.age_rating = Some(12);
        item.attributes.insert("year".into(), Attribute::Number(1995.0));
        item.attributes.insert("cast".into(), Attribute::Texts(vec!["A".into(), "B".into()]));
        assert!(any("item_id", &["i1"]).holds(&item));
        assert!(any("tag", &["sky", "sea"]).holds(&item));
        assert!(any("region", &["de"]).holds(&item), "no regions means everywhere");
        assert!(any("year", &["1995"]).holds(&item));
        assert!(any("cast", &["B"]).holds(&item));
        assert!(!any("studio", &["X"]).holds(&item));
        let range = |range| Condition { field: "year".into(), test: Test::Range(range) };
        assert!(range(Range { gte: Some(1995.0), ..Range::default() }).holds(&item));
        assert!(!range(Range { lte: Some(1994.0), ..Range::default() }).holds(&item));
        assert!(!range(Range { gt: Some(1995.0), ..Range::default() }).holds(&item));
        assert!(range(Range { gt: Some(1994.0), lt: Some(1996.0), ..Range::default() }).holds(&item));
    }

    #[test]
    fn the_three_lists_combine() {
        let mut item = Item::new(ItemId::new("i1").unwrap());
        item.tags = vec!["sea".into()];
        assert!(Filter::default().accepts(&item));
        let mut filter = Filter { must: vec![any("tag", &["sea"])], ..Filter::default() };
        assert!(filter.accepts(&item));
        filter.should = vec![any("tag", &["sky"]), any("item_id", &["i1"])];
        assert!(filter.accepts(&item));
        filter.must_not = vec![any("tag", &["sea"])];
        assert!(!filter.accepts(&item));
    }
}
