//! `runbook export/import/sign/verify`: CACAO v2.0 playbooks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ring::rand::SystemRandom;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sealwarden_cacao::{
    Finding, Importing, MAX_PLAYBOOK_BYTES, Origin, Playbook, SigningKey, Statement,
    in_milliseconds,
};
use sealwarden_runbook::{Action, Quorum, Role};
use serde_json::{Value, json};

use super::Which;
use crate::cli::Cli;
use crate::commands::Answer;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    which: Which,
    /// File to write (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Who made the runbook: a name, or a STIX identity (identity--UUID)
    #[arg(long, value_name = "WHO", default_value = "Sealwarden")]
    created_by: String,
    /// When its first version was made, RFC 3339 (default: now)
    #[arg(long, value_name = "TIME")]
    created: Option<Timestamp>,
    /// When this version was made, RFC 3339 (default: the time of its first version)
    #[arg(long, value_name = "TIME")]
    modified: Option<Timestamp>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The playbook, JSON
    file: PathBuf,
    /// File to write (default: standard output); a runbook's file is named after it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The runbook's name (default: made of the playbook's)
    #[arg(long)]
    name: Option<String>,
    /// The class of incidents that it answers; needed where the playbook was not exported from here
    #[arg(long)]
    class: Option<String>,
    /// Who approves what people do and what changes something, such as security-lead=1,on-call-sre=1
    #[arg(long, value_name = "ROLE=COUNT,…", value_parser = quorum)]
    quorum: Option<Quorum>,
    /// Let commands of a type be performed by an action, such as bash=confirm (people run it and say so); repeatable
    #[arg(long = "map", value_name = "COMMAND=ACTION", value_parser = mapping)]
    maps: Vec<(String, Action)>,
    /// The value of a variable, such as __ticket__=INC-7; it may hold ${incident.…}; repeatable
    #[arg(long = "set", value_name = "__NAME__=VALUE", value_parser = assignment)]
    values: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    /// The playbook, JSON
    file: PathBuf,
    /// Private key: PKCS#8 in PEM (Ed25519 or P-256), or an OpenSSH Ed25519 key without passphrase
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Whose signature it is: a person's or an organisation's name
    #[arg(long, value_name = "NAME")]
    signee: String,
    /// Until when it is valid, RFC 3339 (default: for ever)
    #[arg(long, value_name = "TIME")]
    valid_until: Option<Timestamp>,
    /// File to write (default: the playbook's own)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The playbook, JSON
    file: PathBuf,
    /// SHA-256 of the key that must have signed (hexadecimal, as `runbook sign` prints it). Without it any key in
    /// the playbook is taken, and a good signature says only that nothing was changed since
    #[arg(long, value_name = "SHA256")]
    key: Option<String>,
    /// Judge validity at this time, RFC 3339 (default: now)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

pub(super) fn export(cli: &Cli, args: &Export) -> Answer {
    let runbook = args.which.load(cli)?;
    let created_by = if args.created_by.starts_with("identity--") {
        args.created_by.clone()
    } else {
        Origin::identity(&args.created_by)
    };
    let created = args.created.unwrap_or_else(Timestamp::now);
    let origin = Origin {
        created_by,
        created: in_milliseconds(created),
        modified: in_milliseconds(args.modified.unwrap_or(created)),
    };
    let playbook = sealwarden_cacao::export(&runbook, &origin)
        .map_err(|findings| refused("the playbook would not be valid", &findings))?;
    write_playbook(args.out.as_deref(), playbook.value())?;
    if let Some(out) = &args.out {
        let told = json!({"playbook": playbook.id(), "runbook": runbook.name(), "digest": runbook.digest_hex(), "file": out});
        tell(
            cli,
            &told,
            &format!("{}: playbook {}", out.display(), playbook.id()),
        );
    }
    Ok(Ending::Good)
}

