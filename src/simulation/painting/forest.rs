//! How is a forest painted? Rows of trees that fade into mist, shafts of light, and something that lives there.

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, fractal_line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 6] =
    ["in morning mist", "in golden autumn light", "by moonlight", "in spring sunshine", "in winter snow", "at dusk"];

/// Sky, mist, nearest trees, leaves, ground.
const PALETTES: [[u32; 5]; 6] = [
    [0xDD_E8DC, 0xB5_CDBF, 0x12_3324, 0x3F_7A4D, 0x2C_4A2B],
    [0xFB_E3B0, 0xE5_B072, 0x3A_1C10, 0xD9_7A22, 0x6B_3E18],
    [0x14_2540, 0x2A_4563, 0x03_0A12, 0x12_2E3A, 0x08_161C],
    [0xE9_F6CE, 0xB9_E08C, 0x1F_4A1C, 0x7C_C243, 0x4B_8A2E],
    [0xE4_EDF5, 0xC4_D4E2, 0x2B_3C4C, 0xDF_E9F2, 0xF0_F5FA],
    [0xF0_A58C, 0x9A_6C8E, 0x1A_1026, 0x4A_3558, 0x2A_1C36],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [sky, mist, near, leaf, floor] = PALETTES[light].map(rgb);
    let leafy = shot.look_of(1, 2) == 0 && light != 4;
    let pan = shot.pan();
    let source = (WIDE * (0.15 + 0.7 * shot.own(2)), 0.05 + 0.25 * shot.own(3));
    canvas.sky(&[(0.0, sky.mix(leaf, 0.25)), (0.35, sky), (0.75, mist)]);
    canvas.glow(source.0, source.1, 0.9, sky.mix(WHITE, 0.7), 0.6);
    if light == 2 {
        canvas.disc(source.0, source.1, 0.06, rgb(0xF2_F4E4));
    }
    let layers = 5;
    for k in 0..layers {
        let nearness = k as f32 / (layers - 1) as f32;
        let tint = mist.mix(near.mix(leaf, if leafy { 0.45 } else { 0.3 }), 0.12 + 0.78 * nearness);
        tree_row(canvas, shot, k, nearness, pan, tint, leafy);
        if k + 1 < layers {
            let seed = shot.seed(10 + k);
            let drift = shot.t * 0.03;
            canvas.veil([0.0, 0.3, WIDE, 1.0], 0.02, |x, y| {
                let low = step_between(0.42, 0.8, y - 0.06 * nearness);
                (mist.mix(sky, 0.4), low * 0.5 * fractal(x * 2.0 + drift, y * 5.0, 3, seed))
            });
        }
    }
    if light != 2 {
        shafts(canvas, shot, source, sky.mix(WHITE, 0.5));
    }
    ground(canvas, shot, pan, floor, leaf, light == 4);
    match shot.item_of(4, 5) {
        0 => cabin(canvas, shot, near, light),
        1 => deer(canvas, shot, near.mix(rgb(0x6B_3F22), 0.4)),
        2 => path(canvas, shot, floor.mix(rgb(0xD8_C49A), 0.55)),
        3 => mushrooms(canvas, shot),
        _ => fireflies(canvas, shot, 26),
    }
    if shot.own(5) < 0.45 {
        trunks(canvas, shot, pan, near.mix(BLACK, 0.3), light == 4);
    }
    if light == 4 {
        snow(canvas, shot);
    } else if light == 2 || light == 5 {
        fireflies(canvas, shot, 12);
    }
}

