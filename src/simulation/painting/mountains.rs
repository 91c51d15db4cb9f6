//! How are mountains painted? Ridge behind ridge with snow and shaded walls, a lake that mirrors them, pines in front.

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, fractal_line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] = [
    "in the first light",
    "at noon under a clear sky",
    "in the red of the evening peaks",
    "in the blue of a clear night",
    "between drifting clouds",
];

/// Sky top, sky low, snow in the light, snow in the shade, rock, meadow, pines.
const PALETTES: [[u32; 7]; 5] = [
    [0x7E_A4CC, 0xFC_DCC0, 0xFF_EEDC, 0x8C_98BC, 0x6C_6478, 0x8A_9A5A, 0x1C_3A34],
    [0x1C_62B8, 0xBC_E0F4, 0xFF_FFFF, 0x8A_B0DC, 0x5C_646C, 0x6C_A83E, 0x16_4024],
    [0x3C_2C66, 0xF8_A478, 0xFF_B48C, 0x6A_5890, 0x58_3C50, 0x6A_5A3C, 0x20_1C30],
    [0x04_0C24, 0x2A_4880, 0xB4_CCF0, 0x34_5080, 0x18_2848, 0x14_2C38, 0x04_0C18],
    [0x6A_94B8, 0xEC_E4D4, 0xFA_F6EE, 0x8C_A4C0, 0x62_564E, 0x72_A048, 0x1A_3C2A],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, low, bright, dim, rock, meadow, pine] = PALETTES[light].map(rgb);
    let pan = shot.pan();
    let side = if shot.own(1) < 0.5 { -1.0 } else { 1.0 };
    canvas.sky(&[(0.0, high), (0.58, low)]);
    let (sun_x, sun_y) = (WIDE * (0.5 + 0.36 * side), 0.12 + 0.22 * shot.item(2));
    if light == 3 {
        for k in 0..90 {
            let twinkle = 0.6 + 0.4 * (shot.t * 2.0 + k as f32).sin();
            canvas.disc(WIDE * shot.own(1_200 + k), 0.6 * shot.own(1_300 + k), 0.0014, WHITE * twinkle);
        }
    }
    canvas.glow(sun_x, sun_y, 0.7, bright.mix(low, 0.3), if light == 3 { 0.35 } else { 0.6 });
    if light != 4 {
        canvas.disc(sun_x, sun_y, 0.03 + 0.02 * shot.item(3), bright.mix(WHITE, 0.6));
    }
    clouds(canvas, shot, bright.mix(low, 0.3), if light == 4 { 0.85 } else { 0.5 });
    let base = 0.62 + 0.04 * shot.own(4);
    let alpine = 0.75 + 0.5 * shot.item(5);
    for k in 0..4_u64 {
        let nearness = k as f32 / 3.0;
        let range = Range {
            foot: base + 0.05 * nearness,
            high: (0.46 - 0.30 * nearness) * alpine,
            scale: 1.5 + 0.8 * nearness,
            shift: pan * (0.06 + 0.3 * nearness),
            snow: 0.34 + 0.30 * shot.look(6) - 0.34 * nearness + if light == 4 { 0.1 } else { 0.0 },
            side,
            seed: shot.seed(10 + k),
        };
        let air = 0.52 * (1.0 - nearness);
        let wall = rock.mix(meadow.mix(pine, 0.4), 0.7 * nearness * nearness);
        range.paint(canvas, bright.mix(low, air * 0.6), dim.mix(low, air), wall.mix(low, air));
        let seed = shot.seed(20 + k);
        canvas.veil([0.0, 0.3, WIDE, base + 0.12], 0.02, |x, y| {
            let band = step_between(0.16, 0.0, (y - base + 0.02 - 0.03 * nearness).abs());
            (low.mix(bright, 0.3), 0.55 * band * fractal(x * 2.2 + shot.t * 0.02, y * 7.0, 3, seed))
        });
    }
    let motif = shot.item_of(7, 4);
    let shore = base + 0.07;
    match motif {
        0 => lake(canvas, shot, shore, high.mix(rgb(0x1A_6A80), 0.4), bright),
        1 => meadows(canvas, shot, shore, meadow, pine, light),
        2 => piste(canvas, shot, shore, bright, dim),
        _ => {
            lake(canvas, shot, shore, high.mix(rgb(0x14_4A5C), 0.5), bright);
            camp(canvas, shot, meadow.mix(pine, 0.55), light);
        }
    }
    let frosted = if motif == 2 { 0.7 } else { 0.12 };
    pines(canvas, shot, pan, pine, bright, frosted);
    if shot.own(8) < 0.5 {
        eagle(canvas, shot, pine.mix(BLACK, 0.4));
    }
}

