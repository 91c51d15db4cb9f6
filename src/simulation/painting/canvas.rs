//! On what is painted? A picture in floating point, and the strokes that every theme is painted with.
//!
//! The world is as wide as [`WIDE`] and as high as 1, with y pointing down; what of it is seen is the camera's choice.
//! All shapes have soft edges of one pixel, so that pictures look the same in every size.

use crate::domain::Pixels;

use super::colour::{Colour, gradient, smooth};
use super::noise::scramble;

/// The width of the world, whose height is 1: 16:9.
pub(super) const WIDE: f32 = 16.0 / 9.0;

/// A picture in the making.
pub(super) struct Canvas {
    columns: usize,
    rows: usize,
    /// World units from one pixel to the next.
    pixel: f32,
    left: f32,
    top: f32,
    data: Vec<Colour>,
}

/// How the finished picture is developed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grade {
    /// Rotation of all hues, in turns.
    pub(super) hue: f32,
    /// 1 leaves colours as they are, 0 makes them grey.
    pub(super) saturation: f32,
    /// Added to red and taken from blue.
    pub(super) warmth: f32,
    /// 1 leaves contrast as it is.
    pub(super) contrast: f32,
    /// How dark the corners become, 0 to 1.
    pub(super) vignette: f32,
    /// Changes the grain from frame to frame.
    pub(super) grain_seed: u32,
}

impl Canvas {
    /// A canvas of `columns` × `rows` pixels that sees the world around (`x`, `y`), magnified `zoom` times (at least 1).
    pub(super) fn new(columns: usize, rows: usize, x: f32, y: f32, zoom: f32) -> Self {
        let high = 1.0 / zoom;
        let pixel = high / rows as f32;
        let wide = pixel * columns as f32;
        let keep = |centre: f32, size: f32, whole: f32| {
            (centre - size * 0.5).clamp(0.0, (whole - size).max(0.0)) + ((whole - size) * 0.5).min(0.0)
        };
        let (left, top) = (keep(x, wide, WIDE), keep(y, high, 1.0));
        Self { columns, rows, pixel, left, top, data: vec![super::colour::BLACK; columns * rows] }
    }

    fn x_at(&self, column: usize) -> f32 {
        self.left + (column as f32 + 0.5) * self.pixel
    }

    fn y_at(&self, row: usize) -> f32 {
        self.top + (row as f32 + 0.5) * self.pixel
    }

    /// The columns between two places of the world.
    fn columns_between(&self, from: f32, to: f32) -> std::ops::Range<usize> {
        let place = |x: f32| (((x - self.left) / self.pixel).clamp(0.0, self.columns as f32)) as usize;
        place(from)..place(to + self.pixel * 2.0).max(place(from))
    }

    fn rows_between(&self, from: f32, to: f32) -> std::ops::Range<usize> {
        let place = |y: f32| (((y - self.top) / self.pixel).clamp(0.0, self.rows as f32)) as usize;
        place(from)..place(to + self.pixel * 2.0).max(place(from))
    }

    /// Changes every pixel of a rectangle given by its left, top, right and bottom.
    pub(super) fn each(&mut self, area: [f32; 4], mut change: impl FnMut(f32, f32, Colour) -> Colour) {
        let columns = self.columns_between(area[0], area[2]);
        for row in self.rows_between(area[1], area[3]) {
            let y = self.y_at(row);
            for column in columns.clone() {
                let x = self.x_at(column);
                let pixel = &mut self.data[row * self.columns + column];
                *pixel = change(x, y, *pixel);
            }
        }
    }

    /// Fills everything with a gradient from top to bottom.
    pub(super) fn sky(&mut self, stops: &[(f32, Colour)]) {
        for row in 0..self.rows {
            let colour = gradient(stops, self.y_at(row));
            self.data[row * self.columns..(row + 1) * self.columns].fill(colour);
        }
    }

