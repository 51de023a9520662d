//! `log.json`, `checkpoint`, `witnessed` and `staged`: read before the tree, compared with it afterwards.
//!
//! The staged batch is read first and the published checkpoint last: whatever the writer does meanwhile, the one covers what
//! the other does not.

use super::damage::{Damage, DamageKind, Findings, count, shown};
use super::tree::TreeAudit;
use super::{CheckOptions, KnownRoot, files};
use crate::disk::temporary;
use crate::identity::Identity;
use crate::leaves::{Leaves, Public};
use crate::log::STAGED;
use crate::mirror::{MIRROR, MIRROR_TEXT, is_mirror};
use crate::private::{self, END_BYTES, SEGMENT_LEAVES, Segment};
use crate::staged::{MAX_BATCH_BYTES, StagedFile};
use crate::view::{CHECKPOINT, WITNESSED};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::{MAX_NOTE_BYTES, Note, Signature, Vkey};
use std::fs;
use std::path::Path;

const IDENTITY: &str = "log.json";
const MAX_IDENTITY_BYTES: usize = 64 * 1024;

/// What the folder's notes say.
pub(super) struct Stored {
    identity: Option<Identity>,
    /// Checkpoints with good signatures.
    published: Option<Checkpoint>,
    witnessed: Option<Checkpoint>,
    /// A published checkpoint's bytes that are not good: narrowed down once the tree is known.
    bad_checkpoint: Option<(Vec<u8>, String)>,
    staged: Option<StagedFile>,
    /// The size that is audited.
    pub(super) size: u64,
    pub(super) cosignatures: u64,
    pub(super) unchecked_cosignatures: u64,
}

impl Stored {
    pub(super) fn origin(&self) -> String {
        self.identity
            .as_ref()
            .map(|it| it.origin.clone())
            .unwrap_or_default()
    }

    pub(super) fn witnessed_size(&self) -> Option<u64> {
        self.witnessed.as_ref().map(|it| it.size)
    }

    /// Leaves of a staged batch that is not published yet.
    pub(super) fn staged_leaves(&self) -> u64 {
        self.staged
            .as_ref()
            .filter(|staged| staged.size > self.size)
            .map_or(0, |staged| staged.size - staged.old_size)
    }

    /// Every root that the tree must lead to.
    pub(super) fn known_roots(&self, options: &CheckOptions) -> Vec<KnownRoot> {
        let stored = [(CHECKPOINT, &self.published), (WITNESSED, &self.witnessed)];
        let stored = stored.into_iter().filter_map(|(name, checkpoint)| {
            let checkpoint = checkpoint.as_ref()?;
            Some((name, checkpoint.size, checkpoint.root))
        });
        let staged = self.staged.iter().map(|it| (STAGED, it.size, it.root));
        let known = stored.chain(staged).map(|(name, size, root)| KnownRoot {
            size,
            root,
            source: name.to_owned(),
        });
        known.chain(options.roots.iter().cloned()).collect()
    }
}

/// Reads and checks what can be checked without the tree.
pub(super) fn read(findings: &mut Findings<'_>, options: &CheckOptions) -> Stored {
    let identity = read_identity(findings, options);
    let mut stored = Stored {
        staged: read_staged(findings, identity.as_ref()),
        identity,
        published: None,
        witnessed: None,
        bad_checkpoint: None,
        size: 0,
        cosignatures: 0,
        unchecked_cosignatures: 0,
    };
    read_witnessed(findings, options, &mut stored);
    read_checkpoint(findings, options, &mut stored);
    stored.size = match (&stored.published, &stored.bad_checkpoint) {
        (Some(published), _) => published.size,
        // Nobody vouches for a size any more, so what is stored is audited for itself.
        (None, _) => stored_size(findings.dir, stored.staged.as_ref()),
    };
    stored
}

