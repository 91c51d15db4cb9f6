//! How is a reef painted? Blue that deepens, rays from the surface, corals and weed on the sand, and what swims there.

use std::f32::consts::TAU;

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{fractal, fractal_line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] = [
    "in shallow turquoise water",
    "in deep blue water",
    "in green lagoon light",
    "under a golden surface",
    "by night among glowing plankton",
];

/// Water at the surface, half-way and in the depth, rays, sand.
const PALETTES: [[u32; 5]; 5] = [
    [0xA8_F2E6, 0x2E_C0CC, 0x0E_7C9E, 0xF4_FFF4, 0xE8_DDB4],
    [0x4C_A6E8, 0x12_56A8, 0x06_2460, 0xC8_ECFF, 0x5C_82A4],
    [0xC4_F0A0, 0x3E_A886, 0x0C_5250, 0xF4_FFD0, 0xA8_B480],
    [0xFF_E0A0, 0x8C_A89C, 0x1C_4A68, 0xFF_F2C8, 0xC8_A878],
    [0x16_2C64, 0x0C_1640, 0x04_0820, 0x74_A8FF, 0x28_3060],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, middle, deep, ray, sand] = PALETTES[light].map(rgb);
    canvas.sky(&[(0.0, high), (0.38, middle), (0.95, deep)]);
    surface(canvas, shot, ray);
    ridges(canvas, shot, middle, deep);
    rays(canvas, shot, ray, if light == 4 { 0.12 } else { 0.34 });
    school(canvas, shot, deep.mix(middle, 0.4), 0.4);
    floor(canvas, shot, sand, deep, ray);
    garden(canvas, shot, deep, 0, light == 4);
    match shot.item_of(1, 5) {
        0 => turtle(canvas, shot, ray),
        1 => jellyfish(canvas, shot, ray, light == 4),
        2 => school(canvas, shot, hsv(0.05 + 0.12 * shot.item(2), 0.75, 1.0), 1.0),
        3 => angelfish(canvas, shot),
        _ => diver(canvas, shot, deep, ray),
    }
    garden(canvas, shot, deep, 1, light == 4);
    bubbles(canvas, shot, ray);
    if light == 4 {
        for k in 0..60 {
            let glitter = 0.5 + 0.5 * (shot.t * 1.5 + k as f32 * 1.3).sin();
            let x = (WIDE * shot.own(800 + k) + 0.01 * shot.t).rem_euclid(WIDE);
            canvas.glow(x, shot.own(870 + k), 0.012, rgb(0x7C_FFE8), glitter);
        }
    }
}

/// The bright, moving skin of the water seen from below.
fn surface(canvas: &mut Canvas, shot: &Shot, ray: Colour) {
    let (seed, t) = (shot.seed(5), shot.t);
    canvas.each([0.0, 0.0, WIDE, 0.16], |x, y, under| {
        let flat = 1.0 / (0.24 - y);
        let wave = noise(x * 1.6 * flat.min(9.0) + t * 0.3, flat * 2.0 - t * 0.6, seed);
        under.mix(ray, 0.75 * step_between(0.5, 0.85, wave) * step_between(0.16, 0.04, y))
    });
}

fn rays(canvas: &mut Canvas, shot: &Shot, ray: Colour, strength: f32) {
    let (seed, t) = (shot.seed(10), shot.t);
    let source = WIDE * (0.2 + 0.6 * shot.own(11));
    canvas.glow(source, 0.0, 0.75, ray, strength * 1.6);
    canvas.veil([0.0, 0.0, WIDE, 1.0], 0.01, |x, y| {
        let angle = (x - source) / (y + 0.35);
        let beam = noise(angle * 7.0 + t * 0.12, t * 0.25, seed) * 0.6 + noise(angle * 17.0 - t * 0.2, 3.0, seed) * 0.4;
        (ray, strength * step_between(0.5, 0.85, beam) * step_between(0.95, 0.1, y))
    });
}

