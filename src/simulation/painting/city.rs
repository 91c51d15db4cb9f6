//! How is a city by night painted? Rows of lit towers, neon, a moon, and a wet street that mirrors them.

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] =
    ["in blue night light", "in neon pink", "in amber street light", "in teal rain", "in the last light of day"];

/// Sky top, sky low, far towers, near towers, window light, neon.
const PALETTES: [[u32; 6]; 5] = [
    [0x05_0B22, 0x1F_3C78, 0x22_386A, 0x08_1128, 0xFF_E3A0, 0x4F_C3FF],
    [0x12_0428, 0x8A_1E78, 0x4A_1A66, 0x14_0724, 0xFF_B8E8, 0xFF_2E93],
    [0x0E_0A12, 0x8A_4A1E, 0x4C_2C1C, 0x14_0C0A, 0xFF_C35A, 0xFF_7A1A],
    [0x03_1418, 0x15_5E62, 0x10_4248, 0x04_1416, 0xCF_FFF0, 0x1D_F2C4],
    [0x1C_1E4C, 0xFF_8E5A, 0x6A_3F66, 0x1A_1230, 0xFF_DD8C, 0xFF_5AA0],
];

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, low, far, near, window, neon] = PALETTES[light].map(rgb);
    let neon = neon.mix(hsv(shot.item(1), 0.8, 1.0), 0.35);
    let street = 0.74 + 0.08 * shot.own(2);
    canvas.sky(&[(0.0, high), (street, low)]);
    stars_and_moon(canvas, shot, high);
    let seed = shot.seed(3);
    canvas.veil([0.0, 0.0, WIDE, street], 0.02, |x, y| {
        let f = fractal(x * 1.5 + shot.t * 0.02, y * 4.0, 4, seed);
        (low.mix(neon, 0.25), 0.45 * step_between(0.5, 0.85, f) * step_between(0.0, street, y))
    });
    canvas.glow(WIDE * 0.5, street, 1.0, low.mix(neon, 0.4), 0.5);
    let pan = shot.pan();
    if shot.item_of(4, 4) == 0 {
        wheel(canvas, shot, street, neon);
    }
    let skyline = 0.75 + 0.45 * shot.item(5);
    for row in 0..3_u64 {
        let nearness = row as f32 * 0.5;
        let body = far.mix(near, nearness);
        let tall = (0.34 + 0.10 * nearness) * skyline;
        towers(canvas, shot, row, nearness, pan, street, tall, body, window, neon);
        if row < 2 {
            let haze = low.mix(neon, 0.15);
            canvas.veil([0.0, 0.0, WIDE, street], 0.05, |_, y| (haze, 0.38 * step_between(street - 0.4, street, y)));
        }
    }
    signs(canvas, shot, street, neon, near);
    road(canvas, shot, street, near, neon, window);
    if light == 3 {
        rain(canvas, shot);
    }
}

