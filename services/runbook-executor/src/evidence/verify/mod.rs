//! Checking a bundle with nothing but its folder and two verifier keys.

mod chains;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use ring::digest::{Context, SHA256, digest};
use sealwarden_seal::merkle::verify_inclusion;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::record::entry_leaf_hash;
use sealwarden_seal::seal::Seal;

use self::chains::Chains;
use super::heads::Kept;
use super::manifest::Manifest;
use super::{HEADS, MANIFEST, NOTE, SEAL};

/// The longest manifest, note or seal that is read, in bytes.
const MAX_BYTES: u64 = 2 * 1024 * 1024;
/// How deep folders may lie.
const MAX_DEPTH: usize = 16;

/// A bundle that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it holds.
    pub manifest: Manifest,
    /// SHA-256 (hex) of `manifest.txt`.
    pub manifest_sha256: String,
    /// Files besides the manifest, its note and its seal.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The evidence log.
    pub origin: String,
    /// The manifest's place in it.
    pub index: u64,
    /// The log's size when the bundle was sealed.
    pub size: u64,
    /// Commits of the event log in it, each checked against the hash chain of its stream.
    pub commits: u64,
    /// The position of the event log whose sealed heads all these chains pass through; `None` if the bundle has no heads.
    pub heads: Option<u64>,
}

/// The first thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: expected {expected}, found {found}")]
pub struct Damage {
    /// The file, by its path in the bundle.
    pub file: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "errors and texts are found where they end"
)]
pub(super) fn damage(file: &str, expected: impl Into<String>, found: impl ToString) -> Damage {
    Damage {
        file: file.to_owned(),
        expected: expected.into(),
        found: found.to_string(),
    }
}

/// Checks a bundle: the manifest's signature by the signing key, its place in the evidence log, and the digest of every file. Nothing may be missing, changed or
/// added. Every commit must hash to what it says and follow the one before it in its stream, its readable form must be its payload's, and its stream must pass through the
/// event log's heads where the bundle has them. Blocks its thread.
pub fn verify_bundle(dir: &Path, signing: &Vkey, evidence_log: &Vkey) -> Result<Report, Damage> {
    let bytes = read(dir, MANIFEST)?;
    let manifest = signed_manifest(dir, &bytes, signing)?;
    let sha256 = digest(&SHA256, &bytes);
    let (index, size) = check_seal(SEAL, &read(dir, SEAL)?, sha256.as_ref(), evidence_log)?;
    let (files, bytes) = check_files(dir, &manifest)?;
    let chains = Chains::of_bundle(dir, &manifest)?;
    let heads = bundled_heads(dir, &manifest, evidence_log)?;
    if let Some(kept) = &heads {
        chains.pass_through(&kept.heads)?;
    }
    Ok(Report {
        manifest,
        manifest_sha256: hex::encode(sha256),
        files,
        bytes,
        origin: evidence_log.name().to_owned(),
        index,
        size,
        commits: chains.commits(),
        heads: heads.map(|kept| kept.heads.position),
    })
}

/// The event log's heads in the bundle, if it has any.
fn bundled_heads(
    dir: &Path,
    manifest: &Manifest,
    evidence_log: &Vkey,
) -> Result<Option<Kept>, Damage> {
    let text = format!("{HEADS}.txt");
    if !manifest.files.contains_key(&text) {
        return Ok(None);
    }
    let kept = Kept::read(dir, HEADS, evidence_log)?;
    let of = |installation: &str, environment: &str| format!("{installation} ({environment})");
    let expected = of(&manifest.installation, &manifest.environment);
    let found = of(&kept.heads.installation, &kept.heads.environment);
    if found != expected {
        return Err(damage(&text, format!("heads of {expected}"), found));
    }
    Ok(Some(kept))
}

/// The manifest, if it reads and its note is the signing key's over exactly these bytes.
pub(super) fn signed_manifest(
    dir: &Path,
    bytes: &[u8],
    signing: &Vkey,
) -> Result<Manifest, Damage> {
    let text = std::str::from_utf8(bytes).map_err(|error| damage(MANIFEST, "text", error))?;
    let manifest = Manifest::parse(text).map_err(|error| damage(MANIFEST, "a manifest", error))?;
    let note =
        Note::parse(&read(dir, NOTE)?).map_err(|error| damage(NOTE, "a signed note", error))?;
    let expected = format!("a signature of {} and nothing else", signing.name());
    let signatures = note
        .verify(std::slice::from_ref(signing))
        .map_err(|error| damage(NOTE, expected.clone(), error))?;
    if signatures.len() != note.signatures().len() {
        return Err(damage(
            NOTE,
            expected,
            format!("{} signatures", note.signatures().len()),
        ));
    }
    if note.text() != text {
        return Err(damage(
            MANIFEST,
            "the text that the signing key signed",
            "another text",
        ));
    }
    Ok(manifest)
}

