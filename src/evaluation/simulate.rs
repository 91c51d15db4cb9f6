//! What would people click, look at and watch? Seeded logs of many kinds, from which the shipped weights are learned.
//!
//! Items have a topic, a look, a popularity and a release date; people have favourite topics, and come for a handful
//! of items that are in fashion. A session walks from item
//! to item: on to a usual successor, to something of the same cluster or topic (maybe the most alike of a few), back to
//! something seen, to something popular, or away. Some sessions have frames on screen, which look like the current item and sometimes
//! a little like the next one; some play media, and move on when it ends. [`mixture`] spans quiet and busy, small and
//! large, chaotic and predictable sites, so that weights learned on all of them suit one that was never seen.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::click_log::{ClickLog, Session};
use super::gather::Surroundings;
use super::replay::Stop;
use crate::domain::{ItemNo, Timestamp, dot};
use crate::ranking::{Candidate, RequestContext, TrajectoryCosines};

/// Dimensions of the simulated looks.
const DIMS: usize = 24;

/// How many of the newest items are proposed where items are described, as the service does.
const NEWEST: usize = 20;

/// How many items the frame on screen proposes.
const LOOK_ALIKES: usize = 30;

/// When simulated time begins: 2024-01-01.
const BEGINNING_S: f64 = 1_704_067_200.0;

/// A kind of site. Shares are of a session's steps; what is left over goes to popular items of any topic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulationSettings {
    /// Items in the catalogue.
    pub items: usize,
    /// Topics; some are far more popular than others.
    pub topics: usize,
    /// Items in a cluster.
    pub cluster_size: usize,
    /// Sessions.
    pub sessions: usize,
    /// Days over which they are spread.
    pub days: f64,
    /// Exponent of the popularity within a topic.
    pub zipf: f64,
    /// Share of items released while the log runs; they start out popular and fade.
    pub released: f64,
    /// Days after which a released item's popularity has halved.
    pub fade_days: f64,
    /// Share of steps to a usual successor.
    pub chain: f64,
    /// Share of steps within the item's cluster: what people compare with each other.
    pub cluster: f64,
    /// Share of steps within what the session came for: a handful of items that others came for, too.
    pub intent: f64,
    /// Days for which an intent is in fashion.
    pub intent_days: f64,
    /// Share of steps within the topic.
    pub topic: f64,
    /// Share of steps back to an item of the session.
    pub repeat: f64,
    /// Of the steps within the topic, the share that goes to the most alike of a few items.
    pub visual: f64,
    /// Chance that a session ends after a step.
    pub end: f64,
    /// Median seconds on an item.
    pub dwell_s: f64,
    /// Spread of that (standard deviation of its logarithm).
    pub dwell_spread: f64,
    /// Share of sessions that play media.
    pub playback: f64,
    /// Share of sessions with frames.
    pub frames: f64,
    /// Share of sessions whose items are described.
    pub known: f64,
}

/// A simulated log and what is known beyond the clicks.
#[derive(Debug, Clone)]
pub struct SimulatedLog {
    /// The clicks.
    pub log: ClickLog,
    items: Vec<SimulatedItem>,
    /// Items by their release, the last ones first.
    by_release: Vec<u32>,
    /// By session key.
    visits: Vec<Visit>,
}

#[derive(Debug, Clone)]
struct SimulatedItem {
    topic: usize,
    cluster: usize,
    look: [f32; DIMS],
    released_s: f64,
    duration_s: f64,
    weight: f64,
    successors: [usize; 3],
}

/// Draws until something comes that the session has not seen, a few times at most: who goes on wants something new, and
/// who goes back does so on purpose.
fn unseen(clicks: &[(ItemNo, Timestamp)], mut draw: impl FnMut() -> usize) -> usize {
    let mut drawn = draw();
    for _ in 0..4 {
        if clicks.iter().all(|(item, _)| item.index() != drawn) {
            break;
        }
        drawn = draw();
    }
    drawn
}

