//! What approvals promise, tried with real keys.

mod checks;
mod directives;
mod evidence;
mod keygen;
mod texts;