pub(super) fn import(cli: &Cli, args: &Import) -> Answer {
    let playbook = read_playbook(&args.file)?;
    let importing = Importing {
        name: args.name.clone(),
        class: args.class.clone(),
        quorum: args.quorum.clone(),
        commands: args.maps.iter().cloned().collect(),
        values: args.values.iter().cloned().collect(),
        now: Timestamp::now(),
    };
    let imported = sealwarden_cacao::import(&playbook, &importing).map_err(|findings| {
        refused(
            &format!("{} cannot be a runbook", args.file.display()),
            &findings,
        )
    })?;
    for warning in &imported.warnings {
        output::complain(&warning.to_string());
    }
    let runbook = &imported.runbook;
    match &args.out {
        Some(out) => {
            let wanted = runbook.file();
            if out.file_name().is_none_or(|name| name != wanted) {
                return Err(Failure::usage(format!(
                    "a plan reads the runbook {} from a file named {wanted}; write it to {}",
                    runbook.name(),
                    out.with_file_name(wanted).display()
                )));
            }
            write_public(out, runbook.source().as_bytes())?;
            let told = json!({"runbook": runbook.name(), "digest": runbook.digest_hex(), "steps": runbook.steps().len(), "file": out});
            let count = runbook.steps().len();
            tell(
                cli,
                &told,
                &format!(
                    "{}: {count} steps, sha256 {}; `plan check` says whether it fits your plan",
                    out.display(),
                    runbook.digest_hex()
                ),
            );
        }
        None if cli.json => output::json(&json!({
            "runbook": runbook.name(), "digest": runbook.digest_hex(), "source": runbook.source(),
            "warnings": imported.warnings.iter().map(finding_json).collect::<Vec<_>>(),
        })),
        None => output::line(runbook.source().trim_end()),
    }
    Ok(Ending::Good)
}

pub(super) fn sign(cli: &Cli, args: &Sign) -> Answer {
    let playbook = read_playbook(&args.file)?;
    let key = signing_key(&args.key)?;
    let statement = Statement {
        id: format!("jss--{}", uuid::Uuid::new_v4()),
        signee: args.signee.clone(),
        at: Timestamp::now(),
        valid_until: args.valid_until,
    };
    let signed = sealwarden_cacao::sign(&playbook, &key, &statement, &SystemRandom::new())
        .map_err(|e| Failure::usage(e.to_string()))?;
    let out = args.out.as_deref().unwrap_or(&args.file);
    write_playbook(Some(out), signed.value())?;
    let fingerprint = key.public_key().fingerprint();
    let told = json!({"file": out, "signature": statement.id, "algorithm": key.algorithm(), "key_sha256": fingerprint});
    tell(
        cli,
        &told,
        &format!(
            "{}: signed with {}, key sha256 {fingerprint}",
            out.display(),
            key.algorithm()
        ),
    );
    Ok(Ending::Good)
}

pub(super) fn verify(cli: &Cli, args: &Verify) -> Answer {
    let value = sealwarden_cacao::read_json(&read(&args.file)?)
        .map_err(|finding| refused(&args.file.display().to_string(), &[finding]))?;
    let checked = sealwarden_cacao::signatures(&value, args.at.unwrap_or_else(Timestamp::now));
    let mut good = !checked.is_empty();
    let mut by_key = args.key.is_none();
    let mut rows = Vec::new();
    for signature in &checked {
        let fingerprint = signature
            .outcome
            .as_ref()
            .ok()
            .map(sealwarden_cacao::PublicKey::fingerprint);
        good &= fingerprint.is_some();
        by_key |= fingerprint.is_some() && fingerprint.as_deref() == args.key.as_deref();
        let reason = signature.outcome.as_ref().err().map(ToString::to_string);
        rows.push((signature, fingerprint, reason));
    }
    let verdict = if good && by_key { "good" } else { "bad" };
    if cli.json {
        output::json(&json!({
            "verdict": verdict,
            "signatures": rows.iter().map(|(signature, fingerprint, reason)| json!({
                "id": signature.id, "signee": signature.signee, "algorithm": signature.algorithm, "created": signature.created,
                "countersigned": signature.countersigned, "key_sha256": fingerprint, "reason": reason,
            })).collect::<Vec<_>>(),
        }));
    } else {
        for (signature, fingerprint, reason) in &rows {
            let who = signature.signee.escape_debug();
            match (fingerprint, reason) {
                (Some(fingerprint), _) => output::line(&format!(
                    "good  {who} ({}), key sha256 {fingerprint}",
                    signature.algorithm
                )),
                (None, reason) => output::line(&format!(
                    "BAD   {who}: {}",
                    reason.clone().unwrap_or_default()
                )),
            }
            if signature.countersigned {
                output::line("      others signed this signature; that was not checked");
            }
        }
        if checked.is_empty() {
            output::line("BAD   the playbook has no signature");
        } else if !by_key {
            output::line("BAD   none of them was made by the key that you named");
        } else if args.key.is_none() && good {
            output::line(
                "The keys come from the playbook itself: compare them with what the signers publish, or name one with --key.",
            );
        }
    }
    Ok(if good && by_key {
        Ending::Good
    } else {
        Ending::Negative
    })
}

