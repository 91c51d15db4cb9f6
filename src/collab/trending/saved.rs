//! How are the counts written down?

use std::collections::HashMap;

use super::board::Board;
use super::counts::{Counts, MOST};
use super::{GlobalCounts, MAX_ITEMS, Region, TRENDING_SCALES, Trending, is_counted};
use crate::collab::CollabLimits;
use crate::domain::{LoadError, StateReader, StateWriter, Timestamp};

impl Trending {
    /// About how many bytes saving takes.
    pub(in crate::collab) fn saved_bytes(&self) -> usize {
        let regional: usize = self.regions.read().values().map(|local| local.items.len()).sum();
        (1 << 14) + self.global.read().items.len() * (8 + Counts::BYTES) + regional * (4 + Counts::BYTES)
    }

    /// Writes everything down.
    pub(in crate::collab) fn save(&self, to: &mut StateWriter) {
        self.half_lives_s.iter().for_each(|&half_life_s| to.f64(half_life_s));
        to.u64(self.max_regions as u64);
        to.u64(self.items_per_region as u64);
        {
            let global = self.global.read();
            to.u64(global.events);
            to.count(global.items.len());
            for own in &global.items {
                own.counts.save(to);
                if own.counts.total > 0 {
                    to.i64(own.last_touched.0);
                }
            }
            global.boards.iter().for_each(|board| board.save(to));
        }
        let regions = self.regions.read();
        let mut names: Vec<&String> = regions.keys().collect();
        names.sort_unstable();
        to.count(names.len());
        for name in names {
            let local = &regions[name];
            to.text(name);
            to.i64(local.last_touched.0);
            let mut items: Vec<(&u32, &Counts)> = local.items.iter().collect();
            items.sort_unstable_by_key(|&(item, _)| item);
            to.count(items.len());
            for (&item, counts) in items {
                to.u32(item);
                counts.save(to);
            }
            local.boards.iter().for_each(|board| board.save(to));
        }
    }

    /// Reads what [`save`](Self::save) wrote under the same `limits`; items are numbered below `items`.
    pub(in crate::collab) fn load(
        limits: &CollabLimits,
        items: usize,
        from: &mut StateReader<'_>,
    ) -> Result<Self, LoadError> {
        let mut trending = Self::new(limits);
        for half_life_s in trending.half_lives_s {
            if from.f64()? != half_life_s {
                return Err(LoadError::Incompatible("half-life of trending"));
            }
        }
        if from.u64()? != trending.max_regions as u64 || from.u64()? != trending.items_per_region as u64 {
            return Err(LoadError::Incompatible("size of regions"));
        }
        trending.load_global(items.min(MAX_ITEMS), from)?;
        let items = trending.global.get_mut().items.len();
        let count = from.count(1, trending.max_regions)?;
        for _ in 0..count {
            let name = from.text()?;
            let region = trending.load_region(items, from)?;
            if !is_counted(name) || trending.regions.get_mut().insert(name.to_owned(), region).is_some() {
                return Err(LoadError::Damaged("a region has a wrong name, or comes twice"));
            }
        }
        Ok(trending)
    }

    fn load_global(&mut self, items: usize, from: &mut StateReader<'_>) -> Result<(), LoadError> {
        let global = self.global.get_mut();
        global.events = from.u64()?;
        if global.events > MOST {
            return Err(LoadError::Damaged("it counts more events than there can be"));
        }
        let count = from.count(8, items)?;
        global.items.reserve_exact(count);
        for _ in 0..count {
            let counts = Counts::load(from)?;
            let last_touched = if counts.total > 0 { Timestamp(from.i64()?) } else { GlobalCounts::NONE.last_touched };
            global.items.push(GlobalCounts { counts, last_touched });
        }
        let items = &global.items;
        for (index, board) in global.boards.iter_mut().enumerate() {
            let level = |item: u32| items.get(item as usize).unwrap_or(&GlobalCounts::NONE).counts.level(index);
            *board = Board::load(from, level, items.iter().map(|own| own.counts.level(index)))?;
        }
        Ok(())
    }

    fn load_region(&self, items: usize, from: &mut StateReader<'_>) -> Result<Region, LoadError> {
        let last_touched = Timestamp(from.i64()?);
        let count = from.count(4 + Counts::BYTES, self.items_per_region)?;
        let mut found = HashMap::with_capacity(count);
        for _ in 0..count {
            let (item, counts) = (from.u32()?, Counts::load(from)?);
            if item as usize >= items || counts.total == 0 || found.insert(item, counts).is_some() {
                return Err(LoadError::Damaged("a region counts an item that is not there, or one twice"));
            }
        }
        let mut boards: [Board; TRENDING_SCALES] = Default::default();
        for (index, board) in boards.iter_mut().enumerate() {
            let level = |item: u32| found.get(&item).unwrap_or(&Counts::NONE).level(index);
            *board = Board::load(from, level, found.values().map(|counts| counts.level(index)))?;
        }
        Ok(Region { items: found, boards, last_touched })
    }
}
