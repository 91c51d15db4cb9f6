//! Which items stand highest at the moment? A short list that is kept up to date at each event.

use std::cmp::Ordering;

use super::level::Level;
use crate::domain::{LoadError, StateReader, StateWriter};

/// How many of the best items each board keeps.
pub(super) const BOARD: usize = 256;

/// The order of boards made anew: the higher level first, equal ones by number.
pub(super) fn best_first(a: &(Level, u32), b: &(Level, u32)) -> Ordering {
    b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

/// The best items by a level that only falls when something is forgotten, best first.
#[derive(Debug, Default)]
pub(super) struct Board(Vec<(Level, u32)>);

impl Board {
    /// The levels and items, best first.
    pub(super) fn entries(&self) -> &[(Level, u32)] {
        &self.0
    }

    /// The best `BOARD` of all items with a level.
    pub(super) fn of(all: impl Iterator<Item = (Level, u32)>) -> Self {
        let mut entries: Vec<(Level, u32)> = all.filter(|(level, _)| !level.is_zero()).collect();
        if entries.len() > BOARD {
            entries.select_nth_unstable_by(BOARD - 1, best_first);
            entries.truncate(BOARD);
        }
        entries.sort_unstable_by(best_first);
        Self(entries)
    }

    /// Moves `item` up to where its risen `level` belongs, if that is on the board.
    pub(super) fn rise(&mut self, item: u32, level: Level) {
        let entries = &mut self.0;
        if entries.len() == BOARD && entries.last().is_some_and(|&(lowest, _)| level < lowest) {
            return;
        }
        let mut position = match entries.iter().position(|&(_, other)| other == item) {
            Some(position) => position,
            None => {
                entries.truncate(BOARD - 1);
                entries.push((level, item));
                entries.len() - 1
            }
        };
        entries[position].0 = level;
        while position > 0 && entries[position - 1].0 < level {
            entries.swap(position - 1, position);
            position -= 1;
        }
    }

    pub(super) fn save(&self, to: &mut StateWriter) {
        to.count(self.0.len());
        for &(_, item) in &self.0 {
            to.u32(item);
        }
    }

    /// Reads the board of `all` the items with a level. Equal items stand in the order in which they rose, so the
    /// order is taken over, but checked.
    pub(super) fn load(
        from: &mut StateReader<'_>,
        level: impl Fn(u32) -> Level,
        all: impl Iterator<Item = Level>,
    ) -> Result<Self, LoadError> {
        let count = from.count(4, BOARD)?;
        let entries: Vec<(Level, u32)> = from.u32s(count)?.map(|item| (level(item), item)).collect();
        let lowest = entries.last().map_or(Level::ZERO, |&(lowest, _)| lowest);
        let (mut known, mut above) = (0, 0);
        for level in all.filter(|level| !level.is_zero()) {
            known += 1;
            above += usize::from(level > lowest);
        }
        let mut items: Vec<u32> = entries.iter().map(|&(_, item)| item).collect();
        items.sort_unstable();
        let good = entries.len() == BOARD.min(known)
            && entries.iter().filter(|&&(level, _)| level > lowest).count() == above
            && entries.iter().all(|(level, _)| !level.is_zero())
            && entries.windows(2).all(|pair| pair[0].0 >= pair[1].0)
            && items.windows(2).all(|pair| pair[0] < pair[1]);
        if good { Ok(Self(entries)) } else { Err(LoadError::Damaged("a board does not show the best items")) }
    }
}
