//! Pixels in, embedding out: which model runs where, and who waits for whom?
