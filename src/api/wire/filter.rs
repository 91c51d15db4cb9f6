//! How is a filter written? As lists of conditions.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::problem::ApiError;
use crate::domain::{Condition, Filter, Range, Test};

const MAX_CONDITIONS: usize = 64;
const MAX_VALUES: usize = 1_000;

/// All of `must`, none of `must_not`, and, if there are any, at least one of `should`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Filter)]
pub(in crate::api) struct FilterBody {
    /// Every one of these has to hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) must: Vec<ConditionBody>,
    /// Not one of these may hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) must_not: Vec<ConditionBody>,
    /// If there are any, at least one of these has to hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) should: Vec<ConditionBody>,
}

/// A field and either the values of which it has to have one, or the range in which it has to lie.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Condition)]
pub(in crate::api) struct ConditionBody {
    /// `item_id`, `tag`, `category`, `region`, `age_rating`, `duration_s`, or the name of an attribute.
    #[schema(examples("region"))]
    pub(in crate::api) field: String,
    /// The field has at least one of these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) any: Option<Vec<Value>>,
    /// The field is a number of at least this much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) gte: Option<f64>,
    /// The field is a number greater than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) gt: Option<f64>,
    /// The field is a number of at most this much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) lte: Option<f64>,
    /// The field is a number less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) lt: Option<f64>,
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = FilterValue)]
pub(in crate::api) enum Value {
    /// A word or an id.
    Text(String),
    /// True or false.
    Flag(bool),
    /// A number.
    Number(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl FilterBody {
    /// Reads a filter that stands as JSON in a query string.
    pub(in crate::api) fn from_query(text: Option<&str>) -> Result<Filter, ApiError> {
        match text {
            None | Some("") => Ok(Filter::default()),
            Some(text) => crate::api::extract::parse::<Self>(text.as_bytes(), "filter")?.into_filter(),
        }
    }

    /// Checks every condition.
    pub(in crate::api) fn into_filter(self) -> Result<Filter, ApiError> {
        if self.must.len() + self.must_not.len() + self.should.len() > MAX_CONDITIONS {
            return Err(ApiError::field("filter", format!("may have at most {MAX_CONDITIONS} conditions")));
        }
        let list = |name: &str, conditions: Vec<ConditionBody>| -> Result<Vec<Condition>, ApiError> {
            let place = |n| format!("filter.{name}[{n}]");
            conditions.into_iter().enumerate().map(|(n, c)| c.into_condition(|| place(n))).collect()
        };
        Ok(Filter {
            must: list("must", self.must)?,
            must_not: list("must_not", self.must_not)?,
            should: list("should", self.should)?,
        })
    }
}

impl ConditionBody {
    fn into_condition(self, place: impl Fn() -> String) -> Result<Condition, ApiError> {
        if self.field.is_empty() {
            return Err(ApiError::field(format!("{}.field", place()), "must not be empty"));
        }
        let range = Range { gte: self.gte, gt: self.gt, lte: self.lte, lt: self.lt };
        let bounded = range != Range::default();
        let test = match self.any {
            Some(values) if !bounded && values.len() <= MAX_VALUES => {
                Test::Any(values.iter().map(ToString::to_string).collect())
            }
            Some(_) if !bounded => {
                return Err(ApiError::field(
                    format!("{}.any", place()),
                    format!("may have at most {MAX_VALUES} values"),
                ));
            }
            None if bounded => Test::Range(range),
            Some(_) | None => {
                return Err(ApiError::field(place(), "needs either `any`, or bounds: `gte`, `gt`, `lte`, `lt`"));
            }
        };
        Ok(Condition { field: self.field, test })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Filter, ApiError> {
        FilterBody::from_query(Some(text))
    }

    #[test]
    fn conditions_become_tests() {
        let filter =
            read(r#"{"must":[{"field":"region","any":["de",7,true,1995.5]}],"should":[{"field":"year","gte":1990}]}"#)
                .unwrap();
        assert_eq!(filter.must[0].test, Test::Any(["de", "7", "true", "1995.5"].map(str::to_owned).into()));
        assert_eq!(filter.should[0].test, Test::Range(Range { gte: Some(1990.0), ..Range::default() }));
        let open = read(r#"{"must":[{"field":"year","gt":1990,"lt":2000.5}]}"#).unwrap();
        assert_eq!(open.must[0].test, Test::Range(Range { gt: Some(1990.0), lt: Some(2000.5), ..Range::default() }));
        assert!(FilterBody::from_query(None).unwrap().is_empty());
    }

    #[test]
    fn refusals_name_the_condition() {
        let many = format!(r#"{{"must":[{{"field":"x","any":[{}1]}}]}}"#, "1,".repeat(1_000));
        for (text, field) in [
            (r#"{"must":[{"field":"a","any":[]},{"field":"b"}]}"#, "filter.must[1]"),
            (r#"{"must_not":[{"field":"a","any":["x"],"gte":1}]}"#, "filter.must_not[0]"),
            (r#"{"should":[{"field":"","any":["x"]}]}"#, "filter.should[0].field"),
            (r#"{"must":[{"field":"a","all":["x"]}]}"#, "filter.must[0].all"),
            (r#"{"must":[{"field":"a","gte":"x"}]}"#, "filter.must[0].gte"),
            (many.as_str(), "filter.must[0].any"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind().0.as_u16(), 422);
            assert_eq!(error.fields()[0].field, field);
        }
        assert_eq!(read("{").unwrap_err().kind().1, "malformed_json");
    }
}
