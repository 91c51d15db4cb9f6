//! What would the click log of a large service look like? Millions of clicks, streamed, from a few parameters.
//!
//! A log without catalogue, pictures or people: sessions of clicks on numbered items, for benches at scale and for
//! the mixture from which the shipped ranking weights are learned. Each parameter turns one phenomenon of real logs
//! up or down: skewed popularity, topics, characteristic transitions with characteristic lags, returns to an item seen
//! before, uneven tempo, and drift. Memory is bounded by the number of items and of sessions open at one time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::random::{Random, Zipf, derive, unit};

/// One click of a [`ClickLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Click {
    /// Milliseconds since the log began.
    pub at_ms: i64,
    /// The session, numbered from 0 in the order of first clicks.
    pub session: u32,
    /// The item, below [`ClickLogOptions::items`].
    pub item: u32,
}

/// What a [`ClickLog`] looks like. Out-of-range values are drawn back into range.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickLogOptions {
    /// Number of items, at least 1.
    pub items: u32,
    /// Number of sessions.
    pub sessions: u32,
    /// Mean number of clicks in a session, at least [`Self::clicks_min`]. Lengths are geometric above the minimum,
    /// and more uneven with [`Self::length_sigma`].
    pub clicks_mean: f64,
    /// Fewest clicks in a session, at least 1.
    pub clicks_min: u32,
    /// Deviation of the logarithm of a session's expected length; 0 for a plain geometric distribution.
    pub length_sigma: f64,
    /// The log's length in days; sessions begin along it with a daily rhythm.
    pub days: f64,
    /// How skewed popularity is within a topic: the click share of rank r falls as r^−exponent. 0 to 2.
    pub zipf_exponent: f64,
    /// Number of topics that the items fall into, at least 1. Topics have different sizes.
    pub topics: u32,
    /// Probability that a click without a better reason stays in the session's topic; else the topic changes.
    pub topic_loyalty: f64,
    /// Probability that the next click follows one of the item's own transitions (bought together, next in a list).
    pub chain_strength: f64,
    /// How many transitions an item has, 1 to 16; the s-th is taken in proportion to 1/s.
    pub successors: u32,
    /// Share of the transitions that lead to an item published at nearly the same time (a list, a series, a story); the
    /// others lead to an item of the same topic drawn by popularity.
    pub chain_locality: f64,
    /// Probability that the next click returns to an item clicked before in the session.
    pub repeat_probability: f64,
    /// Whether other clicks avoid the items clicked before in the session (one rates a film once).
    pub no_accidental_repeats: bool,
    /// Median seconds between two clicks of a session.
    pub dwell_median_s: f64,
    /// Deviation of the logarithm of those seconds.
    pub dwell_sigma: f64,
    /// Deviation of the logarithm of a session's own tempo, by which all its gaps are multiplied: there are quick
    /// people and slow people.
    pub tempo_sigma: f64,
    /// How far the characteristic lags of transitions lie apart: their medians spread over
    /// [`Self::dwell_median_s`] times `spread^−1 ..= spread`. 1 for none.
    pub lag_spread: f64,
    /// Share of a topic's items that become old in a day as new ones take their place. 0 for a catalogue that stands
    /// still; 0.2 means that today's front page is history in a few days.
    pub turnover_per_day: f64,
    /// Share of the popular clicks that go to lasting favourites rather than to what is new.
    pub evergreen: f64,
}

impl Default for ClickLogOptions {
    /// The e-commerce-like log of [`mixture`], 10,000 items and 100,000 sessions.
    fn default() -> Self {
        Self {
            items: 10_000,
            sessions: 100_000,
            clicks_mean: 4.6,
            clicks_min: 1,
            length_sigma: 0.5,
            days: 14.0,
            zipf_exponent: 0.9,
            topics: 120,
            topic_loyalty: 0.88,
            chain_strength: 0.45,
            successors: 6,
            chain_locality: 0.4,
            repeat_probability: 0.14,
            no_accidental_repeats: false,
            dwell_median_s: 42.0,
            dwell_sigma: 1.0,
            tempo_sigma: 0.45,
            lag_spread: 3.0,
            turnover_per_day: 0.004,
            evergreen: 0.7,
        }
    }
}

