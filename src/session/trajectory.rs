//! Where are the frames heading? Means of what was on screen, and a cautious guess at what comes next.

use crate::domain::{Embedding, Motion};

/// Half-life of [`Trajectory::fast_mean`], in seconds of media time.
const FAST_HALF_LIFE_S: f64 = 5.0;
/// Half-life of [`Trajectory::slow_mean`].
const SLOW_HALF_LIFE_S: f64 = 30.0;
/// Half-life of the velocity: long enough to outlast the jitter of single frames.
const VELOCITY_HALF_LIFE_S: f64 = 3.0;
/// The trend's damping: all of it that is still to come adds up to the velocity times this.
const DAMPING_S: f64 = 8.0;
/// The farthest that the trend leaves the last frame, as a length beside its unit vector (0.5 is 27 degrees).
const MAX_TREND: f64 = 0.5;
/// How soon an unsteady scene is expected to look like its mean again.
const SCENE_RETURN_S: f64 = 2.0;
/// How soon, after that, the next scenes are expected to look like those of the last minute.
const SESSION_RETURN_S: f64 = 8.0;
/// Half-life of [`Trajectory::motion_energy`].
const ENERGY_HALF_LIFE_S: f64 = 10.0;
/// Media time that moves on by more than this was skipped, not watched.
const MAX_GAP_S: f64 = 20.0;
/// A frame that is older than the last by no more than this was overtaken on its way; the viewer did not go back.
const MAX_DISORDER_S: f64 = 1.0;
/// Frames closer than this say nothing about velocity.
const MIN_STEP_S: f64 = 0.001;
/// Below this number of changes steadiness cannot be told.
const MIN_CHANGES: f64 = 1.5;
/// The time that a frame stands for when its predecessor does not tell: the first one, the first after a seek.
const NOMINAL_STEP_S: f64 = 1.0;

/// The course of one session's frames through embedding space, in constant memory: five vectors.
///
/// Every mean weighs frames by the media time they stand for, so it does not depend on the frame rate.
/// A cut or a jump of the media time (back, or on by more than 20 s) starts a new scene; an embedding with another number of
/// dimensions than the last starts a new trajectory.
#[derive(Debug, Clone, Default)]
pub struct Trajectory {
    last: Option<Embedding>,
    last_at_s: f64,
    scene_started_s: f64,
    scene: WeightedSum,
    fast: WeightedSum,
    slow: WeightedSum,
    /// Of changes a second, within the scene.
    velocity: WeightedSum,
    /// The weighted sum of the squared lengths of those changes.
    velocity_squares: f64,
    /// The sum of the squared weights: with the weight it says how many changes count.
    velocity_weight_squares: f64,
    energy: f64,
    energy_weight: f64,
    frames: u64,
}

impl Trajectory {
    /// Takes in a frame at `at_s` seconds of media time that looks like `embedding` and differs from the last by `motion`.
    pub fn observe(&mut self, at_s: f64, embedding: &Embedding, motion: Motion) {
        if self.last.as_ref().is_some_and(|last| last.dims() != embedding.dims()) {
            *self = Self::default();
        }
        let step_s = self.step(at_s, motion);
        let last = self.last.replace(embedding.clone());
        if let Some(last) = last.filter(|_| self.scene.weight > 0.0) {
            self.add_change(&last, embedding, step_s);
        }
        self.weigh_in(embedding, step_s);
    }

    /// Takes in a frame that looks like the last one; its embedding stands for this one too.
    pub fn observe_repeat(&mut self, at_s: f64, motion: Motion) {
        let Some(last) = self.last.clone() else { return };
        let step_s = self.step(at_s, motion);
        if self.scene.weight > 0.0 {
            self.add_change(&last, &last, step_s);
        }
        self.weigh_in(&last, step_s);
    }

