//! What is there to watch? The catalogue of an imaginary video service: series, films and clips.

use std::collections::{BTreeMap, HashSet};

use crate::domain::{Attribute, Item, ItemId, Pixels, Timestamp};

use super::artwork::Artwork;
use super::random::{Random, derive};
use super::theme::Theme;
use super::wording;

/// The regions in which the service exists; items without regions are shown in all of them.
pub(super) const REGIONS: [&str; 6] = ["de", "fr", "us", "jp", "br", "in"];

/// What kind of video an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Part of a series.
    Episode {
        /// The series, numbered from 0 in the order of generation.
        series: u32,
        /// The episode's number within the series, from 1.
        number: u32,
    },
    /// A film of 70 to 140 minutes.
    Film,
    /// A clip of 12 seconds to a few minutes.
    Clip,
}

/// An item and what the simulation knows about it.
#[derive(Debug, Clone)]
pub struct CatalogueItem {
    /// As a client would send it; passes [`Item::check`]. The availability window is left open, because it depends on
    /// today: see [`Catalogue::items_at`].
    pub item: Item,
    /// What it is about.
    pub theme: Theme,
    /// What kind of video it is.
    pub kind: Kind,
    /// Its pictures.
    pub artwork: Artwork,
    /// How many days before today it was published; below 0: it will be.
    pub released_days_ago: f32,
    /// In how many days it leaves the service, if it does; below 0: it has left.
    pub leaves_in_days: Option<f32>,
    /// How much people like it compared with an average item of 1: part of its popularity, besides age and taste.
    pub appeal: f32,
}

/// A seeded catalogue.
#[derive(Debug, Clone)]
pub struct Catalogue {
    items: Vec<CatalogueItem>,
}

impl Catalogue {
    /// `count` items; the same seed gives the same items, and a smaller catalogue is the beginning of a larger one.
    ///
    /// Productions go round the themes, so each theme gets about a twelfth of them.
    pub fn generate(seed: u64, count: usize) -> Self {
        let mut maker = Maker { items: Vec::with_capacity(count), ids: HashSet::new(), series: 0 };
        for production in 0_u64.. {
            if maker.items.len() >= count {
                break;
            }
            let theme = Theme::ALL[(production % Theme::ALL.len() as u64) as usize];
            maker.production(theme, derive(seed, production));
        }
        maker.items.truncate(count);
        Self { items: maker.items }
    }

    /// The items, in the order of generation; episodes of a series stand together.
    pub fn items(&self) -> &[CatalogueItem] {
        &self.items
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item with this id.
    pub fn find(&self, id: &ItemId) -> Option<&CatalogueItem> {
        self.items.iter().find(|entry| entry.item.id == *id)
    }

    /// The items as a client would send them at `now`: with their availability windows.
    pub fn items_at(&self, now: Timestamp) -> Vec<Item> {
        self.items.iter().map(|entry| entry.item_at(now)).collect()
    }
}

impl CatalogueItem {
    /// The item with its availability window, if today is `now`.
    pub fn item_at(&self, now: Timestamp) -> Item {
        let mut item = self.item.clone();
        item.available_from = Some(now.plus_seconds(f64::from(-self.released_days_ago) * DAY_S));
        item.available_until = self.leaves_in_days.map(|days| now.plus_seconds(f64::from(days) * DAY_S));
        item
    }

    /// Its thumbnail, 320 × 180.
    pub fn thumbnail(&self) -> Pixels {
        self.artwork.thumbnail()
    }

    /// The frame on screen `at_s` seconds into the video, 640 × 360.
    pub fn frame(&self, at_s: f64) -> Pixels {
        self.artwork.frame(at_s)
    }