fn ridges(canvas: &mut Canvas, shot: &Shot, middle: Colour, deep: Colour) {
    for k in 0..2_u64 {
        let (seed, near) = (shot.seed(15 + k), k as f32);
        let shift = shot.pan() * (0.15 + 0.2 * near);
        canvas.ground(
            |x| 0.80 + 0.06 * near - (0.34 - 0.10 * near) * fractal_line((x + shift) * 2.6, 4, seed).powi(2) * 1.6,
            |x, y, _| {
                let lump = fractal((x + shift) * 12.0, y * 12.0, 3, seed);
                middle.mix(deep, 0.35 + 0.35 * near + 0.25 * lump)
            },
        );
    }
}

fn floor(canvas: &mut Canvas, shot: &Shot, sand: Colour, deep: Colour, ray: Colour) {
    let (seed, t, shift) = (shot.seed(20), shot.t, shot.pan() * 0.6);
    canvas.ground(
        |x| 0.84 + 0.05 * fractal_line((x + shift) * 1.7, 3, seed),
        |x, y, depth| {
            let reach = 1.0 / (depth + 0.08);
            let ripple = noise((x + shift) * 5.0, depth * 110.0 + 2.0 * noise(x * 4.0, y * 4.0, seed), seed);
            // Light drawn together by the waves: thin bright nets.
            let (u, v) = ((x + shift) * 9.0, reach * 1.2);
            let net = (noise(u + t * 0.5, v, seed) - noise(u, v - t * 0.5, seed ^ 3)).abs();
            let lit = sand.mix(deep, 0.42 - 1.4 * depth.min(0.2)).mix(BLACK, 0.12 * ripple);
            lit.mix(ray, 0.45 * step_between(0.09, 0.0, net))
        },
    );
}

/// Corals, sponges and weed in two rows.
fn garden(canvas: &mut Canvas, shot: &Shot, deep: Colour, row: u64, night: bool) {
    let near = row as f32;
    let count = 9 - 2 * row;
    let room = WIDE * 1.4;
    let base_hue = shot.item(25);
    for k in 0..count {
        let own = |name: u64| shot.own(100 + row * 200 + k * 16 + name);
        let x =
            (room * (k as f32 + 0.8 * own(0)) / count as f32 + shot.pan() * (0.5 + 0.4 * near)).rem_euclid(room) - 0.3;
        let foot = 0.91 + 0.12 * near + 0.03 * own(1);
        // In front the middle stays free for what swims.
        let aside = ((x - WIDE * 0.5).abs() / (WIDE * 0.5)).min(1.0);
        let size = (0.11 + 0.14 * own(2)) * (0.8 + near * (0.15 + 0.75 * aside));
        let hue = [0.97, 0.06, 0.13, 0.83, 0.73][(own(3) * 5.0) as usize % 5] + 0.08 * (base_hue - 0.5);
        let colour = hsv(hue, 0.68, 0.95).mix(deep, 0.38 - 0.2 * near + if night { 0.25 } else { 0.0 });
        match (own(4) * 5.0) as usize {
            0 => branch(canvas, (x, foot), (-0.25 + 0.5 * own(5), size), 4, colour),
            1 => brain(canvas, (x, foot), size * 0.6, colour, shot.seed(30 + k)),
            2 => tubes(canvas, (x, foot), size, colour, deep),
            3 => fan(canvas, (x, foot), size, colour),
            _ => weed(canvas, shot, (x, foot), size * 1.7, hsv(0.28 + 0.14 * own(6), 0.6, 0.6).mix(deep, 0.35)),
        }
    }
}

fn branch(canvas: &mut Canvas, from: (f32, f32), (lean, size): (f32, f32), left: u32, colour: Colour) {
    let length = size * 0.36;
    let tip = (from.0 + length * lean.sin(), from.1 - length * lean.cos());
    canvas.taper(from, tip, size * 0.15, size * 0.10, colour.mix(WHITE, 0.07 * (4 - left.min(4)) as f32));
    if left > 0 {
        branch(canvas, tip, (lean - 0.48, size * 0.78), left - 1, colour);
        branch(canvas, tip, (lean + 0.42, size * 0.80), left - 1, colour);
    }
}

