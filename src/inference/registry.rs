//! Which models are there, which are in use, and which were before? The folder of models, and a note of what was chosen.
//!
//! The folder has a manifest for each model; the one that is built in needs none. What serves, what is to serve next and what
//! served before stands in a small file in the data folder, so that a restart goes on with all three: a model that is being
//! changed for another answers until the other one has seen every picture, however often the service starts meanwhile.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::embedder::{Embedder, EmbedderOptions, InferenceError};
use super::ensemble::Ensemble;
use super::manifest::{Manifest, ManifestError};

/// Manifests that are listed; the folder of models is no archive.
const MAX_LISTED: usize = 256;
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// A model by its name, and what it counts beside others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The name of its manifest.
    pub name: String,
    /// Above 0.
    pub weight: f32,
}

/// Models that were chosen together, as they were then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// The models.
    pub models: Vec<Choice>,
    /// Their ids, in the same order.
    pub ids: Vec<String>,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// What the settings asked for when they were last read; if they ask for something else now, that is meant.
    configured: Vec<Choice>,
    active: Active,
    /// What takes over once it has seen every picture.
    target: Option<Active>,
    previous: Option<Active>,
}

/// The folder of models and what was chosen of it.
#[derive(Debug)]
pub struct Registry {
    folder: PathBuf,
    file: PathBuf,
    options: EmbedderOptions,
    note: Mutex<Note>,
}

/// A model of the folder.
#[derive(Debug)]
pub struct Described {
    /// The name of the manifest's file, by which the model is chosen.
    pub name: String,
    /// Its manifest, or why it cannot be used.
    pub manifest: Result<Manifest, ManifestError>,
}

/// Why models cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A manifest or a model's file.
    #[error("{name}: {source}")]
    Manifest {
        /// The model.
        name: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// The model does not run.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// A model is not what it was.
    #[error("the model {was} is there no more: its manifest or its file now makes it {is}")]
    Changed {
        /// Its id when it was chosen.
        was: String,
        /// Its id now.
        is: String,
    },
    /// No models were in use before these.
    #[error("no models were in use before these")]
    NoPrevious,
    /// The note cannot be read or written.
    #[error("{}: {reason}", file.display())]
    Note {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Registry {
    /// Opens the folder of models and the note in `file`, and starts the models that are in use: those that the note names if they
    /// are still there, those that the settings ask for (`configured`) otherwise. Blocks.
    ///
    /// [`runtime::load`](super::runtime::load) must have been called.
    pub fn open(
        folder: PathBuf,
        file: PathBuf,
        options: EmbedderOptions,
        configured: Vec<Choice>,
    ) -> Result<(Self, Ensemble), RegistryError> {
        let known = read_note(&file)?;
        let start = |choices: &[Choice]| start(&folder, &options, choices);
        let kept = known.and_then(|note| match start_again(&folder, &options, &note.active) {
            Ok(ensemble) => Some((note, ensemble)),
            Err(error) => {
                tracing::warn!(%error, "the models that were in use cannot be used; those of the settings take over at once");
                None
            }
        });
        let (note, ensemble) = match kept {
            Some((note, ensemble)) if note.configured == configured => (note, ensemble),
            Some((note, ensemble)) => {
                // Started once more when it is its turn; here it shows whether it can be.
                let target = if note.active.models == configured { None } else { Some(start(&configured)?.1) };
                (Note { configured, target, ..note }, ensemble)
            }
            None => {
                let (ensemble, active) = start(&configured)?;
                (Note { configured, active, target: None, previous: None }, ensemble)
            }
        };
        let registry = Self { folder, file, options, note: Mutex::new(note) };
        registry.write(&registry.note.lock())?;
        Ok((registry, ensemble))
    }

    /// Loads and checks these models; the running ones go on. Blocks for as long as that takes.
    pub fn start(&self, choices: &[Choice]) -> Result<(Ensemble, Active), RegistryError> {
        start(&self.folder, &self.options, choices)
    }

    /// The same with models as they were chosen before; refused if they are not what they were.
    pub fn start_again(&self, chosen: &Active) -> Result<Ensemble, RegistryError> {
        start_again(&self.folder, &self.options, chosen)
    }

    /// The models in use.
    pub fn active(&self) -> Active {
        self.note.lock().active.clone()
    }

    /// The models that are to take over.
    pub fn target(&self) -> Option<Active> {
        self.note.lock().target.clone()
    }

    /// The models that were in use before.
    pub fn previous(&self) -> Option<Active> {
        self.note.lock().previous.clone()
    }

    /// Notes what is to take over; `None` for nothing.
    pub fn set_target(&self, target: Option<Active>) -> Result<(), RegistryError> {
        self.change(|note| note.target = target)
    }

    /// Notes that the target has taken over.
    pub fn switched(&self) -> Result<(), RegistryError> {
        self.change(|note| {
            if let Some(target) = note.target.take() {
                note.previous = Some(std::mem::replace(&mut note.active, target));
            }
        })
    }

    /// The models of the folder in the order of their names, each checked as far as that can be done without running it. Blocks.
    pub fn list(&self) -> Vec<Described> {
        models_in(&self.folder)
    }

    fn change(&self, change: impl FnOnce(&mut Note)) -> Result<(), RegistryError> {
        let mut note = self.note.lock();
        let mut changed = note.clone();
        change(&mut changed);
        // Only what is written counts, so that a restart never knows another state than this process.
        self.write(&changed)?;
        *note = changed;
        Ok(())
    }

    fn write(&self, note: &Note) -> Result<(), RegistryError> {
        let failed = |error: &dyn std::fmt::Display| note_error(&self.file, error);
        let text = serde_json::to_string_pretty(note).map_err(|e| failed(&e))?;
        write_beside(&self.file, text.as_bytes()).map_err(|e| failed(&e))
    }
}

/// The models of `folder` in the order of their names, the built-in ones among them.
pub fn models_in(folder: &Path) -> Vec<Described> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.extend(Manifest::builtin_names().map(str::to_owned));
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_LISTED);
    names.into_iter().map(|name| Described { manifest: model_named(folder, &name), name }).collect()
}

