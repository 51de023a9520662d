//! Loads, decides, appends: the shell around the pure deciders.
