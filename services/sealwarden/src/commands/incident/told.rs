//! `incident notices | brief | ack | tell`: what is told to whom.

use sealwarden_wire::incident::v1 as wire;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::commands::{Answer, client};
use crate::failure::{Ending, Failure};
use crate::output::{self, time};

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Readers {
    /// People who work on it
    Engineers,
    /// People who answer for it
    Executives,
}

impl Readers {
    fn word(self) -> &'static str {
        match self {
            Self::Engineers => "engineers",
            Self::Executives => "executives",
        }
    }
}

/// The words behind `incident` that are about telling people.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Told {
    /// What was told to whom, and whether it arrived
    ///
    /// Deliveries are repeated until the other side has said that it has them, so a message may arrive twice; its key is the same. What is "given up" or
    /// "refused" reached nobody on that channel: call them. Channels without an address in settings.yaml (detection: channels:) are not listed.
    Notices {
        /// The incident
        id: String,
        /// Only this notice, with its whole text
        #[arg(long, value_name = "N")]
        number: Option<u32>,
    },
    /// Where the incident stands now, as it would be told: to engineers with what to do, to executives in plain words
    Brief {
        /// The incident
        id: String,
        /// Who reads it
        #[arg(long = "for", value_enum, default_value = "engineers")]
        readers: Readers,
    },
    /// Say that you take care of the incident: nobody else is asked any more
    Ack {
        /// The incident
        id: String,
        /// What the others should know
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Tell the others where things stand, on the plan's channels; reminders start anew
    Tell {
        /// The incident
        id: String,
        /// What to tell
        text: String,
        /// Only these readers (default: engineers and executives)
        #[arg(long = "for", value_enum)]
        readers: Vec<Readers>,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Told) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    let told = match what {
        Told::Brief { id, readers } => {
            let request = wire::BriefRequest {
                incident: id.clone(),
                audience: readers.word().to_owned(),
            };
            let brief = incidents.brief(request).await?.into_inner();
            show_brief(cli, &brief);
            return Ok(Ending::Good);
        }
        Told::Notices { id, number } => {
            let request = wire::NoticesRequest {
                incident: id.clone(),
            };
            let told = incidents.notices(request).await?.into_inner();
            if let Some(number) = number {
                return one(cli, &told, *number);
            }
            told
        }
        Told::Ack { id, note } => {
            let request = wire::AcknowledgeRequest {
                incident: id.clone(),
                note: note.clone(),
            };
            incidents.acknowledge(request).await?.into_inner()
        }
        Told::Tell { id, text, readers } => {
            let request = wire::TellRequest {
                incident: id.clone(),
                audiences: readers.iter().map(|it| it.word().to_owned()).collect(),
                text: text.clone(),
                request_id: uuid::Uuid::now_v7().to_string(),
                title: String::new(),
                language: String::new(),
            };
            incidents.tell(request).await?.into_inner()
        }
    };
    if cli.json {
        output::json(&document(&told));
    } else {
        show(&told);
    }
    Ok(Ending::Good)
}

fn show_brief(cli: &Cli, brief: &wire::BriefResponse) {
    if cli.json {
        output::json(&json!({
            "incident": brief.incident, "for": brief.audience, "title": brief.title, "text": brief.text,
        }));
    } else {
        output::line(&brief.title);
        output::line(brief.text.trim_end());
    }
}

/// One notice with its text. One that reached nobody is a negative answer.
pub(crate) fn one(cli: &Cli, told: &wire::NoticesResponse, number: u32) -> Answer {
    let found = told.notices.iter().find(|notice| notice.number == number);
    let Some(notice) = found else {
        return Err(Failure::usage(format!(
            "incident {} has no notice {number}; it has {}",
            told.incident,
            told.notices.len()
        )));
    };
    if cli.json {
        output::json(&notice_document(notice));
    } else {
        output::line(&format!("notice {number}: {}", notice.standing));
        for (words, who) in [
            (
                "the template was signed beforehand by",
                &notice.signed_beforehand,
            ),
            ("approved by", &notice.approved_by),
            ("waits for", &notice.awaits),
        ] {
            if !who.is_empty() {
                output::line(&format!("  {words} {}", who.join(", ")));
            }
        }
        for delivery in &notice.deliveries {
            output::line(&format!("  {}", in_words(delivery)));
        }
        output::line("");
        output::line(&notice.title);
        output::line(notice.text.trim_end());
    }
    let reached = !matches!(notice.standing.as_str(), "not delivered" | "denied");
    Ok(if reached {
        Ending::Good
    } else {
        Ending::Negative
    })
}

pub(crate) fn show(told: &wire::NoticesResponse) {
    if told.acknowledged_by.is_empty() {
        output::line(&format!(
            "nobody has acknowledged it: sealwarden incident ack {}",
            told.incident
        ));
    } else {
        output::line(&format!(
            "{} takes care of it since {} UTC",
            told.acknowledged_by,
            time(told.acknowledged_at_ms)
        ));
    }
    if told.notices.is_empty() {
        output::line("nothing was told");
        return;
    }
    let head = ["N", "FOR", "PREPARED (UTC)", "STANDING", "SAYS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for notice in &told.notices {
        rows.push(vec![
            notice.number.to_string(),
            if notice.addressee.is_empty() {
                notice.audience.clone()
            } else {
                notice.addressee.clone()
            },
            time(notice.prepared_at_ms),
            notice.standing.clone(),
            notice.text.lines().next().unwrap_or_default().to_owned(),
        ]);
    }
    output::table(&rows);
    for notice in &told.notices {
        for delivery in &notice.deliveries {
            output::line(&format!("{}: {}", notice.number, in_words(delivery)));
        }
    }
}

fn in_words(delivery: &wire::Delivery) -> String {
    let mut words = format!(
        "{}: {} after {} attempts",
        delivery.channel, delivery.standing, delivery.attempts
    );
    if !delivery.reason.is_empty() {
        words = format!("{words}; {}", delivery.reason);
    }
    if delivery.again_at_ms != 0 {
        words = format!("{words}; again at {} UTC", time(delivery.again_at_ms));
    }
    words
}

pub(crate) fn document(told: &wire::NoticesResponse) -> Value {
    json!({
        "incident": told.incident,
        "acknowledged_by": told.acknowledged_by,
        "acknowledged_at_ms": told.acknowledged_at_ms,
        "notices": told.notices.iter().map(notice_document).collect::<Vec<_>>(),
    })
}

fn notice_document(n: &wire::Notice) -> Value {
    let deliveries = n.deliveries.iter().map(|d| {
        json!({
            "channel": d.channel, "attempts": d.attempts, "standing": d.standing, "reason": d.reason, "at_ms": d.at_ms,
            "again_at_ms": d.again_at_ms, "key": d.key,
        })
    });
    json!({
        "number": n.number, "for": n.audience, "addressee": n.addressee, "title": n.title, "text": n.text, "language": n.language,
        "prepared_at_ms": n.prepared_at_ms, "standing": n.standing, "by": n.by, "template": n.template,
        "template_sha256": n.template_sha256, "signed_beforehand": n.signed_beforehand, "awaits": n.awaits, "approved_by": n.approved_by, "digest": n.digest,
        "deliveries": deliveries.collect::<Vec<_>>(),
    })
}