    /// Playing time in seconds.
    pub fn duration_s(&self) -> f64 {
        self.item.duration_s.map_or(60.0, f64::from)
    }
}

const DAY_S: f64 = 86_400.0;
/// This year of the imaginary service; older items carry the years before it.
const THIS_YEAR: f64 = 2026.0;

struct Maker {
    items: Vec<CatalogueItem>,
    ids: HashSet<String>,
    series: u32,
}

/// What the parts of one production share.
struct Production {
    theme: Theme,
    look: u64,
    regions: Vec<String>,
    director: String,
    appeal: f64,
}

impl Maker {
    fn production(&mut self, theme: Theme, seed: u64) {
        let mut random = Random::new(seed, 1);
        let shared = Production {
            theme,
            look: random.bits(),
            regions: regions(&mut random),
            director: wording::person(&mut random),
            appeal: random.lognormal(1.0, 0.8),
        };
        // The kinds are dealt out by number, so that a small catalogue has all of them too.
        match random.below(10) {
            0..2 => self.series(&shared, &mut random),
            2..5 => {
                let minutes = random.between(70.0, 140.0);
                let title = wording::title(theme, &mut random);
                let age = age_days(&mut random);
                self.item(&shared, Kind::Film, title, minutes * 60.0, age, &mut random);
            }
            _ => {
                let seconds = random.lognormal(45.0, 0.7).clamp(12.0, 300.0);
                let title = wording::clip_title(theme, &mut random);
                let age = age_days(&mut random) * 0.3;
                self.item(&shared, Kind::Clip, title, seconds, age, &mut random);
            }
        }
    }

    fn series(&mut self, shared: &Production, random: &mut Random) {
        let series = self.series;
        self.series += 1;
        let name = wording::title(shared.theme, random);
        let minutes = *random.pick(&[12.0, 22.0, 25.0, 42.0, 50.0]);
        let episodes = 4 + random.below(5) as u32;
        // One a week: the newest may be yet to come.
        let newest_days_ago = random.between(-5.0, 240.0);
        for number in 1..=episodes {
            let title = format!("{name} · E{number} · {}", wording::title(shared.theme, random));
            let seconds = minutes * 60.0 * random.between(0.92, 1.08);
            let age = newest_days_ago + 7.0 * f64::from(episodes - number);
            let place = self.items.len();
            self.item(shared, Kind::Episode { series, number }, title, seconds, age, random);
            if let Some(entry) = self.items.get_mut(place) {
                entry.item.attributes.insert("series".into(), Attribute::Text(name.clone()));
                entry.item.attributes.insert("episode".into(), Attribute::Number(f64::from(number)));
            }
        }
    }

    fn item(
        &mut self,
        shared: &Production,
        kind: Kind,
        title: String,
        duration_s: f64,
        days_ago: f64,
        random: &mut Random,
    ) {
        let theme = shared.theme;
        let artwork = Artwork::new(theme, shared.look, random.bits());
        let words = wording::describe(theme, title, artwork.light(), kind == Kind::Clip, random);
        let Some(id) = self.id(&words.title) else { return };
        let mut item = Item::new(id);
        item.title = words.title;
        item.description = words.description;
        item.tags = words.tags;
        item.categories = vec![kind.category().to_owned(), words.genre.to_owned()];
        item.regions.clone_from(&shared.regions);
        item.duration_s = Some(duration_s.round() as f32);
        item.age_rating = Some(age_rating(words.genre, random));
        item.attributes = BTreeMap::from([
            ("director".into(), Attribute::Text(shared.director.clone())),
            ("theme".into(), Attribute::Text(theme.name().into())),
            ("year".into(), Attribute::Number((THIS_YEAR - days_ago.max(0.0) / 365.0).floor())),
        ]);
        self.items.push(CatalogueItem {
            item,
            theme,
            kind,
            artwork,
            released_days_ago: days_ago as f32,
            leaves_in_days: random.chance(0.04).then(|| random.between(-1.0, 20.0) as f32),
            appeal: (shared.appeal * random.lognormal(1.0, 0.4)) as f32,
        });
    }