/// Logs of different kinds, by name; weights that do well on all of them transfer better than weights from one.
///
/// - `shop`: short sessions, minutes to think, the same things looked at twice, a catalogue that hardly changes.
/// - `short-video`: long sessions, a swipe every few seconds, tight topics, weak transitions, daily hits.
/// - `film-ratings`: very long lists of films ticked off in quick order, nothing twice, lasting favourites.
/// - `news`: short sessions among stories of today; yesterday's are dead, stories of one event lead to each other.
/// - `music`: songs one after another, albums in order, favourites again and again, lags of minutes and of skips.
/// - `streaming`: browse quickly between similar covers, then watch; transitions with very different lags.
///
/// `scale` multiplies the number of sessions (1 makes about 10⁵ clicks a log).
pub fn mixture(scale: f64) -> Vec<(&'static str, ClickLogOptions)> {
    let sessions = |count: f64| (count * scale.max(0.0)).round() as u32;
    let shop = ClickLogOptions { items: 8_000, sessions: sessions(22_000.0), ..ClickLogOptions::default() };
    let short_video = ClickLogOptions {
        items: 12_000,
        sessions: sessions(4_500.0),
        clicks_mean: 22.0,
        clicks_min: 2,
        length_sigma: 0.8,
        days: 10.0,
        zipf_exponent: 1.05,
        topics: 60,
        topic_loyalty: 0.72,
        chain_strength: 0.12,
        successors: 8,
        chain_locality: 0.3,
        repeat_probability: 0.03,
        no_accidental_repeats: true,
        dwell_median_s: 9.0,
        dwell_sigma: 0.8,
        tempo_sigma: 0.35,
        lag_spread: 2.0,
        turnover_per_day: 0.06,
        evergreen: 0.35,
    };
    let film_ratings = ClickLogOptions {
        items: 4_000,
        sessions: sessions(1_400.0),
        clicks_mean: 70.0,
        clicks_min: 10,
        length_sigma: 0.9,
        days: 60.0,
        zipf_exponent: 0.75,
        topics: 18,
        topic_loyalty: 0.6,
        chain_strength: 0.4,
        successors: 12,
        chain_locality: 0.55,
        repeat_probability: 0.0,
        no_accidental_repeats: true,
        dwell_median_s: 7.0,
        dwell_sigma: 1.1,
        tempo_sigma: 0.5,
        lag_spread: 1.6,
        turnover_per_day: 0.001,
        evergreen: 0.9,
    };
    let news = ClickLogOptions {
        items: 9_000,
        sessions: sessions(30_000.0),
        clicks_mean: 3.2,
        clicks_min: 1,
        length_sigma: 0.6,
        days: 20.0,
        zipf_exponent: 1.15,
        topics: 14,
        topic_loyalty: 0.55,
        chain_strength: 0.3,
        successors: 5,
        chain_locality: 0.9,
        repeat_probability: 0.04,
        no_accidental_repeats: false,
        dwell_median_s: 35.0,
        dwell_sigma: 1.0,
        tempo_sigma: 0.4,
        lag_spread: 2.5,
        turnover_per_day: 0.12,
        evergreen: 0.04,
    };
    let music = ClickLogOptions {
        items: 10_000,
        sessions: sessions(7_000.0),
        clicks_mean: 14.0,
        clicks_min: 2,
        length_sigma: 0.7,
        days: 21.0,
        zipf_exponent: 0.95,
        topics: 150,
        topic_loyalty: 0.85,
        chain_strength: 0.55,
        successors: 4,
        chain_locality: 0.8,
        repeat_probability: 0.2,
        no_accidental_repeats: false,
        dwell_median_s: 45.0,
        dwell_sigma: 1.2,
        tempo_sigma: 0.3,
        lag_spread: 5.0,
        turnover_per_day: 0.008,
        evergreen: 0.8,
    };
    let streaming = ClickLogOptions {
        items: 5_000,
        sessions: sessions(11_000.0),
        clicks_mean: 9.0,
        clicks_min: 1,
        length_sigma: 0.6,
        days: 14.0,
        zipf_exponent: 1.0,
        topics: 40,
        topic_loyalty: 0.78,
        chain_strength: 0.4,
        successors: 6,
        chain_locality: 0.6,
        repeat_probability: 0.1,
        no_accidental_repeats: false,
        dwell_median_s: 20.0,
        dwell_sigma: 0.7,
        tempo_sigma: 0.3,
        lag_spread: 6.0,
        turnover_per_day: 0.02,
        evergreen: 0.6,
    };
    vec![
        ("shop", shop),
        ("short-video", short_video),
        ("film-ratings", film_ratings),
        ("news", news),
        ("music", music),
        ("streaming", streaming),
    ]
}

