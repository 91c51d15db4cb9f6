//! How is a desert painted? A big sun or the stars, table mountains, dunes with sharp crests, and who crosses them.

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, fractal_line, line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] =
    ["in the heat of noon", "at the golden hour", "in a red evening", "under desert stars", "in rose morning light"];

/// Sky top, sky low, sun or moon, sand in the light, sand in the shade, far rock.
const PALETTES: [[u32; 6]; 5] = [
    [0x3A_9AD0, 0xE6_EFD8, 0xFF_FFF2, 0xF2_CE8A, 0xB9_7F42, 0xC9_8A5C],
    [0xC9_8A4A, 0xFF_DE94, 0xFF_F6CC, 0xF6_B452, 0x8A_4A1E, 0xA8_602E],
    [0x4A_1638, 0xF2_6430, 0xFF_D070, 0xE0_6A32, 0x5A_1C22, 0x7A_2A2C],
    [0x03_0616, 0x28_3464, 0xF4_F0E0, 0x7A_7490, 0x1A_1C38, 0x22_2648],
    [0x8A_9CC8, 0xFC_CCC0, 0xFF_F2DE, 0xEE_B298, 0x96_5C72, 0xB0_7C8C],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, low, sun, sand, shade, rock] = PALETTES[light].map(rgb);
    let horizon = 0.46 + 0.12 * shot.own(1);
    let (sun_x, sun_y) = (WIDE * (0.2 + 0.6 * shot.own(2)), horizon - 0.04 - 0.26 * shot.item(3));
    let pan = shot.pan();
    canvas.sky(&[(0.0, high), (horizon, low)]);
    if light == 3 {
        stars(canvas, shot, horizon, low);
    }
    canvas.glow(sun_x, sun_y, 0.8, sun.mix(low, 0.4), if light == 3 { 0.35 } else { 0.75 });
    canvas.disc(sun_x, sun_y, 0.05 + 0.10 * shot.item(4), sun);
    wisps(canvas, shot, horizon, sun.mix(low, 0.4), if light == 3 { 0.12 } else { 0.5 });
    let motif = shot.item_of(5, 4);
    let haze = rock.mix(low, 0.45);
    mesas(canvas, shot, horizon, pan * 0.12, 0.10 + 0.06 * shot.own(6), haze, low);
    if motif == 1 {
        mesas(canvas, shot, horizon + 0.02, pan * 0.3 + 5.0, 0.26 + 0.14 * shot.own(7), rock, low);
    }
    let from_left = sun_x < WIDE * 0.5;
    for k in 0..4_u64 {
        let nearness = k as f32 / 3.0;
        let dune = Dune {
            foot: horizon + 0.06 + 0.34 * nearness,
            high: (0.05 + 0.15 * nearness) * (0.7 + 0.6 * shot.own(10 + k)),
            wide: 0.45 + 0.75 * nearness,
            shift: pan * (0.2 + 0.8 * nearness),
            seed: shot.seed(14 + k),
        };
        let air = 0.55 * (1.0 - nearness);
        dune.paint(canvas, from_left, sand.mix(low, air), shade.mix(low, air), shot.t);
        if k == 1 && motif == 2 {
            caravan(canvas, shot, &dune, shade.mix(BLACK, 0.55));
        }
        if k == 2 && motif == 3 {
            oasis(canvas, shot, horizon + 0.27, low, shade.mix(BLACK, 0.5));
        }
    }
    if motif == 0 {
        cacti(canvas, shot, shade, if light == 3 { 0.45 } else { 0.0 });
    }
    if light == 0 {
        let seed = shot.seed(60);
        canvas.veil([0.0, horizon - 0.06, WIDE, horizon + 0.16], 0.006, |x, y| {
            let band = step_between(0.10, 0.0, (y - horizon - 0.03).abs());
            (low, 0.75 * band * step_between(0.45, 0.75, noise(x * 5.0, y * 90.0 + shot.t * 1.5, seed)))
        });
    }
}

