//! How is a match painted? A pitch in perspective with its lines, players who run, a ball in flight, stands and lamps.

use std::f32::consts::{PI, TAU};

use super::canvas::{Canvas, WIDE};
use super::colour::{BLACK, Colour, WHITE, hsv, rgb, step_between};
use super::noise::{cell, fractal, noise};
use super::{LIGHT, Shot};

pub(super) const LIGHTS: [&str; 4] =
    ["in bright sunshine", "under floodlights", "in late evening light", "under a grey sky"];

/// Sky top, sky low, stands, light on the ground.
const PALETTES: [[u32; 4]; 4] = [
    [0x2C_7CD0, 0xC4_E6F6, 0x8C_94A0, 0xFF_FBE8],
    [0x03_0614, 0x16_2444, 0x10_1830, 0xDC_ECFF],
    [0x4A_3470, 0xFF_A468, 0x54_3C54, 0xFF_D4A0],
    [0x8C_98A2, 0xD2_D8DC, 0x6C_747C, 0xE4_ECF0],
];

/// Which game is played.
#[derive(Clone, Copy, PartialEq)]
enum Game {
    Football,
    Tennis,
    Basketball,
}

/// The eye: pitch places are (across, away), both in units of about the pitch's length.
struct Lens {
    horizon: f32,
    high: f32,
    near: f32,
    aside: f32,
}

impl Lens {
    /// Magnification at a distance.
    fn scale(&self, away: f32) -> f32 {
        0.5 / (self.near + away).max(0.08)
    }

    /// Where a place `up` above the pitch is seen.
    fn at(&self, across: f32, away: f32, up: f32) -> (f32, f32) {
        let scale = self.scale(away);
        (WIDE * 0.5 + (across - self.aside) * scale, self.horizon + (self.high - up) * scale)
    }

    /// The place of the pitch seen at a point below the horizon.
    fn back(&self, x: f32, y: f32) -> (f32, f32) {
        let scale = ((y - self.horizon) / self.high).max(0.02);
        ((x - WIDE * 0.5) / scale + self.aside, 0.5 / scale - self.near)
    }

    fn mark(&self, canvas: &mut Canvas, from: (f32, f32), to: (f32, f32), colour: Colour) {
        let thick = |away: f32| 0.018 * self.scale(away);
        canvas.taper(self.at(from.0, from.1, 0.0), self.at(to.0, to.1, 0.0), thick(from.1), thick(to.1), colour);
    }

    fn frame(&self, canvas: &mut Canvas, area: [f32; 4], colour: Colour) {
        let [left, front, right, back] = area;
        let corners = [(left, front), (right, front), (right, back), (left, back), (left, front)];
        for pair in corners.windows(2) {
            self.mark(canvas, pair[0], pair[1], colour);
        }
    }

    fn arc(&self, canvas: &mut Canvas, centre: (f32, f32), radius: f32, between: (f32, f32), colour: Colour) {
        let place = |k: usize| {
            let angle = between.0 + (between.1 - between.0) * k as f32 / 28.0;
            (centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin())
        };
        for k in 0..28 {
            self.mark(canvas, place(k), place(k + 1), colour);
        }
    }
}

pub(super) fn paint(canvas: &mut Canvas, shot: &Shot) {
    let light = shot.look_of(LIGHT, LIGHTS.len());
    let [high, low, stands, lamp] = PALETTES[light].map(rgb);
    let game = [Game::Football, Game::Tennis, Game::Basketball][shot.item_of(1, 3)];
    let travel = shot.pan() - Shot { t: 0.0, ..*shot }.pan();
    let lens = Lens {
        horizon: 0.08 + 0.16 * shot.own(2),
        high: 0.72 + 0.25 * shot.own(3),
        near: 0.52 + 0.12 * shot.own(4),
        aside: 0.5 * (shot.own(5) - 0.5) + travel,
    };
    let length = if game == Game::Football { 1.25 } else { 1.5 };
    let border = lens.at(0.0, length + 0.18, 0.0).1;
    canvas.sky(&[(0.0, high), (border, low)]);
    crowd(canvas, shot, border, stands, lamp, game == Game::Basketball);
    ground(canvas, shot, &lens, game, length, border, lamp, light);
    lines(canvas, shot, &lens, game);
    if light == 1 || light == 2 {
        floodlights(canvas, border, lamp, stands);
    }
    players(canvas, shot, &lens, game, length);
    if light == 1 {
        canvas.veil([0.0, 0.0, WIDE, 1.0], 0.04, |x, y| {
            let aside = ((x / WIDE - 0.5) * 2.0).abs();
            (BLACK, 0.45 * step_between(0.55, 1.1, aside.max((y - 0.5).abs() * 2.0)))
        });
    }
}

