//! How are animals painted? As portraits: a large head in plain shapes before a coloured, patterned wall.

use std::f32::consts::TAU;

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, rgb, step_between};
use super::noise::noise;
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] = [
    "before a sunny yellow wall",
    "before a coral pink wall",
    "before a cool teal wall",
    "before a violet night wall",
    "before a leaf green wall",
];

/// Wall above, wall below, pattern on the wall, light, scarf.
const PALETTES: [[u32; 5]; 5] = [
    [0xF9_C846, 0xF2_9A2E, 0xFF_DF87, 0xFF_FBE0, 0xD8_4A3A],
    [0xF7_8C84, 0xE2_5A6E, 0xFF_B3A6, 0xFF_F0E8, 0x2F_6F8F],
    [0x3F_B5B0, 0x1C_7A86, 0x6F_D6C8, 0xF0_FFFA, 0xF0_7A3C],
    [0x4B_3A86, 0x24_1C4E, 0x70_5CB8, 0xD8_CCFF, 0xF2_C14E],
    [0xA6_CE6A, 0x5C_9440, 0xC8_E494, 0xFA_FFE6, 0x8A_4FA8],
];

/// Furs of each species in variants: fox, owl, cat, bear, panda, frog, rabbit.
const FURS: [[u32; 3]; 7] = [
    [0xE0_6A22, 0xC9_4F1C, 0xEE_9040],
    [0x8A_6238, 0xD8_CDB8, 0x6B_5668],
    [0x8C_8F96, 0xE5_A24C, 0x32_3038],
    [0x7A_4A26, 0x4A_2E1E, 0xE8_E4DA],
    [0xF4_F1EA, 0xF6_EEDC, 0xE8_ECF0],
    [0x5F_B03A, 0x2E_9A6A, 0xB6_C832],
    [0xD9_C3A4, 0xF3_EEEA, 0x9A_8478],
];

/// Where a head is and how it leans; places on it are told in radii of the head.
struct Head {
    x: f32,
    y: f32,
    radius: f32,
    lean: f32,
    /// Where the eyes look, -1 to 1.
    gaze: f32,
    /// 1 with open eyes.
    open: f32,
}

impl Head {
    fn at(&self, (dx, dy): (f32, f32)) -> (f32, f32) {
        (self.x + (dx - self.lean * dy) * self.radius, self.y + (dy + self.lean * dx) * self.radius)
    }

    fn oval(&self, canvas: &mut Canvas, place: (f32, f32), rx: f32, ry: f32, colour: Colour) {
        let (x, y) = self.at(place);
        canvas.ellipse(x, y, rx * self.radius, ry * self.radius, colour);
    }

    /// An oval with hairs, lit from above.
    fn fur(&self, canvas: &mut Canvas, place: (f32, f32), rx: f32, ry: f32, colour: Colour) {
        let ((x, y), r) = (self.at(place), self.radius);
        let (rx, ry) = (rx * r, ry * r);
        canvas.shape(
            [x - rx, y - ry, x + rx, y + ry],
            1.0,
            |px, py| ((((px - x) / rx).powi(2) + ((py - y) / ry).powi(2)).sqrt() - 1.0) * rx.min(ry),
            |px, py| {
                let hair = noise((px - x) / r * 26.0, (py - y) / r * 7.0, 11) - 0.5;
                let fall = (0.35 * (px - x) / rx + 0.65 * (py - y) / ry).clamp(-1.0, 1.0);
                let lit = colour.mix(WHITE, 0.16 * (-fall).max(0.0) + 0.10 * hair.max(0.0));
                lit.mix(BLACK, 0.30 * fall.max(0.0) + 0.14 * (-hair).max(0.0))
            },
        );
    }

    fn wedge(&self, canvas: &mut Canvas, corners: &[(f32, f32)], colour: Colour) {
        let corners: Vec<(f32, f32)> = corners.iter().map(|&corner| self.at(corner)).collect();
        canvas.polygon(&corners, colour);
    }

    fn line(&self, canvas: &mut Canvas, from: (f32, f32), to: (f32, f32), thick: f32, colour: Colour) {
        canvas.stroke(self.at(from), self.at(to), thick * self.radius, colour);
    }

    /// Two eyes at ±`dx`; `slit` makes narrow pupils.
    fn eyes(&self, canvas: &mut Canvas, (dx, dy): (f32, f32), size: f32, iris: Colour, slit: bool) {
        for side in [-1.0, 1.0] {
            if self.open < 0.5 {
                self.line(canvas, (side * dx - size, dy), (side * dx + size, dy), 0.03 + size * 0.12, rgb(0x18_1210));
                continue;
            }
            self.oval(canvas, (side * dx, dy), size * 1.12, size * 1.12, rgb(0x18_1210));
            self.oval(canvas, (side * dx, dy), size, size, iris);
            let look = side * dx + self.gaze * size * 0.25;
            self.oval(canvas, (look, dy), size * if slit { 0.24 } else { 0.62 }, size * 0.72, rgb(0x0C_0A0A));
            self.oval(canvas, (look - size * 0.25, dy - size * 0.35), size * 0.2, size * 0.2, WHITE);
        }
    }

