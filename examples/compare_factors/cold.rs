//! What does the model know of films that nobody has rated yet? Held-out films are ranked among themselves.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use upnext::collab::{AlsOptions, ItemFeatures, PreferenceScratch};
use upnext::domain::{Embedding, Item, ItemId, ItemNo, Timestamp};
use upnext::inference::{Backend, Manifest, OnnxBackend, OnnxOptions, PixelBatch, runtime};
use upnext::vision::{DecodeLimits, decode, preprocess};

use crate::data::{Rating, popularity};
use crate::{key, taught};

/// Every so many films with a poster is held out.
const HELD_OUT: u64 = 6;
const RESAMPLES: usize = 2_000;
/// Who looks at the posters: the default model and a larger input of it, alone and with formulas beside them.
const SEEN_BY: [(&str, &[(&str, f32)]); 4] = [
    ("160 pixels", &[("efficientnet-lite0-160", 1.0)]),
    ("160 and appearance", &[("efficientnet-lite0-160", 1.0), ("appearance", 0.2)]),
    ("224 pixels", &[("efficientnet-lite0", 1.0)]),
    ("224 and appearance", &[("efficientnet-lite0", 1.0), ("appearance", 0.2)]),
];

/// A seeded source of numbers in [0, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

pub(crate) fn run(folder: &Path, ratings: &[Rating], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let films = films(&folder.join("items.csv"))?;
    let located = runtime::ensure(None, &runtime::InstallOptions::default(), &mut |_| {})?;
    runtime::load(&located)?;
    let posters = posters(&folder.join("posters"), &films, SEEN_BY[0].1)?;
    let mut with_poster: Vec<u32> = posters.keys().copied().collect();
    with_poster.sort_unstable();
    let shuffled = |film: u32| u64::from(film).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let held: HashSet<u32> = with_poster.into_iter().filter(|&film| shuffled(film) % HELD_OUT == 0).collect();
    let learned: Vec<Rating> = ratings.iter().filter(|r| !held.contains(&r.film)).copied().collect();
    let mut wanted: HashMap<u32, HashSet<u32>> = HashMap::new();
    for rating in ratings.iter().filter(|r| held.contains(&r.film)) {
        wanted.entry(rating.user).or_default().insert(rating.film);
    }
    let mut held: Vec<u32> = held.into_iter().collect();
    held.sort_unstable();
    writeln!(
        out,
        "{} films held out, {} ratings of others learned, {} of {} users rated a held-out film",
        held.len(),
        learned.len(),
        wanted.len(),
        ratings.chunk_by(|a, b| a.user == b.user).count()
    )?;

    let mut random = Random(7);
    report(out, "chance", &held, &wanted, |_, _| random.next())?;
    report(out, "popularity of the film (none known)", &held, &wanted, |_, _| 0.0)?;
    let counts = popularity(&learned);
    let mut of_genre: HashMap<&str, (f64, f64)> = HashMap::new();
    for (film, item) in &films {
        for genre in &item.categories {
            let sum = of_genre.entry(genre).or_default();
            (sum.0, sum.1) = (sum.0 + counts.get(film).copied().unwrap_or(0.0), sum.1 + 1.0);
        }
    }
    let mean = |film: u32, weigh: &dyn Fn(&str) -> f64| -> f64 {
        let genres = &films[&film].categories;
        genres.iter().map(|genre| weigh(genre)).sum::<f64>() / genres.len().max(1) as f64
    };
    let popular = |genre: &str| of_genre.get(genre).map_or(0.0, |(sum, films)| sum / films.max(1.0));
    report(out, "popularity of its genres", &held, &wanted, |_, film| mean(film, &popular))?;
    let mut own: HashMap<(u32, &str), f64> = HashMap::new();
    for r in &learned {
        for genre in films.get(&r.film).map_or(&[][..], |item| &item.categories) {
            *own.entry((r.user, genre)).or_default() += 1.0;
        }
    }
    report(out, "the user's own genres", &held, &wanted, |user, film| {
        mean(film, &|genre| own.get(&(user, genre)).copied().unwrap_or(0.0))
    })?;

    let items: Vec<ItemNo> = films.keys().map(|&film| ItemNo(film)).collect();
    let mut variants = vec![("model, genres and titles only".to_owned(), false, true, SEEN_BY[0].1)];
    for (name, models) in SEEN_BY {
        variants.push((format!("posters only, {name}"), true, false, models));
        variants.push((format!("both, {name}"), true, true, models));
    }
    for (name, image, words, models) in variants {
        let posters = self::posters(&folder.join("posters"), &films, models)?;
        let preference = taught(&learned, AlsOptions::default());
        let describe = |no: ItemNo| {
            let item = films.get(&no.0)?;
            let pictures: Vec<Embedding> = posters.get(&no.0).cloned().into_iter().collect();
            Some(ItemFeatures::of(item, &pictures).only(image, words))
        };
        let trained = preference.train(Timestamp(0), &items, &describe, &AtomicBool::new(false), |_| {});
        let seconds = trained.map_or(f64::NAN, |trained| trained.took.as_secs_f64());
        for cosine in [false, true] {
            let (mut scratch, mut last) = (PreferenceScratch::default(), u32::MAX);
            let how = if cosine { format!("{name}, by cosine") } else { format!("{name} ({seconds:.1} s)") };
            report(out, &how, &held, &wanted, |user, film| {
                if user != last {
                    preference.fold_in(None, Some(key(user)), &[], &mut scratch);
                    last = user;
                }
                let item = ItemNo(film);
                f64::from(if cosine { scratch.likeness(item) } else { scratch.score(item) }.unwrap_or(-1.0))
            })?;
        }
    }
    Ok(())
}