fn crowd(canvas: &mut Canvas, shot: &Shot, border: f32, stands: Colour, lamp: Colour, hall: bool) {
    let (seed, fans) = (shot.item_seed(10), [shot.item(11), shot.item(11) + 0.4]);
    let top = if hall { 0.0 } else { (border - 0.20 - 0.12 * shot.item(12)).max(0.0) };
    let pan = shot.pan() * 0.3;
    let wave = shot.t * 1.2;
    canvas.each([0.0, top, WIDE, border], |x, y, _| {
        let tier = ((y - top) / 0.125).floor();
        if (y - top) / 0.125 - tier < 0.10 {
            return stands.mix(BLACK, 0.55);
        }
        let (u, v) = ((x + pan) * 62.0, y * 62.0);
        let (i, j) = (u.floor() as i32, v.floor() as i32);
        let hop = 0.14 * (wave * 3.0 + i as f32 * 0.25).sin();
        let (fx, fy) = (u - u.floor() - 0.5, v - v.floor() - 0.5 + hop);
        let seat = stands.mix(BLACK, if i % 9 == 0 { 0.45 } else { 0.25 });
        if cell(i, j, seed) < 0.12 {
            return seat;
        }
        let hue = fans[usize::from(cell(i, j, seed ^ 1) + 0.3 * (x / WIDE - 0.5) > 0.5)];
        let shirt = hsv(hue, 0.75 * cell(j, i, seed), 0.35 + 0.6 * cell(i, j, seed ^ 2)).mix(stands, 0.25);
        if fx * fx + (fy + 0.18) * (fy + 0.18) < 0.045 {
            rgb(0xD8_A484).mix(stands, 0.3).mix(lamp, 0.1)
        } else if fx.abs() < 0.4 && fy > 0.0 {
            shirt
        } else {
            seat
        }
    });
    canvas.bar([0.0, border - 0.045, WIDE, border], 0.0, stands.mix(BLACK, 0.5));
    for k in 0..9_u64 {
        let x = (k as f32 * 0.24 - pan).rem_euclid(2.16) - 0.2;
        canvas.bar(
            [x, border - 0.040, x + 0.225, border - 0.004],
            0.002,
            hsv(shot.item(13 + k), 0.75, 0.75).mix(stands, 0.15),
        );
        for letter in 0..5 {
            let lx = x + 0.04 + 0.032 * letter as f32;
            canvas.bar([lx, border - 0.030, lx + 0.016 + 0.006 * (letter % 2) as f32, border - 0.014], 0.002, WHITE);
        }
    }
    if !hall && top > 0.0 {
        canvas.bar([0.0, top - 0.02, WIDE, top + 0.012], 0.0, stands.mix(WHITE, 0.35));
    }
}

#[expect(clippy::too_many_arguments, reason = "the ground is one stroke with many paints, used once")]
fn ground(
    canvas: &mut Canvas,
    shot: &Shot,
    lens: &Lens,
    game: Game,
    length: f32,
    border: f32,
    lamp: Colour,
    light: usize,
) {
    let seed = shot.item_seed(25);
    let variant = shot.look_of(26, 3);
    let tennis = [(0xC4_5C30, 0xA8_4A24), (0x2C_62A8, 0x3A_8A5A), (0x4C_9444, 0x3A_7A38)][variant];
    let floor = [0xD8_A462, 0xC4_8A4C, 0xE4_B878][variant];
    let key = hsv(shot.item(27), 0.65, 0.6);
    canvas.ground(
        |_| border,
        |x, y, _| {
            let (u, v) = lens.back(x, y);
            let colour = match game {
                Game::Football => {
                    let stripe = if (u * 5.0).floor().rem_euclid(2.0) < 1.0 { 0.0 } else { 0.16 };
                    let blades = noise(u * 60.0, v * 60.0, seed);
                    rgb(0x3C_9038)
                        .mix(rgb(0x2A_6A2A), 0.35 * variant as f32)
                        .mix(WHITE, stripe * 0.7)
                        .mix(BLACK, 0.18 * blades)
                }
                Game::Tennis => {
                    let inside = u.abs() < 0.86 && v < length + 0.02;
                    let dust = fractal(u * 9.0, v * 9.0, 3, seed);
                    rgb(if inside { tennis.0 } else { tennis.1 }).mix(WHITE, 0.14 * dust)
                }
                Game::Basketball => {
                    let board = (u * 14.0).floor();
                    let grain = cell(board as i32, (v * 3.0 + 7.0 * cell(board as i32, 0, seed)).floor() as i32, seed);
                    let wood = rgb(floor).mix(rgb(0x7A_4A20), 0.3 * grain);
                    let paint = (u.abs() < 0.27 && v > length - 0.62 && v < length) || u.abs() > 1.25 || v > length;
                    if paint { wood.mix(key, 0.85) } else { wood }
                }
            };
            // Lamps leave a bright middle; the sun lights all alike.
            let pool = if light == 1 { 0.30 - 0.22 * (u * u + (v - 0.6).powi(2)).min(1.0) } else { 0.10 };
            let dim = if light == 0 { 0.0 } else { 0.14 };
            colour.mix(BLACK, dim).mix(lamp, pool)
        },
    );
    if game == Game::Basketball {
        canvas.mirror(
            border,
            1.0,
            |x, depth| 0.01 * (noise(x * 20.0, depth * 60.0, seed) - 0.5),
            |depth| (0.26 - depth * 0.5).max(0.0),
        );
    }
}

