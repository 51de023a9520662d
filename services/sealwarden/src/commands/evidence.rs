//! `evidence export | custody | verify`. Checking needs no server.

mod exported;
mod handing;

use std::path::Path;

use sealwarden_runbook_executor::evidence::{self, Report};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::Seal;
use sealwarden_seal::trust::VerifiedBundle;
use serde_json::json;

use super::{Answer, trust};
use crate::cli::{Cli, Evidence};
use crate::failure::{Ending, Failure};
use crate::{output, trust_seen};

/// The seal of a bundle's manifest.
const SEAL: &str = "manifest.seal";
/// A bundle's own copy of the trust bundle.
const TRUST_FILE: &str = "trust/bundle.json";

pub(crate) async fn run(cli: &Cli, what: &Evidence) -> Answer {
    match what {
        Evidence::Export {
            incident,
            purpose,
            out,
        } => handing::export(cli, incident, purpose, out).await,
        Evidence::Custody { incident } => handing::custody(cli, incident).await,
        Evidence::Verify { bundle, trust } if bundle.is_file() => {
            exported::verify(cli, bundle, trust.as_deref())
        }
        Evidence::Verify { bundle, trust } => verify(cli, bundle, trust.as_deref()),
    }
}

fn verify(cli: &Cli, folder: &Path, trust_file: Option<&Path>) -> Answer {
    if !folder.is_dir() {
        return Err(Failure::usage(format!(
            "{} is neither a folder nor a file; name the folder of an evidence bundle, or a file that `evidence export` wrote",
            folder.display()
        )));
    }
    let own = folder.join(TRUST_FILE);
    let bytes = trust::read_limited(trust_file.unwrap_or(&own), trust::MAX_BUNDLE)?;
    let trusted = trust_seen::open_without_memory(&bytes)?;
    let checked = check(folder, &trusted);
    if cli.json {
        output::json(&match &checked {
            Ok(r) => json!({
                "verified": true, "bundle": folder, "files": r.files, "bytes": r.bytes, "manifest_sha256": r.manifest_sha256,
                "evidence_log": r.origin, "index": r.index, "own_trust": trust_file.is_none(),
            }),
            Err(problem) => json!({ "verified": false, "bundle": folder, "problem": problem }),
        });
        return Ok(if checked.is_ok() {
            Ending::Good
        } else {
            Ending::Negative
        });
    }
    match checked {
        Ok(r) => {
            output::line(&format!(
                "{}: intact, {} files, {} bytes",
                folder.display(),
                r.files,
                r.bytes
            ));
            output::line(&format!(
                "  manifest sha256:{}, sealed as {} #{}",
                r.manifest_sha256, r.origin, r.index
            ));
            output::line(&format!(
                "  signed by {}",
                trusted.payload().signing_key.name()
            ));
            if trust_file.is_none() {
                output::line(
                    "  note: the signing key was taken from the bundle's own copy of the trust bundle; name one that you trust with --trust",
                );
            }
            Ok(Ending::Good)
        }
        Err(problem) => {
            output::line(&format!("{}: DAMAGED: {problem}", folder.display()));
            Ok(Ending::Negative)
        }
    }
}

fn check(folder: &Path, trusted: &VerifiedBundle) -> Result<Report, String> {
    let signing = &trusted.payload().signing_key;
    let seal = std::fs::read(folder.join(SEAL)).map_err(|e| format!("{SEAL}: {e}"))?;
    let origin = Seal::parse(&seal)
        .and_then(|seal| seal.checkpoint())
        .map_err(|e| format!("{SEAL}: {e}"))?
        .origin;
    // The evidence log is the signing key's; no sealing log has that key.
    let log = Vkey::new(&origin, signing.key().clone()).map_err(|e| e.to_string())?;
    evidence::verify_bundle(folder, signing, &log).map_err(|damage| damage.to_string())
}

/// Checks a bundle of this installation, named as the event log names it, with the trust bundle inside it.
pub(crate) fn check_own(data: &Path, bundle: &str) -> Result<(), String> {
    let folder = data.join(bundle);
    let bytes = std::fs::read(folder.join(TRUST_FILE)).map_err(|e| e.to_string())?;
    let trusted = trust_seen::open_without_memory(&bytes).map_err(|e| e.message())?;
    check(&folder, &trusted).map(|_| ())
}