/// Means over users of NDCG@10 and AUC, each with its bootstrap interval of 95 %.
fn report(
    out: &mut impl Write,
    name: &str,
    held: &[u32],
    wanted: &HashMap<u32, HashSet<u32>>,
    mut score: impl FnMut(u32, u32) -> f64,
) -> Result<(), Box<dyn Error>> {
    let mut users: Vec<u32> = wanted.keys().copied().collect();
    users.sort_unstable();
    let mut figures: Vec<[f64; 2]> = Vec::new();
    for user in users {
        let wanted = &wanted[&user];
        let mut ranked: Vec<(f64, u32)> = held.iter().map(|&film| (score(user, film), film)).collect();
        // Ties in an order that says nothing.
        let tie = |film: u32| film.wrapping_mul(0x9E37_79B9);
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(tie(a.1).cmp(&tie(b.1))));
        let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let hit = |place: &usize| wanted.contains(&ranked[*place].1);
        let ndcg: f64 = (0..10.min(ranked.len())).filter(hit).map(gain).sum::<f64>()
            / (0..wanted.len().min(10)).map(gain).sum::<f64>();
        let (mut above, mut pairs) = (0.0, 0.0);
        for (_, film) in &ranked {
            if wanted.contains(film) { above += 1.0 } else { pairs += above }
        }
        figures.push([ndcg, pairs / (above * (ranked.len() as f64 - above)).max(1.0)]);
    }
    let mean = |n: usize| figures.iter().map(|f| f[n]).sum::<f64>() / figures.len().max(1) as f64;
    let interval = |n: usize| {
        let mut random = Random(11);
        let mut means: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn = (0..figures.len()).map(|_| figures[(random.next() * figures.len() as f64) as usize][n]);
                drawn.sum::<f64>() / figures.len() as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        (means[RESAMPLES / 40], means[RESAMPLES - 1 - RESAMPLES / 40])
    };
    let (ndcg, auc) = (interval(0), interval(1));
    writeln!(
        out,
        "{name:<48} NDCG@10 {:.3} [{:.3}, {:.3}]  AUC {:.3} [{:.3}, {:.3}]",
        mean(0),
        ndcg.0,
        ndcg.1,
        mean(1),
        auc.0,
        auc.1
    )?;
    Ok(())
}

fn films(file: &Path) -> Result<HashMap<u32, Item>, Box<dyn Error>> {
    let mut films = HashMap::new();
    for row in csv::Reader::from_path(file)?.deserialize() {
        let (film, title, genres): (u32, String, String) = row?;
        let mut item = Item::new(ItemId::new(film.to_string())?);
        item.title = title;
        item.categories = genres.split('|').map(str::to_owned).collect();
        films.insert(film, item);
    }
    Ok(films)
}

/// What models, each with its weight, see in the posters: as the service fuses them.
fn posters(
    folder: &Path,
    films: &HashMap<u32, Item>,
    models: &[(&str, f32)],
) -> Result<HashMap<u32, Embedding>, Box<dyn Error>> {
    let mut parts: HashMap<u32, Vec<f32>> = HashMap::new();
    for &(name, weight) in models {
        let manifest = Manifest::builtin_named(name).ok_or("no such model")??;
        let mut backend = OnnxBackend::load(&manifest, &OnnxOptions::default())?;
        for &film in films.keys() {
            let Ok(bytes) = std::fs::read(folder.join(format!("{film}.jpg"))) else { continue };
            let Ok(picture) = decode(&bytes, &DecodeLimits::default()) else { continue };
            let pixels = preprocess(&picture, manifest.input())?;
            let batch = PixelBatch::new(manifest.input(), vec![&pixels]).ok_or("the picture has another size")?;
            for embedding in backend.embed(&batch)? {
                let embedding = embedding?;
                let scaled = embedding.as_slice().iter().map(|value| value * weight.sqrt());
                parts.entry(film).or_default().extend(scaled);
            }
        }
    }
    let fused = parts.into_iter().map(|(film, vector)| Ok((film, Embedding::unit(vector)?)));
    fused.collect()
}
