//! How are histories, factors and the map from descriptions written down?

use std::sync::Arc;

use super::als::Penalty;
use super::cells::Cells;
use super::cold_start::ColdMap;
use super::histories::{Histories, HistoryLimits};
use super::model::{Ingredients, Model, NONE, Origin};
use super::{Preference, PreferenceOptions};
use crate::collab::MAX_ITEMS;
use crate::domain::{LoadError, StateReader, StateWriter, Timestamp};

const PART: [u8; 4] = *b"pref";

/// Another layout gets another number.
const VERSION: u32 = 1;

const MOST_DIMS: usize = 1 << 12;
const MOST_ROWS: usize = 1 << 26;

impl Preference {
    /// Everything known, as bytes for [`load`](Self::load): histories, item factors and the map from descriptions. What
    /// was guessed for items since the last training is not there; it comes back when the items are described again.
    pub fn save(&self) -> Vec<u8> {
        let histories = self.histories.read();
        let model = self.model.load_full();
        let rows = model.as_ref().map_or(0, |model| model.rows.len() + 2 * model.numbers.len());
        let mut to = StateWriter::new(PART, VERSION, histories.saved_bytes() + 4 * rows + (1 << 20));
        histories.save(&mut to);
        to.u64(self.new.load(std::sync::atomic::Ordering::Relaxed));
        {
            let schedule = self.schedule.lock();
            to.i64(schedule.last.map_or(i64::MIN, |last| last.0));
            to.u8(u8::from(schedule.forgot));
        }
        match model {
            Some(model) => model.save(&mut to),
            None => to.count(0),
        }
        to.finish()
    }

    /// What was [saved](Self::save), when the first `items` item numbers had been given out. Under other options histories are
    /// cut to their bounds; factors of another number of dimensions are left out, and the next training makes new ones.
    pub fn load(options: &PreferenceOptions, items: usize, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut from = StateReader::new(PART, VERSION, bytes)?;
        let items = items.min(MAX_ITEMS);
        let histories = Histories::load(HistoryLimits::of(options), items, &mut from)?;
        let loaded = Self { histories: histories.into(), ..Self::new(options) };
        loaded.new.store(from.u64()?, std::sync::atomic::Ordering::Relaxed);
        let last = from.i64()?;
        let forgot = from.u8()? != 0;
        let model = Model::load(items, &mut from)?;
        from.end()?;
        if let Some(model) = model.filter(|model| options.enabled && model.dims == options.als.dims) {
            let mut schedule = loaded.schedule.lock();
            (schedule.last, schedule.forgot) = ((last != i64::MIN).then_some(Timestamp(last)), forgot);
            loaded.model.store(Some(Arc::new(model)));
        }
        Ok(loaded)
    }
}

fn read_floats(from: &mut StateReader<'_>, count: usize) -> Result<Vec<f32>, LoadError> {
    let values: Vec<f32> = from.u32s(count)?.map(f32::from_bits).collect();
    if values.iter().all(|value| value.is_finite() && value.abs() < 1e12) {
        Ok(values)
    } else {
        Err(LoadError::Damaged("a factor is not a number"))
    }
}

impl Model {
    fn save(&self, to: &mut StateWriter) {
        to.count(self.dims);
        to.f32(self.penalty.regularisation);
        to.f32(self.penalty.exponent);
        to.f32(self.penalty.unobserved);
        to.count(self.learned_from);
        to.f32s(&self.spread);
        to.count(self.numbers.len());
        // Rows of forgotten items stay where they are, or the cells would have gaps, but are nobody's.
        let numbers: Vec<u32> = self.numbers.iter().map(|&no| if self.is_row_of(no) { no } else { NONE }).collect();
        to.u32s(&numbers);
        self.origins.iter().for_each(|origin| to.u8(u8::from(*origin == Origin::Guessed)));
        to.f32s(&self.rows);
        to.count(self.cells.as_ref().map_or(0, |cells| cells.ends.len()));
        if let Some(cells) = &self.cells {
            to.count(cells.head);
            to.u32s(&cells.ends);
            to.f32s(&cells.centres);
        }
        to.u8(u8::from(self.map.is_some()));
        if let Some(map) = &self.map {
            to.count(map.image_dims);
            to.f32s(&map.image_mean);
            to.f32s(&map.weights);
        }
    }

    fn load(items: usize, from: &mut StateReader<'_>) -> Result<Option<Self>, LoadError> {
        let dims = from.count(0, MOST_DIMS)?;
        if dims == 0 {
            return Ok(None);
        }
        let [regularisation, exponent, unobserved] = [from.f32()?, from.f32()?, from.f32()?];
        if [regularisation, exponent, unobserved].iter().any(|weight| !(0.0..1e6).contains(weight)) {
            return Err(LoadError::Damaged("a weight of the factorisation cannot be"));
        }
        let penalty = Penalty { regularisation, exponent, unobserved };
        let learned_from = from.count(0, MOST_ROWS)?;
        let spread = read_floats(from, dims)?;
        if spread.iter().any(|value| *value < 0.0) {
            return Err(LoadError::Damaged("factors cannot spread less than not at all"));
        }
        let count = from.count(4 * dims, MOST_ROWS)?;
        let numbers: Vec<u32> = from.u32s(count)?.collect();
        if numbers.iter().any(|&number| number != NONE && number as usize >= items) {
            return Err(LoadError::Damaged("a factor is of an item that is not there"));
        }
        let mut sorted: Vec<u32> = numbers.iter().copied().filter(|&number| number != NONE).collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(LoadError::Damaged("an item has two factors"));
        }
        let origin = |&guessed: &u8| if guessed == 0 { Origin::Learned } else { Origin::Guessed };
        let origins = from.bytes(count)?.iter().map(origin).collect();
        let rows = read_floats(from, count * dims)?;
        let cells = match from.count(4 * dims, count)? {
            0 => None,
            cells => {
                let head = from.count(0, count)?;
                let ends: Vec<u32> = from.u32s(cells)?.collect();
                if ends.first().is_some_and(|&end| (end as usize) < head)
                    || ends.windows(2).any(|pair| pair[0] > pair[1])
                    || ends.last().map(|&end| end as usize) != Some(count)
                {
                    return Err(LoadError::Damaged("the cells of factors have gaps"));
                }
                Some(Cells { dims, head, ends, centres: read_floats(from, cells * dims)? })
            }
        };
        let map = if from.u8()? == 0 {
            None
        } else {
            let image_dims = from.count(4, 1 << 16)?;
            let image_mean = read_floats(from, image_dims)?;
            let weights = read_floats(from, ColdMap::inputs(image_dims) * dims)?;
            Some(ColdMap { dims, image_dims, image_mean, weights })
        };
        let made = Ingredients { dims, penalty, spread, learned_from, map, rows, numbers, origins };
        Ok(Some(Self::arranged(made, cells)))
    }
}
