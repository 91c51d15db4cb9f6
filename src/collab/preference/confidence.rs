//! How sure can one be that somebody likes an item, from what they did with it? A number for each kind of event.
//!
//! A confidence is what an engagement counts against the unobserved pairs; 1 is somebody who pressed play. Later events
//! correct earlier ones: who watched to the end was surer than it looked, who skipped less so.

use crate::domain::EventKind;

/// A click is a look at it, no more.
const CLICK: f32 = 0.5;
const PLAY: f32 = 1.0;
const SAVE: f32 = 1.5;
const LIKE: f32 = 2.0;
const FINISH: f32 = 2.0;
const PURCHASE: f32 = 3.0;
/// Watched to the end.
const WATCHED: f32 = 2.0;
/// What a skip leaves at most.
const SKIPPED: f32 = 0.1;
/// The lowest and the highest rating.
const RATED_LOW: f32 = 0.2;
const RATED_HIGH: f32 = 2.0;
/// No number of repetitions counts more.
const HIGHEST: f32 = 4.0;
/// What a repetition adds of the weaker one of the two.
const REPEATED: f32 = 0.25;
/// Watching something of unknown length for so many seconds is watching half of it.
const HALF_WATCHED_S: f32 = 300.0;

/// What an event says about the confidence in one item of one taste.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Signal {
    /// Nothing.
    None,
    /// The person turned to it: it is known from now on, with at least this confidence.
    Engaged(f32),
    /// More of the same engagement: if it is known, then with at least this confidence.
    AtLeast(f32),
    /// They did not want it after all: if it is known, then with at most this confidence; 0 takes it out.
    AtMost(f32),
}

impl Signal {
    /// What an event of this kind says, which watched so many seconds of an item of this length, or carries this rating.
    ///
    /// Ratings are read as of up to five stars, or of up to ten or a hundred points if they are larger than that.
    pub fn of(kind: EventKind, watched_s: Option<f32>, duration_s: Option<f32>, value: Option<f32>) -> Self {
        let watched = watched_s.filter(|s| s.is_finite() && *s > 0.0).map(|s| match duration_s {
            Some(duration) if duration > 0.0 => (s / duration).min(1.0),
            Some(_) | None => s / (s + HALF_WATCHED_S),
        });
        let by_watching = watched.map_or(0.0, |share| CLICK + (WATCHED - CLICK) * share);
        match kind {
            EventKind::Impression => Self::None,
            EventKind::Click => Self::Engaged(by_watching.max(CLICK)),
            EventKind::Play => Self::Engaged(by_watching.max(PLAY)),
            EventKind::Progress => Self::AtLeast(by_watching),
            EventKind::Finish => Self::AtLeast(FINISH),
            EventKind::Skip => Self::AtMost(SKIPPED.max(watched.unwrap_or(0.0))),
            EventKind::Like | EventKind::Share => Self::Engaged(LIKE),
            EventKind::Save => Self::Engaged(SAVE),
            EventKind::Purchase => Self::Engaged(PURCHASE),
            EventKind::Dislike => Self::AtMost(0.0),
            EventKind::Rate => Self::Engaged(value.filter(|v| v.is_finite()).map_or(PLAY, rated)),
        }
    }

    /// The confidence after this, where it was `known` before (or the item was not known); `None` if it is not known then.
    pub fn apply(self, known: Option<f32>) -> Option<f32> {
        match (self, known) {
            (Self::Engaged(new), None) => Some(new),
            (Self::Engaged(new), Some(old)) => Some((new.max(old) + REPEATED * new.min(old)).min(HIGHEST.max(old))),
            (Self::AtLeast(least), Some(old)) => Some(old.max(least)),
            (Self::AtMost(most), Some(old)) => Some(old.min(most)).filter(|left| *left > 0.0),
            (Self::None, known) => known,
            (Self::AtLeast(_) | Self::AtMost(_), None) => None,
        }
    }
}

fn rated(value: f32) -> f32 {
    let best = [5.0, 10.0, 100.0].into_iter().find(|best| value <= *best).unwrap_or(value);
    RATED_LOW + (RATED_HIGH - RATED_LOW) * (value / best).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engaged(kind: EventKind, watched_s: Option<f32>, value: Option<f32>) -> f32 {
        match Signal::of(kind, watched_s, Some(100.0), value) {
            Signal::Engaged(c) | Signal::AtLeast(c) | Signal::AtMost(c) => c,
            Signal::None => 0.0,
        }
    }

    #[test]
    fn the_more_somebody_does_the_surer_it_is() {
        let rising = [EventKind::Click, EventKind::Play, EventKind::Save, EventKind::Like, EventKind::Purchase];
        assert!(rising.windows(2).all(|pair| engaged(pair[0], None, None) < engaged(pair[1], None, None)));
        assert!(engaged(EventKind::Play, Some(90.0), None) > engaged(EventKind::Play, Some(5.0), None));
        assert_eq!(engaged(EventKind::Progress, Some(100.0), None), engaged(EventKind::Finish, None, None));
        assert!(engaged(EventKind::Rate, None, Some(4.5)) > 3.0 * engaged(EventKind::Rate, None, Some(0.5)));
        assert_eq!(engaged(EventKind::Rate, None, Some(9.0)), engaged(EventKind::Rate, None, Some(4.5)));
        assert_eq!(engaged(EventKind::Rate, None, Some(5_000.0)), RATED_HIGH);
        assert_eq!(engaged(EventKind::Rate, None, Some(-1.0)), RATED_LOW);
        assert!(EventKind::ALL.iter().all(|&kind| engaged(kind, Some(f32::NAN), Some(f32::INFINITY)).is_finite()));
    }

    #[test]
    fn kinds_that_are_engagements_make_an_item_known_and_no_others() {
        for kind in EventKind::ALL {
            let known = Signal::of(kind, Some(50.0), None, Some(3.0)).apply(None);
            assert_eq!(known.is_some(), kind.is_engagement(), "{kind}");
        }
    }

    #[test]
    fn later_events_correct_earlier_ones() {
        let played = Signal::of(EventKind::Play, None, None, None).apply(None);
        assert_eq!(played, Some(PLAY));
        assert_eq!(Signal::of(EventKind::Finish, None, None, None).apply(played), Some(FINISH));
        assert_eq!(Signal::of(EventKind::Skip, None, None, None).apply(played), Some(SKIPPED));
        assert_eq!(Signal::of(EventKind::Dislike, None, None, None).apply(played), None);
        assert_eq!(Signal::of(EventKind::Impression, None, None, None).apply(played), played);
        let again = (0..50).fold(played, |known, _| Signal::Engaged(PLAY).apply(known));
        assert_eq!(again, Some(HIGHEST));
    }
}
