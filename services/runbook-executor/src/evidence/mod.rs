//! Evidence bundles: what was known at a moment, hashed, signed, sealed in a log of its own, written once.
//!
//! ```text
//! <evidence>/<incident>/<run>-<step>/
//!   manifest.txt            who, when, for which step; `<sha256>  <path>` of every other file, sorted (as `sha256sum -c` reads it)
//!   manifest.note           the same text, signed by the installation's signing key (C2SP signed note)
//!   manifest.seal           the manifest's seal in the evidence log `<base>/evidence/1` (C2SP tlog-proof)
//!   collection.txt          what could not be collected, and why
//!   events/<stream>.jsonl   every commit of the streams concerned, with its payload and its place in the hash chain
//!   heads/heads.txt         where every stream of the event log ended just before (see `heads`), and
//!   heads/heads.seal        that text's seal in the evidence log
//!   checkpoints/…           checkpoint and right-edge tiles of every origin of the log, as they were served
//!   sightings/…             checkpoints that were refused
//!   acknowledgements/…      signed notes of nodes
//!   approvals/…             statements and signatures; `ssh-keygen -Y verify -f allowed_signers -I PERSON -n NAMESPACE -s FILE.txt.sig < FILE.txt`
//!   plan/…  trust/…  signals/…
//! ```
//!
//! **Invariant:** a bundle appears whole, under its final name, or not at all; it is never overwritten.

mod collect;
pub mod export;
mod folder;
pub(crate) mod heads;
mod http;
mod line;
mod manifest;
mod seal;
mod store;
mod verify;

pub use heads::{HeadsAudit, audit_heads};
pub(crate) use http::bounded_body;
pub use manifest::{Manifest, ManifestError};
pub(crate) use store::{EvidenceError, EvidenceStore, Place, Sealed};
pub use verify::{Damage, Report, verify_bundle};

use sealwarden_seal::note::{Vkey, VkeyError};

/// The manifest.
pub(crate) const MANIFEST: &str = "manifest.txt";
/// Its signed note.
pub(crate) const NOTE: &str = "manifest.note";
/// Its seal.
pub(crate) const SEAL: &str = "manifest.seal";

/// The event log's heads in a bundle, `.txt` and `.seal`.
pub(crate) const HEADS: &str = "heads/heads";

/// The origin of an installation's evidence log.
pub fn evidence_origin(base: &str) -> String {
    format!("{base}/evidence/1")
}

/// The verifier key of the evidence log: the signing key (as trust bundles name it) under the log's origin.
pub fn evidence_log_vkey(base: &str, signing: &Vkey) -> Result<Vkey, VkeyError> {
    Vkey::new(&evidence_origin(base), signing.key().clone())
}
