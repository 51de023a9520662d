//! `log.memory`, `log.disk`, `log.startup`: what a log of ten million leaves takes, and how fast it opens.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sealwarden_seallog::{LogReader, SealLog};

use super::Setting;
use super::figures::{Figure, Measured, ms, number, rate};
use super::log::{Writer, bytes_in};

/// Leaves of a batch: the most that one has.
const BATCH: u64 = 65_536;
/// How many of the last leaves the sealing service reads at its start, for the request ids in them: its default window.
const WINDOW: u64 = 262_144;
/// Where the memory is told on the way.
const MARKS: [u64; 3] = [1_000_000, 5_000_000, 10_000_000];
/// Leaves read at once.
const CHUNK: u64 = 1_024;
/// What a leaf takes at least: nonce and record, its entry of 33 bytes with its length, its hash.
const LEAST_BESIDE_RECORD: usize = 35 + 32;

/// Grows the log to `entries` leaves, and measures what that takes.
pub(super) fn grow(
    setting: &Setting,
    writer: &mut Writer,
    leaf_bytes: usize,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let entries = setting.entries;
    let mut memory = Vec::new();
    let mut marks = MARKS.iter().copied().peekable();
    let mut marked = Vec::new();
    let (mut worked, mut leaves) = (Duration::ZERO, 0);
    memory.push(resident()?);
    while writer.size() < entries {
        let share = writer.size() * 100 / entries;
        setting.stage(&format!(
            "growing the log to {entries} leaves: {share} % ({} leaves)",
            writer.size()
        ));
        let count = BATCH.min(entries - writer.size());
        let batch = writer.packed(count)?;
        let from = Instant::now();
        writer.publish(batch)?;
        worked += from.elapsed();
        leaves += count;
        let now = resident()?;
        memory.push(now);
        while marks.next_if(|mark| *mark <= writer.size()).is_some() {
            marked.push(format!("{:.1} MiB at {}, ", mib(now), writer.size()));
        }
    }
    let (begin, middle, end) = (
        memory.first().copied().unwrap_or_default(),
        memory.get(memory.len() / 2).copied().unwrap_or_default(),
        memory.last().copied().unwrap_or_default(),
    );
    let most = memory.iter().copied().max().unwrap_or_default();
    measured.figures.push(Figure {
        name: "log.memory",
        value: mib(end),
        unit: "MiB",
        limit: mib(middle),
        limit_is: "the same process when the log was half as large",
    });
    measured.setting(
        "memory",
        format!(
            "resident, by leaves: {:.1} MiB at the start, {:.1} MiB at the half, {}{:.1} MiB at {} leaves, {:.1} MiB at most",
            mib(begin),
            mib(middle),
            marked.concat(),
            mib(end),
            writer.size(),
            mib(most)
        ),
    );
    if leaves > 0 {
        measured.setting(
            "large batches",
            format!(
                "{leaves} leaves in batches of {BATCH}: {:.0} leaves/s, each batch durable before the next",
                rate(leaves, worked)
            ),
        );
    }
    let bytes = bytes_in(&setting.folder.join("log"))?;
    let size = writer.size();
    measured.figures.push(Figure {
        name: "log.disk",
        value: number(bytes) / number(size),
        unit: "bytes/seal",
        limit: number(u64::try_from(leaf_bytes + LEAST_BESIDE_RECORD)?),
        limit_is: "nonce and record, entry and hash of each leaf",
    });
    Ok(())
}

/// Opens the log as the sealing service does at its start.
pub(super) fn start(setting: &Setting, measured: &mut Measured) -> anyhow::Result<()> {
    setting.stage("starting with the whole log");
    let dir = setting.folder.join("log");
    let from = Instant::now();
    let log = SealLog::open(&dir)?;
    let opened = from.elapsed();
    let size = log.size();
    let read = read_window(&log.reader(), size)?;
    let started = from.elapsed();
    drop(log);
    let raw = raw_window(&dir, read)?;
    measured.figures.push(Figure {
        name: "log.startup",
        value: ms(started),
        unit: "ms",
        limit: ms(raw),
        limit_is: "the bytes of the same leaves read from one file",
    });
    measured.setting(
        "start-up",
        format!(
            "{size} leaves: {:.1} ms until the log is open for writing, its right edge checked; the rest reads and checks the last {} leaves, for their request ids",
            ms(opened),
            WINDOW.min(size)
        ),
    );
    Ok(())
}

/// Reads and checks the last leaves; answers how many bytes they have.
fn read_window(reader: &LogReader, size: u64) -> anyhow::Result<u64> {
    let view = reader.view()?;
    let mut bytes = 0;
    let mut start = size.saturating_sub(WINDOW);
    while start < size {
        let end = size.min(start + CHUNK);
        for leaf in view.records(start..end)? {
            bytes += leaf.nonce.len() + leaf.record.len();
        }
        start = end;
    }
    Ok(u64::try_from(bytes)?)
}

/// How long so many bytes of the log's own records take to read.
fn raw_window(dir: &Path, bytes: u64) -> anyhow::Result<Duration> {
    let from = Instant::now();
    let mut left = bytes;
    for entry in fs::read_dir(dir.join("private"))? {
        let mut file = fs::File::open(entry?.path())?.take(left);
        let mut buffer = Vec::new();
        left -= u64::try_from(file.read_to_end(&mut buffer)?)?;
    }
    ensure!(left == 0, "the log has fewer bytes than were read from it");
    Ok(from.elapsed())
}

/// The process's resident memory, bytes.
pub(super) fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("there is no VmRSS in /proc/self/status")? * 1024)
}

/// Bytes as MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    number(bytes) / 1_048_576.0
}
