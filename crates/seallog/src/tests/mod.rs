//! Statements about a seal log's files, made through the public interface only.

mod check;
mod crash;
mod damage;
mod erase;
mod mirror;
mod naive;
mod writing;

use crate::{Leaf, Published, SealLog, Staged};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sealwarden_seal::note::{Note, UnsignedNote, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Record};
use std::path::Path;

const ORIGIN: &str = "seal.example.com/test/1";

/// A log's key or a witness's, made from a fixed seed.
struct Signer {
    pair: Ed25519KeyPair,
    vkey: Vkey,
}

impl Signer {
    fn named(name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        Self {
            vkey: Vkey::ed25519(name, public).unwrap(),
            pair,
        }
    }

    fn log() -> Self {
        Self::named(ORIGIN, 1)
    }

    fn sign(&self, text: &str) -> Note {
        let signature = self.pair.sign(text.as_bytes());
        let note = UnsignedNote::new(text).unwrap();
        note.attach(self.vkey.name(), self.vkey.key_id(), signature.as_ref())
            .unwrap()
    }
}

fn leaf(number: u64) -> Leaf {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    let record = Record {
        tenant: "default".to_owned(),
        policy: "default".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: [u8::try_from(number % 251).unwrap(); 32],
        claimed_at_ms: 1_700_000_000_000,
        subject: number
            .is_multiple_of(3)
            .then(|| format!("document {number}")),
        original: None,
        request_id: None,
    };
    Leaf {
        nonce,
        record: record.encode().unwrap(),
    }
}

fn leaves(from: u64, to: u64) -> Vec<Leaf> {
    (from..to).map(leaf).collect()
}

fn publish(log: &mut SealLog, staged: &Staged) -> Published {
    log.publish(staged, &Signer::log().sign(&staged.checkpoint_text))
        .unwrap()
}

/// A log that grew to each of `sizes`, one batch each.
fn grown(dir: &Path, sizes: &[u64]) -> SealLog {
    let mut log = SealLog::create(dir, &Signer::log().vkey).unwrap();
    for size in sizes {
        let staged = log.stage(leaves(log.size(), *size)).unwrap();
        publish(&mut log, &staged);
    }
    log
}
