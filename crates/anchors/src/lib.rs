//! Anchors of checkpoints (RFC 3161 timestamps), and exports of seals that other people's tools verify.
//!
//! - [`timestamp`]: requests and the full verification of answers; [`client`] asks a time-stamping authority over HTTP;
//!   [`authority`] is a small one of our own for drills and tests.
//! - [`outside`]: HTTP and HTTPS clients for parties outside the installation.
//! - [`file`](mod@file): `FILE.seal.anchors`, the anchors beside a seal.
//! - [`seal_certificate`]: the X.509 certificate that ties log keys to a legal person, and [`chain`], the check of one that an authority gave;
//!   [`binding`], [`cades`] and [`receipt`] are signatures made with its key.
//!
//! **Invariant**: nothing in this crate decides a verdict or holds a log's key. ASN.1 and CMS are read by the `RustCrypto`
//! crates, certificate paths by `rustls-webpki`, signatures are made and checked by `ring`; input comes from outside, is
//! bounded and is either accepted whole or refused with a reason.

pub mod authority;
pub mod binding;
pub mod cades;
pub mod chain;
pub mod client;
pub mod file;
pub mod outside;
pub mod receipt;
pub mod roots;
pub mod seal_certificate;
pub mod signer;
pub mod timestamp;

mod profile;
pub mod signed;