fn brain(canvas: &mut Canvas, (x, y): (f32, f32), radius: f32, colour: Colour, seed: u32) {
    canvas.shape(
        [x - radius, y - radius, x + radius, y + radius],
        1.0,
        |px, py| (((px - x) / radius).powi(2) + ((py - y) / radius / 0.8).powi(2)).sqrt() * radius - radius,
        |px, py| {
            let groove = (fractal((px - x) / radius * 3.5, (py - y) / radius * 3.5, 2, seed) * 9.0).sin();
            let fall = ((py - y) / radius + 0.4 * (px - x) / radius).clamp(-1.0, 1.0);
            colour
                .mix(WHITE, 0.18 * (-fall).max(0.0))
                .mix(BLACK, 0.3 * step_between(0.1, 0.7, groove) + 0.2 * fall.max(0.0))
        },
    );
}

fn tubes(canvas: &mut Canvas, (x, y): (f32, f32), size: f32, colour: Colour, deep: Colour) {
    for (dx, high) in [(-0.34, 0.6), (0.36, 0.7), (-0.12, 1.0), (0.14, 0.82)] {
        let top = (x + dx * size * 1.25, y - high * size);
        canvas.taper((x + dx * size * 0.6, y), top, size * 0.16, size * 0.26, colour);
        canvas.ellipse(top.0, top.1 - size * 0.05, size * 0.13, size * 0.07, colour.mix(WHITE, 0.3));
        canvas.ellipse(top.0, top.1 - size * 0.05, size * 0.085, size * 0.045, deep.mix(BLACK, 0.3));
    }
}

fn fan(canvas: &mut Canvas, (x, y): (f32, f32), size: f32, colour: Colour) {
    for k in 0..11 {
        let (sin, cos) = ((k as f32 - 5.0) * 0.19).sin_cos();
        let end = (x + size * 0.95 * sin, y - size * (0.6 + 0.5 * cos));
        canvas.taper((x, y), end, size * 0.07, size * 0.03, colour);
        canvas.disc(end.0, end.1, size * 0.035, colour.mix(WHITE, 0.35));
    }
    for ring in 1..5 {
        let reach = size * ring as f32 * 0.21;
        let at = |k: i32| {
            let (sin, cos) = ((k as f32 - 5.0) * 0.19).sin_cos();
            (x + reach * sin, y - reach * (0.6 + 0.5 * cos))
        };
        for k in 0..10 {
            canvas.stroke(at(k), at(k + 1), size * 0.02, colour.mix(BLACK, 0.12));
        }
    }
}

fn weed(canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), size: f32, colour: Colour) {
    for blade in 0..4 {
        let (high, root) = (size * (0.65 + 0.12 * blade as f32), x + (blade as f32 - 1.5) * size * 0.09);
        let at = |k: i32| {
            let u = k as f32 / 8.0;
            (root + u * size * 0.16 * (shot.t * 1.1 + u * 4.0 + blade as f32 * 1.7 + x * 3.0).sin(), y - u * high)
        };
        for k in 0..8 {
            let wide = size * 0.07 * (1.0 - k as f32 / 9.0);
            canvas.taper(at(k), at(k + 1), wide, wide * 0.85, colour.mix(WHITE, 0.03 * k as f32));
        }
    }
}

/// A fish at a place; `size` is half its length, negative when it swims to the left.
fn fish(canvas: &mut Canvas, (x, y): (f32, f32), size: f32, wag: f32, colour: Colour) {
    let at = |dx: f32, dy: f32| (x + dx * size, y + dy * size.abs());
    canvas.polygon(
        &[at(-0.7, 0.0), at(-1.35, -0.42 + wag), at(-1.15, wag), at(-1.35, 0.42 + wag)],
        colour.mix(BLACK, 0.15),
    );
    canvas.polygon(&[at(0.25, -0.4), at(-0.2, -0.68), at(-0.5, -0.25)], colour.mix(BLACK, 0.2));
    canvas.ellipse(x, y, size.abs(), size.abs() * 0.48, colour);
    let (bx, by) = at(0.05, 0.16);
    canvas.ellipse(bx, by, size.abs() * 0.75, size.abs() * 0.25, colour.mix(WHITE, 0.3));
    let (ex, ey) = at(0.62, -0.1);
    canvas.disc(ex, ey, size.abs() * 0.14, WHITE);
    canvas.disc(ex, ey, size.abs() * 0.08, BLACK);
}