fn clouds(canvas: &mut Canvas, shot: &Shot, colour: Colour, amount: f32) {
    let seed = shot.seed(30);
    canvas.veil([0.0, 0.0, WIDE, 0.6], 0.014, |x, y| {
        let f = fractal(x * 1.5 + shot.t * 0.025, y * 4.5, 5, seed);
        (colour.mix(WHITE, step_between(0.6, 0.8, f) * 0.5), amount * step_between(0.48, 0.74, f))
    });
}

/// A chain of mountains.
struct Range {
    foot: f32,
    high: f32,
    scale: f32,
    shift: f32,
    /// The share of the height that lies under snow.
    snow: f32,
    side: f32,
    seed: u32,
}

impl Range {
    fn edge(&self, x: f32) -> f32 {
        let u = (x + self.shift) * self.scale;
        // Sharp summits: folded noise, with the folds upwards.
        let (mut sum, mut weight, mut at) = (0.0, 0.62, u);
        for octave in 0..5 {
            let fold = 1.0 - (2.0 * super::noise::line(at, self.seed.wrapping_add(octave * 977)) - 1.0).abs();
            sum += weight * fold;
            weight *= 0.42;
            at = at * 2.07 + 3.3;
        }
        self.foot - self.high * sum.powf(1.25)
    }

    /// Height of the walls' relief; gullies run downwards.
    fn relief(&self, u: f32, v: f32) -> f32 {
        let folded = |value: f32| 1.0 - (2.0 * value - 1.0).abs();
        let bend = u + 0.5 * noise(u * 2.0, v * 3.0, self.seed ^ 41);
        folded(noise(bend * 5.0, v * 3.2, self.seed ^ 42)) * 0.62
            + folded(noise(bend * 12.0 + v * 4.0, v * 8.0, self.seed ^ 43)) * 0.28
            + folded(noise(bend * 29.0 - v * 9.0, v * 19.0, self.seed ^ 44)) * 0.13
    }

    fn paint(&self, canvas: &mut Canvas, bright: Colour, dim: Colour, rock: Colour) {
        let line = self.foot - self.high * (1.0 - self.snow);
        canvas.ground(
            |x| self.edge(x),
            |x, y, depth| {
                // What lies in front hides the rest.
                if y > self.foot + 0.16 {
                    return rock;
                }
                let (u, v) = ((x + self.shift) * self.scale * 0.6, depth * self.scale * 0.8);
                let (here, east) = (self.relief(u, v), self.relief(u + 0.02, v));
                let lit = (0.5 - (east - here) * 4.2 * self.side).clamp(0.0, 1.0);
                let ragged = line + 0.16 * (here - 0.55) + 0.10 * (fractal(u * 5.0, y * 6.0, 3, self.seed) - 0.5);
                let snow = step_between(ragged + 0.02, ragged - 0.02, y) * (0.55 + 0.45 * step_between(0.1, 0.4, lit));
                let wall = rock.mix(BLACK, 0.55 * (1.0 - lit)).mix(bright, 0.22 * lit);
                wall.mix(dim.mix(bright, step_between(0.3, 0.62, lit)), snow)
            },
        );
    }
}

fn lake(canvas: &mut Canvas, shot: &Shot, shore: f32, water: Colour, bright: Colour) {
    let (seed, t) = (shot.seed(40), shot.t);
    canvas.ground(|_| shore, |_, _, depth| water.mix(BLACK, (depth * 1.2).min(0.5)));
    canvas.mirror(
        shore,
        1.5,
        |x, depth| (noise(x * 14.0, depth * 130.0 - t * 0.8, seed) - 0.5) * (0.006 + depth * 0.12),
        |depth| (0.82 - depth * 1.0).clamp(0.2, 1.0),
    );
    canvas.veil([0.0, shore, WIDE, 1.0], 0.004, |x, y| {
        let depth = y - shore;
        let ripple = noise(x * 9.0 + t * 0.2, depth * 150.0 / (0.5 + 4.0 * depth) - t * 0.5, seed ^ 3);
        (bright, 0.28 * step_between(0.7, 0.95, ripple))
    });
    canvas.bar([0.0, shore - 0.003, WIDE, shore + 0.003], 0.0, bright.mix(water, 0.5));
}

