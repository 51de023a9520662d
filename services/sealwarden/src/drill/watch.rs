//! The live timeline: what `incident show` tells, as it grows.

use sealwarden_wire::incident::v1 as wire;

use super::Narrator;
use super::sandbox::Sandbox;
use crate::failure::Failure;

/// Follows the first incident of the sandbox.
pub(crate) struct Watch {
    narrator: Narrator,
    started_ms: i64,
    told: usize,
    /// Its id, once it is open.
    pub(crate) incident: Option<String>,
}

impl Watch {
    /// Times are told relative to `started_ms`, Unix milliseconds.
    pub(crate) fn new(narrator: Narrator, started_ms: i64) -> Self {
        Self { narrator, started_ms, told: 0, incident: None }
    }

    /// Tells what is new, and answers the incident as it is now.
    pub(crate) async fn look(&mut self, sandbox: &Sandbox) -> Result<Option<wire::Incident>, Failure> {
        let mut incidents = sandbox.client("operator")?.incidents().await?;
        if self.incident.is_none() {
            let list = incidents.list(wire::ListRequest { open_only: false }).await?.into_inner().incidents;
            self.incident = list.first().map(|i| i.incident.clone());
        }
        let Some(id) = &self.incident else { return Ok(None) };
        let incident = incidents.show(wire::ShowRequest { incident: id.clone() }).await?.into_inner();
        for entry in incident.timeline.iter().skip(self.told) {
            let at = entry.at_ms - self.started_ms;
            let sign = if at < 0 { '-' } else { '+' };
            let at = at.abs();
            self.narrator.say(&format!("  {sign}{:>3}.{:03} s  {}", at / 1000, at % 1000, entry.text));
        }
        self.told = self.told.max(incident.timeline.len());
        Ok(Some(incident))
    }
}