/// Many fish that keep together; `scale` 1 for those in front.
fn school(canvas: &mut Canvas, shot: &Shot, colour: Colour, scale: f32) {
    let part = if scale < 1.0 { 0 } else { 200 };
    let side = if shot.own(500 + part) < 0.5 { -1.0 } else { 1.0 };
    let middle = (WIDE * shot.own(501 + part) + side * 0.05 * shot.t).rem_euclid(WIDE * 1.2) - 0.1;
    let (y, count) = (0.25 + 0.3 * shot.own(502 + part), if scale < 1.0 { 14 } else { 26 });
    for k in 0..count {
        let own = |name: u64| shot.own(510 + part + k * 4 + name);
        let turn = TAU * own(0) + 0.25 * shot.t;
        let reach = own(1).sqrt() * scale.max(0.6);
        let place = (
            middle + 0.5 * reach * turn.cos(),
            y + 0.20 * reach * turn.sin() + 0.01 * (shot.t * 2.0 + own(2) * TAU).sin(),
        );
        let wag = 0.2 * (shot.t * 9.0 + own(3) * TAU).sin();
        fish(canvas, place, side * scale * (0.030 + 0.020 * own(2)), wag, colour.mix(WHITE, 0.15 * own(3)));
    }
}

/// Two large striped fish.
fn angelfish(canvas: &mut Canvas, shot: &Shot) {
    let (body, band) =
        (hsv(0.04 + 0.13 * shot.item(40), 0.85, 1.0), [rgb(0xFA_FAF2), rgb(0x1C_2460)][shot.item_of(41, 2)]);
    for k in 0..2_u64 {
        let side = if shot.own(42 + k) < 0.5 { -1.0 } else { 1.0 };
        let size = (0.20 - 0.06 * k as f32) * (0.8 + 0.4 * shot.own(44 + k));
        let x = WIDE * (0.3 + 0.36 * k as f32 + 0.1 * shot.own(46 + k)) + side * 0.012 * shot.t;
        let y = 0.36 + 0.22 * shot.own(48 + k) + 0.01 * (shot.t * 1.4).sin();
        let at = |dx: f32, dy: f32| (x + side * dx * size, y + dy * size);
        let wag = 0.14 * (shot.t * 5.0 + k as f32).sin();
        canvas.polygon(&[at(-0.75, 0.0), at(-1.35, -0.4 + wag), at(-1.2, wag), at(-1.35, 0.4 + wag)], body);
        canvas.polygon(&[at(0.35, -0.5), at(-0.75, -1.05), at(-0.6, -0.2)], band);
        canvas.polygon(&[at(0.35, 0.5), at(-0.75, 1.05), at(-0.6, 0.2)], band);
        canvas.shape(
            [x - size, y - size * 0.7, x + size, y + size * 0.7],
            1.0,
            |px, py| ((((px - x) / size).powi(2) + ((py - y) / size / 0.68).powi(2)).sqrt() - 1.0) * size * 0.68,
            |px, py| {
                let u = side * (px - x) / size + 0.12 * ((py - y) / size * 3.0).powi(2);
                let stripe = step_between(0.16, 0.12, (u - 0.35).abs()) + step_between(0.16, 0.12, (u + 0.35).abs());
                body.mix(band, stripe.min(1.0)).mix(BLACK, 0.25 * ((py - y) / size).max(0.0))
            },
        );
        let ((ex, ey), (fx, fy)) = (at(0.66, -0.12), at(-0.05, 0.12));
        canvas.ellipse(fx, fy, size * 0.2, size * (0.13 + 0.4 * wag.abs()), body.mix(BLACK, 0.2));
        canvas.disc(ex, ey, size * 0.11, WHITE);
        canvas.disc(ex, ey, size * 0.07, BLACK);
    }
}

