//! How likely is each candidate, and by when? Features, hazards, re-ranking, reasons; pure.
