//! What does each drawing show? Bars of rankers, reliability diagrams, differences with their intervals.

use super::aim_name;
use super::svg::{Anchor, Scale, Svg};
use crate::evaluation::bootstrap::Estimate;
use crate::evaluation::calibration::Calibration;
use crate::evaluation::measure::{Figures, Measured};
use crate::evaluation::pipeline::Ablation;
use crate::evaluation::ranker::Ranker;

/// Which figure is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Hr,
    Mrr,
    Ndcg,
}

impl Metric {
    fn of(self, figures: &Figures) -> Estimate {
        match self {
            Self::Hr => figures.hr,
            Self::Mrr => figures.mrr,
            Self::Ndcg => figures.ndcg,
        }
    }
}

/// Bars by ranker in groups by aim.
pub(super) fn rankers(measured: &Measured, metric: Metric, label: &str) -> String {
    const SIZE: (f64, f64) = (920.0, 300.0);
    const LEFT: f64 = 44.0;
    const TOP: f64 = 34.0;
    const BOTTOM: f64 = 262.0;
    let shown: Vec<Ranker> =
        Ranker::ALL.into_iter().filter(|&r| measured.aims.iter().any(|aim| aim.ranker(r).is_some())).collect();
    let values = measured.aims.iter().flat_map(|aim| &aim.rankers).map(|r| {
        let estimate = metric.of(&r.figures);
        estimate.interval.map_or(estimate.value, |(_, high)| high)
    });
    let highest = values.fold(0.0_f64, f64::max).max(1e-6);
    let y = Scale::linear((0.0, highest * 1.08), (BOTTOM, TOP));
    let mut svg = Svg::new(SIZE.0, SIZE.1);
    let mut legend = LEFT;
    for ranker in &shown {
        svg.rect(ranker.name(), (legend, 8.0), (11.0, 11.0));
        svg.text("", (legend + 16.0, 18.0), Anchor::Start, ranker.name());
        legend += 34.0 + 6.6 * ranker.name().len() as f64;
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        svg.line("grid", (LEFT, at), (SIZE.0, at));
        svg.text("", (LEFT - 6.0, at + 4.0), Anchor::End, short(tick));
    }
    let group = (SIZE.0 - LEFT) / measured.aims.len().max(1) as f64;
    let bar = ((group - 36.0) / shown.len().max(1) as f64).min(60.0);
    for (index, aim) in measured.aims.iter().enumerate() {
        let middle = LEFT + group * (index as f64 + 0.5);
        let first = middle - bar * shown.len() as f64 / 2.0;
        for (place, &ranker) in shown.iter().enumerate() {
            let Some(result) = aim.ranker(ranker) else { continue };
            let estimate = metric.of(&result.figures);
            let (x, top) = (first + bar * place as f64, y.place(estimate.value));
            svg.titled(format_args!("{}, {}: {}", ranker.name(), aim_name(aim.aim), super::shown(estimate)), |svg| {
                svg.rect(ranker.name(), (x + 1.5, top), (bar - 3.0, BOTTOM - top));
                if let Some((low, high)) = estimate.interval {
                    let x = x + bar / 2.0;
                    svg.line("whisker", (x, y.place(low)), (x, y.place(high)));
                    for end in [low, high] {
                        svg.line("whisker", (x - 3.0, y.place(end)), (x + 3.0, y.place(end)));
                    }
                }
            });
            let label = format!("{:.3}", estimate.value);
            let above = estimate.interval.map_or(top, |(_, high)| y.place(high));
            svg.text("small", (x + bar / 2.0, above - 5.0), Anchor::Middle, label.trim_start_matches('0'));
        }
        svg.text("strong", (middle, BOTTOM + 18.0), Anchor::Middle, aim_name(aim.aim));
        let count = format!("{} positions", aim.positions);
        svg.text("small", (middle, BOTTOM + 33.0), Anchor::Middle, count);
    }
    svg.line("axis", (LEFT, BOTTOM), (SIZE.0, BOTTOM));
    svg.finish(label)
}

