//! `plan backtest`: what a changed `detectors.yaml` would have said about what is recorded.

use std::path::PathBuf;

use sealwarden_runbook::Detectors;
use sealwarden_wire::incident::v1::{BacktestRequest, BacktestSignal};
use serde_json::{Value, json};

use super::plan::folder;
use super::{Answer, client, time_argument};
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output;

const FILE: &str = "detectors.yaml";

pub(crate) async fn run(cli: &Cli, plan: Option<PathBuf>, since: Option<&str>) -> Answer {
    let since_ms = match since {
        Some(text) => time_argument("since", text)?,
        None => 0,
    };
    let path = folder(cli, plan, "plan backtest --plan DIR")?.join(FILE);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    Detectors::parse(FILE, &text).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let asked = BacktestRequest {
        detectors: text,
        since_ms,
    };
    let mut incidents = client(cli)?.incidents().await?;
    let answer = incidents.backtest(asked).await?.into_inner();
    let count = |standing: &str| {
        let of = answer.signals.iter().filter(|it| it.standing == standing);
        of.count()
    };
    let (both, would, did) = (count("both"), count("would"), count("did"));
    if cli.json {
        output::json(&json!({
            "detectors": path.display().to_string(), "events": answer.events, "both": both, "would": would, "did": did,
            "further": answer.further, "near_misses": answer.near_misses,
            "signals": answer.signals.iter().map(document).collect::<Vec<_>>(),
        }));
        return Ok(Ending::Good);
    }
    for it in &answer.signals {
        let sign = match it.standing.as_str() {
            "would" => '+',
            "did" => '-',
            _ => '=',
        };
        output::line(&format!(
            "{sign} {} {} about {}: {}",
            output::time(it.at_ms),
            it.detector,
            it.subject,
            it.seen
        ));
    }
    output::line(&format!(
        "{} events: {both} signals as before (=), {would} new (+), {did} not any more (-); {} near misses",
        answer.events, answer.near_misses
    ));
    if answer.further > 0 {
        output::line(&format!("{} further signals are not shown", answer.further));
    }
    Ok(Ending::Good)
}

fn document(it: &BacktestSignal) -> Value {
    json!({
        "standing": it.standing, "signal": it.signal, "detector": it.detector, "class": it.class, "subject": it.subject, "seen": it.seen,
        "expected": it.expected, "at_ms": it.at_ms,
    })
}
