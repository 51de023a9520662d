//! `log.batched`: leaves a second into a seal log's files, each batch staged, signed and published before the next; and `log.check`, the
//! audit of what was written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::ensure;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::{Note, UnsignedNote, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Record};
use sealwarden_seallog::check::{CheckOptions, check};
use sealwarden_seallog::faults::{Fault, Faults, Operation};
use sealwarden_seallog::{Leaf, Leaves, LogError, SealLog, Staged};

use super::Setting;
use super::figures::{Baseline, Figure, Measured, ms, number, quantile, rate};
use super::large;
use super::limits;

const ORIGIN: &str = "bench.invalid/log/1";
/// Leaves of a batch.
const BATCH: u64 = 8192;

/// Counts syncs; lets everything pass.
#[derive(Debug, Default)]
pub(super) struct Syncs(AtomicU64);

impl Syncs {
    /// How many there were since the last call.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Faults for Syncs {
    fn before(&self, operation: Operation<'_>) -> Fault {
        if matches!(
            operation,
            Operation::SyncFile(_) | Operation::SyncDir(_) | Operation::SyncAll(_)
        ) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Fault::None
    }
}

/// A log with its key, for measurements.
pub(super) struct Writer {
    pub(super) log: SealLog,
    pub(super) syncs: Arc<Syncs>,
    pair: Ed25519KeyPair,
    vkey: Vkey,
    next: u64,
}

impl Writer {
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        let pair = limits::key_pair(1)?;
        let vkey = Vkey::ed25519(ORIGIN, pair.public_key().as_ref().try_into()?)?;
        let syncs = Arc::new(Syncs::default());
        let faults: Arc<dyn Faults> = syncs.clone();
        Ok(Self {
            log: SealLog::create_with(dir, &vkey, faults)?,
            syncs,
            pair,
            vkey,
            next: 0,
        })
    }

    /// Stages, signs and publishes a batch of leaves made before.
    pub(super) fn publish(&mut self, leaves: impl Into<Leaves>) -> anyhow::Result<()> {
        let staged: Staged = self.log.stage(leaves)?;
        let note = self.sign(&staged)?;
        let published = self.log.publish(&staged, &note);
        published.map(drop).map_err(LogError::into)
    }

    fn sign(&self, staged: &Staged) -> anyhow::Result<Note> {
        let note = UnsignedNote::new(staged.checkpoint_text.as_str())?;
        let signature = self.pair.sign(note.text().as_bytes());
        Ok(note.attach(self.vkey.name(), self.vkey.key_id(), signature.as_ref())?)
    }

    /// Leaves in one buffer, as bulk sealing has them.
    pub(super) fn packed(&mut self, count: u64) -> anyhow::Result<Leaves> {
        let mut leaves = Leaves::default();
        for leaf in self.leaves(count)? {
            leaves.push(&leaf.nonce, &leaf.record);
        }
        Ok(leaves)
    }

    /// The log's size.
    pub(super) fn size(&self) -> u64 {
        self.log.size()
    }

    pub(super) fn leaves(&mut self, count: u64) -> anyhow::Result<Vec<Leaf>> {
        let first = self.next;
        self.next += count;
        (first..self.next).map(leaf).collect()
    }
}

fn leaf(number: u64) -> anyhow::Result<Leaf> {
    let digest = Hash::of(&number.to_be_bytes()).0;
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&digest[..16]);
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
    Ok(Leaf {
        nonce,
        record: record.encode()?,
    })
}

pub(super) fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("publishing batches");
    let mut writer = Writer::create(&setting.folder.join("log"))?;
    let begun = Instant::now();
    let (mut worked, mut batches) = (Duration::ZERO, Vec::new());
    let mut leaf_bytes = 0;
    while begun.elapsed() < setting.span || batches.is_empty() {
        // Making leaves is the load generator's work.
        let leaves = writer.packed(BATCH)?;
        leaf_bytes = leaves
            .get(0)
            .map_or(0, |it| it.nonce.len() + it.record.len());
        let from = Instant::now();
        writer.publish(leaves)?;
        batches.push(from.elapsed());
        worked += from.elapsed();
    }
    let count = u64::try_from(batches.len())?;
    let leaves = count * BATCH;
    let syncs = number(writer.syncs.take()) / number(count);
    setting.stage("limit: a raw appended file");
    let bytes = leaf_bytes * usize::try_from(BATCH)?;
    let raw = limits::appends(&setting.folder, bytes, setting.span)? * number(BATCH);
    setting.stage("baseline: one signature a document");
    let sign_s = limits::sign_s(setting.span.min(Duration::from_secs(2)))?;
    let mut measured = Measured {
        figures: vec![Figure {
            name: "log.batched",
            value: rate(leaves, worked),
            unit: "leaves/s",
            limit: raw,
            limit_is: "the same nonces and records appended to one raw file, one fdatasync a batch",
        }],
        baselines: vec![Baseline {
            figure: "log.batched",
            value: 1.0 / (sign_s + 1.0 / raw),
            is: "the raw file, and one Ed25519 signature a document",
        }],
        settings: Vec::new(),
    };
    large::grow(setting, &mut writer, leaf_bytes, &mut measured)?;
    drop(writer);
    large::start(setting, &mut measured)?;
    setting.stage("auditing what was written");
    measured.figures.push(audit(setting, leaf_bytes)?);
    measured.setting(
        "durability",
        format!("leaves durable before the signature, every file and folder durable before a batch counts: {syncs:.1} syncs a batch, many files in one syncfs"),
    );
    measured.setting(
        "batches",
        format!(
            "{count} of {BATCH} leaves of {leaf_bytes} bytes, one after another, each proven by its root; p99 {:.1} ms",
            ms(quantile(&mut batches, 990))
        ),
    );
    Ok(measured)
}

/// `log.check`: leaves a second of an audit of the whole log, which must find it intact.
fn audit(setting: &Setting, leaf_bytes: usize) -> anyhow::Result<Figure> {
    let from = Instant::now();
    let dir = setting.folder.join("log");
    let report = check(&dir, &CheckOptions::default(), &mut |_, _| {})?;
    let value = rate(report.size, from.elapsed());
    ensure!(
        report.is_intact(),
        "the log is damaged: {:?}",
        report.damage
    );
    // Commitment, leaf hash, and in the end one node a leaf, in the tiles' rows and in the tree: two.
    let lengths = [20 + leaf_bytes, 34, 65, 65];
    let hashes_s = limits::hashes_s(&lengths, Duration::from_secs(1))?;
    Ok(Figure {
        name: "log.check",
        value,
        unit: "leaves/s",
        limit: 1.0 / hashes_s,
        limit_is: "bare SHA-256 of a commitment, a leaf and two nodes a leaf, one core",
    })
}

/// The bytes of all files under a folder.
pub(super) fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_in(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}