/// A stream of clicks in the order of time. The same seed and options give the same clicks.
#[derive(Debug)]
pub struct ClickLog {
    model: Model,
    random: Random,
    /// When the next session begins, in milliseconds.
    next_start_ms: f64,
    sessions_begun: u32,
    /// The clicks of begun sessions that lie ahead, earliest first.
    open: BinaryHeap<Reverse<Click>>,
    buffer: Vec<Click>,
}

impl ClickLog {
    /// Prepares a log; clicks are made as they are asked for.
    pub fn generate(seed: u64, options: ClickLogOptions) -> Self {
        let options = options.in_range();
        Self {
            random: Random::new(seed, 2),
            model: Model::new(seed, options),
            next_start_ms: 0.0,
            sessions_begun: 0,
            open: BinaryHeap::new(),
            buffer: Vec::new(),
        }
    }

    /// The options in use, drawn into range.
    pub fn options(&self) -> &ClickLogOptions {
        &self.model.options
    }

    /// Writes the next session's clicks, in order, over `clicks`; false when there are no more sessions.
    ///
    /// Faster than the stream in the order of time, from which it must not be mixed: either ask for sessions or
    /// iterate over clicks. Sessions come in the order in which they begin.
    pub fn next_session(&mut self, clicks: &mut Vec<Click>) -> bool {
        clicks.clear();
        if self.sessions_begun >= self.model.options.sessions {
            return false;
        }
        self.model.session(&mut self.random, self.sessions_begun, self.next_start_ms, clicks);
        self.sessions_begun += 1;
        self.next_start_ms += self.model.pause_ms(&mut self.random, self.next_start_ms);
        true
    }
}

impl Iterator for ClickLog {
    type Item = Click;

    fn next(&mut self) -> Option<Click> {
        // Every session that could hold an earlier click has to have begun.
        while self.sessions_begun < self.model.options.sessions
            && self.open.peek().is_none_or(|Reverse(click)| click.at_ms as f64 >= self.next_start_ms)
        {
            let mut buffer = std::mem::take(&mut self.buffer);
            self.next_session(&mut buffer);
            self.open.extend(buffer.iter().copied().map(Reverse));
            self.buffer = buffer;
        }
        self.open.pop().map(|Reverse(click)| click)
    }
}

impl ClickLogOptions {
    fn in_range(mut self) -> Self {
        let positive =
            |value: f64, least: f64, most: f64| if value.is_finite() { value.clamp(least, most) } else { least };
        self.items = self.items.clamp(1, 50_000_000);
        self.topics = self.topics.clamp(1, self.items);
        self.clicks_min = self.clicks_min.clamp(1, MAX_CLICKS);
        self.clicks_mean = positive(self.clicks_mean, f64::from(self.clicks_min), f64::from(MAX_CLICKS));
        self.length_sigma = positive(self.length_sigma, 0.0, 2.0);
        self.days = positive(self.days, 1e-3, 36_500.0);
        self.zipf_exponent = positive(self.zipf_exponent, 0.0, 2.0);
        self.successors = self.successors.clamp(1, MAX_SUCCESSORS as u32);
        self.dwell_median_s = positive(self.dwell_median_s, 0.01, 86_400.0);
        self.dwell_sigma = positive(self.dwell_sigma, 0.0, 4.0);
        self.tempo_sigma = positive(self.tempo_sigma, 0.0, 4.0);
        self.lag_spread = positive(self.lag_spread, 1.0, 100.0);
        self.turnover_per_day = positive(self.turnover_per_day, 0.0, 100.0);
        for share in [
            &mut self.topic_loyalty,
            &mut self.chain_strength,
            &mut self.chain_locality,
            &mut self.repeat_probability,
            &mut self.evergreen,
        ] {
            *share = positive(*share, 0.0, 1.0);
        }
        self
    }
}

