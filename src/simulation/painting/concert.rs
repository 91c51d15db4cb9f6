//! How is a concert painted? A stage under coloured beams, a glowing wall, players in silhouette, a crowd with raised hands.

use std::f32::consts::{PI, TAU};

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, rgb, step_between};
use super::noise::{cell, fractal};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] = [
    "in violet and pink spotlights",
    "in red and golden stage light",
    "in cold blue beams",
    "under green laser beams",
    "in white light and orange sparks",
];

/// Dark of the hall, haze over the stage, first beams, second beams, floor.
const PALETTES: [[u32; 5]; 5] = [
    [0x0E_0620, 0x4A_1A78, 0xC0_4CFF, 0xFF_4FA0, 0x1C_0B34],
    [0x18_0608, 0x7A_2416, 0xFF_4A2A, 0xFF_C04A, 0x2C_0E0A],
    [0x02_0A1C, 0x12_3C78, 0x3F_8CFF, 0xA8_E4FF, 0x06_1430],
    [0x02_120C, 0x0C_4A34, 0x3C_FF8A, 0xD8_FF5A, 0x04_2018],
    [0x12_1012, 0x5A_4A44, 0xFF_F4DC, 0xFF_8A2A, 0x24_1C1A],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let [dark, haze, first, second, floor] = PALETTES[shot.look_of(LIGHT, LIGHTS.len())].map(rgb);
    let stage = 0.60 + 0.06 * shot.own(1);
    // Two beats a second, like most dance music.
    let pulse = 0.5 + 0.5 * (shot.t * TAU * 2.0).cos();
    let middle = WIDE * (0.4 + 0.2 * shot.own(2));
    canvas.sky(&[(0.0, dark), (stage * 0.6, dark.mix(haze, 0.55)), (stage, haze)]);
    screen(canvas, shot, (middle, stage), first, second);
    canvas.glow(middle, stage, 0.8, first.mix(second, 0.5), 0.35 + 0.15 * pulse);
    let seed = shot.seed(3);
    let drift = shot.t * 0.08;
    canvas.veil([0.0, 0.0, WIDE, stage], 0.02, |x, y| {
        let smoke = fractal(x * 2.2 + drift, y * 3.0, 4, seed);
        (haze.mix(first, 0.25), 0.45 * step_between(0.45, 0.8, smoke))
    });
    beams(canvas, shot, stage, first, second);
    canvas.bar([0.0, stage, WIDE, stage + 0.12], 0.0, floor);
    canvas.bar([0.0, stage, WIDE, stage + 0.008], 0.0, first.mix(WHITE, 0.3));
    let black = dark.mix(BLACK, 0.5);
    match shot.item_of(4, 4) {
        0 => band(canvas, shot, (middle, stage), black),
        1 => desk(canvas, shot, (middle, stage), black, second),
        2 => singer(canvas, shot, (middle, stage), black, second),
        _ => piano(canvas, shot, (middle, stage), black, second),
    }
    for side in [-1.0, 1.0] {
        speakers(canvas, WIDE * 0.5 + side * WIDE * 0.45, stage, dark, first, pulse);
    }
    rig(canvas, shot, black, first, second);
    crowd(canvas, shot, stage, dark, first, second);
}

/// The lit wall behind the players.
fn screen(canvas: &mut Canvas, shot: &Shot, (x, stage): (f32, f32), first: Colour, second: Colour) {
    let (wide, top) = (0.36 + 0.16 * shot.item(10), 0.16);
    let t = shot.t;
    let form = shot.item_of(11, 4);
    let seed = shot.item_seed(12);
    canvas.bar([x - wide - 0.012, top - 0.012, x + wide + 0.012, stage], 0.004, BLACK);
    canvas.each([x - wide, top, x + wide, stage - 0.012], |px, py, under| {
        let (u, v) = ((px - x) / wide, (stage - py) / (stage - top));
        let (light, hue) = match form {
            // Bars that dance, rings that grow, rays that turn, a mosaic.
            0 => {
                let bar = ((u + 1.0) * 9.0).floor();
                let level = 0.25 + 0.6 * cell(bar as i32, 0, seed) * (0.6 + 0.4 * (t * 5.0 + bar * 1.7).sin());
                let gap = ((u + 1.0) * 9.0).fract() > 0.15 && (v * 16.0).fract() > 0.25;
                (if v < level && gap { 1.0 } else { 0.06 }, v)
            }
            1 => {
                let reach = (u * u + (v - 0.5).powi(2)).sqrt() * 4.0 - t * 0.8;
                (step_between(0.35, 0.6, (reach.rem_euclid(1.0) - 0.5).abs() * 2.0) * 0.9 + 0.08, u.abs())
            }
            2 => {
                let turn = ((v - 0.1).atan2(u) / PI * 9.0 + t * 0.4).rem_euclid(1.0);
                (0.12 + 0.73 * step_between(0.27, 0.23, (turn - 0.5).abs()), v * 0.7)
            }
            _ => {
                let tile = (((u + 1.0) * 7.0) as i32, (v * 6.0) as i32);
                let bright = cell(tile.0 + (t * 2.0) as i32 * 17, tile.1, seed);
                (0.1 + 0.8 * bright * bright, cell(tile.1, tile.0, seed))
            }
        };
        under.mix(first.mix(second, hue.clamp(0.0, 1.0)), 0.85 * light)
    });
}

