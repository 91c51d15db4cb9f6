//! Are the best ones found, whatever is asked together?
