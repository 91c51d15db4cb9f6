//! How is space painted? Nebulae and stars, planets with rings and a night side, a rocket, a walk on a moon.

use std::f32::consts::TAU;

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, fractal_line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] = [
    "in deep blue starlight",
    "in the violet of a nebula",
    "in ember light",
    "in the green glow of gas",
    "in black, empty space",
];

/// The void, two gases, the star's light, the planet.
const PALETTES: [[u32; 5]; 5] = [
    [0x02_0618, 0x12_3C8C, 0x38_A0D8, 0xE8_F4FF, 0xC8_9468],
    [0x0A_0320, 0x6A_1E9C, 0xE0_5AB0, 0xFF_ECF8, 0x6A_8CE0],
    [0x12_0406, 0x8C_2414, 0xF0_9438, 0xFF_F0D0, 0xB8_4E30],
    [0x02_1014, 0x0C_6A5A, 0x9A_E070, 0xF4_FFE8, 0x3E_A08C],
    [0x01_0104, 0x14_1420, 0x2C_2C3C, 0xFF_FFFF, 0xB4_B0AA],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [void, gas, second, star, body] = PALETTES[light].map(rgb);
    canvas.sky(&[(0.0, void), (1.0, void.mix(gas, 0.12))]);
    nebula(canvas, shot, gas, second);
    stars(canvas, shot, star);
    let body = body.mix(hsv(shot.item(1), 0.55, 0.8), 0.35);
    let side = if shot.own(2) < 0.5 { -1.0 } else { 1.0 };
    let sun = [0.72 * side, -0.45 + 0.3 * shot.own(3), 0.55];
    match shot.item_of(4, 5) {
        0 => {
            let radius = 0.20 + 0.10 * shot.own(5);
            let centre = (WIDE * (0.38 + 0.24 * shot.own(6)), 0.42 + 0.16 * shot.own(7));
            let ring = Ring {
                tilt: 0.5 * (shot.item(8) - 0.5) + 0.2 * (shot.own(9) - 0.5),
                flat: 0.14 + 0.25 * shot.own(10),
                seed: shot.item_seed(11),
            };
            ring.paint(canvas, centre, radius, body.mix(star, 0.45), -1.0);
            planet(canvas, shot, centre, radius, body, second, sun, 0);
            ring.paint(canvas, centre, radius, body.mix(star, 0.45), 1.0);
            moons(canvas, shot, centre, radius * 2.3, sun);
        }
        1 => {
            let low = (WIDE * (0.5 - 0.35 * side), 1.25);
            planet(canvas, shot, low, 0.75, body, second, sun, 1);
            moons(canvas, shot, (WIDE * 0.5, 0.35), 0.3, sun);
            rocket(canvas, shot, star);
        }
        2 => {
            let centre = (WIDE * (0.5 + 0.2 * side), 0.27 + 0.12 * shot.own(12));
            planet(canvas, shot, centre, 0.13 + 0.10 * shot.own(13), rgb(0x2A_6CC0).mix(body, 0.3), WHITE, sun, 1);
            moonscape(canvas, shot, body.mix(rgb(0xA8_A4A0), 0.5), void, side);
        }
        3 => {
            let centre = (WIDE * (0.42 + 0.16 * shot.own(14)), 0.45 + 0.1 * shot.own(15));
            galaxy(canvas, shot, centre, star, second, gas);
        }
        _ => {
            let centre = (WIDE * (0.4 + 0.2 * shot.own(16)), 0.45 + 0.15 * shot.own(17));
            planet(canvas, shot, centre, 0.28 + 0.14 * shot.own(18), body, second, sun, 2);
            moons(canvas, shot, centre, 0.55, sun);
            asteroids(canvas, shot, body.mix(rgb(0x70_6860), 0.6), sun);
        }
    }
    if shot.own(19) < 0.4 {
        let (x, y) = (WIDE * (0.5 + 0.47 * side), 0.1 + 0.15 * shot.own(20));
        canvas.glow(x, y, 0.5, star.mix(second, 0.4), 0.7);
        canvas.disc(x, y, 0.035, star);
    }
}