fn tree_row(canvas: &mut Canvas, shot: &Shot, row: u64, nearness: f32, pan: f32, tint: Colour, leafy: bool) {
    let seed = shot.seed(20 + row);
    let spacing = 0.055 + 0.10 * nearness;
    let high = (0.22 + 0.26 * nearness) * (0.8 + 0.5 * shot.item(25));
    let foot = 0.55 + 0.26 * nearness;
    let shift = pan * (0.1 + 0.9 * nearness);
    canvas.ground(
        |x| {
            let u = x + shift;
            let middle = (u / spacing).floor() as i32;
            let mut top = 0.03 * fractal_line(u * 4.0, 3, seed);
            for tree in middle - 1..=middle + 1 {
                let centre = (tree as f32 + 0.2 + 0.6 * cell(tree, 1, seed)) * spacing;
                let height = high * (0.55 + 0.45 * cell(tree, 2, seed));
                let away = (u - centre).abs() / (spacing * (0.75 + 0.3 * cell(tree, 3, seed)));
                let profile = if leafy {
                    let crown = (1.0 - (away * 1.25).powi(2)).max(0.0).sqrt();
                    let tuft = 0.10 * fractal_line(u * 60.0 / (0.5 + nearness), 2, seed);
                    if crown > 0.0 { 0.45 + 0.5 * crown + tuft } else { 0.0 }
                } else {
                    // Branches: the slope goes down in steps.
                    let steps = 7.0;
                    let s = away * steps;
                    let jag = (s.fract() - 0.5) * 0.55;
                    (1.0 - (s + jag) / steps).max(0.0)
                };
                top = f32::max(top, height * profile);
            }
            foot - top
        },
        |x, y, depth| {
            let u = x + shift;
            let lit = step_between(0.10, 0.0, depth) * 0.16;
            let texture = noise(u * 70.0 / (0.4 + nearness), y * 90.0 / (0.4 + nearness), seed) - 0.5;
            tint.mix(WHITE, lit * 0.6).mix(if texture > 0.0 { WHITE } else { BLACK }, texture.abs() * 0.28 * nearness)
        },
    );
}

fn shafts(canvas: &mut Canvas, shot: &Shot, source: (f32, f32), colour: Colour) {
    let seed = shot.seed(30);
    let strength = 0.35 * shot.look(31) + 0.15;
    canvas.veil([0.0, 0.0, WIDE, 1.0], 0.02, |x, y| {
        let (dx, dy) = (x - source.0, y - source.1 + 0.25);
        let angle = dx / (dy.abs() + 0.15);
        let ray = step_between(0.5, 0.85, noise(angle * 6.0 + shot.t * 0.12, 0.5, seed));
        (colour, ray * strength * step_between(1.3, 0.2, y))
    });
}

fn ground(canvas: &mut Canvas, shot: &Shot, pan: f32, floor: Colour, leaf: Colour, snowy: bool) {
    let seed = shot.seed(40);
    canvas.ground(
        |x| 0.80 + 0.03 * fractal_line((x + pan) * 3.0, 3, seed),
        |x, y, depth| {
            let u = x + pan;
            let reach = 1.0 / (0.35 + depth * 2.5);
            let tuft = noise(u * 60.0 * reach, y * 120.0 * reach, seed);
            let patch = fractal(u * 7.0, y * 20.0, 3, seed ^ 3);
            let base = floor.mix(leaf, 0.55 * patch);
            let grain = if snowy { 0.08 } else { 0.4 };
            base.mix(BLACK, (1.0 - tuft) * grain).mix(leaf.mix(WHITE, 0.3), step_between(0.75, 0.95, tuft) * 0.4)
        },
    );
}

fn trunks(canvas: &mut Canvas, shot: &Shot, pan: f32, bark: Colour, snowy: bool) {
    let seed = shot.item_seed(50);
    let birch = shot.look_of(51, 3) == 0;
    for k in 0..3_u64 {
        let x =
            (WIDE * (0.05 + 0.33 * k as f32 + 0.25 * shot.own(52 + k)) - 0.6 * (shot.t * 0.05)).rem_euclid(WIDE + 0.2);
        let wide = 0.025 + 0.035 * shot.own(55 + k);
        let body = if birch { rgb(0xDC_D8CE).mix(bark, 0.25) } else { bark.mix(rgb(0x5A_4330), 0.35) };
        canvas.polygon_with(
            &[
                (x - wide, -0.1),
                (x + wide, -0.1),
                (x + wide * 1.25, 0.88),
                (x + wide * 1.8, 1.1),
                (x - wide * 1.8, 1.1),
                (x - wide * 1.25, 0.88),
            ],
            |px, py| {
                let across = (px - x) / wide;
                let round = (1.0 - across * across * 0.6).max(0.0);
                let groove =
                    if birch { noise(px * 20.0, py * 70.0 + pan, seed) } else { noise(px * 120.0, py * 9.0, seed) };
                let mark = if birch { step_between(0.72, 0.8, groove) } else { step_between(0.7, 0.2, groove) * 0.6 };
                let snow = if snowy && across < -0.3 { 0.7 * step_between(0.4, 0.6, groove) } else { 0.0 };
                body.mix(BLACK, 0.75 - 0.65 * round).mix(BLACK, mark * 0.7).mix(WHITE, snow)
            },
        );
    }
}