/// What a seal file seals: its place in the evidence log and the log's size there. `digest` is what it must be a seal of.
pub(super) fn check_seal(
    file: &str,
    bytes: &[u8],
    digest: &[u8],
    evidence_log: &Vkey,
) -> Result<(u64, u64), Damage> {
    let seal = Seal::parse(bytes).map_err(|error| damage(file, "a seal", error))?;
    if seal.record.digest != digest {
        let expected = format!("a seal of {}", hex::encode(digest));
        return Err(damage(
            file,
            expected,
            format!("one of {}", hex::encode(seal.record.digest)),
        ));
    }
    let expected = format!(
        "a checkpoint signed by {} and nobody else",
        evidence_log.name()
    );
    let signatures = seal
        .note
        .verify(std::slice::from_ref(evidence_log))
        .map_err(|error| damage(file, expected.clone(), error))?;
    if signatures.len() != seal.note.signatures().len() {
        return Err(damage(
            file,
            expected,
            format!("{} signatures", seal.note.signatures().len()),
        ));
    }
    let checkpoint = seal
        .checkpoint()
        .map_err(|error| damage(file, "a checkpoint", error))?;
    if checkpoint.origin != evidence_log.name() {
        return Err(damage(file, evidence_log.name(), checkpoint.origin));
    }
    let record = seal
        .record
        .encode()
        .map_err(|error| damage(file, "a record", error))?;
    let leaf = entry_leaf_hash(&seal.nonce, &record);
    verify_inclusion(
        &leaf,
        seal.index,
        checkpoint.size,
        &seal.proof,
        &checkpoint.root,
    )
    .map_err(|error| damage(file, "a proof of inclusion in the evidence log", error))?;
    Ok((seal.index, checkpoint.size))
}

/// Compares every file with the manifest; gives how many there are and their bytes.
pub(super) fn check_files(dir: &Path, manifest: &Manifest) -> Result<(u64, u64), Damage> {
    let mut present = BTreeSet::new();
    walk(dir, "", 0, &mut present)?;
    for own in [MANIFEST, NOTE, SEAL] {
        present.remove(own);
    }
    if let Some(extra) = present
        .iter()
        .find(|path| !manifest.files.contains_key(*path))
    {
        return Err(damage(
            extra,
            "no such file (the manifest does not name it)",
            "a file",
        ));
    }
    let mut total = 0;
    for (path, expected) in &manifest.files {
        if !present.contains(path) {
            return Err(damage(
                path,
                format!("a file with SHA-256 {expected}"),
                "no file",
            ));
        }
        let (found, bytes) =
            hash_file(&dir.join(path)).map_err(|error| damage(path, "a readable file", error))?;
        if found != *expected {
            return Err(damage(
                path,
                format!("SHA-256 {expected}"),
                format!("SHA-256 {found}"),
            ));
        }
        total += bytes;
    }
    Ok((
        u64::try_from(manifest.files.len()).unwrap_or(u64::MAX),
        total,
    ))
}

fn walk(dir: &Path, below: &str, depth: usize, found: &mut BTreeSet<String>) -> Result<(), Damage> {
    let shown = if below.is_empty() { "." } else { below };
    if depth > MAX_DEPTH {
        return Err(damage(
            shown,
            format!("at most {MAX_DEPTH} folders in one another"),
            "more",
        ));
    }
    let unreadable = |error: std::io::Error| damage(shown, "a readable folder", error);
    for entry in fs::read_dir(dir.join(below)).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            walk(dir, &path, depth + 1, found)?;
        } else if kind.is_file() {
            found.insert(path);
        } else {
            return Err(damage(&path, "a plain file", "a link or device"));
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = fs::File::open(path)?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut total: u64 = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex::encode(hash.finish()), total));
        }
        hash.update(&buffer[..count]);
        total += u64::try_from(count).unwrap_or(0);
    }
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, Damage> {
    let mut bytes = Vec::new();
    let mut limited = fs::File::open(dir.join(name))
        .map_err(|error| damage(name, "a readable file", error))?
        .take(MAX_BYTES + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| damage(name, "a readable file", error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(damage(name, format!("at most {MAX_BYTES} bytes"), "more"));
    }
    Ok(bytes)
}
