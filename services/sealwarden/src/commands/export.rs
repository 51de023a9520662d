//! `export FILE`: a seal for other people's tools; `anchor FILE…`: timestamps of its checkpoint by an outside authority.
//!
//! Exports work offline from the seal, its anchors and key files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealwarden_anchors::client::{self, Client};
use sealwarden_anchors::file::{Anchor, Anchors, MAX_FILE_BYTES, verified_by_any};
use sealwarden_anchors::roots::Roots;
use sealwarden_anchors::signer::Signer;
use sealwarden_anchors::{cades, receipt};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::{MAX_SEAL_BYTES, Seal};
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seal::verdict::VerifiedAnchor;
use serde_json::json;

use super::keys::held::Desk;
use super::{Answer, trust, verify};
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

/// No file of certificates or keys is larger, in bytes.
const MAX_PEM: u64 = 256 * 1024;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("format").required(true).args(["tsr", "cades", "cose"]))]
pub(crate) struct Export {
    /// The sealed file; its seal is FILE.seal
    pub(crate) file: PathBuf,
    /// The seal (default: FILE.seal)
    #[arg(long, value_name = "FILE")]
    pub(crate) seal: Option<PathBuf>,
    /// The RFC 3161 answer with the earliest time, as `openssl ts -verify` reads it; needs --tsa-root
    #[arg(long, requires = "tsa_root")]
    pub(crate) tsr: bool,
    /// A detached CAdES signature of the checkpoint's text by the seal certificate, as `openssl cms -verify` reads it
    #[arg(long)]
    pub(crate) cades: bool,
    /// A COSE receipt (RFC 9942) signed with the seal certificate's key
    #[arg(long)]
    pub(crate) cose: bool,
    /// Where to
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Also write the bytes that the export is about: the stamped note, the signed text, or the leaf's entry
    #[arg(long, value_name = "FILE")]
    pub(crate) content: Option<PathBuf>,
    /// Another seal certificate than the installation's, and those above it (PEM); it must name the log's keys itself
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its P-256 key (PEM, PKCS#8)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// The anchors (default: FILE.seal.anchors)
    #[arg(long, value_name = "FILE")]
    pub(crate) anchors: Option<PathBuf>,
    /// Certificates of the authorities above the time-stamping authorities that you trust (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tsa_root: Option<PathBuf>,
}

/// Arguments of `anchor`.
#[derive(Debug, clap::Args)]
pub(crate) struct AnchorFiles {
    /// Sealed files; the anchors go into FILE.seal.anchors
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Fetch the anchors that the sealing service holds, for seals that were made before there were any; anchors that are there already stay
    #[arg(long, conflicts_with_all = ["tsa", "tsa_root"], required_unless_present = "tsa")]
    pub(crate) upgrade: bool,
    /// Ask this time-stamping authority instead (http://… or https://…, RFC 3161); needs no server
    #[arg(long, value_name = "URL", requires = "tsa_root")]
    pub(crate) tsa: Option<String>,
    /// Certificates of the authorities above it (PEM)
    #[arg(long, value_name = "FILE", requires = "tsa")]
    pub(crate) tsa_root: Option<PathBuf>,
}

/// `export`.
pub(crate) fn export(cli: &Cli, args: &Export) -> Answer {
    let seal_path = args.seal.clone();
    let seal_path = seal_path.unwrap_or_else(|| verify::beside(&args.file));
    let seal = read_seal(&seal_path)?;
    // An export of a seal that belongs to other bytes would mislead whoever gets both.
    if verify::digest_of(&args.file)? != seal.record.digest {
        return Err(Failure::refused(format!(
            "{} is not the document that {} seals; nothing was exported",
            args.file.display(),
            seal_path.display()
        )));
    }
    let (kind, bytes, content) = if args.tsr {
        let (bytes, content) = earliest(args, &seal, &seal_path)?;
        ("rfc3161", bytes, content)
    } else {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let (signer, bound) = signer(cli, args, &seal, now_ms)?;
        let refused = |error: &dyn std::fmt::Display| Failure::refused(error.to_string());
        if args.cades {
            let bytes =
                cades::sign(&seal.note, &signer, &bound, now_ms).map_err(|e| refused(&e))?;
            ("cades", bytes, seal.note.text().as_bytes().to_vec())
        } else {
            let made = receipt::make(&seal, &signer, &bound, now_ms).map_err(|e| refused(&e))?;
            ("cose", made.cose, made.entry)
        }
    };
    write_public(&args.out, &bytes)?;
    if let Some(path) = &args.content {
        write_public(path, &content)?;
    }
    if cli.json {
        output::json(&json!({ "format": kind, "out": args.out, "content": args.content }));
    } else {
        output::line(&format!("{}: {kind}", args.out.display()));
    }
    Ok(Ending::Good)
}

/// The answer with the earliest time among the anchors that verify, and the note that it is over.
fn earliest(args: &Export, seal: &Seal, seal_path: &Path) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let path = args.anchors.clone();
    let path = path.unwrap_or_else(|| beside(seal_path));
    let roots = read_roots(args.tsa_root.as_deref())?;
    let anchors = read_anchors(&path)?;
    if anchors.checkpoint_text() != seal.note.text() {
        return Err(Failure::refused(format!(
            "{} holds anchors of another checkpoint than the seal's; fetch them with `sealwarden anchor`",
            path.display()
        )));
    }
    let found = anchors
        .all()
        .iter()
        // The exported timestamp is over the seal's own checkpoint.
        .filter(|anchor| anchor.proof().is_empty())
        .filter_map(|anchor| Some((anchor.verify(&roots).ok()?.latest_ms(), anchor)))
        .min_by_key(|(time_ms, _)| *time_ms);
    match found {
        Some((_, anchor)) => Ok((
            anchor.response().to_vec(),
            anchor.note().to_string().into_bytes(),
        )),
        None => Err(Failure::refused(format!(
            "none of the {} anchors in {} verifies: {}",
            anchors.all().len(),
            path.display(),
            problems(&anchors, &roots)
        ))),
    }
}