fn stars_and_moon(canvas: &mut Canvas, shot: &Shot, high: Colour) {
    for k in 0..50 {
        let glitter = 0.5 + 0.5 * (shot.t * 2.0 + k as f32).sin();
        let (x, y) = (WIDE * shot.own(100 + k), 0.45 * shot.own(160 + k));
        canvas.disc(x, y, 0.0016, high.mix(WHITE, 0.3 + 0.4 * glitter));
    }
    if shot.own(6) < 0.55 {
        let (x, y, radius) = (WIDE * (0.1 + 0.8 * shot.own(7)), 0.10 + 0.14 * shot.own(8), 0.035 + 0.05 * shot.item(9));
        canvas.glow(x, y, radius * 5.0, rgb(0xCC_D8FF), 0.5);
        let seed = shot.item_seed(10);
        canvas.shape(
            [x - radius, y - radius, x + radius, y + radius],
            1.0,
            |px, py| ((px - x).powi(2) + (py - y).powi(2)).sqrt() - radius,
            |px, py| {
                rgb(0xF6_F1DE)
                    .mix(rgb(0xB8_B4B4), fractal((px - x) / radius * 1.6, (py - y) / radius * 1.6, 3, seed) * 0.8)
            },
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "a row of towers is a stroke with many paints, used once")]
fn towers(
    canvas: &mut Canvas,
    shot: &Shot,
    row: u64,
    nearness: f32,
    pan: f32,
    street: f32,
    tall: f32,
    body: Colour,
    window: Colour,
    neon: Colour,
) {
    let seed = shot.seed(20 + row);
    let plot = 0.075 + 0.09 * nearness;
    let shift = pan * (0.15 + 0.55 * nearness);
    let height = |tower: i32| tall * (0.25 + 0.95 * cell(tower, 1, seed).powf(1.6)) * (1.0 - 0.25 * nearness);
    let (columns, storeys) = (4 + row as i32, 0.020 + 0.012 * nearness);
    let lit_share = 0.30 + 0.3 * shot.look(23);
    let t_step = (shot.t * 0.5) as i32;
    canvas.ground(
        |x| {
            let u = (x + shift) / plot;
            let tower = u.floor() as i32;
            let inside = u - u.floor();
            let top = height(tower);
            let crown = match (cell(tower, 2, seed) * 5.0) as i32 {
                0 => 0.05 * (1.0 - (inside - 0.5).abs() * 2.0),
                1 if (inside - 0.5).abs() < 0.04 => 0.09,
                2 if (inside - 0.5).abs() < 0.28 => 0.04,
                3 => 0.04 * inside,
                _ => 0.0,
            };
            street - top - crown * (0.6 + 0.5 * nearness)
        },
        |x, y, depth| {
            let u = (x + shift) / plot;
            let tower = u.floor() as i32;
            let inside = u - u.floor();
            let shade = body
                .mix(BLACK, 0.45 * step_between(0.6, 1.0, inside))
                .mix(neon, 0.10 * step_between(0.35, 0.0, street - y));
            if depth < storeys * 0.8 {
                return shade;
            }
            let column = inside * columns as f32;
            let storey = depth / storeys;
            let (fx, fy) = (column.fract(), storey.fract());
            if !(0.22..0.78).contains(&fx) || !(0.25..0.75).contains(&fy) {
                return shade;
            }
            let (i, j) = (tower * 31 + column as i32, storey as i32);
            let chance = cell(i, j, seed ^ 0xAB);
            // Here and there somebody switches a light on or off.
            let flips = cell(i, j, seed ^ 0xCD) < 0.02 && t_step % 2 == 0;
            if (chance < lit_share) != flips {
                let hue = cell(i, j, seed ^ 0xEF);
                let lamp = if hue < 0.12 { neon } else { window.mix(WHITE, 0.3 * hue) };
                shade.mix(lamp, 0.35 + 0.6 * cell(j, i, seed) * (0.5 + 0.5 * nearness))
            } else {
                shade.mix(BLACK, 0.25)
            }
        },
    );
}

fn wheel(canvas: &mut Canvas, shot: &Shot, street: f32, neon: Colour) {
    let radius = 0.24 + 0.06 * shot.own(30);
    let (x, y) = (WIDE * (0.25 + 0.5 * shot.own(31)), street - radius - 0.18);
    let turn = shot.t * 0.12;
    canvas.glow(x, y, radius * 1.7, neon, 0.4);
    canvas.ring(x, y, radius, 0.010, neon);
    canvas.ring(x, y, radius * 0.86, 0.004, neon.mix(WHITE, 0.3));
    canvas.stroke((x, y), (x - radius * 0.5, street), 0.010, neon.mix(BLACK, 0.5));
    canvas.stroke((x, y), (x + radius * 0.5, street), 0.010, neon.mix(BLACK, 0.5));
    for k in 0..14 {
        let angle = turn + k as f32 / 14.0 * std::f32::consts::TAU;
        let (cx, cy) = (x + radius * angle.cos(), y + radius * angle.sin());
        canvas.stroke((x, y), (cx, cy), 0.003, neon.mix(BLACK, 0.25));
        canvas.disc(cx, cy, 0.014, if k % 2 == 0 { rgb(0xFF_F2B0) } else { neon.mix(WHITE, 0.5) });
    }
}

fn signs(canvas: &mut Canvas, shot: &Shot, street: f32, neon: Colour, near: Colour) {
    let second = hsv(shot.item(40) + 0.45, 0.75, 1.0);
    for k in 0..4_u64 {
        let (wide, high) = if shot.own(41 + k) < 0.5 { (0.035, 0.15) } else { (0.14, 0.05) };
        let x = WIDE * (0.06 + 0.24 * k as f32 + 0.12 * shot.own(45 + k));
        let y = street - 0.10 - 0.22 * shot.own(49 + k);
        let colour = if k % 2 == 0 { neon } else { second };
        let flicker = if k == 1 && (shot.t * 7.0).sin() > 0.92 { 0.3 } else { 1.0 };
        canvas.glow(x + wide * 0.5, y + high * 0.5, 0.16, colour, 0.7 * flicker);
        canvas.bar([x, y, x + wide, y + high], 0.006, near.mix(colour, 0.18));
        canvas.bar([x + 0.004, y + 0.004, x + wide - 0.004, y + 0.007], 0.001, colour * flicker);
        canvas.bar([x + 0.004, y + high - 0.007, x + wide - 0.004, y + high - 0.004], 0.001, colour * flicker);
        // Letters of no alphabet.
        let count = ((wide.max(high) - 0.02) / 0.026) as u64;
        for letter in 0..count {
            let along = 0.012 + letter as f32 * 0.026;
            let (lx, ly) = if wide > high { (x + along, y + 0.014) } else { (x + 0.009, y + along) };
            let (w, h) = if wide > high { (0.014, high - 0.028) } else { (wide - 0.018, 0.014) };
            let form = shot.item_of(53 + k * 8 + letter, 4);
            let ink = colour.mix(WHITE, 0.55) * flicker;
            canvas.stroke((lx, ly), (lx + w, if form.is_multiple_of(2) { ly } else { ly + h }), 0.004, ink);
            canvas.stroke((lx + if form < 2 { 0.0 } else { w }, ly), (lx + w * 0.5, ly + h), 0.004, ink);
            canvas.stroke((lx, ly + h * 0.6), (lx + w, ly + h * 0.5), 0.003, ink);
        }
    }
}

fn road(canvas: &mut Canvas, shot: &Shot, street: f32, near: Colour, neon: Colour, window: Colour) {
    let seed = shot.seed(80);
    canvas.ground(
        |_| street,
        |x, y, depth| near.mix(neon, 0.06).mix(BLACK, 0.25 + 0.2 * noise(x * 20.0, y * 90.0, seed) - depth * 0.3),
    );
    let t = shot.t;
    canvas.mirror(
        street,
        1.35,
        |x, depth| (noise(x * 30.0, depth * 90.0 - t * 1.5, seed) - 0.5) * (0.012 + depth * 0.22),
        |depth| 0.62 - depth * 0.9,
    );
    canvas.bar([0.0, street - 0.004, WIDE, street + 0.006], 0.0, near.mix(window, 0.25));
    for k in 0..6_u64 {
        let coming = k % 2 == 0;
        let lane = if coming { street + 0.075 } else { street + 0.035 };
        let speed = (0.10 + 0.12 * shot.own(81 + k)) * if coming { 1.0 } else { -0.8 };
        let x = (WIDE * 1.2 * shot.own(87 + k) + speed * t).rem_euclid(WIDE * 1.2) - 0.15;
        let size = if coming { 0.05 } else { 0.036 };
        let paint = hsv(shot.own(93 + k), 0.5, 0.35);
        canvas.bar([x - size, lane - size * 0.45, x + size, lane], size * 0.15, paint);
        canvas.bar(
            [x - size * 0.55, lane - size * 0.8, x + size * 0.5, lane - size * 0.3],
            size * 0.2,
            near.mix(window, 0.3),
        );
        canvas.disc(x - size * 0.55, lane, size * 0.18, BLACK);
        canvas.disc(x + size * 0.55, lane, size * 0.18, BLACK);
        let (front, back) = if coming { (size, -size) } else { (-size, size) };
        canvas.glow(x + front, lane - size * 0.22, size * 1.6, rgb(0xFF_F6D0), 0.9);
        canvas.glow(x + back, lane - size * 0.22, size * 0.9, rgb(0xFF_2A20), 0.9);
    }
}

fn rain(canvas: &mut Canvas, shot: &Shot) {
    for k in 0..110 {
        let x = WIDE * shot.own(700 + k);
        let speed = 1.1 + shot.own(820 + k);
        let y = (shot.own(940 + k) + shot.t * speed).rem_euclid(1.1) - 0.05;
        canvas.stroke((x, y), (x - 0.005, y + 0.035), 0.0013, rgb(0x9F_C8CC));
    }
}
