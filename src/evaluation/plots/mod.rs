//! What did an evaluation find, at a glance? One page of HTML with drawings in it, which needs nothing else.

mod charts;
mod svg;

use std::fmt::Write as _;

use self::svg::escaped;
use super::bootstrap::Estimate;
use super::measure::Aim;
use super::pipeline::Evaluated;
use super::ranker::Ranker;

/// Colours for light and for dark, by class: the blend stands out, the others differ in hue and lightness.
const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 0 1rem; background: #fff; color: #1b1f24; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
p { margin: .3rem 0 .8rem; color: #57606a; } svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #d8dee4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } .row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row > svg { flex: 1 1 260px; width: 260px; } .wide { overflow-x: auto; } tr.blend { font-weight: 600; }
.grid { stroke: #d8dee4; stroke-width: 1; } .axis { stroke: #8c959f; stroke-width: 1; }
.diagonal { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 4 4; }
.whisker { stroke: #1b1f24; stroke-width: 1.2; opacity: .75; } .curve { fill: none; stroke: #0b62d6; stroke-width: 2; }
text { font: 12px system-ui, sans-serif; fill: #57606a; } text.strong { font-weight: 600; fill: #1b1f24; }
text.small { font-size: 10.5px; }
.blend { fill: #0b62d6; } .session_knn { fill: #e07b00; } .co_visitation { fill: #1a8f6e; } .transition { fill: #a34fc0; }
.popularity { fill: #9aa4ae; } .preference { fill: #d1495b; } .visual { fill: #c2a300; } .loss { fill: #0b62d6; }
.gain { fill: #d1495b; }
@media (prefers-color-scheme: dark) {
  body { background: #0f1419; color: #e6edf3; } p, text { color: #9aa7b4; fill: #9aa7b4; }
  text.strong { fill: #e6edf3; } th, td { border-color: #2c353e; } .grid { stroke: #2c353e; }
  .axis, .diagonal { stroke: #68737e; } .whisker { stroke: #e6edf3; } .curve { stroke: #58a6ff; }
  .blend, .loss { fill: #58a6ff; } .session_knn { fill: #f0993a; } .co_visitation { fill: #3fbf97; }
  .transition { fill: #c58be0; } .popularity { fill: #6e7a86; } .preference, .gain { fill: #f07080; } .visual { fill: #dcc04a; }
}
";

/// The page. `notes` say what was evaluated and how, one paragraph each.
pub fn page(title: &str, notes: &[String], evaluated: &Evaluated) -> String {
    let measured = &evaluated.measured;
    let (title, k) = (escaped(title), measured.k);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    let mut add = |text: &str| {
        html.push_str(text);
        html.push('\n');
    };
    notes.iter().for_each(|note| add(&format!("<p>{}</p>", escaped(note))));
    for (name, heading, meaning) in [
        (charts::Metric::Mrr, "MRR", "The mean of 1 / rank of the first item that the session turned to."),
        (charts::Metric::Hr, "Hit rate", "The share of positions with such an item in the list."),
        (charts::Metric::Ndcg, "NDCG", "How near the lists come to the ideal order."),
    ] {
        add(&format!("<h2>{heading}@{k}</h2>\n<p>{meaning} Whiskers are 95 % intervals, resampled over sessions.</p>"));
        add(&charts::rankers(measured, name, &format!("{heading} by ranker and horizon")));
    }
    if measured.aims.iter().any(|aim| aim.calibration.is_some()) {
        add("<h2>Do the probabilities hold?</h2>");
        add(
            "<p>Each dot is a tenth of the blend's predictions: what was predicted, and how often it came true. On the \
             dashed line both are the same.</p>\n<div class=\"row\">",
        );
        for aim in &measured.aims {
            if let Some(calibration) = &aim.calibration {
                add(&charts::reliability(calibration, &aim_name(aim.aim)));
            }
        }
        add("</div>");
    }
    if measured.aims.iter().any(|aim| !aim.over_others.is_empty()) {
        add("<h2>Is a list for each horizon worth it?</h2>");
        add(&format!("<p>MRR@{k} of each horizon's own list above that of another horizon's list in its place.</p>"));
        add(&charts::own_over_others(measured));
    }
    if !evaluated.ablations.is_empty() {
        add("<h2>What does each source contribute?</h2>");
        let how = if evaluated.fitted.is_some() { "fitted anew " } else { "" };
        add(&format!("<p>MRR@{k} that is lost by a blend {how}without the source.</p>\n<div class=\"row\">"));
        for (index, aim) in measured.aims.iter().enumerate() {
            add(&charts::ablations(&evaluated.ablations, index, &aim_name(aim.aim)));
        }
        add("</div>");
    }
    add("<h2>In numbers</h2>");
    add(&table(evaluated));
    add("</body>\n</html>");
    html
}

/// What an aim is called.
fn aim_name(aim: Aim) -> String {
    match aim {
        Aim::Within(seconds) => format!("{seconds} s"),
        Aim::Next(count) => format!("next {count}"),
    }
}

fn table(evaluated: &Evaluated) -> String {
    let measured = &evaluated.measured;
    let k = measured.k;
    let mut html = format!(
        "<div class=\"wide\"><table>\n<tr><th>Ranker</th><th>Aim</th><th>Positions</th><th>HR@{k}</th><th>MRR@{k}</th>\
         <th>NDCG@{k}</th><th>Coverage</th></tr>\n"
    );
    for aim in &measured.aims {
        for ranker in &aim.rankers {
            let class = if ranker.ranker == Ranker::Blend { " class=\"blend\"" } else { "" };
            let figures = ranker.figures;
            // Writing to a string cannot fail.
            let _ = writeln!(
                html,
                "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1} %</td></tr>",
                ranker.ranker.name(),
                aim_name(aim.aim),
                aim.positions,
                shown(figures.hr),
                shown(figures.mrr),
                shown(figures.ndcg),
                100.0 * ranker.coverage
            );
        }
    }
    html.push_str("</table></div>\n");
    html
}

/// A figure with its interval.
fn shown(estimate: Estimate) -> String {
    match estimate.interval {
        Some((low, high)) => format!("{:.4} [{low:.4}, {high:.4}]", estimate.value),
        None => format!("{:.4}", estimate.value),
    }
}
