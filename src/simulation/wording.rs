//! What are the videos called? A small grammar of English titles and descriptions, with words for each theme.

use super::random::Random;
use super::theme::Theme;

/// The words of one theme.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// Go before a noun.
    adjectives: &'static [&'static str],
    /// Things one sees; go after "the".
    nouns: &'static [&'static str],
    /// Invented places; go after "in" or "of".
    places: &'static [&'static str],
    /// Who it is about; go after "follows" and "with".
    people: &'static [&'static str],
    /// What they do; go after "who" and a plural.
    deeds: &'static [&'static str],
    /// Labels besides the theme's name.
    tags: &'static [&'static str],
    /// Genres that fit, the likeliest first.
    genres: &'static [&'static str],
}

const FIRST_NAMES: [&str; 24] = [
    "Mara", "Ilse", "Tomas", "Noor", "Kofi", "Ada", "Juno", "Pavel", "Lena", "Omar", "Rhea", "Silas", "Yuki", "Bruno",
    "Esme", "Viktor", "Amara", "Finn", "Leda", "Hugo", "Zara", "Anton", "Mei", "Caleb",
];
const LAST_NAMES: [&str; 20] = [
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Tanaka",
    "Bell",
    "Santos",
    "Varga",
    "Ferrer",
    "Quist",
    "Adeyemi",
    "Rossi",
    "Hale",
    "Novak",
    "Iyer",
    "Brandt",
    "Sorel",
    "Kato",
    "Dunne",
    "Amsel",
    "Pires",
];
const MOODS: [&str; 12] =
    ["calm", "tense", "funny", "warm", "dark", "hopeful", "quirky", "epic", "tender", "gripping", "dreamy", "bright"];

/// What is said about one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) tags: Vec<String>,
    pub(super) genre: &'static str,
}

/// A made-up person's name.
pub(super) fn person(random: &mut Random) -> String {
    format!("{} {}", random.pick(&FIRST_NAMES), random.pick(&LAST_NAMES))
}

/// A title of two to five words.
pub(super) fn title(theme: Theme, random: &mut Random) -> String {
    let v = vocabulary(theme);
    let (adjective, noun, place) = (random.pick(v.adjectives), random.pick(v.nouns), random.pick(v.places));
    match random.below(9) {
        0 => format!("The {adjective} {noun}"),
        1 => format!("{adjective} {noun}"),
        2 => format!("{noun} of {place}"),
        3 => format!("A {noun} in {place}"),
        4 => format!("{}'s {noun}", random.pick(&FIRST_NAMES)),
        5 => format!("{place} {noun}"),
        6 => {
            let other = *random.pick(v.nouns);
            if other == *noun { format!("{adjective} {place}") } else { format!("{noun} and {other}") }
        }
        7 => format!("Beyond the {adjective} {noun}"),
        _ => format!("The {noun} at {place}"),
    }
}

/// A clip's title: says what one sees.
pub(super) fn clip_title(theme: Theme, random: &mut Random) -> String {
    let v = vocabulary(theme);
    let (adjective, noun, place) = (random.pick(v.adjectives), random.pick(v.nouns), random.pick(v.places));
    match random.below(7) {
        0 => format!("One minute of {} {}", adjective.to_lowercase(), noun.to_lowercase()),
        1 => format!("{noun}, up close"),
        2 => format!("Watch this {}", noun.to_lowercase()),
        3 => format!("{} tries the {} {}", random.pick(&FIRST_NAMES), adjective.to_lowercase(), noun.to_lowercase()),
        4 => format!("{place} in {} seconds", [15, 30, 45, 60][random.below(4)]),
        5 => format!("{} things about the {}", 3 + random.below(6), noun.to_lowercase()),
        _ => format!("{adjective} {noun} from {place}"),
    }
}

