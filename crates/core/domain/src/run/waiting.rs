//! Whom a step waits for: since when, until when, and whose signature would bring it further.

use sealwarden_runbook::{Approver, Assessment, Quorum};

use super::pinned::{Pinned, millis};
use super::state::{Phase, RunState, StepState};
use super::undo::barred;
use crate::approval::{Decision, counted_roles};
use crate::fold::At;

/// A step that waits for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Since when, Unix milliseconds.
    pub(crate) since_ms: i64,
    /// By when the plan wants them to have decided, Unix milliseconds.
    pub(crate) due_ms: i64,
    /// Who could bring it further: whose approval makes less of the quorum missing, and who stands against it. In the roster's order.
    pub(crate) can_sign: Vec<String>,
}

/// Whom a step waits for; `None` if it waits for nobody's approval.
pub(crate) fn waiting(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    at: At,
) -> Option<Waiting> {
    let quorum = pinned.quorum(id)?;
    if !state.is_open() || step.phase != Phase::Ready {
        return None;
    }
    let standing: Vec<_> = step.standing(at.wall_ms).collect();
    let denies = |person: &str| {
        let mut standing = standing.iter();
        standing.any(|it| it.person == person && it.decision == Decision::Deny)
    };
    let approving: Vec<Approver> = standing
        .iter()
        .filter(|it| it.decision != Decision::Deny)
        .map(|it| Approver {
            person: it.person.clone(),
            roles: it.roles.clone(),
        })
        .collect();
    let needed = missing(quorum, &approving);
    let barred = barred(state, pinned, id);
    let helps = |person: &sealwarden_runbook::Person| {
        let mut with = approving.clone();
        with.push(Approver {
            person: person.id.clone(),
            roles: counted_roles(person, Some(quorum)),
        });
        missing(quorum, &with) < needed
    };
    let people = pinned.roster().people().iter().filter(|person| {
        let mut keys = person.keys.iter();
        !barred.contains(&person.id) && keys.any(|key| !state.revoked().contains(&key.fingerprint))
    });
    let can_sign: Vec<String> = people
        .filter(|person| denies(&person.id) || helps(person))
        .map(|person| person.id.clone())
        .collect();
    let is_denied = step.denied_by(at.wall_ms).is_some();
    if needed == 0 && !is_denied {
        return None;
    }
    let within = pinned
        .runbook()
        .work(id)
        .and_then(|step| step.approval.as_ref())
        .map_or(0, |approval| millis(approval.within));
    Some(Waiting {
        since_ms: step.ready_at_ms,
        due_ms: step.ready_at_ms.saturating_add(within),
        can_sign,
    })
}

/// How many people are missing altogether.
fn missing(quorum: &Quorum, approving: &[Approver]) -> u32 {
    match quorum.assess(approving) {
        Assessment::Met(_) => 0,
        Assessment::Missing(missing) => missing.values().sum(),
    }
}
