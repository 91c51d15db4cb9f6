//! How is the sea painted? Sky, sun or moon, a horizon, perspective waves, and something that floats.

use std::f32::consts::TAU;

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, rgb, step_between};
use super::noise::{fractal, fractal_line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 6] =
    ["at dawn", "under a blue sky", "at sunset", "by moonlight", "in stormy weather", "in pink evening light"];

/// Sky from top to horizon (three), light, near water, far water.
const PALETTES: [[u32; 6]; 6] = [
    [0x5B_84B1, 0xF2_B79B, 0xFD_E6C4, 0xFF_F1D0, 0x1E_4E63, 0x8F_B9B5],
    [0x1F_6FC2, 0x6C_B4EE, 0xCF_EAF7, 0xFF_FFF0, 0x04_4A7C, 0x3C_A4C8],
    [0x2B_1B4D, 0xD8_4E4A, 0xFF_B347, 0xFF_E08A, 0x1A_1238, 0xB8_503F],
    [0x04_0A1E, 0x0F_2244, 0x2E_4A72, 0xE8_EEFF, 0x02_0713, 0x22_3B60],
    [0x3B_454C, 0x66_737A, 0xA5_B0AE, 0xE8_EEE6, 0x14_2A2C, 0x5F_7C79],
    [0x4A_3C8C, 0xC8_7BB8, 0xFF_C9C2, 0xFF_E9DC, 0x24_1D57, 0xA8_79B2],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, middle, low, sun, near, far] = PALETTES[light].map(rgb);
    let horizon = 0.40 + 0.20 * shot.own(1);
    let (sun_x, sun_y) = (WIDE * (0.15 + 0.7 * shot.own(2)), horizon - 0.03 - 0.24 * shot.item(3));
    let pan = shot.pan();
    canvas.sky(&[(0.0, high), (horizon * 0.65, middle), (horizon, low)]);
    if light != 4 {
        canvas.glow(sun_x, sun_y, 0.75, sun.mix(low, 0.3), 0.65);
        let radius = 0.035 + 0.05 * shot.item(4);
        canvas.disc(sun_x, sun_y, radius, sun);
        if light == 3 {
            canvas.disc(sun_x + radius * 0.35, sun_y - radius * 0.2, radius * 0.85, high.mix(middle, 0.6));
        }
    }
    clouds(canvas, shot, horizon, if light == 4 { 0.9 } else { 0.75 }, sun.mix(low, 0.35), middle.mix(high, 0.5));
    let motif = shot.item_of(5, 4);
    if shot.own(6) < 0.6 {
        far_land(canvas, shot, horizon, pan, middle.mix(near, 0.55));
    }
    water(canvas, shot, horizon, (sun_x, if light == 4 { BLACK } else { sun }), near, far.mix(low, 0.25));
    let dark = near.mix(BLACK, 0.45);
    match motif {
        0 => sailing_boat(canvas, shot, horizon, dark, sun.mix(WHITE, 0.4), 1 + shot.own_of(7, 2)),
        1 => lighthouse(canvas, shot, horizon, dark, sun),
        2 => steamer(canvas, shot, horizon, dark, shot.item(8)),
        _ => rocks(canvas, shot, horizon, dark),
    }
    gulls(canvas, shot, horizon, dark);
}

fn clouds(canvas: &mut Canvas, shot: &Shot, horizon: f32, amount: f32, bright: Colour, shade: Colour) {
    let seed = shot.seed(20);
    let drift = shot.t * 0.02;
    let threshold = 0.62 - 0.2 * amount * shot.look(21);
    canvas.veil([0.0, 0.0, WIDE, horizon], 0.012, |x, y| {
        let squeeze = 1.0 + 2.2 * (y / horizon).clamp(0.0, 1.0);
        let f = fractal(x * 1.6 + drift, y * 3.2 * squeeze, 5, seed);
        let cover = step_between(threshold, threshold + 0.24, f);
        (bright.mix(shade, step_between(threshold + 0.08, 0.85, f)), cover * amount)
    });
}