/// Description, tags and genre of an item with this title.
pub(super) fn describe(theme: Theme, title: String, light: &str, clip: bool, random: &mut Random) -> Words {
    let v = vocabulary(theme);
    let mood = *random.pick(&MOODS);
    let genre_place = (random.exponential() * 1.1) as usize % v.genres.len();
    let genre = v.genres[genre_place];
    let (noun, place, people, deed) =
        (random.pick(v.nouns).to_lowercase(), random.pick(v.places), random.pick(v.people), random.pick(v.deeds));
    let opening = match random.below(4) {
        0 => format!("In {place}, {people} {deed}."),
        1 => format!("A {mood} look at {people} who {deed}."),
        2 => format!("{} follows {people} who {deed}.", person(random)),
        _ => format!("The story of {people} in {place} who {deed}."),
    };
    let closing = match random.below(4) {
        0 => format!(" Then the {noun} changes everything."),
        1 => format!(" Shot {light}, with a {noun} you will not forget."),
        2 => format!(" A {mood} {} about what the {noun} leaves behind.", genre.to_lowercase()),
        _ => format!(" And nobody had counted on the {noun}."),
    };
    let mut tags = vec![theme.name().to_owned(), mood.to_owned()];
    for _ in 0..3 {
        let tag = (*random.pick(v.tags)).to_owned();
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let description = if clip { opening } else { opening + &closing };
    Words { title, description, tags, genre }
}

fn vocabulary(theme: Theme) -> &'static Vocabulary {
    &VOCABULARIES[theme.index()]
}

