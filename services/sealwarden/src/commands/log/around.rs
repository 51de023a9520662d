//! The audit of what lies around a log and is no part of its tree: the anchors of its checkpoints, a mirror's trust bundle and list of anchors, and what is kept
//! [beside](super::beside) it. Each has signatures of its own, so nothing here is believed because it lies there.
//!
//! An anchor is sound if its file has its one spelling, the log signed the checkpoint, the tree has that root at that size, and the token is a timestamp over
//! the checkpoint's bytes whose signature holds under the certificate that it names by its hash. Whether that certificate's authority is one to trust is
//! known only where a trust bundle names the authority; anchors of others are counted and said.

use std::path::Path;

use sealwarden_anchors::file::{Anchors, MAX_FILE_BYTES};
use sealwarden_anchors::roots::Roots;
use sealwarden_anchors::timestamp;
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seallog::check::{Damage, DamageKind};
use sealwarden_seallog::mirror::{Fork, is_mirror};
use sealwarden_seallog::{LogReader, View};

use super::mirror::{BUNDLE, anchors};
use super::{folders, published};
use crate::commands::trust;
use crate::trust_seen;

/// What was found around one log.
#[derive(Default)]
pub(super) struct Around {
    pub(super) damage: Vec<Damage>,
    /// Files that were looked at.
    pub(super) files: u64,
    /// Anchors whose authority a trust bundle names, the path to it checked.
    pub(super) anchors: u64,
    /// Sound anchors of authorities that no trust bundle at hand names.
    pub(super) strangers: u64,
    /// Heads of the event log beside an evidence log that hold.
    pub(super) heads: u64,
    /// Sound proofs in a mirror that its source showed two histories.
    pub(super) forks: Vec<Fork>,
    /// What is no damage and worth saying.
    pub(super) notes: Vec<String>,
}

/// Looks at everything around the log in `dir`. `named` is the trust bundle that the caller trusts, if there is one.
pub(super) fn audit(dir: &Path, named: Option<&VerifiedBundle>) -> Around {
    let mut around = Around::default();
    let log = LogReader::open(dir).and_then(|reader| Ok((reader.view()?, reader)));
    let own = is_mirror(dir)
        .then(|| around.bundle(dir, log.as_ref().ok().map(|(_, reader)| reader), named))
        .flatten();
    let (view, reader) = match log {
        Ok(log) => log,
        Err(error) => {
            let note = format!("{}: anchors were not compared: {error}", dir.display());
            around.notes.push(note);
            return around;
        }
    };
    let bundles = [named, own.as_ref()].into_iter().flatten();
    let tsas = bundles.flat_map(|bundle| bundle.payload().tsas.iter());
    let roots: Vec<_> = tsas
        .filter_map(|tsa| Roots::from_pem(tsa.roots.as_bytes()).ok())
        .collect();
    around.anchors(dir, (&reader, &view), &roots);
    around.beside(dir, &reader, &view);
    around
}

impl Around {
    pub(super) fn add(
        &mut self,
        path: &Path,
        kind: DamageKind,
        length: u64,
        expected: &str,
        found: String,
    ) {
        self.damage.push(Damage {
            path: path.to_owned(),
            kind,
            offset: 0,
            length,
            expected: expected.to_owned(),
            found,
        });
    }

    /// The bytes of a file; what cannot be read is damage.
    pub(super) fn read(&mut self, dir: &Path, path: &Path, limit: u64) -> Option<Vec<u8>> {
        match trust::read_limited(&dir.join(path), limit) {
            Ok(bytes) => {
                self.files += 1;
                Some(bytes)
            }
            Err(failure) => {
                let kind = if dir.join(path).exists() {
                    DamageKind::Unreadable
                } else {
                    DamageKind::Missing
                };
                let found = failure.message();
                self.add(path, kind, 0, "a readable file", found);
                None
            }
        }
    }