    /// Lays a soft-edged shape, given by its signed distance (negative inside), over a rectangle.
    pub(super) fn shape(
        &mut self,
        area: [f32; 4],
        opacity: f32,
        distance: impl Fn(f32, f32) -> f32,
        paint: impl Fn(f32, f32) -> Colour,
    ) {
        let sharp = 1.0 / self.pixel;
        let margin = self.pixel;
        self.each([area[0] - margin, area[1] - margin, area[2] + margin, area[3] + margin], |x, y, under| {
            let cover = (0.5 - distance(x, y) * sharp).clamp(0.0, 1.0) * opacity;
            if cover > 0.0 { under.mix(paint(x, y), cover) } else { under }
        });
    }

    /// An ellipse with radii `rx` and `ry`.
    pub(super) fn ellipse(&mut self, x: f32, y: f32, rx: f32, ry: f32, colour: Colour) {
        let (rx, ry) = (rx.max(1e-4), ry.max(1e-4));
        let least = rx.min(ry);
        self.shape(
            [x - rx, y - ry, x + rx, y + ry],
            1.0,
            |px, py| ((((px - x) / rx).powi(2) + ((py - y) / ry).powi(2)).sqrt() - 1.0) * least,
            |_, _| colour,
        );
    }

    /// A disc.
    pub(super) fn disc(&mut self, x: f32, y: f32, radius: f32, colour: Colour) {
        self.ellipse(x, y, radius, radius, colour);
    }

    /// A ring of this thickness around a disc.
    pub(super) fn ring(&mut self, x: f32, y: f32, radius: f32, thickness: f32, colour: Colour) {
        let outer = radius + thickness;
        self.shape(
            [x - outer, y - outer, x + outer, y + outer],
            1.0,
            |px, py| (((px - x).powi(2) + (py - y).powi(2)).sqrt() - radius).abs() - thickness * 0.5,
            |_, _| colour,
        );
    }

    /// A rectangle by its left, top, right and bottom, with rounded corners.
    pub(super) fn bar(&mut self, area: [f32; 4], corner: f32, colour: Colour) {
        let [left, top, right, bottom] = area;
        let (cx, cy) = ((left + right) * 0.5, (top + bottom) * 0.5);
        let (hx, hy) = ((right - left) * 0.5 - corner, (bottom - top) * 0.5 - corner);
        self.shape(
            area,
            1.0,
            |x, y| {
                let (dx, dy) = ((x - cx).abs() - hx, (y - cy).abs() - hy);
                (dx.max(0.0).powi(2) + dy.max(0.0).powi(2)).sqrt() + dx.max(dy).min(0.0) - corner
            },
            |_, _| colour,
        );
    }

    /// A thick line with round ends.
    pub(super) fn stroke(&mut self, from: (f32, f32), to: (f32, f32), thickness: f32, colour: Colour) {
        self.taper(from, to, thickness, thickness, colour);
    }

