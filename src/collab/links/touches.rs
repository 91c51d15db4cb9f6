//! When did a list last change, by the doing of those who are still remembered?

use crate::domain::{LoadError, StateReader, StateWriter};

/// How many steps are kept. A list is dated by its latest one, so older ones only matter once all later ones have been
/// taken back: when one person alone has come back to an item in so many steps.
const KEPT: usize = 32;

/// The latest steps of time in which a list changed, and how often in each; the latest last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Touches(Vec<Touch>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Touch {
    step: i32,
    times: u32,
}

impl Touches {
    /// The latest step; `None` if nothing was ever noted.
    pub(super) fn latest(&self) -> Option<i32> {
        self.0.last().map(|touch| touch.step)
    }

    /// The oldest step that is kept.
    pub(super) fn oldest(&self) -> Option<i32> {
        self.0.first().map(|touch| touch.step)
    }

    /// Notes a change in `step`. One that is older than all that are kept is passed over if no more can be.
    pub(super) fn add(&mut self, step: i32) {
        let after = self.0.iter().rposition(|touch| touch.step <= step);
        if let Some(place) = after
            && self.0[place].step == step
        {
            self.0[place].times = self.0[place].times.saturating_add(1);
            return;
        }
        let mut place = after.map_or(0, |place| place + 1);
        if self.0.len() == KEPT {
            if place == 0 {
                return;
            }
            self.0.remove(0);
            place -= 1;
        }
        if self.0.len() == self.0.capacity() {
            // A new step comes seldom, and there are as many lists as items.
            self.0.reserve_exact(self.0.len() / 4 + 1);
        }
        self.0.insert(place, Touch { step, times: 1 });
    }

    /// Takes a change in `step` back, if it is still kept.
    pub(super) fn take(&mut self, step: i32) {
        let Some(place) = self.0.iter().rposition(|touch| touch.step == step) else { return };
        self.0[place].times -= 1;
        if self.0[place].times == 0 {
            self.0.remove(place);
        }
    }

    /// Writes everything down.
    pub(super) fn save(&self, to: &mut StateWriter) {
        to.u8(self.0.len() as u8);
        for touch in &self.0 {
            to.i32(touch.step);
            to.u32(touch.times);
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(super) fn load(from: &mut StateReader<'_>) -> Result<Self, LoadError> {
        let count = usize::from(from.u8()?);
        if count > KEPT {
            return Err(DISORDER);
        }
        let mut touches = Vec::with_capacity(count);
        for _ in 0..count {
            touches.push(Touch { step: from.i32()?, times: from.u32()? });
        }
        let good =
            touches.iter().all(|touch| touch.times > 0) && touches.windows(2).all(|pair| pair[0].step < pair[1].step);
        if good { Ok(Self(touches)) } else { Err(DISORDER) }
    }
}

const DISORDER: LoadError = LoadError::Damaged("changes of links are out of order");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_that_is_left_dates_the_list() {
        let mut touches = Touches::default();
        assert_eq!((touches.latest(), touches.oldest()), (None, None));
        for step in [5, 9, 5, 7, 9] {
            touches.add(step);
        }
        assert_eq!((touches.latest(), touches.oldest()), (Some(9), Some(5)));
        touches.take(9);
        touches.take(8);
        assert_eq!(touches.latest(), Some(9));
        touches.take(9);
        touches.take(7);
        assert_eq!(touches.latest(), Some(5));
        touches.take(5);
        touches.take(5);
        assert_eq!(touches, Touches::default());
    }

    fn load(bytes: &[u8]) -> Result<Touches, LoadError> {
        let header = [b"test", &[1, 0, 0, 0][..], bytes].concat();
        Touches::load(&mut StateReader::new(*b"test", 1, &header).unwrap())
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut touches = Touches::default();
        for step in (0..KEPT as i32 + 5).filter(|step| step % 10 != 9).chain([9, -1, 29]) {
            touches.add(step);
        }
        assert_eq!((touches.latest(), touches.oldest(), touches.0.len()), (Some(KEPT as i32 + 4), Some(4), KEPT));
        let mut writer = StateWriter::new(*b"test", 1, 0);
        touches.save(&mut writer);
        assert_eq!(load(&writer.finish()[8..]), Ok(touches));
        assert_eq!(load(&[0]), Ok(Touches::default()));
        let two =
            |first: u8, second: u8, times: u8| load(&[2, first, 0, 0, 0, 1, 0, 0, 0, second, 0, 0, 0, times, 0, 0, 0]);
        assert!(two(1, 2, 1).is_ok());
        assert!(two(2, 1, 1).is_err() && two(2, 2, 1).is_err() && two(1, 2, 0).is_err() && load(&[9; 80]).is_err());
    }
}
