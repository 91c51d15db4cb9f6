//! Which decisions are kept for training? The newest, in memory that is taken at the start.

use std::collections::{HashSet, VecDeque};

use half::f16;

use super::decisions::Cases;
use super::hazard::HazardModel;
use super::lesson::Lesson;
use crate::domain::{ItemNo, Timestamp};

/// The newest lessons, oldest first, as far as their cases find room.
///
/// Every column is a ring of its final size from the start, so that a server that has learned for a day is no larger than one that
/// has just begun. Features are kept in 16 bits: they are shares, flags and logarithms.
#[derive(Debug)]
pub struct Notebook {
    /// The most cases.
    room: usize,
    /// Features of a case.
    width: usize,
    intervals: usize,
    heads: VecDeque<Head>,
    /// Cases × width.
    rows: VecDeque<f16>,
    /// Cases × intervals: what was predicted, and what the base model said.
    said: VecDeque<[f32; 2]>,
    cases: VecDeque<Case>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    session: u64,
    at: Timestamp,
    cases: usize,
    covered: u8,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    item: u32,
    weight: f32,
    propensity: f32,
    place: u8,
    outcome: u8,
}

/// A ring with room for so many, whose memory is there and not only promised.
fn ring<T: Copy>(room: usize, any: T) -> VecDeque<T> {
    let mut ring = VecDeque::from(vec![any; room]);
    ring.clear();
    ring
}

impl Notebook {
    /// With room for so many cases of lessons of `model`'s schema, which take some 190 bytes each.
    pub fn new(room: usize, model: &HazardModel) -> Self {
        let (width, intervals) = (model.schema().row_width(), model.schema().horizons().count());
        // Not zero: zeroes are promised by the system and come when they are first written.
        let case = Case { item: u32::MAX, weight: 1.0, propensity: 1.0, place: 1, outcome: 1 };
        Self {
            room,
            width,
            intervals,
            heads: VecDeque::new(),
            rows: ring(room * width, f16::ONE),
            said: ring(room * intervals, [1.0; 2]),
            cases: ring(room, case),
        }
    }

    /// How many lessons there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many cases they have.
    pub fn cases(&self) -> usize {
        self.cases.len()
    }

    /// Adds a lesson; the oldest ones make room. One that is larger than the room, or of another schema, is left out.
    pub fn push(&mut self, lesson: &Lesson) {
        let cases = &lesson.cases;
        let fits = cases.rows.len() == cases.len() * self.width && lesson.base.len() == cases.len() * self.intervals;
        if cases.is_empty() || cases.len() > self.room || !fits {
            return;
        }
        while self.cases.len() + cases.len() > self.room {
            self.drop_oldest();
        }
        self.heads.push_back(Head {
            session: lesson.session,
            at: lesson.at,
            cases: cases.len(),
            covered: lesson.covered,
        });
        let highest = f32::from(f16::MAX);
        self.rows.extend(cases.rows.iter().map(|value| f16::from_f32(value.clamp(-highest, highest))));
        self.said.extend(cases.log_odds.iter().zip(&lesson.base).map(|(&predicted, &base)| [predicted, base]));
        self.cases.extend((0..cases.len()).map(|case| Case {
            item: cases.items[case].0,
            weight: cases.weights[case],
            propensity: cases.propensities[case],
            place: cases.places[case],
            outcome: lesson.outcomes[case],
        }));
    }