/// What people come for during some days.
#[derive(Debug, Clone)]
struct Intent {
    items: [usize; 8],
    begins_s: f64,
    ends_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    /// What the session came for, most wanted first.
    wanted: [usize; 8],
    favourites: [usize; 3],
    has_frames: bool,
    plays: bool,
    described: bool,
    seed: u64,
}

/// What a simulated session shows beyond its clicks.
#[derive(Debug)]
pub struct SimulatedSurroundings<'a> {
    log: &'a SimulatedLog,
    frame: [f32; DIMS],
}

/// `count` kinds of site, every property drawn from a wide range, so that what holds for all of them holds elsewhere.
pub fn mixture(count: usize, sessions_each: usize, seed: u64) -> Vec<SimulationSettings> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let mut between = |low: f64, high: f64| random.random_range(low..high);
            // How steps are shared out is drawn as a whole, so that each kind of step dominates somewhere. Steps back
            // differ most from site to site, and how seen items fare with them; taken for granted, they spoil lists
            // elsewhere, so they are rare here.
            let kinds: [f64; 6] = [1.2, 1.2, 0.3, 0.4, 0.25, 1.6].map(|much| much * -between(0.02_f64, 1.0).ln());
            let all: f64 = kinds.iter().sum();
            let media = between(0.0, 1.0) < 0.5;
            let items = between(600.0_f64.ln(), 12_000.0_f64.ln()).exp();
            SimulationSettings {
                items: items as usize,
                topics: (items / between(20.0, 200.0)) as usize + 2,
                cluster_size: between(3.0, 16.0) as usize,
                sessions: sessions_each,
                days: between(2.0, 30.0),
                zipf: between(0.5, 1.2),
                released: between(0.0, 0.6),
                fade_days: between(0.5, 10.0),
                chain: kinds[0] / all,
                cluster: kinds[1] / all,
                repeat: kinds[2] / all,
                topic: kinds[3] / all,
                intent: kinds[5] / all,
                intent_days: between(0.5, 10.0),
                visual: between(0.1, 0.8),
                end: between(0.1, 0.35),
                dwell_s: between(10.0_f64.ln(), 120.0_f64.ln()).exp(),
                dwell_spread: between(0.6, 1.5),
                playback: if media { between(0.3, 1.0) } else { 0.0 },
                frames: between(0.0, 0.8),
                known: between(0.0, 0.6),
            }
        })
        .collect()
}

/// Makes a log. The same settings and seed make the same log.
pub fn simulate(settings: &SimulationSettings, seed: u64) -> SimulatedLog {
    let mut random = SmallRng::seed_from_u64(seed);
    let items = make_items(settings, &mut random);
    let mut shelves = Shelves::new(settings, &items);
    let span_s = settings.days * 86_400.0;
    let intents = make_intents(settings, &items, &mut random);
    let mut starts: Vec<f64> = (0..settings.sessions).map(|_| random.random_range(0.0..span_s)).collect();
    starts.sort_unstable_by(f64::total_cmp);
    let (mut sessions, mut visits) = (Vec::with_capacity(starts.len()), Vec::with_capacity(starts.len()));
    for (key, start_s) in starts.into_iter().enumerate() {
        shelves.stock(&items, start_s);
        // The square makes topics with low numbers the popular ones.
        let topics = settings.topics.max(1);
        let favourite =
            |random: &mut SmallRng| (random.random_range(0.0..1.0_f64).powi(2) * topics as f64) as usize % topics;
        let visit = Visit {
            wanted: choose_intent(&intents, start_s, &mut random),
            favourites: [favourite(&mut random), favourite(&mut random), favourite(&mut random)],
            has_frames: random.random_bool(settings.frames),
            plays: random.random_bool(settings.playback),
            described: random.random_bool(settings.known),
            seed: random.random(),
        };
        let clicks = walk(settings, &items, &shelves, &visit, start_s, &mut random);
        sessions.push(Session { key: key as u64, user: None, clicks, confidences: Vec::new() });
        visits.push(visit);
    }
    let mut by_release: Vec<u32> = (0..items.len() as u32).collect();
    by_release.sort_by(|&a, &b| items[b as usize].released_s.total_cmp(&items[a as usize].released_s));
    SimulatedLog { log: ClickLog { sessions, skipped: 0 }, items, by_release, visits }
}

