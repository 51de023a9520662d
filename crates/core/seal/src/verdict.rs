//! What verification says about a seal, and why.
//!
//! The checks run in the order of [`Verdict`]'s failures, worst first: the earliest failure is the verdict. The expensive
//! part, the signatures of a checkpoint, is the same for all seals of a batch; [`Verifier`] checks it once.

mod anchored;
mod checked;
mod doubt;
mod judge;
mod original;

pub use anchored::VerifiedAnchor;

use crate::merkle::{Hash, KnownPaths, verify_inclusion};
use crate::record::{Record, entry_leaf_hash};
use crate::seal::Parts;
use crate::trust::{SignatureType, VerifiedBundle};
use anchored::Dated;
use checked::CheckedNote;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What verification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The seal holds.
    Valid,
    /// The log's key was compromised later than an outside witness or an anchor dates the seal.
    ValidBeforeCompromise,
    /// The seal may be forged, or the bundle is too old to know.
    Suspect,
    /// Too few witnesses cosigned.
    Unwitnessed,
    /// The seal is for another document.
    DocumentMismatch,
    /// The record is not in the tree that the log signed.
    BadProof,
    /// The log did not sign the checkpoint with each type that the bundle requires, or a trusted key's signature fails.
    BadSignature,
    /// The trust bundle does not know the log.
    UnknownLog,
    /// This is not a seal file.
    Malformed,
}

impl Verdict {
    /// The verdict's name as the command line and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::ValidBeforeCompromise => "valid-before-compromise",
            Self::Suspect => "suspect",
            Self::Unwitnessed => "unwitnessed",
            Self::DocumentMismatch => "document-mismatch",
            Self::BadProof => "bad-proof",
            Self::BadSignature => "bad-signature",
            Self::UnknownLog => "unknown-log",
            Self::Malformed => "malformed",
        }
    }

    /// May the document be relied on?
    pub fn is_valid(self) -> bool {
        match self {
            Self::Valid | Self::ValidBeforeCompromise => true,
            Self::Suspect
            | Self::Unwitnessed
            | Self::DocumentMismatch
            | Self::BadProof
            | Self::BadSignature
            | Self::UnknownLog
            | Self::Malformed => false,
        }
    }

    /// The exit code of `verify`: 0 for both valid verdicts, else 1.
    pub fn exit_code(self) -> u8 {
        u8::from(!self.is_valid())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A witness whose cosignature counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountedWitness {
    /// Its name in the trust bundle.
    pub name: String,
    /// Who runs it.
    pub operator: String,
    /// When it cosigned, RFC 3339; the earliest where it did so several times, none where it stated no time.
    pub time: Option<String>,
    /// Does the installation itself run it?
    pub local: bool,
}

/// A verdict with its reason and what it rests on. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The verdict.
    pub verdict: Verdict,
    /// What was seen, what was expected, and what to do.
    pub reason: String,
    /// The log's origin, where the seal could be read that far. Until the verdict is valid this is only the seal's claim.
    pub origin: Option<String>,
    /// The leaf's index.
    pub index: Option<u64>,
    /// The checkpoint's size.
    pub tree_size: Option<u64>,
    /// The earliest time of a counted cosignature: the seal existed then.
    pub sealed_at: Option<String>,
    /// The time that the sealing service claims.
    pub claimed_at: Option<String>,
    /// The types of the log's good signatures on the checkpoint.
    pub signed: Vec<SignatureType>,
    /// The witnesses that counted.
    pub witnesses: Vec<CountedWitness>,
    /// The trust bundle's version.
    pub bundle_version: u64,
    /// When the trust bundle was issued.
    pub bundle_issued: String,
    /// The record inside the seal, once the proof has shown that it is the one sealed.
    #[serde(skip)]
    pub record: Option<Record>,
}

/// Verifies one seal. `document_digest` is the SHA-256 of the document's bytes; without it only the seal itself is
/// verified, and the reason says so. `now_ms` is the present in Unix milliseconds.
pub fn verify(
    seal: &[u8],
    document_digest: Option<[u8; 32]>,
    bundle: &VerifiedBundle,
    now_ms: i64,
) -> Verification {
    Verifier::new(bundle, 0).verify(seal, document_digest, now_ms)
}

