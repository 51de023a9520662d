//! The `Archives` service.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use sealwarden_archive::{DamageClass, ObjectName};
use sealwarden_pki::{Caller, CallerRole, caller_of, require};
use sealwarden_wire::archive::v1::archives_server::Archives;
use sealwarden_wire::archive::v1::{
    ArchiveStatus, ControlRequest, ListRequest, ListedObject, ObjectDamage, Progress,
    QuarantineRequest, QuarantineResponse, ReportPiece, ReportRequest, RestoreRequest,
    RestoredObject, RevalidateRequest, RevalidateResponse, StatusRequest, StatusResponse,
    StoreRequest, StoreResponse, VerifyObjectRequest, VerifyObjectResponse, WatchRequest,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::grpc_jobs;
use super::open::Archive;
use super::slots::Slots;
use super::{examine, quarantine, restore, storing, task};

/// How many documents are received at once; more wait for nothing and are told so.
const STORING: usize = 32;
/// Longest reason of a quarantine, bytes.
const MAX_REASON: usize = 256;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct ArchivesService {
    slots: Arc<Slots>,
    storing: Semaphore,
}

impl ArchivesService {
    pub(crate) fn new(slots: Arc<Slots>) -> Self {
        Self {
            slots,
            storing: Semaphore::new(STORING),
        }
    }
}

fn admit<T>(request: &Request<T>, roles: &[CallerRole]) -> Result<Caller, Status> {
    let caller = caller_of(request)?;
    require(&caller, roles)?;
    Ok(caller)
}

/// Who may quarantine, restore and revalidate: people, and the executor in a run that people approved. None of it can harm a whole document.
pub(crate) const RESPONDERS: [CallerRole; 2] = [CallerRole::Operator, CallerRole::Node];

/// How people are told from revalidations and nodes.
const PERSON: &str = "person ";

/// A caller as events name it.
pub(crate) fn who(caller: &Caller) -> String {
    match caller.role {
        CallerRole::Node => format!("node {}", caller.name),
        CallerRole::Operator | CallerRole::Sealer | CallerRole::Verifier | CallerRole::Detector => {
            format!("{PERSON}{}", caller.name)
        }
    }
}

fn named(object: &str) -> Result<ObjectName, Status> {
    ObjectName::new(object).map_err(|e| Status::invalid_argument(e.to_string()))
}

fn unlisted(archive: &Archive, name: &ObjectName) -> Status {
    Status::not_found(format!(
        "archive {} lists no {name}; `sealwarden archive list` shows what it lists",
        archive.config.name
    ))
}

#[tonic::async_trait]
impl Archives for ArchivesService {
    async fn store(
        &self,
        request: Request<Streaming<StoreRequest>>,
    ) -> Result<Response<StoreResponse>, Status> {
        admit(&request, &[CallerRole::Sealer, CallerRole::Operator])?;
        let _place = self.storing.try_acquire().map_err(|_| {
            Status::resource_exhausted(format!(
                "{STORING} documents are being stored at once; try again"
            ))
        })?;
        let mut pieces = request.into_inner();
        let first = pieces.message().await?;
        let header = first
            .and_then(|message| message.header)
            .ok_or_else(|| Status::invalid_argument("the first message has no header"))?;
        let archive = self.slots.get(&header.archive)?;
        storing::store(&archive, header, pieces)
            .await
            .map(Response::new)
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        caller_of(&request)?;
        let wanted = &request.get_ref().archive;
        if !wanted.is_empty() && !self.slots.all().any(|(config, _)| config.name == *wanted) {
            self.slots.get(wanted)?;
        }
        let archives = self
            .slots
            .all()
            .filter(|(config, _)| wanted.is_empty() || config.name == *wanted)
            .map(|(config, opened)| match opened {
                Ok(archive) => status(&archive),
                Err(problem) => ArchiveStatus {
                    archive: config.name.clone(),
                    place: config.url.clone(),
                    backup: config.backup.clone(),
                    problem,
                    ..ArchiveStatus::default()
                },
            });
        Ok(Response::new(StatusResponse {
            archives: archives.collect(),
        }))
    }

    type ListStream = Answers<ListedObject>;

    async fn list(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        caller_of(&request)?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        Ok(Response::new(grpc_jobs::list(&archive, request)))
    }

    async fn verify(
        &self,
        request: Request<VerifyObjectRequest>,
    ) -> Result<Response<VerifyObjectResponse>, Status> {
        caller_of(&request)?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        let name = named(&request.object)?;
        let quarantined = quarantine::reason(&archive, &name)
            .await
            .map_err(|e| storing::failed(&e))?;
        let looked = examine::one(&archive, &name).await;
        let looked = looked.map_err(|e| Status::unavailable(e.to_string()))?;
        let looked = looked.ok_or_else(|| unlisted(&archive, &name))?;
        Ok(Response::new(answer(&looked, quarantined.as_ref())))
    }

    async fn revalidate(
        &self,
        request: Request<RevalidateRequest>,
    ) -> Result<Response<RevalidateResponse>, Status> {
        let caller = admit(&request, &RESPONDERS)?;
        let archive = self.slots.get(&request.get_ref().archive)?;
        let was_running = archive.state(|state| state.running().is_some());
        if !was_running {
            let begun = task::begin(&archive, &who(&caller)).await;
            // Somebody else may have been first: then that one is under way.
            if let Err(error) = begun
                && archive.state(|state| state.running().is_none())
            {
                return Err(Status::unavailable(error.to_string()));
            }
        }
        let job = archive.state(|state| state.job.as_ref().map(|job| job.started.job.clone()));
        Ok(Response::new(RevalidateResponse {
            archive: archive.config.name.clone(),
            job: job.unwrap_or_default(),
            running: was_running,
        }))
    }

    type WatchStream = Answers<Progress>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        caller_of(&request)?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        Ok(Response::new(grpc_jobs::watch(archive, request.job)))
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<Progress>, Status> {
        admit(&request, &[CallerRole::Operator])?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        grpc_jobs::control(&archive, request.action()).map(Response::new)
    }

    type ReportStream = Answers<ReportPiece>;

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        caller_of(&request)?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        grpc_jobs::report(&archive, &request.job)
            .await
            .map(Response::new)
    }

    async fn quarantine(
        &self,
        request: Request<QuarantineRequest>,
    ) -> Result<Response<QuarantineResponse>, Status> {
        let caller = admit(&request, &RESPONDERS)?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        if request.reason.is_empty() || request.reason.len() > MAX_REASON {
            let text = format!(
                "reason has {} bytes; say why in 1 to {MAX_REASON}",
                request.reason.len()
            );
            return Err(Status::invalid_argument(text));
        }
        let names = if request.all {
            damaged_objects(&archive)
        } else {
            let name = named(&request.object)?;
            if archive.inventory().get(&name).is_none() {
                return Err(unlisted(&archive, &name));
            }
            vec![name]
        };
        let known = archive.state(|state| {
            let mut names = names.iter();
            names.all(|name| state.quarantined.contains_key(name.as_str()))
        });
        let put = quarantine::put(&archive, &names, &request.reason, &who(&caller)).await;
        let read_only = put.map_err(|e| Status::unavailable(e.to_string()))?;
        let protection = if read_only {
            "read-only file and marker"
        } else {
            "marker"
        };
        let quarantined = archive.state(|state| state.quarantined.len());
        Ok(Response::new(QuarantineResponse {
            known,
            protection: protection.to_owned(),
            quarantined: u64::try_from(quarantined).unwrap_or(u64::MAX),
        }))
    }

    type RestoreStream = Answers<RestoredObject>;

    async fn restore(
        &self,
        request: Request<RestoreRequest>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        let caller = admit(&request, &RESPONDERS)?;
        let request = request.into_inner();
        let archive = self.slots.get(&request.archive)?;
        let names: Vec<ObjectName> = if request.all {
            bad_objects(&archive)
        } else {
            request
                .objects
                .iter()
                .map(|object| named(object))
                .collect::<Result<_, _>>()?
        };
        if let Some(name) = names
            .iter()
            .find(|name| !request.all && archive.inventory().get(name).is_none())
        {
            return Err(unlisted(&archive, name));
        }
        let total = u64::try_from(names.len()).unwrap_or(u64::MAX);
        let by = who(&caller);
        let answers = stream::iter(names).then(move |name| {
            let (archive, by) = (Arc::clone(&archive), by.clone());
            async move {
                let mut restored = restore::restore(&archive, &name, &by).await?;
                restored.total = total;
                Ok(restored)
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// What is quarantined or known to be damaged, of what the inventory lists. What a person put into quarantine and is whole has to be named to be released.
fn bad_objects(archive: &Archive) -> Vec<ObjectName> {
    let inventory = archive.inventory();
    archive.state(|state| {
        let found = state.quarantined.iter();
        let mut names: Vec<ObjectName> = found
            .filter(|(_, quarantine)| !quarantine.by.starts_with(PERSON))
            .map(|(object, _)| object)
            .chain(state.damaged.keys())
            .filter_map(|object| ObjectName::new(object.as_str()).ok())
            .filter(|name| inventory.get(name).is_some())
            .collect();
        names.sort();
        names.dedup();
        names
    })
}

/// What is known to be damaged so that nobody should use it.
fn damaged_objects(archive: &Archive) -> Vec<ObjectName> {
    let inventory = archive.inventory();
    let bad = |class: &String| DamageClass::from_name(class).is_some_and(DamageClass::quarantines);
    archive.state(|state| {
        let damaged = state.damaged.iter();
        damaged
            .filter(|(_, classes)| classes.keys().any(bad))
            .filter_map(|(object, _)| ObjectName::new(object.as_str()).ok())
            .filter(|name| inventory.get(name).is_some())
            .collect()
    })
}

fn status(archive: &Archive) -> ArchiveStatus {
    let inventory = archive.inventory();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let (pages, damaged, quarantined) = archive.state(|state| {
        (
            state.pages.len(),
            state.damaged.len(),
            state.quarantined.len(),
        )
    });
    ArchiveStatus {
        archive: archive.config.name.clone(),
        place: archive.store.place().to_owned(),
        backup: archive.versions.store().place().to_owned(),
        objects: count(inventory.len()),
        bytes: inventory.bytes(),
        pages: count(pages),
        damaged: count(damaged),
        quarantined: count(quarantined),
        job: Some(grpc_jobs::present(archive)),
        due_at_ms: task::due_at_ms(archive).unwrap_or(0),
        problem: String::new(),
    }
}

fn answer(looked: &examine::Looked, quarantined: Option<&String>) -> VerifyObjectResponse {
    let damage = &looked.examined.damage;
    let documents = [
        DamageClass::BytesChanged,
        DamageClass::Truncated,
        DamageClass::DocumentSwapped,
    ];
    let (verdict, reason) = match (quarantined, damage.first(), &looked.examined.verdict) {
        (Some(reason), _, _) => (
            "quarantined".to_owned(),
            format!("Do not use it: {reason}."),
        ),
        (None, Some(first), _) if documents.contains(&first.class) => {
            ("document-mismatch".to_owned(), format!("{}.", first.detail))
        }
        (None, Some(first), Some((verdict, reason))) if !verdict.is_valid() => (
            verdict.as_str().to_owned(),
            format!("{}: {reason}", first.class.as_str()),
        ),
        (None, Some(first), _) => (
            "damaged".to_owned(),
            format!("{}: {}.", first.class.as_str(), first.detail),
        ),
        (None, None, Some((verdict, reason))) => (verdict.as_str().to_owned(), reason.clone()),
        (None, None, None) => ("damaged".to_owned(), "it was not looked at".to_owned()),
    };
    VerifyObjectResponse {
        verdict,
        reason,
        damage: damage
            .iter()
            .map(|one| ObjectDamage {
                class: one.class.as_str().to_owned(),
                detail: one.detail.clone(),
            })
            .collect(),
        origin: looked.entry.origin.clone(),
        index: looked.entry.index,
    }
}
