//! Runs and approvals.

use std::sync::Arc;

use sealwarden_domain::approval::{
    Decision, MAX_SIGNATURE_BYTES, MAX_STATEMENT_BYTES, RefusalCode, Statement,
};
use sealwarden_domain::fold::event;
use sealwarden_domain::run::{Command, RunState, Said, answer, decide, prepare_for, view};
use sealwarden_engine::{Meta, Stream, StreamName};
use sealwarden_pki::{Caller, CallerRole, caller_of, require};
use sealwarden_wire::run::v1::runs_server::Runs;
use sealwarden_wire::run::v1::{
    ApproveRequest, ApproveResponse, DecideRosterRequest, DecideRosterResponse,
    GiveEvidenceRequest, ListRequest, ListResponse, OperateRequest, PrepareRequest,
    PrepareResponse, ProposeRosterRequest, RevokeKeyRequest, RevokeKeyResponse, Roster,
    RosterProposal, Run, SayAwayRequest, SayAwayResponse, ShowRequest, ShowRosterRequest, Verb,
};
use tonic::{Request, Response, Status};

use super::evidence::{MAX_GIVEN_BYTES, kept};
use super::status::{of_error, of_rejection};
use super::{absence, roster};
use crate::executor::Executor;
use crate::revoking::catch_up;

/// The largest request, bytes: evidence, and what stands around it.
pub(super) const MAX_REQUEST_BYTES: usize = MAX_GIVEN_BYTES + 1024 * 1024;
/// The most runs that one answer lists, the newest.
const MAX_LISTED: usize = 200;
const READERS: [CallerRole; 2] = [CallerRole::Operator, CallerRole::Node];

pub(super) struct RunsService(pub(super) Arc<Executor>);

impl RunsService {
    /// A run's stream. Ids come from callers: what cannot name a stream names no run.
    async fn load(&self, run: &str) -> Result<Stream<RunState>, Status> {
        let unknown = || {
            Status::not_found(format!(
                "there is no run {run:?}; `sealwarden run list` shows them"
            ))
        };
        StreamName::new("run", run).map_err(|_| unknown())?;
        let stream = self
            .0
            .node
            .stream::<RunState>("run", run)
            .await
            .map_err(|error| of_error(&error))?;
        if stream.state().pinned().is_some() {
            Ok(stream)
        } else {
            Err(unknown())
        }
    }

    /// A run as people are told it.
    fn viewed(&self, state: &RunState) -> Run {
        let node = &self.0.node;
        absence::without_absent(node, view(state, node.clock.now()))
    }

    /// Decides what a person tells a run; the run as it is then.
    async fn told(
        &self,
        stream: &mut Stream<RunState>,
        caller: &Caller,
        command: &Command,
    ) -> Result<Run, Status> {
        let incident = stream
            .state()
            .pinned()
            .map(|pinned| pinned.started().incident.clone());
        let meta = Meta::person(caller.name.as_str()).correlated(incident.unwrap_or_default());
        let clock = &self.0.node.clock;
        stream
            .execute(meta, |state| {
                let events = decide(state, command.clone(), clock.now())?;
                Ok(events.into_iter().map(event).collect())
            })
            .await
            .map_err(|error| of_error(&error))?;
        Ok(view(stream.state(), clock.now()))
    }
}