/// As [`verify`], with anchors of the seal's checkpoint: where the log's key was compromised, a time-stamping authority's
/// time counts like an outside witness's. Anchors over later checkpoints count with a proof that they contain the seal's. Those over others, over notes that the log did not sign, and from
/// the future are passed over; an anchor never makes a verdict worse.
pub fn verify_anchored(
    seal: &[u8],
    document_digest: Option<[u8; 32]>,
    bundle: &VerifiedBundle,
    anchors: &[VerifiedAnchor],
    now_ms: i64,
) -> Verification {
    Verifier::new(bundle, 0).verify_anchored(seal, document_digest, anchors, now_ms)
}

/// Verifies many seals under one bundle, checking the signatures of each checkpoint once.
#[derive(Debug)]
pub struct Verifier<'a> {
    bundle: &'a VerifiedBundle,
    bundle_issued: String,
    cache: BTreeMap<Box<str>, (CheckedNote<'a>, KnownPaths)>,
    capacity: usize,
    /// Paths that are known under all remembered checkpoints.
    paths: usize,
}

/// Most of them: 4 MiB. When there are more, they are all forgotten, and come again from the next proofs.
const MAX_PATHS: usize = 8_192;

impl<'a> Verifier<'a> {
    /// `capacity` bounds the number of remembered checkpoints; a full memory is emptied, since seals come in batches.
    pub fn new(bundle: &'a VerifiedBundle, capacity: usize) -> Self {
        let bundle_issued = bundle.payload().issued.to_string();
        Self {
            bundle,
            bundle_issued,
            cache: BTreeMap::new(),
            capacity,
            paths: 0,
        }
    }

    /// Verifies one seal; see [`verify`].
    pub fn verify(
        &mut self,
        seal: &[u8],
        document_digest: Option<[u8; 32]>,
        now_ms: i64,
    ) -> Verification {
        self.verify_anchored(seal, document_digest, &[], now_ms)
    }

    /// Verifies one seal with its anchors; see [`verify_anchored`].
    pub fn verify_anchored(
        &mut self,
        seal: &[u8],
        document_digest: Option<[u8; 32]>,
        anchors: &[VerifiedAnchor],
        now_ms: i64,
    ) -> Verification {
        let parts = match Parts::parse(seal) {
            Ok(parts) => parts,
            Err(error) => {
                let mut answer = self.blank();
                answer.reason = format!("{error}.");
                return answer;
            }
        };
        let dated = Dated::by(anchors, parts.note, self.bundle);
        // Only checkpoints whose signatures hold are kept: rubbish cannot push the good ones out.
        let blank = self.blank();
        if let Some((checked, known)) = self.cache.get_mut(parts.note) {
            let before = known.len();
            let proven = known.verify_inclusion(&leaf_of(&parts), parts.index, &parts.proof);
            self.paths += known.len() - before;
            let checked = (&*checked, proven);
            let answer = judge::judge(blank, &parts, checked, &dated, document_digest, now_ms);
            self.forget_paths();
            return answer;
        }
        let checked = CheckedNote::check(parts.note, self.bundle);
        let proven = match &checked {
            CheckedNote::Good(good) => {
                let (size, root) = (good.checkpoint.size, &good.checkpoint.root);
                verify_inclusion(&leaf_of(&parts), parts.index, size, &parts.proof, root)
            }
            CheckedNote::Malformed(_)
            | CheckedNote::UnknownLog(_)
            | CheckedNote::BadSignature(..) => Ok(()),
        };
        let answer = judge::judge(
            blank,
            &parts,
            (&checked, proven),
            &dated,
            document_digest,
            now_ms,
        );
        if self.capacity > 0
            && let CheckedNote::Good(good) = &checked
        {
            let known = KnownPaths::under(good.checkpoint.size, good.checkpoint.root);
            if self.cache.len() >= self.capacity {
                self.cache.clear();
                self.paths = 0;
            }
            self.cache.insert(parts.note.into(), (checked, known));
        }
        answer
    }

    fn forget_paths(&mut self) {
        if self.paths > MAX_PATHS {
            self.cache.values_mut().for_each(|(_, known)| known.clear());
            self.paths = 0;
        }
    }

    fn blank(&self) -> Verification {
        Verification {
            verdict: Verdict::Malformed,
            reason: String::new(),
            origin: None,
            index: None,
            tree_size: None,
            sealed_at: None,
            claimed_at: None,
            signed: Vec::new(),
            witnesses: Vec::new(),
            bundle_version: self.bundle.payload().version,
            bundle_issued: self.bundle_issued.clone(),
            record: None,
        }
    }
}

/// The leaf that the seal's record is, if it is one.
fn leaf_of(parts: &Parts<'_>) -> Hash {
    entry_leaf_hash(&parts.nonce, &parts.record)
}