    /// A nose and the mouth below it.
    fn snout(&self, canvas: &mut Canvas, dy: f32, size: f32, colour: Colour) {
        self.oval(canvas, (0.0, dy), size, size * 0.7, colour);
        self.oval(canvas, (-size * 0.3, dy - size * 0.25), size * 0.28, size * 0.16, colour.mix(WHITE, 0.45));
        let (chin, dark) = (dy + size * 1.5, rgb(0x2A_1C1A));
        self.line(canvas, (0.0, dy + size * 0.5), (0.0, chin), 0.03, dark);
        for side in [-1.0, 1.0] {
            self.line(canvas, (0.0, chin), (side * size * 0.9, chin + size * 0.35), 0.03, dark);
            self.line(canvas, (side * size * 0.9, chin + size * 0.35), (side * size * 1.5, chin), 0.03, dark);
        }
    }
}

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let [high, low, pattern, light, scarf] = PALETTES[shot.look_of(LIGHT, LIGHTS.len())].map(rgb);
    canvas.sky(&[(0.0, high), (1.0, low)]);
    wall(canvas, shot, pattern, low);
    canvas.glow(WIDE * (0.2 + 0.3 * shot.own(1)), 0.15, 1.0, light, 0.35);
    let species = shot.item_of(2, FURS.len());
    let fur = rgb(FURS[species][shot.item_of(3, 3)]);
    let middle = WIDE * (0.36 + 0.28 * shot.own(4)) + 0.004 * (shot.pan() * 8.0).sin();
    // In some shots a friend of another species looks over the shoulder.
    if shot.own(5) < 0.4 {
        let other = (species + 1 + shot.item_of(6, FURS.len() - 1)) % FURS.len();
        let x = if middle < WIDE * 0.5 { WIDE * 0.83 } else { WIDE * 0.17 };
        animal(canvas, shot, other, rgb(FURS[other][shot.item_of(7, 3)]), (x, 0.66, 0.17), high);
    }
    animal(canvas, shot, species, fur, (middle, 0.48 + 0.06 * shot.own(8), 0.27 + 0.06 * shot.own(9)), scarf);
}

fn wall(canvas: &mut Canvas, shot: &Shot, pattern: Colour, low: Colour) {
    let shift = shot.pan() * 0.3;
    match shot.look_of(10, 4) {
        0 => {
            for k in 0..66 {
                let (column, row) = (k % 11, k / 11);
                let x = (0.18 * (column as f32 + 0.5 * (row % 2) as f32) + shift).rem_euclid(1.98) - 0.1;
                canvas.disc(x, 0.02 + 0.18 * row as f32, 0.032, pattern);
            }
        }
        1 => canvas.each([0.0, 0.0, WIDE, 1.0], |x, y, under| {
            let u = ((x + y * 0.6 + shift) / 0.22).rem_euclid(1.0);
            under.mix(pattern, 0.75 * step_between(0.0, 0.02, u) * step_between(0.5, 0.48, u))
        }),
        2 => canvas.each([0.0, 0.0, WIDE, 1.0], |x, y, under| {
            let turn = ((y - 0.55).atan2(x - WIDE * 0.5) / TAU * 16.0 + shift * 3.0).rem_euclid(1.0);
            under.mix(pattern, 0.7 * step_between(0.0, 0.05, turn) * step_between(0.5, 0.45, turn))
        }),
        _ => {
            for k in 0..9_u64 {
                let x = (WIDE * 1.3 * shot.item(20 + k) + shift).rem_euclid(WIDE * 1.3) - 0.25;
                let (y, size) = (shot.item(30 + k), 0.07 + 0.08 * shot.item(40 + k));
                for leaf in 0..5 {
                    let (sin, cos) = (leaf as f32 / 5.0 * TAU + shot.item(50 + k) * TAU).sin_cos();
                    let tip = (x + size * cos, y + size * sin);
                    canvas.taper((x, y), tip, size * 0.25, size * 0.6, pattern);
                }
                canvas.disc(x, y, size * 0.3, low);
            }
        }
    }
}

