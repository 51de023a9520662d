//! What approvals promise, tried with real keys.

// A security key in software: the scenarios through the binary play with the same one.
#[path = "../../../../../tests/src/authenticator.rs"]
#[expect(unreachable_pub, reason = "it is public in the scenarios' crate")]
mod authenticator;
mod checks;
mod directives;
mod evidence;
mod fido;
mod keygen;
mod revocations;
mod texts;
