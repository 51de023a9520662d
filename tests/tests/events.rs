//! Events are written once and read for ever: what an older version stored, this one reads, with the same meaning.
//!
//! `tests/golden/events/v1` holds commits as they were stored, one file or more for each kind of event. `tests/golden/README.md` says how to add to it.

mod events {
    mod golden;
    mod sample;
}