/// The animal of a species whose head is at `place`: x, y and radius.
fn animal(canvas: &mut Canvas, shot: &Shot, species: usize, fur: Colour, place: (f32, f32, f32), scarf: Colour) {
    let beat = shot.t * 0.9 + TAU * shot.own(60 + species as u64);
    let head = Head {
        x: place.0,
        // Long ears need room above.
        y: place.1 + if species == 6 { 0.32 * place.2 } else { 0.0 } + 0.008 * (beat * 1.7).sin(),
        radius: place.2,
        lean: 0.09 * beat.sin() + 0.08 * (shot.item(61) - 0.5),
        gaze: (beat * 0.6).cos(),
        open: if (shot.t + 3.0 * shot.own(62)).rem_euclid(3.7) < 0.16 { 0.0 } else { 1.0 },
    };
    let (dark, pale) = (fur.mix(rgb(0x1A_1014), 0.72), fur.mix(rgb(0xFF_F4E2), 0.82));
    let body = if species == 4 { rgb(0x26_242A) } else { fur.mix(BLACK, 0.12) };
    head.fur(canvas, (0.0, 2.0), 1.25, 1.35, body);
    if species != 4 {
        head.fur(canvas, (0.0, 2.1), 0.7, 1.15, pale.mix(fur, 0.25));
    }
    if shot.item(63) < 0.5 && species != 5 {
        head.fur(canvas, (0.0, 0.95), 0.85, 0.24, scarf);
        head.wedge(canvas, &[(0.25, 1.0), (0.62, 1.0), (0.72, 1.75), (0.38, 1.8)], scarf.mix(BLACK, 0.18));
    }
    match species {
        0 => fox(canvas, &head, fur, dark),
        1 => owl(canvas, &head, fur, pale),
        2 => cat(canvas, &head, fur, dark),
        3 => bear(canvas, &head, fur, fur, pale),
        4 => bear(canvas, &head, fur, rgb(0x22_2026), pale),
        5 => frog(canvas, &head, fur, pale),
        _ => rabbit(canvas, &head, fur, pale),
    }
}

fn fox(canvas: &mut Canvas, head: &Head, fur: Colour, dark: Colour) {
    let white = rgb(0xFB_F3E6);
    for side in [-1.0, 1.0] {
        head.wedge(canvas, &[(side * 0.15, -0.6), (side * 0.72, -1.5), (side * 0.95, -0.3)], fur);
        head.wedge(canvas, &[(side * 0.36, -0.7), (side * 0.69, -1.28), (side * 0.82, -0.5)], dark);
    }
    head.fur(canvas, (0.0, -0.1), 0.98, 0.78, fur);
    for side in [-1.0, 1.0] {
        let cheek =
            [(side * 0.1, 0.75), (side * 0.2, 0.1), (side * 0.6, -0.02), (side * 1.12, 0.12), (side * 0.6, 0.55)];
        head.wedge(canvas, &cheek, white);
    }
    head.wedge(canvas, &[(-0.27, 0.0), (0.27, 0.0), (0.14, 0.82), (-0.14, 0.82)], fur);
    head.oval(canvas, (0.0, 0.72), 0.24, 0.18, white);
    head.eyes(canvas, (0.4, -0.1), 0.13, rgb(0xE8_A83A), false);
    head.snout(canvas, 0.62, 0.14, rgb(0x18_1214));
}

fn owl(canvas: &mut Canvas, head: &Head, fur: Colour, pale: Colour) {
    for k in 0..12_usize {
        let (x, y) = ((k % 4) as f32 * 0.3 - 0.45 + 0.15 * (k / 4 % 2) as f32, 1.2 + 0.22 * (k / 4) as f32);
        head.oval(canvas, (x, y), 0.1, 0.13, fur.mix(BLACK, 0.2));
    }
    for side in [-1.0, 1.0] {
        head.wedge(canvas, &[(side * 0.2, -0.7), (side * 0.85, -1.25), (side * 0.95, -0.2)], fur.mix(BLACK, 0.25));
    }
    head.fur(canvas, (0.0, 0.0), 1.02, 0.95, fur);
    for side in [-1.0, 1.0] {
        head.fur(canvas, (side * 0.42, -0.05), 0.52, 0.55, pale);
        for ray in 0..12 {
            let (sin, cos) = (ray as f32 / 12.0 * TAU).sin_cos();
            let from = (side * 0.42 + cos * 0.36, -0.05 + sin * 0.38);
            head.line(canvas, from, (side * 0.42 + cos * 0.49, -0.05 + sin * 0.51), 0.03, fur);
        }
    }
    head.wedge(canvas, &[(0.0, -0.15), (-0.95, -0.72), (0.0, -0.5), (0.95, -0.72)], fur.mix(BLACK, 0.35));
    head.eyes(canvas, (0.42, -0.05), 0.32, rgb(0xFF_B820), false);
    head.wedge(canvas, &[(-0.15, 0.12), (0.15, 0.12), (0.0, 0.55)], rgb(0xF0_9A2A));
}

