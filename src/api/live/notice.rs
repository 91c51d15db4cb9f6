//! Would a viewer notice the difference between two answers? Pure: lists in, a verdict out.

use std::collections::HashMap;

use crate::domain::ItemId;
use crate::engine::HorizonList;

/// From when on a difference counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::api) struct Notice {
    /// An item has moved by so many places; at least 1.
    pub(in crate::api) places: usize,
    /// A probability has changed by this share of the larger one, 0 to 1.
    pub(in crate::api) probability_share: f64,
}

/// The lists that a viewer sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::api) struct Shown(Vec<(u32, Vec<(ItemId, f64)>)>);

impl Shown {
    /// What these lists show.
    pub(in crate::api) fn of(lists: &[HorizonList]) -> Self {
        let items =
            |list: &HorizonList| list.items.iter().map(|place| (place.item.clone(), place.probability)).collect();
        Self(lists.iter().map(|list| (list.seconds, items(list))).collect())
    }

    /// Whether `next` differs from this in a way that counts: other items, other places, other probabilities.
    pub(in crate::api) fn differs(&self, next: &Self, notice: Notice) -> bool {
        self.0.len() != next.0.len() || self.0.iter().zip(&next.0).any(|(old, new)| list_differs(old, new, notice))
    }

    /// Names what is shown and in which order, the same for the same lists: 16 hexadecimal digits.
    pub(in crate::api) fn name(&self) -> String {
        // FNV-1a. It tells lists apart for a reader who comes back; it protects nothing.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |bytes: &[u8]| {
            for byte in bytes.iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        };
        for (seconds, items) in &self.0 {
            take(&seconds.to_le_bytes());
            items.iter().for_each(|(item, _)| take(item.as_str().as_bytes()));
        }
        format!("{hash:016x}")
    }
}

fn list_differs(old: &(u32, Vec<(ItemId, f64)>), new: &(u32, Vec<(ItemId, f64)>), notice: Notice) -> bool {
    if old.0 != new.0 || old.1.len() != new.1.len() {
        return true;
    }
    let before: HashMap<&ItemId, (usize, f64)> =
        old.1.iter().enumerate().map(|(place, (item, probability))| (item, (place, *probability))).collect();
    new.1.iter().enumerate().any(|(place, (item, probability))| match before.get(item) {
        None => true,
        Some(&(was, earlier)) => {
            let larger = probability.max(earlier);
            was.abs_diff(place) >= notice.places.max(1)
                || (larger > 0.0 && (probability - earlier).abs() / larger >= notice.probability_share)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: Notice = Notice { places: 2, probability_share: 0.25 };

    fn shown(items: &[(&str, f64)]) -> Shown {
        Shown(vec![(15, items.iter().map(|(id, p)| (ItemId::new(id).unwrap(), *p)).collect())])
    }

    #[test]
    fn places_and_probabilities_count_from_a_border_on() {
        let before = shown(&[("a", 0.4), ("b", 0.3), ("c", 0.2)]);
        assert!(!before.differs(&before, NOTICE));
        assert!(!before.differs(&shown(&[("b", 0.35), ("a", 0.34), ("c", 0.2)]), NOTICE), "by one place");
        assert!(before.differs(&shown(&[("c", 0.24), ("a", 0.4), ("b", 0.3)]), NOTICE), "by two places");
        assert!(before.differs(&shown(&[("a", 0.4), ("b", 0.3), ("d", 0.2)]), NOTICE), "another item");
        assert!(before.differs(&shown(&[("a", 0.4), ("b", 0.3)]), NOTICE), "one item less");
        assert!(!before.differs(&shown(&[("a", 0.31), ("b", 0.3), ("c", 0.2)]), NOTICE));
        assert!(before.differs(&shown(&[("a", 0.3), ("b", 0.3), ("c", 0.2)]), NOTICE), "a quarter less");
        assert!(Shown::default().differs(&before, NOTICE), "the first lists are news");
        let any_place = Notice { places: 0, ..NOTICE };
        assert!(!before.differs(&before, any_place), "no change is none, whatever the setting");
    }

    #[test]
    fn a_name_says_what_is_shown_in_which_order() {
        let (a, b) = (shown(&[("a", 0.4), ("b", 0.3)]), shown(&[("b", 0.4), ("a", 0.3)]));
        assert_eq!(a.name(), shown(&[("a", 0.5), ("b", 0.1)]).name());
        assert_ne!(a.name(), b.name());
        assert_ne!(shown(&[("ab", 0.1)]).name(), shown(&[("a", 0.1), ("b", 0.1)]).name());
    }
}
