//! `notice list | show | publish | approve`: what people outside read.

use std::path::PathBuf;

use sealwarden_wire::incident::v1 as wire;
use serde_json::json;

use super::incident::told::{document, one, show};
use super::{Answer, approve, client};
use crate::cli::{Cli, Signing};
use crate::failure::{Ending, Failure};
use crate::output;

/// The longest text of a notice, bytes, as the server takes it.
const MAX_TEXT: u64 = 2048;

/// The words behind `notice`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Notice {
    /// Notices to people outside: what waits for whose signature, what went out, what did not arrive
    List {
        /// The incident (default: every open one)
        id: Option<String>,
    },
    /// One notice with its whole text, who signed it, and what became of it on each channel
    Show {
        /// The incident
        id: String,
        /// Its number, as `notice list` shows it
        number: u32,
    },
    /// Write a notice to everybody (status page, feed, public channels); it waits for signed approvals
    ///
    /// Nothing goes out until one person with the role legal-counsel and another one with the role communications-lead have signed exactly this text with
    /// `notice approve`. Who wrote it cannot approve it. A notice is never changed: publish another one.
    Publish {
        /// The incident
        id: String,
        /// One line
        #[arg(long)]
        title: String,
        /// The text; an empty line begins a paragraph
        #[arg(long, conflicts_with = "file", required_unless_present = "file")]
        text: Option<String>,
        /// A file with the text
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Language of the text (BCP 47)
        #[arg(long, default_value = "en")]
        language: String,
    },
    /// Sign that a notice may go out, or that it must not
    Approve {
        /// The incident
        id: String,
        /// The notice's number, as `notice list` shows it
        number: u32,
        /// Deny instead of approving: nothing goes out until you approve it yourself
        #[arg(long)]
        deny: bool,
        #[command(flatten)]
        signing: Signing,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Notice) -> Answer {
    match what {
        Notice::List { id } => list(cli, id.as_deref()).await,
        Notice::Show { id, number } => {
            let request = wire::NoticesRequest {
                incident: id.clone(),
            };
            let told = client(cli)?.incidents().await?.notices(request).await?;
            one(cli, &told.into_inner(), *number)
        }
        Notice::Publish {
            id,
            title,
            text,
            file,
            language,
        } => {
            let request = wire::TellRequest {
                incident: id.clone(),
                audiences: vec!["public".to_owned()],
                text: text_of(text.as_deref(), file.as_ref())?,
                request_id: uuid::Uuid::now_v7().to_string(),
                title: title.clone(),
                language: language.clone(),
            };
            let told = client(cli)?.incidents().await?.tell(request).await?;
            let told = told.into_inner();
            if cli.json {
                output::json(&document(&told));
            } else {
                show(&told);
                let by_people = |n: &&wire::Notice| n.audience == "public" && !n.by.is_empty();
                let number = told.notices.iter().rfind(by_people).map_or(0, |n| n.number);
                output::line(&format!(
                    "approve it: sealwarden notice approve {id} {number}"
                ));
            }
            Ok(Ending::Good)
        }
        Notice::Approve {
            id,
            number,
            deny,
            signing,
        } => decide(cli, id, *number, *deny, signing).await,
    }
}

/// Notices to people outside.
async fn list(cli: &Cli, id: Option<&str>) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    let ids: Vec<String> = if let Some(id) = id {
        vec![id.to_owned()]
    } else {
        let request = wire::ListRequest { open_only: true };
        let open = incidents.list(request).await?.into_inner().incidents;
        open.into_iter().map(|incident| incident.incident).collect()
    };
    let mut all = Vec::new();
    for id in ids {
        let request = wire::NoticesRequest { incident: id };
        let mut told = incidents.notices(request).await?.into_inner();
        told.notices.retain(|notice| notice.audience == "public");
        all.push(told);
    }
    if cli.json {
        output::json(&json!({ "incidents": all.iter().map(document).collect::<Vec<_>>() }));
        return Ok(Ending::Good);
    }
    let head = ["INCIDENT", "N", "STANDING", "WAITS FOR", "TITLE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for told in &all {
        for notice in &told.notices {
            rows.push(vec![
                told.incident.clone(),
                notice.number.to_string(),
                notice.standing.clone(),
                notice.awaits.join(", "),
                notice.title.clone(),
            ]);
        }
    }
    if rows.len() == 1 {
        output::line("no notice to people outside");
    } else {
        output::table(&rows);
    }
    Ok(Ending::Good)
}

fn text_of(text: Option<&str>, file: Option<&PathBuf>) -> Result<String, Failure> {
    let Some(path) = file else {
        return Ok(text.unwrap_or_default().to_owned());
    };
    let wrong = |reason: String| Failure::usage(format!("{}: {reason}", path.display()));
    let size = std::fs::metadata(path)
        .map_err(|e| wrong(e.to_string()))?
        .len();
    if size > MAX_TEXT {
        return Err(wrong(format!(
            "it has {size} bytes; a notice has at most {MAX_TEXT}"
        )));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))
}

async fn decide(cli: &Cli, id: &str, number: u32, deny: bool, signing: &Signing) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    let request = wire::PrepareNoticeRequest {
        incident: id.to_owned(),
        number,
    };
    let prepared = incidents.prepare_notice(request).await?.into_inner();
    if prepared.quorum.is_empty() {
        return Err(Failure::usage(format!(
            "notice {number} of {id} waits for nobody's approval"
        )));
    }
    let signed = approve::sign(cli, &prepared, deny, signing)?;
    let request = wire::DecideNoticeRequest {
        incident: id.to_owned(),
        statement: signed.text,
        signature: signed.signature,
    };
    let answer = incidents.decide_notice(request).await?.into_inner();
    if !answer.accepted {
        return Err(Failure::refused(format!(
            "the decision was refused ({}): {}",
            answer.code, answer.reason
        )));
    }
    let (person, decision) = (
        &signed.statement.approver,
        signed.statement.decision.as_str(),
    );
    if cli.json {
        output::json(&json!({
            "accepted": true, "incident": id, "number": number, "person": person, "decision": decision, "missing": answer.missing,
        }));
    } else if answer.missing.is_empty() {
        output::line(&format!(
            "recorded: {person} decides \"{decision}\"; the quorum is met"
        ));
    } else {
        output::line(&format!(
            "recorded: {person} decides \"{decision}\"; still missing: {}",
            answer.missing
        ));
    }
    Ok(Ending::Good)
}
