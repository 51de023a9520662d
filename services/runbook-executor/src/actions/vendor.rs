//! Vendors that failed: who stands in for them, and when they serve again. What the vendor's stream says is what services go by.

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_domain::vendor::{Command, Vendor, decide};
use sealwarden_engine::{ExecuteError, Role};
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::event::v1::{IncidentStage, VendorProbed, VendorSetAside, VendorTakenBack};
use sealwarden_wire::verify::v1::ProbeVendorRequest;
use sealwarden_wire::verify::v1::vendors_client::VendorsClient;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::peer::{CallError, channel, until_answered};
use crate::executor::Executor;

/// Stands where `vendors.yaml` names nobody.
pub(crate) const NOBODY: &str = "none";

pub(super) async fn activate(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let (vendor, fallback) = (attempt.input("vendor")?, attempt.input("fallback")?);
    if fallback == NOBODY {
        return Err(Trouble::refused(format!(
            "vendors.yaml names nobody who stands in for {vendor}; do without it, and `sealwarden run skip` this step"
        )));
    }
    let probed = well(executor, fallback, progress).await?;
    let set_aside = Command::SetAside(VendorSetAside {
        vendor: vendor.to_owned(),
        fallback: fallback.to_owned(),
        incident: attempt.incident.clone(),
        run: attempt.run.clone(),
        step: attempt.id.step.clone(),
        at_ms: executor.node.clock.now().wall_ms,
    });
    record(executor, attempt, vendor, set_aside).await?;
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Contained,
        reason: format!("{fallback} stands in for {vendor}: {}", probed.reason),
    };
    executor.incident(&attempt.incident, reached).await?;
    Ok(Outputs::from([(
        "fallback".to_owned(),
        fallback.to_owned(),
    )]))
}

pub(super) async fn observe_activated(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let (Ok(vendor), Ok(fallback)) = (attempt.input("vendor"), attempt.input("fallback")) else {
        return Ok(Observation::NotDone("the step has no inputs".to_owned()));
    };
    let stream = executor.node.stream::<Vendor>("vendor", vendor).await?;
    let aside = stream.state().aside.as_ref();
    let ours = aside.is_some_and(|it| it.run == attempt.run && it.step == attempt.id.step);
    // The incident's stage is reached after the event: going on with the step does both.
    Ok(if ours {
        Observation::Underway(format!(
            "{fallback} stands in, and the step has not said so yet"
        ))
    } else {
        Observation::NotDone(format!("{vendor} is not set aside by this step"))
    })
}

pub(super) async fn take_back(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let vendor = attempt.input("vendor")?;
    let probed = well(executor, vendor, progress).await?;
    let taken_back = Command::TakeBack(VendorTakenBack {
        vendor: vendor.to_owned(),
        incident: attempt.incident.clone(),
        run: attempt.run.clone(),
        step: attempt.id.step.clone(),
        at_ms: executor.node.clock.now().wall_ms,
    });
    record(executor, attempt, vendor, taken_back).await?;
    Ok(Outputs::from([("answer".to_owned(), probed.reason)]))
}

pub(super) async fn observe_taken_back(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let Ok(vendor) = attempt.input("vendor") else {
        return Ok(Observation::NotDone("the step has no inputs".to_owned()));
    };
    let stream = executor.node.stream::<Vendor>("vendor", vendor).await?;
    let state = stream.state();
    let ours = state
        .taken_back
        .as_ref()
        .filter(|it| it.run == attempt.run && it.step == attempt.id.step);
    Ok(match ours {
        Some(_) if state.aside.is_none() => {
            let answer = state.last.as_ref().map(|it| it.reason.clone());
            let answer = answer.unwrap_or_default();
            Observation::Done(Outputs::from([("answer".to_owned(), answer)]))
        }
        Some(_) | None => Observation::NotDone(format!("{vendor} is not taken back by this step")),
    })
}

/// A probe of now, which must be good.
async fn well(
    executor: &Executor,
    vendor: &str,
    progress: &Progress,
) -> Result<VendorProbed, Trouble> {
    let probed = until_answered(progress, "the verification service", || {
        probe(executor, vendor)
    })
    .await?;
    if probed.well {
        return Ok(probed);
    }
    Err(Trouble::unavailable(format!(
        "vendor {vendor} is not well: {}",
        probed.reason
    )))
}

async fn probe(executor: &Executor, vendor: &str) -> Result<VendorProbed, CallError> {
    let channel = channel(executor, Role::Verification)?;
    let mut vendors = VendorsClient::with_interceptor(channel, TraceContext);
    let request = ProbeVendorRequest {
        vendor: vendor.to_owned(),
    };
    let answer = vendors.probe_vendor(request).await?.into_inner();
    let nothing = || CallError::Refused("it answered without a probe".to_owned());
    answer.probed.ok_or_else(nothing)
}

async fn record(
    executor: &Executor,
    attempt: &Attempt,
    vendor: &str,
    command: Command,
) -> Result<(), Trouble> {
    let mut stream = executor.node.stream::<Vendor>("vendor", vendor).await?;
    let meta = attempt.meta(executor);
    stream
        .execute(meta, |state| decide(state, command.clone()))
        .await?;
    Ok(())
}
