//! How does what was learned survive a restart? As a section of the checkpoint.
//!
//! Decisions and examples are not kept: a restart forgets them, as it forgets frames. What is kept fits the weights that
//! the settings name; with others, learning begins anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::explore::Explorer;
use super::student::Student;
use super::{Learning, LearningOptions, Turns};
use crate::domain::{ItemNo, LoadError, StateReader, StateWriter};
use crate::ranking::{HazardModel, OnlineLearner, Predictor, siphash};
use crate::telemetry::Metrics;

const PART: [u8; 4] = *b"rank";
const VERSION: u32 = 1;

/// The most items whose tries are read.
const TRIES: usize = 1 << 20;

struct Restored {
    online: OnlineLearner,
    trained: bool,
    tries: HashMap<ItemNo, u32>,
}

impl Learning {
    /// Begins with the weights of the settings, or where an earlier run ended: `saved` is what [`Learning::save`] wrote.
    pub(in crate::engine) fn new(
        options: LearningOptions,
        start: &HazardModel,
        metrics: Metrics,
        saved: Option<&[u8]>,
    ) -> Self {
        let start = Arc::new(start.clone());
        let saved = saved.filter(|_| options.enabled).and_then(|bytes| match load(&options, &start, bytes) {
            Ok(restored) => Some(restored),
            Err(error) => {
                tracing::info!(%error, "what the ranking had learned does not fit; it begins anew");
                None
            }
        });
        let Restored { online, trained, tries } = saved.unwrap_or_else(|| {
            let learned =
                options.learned_weights.clone().filter(|model| options.enabled && model.schema() == start.schema());
            let trained = learned.is_some();
            let base = learned.map_or_else(|| start.clone(), Arc::new);
            Restored { online: OnlineLearner::new(base, options.online), trained, tries: HashMap::new() }
        });
        let running = Predictor { model: online.correction(), base: online.base().clone() };
        let has_linear = options.arms.iter().any(|arm| arm.linear);
        let (sender, receiver) = crossbeam_channel::bounded(options.queue);
        let horizons = start.schema().horizons().clone();
        let mut student = Student::new(&options, &horizons, online, trained);
        student.published = student.online.steps();
        Self {
            linear: has_linear.then(|| ArcSwap::from_pointee(running.model.linear())),
            running: ArcSwap::from_pointee(running),
            sender,
            receiver,
            unheard: AtomicBool::new(false),
            overflow: AtomicU64::new(0),
            served_turns: Turns::new(options.decisions_per_s),
            organic_turns: Turns::new(options.decisions_per_s),
            explorer: Explorer::new(options.exploration_impressions, tries),
            student: Mutex::new(student),
            train_now: AtomicBool::new(false),
            metrics,
            start,
            options,
        }
    }

    /// What was learned, as bytes.
    pub(in crate::engine) fn save(&self) -> Vec<u8> {
        let student = self.student.lock();
        let mut writer = StateWriter::new(PART, VERSION, 64 * 1024);
        writer.u64(fingerprint(&self.start));
        writer.u8(u8::from(student.trained));
        writer.text(&if student.trained { student.online.base().to_toml("") } else { String::new() });
        let online = student.online.save();
        writer.count(online.len());
        writer.bytes(&online);
        let tries = self.explorer.tries();
        writer.count(tries.len());
        for (item, count) in tries {
            writer.u32(item.0);
            writer.u32(count);
        }
        writer.finish()
    }

    /// Changes whenever something was learned.
    pub(in crate::engine) fn steps(&self) -> u64 {
        self.student.lock().online.steps()
    }
}

fn load(options: &LearningOptions, start: &Arc<HazardModel>, bytes: &[u8]) -> Result<Restored, LoadError> {
    let mut reader = StateReader::new(PART, VERSION, bytes)?;
    if reader.u64()? != fingerprint(start) {
        return Err(LoadError::Incompatible("file of weights"));
    }
    let trained = reader.u8()? == 1;
    let text = reader.text()?;
    let base = if trained {
        let model = HazardModel::from_toml(text).map_err(|_| LoadError::Damaged("the weights cannot be read"))?;
        if model.schema() != start.schema() {
            return Err(LoadError::Incompatible("set of horizons"));
        }
        Arc::new(model)
    } else {
        start.clone()
    };
    let length = reader.count(1, usize::MAX)?;
    let online = OnlineLearner::load(base, options.online, reader.bytes(length)?)?;
    let count = reader.count(8, TRIES)?;
    let tries = (0..count).map(|_| Ok((ItemNo(reader.u32()?), reader.u32()?))).collect::<Result<_, LoadError>>()?;
    reader.end()?;
    Ok(Restored { online, trained, tries })
}

/// Of the weights that learning began with.
fn fingerprint(model: &HazardModel) -> u64 {
    siphash((7, 8), model.to_toml("").as_bytes())
}
