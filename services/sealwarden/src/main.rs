//! Sealwarden: the one binary.
fn main() {}