fn make_intents(settings: &SimulationSettings, items: &[SimulatedItem], random: &mut SmallRng) -> Vec<Intent> {
    let span_s = settings.days * 86_400.0;
    let lasting_s = (settings.intent_days * 86_400.0).min(span_s);
    // As many as keep each in use by some dozens of sessions.
    (0..(settings.sessions / 40).max(4))
        .map(|_| {
            let first = random.random_range(0..items.len());
            let mut wanted = [first; 8];
            for item in &mut wanted[1..] {
                let related = items[first].successors[random.random_range(0..3)];
                let other = random.random_range(0..items.len());
                *item =
                    if random.random_bool(0.6) { items[related].successors[random.random_range(0..3)] } else { other };
            }
            let begins_s = random.random_range(-lasting_s..span_s);
            Intent { items: wanted, begins_s, ends_s: begins_s + lasting_s }
        })
        .collect()
}

/// One of the intents in fashion; those with low numbers are the popular ones.
fn choose_intent(intents: &[Intent], now_s: f64, random: &mut SmallRng) -> [usize; 8] {
    let mut chosen = intents[0].items;
    for _ in 0..20 {
        let intent = &intents[(random.random_range(0.0..1.0_f64).powi(2) * intents.len() as f64) as usize];
        chosen = intent.items;
        if intent.begins_s <= now_s && now_s < intent.ends_s {
            break;
        }
    }
    chosen
}

/// One session's clicks.
fn walk(
    settings: &SimulationSettings,
    items: &[SimulatedItem],
    shelves: &Shelves,
    visit: &Visit,
    start_s: f64,
    random: &mut SmallRng,
) -> Vec<(ItemNo, Timestamp)> {
    // Some are quick and some are slow; a session keeps its pace.
    let pace = (0.5 * normal(random)).exp();
    let mut topic = visit.favourites[random.random_range(0..3)];
    let wants = settings.intent / (settings.intent + settings.topic + settings.cluster).max(1e-9);
    let mut current = if random.random_bool(wants) { visit.wanted[0] } else { shelves.pick(topic, random) };
    let mut now_s = BEGINNING_S + start_s;
    let mut clicks: Vec<(ItemNo, Timestamp)> = Vec::new();
    loop {
        clicks.push((ItemNo(current as u32), Timestamp::from_seconds(now_s)));
        if clicks.len() >= 60 || random.random_bool(settings.end) {
            return clicks;
        }
        let mut hurry = 1.0;
        let mut left = random.random_range(0.0..1.0);
        let mut falls = |share: f64| {
            left -= share;
            left < 0.0
        };
        let next = if falls(settings.chain) {
            hurry = 0.6;
            let which = random.random_range(0.0..1.0_f64);
            items[current].successors[if which < 0.6 {
                0
            } else if which < 0.87 {
                1
            } else {
                2
            }]
        } else if falls(settings.repeat) {
            hurry = 0.5;
            let back = random.random_range(0.0..1.0_f64).powi(2) * clicks.len() as f64;
            clicks[clicks.len() - 1 - (back as usize).min(clicks.len() - 1)].0.index()
        } else if falls(settings.cluster) {
            hurry = 0.8;
            // People compare with what they saw before, not only with what they see now.
            let anchor =
                if random.random_bool(0.5) { current } else { clicks[random.random_range(0..clicks.len())].0.index() };
            unseen(&clicks, || shelves.pick_in_cluster(items, items[anchor].cluster, random))
        } else if falls(settings.intent) {
            hurry = 0.8;
            unseen(&clicks, || visit.wanted[(random.random_range(0.0..1.0_f64).powi(2) * 8.0) as usize])
        } else if falls(settings.topic) {
            if random.random_bool(settings.visual) {
                let few: [usize; 6] = std::array::from_fn(|_| shelves.pick(topic, random));
                let like = |&item: &usize| dot(&items[item].look, &items[current].look);
                few.into_iter().filter(|&i| i != current).max_by(|a, b| like(a).total_cmp(&like(b))).unwrap_or(few[0])
            } else {
                shelves.pick(topic, random)
            }
        } else {
            hurry = 1.4;
            topic = if random.random_bool(0.5) {
                visit.favourites[random.random_range(0..3)]
            } else {
                random.random_range(0..settings.topics.max(1))
            };
            shelves.pick(topic, random)
        };
        let dwell_s = settings.dwell_s * pace * hurry * (settings.dwell_spread * normal(random)).exp();
        let duration_s = items[current].duration_s;
        now_s += if visit.plays && (dwell_s > duration_s || random.random_bool(0.35)) {
            duration_s + random.random_range(0.2..6.0)
        } else {
            dwell_s.clamp(0.3, 7_200.0)
        };
        current = next;
        topic = items[current].topic;
    }
}

