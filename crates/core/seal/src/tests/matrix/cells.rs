//! The cells of the verdict matrix.

mod after;
mod seals;
mod theft;

use super::super::payload::{group, pem, tree};
use super::*;
use crate::record::Original;
use crate::seal::MAX_SEAL_BYTES;
use crate::trust::{
    FrozenAt, NO_QUORUM, Revocation, RevocationReason, SealCertificate, SignatureType, Threshold,
};

const PQ: u8 = 80;
const SECOND: u8 = 61;
const NEXT: &str = "seal.example.com/main/2";

fn second_vkey() -> Vkey {
    Vkey::ed25519(ORIGIN, public(SECOND)).unwrap()
}

fn sign_second(note: &mut Note) {
    let signature = sign(SECOND, note.text().as_bytes());
    note.attach(ORIGIN, second_vkey().key_id(), &signature)
        .unwrap();
}

/// The seal without its log's signature.
fn without_log(case: &Case) -> Note {
    case.seal.note.filtered(|it| it.name() != ORIGIN).unwrap()
}

fn compromise(case: &mut Case, since: &str) {
    case.payload.logs[0].compromised_since = Some(at(since));
    case.payload.logs[0].successor = Some(NEXT.into());
}

/// Only the witnesses named by their seeds cosign, at the usual time and a minute later.
fn cosigners(case: &mut Case, seeds: &[u8]) {
    case.seal = unwitnessed_seal();
    for seed in seeds {
        cosign(&mut case.seal.note, *seed, cosigned_s() + u64::from(*seed));
    }
}

fn anchored(case: &mut Case, time: &str, note: &Note) {
    case.anchors.push(VerifiedAnchor {
        time_ms: at(time).as_millisecond(),
        tsa: "CN=TSA".into(),
        checkpoint: note.to_string(),
        proof: Vec::new(),
    });
}

/// By an anchor of the log's checkpoint of 20 leaves, with the proof that it contains the seal's.
fn anchored_later(case: &mut Case, time: &str) {
    let mut tree = sealed_tree();
    for index in 11..20_u8 {
        tree.push_entry(&[index]);
    }
    anchored(case, time, &signed_checkpoint(20, tree.root()));
    if let Some(anchor) = case.anchors.last_mut() {
        anchor.proof = tree.consistency_proof(11, 20).unwrap();
    }
}

fn certificate(byte: u8, revoked: Option<(&str, RevocationReason)>) -> SealCertificate {
    SealCertificate {
        pem: pem(byte, 200),
        binding: None,
        revoked: revoked.map(|(time, reason)| Revocation {
            at: at(time),
            reason,
        }),
    }
}

fn freeze(case: &mut Case, size: u64, root: Hash) {
    case.payload.logs[0].state = LogState::Frozen;
    case.payload.logs[0].frozen_at = Some(FrozenAt { size, root });
}

/// The seal becomes one of a leaf that says it re-seals leaf `index` of `origin`, where main/0 was frozen at 9.
fn resealed(case: &mut Case, origin: &str, index: u64) {
    let old = "seal.example.com/main/0";
    let mut entry = LogEntry::active(old, vec![Vkey::ed25519(old, public(62)).unwrap()]);
    entry.state = LogState::Frozen;
    entry.frozen_at = Some(FrozenAt {
        size: 9,
        root: Hash([9; 32]),
    });
    entry.compromised_since = Some(at("2026-04-20T00:00:00Z"));
    entry.successor = Some(ORIGIN.into());
    case.payload.logs.push(entry);
    let mut record = record();
    record.original = Some(Original {
        origin: origin.into(),
        index,
    });
    let mut tree = MemoryTree::new();
    tree.push_entry(&entry_of(&record));
    case.seal = Seal {
        nonce: NONCE,
        record,
        index: 0,
        proof: Vec::new(),
        note: signed_checkpoint(1, tree.root()),
    };
    cosign(&mut case.seal.note, LOCAL, cosigned_s());
    cosign(&mut case.seal.note, OUTSIDE, cosigned_s() + 60);
}

fn entry_of(record: &Record) -> Vec<u8> {
    entry(&NONCE, &record.encode().unwrap()).to_vec()
}

const fn cell(
    area: &'static str,
    situation: &'static str,
    verdict: Verdict,
    says: &'static str,
    arrange: fn(&mut Case),
) -> Cell {
    Cell {
        area,
        situation,
        verdict,
        says,
        arrange,
    }
}

const SEAL: &str = "The seal and its document";
const KEYS: &str = "Keys, rotation and failover";
const THEFT: &str = "Compromise and suspension";
const CERTIFICATES: &str = "Seal certificates";
const RESEALED: &str = "Sealed again after a compromise";
const WITNESSES: &str = "Witnesses and quorum";
const BUNDLE: &str = "Age of the trust bundle";

/// All cells, area by area.
pub(super) fn all() -> impl Iterator<Item = &'static Cell> {
    [seals::CELLS, theft::CELLS, after::CELLS]
        .into_iter()
        .flatten()
}
