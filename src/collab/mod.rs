//! What do people do after what this person has just done? Signals learned from everybody's events.