fn turtle(canvas: &mut Canvas, shot: &Shot, ray: Colour) {
    let side = if shot.own(50) < 0.5 { -1.0 } else { 1.0 };
    let size = 0.20 + 0.08 * shot.own(51);
    let (x, y) = (WIDE * (0.35 + 0.3 * shot.own(52)) + side * 0.015 * shot.t, 0.36 + 0.2 * shot.own(53));
    let at = |dx: f32, dy: f32| (x + side * dx * size, y + dy * size);
    let (skin, shell) = (rgb(0x7C_A05A), hsv(0.06 + 0.2 * shot.item(54), 0.6, 0.5));
    let beat = 0.4 * (shot.t * 1.6).sin();
    canvas.taper(at(-0.7, 0.15), at(-1.15, 0.4 - beat * 0.5), size * 0.26, size * 0.1, skin.mix(BLACK, 0.2));
    canvas.taper(at(0.75, 0.0), at(1.15, -0.18), size * 0.3, size * 0.36, skin);
    let (ex, ey) = at(1.22, -0.24);
    canvas.disc(ex, ey, size * 0.05, BLACK);
    canvas.shape(
        [x - size, y - size * 0.62, x + size, y + size * 0.62],
        1.0,
        |px, py| ((((px - x) / size).powi(2) + ((py - y) / size / 0.56).powi(2)).sqrt() - 1.0) * size * 0.56,
        |px, py| {
            let (u, v) = ((px - x) / size * 3.2, (py - y) / size * 3.6);
            let row = v.floor();
            let (cu, cv) = ((u + 0.5 * row.rem_euclid(2.0)).fract().abs() - 0.5, (v - row) - 0.5);
            let seam = step_between(0.36, 0.5, cu.abs().max(cv.abs()));
            let belly = step_between(0.30, 0.36, (py - y) / size);
            shell
                .mix(ray, 0.3 * (0.4 - (py - y) / size).clamp(0.0, 1.0))
                .mix(BLACK, 0.5 * seam)
                .mix(rgb(0xE4_D8A0), belly)
        },
    );
    canvas.taper(at(0.45, 0.25), at(0.1, 1.0 + beat), size * 0.34, size * 0.12, skin);
}

fn jellyfish(canvas: &mut Canvas, shot: &Shot, ray: Colour, night: bool) {
    let hue = 0.75 + 0.3 * shot.item(55);
    for k in 0..4_u64 {
        let beat = (shot.t * 1.8 + TAU * shot.own(56 + k)).sin();
        let size = (0.05 + 0.09 * shot.own(60 + k)) * if k == 0 { 1.5 } else { 1.0 };
        let x = WIDE * (0.12 + 0.25 * k as f32 + 0.1 * shot.own(64 + k));
        let y = (0.2 + 0.4 * shot.own(68 + k) - 0.01 * shot.t + 0.01 * beat).max(0.08);
        let colour = hsv(hue, 0.45, 1.0);
        canvas.glow(x, y, size * 2.6, colour, if night { 0.8 } else { 0.4 });
        for arm in 0..7 {
            let root = x + (arm as f32 - 3.0) * size * 0.25;
            let at = |step: i32| {
                let u = step as f32 / 7.0;
                (
                    root + size * 0.22 * (shot.t * 2.0 + u * 6.0 + arm as f32).sin() * u,
                    y + u * size * (2.2 + 0.2 * arm as f32),
                )
            };
            for step in 0..7 {
                canvas.taper(at(step), at(step + 1), size * 0.06, size * 0.045, colour.mix(ray, 0.3));
            }
        }
        let wide = size * (1.0 - 0.1 * beat);
        canvas.shape(
            [x - wide, y - size * 0.9, x + wide, y + size * 0.15],
            0.85,
            |px, py| {
                let dome = ((((px - x) / wide).powi(2) + ((py - y) / size / 0.85).powi(2)).sqrt() - 1.0) * size * 0.85;
                dome.max(py - y - size * (0.08 + 0.06 * ((px - x) / size * 16.0).sin()))
            },
            |px, py| colour.mix(ray, (0.5 - (py - y) / size - ((px - x) / wide).abs() * 0.5).clamp(0.0, 0.8)),
        );
    }
}

