//! Telling people: what is due is recorded, sent, and its end recorded.
//!
//! - `sinks`: the plan's channels with their addresses.
//! - `site`: what stands on status pages.
//! - `task`: looks at incidents of which something was folded, records texts that are due, and hands deliveries out.
//! - `deliver`: one message on one channel, from the recorded start to the recorded end.
//! - `calls`: what callers see and say.
//!
//! **Invariant:** a channel has one message under way. What comes due meanwhile is told together, so neither incidents nor people are flooded, and a channel that
//! hangs holds up no other channel, no detector and no containment.

mod calls;
mod deliver;
mod sinks;
mod site;
mod task;

pub(crate) use calls::{Told, acknowledge, brief, decide_signed, notices, prepare, tell};
pub(crate) use sinks::Sinks;
pub(crate) use task::communicate;

use std::collections::BTreeSet;
use std::sync::Arc;

use sealwarden_domain::approval::RevokedKeys;
use sealwarden_domain::communication::{Communication, RunFacts, Situation};
use sealwarden_engine::Node;
use sealwarden_runbook::Roster;

use crate::state::State;
use crate::view::earliest;

/// What the node knows beside the service's own state. It is taken before that state is read, since both are locked while they are.
pub(crate) struct Surroundings<'a> {
    node: &'a Node,
    roster: Arc<Roster>,
    revoked: RevokedKeys,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn of(node: &'a Node) -> Self {
        Self {
            node,
            roster: node.roster(),
            revoked: node.board.read(|it| it.trust.revoked_keys.clone()),
        }
    }
}

/// Looks at an incident as texts and deadlines need it; `None` if there is none.
pub(crate) fn with_situation<T>(
    state: &State,
    id: &str,
    around: &Surroundings<'_>,
    reachable: &BTreeSet<String>,
    now_ms: i64,
    look: impl FnOnce(&Situation<'_>) -> T,
) -> Option<T> {
    let incident = state.incidents.get(id).filter(|i| i.opened.is_some())?;
    let nothing = Communication::default();
    let runs: Vec<&RunFacts> = incident
        .runs
        .iter()
        .filter_map(|link| state.runs.get(&link.run))
        .collect();
    let log = incident.opened.as_ref().map_or("", |o| o.log.as_str());
    Some(look(&Situation {
        installation: &around.node.installation,
        id,
        incident,
        earliest_ms: earliest(state, incident),
        log: state.logs.get(log),
        runs: &runs,
        communication: state.communications.get(id).unwrap_or(&nothing),
        plan: &around.node.plan,
        roster: &around.roster,
        revoked: &around.revoked,
        reachable,
        now_ms,
    }))
}
