//! What is this person doing right now? Live sessions and the trajectory of their frames.
//!
//! [`SessionTable`] holds a bounded number of [`LiveSession`]s and forgets those that fall silent; each has the items
//! its viewer turned to and the [`Trajectory`] of the frames on their screen. [`SessionView`] is a copy to compute with
//! once the table is unlocked.
//!
//! All of this may be lost: events replayed from the log bring the items back, the next frames the trajectory. A table
//! can be [saved](SessionTable::save) and [loaded](SessionTable::load) without its frames, which are never kept.

mod live;
mod table;
mod trajectory;

pub use live::{LiveSession, SessionItem, SessionView, Upload};
pub use table::{SessionLimits, SessionTable};
pub use trajectory::Trajectory;