fn nebula(canvas: &mut Canvas, shot: &Shot, gas: Colour, second: Colour) {
    let (seed, pan) = (shot.seed(30), shot.pan() * 0.15);
    let rich = 0.55 + 0.35 * shot.look(31);
    canvas.veil([0.0, 0.0, WIDE, 1.0], 0.014, |x, y| {
        let u = x + pan;
        let warp = fractal(u * 1.3, y * 1.3, 3, seed);
        let cloud = fractal(u * 1.7 + 2.5 * warp, y * 1.9 - 1.5 * warp, 5, seed ^ 11);
        let dust = fractal(u * 2.8 - warp, y * 3.4 + 2.0 * warp, 4, seed ^ 23);
        let colour = gas.mix(second, step_between(0.48, 0.8, cloud)).mix(BLACK, 0.75 * step_between(0.52, 0.75, dust));
        (colour, rich * step_between(0.34, 0.72, cloud))
    });
}

fn stars(canvas: &mut Canvas, shot: &Shot, star: Colour) {
    let drift = shot.pan() * 0.12;
    for k in 0..190 {
        let bright = shot.own(1_200 + k).powi(4);
        let x = (WIDE * shot.own(1_400 + k) - drift).rem_euclid(WIDE);
        let y = shot.own(1_600 + k);
        let twinkle = 0.65 + 0.35 * (shot.t * 2.5 + k as f32 * 1.7).sin();
        canvas.disc(x, y, 0.0011 + 0.0028 * bright, star.mix(hsv(shot.own(1_800 + k), 0.5, 1.0), 0.3) * twinkle);
        if bright > 0.6 {
            canvas.glow(x, y, 0.03, star, 0.5 * twinkle);
            for (dx, dy) in [(0.02, 0.0), (-0.02, 0.0), (0.0, 0.02), (0.0, -0.02)] {
                canvas.taper((x, y), (x + dx, y + dy), 0.0025, 0.0004, star * twinkle);
            }
        }
    }
}

/// A ball in the light of `sun`; kind 0 is banded, 1 has seas and clouds, 2 is cratered rock.
#[expect(clippy::too_many_arguments, reason = "a planet is one stroke with many paints")]
fn planet(
    canvas: &mut Canvas,
    shot: &Shot,
    (x, y): (f32, f32),
    radius: f32,
    body: Colour,
    second: Colour,
    sun: [f32; 3],
    kind: u32,
) {
    let seed = shot.item_seed(40);
    let (turn, lean) = (shot.t * 0.05 + 9.0 * shot.own(41), 0.6 * (shot.item(42) - 0.5));
    let (sin, cos) = lean.sin_cos();
    let air = if kind == 1 { rgb(0x9A_D0FF) } else { body.mix(second, 0.4) };
    canvas.glow(x + sun[0] * radius * 0.12, y + sun[1] * radius * 0.12, radius * 1.45, air, 0.55);
    canvas.shape(
        [x - radius, y - radius, x + radius, y + radius],
        1.0,
        |px, py| ((px - x).powi(2) + (py - y).powi(2)).sqrt() - radius,
        |px, py| {
            let (nx, ny) = ((px - x) / radius, (py - y) / radius);
            let nz = (1.0 - nx * nx - ny * ny).max(0.0).sqrt();
            let (u, v) = ((nx * cos + ny * sin) / (0.45 + 0.55 * nz) + turn, (ny * cos - nx * sin) * 1.2);
            let surface = match kind {
                0 => {
                    let swirl = 0.5 * fractal(u * 2.0, v * 5.0, 3, seed);
                    let band = fractal_line(v * 5.0 + swirl + 20.0, 3, seed);
                    let dark = body.mix(BLACK, 0.45);
                    dark.mix(body.mix(WHITE, 0.5), step_between(0.2, 0.8, band)).mix(second, 0.25 * swirl)
                }
                1 => {
                    let land = fractal(u * 1.8, v * 2.0, 5, seed);
                    let sea = body.mix(BLACK, 0.25);
                    let ground = rgb(0x6C_8C4A).mix(body, 0.25).mix(rgb(0xC8_AC78), step_between(0.6, 0.75, land));
                    let cloud = step_between(0.5, 0.72, fractal(u * 2.4 + shot.t * 0.03, v * 4.2, 5, seed ^ 77));
                    sea.mix(ground, step_between(0.50, 0.53, land)).mix(WHITE, 0.85 * cloud)
                }
                _ => {
                    let rough = fractal(u * 3.0, v * 3.0, 5, seed);
                    let pits = step_between(0.62, 0.78, noise(u * 7.0, v * 7.0, seed ^ 5));
                    body.mix(BLACK, 0.55 * step_between(0.35, 0.7, rough))
                        .mix(BLACK, 0.4 * pits)
                        .mix(WHITE, 0.2 * (1.0 - rough))
                }
            };
            let lit = step_between(-0.15, 0.85, nx * sun[0] + ny * sun[1] + nz * sun[2]);
            let rim = (1.0 - nz).powi(3) * lit;
            (surface * (0.04 + 1.02 * lit)).mix(air, 0.7 * rim)
        },
    );
}