/// In the order of [`Theme::ALL`].
static VOCABULARIES: [Vocabulary; 12] = [
    Vocabulary {
        adjectives: &[
            "Salt", "Glass", "Silent", "Northern", "Restless", "Silver", "Drifting", "Last", "Deep", "Windward",
        ],
        nouns: &["Tide", "Harbour", "Lighthouse", "Voyage", "Horizon", "Swell", "Keel", "Storm", "Crossing", "Sail"],
        places: &["Port Amrin", "Skerry Bay", "Lorn Sound", "Cape Ysel", "Vell", "Marrow Point"],
        people: &[
            "two sisters",
            "a ferry crew",
            "three fishermen",
            "a lighthouse keeper's children",
            "a pair of sailors",
        ],
        deeds: &[
            "race a winter storm",
            "search for a lost boat",
            "learn to read the waves",
            "cross the strait by night",
        ],
        tags: &["ocean", "sailing", "waves", "coast", "boats", "adventure", "weather"],
        genres: &["Drama", "Adventure", "Documentary", "Thriller"],
    },
    Vocabulary {
        adjectives: &["Hollow", "Green", "Whispering", "Ancient", "Mossy", "Amber", "Hidden", "Tall", "Foggy", "Wild"],
        nouns: &["Grove", "Path", "Timber", "Fern", "Cabin", "Oak", "Clearing", "Ranger", "Birch", "Thicket"],
        places: &["Ashdell", "Brannoch", "Tarn Wood", "Old Hemlock", "Virka", "Elmreach"],
        people: &["two rangers", "a family of foresters", "four hikers", "old friends", "a band of runaways"],
        deeds: &[
            "get lost and like it",
            "guard the oldest tree",
            "follow a trail of lanterns",
            "spend a year off the map",
        ],
        tags: &["trees", "nature", "hiking", "mist", "wildlife", "autumn", "quiet"],
        genres: &["Documentary", "Fantasy", "Drama", "Horror"],
    },
    Vocabulary {
        adjectives: &[
            "Neon",
            "Midnight",
            "Electric",
            "Restless",
            "Rain-Lit",
            "Concrete",
            "Second",
            "Sleepless",
            "Velvet",
            "Loud",
        ],
        nouns: &["Avenue", "Skyline", "Signal", "Rooftop", "Metro", "Stranger", "Taxi", "Corner", "Alibi", "Window"],
        places: &["Novaport", "Eastline", "Harrow Street", "Luma City", "Quarter Nine", "Belmond"],
        people: &[
            "two detectives",
            "a night-bus driver's regulars",
            "three flatmates",
            "rival reporters",
            "street artists",
        ],
        deeds: &["chase a rumour until dawn", "share one rooftop", "hear something they should not", "never sleep"],
        tags: &["night", "urban", "neon", "crime", "skyline", "streets", "rain"],
        genres: &["Thriller", "Crime", "Drama", "Comedy"],
    },
    Vocabulary {
        adjectives: &[
            "Burning",
            "Golden",
            "Endless",
            "Dry",
            "Red",
            "Wandering",
            "Forgotten",
            "Blinding",
            "Quiet",
            "Dusty",
        ],
        nouns: &["Dune", "Caravan", "Mirage", "Canyon", "Well", "Outpost", "Rider", "Cactus", "Sandstorm", "Mesa"],
        places: &["Qasr Edin", "Redrock Flats", "Tamaza", "Sol Basin", "Dry Creek", "Azaroth"],
        people: &["two drifters", "a salt caravan", "three geologists", "a sheriff's daughters", "map makers"],
        deeds: &["look for water", "outrun a sandstorm", "dig for a buried city", "trade stories at the last well"],
        tags: &["sand", "heat", "western", "journey", "sun", "wilderness", "canyon"],
        genres: &["Western", "Adventure", "Documentary", "Drama"],
    },
    Vocabulary {
        adjectives: &["Spicy", "Sunday", "Simple", "Secret", "Sweet", "Slow", "Crisp", "Golden", "Grandma's", "Smoky"],
        nouns: &["Supper", "Recipe", "Noodles", "Oven", "Dumpling", "Pantry", "Tart", "Broth", "Feast", "Sourdough"],
        places: &["Via Lume", "Copper Lane", "Saffron Hill", "Port Amrin", "Little Oda", "Casa Bruma"],
        people: &["two rival chefs", "a family bakery", "home cooks", "a young baker and her aunt", "market traders"],
        deeds: &[
            "cook with five ingredients",
            "reopen a corner bistro",
            "hunt for the perfect dough",
            "feed a whole street",
        ],
        tags: &["food", "cooking", "recipe", "comfort", "baking", "chef", "dinner"],
        genres: &["Food", "Reality", "Comedy", "Documentary"],
    },
    Vocabulary {
        adjectives: &[
            "Final", "Golden", "Perfect", "Extra", "Fearless", "Home", "Broken", "Double", "Late", "Unbeaten",
        ],
        nouns: &["Match", "Set", "Goal", "Season", "Rally", "Comeback", "Serve", "Underdogs", "Champion", "Overtime"],
        places: &["Stade Vaux", "Milltown", "Arena Nord", "Court Six", "Belmond", "Rio Claro"],
        people: &["a team of underdogs", "two rivals", "a coach and his captain", "young champions", "twins"],
        deeds: &[
            "have one season left",
            "train at five every morning",
            "meet again in the final",
            "play through the rain",
        ],
        tags: &["match", "ball", "team", "highlights", "training", "competition", "fans"],
        genres: &["Sport", "Documentary", "Drama", "Comedy"],
    },
    Vocabulary {
        adjectives: &[
            "Distant", "Lunar", "Silent", "Infinite", "Stellar", "Lost", "Seventh", "Cold", "Orbital", "Violet",
        ],
        nouns: &["Orbit", "Nebula", "Signal", "Station", "Comet", "Colony", "Eclipse", "Probe", "Gravity", "Moon"],
        places: &["Kepler Deep", "Orion Gate", "Titan Yard", "Station Vega", "New Halley", "the Outer Ring"],
        people: &["six astronauts", "a salvage crew", "two engineers", "the first colonists", "astronomers"],
        deeds: &[
            "answer a message from nowhere",
            "fix what cannot be fixed",
            "watch a star be born",
            "miss their way home",
        ],
        tags: &["stars", "planets", "future", "rocket", "science", "exploration", "galaxy"],
        genres: &["Science Fiction", "Documentary", "Thriller", "Animation"],
    },
    Vocabulary {
        adjectives: &["White", "High", "Frozen", "Lonely", "Steep", "Crystal", "Thin", "Northern", "Blue", "Unclimbed"],
        nouns: &["Ridge", "Summit", "Glacier", "Pass", "Avalanche", "Rope", "Refuge", "Peak", "Winter", "Descent"],
        places: &["Mont Serac", "Kaldvik", "the Tarn Alps", "Upper Vann", "Piz Orlo", "Skarholm"],
        people: &["two climbers", "a mountain rescue team", "four skiers", "a hut warden's family", "shepherds"],
        deeds: &["wait out the storm", "try the north face", "ski where nobody has", "keep the pass open all winter"],
        tags: &["snow", "climbing", "peaks", "nature", "winter", "ski", "panorama"],
        genres: &["Documentary", "Adventure", "Drama", "Sport"],
    },
    Vocabulary {
        adjectives: &["Curious", "Tiny", "Brave", "Sleepy", "Clever", "Fluffy", "Grumpy", "Happy", "Sneaky", "Little"],
        nouns: &["Fox", "Owl", "Bear", "Cat", "Panda", "Frog", "Paws", "Whiskers", "Burrow", "Friends"],
        places: &["Willow Den", "Puddle Farm", "Button Hill", "Clover Park", "Maple Hollow", "Pebble Creek"],
        people: &["five small animals", "a fox and an owl", "the pets of one house", "a very serious cat's friends"],
        deeds: &["build a boat", "look after an egg", "find a new friend every day", "ask how things work"],
        tags: &["cartoon", "kids", "cute", "family", "friends", "shapes", "learning"],
        genres: &["Family", "Animation", "Comedy", "Education"],
    },
    Vocabulary {
        adjectives: &["Live", "Acoustic", "Loud", "Golden", "Broken", "Purple", "Summer", "Encore", "Analog", "Heavy"],
        nouns: &[
            "Session",
            "Stage",
            "Chorus",
            "Tour",
            "Bassline",
            "Festival",
            "Anthem",
            "Drummer",
            "Vinyl",
            "Spotlight",
        ],
        places: &["Hall Five", "the Old Tannery", "Luma Arena", "Field Day", "Club Oriel", "Rio Claro"],
        people: &["a band of brothers", "two DJs", "a choir", "five teenagers with guitars", "a touring orchestra"],
        deeds: &["play the last show", "write a song in a day", "fill an empty hall", "miss the soundcheck"],
        tags: &["concert", "live", "band", "festival", "lights", "dance", "stage"],
        genres: &["Music", "Documentary", "Drama", "Reality"],
    },
    Vocabulary {
        adjectives: &["Open", "Long", "Fast", "Lost", "Coastal", "Midnight", "Dusty", "Straight", "Second", "Wide"],
        nouns: &["Highway", "Mile", "Engine", "Detour", "Motel", "Lap", "Convoy", "Tailwind", "Exit", "Roadster"],
        places: &["Route 19", "Sol Basin", "Pine Junction", "the Coast Road", "Circuit Marne", "Westfall"],
        people: &[
            "two brothers",
            "a rally team",
            "three strangers in one car",
            "a retired racer's friends",
            "truckers",
        ],
        deeds: &["drive until the map ends", "race for a garage", "carry one strange parcel", "rebuild an old engine"],
        tags: &["cars", "driving", "roadtrip", "speed", "race", "engine", "travel"],
        genres: &["Travel", "Action", "Sport", "Comedy"],
    },
    Vocabulary {
        adjectives: &[
            "Coral",
            "Turquoise",
            "Sunken",
            "Deep",
            "Gentle",
            "Glowing",
            "Blue",
            "Secret",
            "Tropical",
            "Weightless",
        ],
        nouns: &["Reef", "Lagoon", "Dive", "Current", "Turtle", "Shoal", "Jellyfish", "Wreck", "Anemone", "Pearl"],
        places: &["Atoll Nine", "Mirra Lagoon", "Skerry Bay", "the Blue Shelf", "Ola Reef", "Coralline"],
        people: &["two marine biologists", "a free diver's students", "three divers", "the keepers of a sea park"],
        deeds: &[
            "map a living reef",
            "follow a turtle home",
            "find a wreck that should not be there",
            "count every fish",
        ],
        tags: &["underwater", "fish", "coral", "diving", "ocean", "marine", "nature"],
        genres: &["Documentary", "Family", "Adventure", "Science"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_theme_has_words() {
        let mut random = Random::new(1, 1);
        for theme in Theme::ALL {
            for _ in 0..50 {
                let title = title(theme, &mut random);
                assert!((4..60).contains(&title.len()), "{title}");
                let words = describe(theme, title, "at dusk", false, &mut random);
                assert!(words.tags.len() >= 2 && words.tags[0] == theme.name());
                assert!(words.description.ends_with('.') && !words.description.contains("  "), "{}", words.description);
                assert!(!clip_title(theme, &mut random).is_empty());
            }
        }
    }
}
