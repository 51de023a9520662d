//! The product's promises about seals, as tests, and the fixtures that they share: keys from fixed seeds, a log, a bundle.

mod batch_proof;
mod bulk;
mod formats;
mod inputs;
mod matrix;
mod merkle;
mod payload;
mod policy;
mod post_quantum;
mod record;
mod tile;
mod trust;
mod verdict;
mod witness;

use crate::checkpoint::Checkpoint;
use crate::cosignature::{self, Cosignature};
use crate::merkle::{Hash, MemoryTree};
use crate::note::{Note, Vkey};
use crate::record::{DigestAlgorithm, Nonce, Record, entry};
use crate::seal::Seal;
use crate::trust::{
    Environment, FORMAT, LogEntry, LogState, Payload, Quorum, Roots, Suspension, TrustBundle,
    VerifiedBundle, WitnessEntry,
};
use jiff::Timestamp;
use ml_dsa::signature::Keypair;
use ml_dsa::{MlDsa44, SigningKey};
use ring::signature::{Ed25519KeyPair, KeyPair};
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{HashAlg, LineEnding};

pub(super) const ORIGIN: &str = "seal.example.com/main/1";
pub(super) const LOG: u8 = 1;
pub(super) const LOCAL: u8 = 2;
pub(super) const OUTSIDE: u8 = 3;
pub(super) const SIGNING: u8 = 4;
pub(super) const ROOT_A: u8 = 10;
pub(super) const ROOT_B: u8 = 11;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The present of the tests.
pub(super) fn now_ms() -> i64 {
    at("2026-06-01T12:00:00Z").as_millisecond()
}

/// When the witnesses cosign, in Unix seconds.
pub(super) fn cosigned_s() -> u64 {
    u64::try_from(at("2026-05-01T12:00:00Z").as_second()).unwrap()
}

pub(super) fn sign(seed: u8, message: &[u8]) -> [u8; 64] {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    pair.sign(message).as_ref().try_into().unwrap()
}

pub(super) fn public(seed: u8) -> [u8; 32] {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    pair.public_key().as_ref().try_into().unwrap()
}

pub(super) fn log_vkey() -> Vkey {
    Vkey::ed25519(ORIGIN, public(LOG)).unwrap()
}

pub(super) fn witness_vkey(seed: u8) -> Vkey {
    Vkey::cosignature_v1(&format!("witness.example/{seed}"), public(seed)).unwrap()
}

pub(super) fn signed_checkpoint(size: u64, root: Hash) -> Note {
    let note = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root,
    }
    .to_note()
    .unwrap();
    let signature = sign(LOG, note.text().as_bytes());
    note.attach(ORIGIN, log_vkey().key_id(), &signature)
        .unwrap()
}

pub(super) fn cosign(note: &mut Note, seed: u8, time_s: u64) {
    let signature = sign(seed, &cosignature::message(note.text(), time_s));
    let line = Cosignature { time_s, signature }
        .into_line(&witness_vkey(seed))
        .unwrap();
    note.push(line).unwrap();
}

pub(super) fn ml_dsa_key(seed: u8) -> SigningKey<MlDsa44> {
    SigningKey::from_seed(&[seed; 32].into())
}

pub(super) fn ml_dsa_vkey(name: &str, seed: u8) -> Vkey {
    let key = ml_dsa_key(seed).verifying_key().encode();
    Vkey::ml_dsa_44(name, key.as_slice().try_into().unwrap()).unwrap()
}

pub(super) fn ml_dsa_sign(seed: u8, message: &[u8]) -> Vec<u8> {
    let key = ml_dsa_key(seed);
    let signature = key.expanded_key().sign_deterministic(message, &[]).unwrap();
    signature.encode().to_vec()
}

/// The log's ML-DSA-44 signature beside the one that stands there.
pub(super) fn sign_ml_dsa(note: &mut Note, seed: u8) {
    let key = ml_dsa_vkey(ORIGIN, seed);
    let checkpoint = Checkpoint::parse(note.text()).unwrap();
    let message = cosignature::log_message(&key, &checkpoint).unwrap();
    note.push(cosignature::log_line(&key, &ml_dsa_sign(seed, &message)).unwrap())
        .unwrap();
}

pub(super) const DOCUMENT: [u8; 32] = [0xd0; 32];
pub(super) const NONCE: Nonce = [7; 16];

