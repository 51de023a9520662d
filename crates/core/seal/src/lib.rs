//! The pure core of sealing: entries, Merkle tree, signed notes, checkpoints, proofs, trust bundles, verdicts.
//!
//! **Invariant**: nothing here reads a clock, a file, the network, the environment or a random source; such values come
//! in as arguments (`clippy.toml` beside this crate bans the calls). Bad input never panics and is never repaired: each
//! parser accepts exactly one spelling of each value, so that `parse(format(x)) == x` and `format(parse(b)) == b`.
//!
//! Where to begin: [`verdict::verify`] answers whether a seal holds; [`merkle::Frontier`], [`tile`] and [`record`] are what a
//! log writer needs; [`witness::decide`] is a witness; [`trust`] says which keys count.

mod encoding;

pub mod bulk;
pub mod checkpoint;
pub mod cosignature;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod record;
pub mod seal;
pub mod tile;
pub mod trust;
pub mod verdict;
pub mod witness;

#[cfg(test)]
mod tests;