fn read_identity(findings: &mut Findings<'_>, options: &CheckOptions) -> Option<Identity> {
    let path = Path::new(IDENTITY);
    let Some((bytes, length)) = findings.read(path, MAX_IDENTITY_BYTES) else {
        if !findings.dir.join(path).exists() {
            findings.missing(path, 0, "the log's origin and key");
        }
        return None;
    };
    let identity = serde_json::from_slice::<Identity>(&bytes)
        .map_err(|error| error.to_string())
        .and_then(|it| {
            if it.is_consistent() {
                Ok(it)
            } else {
                Err("its origin is not its keys' name".to_owned())
            }
        });
    let identity = match identity {
        Ok(identity) => identity,
        Err(reason) => {
            let range = (0, length);
            findings.report(
                path,
                DamageKind::Changed,
                range,
                "an origin and its key",
                reason,
            );
            return None;
        }
    };
    // Written once by one program: there is one spelling.
    let expected = serde_json::to_vec_pretty(&identity).unwrap_or_default();
    findings.compare(path, &bytes, &expected, "the only spelling of its contents");
    findings.length(path, length, count(expected.len()));
    for vkey in identity.vkeys() {
        // A further key may wait for the bundle that lists it; it signs nothing before.
        let may_wait = identity.further.contains(&vkey);
        if !options.vkeys.is_empty() && !options.vkeys.contains(&vkey) && !may_wait {
            findings.report(
                path,
                DamageKind::Contradiction,
                (0, length),
                "a key that the trust bundle lists for the log",
                vkey.to_string(),
            );
        }
    }
    Some(identity)
}

/// A mirror's own mark has one spelling.
pub(super) fn read_mark(findings: &mut Findings<'_>) {
    let path = Path::new(MIRROR);
    if let Some((bytes, length)) = findings.read(path, MAX_IDENTITY_BYTES) {
        findings.compare(path, &bytes, MIRROR_TEXT, "the mark of a mirror");
        findings.length(path, length, count(MIRROR_TEXT.len()));
    }
}

fn read_staged(findings: &mut Findings<'_>, identity: Option<&Identity>) -> Option<StagedFile> {
    let path = Path::new(STAGED);
    let (bytes, length) = findings.read(path, 2 * MAX_BATCH_BYTES)?;
    let staged = StagedFile::decode(&bytes, &identity?.origin);
    staged
        .map_err(|reason| {
            let range = (0, length);
            findings.report(path, DamageKind::Changed, range, "a staged batch", reason);
        })
        .ok()
}

/// The keys that a checkpoint may be signed with.
fn log_keys(stored: &Stored, options: &CheckOptions) -> Vec<Vkey> {
    match &stored.identity {
        // Where a trust bundle is at hand, what it does not list signs nothing.
        Some(identity) if options.vkeys.is_empty() => identity.vkeys(),
        Some(identity) => {
            let listed = |vkey: &Vkey| *vkey == identity.vkey || options.vkeys.contains(vkey);
            identity.vkeys().into_iter().filter(listed).collect()
        }
        None => options.vkeys.clone(),
    }
}

fn parse(bytes: &[u8], keys: &[Vkey]) -> Result<(Note, Checkpoint), String> {
    let note = Note::parse(bytes).map_err(|error| error.to_string())?;
    note.verify(keys).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
    if keys.iter().any(|key| key.name() == checkpoint.origin) {
        Ok((note, checkpoint))
    } else {
        Err(format!("it is of {}", checkpoint.origin))
    }
}

fn read_checkpoint(findings: &mut Findings<'_>, options: &CheckOptions, stored: &mut Stored) {
    let path = Path::new(CHECKPOINT);
    let Some((bytes, length)) = findings.read(path, MAX_NOTE_BYTES) else {
        let begun = stored.witnessed.is_some() || findings.dir.join("tile").exists();
        if begun && !findings.dir.join(path).exists() && stored.staged.is_none() {
            findings.missing(path, 0, "the published checkpoint");
        }
        return;
    };
    let keys = &log_keys(stored, options);
    match parse(&bytes, keys) {
        Ok((note, checkpoint)) => {
            for (line, range) in signature_lines(&note, &bytes) {
                if !keys.iter().any(|key| is_by(line, key)) {
                    let found = format!("a signature of {}", line.name());
                    let expected = "the log's signature only";
                    findings.report(path, DamageKind::Changed, range, expected, found);
                }
            }
            stored.published = Some(checkpoint);
        }
        Err(reason) if keys.is_empty() => {
            findings.report(
                path,
                DamageKind::Changed,
                (0, length),
                "a checkpoint whose key is known",
                reason,
            );
        }
        Err(reason) => stored.bad_checkpoint = Some((bytes, reason)),
    }
}

