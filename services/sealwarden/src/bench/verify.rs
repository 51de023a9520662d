//! `verify.cached`: verdicts a second on one core, in a tree of 2^24 leaves.
//!
//! The tree is real but not built: the upper twelve levels are, over 4,096 nodes, and below each node the path to one leaf, whose twelve siblings
//! are drawn once. Nobody can tell such a tree from one whose other leaves are known, so every proof has its 24 hashes, the leaves lie all over the
//! tree, and every verdict takes the path that it takes in an installation: what verdicts before it showed of the tree's top, it need not hash again.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::cosignature::{Cosignature, message};
use sealwarden_seal::merkle::{Hash, KnownPaths, MemoryTree, leaf_hash, node_hash};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::record::{DigestAlgorithm, Record, entry};
use sealwarden_seal::seal::format_seal;
use sealwarden_seal::trust::{
    Environment, FORMAT, LogEntry, Payload, Quorum, Roots, TrustBundle, VerifiedBundle,
    WitnessEntry,
};
use sealwarden_seal::verdict::{Verdict, Verifier};
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{HashAlg, LineEnding};

use super::Setting;
use super::figures::{Baseline, Figure, Measured, number, rate};
use super::limits;

pub(super) const ORIGIN: &str = "drill.invalid/bench/1";
const WITNESS: &str = "witness.bench.invalid";
/// Leaves whose paths are built: a power of two, and the width of the level where the built top begins.
const BUILT: u64 = 4096;
/// Height of the whole tree.
const HEIGHT: u32 = 24;
/// Where below its node each leaf stands: neither at the left edge nor at the right one.
const PLACE: u64 = 0xa5b;

/// Seals of [`BUILT`] digests, and the trust bundle that they are good under.
pub(super) struct Sample {
    pub(super) seals: Vec<(Vec<u8>, [u8; 32])>,
    pub(super) bundle: VerifiedBundle,
    /// Bytes of nonce and record of a leaf.
    leaf_bytes: usize,
    seal_bytes: usize,
}

pub(super) fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("building seals");
    let sample = Sample::of(|number| Hash::of(&number.to_be_bytes()).0)?;
    let now_ms = Timestamp::now().as_millisecond();
    let mut verifier = Verifier::new(&sample.bundle, 16);
    for (seal, digest) in &sample.seals {
        let answer = verifier.verify(seal, Some(*digest), now_ms);
        ensure!(answer.verdict == Verdict::Valid, "{}", answer.reason);
    }
    setting.stage("verifying");
    let (count, took) = limits::repeat(setting.span, || {
        let mut good = 0;
        for (seal, digest) in &sample.seals {
            let answer = verifier.verify(seal, Some(*digest), now_ms);
            good += u64::from(answer.verdict.is_valid());
        }
        Ok(good)
    })?;
    let value = rate(count, took);
    let (limit, check_s) = limit(setting, &sample)?;
    let mut measured = Measured {
        figures: vec![Figure {
            name: "verify.cached",
            value,
            unit: "verdicts/s a core",
            limit,
            limit_is: "bare SHA-256 over all that a proof hashes, and a 4,096th of two signature checks",
        }],
        baselines: vec![Baseline {
            figure: "verify.cached",
            value: 1.0 / check_s,
            is: "one Ed25519 signature a document, checked alone",
        }],
        settings: Vec::new(),
    };
    measured.setting("durability", "none: nothing is written");
    measured.setting("cores used", "1");
    measured.setting(
        "seals",
        format!(
            "{BUILT} of {} bytes all over a tree of 2^{HEIGHT} leaves, one checkpoint with one cosignature; {HEIGHT} hashes in each proof, of which the upper {} are compared with \
             those that led to the root before",
            sample.seal_bytes,
            KnownPaths::levels(1 << HEIGHT),
        ),
    );
    Ok(measured)
}

fn limit(setting: &Setting, sample: &Sample) -> anyhow::Result<(f64, f64)> {
    setting.stage("limit: bare hashes");
    // Commitment (domain, nonce, record), leaf (prefix, entry), and a node for each level.
    let mut lengths = vec![20 + sample.leaf_bytes, 34];
    lengths.extend((0..HEIGHT).map(|_| 65));
    let hashes_s = limits::hashes_s(&lengths, setting.span)?;
    setting.stage("limit: signature checks");
    let check_s = limits::check_s(setting.span.min(Duration::from_secs(2)))?;
    Ok((1.0 / (hashes_s + 2.0 * check_s / number(BUILT)), check_s))
}

/// The place in the whole tree of a leaf that was built.
pub(super) fn index_of(number: u64) -> u64 {
    (number << levels_below()) + PLACE
}

/// Levels below the built top.
fn levels_below() -> u32 {
    HEIGHT - BUILT.trailing_zeros()
}