fn lines(canvas: &mut Canvas, shot: &Shot, lens: &Lens, game: Game) {
    let chalk = rgb(0xF8_F8F4);
    match game {
        Game::Football => {
            lens.frame(canvas, [-1.5, 0.0, 1.5, 1.25], chalk);
            lens.mark(canvas, (0.0, 0.0), (0.0, 1.25), chalk);
            lens.arc(canvas, (0.0, 0.625), 0.26, (0.0, TAU), chalk);
            for side in [-1.0, 1.0] {
                lens.frame(canvas, [side * 1.5, 0.25, side * 1.02, 1.0], chalk);
                lens.frame(canvas, [side * 1.5, 0.45, side * 1.30, 0.80], chalk);
                let post = |away: f32, up: f32, back: f32| lens.at(side * (1.5 + back), away, up);
                let thick = 0.022 * lens.scale(0.6);
                for k in 0..=6 {
                    let away = 0.5 + 0.25 * k as f32 / 6.0;
                    canvas.stroke(post(away, 0.2, 0.0), post(away, 0.0, 0.16), thick * 0.2, chalk.mix(BLACK, 0.2));
                    let up = 0.2 * k as f32 / 6.0;
                    canvas.stroke(
                        post(0.5, up, 0.16 * (1.0 - up / 0.2)),
                        post(0.75, up, 0.16 * (1.0 - up / 0.2)),
                        thick * 0.2,
                        chalk.mix(BLACK, 0.2),
                    );
                }
                canvas.stroke(post(0.5, 0.0, 0.0), post(0.5, 0.2, 0.0), thick, chalk);
                canvas.stroke(post(0.75, 0.0, 0.0), post(0.75, 0.2, 0.0), thick, chalk);
                canvas.stroke(post(0.5, 0.2, 0.0), post(0.75, 0.2, 0.0), thick, chalk);
            }
        }
        Game::Tennis => {
            lens.frame(canvas, [-0.66, 0.0, 0.66, 1.42], chalk);
            lens.frame(canvas, [-0.50, 0.0, 0.50, 1.42], chalk);
            lens.frame(canvas, [-0.50, 0.34, 0.50, 1.08], chalk);
            lens.mark(canvas, (0.0, 0.34), (0.0, 1.08), chalk);
            let (left, right, up) = (-0.76, 0.76, 0.12);
            for k in 0..=44 {
                let across = left + (right - left) * k as f32 / 44.0;
                canvas.stroke(lens.at(across, 0.71, 0.0), lens.at(across, 0.71, up), 0.0012, rgb(0x22_2828));
            }
            for k in 0..=6 {
                let up = up * k as f32 / 6.0;
                canvas.stroke(lens.at(left, 0.71, up), lens.at(right, 0.71, up), 0.0012, rgb(0x22_2828));
            }
            canvas.stroke(lens.at(left, 0.71, up), lens.at(right, 0.71, up), 0.009, chalk);
            for post in [left, right] {
                canvas.stroke(lens.at(post, 0.71, 0.0), lens.at(post, 0.71, up + 0.01), 0.009, rgb(0x30_3430));
            }
        }
        Game::Basketball => {
            lens.frame(canvas, [-1.25, 0.0, 1.25, 1.5], chalk);
            lens.frame(canvas, [-0.27, 0.88, 0.27, 1.5], chalk);
            lens.arc(canvas, (0.0, 0.88), 0.27, (PI, TAU), chalk);
            lens.arc(canvas, (0.0, 1.42), 0.86, (PI, TAU), chalk);
            lens.arc(canvas, (0.0, 0.0), 0.30, (0.0, PI), chalk);
            let ((x, y), scale) = (lens.at(0.0, 1.46, 0.62), lens.scale(1.46));
            let paint = hsv(shot.item(27), 0.7, 0.7);
            canvas.stroke(lens.at(0.0, 1.6, 0.0), (x, y), 0.05 * scale, rgb(0x3C_4048));
            canvas.bar([x - 0.34 * scale, y - 0.26 * scale, x + 0.34 * scale, y + 0.20 * scale], 0.004, paint);
            canvas.bar([x - 0.31 * scale, y - 0.23 * scale, x + 0.31 * scale, y + 0.17 * scale], 0.002, rgb(0xF4_F8FC));
            canvas.bar([x - 0.12 * scale, y - 0.08 * scale, x + 0.12 * scale, y + 0.13 * scale], 0.002, paint);
            canvas.bar([x - 0.10 * scale, y - 0.06 * scale, x + 0.10 * scale, y + 0.13 * scale], 0.002, rgb(0xF4_F8FC));
            let hoop = y + 0.16 * scale;
            for k in 0..9 {
                let off = (k as f32 / 4.0 - 1.0) * 0.14 * scale;
                canvas.stroke((x + off, hoop), (x + off * 0.55, hoop + 0.18 * scale), 0.004 * scale.max(0.3), WHITE);
            }
            canvas.ellipse(x, hoop, 0.15 * scale, 0.04 * scale, rgb(0xF0_5A18));
            canvas.ellipse(x, hoop, 0.12 * scale, 0.022 * scale, rgb(0x6A_2810));
        }
    }
}