fn diver(canvas: &mut Canvas, shot: &Shot, deep: Colour, ray: Colour) {
    let side = if shot.own(72) < 0.5 { -1.0 } else { 1.0 };
    let size = 0.24 + 0.08 * shot.own(73);
    let (x, y) = (WIDE * (0.35 + 0.3 * shot.own(74)) + side * 0.012 * shot.t, 0.34 + 0.2 * shot.own(75));
    let at = |dx: f32, dy: f32| (x + side * dx * size, y + dy * size);
    let (suit, fin) = (deep.mix(BLACK, 0.6), hsv(shot.item(76), 0.85, 1.0));
    let kick = 0.14 * (shot.t * 2.6).sin();
    canvas.stroke(at(-0.35, -0.24), at(0.25, -0.30), size * 0.22, fin);
    canvas.stroke(at(0.25, -0.30), at(0.72, -0.04), size * 0.04, suit);
    for leg in [-1.0, 1.0] {
        let (knee, foot) = (at(-0.85, 0.1 + leg * kick), at(-1.3, 0.08 - leg * kick));
        canvas.taper(at(-0.4, 0.05), knee, size * 0.26, size * 0.19, suit);
        canvas.taper(knee, foot, size * 0.19, size * 0.12, suit);
        canvas.taper(foot, at(-1.75, 0.1 - leg * kick * 2.4), size * 0.09, size * 0.24, fin);
    }
    canvas.taper(at(0.28, -0.02), at(-0.4, 0.04), size * 0.44, size * 0.32, suit);
    canvas.stroke(at(0.2, 0.06), at(-0.36, 0.1), size * 0.06, fin);
    canvas.taper(at(0.3, 0.05), at(0.52, 0.36), size * 0.17, size * 0.13, suit);
    canvas.taper(at(0.52, 0.36), at(0.9, 0.14), size * 0.13, size * 0.09, suit);
    let ((hx, hy), (cx, cy), (mx, my)) = (at(0.62, -0.16), at(0.69, -0.12), at(0.74, -0.2));
    canvas.disc(hx, hy, size * 0.21, suit);
    canvas.disc(cx, cy, size * 0.14, rgb(0xE0_A888));
    canvas.ellipse(mx, my, size * 0.11, size * 0.09, fin);
    canvas.ellipse(mx, my, size * 0.08, size * 0.06, ray);
    let (lx, ly) = at(0.9, 0.1);
    for k in 0..6 {
        let far = k as f32 / 5.0;
        canvas.glow(lx + side * far * size, ly + 0.3 * far * size, size * (0.3 + 0.35 * far), ray, 0.8 - 0.7 * far);
    }
}

fn bubbles(canvas: &mut Canvas, shot: &Shot, ray: Colour) {
    for k in 0..26_u64 {
        let column = shot.own(80 + k % 3);
        let rise = (shot.own(90 + k) - shot.t * (0.10 + 0.08 * shot.own(400 + k))).rem_euclid(1.1) - 0.05;
        let x = WIDE * column + 0.05 * (shot.own(430 + k) - 0.5) + 0.012 * (rise * 20.0 + k as f32).sin();
        let radius = 0.004 + 0.014 * shot.own(460 + k) * (1.1 - rise);
        canvas.ring(x, rise, radius, 0.0025, ray);
        canvas.disc(x - radius * 0.35, rise - radius * 0.35, radius * 0.22, WHITE);
    }
}