/// The model of this name in `folder`; a built-in one needs no folder.
pub fn model_named(folder: &Path, name: &str) -> Result<Manifest, ManifestError> {
    super::manifest::check_name(name)?;
    let file = folder.join(format!("{name}.toml"));
    if file.exists() {
        return Manifest::load(&file);
    }
    Manifest::builtin_named(name).unwrap_or_else(|| Manifest::load(&file))
}

fn start(folder: &Path, options: &EmbedderOptions, choices: &[Choice]) -> Result<(Ensemble, Active), RegistryError> {
    let mut models = Vec::with_capacity(choices.len());
    let mut precisions = Vec::with_capacity(choices.len());
    for Choice { name, weight } in choices {
        let manifest =
            model_named(folder, name).map_err(|source| RegistryError::Manifest { name: name.clone(), source })?;
        precisions.push((name.as_str(), manifest.precision()));
        models.push((Embedder::start(manifest, options.clone())?, *weight));
    }
    let ensemble = Ensemble::new(models)?.kept_as(precisions)?;
    let ids = ensemble.blend().model_ids().map(str::to_owned).collect();
    Ok((ensemble, Active { models: choices.to_vec(), ids }))
}

fn start_again(folder: &Path, options: &EmbedderOptions, chosen: &Active) -> Result<Ensemble, RegistryError> {
    let (ensemble, now) = start(folder, options, &chosen.models)?;
    match chosen.ids.iter().zip(&now.ids).find(|(was, is)| was != is) {
        Some((was, is)) => Err(RegistryError::Changed { was: was.clone(), is: is.clone() }),
        None => Ok(ensemble),
    }
}

impl Active {
    /// Whether a model of this id is one of them.
    pub fn has(&self, model_id: &str) -> bool {
        self.ids.iter().any(|id| id == model_id)
    }

    /// The models' names and weights as one line, such as `a, b:0.5`.
    pub fn line(&self) -> String {
        let each = self.models.iter().map(|choice| match choice.weight {
            1.0 => choice.name.clone(),
            weight => format!("{}:{weight}", choice.name),
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

fn read_note(file: &Path) -> Result<Option<Note>, RegistryError> {
    let bytes = match fs::metadata(file) {
        Ok(found) if found.len() > MAX_NOTE_BYTES => Err(io::Error::other("it is too large")),
        Ok(_) => fs::read(file),
        Err(error) => Err(error),
    };
    match bytes {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(note) => Ok(Some(note)),
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the note of the models in use cannot be read and is made anew");
                Ok(None)
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(note_error(file, &error)),
    }
}

/// Writes a file that takes the place of `file` once it is whole and durable.
fn write_beside(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut open = File::create(&beside)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    fs::rename(&beside, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn note_error(file: &Path, error: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Note { file: file.to_owned(), reason: error.to_string() }
}
