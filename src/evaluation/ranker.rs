//! Which ways to rank are compared, and what would each of them answer?

use super::gather::Gatherer;
use crate::collab::Collab;
use crate::domain::{ItemNo, Scored};
use crate::ranking::Candidate;

/// A way to rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ranker {
    /// The hazards over all sources.
    Blend,
    /// Session-kNN alone.
    SessionKnn,
    /// Co-visitation alone.
    CoVisitation,
    /// Transitions alone.
    Transition,
    /// The most popular items.
    Popularity,
    /// Matrix factorisation alone.
    Preference,
    /// Likeness to the frame on screen alone.
    Visual,
}

impl Ranker {
    /// Every ranker, the blend first.
    pub const ALL: [Self; 7] = [
        Self::Blend,
        Self::SessionKnn,
        Self::CoVisitation,
        Self::Transition,
        Self::Popularity,
        Self::Preference,
        Self::Visual,
    ];

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blend => "blend",
            Self::SessionKnn => "session_knn",
            Self::CoVisitation => "co_visitation",
            Self::Transition => "transition",
            Self::Popularity => "popularity",
            Self::Preference => "preference",
            Self::Visual => "visual",
        }
    }

    /// What this ranker alone proposes at the moment that `gatherer` has just gathered, best first; `None` if it does
    /// not answer. The blend answers through the model, not here.
    pub(super) fn proposals(self, gatherer: &Gatherer) -> Option<Vec<Scored>> {
        let answered = gatherer.context.answered;
        match self {
            Self::SessionKnn => answered.session.then(|| gatherer.by_session.clone()),
            Self::CoVisitation => answered.co_visitation.then(|| gatherer.by_co_visitation.clone()),
            Self::Transition => answered.transition.then(|| gatherer.by_transition.clone()),
            Self::Popularity => Some(Vec::new()),
            // These score every candidate, and their own best items are among the candidates.
            Self::Preference => answered.preference.then(|| by(&gatherer.candidates, |c| c.preference)),
            Self::Visual => answered.visual.then(|| by(&gatherer.candidates, |c| c.visual)),
            Self::Blend => None,
        }
    }
}

fn by(candidates: &[Candidate], score: impl Fn(&Candidate) -> Option<f32>) -> Vec<Scored> {
    let mut scored: Vec<Scored> =
        candidates.iter().filter_map(|c| Some(Scored { item: c.item, score: score(c)? })).collect();
    let all = scored.len();
    Scored::keep_best(&mut scored, all);
    scored
}

/// The first `k` items of `own` that are `allowed`, filled up with popular ones, without repeats.
pub(super) fn filled(
    own: impl Iterator<Item = ItemNo>,
    popular: &[ItemNo],
    k: usize,
    allowed: impl Fn(ItemNo) -> bool,
) -> Vec<ItemNo> {
    let mut list: Vec<ItemNo> = Vec::with_capacity(k);
    for item in own.chain(popular.iter().copied()) {
        if list.len() >= k {
            break;
        }
        if allowed(item) && !list.contains(&item) {
            list.push(item);
        }
    }
    list
}

/// The `k` most popular items that are `allowed`, best first. `items` is how many there are altogether.
pub(super) fn popular(collab: &Collab, k: usize, items: usize, allowed: impl Fn(ItemNo) -> bool) -> Vec<ItemNo> {
    let mut best: Vec<ItemNo> =
        collab.trending.most_popular(usize::MAX).into_iter().map(|s| s.item).filter(|&item| allowed(item)).collect();
    if best.len() < k {
        // Somebody has seen most of what is on the board: count through everything.
        let all: Vec<ItemNo> = (0..items as u32).map(ItemNo).filter(|&item| allowed(item)).collect();
        let mut counts = Vec::new();
        collab.trending.look_up(&all, None, crate::domain::Timestamp(0), &mut counts);
        let counted = all.into_iter().zip(counts).filter(|(_, count)| count.total > 0.0);
        let mut scored: Vec<Scored> = counted.map(|(item, count)| Scored { item, score: count.total }).collect();
        Scored::keep_best(&mut scored, k);
        best = scored.into_iter().map(|s| s.item).collect();
    }
    best.truncate(k);
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collab::{CollabLimits, Engagement};
    use crate::domain::Timestamp;

    #[test]
    fn short_lists_are_filled_with_popular_items() {
        let items = |numbers: &[u32]| numbers.iter().map(|&n| ItemNo(n)).collect::<Vec<_>>();
        let not_1 = |item| item != ItemNo(1);
        let list = filled(items(&[5, 1]).into_iter(), &items(&[1, 5, 2, 3]), 3, not_1);
        assert_eq!(list, items(&[5, 2, 3]));
        assert_eq!(filled(items(&[5, 2]).into_iter(), &items(&[1, 5, 2, 3]), 1, not_1), items(&[5]));
    }

    #[test]
    fn popular_items_go_on_below_the_board() {
        let collab = Collab::new(&CollabLimits::default());
        for item in 0..400_u32 {
            for n in 0..2 * (400 - item) {
                let session = u64::from(item * 1_000 + n);
                let at = Timestamp(i64::from(n));
                let (user, confidence) = (None, 1.0);
                collab.observe(Engagement {
                    session,
                    item: ItemNo(item),
                    at,
                    user,
                    confidence,
                    region: None,
                    history: &[],
                });
            }
        }
        let best = |from: u32| popular(&collab, 5, 400, |item| item.0 >= from).iter().map(|i| i.0).collect::<Vec<_>>();
        assert_eq!(best(0), [0, 1, 2, 3, 4]);
        assert_eq!(best(300), [300, 301, 302, 303, 304]);
        assert_eq!(best(398), [398, 399]);
    }
}
