//! What is this person doing right now? Live sessions and the trajectory of their frames.
