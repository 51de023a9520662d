//! What an evidence log's owner keeps beside it, and a mirror: the heads of the event log that are sealed in it, and proofs that a source showed two histories.

use std::path::Path;

use sealwarden_runbook_executor::evidence::audit_heads;
use sealwarden_seal::seal::Seal;
use sealwarden_seallog::check::DamageKind;
use sealwarden_seallog::mirror::{EVIDENCE, check_fork};
use sealwarden_seallog::{LogReader, View};

use super::around::Around;
use super::folders;

/// Where heads are kept; a further executor's folder is named after it, behind a hyphen.
const HEADS: &str = "heads";

impl Around {
    /// Looks at heads and kept proofs, where there are any.
    pub(super) fn beside(&mut self, dir: &Path, reader: &LogReader, view: &View) {
        let names = folders::names(dir).unwrap_or_default();
        let of_heads = |name: &String| {
            let rest = name.strip_prefix(HEADS);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        for name in names.iter().filter(|name| of_heads(name)) {
            self.heads(dir, Path::new(name), reader, view);
        }
        if dir.join(EVIDENCE).is_dir() {
            self.forks(dir, reader, view);
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let found = error.to_string();
        self.add(path, DamageKind::Unreadable, 0, "a readable folder", found);
    }

    fn heads(&mut self, dir: &Path, base: &Path, reader: &LogReader, view: &View) {
        let identity = reader.identity();
        let Some(vkey) = identity.vkeys().into_iter().next() else {
            return;
        };
        let audit = match audit_heads(&dir.join(base), &vkey) {
            Ok(audit) => audit,
            Err(error) => return self.unreadable(base, &error),
        };
        for damage in audit.damage {
            let path = base.join(&damage.file);
            let length = std::fs::metadata(dir.join(&path)).map_or(0, |it| it.len());
            self.add(
                &path,
                DamageKind::Changed,
                length,
                &damage.expected,
                damage.found,
            );
        }
        for (name, seal) in audit.seals {
            self.files += 2;
            let path = base.join(name + ".seal");
            match in_tree(&seal, view) {
                Ok(()) => self.heads += 1,
                Err(found) => {
                    let length = u64::try_from(seal.len()).unwrap_or(u64::MAX);
                    let expected = "a seal under a checkpoint of this tree";
                    self.add(&path, DamageKind::Contradiction, length, expected, found);
                }
            }
        }
        if audit.unfinished > 0 {
            self.notes.push(format!(
                "{}: {} files of heads were never finished, as a crash leaves them",
                dir.join(base).display(),
                audit.unfinished
            ));
        }
    }

    fn forks(&mut self, dir: &Path, reader: &LogReader, view: &View) {
        let base = Path::new(EVIDENCE);
        let names = match folders::names(&dir.join(base)) {
            Ok(names) => names,
            Err(error) => return self.unreadable(base, &error),
        };
        for name in names {
            match check_fork(reader, view, &name) {
                Ok(fork) => {
                    self.files += 3;
                    self.forks.push(fork);
                }
                Err(bad) => {
                    let length = std::fs::metadata(dir.join(&bad.file)).map_or(0, |it| it.len());
                    let expected = "proof that the log signed two histories";
                    self.add(&bad.file, DamageKind::Changed, length, expected, bad.reason);
                }
            }
        }
    }
}

/// Whether the tree has the root that the seal's checkpoint names.
fn in_tree(seal: &str, view: &View) -> Result<(), String> {
    let checkpoint = Seal::parse(seal.as_bytes()).and_then(|seal| seal.checkpoint());
    let checkpoint = checkpoint.map_err(|error| error.to_string())?;
    let root = view
        .root_at(checkpoint.size)
        .map_err(|error| error.to_string())?;
    if root == checkpoint.root {
        return Ok(());
    }
    Err(format!(
        "root {} at size {}, and the tree has {root}",
        checkpoint.root, checkpoint.size
    ))
}
