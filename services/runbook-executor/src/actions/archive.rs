//! Answering damage in an archive: quarantine, restoring, looking at all of it again. The verification service does the work, and releases nothing that it did not
//! verify against its leaf.

use std::sync::{Mutex, PoisonError};

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_engine::Role;
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::archive::v1::archives_client::ArchivesClient;
use sealwarden_wire::archive::v1::{
    ListRequest, ListedObject, Progress as Revalidation, QuarantineRequest, RestoreRequest,
    RevalidateRequest, StatusRequest, WatchRequest,
};
use sealwarden_wire::event::v1::IncidentStage;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::attempt::{Attempt, Outputs, Progress, Trouble};
use super::peer::{CallError, channel, until_answered};
use crate::executor::Executor;

/// Who is waited for.
const SERVICE: &str = "the verification service";

/// Objects that are restored in one call.
const AT_ONCE: usize = 500;
/// Objects that a failure names.
const NAMED: usize = 5;

type Client = ArchivesClient<InterceptedService<Channel, TraceContext>>;

fn client(executor: &Executor) -> Result<Client, CallError> {
    let channel = channel(executor, Role::Verification)?;
    Ok(ArchivesClient::with_interceptor(channel, TraceContext))
}

/// What restoring came to, over all calls of this attempt.
#[derive(Clone, Copy, Debug, Default)]
struct Restored {
    restored: u64,
    lost: u64,
}

/// Quarantines everything that is damaged, once the extent is known.
pub(super) async fn quarantine(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let archive = attempt.input("archive")?;
    until_answered(progress, SERVICE, || idle(executor, archive, progress)).await?;
    let reason = format!("damage that incident {} is about", attempt.incident);
    let quarantined = until_answered(progress, SERVICE, || {
        let request = QuarantineRequest {
            archive: archive.to_owned(),
            reason: reason.clone(),
            all: true,
            ..QuarantineRequest::default()
        };
        async { Ok(client(executor)?.quarantine(request).await?.into_inner()) }
    })
    .await?
    .quarantined;
    let words = format!("{quarantined} objects of archive {archive} are in quarantine");
    reach(executor, attempt, IncidentStage::Contained, words).await?;
    Ok(Outputs::from([(
        "quarantined".to_owned(),
        quarantined.to_string(),
    )]))
}

/// Restores everything that is quarantined or damaged. What has no original stays in quarantine and is counted.
pub(super) async fn restore(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let archive = attempt.input("archive")?;
    let words = format!("restoring archive {archive}");
    reach(executor, attempt, IncidentStage::Recovering, words).await?;
    // What a call restored before it broke off is not among what the next one finds.
    let done = Mutex::new(0_u64);
    let end = until_answered(progress, SERVICE, || {
        restore_all(executor, archive, progress, &done)
    })
    .await?;
    Ok(Outputs::from([
        ("restored".to_owned(), end.restored.to_string()),
        ("lost".to_owned(), end.lost.to_string()),
    ]))
}

async fn restore_all(
    executor: &Executor,
    archive: &str,
    progress: &Progress,
    done: &Mutex<u64>,
) -> Result<Restored, CallError> {
    let add = |count: u64| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += count;
        *done
    };
    let damaged = damaged(executor, archive).await?;
    let mut lost = 0;
    for some in damaged.chunks(AT_ONCE) {
        let request = RestoreRequest {
            archive: archive.to_owned(),
            objects: some.iter().map(|one| one.object.clone()).collect(),
            ..RestoreRequest::default()
        };
        let mut answers = client(executor)?.restore(request).await?.into_inner();
        while let Some(one) = answers.message().await? {
            let whole = matches!(one.outcome.as_str(), "restored" | "released");
            let restored = add(u64::from(whole));
            lost += u64::from(!whole);
            let text = format!("{restored} objects restored, {lost} without an original");
            // Every hundredth: each report is an event.
            let kept = vec![(restored / 100).to_string(), (lost / 100).to_string()];
            progress.say(text, Vec::new(), kept).await;
        }
    }
    let restored = add(0);
    Ok(Restored { restored, lost })
}

/// What is damaged. What a person put into quarantine and is whole is none of it.
async fn damaged(executor: &Executor, archive: &str) -> Result<Vec<ListedObject>, CallError> {
    let request = ListRequest {
        archive: archive.to_owned(),
        bad: true,
        ..ListRequest::default()
    };
    let mut answers = client(executor)?.list(request).await?.into_inner();
    let mut damaged = Vec::new();
    while let Some(one) = answers.message().await? {
        if !one.damage.is_empty() {
            damaged.push(one);
        }
    }
    Ok(damaged)
}

