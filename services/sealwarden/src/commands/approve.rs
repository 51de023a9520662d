//! `approve RUN STEP`: shows exactly what will run, asks, signs, sends. `run skip` and its like sign the same way.

mod inbox;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sealwarden_domain::approval::{self, Decision, Environment, Namespace, Statement};
use sealwarden_wire::run::v1 as wire;
use sealwarden_wire::run::v1::runs_client::RunsClient;
use serde_json::json;
use ssh_key::{HashAlg, PrivateKey, PublicKey};

use super::{Answer, client};
use crate::cli::{Approve, Cli, Signing};
use crate::client::Traced;
use crate::failure::{Ending, Failure};
use crate::host::installation::random;
use crate::output;

pub(crate) async fn run(cli: &Cli, args: &Approve) -> Answer {
    let client = client(cli)?;
    let (Some(run), Some(step)) = (&args.run, &args.step) else {
        return inbox::list(cli, &client, args).await;
    };
    let mut runs = client.runs().await?;
    let request = wire::PrepareRequest {
        run: run.clone(),
        step: step.clone(),
        decision: String::new(),
    };
    signed(
        cli,
        &mut runs,
        request,
        args.deny,
        &args.signing,
        &args.note,
    )
    .await
}

/// Shows what a statement says, asks, signs it and sends it.
pub(crate) async fn signed(
    cli: &Cli,
    runs: &mut RunsClient<Traced>,
    request: wire::PrepareRequest,
    deny: bool,
    signing: &Signing,
    note: &str,
) -> Answer {
    let (run, step) = (request.run.clone(), request.step.clone());
    let prepared = runs.prepare(request).await?.into_inner();
    let Signed {
        statement,
        text,
        signature,
    } = sign(cli, &prepared, deny, signing)?;
    let request = wire::ApproveRequest {
        statement: text,
        signature,
        note: note.to_owned(),
    };
    let answer = runs.approve(request).await?.into_inner();
    if !answer.accepted {
        return Err(Failure::refused(format!(
            "the decision was refused ({}): {}",
            answer.code, answer.reason
        )));
    }
    if cli.json {
        output::json(&json!({
            "accepted": true, "run": run, "step": step, "person": statement.approver, "decision": statement.decision.as_str(),
            "missing": answer.missing,
        }));
    } else {
        let rest = if answer.missing.is_empty() {
            "the quorum is met".to_owned()
        } else {
            format!("still missing: {}", answer.missing)
        };
        output::line(&format!(
            "recorded: {} {} {step} of {run}; {rest}",
            statement.approver,
            does(statement.decision)
        ));
    }
    Ok(Ending::Good)
}

/// A signed statement.
pub(crate) struct Signed {
    /// What was signed.
    pub(crate) statement: Statement,
    /// Its text.
    pub(crate) text: String,
    /// The armored signature.
    pub(crate) signature: String,
}

/// Shows what will be signed, asks, and signs it with the person's key.
pub(crate) fn sign(
    cli: &Cli,
    prepared: &wire::PrepareResponse,
    deny: bool,
    signing: &Signing,
) -> Result<Signed, Failure> {
    let key = SigningKey::find(cli, signing)?;
    let approver = approver(prepared, &key)?;
    let statement = statement(prepared, deny, &approver.person)?;
    let text = statement.to_string();
    if !cli.json || !signing.yes {
        output::complain(&explanation(prepared, statement.decision, approver, &text));
    }
    if !signing.yes && !output::confirmed(&format!("Sign this as {}?", approver.name)) {
        return Err(Failure::usage("not signed: nothing was sent"));
    }
    let signature = key.sign(&text, statement.environment.namespace())?;
    Ok(Signed {
        statement,
        text,
        signature,
    })
}

/// What a person signs to decide the prepared step.
pub(crate) fn statement(
    prepared: &wire::PrepareResponse,
    deny: bool,
    person: &str,
) -> Result<Statement, Failure> {
    let environment = Environment::parse(&prepared.environment).ok_or_else(|| {
        Failure::refused(format!(
            "the server names an unknown environment {:?}",
            prepared.environment
        ))
    })?;
    let named = Decision::parse(&prepared.decision);
    let decision = if deny {
        Decision::Deny
    } else if let Some(named) = named {
        named
    } else if prepared.manual {
        Decision::Confirm
    } else {
        Decision::Approve
    };
    // A minute less than allowed: the server's clock may be behind ours.
    let validity_ms = prepared.validity_ms - (prepared.validity_ms / 4).min(60_000);
    let expires_ms = jiff::Timestamp::now()
        .as_millisecond()
        .saturating_add(validity_ms);
    let statement = Statement {
        installation: prepared.installation.clone(),
        environment,
        incident: prepared.incident.clone(),
        run: prepared.run.clone(),
        step: prepared.step.clone(),
        iteration: prepared.iteration,
        runbook: prepared.runbook.clone(),
        runbook_digest: prepared.runbook_digest.clone(),
        inputs_digest: prepared.inputs_digest.clone(),
        roster_digest: prepared.roster_digest.clone(),
        decision,
        approver: person.to_owned(),
        nonce: hex::encode(random::<16>()?),
        expires_s: expires_ms / 1000,
    };
    statement
        .validate()
        .map_err(|e| Failure::refused(format!("the server's answer cannot be signed: {e}")))?;
    check_inputs(prepared)?;
    Ok(statement)
}

/// What the person is shown must be what the digest names.
fn check_inputs(prepared: &wire::PrepareResponse) -> Result<(), Failure> {
    let digest = hex::encode(ring::digest::digest(
        &ring::digest::SHA256,
        prepared.inputs.as_bytes(),
    ));
    if digest == prepared.inputs_digest {
        Ok(())
    } else {
        Err(Failure::refused(
            "the server shows inputs that are not those it asks to sign; nothing was signed",
        ))
    }
}