fn problems(anchors: &Anchors, roots: &Roots) -> String {
    let errors = anchors.verify(roots).into_iter().filter_map(Result::err);
    let errors: Vec<_> = errors.map(|error| error.to_string()).collect();
    errors.join("; ")
}

/// `anchor`: one timestamp for each distinct checkpoint note, whatever the number of seals.
pub(crate) async fn anchor(cli: &Cli, args: &AnchorFiles) -> Answer {
    let Some(tsa) = args.tsa.as_ref().filter(|_| !args.upgrade) else {
        return super::anchors::upgrade(cli, &args.files).await;
    };
    let roots = read_roots(args.tsa_root.as_deref())?;
    let mut notes: BTreeMap<String, Vec<(PathBuf, Seal)>> = BTreeMap::new();
    for file in &args.files {
        let path = verify::beside(file);
        let seal = read_seal(&path)?;
        // The text is the checkpoint; two seals of a batch may carry other cosignatures, and one note serves them all.
        let text = seal.note.text().to_owned();
        notes.entry(text).or_default().push((beside(&path), seal));
    }
    let client = Client::new(tsa, client::DEADLINE, None).map_err(|e| failed(&e))?;
    let mut told = Vec::new();
    for seals in notes.values() {
        let Some((_, first)) = seals.first() else {
            continue;
        };
        let covered = first.note.to_string();
        let (response, timestamp) = client
            .stamp(covered.as_bytes(), &roots)
            .await
            .map_err(|e| failed(&e))?;
        let usage = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
        let anchor = Anchor::new(first.note.clone(), response).map_err(|e| usage(&e))?;
        let at = output::time(timestamp.latest_ms());
        for (path, _) in seals {
            let added = add(path, anchor.clone(), &roots)?;
            if !cli.json {
                let what = if added {
                    "anchored"
                } else {
                    "has an earlier anchor"
                };
                output::line(&format!(
                    "{}: {what}, {} at {at}",
                    path.display(),
                    timestamp.tsa
                ));
            }
            told.push(json!({ "anchors": path, "added": added, "tsa": timestamp.tsa, "time": at }));
        }
    }
    if cli.json {
        output::json(&json!({ "anchored": told, "checkpoints": notes.len() }));
    }
    Ok(Ending::Good)
}

/// Adds an anchor to a file, which is made where it is missing.
fn add(path: &Path, anchor: Anchor, roots: &Roots) -> Result<bool, Failure> {
    let (anchors, added) = if path.exists() {
        let mut anchors = read_anchors(path)?;
        let added = anchors.add(anchor, roots).map_err(|error| {
            Failure::refused(format!(
                "{}: {error}; move the file away if its seal was renewed",
                path.display()
            ))
        })?;
        (anchors, added)
    } else {
        (Anchors::of(anchor), true)
    };
    if added {
        write_public(path, anchors.to_text().as_bytes()).context("keeping the anchor")?;
    }
    Ok(added)
}

fn failed(error: &client::ClientError) -> Failure {
    if error.is_unavailable() {
        Failure::unavailable(error.to_string())
    } else {
        Failure::refused(error.to_string())
    }
}

/// `FILE.seal.anchors`
pub(super) fn beside(seal: &Path) -> PathBuf {
    let mut name = seal.as_os_str().to_owned();
    name.push(".anchors");
    PathBuf::from(name)
}

