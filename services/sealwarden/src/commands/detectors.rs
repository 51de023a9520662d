//! `detectors list`: which detectors are in force, who owns them, and what they see.

use sealwarden_runbook::show_thousandths;
use sealwarden_wire::event::v1::Reading;
use sealwarden_wire::incident::v1::{DetectorView, DetectorsRequest, NearMiss};
use serde_json::{Value, json};

use super::{Answer, client};
use crate::cli::Cli;
use crate::failure::Ending;
use crate::output;

/// The detectors in force, and what they see.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Detectors {
    /// Each detector with its owner and kind, what it sees of each log, node …, and the newest near misses
    List,
}

pub(crate) async fn run(cli: &Cli, what: &Detectors) -> Answer {
    match what {
        Detectors::List => list(cli).await,
    }
}

async fn list(cli: &Cli) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    let answer = incidents.detectors(DetectorsRequest {}).await?.into_inner();
    if cli.json {
        output::json(&json!({
            "version": answer.version, "sha256": answer.sha256,
            "detectors": answer.detectors.iter().map(detector).collect::<Vec<_>>(),
            "near_misses": answer.near_misses.iter().map(near_miss).collect::<Vec<_>>(),
        }));
        return Ok(Ending::Good);
    }
    if answer.sha256.is_empty() {
        output::line("the plan has no detectors.yaml: only the built-in ones are in force");
    } else {
        let sha256: String = answer.sha256.chars().take(12).collect();
        output::line(&format!(
            "detectors.yaml version {} ({sha256}…)",
            answer.version
        ));
    }
    let head = ["detector", "kind", "class", "owner", "signals", "now"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for it in &answer.detectors {
        let owner = if it.owner.is_empty() {
            "nobody"
        } else {
            &it.owner
        };
        rows.push(vec![
            it.name.clone(),
            it.kind.clone(),
            it.class.clone(),
            owner.to_owned(),
            it.signals.to_string(),
            now(it),
        ]);
    }
    output::table(&rows);
    for miss in &answer.near_misses {
        output::line(&format!("near miss {}", near_miss_line(miss)));
    }
    Ok(Ending::Good)
}

/// What it sees, the worst first: a name and how much of its limit it reaches.
fn now(it: &DetectorView) -> String {
    let mut seen: Vec<(u32, String)> = it
        .watched
        .iter()
        .map(|watched| {
            let percent = watched.reading.as_ref().map_or(0, |it| it.percent);
            let phase = match watched.phase.as_str() {
                "quiet" => String::new(),
                phase => format!(" ({phase})"),
            };
            (percent, format!("{} {percent} %{phase}", watched.name))
        })
        .collect();
    seen.sort_by(|a, b| b.cmp(a));
    let shown: Vec<String> = seen.iter().take(3).map(|(_, text)| text.clone()).collect();
    let mut text = shown.join(", ");
    if seen.len() > 3 {
        text = format!("{text} and {} more", seen.len() - 3);
    }
    if it.unseen > 0 {
        text = format!("{text}; {} values found no room", it.unseen);
    }
    text
}

fn detector(it: &DetectorView) -> Value {
    let watched = it.watched.iter().map(|watched| {
        json!({ "name": watched.name, "phase": watched.phase, "reading": watched.reading.as_ref().map(reading) })
    });
    json!({
        "name": it.name, "kind": it.kind, "class": it.class, "owner": it.owner, "title": it.title, "signals": it.signals, "unseen": it.unseen,
        "watched": watched.collect::<Vec<_>>(),
    })
}

/// A reading as JSON; values as people write them.
pub(super) fn reading(it: &Reading) -> Value {
    json!({
        "kind": it.kind, "measure": it.measure, "name": it.name, "aggregate": it.aggregate, "value": show_thousandths(it.value_milli),
        "limit": show_thousandths(it.limit_milli), "below": it.below, "unit": it.unit, "baseline": show_thousandths(it.baseline_milli),
        "window_ms": it.window_ms, "from_ms": it.from_ms, "to_ms": it.to_ms, "samples": it.samples, "percent": it.percent,
    })
}

/// A near miss as JSON.
pub(super) fn near_miss(it: &NearMiss) -> Value {
    json!({
        "near_miss": it.near_miss, "detector": it.detector, "subject": it.subject, "seen": it.seen, "expected": it.expected,
        "percent": it.percent, "further": it.further, "at_ms": it.at_ms,
    })
}

/// A near miss in a line.
pub(super) fn near_miss_line(it: &NearMiss) -> String {
    let further = if it.further == 0 {
        String::new()
    } else {
        format!(" ({} more before it)", it.further)
    };
    format!(
        "{} {} {} % {}: {}{further}",
        it.near_miss,
        output::time(it.at_ms),
        it.percent,
        it.detector,
        it.seen
    )
}
