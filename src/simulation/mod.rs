//! What would a catalogue and its audience look like? A seeded world for the demo, for benchmarks and for the shipped weights.