fn meadows(canvas: &mut Canvas, shot: &Shot, shore: f32, meadow: Colour, pine: Colour, light: usize) {
    let (seed, pan) = (shot.seed(45), shot.pan() * 0.5);
    let hill = |x: f32| shore - 0.01 + 0.09 * fractal_line((x + pan) * 1.8, 2, seed);
    canvas.ground(hill, |x, _, depth| {
        let reach = 1.0 / (0.3 + depth * 2.0);
        let tuft = noise((x + pan) * 70.0 * reach, depth * 140.0 * reach, seed);
        let flower = cell(((x + pan) * 110.0) as i32, (depth * 150.0) as i32, seed) > 0.975;
        let grass = meadow.mix(pine, (0.5 * tuft + depth).min(0.8)).mix(WHITE, 0.12 * step_between(0.7, 1.0, tuft));
        if flower && light != 3 { grass.mix(hsv(shot.item(46) * 0.3 + 0.8, 0.4, 1.0), 0.7) } else { grass }
    });
    let x = WIDE * (0.25 + 0.5 * shot.own(47));
    let (y, size) = (hill(x) + 0.07, 0.10 + 0.07 * shot.own(48));
    let wood = rgb(0x7A_4A28).mix(pine, if light == 3 { 0.6 } else { 0.1 });
    canvas.bar([x - size, y - size * 0.75, x + size, y], 0.002, wood);
    for plank in 0..5 {
        let py = y - size * (0.1 + 0.14 * plank as f32);
        canvas.stroke((x - size, py), (x + size, py), 0.002, wood.mix(BLACK, 0.35));
    }
    canvas.polygon(
        &[(x - size * 1.3, y - size * 0.66), (x, y - size * 1.4), (x + size * 1.3, y - size * 0.66)],
        wood.mix(BLACK, 0.5),
    );
    for w in [-0.55, 0.2] {
        canvas.bar([x + w * size, y - size * 0.55, x + (w + 0.32) * size, y - size * 0.2], 0.002, rgb(0xFF_DC8A));
    }
    canvas.glow(x, y - size * 0.4, size * 2.0, rgb(0xFF_C060), if light == 3 { 0.7 } else { 0.12 });
}

/// A slope of snow, with skiers and their tracks.
fn piste(canvas: &mut Canvas, shot: &Shot, shore: f32, bright: Colour, dim: Colour) {
    let (seed, pan) = (shot.seed(50), shot.pan() * 0.4);
    let slant = if shot.own(51) < 0.5 { 0.14 } else { -0.14 };
    canvas.ground(
        |x| shore + slant * (x - WIDE * 0.5) + 0.05 * fractal_line((x + pan) * 2.0, 2, seed),
        |x, _, depth| {
            let drift = fractal((x + pan) * 3.0 - depth * 2.0, depth * 9.0, 4, seed);
            bright.mix(WHITE, 0.3).mix(dim, step_between(0.35, 0.75, drift) * 0.75)
        },
    );
    for k in 0..3_u64 {
        let size = 0.06 + 0.035 * k as f32;
        let phase = shot.t * 0.9 + 6.0 * shot.own(52 + k);
        let way = slant.signum();
        let progress = (shot.own(55 + k) + shot.t * 0.03).fract();
        let x = WIDE * (0.5 + way * (progress - 0.5)) + 0.03 * phase.sin();
        let y = shore + slant * (x - WIDE * 0.5) + 0.05 + 0.075 * k as f32;
        canvas.taper((x, y), (x - way * 0.55, y - 0.09), 0.006, 0.001, dim);
        let at = |dx: f32, dy: f32| (x + way * dx * size, y + dy * size);
        let suit = hsv(shot.item(58 + k), 0.8, 0.85);
        canvas.stroke(at(-0.55, -0.06), at(0.6, 0.08), size * 0.05, BLACK);
        canvas.taper(at(0.0, 0.0), at(0.12, -0.38), size * 0.13, size * 0.16, BLACK.mix(suit, 0.25));
        canvas.taper(at(0.12, -0.38), at(-0.12, -0.6), size * 0.18, size * 0.2, BLACK.mix(suit, 0.25));
        canvas.taper(at(-0.12, -0.6), at(0.18, -1.0), size * 0.26, size * 0.28, suit);
        canvas.stroke(at(0.12, -0.9), at(0.48, -0.62), size * 0.11, suit);
        canvas.stroke(at(0.48, -0.62), at(0.1, -0.02), size * 0.025, BLACK);
        let (hx, hy) = at(0.28, -1.22);
        canvas.disc(hx, hy, size * 0.15, suit.mix(WHITE, 0.6));
    }
}

