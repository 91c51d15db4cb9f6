//! When are new weights trained, and what becomes of them? They must be better than what runs, and are then written down.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Learning;
use super::report::TrainingRun;
use crate::domain::Timestamp;
use crate::ranking::{HazardModel, Trained, TrainingSet, train};
use crate::telemetry::TrainingResult;

impl Learning {
    /// Trains when enough has come in, or when somebody asked for it. Blocks for as long as that takes; serving and
    /// hearing go on.
    pub(super) fn train_if_due(&self, now: Timestamp) {
        let asked = self.train_now.swap(false, Ordering::Relaxed);
        let (set, decisions, examples) = {
            let mut student = self.student.lock();
            let rested = student.trained_at.is_none_or(|at| now.seconds_since(at) >= self.options.train_every_s);
            let enough = self.options.train_decisions > 0 && student.new_lessons >= self.options.train_decisions;
            if !(asked || enough && rested) {
                return;
            }
            student.new_lessons = 0;
            student.trained_at = Some(now);
            let (schema, places) = (student.online.base().schema(), student.online.place_biases());
            let (count, lessons) = (student.lessons.len(), student.lessons.lessons());
            let set = TrainingSet::new(schema, lessons, count, places, &self.options.training);
            (set, count, student.lessons.cases())
        };
        let began = std::time::Instant::now();
        // One thread, so that the others serve.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "upnext-training".into()).build();
        let fitted = match pool {
            Ok(pool) => pool.install(|| train(&set, &self.options.training)).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut run = TrainingRun {
            at: now,
            took: began.elapsed(),
            decisions,
            examples,
            comparison: None,
            adopted: false,
            problem: None,
        };
        let result = match fitted {
            Ok(trained) => self.judge(trained, &mut run),
            Err(problem) => {
                tracing::info!(problem, decisions = run.decisions, "no weights could be trained");
                run.problem = Some(problem);
                TrainingResult::Failed
            }
        };
        self.metrics.count_training(result);
        self.student.lock().last_training = Some(run);
    }

    fn judge(&self, trained: Trained, run: &mut TrainingRun) -> TrainingResult {
        let comparison = trained.comparison;
        run.comparison = Some(comparison);
        let (running, new) = (comparison.running, comparison.trained);
        if !comparison.better {
            tracing::info!(running, new, decisions = comparison.decisions, "new weights are no better and were left");
            return TrainingResult::Kept;
        }
        let model = Arc::new(trained.model);
        let mut student = self.student.lock();
        student.adopt(model.clone(), &self.options);
        student.published = u64::MAX;
        self.publish(&mut student);
        drop(student);
        run.adopted = true;
        tracing::info!(running, new, decisions = comparison.decisions, "new weights took over");
        let header = format!(
            "The weights of the ranking, trained by the service itself on {} of its own decisions.\n\n\
             Mean log loss of a decision on the {} newest of them: {running:.5} as it was predicted, {new:.5} by these.",
            run.decisions, comparison.decisions
        );
        if let Err(error) = write(&self.options.weights_file, &model, &header) {
            tracing::warn!(%error, file = %self.options.weights_file.display(), "the weights could not be written");
        }
        TrainingResult::Adopted
    }
}

/// Writes the whole file or nothing.
fn write(file: &Path, model: &HazardModel, header: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let beside = file.with_extension("toml.new");
    let mut new = std::fs::File::create(&beside)?;
    new.write_all(model.to_toml(header).as_bytes())?;
    new.sync_all()?;
    std::fs::rename(&beside, file)
}
