//! The `Incidents` service.

mod telling;

use std::sync::Arc;

use sealwarden_domain::obligation::Command;
use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::{ExecuteError, Meta, Node};
use sealwarden_pki::{Caller, CallerRole, caller_of, require};
use sealwarden_wire::event::v1::{
    DutyMet, IncidentClassified, RegimeClockStarted, RegimeDecided, SignalReported,
};
use sealwarden_wire::incident::v1::incidents_server::Incidents;
use sealwarden_wire::incident::v1::{
    AcknowledgeRequest, BacktestRequest, BacktestResponse, BriefRequest, BriefResponse,
    ClassifyRequest, DecideNoticeRequest, DetectorsRequest, DetectorsResponse, ExplainRequest,
    Explanation, HandOverRequest, Incident, ListRequest, ListResponse, MarkReleaseRequest,
    MarkReleaseResponse, NoticesRequest, NoticesResponse, ObligationsRequest, ObligationsResponse,
    PrepareNoticeRequest, RecordToldRequest, ReportRequest, ReportResponse, RuleRegimeRequest,
    ShowRequest, StartClockRequest, TellRequest,
};
use sealwarden_wire::run::v1::{ApproveResponse, PrepareResponse};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use self::telling::internal;
use crate::communication::{self, Sinks};
use crate::config::Config;
use crate::duties;
use crate::follow::Watch;
use crate::pending::classify as classification;
use crate::perform::{classify, record_signal};
use crate::report::{By, check_class, check_since, check_text, signal_of};
use crate::state::{MAX_SIGNALS_PER_INCIDENT, State};
use crate::view::{details, earliest, summary};

/// The most incidents in one list, the newest.
const MAX_LISTED: usize = 1000;
/// The longest reason of a classification, in bytes.
const MAX_REASON: usize = 2048;

pub(crate) struct IncidentsService {
    config: Config,
    pub(crate) node: Arc<Node>,
    pub(crate) watch: Arc<Watch>,
    sinks: Arc<Sinks>,
    /// A backtest reads the whole event log, so there is one at a time.
    pub(crate) backtesting: Semaphore,
}

impl IncidentsService {
    pub(crate) fn new(
        config: Config,
        node: Arc<Node>,
        watch: Arc<Watch>,
        sinks: Arc<Sinks>,
    ) -> Self {
        Self {
            config,
            node,
            watch,
            sinks,
            backtesting: Semaphore::new(1),
        }
    }

    /// Waits until everything that is in the log now is folded here.
    pub(crate) async fn catch_up(&self) -> Result<(), Status> {
        let edge = self.node.log.last_position().await;
        let edge = edge.map_err(|error| Status::unavailable(error.to_string()))?;
        self.within(
            self.watch
                .wait_until(|state| (state.position >= edge).then_some(())),
        )
        .await
    }

