//! `evidence export`, `evidence custody`: copies of evidence, and who had them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealwarden_wire::run::v1::{CustodyRequest, ExportEvidenceRequest};
use serde_json::json;

use super::exported;
use crate::cli::Cli;
use crate::commands::{Answer, client, trust};
use crate::failure::{Ending, Failure};
use crate::output;

/// Writes the copy, whole or not at all, and checks it as its reader will.
pub(super) async fn export(cli: &Cli, incident: &str, purpose: &str, out: &Path) -> Answer {
    if out.exists() {
        return Err(Failure::usage(format!(
            "{} exists; evidence is never overwritten, name another file",
            out.display()
        )));
    }
    let mut evidence = client(cli)?.evidence().await?;
    let request = ExportEvidenceRequest {
        incident: incident.to_owned(),
        purpose: purpose.to_owned(),
    };
    let mut pieces = evidence.export(request).await?.into_inner();
    let partial = Partial::beside(out)?;
    let mut file = &partial.file;
    while let Some(piece) = pieces.message().await? {
        file.write_all(&piece.piece)
            .with_context(|| format!("writing {}", partial.path.display()))?;
    }
    partial.finish(out)?;
    let bundle = trust::fetch(client(cli)?).await?;
    let checked = exported::check(out, Some(bundle))?;
    let report = checked.map_err(|damage| {
        anyhow::anyhow!(
            "{} does not hold although it was just written ({damage}); look at the disk, and export it again",
            out.display()
        )
    })?;
    if cli.json {
        output::json(&exported::describe(out, &report, false));
    } else {
        exported::tell(out, &report);
        output::line(
            "  it is recorded who has it and what for: `sealwarden evidence custody` shows it; `sealwarden evidence verify FILE --trust BUNDLE` checks it anywhere",
        );
    }
    Ok(Ending::Good)
}

pub(super) async fn custody(cli: &Cli, incident: &str) -> Answer {
    let request = CustodyRequest {
        incident: incident.to_owned(),
    };
    let answer = client(cli)?.evidence().await?.custody(request).await?;
    let answer = answer.into_inner();
    let whole = answer.bundles.iter().all(|it| it.damage.is_empty());
    if cli.json {
        output::json(&json!({
            "incident": incident, "whole": whole,
            "bundles": answer.bundles.iter().map(|it| json!({
                "bundle": it.bundle, "manifest_sha256": it.manifest_sha256, "files": it.files, "bytes": it.bytes,
                "collected": it.collected, "collector": it.collector, "damage": it.damage,
            })).collect::<Vec<_>>(),
            "handed_out": answer.handings.iter().map(|it| json!({
                "at": output::time(it.at_ms), "at_ms": it.at_ms, "person": it.person, "purpose": it.purpose, "bundles": it.bundles,
                "statement_sha256": it.statement_sha256,
            })).collect::<Vec<_>>(),
        }));
    } else {
        if answer.bundles.is_empty() {
            output::line(&format!("{incident}: nothing is collected yet"));
        }
        for it in &answer.bundles {
            if it.damage.is_empty() && it.collected.is_empty() {
                output::line(&format!(
                    "{}: intact, {} bytes, handed in by a person",
                    it.bundle, it.bytes
                ));
            } else if it.damage.is_empty() {
                output::line(&format!(
                    "{}: intact, {} files, {} bytes, sha256:{}",
                    it.bundle, it.files, it.bytes, it.manifest_sha256
                ));
                output::line(&format!("  {} collected by {}", it.collected, it.collector));
            } else {
                output::line(&format!("{}: DAMAGED: {}", it.bundle, it.damage));
            }
        }
        for it in &answer.handings {
            output::line(&format!(
                "  {} (UTC) {} took a copy of {}: {}",
                output::time(it.at_ms),
                it.person,
                it.bundles.join(", "),
                it.purpose
            ));
        }
        if answer.handings.is_empty() {
            output::line("  nobody took a copy");
        }
    }
    Ok(if whole {
        Ending::Good
    } else {
        Ending::Negative
    })
}

/// A private file that gets its name when it is whole.
struct Partial {
    path: PathBuf,
    file: File,
    done: bool,
}

impl Partial {
    fn beside(out: &Path) -> Result<Self, Failure> {
        let path = out.with_extension(format!("partial-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.with_context(|| format!("making {}", path.display()))?;
        let done = false;
        Ok(Self { path, file, done })
    }

    fn finish(mut self, out: &Path) -> Result<(), Failure> {
        let finish = || -> std::io::Result<()> {
            self.file.sync_all()?;
            // Not a rename: what appeared there meanwhile is not overwritten.
            fs::hard_link(&self.path, out)?;
            fs::remove_file(&self.path)?;
            let folder = out.parent().filter(|it| !it.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        finish().with_context(|| format!("writing {}", out.display()))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            // What is not whole is of no use.
            drop(fs::remove_file(&self.path));
        }
    }
}
