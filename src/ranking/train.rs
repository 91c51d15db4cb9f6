//! Are new weights better than those that run? Fitted on older decisions, tested on the newest.

use std::sync::atomic::AtomicBool;

use super::fit::{Examples, FitError, FitOptions, FitReport, fit};
use super::forest::{GrowOptions, grow};
use super::hazard::HazardModel;
use super::lesson::Lesson;
use super::schema::Schema;

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainOptions {
    /// How the weights are fitted.
    pub fit: FitOptions,
    /// How trees are grown on top of them; `None` for linear hazards alone.
    pub grow: Option<GrowOptions>,
    /// The share of the decisions, the newest ones, that is kept for the test.
    pub tested: f64,
    /// By how many standard errors the new weights must be better.
    pub standard_errors: f64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self { fit: FitOptions::default(), grow: Some(GrowOptions::default()), tested: 0.2, standard_errors: 1.645 }
    }
}

/// New weights, and how they compare.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model.
    pub model: HazardModel,
    /// How the fit went.
    pub report: FitReport,
    /// The test.
    pub comparison: Comparison,
}

/// Two models on the same decisions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Decisions that both were tested on.
    pub decisions: usize,
    /// The mean log loss of a decision as it was predicted when it was made.
    pub running: f64,
    /// That of the new weights.
    pub trained: f64,
    /// The standard error of the difference, over decisions.
    pub standard_error: f64,
    /// Whether the new weights are better beyond chance.
    pub better: bool,
}

/// What weights are fitted to, and what they are tested on.
#[derive(Debug)]
pub struct TrainingSet {
    examples: Examples,
    tested: Vec<Lesson>,
}

impl TrainingSet {
    /// Of `count` complete lessons, oldest first; the newest are for the test. `places` are the learned biases of places: an
    /// engagement counts for less where the place drew it, so that the weights do not take places for likings.
    pub fn new(
        schema: &Schema,
        lessons: impl Iterator<Item = Lesson>,
        count: usize,
        places: &[f64],
        options: &TrainOptions,
    ) -> Self {
        let fitted = count - (count as f64 * options.tested.clamp(0.0, 0.9)).round() as usize;
        let (mut examples, mut tested) = (Examples::new(schema), Vec::new());
        for (n, lesson) in lessons.enumerate() {
            if n < fitted {
                push(&mut examples, &lesson, places);
            } else {
                tested.push(lesson);
            }
        }
        Self { examples, tested }
    }
}

/// Fits weights to the older lessons and tests them on the newest, against what was predicted at the time.
pub fn train(set: &TrainingSet, options: &TrainOptions) -> Result<Trained, FitError> {
    let (linear, report) = fit(&set.examples, &options.fit)?;
    let model = match &options.grow {
        Some(grow) => with_trees(&linear, &set.examples, grow)?,
        None => linear,
    };
    let comparison = compare(&model, set.tested.iter(), options.standard_errors);
    Ok(Trained { model, report, comparison })
}

/// `linear` with as many trees as gain something on examples that they were not grown on, which may be none.
fn with_trees(linear: &HazardModel, examples: &Examples, options: &GrowOptions) -> Result<HazardModel, FitError> {
    let (forest, _) = grow(linear, examples, options, &AtomicBool::new(false), |_, _| {})?;
    Ok(linear.with_forest(Some(forest))?)
}

/// Tests `model` on lessons, against what was predicted when they were made.
pub fn compare<'a>(model: &HazardModel, lessons: impl Iterator<Item = &'a Lesson>, standard_errors: f64) -> Comparison {
    let (mut count, mut running, mut trained, mut squares) = (0_usize, 0.0, 0.0, 0.0);
    for lesson in lessons {
        let mine = lesson.loss(|case, interval| model.log_odds(lesson.cases.row(case), interval));
        let theirs = lesson.loss_as_predicted();
        count += 1;
        running += theirs;
        trained += mine;
        squares += (mine - theirs) * (mine - theirs);
    }
    let n = count.max(1) as f64;
    let (running, trained) = (running / n, trained / n);
    let gain = running - trained;
    let standard_error = ((squares / n - gain * gain).max(0.0) / n).sqrt();
    let better = count > 1 && gain.is_finite() && gain > standard_errors * standard_error;
    Comparison { decisions: count, running, trained, standard_error, better }
}

fn push(examples: &mut Examples, lesson: &Lesson, places: &[f64]) {
    let seconds = examples.schema().horizons().seconds().to_vec();
    let shown: Vec<f64> = (0..lesson.len()).filter_map(|case| places.get(lesson.place(case)?).copied()).collect();
    let usual = shown.iter().sum::<f64>() / shown.len().max(1) as f64;
    for case in 0..lesson.len() {
        let engaged_after_s = seconds.get(usize::from(lesson.outcomes[case])).map(|&s| f64::from(s));
        let bias = lesson.place(case).and_then(|place| places.get(place)).map_or(0.0, |bias| bias - usual);
        // Rare events: odds and chances are about the same, so a bias of the log-odds is a factor of the chance.
        let factor = if engaged_after_s.is_some() { (-bias).exp().clamp(1.0 / 3.0, 3.0) } else { 1.0 };
        examples.push(lesson.cases.row(case), engaged_after_s, lesson.cases.weights[case] * factor as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::online::tests::{Audience, CASES, model};

    #[test]
    fn only_weights_that_are_better_beyond_chance_take_over() {
        let truth = model([0.9, -0.5, 0.0, 0.3], [-3.0, -3.0, -2.5]);
        let stale = model([-0.5, 0.0, 0.9, 0.0], [-4.0, -3.0, -1.5]);
        let trained = |running: &HazardModel, count: usize| {
            let mut audience = Audience::new(truth.clone(), 3);
            let options = TrainOptions::default();
            let lessons = (0..count).map(|n| audience.lesson(running, running, false).thinned(8, n as u64));
            train(&TrainingSet::new(truth.schema(), lessons, count, &[], &options), &options).unwrap()
        };
        let found = trained(&stale, 500);
        assert!(found.comparison.better, "{:?}", found.comparison);
        assert_eq!(found.comparison.decisions, 100);
        let kept = trained(&truth, 500);
        assert!(!kept.comparison.better, "{:?}", kept.comparison);
    }

    #[test]
    fn thinned_lessons_keep_every_engagement_and_weigh_as_much() {
        let truth = model([0.9, -0.5, 0.0, 0.3], [-1.0, -3.0, -2.5]);
        let lesson = Audience::new(truth.clone(), 4).lesson(&truth, &truth, false);
        let engaged = lesson.outcomes.iter().filter(|o| **o < 3).count();
        let thin = lesson.thinned(5, 1);
        assert!(engaged > 2 && thin.len() == engaged + 5);
        assert_eq!(thin.outcomes.iter().filter(|o| **o < 3).count(), engaged);
        assert!((thin.cases.weights.iter().sum::<f32>() - CASES as f32).abs() < 1e-3);
        assert_eq!(lesson.thinned(100, 1).len(), CASES);
        let place = thin.cases.items[0].0 as usize;
        assert_eq!(thin.cases.row(0), lesson.cases.row(place));
        assert_eq!(thin.base[..3], lesson.base[place * 3..place * 3 + 3]);
    }
}