    /// Waits until what was just written is folded here.
    pub(crate) async fn folded(&self, position: u64) -> Result<(), Status> {
        let seen = self
            .watch
            .wait_until(|state| (state.position >= position).then_some(()));
        self.within(seen).await
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Status> {
        tokio::time::timeout(self.config.report_wait(), work).await.map_err(|_elapsed| {
            Status::unavailable(format!(
                "the detection service has not caught up with the event log within {} ms; repeating the call is safe",
                self.config.report_wait_ms
            ))
        })
    }

    /// A report is a signal once it is in the log; the follower does the rest.
    async fn report(
        &self,
        caller: &Caller,
        request: &ReportRequest,
    ) -> Result<ReportResponse, Status> {
        self.catch_up().await?;
        let by = By {
            name: caller.name.to_string(),
            person: caller.role == CallerRole::Operator,
        };
        let times = (self.node.clock.now().wall_ms, self.config.clock_skew_ms);
        let signal = self
            .watch
            .read(|state| {
                signal_of(
                    request,
                    &by,
                    state.known_logs(),
                    self.node.plan.plan(),
                    times,
                )
            })
            .map_err(|bad| Status::invalid_argument(bad.to_string()))?;
        self.watch.read(|state| room_for(state, &signal))?;
        let meta = if by.person {
            Meta::person(&by.name)
        } else {
            Meta::detector(&by.name)
        };
        let meta = meta
            .correlated(signal.signal.clone())
            .command(request.request_id.clone());
        let id = signal.signal.clone();
        record_signal(&self.node, meta, signal)
            .await
            .map_err(status)?;
        let joined = self.watch.wait_until(|state| {
            let known = state.signals.get(&id)?;
            Some((known.incident.clone()?, known.reported.proven))
        });
        let (incident, proven) = self.within(joined).await?;
        Ok(ReportResponse {
            signal: id.clone(),
            incident,
            proven,
        })
    }

    async fn classify(
        &self,
        caller: &Caller,
        request: &ClassifyRequest,
    ) -> Result<Incident, Status> {
        let invalid = |reason: String| Status::invalid_argument(reason);
        check_text("reason", &request.reason, MAX_REASON)
            .map_err(|bad| invalid(bad.to_string()))?;
        check_class(&request.class, self.node.plan.plan())
            .map_err(|bad| invalid(bad.to_string()))?;
        let now_ms = self.node.clock.now().wall_ms;
        check_since(
            request.compromised_since_ms,
            now_ms,
            self.config.clock_skew_ms,
        )
        .map_err(invalid)?;
        self.catch_up().await?;
        let classified = self.classification(caller, request)?;
        let meta = Meta::person(caller.name.as_str()).correlated(request.incident.clone());
        let executed = classify(&self.node, meta, &request.incident, classified)
            .await
            .map_err(status)?;
        self.folded(executed.position).await?;
        self.show(&request.incident)
    }

    fn classification(
        &self,
        caller: &Caller,
        request: &ClassifyRequest,
    ) -> Result<IncidentClassified, Status> {
        let unknown = || not_found(&request.incident);
        let class = self
            .node
            .plan
            .plan()
            .class(&request.class)
            .ok_or_else(unknown)?;
        let since_ms = self.watch.read(|state| {
            let incident = state.incidents.get(&request.incident).ok_or_else(unknown)?;
            let known = incident
                .classified
                .as_ref()
                .is_some_and(|c| c.compromised_since_ms != 0);
            // The first classification has a time: what was seen first, unless a person says more.
            Ok::<i64, Status>(match request.compromised_since_ms {
                0 if !known => earliest(state, incident),
                since_ms => since_ms,
            })
        })?;
        let by = format!("person {}", caller.name);
        Ok(classification(class, since_ms, by, request.reason.clone()))
    }

    /// Records a person's word about duties, and shows them.
    async fn say_of_duties(
        &self,
        caller: &Caller,
        id: &str,
        command: Command,
    ) -> Result<ObligationsResponse, Status> {
        let Some(regimes) = self.node.plan.regimes() else {
            return Err(Status::failed_precondition(
                "the plan has no duties to notify: add regimes.yaml to it",
            ));
        };
        self.catch_up().await?;
        self.obligations(id)?; // an incident that is there
        let meta = Meta::person(caller.name.as_str()).correlated(id.to_owned());
        let executed = duties::record(&self.node, regimes, meta, id, command)
            .await
            .map_err(status)?;
        self.folded(executed.position).await?;
        self.obligations(id)
    }

    fn obligations(&self, id: &str) -> Result<ObligationsResponse, Status> {
        let now_ms = self.node.clock.now().wall_ms;
        self.watch
            .read(|state| duties::duties(state, self.node.plan.regimes(), id, now_ms))
            .ok_or_else(|| not_found(id))
    }

    fn show(&self, id: &str) -> Result<Incident, Status> {
        self.watch
            .read(|state| details(state, id))
            .ok_or_else(|| not_found(id))
    }
}

pub(crate) fn operator<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = caller_of(request)?;
    require(&caller, &[CallerRole::Operator])?;
    Ok(caller)
}

pub(crate) fn checked(name: &'static str, text: &str) -> Result<(), Status> {
    check_text(name, text, MAX_REASON).map_err(|bad| Status::invalid_argument(bad.to_string()))
}

pub(crate) fn not_found(id: &str) -> Status {
    let id: String = id.chars().take(64).collect();
    Status::not_found(format!(
        "there is no incident {id:?}; `sealwarden incident list` shows all"
    ))
}

/// Reporters get as much room in one incident as detectors have. A report that is known already needs none.
fn room_for(state: &State, signal: &SignalReported) -> Result<(), Status> {
    if state.signals.contains_key(&signal.signal) {
        return Ok(());
    }
    let Some(id) = state.open_incident(&signal.subject) else {
        return Ok(());
    };
    let joined = state
        .incidents
        .get(id)
        .map_or(0, |incident| incident.signals.len());
    // Detectors' own signals have at most one share, so twice the share leaves one for reports.
    let full = u32::try_from(joined).is_ok_and(|joined| joined < 2 * MAX_SIGNALS_PER_INCIDENT);
    if full {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!(
        "incident {id} on {} has {joined} signals already and takes in no more; see `sealwarden incident show {id}`",
        signal.subject
    )))
}

pub(crate) fn status(error: ExecuteError) -> Status {
    match error {
        ExecuteError::Rejected(Rejection { code, reason }) => match code {
            RejectionCode::NotFound => Status::not_found(reason),
            RejectionCode::Invalid => Status::invalid_argument(reason),
            RejectionCode::NotNow => Status::failed_precondition(reason),
            RejectionCode::Refused => Status::permission_denied(reason),
        },
        error @ (ExecuteError::Unavailable(_) | ExecuteError::Unknown(_)) => {
            Status::unavailable(error.to_string())
        }
        error @ (ExecuteError::Illegal(_) | ExecuteError::Decode(_) | ExecuteError::Broken(_)) => {
            Status::data_loss(error.to_string())
        }
    }
}

