//! Revalidations: starting, watching, steering, reading what they found.

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use sealwarden_wire::archive::v1::{
    Action, ControlRequest, Progress, ReportRequest, RevalidateRequest, WatchRequest,
};
use serde_json::{Value, json};

use super::super::{Answer, client};
use super::Which;
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output;

pub(super) const PAUSE: Action = Action::Pause;
pub(super) const RESUME: Action = Action::Resume;
pub(super) const CANCEL: Action = Action::Cancel;

pub(super) async fn revalidate(cli: &Cli, archive: &str, no_wait: bool) -> Answer {
    let mut archives = client(cli)?.archives().await?;
    let request = RevalidateRequest {
        archive: archive.to_owned(),
    };
    let begun = archives.revalidate(request).await?.into_inner();
    if !cli.json && begun.running {
        output::complain(&format!("revalidation {} is under way already", begun.job));
    }
    if no_wait {
        if cli.json {
            output::json(
                &json!({ "archive": begun.archive, "job": begun.job, "was_running": begun.running }),
            );
        } else if !begun.running {
            output::line(&format!(
                "revalidation {} began; `sealwarden archive status` shows how it goes",
                begun.job
            ));
        }
        return Ok(Ending::Good);
    }
    let request = WatchRequest {
        archive: begun.archive.clone(),
        job: begun.job.clone(),
    };
    let mut progress = archives.watch(request).await?.into_inner();
    let bar = bar(cli);
    let mut last = None;
    while let Some(now) = progress.message().await? {
        bar.set_length(now.total_bytes.max(1));
        bar.set_position(now.bytes);
        let waiting = if now.waiting.is_empty() {
            String::new()
        } else {
            format!(", waiting: {}", now.waiting)
        };
        bar.set_message(format!(
            "{} of {} objects, {} damaged{waiting}",
            now.checked, now.total, now.damaged
        ));
        last = Some(now);
    }
    bar.finish_and_clear();
    let last =
        last.ok_or_else(|| Failure::unavailable("the service said nothing of the revalidation"))?;
    if last.job != begun.job {
        return Err(Failure::unavailable(format!(
            "{} ended and {} began meanwhile; see `sealwarden archive report {}`",
            begun.job, last.job, begun.job
        )));
    }
    if cli.json {
        output::json(&describe(&last));
    } else {
        output::line(&words(&last));
        if last.damaged > 0 {
            output::line("the whole report: sealwarden archive report");
        }
    }
    let good = last.state == "completed" && last.damaged == 0;
    Ok(if good { Ending::Good } else { Ending::Negative })
}

fn bar(cli: &Cli) -> ProgressBar {
    if cli.json || !output::watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
    {
        bar.set_style(style);
    }
    bar
}

pub(super) async fn control(cli: &Cli, which: &Which, action: Action) -> Answer {
    let request = ControlRequest {
        archive: which.archive.clone(),
        action: action.into(),
    };
    let now = client(cli)?
        .archives()
        .await?
        .control(request)
        .await?
        .into_inner();
    if cli.json {
        output::json(&describe(&now));
    } else {
        let word = match action {
            Action::Pause => "pauses after what it reads now",
            Action::Resume => "goes on",
            Action::Cancel => "ends; its report follows",
            Action::Unspecified => "is as it was",
        };
        output::line(&format!("revalidation {} {word}", now.job));
    }
    Ok(Ending::Good)
}

pub(super) async fn report(cli: &Cli, job: &str, which: &Which) -> Answer {
    // The job's name says the archive's.
    let archive = match job.rsplit_once('-') {
        Some((archive, _)) if which.archive.is_empty() => archive.to_owned(),
        _ => which.archive.clone(),
    };
    let request = ReportRequest {
        archive,
        job: job.to_owned(),
    };
    let mut pieces = client(cli)?
        .archives()
        .await?
        .report(request)
        .await?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        bytes.extend_from_slice(&piece.piece);
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| Failure::unavailable(format!("the report is not text: {e}")))?;
    output::line(text.trim_end());
    Ok(Ending::Good)
}

/// A revalidation as JSON.
pub(super) fn describe(p: &Progress) -> Value {
    json!({
        "archive": p.archive, "job": p.job, "state": p.state, "phase": p.phase, "checked": p.checked, "total": p.total, "bytes": p.bytes,
        "total_bytes": p.total_bytes, "damaged": p.damaged, "new_damage": p.new_damage, "by_class": p.by_class, "started_at_ms": p.started_at_ms,
        "finished_at_ms": (p.finished_at_ms > 0).then_some(p.finished_at_ms), "waiting": (!p.waiting.is_empty()).then_some(&p.waiting),
    })
}

/// A revalidation in a line.
pub(super) fn words(p: &Progress) -> String {
    if p.state == "none" {
        return "never".to_owned();
    }
    let classes: Vec<String> = p
        .by_class
        .iter()
        .map(|(class, count)| format!("{count} {class}"))
        .collect();
    let damage = if classes.is_empty() {
        "nothing is damaged".to_owned()
    } else {
        format!(
            "{} damaged ({}), {} of it new",
            p.damaged,
            classes.join(", "),
            p.new_damage
        )
    };
    let read = format!("{} objects, {}", p.checked, HumanBytes(p.bytes));
    if p.finished_at_ms > 0 {
        return format!(
            "{} {} at {}: {read}; {damage}",
            p.job,
            p.state,
            output::time(p.finished_at_ms)
        );
    }
    let waiting = if p.waiting.is_empty() {
        String::new()
    } else {
        format!("; it waits: {}", p.waiting)
    };
    format!(
        "{} is {} ({}): {} of {} objects, {}; {damage}{waiting}",
        p.job,
        p.state,
        p.phase,
        p.checked,
        p.total,
        HumanBytes(p.bytes)
    )
}
