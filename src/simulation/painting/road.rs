//! How is a road painted? In perspective to the horizon, with lines, poles and cars that come nearer as time goes by.

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, fractal_line, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 5] =
    ["under a wide noon sky", "in low evening sun", "by night in headlights", "in grey rain", "in pale morning haze"];

/// Sky above, sky at the horizon, light, far land, near land, asphalt.
const PALETTES: [[u32; 6]; 5] = [
    [0x2C_86D8, 0xD4_ECF8, 0xFF_FFF0, 0x8F_B46A, 0xC2_B04C, 0x4C_4E54],
    [0x5C_3A78, 0xFF_9A4A, 0xFF_E49A, 0x8A_4A3C, 0xB8_6A30, 0x3A_3038],
    [0x03_0716, 0x1C_2C50, 0xFF_F2C0, 0x0C_1826, 0x1A_2A30, 0x16_181E],
    [0x56_626A, 0xA8_B2B4, 0xE4_ECEC, 0x54_6A58, 0x5E_7050, 0x30_363C],
    [0x9C_B8CC, 0xF6_E2CC, 0xFF_F8E8, 0xA8_B0A0, 0x98_A070, 0x62_605E],
];

/// Where the road lies in the picture.
struct Lane {
    horizon: f32,
    /// Where it meets the horizon.
    end: f32,
    /// How far its foot is from the end, sideways.
    lean: f32,
    bend: f32,
    /// Half its width at the lower edge.
    half: f32,
}

impl Lane {
    /// The height of a place whose nearness is 0 at the horizon and 1 at the lower edge.
    fn y(&self, near: f32) -> f32 {
        self.horizon + (1.0 - self.horizon) * near
    }

    /// The place `aside` half widths from the centre line.
    fn x(&self, near: f32, aside: f32) -> f32 {
        let far = (1.0 - near).max(0.0);
        self.end + self.lean * near + self.bend * near * far * far + aside * self.half * (near + 0.004)
    }
}

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, low, sun, far, near, asphalt] = PALETTES[light].map(rgb);
    let motif = shot.item_of(1, 4);
    let lane = Lane {
        horizon: 0.40 + 0.10 * shot.own(2),
        end: WIDE * (0.36 + 0.28 * shot.own(3)),
        lean: 0.5 * (shot.own(4) - 0.5),
        bend: 1.6 * (shot.item(5) - 0.5),
        half: 0.62 + 0.2 * shot.own(6),
    };
    let travel = shot.t * (1.2 + shot.item(7));
    // The ground takes the colour of what grows there: desert, fields, town, woods.
    let soil = [rgb(0xC8_8850), rgb(0xC9_AA3A), rgb(0x84_8478), rgb(0x3C_6A34)][motif];
    let (far, near) =
        (far.mix(soil, if light == 2 { 0.06 } else { 0.28 }), near.mix(soil, if light == 2 { 0.1 } else { 0.5 }));
    canvas.sky(&[(0.0, high), (lane.horizon * 0.6, high.mix(low, 0.45)), (lane.horizon, low)]);
    sky(canvas, shot, &lane, light, low, sun);
    distance(canvas, shot, &lane, motif, far.mix(low, 0.35), if light == 2 { sun } else { low });
    surface(canvas, shot, &lane, motif, travel, [far.mix(low, 0.2), near, asphalt]);
    if light == 2 {
        canvas.glow(lane.x(0.75, 0.45), lane.y(0.75), 0.55, sun, 0.5);
    }
    let dark = near.mix(BLACK, 0.72);
    roadside(canvas, shot, &lane, motif, travel, dark, [near, low, if light == 2 { sun } else { dark }]);
    let lit = light == 1 || light == 2 || light == 3;
    for k in 0..2_u64 {
        let place = (shot.own(60 + k) + 0.16 * shot.t + 0.5 * k as f32).fract();
        let size = 0.05 + 0.6 * place * place * place;
        car(canvas, &lane, (size, -0.45), hsv(shot.own(62 + k), 0.55, 0.6), true, lit);
    }
    let ahead = 0.26 + 0.22 * shot.own(64) + 0.02 * (shot.t * 0.8).sin();
    let paint = hsv(shot.item(65), 0.75, if light == 2 { 0.5 } else { 0.85 });
    if shot.item(66) < 0.3 {
        lorry(canvas, &lane, ahead, paint);
    } else {
        car(canvas, &lane, (ahead, 0.45), paint, false, lit);
    }
    if light == 3 {
        rain(canvas, shot);
    }
    if shot.own(67) < 0.22 {
        dashboard(canvas, shot, asphalt.mix(BLACK, 0.65), sun);
    }
}

