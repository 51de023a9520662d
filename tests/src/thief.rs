//! A thief: copies a sealing key with what guards it, and signs with the copy, unseen by the provider's audit.

use std::path::Path;

use sealwarden_keys::{Guard, KeyId, KeyProvider as _, Purpose, SoftwareConfig, SoftwareProvider};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Original, Record, entry_leaf_hash};
use sealwarden_seal::seal::format_seal;
use sealwarden_seal::witness::AddCheckpoint;
use tempfile::TempDir;

use crate::installation::Installation;

/// The key of the log's first origin.
const KEY: &str = "main-1";

/// A stolen key.
pub struct Thief {
    provider: SoftwareProvider,
    _folder: TempDir,
}

impl Thief {
    /// Copies the keys of a sealing node.
    pub async fn steals_from(at: &Installation, node: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let from = at.data().join("nodes").join(node);
        copy(&from.join("keys"), &folder.path().join("keys"));
        std::fs::copy(from.join("guard"), folder.path().join("guard"))
            .expect("the guard is copied");
        let config = SoftwareConfig {
            dir: folder.path().join("keys"),
            guard: Guard::File(folder.path().join("guard")),
        };
        let provider = SoftwareProvider::open(config)
            .await
            .expect("the copy opens");
        Self {
            provider,
            _folder: folder,
        }
    }

    /// Signs a checkpoint of a tree that never was, in the name of `origin`.
    pub async fn forges(&self, origin: &str, size: u64) -> Note {
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root: Hash::of(b"a tree that never was"),
        };
        sign(&self.provider, KEY, &checkpoint).await
    }

    /// Makes a whole seal for a document: a tree of one leaf, its proof, the log's signature. Only the log never meant it.
    pub async fn forges_a_seal(&self, origin: &str, document: &[u8]) -> Vec<u8> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        self.forges_a_seal_of(origin, &record(document, now_ms, None))
            .await
    }

    /// The same for a record of the thief's choice.
    pub async fn forges_a_seal_of(&self, origin: &str, record: &Record) -> Vec<u8> {
        let record = record.encode().expect("a record");
        let nonce = [7; 16];
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size: 1,
            root: entry_leaf_hash(&nonce, &record),
        };
        let note = sign(&self.provider, KEY, &checkpoint).await;
        format_seal(&nonce, &record, 0, &[], &note.to_string()).into_bytes()
    }
}

/// A record as the sealing service makes them, but for the time and the original that somebody claims.
pub fn record(document: &[u8], claimed_at_ms: i64, original: Option<Original>) -> Record {
    Record {
        tenant: "default".to_owned(),
        policy: "default".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: Hash::of(document).0,
        claimed_at_ms,
        subject: None,
        original,
        request_id: None,
    }
}

/// Uses a node's sealing key in place, beside the service, so that only the provider's audit tells.
pub async fn misuses(at: &Installation, node: &str, origin: &str, size: u64) -> Note {
    misuses_key(at, node, KEY, origin, size).await
}

/// As [`misuses`], with the key named.
pub async fn misuses_key(
    at: &Installation,
    node: &str,
    key: &str,
    origin: &str,
    size: u64,
) -> Note {
    let folder = at.data().join("nodes").join(node);
    let config = SoftwareConfig {
        dir: folder.join("keys"),
        guard: Guard::File(folder.join("guard")),
    };
    let provider = SoftwareProvider::open(config)
        .await
        .expect("the node's keys open");
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size,
        root: Hash::of(b"a tree that never was"),
    };
    sign(&provider, key, &checkpoint).await
}

async fn sign(provider: &SoftwareProvider, key: &str, checkpoint: &Checkpoint) -> Note {
    let id = KeyId::new(key).expect("a key id");
    let info = provider.info(&id).await.expect("the sealing key");
    let note = checkpoint.to_note().expect("a checkpoint");
    let signature = provider
        .sign(&id, Purpose::Sealing, note.text().as_bytes())
        .await
        .expect("a signature");
    let vkey = Vkey::ed25519(&checkpoint.origin, info.ed25519().expect("an Ed25519 key"))
        .expect("a verifier key");
    note.attach(vkey.name(), vkey.key_id(), signature.as_bytes())
        .expect("a signed note")
}

/// Shows a checkpoint to the witness; the status that it answers.
pub async fn shows_to_the_witness(at: &Installation, note: &Note, old_size: u64) -> u16 {
    let request = AddCheckpoint {
        old_size,
        proof: Vec::new(),
        note: note.clone(),
    };
    let url = format!(
        "{}/witness/add-checkpoint",
        at.address("verification", "http")
    );
    sealwarden_pki::install_ring();
    let answer = reqwest::Client::new()
        .post(url)
        .body(request.to_text())
        .send()
        .await
        .expect("the witness answers");
    answer.status().as_u16()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("a private folder");
    for entry in std::fs::read_dir(from).expect("the folder of keys") {
        let path = entry.expect("an entry").path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, to.join(name)).expect("a key is copied");
        }
    }
}