fn tell(cli: &Cli, json: &Value, line: &str) {
    if cli.json {
        output::json(json);
    } else {
        output::line(line);
    }
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "pointer": finding.pointer, "severity": finding.severity.as_str(), "code": finding.code,
        "message": finding.message, "remedy": finding.remedy,
    })
}

fn refused(what: &str, findings: &[Finding]) -> Failure {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Failure::refused(format!("{what}:\n{}", lines.join("\n")))
}

fn read(path: &Path) -> Result<String, Failure> {
    let usage = |e: std::io::Error| Failure::usage(format!("reading {}: {e}", path.display()));
    let size = path.metadata().map_err(usage)?.len();
    if usize::try_from(size).map_or(true, |size| size > MAX_PLAYBOOK_BYTES) {
        return Err(Failure::usage(format!(
            "{} has {size} bytes; a playbook has at most {MAX_PLAYBOOK_BYTES}",
            path.display()
        )));
    }
    fs::read_to_string(path).map_err(usage)
}

fn read_playbook(path: &Path) -> Result<Playbook, Failure> {
    Playbook::parse(&read(path)?).map_err(|findings| {
        refused(
            &format!("{} is no usable CACAO v2.0 playbook", path.display()),
            &findings,
        )
    })
}

fn write_playbook(path: Option<&Path>, value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::usage(e.to_string()))?;
    match path {
        Some(path) => write_public(path, format!("{text}\n").as_bytes())?,
        None => output::line(&text),
    }
    Ok(())
}

fn signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let usage = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
    let text = zeroize::Zeroizing::new(read(path)?);
    if text.contains("OPENSSH PRIVATE KEY") {
        let key =
            ssh_key::PrivateKey::from_openssh(text.as_str()).map_err(|e| usage(&e.to_string()))?;
        if key.is_encrypted() {
            return Err(usage(
                "the key has a passphrase; sign with a key file that has none",
            ));
        }
        let pair = key
            .key_data()
            .ed25519()
            .ok_or_else(|| usage("only Ed25519 keys of OpenSSH sign playbooks"))?;
        return SigningKey::from_ed25519_seed(pair.private.as_ref())
            .map_err(|e| usage(&e.to_string()));
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| usage("no PKCS#8 key in PEM (`BEGIN PRIVATE KEY`) and no OpenSSH key"))?;
    SigningKey::from_pkcs8(key.secret_pkcs8_der(), &SystemRandom::new())
        .map_err(|e| usage(&e.to_string()))
}

fn quorum(text: &str) -> Result<Quorum, String> {
    let mut roles = BTreeMap::new();
    for part in text.split(',') {
        let (role, count) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not ROLE=COUNT"))?;
        let role = Role::new(role.trim()).map_err(|e| e.to_string())?;
        let count = count
            .trim()
            .parse()
            .map_err(|_| format!("`{count}` is not a count"))?;
        roles.insert(role, count);
    }
    Quorum::new(roles).map_err(|e| e.to_string())
}

fn mapping(text: &str) -> Result<(String, Action), String> {
    let (command, action) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not COMMAND=ACTION"))?;
    let known = Action::from_name(action).ok_or_else(|| {
        let names = Action::ALL.map(Action::name).join(", ");
        format!("there is no action `{action}`; the actions are: {names}")
    })?;
    Ok((command.to_owned(), known))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not __NAME__=VALUE"))?;
    sealwarden_runbook::Template::parse(value).map_err(|e| e.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}
