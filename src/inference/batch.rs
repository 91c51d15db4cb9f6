//! Which of the waiting pictures go to the model next? Pure functions of the queue, the limits and the time.
//!
//! Batches form by back-pressure: nothing waits for a batch to fill. A free worker takes its share of what is there,
//! and while all workers are busy the next batch grows by itself. On a processor, where a batch saves little, a share is small
//! until much waits: a worker that took all would leave the others nothing, and whoever decodes would wait for all of it at once. Entries whose caller has gone or whose deadline has
//! passed never reach the model.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// How urgent a picture is; higher is sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Imports and re-indexing: nobody is waiting.
    Bulk,
    /// A search or a single item: somebody is waiting.
    #[default]
    Interactive,
    /// A frame on somebody's screen: of no use in a second.
    Live,
}

/// What the policy needs to know about an entry of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) priority: Priority,
    pub(super) enqueued: Instant,
    pub(super) deadline: Option<Instant>,
    /// The caller no longer listens.
    pub(super) gone: bool,
}

/// What a worker may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most pictures in a batch; at least 1.
    pub(super) max_batch: usize,
    /// Workers that are free, with the one that asks: each gets its share. The last of several is kept for viewers' frames while they
    /// come, if a picture takes long.
    pub(super) free_workers: usize,
    /// Workers, busy ones included.
    pub(super) workers: usize,
    /// Over so many rounds of all workers what waits is spread; 0 for the share of those that are free. See
    /// [`EmbedderOptions::rounds`](super::EmbedderOptions::rounds).
    pub(super) rounds: usize,
    /// What a picture has cost of late; a batch does not grow beyond what its tightest deadline allows.
    pub(super) cost_per_picture: Duration,
    /// Viewers' frames have come of late, and the next will come soon.
    pub(super) live_lately: bool,
    /// How long less urgent pictures may delay a frame: in a batch with it, or in one that it finds under way.
    pub(super) frame_delay: Duration,
    /// [`Priority::Bulk`] counts as [`Priority::Interactive`] after this long, so that it is never starved by it.
    pub(super) patience: Duration,
}

/// Positions in the queue, each in at most one of the lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// To the model, most urgent first.
    pub(super) batch: Vec<usize>,
    /// Their deadline has passed.
    pub(super) late: Vec<usize>,
    /// Nobody waits for them.
    pub(super) gone: Vec<usize>,
}

/// The next batch from `pending`, which is in the order of arrival.
pub(super) fn plan(pending: &[Pending], limits: Limits, now: Instant) -> Plan {
    let mut plan = Plan::default();
    let mut waiting = Vec::new();
    for (position, entry) in pending.iter().enumerate() {
        if entry.gone {
            plan.gone.push(position);
        } else if entry.deadline.is_some_and(|deadline| deadline <= now) {
            plan.late.push(position);
        } else {
            waiting.push(position);
        }
    }
    // Stable: among equals, the order of arrival.
    waiting.sort_by_key(|&position| Reverse(effective_priority(&pending[position], limits.patience, now)));

    // A frame that comes then finds a worker at once. What is left is taken by those that are busy now, when they come back.
    let kept = limits.live_lately
        && limits.workers > 1
        && limits.free_workers <= 1
        && limits.cost_per_picture > limits.frame_delay;
    if kept {
        waiting.retain(|&position| pending[position].priority == Priority::Live);
    }
    let takers = limits.free_workers.max(limits.rounds.saturating_mul(limits.workers)).max(1);
    let share = waiting.len().div_ceil(takers).clamp(1, limits.max_batch.max(1));
    let mut tightest: Option<Instant> = None;
    // Few of those, one at least, where somebody's frame might have to wait for them.
    let has_live = waiting.first().is_some_and(|&first| pending[first].priority == Priority::Live);
    let delays = |position: usize, count: u32| {
        (has_live || limits.live_lately)
            && pending[position].priority != Priority::Live
            && limits.cost_per_picture.saturating_mul(count) > limits.frame_delay
    };
    for position in waiting.into_iter().take(share) {
        let with_this = match (tightest, pending[position].deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let count = u32::try_from(plan.batch.len() + 1).unwrap_or(u32::MAX);
        let done = now.checked_add(limits.cost_per_picture.saturating_mul(count));
        let in_time = with_this.is_none_or(|deadline| done.is_some_and(|done| done <= deadline));
        // The first goes in any case: the cost is an estimate, and it has waited its turn.
        if !plan.batch.is_empty() && (!in_time || delays(position, count)) {
            break;
        }
        tightest = with_this;
        plan.batch.push(position);
    }
    plan
}

/// How many pictures a device is given at once for a batch of `count`: the next power of two, but no more than
/// `max_batch`. A device prepares itself anew for each size, so that it should see few; what is missing is filled up.
pub(super) fn bucket(count: usize, max_batch: usize) -> usize {
    count.checked_next_power_of_two().unwrap_or(count).min(max_batch).max(count)
}

/// How long it takes until a picture comes out that comes in now, behind `ahead` others, when one takes
/// `cost_per_picture` on each of `workers`: nothing is known before the first has come out.
pub(super) fn wait_behind(ahead: usize, cost_per_picture: Duration, workers: usize) -> Duration {
    let rounds = u32::try_from(ahead).unwrap_or(u32::MAX);
    cost_per_picture.saturating_mul(rounds) / u32::try_from(workers).unwrap_or(u32::MAX).max(1)
}

/// Whether one more may enter a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room.
    Enter,
    /// In the place of the entry at this position, which is less urgent.
    Displace(usize),
    /// All that wait are at least as urgent.
    Refuse,
}

