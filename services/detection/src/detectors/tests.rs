//! A log with one origin, for tests of the detectors.

use std::collections::BTreeMap;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_domain::fold::{Fold as _, event};
use sealwarden_domain::log_control::LogControl;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use sealwarden_wire::event::v1::{Envelope, IntentRecorded, OriginOpened, event::Kind};

use super::Logs;

pub(crate) const ORIGIN: &str = "seal.example.com/main/1";
pub(crate) const KEY: &str = "main-1";

/// A folded log and the key of its origin.
pub(crate) struct Fixture {
    key: Ed25519KeyPair,
    logs: BTreeMap<String, LogControl>,
    poisoned: BTreeMap<String, String>,
    position: u64,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_key([1; 32])
    }

    pub(crate) fn other_key() -> Self {
        Self::with_key([2; 32])
    }

    fn with_key(seed: [u8; 32]) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let mut fixture = Self {
            key,
            logs: BTreeMap::new(),
            poisoned: BTreeMap::new(),
            position: 0,
        };
        let opened = OriginOpened {
            origin: ORIGIN.to_owned(),
            vkey: fixture.vkey(ORIGIN).to_string(),
            key_id: KEY.to_owned(),
            provider: "software".to_owned(),
            node: "sealing-1".to_owned(),
            ..OriginOpened::default()
        };
        fixture.fold(Kind::OriginOpened(opened));
        fixture
    }

    fn vkey(&self, name: &str) -> Vkey {
        Vkey::ed25519(name, self.key.public_key().as_ref().try_into().unwrap()).unwrap()
    }

    fn fold(&mut self, kind: Kind) {
        self.position += 1;
        let envelope = Envelope {
            stream: "log/main".to_owned(),
            position: self.position,
            recorded_at_ms: 1_000,
            ..Envelope::default()
        };
        self.logs
            .entry("main".to_owned())
            .or_default()
            .apply(&envelope, &event(kind))
            .unwrap();
    }

    pub(crate) fn logs(&self) -> Logs<'_> {
        Logs {
            logs: &self.logs,
            poisoned: &self.poisoned,
        }
    }

    pub(crate) fn poison(&mut self, reason: &str) {
        self.poisoned
            .insert("log/main".to_owned(), reason.to_owned());
    }

    pub(crate) fn opened_at(&mut self, at_ms: i64) {
        self.logs.get_mut("main").unwrap().origins[0].opened_at_ms = at_ms;
    }

    /// Records an intent; gives the hash of the message.
    pub(crate) fn intend(&mut self, size: u64, root: [u8; 32]) -> [u8; 32] {
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root: Hash(root),
        };
        let message = *Hash::of(checkpoint.to_text().as_bytes()).as_bytes();
        self.fold(Kind::IntentRecorded(IntentRecorded {
            origin: ORIGIN.to_owned(),
            size,
            root: root.to_vec().into(),
            message_sha256: message.to_vec().into(),
            ..IntentRecorded::default()
        }));
        message
    }

    pub(crate) fn intent_position(&self, size: u64) -> u64 {
        self.logs["main"].origins[0]
            .intents
            .get(size)
            .unwrap()
            .position
    }

    /// A checkpoint signed with the origin's key.
    pub(crate) fn signed(&self, size: u64, root: [u8; 32]) -> String {
        self.signed_as(ORIGIN, size, root)
    }

    pub(crate) fn signed_as(&self, origin: &str, size: u64, root: [u8; 32]) -> String {
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root: Hash(root),
        };
        let note = checkpoint.to_note().unwrap();
        let signature = self.key.sign(note.text().as_bytes());
        let vkey = self.vkey(origin);
        note.attach(vkey.name(), vkey.key_id(), signature.as_ref())
            .unwrap()
            .to_string()
    }
}
