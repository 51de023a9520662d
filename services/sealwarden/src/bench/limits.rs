//! What this machine can do at best: hashing, signatures, and syncs of a file.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::figures::{number, rate};

/// Runs `work` again and again for a time, and answers how often it ran in how long.
pub(crate) fn repeat(
    span: Duration,
    mut work: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<(u64, Duration)> {
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < span {
        done += work()?;
    }
    Ok((done, begun.elapsed()))
}

/// A signing key for limits; it signs nothing else.
pub(crate) fn key_pair(seed: u8) -> anyhow::Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).map_err(|e| anyhow!("making a key: {e}"))
}

/// Seconds that one Ed25519 signature takes.
pub(crate) fn sign_s(span: Duration) -> anyhow::Result<f64> {
    let pair = key_pair(1)?;
    let (count, took) = repeat(span, || {
        for byte in 0..64_u8 {
            black_box(pair.sign(black_box(&[byte; 32])));
        }
        Ok(64)
    })?;
    Ok(took.as_secs_f64() / number(count))
}

/// Seconds that the check of one Ed25519 signature takes.
pub(crate) fn check_s(span: Duration) -> anyhow::Result<f64> {
    let pair = key_pair(1)?;
    let signature = pair.sign(&[7; 32]);
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref().to_vec());
    let (count, took) = repeat(span, || {
        for _ in 0..64 {
            key.verify(black_box(&[7; 32]), signature.as_ref())
                .map_err(|e| anyhow!("checking a signature: {e}"))?;
        }
        Ok(64)
    })?;
    Ok(took.as_secs_f64() / number(count))
}

/// Seconds that SHA-256 of each of these lengths, one after another, takes.
pub(crate) fn hashes_s(lengths: &[usize], span: Duration) -> anyhow::Result<f64> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let bytes = vec![7_u8; longest];
    let (count, took) = repeat(span, || {
        for _ in 0..64 {
            for length in lengths {
                let bytes = black_box(bytes.get(..*length).unwrap_or(&bytes));
                black_box(ring::digest::digest(&ring::digest::SHA256, bytes));
            }
        }
        Ok(64)
    })?;
    Ok(took.as_secs_f64() / number(count))
}

/// How many pieces of `bytes` a second can be appended to a file, with one `fdatasync` for each.
pub(crate) fn appends(folder: &Path, bytes: usize, span: Duration) -> anyhow::Result<f64> {
    let path = folder.join("appended");
    let mut file: File = OpenOptions::new().create(true).append(true).open(&path)?;
    let piece = vec![7_u8; bytes];
    let (count, took) = repeat(span, || {
        file.write_all(&piece)?;
        file.sync_data()?;
        Ok(1)
    })?;
    remove(&path)?;
    Ok(rate(count, took))
}

fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// What all threads of this process have worked so far.
pub(super) fn processor_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th word behind it (proc(5)).
    let words: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = words
        .iter()
        .skip(11)
        .take(2)
        .map(|word| word.parse::<u64>())
        .sum::<Result<u64, _>>()
        .context("/proc/self/stat")?;
    Ok(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on every Linux that Rust runs on
}
