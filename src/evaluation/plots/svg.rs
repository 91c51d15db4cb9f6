//! How is a drawing written down? A small writer of SVG: shapes with classes, texts, and a scale for an axis.

use std::fmt::{Display, Write as _};

/// A drawing. Colours and fonts come from the page's style sheet, by class.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Values to places, straight or by their logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    values: (f64, f64),
    places: (f64, f64),
    logarithmic: bool,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A rectangle from its upper left corner; one without size is left out.
    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        if width > 0.0 && height > 0.0 {
            self.shape(format_args!(
                r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2"/>"#
            ));
        }
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.shape(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        self.shape(format_args!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"/>"#));
    }

    /// A line through points.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.shape(format_args!(r#"<polyline class="{class}" points="{}"/>"#, points.join(" ")));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: impl Display) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(&text.to_string());
        self.shape(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// What is drawn by `draw` tells `title` to whoever points at it.
    pub(super) fn titled(&mut self, title: impl Display, draw: impl FnOnce(&mut Self)) {
        self.shape(format_args!("<g><title>{}</title>", escaped(&title.to_string())));
        draw(self);
        self.shape("</g>");
    }

    /// The drawing with a description for those who cannot see it.
    pub(super) fn finish(self, label: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             aria-label=\"{}\">\n{body}</svg>\n",
            escaped(label)
        )
    }

    fn shape(&mut self, shape: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{shape}");
    }
}

impl Scale {
    pub(super) fn linear(values: (f64, f64), places: (f64, f64)) -> Self {
        Self { values, places, logarithmic: false }
    }

    /// Both `values` must be above 0.
    pub(super) fn logarithmic(values: (f64, f64), places: (f64, f64)) -> Self {
        Self { values, places, logarithmic: true }
    }

    /// Where `value` is, within the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        let warp = |v: f64| if self.logarithmic { v.max(f64::MIN_POSITIVE).ln() } else { v };
        let (low, high) = (warp(self.values.0), warp(self.values.1));
        let share = if high > low { ((warp(value) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    /// Round values to mark: decades, or four to eight steps of 1, 2 or 5.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        if self.logarithmic {
            let decades = low.log10().ceil() as i32..=high.log10().floor() as i32;
            return decades.map(|decade| 10.0_f64.powi(decade)).collect();
        }
        if high <= low {
            return vec![low];
        }
        let rough = (high - low) / 5.0;
        let decade = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * decade).into_iter().find(|&s| s >= rough).unwrap_or(rough);
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// Text that stands for itself in XML and HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && c != '\n' => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_place_and_mark() {
        let scale = Scale::linear((0.0, 0.5), (100.0, 0.0));
        assert_eq!((scale.place(0.0), scale.place(0.25), scale.place(9.0)), (100.0, 50.0, 0.0));
        let ticks: Vec<String> = scale.ticks().iter().map(|t| format!("{t:.1}")).collect();
        assert_eq!(ticks, ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        let scale = Scale::logarithmic((0.001, 1.0), (0.0, 300.0));
        assert!((scale.place(0.01) - 100.0).abs() < 1e-9);
        assert_eq!((scale.ticks().len(), scale.place(0.0)), (4, 0.0));
    }

    #[test]
    fn texts_stand_for_themselves() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text("a", (1.0, 2.0), Anchor::End, "<b> & \"c\"\u{7}");
        svg.rect("r", (0.0, 0.0), (0.0, 5.0));
        let text = svg.finish("x<y");
        assert!(text.contains("&lt;b&gt; &amp; &quot;c&quot;</text>"), "{text}");
        assert!(text.contains("x&lt;y") && !text.contains("<rect"));
    }
}
