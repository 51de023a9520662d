//! What the service says about itself.

use crate::queue::Priority;
use crate::seals::blocking;
use crate::service::Service;
use sealwarden_wire::seal::v1::{KeyStatus, StatusResponse};
use std::collections::BTreeMap;
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
        witnesses: Vec::new(),
    })
}

async fn keys(service: &Service) -> Result<Vec<KeyStatus>, Status> {
    let origins: BTreeMap<_, _> = service
        .trees()
        .into_iter()
        .map(|tree| {
            (
                tree.key.to_string(),
                (tree.origin.clone(), tree.vkey.to_string()),
            )
        })
        .collect();
    let known = service.node.keys.list().await;
    let known = known.map_err(|error| Status::unavailable(error.to_string()))?;
    let status = |info: sealwarden_keys::KeyInfo| {
        let key_id = info.id.to_string();
        let (origin, vkey) = origins.get(&key_id).cloned().unwrap_or_default();
        KeyStatus {
            origin,
            key_id,
            vkey,
            provider: info.provider,
            state: info.state.to_string(),
            created_at_ms: info.created_at_ms,
            purpose: info.purpose.to_string(),
        }
    };
    Ok(known.into_iter().map(status).collect())
}