#[tonic::async_trait]
impl Runs for RunsService {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        require(&caller_of(&request)?, &READERS)?;
        let open_only = request.into_inner().open_only;
        let mut ids: Vec<String> = self.0.node.board.read(|installation| {
            let shown = installation
                .runs
                .iter()
                .filter(|(_, run)| !open_only || run.ended.is_none());
            shown.map(|(id, _)| id.clone()).collect()
        });
        ids.reverse();
        ids.truncate(MAX_LISTED);
        let mut runs = Vec::with_capacity(ids.len());
        for id in ids {
            match self.load(&id).await {
                Ok(stream) => runs.push(self.viewed(stream.state())),
                // One bad run never hides the others.
                Err(status) => runs.push(Run {
                    run: id,
                    state: if status.code() == tonic::Code::DataLoss {
                        "set-aside".to_owned()
                    } else {
                        "stuck".to_owned()
                    },
                    reason: status.message().to_owned(),
                    ..Run::default()
                }),
            }
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.started_at_ms));
        Ok(Response::new(ListResponse { runs }))
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<Run>, Status> {
        require(&caller_of(&request)?, &READERS)?;
        let stream = self.load(&request.into_inner().run).await?;
        Ok(Response::new(self.viewed(stream.state())))
    }

    async fn prepare(
        &self,
        request: Request<PrepareRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        require(&caller_of(&request)?, &READERS)?;
        let request = request.into_inner();
        let stream = self.load(&request.run).await?;
        let decision = named_decision(&request.decision)?;
        let now = self.0.node.clock.now();
        let prepared = prepare_for(stream.state(), &request.step, decision, now);
        prepared
            .map(Response::new)
            .map_err(|rejection| of_rejection(&rejection))
    }

    async fn operate(&self, request: Request<OperateRequest>) -> Result<Response<Run>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let request = request.into_inner();
        let mut stream = self.load(&request.run).await?;
        let (run, verb) = (request.run.clone(), request.verb());
        let command = command_of(request, caller.name.as_str())?;
        let shown = self.told(&mut stream, &caller, &command).await?;
        tracing::warn!(run, verb = verb.as_str_name(), caller = %caller.name, "an operator steers a run");
        Ok(Response::new(shown))
    }

    async fn give_evidence(
        &self,
        request: Request<GiveEvidenceRequest>,
    ) -> Result<Response<Run>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let GiveEvidenceRequest { run, step, fields } = request.into_inner();
        let mut stream = self.load(&run).await?;
        let given = kept(&self.0, stream.state(), (&run, &step), fields).await?;
        let command = Command::GiveEvidence {
            step: step.clone(),
            by: caller.name.as_str().to_owned(),
            given,
        };
        let shown = self.told(&mut stream, &caller, &command).await?;
        tracing::info!(run, step, caller = %caller.name, "evidence was handed in");
        Ok(Response::new(shown))
    }

    async fn show_roster(
        &self,
        request: Request<ShowRosterRequest>,
    ) -> Result<Response<Roster>, Status> {
        require(&caller_of(&request)?, &READERS)?;
        Ok(Response::new(roster::shown(&self.0)))
    }

    async fn propose_roster(
        &self,
        request: Request<ProposeRosterRequest>,
    ) -> Result<Response<RosterProposal>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let proposed = roster::proposed(&self.0, caller.name.as_str(), request.into_inner());
        proposed.await.map(Response::new)
    }

    async fn say_away(
        &self,
        request: Request<SayAwayRequest>,
    ) -> Result<Response<SayAwayResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let said = absence::said(&self.0, caller.name.as_str(), request.into_inner());
        said.await.map(Response::new)
    }

    async fn decide_roster(
        &self,
        request: Request<DecideRosterRequest>,
    ) -> Result<Response<DecideRosterResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let decided = roster::decided(&self.0, caller.name.as_str(), request.into_inner());
        decided.await.map(Response::new)
    }

    async fn revoke_key(
        &self,
        request: Request<RevokeKeyRequest>,
    ) -> Result<Response<RevokeKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let request = request.into_inner();
        check_length("signature", &request.signature, MAX_SIGNATURE_BYTES)?;
        check_length("reason", &request.reason, MAX_STATEMENT_BYTES)?;
        let revoked = roster::revoked(&self.0, caller.name.as_str(), request);
        revoked.await.map(Response::new)
    }

    async fn approve(
        &self,
        request: Request<ApproveRequest>,
    ) -> Result<Response<ApproveResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let ApproveRequest {
            statement,
            signature,
            note,
        } = request.into_inner();
        check_length("statement", &statement, MAX_STATEMENT_BYTES)?;
        check_length("signature", &signature, MAX_SIGNATURE_BYTES)?;
        // The run is where the refusal of a statement is recorded; a text that names none is refused without a record.
        let named = match Statement::parse(&statement) {
            Ok(named) => named,
            Err(error) => {
                return Ok(refused(
                    RefusalCode::Malformed,
                    format!("the statement is malformed: {error}"),
                ));
            }
        };
        let mut stream = match self.load(&named.run).await {
            Ok(stream) => stream,
            Err(status) if status.code() == tonic::Code::NotFound => {
                return Ok(refused(RefusalCode::WrongRun, status.message().to_owned()));
            }
            Err(status) => return Err(status),
        };
        catch_up(&self.0.node, &mut stream)
            .await
            .map_err(|error| of_error(&error))?;
        let clock = &self.0.node.clock;
        let incident = stream
            .state()
            .pinned()
            .map(|pinned| pinned.started().incident.clone());
        let meta = Meta::person(caller.name.as_str()).correlated(incident.unwrap_or_default());
        let mut events = Vec::new();
        stream
            .execute(meta, |state| {
                let command = Command::SubmitApproval {
                    statement: statement.clone(),
                    signature: signature.clone(),
                    note: note.clone(),
                };
                events = decide(state, command, clock.now())?;
                Ok(events.iter().cloned().map(event).collect())
            })
            .await
            .map_err(|error| of_error(&error))?;
        let answer = answer(stream.state(), &events, clock.now());
        tracing::info!(
            run = named.run, step = named.step, person = named.approver, caller = %caller.name,
            accepted = answer.accepted, code = answer.code, "a statement came in"
        );
        Ok(Response::new(answer))
    }
}

/// The decision that a caller asks to prepare; none for an approval, a denial or a confirmation.
fn named_decision(word: &str) -> Result<Option<Decision>, Status> {
    if word.is_empty() {
        return Ok(None);
    }
    Decision::parse(word)
        .filter(|decision| !decision.is_about_the_quorum())
        .map(Some)
        .ok_or_else(|| {
            Status::invalid_argument(format!(
                "the decision {word:?} cannot be prepared; leave it empty, or name retry, skip, override or review"
            ))
        })
}

fn command_of(request: OperateRequest, by: &str) -> Result<Command, Status> {
    let said = Said {
        by: by.to_owned(),
        reason: request.reason.clone(),
    };
    match request.verb() {
        Verb::Pause => Ok(Command::Pause(said)),
        Verb::Resume => Ok(Command::Resume(said)),
        Verb::Abort => Ok(Command::Abort {
            said,
            undo: request.undo,
        }),
        Verb::Retry => Ok(Command::Retry {
            step: request.step,
            said,
        }),
        Verb::Unspecified => Err(Status::invalid_argument(
            "no verb is named; name pause, resume, abort or retry",
        )),
    }
}

fn refused(code: RefusalCode, reason: String) -> Response<ApproveResponse> {
    Response::new(ApproveResponse {
        accepted: false,
        code: code.as_str().to_owned(),
        reason,
        missing: String::new(),
    })
}

fn check_length(field: &str, value: &str, limit: usize) -> Result<(), Status> {
    if value.len() <= limit {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{field} has {} bytes; at most {limit} are read",
        value.len()
    )))
}