fn cabin(canvas: &mut Canvas, shot: &Shot, dark: Colour, light: usize) {
    let size = 0.16 + 0.12 * shot.own(60);
    let (x, y) = (WIDE * (0.25 + 0.5 * shot.own(61)), 0.86);
    let wood = rgb(0x7A_4B2A).mix(dark, 0.35);
    let roof = if light == 4 { rgb(0xF2_F6FA) } else { hsv(0.02 + 0.1 * shot.item(62), 0.5, 0.35) };
    let at = |dx: f32, dy: f32| (x + dx * size, y + dy * size);
    canvas.polygon_with(&[at(-0.6, -0.6), at(0.6, -0.6), at(0.6, 0.05), at(-0.6, 0.05)], |_, py| {
        wood.mix(BLACK, 0.35 * ((py * 90.0).fract() - 0.2).clamp(0.0, 1.0))
    });
    let (l, t) = at(0.42, -1.15);
    canvas.bar([l, t, l + size * 0.16, t + size * 0.5], 0.002, dark);
    canvas.polygon(&[at(-0.78, -0.55), at(0.0, -1.15), at(0.78, -0.55)], roof);
    canvas.polygon(&[at(-0.60, -0.56), at(0.0, -1.02), at(0.60, -0.56)], wood.mix(BLACK, 0.3));
    for dx in [-0.42, 0.18] {
        let (l, t) = at(dx, -0.46);
        canvas.bar([l, t, l + size * 0.24, t + size * 0.24], 0.002, rgb(0xFF_D27A));
        canvas.glow(l + size * 0.12, t + size * 0.12, size * 0.6, rgb(0xFF_B347), 0.7);
    }
    let (l, t) = at(-0.12, -0.42);
    canvas.bar([l, t, l + size * 0.22, y + size * 0.05], 0.002, dark);
    for k in 0..5 {
        let age = (shot.t * 0.3 + k as f32 / 5.0).fract();
        let (sx, sy) = at(0.5 + age * 0.3, -1.2 - age * 0.9);
        canvas.glow(sx, sy, size * (0.12 + 0.3 * age), rgb(0xE6_E6E6), 0.45 * (1.0 - age));
    }
}

fn deer(canvas: &mut Canvas, shot: &Shot, coat: Colour) {
    let size = 0.17 + 0.10 * shot.own(65);
    let (x, y) = (WIDE * (0.25 + 0.5 * shot.own(66)) + 0.01 * shot.t, 0.88);
    let nod = 0.06 * (shot.t * 0.8).sin();
    let side = if shot.own(67) < 0.5 { 1.0 } else { -1.0 };
    let at = |dx: f32, dy: f32| (x + dx * size * side, y + dy * size);
    for dx in [-0.42, -0.34, 0.3, 0.38] {
        canvas.taper(at(dx, -0.6), at(dx + 0.02, 0.02), size * 0.11, size * 0.05, coat);
    }
    let (bx, by) = at(0.0, -0.68);
    canvas.ellipse(bx, by, size * 0.5, size * 0.21, coat);
    canvas.taper(at(0.36, -0.72), at(0.58, -1.18 + nod), size * 0.24, size * 0.13, coat);
    canvas.taper(at(0.58, -1.2 + nod), at(0.80, -1.12 + nod), size * 0.16, size * 0.08, coat);
    canvas.taper(at(0.54, -1.24 + nod), at(0.44, -1.36 + nod), size * 0.07, size * 0.02, coat);
    for (dx, dy) in [(0.48, -1.6), (0.62, -1.72), (0.78, -1.62)] {
        canvas.stroke(at(0.60, -1.26 + nod), at(dx, dy + nod), size * 0.03, coat);
    }
    canvas.stroke(at(0.55, -1.48 + nod), at(0.40, -1.52 + nod), size * 0.025, coat);
    canvas.stroke(at(0.70, -1.45 + nod), at(0.86, -1.50 + nod), size * 0.025, coat);
    canvas.taper(at(-0.48, -0.74), at(-0.58, -0.62), size * 0.09, size * 0.05, WHITE.mix(coat, 0.2));
}

