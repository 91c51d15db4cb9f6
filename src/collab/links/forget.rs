//! How are engagements taken out of the links again?
//!
//! The same pairs are made of an engagement as when it was observed, and each is subtracted at what it is worth by now.
//! A list is then dated back to its latest change by others, and is worth again what it was then.
//!
//! Not exact: links that were squeezed out of full lists, or had become negligible, because of the engagement do not
//! come back; a list that the person alone has changed in the 32 latest steps of time stays dated by the last of
//! these; what others contributed counts as nothing where it is a ten-thousandth of what the person did.

use super::{Links, MAX_ITEMS, worth};
use crate::collab::Engagement;

/// Less than this share of what is taken back is taken for the rounding of the many sums.
const RESIDUE: f64 = 1e-4;

/// Stands for an item's count in place of another item.
const COUNT: u32 = u32::MAX;

/// One thing that an engagement added to a list.
#[derive(Debug, Clone, Copy)]
struct Contribution {
    list: u32,
    /// The other item, or [`COUNT`].
    other: u32,
    sum: u32,
    step: i32,
    weight: f32,
}

impl Links {
    /// Takes engagements back, each given as it was to [`observe`](Links::observe).
    pub(in crate::collab) fn forget(&mut self, engagements: &[Engagement<'_>]) {
        let backward = self.stride() as u32 - 1;
        let mut contributions = Vec::with_capacity(engagements.len() * 15);
        for &Engagement { item, at, history, .. } in engagements {
            if item.index() >= MAX_ITEMS {
                continue;
            }
            let step = self.step(at);
            contributions.push(Contribution { list: item.0, other: COUNT, sum: 0, step, weight: 1.0 });
            for (earlier, lag, weight) in self.pairs(item, at, history) {
                let forward = Contribution { list: earlier, other: item.0, sum: lag as u32, step, weight };
                contributions.push(forward);
                contributions.push(Contribution { list: item.0, other: earlier, sum: backward, ..forward });
            }
        }
        contributions.sort_unstable_by_key(|c| (c.list, c.other, c.sum));
        for of_list in contributions.chunk_by(|a, b| a.list == b.list) {
            self.forget_in_list(of_list, backward);
        }
    }

    fn forget_in_list(&mut self, contributions: &[Contribution], backward: u32) {
        let stride = self.stride();
        let list = contributions[0].list as usize;
        let Some((links, count)) = self.items.get_mut(list).zip(self.counts.get_mut(list)) else { return };
        let Some(date) = links.touches.latest() else { return };
        let oldest = links.touches.oldest();
        for alike in contributions.chunk_by(|a, b| (a.other, a.sum) == (b.other, b.sum)) {
            // A list never goes back before a change: it was emptied in between, and the contribution with it.
            let taken =
                alike.iter().filter(|c| c.step <= date).map(|c| f64::from(c.weight * worth(c.step, date))).sum();
            if alike[0].other == COUNT {
                take(count, taken);
            } else if let Some(position) = links.position(alike[0].other) {
                links.sums.change(position, alike[0].sum as usize, stride, |sum| take(sum, taken));
            }
            // Writing a backward sum is part of the engagement that the count has noted.
            if alike[0].other == COUNT || alike[0].sum != backward {
                alike.iter().for_each(|c| links.touches.take(c.step));
            }
        }
        if *count == 0.0 && links.sums.is_zero() {
            *links = super::ItemLinks::default();
            return;
        }
        if links.touches.latest().is_none()
            && let Some(oldest) = oldest
        {
            links.touches.add(oldest);
        }
        let left = links.touches.latest().unwrap_or(date);
        // Bounded, so that an engagement that was never observed cannot blow anything up.
        let factor = 1.0 / worth(left, date).max(1e-12);
        *count *= factor;
        links.sums.scale(factor, stride);
        links.drop_negligible(stride);
    }
}

/// Subtracts `taken`; rounding leaves nothing over, and never less than nothing.
fn take(sum: &mut f32, taken: f64) {
    let left = f64::from(*sum) - taken;
    *sum = if left <= RESIDUE * taken { 0.0 } else { left as f32 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collab::CollabLimits;
    use crate::domain::{ItemNo, Timestamp};

    const HALF_LIFE_S: f64 = 160.0;

    fn links() -> Links {
        Links::new(&CollabLimits { link_half_life_s: HALF_LIFE_S, ..CollabLimits::default() })
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_seconds(1.6e9 + seconds)
    }

    fn engagement(item: u32, seconds: f64, history: &[(ItemNo, Timestamp)]) -> Engagement<'_> {
        Engagement {
            session: 0,
            item: ItemNo(item),
            at: at(seconds),
            user: None,
            confidence: 1.0,
            region: None,
            history,
        }
    }

    fn observe(links: &mut Links, engagements: &[Engagement<'_>]) {
        engagements.iter().for_each(|e| links.observe(e.item, e.at, e.history));
    }

    /// All sums of an item's links, zeros too.
    fn sums(links: &Links, item: u32) -> Vec<f32> {
        let mut sums = Vec::new();
        for link in links.of(ItemNo(item)).unwrap().sums.iter(links.stride()) {
            let start = sums.len();
            sums.resize(start + links.stride(), 0.0);
            link.places().for_each(|(place, sum)| sums[start + place] = sum);
        }
        sums
    }

    #[test]
    fn a_list_is_dated_back_to_what_others_did() {
        let (early, late) = ([(ItemNo(1), at(0.0))], [(ItemNo(1), at(400.0))]);
        let others = [engagement(1, 0.0, &[]), engagement(2, 5.0, &early)];
        let mine = [engagement(1, 400.0, &[]), engagement(2, 405.0, &late), engagement(3, 640.0, &late)];
        let (mut never, mut forgot) = (links(), links());
        observe(&mut never, &others);
        observe(&mut forgot, &others);
        observe(&mut forgot, &mine);
        assert!(sums(&forgot, 1)[0] < 1.0);
        forgot.forget(&mine);
        for item in [1, 2] {
            assert!(sums(&never, item).iter().zip(sums(&forgot, item)).all(|(a, b)| (a - b).abs() < 1e-5));
            let counts = (never.count(item), forgot.count(item));
            let (never, forgot) = (never.of(ItemNo(item)).unwrap(), forgot.of(ItemNo(item)).unwrap());
            assert_eq!((&never.others, &never.touches), (&forgot.others, &forgot.touches));
            assert!((counts.0 - counts.1).abs() < 1e-5, "{never:?} {forgot:?} {counts:?}");
        }
        let third = forgot.of(ItemNo(3)).unwrap();
        assert!(third.others.is_empty() && forgot.count(3) == 0.0 && third.touches.latest().is_none());
    }

    #[test]
    fn rounding_leaves_nothing_over() {
        let mut links = links();
        let history: Vec<_> = (0..1001).map(|n| (ItemNo(n % 2), at(f64::from(n) * 7.3))).collect();
        let mine: Vec<_> = (0..1001).map(|n| engagement(n as u32 % 2, n as f64 * 7.3, &history[..n])).collect();
        observe(&mut links, &mine);
        assert!(links.count(0) > 10.0);
        links.forget(&mine);
        assert!(links.items.iter().all(|own| own.others.is_empty()) && links.counts.iter().all(|&count| count == 0.0));
        // Nothing is there any more to be taken.
        links.forget(&mine);
        links.forget(&[engagement(u32::MAX, 0.0, &[]), engagement(77, 0.0, &history)]);
        assert!(links.items.iter().all(|own| own.others.is_empty()) && links.counts.iter().all(|&count| count == 0.0));
    }

    #[test]
    fn what_was_learned_anew_is_left_alone() {
        let mut links = links();
        let old = [(ItemNo(1), at(0.0))];
        let mine = [engagement(1, 0.0, &[]), engagement(2, 1.0, &old)];
        observe(&mut links, &mine);
        links.forget_item(ItemNo(1));
        let new = [(ItemNo(1), at(1600.0))];
        observe(&mut links, &[engagement(1, 1600.0, &[]), engagement(2, 1601.0, &new)]);
        links.forget(&mine);
        let own = links.of(ItemNo(1)).unwrap();
        assert!((links.count(1) - 1.0).abs() < 0.001 && (sums(&links, 1)[0] - 1.0).abs() < 0.001, "{own:?}");
    }
}