/// Cones of light from lamps under the roof, which swing.
fn beams(canvas: &mut Canvas, shot: &Shot, stage: f32, first: Colour, second: Colour) {
    let count = 5 + shot.item_of(20, 4);
    let fan = if shot.look(21) < 0.5 { 0.9 } else { -0.7 };
    for k in 0..count {
        let u = (k as f32 + 0.5) / count as f32;
        let x0 = WIDE * u;
        let swing = 0.35 * (shot.t * (0.5 + 0.5 * shot.look(22)) + u * 5.0 + TAU * shot.own(23)).sin();
        let slope = (0.5 - u) * fan * 1.3 + swing;
        let colour = if k % 2 == 0 { first } else { second };
        let thin = 0.045 + 0.08 * shot.look(24);
        let reach = stage + 0.1;
        let end = x0 + slope * reach;
        canvas.each([x0.min(end) - 0.15, 0.07, x0.max(end) + 0.15, reach], |x, y, under| {
            let depth = y - 0.07;
            let aside = ((x - x0 - slope * depth) / (0.008 + thin * depth * 2.0)).abs();
            if aside >= 1.0 {
                return under;
            }
            let core = (1.0 - aside) * (1.0 - aside);
            under.screen(colour * ((0.40 + 0.6 * core) * (1.0 - 0.8 * depth / reach) * (1.0 - aside)))
        });
        canvas.ellipse(end, stage + 0.03, 0.09, 0.014, colour.mix(WHITE, 0.2));
    }
}

/// The scaffold with its lamps.
fn rig(canvas: &mut Canvas, shot: &Shot, black: Colour, first: Colour, second: Colour) {
    let truss = black.mix(WHITE, 0.12);
    canvas.bar([0.0, 0.030, WIDE, 0.036], 0.0, truss);
    canvas.bar([0.0, 0.064, WIDE, 0.070], 0.0, truss);
    for k in 0..30 {
        let x = k as f32 * 0.06;
        canvas.stroke((x, 0.034), (x + 0.03, 0.066), 0.004, truss);
        canvas.stroke((x + 0.03, 0.066), (x + 0.06, 0.034), 0.004, truss);
    }
    let count = 5 + shot.item_of(20, 4);
    for k in 0..count {
        let (x, colour) = (WIDE * (k as f32 + 0.5) / count as f32, if k % 2 == 0 { first } else { second });
        canvas.bar([x - 0.018, 0.060, x + 0.018, 0.092], 0.006, black);
        canvas.glow(x, 0.092, 0.09, colour, 0.9);
        canvas.disc(x, 0.092, 0.013, colour.mix(WHITE, 0.7));
    }
}

fn speakers(canvas: &mut Canvas, x: f32, stage: f32, dark: Colour, rim: Colour, pulse: f32) {
    for k in 0..4 {
        let top = stage - 0.44 + 0.11 * k as f32;
        canvas.bar([x - 0.07, top, x + 0.07, top + 0.104], 0.006, dark.mix(rim, 0.12));
        canvas.ring(x, top + 0.052, 0.036 + 0.002 * pulse, 0.006, dark.mix(rim, 0.5));
        canvas.disc(x, top + 0.052, 0.014, dark.mix(rim, 0.4));
    }
}

