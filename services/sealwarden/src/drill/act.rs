//! What every drill does: a sandbox of its own around the story, and people who answer until the incident is closed.

use std::time::Duration;

use sealwarden_wire::incident::v1::Incident;
use sealwarden_wire::run::v1::Run;

use super::sandbox::{Sandbox, Scene};
use super::score::{self, Score};
use super::watch::Watch;
use super::{Narrator, people};
use crate::cli::Drill;
use crate::commands::Answer;
use crate::failure::Failure;

/// A whole drill ends within this.
const BOUND: Duration = Duration::from_mins(5);

/// Starts a sandbox, plays in it, ends it cleanly, and reports.
pub(crate) async fn perform(
    json: bool,
    args: &Drill,
    name: &str,
    scene: Scene,
    play: impl AsyncFnOnce(Narrator, &Drill, &Sandbox) -> Result<Score, Failure>,
) -> Answer {
    let narrator = Narrator { quiet: json };
    let log_filter = std::env::var("SEALWARDEN_LOG").unwrap_or_else(|_| "off".to_owned()); // the story tells what the log lines would
    let telemetry = sealwarden_telemetry::TelemetryConfig {
        service: "drill".to_owned(),
        json_logs: false,
        log_filter,
    };
    let guard =
        sealwarden_telemetry::init(&telemetry).map_err(|e| Failure::usage(e.to_string()))?;
    narrator.say(&format!("Drill {name}: the real services and the real runbook in a sandbox; people are played, signatures are not."));
    let sandbox = Sandbox::start(args.keep.as_deref(), args.nats.clone(), scene)
        .await
        .map_err(|e| Failure::unavailable(format!("the sandbox did not start: {e:#}")))?;
    let result = tokio::time::timeout(BOUND, play(narrator, args, &sandbox)).await;
    narrator.say("");
    if args.keep.is_some() {
        narrator.say(&format!(
            "the sandbox is kept in {}",
            sandbox.folder.display()
        ));
    }
    let ended = sandbox.stop().await;
    guard.shutdown();
    let score = result.map_err(|_| {
        Failure::unavailable(format!(
            "the drill did not end within {} s",
            BOUND.as_secs()
        ))
    })??;
    ended?;
    Ok(score::report(json, &score))
}

/// Waits for the incident, lets people approve what they are asked, until it is closed or stuck. At the step `cheated`, somebody signs twice; `beside` does
/// what the drill does while the run goes on, and is given the run as people find it.
pub(crate) async fn respond(
    narrator: Narrator,
    sandbox: &Sandbox,
    watch: &mut Watch,
    cheated: &str,
    mut beside: impl AsyncFnMut(&Run) -> Result<(), Failure>,
) -> Result<Incident, Failure> {
    let mut changes = sandbox.started.board.changes();
    let mut done = false;
    loop {
        changes.mark_unchanged();
        if let Some(incident) = watch.look(sandbox).await? {
            if incident.stage == "closed" {
                return Ok(incident);
            }
            if let Some(run) = incident.runs.first() {
                if !done && let Some(person) = people::approve_twice(sandbox, run, cheated).await? {
                    done = true;
                    narrator.say(&format!("  (cheating: {person} signed step {cheated} twice; the second time was refused)"));
                }
                let shown = people::look(sandbox, run).await?;
                beside(&shown).await?;
                if let Some(reason) = people::answer_all(sandbox, &shown).await? {
                    narrator.say(&format!("  the run is stuck: {reason}"));
                    return Ok(incident);
                }
            }
        }
        // The next look follows an event, never the clock.
        if changes.changed().await.is_err() {
            return Err(Failure::unavailable("the event log ended"));
        }
    }
}