fn make_items(settings: &SimulationSettings, random: &mut SmallRng) -> Vec<SimulatedItem> {
    let topics = settings.topics.max(1);
    let mut centre = || -> [f32; DIMS] { std::array::from_fn(|_| normal(random) as f32) };
    let centres: Vec<[f32; DIMS]> = (0..topics).map(|_| centre()).collect();
    let count = settings.items.max(topics * 4);
    let (per_topic, cluster_size) = (count.div_ceil(topics), settings.cluster_size.max(2));
    let mut items: Vec<SimulatedItem> = (0..count)
        .map(|number| {
            let topic = number % topics;
            let rank = (number / topics + 1) as f64;
            let cluster = topic + topics * random.random_range(0..per_topic.div_ceil(cluster_size));
            // Those of a cluster look alike, too; its own part of the look follows from its number.
            let mut own = SmallRng::seed_from_u64(cluster as u64);
            let look = std::array::from_fn(|d| {
                // Pictures have much in common: a constant part keeps cosines well above zero, as real ones are.
                0.9 + 0.6 * centres[topic][d] + 0.5 * normal(&mut own) as f32 + 0.5 * normal(random) as f32
            });
            let late = random.random_bool(settings.released);
            SimulatedItem {
                topic,
                cluster,
                look: unit(look),
                released_s: if late { random.random_range(0.0..settings.days * 86_400.0) } else { -30.0 * 86_400.0 },
                duration_s: (settings.dwell_s * 1.2 * (0.6 * normal(random)).exp()).clamp(5.0, 3_600.0),
                weight: rank.powf(-settings.zipf),
                successors: [0; 3],
            }
        })
        .collect();
    for (number, item) in items.iter_mut().enumerate() {
        item.successors = std::array::from_fn(|_| {
            // Mostly the same topic; now and then a bridge to another.
            let topic = if random.random_bool(0.85) { item.topic } else { random.random_range(0..topics) };
            let rank = random.random_range(0..(count / topics).max(1));
            let other = (topic + topics * rank).min(count - 1);
            if other == number { (number + topics) % count } else { other }
        });
    }
    items
}

/// What is popular in each topic at present: cumulated weights, renewed a few times a day.
#[derive(Debug)]
struct Shelves {
    by_topic: Vec<(Vec<usize>, Vec<f64>)>,
    /// Members of each cluster.
    clusters: Vec<Vec<usize>>,
    /// Each item's weight at present.
    weights: Vec<f64>,
    stocked_s: f64,
    fade_s: f64,
}

impl Shelves {
    fn new(settings: &SimulationSettings, items: &[SimulatedItem]) -> Self {
        let topics = settings.topics.max(1);
        let mut shelves = Self {
            by_topic: vec![(Vec::new(), Vec::new()); topics],
            clusters: vec![Vec::new(); items.iter().map(|item| item.cluster + 1).max().unwrap_or(0)],
            weights: vec![0.0; items.len()],
            stocked_s: f64::NEG_INFINITY,
            fade_s: settings.fade_days * 86_400.0,
        };
        for (number, item) in items.iter().enumerate() {
            shelves.by_topic[item.topic].0.push(number);
            shelves.clusters[item.cluster].push(number);
        }
        shelves
    }