    /// What may be on screen in `ahead_s` seconds; `None` before the first frame.
    ///
    /// A forecast that trusts a trend as far as the trend is steady:
    ///
    /// - the *trend* is the mean velocity times `τ (1 − exp(−ahead / τ))`, so it dies away (exponential smoothing's damped trend,
    ///   in continuous time), and is never longer than half the unit vector it starts from. It counts with the
    ///   [`steadiness`](Self::steadiness) of the velocity: 1 for a drift in a straight line, 0 for mere jitter;
    /// - as far as it does not count, the forecast *returns*: within some two seconds to the mean of the scene, and within
    ///   some eight to the slow mean, since by then there may be another scene.
    ///
    /// On embeddings of real videos (four frames a second, over cuts) a damped trend alone came out farther from the later frame than
    /// the last frame itself at every distance; this came out nearer than the last frame and than each mean: mean cosine
    /// .756 against .712 (last) and .739 (scene) at 2 s, .581 against .454 (last) and .574 (slow mean) at 15 s.
    pub fn extrapolate(&self, ahead_s: f64) -> Option<Embedding> {
        let last = self.last.as_ref()?;
        if !ahead_s.is_finite() || ahead_s <= 0.0 {
            return Some(last.clone());
        }
        let approach = |time_s: f64| -(-ahead_s / time_s).exp_m1();
        let steadiness = self.steadiness();
        let trend_s = (DAMPING_S * approach(DAMPING_S)).min(MAX_TREND / self.speed().max(1e-9));
        let trend = steadiness * trend_s / self.velocity.weight.max(1e-9);
        let to_means = (1.0 - steadiness) * approach(SCENE_RETURN_S);
        let to_slow = to_means * approach(SESSION_RETURN_S) / self.slow.length().max(1e-9);
        let to_scene = to_means * (1.0 - approach(SESSION_RETURN_S)) / self.scene.length().max(1e-9);
        let mut ahead: Vec<f32> = last.as_slice().iter().map(|&x| x * (1.0 - to_means) as f32).collect();
        for (sum, share) in [(&self.velocity, trend), (&self.scene, to_scene), (&self.slow, to_slow)] {
            for (ahead, &value) in ahead.iter_mut().zip(&sum.sum) {
                *ahead += value * share as f32;
            }
        }
        // What points nowhere (a scene that is the opposite of the last frame) leaves the last frame.
        Embedding::unit(ahead).ok().or_else(|| Some(last.clone()))
    }

    /// How steady the velocity is, 0 to 1: the share of its energy that is drift, not jitter.
    ///
    /// The squared mean of `n` independent changes is `1/n` of their mean square, that of equal ones all of it; between
    /// the two it is interpolated.
    pub fn steadiness(&self) -> f64 {
        let weight = self.velocity.weight;
        if self.velocity_squares <= 0.0 || self.velocity_weight_squares <= 0.0 {
            return 0.0;
        }
        let changes = weight * weight / self.velocity_weight_squares;
        if changes < MIN_CHANGES {
            return 0.0;
        }
        let ratio = self.speed().powi(2) * weight / self.velocity_squares;
        ((ratio * changes - 1.0) / (changes - 1.0)).clamp(0.0, 1.0)
    }

    /// The last frame's embedding.
    pub fn last(&self) -> Option<&Embedding> {
        self.last.as_ref()
    }

    /// The mean of the present scene.
    pub fn scene_mean(&self) -> Option<Embedding> {
        self.scene.direction()
    }

    /// The mean of everything seen, with a half-life of 5 s.
    pub fn fast_mean(&self) -> Option<Embedding> {
        self.fast.direction()
    }

    /// The mean of everything seen, with a half-life of 30 s.
    pub fn slow_mean(&self) -> Option<Embedding> {
        self.slow.direction()
    }

    /// How fast the embedding changes, in lengths of a unit vector a second.
    pub fn speed(&self) -> f64 {
        if self.velocity.weight > 0.0 { self.velocity.length() / self.velocity.weight } else { 0.0 }
    }

    /// For how many seconds of media time the present scene has lasted.
    pub fn scene_age_s(&self) -> f64 {
        self.last_at_s - self.scene_started_s
    }

    /// The mean energy of the motion between frames, 0 to 1, with a half-life of 10 s.
    pub fn motion_energy(&self) -> f32 {
        if self.energy_weight > 0.0 { (self.energy / self.energy_weight) as f32 } else { 0.0 }
    }

