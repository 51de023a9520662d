//! `signal`: a person or a script reports that something is wrong; `signal explain`: why there is one; `signal release`: something was released.

use std::path::PathBuf;

use sealwarden_wire::incident::v1::{
    ExplainRequest, Explanation, MarkReleaseRequest, ReportRequest,
};
use serde_json::{Value, json};

use super::detectors::{near_miss, near_miss_line, reading};
use super::{Answer, client, time_argument};
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output;

/// Report that something is wrong; why there is a signal; that something was released.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Signal {
    #[command(subcommand)]
    what: Option<What>,
    /// Class of incident it belongs to
    #[arg(long, default_value = "key-compromise")]
    class: String,
    /// Origin concerned (default: the present one of the installation's only log)
    #[arg(long)]
    origin: Option<String>,
    /// What was seen
    #[arg(long, required = true)]
    seen: Option<String>,
    /// What was expected instead
    #[arg(long, default_value = "")]
    expected: String,
    /// A signed checkpoint found somewhere: evidence that is checked, and may prove the signal
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Earliest time of what was seen (RFC 3339; default: now)
    #[arg(long, value_name = "TIME")]
    earliest: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Why there is a signal (S-…), or a near miss (N-…): what was seen, what was expected, over which time, which events
    Explain {
        /// Its id
        id: String,
    },
    /// Say that something was released: error rates after it are compared with those before
    Release {
        /// What was released
        component: String,
        /// In which version
        #[arg(id = "release_version", value_name = "VERSION")]
        version: String,
        /// Anything that helps whoever reads it at night
        #[arg(long, default_value = "")]
        note: String,
        /// The release's own id: the same twice is one (default: component and version)
        #[arg(long)]
        id: Option<String>,
    },
}

/// Largest checkpoint file that is sent, bytes.
const MAX_CHECKPOINT: u64 = 64 * 1024;

pub(crate) async fn run(cli: &Cli, args: &Signal) -> Answer {
    match &args.what {
        None => report(cli, args).await,
        Some(What::Explain { id }) => explain(cli, id).await,
        Some(What::Release {
            component,
            version,
            note,
            id,
        }) => {
            let asked = MarkReleaseRequest {
                component: component.clone(),
                version: version.clone(),
                note: note.clone(),
                release: id
                    .clone()
                    .unwrap_or_else(|| format!("{component} {version}")),
            };
            let mut incidents = client(cli)?.incidents().await?;
            let marked = incidents.mark_release(asked).await?.into_inner().marked;
            if cli.json {
                output::json(
                    &json!({ "component": component, "version": version, "marked": marked }),
                );
            } else if marked {
                output::line(&format!("{component} {version} is marked as released"));
            } else {
                output::line(&format!("{component} {version} was marked before"));
            }
            Ok(Ending::Good)
        }
    }
}

async fn explain(cli: &Cli, id: &str) -> Answer {
    let asked = ExplainRequest { id: id.to_owned() };
    let mut incidents = client(cli)?.incidents().await?;
    let it = incidents.explain(asked).await?.into_inner();
    if cli.json {
        output::json(&document(&it));
        return Ok(Ending::Good);
    }
    let what = match (it.concluded, it.proven) {
        (true, true) => "a signal that proves itself",
        (true, false) => "a signal that proves nothing by itself",
        (false, _) => "a near miss: it did not conclude",
    };
    output::line(&format!("{} of detector {}: {what}", it.id, it.detector));
    if !it.title.is_empty() {
        output::line(&format!("  {} (owner: {})", it.title, it.owner));
    }
    output::line(&format!("  about     {}", it.subject));
    output::line(&format!("  seen      {}", it.seen));
    output::line(&format!("  expected  {}", it.expected));
    if let Some(it) = &it.reading {
        let from = output::time(it.from_ms);
        let (to, percent) = (output::time(it.to_ms), it.percent);
        output::line(&format!(
            "  window    {from} to {to}: {} values, {percent} % of the limit",
            it.samples
        ));
    }
    if !it.incident.is_empty() {
        output::line(&format!("  incident  {}", it.incident));
    }
    output::line(&format!(
        "  recorded  {}, position {}",
        output::time(it.recorded_at_ms),
        it.position
    ));
    for event in &it.events {
        output::line(&format!(
            "  event     {} {} {}: {}",
            event.position,
            output::time(event.at_ms),
            event.stream,
            event.text
        ));
    }
    for miss in &it.near_misses {
        output::line(&format!("  near      {}", near_miss_line(miss)));
    }
    Ok(Ending::Good)
}

fn document(it: &Explanation) -> Value {
    let events = it.events.iter().map(|event| {
        json!({ "position": event.position, "stream": event.stream, "at_ms": event.at_ms, "text": event.text })
    });
    json!({
        "id": it.id, "concluded": it.concluded, "proven": it.proven, "detector": it.detector, "title": it.title, "owner": it.owner,
        "class": it.class, "subject": it.subject, "seen": it.seen, "expected": it.expected, "incident": it.incident,
        "recorded_at_ms": it.recorded_at_ms, "position": it.position,
        "reading": it.reading.as_ref().map(reading),
        "events": events.collect::<Vec<_>>(),
        "near_misses": it.near_misses.iter().map(near_miss).collect::<Vec<_>>(),
    })
}

async fn report(cli: &Cli, args: &Signal) -> Answer {
    let client = client(cli)?;
    let checkpoint = match &args.checkpoint {
        Some(path) => {
            let size = path
                .metadata()
                .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?
                .len();
            if size > MAX_CHECKPOINT {
                return Err(Failure::usage(format!(
                    "{} has {size} bytes; a checkpoint has at most {MAX_CHECKPOINT}",
                    path.display()
                )));
            }
            std::fs::read(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?
        }
        None => Vec::new(),
    };
    let request = ReportRequest {
        class: args.class.clone(),
        log: String::new(),
        origin: args.origin.clone().unwrap_or_default(),
        seen: args.seen.clone().unwrap_or_default(),
        expected: args.expected.clone(),
        earliest_at_ms: match &args.earliest {
            Some(text) => time_argument("earliest", text)?,
            None => jiff::Timestamp::now().as_millisecond(),
        },
        checkpoint: checkpoint.into(),
        request_id: uuid::Uuid::new_v4().to_string(),
        key: String::new(),
    };
    let answer = client
        .incidents()
        .await?
        .report(request)
        .await?
        .into_inner();
    if cli.json {
        output::json(
            &json!({ "signal": answer.signal, "incident": answer.incident, "proven": answer.proven }),
        );
    } else {
        let word = if answer.proven {
            "it proves itself: signing is held"
        } else {
            "it does not prove itself: a person classifies the incident"
        };
        output::line(&format!(
            "signal {} belongs to incident {}; {word}",
            answer.signal, answer.incident
        ));
        output::line(&format!(
            "next: sealwarden incident show {}",
            answer.incident
        ));
    }
    Ok(Ending::Good)
}