/// Predicted against observed, on logarithmic axes: most probabilities are small.
pub(super) fn reliability(calibration: &Calibration, name: &str) -> String {
    const LEFT: f64 = 54.0;
    const RIGHT: f64 = 292.0;
    const TOP: f64 = 30.0;
    const BOTTOM: f64 = 268.0;
    let rates = calibration.bins.iter().flat_map(|bin| [bin.predicted, bin.observed]).filter(|&rate| rate > 0.0);
    let (low, high) = rates.fold((1.0_f64, 1e-4_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    let range = (low.max(1e-6) * 0.6, (high * 1.6).min(1.0).max(low * 10.0));
    let (x, y) = (Scale::logarithmic(range, (LEFT, RIGHT)), Scale::logarithmic(range, (BOTTOM, TOP)));
    let mut svg = Svg::new(300.0, 312.0);
    for tick in x.ticks() {
        svg.line("grid", (x.place(tick), TOP), (x.place(tick), BOTTOM));
        svg.line("grid", (LEFT, y.place(tick)), (RIGHT, y.place(tick)));
        svg.text("", (x.place(tick), BOTTOM + 16.0), Anchor::Middle, short(tick));
        svg.text("", (LEFT - 5.0, y.place(tick) + 4.0), Anchor::End, short(tick));
    }
    svg.line("diagonal", (LEFT, BOTTOM), (RIGHT, TOP));
    let point = |bin: &crate::evaluation::CalibrationBin| (x.place(bin.predicted), y.place(bin.observed));
    svg.path("curve", &calibration.bins.iter().map(point).collect::<Vec<_>>());
    for bin in &calibration.bins {
        let title =
            format!("predicted {:.5}, observed {:.5}, {:.0} predictions", bin.predicted, bin.observed, bin.count);
        svg.titled(title, |svg| svg.dot("blend", point(bin), 4.0));
    }
    svg.line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    svg.line("axis", (LEFT, BOTTOM), (LEFT, TOP));
    svg.text("strong", (LEFT, 18.0), Anchor::Start, name);
    svg.text("", (RIGHT, 18.0), Anchor::End, format_args!("ECE {:.5}", calibration.ece));
    svg.text("", ((LEFT + RIGHT) / 2.0, BOTTOM + 34.0), Anchor::Middle, "predicted → (upwards: observed)");
    svg.finish(&format!("Reliability diagram of the {name} probabilities"))
}

/// A line of a drawing of differences.
struct Difference {
    name: String,
    estimate: Estimate,
}

/// How far each horizon's own list is above the others.
pub(super) fn own_over_others(measured: &Measured) -> String {
    let differences: Vec<Difference> = measured
        .aims
        .iter()
        .flat_map(|aim| {
            aim.over_others.iter().map(|(seconds, figures)| Difference {
                name: format!("{} with its own list over the {seconds} s list", aim_name(aim.aim)),
                estimate: figures.mrr,
            })
        })
        .chain(measured.over_one_list.iter().map(|(seconds, figures)| Difference {
            name: format!("all with their own lists over the {seconds} s list"),
            estimate: figures.mrr,
        }))
        .collect();
    differences_chart(&differences, 920.0, 270.0, "", "Own list above another horizon's list")
}

/// What each source contributes at one aim.
pub(super) fn ablations(ablations: &[Ablation], aim: usize, name: &str) -> String {
    let differences: Vec<Difference> = ablations
        .iter()
        .filter_map(|ablation| {
            let figures = ablation.lost.get(aim).copied().flatten()?;
            Some(Difference { name: ablation.source.name().into(), estimate: figures.mrr })
        })
        .collect();
    differences_chart(&differences, 300.0, 92.0, name, &format!("MRR lost without each source, {name}"))
}

/// Bars to the right of zero (worth having) or to the left, with whiskers.
fn differences_chart(differences: &[Difference], width: f64, left: f64, heading: &str, label: &str) -> String {
    const ROW: f64 = 26.0;
    const TOP: f64 = 28.0;
    let bottom = TOP + ROW * differences.len() as f64;
    let ends = differences.iter().flat_map(|d| {
        let (low, high) = d.estimate.interval.unwrap_or((d.estimate.value, d.estimate.value));
        [low, high]
    });
    let (low, high) = ends.fold((0.0_f64, 1e-4_f64), |(low, high), end| (low.min(end), high.max(end)));
    // Room for the figures at the right.
    let x = Scale::linear((low * 1.05, high * 1.05), (left, width - 58.0));
    let mut svg = Svg::new(width, bottom + 26.0);
    svg.text("strong", (4.0, 16.0), Anchor::Start, heading);
    let ticks = x.ticks();
    // Where there is little room every other mark has its number, zero always.
    let every = if width < 400.0 { 2 } else { 1 };
    let zero = ticks.iter().position(|tick| tick.abs() < 1e-12).unwrap_or_default();
    for (number, &tick) in ticks.iter().enumerate() {
        svg.line("grid", (x.place(tick), TOP), (x.place(tick), bottom));
        if number.abs_diff(zero) % every == 0 {
            svg.text("small", (x.place(tick), bottom + 15.0), Anchor::Middle, short(tick));
        }
    }
    for (number, Difference { name, estimate }) in differences.iter().enumerate() {
        let middle = TOP + ROW * (number as f64 + 0.5);
        let (zero, end) = (x.place(0.0), x.place(estimate.value));
        let class = if estimate.value < 0.0 { "gain" } else { "loss" };
        svg.titled(format_args!("{name}: {}", super::shown(*estimate)), |svg| {
            svg.rect(class, (zero.min(end), middle - 7.0), ((end - zero).abs(), 14.0));
            if let Some((low, high)) = estimate.interval {
                svg.line("whisker", (x.place(low), middle), (x.place(high), middle));
                for at in [low, high] {
                    svg.line("whisker", (x.place(at), middle - 4.0), (x.place(at), middle + 4.0));
                }
            }
        });
        svg.text("", (left - 8.0, middle + 4.0), Anchor::End, name);
        svg.text("small", (width - 2.0, middle + 4.0), Anchor::End, format_args!("{:+.4}", estimate.value));
    }
    svg.line("axis", (x.place(0.0), TOP), (x.place(0.0), bottom));
    svg.finish(label)
}

/// A value of an axis without digits that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.5}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".into() } else { text.into() }
}