fn cat(canvas: &mut Canvas, head: &Head, fur: Colour, dark: Colour) {
    let stripe = fur.mix(dark, 0.65);
    for side in [-1.0, 1.0] {
        head.wedge(canvas, &[(side * 0.2, -0.6), (side * 0.85, -1.3), (side * 0.98, -0.1)], fur);
        head.wedge(canvas, &[(side * 0.42, -0.66), (side * 0.8, -1.08), (side * 0.88, -0.35)], rgb(0xE8_9A98));
    }
    head.fur(canvas, (0.0, 0.0), 1.0, 0.85, fur);
    for k in [-1.0_f32, 0.0, 1.0] {
        head.line(canvas, (k * 0.2, -0.8 + 0.05 * k.abs()), (k * 0.16, -0.4), 0.09, stripe);
        for side in [-1.0, 1.0] {
            head.line(canvas, (side * 0.97, 0.15 + 0.17 * k), (side * 0.68, 0.15 + 0.12 * k), 0.07, stripe);
        }
    }
    head.eyes(canvas, (0.42, -0.08), 0.22, rgb(0x9C_D64A), true);
    for side in [-1.0, 1.0] {
        head.fur(canvas, (side * 0.17, 0.42), 0.25, 0.2, fur.mix(WHITE, 0.75));
        for k in [-1.0_f32, 0.0, 1.0] {
            head.line(canvas, (side * 0.25, 0.4 + 0.05 * k), (side * 1.3, 0.38 + 0.2 * k), 0.018, WHITE);
        }
    }
    head.snout(canvas, 0.28, 0.1, rgb(0xE0_7480));
}

/// A bear; with dark `patches` a panda.
fn bear(canvas: &mut Canvas, head: &Head, fur: Colour, patches: Colour, pale: Colour) {
    for side in [-1.0, 1.0] {
        head.fur(canvas, (side * 0.75, -0.72), 0.36, 0.36, patches);
        head.oval(canvas, (side * 0.75, -0.70), 0.2, 0.2, patches.mix(rgb(0xE0_A890), 0.45));
    }
    head.fur(canvas, (0.0, 0.0), 1.0, 0.92, fur);
    if patches != fur {
        for side in [-1.0, 1.0] {
            head.oval(canvas, (side * 0.44, -0.02), 0.25, 0.31, patches);
        }
    }
    head.fur(canvas, (0.0, 0.42), 0.46, 0.36, pale);
    head.eyes(canvas, (0.4, -0.1), 0.12, rgb(0x6A_3E20), false);
    head.snout(canvas, 0.26, 0.18, rgb(0x1C_1416));
}

fn frog(canvas: &mut Canvas, head: &Head, fur: Colour, pale: Colour) {
    for side in [-1.0, 1.0] {
        head.fur(canvas, (side * 0.6, -0.6), 0.4, 0.4, fur);
    }
    head.fur(canvas, (0.0, 0.0), 1.2, 0.78, fur);
    head.oval(canvas, (0.0, 0.42), 0.95, 0.34, pale.mix(fur, 0.2));
    head.eyes(canvas, (0.6, -0.62), 0.28, rgb(0xF6_D23C), false);
    let dark = fur.mix(BLACK, 0.65);
    for k in 0..10 {
        let curve = |k: i32| (k as f32 * 0.17 - 0.85, 0.36 - 0.16 * (k as f32 / 5.0 - 1.0).powi(2));
        head.line(canvas, curve(k), curve(k + 1), 0.05, dark);
    }
    for side in [-1.0, 1.0] {
        head.oval(canvas, (side * 0.12, -0.02), 0.04, 0.03, dark);
        head.oval(canvas, (side * 0.9, 0.2), 0.15, 0.09, rgb(0xF0_8C7A));
        head.oval(canvas, (side * 0.25, -0.45), 0.1, 0.06, fur.mix(BLACK, 0.25));
    }
}

fn rabbit(canvas: &mut Canvas, head: &Head, fur: Colour, pale: Colour) {
    for side in [-1.0, 1.0] {
        head.fur(canvas, (side * 0.4, -1.15), 0.23, 0.75, fur);
        head.oval(canvas, (side * 0.4, -1.1), 0.12, 0.58, rgb(0xEE_A8A4));
    }
    head.fur(canvas, (0.0, 0.0), 0.85, 0.88, fur);
    head.eyes(canvas, (0.42, -0.12), 0.16, rgb(0x6E_3A2A), false);
    head.wedge(canvas, &[(-0.11, 0.55), (0.11, 0.55), (0.1, 0.82), (-0.1, 0.82)], WHITE);
    for side in [-1.0, 1.0] {
        head.fur(canvas, (side * 0.18, 0.42), 0.25, 0.22, pale);
        head.oval(canvas, (side * 0.6, 0.25), 0.15, 0.1, rgb(0xF4_B0A8));
    }
    head.snout(canvas, 0.27, 0.1, rgb(0xE0_7A86));
}