fn sky(canvas: &mut Canvas, shot: &Shot, lane: &Lane, light: usize, low: Colour, sun: Colour) {
    let (x, y) = (WIDE * (0.15 + 0.7 * shot.own(10)), lane.horizon * (0.25 + 0.6 * shot.item(11)));
    if light == 2 {
        for k in 0..60 {
            canvas.disc(WIDE * shot.own(100 + k), lane.horizon * shot.own(170 + k), 0.0017, sun);
        }
    } else if light != 3 {
        canvas.glow(x, y, 0.7, sun, 0.6);
        canvas.disc(x, y, 0.04 + 0.04 * shot.item(12), sun);
    }
    let (seed, drift) = (shot.seed(13), shot.t * 0.015);
    let much = if light == 3 { 0.38 } else { 0.54 };
    canvas.veil([0.0, 0.0, WIDE, lane.horizon], 0.014, |px, py| {
        let flat = 1.0 + 3.0 * py / lane.horizon;
        let cover = step_between(much, much + 0.25, fractal(px * 1.3 + drift, py * 2.4 * flat, 4, seed));
        (low.mix(sun, 0.4), cover * if light == 2 { 0.15 } else { 0.7 })
    });
}

/// What stands on the horizon: mesas, hills, a town or a wood.
fn distance(canvas: &mut Canvas, shot: &Shot, lane: &Lane, motif: usize, colour: Colour, window: Colour) {
    let (seed, shift) = (shot.item_seed(20), shot.pan() * 0.1 + lane.end);
    let edge = |x: f32| {
        let u = x + shift;
        let high = match motif {
            0 => 0.14 * step_between(0.48, 0.54, noise(u * 3.0, 0.5, seed)) + 0.02 * fractal_line(u * 8.0, 3, seed),
            1 => 0.10 * fractal_line(u * 2.0, 3, seed),
            2 => 0.04 + 0.20 * cell((u * 16.0).floor() as i32, 3, seed).powi(2),
            _ => {
                0.05 + 0.07 * fractal_line(u * 2.0, 2, seed)
                    + 0.06 * (1.0 - ((u * 22.0).fract() - 0.5).abs() * 2.0) * noise(u * 9.0, 1.0, seed)
            }
        };
        lane.horizon + 0.005 - high
    };
    canvas.ground(edge, |x, y, depth| {
        let pane = ((x + shift) * 120.0, y * 90.0);
        let lit = motif == 2 && depth > 0.008 && pane.0.fract() > 0.4 && pane.1.fract() > 0.4;
        if lit && cell(pane.0 as i32, pane.1 as i32, seed) < 0.35 {
            return colour.mix(window, 0.75);
        }
        let layer = if motif == 0 { 0.14 * noise(x * 2.0, y * 70.0, seed) } else { 0.0 };
        colour.mix(BLACK, 0.18 - 0.5 * depth.min(0.2) + layer)
    });
}

/// Land and asphalt with its lines.
fn surface(canvas: &mut Canvas, shot: &Shot, lane: &Lane, motif: usize, travel: f32, paints: [Colour; 3]) {
    let [far, near, asphalt] = paints;
    let seed = shot.item_seed(30);
    let yellow = shot.item(31) < 0.5;
    let line = if yellow { rgb(0xF4_C23A) } else { rgb(0xF0_EEE6) };
    canvas.ground(
        |_| lane.horizon,
        |x, y, _| {
            // The soft edge paints a hair above the horizon too.
            let d = ((y - lane.horizon) / (1.0 - lane.horizon)).max(0.0);
            let away = 1.0 / (d + 0.03);
            let half = lane.half * (d + 0.004);
            let u = (x - lane.x(d, 0.0)) / half;
            // One pixel of a thumbnail, in half widths: lines neither vanish nor flicker in the distance.
            let soft = 0.004 / half;
            let fade = step_between(0.0, 0.06, d);
            let grain = noise(u * 14.0, away * 9.0 + travel * 3.0, seed);
            let mut land = far.mix(near, d.sqrt());
            if motif == 1 {
                // Furrows run along the road.
                land = land
                    .mix(BLACK, 0.28 * fade * step_between(0.4, 0.6, ((u * 1.6).rem_euclid(1.0) - 0.5).abs() * 2.0));
            }
            land = land.mix(BLACK, 0.34 * fade * step_between(0.45, 0.9, grain));
            land = land.mix(WHITE, 0.16 * fade * step_between(0.55, 0.1, grain));
            let side = u.abs();
            let verge = step_between(1.30, 1.12, side);
            land = land.mix(far.mix(WHITE, 0.25), 0.45 * verge);
            let inside = step_between(1.0 + soft, 1.0 - soft, side);
            let wear = 0.10 * noise(u * 9.0, away * 2.0 + travel, seed ^ 5);
            let mut road = asphalt.mix(WHITE, 0.05 + wear).mix(far, 0.5 * step_between(0.16, 0.0, d));
            let border = step_between(0.03 + soft, 0.03, (side - 0.90).abs());
            let dash = step_between(0.44, 0.50, ((away * 0.9 + travel).fract() - 0.5).abs() * 2.0);
            let middle = step_between(0.035 + soft, 0.035, side) * dash;
            road = road.mix(rgb(0xEC_EAE2), 0.8 * border).mix(line, 0.95 * middle);
            land.mix(road, inside)
        },
    );
}