fn far_land(canvas: &mut Canvas, shot: &Shot, horizon: f32, pan: f32, colour: Colour) {
    let (seed, high) = (shot.seed(25), 0.05 + 0.12 * shot.own(26));
    let middle = WIDE * shot.own(27);
    canvas.ground(
        |x| {
            let island = (1.0 - ((x - middle) / 0.7).powi(2)).max(0.0);
            horizon + 0.004 - island * high * (0.35 + fractal_line((x + pan * 0.2) * 5.0, 4, seed))
        },
        |_, _, depth| colour.mix(WHITE, (depth * 2.0).min(0.25)),
    );
}

fn water(canvas: &mut Canvas, shot: &Shot, horizon: f32, sun: (f32, Colour), near: Colour, far: Colour) {
    let (seed, t, rough) = (shot.seed(30), shot.t, 0.5 + 0.5 * shot.look(31));
    let pan = shot.pan();
    let span = 1.0 - horizon;
    canvas.ground(
        |_| horizon,
        |x, _, depth| {
            let d = depth / span;
            // The further away, the finer and flatter the waves.
            let reach = 1.0 / (d + 0.07);
            let wave = 0.6 * noise((x + pan * 0.5) * reach * 1.9 + t * 0.25, reach * 7.0 + t * 0.7, seed)
                + 0.4 * noise((x + pan * 0.5) * reach * 5.1 - t * 0.4, reach * 17.0 - t * 0.9, seed ^ 7);
            let mut colour = far.mix(near, (d * 1.5).min(1.0).sqrt());
            let crest = step_between(0.56, 0.9, wave) * rough;
            let trough = step_between(0.44, 0.1, wave) * rough;
            colour = colour.mix(WHITE, crest * 0.32).mix(BLACK, trough * 0.35);
            let path = 0.035 + 0.25 * d;
            let aside = (x - sun.0) / path;
            let glitter = (1.0 / (1.0 + aside * aside * aside * aside)) * step_between(0.46, 0.66, wave);
            colour.screen(sun.1 * (glitter * (0.95 - 0.5 * d)))
        },
    );
    // Nearby swell with foam on its back.
    for k in 0..2 {
        let base = 0.84 + 0.10 * k as f32;
        let seed = shot.seed(32 + k);
        let body = near.mix(far, 0.22 - 0.12 * k as f32);
        canvas.ground(
            |x| {
                let u = x + pan * (0.6 + 0.3 * k as f32);
                base + 0.016 * (u * 5.0 + t * 0.8 + k as f32).sin() + 0.03 * fractal_line(u * 3.0 + t * 0.15, 3, seed)
            },
            |x, y, depth| {
                let foam = step_between(0.02, 0.0, depth) * noise(x * 60.0 + t, y * 160.0, seed) * rough;
                let texture = noise((x + pan) * 9.0, depth * 60.0 - t * 0.4, seed);
                body.mix(WHITE, 0.85 * foam + 0.10 * step_between(0.6, 0.9, texture)).mix(BLACK, depth * 0.8)
            },
        );
    }
}

fn sailing_boat(canvas: &mut Canvas, shot: &Shot, horizon: f32, dark: Colour, sail: Colour, count: usize) {
    let stripe = super::colour::hsv(shot.item(41), 0.7, 0.9);
    for k in 0..count as u64 {
        let size = (0.16 + 0.18 * shot.own(42 + k)) / (1.0 + k as f32);
        let x = WIDE * (0.2 + 0.6 * shot.own(44 + k)) + 0.02 * shot.t;
        let y = horizon + 0.03 + size * 0.55 + 0.006 * (shot.t * 1.7).sin();
        let lean = 0.05 * (shot.t * 1.1 + k as f32).sin() * size;
        let at = |dx: f32, dy: f32| (x + dx * size + lean * -dy * 4.0, y + dy * size);
        canvas.glow(x, y + size * 0.25, size * 0.5, dark, 0.0);
        canvas.polygon(&[at(-0.42, 0.0), at(0.5, -0.02), at(0.34, 0.16), at(-0.3, 0.16)], dark);
        canvas.polygon(&[at(-0.40, -0.01), at(0.46, -0.03), at(0.44, 0.03), at(-0.36, 0.04)], stripe);
        canvas.stroke(at(0.03, 0.0), at(0.03, -1.05), size * 0.025, dark);
        canvas.polygon_with(&[at(0.0, -1.0), at(0.0, -0.08), at(-0.40, -0.1)], |px, _| {
            sail.mix(dark, ((x - px) / size * 0.9).clamp(0.0, 0.5))
        });
        canvas.polygon(&[at(0.07, -0.92), at(0.07, -0.1), at(0.44, -0.12)], sail.mix(stripe, 0.35));
    }
}

