//! What the service says about itself.

use crate::queue::Priority;
use crate::rotation;
use crate::seals::blocking;
use crate::service::Service;
use sealwarden_keys::{HealthState, KeyInfo};
use sealwarden_wire::seal::v1::{KeyStatus, ProviderStatus, StatusResponse};
use tonic::Status;

/// The answer to `Status`.
pub(crate) async fn status(service: &Service) -> Result<StatusResponse, Status> {
    let (mode, reason) = match service.admits(Priority::Normal) {
        Ok(_) => ("open", String::new()),
        Err(failure) => (failure.mode(), failure.to_string()),
    };
    let current = service.current();
    let size = match &current {
        Some(tree) => {
            let reader = tree.reader.clone();
            blocking(move || Ok(reader.view()?.size())).await?
        }
        None => 0,
    };
    let boot_ms = service.node.clock.now().boot_ms;
    let permit = current.as_ref().is_some_and(|tree| {
        let node = &service.node.name;
        let valid = service.on_board(|log| {
            service
                .permits
                .valid(log, node, &tree.origin, boot_ms)
                .is_some()
        });
        valid.unwrap_or(false)
    });
    let (tickets, ticket_bytes) = service.tickets.waiting();
    let waiting = service.queue.max_capacity() - service.queue.capacity();
    let required = service.witnesses.required(&service.node.board);
    let anchors = service.authorities.status(current.as_deref());
    Ok(StatusResponse {
        node: service.node.name.clone(),
        log: service.config.log.clone(),
        origin: current.map(|tree| tree.origin.clone()).unwrap_or_default(),
        size,
        mode: mode.to_owned(),
        reason,
        permit,
        queued: u64::try_from(waiting).unwrap_or(u64::MAX),
        keys: keys(service).await?,
        tickets: u64::try_from(tickets).unwrap_or(u64::MAX),
        ticket_bytes,
        anchors,
        witnesses: service.answers.status(required.as_deref()),
        providers: providers(service),
    })
}

/// The key list: what providers say, beside what the log line knows of each key.
async fn keys(service: &Service) -> Result<Vec<KeyStatus>, Status> {
    let known = service.node.keys.list().await;
    let known = known.map_err(|error| Status::unavailable(error.to_string()))?;
    let listed = service.listed.keys(&service.node.board);
    let origins = service
        .on_board(|log| log.origins.clone())
        .unwrap_or_default();
    let status = |info: KeyInfo| {
        let signer = origins
            .iter()
            .filter(|origin| origin.node == service.node.name)
            .find_map(|origin| Some((origin, origin.signer(info.id.as_str())?)));
        let mut status = KeyStatus {
            algorithm: info.algorithm().to_string(),
            key_id: info.id.to_string(),
            provider: info.provider,
            state: info.state.to_string(),
            created_at_ms: info.created_at_ms,
            purpose: info.purpose.to_string(),
            attestation: info.attestation.format().to_owned(),
            rotation_uses_left: -1,
            ..KeyStatus::default()
        };
        if let Some((origin, signer)) = signer {
            status.origin.clone_from(&origin.origin);
            status.vkey.clone_from(&signer.vkey);
            signer.state.as_str().clone_into(&mut status.duty);
            signer.life.as_str().clone_into(&mut status.life);
            status.uses = signer.uses;
            status.listed = listed.contains(&signer.vkey);
            if signer.signs() && origin.isolation.is_none() {
                status.rotation_due_at_ms = rotation::due_at_ms(service, signer).unwrap_or(0);
                let left = rotation::uses_left(service, signer);
                status.rotation_uses_left =
                    left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX));
            }
        }
        status
    };
    Ok(known.into_iter().map(status).collect())
}

fn providers(service: &Service) -> Vec<ProviderStatus> {
    let keys = service.node.keys.as_ref();
    let one = |provider: String| {
        let health = keys.health(&provider);
        let last = service.pace.last_ms(&provider);
        let mut status = ProviderStatus {
            latency_ms: last.map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            provider,
            ..ProviderStatus::default()
        };
        match health {
            Ok(health) => {
                health.state.as_str().clone_into(&mut status.breaker);
                status.last_failure = health.last_failure.unwrap_or_default();
                match health.state {
                    HealthState::Closed => {}
                    HealthState::Open { since_ms, reason }
                    | HealthState::HalfOpen { since_ms, reason } => {
                        status.since_ms = since_ms;
                        status.reason = reason;
                    }
                }
            }
            Err(error) => status.reason = error.to_string(),
        }
        status
    };
    keys.sealing_providers().into_iter().map(one).collect()
}
