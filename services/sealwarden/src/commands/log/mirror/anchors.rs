//! The anchors of a mirrored log: none is believed. Each must be of a checkpoint that the log's keys signed and whose root is that of the mirrored tree;
//! the time in it is its authority's word, which a verdict checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sealwarden_anchors::file::{Anchors, MAX_FILE_BYTES};
use sealwarden_seallog::mirror::Fetch;
use sealwarden_seallog::{LogReader, View};

use super::super::{damaged, published};
use super::source::Reader;
use crate::failure::Failure;
use crate::host::installation::write_public;

/// The newest files are fetched again: further authorities may have dated their checkpoints.
const AGAIN: usize = 16;

/// Fetches what is new into the mirror; how many anchors' files it has then.
pub(super) fn fetch(source: &Reader, dest: &Path) -> Result<u64, Failure> {
    let reader = LogReader::open(dest).map_err(|error| damaged(&error))?;
    let view = reader.view().map_err(|error| damaged(&error))?;
    let names = list(source)?;
    let folder = dest.join(published::ANCHORS);
    let first_again = names.len().saturating_sub(AGAIN);
    for (at, name) in names.iter().enumerate() {
        let target = folder.join(name);
        // What a checkpoint of a larger tree than the mirrored one says cannot be checked yet.
        let covered = published::size_of(name).is_some_and(|size| size <= view.size());
        if !covered || at < first_again && target.is_file() {
            continue;
        }
        let path = format!("{}/{name}", published::ANCHORS);
        let unavailable =
            |reason: String| Failure::unavailable(format!("cannot fetch {path}: {reason}"));
        let Some(bytes) = source.fetch(&path).map_err(unavailable)? else {
            continue;
        };
        let refused = |reason: String| {
            Failure::refused(format!(
                "{path} is not of this log: {reason}; nothing of it is kept"
            ))
        };
        let found = checked(&reader, &view, name, &bytes).map_err(refused)?;
        let joined = match fs::read(&target) {
            // Ours first: the earliest times are what counts.
            Ok(own) => Anchors::parse(&own).and_then(|own| own.joined(&found)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(found),
            Err(error) => return Err(anyhow::Error::from(error).into()),
        };
        let joined = joined.map_err(|error| refused(error.to_string()))?;
        fs::create_dir_all(&folder).context("making the folder of anchors")?;
        write_public(&target, joined.to_text().as_bytes())?;
    }
    let kept = published::names(&folder).context("reading the anchors")?;
    if let Some(list) = published::anchors(dest).context("reading the anchors")? {
        write_public(&dest.join(published::ANCHOR_LIST), &list)?;
    }
    Ok(u64::try_from(kept.len()).unwrap_or(u64::MAX))
}

/// The names of a source's files of anchors, those of the smallest trees first. A source that knows no such list has none.
fn list(source: &Reader) -> Result<Vec<String>, Failure> {
    let unavailable = |reason: String| {
        Failure::unavailable(format!("cannot fetch the list of anchors: {reason}"))
    };
    let Some(bytes) = source.fetch(published::ANCHOR_LIST).map_err(unavailable)? else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let names: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    match names.iter().find(|name| published::size_of(name).is_none()) {
        None => Ok(names.into_iter().collect()),
        Some(strange) => Err(Failure::refused(format!(
            "the source's list of anchors holds {strange:?}, which is no size of a tree in 20 digits"
        ))),
    }
}

/// A file of anchors whose notes the log signed, of the size that the file is named after, with the root that the tree has there.
pub(in crate::commands::log) fn checked(
    reader: &LogReader,
    view: &View,
    name: &str,
    bytes: &[u8],
) -> Result<Anchors, String> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    let anchors = Anchors::parse(bytes).map_err(|error| error.to_string())?;
    for anchor in anchors.all() {
        let signed = reader.signed(anchor.note().clone())?;
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        if published::size_of(name) != Some(size) {
            return Err(format!("it anchors a checkpoint of size {size}"));
        }
        let ours = view.root_at(size).map_err(|error| error.to_string())?;
        if ours != root {
            return Err(format!(
                "it anchors root {root} at size {size}; the mirrored tree has {ours}: keep the file, it proves another history"
            ));
        }
    }
    Ok(anchors)
}