pub(super) fn record() -> Record {
    Record {
        tenant: "acme".into(),
        policy: "contracts".into(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: DOCUMENT,
        claimed_at_ms: at("2026-05-01T11:59:59Z").as_millisecond(),
        subject: Some("contract 17".into()),
        original: None,
        request_id: Some("r-1".into()),
    }
}

/// The tree of [`seal`].
pub(super) fn sealed_tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for index in 0..11_u8 {
        if index == 5 {
            tree.push_entry(&entry(&NONCE, &record().encode().unwrap()));
        } else {
            tree.push_entry(&[index]);
        }
    }
    tree
}

/// A seal for [`DOCUMENT`] as leaf 5 of 11, signed by the log only.
pub(super) fn unwitnessed_seal() -> Seal {
    let record = record();
    let tree = sealed_tree();
    Seal {
        nonce: NONCE,
        record,
        index: 5,
        proof: tree.inclusion_proof(5, 11).unwrap(),
        note: signed_checkpoint(11, tree.root()),
    }
}

/// The same, cosigned by the local and the outside witness.
pub(super) fn seal() -> Seal {
    let mut seal = unwitnessed_seal();
    cosign(&mut seal.note, LOCAL, cosigned_s());
    cosign(&mut seal.note, OUTSIDE, cosigned_s() + 60);
    seal
}

pub(super) fn bytes_of(seal: &Seal) -> Vec<u8> {
    seal.to_text().unwrap().into_bytes()
}

pub(super) fn root_key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub(super) fn roots(threshold: u32, seeds: &[u8]) -> Roots {
    let line = |seed: &u8| root_key(*seed).public_key().to_openssh().unwrap();
    Roots {
        threshold,
        keys: seeds.iter().map(line).collect(),
    }
}

pub(super) fn payload() -> Payload {
    let witness = |seed: u8, local: bool| {
        WitnessEntry::new(
            &format!("w{seed}"),
            witness_vkey(seed),
            if local { "Acme" } else { "Other" },
            local,
        )
    };
    Payload {
        format: FORMAT.into(),
        installation: "acme".into(),
        environment: Environment::Production,
        version: 1,
        issued: at("2026-05-01T00:00:00Z"),
        expires: at("2026-08-01T00:00:00Z"),
        previous: None,
        roots: roots(2, &[ROOT_A, ROOT_B]),
        signing_key: Vkey::ed25519("acme/signing", public(SIGNING)).unwrap(),
        logs: vec![LogEntry::active(ORIGIN, vec![log_vkey()])],
        witnesses: vec![witness(LOCAL, true), witness(OUTSIDE, false)],
        quorum: Quorum::Count(2),
        clock_skew_s: 300,
        tsas: Vec::new(),
    }
}

pub(super) fn armored(seed: u8, namespace: &str, message: &str) -> String {
    let signature = root_key(seed)
        .sign(namespace, HashAlg::Sha512, message.as_bytes())
        .unwrap();
    signature.to_pem(LineEnding::LF).unwrap()
}

pub(super) fn signed_bundle(payload: &Payload, signers: &[u8]) -> TrustBundle {
    let mut bundle = TrustBundle::new(payload).unwrap();
    let text = bundle.payload_text().to_owned();
    for seed in signers {
        let namespace = payload.environment.trust_namespace();
        bundle
            .add_signature(&armored(*seed, namespace, &text))
            .unwrap();
    }
    bundle
}

pub(super) fn opened(payload: &Payload) -> VerifiedBundle {
    signed_bundle(payload, &[ROOT_A, ROOT_B])
        .open(None)
        .unwrap()
}

pub(super) fn suspension(from: &str) -> Suspension {
    Suspension {
        key: None,
        installation: "acme".into(),
        environment: Environment::Production,
        origin: ORIGIN.into(),
        from: at(from),
        incident: "INC-1".into(),
        issued: at("2026-05-20T00:00:00Z"),
    }
}

pub(super) fn signed_suspension(suspension: &Suspension, seed: u8) -> Note {
    let note = suspension.to_note().unwrap();
    let vkey = Vkey::ed25519("acme/signing", public(seed)).unwrap();
    let signature = sign(seed, note.text().as_bytes());
    note.attach(vkey.name(), vkey.key_id(), &signature).unwrap()
}

/// Each way to flip one bit of `bytes`.
pub(super) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}
