//! `postmortem draft | record | publish | show`

mod draft;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealwarden_domain::approval::Environment;
use sealwarden_domain::learning::{
    APPROVER_ROLE, Audience, check_complete, publication_statement, questions,
};
use sealwarden_wire::event::v1::PostmortemRecorded;
use sealwarden_wire::incident::v1 as wire;
use sealwarden_wire::run::v1 as runs;
use serde_json::{Value, json};

use super::approve::SigningKey;
use super::{Answer, client};
use crate::cli::{Cli, Signing};
use crate::failure::{Ending, Failure};
use crate::output::{self, time};

/// What to do with a postmortem.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Postmortem {
    /// Write what the event log knows of an incident as Markdown, with questions for people
    ///
    /// Timeline, detection path, impact in numbers, factors, times against the targets. Lines that begin with "TO COMPLETE:" are for people. It can
    /// be drafted at any time, and changes nothing.
    Draft {
        /// The incident
        id: String,
        /// The version for customers and the public: no names, no internals
        #[arg(long)]
        public: bool,
        /// Where to write it (default: standard output); an existing file is kept
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Record a completed postmortem in the event log; the incident must be closed
    Record {
        /// The incident
        id: String,
        /// Markdown with front matter, as `draft` writes it
        file: PathBuf,
    },
    /// Sign that the newest public version may go out: somebody with the role legal-counsel who did not write it
    Publish {
        /// The incident
        id: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// The newest recorded version
    Show {
        /// The incident
        id: String,
        /// The public version; with exit code 1 while nobody has signed that it may go out
        #[arg(long)]
        public: bool,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Postmortem) -> Answer {
    match what {
        Postmortem::Draft { id, public, out } => draft(cli, id, *public, out.as_deref()).await,
        Postmortem::Record { id, file } => record(cli, id, file).await,
        Postmortem::Publish { id, signing } => publish(cli, id, signing).await,
        Postmortem::Show { id, public } => show(cli, id, audience(*public)).await,
    }
}

fn audience(public: bool) -> Audience {
    if public {
        Audience::Public
    } else {
        Audience::Internal
    }
}

/// What is known of one incident.
pub(crate) struct Known {
    pub(crate) incident: wire::Incident,
    pub(crate) runs: Vec<runs::Run>,
    pub(crate) learned: wire::Learned,
}

impl Known {
    /// Asks the services.
    pub(crate) async fn of(cli: &Cli, id: &str) -> Result<Self, Failure> {
        let client = client(cli)?;
        let incident = id.to_owned();
        let asked = wire::ShowRequest { incident };
        let incident = client.incidents().await?.show(asked).await?.into_inner();
        let mut executor = client.runs().await?;
        let mut runs = Vec::new();
        for run in &incident.runs {
            let asked = runs::ShowRequest { run: run.clone() };
            runs.push(executor.show(asked).await?.into_inner());
        }
        Ok(Self {
            learned: learned(cli, id).await?,
            incident,
            runs,
        })
    }
}

pub(crate) async fn learned(cli: &Cli, id: &str) -> Result<wire::Learned, Failure> {
    let asked = wire::ShowLearningRequest {
        incident: id.to_owned(),
    };
    let mut learning = client(cli)?.learning().await?;
    Ok(learning.show(asked).await?.into_inner())
}

async fn draft(cli: &Cli, id: &str, public: bool, out: Option<&Path>) -> Answer {
    let known = Known::of(cli, id).await?;
    let text = draft::text(&known, audience(public));
    let left = questions(&text).len();
    if let Some(path) = out {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        let file = options.open(path).map_err(|e| {
            Failure::usage(format!(
                "cannot write the draft to {}: {e}; name a file that is not there yet",
                path.display()
            ))
        })?;
        write_all(file, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    match (cli.json, out) {
        (true, _) => output::json(&json!({
            "incident": id, "audience": audience(public).as_str(), "text": text, "to_complete": left,
            "file": out.map(|path| path.display().to_string()),
        })),
        (false, Some(path)) => output::line(&format!(
            "{}: {left} questions for people are left in it; when it is complete: sealwarden postmortem record {id} {}",
            path.display(),
            path.display()
        )),
        (false, None) => output::line(text.trim_end()),
    }
    Ok(Ending::Good)
}

fn write_all(mut file: std::fs::File, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

async fn record(cli: &Cli, id: &str, file: &Path) -> Answer {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
    let audience = check_complete(&text, id)
        .map_err(|problem| Failure::usage(format!("{}: {problem}", file.display())))?;
    let request = wire::RecordPostmortemRequest {
        incident: id.to_owned(),
        text,
    };
    let mut learning = client(cli)?.learning().await?;
    let learned = learning.record_postmortem(request).await?.into_inner();
    let recorded = newest(&learned, audience)?;
    if cli.json {
        output::json(&document(id, recorded));
        return Ok(Ending::Good);
    }
    output::line(&format!(
        "recorded: version {} of the {audience} postmortem of {id}, sha256 {}",
        recorded.version, recorded.sha256
    ));
    if audience == Audience::Public && recorded.approved_by.is_empty() {
        output::line(&format!(
            "it goes out when {APPROVER_ROLE} has signed it: sealwarden postmortem publish {id}"
        ));
    }
    Ok(Ending::Good)
}

fn newest(learned: &wire::Learned, audience: Audience) -> Result<&wire::Postmortem, Failure> {
    let mut postmortems = learned.postmortems.iter();
    postmortems
        .find(|it| it.audience == audience.as_str())
        .ok_or_else(|| {
            let flag = if audience == Audience::Public {
                " --public"
            } else {
                ""
            };
            Failure::usage(format!(
                "no {audience} postmortem of {id} is recorded; begin with `sealwarden postmortem draft {id}{flag} --out FILE`",
                id = learned.incident
            ))
        })
}

async fn publish(cli: &Cli, id: &str, signing: &Signing) -> Answer {
    let learned = learned(cli, id).await?;
    let public = newest(&learned, Audience::Public)?;
    let environment = Environment::parse(&learned.environment).ok_or_else(|| {
        Failure::refused(format!(
            "the server names an unknown environment {:?}",
            learned.environment
        ))
    })?;
    // What is signed is what is shown, not what the server says of it.
    let sha256 = sealwarden_seal::merkle::Hash::of(public.text.as_bytes()).to_string();
    if sha256 != public.sha256 {
        return Err(Failure::refused(format!(
            "the server shows a text with sha256 {sha256} and calls it {}; nothing was signed",
            public.sha256
        )));
    }
    let key = SigningKey::find(cli, signing)?;
    let fingerprint = key.fingerprint();
    let person = learned.publishers.get(&fingerprint).ok_or_else(|| {
        Failure::refused(format!(
            "key {fingerprint} belongs to nobody with the role {APPROVER_ROLE}; name yours with --key"
        ))
    })?;
    let recorded = PostmortemRecorded {
        audience: public.audience.clone(),
        version: public.version,
        text: String::new(),
        sha256,
        by: public.by.clone(),
    };
    let statement =
        publication_statement(&learned.installation, environment, id, &recorded, person);
    if !cli.json || !signing.yes {
        output::complain(&format!(
            "{}\n\nVersion {} of the public postmortem of {id}, by {}.\nYou say that it may go out to customers and the public.\n\n\
             The statement to sign (SSHSIG, namespace {}):\n{statement}",
            public.text.trim_end(),
            public.version,
            public.by,
            environment.namespace()
        ));
    }
    if !signing.yes && !output::confirmed(&format!("Sign this as {person}?")) {
        return Err(Failure::usage("not signed: nothing was sent"));
    }
    let request = wire::ApprovePostmortemRequest {
        incident: id.to_owned(),
        signature: key.sign(&statement, environment.namespace())?,
        statement,
    };
    let mut learning = client(cli)?.learning().await?;
    let learned = learning.approve_postmortem(request).await?.into_inner();
    let public = newest(&learned, Audience::Public)?;
    if cli.json {
        output::json(&document(id, public));
    } else {
        output::line(&format!(
            "{} signed that version {} may go out; `sealwarden postmortem show {id} --public` prints it",
            public.approved_by, public.version
        ));
    }
    Ok(Ending::Good)
}

async fn show(cli: &Cli, id: &str, audience: Audience) -> Answer {
    let learned = learned(cli, id).await?;
    let postmortem = newest(&learned, audience)?;
    let waits = audience == Audience::Public && postmortem.approved_by.is_empty();
    if cli.json {
        output::json(&document(id, postmortem));
    } else {
        output::line(postmortem.text.trim_end());
    }
    if waits {
        output::complain(&format!(
            "version {} must not go out: {APPROVER_ROLE} has not signed it",
            postmortem.version
        ));
        return Ok(Ending::Negative);
    }
    Ok(Ending::Good)
}

fn document(id: &str, it: &wire::Postmortem) -> Value {
    json!({
        "incident": id, "audience": it.audience, "version": it.version, "sha256": it.sha256, "by": it.by, "at_ms": it.at_ms,
        "recorded_at": time(it.at_ms), "approved_by": it.approved_by, "approved_at_ms": it.approved_at_ms,
        "statement": it.statement, "signature": it.signature, "text": it.text,
    })
}
