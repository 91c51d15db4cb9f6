//! What would a catalogue and its audience look like? A seeded world for the demo, for benchmarks and for the shipped weights.
//!
//! Everything here is pure: a seed goes in, the same world comes out, on every run. Nothing reads a clock, a file or the
//! network; times are relative to an instant that the caller names.
//!
//! - [`Catalogue`]: items of an imaginary video service, each with an [`Artwork`] that paints its thumbnail and plays its
//!   frames.
//! - [`Population`]: viewers with tastes and habits, and the events they leave behind.
//! - [`ClickLog`]: plain click logs of any size, without catalogue, from a few parameters; [`mixture`] has several kinds.

mod artwork;
mod catalogue;
mod click_log;
mod habits;
mod painting;
mod population;
mod random;
mod theme;
mod viewing;
mod wording;

pub use artwork::{Artwork, FRAME_SIZE, Scene, THUMBNAIL_SIZE, contact_sheet};
pub use catalogue::{Catalogue, CatalogueItem, Kind};
pub use click_log::{Click, ClickLog, ClickLogOptions, mixture};
pub use population::{Events, Population, PopulationOptions, Viewer};
pub use theme::Theme;