/// Whether a newcomer may enter: a full queue gives up the newest of its least urgent entries for a more urgent one.
///
/// Entries that nobody waits for make room first.
pub(super) fn admit(pending: &[Pending], capacity: usize, newcomer: Priority) -> Admission {
    if pending.len() < capacity {
        return Admission::Enter;
    }
    if let Some(position) = pending.iter().position(|entry| entry.gone) {
        return Admission::Displace(position);
    }
    let newest_least_urgent =
        pending.iter().enumerate().min_by_key(|(position, entry)| (entry.priority, Reverse(*position)));
    match newest_least_urgent {
        Some((position, entry)) if entry.priority < newcomer => Admission::Displace(position),
        _ => Admission::Refuse,
    }
}

fn effective_priority(entry: &Pending, patience: Duration, now: Instant) -> Priority {
    if entry.priority == Priority::Bulk && now.saturating_duration_since(entry.enqueued) >= patience {
        Priority::Interactive
    } else {
        entry.priority
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LIMITS: Limits = Limits {
        max_batch: 8,
        free_workers: 1,
        workers: 1,
        rounds: 0,
        cost_per_picture: MS,
        live_lately: false,
        frame_delay: Duration::MAX,
        patience: Duration::MAX,
    };

    fn entry(now: Instant, priority: Priority) -> Pending {
        Pending { priority, enqueued: now, deadline: None, gone: false }
    }

    #[test]
    fn nothing_waits_for_a_batch_to_fill() {
        let now = Instant::now();
        assert_eq!(plan(&[entry(now, Priority::Bulk)], LIMITS, now).batch, [0]);
        assert_eq!(plan(&[], LIMITS, now), Plan::default());
    }

    #[test]
    fn a_batch_forms_while_the_workers_are_busy() {
        let now = Instant::now();
        let queue = vec![entry(now, Priority::Live); 20];
        assert_eq!(plan(&queue, LIMITS, now).batch, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn less_urgent_pictures_delay_no_frame_for_long() {
        let now = Instant::now();
        let mut queue = vec![entry(now, Priority::Interactive); 8];
        let slow = Limits { cost_per_picture: 5 * MS, frame_delay: 4 * MS, ..LIMITS };
        assert_eq!(plan(&queue, slow, now).batch.len(), 8, "nobody watches");
        let watched = Limits { live_lately: true, ..slow };
        assert_eq!(plan(&queue, watched, now).batch, [0], "a frame may come any moment");
        assert_eq!(plan(&queue, Limits { cost_per_picture: MS, ..watched }, now).batch.len(), 4);
        queue[5].priority = Priority::Live;
        queue[6].priority = Priority::Live;
        assert_eq!(plan(&queue, slow, now).batch, [5, 6], "frames go with frames only");
        let quick = Limits { cost_per_picture: MS / 10, ..watched };
        assert_eq!(plan(&queue, quick, now).batch.len(), 8, "a device does all of them in no time");
    }

    #[test]
    fn the_last_free_worker_is_kept_for_frames_while_they_come() {
        let now = Instant::now();
        let mut queue = vec![entry(now, Priority::Interactive), entry(now, Priority::Bulk)];
        let watched = Limits { cost_per_picture: 5 * MS, frame_delay: 4 * MS, live_lately: true, workers: 2, ..LIMITS };
        assert_eq!(plan(&queue, watched, now), Plan::default());
        assert_eq!(plan(&queue, Limits { free_workers: 2, ..watched }, now).batch, [0]);
        let others = [
            Limits { live_lately: false, ..watched },
            Limits { workers: 1, ..watched },
            Limits { cost_per_picture: MS, ..watched },
        ];
        assert!(others.iter().all(|&limits| !plan(&queue, limits, now).batch.is_empty()), "{others:?}");
        queue.push(entry(now, Priority::Live));
        assert_eq!(plan(&queue, watched, now).batch, [2]);
    }

    #[test]
    fn free_workers_share() {
        let now = Instant::now();
        let queue = vec![entry(now, Priority::Live); 5];
        assert_eq!(plan(&queue, Limits { free_workers: 2, ..LIMITS }, now).batch, [0, 1, 2]);
        assert_eq!(plan(&queue, Limits { free_workers: 9, ..LIMITS }, now).batch, [0]);
    }

    #[test]
    fn a_short_queue_is_left_to_workers_that_will_be_free_soon() {
        let now = Instant::now();
        let limits = Limits { workers: 2, rounds: 2, ..LIMITS };
        let taken = |waiting| plan(&vec![entry(now, Priority::Live); waiting], limits, now).batch.len();
        assert_eq!([1, 4, 5, 9, 40].map(taken), [1, 1, 2, 3, 8]);
        let many_free = Limits { free_workers: 5, workers: 5, rounds: 0, ..LIMITS };
        assert_eq!(plan(&vec![entry(now, Priority::Live); 10], many_free, now).batch.len(), 2);
    }

    #[test]
    fn the_most_urgent_go_first_and_equals_in_order_of_arrival() {
        let now = Instant::now();
        let queue = [Priority::Bulk, Priority::Live, Priority::Interactive, Priority::Live].map(|p| entry(now, p));
        assert_eq!(plan(&queue, Limits { max_batch: 3, ..LIMITS }, now).batch, [1, 3, 2]);
    }

    #[test]
    fn bulk_is_not_starved_by_interactive_work() {
        let now = Instant::now();
        let later = now + 2000 * MS;
        let queue = [entry(now, Priority::Bulk), entry(later, Priority::Interactive), entry(later, Priority::Live)];
        let limits = Limits { patience: 1000 * MS, ..LIMITS };
        assert_eq!(plan(&queue, limits, later).batch, [2, 0, 1]);
        assert_eq!(plan(&queue, LIMITS, later).batch, [2, 1, 0]);
    }

    #[test]
    fn who_has_gone_or_is_late_never_reaches_the_model() {
        let now = Instant::now();
        let mut queue = vec![entry(now, Priority::Live); 4];
        queue[0].gone = true;
        queue[1].deadline = Some(now);
        queue[3].deadline = Some(now + 50 * MS);
        assert_eq!(plan(&queue, LIMITS, now), Plan { batch: vec![2, 3], late: vec![1], gone: vec![0] });
    }

    #[test]
    fn a_batch_ends_where_its_tightest_deadline_would_be_missed() {
        let now = Instant::now();
        let mut queue = vec![entry(now, Priority::Live); 6];
        queue[1].deadline = Some(now + 35 * MS);
        let limits = Limits { cost_per_picture: 10 * MS, ..LIMITS };
        assert_eq!(plan(&queue, limits, now).batch, [0, 1, 2]);
        // Even if the estimate says that it cannot be done, the first one goes.
        let hopeless = Limits { cost_per_picture: 1000 * MS, ..LIMITS };
        assert_eq!(plan(&queue[1..], hopeless, now).batch, [0]);
    }

    #[test]
    fn a_full_queue_gives_up_its_newest_least_urgent_entry() {
        let now = Instant::now();
        let queue = [Priority::Bulk, Priority::Live, Priority::Bulk].map(|p| entry(now, p));
        assert_eq!(admit(&queue, 4, Priority::Bulk), Admission::Enter);
        assert_eq!(admit(&queue, 3, Priority::Bulk), Admission::Refuse);
        assert_eq!(admit(&queue, 3, Priority::Live), Admission::Displace(2));
        assert_eq!(admit(&queue[1..2], 1, Priority::Live), Admission::Refuse);
        assert_eq!(admit(&[], 0, Priority::Live), Admission::Refuse);
    }

    #[test]
    fn a_full_queue_first_gives_up_what_nobody_waits_for() {
        let now = Instant::now();
        let mut queue = vec![entry(now, Priority::Live); 3];
        queue[1].gone = true;
        assert_eq!(admit(&queue, 3, Priority::Bulk), Admission::Displace(1));
    }

    #[test]
    fn a_device_sees_few_batch_sizes() {
        let seen: std::collections::BTreeSet<usize> = (1..=32).map(|count| bucket(count, 32)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32]);
        // No more than allowed, no less than there are.
        assert_eq!((bucket(17, 24), bucket(24, 24), bucket(9, 8), bucket(0, 8)), (24, 24, 9, 1));
        assert_eq!(bucket(usize::MAX, 8), usize::MAX);
    }

    #[test]
    fn the_wait_grows_with_what_is_ahead_and_shrinks_with_workers() {
        assert_eq!(wait_behind(0, 5 * MS, 2), Duration::ZERO);
        assert_eq!(wait_behind(10, 5 * MS, 2), 25 * MS);
        assert_eq!(wait_behind(10, Duration::ZERO, 2), Duration::ZERO, "nothing is known yet");
        assert_eq!(wait_behind(3, 5 * MS, 0), 15 * MS);
        assert!(wait_behind(usize::MAX, Duration::MAX, 1) > Duration::from_secs(1 << 40));
    }

    fn entries() -> impl Strategy<Value = Vec<(u8, u64, Option<u64>, bool)>> {
        prop::collection::vec((0_u8..3, 0_u64..100, prop::option::of(0_u64..200), any::<bool>()), 0..40)
    }

    proptest! {
        #[test]
        fn every_plan_keeps_the_rules(
            entries in entries(), max_batch in 1_usize..12, free_workers in 1_usize..5, cost in 0_u64..30,
        ) {
            let start = Instant::now();
            let now = start + 100 * MS;
            let at = |ms: u64| start + Duration::from_millis(ms);
            let pending: Vec<Pending> = entries
                .iter()
                .map(|&(priority, enqueued, deadline, gone)| Pending {
                    priority: [Priority::Bulk, Priority::Interactive, Priority::Live][usize::from(priority)],
                    enqueued: at(enqueued),
                    deadline: deadline.map(at),
                    gone,
                })
                .collect();
            let limits = Limits {
                max_batch, free_workers, workers: free_workers + cost as usize % 3, rounds: max_batch % 3, cost_per_picture: Duration::from_millis(cost),
                live_lately: cost % 2 == 0, frame_delay: MS, patience: 50 * MS,
            };
            let plan = plan(&pending, limits, now);

            let mut all: Vec<usize> = plan.batch.iter().chain(&plan.late).chain(&plan.gone).copied().collect();
            let listed = all.len();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), listed, "a position is in two lists");
            prop_assert!(plan.batch.len() <= max_batch);
            let alive = |p: &Pending| !p.gone && p.deadline.is_none_or(|deadline| deadline > now);
            prop_assert!(plan.batch.iter().all(|&position| alive(&pending[position])));
            let kept = limits.live_lately && free_workers == 1 && limits.workers > 1 && cost > 1;
            let due = |p: &Pending| alive(p) && (!kept || p.priority == Priority::Live);
            prop_assert_eq!(plan.batch.is_empty(), !pending.iter().any(due), "work waits beside a free worker");
            let priorities: Vec<Priority> =
                plan.batch.iter().map(|&p| effective_priority(&pending[p], limits.patience, now)).collect();
            prop_assert!(priorities.is_sorted_by(|a, b| a >= b));
        }
    }
}
