//! The hash chains of the streams in a bundle, recomputed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use sealwarden_eventlog::{Head, Recorded};

use super::{Damage, damage};
use crate::evidence::heads::Heads;
use crate::evidence::line;
use crate::evidence::manifest::Manifest;

/// The longest line, in bytes: a payload of one mebibyte, twice over, and the readable form of very many events.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// The streams of a bundle, each from its first commit on.
#[derive(Debug, Default)]
pub(super) struct Chains {
    streams: BTreeMap<String, Chain>,
    commits: u64,
}

#[derive(Debug)]
struct Chain {
    /// The file that it stands in.
    file: String,
    /// Every commit's place and hash.
    passed: Vec<Head>,
}

impl Chains {
    /// Recomputes every chain of a bundle whose files are as the manifest says.
    pub(super) fn of_bundle(dir: &Path, manifest: &Manifest) -> Result<Self, Damage> {
        let mut chains = Self::default();
        let files = manifest.files.keys();
        for file in files.filter(|path| path.starts_with("events/")) {
            chains.file(dir, file)?;
        }
        Ok(chains)
    }

    /// How many commits were checked.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    fn file(&mut self, dir: &Path, file: &str) -> Result<(), Damage> {
        let unreadable = |error: std::io::Error| damage(file, "a readable file", error);
        let mut reader = BufReader::new(fs::File::open(dir.join(file)).map_err(unreadable)?);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let mut limited = reader.by_ref().take(MAX_LINE);
            limited.read_until(b'\n', &mut line).map_err(unreadable)?;
            if line.is_empty() {
                break;
            }
            let (recorded, shown) = line::read(&line)
                .map_err(|error| damage(file, format!("a commit in line {number}"), error))?;
            self.follow(file, &recorded)?;
            if let Some(field) = line::disagrees(&recorded, &shown) {
                let expected = format!(
                    "{field:?} of {} to show what its payload says",
                    place(&recorded)
                );
                return Err(damage(file, expected, "something else"));
            }
        }
        Ok(())
    }

    /// The next commit of its stream must hash to what it says, and name the one before it.
    fn follow(&mut self, file: &str, commit: &Recorded) -> Result<(), Damage> {
        let chain = self
            .streams
            .entry(commit.stream.to_string())
            .or_insert_with(|| Chain {
                file: file.to_owned(),
                passed: Vec::new(),
            });
        let before = chain.passed.last().copied().unwrap_or(Head::EMPTY);
        if commit.position <= before.position {
            let expected = format!(
                "{} to stand after position {}",
                place(commit),
                before.position
            );
            return Err(damage(file, expected, "it before that"));
        }
        if commit.prev_hash != before.hash {
            return Err(damage(
                file,
                format!(
                    "{} to follow sha256:{}, the commit at position {}",
                    place(commit),
                    hex::encode(before.hash),
                    before.position
                ),
                format!("it following sha256:{}", hex::encode(commit.prev_hash)),
            ));
        }
        let (prev, id) = (&commit.prev_hash, commit.commit_id);
        let hash = Recorded::chain_hash(prev, &commit.stream, id, &commit.payload);
        if commit.hash != hash {
            return Err(damage(
                file,
                format!(
                    "{} with the hash sha256:{}",
                    place(commit),
                    hex::encode(commit.hash)
                ),
                format!("content that hashes to sha256:{}", hex::encode(hash)),
            ));
        }
        chain.passed.push(commit.head());
        self.commits += 1;
        Ok(())
    }

    /// Each stream's last commit up to the heads' position must be the one that the heads name.
    pub(super) fn pass_through(&self, heads: &Heads) -> Result<(), Damage> {
        for (stream, chain) in &self.streams {
            let known = chain
                .passed
                .partition_point(|head| head.position <= heads.position);
            let found = chain.passed[..known].last();
            let sealed = heads.streams.get(stream);
            if found != sealed {
                let told = |head: Option<&Head>| match head {
                    Some(head) => format!(
                        "the commit sha256:{} at position {}",
                        hex::encode(head.hash),
                        head.position
                    ),
                    None => "no commit".to_owned(),
                };
                let expected = format!(
                    "{stream} to have {} as its last up to position {}, as the sealed heads say",
                    told(sealed),
                    heads.position
                );
                return Err(damage(&chain.file, expected, told(found)));
            }
        }
        Ok(())
    }
}

fn place(commit: &Recorded) -> String {
    format!(
        "the commit at position {} of {}",
        commit.position, commit.stream
    )
}

#[cfg(test)]
mod tests;
