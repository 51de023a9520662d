//! A log of one key with sealed leaves, a time-stamping authority, and OpenSSL.

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_anchors::authority::{self, Authority, Issued};
use sealwarden_anchors::roots::Roots;
use sealwarden_anchors::seal_certificate::{self, LegalPerson};
use sealwarden_anchors::signer::Signer;
use sealwarden_anchors::timestamp::Request;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::MemoryTree;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::record::{Record, entry};
use sealwarden_seal::seal::Seal;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const ORIGIN: &str = "seal.example.com/main/1";
/// 2026-11-23T04:05:06Z
pub(super) const NOW_MS: i64 = 1_795_406_706_000;
const DAY_S: i64 = 24 * 3600;

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub(super) fn vkey(origin: &str, seed: u8) -> Vkey {
    let public = key(seed).public_key().as_ref().try_into().unwrap();
    Vkey::ed25519(origin, public).unwrap()
}

pub(super) fn note_of(origin: &str, seed: u8, tree: &MemoryTree) -> Note {
    let checkpoint = Checkpoint {
        origin: origin.into(),
        size: tree.size(),
        root: tree.root(),
    };
    let signature = key(seed).sign(checkpoint.to_text().as_bytes());
    let id = vkey(origin, seed).key_id();
    let unsigned = checkpoint.to_note().unwrap();
    unsigned.attach(origin, id, signature.as_ref()).unwrap()
}

fn record() -> Record {
    Record {
        tenant: "default".into(),
        policy: "default".into(),
        digest_algorithm: sealwarden_seal::record::DigestAlgorithm::Sha256,
        digest: [7; 32],
        claimed_at_ms: NOW_MS,
        subject: None,
        original: None,
        request_id: None,
    }
}

/// Leaf `index` of a tree of `size` leaves.
pub(super) fn seal(index: u64, size: u64) -> Seal {
    let (nonce, record) = ([9; 16], record());
    let mut tree = MemoryTree::new();
    for place in 0..size {
        if place == index {
            tree.push_entry(&entry(&nonce, &record.encode().unwrap()));
        } else {
            tree.push_entry(&place.to_be_bytes());
        }
    }
    Seal {
        nonce,
        record,
        index,
        proof: tree.inclusion_proof(index, size).unwrap(),
        note: note_of(ORIGIN, 1, &tree),
    }
}

pub(super) fn issued(name: &str) -> Issued {
    let now_s = NOW_MS / 1000;
    authority::issue(name, now_s - DAY_S, now_s + DAY_S).unwrap()
}

pub(super) fn signer(issued: &Issued) -> Signer {
    Signer::from_pem(issued.certificate.as_bytes(), issued.key.as_bytes()).unwrap()
}

pub(super) fn roots(issued: &Issued) -> Roots {
    Roots::from_pem(issued.root.as_bytes()).unwrap()
}

/// A timestamp of our authority over `covered`.
pub(super) fn stamped(issued: &Issued, covered: &[u8], at_ms: i64) -> Vec<u8> {
    let request = Request::new(covered, None).unwrap().to_der().unwrap();
    Authority::new(signer(issued))
        .respond(&request, at_ms)
        .unwrap()
}

pub(super) fn person() -> LegalPerson {
    LegalPerson {
        organization: "Example Seals AG".into(),
        identifier: Some("NTRDE-HRB123456".into()),
        country: Some("DE".into()),
    }
}

pub(super) fn seal_certificate() -> Issued {
    let now_s = NOW_MS / 1000;
    let vkeys = [vkey(ORIGIN, 1), vkey(ORIGIN, 2)];
    seal_certificate::issue(&person(), &vkeys, now_s - DAY_S, now_s + DAY_S).unwrap()
}

/// A folder for OpenSSL's files.
pub(super) struct Desk(tempfile::TempDir);

impl Desk {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }

    /// Runs `openssl`; its success and everything that it said.
    pub(super) fn openssl(&self, arguments: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.path())
            .output()
            .expect("openssl is installed");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    pub(super) fn must(&self, arguments: &str) -> String {
        let (good, said) = self.openssl(arguments);
        assert!(good, "openssl {arguments}: {said}");
        said
    }
}