fn lighthouse(canvas: &mut Canvas, shot: &Shot, horizon: f32, dark: Colour, lamp: Colour) {
    let x = WIDE * if shot.own(50) < 0.5 { 0.2 } else { 0.78 } + 0.1 * shot.own(51);
    let (foot, top) = (horizon + 0.02, horizon - 0.26 - 0.08 * shot.own(52));
    let seed = shot.item_seed(53);
    canvas.ground(
        |px| {
            let rock = (1.0 - ((px - x) / 0.36).powi(2)).max(-0.2);
            horizon + 0.10 - rock * (0.06 + 0.09 * fractal_line(px * 9.0, 3, seed))
        },
        |px, py, depth| {
            let fall = step_between(0.10, 0.16, py - horizon + 0.02 * noise(px * 20.0, shot.t, seed));
            let rock = dark.mix(lamp, 0.18 * noise(px * 30.0, py * 40.0, seed) * step_between(0.1, 0.0, depth));
            // Below the waterline the rock fades, as the paint of the water stays where it is.
            rock.mix(dark, fall)
        },
    );
    let red = super::colour::hsv(shot.item(54) * 0.12, 0.75, 0.75);
    let tower = |y: f32| 0.022 + 0.014 * ((y - top) / (foot - top));
    let band = (foot - top) / 5.0;
    canvas.polygon_with(
        &[(x - tower(top), top), (x + tower(top), top), (x + tower(foot), foot), (x - tower(foot), foot)],
        |px, py| {
            let paint = if ((py - top) / band) as i32 % 2 == 0 { red } else { rgb(0xF4_EFE6) };
            paint.mix(BLACK, (0.35 + (px - x) * 12.0).clamp(0.0, 0.6))
        },
    );
    canvas.bar([x - 0.032, top - 0.012, x + 0.032, top], 0.002, dark);
    canvas.bar([x - 0.016, top - 0.045, x + 0.016, top - 0.01], 0.002, lamp);
    canvas.polygon(&[(x - 0.026, top - 0.045), (x, top - 0.075), (x + 0.026, top - 0.045)], red.mix(BLACK, 0.3));
    let turn = (shot.t * 0.9 + 4.0 * shot.own(55)).sin();
    let reach = 1.2 * turn;
    canvas.veil([0.0, top - 0.3, WIDE, top + 0.3], 0.01, |px, py| {
        let along = (px - x) / reach;
        let width = 0.01 + 0.10 * along.max(0.0);
        let aside = ((py - top + 0.028) / width).abs();
        let beam = if along > 0.0 && along < 1.0 { (1.0 - aside).max(0.0) * (1.0 - along) } else { 0.0 };
        (lamp, beam * 0.45 * turn.abs())
    });
    canvas.glow(x, top - 0.028, 0.16, lamp, 0.9);
}

