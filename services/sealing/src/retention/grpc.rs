//! Erasing and holding over gRPC.

use super::find::{Found, Wanted, find, origins};
use super::holds::{At, Holds, evidence};
use super::perform::{Trouble, finish_all, perform, withdraw};
use super::time_text;
use crate::grpc::own_log;
use crate::request::{excerpt, hex, line, name};
use crate::seals::log_status;
use crate::service::Service;
use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::Origin;
use sealwarden_domain::retention::{Command, Erasure as Known, MAX_RANGES, Order};
use sealwarden_engine::{ExecuteError, Meta};
use sealwarden_pki::CallerRole::{Node, Operator};
use sealwarden_pki::{caller_of, require};
use sealwarden_seallog::Leaf;
use sealwarden_wire::event::v1::{
    ErasedRange, LegalHoldReleased, LegalHoldSet, TicketsWithdrawn, event::Kind,
};
use sealwarden_wire::seal::v1::erasure_server::Erasure;
use sealwarden_wire::seal::v1::{
    ErasureEntry, ErasurePlan, ErasureRequest, HoldEntry, ListErasuresRequest, ListHoldsRequest,
    ListHoldsResponse, PlaceRange, ReleaseHoldRequest, SetHoldRequest,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Ranges that a plan names at most.
const NAMED_RANGES: usize = 1_000;
/// Most ranges that one request erases, some orders' worth: what must be held in memory.
const MAX_PLACES: usize = 64 * MAX_RANGES;
/// Orders that wait for a slow reader.
const LISTED: usize = 16;

/// The gRPC service.
pub(crate) struct Grpc(pub(crate) Arc<Service>);

#[tonic::async_trait]
impl Erasure for Grpc {
    async fn plan_erasure(
        &self,
        request: Request<ErasureRequest>,
    ) -> Result<Response<ErasurePlan>, Status> {
        officer(&self.0, &request)?;
        let request = request.into_inner();
        own_log(&self.0, &request.log)?;
        let why = request.reason.clone();
        let (wanted, _) = check(request)?;
        // What Erase would refuse is refused here, before anybody has read a plan.
        let digest = wanted.digest.as_ref().map(|it| &it[..]);
        reason(why, wanted.subject.as_deref(), digest)?;
        let (_, plan) = plan(&self.0, wanted).await?;
        Ok(Response::new(plan))
    }

    async fn erase(
        &self,
        request: Request<ErasureRequest>,
    ) -> Result<Response<ErasurePlan>, Status> {
        let person = officer(&self.0, &request)?;
        let request = request.into_inner();
        own_log(&self.0, &request.log)?;
        let service = Arc::clone(&self.0);
        // A caller that goes away does not leave an order half given.
        let task = tokio::spawn(async move { erase(&service, &person, request).await });
        let plan = task
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(plan))
    }

    type ListErasuresStream = ReceiverStream<Result<ErasureEntry, Status>>;

    async fn list_erasures(
        &self,
        request: Request<ListErasuresRequest>,
    ) -> Result<Response<Self::ListErasuresStream>, Status> {
        require(&caller_of(&request)?, &[Operator, Node])?;
        own_log(&self.0, &request.into_inner().log)?;
        let known = self.0.records.newest().await.map_err(|it| refused(&it))?;
        let (sender, receiver) = mpsc::channel(LISTED);
        tokio::spawn(async move {
            for erasure in known.erasures() {
                if sender.send(Ok(entry(erasure))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn set_hold(
        &self,
        request: Request<SetHoldRequest>,
    ) -> Result<Response<HoldEntry>, Status> {
        let person = officer(&self.0, &request)?;
        let request = request.into_inner();
        own_log(&self.0, &request.log)?;
        let tenant = tenant(request.tenant)?;
        let subject = line("subject", request.subject, 1024, "1024 bytes")?;
        let reason = reason(request.reason, subject.as_deref(), None)?;
        let records = &self.0.records;
        let commitment = subject
            .as_ref()
            .map(|subject| records.secret.commitment(&tenant, subject));
        let hold = LegalHoldSet {
            hold: String::new(),
            tenant,
            scope: if subject.is_some() {
                "subject"
            } else {
                "tenant"
            }
            .to_owned(),
            subject_hmac: commitment.unwrap_or_default().into(),
            reason,
            by: format!("person {person}"),
            set_at_ms: self.0.node.clock.now().wall_ms,
        };
        let log = self.0.config.log.clone();
        // An order that is being carried out was given before: the hold comes after it, in the stream and here.
        let _erasing = records.erasing.lock().await;
        let executed = records
            .execute(Meta::person(&person), &Command::Hold { log, hold })
            .await
            .map_err(|error| refused(&error))?;
        let set = executed
            .events
            .into_iter()
            .find_map(|event| match event.kind {
                Some(Kind::LegalHoldSet(set)) => Some(set),
                _ => None,
            });
        let set = set.ok_or_else(|| Status::internal("a hold without an event"))?;
        tracing::info!(hold = set.hold, person, "a legal hold is set");
        Ok(Response::new(HoldEntry {
            hold: set.hold,
            tenant: set.tenant,
            scope: set.scope,
            reason: set.reason,
            by: set.by,
            since_ms: set.set_at_ms,
            leaves: 0,
        }))
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<HoldEntry>, Status> {
        let person = officer(&self.0, &request)?;
        let ReleaseHoldRequest {
            log,
            hold,
            reason: why,
        } = request.into_inner();
        own_log(&self.0, &log)?;
        let hold = line("hold", hold, 128, "128 bytes")?.unwrap_or_default();
        let released = LegalHoldReleased {
            hold: hold.clone(),
            reason: reason(why, None, None)?,
            by: format!("person {person}"),
            released_at_ms: self.0.node.clock.now().wall_ms,
        };
        let records = &self.0.records;
        records
            .execute(Meta::person(&person), &Command::Release(released))
            .await
            .map_err(|error| refused(&error))?;
        let known = records.known();
        let set = known
            .hold(&hold)
            .map(|it| it.set.clone())
            .unwrap_or_default();
        tracing::info!(hold, person, "a legal hold is released");
        Ok(Response::new(HoldEntry {
            hold,
            tenant: set.tenant,
            scope: set.scope,
            reason: set.reason,
            by: set.by,
            since_ms: set.set_at_ms,
            leaves: 0,
        }))
    }

    async fn list_holds(
        &self,
        request: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        require(&caller_of(&request)?, &[Operator, Node])?;
        own_log(&self.0, &request.into_inner().log)?;
        let known = self.0.records.newest().await.map_err(|it| refused(&it))?;
        let holds = Holds::of(&self.0, &known, None).entries();
        Ok(Response::new(ListHoldsResponse { holds }))
    }
}

/// The person, if that person may erase and hold.
fn officer<T>(service: &Service, request: &Request<T>) -> Result<String, Status> {
    let caller = caller_of(request)?;
    require(&caller, &[Operator])?;
    let name = caller.name.to_string();
    let officers = &service.config.retention.officers;
    if officers.is_empty() || officers.contains(&name) {
        return Ok(name);
    }
    Err(Status::permission_denied(format!(
        "{name} may not erase or hold records: `sealing.retention.officers` does not name it"
    )))
}

fn tenant(text: String) -> Result<String, Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument(
            "tenant is missing: say whose records are meant",
        ));
    }
    name("tenant", text)
}

/// A reason is kept for ever, so it must not hold what is to be forgotten.
fn reason(text: String, subject: Option<&str>, digest: Option<&[u8]>) -> Result<String, Status> {
    let reason = line("reason", text, 256, "256 bytes")?;
    let reason = reason.ok_or_else(|| {
        Status::invalid_argument("reason is missing: say in one line why, it is kept")
    })?;
    let lower = reason.to_lowercase();
    let digest = digest.map(hex);
    let said = [subject.map(str::to_lowercase), digest];
    if said.into_iter().flatten().any(|it| lower.contains(&it)) {
        return Err(Status::invalid_argument(
            "the reason holds the subject or the digest itself, and reasons are kept for ever: say it in other words, such as a case number",
        ));
    }
    Ok(reason)
}

/// Checks a request: what is wanted, and the words for it without values.
fn check(request: ErasureRequest) -> Result<(Wanted, String), Status> {
    let ErasureRequest {
        tenant: of,
        subject,
        digest,
        before_ms,
        all,
        ..
    } = request;
    let tenant = tenant(of)?;
    let subject = line("subject", subject, 1024, "1024 bytes")?;
    let digest = match digest.len() {
        0 => None,
        _ => Some(<[u8; 32]>::try_from(&digest[..]).map_err(|_| {
            Status::invalid_argument(format!(
                "digest has {} bytes: a SHA-256 has 32",
                digest.len()
            ))
        })?),
    };
    let before = (before_ms > 0).then_some(before_ms);
    let mut words = Vec::new();
    words.extend(subject.as_ref().map(|_| "subject".to_owned()));
    words.extend(digest.map(|_| "digest".to_owned()));
    words.extend(before.map(|at_ms| format!("before {}", time_text(at_ms))));
    match (words.is_empty(), all) {
        (true, false) => {
            return Err(Status::invalid_argument(format!(
                "nothing says which records of tenant {} are meant: give a subject, a digest, a time, or say that all are",
                excerpt(&tenant)
            )));
        }
        (false, true) => {
            return Err(Status::invalid_argument(
                "`all` and something that narrows it down contradict each other: give one of them",
            ));
        }
        (true, true) => words.push("all".to_owned()),
        (false, false) => {}
    }
    let wanted = Wanted {
        tenant,
        subject,
        digest,
        before_ms: before,
    };
    Ok((wanted, words.join(" and ")))
}

/// Looks for what is meant. The answer says what stands against it.
async fn plan(service: &Arc<Service>, wanted: Wanted) -> Result<(Looked, ErasurePlan), Status> {
    let known = service.records.newest().await.map_err(|it| refused(&it))?;
    let origins = origins(service).await;
    let seen = Holds::seen(&known);
    let own = Arc::clone(service);
    let found = tokio::task::spawn_blocking(move || {
        let mut holds = Holds::of(&own, &known, Some(&wanted.tenant));
        let waiting = waiting(&own, &wanted, &origins, &mut holds);
        let found = find(&own, (&known, &origins), &wanted, &mut holds);
        found.map(|found| (found, holds.that_cover(), waiting))
    });
    let found = found
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    let (found, holds, waiting) = found.map_err(|error| log_status(&error))?;
    let touched: BTreeSet<_> = found.places.iter().map(|it| it.origin.clone()).collect();
    let plan = ErasurePlan {
        leaves: found.leaves,
        places: found.places.iter().take(NAMED_RANGES).map(range).collect(),
        ranges: u64::try_from(found.places.len()).unwrap_or(u64::MAX),
        holds,
        waiting,
        erasures: Vec::new(),
        withdrawals: Vec::new(),
        being_sealed: 0,
        evidence: evidence(service, &touched),
        unreadable: found.unreadable,
    };
    Ok((Looked { found, seen }, plan))
}

/// How many waiting requests fit; each counts for the holds that cover it, as if it were sealed now.
fn waiting(service: &Service, wanted: &Wanted, origins: &[Origin], holds: &mut Holds) -> u64 {
    let origin = origins.last().map_or("", |it| it.origin.as_str());
    let fitting = service.tickets.that_fit(|leaf| {
        let record = wanted.of_waiting(leaf);
        if let Some(record) = &record {
            let at = At {
                origin,
                record,
                sealed_at_ms: i64::MAX,
            };
            holds.cover(&service.records.secret, &at);
        }
        record.is_some()
    });
    u64::try_from(fitting.len()).unwrap_or(u64::MAX)
}

/// What was found, and which holds it was compared with.
struct Looked {
    found: Found,
    seen: BTreeSet<String>,
}

async fn erase(
    service: &Arc<Service>,
    person: &str,
    request: ErasureRequest,
) -> Result<ErasurePlan, Status> {
    let expected = request.expected;
    let why = request.reason.clone();
    let (wanted, criterion) = check(request)?;
    let digest = wanted.digest;
    let why = reason(
        why,
        wanted.subject.as_deref(),
        digest.as_ref().map(|it| &it[..]),
    )?;
    let tenant = wanted.tenant.clone();
    let _erasing = service.records.erasing.lock().await;
    let finished = finish_all(service).await;
    finished.map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let (Looked { found, seen }, mut plan) = plan(service, wanted.clone()).await?;
    if let Some(hold) = plan.holds.first() {
        return Err(Status::failed_precondition(held(
            hold,
            plan.leaves,
            plan.holds.len(),
        )));
    }
    if plan.leaves != expected {
        return Err(Status::aborted(format!(
            "{} leaves are meant now, {expected} were shown: look at the plan again",
            plan.leaves
        )));
    }
    if found.places.len() > MAX_PLACES {
        return Err(Status::resource_exhausted(format!(
            "the {} leaves lie in {} ranges; {MAX_PLACES} are the most for one request: erase them in portions, such as by time",
            found.leaves,
            found.places.len()
        )));
    }
    if plan.waiting > 0 {
        let template = TicketsWithdrawn {
            tenant: tenant.clone(),
            criterion: criterion.clone(),
            reason: why.clone(),
            by: format!("person {person}"),
            node: service.node.name.clone(),
            at_ms: service.node.clock.now().wall_ms,
            ..TicketsWithdrawn::default()
        };
        let fits = |leaf: &Leaf| wanted.of_waiting(leaf).is_some();
        let done = withdraw(service, &Meta::person(person), &template, &seen, fits).await;
        (plan.withdrawals, plan.being_sealed) = done.map_err(|trouble| match trouble {
            Trouble::Order(error) => refused(&error),
            later @ Trouble::Later { .. } => Status::unavailable(later.to_string()),
        })?;
    }
    for places in found.places.chunks(MAX_RANGES) {
        let order = Order {
            log: service.config.log.clone(),
            tenant: tenant.clone(),
            criterion: criterion.clone(),
            reason: why.clone(),
            by: format!("person {person}"),
            places: places.to_vec(),
            seen: seen.clone(),
            node: service.node.name.clone(),
            at_ms: service.node.clock.now().wall_ms,
        };
        match perform(service, Meta::person(person), order).await {
            Ok(erasure) => plan.erasures.push(erasure),
            Err(Trouble::Order(error)) => {
                let status = refused(&error);
                let before = plan.erasures.join(", ");
                let told = if before.is_empty() {
                    status.message().to_owned()
                } else {
                    format!(
                        "{}; before that, {before} was carried out",
                        status.message()
                    )
                };
                return Err(Status::new(status.code(), told));
            }
            Err(later @ Trouble::Later { .. }) => {
                return Err(Status::unavailable(later.to_string()));
            }
        }
    }
    Ok(plan)
}

fn held(hold: &HoldEntry, leaves: u64, holds: usize) -> String {
    let more = match holds.saturating_sub(1) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!(
        "nothing was erased: hold {} ({}, by {}) covers {} of the {leaves} leaves{more}",
        hold.hold, hold.reason, hold.by, hold.leaves
    )
}

fn range(place: &ErasedRange) -> PlaceRange {
    PlaceRange {
        origin: place.origin.clone(),
        first: place.first,
        count: place.count,
    }
}

fn entry(erasure: &Known) -> ErasureEntry {
    let ordered = &erasure.ordered;
    ErasureEntry {
        erasure: ordered.erasure.clone(),
        tenant: ordered.tenant.clone(),
        criterion: ordered.criterion.clone(),
        reason: ordered.reason.clone(),
        by: ordered.by.clone(),
        places: ordered.places.iter().map(range).collect(),
        leaves: ordered.leaves,
        ordered_at_ms: ordered.ordered_at_ms,
        finished_at_ms: erasure.finished_at_ms.unwrap_or(0),
    }
}

fn refused(error: &ExecuteError) -> Status {
    match error {
        ExecuteError::Rejected(rejection) => match rejection.code {
            RejectionCode::NotFound => Status::not_found(&rejection.reason),
            RejectionCode::Invalid => Status::invalid_argument(&rejection.reason),
            RejectionCode::NotNow => Status::aborted(&rejection.reason),
            RejectionCode::Refused => Status::failed_precondition(&rejection.reason),
        },
        ExecuteError::Unavailable(_) | ExecuteError::Unknown(_) => {
            Status::unavailable(error.to_string())
        }
        ExecuteError::Illegal(_) | ExecuteError::Decode(_) | ExecuteError::Broken(_) => {
            Status::data_loss(error.to_string())
        }
    }
}