/// Poles with wires, or what else stands along the road, from far to near.
fn roadside(
    canvas: &mut Canvas,
    shot: &Shot,
    lane: &Lane,
    motif: usize,
    travel: f32,
    dark: Colour,
    paints: [Colour; 3],
) {
    let [green, haze, lamp] = paints;
    let side = if shot.own(40) < 0.5 { -1.0 } else { 1.0 };
    let seed = shot.item_seed(41);
    let (phase, first) = ((travel * 0.5).fract(), (travel * 0.5) as i32);
    let mut before: Option<[(f32, f32); 2]> = None;
    for k in (0..11).rev() {
        let d = 1.0 / (0.72 + 0.85 * (k as f32 + 1.0 - phase));
        let number = k + first;
        let ink = dark.mix(haze, 0.55 * step_between(0.35, 0.05, d));
        let (x, y, high) = (lane.x(d, side * 1.32), lane.y(d), 0.95 * d);
        if motif != 3 {
            canvas.taper((x, y), (x, y - high), 0.030 * d, 0.020 * d, ink);
        }
        if motif == 2 {
            let tip = (x - side * 0.3 * d, y - high - 0.02 * d);
            canvas.stroke((x, y - high), tip, 0.016 * d, ink);
            canvas.ellipse(tip.0, tip.1, 0.06 * d, 0.02 * d, lamp);
            canvas.glow(tip.0, tip.1, 0.25 * d, lamp, 0.6);
        } else if motif != 3 {
            let arms = [(x - 0.13 * d, y - high * 0.93), (x + 0.13 * d, y - high * 0.93)];
            canvas.stroke(arms[0], arms[1], 0.016 * d, ink);
            for (a, b) in before.into_iter().flatten().zip(arms) {
                let sag = ((a.0 + b.0) * 0.5, (a.1 + b.1) * 0.5 + 0.06 * d);
                canvas.stroke(a, sag, 0.0016 + 0.002 * d, ink);
                canvas.stroke(sag, b, 0.0016 + 0.002 * d, ink);
            }
            before = Some(arms);
        }
        for flank in [-1.0, 1.0] {
            let own = cell(number, flank as i32, seed);
            let (x, size) = (lane.x(d, flank * (1.7 + 1.4 * own)), d * (0.35 + 0.5 * own));
            match motif {
                0 if own < 0.6 => {
                    let body = rgb(0x3E_7A40).mix(ink, 0.5);
                    canvas.stroke((x, y), (x, y - size), size * 0.16, body);
                    for (arm, level) in [(-1.0, 0.45), (1.0, 0.6)] {
                        let joint = (x + arm * size * 0.25, y - size * level);
                        canvas.stroke((x, y - size * level), joint, size * 0.11, body);
                        canvas.stroke(joint, (joint.0, joint.1 - size * 0.3), size * 0.11, body);
                    }
                }
                1 if own < 0.4 => {
                    canvas.taper((x, y), (x, y - size), size * 0.12, size * 0.08, ink);
                    canvas.disc(x, y - size * 1.1, size * 0.42, rgb(0x4C_7A30).mix(ink, 0.45));
                    canvas.disc(x - size * 0.25, y - size * 0.9, size * 0.3, rgb(0x5E_8C38).mix(ink, 0.45));
                }
                3 => {
                    let body = green.mix(ink, 0.6 + 0.25 * own);
                    let (x, size) = (lane.x(d, flank * (1.45 + 0.6 * own)), size * 1.9);
                    for tier in 0..3 {
                        let (foot, wide) = (y - size * (0.1 + 0.26 * tier as f32), size * (0.27 - 0.06 * tier as f32));
                        canvas.polygon(&[(x - wide, foot), (x, foot - size * 0.42), (x + wide, foot)], body);
                    }
                }
                _ => {}
            }
        }
    }
}

