//! What would people make of an item that nobody has turned to yet? Its factor, guessed from its looks and its words.
//!
//! A ridge regression from an item's description to its factor, the closed-form cousin of `VBPR` (He and `McAuley`, "`VBPR`: Visual
//! Bayesian Personalized Ranking from Implicit Feedback", 2016). It is fitted to the items of which there are factors
//! from enough engagements; how much pictures, labels and titles are trusted is chosen on a fifth of them that is held out.

use super::linear::{cholesky, cholesky_solve, multiply_transposed};
use crate::domain::{Embedding, Item, add_scaled};

/// Buckets that labels and words are hashed into.
const LABEL_BUCKETS: usize = 256;
const WORD_BUCKETS: usize = 128;
const BUCKETS: usize = LABEL_BUCKETS + WORD_BUCKETS;
/// How much all words of a title count beside the labels.
const TITLE_WEIGHT: f32 = 0.5;
/// A constant, and whether there is a picture.
const CONSTANTS: usize = 2;
/// Penalties that are tried, in items' worth.
const PENALTIES: [f64; 7] = [0.03, 0.1, 0.3, 1.0, 4.0, 16.0, 64.0];
/// What has a penalty of its own.
const LABELS: usize = 0;
const IMAGES: usize = 1;
const TITLES: usize = 2;
/// With fewer examples nothing is fitted.
const FEWEST_EXAMPLES: usize = 8;
/// An item with so many engagements counts half as much as one with any number.
const HALF_TRUSTED: f32 = 10.0;
const CHUNK_ROWS: usize = 256;

/// What an item looks like and is called, as numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ItemFeatures {
    /// The mean of its pictures, of unit length; empty without a picture.
    image: Vec<f32>,
    /// Hashed labels and title words: bucket and value.
    words: Vec<(u16, f32)>,
}

impl ItemFeatures {
    /// The features of an item with these pictures, all of the same model.
    pub fn of(item: &Item, images: &[Embedding]) -> Self {
        Self { image: Self::mean(images), words: Self::words(item) }
    }

    /// The same without pictures, or without words.
    #[must_use]
    pub fn only(mut self, image: bool, words: bool) -> Self {
        if !image {
            self.image.clear();
        }
        if !words {
            self.words.clear();
        }
        self
    }

    /// Whether nothing is known of the item.
    pub fn is_empty(&self) -> bool {
        self.image.is_empty() && self.words.is_empty()
    }

    fn mean(images: &[Embedding]) -> Vec<f32> {
        let Some(first) = images.first() else { return Vec::new() };
        let mut mean = first.as_slice().to_vec();
        images[1..].iter().for_each(|image| add_scaled(&mut mean, 1.0, image.as_slice()));
        Embedding::unit(mean).map_or(Vec::new(), |mean| mean.as_slice().to_vec())
    }

    fn words(item: &Item) -> Vec<(u16, f32)> {
        let mut words: Vec<(u16, f32)> = Vec::new();
        let mut field = |texts: &mut dyn Iterator<Item = String>, from: usize, buckets: usize, weight: f32| {
            let hashed: Vec<u64> = texts.filter(|text| !text.is_empty()).map(|text| hash(&text)).collect();
            let each = weight / (hashed.len().max(1) as f32).sqrt();
            for hash in hashed {
                // One bit decides the sign, so that words that share a bucket cancel on average.
                let value = if hash >> 63 == 0 { each } else { -each };
                let bucket = (from + (hash % buckets as u64) as usize) as u16;
                match words.iter_mut().find(|(own, _)| *own == bucket) {
                    Some((_, own)) => *own += value,
                    None => words.push((bucket, value)),
                }
            }
        };
        let labels = item.categories.iter().chain(&item.tags).map(|label| label.to_lowercase());
        field(&mut labels.into_iter(), 0, LABEL_BUCKETS, 1.0);
        let title = item.title.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        field(&mut title.into_iter(), LABEL_BUCKETS, WORD_BUCKETS, TITLE_WEIGHT);
        words
    }
}

