//! Placeholder painter.
use super::Shot;
use super::canvas::Canvas;
pub(super) const LIGHTS: [&str; 1] = ["in daylight"];
pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    super::sea::paint(canvas, shot);
}