fn read_witnessed(findings: &mut Findings<'_>, options: &CheckOptions, stored: &mut Stored) {
    let path = Path::new(WITNESSED);
    let Some((bytes, length)) = findings.read(path, MAX_NOTE_BYTES) else {
        return;
    };
    let keys = &log_keys(stored, options);
    let (note, checkpoint) = match parse(&bytes, keys) {
        Ok(parsed) => parsed,
        Err(reason) => {
            let expected = "a checkpoint that the log signed";
            findings.report(path, DamageKind::Changed, (0, length), expected, reason);
            return;
        }
    };
    let (mut good, mut unchecked) = (0, 0);
    for (line, range) in signature_lines(&note, &bytes) {
        if keys.iter().any(|key| is_by(line, key)) {
            continue;
        }
        let witness = options.witnesses.iter().find(|key| is_by(line, key));
        match witness {
            Some(key) => match note.verify(std::slice::from_ref(key)) {
                Ok(_) => good += 1,
                Err(error) => {
                    let expected = format!("the cosignature of {}", key.name());
                    let found = error.to_string();
                    findings.report(path, DamageKind::Changed, range, expected, found);
                }
            },
            None if options.witnesses.is_empty() => unchecked += 1,
            None => {
                let expected = "the cosignature of a witness that the trust bundle lists";
                let found = format!("a signature of {} with an unknown key", line.name());
                findings.report(path, DamageKind::Changed, range, expected, found);
            }
        }
    }
    stored.witnessed = Some(checkpoint);
    (stored.cosignatures, stored.unchecked_cosignatures) = (good, unchecked);
}

fn is_by(line: &Signature, key: &Vkey) -> bool {
    line.key_id() == key.key_id() && line.name() == key.name()
}

/// The signature lines with their places in the file.
fn signature_lines<'a>(note: &'a Note, bytes: &[u8]) -> Vec<(&'a Signature, (u64, u64))> {
    let mut offset = note.text().len() + 1;
    let lines = bytes.get(offset..).unwrap_or_default();
    note.signatures()
        .iter()
        .zip(lines.split_inclusive(|byte| *byte == b'\n'))
        .map(|(signature, line)| {
            let range = (count(offset), count(line.len()));
            offset += line.len();
            (signature, range)
        })
        .collect()
}

/// How many leaves the private segments hold, or the entry bundles of a mirror: what is audited when no checkpoint vouches for a size.
fn stored_size(dir: &Path, staged: Option<&StagedFile>) -> u64 {
    if let Some(staged) = staged {
        return staged.old_size;
    }
    if is_mirror(dir) {
        return files::stored_entries(dir);
    }
    let Ok(entries) = fs::read_dir(dir.join("private")) else {
        return 0;
    };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let number: u64 = name.to_str()?.strip_suffix(".ends")?.parse().ok()?;
        let leaves = (entry.metadata().ok()?.len() / END_BYTES).min(SEGMENT_LEAVES);
        number.checked_mul(SEGMENT_LEAVES)?.checked_add(leaves)
    });
    sizes.max().unwrap_or(0)
}

/// Compares the notes with the tree that came out.
pub(super) fn compare(findings: &mut Findings<'_>, stored: &Stored, tree: &TreeAudit) {
    if let Some((bytes, reason)) = &stored.bad_checkpoint {
        narrow(findings, bytes, reason, &stored.origin(), tree);
    }
    let witnessed = stored.witnessed_size().unwrap_or(0);
    if let Some(published) = stored.published.as_ref().filter(|it| it.size < witnessed) {
        findings.report(
            Path::new(CHECKPOINT),
            DamageKind::Contradiction,
            (0, 0),
            format!("size {witnessed} or more, since witnesses cosigned it"),
            format!("size {}", published.size),
        );
    }
    if let Some(staged) = &stored.staged {
        compare_staged(findings, staged, stored.size, tree);
    }
}

