//! Where are the frames heading? Means of what was on screen, and a cautious guess at what comes next.

use crate::domain::{Embedding, Motion};

/// Half-life of [`Trajectory::fast_mean`], in seconds of media time.
const FAST_HALF_LIFE_S: f64 = 5.0;
/// Half-life of [`Trajectory::slow_mean`].
const SLOW_HALF_LIFE_S: f64 = 30.0;
/// Half-life of the velocity: long enough to outlast the jitter of single frames.
const VELOCITY_HALF_LIFE_S: f64 = 3.0;
/// The extrapolation's damping: all movement still to come adds up to the velocity times this.
const DAMPING_S: f64 = 8.0;
/// The farthest that an extrapolation leaves the last frame, as a length beside its unit vector (0.5 is 27 degrees).
const MAX_STEP: f64 = 0.5;
/// Half-life of [`Trajectory::motion_energy`].
const ENERGY_HALF_LIFE_S: f64 = 10.0;
/// Media time that moves on by more than this was skipped, not watched.
const MAX_GAP_S: f64 = 20.0;
/// The time that a frame stands for when its predecessor does not tell: the first one, the first after a seek.
const NOMINAL_STEP_S: f64 = 1.0;

/// The course of one session's frames through embedding space, in constant memory: five vectors.
///
/// Every mean weighs frames by the media time they stand for, so it does not depend on the frame rate.
/// A jump of the media time (back, or on by more than 20 s) or an embedding of another dimension than the last starts a new scene;
/// another dimension also forgets everything before it.
#[derive(Debug, Clone, Default)]
pub struct Trajectory {
    last: Option<Embedding>,
    last_at_s: f64,
    scene_started_s: f64,
    scene: WeightedSum,
    fast: WeightedSum,
    slow: WeightedSum,
    velocity: WeightedSum,
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
        if let Some(last) = &self.last
            && self.scene.weight > 0.0
            && step_s > 0.0
        {
            let change =
                embedding.as_slice().iter().zip(last.as_slice()).map(|(&new, &old)| (new - old) / step_s as f32);
            self.velocity.add(change, step_s, Some(VELOCITY_HALF_LIFE_S));
        }
        self.weigh_in(embedding, step_s);
        self.last = Some(embedding.clone());
    }

    /// Takes in a frame that looks like the last one; its embedding stands for this one too.
    pub fn observe_repeat(&mut self, at_s: f64, motion: Motion) {
        let Some(last) = self.last.clone() else { return };
        let step_s = self.step(at_s, motion);
        self.velocity.add(std::iter::repeat_n(0.0, last.dims()), step_s, Some(VELOCITY_HALF_LIFE_S));
        self.weigh_in(&last, step_s);
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

    /// Where the frames may be in `ahead_s` seconds; `None` before the first frame.
    ///
    /// A linear trend, damped (exponential smoothing's damped trend, in continuous time): the step is the velocity times
    /// `τ (1 − exp(−ahead / τ))`, and never longer than half the unit vector it starts from.
    pub fn extrapolate(&self, ahead_s: f64) -> Option<Embedding> {
        let last = self.last.as_ref()?;
        if self.velocity.weight <= 0.0 || !ahead_s.is_finite() || ahead_s <= 0.0 {
            return Some(last.clone());
        }
        let damped_s = DAMPING_S * -(-ahead_s / DAMPING_S).exp_m1();
        let speed = self.speed();
        let scale = damped_s.min(MAX_STEP / speed.max(1e-9)) / self.velocity.weight;
        let ahead = last.as_slice().iter().zip(&self.velocity.sum).map(|(&x, &v)| x + v * scale as f32).collect();
        Embedding::unit(ahead).ok().or_else(|| Some(last.clone()))
    }

    /// How fast the embedding changes, in lengths of a unit vector a second.
    pub fn speed(&self) -> f64 {
        if self.velocity.weight <= 0.0 {
            return 0.0;
        }
        let squares: f64 = self.velocity.sum.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        squares.sqrt() / self.velocity.weight
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
        let jumped = !first && !(0.0..=MAX_GAP_S).contains(&gap_s);
        if first || jumped || motion.cut {
            self.scene_started_s = at_s;
            self.scene.clear();
            self.velocity.clear();
        }
        let step_s = if first || jumped { NOMINAL_STEP_S } else { gap_s };
        self.last_at_s = at_s;
        self.frames += 1;
        if !first && !jumped && motion.energy.is_finite() {
            let keep = decay(step_s, ENERGY_HALF_LIFE_S);
            self.energy = self.energy * keep + f64::from(motion.energy) * (1.0 - keep);
            self.energy_weight = self.energy_weight * keep + (1.0 - keep);
        }
        step_s
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

    fn direction(&self) -> Option<Embedding> {
        if self.weight <= 0.0 { None } else { Embedding::unit(self.sum.clone()).ok() }
    }
}

/// The share that is left after `elapsed_s`.
fn decay(elapsed_s: f64, half_life_s: f64) -> f64 {
    (-elapsed_s / half_life_s).exp2()
}