/// FNV-1a and a final mixing; it must never change, since maps are kept.
fn hash(text: &str) -> u64 {
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash ^ (hash >> 29)
}

/// An item whose factor is known.
#[derive(Debug)]
pub struct Example<'a> {
    /// What it looks like and is called.
    pub features: ItemFeatures,
    /// Its factor.
    pub factor: &'a [f32],
    /// How many engagements the factor was learned from.
    pub engagements: f32,
}

/// From descriptions to factors.
#[derive(Debug, Clone, PartialEq)]
pub struct ColdMap {
    pub(super) dims: usize,
    pub(super) image_dims: usize,
    /// The mean picture, which stands for pictures that are not there.
    pub(super) image_mean: Vec<f32>,
    /// A row of `dims` numbers for each input: constants, picture, words.
    pub(super) weights: Vec<f32>,
}

impl ColdMap {
    /// How many inputs there are with pictures of so many dimensions.
    pub(super) fn inputs(image_dims: usize) -> usize {
        CONSTANTS + image_dims + BUCKETS
    }

    /// Fits a map to `examples`; `None` if there are too few. Takes a tenth of a second for every few thousand of them.
    pub fn fit(examples: &[Example<'_>], dims: usize) -> Option<Self> {
        if examples.len() < FEWEST_EXAMPLES || dims == 0 {
            return None;
        }
        let image_dims = examples.iter().map(|e| e.features.image.len()).max().unwrap_or(0);
        let mut map = Self { dims, image_dims, image_mean: vec![0.0; image_dims], weights: Vec::new() };
        let mut pictures = 0.0_f32;
        for example in examples.iter().filter(|e| e.features.image.len() == image_dims && image_dims > 0) {
            add_scaled(&mut map.image_mean, 1.0, &example.features.image);
            pictures += 1.0;
        }
        map.image_mean.iter_mut().for_each(|value| *value /= pictures.max(1.0));
        // Every fifth is held out: examples come in the order of their numbers, which says nothing.
        let (held, kept): (Vec<_>, Vec<_>) = examples.iter().enumerate().partition(|(n, _)| n % 5 == 2);
        let kept = map.sums(kept.iter().map(|&(_, example)| example));
        let held: Vec<&Example<'_>> = held.into_iter().map(|(_, example)| example).collect();
        let mut best = (f64::INFINITY, [4.0; 3]);
        // One after the other: all at once would be 343 fits.
        for of in [LABELS, IMAGES, TITLES, LABELS, IMAGES] {
            for penalty in PENALTIES {
                let mut penalties = best.1;
                penalties[of] = penalty;
                let Some(weights) = map.solve(&kept, penalties) else { continue };
                map.weights = weights;
                let error = map.error(&held);
                if error < best.0 {
                    best = (error, penalties);
                }
            }
        }
        let mut all = map.sums(held.into_iter());
        for (all, kept) in [(&mut all.squares, &kept.squares), (&mut all.products, &kept.products)] {
            all.iter_mut().zip(kept).for_each(|(all, kept)| *all += kept);
        }
        map.weights = map.solve(&all, best.1)?;
        Some(map)
    }

    /// The factor of an item with these features into `factor`, which has the map's dimensions.
    pub fn map(&self, features: &ItemFeatures, factor: &mut [f32]) {
        factor.fill(0.0);
        self.for_each(features, |input, value| {
            add_scaled(factor, value, &self.weights[input * self.dims..][..self.dims]);
        });
    }

    fn for_each(&self, features: &ItemFeatures, mut each: impl FnMut(usize, f32)) {
        each(0, 1.0);
        if features.image.len() == self.image_dims && self.image_dims > 0 {
            each(1, 1.0);
            for (n, (value, mean)) in features.image.iter().zip(&self.image_mean).enumerate() {
                each(CONSTANTS + n, value - mean);
            }
        }
        for &(bucket, value) in &features.words {
            each(CONSTANTS + self.image_dims + usize::from(bucket), value);
        }
    }

    fn sums<'a>(&self, examples: impl Iterator<Item = &'a Example<'a>>) -> Sums {
        let (inputs, dims) = (Self::inputs(self.image_dims), self.dims);
        let (mut squares, mut products) = (vec![0.0_f32; inputs * inputs], vec![0.0_f32; inputs * dims]);
        let (mut rows, mut factors) = (Vec::new(), Vec::new());
        let mut flush = |rows: &mut Vec<f32>, factors: &mut Vec<f32>| {
            multiply_transposed(rows, rows, (inputs, inputs), &mut squares);
            multiply_transposed(rows, factors, (inputs, dims), &mut products);
            rows.clear();
            factors.clear();
        };
        for example in examples {
            let root = trust(example.engagements).sqrt();
            let start = rows.len();
            rows.resize(start + inputs, 0.0);
            self.for_each(&example.features, |input, value| rows[start + input] = root * value);
            factors.extend(example.factor.iter().map(|value| root * value));
            if rows.len() >= CHUNK_ROWS * inputs {
                flush(&mut rows, &mut factors);
            }
        }
        flush(&mut rows, &mut factors);
        Sums { squares: widened(&squares), products: widened(&products) }
    }