/// What a person did, in the third person.
fn does(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approves",
        Decision::Deny => "denies",
        Decision::Confirm => "confirms",
        Decision::Retry => "says that it did not happen:",
        Decision::Skip => "skips",
        Decision::Override => "overrides the quorum of",
        Decision::Review => "reviewed the override of",
    }
}

/// What follows from a decision, for the person who is about to sign it.
fn meaning(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "You approve that it runs.",
        Decision::Deny => {
            "You deny it: it waits until you yourself approve it with a new statement."
        }
        Decision::Confirm => "You say that you did it.",
        Decision::Retry => {
            "You say that it did NOT happen: it is tried once more, under the same idempotency key. If it did happen, do not sign."
        }
        Decision::Skip => {
            "The run goes on WITHOUT it. Steps behind it see that it was skipped; this is not taken back."
        }
        Decision::Override => {
            "BREAK-GLASS: it runs without its quorum, also against a denial. Everybody sees it, and the incident cannot be closed until two others have reviewed it."
        }
        Decision::Review => "You say that you have looked at this override and its reason.",
    }
}

fn explanation(
    prepared: &wire::PrepareResponse,
    decision: Decision,
    approver: &wire::Approver,
    text: &str,
) -> String {
    let indented = |text: &str| {
        text.lines()
            .map(|l| format!("    {l}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    format!(
        "{title}\n\nStep {step} of run {run}, incident {incident}, runbook {runbook}.\nWhat it does: {does}\n{description}\nWith exactly these inputs:\n{inputs}\n\n{meaning}\nQuorum: {quorum}; still missing: {missing}.\nYou are {name} ({roles}).\n\nThe statement to sign (SSHSIG, namespace {namespace}):\n{statement}",
        title = prepared.title,
        step = prepared.step,
        run = prepared.run,
        incident = prepared.incident,
        runbook = prepared.runbook,
        does = prepared.action_does,
        description = prepared.description,
        inputs = indented(&prepared.inputs),
        meaning = meaning(decision),
        quorum = prepared.quorum,
        missing = if prepared.missing.is_empty() {
            "nothing"
        } else {
            &prepared.missing
        },
        name = approver.name,
        roles = approver.roles.join(", "),
        namespace = prepared.namespace,
        statement = indented(text),
    )
}

fn approver<'a>(
    prepared: &'a wire::PrepareResponse,
    key: &SigningKey,
) -> Result<&'a wire::Approver, Failure> {
    let fingerprint = key.fingerprint();
    prepared
        .approvers
        .iter()
        .find(|a| a.key_fingerprints.contains(&fingerprint))
        .ok_or_else(|| key.of_nobody())
}

/// The approver's key: in a file we can read, or one that ssh-keygen uses for us.
pub(crate) struct SigningKey {
    path: PathBuf,
    public: PublicKey,
    private: Option<PrivateKey>,
}

impl SigningKey {
    pub(crate) fn find(cli: &Cli, args: &Signing) -> Result<Self, Failure> {
        let path = match &args.key {
            Some(path) => path.clone(),
            None => default_key(cli),
        };
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Failure::usage(format!(
                "cannot read the SSH key {}: {e}; name yours with --key FILE",
                path.display()
            ))
        })?;
        if let Ok(public) = PublicKey::from_openssh(&text) {
            return Ok(Self {
                path,
                public,
                private: None,
            }); // its private half is with an agent
        }
        let private = PrivateKey::from_openssh(&text).map_err(|e| {
            Failure::usage(format!("{} is not an OpenSSH key: {e}", path.display()))
        })?;
        let public = private.public_key().clone();
        let outside = private.is_encrypted() || private.algorithm().as_str().starts_with("sk-");
        Ok(Self {
            path,
            public,
            private: (!outside).then_some(private),
        })
    }

    /// As `ssh-keygen -l` prints it.
    pub(crate) fn fingerprint(&self) -> String {
        self.public.fingerprint(HashAlg::Sha256).to_string()
    }

    /// That it is nobody's.
    pub(crate) fn of_nobody(&self) -> Failure {
        Failure::refused(format!(
            "key {} ({}) belongs to nobody on the roster; name yours with --key",
            self.path.display(),
            self.fingerprint()
        ))
    }

    pub(crate) fn sign(&self, text: &str, namespace: Namespace) -> Result<String, Failure> {
        match &self.private {
            Some(key) => approval::sign(text, key, namespace)
                .map_err(|e| Failure::from(anyhow::Error::from(e).context("signing"))),
            None => Ok(sign_outside(&self.path, text, namespace)?),
        }
    }
}

/// `ssh-keygen -Y sign` asks for passphrases, touches and agents by itself.
fn sign_outside(key: &Path, text: &str, namespace: Namespace) -> anyhow::Result<String> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let file = folder.path().join("statement");
    std::fs::write(&file, text).context("writing the statement")?;
    let status = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-q", "-n", namespace.as_str(), "-f"])
        .arg(key)
        .arg(&file)
        .status()
        .context("running ssh-keygen; is OpenSSH installed?")?;
    anyhow::ensure!(status.success(), "ssh-keygen did not sign ({status})");
    std::fs::read_to_string(file.with_extension("sig")).context("reading the signature")
}

fn default_key(cli: &Cli) -> PathBuf {
    let person = cli.data.join("people").join(&cli.caller).join("id_ed25519");
    if person.exists() {
        return person;
    }
    std::env::var_os("HOME")
        .map_or_else(|| PathBuf::from("id_ed25519"), PathBuf::from)
        .join(".ssh/id_ed25519")
}
