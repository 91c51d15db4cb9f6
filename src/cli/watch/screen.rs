//! What does a terminal show of an answer? Three columns, and how each place has moved.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

const BAR: usize = 8;
const NARROWEST: usize = 24;
const COLOURS: [u8; 3] = [36, 34, 35];

/// Draws one answer after the other.
pub(super) struct Screen {
    terminal: bool,
    /// Of each list, where its items stood.
    before: Vec<HashMap<String, usize>>,
    cuts: u32,
}

impl Screen {
    /// For a terminal, each answer in the place of the one before; else one below the other.
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, before: Vec::new(), cuts: 0 }
    }

    /// The text of an answer.
    pub(super) fn draw(&mut self, at_s: f64, answer: &Value, titles: &HashMap<String, String>) -> String {
        let width = if self.terminal { columns_of_terminal() } else { 120 };
        let recommendation = &answer["recommendation"];
        let lists = recommendation["horizons"].as_array().map_or(&[][..], Vec::as_slice);
        let column = (width / lists.len().max(1)).saturating_sub(2).max(NARROWEST);
        let motion = &answer["frame"]["motion"];
        let cut = motion["cut"].as_bool().unwrap_or_default();
        self.cuts += u32::from(cut);
        let mut text = String::new();
        if self.terminal {
            text.push_str("\u{1b}[H\u{1b}[J");
        }
        let seconds = at_s as u64;
        let _ = writeln!(
            text,
            "{:02}:{:02}  {}  motion {:.2}  {} cuts  {:.0} ms  {}{}",
            seconds / 60,
            seconds % 60,
            if cut { "cut" } else { "   " },
            motion["energy"].as_f64().unwrap_or_default(),
            self.cuts,
            recommendation["took_ms"].as_f64().unwrap_or_default(),
            plain(recommendation["model"].as_str().unwrap_or_default()),
            if recommendation["degraded"].as_bool().unwrap_or_default() { "  degraded" } else { "" },
        );
        let heads = lists.iter().enumerate().map(|(n, list)| {
            self.coloured(n, &fit(&format!("within {} s", list["seconds"].as_u64().unwrap_or_default()), column))
        });
        let _ = writeln!(text, "\n{}", heads.collect::<Vec<_>>().join("  ").trim_end());
        let most = places(lists).filter_map(|place| place["probability"].as_f64()).fold(1e-9, f64::max);
        let rows = lists.iter().filter_map(|list| list["items"].as_array().map(Vec::len)).max().unwrap_or_default();
        self.before.resize_with(lists.len(), HashMap::new);
        for row in 0..rows {
            let cells = lists.iter().enumerate().map(|(n, list)| {
                let place = &list["items"][row];
                let Some(id) = place["item_id"].as_str() else { return fit("", column) };
                let probability = place["probability"].as_f64().unwrap_or_default();
                let moved = match self.before[n].get(id) {
                    None => '+',
                    Some(&before) if before > row => '↑',
                    Some(&before) if before < row => '↓',
                    Some(_) => ' ',
                };
                let filled = ((probability / most) * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
                let bar = format!("{}{}", "█".repeat(filled), "·".repeat(BAR - filled));
                let title = plain(titles.get(id).map_or(id, String::as_str));
                let rest = fit(&title, column.saturating_sub(BAR + 9));
                format!("{moved}{:5.2}% {} {rest}", 100.0 * probability, self.coloured(n, &bar))
            });
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        for (before, list) in self.before.iter_mut().zip(lists) {
            let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
            let ids = items.iter().enumerate().filter_map(|(n, i)| Some((i["item_id"].as_str()?.to_owned(), n)));
            *before = ids.collect();
        }
        text
    }

    fn coloured(&self, list: usize, text: &str) -> String {
        if self.terminal {
            format!("\u{1b}[{}m{text}\u{1b}[0m", COLOURS[list % COLOURS.len()])
        } else {
            text.to_owned()
        }
    }
}

fn places(lists: &[Value]) -> impl Iterator<Item = &Value> {
    lists.iter().filter_map(|list| list["items"].as_array()).flatten()
}

/// Without what a terminal would obey: titles come from whoever wrote the catalogue.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Exactly `width` characters.
fn fit(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return format!("{text}{}", " ".repeat(width - count));
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn columns_of_terminal() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(120, |size| usize::from(size.ws_col)).max(40)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(order: [&str; 2]) -> Value {
        let items: Vec<Value> = order.iter().map(|id| json!({"item_id": id, "probability": 0.01})).collect();
        json!({"frame": {"motion": {"energy": 0.25, "cut": true}}, "recommendation": {"took_ms": 7.4, "model": "m",
            "horizons": [{"seconds": 15, "items": items}, {"seconds": 30, "items": items}]}})
    }

    #[test]
    fn places_move_and_titles_are_only_text() {
        let titles = HashMap::from([("a".to_owned(), "Evil\u{1b}[2J\u{7} title".to_owned())]);
        let mut screen = Screen::new(false);
        let first = screen.draw(61.0, &answer(["a", "b"]), &titles);
        assert!(first.starts_with("01:01  cut  motion 0.25  1 cuts  7 ms  m\n"), "{first}");
        assert!(first.contains("within 15 s") && first.contains("within 30 s"), "{first}");
        assert!(first.contains("+ 1.00% ████████ Evil [2J  title"), "{first}");
        assert!(!first.contains(['\u{1b}', '\u{7}']), "{first:?}");
        let second = screen.draw(62.0, &answer(["b", "a"]), &titles);
        assert!(second.contains("↑ 1.00% ████████ b") && second.contains("↓ 1.00% ████████ Evil"), "{second}");
    }

    #[test]
    fn columns_have_their_width() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("äöüß?", 4), "äöü…");
    }
}