    /// The lessons, oldest first, one at a time; their features as exact as 16 bits are.
    pub fn lessons(&self) -> impl Iterator<Item = Lesson> + '_ {
        let mut first = 0;
        self.heads.iter().map(move |head| {
            let range = first..first + head.cases;
            first = range.end;
            let said = || self.said.range(range.start * self.intervals..range.end * self.intervals);
            let cases = || self.cases.range(range.clone());
            let rows = self.rows.range(range.start * self.width..range.end * self.width);
            Lesson {
                session: head.session,
                at: head.at,
                cases: Cases {
                    items: cases().map(|case| ItemNo(case.item)).collect(),
                    rows: rows.map(|value| value.to_f32()).collect(),
                    log_odds: said().map(|[predicted, _]| *predicted).collect(),
                    weights: cases().map(|case| case.weight).collect(),
                    places: cases().map(|case| case.place).collect(),
                    propensities: cases().map(|case| case.propensity).collect(),
                },
                outcomes: cases().map(|case| case.outcome).collect(),
                base: said().map(|[_, base]| *base).collect(),
                covered: head.covered,
            }
        })
    }

    /// Replaces what was predicted by what `model`, the base model from now on, says.
    pub fn predict_again(&mut self, model: &HazardModel) {
        let mut row = Vec::with_capacity(self.width);
        for case in 0..self.cases.len() {
            row.clear();
            row.extend(self.rows.range(case * self.width..(case + 1) * self.width).map(|value| value.to_f32()));
            for interval in 0..self.intervals {
                self.said[case * self.intervals + interval] = [model.log_odds(&row, interval) as f32; 2];
            }
        }
    }

    /// Drops the lessons of these sessions.
    pub fn forget(&mut self, sessions: &HashSet<u64>) {
        if self.heads.iter().all(|head| !sessions.contains(&head.session)) {
            return;
        }
        // Each goes round once; those that are kept come to the end again, in their order.
        for _ in 0..self.heads.len() {
            let Some(&head) = self.heads.front() else { break };
            if sessions.contains(&head.session) {
                self.drop_oldest();
                continue;
            }
            self.heads.rotate_left(1);
            self.rows.rotate_left(head.cases * self.width);
            self.said.rotate_left(head.cases * self.intervals);
            self.cases.rotate_left(head.cases);
        }
    }

    fn drop_oldest(&mut self) {
        let Some(head) = self.heads.pop_front() else { return };
        self.rows.drain(..head.cases * self.width);
        self.said.drain(..head.cases * self.intervals);
        self.cases.drain(..head.cases);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::online::tests::{Audience, CASES, model};

    fn audience() -> (Audience, HazardModel) {
        let truth = model([0.9, -0.5, 0.0, 0.3], [-1.0, -3.0, -2.5]);
        (Audience::new(truth.clone(), 4), truth)
    }

    fn sessions(notebook: &Notebook) -> Vec<u64> {
        notebook.lessons().map(|lesson| lesson.session).collect()
    }

    #[test]
    fn lessons_come_back_as_they_were_and_the_oldest_go_first() {
        let (mut audience, truth) = audience();
        let mut notebook = Notebook::new(5 * CASES, &truth);
        let room = [notebook.rows.capacity(), notebook.said.capacity(), notebook.cases.capacity()];
        let lessons: Vec<Lesson> = (0..12)
            .map(|session| Lesson { session, ..audience.lesson(&truth, &truth, false).thinned(CASES - 1, session) })
            .collect();
        for lesson in &lessons {
            notebook.push(lesson);
            assert!(
                notebook.cases() <= 5 * CASES && notebook.cases() == notebook.lessons().map(|l| l.len()).sum::<usize>()
            );
        }
        assert!(notebook.len() >= 5 && sessions(&notebook).ends_with(&[9, 10, 11]));
        let kept = &lessons[lessons.len() - notebook.len()..];
        for (own, lesson) in notebook.lessons().zip(kept) {
            let apart = own.cases.rows.iter().zip(&lesson.cases.rows).map(|(a, b)| (a - b).abs() / b.abs().max(1e-2));
            assert!(apart.fold(0.0, f32::max) < 1e-3);
            let rows = lesson.cases.rows.clone();
            assert_eq!(Lesson { cases: Cases { rows, ..own.cases.clone() }, ..own }, *lesson);
        }
        let after = [notebook.rows.capacity(), notebook.said.capacity(), notebook.cases.capacity()];
        assert_eq!(room, after, "memory is that of the start");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let (mut audience, truth) = audience();
        let lesson = audience.lesson(&truth, &truth, false);
        let mut small = Notebook::new(CASES - 1, &truth);
        small.push(&lesson);
        assert!(small.is_empty());
        let mut notebook = Notebook::new(2 * CASES, &truth);
        let mut odd = lesson.clone();
        odd.cases.rows.pop();
        notebook.push(&odd);
        assert!(notebook.is_empty());
        let mut vast = lesson;
        vast.cases.rows[0] = 1e30;
        notebook.push(&vast);
        assert!(notebook.lessons().all(|lesson| lesson.cases.rows[0] == 65_504.0));
    }

    #[test]
    fn forgetting_leaves_the_others_in_their_order() {
        let (mut audience, truth) = audience();
        let mut notebook = Notebook::new(10 * CASES, &truth);
        let mut expected = Vec::new();
        for session in [1, 2, 3, 2, 4, 1] {
            let lesson = Lesson { session, ..audience.lesson(&truth, &truth, false) };
            notebook.push(&lesson);
            if session != 2 {
                expected.push((session, lesson.outcomes.clone(), lesson.base.clone()));
            }
        }
        notebook.forget(&HashSet::from([7]));
        assert_eq!(notebook.len(), 6);
        notebook.forget(&HashSet::from([2, 9]));
        let left: Vec<_> = notebook.lessons().map(|l| (l.session, l.outcomes, l.base)).collect();
        assert_eq!(left, expected);
        assert_eq!(notebook.cases(), 4 * CASES);
        notebook.forget(&HashSet::from([1, 3, 4]));
        assert!(notebook.is_empty() && notebook.cases() == 0);
    }

    #[test]
    fn another_model_predicts_again() {
        let (mut audience, truth) = audience();
        let mut notebook = Notebook::new(3 * CASES, &truth);
        (0..4).for_each(|_| notebook.push(&audience.lesson(&truth, &truth, false)));
        let other = model([0.1, 0.2, 0.3, 0.4], [-2.0, -2.0, -2.0]);
        notebook.predict_again(&other);
        for lesson in notebook.lessons() {
            assert_eq!(lesson.cases.log_odds, lesson.base);
            let said = other.log_odds(lesson.cases.row(1), 2) as f32;
            assert_eq!(lesson.base[5], said);
        }
    }
}