const MAX_SUCCESSORS: usize = 16;
/// The longest session; keeps one session from holding up the stream.
const MAX_CLICKS: u32 = 2_000;
/// How far apart, in places of the order of publication, the ends of a local transition lie.
const LOCAL_REACH: u64 = 12;
const DAY_MS: f64 = 86_400_000.0;

/// What does not change while the log is made.
#[derive(Debug)]
struct Model {
    options: ClickLogOptions,
    seed: u64,
    /// Items `topic_starts[t]..topic_starts[t + 1]` belong to topic `t`, in the order of their publication.
    topic_starts: Vec<u32>,
    topic_choice: Zipf,
    /// One for each topic, over its items.
    popularity: Vec<Zipf>,
    /// For each topic a number that has no factor in common with the number of its items.
    favourite_steps: Vec<u64>,
    /// Cumulative shares of an item's transitions.
    successor_shares: Vec<f64>,
    mean_pause_ms: f64,
}

impl Model {
    fn new(seed: u64, options: ClickLogOptions) -> Self {
        let mut random = Random::new(seed, 1);
        let weights: Vec<f64> = (0..options.topics).map(|_| random.lognormal(1.0, 0.7)).collect();
        let sum: f64 = weights.iter().sum();
        let spare = f64::from(options.items - options.topics);
        let (mut topic_starts, mut before) = (vec![0], 0.0);
        for (topic, weight) in weights.iter().enumerate() {
            before += weight;
            topic_starts.push(topic as u32 + 1 + (spare * before / sum).round() as u32);
        }
        if let Some(end) = topic_starts.last_mut() {
            *end = options.items;
        }
        let popularity =
            topic_starts.windows(2).map(|w| Zipf::new((w[1] - w[0]) as usize, options.zipf_exponent)).collect();
        let favourite_steps = topic_starts
            .windows(2)
            .map(|w| {
                let count = u64::from(w[1] - w[0]);
                let mut step = (random.bits() % count.max(1)) | 1;
                while greatest_common_divisor(step, count) != 1 {
                    step += 2;
                }
                step
            })
            .collect();
        let harmonic: Vec<f64> = (1..=options.successors).map(|s| 1.0 / f64::from(s)).collect();
        let total: f64 = harmonic.iter().sum();
        let successor_shares = harmonic
            .iter()
            .scan(0.0, |sum, share| {
                *sum += share / total;
                Some(*sum)
            })
            .collect();
        Self {
            topic_choice: Zipf::new(options.topics as usize, 0.6),
            mean_pause_ms: options.days * DAY_MS / f64::from(options.sessions.max(1)),
            options,
            seed,
            topic_starts,
            popularity,
            favourite_steps,
            successor_shares,
        }
    }

    /// Milliseconds until the session after one that begins at `at_ms`: Poisson arrivals, four times as many in the
    /// evening as at night.
    fn pause_ms(&self, random: &mut Random, at_ms: f64) -> f64 {
        let hour = at_ms / DAY_MS * std::f64::consts::TAU;
        let rate = 1.0 - 0.6 * (hour - 0.5).cos();
        random.exponential() * self.mean_pause_ms / rate
    }

    fn session(&self, random: &mut Random, session: u32, start_ms: f64, clicks: &mut Vec<Click>) {
        let options = &self.options;
        let tempo = random.lognormal(1.0, options.tempo_sigma);
        let sigma = options.length_sigma;
        // The mean of a lognormal is exp(σ²/2) times its median.
        let beyond = (options.clicks_mean - f64::from(options.clicks_min))
            * random.lognormal((-0.5 * sigma * sigma).exp(), sigma);
        // Rounding an exponential down gives a geometric distribution; this scale gives it the right mean.
        let scale = if beyond > 1e-9 { 1.0 / (1.0 / beyond).ln_1p() } else { 0.0 };
        let length =
            (f64::from(options.clicks_min) + (random.exponential() * scale).floor()).min(f64::from(MAX_CLICKS));
        let day = start_ms / DAY_MS;
        let mut topic = self.any_topic(random);
        let mut at_ms = start_ms;
        let mut item = self.popular(random, topic, day);
        for _ in 0..length as u32 {
            clicks.push(Click { at_ms: at_ms.round() as i64, session, item });
            let (next, lag_median_s) = self.next_item(random, item, &mut topic, day, clicks);
            item = next;
            at_ms += 1000.0 * tempo * random.lognormal(lag_median_s, options.dwell_sigma);
        }
    }