impl Sample {
    /// Seals the digests that `digest` gives for 0, 1, 2 and so on.
    pub(super) fn of(digest: impl Fn(u64) -> [u8; 32]) -> anyhow::Result<Self> {
        let (log, witness) = (limits::key_pair(1)?, limits::key_pair(2)?);
        let mut tree = MemoryTree::new();
        let mut leaves = Vec::new();
        for number in 0..BUILT {
            let digest = digest(number);
            let record = record(digest)?;
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&number.to_be_bytes());
            let below = below(number);
            tree.push(node_above(leaf_hash(&entry(&nonce, &record)), &below));
            leaves.push((nonce, record, digest, below));
        }
        let root = tree.root();
        let note = checkpoint(&log, &witness, root)?;
        let mut seals = Vec::new();
        for (number, (nonce, record, digest, below)) in (0_u64..).zip(&leaves) {
            let mut proof = below.clone();
            proof.extend(tree.inclusion_proof(number, BUILT)?);
            let text = format_seal(nonce, record, index_of(number), &proof, &note);
            seals.push((text.into_bytes(), *digest));
        }
        Ok(Self {
            leaf_bytes: leaves
                .first()
                .map_or(0, |(nonce, record, ..)| nonce.len() + record.len()),
            seal_bytes: seals.first().map_or(0, |(seal, _)| seal.len()),
            bundle: bundle(&log, &witness)?,
            seals,
        })
    }
}

/// What hangs off the path from a leaf to its node in the built top, the lowest first.
fn below(number: u64) -> Vec<Hash> {
    let sibling =
        |level: u32| Hash::of(&[number.to_be_bytes(), u64::from(level).to_be_bytes()].concat());
    (0..levels_below()).map(sibling).collect()
}

fn node_above(leaf: Hash, below: &[Hash]) -> Hash {
    (0..).zip(below).fold(leaf, |node, (level, sibling)| {
        if PLACE >> level & 1 == 1 {
            node_hash(sibling, &node)
        } else {
            node_hash(&node, sibling)
        }
    })
}

fn record(digest: [u8; 32]) -> anyhow::Result<Vec<u8>> {
    let record = Record {
        tenant: "default".to_owned(),
        policy: "default".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest,
        claimed_at_ms: 1_790_000_000_000,
        subject: None,
        original: None,
        request_id: None,
    };
    Ok(record.encode()?)
}

fn public(pair: &Ed25519KeyPair) -> anyhow::Result<[u8; 32]> {
    Ok(pair.public_key().as_ref().try_into()?)
}

fn checkpoint(
    log: &Ed25519KeyPair,
    witness: &Ed25519KeyPair,
    root: Hash,
) -> anyhow::Result<String> {
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 1 << HEIGHT,
        root,
    };
    let unsigned = checkpoint.to_note()?;
    let signature = log.sign(unsigned.text().as_bytes());
    let vkey = Vkey::ed25519(ORIGIN, public(log)?)?;
    let mut note = unsigned.attach(ORIGIN, vkey.key_id(), signature.as_ref())?;
    let time_s = u64::try_from(Timestamp::now().as_second() - 60)?;
    let signature = witness.sign(&message(note.text(), time_s));
    let signature = signature.as_ref().try_into()?;
    let cosignature = Cosignature { time_s, signature };
    let vkey = Vkey::cosignature_v1(WITNESS, public(witness)?)?;
    note.push(cosignature.into_line(&vkey)?)?;
    Ok(note.to_string())
}

fn bundle(log: &Ed25519KeyPair, witness: &Ed25519KeyPair) -> anyhow::Result<VerifiedBundle> {
    let root = PrivateKey::from(Ed25519Keypair::from_seed(&[3; 32]));
    let now = Timestamp::now();
    let day = jiff::SignedDuration::from_hours(24);
    let payload = Payload {
        format: FORMAT.to_owned(),
        installation: "bench".to_owned(),
        environment: Environment::Drill,
        version: 1,
        issued: now.checked_sub(day)?,
        expires: now.checked_add(day)?,
        previous: None,
        roots: Roots {
            threshold: 1,
            keys: vec![root.public_key().to_openssh()?],
        },
        signing_key: Vkey::ed25519("bench.signing", public(&limits::key_pair(4)?)?)?,
        logs: vec![LogEntry::active(
            ORIGIN,
            vec![Vkey::ed25519(ORIGIN, public(log)?)?],
        )],
        witnesses: vec![WitnessEntry::new(
            WITNESS,
            Vkey::cosignature_v1(WITNESS, public(witness)?)?,
            "bench",
            true,
        )],
        quorum: Quorum::Count(1),
        clock_skew_s: 300,
        tsas: Vec::new(),
    };
    let mut bundle = TrustBundle::new(&payload)?;
    let signature = root.sign(
        payload.environment.trust_namespace(),
        HashAlg::Sha512,
        bundle.payload_text().as_bytes(),
    )?;
    bundle.add_signature(&signature.to_pem(LineEnding::LF)?)?;
    bundle.open(None).context("opening the trust bundle")
}