fn stars(canvas: &mut Canvas, shot: &Shot, horizon: f32, low: Colour) {
    let (seed, slant) = (shot.seed(20), 0.3 + 0.5 * shot.own(21));
    canvas.veil([0.0, 0.0, WIDE, horizon], 0.012, |x, y| {
        let band = step_between(0.22, 0.0, (y - 0.42 + slant * (x - 0.5 * WIDE) * 0.6).abs());
        (low.mix(WHITE, 0.45), 0.55 * band * step_between(0.3, 0.8, fractal(x * 5.0, y * 5.0, 4, seed)))
    });
    for k in 0..150 {
        let twinkle = 0.6 + 0.4 * (shot.t * 2.2 + k as f32).sin();
        let bright = shot.own(1_200 + k).powi(3);
        let (x, y) = (WIDE * shot.own(1_400 + k), horizon * shot.own(1_600 + k));
        canvas.disc(x, y, 0.0012 + 0.0026 * bright, WHITE * (0.4 + 0.6 * twinkle * (0.4 + bright)));
    }
}

fn wisps(canvas: &mut Canvas, shot: &Shot, horizon: f32, colour: Colour, amount: f32) {
    let seed = shot.seed(25);
    canvas.veil([0.0, 0.0, WIDE, horizon], 0.014, |x, y| {
        let f = fractal(x * 0.9 + shot.t * 0.012, y * 9.0 + x, 4, seed);
        (colour, amount * step_between(0.52, 0.8, f))
    });
}

/// Table mountains: flat tops, steep walls in layers of rock, a skirt of rubble.
fn mesas(canvas: &mut Canvas, shot: &Shot, foot: f32, shift: f32, high: f32, rock: Colour, low: Colour) {
    let seed = shot.seed(30 + (high * 50.0) as u64);
    let wide = 0.30 + high;
    canvas.ground(
        |x| {
            let u = (x + shift) / wide;
            let (i, f) = (u.floor() as i32, u - u.floor());
            let half = 0.12 + 0.24 * cell(i, 1, seed);
            let off = (f - 0.5).abs() + 0.03 * fractal_line(u * 14.0, 3, seed);
            let tall = high * if cell(i, 2, seed) < 0.3 { 0.15 } else { 0.45 + 0.55 * cell(i, 3, seed) };
            let wall = step_between(half, half - 0.03, off);
            let skirt = step_between(half + 0.16, half - 0.02, off) * 0.45;
            foot - tall * f32::max(wall * (0.94 + 0.06 * line(u * 9.0, seed)), skirt)
        },
        |x, _, depth| {
            let u = x + shift;
            let layers = noise(1.5 * noise(u * 4.0, 3.0, seed), depth * 70.0, seed ^ 9);
            let cracks = noise(u * 45.0, depth * 6.0, seed ^ 5);
            rock.mix(BLACK, 0.28 * layers + 0.22 * step_between(0.55, 0.9, cracks)).mix(low, (depth * 1.6).min(0.45))
        },
    );
}

/// A row of dunes.
struct Dune {
    foot: f32,
    high: f32,
    wide: f32,
    shift: f32,
    seed: u32,
}

impl Dune {
    /// The cell of the row at `x`, the place in it, and the place of its crest.
    fn place(&self, x: f32) -> (i32, f32, f32) {
        let u = (x + self.shift) / self.wide;
        let i = u.floor() as i32;
        (i, u - u.floor(), 0.32 + 0.36 * cell(i, 1, self.seed))
    }

    fn edge(&self, x: f32) -> f32 {
        let (i, f, crest) = self.place(x);
        let rise =
            if f < crest { step_between(0.0, 1.35, f / crest) * 1.2 } else { ((1.0 - f) / (1.0 - crest)).powf(1.4) };
        let swell = 0.35 * line((x + self.shift) / self.wide * 0.7, self.seed);
        self.foot - self.high * ((0.35 + 0.65 * cell(i, 2, self.seed)) * rise.min(1.0) + swell)
    }