fn camp(canvas: &mut Canvas, shot: &Shot, ground: Colour, light: usize) {
    let seed = shot.seed(60);
    canvas.ground(
        |x| 0.86 + 0.04 * fractal_line(x * 2.5, 3, seed),
        |x, y, depth| ground.mix(BLACK, 0.5 * noise(x * 50.0, y * 90.0, seed) + depth),
    );
    let paint = hsv(shot.item(61), 0.75, 0.9);
    let glow = if light == 3 || light == 2 { 0.8 } else { 0.2 };
    for k in 0..1 + shot.own_of(62, 2) as u64 {
        let (x, y, size) = (WIDE * (0.3 + 0.3 * k as f32 + 0.12 * shot.own(63 + k)), 0.93, 0.15 - 0.03 * k as f32);
        let at = |dx: f32, dy: f32| (x + dx * size, y + dy * size);
        canvas.glow(x, y - size * 0.4, size * 2.2, rgb(0xFF_C060), glow);
        canvas.polygon_with(&[at(-1.0, 0.0), at(-0.1, -0.95), at(0.95, 0.04)], |px, _| {
            paint.mix(BLACK, (0.25 + (px - x) / size * 0.4).clamp(0.0, 0.6)).mix(rgb(0xFF_E0A0), glow * 0.3)
        });
        canvas
            .polygon(&[at(-0.4, 0.0), at(-0.12, -0.75), at(0.12, 0.02)], rgb(0xFF_D890).mix(BLACK, 0.75 - glow * 0.8));
    }
    let (fx, fy) = (WIDE * (0.46 + 0.1 * shot.own(66)), 0.95);
    for k in 0..5 {
        let lick = 0.03 + 0.02 * (shot.t * 7.0 + k as f32 * 1.9).sin();
        canvas.taper(
            (fx + 0.012 * (k as f32 - 2.0), fy),
            (fx + 0.005 * (k as f32 - 2.0), fy - 0.03 - lick),
            0.018,
            0.002,
            hsv(0.03 + 0.02 * k as f32, 0.8, 1.0),
        );
    }
    canvas.glow(fx, fy - 0.03, 0.16, rgb(0xFF_9030), 0.4 + glow * 0.5);
}

fn pines(canvas: &mut Canvas, shot: &Shot, pan: f32, pine: Colour, bright: Colour, frosted: f32) {
    let left = shot.own(70) < 0.5;
    for k in 0..9_u64 {
        let nearness = 0.4 + 0.6 * shot.own(71 + k);
        let edge = 0.42 * shot.own(80 + k).powf(1.4);
        let wander = 0.08 * ((pan - 8.0 * shot.own(901)) * 3.0).clamp(-1.0, 1.0);
        let x = WIDE * if left != (k % 4 == 0) { edge } else { 1.0 - edge } - wander * nearness;
        let (y, size) = (0.80 + 0.24 * nearness, (0.22 + 0.30 * nearness) * (0.7 + 0.5 * shot.own(90 + k)));
        let tint = pine.mix(bright, 0.15 * (1.0 - nearness));
        canvas.stroke((x, y), (x, y - size * 0.5), size * 0.05, tint.mix(BLACK, 0.4));
        for tier in 0..7 {
            let up = tier as f32 / 7.0;
            let (ty, half) = (y - size * (0.10 + 0.80 * up), size * 0.30 * (1.0 - up * 0.88));
            let tip = ty - size * 0.24;
            let sway = 0.002 * (shot.t + k as f32).sin() * up;
            canvas.polygon(
                &[(x - half, ty), (x + sway, tip), (x + half, ty), (x, ty - half * 0.25)],
                tint.mix(BLACK, 0.1 * (tier % 2) as f32),
            );
            canvas.polygon(
                &[(x - half, ty), (x + sway, tip), (x - half * 0.35, ty - half * 0.5)],
                tint.mix(bright, 0.08 + frosted),
            );
        }
    }
}

fn eagle(canvas: &mut Canvas, shot: &Shot, dark: Colour) {
    let angle = shot.t * 0.25 + 6.0 * shot.own(100);
    let (x, y, size) = (WIDE * 0.5 + 0.35 * angle.cos(), 0.2 + 0.06 * angle.sin(), 0.03 + 0.03 * shot.own(101));
    let lift = 0.35 + 0.12 * (shot.t * 1.5).sin();
    for side in [-1.0, 1.0] {
        let wrist = (x + side * size * 0.55, y - size * lift);
        canvas.taper((x, y), wrist, size * 0.22, size * 0.2, dark);
        canvas.taper(wrist, (x + side * size * 1.2, y - size * lift * 0.5), size * 0.2, size * 0.03, dark);
    }
    canvas.ellipse(x, y, size * 0.12, size * 0.22, dark);
}