    /// A mirror's trust bundle: signed, and of this log.
    fn bundle(
        &mut self,
        dir: &Path,
        reader: Option<&LogReader>,
        named: Option<&VerifiedBundle>,
    ) -> Option<VerifiedBundle> {
        let path = Path::new(BUNDLE);
        let bytes = self.read(dir, path, trust::MAX_BUNDLE)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let own = match trust_seen::open_without_memory(&bytes) {
            Ok(own) => own,
            Err(failure) => {
                let expected = "a trust bundle whose signatures hold";
                self.add(
                    path,
                    DamageKind::Changed,
                    length,
                    expected,
                    failure.message(),
                );
                return None;
            }
        };
        let contradiction = |around: &mut Self, expected: &str, found: String| {
            around.add(path, DamageKind::Contradiction, length, expected, found);
        };
        if let Some(identity) = reader.map(LogReader::identity) {
            let origin = &identity.origin;
            match own.log(origin) {
                None => contradiction(
                    self,
                    &format!("a trust bundle that names {origin}"),
                    "another installation's bundle, or one from before this log".to_owned(),
                ),
                Some(log) => {
                    let unknown =
                        |key: &&sealwarden_seal::note::Vkey| !log.entry.vkeys.contains(key);
                    if let Some(key) = identity.vkeys().iter().find(unknown) {
                        contradiction(
                            self,
                            &format!("a trust bundle with the keys of {origin} in log.json"),
                            format!("none with {key}"),
                        );
                    }
                }
            }
        }
        if let Some(named) = named {
            let (ours, theirs) = (own.payload(), named.payload());
            if ours.installation != theirs.installation {
                contradiction(
                    self,
                    &format!("a trust bundle of {}", theirs.installation),
                    format!("one of {}", ours.installation),
                );
            } else if ours.version == theirs.version && ours != theirs {
                contradiction(
                    self,
                    &format!(
                        "version {} as the named trust bundle has it",
                        theirs.version
                    ),
                    "another payload under the same version".to_owned(),
                );
            } else if ours.version < theirs.version {
                self.notes.push(format!(
                    "{}: the trust bundle is version {}, and version {} is known; mirror it again with --trust",
                    dir.display(),
                    ours.version,
                    theirs.version
                ));
            }
        }
        Some(own)
    }

    fn anchors(&mut self, dir: &Path, log: (&LogReader, &View), roots: &[Roots]) {
        let Some(folder) = published::folder(dir) else {
            return;
        };
        // From the log's folder, where the anchors lie in it.
        let base = folder.strip_prefix(dir).unwrap_or(&folder).to_owned();
        let names = match folders::names(&folder) {
            Ok(names) => names,
            Err(error) => {
                let found = error.to_string();
                return self.add(&base, DamageKind::Unreadable, 0, "a readable folder", found);
            }
        };
        for name in names {
            let path = base.join(&name);
            if published::size_of(&name).is_none() {
                // What a writer left behind belongs to no anchor yet.
                if !is_temporary(&name) {
                    let found = "a file that is named after no size of a tree".to_owned();
                    self.add(&path, DamageKind::Extra, 0, "no such file", found);
                }
                continue;
            }
            let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
            let Some(bytes) = self.read(dir, &path, limit) else {
                continue;
            };
            match anchors::checked(log.0, log.1, &name, &bytes) {
                Ok(file) => self.tokens(&path, &bytes, &file, roots),
                Err(reason) => {
                    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    let expected = "anchors of a checkpoint of this tree";
                    self.add(&path, DamageKind::Changed, length, expected, reason);
                }
            }
        }
        if is_mirror(dir) {
            self.list(dir);
        }
    }

    /// Each token, and where its line lies in the file.
    fn tokens(&mut self, path: &Path, bytes: &[u8], file: &Anchors, roots: &[Roots]) {
        let lines = token_lines(bytes);
        for (anchor, (offset, length)) in file.all().iter().zip(lines) {
            let covered = anchor.note().to_string();
            let trusted = roots.iter().any(|roots| anchor.verify(roots).is_ok());
            match timestamp::verify_unrooted(anchor.response(), covered.as_bytes()) {
                Ok(_) if trusted => self.anchors += 1,
                Ok(_) => self.strangers += 1,
                Err(error) => self.damage.push(Damage {
                    path: path.to_owned(),
                    kind: DamageKind::Changed,
                    offset,
                    length,
                    expected: "a timestamp over the checkpoint before it".to_owned(),
                    found: error.to_string(),
                }),
            }
        }
    }

    /// A mirror's list names exactly the files that are there.
    fn list(&mut self, dir: &Path) {
        let path = Path::new(published::ANCHOR_LIST);
        let Ok(Some(expected)) = published::anchors(dir) else {
            return;
        };
        let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
        let Some(found) = self.read(dir, path, limit) else {
            return;
        };
        if found == expected {
            return;
        }
        let same = found.iter().zip(&expected).take_while(|(a, b)| a == b);
        let offset = u64::try_from(same.count()).unwrap_or(u64::MAX);
        let length = u64::try_from(found.len()).unwrap_or(u64::MAX);
        self.damage.push(Damage {
            path: path.to_owned(),
            kind: DamageKind::Contradiction,
            offset,
            length: length.saturating_sub(offset),
            expected: "the names of the files of anchors, a line each".to_owned(),
            found: "another list; mirror the log again to have it written anew".to_owned(),
        });
    }
}

/// Offset and length of each line that holds a token.
fn token_lines(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if line.starts_with(b"rfc3161 ") {
            found.push((offset, length));
        }
        offset += length;
    }
    found
}

fn is_temporary(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "tmp")
}