fn steamer(canvas: &mut Canvas, shot: &Shot, horizon: f32, dark: Colour, hue: f32) {
    let size = 0.22 + 0.2 * shot.own(60);
    let (x, y) = (WIDE * (0.25 + 0.5 * shot.own(61)) - 0.015 * shot.t, horizon + 0.05 + size * 0.22);
    let at = |dx: f32, dy: f32| (x + dx * size, y + dy * size);
    let paint = super::colour::hsv(hue, 0.65, 0.7);
    let smoke = rgb(0xD8_D4D0);
    for k in 0..6 {
        let age = (shot.t * 0.35 + k as f32 / 6.0).fract() * 1.2;
        let (sx, sy) = at(0.05 + age * 0.7, -0.62 - age * 0.35);
        canvas.glow(sx, sy, size * (0.12 + 0.25 * age), smoke, 0.5 * (1.2 - age).max(0.0));
    }
    canvas.polygon(&[at(-0.75, -0.22), at(0.72, -0.16), at(0.62, 0.1), at(-0.58, 0.1)], dark);
    canvas.polygon(&[at(-0.68, -0.02), at(0.66, -0.0), at(0.62, 0.1), at(-0.58, 0.1)], paint);
    for k in 0..3 {
        let (left, top) = at(-0.35 + 0.05 * k as f32, -0.22 - 0.12 * (k + 1) as f32);
        let (right, bottom) = at(0.45 - 0.07 * k as f32, -0.2 - 0.12 * k as f32);
        canvas.bar([left, top, right, bottom], 0.004, rgb(0xF2_EEE4).mix(dark, 0.1 * k as f32));
        for w in 0..9 - k {
            let (wx, wy) = at(-0.28 + 0.05 * k as f32 + 0.08 * w as f32, -0.27 - 0.12 * k as f32);
            canvas.disc(wx, wy, size * 0.016, if (w + k) % 3 == 0 { rgb(0xFF_DE8A) } else { dark });
        }
    }
    for k in 0..2 {
        let (left, top) = at(-0.05 + 0.2 * k as f32, -0.72);
        let (right, bottom) = at(0.04 + 0.2 * k as f32, -0.5);
        canvas.bar([left, top, right, bottom], 0.003, paint);
        canvas.bar([left, top, right, top + size * 0.05], 0.002, dark);
    }
}

fn rocks(canvas: &mut Canvas, shot: &Shot, horizon: f32, dark: Colour) {
    for k in 0..3_u64 {
        let seed = shot.seed(70 + k);
        let x = WIDE * (0.1 + 0.8 * shot.own(73 + k));
        let (wide, high) = (0.06 + 0.12 * shot.own(76 + k), 0.12 + 0.26 * shot.own(79 + k));
        let foot = horizon + 0.05 + 0.05 * k as f32;
        let corners: Vec<(f32, f32)> = (0..=16)
            .map(|i| {
                let u = i as f32 / 8.0 - 1.0;
                let top = (1.0 - u.abs().powf(2.2)) * high * (0.7 + 0.5 * fractal_line(u * 3.0, 3, seed));
                (x + u * wide, foot - top)
            })
            .collect();
        canvas.polygon_with(&corners, |px, py| {
            let grain = fractal(px * 30.0, py * 14.0, 3, seed);
            dark.mix(rgb(0xB0_9C84), (0.7 * grain * (0.6 - (px - x) / wide * 0.6)).clamp(0.0, 0.6))
        });
        for i in 0..5 {
            let u = i as f32 / 2.5 - 0.8;
            let rise = 0.004 * (shot.t * 2.0 + i as f32 * 2.1).sin();
            canvas.ellipse(x + u * wide, foot + rise, wide * 0.3, 0.008, WHITE.mix(dark, 0.35));
        }
    }
}

fn gulls(canvas: &mut Canvas, shot: &Shot, horizon: f32, dark: Colour) {
    for k in 0..shot.own_of(80, 6) as u64 {
        let x = (WIDE * shot.own(81 + k) + 0.05 * shot.t).rem_euclid(WIDE);
        let y = horizon * (0.2 + 0.6 * shot.own(91 + k));
        let size = 0.012 + 0.016 * shot.own(101 + k);
        let flap = 0.35 + 0.35 * (shot.t * 5.0 + TAU * shot.own(111 + k)).sin();
        canvas.stroke((x, y), (x - size, y - size * flap), size * 0.18, dark);
        canvas.stroke((x, y), (x + size, y - size * flap), size * 0.18, dark);
    }
}