    /// The next item of a session, and the median lag to it in seconds.
    fn next_item(&self, random: &mut Random, item: u32, topic: &mut usize, day: f64, clicks: &[Click]) -> (u32, f64) {
        let options = &self.options;
        let usual_s = options.dwell_median_s;
        if clicks.len() > 1 && random.chance(options.repeat_probability) {
            // Mostly one step back: look, compare, return.
            let steps = (1.0 + random.exponential() * 1.2).min(clicks.len() as f64 - 1.0) as usize;
            return (clicks[clicks.len() - 1 - steps].item, usual_s * 0.6);
        }
        let mut next = (item, usual_s);
        for _ in 0..4 {
            next = if random.chance(options.chain_strength) {
                let share = random.unit();
                let place =
                    self.successor_shares.partition_point(|&sum| sum <= share).min(self.successor_shares.len() - 1);
                let (successor, lag_s) = self.successor(item, place);
                *topic = self.topic_of(successor);
                (successor, lag_s)
            } else {
                if !random.chance(options.topic_loyalty) {
                    *topic = self.any_topic(random);
                }
                (self.popular(random, *topic, day), usual_s)
            };
            // A click on what is already open says nothing.
            let seen = next.0 == item || (options.no_accidental_repeats && clicks.iter().any(|c| c.item == next.0));
            if !seen {
                break;
            }
        }
        next
    }

    /// The `place`-th transition of `item` and the median of its lag in seconds: computed from their numbers each time,
    /// so that nothing has to be stored for millions of items.
    fn successor(&self, item: u32, place: usize) -> (u32, f64) {
        let options = &self.options;
        let bits = derive(self.seed ^ 0x5EED, u64::from(item) * MAX_SUCCESSORS as u64 + place as u64);
        let mut random = Random::new(bits, 3);
        let topic = self.topic_of(item);
        let (start, end) = (self.topic_starts[topic], self.topic_starts[topic + 1]);
        let successor = if random.chance(options.chain_locality) {
            let reach = (random.bits() % LOCAL_REACH) as u32 + 1;
            // Mostly onward, as in a list; wraps at the topic's end.
            let count = end - start;
            let ahead = if random.chance(0.75) { reach % count } else { count - reach % count };
            start + (item - start + ahead) % count
        } else {
            start + self.favourite(topic, self.popularity[topic].rank(random.unit()))
        };
        let spread = options.lag_spread.powf(random.between(-1.0, 1.0));
        (successor, options.dwell_median_s * spread)
    }

    /// An item of `topic` by its popularity on day `day`.
    fn popular(&self, random: &mut Random, topic: usize, day: f64) -> u32 {
        let start = self.topic_starts[topic];
        let count = u64::from(self.topic_starts[topic + 1] - start);
        let rank = self.popularity[topic].rank(random.unit()) as u64;
        if random.chance(self.options.evergreen) || self.options.turnover_per_day == 0.0 {
            return start + self.favourite(topic, rank as usize);
        }
        // A belt: each day the newest place moves on; the newest item has rank 0, yesterday's lie behind it. Quality, an
        // item's own, lets some fall asleep sooner than others.
        let newest = (day * self.options.turnover_per_day * count as f64) as u64;
        for (attempt, place) in (rank..rank + 3).enumerate() {
            let item = (newest + 2 * count - 1 - place % count) % count;
            let quality = unit(derive(self.seed ^ 0x0A11, u64::from(start) + item));
            if random.unit() < 0.15 + 0.85 * quality * quality || attempt == 2 {
                return start + item as u32;
            }
        }
        start
    }

    /// The topic's item that is its lasting favourite number `rank`: scattered over the order of publication.
    fn favourite(&self, topic: usize, rank: usize) -> u32 {
        let count = u64::from(self.topic_starts[topic + 1] - self.topic_starts[topic]);
        // Multiplying by a number without a common factor is a permutation.
        let step = self.favourite_steps[topic];
        ((rank as u64 * step + step / 2) % count.max(1)) as u32
    }

    fn topic_of(&self, item: u32) -> usize {
        self.topic_starts.partition_point(|&start| start <= item) - 1
    }

    fn any_topic(&self, random: &mut Random) -> usize {
        self.topic_choice.rank(random.unit())
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