fn floodlights(canvas: &mut Canvas, border: f32, lamp: Colour, stands: Colour) {
    for (k, x) in [0.06, 0.34, 0.66, 0.94].into_iter().enumerate() {
        let (x, y) = (WIDE * x, 0.05 + 0.03 * (k % 2) as f32);
        canvas.stroke((x, y), (x, border), 0.008, stands.mix(BLACK, 0.4));
        canvas.bar([x - 0.06, y - 0.03, x + 0.06, y + 0.03], 0.004, stands.mix(BLACK, 0.5));
        for bulb in 0..8 {
            let (bx, by) = (x - 0.045 + 0.03 * (bulb % 4) as f32, y - 0.014 + 0.028 * (bulb / 4) as f32);
            canvas.disc(bx, by, 0.011, WHITE);
        }
        canvas.glow(x, y, 0.34, lamp, 0.75);
    }
}

fn players(canvas: &mut Canvas, shot: &Shot, lens: &Lens, game: Game, length: f32) {
    let hue = shot.item(40);
    let kits = [hsv(hue, 0.85, 0.85), if shot.item(41) < 0.5 { rgb(0xF4_F4F0) } else { hsv(hue + 0.45, 0.8, 0.7) }];
    let count = if game == Game::Tennis { 2 } else { 8 };
    let tall = if game == Game::Football { 0.24 } else { 0.34 };
    let mut places: Vec<(f32, f32, usize)> = (0..count)
        .map(|k| {
            let name = k as u64;
            let sway = 0.12 * (shot.t * (0.5 + 0.4 * shot.own(42 + name)) + name as f32 * 1.7).sin();
            if game == Game::Tennis {
                (0.4 * (shot.own(52 + name) - 0.5) + sway * 2.0, if k == 0 { 0.10 } else { length - 0.05 }, k)
            } else {
                let across = 1.9 * (shot.own(52 + name) - 0.5) + lens.aside * 0.6 + sway;
                (across, length * (0.06 + 0.86 * (k as f32 + shot.own(62 + name)) / count as f32), k)
            }
        })
        .collect();
    places.sort_by(|a, b| b.1.total_cmp(&a.1));
    let phase = (shot.t * 0.55 + shot.own(80)).rem_euclid(2.0);
    let share = if phase < 1.0 { phase } else { 2.0 - phase };
    let (from, to) = (places[0], places[places.len() - 1]);
    let (across, away) = (to.0 + (from.0 - to.0) * share, to.1 + (from.1 - to.1) * share);
    let up = 0.04 + if game == Game::Football { 0.14 } else { 0.42 } * (share * PI).sin();
    for &(px, pz, k) in &places {
        figure(canvas, shot, lens, (px, pz), tall, kits[k % 2], k, game);
    }
    let (x, y) = lens.at(across, away, up);
    let (sx, sy) = lens.at(across, away, 0.0);
    let radius = lens.scale(away) * [0.036, 0.026, 0.055][game as usize];
    canvas.ellipse(sx, sy, radius * 1.2, radius * 0.4, BLACK.mix(rgb(0x20_4020), 0.4));
    let colour = [rgb(0xFC_FCFC), rgb(0xDC_F434), rgb(0xE4_7020)][game as usize];
    canvas.disc(x, y, radius, colour.mix(BLACK, 0.35));
    canvas.disc(x - radius * 0.1, y - radius * 0.12, radius * 0.86, colour);
    if game != Game::Tennis {
        let (sin, cos) = (shot.t * 4.0).sin_cos();
        canvas.disc(x, y, radius * 0.28, if game == Game::Football { BLACK } else { colour });
        canvas.stroke(
            (x - cos * radius * 0.9, y - sin * radius * 0.9),
            (x + cos * radius * 0.9, y + sin * radius * 0.9),
            radius * 0.13,
            BLACK,
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "a player is one stroke with many paints")]
fn figure(
    canvas: &mut Canvas,
    shot: &Shot,
    lens: &Lens,
    place: (f32, f32),
    tall: f32,
    kit: Colour,
    number: usize,
    game: Game,
) {
    let name = number as u64;
    let (x, y) = lens.at(place.0, place.1, 0.0);
    let size = tall * lens.scale(place.1);
    let way = if shot.own(90 + name) < 0.5 { 1.0 } else { -1.0 };
    let at = |dx: f32, dy: f32| (x + way * dx * size, y - dy * size);
    let skin = [rgb(0xF0_C4A0), rgb(0xC0_8458), rgb(0x7A_4A30)][shot.item_of(100 + name, 3)];
    let shorts = if game == Game::Tennis { rgb(0xF4_F4F4) } else { kit.mix(BLACK, 0.45) };
    canvas.ellipse(x + size * 0.15, y, size * 0.36, size * 0.07, rgb(0x14_2018));
    let stride = (shot.t * 6.0 + number as f32 * 1.3).sin();
    for leg in [-1.0, 1.0] {
        let swing = 0.20 * stride * leg;
        canvas.taper(
            at(0.03 * leg, 0.46),
            at(0.05 + swing * 0.6, 0.24),
            size * 0.13,
            size * 0.09,
            skin.mix(BLACK, 0.1),
        );
        canvas.taper(at(0.05 + swing * 0.6, 0.24), at(swing, 0.02), size * 0.09, size * 0.06, kit.mix(WHITE, 0.3));
        canvas.stroke(at(swing, 0.015), at(swing + 0.06, 0.015), size * 0.05, BLACK);
        canvas.taper(at(0.03 * leg, 0.48), at(0.04 + swing * 0.35, 0.36), size * 0.16, size * 0.14, shorts);
    }
    let raised = if game == Game::Football { 0.0 } else { 0.3 };
    for arm in [-1.0, 1.0] {
        let swing = -0.16 * stride * arm;
        let lift = if arm > 0.0 { raised } else { 0.0 };
        let hand = at(0.12 * arm + 0.1 + swing, 0.50 + lift);
        canvas.taper(at(0.08 * arm, 0.75), hand, size * 0.085, size * 0.055, skin);
        if game == Game::Tennis && arm > 0.0 {
            let tip = (hand.0 + way * size * 0.16, hand.1 - size * 0.14);
            canvas.stroke(hand, tip, size * 0.03, BLACK);
            canvas.ring(tip.0 + way * size * 0.07, tip.1 - size * 0.06, size * 0.10, size * 0.025, rgb(0xD0_3028));
        }
    }
    canvas.taper(at(0.0, 0.50), at(0.03, 0.74), size * 0.20, size * 0.25, kit);
    canvas.stroke(at(0.0, 0.58), at(0.0, 0.68), size * 0.05, kit.mix(WHITE, 0.75));
    let (hx, hy) = at(0.05, 0.93);
    canvas.disc(hx, hy, size * 0.085, skin);
    canvas.ellipse(
        hx - way * size * 0.015,
        hy - size * 0.035,
        size * 0.088,
        size * 0.06,
        hsv(0.07, 0.5, 0.1 + 0.5 * shot.item(110 + name).powi(2)),
    );
}