fn path(canvas: &mut Canvas, shot: &Shot, sand: Colour) {
    let (seed, bend) = (shot.seed(70), 0.5 * (shot.own(71) - 0.5));
    let middle = WIDE * (0.35 + 0.3 * shot.own(72));
    canvas.each([0.0, 0.8, WIDE, 1.0], |x, y, under| {
        let d = (y - 0.8) / 0.2;
        let centre = middle + bend * (1.0 - d) * (1.0 - d) + 0.02 * (d * 6.0).sin();
        let half = 0.02 + 0.30 * d * d + 0.02 * noise(x * 20.0, y * 50.0, seed);
        let inside = step_between(half, half * 0.75, (x - centre).abs()) * step_between(0.0, 0.12, d);
        under.mix(sand.mix(BLACK, 0.35 * fractal(x * 14.0, y * 50.0, 2, seed)), inside)
    });
}

fn mushrooms(canvas: &mut Canvas, shot: &Shot) {
    let cap = hsv(shot.item(75) * 0.1, 0.8, 0.8);
    for k in 0..5_u64 {
        let size = 0.04 + 0.07 * shot.own(76 + k);
        let (x, y) = (WIDE * (0.1 + 0.18 * k as f32 + 0.1 * shot.own(81 + k)), 0.90 + 0.06 * shot.own(86 + k));
        canvas.taper((x, y), (x, y - size), size * 0.5, size * 0.34, rgb(0xEE_E2CC));
        canvas.shape(
            [x - size, y - size * 1.9, x + size, y - size * 0.8],
            1.0,
            |px, py| (((px - x) / size).powi(2) + ((py - y + size * 0.9) / size).powi(2)).sqrt() * size - size,
            |px, py| {
                let lit = ((px - x) / size * -0.4 + 0.6 - (py - y + size * 1.2) / size * 0.4).clamp(0.2, 1.0);
                cap.mix(BLACK, 0.6 * (1.0 - lit))
            },
        );
        for (dx, dy) in [(-0.5, -1.25), (0.1, -1.55), (0.55, -1.2), (-0.1, -1.1)] {
            canvas.disc(x + dx * size, y + dy * size, size * 0.12, rgb(0xFF_F4E4));
        }
    }
}

fn fireflies(canvas: &mut Canvas, shot: &Shot, count: u64) {
    for k in 0..count {
        let phase = shot.t * (0.4 + 0.5 * shot.own(300 + k)) + 7.0 * shot.own(330 + k);
        let x = WIDE * shot.own(360 + k) + 0.03 * phase.sin();
        let y = 0.42 + 0.5 * shot.own(390 + k) + 0.02 * (phase * 1.3).cos();
        let pulse = 0.55 + 0.45 * (phase * 2.0).sin();
        canvas.glow(x, y, 0.035, rgb(0xF8_F08A), pulse);
        canvas.disc(x, y, 0.0035, rgb(0xFF_FFD0));
    }
}

fn snow(canvas: &mut Canvas, shot: &Shot) {
    for k in 0..90 {
        let nearness = shot.own(400 + k);
        let x = (WIDE * shot.own(500 + k) + 0.03 * shot.t + 0.02 * (shot.t + k as f32).sin()).rem_euclid(WIDE);
        let y = (shot.own(600 + k) + shot.t * (0.05 + 0.12 * nearness)).rem_euclid(1.0);
        canvas.disc(x, y, 0.0018 + 0.0045 * nearness * nearness, WHITE);
    }
}
