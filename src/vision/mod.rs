//! Bytes in, pixels out: how does an upload become the picture that a model wants, and is it the one we have just seen?
