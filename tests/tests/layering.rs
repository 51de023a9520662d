//! The shape of the repository: who may depend on whom, how long a file may be, and what nobody writes.
//!
//! These are statements about the source, so they are read from it: `cargo metadata` and the files themselves.

mod layering {
    mod dependencies;
    mod source;
    mod style;
}