    fn paint(&self, canvas: &mut Canvas, from_left: bool, lit: Colour, shade: Colour, t: f32) {
        canvas.ground(
            |x| self.edge(x),
            |x, _, depth| {
                let (i, f, crest) = self.place(x);
                // The crest winds down towards the viewer.
                let wind = (noise(depth * 7.0 / self.wide, i as f32 * 3.7, self.seed) - cell(i, 4, self.seed)) * 0.5;
                let spine = (crest + wind * (depth * 8.0).min(1.0)).clamp(0.1, 0.9);
                let (behind, fade) =
                    if from_left { (f - spine, (1.0 - f) / (1.0 - spine)) } else { (spine - f, f / spine) };
                let dark = step_between(-0.004, 0.012, behind) * fade.clamp(0.0, 1.0).sqrt();
                let ripple = (depth * 330.0 / self.wide + 9.0 * noise((x + self.shift) * 5.0, depth * 12.0, self.seed)
                    - t * 0.15)
                    .sin();
                let grain = 0.05 * ripple * (1.0 - 0.6 * dark) + (depth * 0.5).min(0.2);
                lit.mix(shade, (0.85 * dark + grain).clamp(0.0, 1.0))
                    .mix(WHITE, 0.25 * step_between(0.012, 0.0, depth) * (1.0 - dark))
            },
        );
    }
}

fn caravan(canvas: &mut Canvas, shot: &Shot, dune: &Dune, dark: Colour) {
    let count = 3 + shot.own_of(40, 4);
    let cloth = hsv(shot.item(41), 0.7, 0.75);
    let way = if shot.own(42) < 0.5 { 1.0 } else { -1.0 };
    for k in 0..count {
        let size = 0.075 + 0.01 * shot.own(43);
        let x = WIDE * 0.5 + way * (0.17 * (k as f32 - count as f32 * 0.5) + 0.012 * shot.t);
        let y = dune.edge(x) - size * 0.62;
        let at = |dx: f32, dy: f32| (x + way * dx * size, y + dy * size);
        for leg in 0..4 {
            let hip = -0.36 + 0.24 * leg as f32;
            let swing = 0.13 * (shot.t * 3.0 + k as f32 + leg as f32 * 1.9).sin();
            canvas.taper(at(hip, 0.1), at(hip + swing, 0.72), size * 0.13, size * 0.06, dark);
        }
        let (body, hump, head) = (at(0.0, 0.0), at(-0.04, -0.26), at(0.82, -0.48));
        canvas.ellipse(body.0, body.1, size * 0.5, size * 0.23, dark);
        canvas.ellipse(hump.0, hump.1, size * 0.22, size * 0.25, dark);
        canvas.taper(at(0.4, 0.02), at(0.7, -0.45), size * 0.2, size * 0.12, dark);
        canvas.ellipse(head.0, head.1, size * 0.18, size * 0.09, dark);
        if k % 2 == 0 {
            canvas.taper(at(-0.03, -0.3), at(0.0, -0.78), size * 0.34, size * 0.16, cloth);
            let (hx, hy) = at(0.01, -0.9);
            canvas.disc(hx, hy, size * 0.1, WHITE.mix(dark, 0.25));
        } else {
            canvas.polygon(&[at(-0.3, -0.2), at(0.22, -0.22), at(0.16, 0.16), at(-0.24, 0.16)], cloth.mix(dark, 0.25));
        }
    }
}

