//! How are the links written down? Each link as its other item, a bit for each sum that is not zero, and those sums:
//! most links hold one or two.

use super::sums::Sums;
use super::{ItemLinks, Links, Touches};
use crate::collab::{CollabLimits, MAX_ITEMS};
use crate::domain::{LoadError, StateReader, StateWriter};

/// No sum gets as large as this, so scores made of sums stay finite.
const MOST: f32 = 1e30;

/// The fewest bytes of an item.
const ITEM_BYTES: usize = 13;

/// The fewest bytes of a link: the other item, the bits, one sum.
const LINK_BYTES: usize = 10;

impl Links {
    /// About how many bytes saving takes.
    pub(in crate::collab) fn saved_bytes(&self) -> usize {
        let of_item = |own: &ItemLinks| 6 * own.others.len() + 4 * own.sums.count();
        64 + self.items.len() * (ITEM_BYTES + 32) + self.items.iter().map(of_item).sum::<usize>()
    }

    /// Writes everything down.
    pub(in crate::collab) fn save(&self, to: &mut StateWriter) {
        to.u64(self.per_item as u64);
        to.f64(self.half_life_s);
        to.count(self.horizons.count());
        to.u32s(self.horizons.seconds());
        to.count(self.items.len());
        let stride = self.stride();
        let (mut masks, mut present) = (Vec::new(), Vec::new());
        for (own, &count) in self.items.iter().zip(&self.counts) {
            to.f32(count);
            to.u32(own.cursor);
            own.touches.save(to);
            to.count(own.others.len());
            to.u32s(&own.others);
            masks.clear();
            present.clear();
            for link in own.sums.iter(stride) {
                masks.extend_from_slice(&link.mask.to_le_bytes());
                present.extend(link.values.iter().map(|sum| sum.to_bits()));
            }
            to.bytes(&masks);
            to.u32s(&present);
        }
    }

    /// Reads what [`save`](Self::save) wrote under the same `limits`; items are numbered below `items`.
    pub(in crate::collab) fn load(
        limits: &CollabLimits,
        items: usize,
        from: &mut StateReader<'_>,
    ) -> Result<Self, LoadError> {
        let mut links = Self::new(limits);
        if from.u64()? != links.per_item as u64 {
            return Err(LoadError::Incompatible("number of links"));
        }
        if from.f64()? != links.half_life_s {
            return Err(LoadError::Incompatible("half-life of links"));
        }
        let horizons = from.count(4, usize::MAX)?;
        if !from.u32s(horizons)?.eq(links.horizons.seconds().iter().copied()) {
            return Err(LoadError::Incompatible("set of horizons"));
        }
        let count = from.count(ITEM_BYTES, items.min(MAX_ITEMS))?;
        links.items.reserve_exact(count);
        links.counts.reserve_exact(count);
        // By item, the last one whose list named it, counted from 1.
        let mut named_by = vec![0; count];
        for item in 0..count {
            let (own, engagements) = links.load_item(from)?;
            if own.others.len() > links.per_item {
                return Err(LoadError::Damaged("an item has too many links"));
            }
            for &other in &own.others {
                match named_by.get_mut(other as usize) {
                    Some(by) if *by != item + 1 && other as usize != item => *by = item + 1,
                    Some(_) | None => return Err(LoadError::Damaged("a link leads nowhere, or twice to one item")),
                }
            }
            links.items.push(own);
            links.counts.push(engagements);
        }
        Ok(links)
    }

    /// An item's links, and its count.
    fn load_item(&self, from: &mut StateReader<'_>) -> Result<(ItemLinks, f32), LoadError> {
        let stride = self.stride();
        let count = from.f32()?;
        if !(0.0..MOST).contains(&count) {
            return Err(LoadError::Damaged("a count is no number of engagements"));
        }
        let cursor = from.u32()?;
        let touches = Touches::load(from)?;
        let length = from.count(LINK_BYTES, usize::MAX)?;
        let others: Vec<u32> = from.u32s(length)?.collect();
        let masks = from.bytes(length * 2)?.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
        if masks.clone().any(|mask| mask == 0 || u32::from(mask) >> stride != 0) {
            return Err(LoadError::Damaged("a link has the wrong sums"));
        }
        let present = from.u32s(masks.clone().map(|mask| mask.count_ones() as usize).sum())?;
        let values: Vec<f32> = present.map(f32::from_bits).collect();
        if !values.iter().all(|sum| *sum > 0.0 && *sum < MOST) {
            return Err(LoadError::Damaged("a link's sum is no weight"));
        }
        Ok((ItemLinks { others, sums: Sums::new(masks, values, stride), touches, cursor }, count))
    }
}