    /// The weights for these penalties of labels, pictures and titles.
    fn solve(&self, sums: &Sums, penalties: [f64; 3]) -> Option<Vec<f32>> {
        let (inputs, dims) = (Self::inputs(self.image_dims), self.dims);
        // What no example has gets no weight; most buckets are empty where there are few labels.
        let used: Vec<usize> = (0..inputs).filter(|&input| sums.squares[input * inputs + input] > 0.0).collect();
        let row = |&input: &usize| used.iter().map(move |&other| sums.squares[input * inputs + other]);
        let mut matrix: Vec<f64> = used.iter().flat_map(row).collect();
        for (place, &input) in used.iter().enumerate() {
            matrix[place * used.len() + place] += match input {
                0 => 1e-3,
                1 => 1.0,
                _ if input < CONSTANTS + self.image_dims => penalties[IMAGES],
                _ if input < CONSTANTS + self.image_dims + LABEL_BUCKETS => penalties[LABELS],
                _ => penalties[TITLES],
            };
        }
        if !cholesky(&mut matrix, used.len()) {
            return None;
        }
        let products = |&input: &usize| sums.products[input * dims..][..dims].iter().copied();
        let mut solved: Vec<f64> = used.iter().flat_map(products).collect();
        cholesky_solve(&matrix, used.len(), &mut solved, dims);
        let mut weights = vec![0.0; inputs * dims];
        for (row, &input) in solved.chunks_exact(dims).zip(&used) {
            weights[input * dims..][..dims].iter_mut().zip(row).for_each(|(to, from)| *to = *from as f32);
        }
        Some(weights)
    }