    /// The media time of the last frame, in seconds.
    pub fn last_at_s(&self) -> Option<f64> {
        self.last.as_ref().map(|_| self.last_at_s)
    }

    /// How many frames were taken in, repeats included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Heap bytes in use.
    pub fn heap_bytes(&self) -> usize {
        let sums = [&self.scene, &self.fast, &self.slow, &self.velocity];
        let floats =
            sums.iter().map(|s| s.sum.capacity()).sum::<usize>() + self.last.as_ref().map_or(0, Embedding::dims);
        floats * size_of::<f32>()
    }

    /// Moves on to `at_s`, begins a new scene where there is reason to, and says how long the frame stands for.
    fn step(&mut self, at_s: f64, motion: Motion) -> f64 {
        let first = self.last.is_none();
        let at_s = if at_s.is_finite() { at_s } else { self.last_at_s + NOMINAL_STEP_S };
        let gap_s = at_s - self.last_at_s;
        let jumped = !first && !(-MAX_DISORDER_S..=MAX_GAP_S).contains(&gap_s);
        if first || jumped || motion.cut {
            self.scene_started_s = at_s;
            self.scene.clear();
            self.velocity.clear();
            self.velocity_squares = 0.0;
            self.velocity_weight_squares = 0.0;
        }
        let step_s = if first || jumped { NOMINAL_STEP_S } else { gap_s.max(0.0) };
        self.last_at_s = if first || jumped { at_s } else { at_s.max(self.last_at_s) };
        self.frames += 1;
        if !first && !jumped && motion.energy.is_finite() {
            let keep = decay(step_s, ENERGY_HALF_LIFE_S);
            self.energy = self.energy * keep + f64::from(motion.energy) * (1.0 - keep);
            self.energy_weight = self.energy_weight * keep + (1.0 - keep);
        }
        step_s
    }

    fn add_change(&mut self, from: &Embedding, to: &Embedding, step_s: f64) {
        if step_s < MIN_STEP_S {
            return;
        }
        let per_s = (1.0 / step_s) as f32;
        let change = from.as_slice().iter().zip(to.as_slice()).map(|(&from, &to)| (to - from) * per_s);
        let squares: f64 = change.clone().map(|c| f64::from(c) * f64::from(c)).sum();
        let keep = decay(step_s, VELOCITY_HALF_LIFE_S);
        self.velocity_squares = self.velocity_squares * keep + squares * (1.0 - keep);
        self.velocity_weight_squares = self.velocity_weight_squares * keep * keep + (1.0 - keep) * (1.0 - keep);
        self.velocity.add(change, step_s, Some(VELOCITY_HALF_LIFE_S));
    }

    fn weigh_in(&mut self, embedding: &Embedding, step_s: f64) {
        self.scene.add(embedding.as_slice().iter().copied(), step_s, None);
        self.fast.add(embedding.as_slice().iter().copied(), step_s, Some(FAST_HALF_LIFE_S));
        self.slow.add(embedding.as_slice().iter().copied(), step_s, Some(SLOW_HALF_LIFE_S));
    }
}

/// A sum of weighted vectors and the sum of the weights.
#[derive(Debug, Clone, Default)]
struct WeightedSum {
    sum: Vec<f32>,
    weight: f64,
}

impl WeightedSum {
    /// Adds `values`, which stand for `step_s` seconds, after what was there before has decayed for as long.
    fn add(&mut self, values: impl ExactSizeIterator<Item = f32>, step_s: f64, half_life_s: Option<f64>) {
        let (keep, weight) = match half_life_s {
            Some(half_life_s) => {
                let keep = decay(step_s, half_life_s);
                (keep, 1.0 - keep)
            }
            None => (1.0, step_s),
        };
        self.sum.resize(values.len(), 0.0);
        for (sum, value) in self.sum.iter_mut().zip(values) {
            *sum = *sum * keep as f32 + value * weight as f32;
        }
        self.weight = self.weight * keep + weight;
    }

    fn clear(&mut self) {
        self.sum.fill(0.0);
        self.weight = 0.0;
    }

    fn length(&self) -> f64 {
        self.sum.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
    }

