//! What are the videos about? Twelve themes, each with its own pictures and words.

use std::fmt;

/// What an item is about; decides how its pictures are painted and which words describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Theme {
    /// Open water under a wide sky.
    Sea,
    /// Woods in mist, autumn or moonlight.
    Forest,
    /// A city by night.
    City,
    /// Dunes, cacti and mesas.
    Desert,
    /// Dishes on a table, seen from above.
    Kitchen,
    /// Courts and pitches with players and a ball.
    Court,
    /// Planets, nebulae and rockets.
    Space,
    /// Peaks, snow and lakes.
    Mountains,
    /// Portraits of animals in plain shapes.
    Animals,
    /// A stage, its lights and the crowd before it.
    Concert,
    /// A road that runs to the horizon.
    Road,
    /// Corals and fish under water.
    Reef,
}

impl Theme {
    /// Every theme.
    pub const ALL: [Self; 12] = [
        Self::Sea,
        Self::Forest,
        Self::City,
        Self::Desert,
        Self::Kitchen,
        Self::Court,
        Self::Space,
        Self::Mountains,
        Self::Animals,
        Self::Concert,
        Self::Road,
        Self::Reef,
    ];

    /// A lower-case word, as used in tags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sea => "sea",
            Self::Forest => "forest",
            Self::City => "city",
            Self::Desert => "desert",
            Self::Kitchen => "kitchen",
            Self::Court => "sport",
            Self::Space => "space",
            Self::Mountains => "mountains",
            Self::Animals => "animals",
            Self::Concert => "music",
            Self::Road => "road",
            Self::Reef => "reef",
        }
    }

    /// Its place in [`Theme::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// A theme that is easily confused with it and at times appears in the same video.
    pub fn neighbour(self) -> Self {
        match self {
            Self::Sea => Self::Reef,
            Self::Reef => Self::Sea,
            Self::Forest => Self::Mountains,
            Self::Mountains => Self::Forest,
            Self::City => Self::Concert,
            Self::Concert => Self::City,
            Self::Desert => Self::Road,
            Self::Road => Self::Desert,
            Self::Kitchen => Self::City,
            Self::Court => Self::City,
            Self::Space => Self::Desert,
            Self::Animals => Self::Forest,
        }
    }
}

impl fmt::Display for Theme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_are_unique() {
        for (place, theme) in Theme::ALL.into_iter().enumerate() {
            assert_eq!(theme.index(), place);
            assert_ne!(theme.neighbour(), theme);
            assert_eq!(Theme::ALL.iter().filter(|t| t.name() == theme.name()).count(), 1);
        }
    }
}