/// A person of a height who stands at a place, with hands at two places told in heights.
fn person(canvas: &mut Canvas, (x, foot): (f32, f32), high: f32, hands: [(f32, f32); 2], colour: Colour) {
    let at = |dx: f32, dy: f32| (x + dx * high, foot + dy * high);
    for side in [-1.0, 1.0] {
        canvas.taper(at(side * 0.04, -0.48), at(side * 0.12, 0.0), high * 0.12, high * 0.07, colour);
    }
    canvas.taper(at(0.0, -0.78), at(0.0, -0.45), high * 0.24, high * 0.16, colour);
    let (hx, hy) = at(0.0, -0.94);
    canvas.ellipse(hx, hy, high * 0.07, high * 0.085, colour);
    for (side, hand) in [-1.0, 1.0].into_iter().zip(hands) {
        let elbow = at((side * 0.22 + hand.0) * 0.5 + side * 0.07, (hand.1 - 0.78) * 0.5 + 0.06);
        canvas.taper(at(side * 0.1, -0.8), elbow, high * 0.075, high * 0.06, colour);
        canvas.taper(elbow, at(hand.0, hand.1), high * 0.06, high * 0.045, colour);
    }
}

fn band(canvas: &mut Canvas, shot: &Shot, (x, stage): (f32, f32), black: Colour) {
    let size = 0.30 + 0.05 * shot.own(30);
    let drum = (x + 0.03, stage - 0.01);
    for (dx, dy, r) in [(0.0, -0.055, 0.062), (-0.085, -0.09, 0.035), (0.085, -0.09, 0.035)] {
        canvas.disc(drum.0 + dx, drum.1 + dy, r, black);
    }
    for side in [-1.0, 1.0] {
        canvas.ellipse(drum.0 + side * 0.15, drum.1 - 0.16, 0.05, 0.007, black);
        canvas.stroke((drum.0 + side * 0.15, drum.1 - 0.16), (drum.0 + side * 0.15, stage), 0.005, black);
    }
    let hit = 0.12 * (shot.t * TAU * 2.0).sin();
    person(canvas, (drum.0, stage - 0.03), 0.22, [(-0.4, -0.75 + hit), (0.4, -0.75 - hit)], black);
    for (side, k) in [(-1.0, 31), (1.0, 32)] {
        let foot = (x + side * (0.28 + 0.08 * shot.own(k)) + 0.01 * (shot.t * 2.0).sin(), stage + 0.05);
        let strum = 0.03 * (shot.t * TAU * 2.0 + side).sin();
        person(canvas, foot, size, [(-0.08, -0.5 + strum), (side * 0.34, -0.66)], black);
        let at = |dx: f32, dy: f32| (foot.0 + side * dx * size, foot.1 + dy * size);
        canvas.stroke(at(-0.1, -0.5), at(0.48, -0.7), size * 0.04, black);
        for (dx, r) in [(-0.12, 0.11), (-0.02, 0.08)] {
            let (gx, gy) = at(dx, -0.5);
            canvas.disc(gx, gy, size * r, black);
        }
    }
}

fn desk(canvas: &mut Canvas, shot: &Shot, (x, stage): (f32, f32), black: Colour, light: Colour) {
    let wave = 0.12 * (shot.t * TAU).sin();
    person(canvas, (x, stage + 0.02), 0.36, [(-0.22, -0.55), (0.25, -1.12 + wave)], black);
    canvas.ring(x, stage - 0.325, 0.034, 0.008, black);
    canvas.bar([x - 0.26, stage - 0.15, x + 0.26, stage + 0.04], 0.008, black);
    for k in 0..16 {
        let high = 0.02 + 0.09 * (0.5 + 0.5 * (shot.t * 6.0 + k as f32 * 2.3).sin());
        let left = x - 0.24 + 0.03 * k as f32;
        canvas.bar([left, stage + 0.02 - high, left + 0.018, stage + 0.02], 0.002, light);
    }
}

