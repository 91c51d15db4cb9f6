//! How is a kitchen painted? A table from above, of wood, marble, cloth or slate, and a dish with what belongs to it.

use std::f32::consts::TAU;

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 4] =
    ["in soft window light", "by candlelight", "in cool studio light", "in summer sun"];

/// The light's tint, its shade, china, its decoration, cloth.
const PALETTES: [[u32; 5]; 4] = [
    [0xFF_F6E6, 0x3A_2C24, 0xF8_F4EC, 0x3C_6A9C, 0xD8_6A5A],
    [0xFF_B45A, 0x1C_0A04, 0xE8_D4B4, 0x8C_2C20, 0x6A_1E28],
    [0xEA_F4FF, 0x20_2C3A, 0xF0_F4F8, 0x2C_343C, 0x6C_8CA4],
    [0xFF_FBD8, 0x4A_3A20, 0xFF_FCF0, 0xE8_A820, 0x5A_B48C],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [tint, shade, china, trim, cloth] = PALETTES[light].map(rgb);
    let trim = trim.mix(hsv(shot.look(1), 0.6, 0.7), 0.4);
    let slide = 0.012 * (shot.t - 3.0) * if shot.own(2) < 0.5 { 1.0 } else { -1.0 };
    table(canvas, shot, slide, cloth.mix(hsv(shot.look(3), 0.55, 0.75), 0.4));
    let kit = Kit { china, trim, shade, slide };
    let centre = (WIDE * (0.42 + 0.16 * shot.own(4)) + slide, 0.46 + 0.10 * shot.own(5));
    let size = 0.27 + 0.07 * shot.own(6);
    kit.sides(canvas, shot, centre, size);
    match shot.item_of(7, 6) {
        0 => kit.pizza(canvas, shot, centre, size),
        1 => kit.soup(canvas, shot, centre, size),
        2 => kit.fruit(canvas, shot, centre, size),
        3 => kit.pancakes(canvas, shot, centre, size),
        4 => kit.sushi(canvas, shot, centre, size),
        _ => kit.salad(canvas, shot, centre, size),
    }
    // Light from one side, dusk on the other.
    let side = if shot.look(8) < 0.5 { 0.0 } else { WIDE };
    canvas.veil([0.0, 0.0, WIDE, 1.0], 0.03, |x, y| {
        let away = ((x - side).powi(2) + (y * 0.7).powi(2)).sqrt() / 2.0;
        (shade, if light == 1 { 0.65 } else { 0.34 } * step_between(0.15, 1.0, away))
    });
    canvas.glow(side, 0.1, 1.3, tint, if light == 1 { 0.35 } else { 0.28 });
    if light == 1 {
        let (x, y) = (side * 0.76 + WIDE * 0.12, 0.14);
        kit.disc_on_table(canvas, x, y, 0.07, china.mix(shade, 0.3));
        canvas.disc(x, y, 0.045, rgb(0xF8_E8C8));
        canvas.glow(x, y, 0.6 + 0.03 * (shot.t * 9.0).sin(), tint, 0.8);
        canvas.disc(x, y, 0.014, rgb(0xFF_FCE0));
    }
}

fn table(canvas: &mut Canvas, shot: &Shot, slide: f32, cloth: Colour) {
    let seed = shot.item_seed(10);
    let kind = shot.look_of(11, 5);
    let wood = if kind == 0 { rgb(0xB0_7C48) } else { rgb(0x5C_3A24) };
    canvas.each([0.0, 0.0, WIDE, 1.0], |x, y, _| {
        let u = x - slide;
        match kind {
            0 | 4 => {
                let plank = (y * 5.5).floor();
                let grain = fractal(u * 1.6 + plank * 7.0, y * 46.0, 3, seed);
                let streak = noise(u * 5.0, y * 170.0, seed ^ 3);
                let joint = step_between(0.03, 0.0, (y * 5.5 - plank).min(1.0 - (y * 5.5 - plank)));
                wood.mix(BLACK, 0.45 * grain + 0.14 * streak + 0.5 * joint)
                    .mix(WHITE, 0.14 * cell(plank as i32, 0, seed))
            }
            1 => {
                let warp = fractal(u * 1.6, y * 1.6, 4, seed);
                let vein = 1.0 - (2.0 * fractal(u * 1.4 + 2.2 * warp, y * 2.0 - warp, 4, seed ^ 5) - 1.0).abs();
                rgb(0xF2_F0EE).mix(rgb(0x8C_8C94), 0.75 * step_between(0.86, 1.0, vein) + 0.22 * warp)
            }
            2 => {
                let check = |v: f32| if (v * 9.0).rem_euclid(2.0) < 1.0 { 0.5 } else { 0.0 };
                let weave = 0.10 * noise(u * 240.0, y * 240.0, seed);
                rgb(0xFA_F4EA).mix(cloth, check(u) + check(y)).mix(BLACK, weave)
            }
            _ => rgb(0x34_3A40)
                .mix(BLACK, 0.5 * fractal(u * 4.0, y * 4.0, 4, seed))
                .mix(WHITE, 0.08 * noise(u * 90.0, y * 90.0, seed)),
        }
    });
}