    fn direction(&self) -> Option<Embedding> {
        if self.weight <= 0.0 { None } else { Embedding::unit(self.sum.clone()).ok() }
    }
}

/// The share that is left after `elapsed_s`.
fn decay(elapsed_s: f64, half_life_s: f64) -> f64 {
    (-elapsed_s / half_life_s).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STILL: Motion = Motion { energy: 0.01, dx: 0.0, dy: 0.0, cut: false };
    const CUT: Motion = Motion { energy: 0.3, dx: 0.0, dy: 0.0, cut: true };

    /// A point `turn` radians along a great circle through eight dimensions.
    fn at_angle(turn: f64) -> Embedding {
        let values = (0..8).map(|i| if i % 2 == 0 { turn.cos() } else { turn.sin() } as f32).collect();
        Embedding::unit(values).unwrap()
    }

    fn axis(index: usize) -> Embedding {
        let mut values = vec![0.0; 8];
        values[index] = 1.0;
        Embedding::unit(values).unwrap()
    }

    /// `frames` frames that drift by `per_s` radians a second.
    fn drift(per_s: f64, step_s: f64, frames: u32) -> Trajectory {
        let mut trajectory = Trajectory::default();
        for frame in 0..frames {
            let at_s = f64::from(frame) * step_s;
            trajectory.observe(at_s, &at_angle(at_s * per_s), STILL);
        }
        trajectory
    }

    #[test]
    fn before_the_first_frame_there_is_nothing() {
        let mut trajectory = Trajectory::default();
        trajectory.observe_repeat(1.0, STILL);
        assert_eq!(trajectory.frames(), 0);
        assert!(trajectory.last().is_none() && trajectory.extrapolate(15.0).is_none());
        assert!(trajectory.scene_mean().is_none() && trajectory.fast_mean().is_none());
        assert_eq!((trajectory.motion_energy(), trajectory.speed()), (0.0, 0.0));
    }

    #[test]
    fn one_frame_is_all_there_is() {
        let mut trajectory = Trajectory::default();
        trajectory.observe(7.0, &axis(0), STILL);
        for mean in [trajectory.scene_mean(), trajectory.slow_mean(), trajectory.extrapolate(30.0)] {
            assert!(mean.unwrap().cosine(&axis(0)) > 0.999_99);
        }
        assert_eq!(trajectory.scene_age_s(), 0.0);
    }

    #[test]
    fn a_drift_is_followed_and_damped() {
        let trajectory = drift(0.02, 0.5, 20);
        let last = trajectory.last().unwrap().clone();
        assert!(trajectory.steadiness() > 0.95, "{}", trajectory.steadiness());
        assert!((trajectory.speed() - 0.02).abs() < 0.002);
        let mut before = 1.0;
        for ahead_s in [1.0, 5.0, 15.0, 30.0, 60.0, 600.0] {
            let ahead = trajectory.extrapolate(ahead_s).unwrap();
            let later = at_angle((9.5 + ahead_s) * 0.02);
            assert!(ahead.cosine(&later) > last.cosine(&later) || ahead_s > 60.0, "{ahead_s}");
            // Farther and farther, but never by more than the velocity times the damping.
            let cosine = ahead.cosine(&last);
            assert!(cosine <= before + 1e-6 && cosine > (0.02_f32 * 8.0).cos() - 1e-3, "{ahead_s}: {cosine}");
            before = cosine;
        }
    }

    #[test]
    fn jitter_is_not_followed_but_averaged() {
        let mut trajectory = Trajectory::default();
        for frame in 0..40 {
            trajectory.observe(f64::from(frame) * 0.5, &at_angle(if frame % 2 == 0 { -0.2 } else { 0.2 }), STILL);
        }
        assert!(trajectory.steadiness() < 0.1);
        assert!(trajectory.extrapolate(15.0).unwrap().cosine(&at_angle(0.0)) > 0.999);
    }

    #[test]
    fn a_cut_starts_a_scene_and_leaves_the_means_of_the_session() {
        let mut trajectory = drift(0.0, 1.0, 10);
        trajectory.observe(10.0, &axis(1), CUT);
        trajectory.observe(12.0, &axis(1), STILL);
        assert!(trajectory.scene_mean().unwrap().cosine(&axis(1)) > 0.999);
        assert_eq!(trajectory.scene_age_s(), 2.0);
        assert_eq!(trajectory.speed(), 0.0);
        let slow = trajectory.slow_mean().unwrap();
        assert!(slow.cosine(&at_angle(0.0)) > slow.cosine(&axis(1)));
        let (near, far) = (trajectory.extrapolate(2.0).unwrap(), trajectory.extrapolate(60.0).unwrap());
        assert!(near.cosine(&axis(1)) > far.cosine(&axis(1)), "the longer ahead, the likelier another scene");
    }

    #[test]
    fn a_seek_starts_a_scene_and_disorder_does_not() {
        for (at_s, new_scene) in [(9.8, false), (8.0, true), (30.0, true), (28.0, false), (f64::NAN, false)] {
            let mut trajectory = drift(0.02, 0.5, 20);
            trajectory.observe(at_s, &at_angle(0.2), STILL);
            assert_eq!(trajectory.scene_age_s() == 0.0, new_scene, "{at_s}");
            assert_eq!(trajectory.speed() == 0.0, new_scene, "{at_s}");
        }
    }

    #[test]
    fn repeats_make_time_pass_and_slow_the_drift() {
        let mut trajectory = drift(0.02, 0.5, 20);
        let speed = trajectory.speed();
        for step in 1..=6 {
            trajectory.observe_repeat(9.5 + f64::from(step), STILL);
        }
        assert!(trajectory.speed() < speed / 3.0);
        assert_eq!(trajectory.last_at_s(), Some(15.5));
        assert_eq!(trajectory.frames(), 26);
        let (mean, last) = (trajectory.fast_mean().unwrap(), trajectory.last().unwrap());
        assert!(mean.cosine(last) > drift(0.02, 0.5, 20).fast_mean().unwrap().cosine(last));
    }

    #[test]
    fn the_frame_rate_does_not_change_the_means() {
        let (few, many) = (drift(0.05, 1.0, 41), drift(0.05, 0.125, 321));
        assert!(few.slow_mean().unwrap().cosine(&many.slow_mean().unwrap()) > 0.999);
        assert!(few.fast_mean().unwrap().cosine(&many.fast_mean().unwrap()) > 0.999);
    }

    #[test]
    fn another_number_of_dimensions_starts_over() {
        let mut trajectory = drift(0.02, 0.5, 20);
        trajectory.observe(10.0, &Embedding::unit(vec![1.0, 0.0]).unwrap(), STILL);
        assert_eq!((trajectory.frames(), trajectory.extrapolate(15.0).unwrap().dims()), (1, 2));
    }

    proptest! {
        #[test]
        fn whatever_comes_the_forecast_is_a_unit_vector(
            steps in proptest::collection::vec(
                (-30.0_f64..40.0, proptest::collection::vec(-1.0_f32..1.0, 6), any::<bool>(), 0_u8..8), 1..60),
            ahead_s in 0.0_f64..1000.0,
        ) {
            let mut trajectory = Trajectory::default();
            let mut at_s = 0.0;
            for (step_s, values, repeat, kind) in steps {
                at_s += step_s * [0.0, 0.01, 0.1, 1.0][usize::from(kind % 4)];
                let motion = if kind == 7 { CUT } else { STILL };
                match Embedding::unit(values) {
                    Ok(embedding) if !repeat => trajectory.observe(at_s, &embedding, motion),
                    _ => trajectory.observe_repeat(at_s, motion),
                }
                if let Some(ahead) = trajectory.extrapolate(ahead_s) {
                    let length: f32 = ahead.as_slice().iter().map(|v| v * v).sum();
                    prop_assert!((length - 1.0).abs() < 1e-4);
                }
                prop_assert!((0.0..=1.0).contains(&trajectory.steadiness()));
                prop_assert!(trajectory.scene_age_s() >= 0.0);
                prop_assert!((0.0..=1.0).contains(&trajectory.motion_energy()));
                prop_assert!(trajectory.heap_bytes() <= 5 * 6 * 4 + 96);
            }
        }
    }
}