    /// A readable id that no other item has.
    fn id(&mut self, title: &str) -> Option<ItemId> {
        let mut slug = String::new();
        for letter in title.chars() {
            if letter.is_ascii_alphanumeric() {
                slug.push(letter.to_ascii_lowercase());
            } else if letter != '\'' && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug = slug.trim_matches('-');
        let mut id = slug.to_owned();
        for copy in 2.. {
            if self.ids.insert(id.clone()) {
                break;
            }
            id = format!("{slug}-{copy}");
        }
        ItemId::new(id).ok()
    }
}

impl Kind {
    /// The category that clients see.
    pub fn category(self) -> &'static str {
        match self {
            Self::Episode { .. } => "Series",
            Self::Film => "Film",
            Self::Clip => "Clip",
        }
    }
}

/// Three out of four are shown everywhere, the others in some regions.
fn regions(random: &mut Random) -> Vec<String> {
    if random.chance(0.75) {
        return Vec::new();
    }
    let some: Vec<String> = REGIONS.iter().filter(|_| random.chance(0.5)).map(ToString::to_string).collect();
    if some.len() == REGIONS.len() { Vec::new() } else { some }
}

/// Days since publication: many are new, some are years old, a few are yet to come.
fn age_days(random: &mut Random) -> f64 {
    if random.chance(0.02) { -random.between(0.5, 6.0) } else { random.lognormal(60.0, 1.5).min(9_000.0) }
}

fn age_rating(genre: &str, random: &mut Random) -> u8 {
    let choices: &[u8] = match genre {
        "Family" | "Animation" | "Education" => &[0, 0, 0, 6],
        "Horror" => &[16, 16, 18],
        "Thriller" | "Crime" => &[12, 16, 16, 18],
        "Drama" | "Action" | "Western" | "Science Fiction" => &[6, 12, 12, 16],
        _ => &[0, 0, 6, 12],
    };
    *random.pick(choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_valid_and_unique() {
        let catalogue = Catalogue::generate(1, 600);
        let now = Timestamp(1_700_000_000_000);
        let mut ids = HashSet::new();
        for item in catalogue.items_at(now) {
            item.check().unwrap();
            assert!(ids.insert(item.id.clone()), "{} twice", item.id);
            assert!(!item.title.is_empty() && !item.description.is_empty() && item.tags.len() >= 2);
            assert!(item.duration_s.is_some_and(|d| d >= 12.0));
        }
        assert_eq!(ids.len(), 600);
        assert!(Catalogue::generate(1, 0).is_empty());
    }

    #[test]
    fn the_seed_decides_everything() {
        let describe = |seed, count| -> Vec<String> {
            Catalogue::generate(seed, count).items().iter().map(|e| format!("{:?} {:?}", e.item, e.artwork)).collect()
        };
        let large = describe(5, 240);
        assert_eq!(large, describe(5, 240));
        assert_eq!(large[..100], describe(5, 100), "a smaller catalogue is the beginning of a larger one");
        let other = describe(6, 240);
        assert!(large.iter().zip(&other).all(|(a, b)| a != b));
    }

    #[test]
    fn a_catalogue_has_every_theme_and_kind() {
        let catalogue = Catalogue::generate(1, 240);
        for theme in Theme::ALL {
            let share = catalogue.items().iter().filter(|e| e.theme == theme).count();
            assert!((6..=48).contains(&share), "{theme}: {share}");
        }
        let count = |category| catalogue.items().iter().filter(|e| e.kind.category() == category).count();
        assert!(count("Series") >= 60 && count("Film") >= 25 && count("Clip") >= 40);
        let now = Timestamp(1_700_000_000_000);
        let available = catalogue.items_at(now).iter().filter(|item| item.available(now, None)).count();
        assert!((216..240).contains(&available), "{available}: nearly all, but not all, are available");
        assert!(catalogue.items().iter().any(|e| !e.item.regions.is_empty()));
    }

    #[test]
    fn episodes_stand_together_in_order() {
        let catalogue = Catalogue::generate(2, 300);
        for pair in catalogue.items().windows(2) {
            if let (Kind::Episode { series: a, number: m }, Kind::Episode { series: b, number: n }) =
                (pair[0].kind, pair[1].kind)
                && a == b
            {
                assert_eq!(n, m + 1);
                assert!(pair[0].released_days_ago > pair[1].released_days_ago);
            }
        }
    }
}