/// What all dishes of a look share.
struct Kit {
    china: Colour,
    trim: Colour,
    shade: Colour,
    slide: f32,
}

impl Kit {
    fn shadow(&self, canvas: &mut Canvas, x: f32, y: f32, radius: f32) {
        let (x, y, reach) = (x + radius * 0.10, y + radius * 0.16, radius * 1.22);
        canvas.each([x - reach, y - reach, x + reach, y + reach], |px, py, under| {
            let away = ((px - x).powi(2) + (py - y).powi(2)).sqrt() / radius;
            under.mix(self.shade.mix(BLACK, 0.4), 0.6 * step_between(1.2, 0.8, away))
        });
    }

    fn disc_on_table(&self, canvas: &mut Canvas, x: f32, y: f32, radius: f32, colour: Colour) {
        self.shadow(canvas, x, y, radius);
        canvas.disc(x, y, radius, colour);
    }

    /// A plate, or with `deep` above 0 a bowl.
    fn plate(&self, canvas: &mut Canvas, (x, y): (f32, f32), radius: f32, deep: f32) {
        self.shadow(canvas, x, y, radius);
        canvas.shape(
            [x - radius, y - radius, x + radius, y + radius],
            1.0,
            |px, py| ((px - x).powi(2) + (py - y).powi(2)).sqrt() - radius,
            |px, py| {
                let (dx, dy) = ((px - x) / radius, (py - y) / radius);
                let r = (dx * dx + dy * dy).sqrt();
                let slope = (dx + dy) * 0.5;
                let wall = step_between(0.64, 0.70, r) * step_between(0.82, 0.76, r);
                let band = step_between(0.025, 0.012, (r - 0.93).abs());
                let lit = 0.12 * slope * (1.0 - 2.0 * wall) + 0.12 * wall * (1.0 + deep);
                self.china
                    .mix(self.trim, 0.85 * band + deep * 0.6 * step_between(0.85, 0.9, r))
                    .mix(self.shade, lit.clamp(0.0, 0.6))
            },
        );
    }

    /// A ball with a light spot: berries, tomatoes, oranges.
    fn ball(&self, canvas: &mut Canvas, x: f32, y: f32, radius: f32, colour: Colour) {
        self.shadow(canvas, x, y, radius);
        canvas.shape(
            [x - radius, y - radius, x + radius, y + radius],
            1.0,
            |px, py| ((px - x).powi(2) + (py - y).powi(2)).sqrt() - radius,
            |px, py| colour.mix(BLACK, (0.22 + 0.34 * (px - x + py - y) / radius).clamp(0.0, 0.7)),
        );
        canvas.glow(x - radius * 0.35, y - radius * 0.4, radius * 0.5, WHITE, 0.8);
    }

    /// A slice of a citrus fruit.
    fn slice(&self, canvas: &mut Canvas, x: f32, y: f32, radius: f32, colour: Colour, turn: f32) {
        self.disc_on_table(canvas, x, y, radius, colour);
        canvas.disc(x, y, radius * 0.9, rgb(0xFF_F4DC));
        canvas.disc(x, y, radius * 0.82, colour.mix(WHITE, 0.15));
        for k in 0..8 {
            let (sin, cos) = (turn + k as f32 * TAU / 8.0).sin_cos();
            canvas.stroke((x, y), (x + cos * radius * 0.82, y + sin * radius * 0.82), radius * 0.07, rgb(0xFF_F4DC));
        }
    }