fn compare_staged(findings: &mut Findings<'_>, staged: &StagedFile, size: u64, tree: &TreeAudit) {
    if staged.old_size != size {
        if staged.old_size < size && size < staged.size {
            let expected = format!("a batch that extends size {size}");
            let found = format!("it grows it from {} to {}", staged.old_size, staged.size);
            contradict(findings, expected, found);
        }
        return;
    }
    let leaves = match &staged.leaves {
        Some(leaves) => Ok(leaves.clone()),
        None => private::read(findings.dir, staged.old_size..staged.size).map(Leaves::from),
    };
    let leaves = match leaves {
        Ok(leaves) => leaves,
        Err(error) => return private_of(findings, staged, &error.to_string()),
    };
    let mut frontier = tree.frontier().clone();
    for hash in Public::of(&leaves).hashes {
        frontier.push(hash);
    }
    if frontier.root() == staged.root {
        return;
    }
    let found = format!("its leaves lead to {}", frontier.root());
    match staged.leaves {
        Some(_) => contradict(findings, format!("root {}", staged.root), found),
        None => private_of(findings, staged, &found),
    }
}

fn contradict(findings: &mut Findings<'_>, expected: String, found: String) {
    let path = Path::new(STAGED);
    findings.report(path, DamageKind::Contradiction, (0, 0), expected, found);
}

/// Reports the private records of a staged batch whose leaves stand there. The staged file has a checksum, so it is they that
/// were changed; which of them cannot be told before their hashes stand in a tile.
fn private_of(findings: &mut Findings<'_>, staged: &StagedFile, found: &str) {
    let segment = Segment::of(Path::new(""), staged.old_size);
    let start = Segment::of(findings.dir, staged.old_size)
        .end_before(staged.old_size)
        .unwrap_or(0);
    let length = fs::metadata(findings.dir.join(&segment.records)).map_or(0, |it| it.len());
    let expected = format!(
        "the leaves from {} to {} that are staged with root {}",
        staged.old_size,
        staged.size - 1,
        staged.root
    );
    let range = (start, length.saturating_sub(start));
    findings.report(
        &segment.records,
        DamageKind::Changed,
        range,
        expected,
        found,
    );
}

/// Says which bytes of a checkpoint are wrong: its text follows from the tree, so what remains is the signature.
fn narrow(findings: &mut Findings<'_>, bytes: &[u8], reason: &str, origin: &str, tree: &TreeAudit) {
    let expected = Checkpoint {
        origin: origin.to_owned(),
        size: tree.frontier().size(),
        root: tree.root(),
    };
    let text = expected.to_text();
    let path = Path::new(CHECKPOINT);
    let common = text.len().min(bytes.len());
    if bytes.get(..common) == text.as_bytes().get(..common) {
        findings.add(Damage {
            path: path.to_path_buf(),
            kind: if bytes.len() > text.len() {
                DamageKind::Changed
            } else {
                DamageKind::Truncated
            },
            offset: count(common),
            length: count(bytes.len() - common),
            expected: "the log's signature".to_owned(),
            found: format!("{reason} ({})", shown(bytes.get(common..))),
        });
    } else {
        let what = format!("the text that follows from the tree; {reason}");
        findings.compare(path, bytes, text.as_bytes(), &what);
    }
}

/// The size up to which the writer's present batch or checkpoint accounts for files.
pub(super) fn covered(dir: &Path) -> u64 {
    let Ok(identity) = Identity::read(dir) else {
        return 0;
    };
    // The leaves of a large batch are written before its file has its name.
    let staged = [dir.join(STAGED), temporary(&dir.join(STAGED))].map(|path| {
        let bytes = fs::read(path).ok()?;
        StagedFile::decode(&bytes, &identity.origin).ok()
    });
    let published = fs::read(dir.join(CHECKPOINT))
        .ok()
        .and_then(|bytes| parse(&bytes, &identity.vkeys()).ok());
    let staged = staged.into_iter().flatten().map(|staged| staged.size);
    let staged = staged.max().unwrap_or(0);
    published.map_or(0, |(_, it)| it.size).max(staged)
}