fn singer(canvas: &mut Canvas, shot: &Shot, (x, stage): (f32, f32), black: Colour, light: Colour) {
    canvas.glow(x, stage - 0.2, 0.42, light.mix(WHITE, 0.5), 0.8);
    let reach = -1.05 + 0.1 * (shot.t * 1.3).sin();
    person(canvas, (x, stage + 0.05), 0.46, [(0.1, -0.88), (0.38, reach)], black);
    let side = if shot.item(33) < 0.5 { -1.0 } else { 1.0 };
    canvas.stroke((x + 0.06, stage + 0.05), (x + 0.045, stage - 0.36), 0.006, black);
    canvas.disc(x + 0.04, stage - 0.37, 0.014, black);
    for k in 0..3 {
        let place = (x + side * (0.30 + 0.11 * k as f32), stage + 0.01);
        let clap = -0.66 + 0.06 * (shot.t * TAU + k as f32).sin();
        person(canvas, place, 0.26, [(-0.1, clap), (0.12, clap)], black);
    }
}

fn piano(canvas: &mut Canvas, shot: &Shot, (x, stage): (f32, f32), black: Colour, light: Colour) {
    let y = stage - 0.09;
    canvas.glow(x, y, 0.4, light, 0.5);
    let lid = [(x - 0.16, y - 0.02), (x - 0.12, y - 0.21), (x + 0.05, y - 0.25), (x + 0.24, y - 0.02)];
    canvas.polygon(&lid, black);
    canvas.bar([x - 0.2, y - 0.03, x + 0.26, y + 0.05], 0.02, black.mix(light, 0.10));
    canvas.bar([x - 0.24, y + 0.0, x - 0.14, y + 0.015], 0.003, rgb(0xF4_F0E6));
    for dx in [-0.17, 0.05, 0.22] {
        canvas.stroke((x + dx, y + 0.04), (x + dx, stage + 0.04), 0.014, black);
    }
    let tap = 0.02 * (shot.t * 9.0).sin();
    person(canvas, (x - 0.34, stage + 0.04), 0.33, [(0.2, -0.45 + tap), (0.36, -0.45 - tap)], black);
    canvas.bar([x - 0.40, stage - 0.09, x - 0.28, stage - 0.07], 0.006, black);
    person(canvas, (x + 0.42, stage + 0.04), 0.33, [(0.02, -0.6), (0.2, -0.5 + tap)], black);
    canvas.taper((x + 0.44, stage - 0.23), (x + 0.50, stage - 0.11), 0.03, 0.06, black);
}

fn crowd(canvas: &mut Canvas, shot: &Shot, stage: f32, dark: Colour, first: Colour, second: Colour) {
    for row in 0..4_u64 {
        let near = row as f32 / 3.0;
        let size = 0.022 + 0.034 * near;
        let base = stage + 0.10 + 0.24 * near * (0.7 + 0.3 * near);
        let body = dark.mix(first, 0.34 * (1.0 - near)).mix(BLACK, 0.35 + 0.4 * near);
        canvas.ground(|_| base + size * 1.2, |_, _, _| body);
        let count = (WIDE / (size * 2.5)) as u64 + 2;
        let shift = (shot.pan() * (0.1 + 0.3 * near)).rem_euclid(1.0) * size * 2.5;
        for k in 0..count {
            let own = |name: u64| shot.own(200 + row * 700 + k * 8 + name);
            let x = (k as f32 - 1.0 + 0.5 * own(0)) * size * 2.5 + shift;
            let jump = size * 0.4 * (shot.t * TAU + TAU * own(1)).sin().abs();
            let y = base + size * 0.8 * (own(2) - 0.5) - jump;
            canvas.ellipse(x, y, size * 0.8, size, body);
            canvas.taper((x, y + size * 2.0), (x, y + size * 4.0), size * 2.4, size * 2.4, body);
            if own(3) < 0.5 {
                let sway = size * 0.7 * (shot.t * 3.0 + TAU * own(4)).sin();
                for side in [-1.0, 1.0] {
                    if side > 0.0 || own(5) < 0.55 {
                        let hand = (x + side * size * 1.3 + sway, y - size * (1.7 + 1.3 * own(6)));
                        canvas.taper((x + side * size * 1.1, y + size * 1.6), hand, size * 0.65, size * 0.38, body);
                        canvas.disc(hand.0, hand.1, size * 0.34, body);
                    }
                }
            } else if own(5) < 0.10 {
                // A raised phone or lighter.
                canvas.glow(x, y - size * 2.0, size * 1.8, second, 0.9);
                canvas.taper((x + size, y + size), (x, y - size * 1.8), size * 0.5, size * 0.35, body);
                canvas.disc(x, y - size * 2.0, size * 0.3, second.mix(WHITE, 0.7));
            }
        }
    }
}
