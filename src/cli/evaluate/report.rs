//! How is an evaluation told? A table for people and JSON for programs.

use serde_json::{Map, Value, json};

use crate::evaluation::{Aim, AimResult, Calibration, Estimate, Evaluated, Figures, Ranker};

/// What was evaluated, for both.
#[derive(Debug)]
pub(super) struct About {
    /// Sessions and clicks to learn from.
    pub(super) train: (usize, usize),
    /// Sessions and clicks to judge on.
    pub(super) test: (usize, usize),
    pub(super) items: usize,
    pub(super) learning: &'static str,
    pub(super) weights: String,
    pub(super) exclude_seen: bool,
    pub(super) arrivals: bool,
    pub(super) seed: u64,
    pub(super) resamples: usize,
}

impl About {
    /// A sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let (train, test) = (self.train, self.test);
        let mut notes = vec![
            format!(
                "Learned from {} clicks of {} sessions; judged on {} clicks of {} sessions; {} items.",
                train.1, train.0, test.1, test.0, self.items
            ),
            format!(
                "Weights: {}. Learning: {}. Intervals: 95 %, {} resamples of sessions, seed {}.",
                self.weights, self.learning, self.resamples, self.seed
            ),
        ];
        if self.arrivals {
            notes.push("Judged just before the first click of each session: nothing is known of who comes.".into());
        }
        notes
    }
}

/// The JSON. Names are stable; figures without intervals have `null` in their place.
pub(super) fn json(about: &About, evaluated: &Evaluated) -> Value {
    let measured = &evaluated.measured;
    let mut document = json!({
        "k": measured.k,
        "learning": about.learning,
        "weights": about.weights,
        "exclude_seen": about.exclude_seen,
        "arrivals": about.arrivals,
        "seed": about.seed,
        "resamples": about.resamples,
        "items": about.items,
        "train": {"sessions": about.train.0, "clicks": about.train.1},
        "test": {"sessions": about.test.0, "clicks": about.test.1},
        "moments": measured.moments,
        "horizons": aims(&measured.aims, false),
    });
    let over_one = measured.over_one_list.iter().map(|(seconds, over)| (seconds.to_string(), figures(over)));
    document["own_lists_over_one_list"] = Value::Object(over_one.collect());
    if let Some(next) = aims(&measured.aims, true).pop() {
        document["next"] = next;
    }
    if let Some((report, examples)) = &evaluated.fitted {
        document["fit"] = json!({
            "examples": examples,
            "at_risk": report.at_risk,
            "engagements": report.engagements,
            "steps": report.steps,
            "log_loss": report.log_loss,
            "intercept_log_loss": report.intercept_log_loss,
        });
    }
    let ablations: Map<String, Value> = evaluated
        .ablations
        .iter()
        .map(|ablation| {
            let one = |aim: &AimResult, lost: &Option<Figures>| {
                let mut part = aim_key(aim.aim);
                let blend = aim.ranker(Ranker::Blend).map_or(json!({}), |blend| figures(&blend.figures));
                part.extend([("blend".into(), blend), ("lost".into(), lost.as_ref().map_or(Value::Null, figures))]);
                if let Some(calibration) = &aim.calibration {
                    part.insert("ece".into(), calibration.ece.into());
                    part.insert("log_loss".into(), calibration.log_loss.into());
                }
                Value::Object(part)
            };
            let parts = ablation.measured.aims.iter().zip(&ablation.lost);
            let (next, horizons): (Vec<_>, Vec<_>) = parts.partition(|(aim, _)| matches!(aim.aim, Aim::Next(_)));
            let horizons: Vec<Value> = horizons.into_iter().map(|(aim, lost)| one(aim, lost)).collect();
            let mut entry = json!({ "horizons": horizons });
            if let Some((aim, lost)) = next.first() {
                entry["next"] = one(aim, lost);
            }
            (format!("without_{}", ablation.source.name()), entry)
        })
        .collect();
    if !ablations.is_empty() {
        document["ablations"] = ablations.into();
    }
    document
}

fn aims(aims: &[AimResult], next: bool) -> Vec<Value> {
    aims.iter().filter(|aim| matches!(aim.aim, Aim::Next(_)) == next).map(aim_json).collect()
}

fn aim_key(aim: Aim) -> Map<String, Value> {
    let (name, value) = match aim {
        Aim::Within(seconds) => ("seconds", Value::from(seconds)),
        Aim::Next(count) => ("engagements", Value::from(count)),
    };
    Map::from_iter([(name.to_owned(), value)])
}

fn aim_json(aim: &AimResult) -> Value {
    let mut part = aim_key(aim.aim);
    part.insert("positions".into(), aim.positions.into());
    part.insert("sessions".into(), aim.sessions.into());
    if let Some(calibration) = &aim.calibration {
        part.insert("ece".into(), calibration.ece.into());
        let bounds = calibration.ece_interval.map_or(Value::Null, |(low, high)| json!([low, high]));
        part.insert("ece_interval".into(), bounds);
        part.insert("log_loss".into(), calibration.log_loss.into());
        part.insert("log_loss_interval".into(), aim.log_loss.map_or(Value::Null, interval));
        part.insert("constant_log_loss".into(), calibration.constant_log_loss.into());
        part.insert("calibration".into(), calibration_json(calibration));
    }
    let rankers = aim.rankers.iter().map(|ranker| {
        let mut entry = figures(&ranker.figures);
        entry["coverage"] = ranker.coverage.into();
        (ranker.ranker.name().to_owned(), entry)
    });
    part.insert("rankers".into(), Value::Object(rankers.collect()));
    let over_best = aim.over_best.as_ref().map(|(ranker, difference)| {
        let mut entry = figures(difference);
        entry["ranker"] = ranker.name().into();
        entry
    });
    part.insert("differences".into(), json!({ "blend_over_best": over_best }));
    if matches!(aim.aim, Aim::Within(_)) {
        let others = aim.over_others.iter().map(|(seconds, difference)| (seconds.to_string(), figures(difference)));
        part.insert("own_horizon_over_others".into(), Value::Object(others.collect()));
    }
    Value::Object(part)
}