struct Ring {
    tilt: f32,
    flat: f32,
    seed: u32,
}

impl Ring {
    /// Paints the half behind (-1) or before (1) the planet.
    fn paint(&self, canvas: &mut Canvas, (x, y): (f32, f32), radius: f32, colour: Colour, half: f32) {
        let (sin, cos) = self.tilt.sin_cos();
        let reach = radius * 2.35;
        canvas.each([x - reach, y - reach, x + reach, y + reach], |px, py, under| {
            let (dx, dy) = ((px - x) / radius, (py - y) / radius);
            let (u, v) = (dx * cos + dy * sin, (dy * cos - dx * sin) / self.flat);
            let r = (u * u + v * v).sqrt();
            if v * half < 0.0 || !(1.25..2.3).contains(&r) {
                return under;
            }
            let edge = step_between(1.25, 1.32, r) * step_between(2.3, 2.2, r);
            let gap = 1.0 - 0.9 * step_between(0.04, 0.02, (r - 1.83).abs());
            let grooves = 0.35 + 0.65 * fractal_line(r * 26.0, 3, self.seed);
            under.mix(colour * (0.6 + 0.5 * grooves), (edge * gap * grooves * 1.1).clamp(0.0, 0.95))
        });
    }
}

fn moons(canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), reach: f32, sun: [f32; 3]) {
    for k in 0..1 + shot.item_of(50, 3) as u64 {
        let angle = TAU * shot.own(51 + k) + shot.t * (0.04 + 0.03 * k as f32);
        let (mx, my) = (x + reach * (1.0 + 0.3 * k as f32) * angle.cos(), y + 0.55 * reach * angle.sin());
        let radius = 0.014 + 0.03 * shot.item(54 + k);
        planet(canvas, shot, (mx, my), radius, hsv(shot.item(57 + k), 0.25, 0.8), WHITE, sun, 2);
    }
}

