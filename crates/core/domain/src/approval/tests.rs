//! What approvals promise, tried with real keys.

mod checks;
mod directives;
mod keygen;
mod texts;
