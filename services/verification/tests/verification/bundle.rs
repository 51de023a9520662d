//! A trust bundle, made as the executor makes it.

use jiff::Timestamp;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::trust::{
    Environment, FORMAT, LogEntry, Payload, Quorum, Roots, Suspension, TrustBundle, WitnessEntry,
};
use sealwarden_wire::event::v1::{SuspensionAdded, TrustPublished, event::Kind};
use ssh_key::{HashAlg, LineEnding};

use crate::support::{ORIGIN, World, now_ms, person_key};

fn signing_key() -> (Ed25519KeyPair, Vkey) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let vkey = Vkey::ed25519(
        "test/signing",
        key.public_key().as_ref().try_into().unwrap(),
    )
    .unwrap();
    (key, vkey)
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// A signed bundle with the log and one local witness.
pub(crate) fn bundle(
    world: &World,
    witness: Option<Vkey>,
    version: u64,
    previous: Option<Hash>,
) -> TrustBundle {
    let root = person_key("root");
    let witnesses = witness
        .into_iter()
        .map(|vkey| WitnessEntry::new("local", vkey, "test", true));
    let witnesses: Vec<WitnessEntry> = witnesses.collect();
    let payload = Payload {
        format: FORMAT.to_owned(),
        installation: "test".to_owned(),
        environment: Environment::Production,
        version,
        issued: time(now_ms() - 1000),
        expires: time(now_ms() + 86_400_000),
        previous,
        roots: Roots {
            threshold: 1,
            keys: vec![root.public_key().to_openssh().unwrap()],
        },
        signing_key: signing_key().1,
        logs: vec![LogEntry::active(ORIGIN, vec![world.vkey()])],
        quorum: Quorum::Count(u32::try_from(witnesses.len()).unwrap()),
        witnesses,
        clock_skew_s: 60,
        tsas: Vec::new(),
    };
    let mut bundle = TrustBundle::new(&payload).unwrap();
    let text = bundle.payload_text().to_owned();
    let signature = root
        .sign("sealwarden-trust", HashAlg::Sha512, text.as_bytes())
        .unwrap();
    bundle
        .add_signature(&signature.to_pem(LineEnding::LF).unwrap())
        .unwrap();
    bundle
}

pub(crate) async fn publish(world: &World, bundle: &TrustBundle, version: u64) -> u64 {
    publish_bytes(world, bundle.to_bytes().unwrap(), version).await
}

pub(crate) async fn publish_bytes(world: &World, bytes: Vec<u8>, version: u64) -> u64 {
    let published = TrustPublished {
        version,
        digest: Hash::of(&bytes).to_string(),
        bundle: bytes.into(),
        reason: "test".to_owned(),
    };
    world
        .write("trust", "test", Kind::TrustPublished(published))
        .await
}

/// A suspension signed by the signing key, or by another one.
pub(crate) async fn suspend(world: &World, from_ms: i64, good: bool) -> u64 {
    let suspension = Suspension {
        key: None,
        installation: "test".to_owned(),
        environment: Environment::Production,
        origin: ORIGIN.to_owned(),
        from: time(from_ms),
        incident: "I-1".to_owned(),
        issued: time(now_ms()),
    };
    let (key, vkey) = signing_key();
    let note = suspension.to_note().unwrap();
    let signed = if good {
        note.text().to_owned()
    } else {
        "another text".to_owned()
    };
    let note = note
        .attach(
            vkey.name(),
            vkey.key_id(),
            key.sign(signed.as_bytes()).as_ref(),
        )
        .unwrap();
    let added = SuspensionAdded {
        vkey: String::new(),
        origin: ORIGIN.to_owned(),
        from_ms,
        incident: "I-1".to_owned(),
        note: note.to_string(),
    };
    world
        .write("trust", "test", Kind::SuspensionAdded(added))
        .await
}