fn rocket(canvas: &mut Canvas, shot: &Shot, star: Colour) {
    let size = 0.17 + 0.10 * shot.own(60);
    let heading = -0.9 + 1.8 * shot.own(61);
    let (sin, cos) = heading.sin_cos();
    let travel = 0.02 * (shot.t - 3.0);
    let (x, y) = (WIDE * (0.4 + 0.2 * shot.own(62)) + sin * travel, 0.42 - cos * travel);
    let at = |dx: f32, dy: f32| (x + (dx * cos - dy * sin) * size, y + (dx * sin + dy * cos) * size);
    let paint = hsv(shot.item(63), 0.75, 0.85);
    let hull = rgb(0xEE_EEF0);
    for k in 0..7 {
        let (px, py) = at(0.05 * (shot.t * 9.0 + k as f32 * 2.0).sin(), 0.95 + 0.28 * k as f32);
        canvas.glow(px, py, size * (0.28 + 0.06 * k as f32), rgb(0xFF_8A30).mix(star, 0.3), 0.75 - 0.09 * k as f32);
    }
    let flicker = 0.12 * (shot.t * 21.0).sin();
    canvas.taper(at(0.0, 0.62), at(0.0, 1.55 + flicker), size * 0.34, size * 0.02, rgb(0xFF_A030));
    canvas.taper(at(0.0, 0.62), at(0.0, 1.15 + flicker), size * 0.20, size * 0.02, rgb(0xFF_F4C0));
    for side in [-1.0, 1.0] {
        canvas.polygon(&[at(side * 0.2, 0.15), at(side * 0.52, 0.72), at(side * 0.16, 0.58)], paint.mix(BLACK, 0.2));
    }
    let outline: Vec<(f32, f32)> =
        [0.0_f32, 0.12, 0.2, 0.25, 0.25, 0.18].into_iter().zip([-1.0_f32, -0.75, -0.5, -0.15, 0.25, 0.62]).collect();
    let corners: Vec<(f32, f32)> =
        outline.iter().map(|&(w, h)| at(w, h)).chain(outline.iter().rev().map(|&(w, h)| at(-w, h))).collect();
    canvas.polygon_with(&corners, |px, py| {
        let across = ((px - x) * cos + (py - y) * sin) / size;
        let along = ((py - y) * cos - (px - x) * sin) / size;
        let skin = if !(-0.55..0.45).contains(&along) { paint } else { hull };
        skin.mix(BLACK, (0.3 + across * 1.6).clamp(0.0, 0.65))
    });
    let (wx, wy) = at(0.0, -0.2);
    canvas.disc(wx, wy, size * 0.13, paint.mix(BLACK, 0.4));
    canvas.disc(wx, wy, size * 0.095, rgb(0x8A_D8F0));
}

fn moonscape(canvas: &mut Canvas, shot: &Shot, ground: Colour, void: Colour, side: f32) {
    let pan = shot.pan();
    for k in 0..3_u64 {
        let nearness = k as f32 * 0.5;
        let (seed, shift) = (shot.seed(70 + k), pan * (0.15 + 0.6 * nearness));
        canvas.ground(
            |x| {
                0.60 + 0.15 * nearness
                    - (0.16 - 0.06 * nearness) * fractal_line((x + shift) * (4.0 - nearness), 4, seed)
            },
            |x, _, depth| {
                let u = x + shift;
                let reach = 6.0 / (0.4 + nearness + depth * 2.0);
                let slope = noise(u * reach + 0.06 * side, depth * reach * 2.4, seed)
                    - noise(u * reach - 0.06 * side, depth * reach * 2.4, seed);
                let dust = fractal(u * reach * 2.0, depth * reach * 5.0, 3, seed ^ 3) - 0.5;
                let lit = 0.50 + 0.28 * nearness + 2.4 * slope + 0.3 * dust - 0.5 * depth;
                void.mix(ground.mix(WHITE, 0.15), lit.clamp(0.03, 1.0))
                    .mix(WHITE, 0.3 * step_between(0.012, 0.0, depth))
            },
        );
    }
    for k in 0..9_u64 {
        let nearness = shot.own(75 + k);
        let (x, y) = (WIDE * shot.own(85 + k), 0.72 + 0.24 * nearness);
        let wide = 0.02 + 0.10 * nearness * shot.own(95 + k);
        canvas.ellipse(x, y, wide, wide * 0.26, ground.mix(WHITE, 0.3));
        canvas.ellipse(x + side * wide * 0.07, y + wide * 0.03, wide * 0.9, wide * 0.21, ground.mix(void, 0.72));
    }
    if shot.own(105) < 0.65 {
        let (x, y, size) = (WIDE * (0.5 - 0.16 * side), 0.78, 0.10 + 0.06 * shot.own(106));
        let suit = rgb(0xF0_F0EE);
        canvas.ellipse(x - side * size * 0.7, y + size * 0.95, size * 0.8, size * 0.08, void);
        let step = 0.14 * (shot.t * 2.0).sin();
        canvas.bar(
            [x - size * 0.36, y - size * 0.25, x + size * 0.36, y + size * 0.35],
            size * 0.1,
            suit.mix(void, 0.45),
        );
        for leg in [-1.0, 1.0] {
            canvas.stroke(
                (x + leg * size * 0.14, y + size * 0.3),
                (x + leg * size * (0.2 + step), y + size * 0.9),
                size * 0.24,
                suit.mix(void, 0.15),
            );
            canvas.stroke(
                (x + leg * size * 0.26, y - size * 0.1),
                (x + leg * size * 0.55, y + size * (0.25 + leg * step)),
                size * 0.2,
                suit,
            );
        }
        canvas.bar([x - size * 0.27, y - size * 0.28, x + size * 0.27, y + size * 0.42], size * 0.12, suit);
        canvas.disc(x, y - size * 0.5, size * 0.3, suit);
        canvas.ellipse(x + side * size * 0.05, y - size * 0.49, size * 0.21, size * 0.18, rgb(0xE0_9A30));
        canvas.bar(
            [x - size * 0.12, y - size * 0.02, x + size * 0.12, y + size * 0.12],
            size * 0.02,
            hsv(shot.item(107), 0.8, 0.8),
        );
    }
}