/// A car at (nearness, half widths from the centre), seen from the front or from behind.
fn car(canvas: &mut Canvas, lane: &Lane, (near, aside): (f32, f32), paint: Colour, front: bool, lit: bool) {
    let (x, y, s) = (lane.x(near, aside), lane.y(near), near * lane.half * 0.28);
    let area =
        |left: f32, top: f32, right: f32, bottom: f32| [x + left * s, y + top * s, x + right * s, y + bottom * s];
    let dark = rgb(0x12_1418);
    canvas.ellipse(x, y, s * 1.15, s * 0.12, dark);
    for side in [-1.0, 1.0] {
        canvas.bar(area(side * 0.75 - 0.16, -0.35, side * 0.75 + 0.16, 0.04), s * 0.06, dark);
    }
    let roof = [(-0.82, -0.80), (-0.58, -1.38), (0.58, -1.38), (0.82, -0.80)].map(|(u, v)| (x + u * s, y + v * s));
    canvas.polygon(&roof, paint.mix(BLACK, 0.2));
    let glass = [(-0.68, -0.82), (-0.50, -1.28), (0.50, -1.28), (0.68, -0.82)].map(|(u, v)| (x + u * s, y + v * s));
    canvas.polygon_with(&glass, |_, py| rgb(0x1C_2834).mix(rgb(0xA8_C8DC), ((y - py) / s - 0.8).clamp(0.0, 0.6)));
    canvas.bar(area(-1.0, -0.86, 1.0, -0.16), s * 0.16, paint);
    canvas.bar(area(-0.95, -0.30, 0.95, -0.14), s * 0.06, paint.mix(BLACK, 0.5));
    canvas.bar(area(-0.24, -0.44, 0.24, -0.30), s * 0.02, if front { dark } else { rgb(0xF0_EEE4) });
    let lamp = if front { rgb(0xFF_F6D8) } else { rgb(0xFF_3022) };
    for side in [-1.0, 1.0] {
        canvas.bar(area(side * 0.78 - 0.16, -0.72, side * 0.78 + 0.16, -0.52), s * 0.05, lamp);
        if lit {
            canvas.glow(x + side * 0.78 * s, y - 0.62 * s, s * if front { 1.6 } else { 0.9 }, lamp, 0.9);
        }
    }
}

fn lorry(canvas: &mut Canvas, lane: &Lane, near: f32, paint: Colour) {
    let (x, y, s) = (lane.x(near, 0.45), lane.y(near), near * lane.half * 0.33);
    let dark = rgb(0x14_1618);
    for side in [-1.0, 1.0] {
        canvas.bar([x + (side * 0.7 - 0.2) * s, y - 0.5 * s, x + (side * 0.7 + 0.2) * s, y + 0.03 * s], s * 0.06, dark);
    }
    canvas.bar([x - s, y - 2.5 * s, x + s, y - 0.3 * s], s * 0.05, paint);
    canvas.bar([x - s * 0.9, y - 2.35 * s, x + s * 0.9, y - 0.5 * s], s * 0.03, paint.mix(WHITE, 0.35));
    canvas.bar([x - s * 0.9, y - 1.6 * s, x + s * 0.9, y - 1.15 * s], 0.0, paint.mix(BLACK, 0.3));
    canvas.stroke((x, y - 2.35 * s), (x, y - 0.5 * s), s * 0.04, dark);
    for side in [-1.0, 1.0] {
        canvas.bar(
            [x + (side * 0.8 - 0.12) * s, y - 0.44 * s, x + (side * 0.8 + 0.12) * s, y - 0.3 * s],
            0.0,
            rgb(0xFF_3022),
        );
    }
}

fn rain(canvas: &mut Canvas, shot: &Shot) {
    for k in 0..90 {
        let x = WIDE * shot.own(300 + k);
        let y = (shot.own(400 + k) + shot.t * (1.2 + shot.own(500 + k))).rem_euclid(1.1) - 0.05;
        canvas.stroke((x, y), (x - 0.008, y + 0.04), 0.0013, rgb(0xC8_D6DA));
    }
}

/// The view from the driver's seat.
fn dashboard(canvas: &mut Canvas, shot: &Shot, dark: Colour, light: Colour) {
    canvas.ground(
        |x| 0.84 + 0.06 * (x / WIDE - 0.5).powi(2) * 4.0,
        |_, _, depth| dark.mix(light, 0.16 * step_between(0.03, 0.0, depth)),
    );
    canvas.bar([WIDE * 0.5 - 0.16, 0.03, WIDE * 0.5 + 0.16, 0.12], 0.03, dark);
    canvas.bar([WIDE * 0.5 - 0.14, 0.045, WIDE * 0.5 + 0.14, 0.105], 0.02, light.mix(dark, 0.45));
    let (x, turn) = (WIDE * 0.3, 0.3 * (shot.t * 0.7).sin());
    canvas.ring(x, 1.02, 0.24, 0.035, dark.mix(BLACK, 0.5));
    for angle in [0.0_f32, std::f32::consts::PI] {
        let (sin, cos) = (angle + turn).sin_cos();
        canvas.stroke((x, 1.02), (x + 0.23 * cos, 1.02 + 0.23 * sin), 0.035, dark.mix(BLACK, 0.5));
    }
}
