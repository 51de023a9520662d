//! The installation's state as the control authority sees it.

use std::sync::Arc;

use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::{LogControl, Origin as OriginState, StopReason};
use sealwarden_pki::{CallerRole, caller_of, require};
use sealwarden_wire::control::v1::control_server::Control;
use sealwarden_wire::control::v1::{Log, Node, Origin, SetAside, StatusRequest, StatusResponse};
use tonic::{Request, Response, Status};

use crate::executor::Executor;

pub(super) struct ControlService(pub(super) Arc<Executor>);

#[tonic::async_trait]
impl Control for ControlService {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        require(
            &caller_of(&request)?,
            &[CallerRole::Operator, CallerRole::Node],
        )?;
        let node = &self.0.node;
        let wall_ms = node.clock.now().wall_ms;
        let mut status = node
            .board
            .read(|installation| of_installation(installation, wall_ms));
        status.set_aside.extend(self.set_aside(&status));
        status.roster_findings = super::roster::misfits(node);
        status.installation.clone_from(&node.installation);
        node.environment
            .as_str()
            .clone_into(&mut status.environment);
        Ok(Response::new(status))
    }
}

impl ControlService {
    /// Runs that only their own fold refuses.
    fn set_aside(&self, status: &StatusResponse) -> Vec<SetAside> {
        let runs = self.0.set_aside();
        let runs = runs.into_iter().map(|(run, reason)| SetAside {
            stream: format!("run/{run}"),
            reason,
        });
        let known = |it: &SetAside| status.set_aside.iter().any(|also| also.stream == it.stream);
        runs.filter(|it| !known(it)).collect()
    }
}

fn of_installation(installation: &Installation, wall_ms: i64) -> StatusResponse {
    StatusResponse {
        logs: installation
            .logs
            .iter()
            .map(|(name, log)| of_log(name, log, wall_ms))
            .collect(),
        nodes: installation
            .nodes
            .iter()
            .map(|(name, node)| {
                let (enrolled, announced) = (
                    node.enrolled.clone().unwrap_or_default(),
                    node.announced.clone().unwrap_or_default(),
                );
                let role = if announced.role.is_empty() {
                    enrolled.role
                } else {
                    announced.role
                };
                Node {
                    node: name.clone(),
                    role,
                    grpc_url: announced.grpc_url,
                    http_url: announced.http_url,
                    vkey: enrolled.vkey,
                }
            })
            .collect(),
        trust_version: installation
            .trust
            .published
            .as_ref()
            .map_or(0, |published| published.version),
        open_incidents: count(installation.open_incidents()),
        open_runs: count(installation.runs.values().filter(|run| run.ended.is_none())),
        set_aside: installation
            .poisoned
            .iter()
            .map(|(stream, reason)| SetAside {
                stream: stream.clone(),
                reason: reason.clone(),
            })
            .collect(),
        ..StatusResponse::default()
    }
}

fn of_log(name: &str, log: &LogControl, wall_ms: i64) -> Log {
    let current = log.current();
    let holder = current.and_then(|origin| {
        let mut grants = log.grants.iter();
        grants
            .find(|(_, grant)| grant.origin == origin.origin && !grant.released)
            .map(|(node, _)| node.clone())
    });
    Log {
        log: name.to_owned(),
        origin: current
            .map(|origin| origin.origin.clone())
            .unwrap_or_default(),
        size: current.map_or(0, size),
        mode: current
            .map_or("starting", |origin| mode(log, origin, wall_ms))
            .to_owned(),
        epoch: log.epoch(),
        permit_holder: holder.unwrap_or_default(),
        origins: log
            .origins
            .iter()
            .map(|origin| of_origin(log, origin))
            .collect(),
    }
}

/// What is known to be published. A writer records that late; but it intends the next size only when the one before is published.
fn size(origin: &OriginState) -> u64 {
    let before = origin
        .intents
        .iter()
        .nth_back(1)
        .map_or(0, |(size, _)| size);
    origin.published_size.max(before)
}

/// What the writer may do, by what it acknowledged; an order that it has not judged yet stops it too.
fn mode(log: &LogControl, origin: &OriginState, wall_ms: i64) -> &'static str {
    match log.may_sign(&origin.node, &origin.origin, wall_ms) {
        Ok(()) if origin.isolation.is_some() => "isolated",
        Ok(()) => log
            .ordered_mode(&origin.node)
            .map_or("open", |ordered| ordered.mode.as_str()),
        Err(StopReason::Isolated { .. }) => "isolated",
        Err(StopReason::NoKey { .. }) => "no-key",
        Err(StopReason::ReadOnly { .. }) => "read-only",
        Err(StopReason::Queue { .. }) => "queue",
        Err(StopReason::Hold { .. } | StopReason::Judging { .. }) => "hold",
        Err(StopReason::NotCurrent | StopReason::NotWriter { .. }) => "starting",
    }
}

/// What an origin is doing, as the API says it.
pub(super) fn state_of(log: &LogControl, origin: &OriginState) -> &'static str {
    let is_current = log
        .current()
        .is_some_and(|current| current.origin == origin.origin);
    if origin.isolation.is_some() {
        "isolated"
    } else if is_current {
        "active"
    } else {
        "retired"
    }
}

fn of_origin(log: &LogControl, origin: &OriginState) -> Origin {
    Origin {
        origin: origin.origin.clone(),
        vkey: origin.vkey.clone(),
        key_id: origin.key_id.clone(),
        provider: origin.provider.clone(),
        node: origin.node.clone(),
        state: state_of(log, origin).to_owned(),
        opened_at_ms: origin.opened_at_ms,
        compromised_since_ms: origin.compromised_since_ms.unwrap_or(0),
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}
