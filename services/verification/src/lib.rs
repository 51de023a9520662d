//! The verification service and its witness.