#[tonic::async_trait]
impl Incidents for IncidentsService {
    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<ReportResponse>, Status> {
        let caller = caller_of(&request)?;
        require(
            &caller,
            &[CallerRole::Detector, CallerRole::Operator, CallerRole::Node],
        )?;
        Self::report(self, &caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        let open_only = request.get_ref().open_only;
        let mut incidents: Vec<Incident> = self.watch.read(|state| {
            let wanted = state
                .incidents
                .iter()
                .filter(|(_, i)| i.opened.is_some() && (!open_only || i.is_open()));
            wanted
                .map(|(id, incident)| summary(state, id, incident))
                .collect()
        });
        incidents.sort_by_key(|incident| std::cmp::Reverse(incident.opened_at_ms));
        incidents.truncate(MAX_LISTED);
        Ok(Response::new(ListResponse { incidents }))
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<Incident>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        Self::show(self, &request.get_ref().incident).map(Response::new)
    }

    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<Incident>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        Self::classify(self, &caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn obligations(
        &self,
        request: Request<ObligationsRequest>,
    ) -> Result<Response<ObligationsResponse>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        Self::obligations(self, &request.get_ref().incident).map(Response::new)
    }

    async fn rule_regime(
        &self,
        request: Request<RuleRegimeRequest>,
    ) -> Result<Response<ObligationsResponse>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        checked("reason", &asked.reason)?;
        let decided = RegimeDecided {
            regime: asked.regime,
            applies: asked.applies,
            reason: asked.reason,
            by: format!("person {}", caller.name),
        };
        self.say_of_duties(&caller, &asked.incident, Command::Decide(decided))
            .await
            .map(Response::new)
    }

    async fn start_clock(
        &self,
        request: Request<StartClockRequest>,
    ) -> Result<Response<ObligationsResponse>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        checked("reason", &asked.reason)?;
        let started = RegimeClockStarted {
            regime: asked.regime,
            clock: asked.clock,
            at_ms: asked.at_ms,
            reason: asked.reason,
            by: format!("person {}", caller.name),
        };
        self.say_of_duties(&caller, &asked.incident, Command::StartClock(started))
            .await
            .map(Response::new)
    }

    async fn record_told(
        &self,
        request: Request<RecordToldRequest>,
    ) -> Result<Response<ObligationsResponse>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        checked("reference", &asked.reference)?;
        let at_ms = match asked.at_ms {
            0 => self.node.clock.now().wall_ms,
            at_ms => at_ms,
        };
        let met = DutyMet {
            regime: asked.regime,
            duty: asked.duty,
            at_ms,
            reference: asked.reference,
            due_at_ms: 0,
            by: format!("person {}", caller.name),
        };
        self.say_of_duties(&caller, &asked.incident, Command::Meet(met))
            .await
            .map(Response::new)
    }

    async fn notices(
        &self,
        request: Request<NoticesRequest>,
    ) -> Result<Response<NoticesResponse>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        Self::notices(self, &request.get_ref().incident).map(Response::new)
    }

    async fn brief(
        &self,
        request: Request<BriefRequest>,
    ) -> Result<Response<BriefResponse>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        let asked = request.into_inner();
        let audience = internal(&asked.audience)?;
        let brief = Self::brief(self, &asked.incident, audience)?;
        Ok(Response::new(BriefResponse {
            incident: asked.incident,
            audience: asked.audience,
            title: brief.title,
            text: brief.text,
        }))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<NoticesResponse>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        if !asked.note.is_empty() {
            checked("note", &asked.note)?;
        }
        self.catch_up().await?;
        Self::notices(self, &asked.incident)?; // an incident that is there
        let (name, id) = (caller.name.as_str(), asked.incident.as_str());
        let meta = Meta::person(name).correlated(id.to_owned());
        let executed = communication::acknowledge(&self.node, meta, id, name, &asked.note)
            .await
            .map_err(status)?;
        self.notices_after(id, executed.position)
            .await
            .map(Response::new)
    }

    async fn hand_over(
        &self,
        request: Request<HandOverRequest>,
    ) -> Result<Response<Incident>, Status> {
        self.handed_over(request).await.map(Response::new)
    }

    async fn tell(
        &self,
        request: Request<TellRequest>,
    ) -> Result<Response<NoticesResponse>, Status> {
        let caller = operator(&request)?;
        Self::tell(self, &caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<Explanation>, Status> {
        self.explained(request).await.map(Response::new)
    }

    async fn detectors(
        &self,
        request: Request<DetectorsRequest>,
    ) -> Result<Response<DetectorsResponse>, Status> {
        self.detectors_seen(request).await.map(Response::new)
    }

    async fn backtest(
        &self,
        request: Request<BacktestRequest>,
    ) -> Result<Response<BacktestResponse>, Status> {
        self.backtested(request).await.map(Response::new)
    }

    async fn mark_release(
        &self,
        request: Request<MarkReleaseRequest>,
    ) -> Result<Response<MarkReleaseResponse>, Status> {
        self.release_marked(request).await.map(Response::new)
    }

    async fn prepare_notice(
        &self,
        request: Request<PrepareNoticeRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        Self::prepare_notice(self, &request.into_inner()).map(Response::new)
    }

    async fn decide_notice(
        &self,
        request: Request<DecideNoticeRequest>,
    ) -> Result<Response<ApproveResponse>, Status> {
        let caller = operator(&request)?;
        Self::decide_notice(self, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }
}
