//! `evidence verify FILE`: a copy of an incident's evidence, checked whole without any server.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use sealwarden_runbook_executor::evidence::export::{self, Statement};
use serde_json::{Value, json};

use super::{TRUST_FILE, check as check_bundle};
use crate::cli::Cli;
use crate::commands::{Answer, trust};
use crate::failure::{Ending, Failure};
use crate::{output, trust_seen};

/// A copy that holds.
pub(super) struct Exported {
    pub(super) statement: Statement,
    pub(super) files: u64,
    pub(super) bytes: u64,
    signed_by: String,
}

pub(super) fn verify(cli: &Cli, file: &Path, trust_file: Option<&Path>) -> Answer {
    let named = match trust_file {
        Some(trust_file) => Some(trust::read_limited(trust_file, trust::MAX_BUNDLE)?),
        None => None,
    };
    let checked = check(file, named)?;
    if cli.json {
        output::json(&match &checked {
            Ok(exported) => describe(file, exported, trust_file.is_none()),
            Err(problem) => json!({ "verified": false, "export": file, "problem": problem }),
        });
    } else {
        match &checked {
            Ok(exported) => {
                tell(file, exported);
                if trust_file.is_none() {
                    output::line(
                        "  note: the signing key was taken from the export's own copy of the trust bundle; name one that you trust with --trust",
                    );
                }
            }
            Err(problem) => output::line(&format!("{}: DAMAGED: {problem}", file.display())),
        }
    }
    Ok(if checked.is_ok() {
        Ending::Good
    } else {
        Ending::Negative
    })
}

/// The outer error is none of the copy's; the inner one names what does not hold. `named` is the trust bundle to check with; without one, the copy's own.
pub(super) fn check(
    file: &Path,
    named: Option<Vec<u8>>,
) -> Result<Result<Exported, String>, Failure> {
    let room = tempfile::tempdir().context("making a folder to unpack the export in")?;
    let dir = room.path();
    if let Err(damage) = export::unpack(file, dir) {
        return Ok(Err(damage.to_string()));
    }
    let mut folders = export::folders(dir).context("reading what was unpacked")?;
    folders.retain(|it| !export::is_given(it));
    let given = export::given_in(dir).context("reading what was unpacked")?;
    let is_own = named.is_none();
    let own = || {
        let first = folders.first()?;
        std::fs::read(dir.join(first).join(TRUST_FILE)).ok()
    };
    let Some(bytes) = named.or_else(own) else {
        return Ok(Err(
            "the archive: expected a bundle with a trust bundle in it, found none; name one with --trust"
                .to_owned()
        ));
    };
    let trusted = match trust_seen::open_without_memory(&bytes) {
        Ok(trusted) => trusted,
        Err(failure) if is_own => return Ok(Err(failure.message())),
        Err(failure) => return Err(failure),
    };
    let signing = &trusted.payload().signing_key;
    let checked = || {
        let statement = export::statement(dir, signing).map_err(|it| it.to_string())?;
        if !statement.bundles.keys().eq(&folders) {
            return Err(format!(
                "{}: it names the bundles {:?}, and there are {folders:?}",
                export::STATEMENT,
                statement.bundles.keys().collect::<Vec<_>>()
            ));
        }
        let (mut manifests, mut files, mut size) = (BTreeMap::new(), 0, 0);
        for (name, digest) in &statement.bundles {
            let report =
                check_bundle(&dir.join(name), &trusted).map_err(|it| format!("{name}/{it}"))?;
            if report.manifest_sha256 != *digest {
                return Err(format!(
                    "{name}/manifest.txt: expected sha256 {digest}, as the export says, found {}",
                    report.manifest_sha256
                ));
            }
            files += report.files;
            size += report.bytes;
            manifests.insert(name.clone(), report.manifest);
        }
        for (path, length) in &given {
            size += length.as_ref().map_err(ToString::to_string)?;
            files += 1;
            if !statement.given.contains(path) {
                return Err(format!(
                    "{path}: expected no such file, found one that the export does not name"
                ));
            }
        }
        export::is_spelled_so(file, dir, (&manifests, &statement.given))
            .map_err(|it| it.to_string())?;
        Ok(Exported {
            statement,
            files,
            bytes: size,
            signed_by: signing.name().to_owned(),
        })
    };
    Ok(checked())
}

pub(super) fn describe(file: &Path, exported: &Exported, own_trust: bool) -> Value {
    let Statement {
        installation,
        environment,
        incident,
        person,
        purpose,
        exported: at,
        bundles,
        given,
    } = &exported.statement;
    json!({
        "verified": true, "export": file, "installation": installation, "environment": environment, "incident": incident, "person": person,
        "purpose": purpose, "exported": at, "bundles": bundles, "given": given, "files": exported.files, "bytes": exported.bytes, "own_trust": own_trust,
    })
}

pub(super) fn tell(file: &Path, exported: &Exported) {
    let statement = &exported.statement;
    output::line(&format!(
        "{}: intact, the evidence of incident {}: bundles {}, files {}, bytes {}",
        file.display(),
        statement.incident,
        statement.bundles.len(),
        exported.files,
        exported.bytes
    ));
    output::line(&format!(
        "  copied {} for {}: {}",
        statement.exported, statement.person, statement.purpose
    ));
    output::line(&format!(
        "  signed by {} of {} ({})",
        exported.signed_by, statement.installation, statement.environment
    ));
}
