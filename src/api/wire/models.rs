//! How do operators' questions about models read, and the answers?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::problem::ApiError;
use crate::engine::{Choice, ListedModel, MAX_MODELS, ModelUse, ModelsReport, Takeover};

/// Models that are to look at pictures from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelsRequest)]
pub(in crate::api) struct ModelsBody {
    /// One, or several whose vectors become one.
    models: Vec<ModelChoiceBody>,
}

/// A model, and how much it counts beside others.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelChoice)]
pub(in crate::api) struct ModelChoiceBody {
    /// The name of its manifest, without `.toml`.
    #[schema(examples("efficientnet-lite0"))]
    name: String,
    /// Similarity is the weighted mean of the models' cosines; 1 if left out.
    #[serde(default = "one")]
    weight: f32,
}

fn one() -> f32 {
    1.0
}

impl ModelsBody {
    pub(in crate::api) fn into_choices(self) -> Result<Vec<Choice>, ApiError> {
        if self.models.is_empty() || self.models.len() > MAX_MODELS {
            return Err(ApiError::field("models", format!("must have 1 to {MAX_MODELS} entries")));
        }
        let each = self.models.into_iter().enumerate().map(|(n, ModelChoiceBody { name, weight })| {
            if (1e-3..=1e3).contains(&weight) {
                Ok(Choice { name, weight })
            } else {
                Err(ApiError::field(format!("models[{n}].weight"), "must be from 0.001 to 1000"))
            }
        });
        each.collect()
    }
}

/// All models, and who takes over from whom.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ModelsAnswer {
    /// Those that look at pictures.
    active: ActiveModels,
    /// Those that take over once they have seen the catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    coming: Option<ComingModels>,
    /// Those that were in use before, to which `rollback` leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Vec<ModelChoiceBody>>,
    /// Why the last models that were to take over did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// How often models have taken over since the start.
    exchanges: u64,
    /// The models of the folder, in the order of their names.
    models: Vec<ModelBody>,
}

/// The models that look at pictures.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ActiveModels {
    /// Differs wherever vectors must not be compared: `name@hash`, or several of them with their weights.
    id: String,
    models: Vec<ModelChoiceBody>,
    /// Dimensions of their vectors together.
    dims: usize,
    /// Items whose pictures they are still to see, which are not found by their looks until then.
    items_left: u64,
    /// Items with pictures that they cannot see: no thumbnail was kept.
    items_lost: u64,
}

/// The models that are to take over.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ComingModels {
    #[serde(flatten)]
    progress: TakeoverAnswer,
    models: Vec<ModelChoiceBody>,
}

/// How far models that are to take over have come.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TakeoverAnswer {
    /// `name@hash`, or several of them with their weights.
    id: String,
    /// Items whose pictures they have seen.
    items_seen: u64,
    /// Items whose pictures they are still to see.
    items_left: u64,
    /// Items with pictures that they cannot see: no thumbnail was kept.
    items_lost: u64,
}

/// A model of the folder.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ModelBody {
    name: String,
    /// `name@hash`; changes with the file and with the way it is fed.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `active`, `coming`, `previous`, `available` or `unusable`.
    state: &'static str,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Dimensions of its vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    dims: Option<usize>,
    /// Width and height of its input, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

impl From<Choice> for ModelChoiceBody {
    fn from(Choice { name, weight }: Choice) -> Self {
        Self { name, weight }
    }
}

impl From<Takeover> for TakeoverAnswer {
    fn from(Takeover { id, seen, left, lost }: Takeover) -> Self {
        Self { id, items_seen: seen, items_left: left, items_lost: lost }
    }
}

impl From<ListedModel> for ModelBody {
    fn from(model: ListedModel) -> Self {
        let state = match (&model.about, model.used) {
            (Err(_), _) => "unusable",
            (Ok(_), ModelUse::Active) => "active",
            (Ok(_), ModelUse::Coming) => "coming",
            (Ok(_), ModelUse::Previous) => "previous",
            (Ok(_), ModelUse::Available) => "available",
        };
        let (about, problem) = match model.about {
            Ok(about) => (Some(about), None),
            Err(problem) => (None, Some(problem)),
        };
        Self {
            name: model.name,
            id: about.as_ref().map(|about| about.id.clone()),
            state,
            problem,
            dims: about.as_ref().map(|about| about.dims),
            input: about.as_ref().map(|about| about.input),
            licence: about.as_ref().map(|about| about.licence.clone()),
            source: about.map(|about| about.source),
        }
    }
}

impl From<ModelsReport> for ModelsAnswer {
    fn from(report: ModelsReport) -> Self {
        let bodies = |choices: Vec<Choice>| choices.into_iter().map(Into::into).collect();
        Self {
            active: ActiveModels {
                id: report.id,
                models: bodies(report.active),
                dims: report.dims,
                items_left: report.left,
                items_lost: report.lost,
            },
            coming: report
                .coming
                .map(|(models, takeover)| ComingModels { progress: takeover.into(), models: bodies(models) }),
            previous: report.previous.map(bodies),
            failure: report.failure,
            exchanges: report.exchanges,
            models: report.listed.into_iter().map(Into::into).collect(),
        }
    }
}