/// Looks at the whole archive in a revalidation that began after this step did. Whatever is damaged fails the step, unless restoring found that it is lost; so does what
/// nobody stored. That it was found before is no excuse: another try must not pass over what the first one found.
pub(super) async fn revalidate(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let archive = attempt.input("archive")?;
    until_answered(progress, SERVICE, || idle(executor, archive, progress)).await?;
    let end = until_answered(progress, SERVICE, || look(executor, archive, progress)).await?;
    let bad = until_answered(progress, SERVICE, || damaged(executor, archive)).await?;
    let names: Vec<&str> = bad
        .iter()
        .filter(|one| !one.lost)
        .map(|one| one.object.as_str())
        .collect();
    let beside = |class: &str| end.by_class.get(class).copied().unwrap_or(0);
    let strange = beside("unexpected") + beside("inventory-damaged");
    if end.state != "completed" || !names.is_empty() || strange > 0 {
        let named: Vec<&str> = names.iter().take(NAMED).copied().collect();
        return Err(Trouble::damaged(format!(
            "revalidation {} {}: {} objects are damaged and were not given up as lost ({}), {strange} others were changed or put there; see `sealwarden archive report {}`, restore, and try again",
            end.job,
            end.state,
            names.len(),
            named.join(", "),
            end.job
        )));
    }
    let words = format!(
        "revalidation {} looked at {} objects of archive {archive} and found nothing that was not known to be lost",
        end.job, end.checked
    );
    reach(executor, attempt, IncidentStage::Revalidated, words).await?;
    Ok(Outputs::from([
        ("job".to_owned(), end.job),
        ("checked".to_owned(), end.checked.to_string()),
        ("damaged".to_owned(), end.damaged.to_string()),
    ]))
}

/// Starts a revalidation and waits for its end.
async fn look(
    executor: &Executor,
    archive: &str,
    progress: &Progress,
) -> Result<Revalidation, CallError> {
    let request = RevalidateRequest {
        archive: archive.to_owned(),
    };
    let begun = client(executor)?.revalidate(request).await?.into_inner();
    let end = watch(executor, archive, &begun.job, progress).await?;
    // The call was cut off, or another one has begun since: this one's end is not known.
    if end.job != begun.job || end.finished_at_ms == 0 {
        return Err(CallError::Away(format!(
            "revalidation {} was lost sight of",
            begun.job
        )));
    }
    Ok(end)
}

/// Waits until no revalidation is under way.
async fn idle(executor: &Executor, archive: &str, progress: &Progress) -> Result<(), CallError> {
    let request = StatusRequest {
        archive: archive.to_owned(),
    };
    let status = client(executor)?.status(request).await?.into_inner();
    let Some(status) = status.archives.into_iter().next() else {
        return Err(CallError::Away(format!(
            "it does not know archive {archive}"
        )));
    };
    if !status.problem.is_empty() {
        return Err(CallError::Away(status.problem));
    }
    let job = status.job.unwrap_or_default();
    if matches!(job.state.as_str(), "running" | "paused") {
        watch(executor, archive, &job.job, progress).await?;
    }
    Ok(())
}

async fn watch(
    executor: &Executor,
    archive: &str,
    job: &str,
    progress: &Progress,
) -> Result<Revalidation, CallError> {
    let request = WatchRequest {
        archive: archive.to_owned(),
        job: job.to_owned(),
    };
    let mut answers = client(executor)?.watch(request).await?.into_inner();
    let mut last = None;
    while let Some(now) = answers.message().await? {
        let waiting = if now.state == "paused" {
            "it is paused; `sealwarden archive resume` lets it go on".to_owned()
        } else {
            now.waiting.clone()
        };
        let missing: Vec<String> = Some(waiting)
            .filter(|it| !it.is_empty())
            .into_iter()
            .collect();
        let text = format!(
            "revalidation {job} is {}: {} of {} objects, {} damaged",
            now.state, now.checked, now.total, now.damaged
        );
        // Tenths: each report is an event.
        let tenth = now
            .checked
            .saturating_mul(10)
            .checked_div(now.total)
            .unwrap_or(0);
        let kept = vec![job.to_owned(), tenth.to_string(), missing.concat()];
        progress.say(text, missing, kept).await;
        last = Some(now);
    }
    last.ok_or_else(|| CallError::from(Status::unavailable("it said nothing of the revalidation")))
}

async fn reach(
    executor: &Executor,
    attempt: &Attempt,
    stage: IncidentStage,
    reason: String,
) -> Result<(), Trouble> {
    let reached = IncidentCommand::Reach { stage, reason };
    executor.incident(&attempt.incident, reached).await?;
    Ok(())
}
