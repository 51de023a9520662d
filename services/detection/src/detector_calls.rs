//! The calls about detectors: why there is a signal, what they see, what others would have said, that something was released.

use sealwarden_engine::Meta;
use sealwarden_pki::{CallerRole, caller_of, require};
use sealwarden_runbook::Detectors;
use sealwarden_wire::event::v1::ReleaseMarked;
use sealwarden_wire::incident::v1::{
    BacktestRequest, BacktestResponse, DetectorsRequest, DetectorsResponse, ExplainRequest,
    Explanation, MarkReleaseRequest, MarkReleaseResponse,
};
use tonic::{Request, Status};

use crate::grpc::{IncidentsService, checked, operator, status};
use crate::perform::mark_release;
use crate::{backtest, explain};

/// The longest id of a release, in bytes.
const MAX_RELEASE: usize = 256;

impl IncidentsService {
    pub(crate) async fn explained(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Explanation, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        let id = request.into_inner().id;
        self.catch_up().await?;
        let found = self.watch.read(|state| explain::explanation(state, &id));
        let mut explanation = found.ok_or_else(|| {
            let id: String = id.chars().take(64).collect();
            Status::not_found(format!(
                "there is no signal and no kept near miss {id:?}; `sealwarden incident show` names signals, `sealwarden detectors list` near misses"
            ))
        })?;
        explain::fill_in(&self.node, &mut explanation).await?;
        Ok(explanation)
    }

    pub(crate) async fn detectors_seen(
        &self,
        request: Request<DetectorsRequest>,
    ) -> Result<DetectorsResponse, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        self.catch_up().await?;
        Ok(self.watch.read(explain::detectors))
    }

    pub(crate) async fn backtested(
        &self,
        request: Request<BacktestRequest>,
    ) -> Result<BacktestResponse, Status> {
        operator(&request)?;
        let asked = request.into_inner();
        let detectors = Detectors::parse("detectors.yaml", &asked.detectors);
        let detectors = detectors.map_err(|findings| {
            let first = findings.first().map(ToString::to_string);
            Status::invalid_argument(first.unwrap_or_default())
        })?;
        let Ok(_one) = self.backtesting.try_acquire() else {
            return Err(Status::resource_exhausted(
                "another backtest is under way; try again when it is through",
            ));
        };
        self.catch_up().await?;
        let since_ms = asked.since_ms;
        let (found, mut response) = backtest::backtest(&self.node, &detectors, since_ms).await?;
        response.signals = self
            .watch
            .read(|state| backtest::compare(state, &detectors, since_ms, &found));
        Ok(response)
    }

    pub(crate) async fn release_marked(
        &self,
        request: Request<MarkReleaseRequest>,
    ) -> Result<MarkReleaseResponse, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator, CallerRole::Detector])?;
        let asked = request.into_inner();
        checked("component", &asked.component)?;
        checked("version", &asked.version)?;
        if !asked.note.is_empty() {
            checked("note", &asked.note)?;
        }
        if asked.release.is_empty() || asked.release.len() > MAX_RELEASE {
            return Err(Status::invalid_argument(format!(
                "release has {} bytes; name the release in 1 to {MAX_RELEASE}, so that a repetition counts once",
                asked.release.len()
            )));
        }
        let marked = ReleaseMarked {
            component: asked.component,
            version: asked.version,
            by: caller.name.to_string(),
            note: asked.note,
            release: asked.release,
        };
        let name = caller.name.as_str();
        let meta = if caller.role == CallerRole::Operator {
            Meta::person(name)
        } else {
            Meta::detector(name)
        };
        let executed = mark_release(&self.node, meta, marked)
            .await
            .map_err(status)?;
        Ok(MarkReleaseResponse {
            marked: !executed.events.is_empty(),
        })
    }
}