    /// A line with round ends whose thickness changes along the way.
    pub(super) fn taper(&mut self, from: (f32, f32), to: (f32, f32), thick: f32, thin: f32, colour: Colour) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length2 = (dx * dx + dy * dy).max(1e-9);
        let half = thick.max(thin) * 0.5;
        let area = [from.0.min(to.0) - half, from.1.min(to.1) - half, from.0.max(to.0) + half, from.1.max(to.1) + half];
        self.shape(
            area,
            1.0,
            |x, y| {
                let along = (((x - from.0) * dx + (y - from.1) * dy) / length2).clamp(0.0, 1.0);
                let (ox, oy) = (x - from.0 - dx * along, y - from.1 - dy * along);
                (ox * ox + oy * oy).sqrt() - 0.5 * (thick + (thin - thick) * along)
            },
            |_, _| colour,
        );
    }

    /// A polygon; sides may be given in either direction and must not cross.
    pub(super) fn polygon(&mut self, corners: &[(f32, f32)], colour: Colour) {
        self.polygon_with(corners, |_, _| colour);
    }

    /// A polygon whose colour depends on the place.
    pub(super) fn polygon_with(&mut self, corners: &[(f32, f32)], paint: impl Fn(f32, f32) -> Colour) {
        let Some(&first) = corners.first() else { return };
        let mut area = [first.0, first.1, first.0, first.1];
        for &(x, y) in corners {
            area = [area[0].min(x), area[1].min(y), area[2].max(x), area[3].max(y)];
        }
        self.shape(area, 1.0, |x, y| distance_to_polygon(corners, x, y), paint);
    }

    /// Adds round light around a place.
    pub(super) fn glow(&mut self, x: f32, y: f32, radius: f32, colour: Colour, strength: f32) {
        let inverse = 1.0 / (radius * radius);
        self.each([x - radius, y - radius, x + radius, y + radius], |px, py, under| {
            let left = 1.0 - ((px - x).powi(2) + (py - y).powi(2)) * inverse;
            if left > 0.0 { under.screen(colour * (strength * left * left * left)) } else { under }
        });
    }

    /// Fills all below a line; the paint is told how far below the line it is.
    pub(super) fn ground(&mut self, edge: impl Fn(f32) -> f32, paint: impl Fn(f32, f32, f32) -> Colour) {
        let edges: Vec<f32> = (0..self.columns).map(|column| edge(self.x_at(column))).collect();
        let highest = edges.iter().copied().fold(f32::INFINITY, f32::min);
        let sharp = 1.0 / self.pixel;
        for row in self.rows_between(highest - self.pixel, 2.0) {
            let y = self.y_at(row);
            for (column, &edge) in edges.iter().enumerate() {
                let cover = ((y - edge) * sharp + 0.5).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let x = self.x_at(column);
                    let pixel = &mut self.data[row * self.columns + column];
                    *pixel = pixel.mix(paint(x, y, (y - edge).max(0.0)), cover);
                }
            }
        }
    }

    /// Lays a slowly changing veil over a rectangle: colour and opacity are computed on a coarse grid of about
    /// `grain` world units and interpolated, which is what makes clouds and mist affordable.
    pub(super) fn veil(&mut self, area: [f32; 4], grain: f32, paint: impl Fn(f32, f32) -> (Colour, f32)) {
        let step = ((grain / self.pixel) as usize).max(1);
        let (columns, rows) = (self.columns_between(area[0], area[2]), self.rows_between(area[1], area[3]));
        if columns.is_empty() || rows.is_empty() {
            return;
        }
        let sample_line = |row: usize| -> Vec<(Colour, f32)> {
            let y = self.top + row as f32 * self.pixel;
            (columns.start..columns.end + step)
                .step_by(step)
                .chain(std::iter::once(columns.end + step))
                .map(|column| paint(self.left + column as f32 * self.pixel, y))
                .collect()
        };
        let mut above = sample_line(rows.start);
        let mut start = rows.start;
        let inverse = 1.0 / step as f32;
        while start < rows.end {
            let below = sample_line(start + step);
            for row in start..(start + step).min(rows.end) {
                let v = (row - start) as f32 * inverse;
                let line = &mut self.data[row * self.columns..(row + 1) * self.columns];
                let mut column = columns.start;
                for place in 0.. {
                    if column >= columns.end {
                        break;
                    }
                    let west = blend(above[place], below[place], v);
                    let east = blend(above[place + 1], below[place + 1], v);
                    let end = (column + step).min(columns.end);
                    if west.1 > 0.0 || east.1 > 0.0 {
                        for (offset, pixel) in line[column..end].iter_mut().enumerate() {
                            let (colour, opacity) = blend(west, east, offset as f32 * inverse);
                            *pixel = pixel.mix(colour, opacity);
                        }
                    }
                    column = end;
                }
            }
            above = below;
            start += step;
        }
    }

    /// Mirrors what lies above `line` into what lies below it: wet streets and lakes. `squeeze` above 1 makes the mirror
    /// image flatter; `shift` moves it sideways (ripples); the image is mixed in by `strength(depth)`.
    pub(super) fn mirror(
        &mut self,
        line: f32,
        squeeze: f32,
        shift: impl Fn(f32, f32) -> f32,
        strength: impl Fn(f32) -> f32,
    ) {
        let first = ((line - self.top) / self.pixel).max(0.0) as usize;
        for row in first..self.rows {
            let y = self.y_at(row);
            let depth = (y - line).max(0.0);
            let source = ((line - depth * squeeze - self.top) / self.pixel).floor();
            if source < 0.0 {
                continue;
            }
            let source = (source as usize).min(self.rows - 1).min(row);
            let strength = strength(depth);
            for column in 0..self.columns {
                let x = self.x_at(column);
                let from = (column as f32 + shift(x, depth) / self.pixel).clamp(0.0, self.columns as f32 - 1.0);
                let mirrored = self.data[source * self.columns + from as usize];
                let pixel = &mut self.data[row * self.columns + column];
                *pixel = pixel.mix(mirrored, strength);
            }
        }
    }

    /// Develops the picture to eight bits.
    pub(super) fn finish(self, grade: Grade) -> Pixels {
        let matrix = grade.matrix();
        let mut bytes = Vec::with_capacity(self.data.len() * 3);
        let (centre_x, centre_y) = (self.columns as f32 * 0.5, self.rows as f32 * 0.5);
        for row in 0..self.rows {
            let dy = (row as f32 - centre_y) / centre_y;
            for column in 0..self.columns {
                let dx = (column as f32 - centre_x) / centre_x;
                let fall = smooth((dx * dx + dy * dy - 0.35) * 0.75);
                let light = 1.0 - grade.vignette * fall;
                let c = self.data[row * self.columns + column];
                let bits = scramble((row * self.columns + column) as u32 ^ grade.grain_seed);
                // Grain of about one and a half levels hides banding in skies.
                let grain = ((bits & 0xFFFF) as f32 / 65_536.0 + (bits >> 16) as f32 / 65_536.0 - 1.0) * 0.012;
                for line in matrix {
                    let v = (line[0] * c.r + line[1] * c.g + line[2] * c.b + line[3]) * light + grain;
                    bytes.push((v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
                }
            }
        }
        let Some(pixels) = Pixels::new(self.columns as u32, self.rows as u32, bytes) else {
            unreachable!("a canvas has at least 16 × 16 pixels, and each gave three bytes");
        };
        pixels
    }
}

impl Grade {
    /// Three rows of weights of red, green, blue and a constant.
    fn matrix(self) -> [[f32; 4]; 3] {
        const LUMA: [f32; 3] = [0.30, 0.59, 0.11];
        let (sin, cos) = (self.hue * std::f32::consts::TAU).sin_cos();
        // Rotation around the grey axis.
        let (a, b, c) =
            (cos + (1.0 - cos) / 3.0, (1.0 - cos) / 3.0 - sin * 0.577_35, (1.0 - cos) / 3.0 + sin * 0.577_35);
        let turn = [[a, b, c], [c, a, b], [b, c, a]];
        let warm = [self.warmth, 0.0, -self.warmth];
        let mut matrix = [[0.0; 4]; 3];
        for (row, line) in matrix.iter_mut().enumerate() {
            for column in 0..3 {
                let coloured = self.saturation * turn[row][column] + (1.0 - self.saturation) * LUMA[column];
                line[column] = self.contrast * coloured * (1.0 + warm[row]);
            }
            line[3] = 0.5 * (1.0 - self.contrast);
        }
        matrix
    }
}

fn blend(a: (Colour, f32), b: (Colour, f32), share: f32) -> (Colour, f32) {
    (a.0.mix(b.0, share), a.1 + (b.1 - a.1) * share)
}

/// Signed distance, negative inside.
fn distance_to_polygon(corners: &[(f32, f32)], x: f32, y: f32) -> f32 {
    let mut least = f32::INFINITY;
    let mut inside = false;
    let mut before = corners[corners.len() - 1];
    for &corner in corners {
        let (ex, ey) = (before.0 - corner.0, before.1 - corner.1);
        let (px, py) = (x - corner.0, y - corner.1);
        let along = ((px * ex + py * ey) / (ex * ex + ey * ey).max(1e-12)).clamp(0.0, 1.0);
        least = least.min((px - ex * along).powi(2) + (py - ey * along).powi(2));
        if (corner.1 > y) != (before.1 > y)
            && x < (before.0 - corner.0) * (y - corner.1) / (before.1 - corner.1) + corner.0
        {
            inside = !inside;
        }
        before = corner;
    }
    if inside { -least.sqrt() } else { least.sqrt() }
}