    fn stock(&mut self, items: &[SimulatedItem], now_s: f64) {
        if now_s - self.stocked_s < 3.0 * 3_600.0 {
            return;
        }
        self.stocked_s = now_s;
        for (numbers, cumulated) in &mut self.by_topic {
            cumulated.clear();
            let mut sum = 0.0;
            for &number in numbers.iter() {
                let item = &items[number];
                let age_s = now_s - item.released_s;
                self.weights[number] = if age_s < 0.0 {
                    0.0
                } else if item.released_s < 0.0 {
                    item.weight
                } else {
                    item.weight.sqrt() * (-age_s / self.fade_s).exp2() * 3.0 + 0.05 * item.weight
                };
                sum += self.weights[number];
                cumulated.push(sum);
            }
        }
    }

    fn pick_in_cluster(&self, items: &[SimulatedItem], cluster: usize, random: &mut SmallRng) -> usize {
        let members = &self.clusters[cluster];
        let total: f64 = members.iter().map(|&number| self.weights[number].sqrt()).sum();
        let mut at = random.random_range(0.0..total.max(1e-12));
        for &number in members {
            at -= self.weights[number].sqrt();
            if at < 0.0 {
                return number;
            }
        }
        self.pick(members.first().map_or(0, |&number| items[number].topic), random)
    }

    fn pick(&self, topic: usize, random: &mut SmallRng) -> usize {
        let (numbers, cumulated) = &self.by_topic[topic];
        let total = cumulated.last().copied().unwrap_or(0.0);
        let at = random.random_range(0.0..total.max(1e-12));
        numbers[cumulated.partition_point(|&sum| sum <= at).min(numbers.len() - 1)]
    }
}

impl SimulatedLog {
    /// What is known beyond the clicks, for a replay.
    pub fn surroundings(&self) -> SimulatedSurroundings<'_> {
        SimulatedSurroundings { log: self, frame: [0.0; DIMS] }
    }
}

impl SimulatedSurroundings<'_> {
    /// What is on screen at a stop: the current item, something of its own, and at times a hint of the next item.
    fn look_at(&mut self, stop: &Stop<'_>, visit: &Visit, random: &mut SmallRng) {
        let Some(&(current, _)) = stop.history.last() else { return };
        let look = &self.log.items[current.index()].look;
        let hint = stop.future.first().filter(|_| !visit.seed.is_multiple_of(3) && random.random_bool(0.35));
        for (d, value) in self.frame.iter_mut().enumerate() {
            *value = look[d] + 0.1 * normal(random) as f32;
            if let Some((next, _)) = hint {
                *value += 0.25 * self.log.items[next.index()].look[d];
            }
        }
        self.frame = unit(self.frame);
    }

    fn visit(&self, stop: &Stop<'_>) -> Option<(Visit, SmallRng)> {
        let visit = *self.log.visits.get(stop.session as usize)?;
        Some((visit, SmallRng::seed_from_u64(visit.seed ^ (stop.history.len() as u64) << 32)))
    }
}