fn galaxy(canvas: &mut Canvas, shot: &Shot, (x, y): (f32, f32), star: Colour, second: Colour, gas: Colour) {
    let (sin, cos) = (TAU * shot.own(110)).sin_cos();
    let (flat, size, seed) = (0.35 + 0.4 * shot.own(111), 0.42 + 0.12 * shot.own(112), shot.item_seed(113));
    let arms = 2.0 + shot.item_of(114, 2) as f32;
    canvas.veil([0.0, 0.0, WIDE, 1.0], 0.006, |px, py| {
        let (dx, dy) = ((px - x) / size, (py - y) / size);
        let (u, v) = (dx * cos + dy * sin, (dy * cos - dx * sin) / flat);
        let r = (u * u + v * v).sqrt();
        let angle = v.atan2(u) - shot.t * 0.03;
        let arm = 0.5 + 0.5 * (arms * (angle + 2.6 * (r + 0.08).ln())).cos();
        let clumps = fractal(u * 6.0, v * 6.0, 4, seed);
        let light = arm.powf(1.6) * step_between(0.2, 0.75, clumps) * step_between(1.15, 0.15, r);
        let core = (-r * r * 22.0).exp();
        let colour = second.mix(gas, (r * 0.9).min(1.0)).mix(star, (light * 0.5 + core).min(1.0));
        (colour, (light * 1.1 + core).clamp(0.0, 1.0))
    });
    canvas.glow(x, y, 0.25, star, 0.8);
    for k in 0..70 {
        let (a, r) = (TAU * shot.own(2_000 + k), size * shot.own(2_100 + k));
        let (u, v) = (r * a.cos(), r * a.sin() * flat);
        canvas.disc(x + u * cos - v * sin, y + u * sin + v * cos, 0.0016, star.mix(second, shot.own(2_200 + k)));
    }
}

fn asteroids(canvas: &mut Canvas, shot: &Shot, rock: Colour, sun: [f32; 3]) {
    for k in 0..16_u64 {
        let size = 0.008 + 0.055 * shot.own(120 + k).powi(3);
        let x = (WIDE * 1.2 * shot.own(140 + k) + shot.t * (0.01 + size * 0.6)).rem_euclid(WIDE * 1.2) - 0.17;
        let y = 0.62 + 0.3 * (shot.own(160 + k) - 0.5) - 0.22 * (x - WIDE * 0.5);
        let (seed, spin) = (shot.seed(180 + k), shot.t * (0.2 + 0.4 * shot.own(200 + k)));
        let corners: Vec<(f32, f32)> = (0..11)
            .map(|i| {
                let (a, r) = (i as f32 / 11.0 * TAU + spin, size * (0.65 + 0.5 * cell(i, 0, seed)));
                (x + r * a.cos(), y + r * a.sin() * 0.85)
            })
            .collect();
        canvas.polygon_with(&corners, |px, py| {
            let lit = 0.45 + ((px - x) * sun[0] + (py - y) * sun[1]) / size * 0.55;
            let grain = noise(px * 50.0, py * 50.0, seed) * 0.35;
            rock * (lit.clamp(0.06, 1.1) * (0.8 + grain))
        });
    }
}
