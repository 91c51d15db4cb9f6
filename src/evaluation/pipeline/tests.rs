//! Does fitting see the past only, and does an evaluation join all its parts?

use super::*;
use crate::evaluation::{Aim, Learning, NothingElse, Ranker, mixture, simulate};

fn log() -> ClickLog {
    simulate(&mixture(1, 300, 5)[0], 5).log
}

fn settings() -> FitSettings {
    let draw = LearnOptions { learning: Learning::AfterSession, negatives: 0.05, ..LearnOptions::default() };
    FitSettings { max_decisions: 250, draw, ..FitSettings::default() }
}

fn nothing<'a>(_: Option<Source>) -> Box<dyn Surroundings + 'a> {
    Box::new(NothingElse)
}

#[test]
fn one_log_is_cut_in_time() {
    let log = log();
    let split = Split::of_one(log.clone(), 0.25).unwrap();
    let from = split.from.unwrap();
    assert_eq!(split.test, log);
    assert!(split.train.end().unwrap() < from);
    let late = log.sessions.iter().flat_map(|s| &s.clicks).filter(|&&(_, at)| at >= from).count();
    assert_eq!(late + split.train.clicks(), log.clicks());
    assert!((late as f64 / log.clicks() as f64 - 0.25).abs() < 0.01);
    assert!(Split::of_one(ClickLog::default(), 0.25).is_none());
}

#[test]
fn what_comes_later_changes_nothing_that_was_learned() {
    let log = log();
    let mut other = log.clone();
    let split = Split::of_one(log, 0.25).unwrap();
    let from = split.from.unwrap();
    for session in &mut other.sessions {
        for (item, at) in &mut session.clicks {
            if *at >= from {
                item.0 = (item.0 * 7 + 3) % 50;
            }
        }
    }
    let other = Split::of_one(other, 0.25).unwrap();
    assert_ne!(split.test, other.test);
    let fit = |split: &Split| fit_on_log(&split.train, &settings(), &mut NothingElse, &mut |_| {}).unwrap();
    assert_eq!(fit(&split).model, fit(&other).model);
}

#[test]
fn an_evaluation_fits_judges_and_ablates() {
    let split = Split::of_one(log(), 0.3).unwrap();
    let options = MeasureOptions { limit: Some(80), items: 500, resamples: 20, ..MeasureOptions::default() };
    let mut told = Vec::new();
    let found =
        evaluate(&split, None, &settings(), &options, &nothing, true, &mut |progress| told.push(progress)).unwrap();
    let (report, examples) = found.fitted.as_ref().unwrap();
    assert!(*examples > 100);
    for (loss, constant) in report.log_loss.iter().zip(&report.intercept_log_loss) {
        assert!(loss < constant, "{loss} {constant}");
    }
    let total = told.iter().filter_map(|p| match *p {
        Progress::Drawing { done, total } => Some((done, total)),
        Progress::Drawn { .. }
        | Progress::Fitting(_)
        | Progress::Growing { .. }
        | Progress::Judging { .. }
        | Progress::Ablating { .. } => None,
    });
    assert!(total.clone().count() > 60 && total.clone().all(|(done, total)| done <= total));
    assert!(told.iter().any(|p| matches!(p, Progress::Fitting(step) if step.interval == 2)));
    let sources: Vec<Source> = found.ablations.iter().map(|a| a.source).collect();
    assert_eq!(sources, [Source::Session, Source::Transition, Source::CoVisitation, Source::Trending]);
    let own = &found.measured.aims[2];
    assert_eq!(own.aim, Aim::Within(60));
    for ablation in &found.ablations {
        let less = &ablation.measured.aims[2];
        assert_eq!((less.positions, less.sessions), (own.positions, own.sessions));
        let mrr = |aim: &crate::evaluation::AimResult| aim.ranker(Ranker::Blend).unwrap().figures.mrr.value;
        let lost = ablation.lost[2].unwrap().mrr;
        assert!((lost.value - (mrr(own) - mrr(less))).abs() < 1e-12);
        assert!(lost.interval.is_some());
        assert!(!ablation.source.is_in(&ablation.measured.answered), "{:?} was silent", ablation.source);
    }
    let page = crate::evaluation::plots::page("A <title>", &["note".into()], &found);
    for part in
        ["A &lt;title&gt;", "MRR@20", "Reliability diagram of the 15 s", "co_visitation", "lost without", "</html>"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script"));
    assert_eq!(page.matches("http").count(), page.matches("<svg").count(), "no address but the name of SVG");
}

#[test]
fn given_weights_are_used_as_they_are() {
    let model = HazardModel::shipped().unwrap();
    let split = Split::of_two(log(), simulate(&mixture(1, 30, 6)[0], 5).log);
    assert_eq!(split.test.sessions[0].key, split.train.sessions.len() as u64);
    let options = MeasureOptions { items: 500, ..MeasureOptions::default() };
    let found = evaluate(&split, Some(&model), &settings(), &options, &nothing, false, &mut |_| {}).unwrap();
    assert!(found.fitted.is_none() && found.ablations.is_empty());
    assert_eq!((found.model, found.measured.moments), (model, split.test.clicks()));
}