pub(super) fn read_seal(path: &Path) -> Result<Seal, Failure> {
    let limit = u64::try_from(MAX_SEAL_BYTES).unwrap_or(u64::MAX);
    let bytes = trust::read_limited(path, limit)?;
    Seal::parse(&bytes).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
}

pub(super) fn read_anchors(path: &Path) -> Result<Anchors, Failure> {
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let bytes = trust::read_limited(path, limit)?;
    Anchors::parse(&bytes).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
}

fn read_roots(path: Option<&Path>) -> Result<Roots, Failure> {
    let path = path.ok_or_else(|| {
        Failure::usage("name the authorities that you trust to date seals with --tsa-root")
    })?;
    let bytes = trust::read_limited(path, MAX_PEM)?;
    Roots::from_pem(&bytes).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
}

/// The certificate that was named, or the installation's; with the keys of the seal's log that are bound to it.
fn signer(
    cli: &Cli,
    args: &Export,
    seal: &Seal,
    now_ms: i64,
) -> Result<(Signer, Vec<Vkey>), Failure> {
    let (Some(certificate), Some(key)) = (&args.certificate, &args.key) else {
        let held = Desk::of(&cli.data).required()?;
        let checkpoint = seal.checkpoint();
        let origin = checkpoint
            .map_err(|e| Failure::usage(e.to_string()))?
            .origin;
        return Ok((held.signer()?, held.bound_keys(&origin, now_ms)?));
    };
    let chain = trust::read_limited(certificate, MAX_PEM)?;
    let key = zeroize::Zeroizing::new(trust::read_limited(key, MAX_PEM)?);
    let signer = Signer::from_pem(&chain, &key).map_err(|e| Failure::usage(e.to_string()))?;
    Ok((signer, Vec::new()))
}

/// The anchors for `verify`: the named file, or the one beside the seal if it is there.
pub(crate) fn for_seal(named: Option<&Path>, seal: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let place = beside(seal);
    let path = match named {
        Some(path) => path,
        None if place.exists() => &place,
        None => return Ok(None),
    };
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    trust::read_limited(path, limit).map(Some)
}

/// Says when a file of anchors is not the one of this seal: then nothing in it dates the seal.
pub(crate) fn warn_of_foreign(anchors: &[u8], seal: &[u8]) {
    let Ok(seal) = Seal::parse(seal) else {
        return;
    };
    match Anchors::parse(anchors) {
        Ok(anchors) if anchors.checkpoint_text() == seal.note.text() => {}
        Ok(anchors) => {
            let named = |text: &str| {
                Checkpoint::parse(text).map_or_else(
                    |error| error.to_string(),
                    |it| format!("{} of {} leaves", it.origin, it.size),
                )
            };
            output::complain(&format!(
                "warning: the anchors are of another checkpoint ({}) than the seal's ({}) and are passed over; `sealwarden anchor --upgrade` fetches the seal's own",
                named(anchors.checkpoint_text()),
                named(seal.note.text()),
            ));
        }
        Err(error) => output::complain(&format!(
            "warning: the seal's anchors cannot be read and date nothing: {error}"
        )),
    }
}

/// Those of a seal's anchors that verify under the named roots, or under those of the bundle; the others are told and passed over.
pub(crate) fn verified(
    anchors: &[u8],
    tsa_root: Option<&Path>,
    bundle: &VerifiedBundle,
) -> Result<Vec<VerifiedAnchor>, Failure> {
    let roots = if tsa_root.is_some() {
        vec![read_roots(tsa_root)?]
    } else {
        bundle_roots(bundle)?
    };
    let anchors = Anchors::parse(anchors).map_err(|e| {
        Failure::usage(format!(
            "the seal's anchors cannot be read: {e}; name others with --anchors"
        ))
    })?;
    let verified = verified_by_any(&anchors, &roots);
    if verified.len() < anchors.all().len() {
        let why = roots.first().map_or_else(
            || "the trust bundle names no time-stamping authority; name one's roots with --tsa-root".to_owned(),
            |roots| problems(&anchors, roots),
        );
        output::complain(&format!(
            "warning: {} of {} anchors are passed over: {why}",
            anchors.all().len() - verified.len(),
            anchors.all().len(),
        ));
    }
    Ok(verified)
}

/// The roots of the authorities whose time the bundle counts.
fn bundle_roots(bundle: &VerifiedBundle) -> Result<Vec<Roots>, Failure> {
    let roots = bundle.payload().tsas.iter().map(|tsa| {
        Roots::from_pem(tsa.roots.as_bytes()).map_err(|e| {
            Failure::refused(format!(
                "the roots of {} in the trust bundle: {e}",
                tsa.name
            ))
        })
    });
    roots.collect()
}