fn calibration_json(calibration: &Calibration) -> Value {
    let bin = |bin: &crate::evaluation::CalibrationBin| json!({"predicted": bin.predicted, "observed": bin.observed, "count": bin.count.round()});
    json!({
        "predictions": calibration.predictions,
        "bins": calibration.bins.iter().map(bin).collect::<Vec<_>>(),
        "top_decile": calibration.top().as_ref().map(bin),
    })
}

fn figures(figures: &Figures) -> Value {
    let Figures { hr, mrr, ndcg } = figures;
    json!({
        "hr": hr.value, "hr_interval": interval(*hr),
        "mrr": mrr.value, "mrr_interval": interval(*mrr),
        "ndcg": ndcg.value, "ndcg_interval": interval(*ndcg),
    })
}

fn interval(estimate: Estimate) -> Value {
    estimate.interval.map_or(Value::Null, |(low, high)| json!([low, high]))
}

/// The table, line by line.
pub(super) fn table(about: &About, evaluated: &Evaluated) -> Vec<String> {
    let measured = &evaluated.measured;
    let k = measured.k;
    let mut lines = about.notes();
    lines.push(format!("Lists were asked for at {} moments.", measured.moments));
    for aim in &measured.aims {
        lines.push(String::new());
        lines.push(heading(aim));
        lines.push(format!(
            "  {:<14} {:<23} {:<23} {:<23} {:>9}",
            "ranker",
            format!("HR@{k}"),
            format!("MRR@{k}"),
            format!("NDCG@{k}"),
            "coverage"
        ));
        for ranker in &aim.rankers {
            let Figures { hr, mrr, ndcg } = ranker.figures;
            lines.push(format!(
                "  {:<14} {:<23} {:<23} {:<23} {:>7.1} %",
                ranker.ranker.name(),
                shown(hr),
                shown(mrr),
                shown(ndcg),
                100.0 * ranker.coverage
            ));
        }
        if let Some((best, difference)) = &aim.over_best {
            let best = best.name();
            lines.push(format!(
                "  the blend over {best}: MRR {}, HR {}",
                difference_shown(difference.mrr),
                difference_shown(difference.hr)
            ));
        }
        for (seconds, difference) in &aim.over_others {
            let (mrr, hr) = (difference_shown(difference.mrr), difference_shown(difference.hr));
            lines.push(format!("  its own list over the {seconds} s list: MRR {mrr}, HR {hr}"));
        }
    }
    if measured.over_one_list.len() > 1 {
        lines.push(String::new());
        lines.push("own lists over one list for all horizons, mean of the horizons".into());
        for (seconds, Figures { hr, mrr, .. }) in &measured.over_one_list {
            let (mrr, hr) = (difference_shown(*mrr), difference_shown(*hr));
            lines.push(format!("  over the {seconds} s list: MRR {mrr}, HR {hr}"));
        }
    }
    if !evaluated.ablations.is_empty() {
        lines.push(String::new());
        lines.push(format!("MRR@{k} that is lost without a source"));
        let names: Vec<String> = measured.aims.iter().map(|aim| format!("{:<26}", aim_name(aim.aim))).collect();
        lines.push(format!("  {:<14} {}", "source", names.join(" ")).trim_end().to_owned());
        for ablation in &evaluated.ablations {
            let lost = ablation.lost.iter().flatten().map(|figures| difference_shown(figures.mrr));
            let cells: Vec<String> = lost.map(|text| format!("{text:<26}")).collect();
            lines.push(format!("  {:<14} {}", ablation.source.name(), cells.join(" ")).trim_end().to_owned());
        }
    }
    lines
}

/// What an aim is called.
pub(in crate::cli) fn aim_name(aim: Aim) -> String {
    match aim {
        Aim::Within(seconds) => format!("{seconds} s"),
        Aim::Next(count) => format!("next {count}"),
    }
}

fn heading(aim: &AimResult) -> String {
    let mut text = format!("{}: {} positions of {} sessions", aim_name(aim.aim), aim.positions, aim.sessions);
    if let Some(calibration) = &aim.calibration {
        let Calibration { ece, ece_interval, log_loss, constant_log_loss, .. } = calibration;
        let bounds = ece_interval.map_or(String::new(), |(low, high)| format!(" [{low:.5}, {high:.5}]"));
        text.push_str(&format!(
            "; ECE {ece:.5}{bounds}, log loss {log_loss:.5} ({constant_log_loss:.5} of a constant)"
        ));
        if let Some(top) = calibration.top() {
            text.push_str(&format!("; top tenth: predicted {:.4}, observed {:.4}", top.predicted, top.observed));
        }
    }
    text
}

fn shown(estimate: Estimate) -> String {
    match estimate.interval {
        Some((low, high)) => format!("{:.4} [{low:.4}, {high:.4}]", estimate.value),
        None => format!("{:.4}", estimate.value),
    }
}

fn difference_shown(estimate: Estimate) -> String {
    match estimate.interval {
        Some((low, high)) => format!("{:+.4} [{low:+.4}, {high:+.4}]", estimate.value),
        None => format!("{:+.4}", estimate.value),
    }
}