    fn leaf(&self, canvas: &mut Canvas, x: f32, y: f32, size: f32, turn: f32, colour: Colour) {
        let (sin, cos) = turn.sin_cos();
        let (tip, middle) = ((x + cos * size, y + sin * size), (x + cos * size * 0.45, y + sin * size * 0.45));
        canvas.taper(middle, tip, size * 0.5, size * 0.04, colour);
        canvas.taper(middle, (x, y), size * 0.5, size * 0.08, colour);
        canvas.taper((x, y), tip, size * 0.05, size * 0.02, colour.mix(WHITE, 0.35));
    }

    fn pizza(&self, canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), size: f32) {
        let seed = shot.item_seed(30);
        self.disc_on_table(canvas, x, y, size * 1.18, rgb(0x9A_6A3C));
        canvas.ring(x, y, size * 1.13, size * 0.02, rgb(0x6A_4424));
        canvas.each([x - size, y - size, x + size, y + size], |px, py, under| {
            let (dx, dy) = ((px - x) / size, (py - y) / size);
            let r = (dx * dx + dy * dy).sqrt() + 0.05 * (noise(dx * 4.0, dy * 4.0, seed) - 0.5);
            let blister = fractal(dx * 9.0, dy * 9.0, 3, seed);
            let crust =
                rgb(0xE4_B068).mix(rgb(0x7A_3C14), step_between(0.45, 0.75, blister) + 0.4 * step_between(0.9, 1.0, r));
            let sauce =
                rgb(0xC8_3A1C).mix(rgb(0xF8_DC8C), step_between(0.40, 0.52, fractal(dx * 4.0, dy * 4.0, 3, seed ^ 9)));
            let top = sauce.mix(crust, step_between(0.82, 0.87, r));
            under.mix(top, step_between(1.0, 0.98, r))
        });
        for k in 0..11_u64 {
            let (angle, r) = (k as f32 * 2.4, size * 0.74 * ((k as f32 + 0.5) / 11.0).sqrt());
            let (px, py) = (x + r * angle.cos(), y + r * angle.sin());
            match (shot.item_of(31, 3) as u64 + k) % 3 {
                0 => {
                    canvas.disc(px, py, size * 0.125, rgb(0x8A_1C14));
                    canvas.disc(px, py, size * 0.108, rgb(0xC0_4030));
                }
                1 => self.leaf(canvas, px, py, size * 0.20, angle * 1.7, rgb(0x2E_7A2A)),
                _ => canvas.ring(px, py, size * 0.06, size * 0.045, rgb(0x22_201C)),
            }
        }
        for k in 0..4 {
            let (sin, cos) = (k as f32 * TAU / 8.0 + shot.own(32)).sin_cos();
            canvas.stroke(
                (x - cos * size, y - sin * size),
                (x + cos * size, y + sin * size),
                size * 0.012,
                rgb(0x7A_3A18),
            );
        }
    }

    fn soup(&self, canvas: &mut Canvas, shot: &Shot, centre: (f32, f32), size: f32) {
        let (x, y) = centre;
        self.plate(canvas, centre, size * 1.05, 1.0);
        let broth = hsv(0.02 + 0.11 * shot.item(35), 0.75, 0.78);
        let r = size * 0.82;
        canvas.disc(x, y, r, broth.mix(self.shade, 0.35));
        canvas.disc(x + size * 0.01, y + size * 0.02, r * 0.96, broth);
        let swirl = shot.t * 0.06;
        for k in 0..26 {
            let a = k as f32 * 0.9 + 0.3 * shot.own(36) + swirl;
            let inner = r * (0.15 + 0.6 * ((k * 7 % 26) as f32 / 26.0));
            let (from, to) = (
                (x + inner * a.cos(), y + inner * a.sin()),
                (x + inner * (a + 0.8).cos(), y + inner * (a + 0.8).sin()),
            );
            canvas.stroke(from, to, size * 0.028, rgb(0xF8_E2A0).mix(broth, 0.15 * (k % 3) as f32));
        }
        for k in 0..2 {
            let a = 0.6 + 1.1 * k as f32 + TAU * shot.own(37);
            let (ex, ey) = (x + r * 0.52 * a.cos(), y + r * 0.52 * a.sin());
            canvas.ellipse(ex, ey, size * 0.19, size * 0.16, rgb(0xFF_FAF0));
            canvas.disc(ex, ey, size * 0.085, rgb(0xF8_A020));
        }
        for k in 0..14_u64 {
            let (a, d) = (TAU * shot.item(400 + k) + swirl, r * 0.85 * shot.item(420 + k).sqrt());
            canvas.ring(x + d * a.cos(), y + d * a.sin(), size * 0.025, size * 0.018, rgb(0x5C_A43A));
        }
        self.steam(canvas, shot, centre, size);
    }

    fn steam(&self, canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), size: f32) {
        let seed = shot.seed(38);
        canvas.veil([x - size, y - size * 1.6, x + size, y + size * 0.4], 0.012, |px, py| {
            let aside = ((px - x) / size).abs();
            let f = fractal(px * 7.0, py * 4.0 + shot.t * 0.5, 4, seed);
            let fade =
                step_between(y - size * 1.6, y - size * 0.5, py) * step_between(y + size * 0.4, y - size * 0.2, py);
            (WHITE, 0.55 * step_between(0.9, 0.2, aside) * step_between(0.48, 0.8, f) * fade)
        });
    }

    fn fruit(&self, canvas: &mut Canvas, shot: &Shot, centre: (f32, f32), size: f32) {
        self.plate(canvas, centre, size * 1.1, 0.6);
        let hues = [0.0_f32, 0.08, 0.14, 0.3, 0.78, 0.97];
        for k in 0..12_u64 {
            let (a, d) = (k as f32 * 2.4 + shot.own(40), size * 0.75 * ((11.5 - k as f32) / 12.0).sqrt());
            let (px, py) = (centre.0 + d * a.cos(), centre.1 + d * a.sin());
            let hue = hues[(shot.item_of(41, 6) + k as usize * 5) % 6];
            let radius = size * (0.17 + 0.08 * shot.item(42 + k));
            if k % 4 == 3 {
                self.slice(canvas, px, py, radius, hsv(hue.clamp(0.05, 0.2), 0.85, 1.0), a);
            } else {
                self.ball(canvas, px, py, radius, hsv(hue, 0.82, 0.88));
                self.leaf(canvas, px, py, radius * 0.5, a, rgb(0x3C_7A2C));
            }
        }
    }

    fn pancakes(&self, canvas: &mut Canvas, shot: &Shot, centre: (f32, f32), size: f32) {
        let (x, y) = centre;
        self.plate(canvas, centre, size * 1.15, 0.0);
        let seed = shot.item_seed(55);
        let cake = if shot.item(56) < 0.5 { rgb(0xD8_9A4C) } else { rgb(0x5A_3220) };
        for k in 0..4 {
            let (px, py, r) =
                (x + 0.012 * (k as f32 * 2.1).sin(), y - 0.012 * k as f32, size * (0.78 - 0.02 * k as f32));
            self.disc_on_table(canvas, px, py, r, cake.mix(WHITE, 0.25));
            canvas.disc(px, py, r * 0.95, cake.mix(BLACK, 0.12));
        }
        let glaze = hsv(0.06 + 0.9 * shot.item(57) * shot.item(57), 0.7, 0.6);
        let top = y - 0.036;
        canvas.each([x - size, top - size, x + size, top + size], |px, py, under| {
            let (dx, dy) = ((px - x) / size, (py - top) / size);
            let r = (dx * dx + dy * dy).sqrt();
            let edge = 0.40 + 0.40 * noise(dy.atan2(dx).cos() * 3.0, dy.atan2(dx).sin() * 3.0, seed);
            let gloss = step_between(0.6, 0.8, noise(dx * 5.0, dy * 5.0, seed)) * 0.4;
            under.mix(glaze.mix(WHITE, gloss), 0.9 * step_between(edge + 0.02, edge - 0.02, r))
        });
        let berry = hsv([0.97, 0.66, 0.92, 0.0][shot.item_of(58, 4)], 0.75, 0.75);
        for k in 0..9_u64 {
            let (a, d) = (k as f32 * 2.4, size * 0.42 * (k as f32 / 9.0).sqrt());
            self.ball(canvas, x + d * a.cos(), top + d * a.sin(), size * 0.085, berry);
        }
        self.leaf(canvas, x, top, size * 0.22, TAU * shot.own(59), rgb(0x4C_9A48));
    }

    fn sushi(&self, canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), size: f32) {
        let (wide, high) = (size * 1.55, size * 0.85);
        canvas.bar(
            [x - wide + 0.012, y - high + 0.02, x + wide + 0.012, y + high + 0.025],
            0.03,
            self.shade.mix(BLACK, 0.5),
        );
        canvas.bar([x - wide, y - high, x + wide, y + high], 0.02, rgb(0x26_2426).mix(self.trim, 0.2));
        canvas.bar(
            [x - wide * 0.97, y - high * 0.94, x + wide * 0.97, y + high * 0.94],
            0.015,
            rgb(0x38_3638).mix(self.trim, 0.15),
        );
        for k in 0..15_u64 {
            let (column, row) = ((k % 5) as f32 - 2.0, (k / 5) as f32 - 1.0);
            let (px, py, r) = (x + column * wide * 0.37, y + row * high * 0.58, size * 0.20);
            let fill = hsv([0.03, 0.22, 0.13, 0.97][(shot.item_of(60, 4) + (k / 5) as usize) % 4], 0.62, 0.92);
            if k / 5 == 1 {
                canvas.bar([px - r * 1.05, py - r * 0.72, px + r * 1.05, py + r * 0.78], r * 0.45, rgb(0xF6_F2EA));
                canvas.bar([px - r * 1.15, py - r * 0.62, px + r * 1.15, py + r * 0.55], r * 0.4, fill);
                for s in 0..3 {
                    let sx = px + r * (s as f32 - 1.0) * 0.6;
                    canvas.stroke(
                        (sx - r * 0.2, py - r * 0.45),
                        (sx + r * 0.2, py + r * 0.4),
                        r * 0.1,
                        fill.mix(WHITE, 0.5),
                    );
                }
            } else {
                self.disc_on_table(canvas, px, py, r, rgb(0x18_2A20));
                canvas.disc(px, py, r * 0.86, rgb(0xF6_F2EA));
                canvas.disc(px, py, r * 0.42, fill);
                canvas.disc(px + r * 0.1, py + r * 0.12, r * 0.16, rgb(0x7A_B84A));
            }
        }
        for k in 0..2 {
            let off = y + high + 0.045 + 0.028 * k as f32;
            canvas.taper((x - wide * 0.9, off + 0.02), (x + wide * 0.9, off - 0.01), 0.016, 0.009, rgb(0x9C_3024));
        }
    }

    fn salad(&self, canvas: &mut Canvas, shot: &Shot, centre: (f32, f32), size: f32) {
        self.plate(canvas, centre, size * 1.1, 0.8);
        for k in 0..46_u64 {
            let (a, d) = (k as f32 * 2.4, size * 0.78 * (1.0 - k as f32 / 46.0).sqrt());
            let green = hsv(0.24 + 0.1 * shot.item(500 + k), 0.7, 0.45 + 0.4 * shot.item(550 + k));
            self.leaf(canvas, centre.0 + d * a.cos(), centre.1 + d * a.sin(), size * 0.26, a * 3.1, green);
        }
        for k in 0..12_u64 {
            let (a, d) = (k as f32 * 2.4 + 1.0, size * 0.66 * ((k as f32 + 0.5) / 12.0).sqrt());
            let (px, py) = (centre.0 + d * a.cos(), centre.1 + d * a.sin());
            match k % 3 {
                0 => self.ball(canvas, px, py, size * 0.105, rgb(0xD8_2C1E)),
                1 => {
                    canvas.disc(px, py, size * 0.10, rgb(0x4A_8A34));
                    canvas.disc(px, py, size * 0.085, rgb(0xD8_ECB0));
                }
                _ => canvas.bar(
                    [px - size * 0.06, py - size * 0.06, px + size * 0.06, py + size * 0.06],
                    0.006,
                    rgb(0xFC_F8EC),
                ),
            }
        }
    }

    /// What lies around the dish: cutlery, a cup, a napkin, slices, a small bowl.
    fn sides(&self, canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), size: f32) {
        let steel = rgb(0xD4_D8DC);
        let napkin = hsv(shot.look(70), 0.45, 0.8);
        let left = x - size * 1.5;
        if shot.own(71) < 0.6 {
            canvas.bar([left - 0.085, y - 0.24, left + 0.105, y + 0.30], 0.006, self.shade.mix(BLACK, 0.3));
            canvas.bar([left - 0.095, y - 0.26, left + 0.095, y + 0.28], 0.006, napkin);
            canvas.bar([left - 0.095, y - 0.22, left + 0.095, y - 0.19], 0.0, napkin.mix(WHITE, 0.6));
        }
        canvas.stroke((left + 0.01, y - 0.06), (left + 0.01, y + 0.26), 0.020, self.shade);
        canvas.taper((left, y - 0.07), (left, y + 0.25), 0.014, 0.022, steel);
        canvas.stroke((left, y - 0.09), (left, y - 0.07), 0.042, steel);
        for tine in -1..=1 {
            let tx = left + 0.016 * tine as f32;
            canvas.taper((tx, y - 0.08), (tx, y - 0.20), 0.010, 0.006, steel);
        }
        let right = x + size * 1.45;
        canvas.stroke((right + 0.01, y - 0.17), (right + 0.01, y + 0.26), 0.026, self.shade);
        canvas.taper((right, y + 0.03), (right, y - 0.19), 0.032, 0.016, steel.mix(WHITE, 0.4));
        canvas.taper((right, y + 0.05), (right, y + 0.25), 0.018, 0.026, self.trim.mix(BLACK, 0.4));
        let corners = [(0.16, 0.14), (0.86, 0.15), (0.15, 0.88), (0.87, 0.86)];
        for (k, &(u, v)) in corners.iter().enumerate() {
            let k = k as u64;
            let (cx, cy) = (WIDE * (u + 0.05 * (shot.own(72 + k) - 0.5)) + self.slide, v);
            match shot.own_of(80 + k, 5) {
                0 => {
                    self.plate(canvas, (cx, cy), 0.13, 0.0);
                    canvas.stroke((cx, cy), (cx + 0.11, cy - 0.06), 0.026, self.china.mix(self.shade, 0.15));
                    self.disc_on_table(canvas, cx, cy, 0.08, self.china);
                    canvas.disc(cx, cy, 0.068, rgb(0x4A_2614));
                    canvas.ring(cx, cy, 0.034, 0.012, rgb(0xD8_AC7C));
                    canvas.disc(cx, cy, 0.014, rgb(0xF0_DCB8));
                }
                1 => {
                    let colour = hsv(0.04 + 0.2 * shot.item(90 + k), 0.85, 1.0);
                    self.slice(canvas, cx, cy, 0.09, colour, shot.own(94 + k));
                    self.slice(canvas, cx + 0.10, cy + 0.05, 0.07, colour, shot.own(98 + k));
                }
                2 => {
                    self.plate(canvas, (cx, cy), 0.11, 1.0);
                    canvas.disc(cx, cy, 0.085, hsv(shot.item(102 + k), 0.65, 0.75));
                    canvas.glow(cx - 0.03, cy - 0.03, 0.04, WHITE, 0.7);
                }
                3 => {
                    for n in 0..3 {
                        let a = n as f32 * 2.1 + shot.own(106 + k);
                        self.ball(
                            canvas,
                            cx + 0.065 * a.cos(),
                            cy + 0.065 * a.sin(),
                            0.06,
                            hsv(shot.item(110 + k) * 0.16, 0.85, 0.85),
                        );
                    }
                }
                _ => {
                    for n in 0..6 {
                        let a = n as f32 * 1.05 + shot.own(114 + k);
                        self.leaf(
                            canvas,
                            cx + 0.02 * a.cos(),
                            cy + 0.02 * a.sin(),
                            0.10,
                            a,
                            hsv(0.3, 0.6, 0.35 + 0.06 * n as f32),
                        );
                    }
                }
            }
        }
    }
}