fn oasis(canvas: &mut Canvas, shot: &Shot, y: f32, sky: Colour, dark: Colour) {
    let x = WIDE * (0.35 + 0.3 * shot.own(46));
    let green = rgb(0x3E_7A34).mix(dark, 0.3);
    canvas.ellipse(x, y + 0.005, 0.38, 0.055, green);
    canvas.ellipse(x, y + 0.012, 0.33, 0.040, sky.mix(rgb(0x2A_8A9A), 0.55));
    canvas.ellipse(x + 0.05, y + 0.018, 0.20, 0.012, sky.mix(WHITE, 0.3));
    for k in 0..5_u64 {
        let (root, tall) =
            ((x - 0.32 + 0.15 * k as f32 + 0.05 * shot.own(47 + k), y - 0.02), 0.22 + 0.14 * shot.own(52 + k));
        let lean = (shot.own(57 + k) - 0.5) * 0.12 + 0.004 * (shot.t * 1.3 + k as f32).sin();
        let (elbow, top) = ((root.0 + lean * 0.3, root.1 - tall * 0.55), (root.0 + lean, root.1 - tall));
        canvas.taper(root, elbow, 0.020, 0.014, dark.mix(rgb(0x7A_5230), 0.4));
        canvas.taper(elbow, top, 0.014, 0.011, dark.mix(rgb(0x7A_5230), 0.4));
        for leaf in 0..9 {
            let angle = -0.35 + leaf as f32 * 0.48 + 0.05 * (shot.t * 1.6 + leaf as f32).sin();
            let (dx, dy) = (angle.cos() * 0.075, -angle.sin() * 0.05);
            let knee = (top.0 + dx, top.1 + dy - 0.012);
            canvas.taper(top, knee, 0.012, 0.010, green.mix(WHITE, 0.08 * (leaf % 3) as f32));
            canvas.taper(knee, (knee.0 + dx * 0.7, knee.1 + 0.035), 0.010, 0.002, green);
        }
    }
}

fn cacti(canvas: &mut Canvas, shot: &Shot, shade: Colour, dusk: f32) {
    let body = hsv(0.28 + 0.12 * shot.item(70), 0.55, 0.48).mix(shade, 0.25 + dusk);
    let travel = shot.pan() - Shot { t: 0.0, ..*shot }.pan();
    let count = 2 + shot.own_of(71, 4) as u64;
    for k in 0..count {
        let nearness = (k as f32 + 1.0) / count as f32;
        let size = (0.14 + 0.34 * nearness) * (0.8 + 0.4 * shot.own(72 + k));
        let x = WIDE * (0.12 + 0.76 * shot.own(78 + k)) - travel * (0.3 + 0.7 * nearness);
        let y = 0.66 + 0.27 * nearness;
        let thick = size * 0.16;
        let limb = |canvas: &mut Canvas, from: (f32, f32), to: (f32, f32), thick: f32| {
            canvas.stroke(from, to, thick, body.mix(BLACK, 0.35));
            for rib in 0..4 {
                let off = thick * (-0.30 + 0.2 * rib as f32);
                canvas.stroke(
                    (from.0 + off, from.1),
                    (to.0 + off, to.1),
                    thick * 0.12,
                    body.mix(WHITE, 0.16 - 0.05 * rib as f32),
                );
            }
        };
        canvas.ellipse(x + size * 0.25, y, size * 0.5, size * 0.045, shade.mix(BLACK, 0.35));
        limb(canvas, (x, y), (x, y - size), thick);
        for (side, name) in [(-1.0, 84), (1.0, 90)] {
            if shot.own(name + k) < 0.2 {
                continue;
            }
            let joint = y - size * (0.3 + 0.3 * shot.own(name + 12 + k));
            let elbow = x + side * size * 0.26;
            canvas.stroke((x, joint), (elbow, joint), thick * 0.72, body.mix(BLACK, 0.3));
            limb(canvas, (elbow, joint), (elbow, joint - size * (0.15 + 0.25 * shot.own(name + 24 + k))), thick * 0.75);
        }
        for flower in 0..3 {
            let off = (flower as f32 - 1.0) * thick * 0.35;
            canvas.disc(
                x + off,
                y - size - thick * (0.48 - off.abs() / thick * 0.4),
                thick * 0.14,
                hsv(shot.item(95) * 0.2 + 0.85, 0.6, 1.0 - dusk),
            );
        }
    }
}