    fn error(&self, held: &[&Example<'_>]) -> f64 {
        let mut guess = vec![0.0; self.dims];
        let mut error = 0.0;
        for example in held {
            self.map(&example.features, &mut guess);
            let squares: f32 = guess.iter().zip(example.factor).map(|(g, f)| (g - f).powi(2)).sum();
            error += f64::from(trust(example.engagements) * squares);
        }
        error
    }
}

struct Sums {
    squares: Vec<f64>,
    products: Vec<f64>,
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn trust(engagements: f32) -> f32 {
    engagements / (engagements + HALF_TRUSTED)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::domain::ItemId;

    const DIMS: usize = 6;

    fn item(title: &str, categories: &[&str]) -> Item {
        let mut item = Item::new(ItemId::new("i").unwrap());
        item.title = title.into();
        item.categories = categories.iter().map(ToString::to_string).collect();
        item
    }

    fn picture(random: &mut SmallRng) -> Embedding {
        Embedding::unit((0..12).map(|_| random.random_range(-1.0..1.0)).collect()).unwrap()
    }

    #[test]
    fn words_count_in_any_case_and_order() {
        let a = ItemFeatures::of(&item("The Quiet Sea", &["Drama", "Romance"]), &[]);
        let b = ItemFeatures::of(&item("the QUIET sea!", &["drama", "romance"]), &[]);
        assert_eq!(a, b);
        assert!(!a.is_empty() && a.image.is_empty() && ItemFeatures::of(&item("", &[]), &[]).is_empty());
        assert!(a.words.iter().all(|&(bucket, _)| usize::from(bucket) < BUCKETS));
        assert!(a.only(true, false).is_empty());
    }

    #[test]
    fn a_planted_map_is_found_and_noise_is_left_alone() {
        let mut random = SmallRng::seed_from_u64(1);
        let planted: Vec<f32> = (0..12 * DIMS).map(|_| random.random_range(-1.0..1.0)).collect();
        let genres = ["comedy", "drama", "horror", "western"];
        let of_genre: Vec<f32> = (0..genres.len() * DIMS).map(|_| random.random_range(-1.0..1.0)).collect();
        let made: Vec<(ItemFeatures, Vec<f32>)> = (0..400)
            .map(|n| {
                let image = picture(&mut random);
                let genre = random.random_range(0..genres.len());
                let features =
                    ItemFeatures::of(&item(&format!("Number {n}"), &[genres[genre]]), std::slice::from_ref(&image));
                let mut factor = of_genre[genre * DIMS..][..DIMS].to_vec();
                for (row, value) in planted.chunks(DIMS).zip(image.as_slice()) {
                    add_scaled(&mut factor, *value, row);
                }
                (features, factor)
            })
            .collect();
        let example = |(features, factor): &(ItemFeatures, Vec<f32>)| -> (ItemFeatures, Vec<f32>) {
            (features.clone(), factor.clone())
        };
        let known: Vec<_> = made[..300].iter().map(example).collect();
        let examples: Vec<Example<'_>> = known
            .iter()
            .map(|(features, factor)| Example { features: features.clone(), factor, engagements: 20.0 })
            .collect();
        let map = ColdMap::fit(&examples, DIMS).unwrap();
        let (mut wrong, mut size, mut guess) = (0.0, 0.0, vec![0.0; DIMS]);
        for (features, factor) in &made[300..] {
            map.map(features, &mut guess);
            wrong += guess.iter().zip(factor).map(|(g, f)| (g - f).powi(2)).sum::<f32>();
            size += factor.iter().map(|f| f * f).sum::<f32>();
        }
        assert!(wrong < 0.1 * size, "{wrong} of {size}");
        // Without a picture, or with one of another model, it still has the words.
        map.map(&made[350].0.clone().only(false, true), &mut guess);
        assert!(guess.iter().all(|v| v.is_finite()));
        assert!(ColdMap::fit(&examples[..FEWEST_EXAMPLES - 1], DIMS).is_none());
    }

    #[test]
    fn where_looks_say_nothing_the_guess_is_the_mean() {
        let mut random = SmallRng::seed_from_u64(2);
        let factors: Vec<Vec<f32>> =
            (0..200).map(|_| (0..DIMS).map(|k| random.random_range(-1.0..1.0) + k as f32).collect()).collect();
        let examples: Vec<Example<'_>> = factors
            .iter()
            .map(|factor| Example {
                features: ItemFeatures::of(&item("", &[]), &[picture(&mut random)]),
                factor,
                engagements: 20.0,
            })
            .collect();
        let map = ColdMap::fit(&examples, DIMS).unwrap();
        let mut guess = vec![0.0; DIMS];
        map.map(&ItemFeatures::of(&item("", &[]), &[picture(&mut random)]), &mut guess);
        assert!(guess.iter().enumerate().all(|(k, v)| (v - k as f32).abs() < 0.4), "{guess:?}");
    }
}