impl Surroundings for SimulatedSurroundings<'_> {
    fn propose(&mut self, stop: &Stop<'_>, items: &mut Vec<ItemNo>) {
        let Some((visit, mut random)) = self.visit(stop) else { return };
        let now_s = stop.now.as_seconds() - BEGINNING_S;
        if visit.described {
            let by_release = &self.log.by_release;
            let released = by_release.partition_point(|&n| self.log.items[n as usize].released_s > now_s);
            items.extend(by_release[released..].iter().take(NEWEST).map(|&number| ItemNo(number)));
        }
        // Who has just come has seen nothing yet.
        if !visit.has_frames || stop.history.is_empty() {
            return;
        }
        self.look_at(stop, &visit, &mut random);
        let all = self.log.items.iter().enumerate().filter(|(_, item)| item.released_s <= now_s);
        let mut alike: Vec<(f32, u32)> =
            all.map(|(number, item)| (dot(&item.look, &self.frame), number as u32)).collect();
        if alike.len() > LOOK_ALIKES {
            alike.select_nth_unstable_by(LOOK_ALIKES, |a, b| b.0.total_cmp(&a.0));
            alike.truncate(LOOK_ALIKES);
        }
        items.extend(alike.into_iter().map(|(_, number)| ItemNo(number)));
    }

    fn describe(&mut self, stop: &Stop<'_>, context: &mut RequestContext, candidates: &mut [Candidate]) {
        let Some((visit, mut random)) = self.visit(stop) else { return };
        let items = &self.log.items;
        let now_s = stop.now.as_seconds() - BEGINNING_S;
        if visit.described {
            for candidate in candidates.iter_mut() {
                let released_s = items.get(candidate.item.index()).map(|item| item.released_s);
                candidate.age_s = released_s.map(|released_s| (now_s - released_s).max(0.0) as f32);
            }
        }
        let Some(&(current, since)) = stop.history.last() else { return };
        if visit.has_frames {
            self.look_at(stop, &visit, &mut random);
            context.answered.visual = true;
            context.answered.trajectory = true;
            context.motion_energy = Some(random.random_range(0.0..0.3));
            context.scene_age_s = Some((2.0 + normal(&mut random)).exp() as f32);
        }
        if visit.plays {
            let left_s = items[current.index()].duration_s - stop.now.seconds_since(since);
            context.playing_left_s = Some(left_s.max(0.0) as f32);
        }
        context.answered.metadata = visit.described;
        let past = |back: usize| {
            let position = stop.history.len().saturating_sub(1 + back);
            &items[stop.history[position].0.index()].look
        };
        let mix = |weights: [f32; 4]| -> [f32; DIMS] {
            unit(std::array::from_fn(|d| {
                weights[0] * self.frame[d] + weights[1] * past(0)[d] + weights[2] * past(1)[d] + weights[3] * past(2)[d]
            }))
        };
        let (scene, fast, slow) = (mix([0.3, 0.7, 0.0, 0.0]), mix([0.3, 0.5, 0.2, 0.0]), mix([0.1, 0.4, 0.3, 0.2]));
        let ahead: [[f32; DIMS]; 3] = [0.3_f32, 0.5, 0.8]
            .map(|far| unit(std::array::from_fn(|d| self.frame[d] + far * (self.frame[d] - scene[d]))));
        for candidate in candidates {
            let Some(item) = items.get(candidate.item.index()) else { continue };
            if visit.has_frames {
                candidate.visual = Some(dot(&item.look, &self.frame));
                let mut cosines = TrajectoryCosines {
                    scene: dot(&item.look, &scene),
                    fast: dot(&item.look, &fast),
                    slow: dot(&item.look, &slow),
                    ..TrajectoryCosines::default()
                };
                for (cosine, ahead) in cosines.ahead.iter_mut().zip(&ahead) {
                    *cosine = dot(&item.look, ahead);
                }
                candidate.trajectory = Some(cosines);
            }
            if visit.described {
                let same = item.topic == items[current.index()].topic;
                candidate.metadata = (if same { 2.0 } else { 0.4 }) * (0.5 * normal(&mut random)).exp() as f32;
            }
        }
    }
}

/// A draw from the standard normal distribution (Box & Muller 1958).
fn normal(random: &mut SmallRng) -> f64 {
    let (u, v): (f64, f64) = (random.random_range(1e-12..1.0), random.random_range(0.0..1.0));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn unit(mut values: [f32; DIMS]) -> [f32; DIMS] {
    let length = dot(&values, &values).sqrt().max(1e-6);
    values.iter_mut().for_each(|v| *v /= length);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_log() {
        for settings in mixture(5, 60, 3) {
            let first = simulate(&settings, 7);
            assert_eq!(first.log, simulate(&settings, 7).log);
            assert_ne!(first.log, simulate(&settings, 8).log);
            assert_eq!(first.log.sessions.len(), 60);
            for session in &first.log.sessions {
                assert!(!session.clicks.is_empty());
                assert!(session.clicks.windows(2).all(|w| w[0].1 <= w[1].1));
            }
        }
    }
}
