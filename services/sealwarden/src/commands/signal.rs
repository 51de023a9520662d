//! `signal`: a person or a script reports that something is wrong.

use sealwarden_wire::incident::v1::ReportRequest;
use serde_json::json;

use super::{Answer, client, time_argument};
use crate::cli::{Cli, Signal};
use crate::failure::{Ending, Failure};
use crate::output;

/// Largest checkpoint file that is sent, bytes.
const MAX_CHECKPOINT: u64 = 64 * 1024;

pub(crate) async fn run(cli: &Cli, args: &Signal) -> Answer {
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
        seen: args.seen.clone(),
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
