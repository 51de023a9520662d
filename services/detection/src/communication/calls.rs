//! What callers see and say.

use std::collections::BTreeSet;

use sealwarden_domain::communication::{
    Brief, Command, Communication, DeliveryPhase, NoticeState, decide, engineers, executives,
};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream};
use sealwarden_runbook::{Audience, ChannelKind};
use sealwarden_wire::event::v1::{IncidentAcknowledged, NoticePrepared, PageAction};
use sealwarden_wire::incident::v1 as api;

use super::with_situation;
use crate::state::State;

/// The text that an audience would be told now; `None` if there is no such incident.
pub(crate) fn brief(
    state: &State,
    node: &Node,
    id: &str,
    audience: Audience,
    now_ms: i64,
) -> Option<Brief> {
    let nobody = BTreeSet::new();
    with_situation(
        state,
        id,
        &node.plan,
        &nobody,
        now_ms,
        |situation| match audience {
            Audience::Executives => executives(situation),
            Audience::Engineers => engineers(situation),
        },
    )
}

/// What was told of an incident; `None` if there is no such incident.
pub(crate) fn notices(state: &State, id: &str) -> Option<api::NoticesResponse> {
    state.incidents.get(id).filter(|i| i.opened.is_some())?;
    let nothing = Communication::default();
    let told = state.communications.get(id).unwrap_or(&nothing);
    let last = told.acknowledged.last();
    Some(api::NoticesResponse {
        incident: id.to_owned(),
        notices: told.notices.iter().map(notice).collect(),
        acknowledged_by: last.map(|word| word.by.clone()).unwrap_or_default(),
        acknowledged_at_ms: last.map_or(0, |word| word.at_ms),
    })
}

fn notice(state: &NoticeState) -> api::Notice {
    let told = &state.prepared;
    let deliveries = state.deliveries.iter().map(|(channel, it)| api::Delivery {
        channel: channel.clone(),
        attempts: it.attempts,
        standing: match it.phase {
            DeliveryPhase::Waiting(_) => "waiting",
            DeliveryPhase::Sending => "sending",
            DeliveryPhase::Delivered => "delivered",
            DeliveryPhase::Refused => "refused",
            DeliveryPhase::GivenUp => "given up",
        }
        .to_owned(),
        reason: it.reason.clone(),
        at_ms: it.at_ms,
        again_at_ms: match it.phase {
            DeliveryPhase::Waiting(at_ms) => at_ms,
            DeliveryPhase::Sending
            | DeliveryPhase::Delivered
            | DeliveryPhase::Refused
            | DeliveryPhase::GivenUp => 0,
        },
        key: it.key.clone(),
    });
    api::Notice {
        number: told.number,
        audience: told.audience.clone(),
        title: told.title.clone(),
        text: told.text.clone(),
        prepared_at_ms: state.at_ms,
        standing: standing(state).to_owned(),
        deliveries: deliveries.collect(),
        template: told.template.clone(),
        template_sha256: told.template_sha256.clone(),
        awaits: state
            .missing_roles()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        approved_by: state
            .standing()
            .filter(|d| d.decision == "approve")
            .map(|d| d.person.clone())
            .collect(),
        addressee: told.addressee.clone(),
        by: told.by.clone(),
        language: told.language.clone(),
        digest: String::new(),
    }
}

fn standing(state: &NoticeState) -> &'static str {
    if state.is_denied() {
        return "denied";
    }
    if !state.is_free() {
        return "waits for approval";
    }
    let phases = || state.deliveries.values().map(|it| &it.phase);
    let open =
        |phase: &DeliveryPhase| matches!(phase, DeliveryPhase::Waiting(_) | DeliveryPhase::Sending);
    let delivered = phases().filter(|p| **p == DeliveryPhase::Delivered).count();
    if state.deliveries.is_empty() {
        "nobody to tell"
    } else if phases().any(open) {
        "under way"
    } else if delivered == state.deliveries.len() {
        "delivered"
    } else if delivered > 0 {
        "partly delivered"
    } else {
        "not delivered"
    }
}

/// Records that a person takes care.
pub(crate) async fn acknowledge(
    node: &Node,
    meta: Meta,
    id: &str,
    by: &str,
    note: &str,
) -> Result<Executed, ExecuteError> {
    let word = IncidentAcknowledged {
        by: format!("person {by}"),
        note: note.to_owned(),
    };
    let mut stream: Stream<Communication> = node.stream("communication", id).await?;
    stream
        .execute(meta, |state| {
            decide(state, Command::Acknowledge(word.clone()))
        })
        .await
}

/// What a person tells.
pub(crate) struct Told<'a> {
    pub(crate) by: &'a str,
    pub(crate) audience: Audience,
    pub(crate) title: String,
    pub(crate) text: &'a str,
    /// Makes a repeated call the same call.
    pub(crate) request: &'a str,
}

/// Records what a person tells an audience; it is sent like any other notice.
pub(crate) async fn tell(
    node: &Node,
    meta: Meta,
    id: &str,
    reachable: &BTreeSet<String>,
    told: &Told<'_>,
) -> Result<Executed, ExecuteError> {
    let planned = node.plan.plan().communication();
    let channels = planned
        .into_iter()
        .flat_map(|plan| plan.channels_of(told.audience));
    let channels = channels.filter(|channel| {
        channel.kind != ChannelKind::PagerDuty && reachable.contains(&channel.name)
    });
    let notice = NoticePrepared {
        audience: told.audience.as_str().to_owned(),
        title: told.title.clone(),
        text: format!("{}\n\n{} says so.\n", told.text.trim_end(), told.by),
        covers: vec![format!("{}: told {}", told.audience.as_str(), told.request)],
        channels: channels.map(|channel| channel.name.clone()).collect(),
        page: PageAction::None.into(),
        by: format!("person {}", told.by),
        language: "en".to_owned(),
        ..NoticePrepared::default()
    };
    let mut stream: Stream<Communication> = node.stream("communication", id).await?;
    let command = Command::Prepare(Box::new(notice));
    stream
        .execute(meta, |state| decide(state, command.clone()))
        .await
}
