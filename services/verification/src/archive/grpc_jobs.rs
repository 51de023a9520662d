//! Calls about revalidations, and lists.

use std::sync::Arc;

use futures_util::stream;
use sealwarden_archive::ObjectName;
use sealwarden_wire::archive::v1::{Action, ListRequest, ListedObject, Progress, ReportPiece};
use tokio::io::AsyncReadExt as _;
use tonic::Status;

use super::grpc::Answers;
use super::open::{Archive, Wish};
use super::report;

/// Bytes of one piece of a report.
const PIECE: usize = 256 * 1024;
/// Objects that a list takes from the inventory at once.
const LISTED: usize = 512;

/// The present revalidation as it stands, or the last one as it ended.
pub(crate) fn present(archive: &Archive) -> Progress {
    let live = archive.progress.borrow().clone();
    let last = archive.state(|state| state.job.clone());
    let Some(job) = last else {
        return Progress {
            archive: archive.config.name.clone(),
            state: "none".to_owned(),
            ..Progress::default()
        };
    };
    match job.finished {
        None if live.job == job.started.job => live,
        None => Progress {
            archive: archive.config.name.clone(),
            job: job.started.job,
            state: "running".to_owned(),
            started_at_ms: job.started.started_at_ms,
            waiting: if job.started.node == archive.node.name {
                String::new()
            } else {
                format!("node {} works on it", job.started.node)
            },
            ..Progress::default()
        },
        Some(end) => Progress {
            archive: archive.config.name.clone(),
            job: end.job,
            state: end.outcome,
            phase: "report".to_owned(),
            checked: end.checked,
            total: end.checked,
            bytes: end.bytes,
            total_bytes: end.bytes,
            damaged: end.damaged,
            new_damage: end.new_damage,
            started_at_ms: job.started.started_at_ms,
            finished_at_ms: end.finished_at_ms,
            by_class: end
                .by_class
                .into_iter()
                .map(|(class, count)| (class, count.parse().unwrap_or(0)))
                .collect(),
            waiting: String::new(),
        },
    }
}

fn has_ended(progress: &Progress) -> bool {
    progress.finished_at_ms > 0 || progress.state == "none"
}

/// Progress now and after each change, until the revalidation has ended.
pub(crate) fn watch(archive: Arc<Archive>, job: String) -> Answers<Progress> {
    let changes = archive.progress.subscribe();
    let begun = (archive, changes, false, true);
    Box::pin(stream::unfold(
        begun,
        move |(archive, mut changes, ended, first)| {
            let job = job.clone();
            async move {
                if ended {
                    return None;
                }
                if !first {
                    let shutdown = archive.node.shutdown.clone();
                    tokio::select! {
                        () = shutdown.cancelled() => return Some((Err(Status::unavailable("the service is ending; the revalidation goes on when it is back")), (archive, changes, true, false))),
                        _changed = changes.changed() => {}
                    }
                }
                changes.mark_unchanged();
                let progress = present(&archive);
                // Another revalidation has begun: the one that was asked for is over.
                let ended = has_ended(&progress) || !job.is_empty() && progress.job != job;
                Some((Ok(progress), (archive, changes, ended, false)))
            }
        },
    ))
}

/// Pauses, resumes or cancels.
pub(crate) fn control(archive: &Archive, action: Action) -> Result<Progress, Status> {
    let running = archive.state(|state| state.running().cloned());
    let Some(running) = running else {
        return Err(Status::failed_precondition(format!(
            "no revalidation of {} is under way",
            archive.config.name
        )));
    };
    if running.node != archive.node.name {
        return Err(Status::failed_precondition(format!(
            "revalidation {} is the work of node {}; ask there",
            running.job, running.node
        )));
    }
    let change: fn(&mut Wish) = match action {
        Action::Pause => |wish| wish.paused = true,
        Action::Resume => |wish| wish.paused = false,
        Action::Cancel => |wish| wish.cancelled = true,
        Action::Unspecified => return Err(Status::invalid_argument("say pause, resume or cancel")),
    };
    archive.wish.send_modify(change);
    Ok(present(archive))
}

/// A report in pieces.
pub(crate) async fn report(archive: &Archive, job: &str) -> Result<Answers<ReportPiece>, Status> {
    let last = archive.state(|state| {
        state
            .job
            .as_ref()
            .map(|job| (job.started.job.clone(), job.finished.is_some()))
    });
    let job = match (job, last) {
        ("", Some((last, true))) => last,
        ("", Some((last, false))) => {
            return Err(Status::failed_precondition(format!(
                "revalidation {last} has not ended yet; name an earlier one"
            )));
        }
        ("", None) => {
            return Err(Status::failed_precondition(
                "no revalidation was ever started",
            ));
        }
        (job, _) => job.to_owned(),
    };
    // The name becomes a file's: nothing but what this archive gives its revalidations.
    let number = job
        .strip_prefix(&archive.config.name)
        .and_then(|rest| rest.strip_prefix('-'));
    if !number
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(Status::invalid_argument(format!(
            "{job:?} is no revalidation of {}; they are called {}-1, …",
            archive.config.name, archive.config.name
        )));
    }
    let path = report::path(archive, &job);
    let file = tokio::fs::File::open(&path)
        .await
        .map_err(|e| Status::not_found(format!("there is no report of {job} on this node: {e}")))?;
    Ok(Box::pin(stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let count = file
            .read(&mut piece)
            .await
            .map_err(|e| Status::data_loss(e.to_string()))?;
        piece.truncate(count);
        Ok((count > 0).then(|| {
            (
                ReportPiece {
                    piece: piece.into(),
                },
                file,
            )
        }))
    })))
}

/// The inventory by name.
pub(crate) fn list(archive: &Arc<Archive>, request: ListRequest) -> Answers<ListedObject> {
    let inventory = archive.inventory();
    let archive = Arc::clone(archive);
    let some = move |after: Option<ObjectName>| {
        let mut listed = Vec::new();
        let mut last = None;
        archive.state(|state| {
            for entry in inventory.after(after.as_ref()).take(LISTED) {
                last = Some(entry.name.clone());
                let name = entry.name.as_str();
                let quarantined = state.quarantined.contains_key(name);
                let damage: Vec<String> = state
                    .damaged
                    .get(name)
                    .into_iter()
                    .flat_map(|classes| classes.keys().cloned())
                    .collect();
                if !name.starts_with(&request.prefix)
                    || request.bad && !quarantined && damage.is_empty()
                {
                    continue;
                }
                listed.push(Ok(ListedObject {
                    object: name.to_owned(),
                    size: entry.size,
                    sha256: entry.sha256.to_vec().into(),
                    origin: entry.origin.clone(),
                    index: entry.index,
                    stored_at_ms: entry.stored_at_ms,
                    quarantined,
                    damage,
                    lost: state.lost.contains(name),
                }));
            }
        });
        (listed, last)
    };
    let groups = stream::unfold((None, some, false), |(after, some, ended)| async move {
        if ended {
            return None;
        }
        let (listed, last) = some(after);
        let ended = last.is_none();
        Some((stream::iter(listed), (last, some, ended)))
    });
    Box::pin(futures_util::StreamExt::flatten(groups))
}
