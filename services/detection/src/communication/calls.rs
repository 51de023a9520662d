//! What callers see and say.

use std::collections::BTreeSet;

use sealwarden_domain::approval;
use sealwarden_domain::communication::{
    APPROVERS, Ballot, Brief, Command, Communication, DeliveryPhase, NoticeState, RUN, decide,
    decide_notice, engineers, executives, missing, notice_digest, notice_text, number_of, quorum,
    source_of, step_of,
};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream};
use sealwarden_eventlog::Environment;
use sealwarden_runbook::{Audience, ChannelKind, Roster};
use sealwarden_wire::event::v1::{IncidentAcknowledged, NoticePrepared, PageAction};
use sealwarden_wire::incident::v1 as api;
use sealwarden_wire::run::v1::{ApproveResponse, Approver, PrepareResponse};

use super::{Surroundings, with_situation};
use crate::state::State;

/// The text that an audience would be told now; `None` if there is no such incident.
pub(crate) fn brief(
    state: &State,
    around: &Surroundings<'_>,
    id: &str,
    audience: Audience,
    now_ms: i64,
) -> Option<Brief> {
    let nobody = BTreeSet::new();
    with_situation(
        state,
        id,
        around,
        &nobody,
        now_ms,
        |situation| match audience {
            Audience::Executives => executives(situation),
            Audience::Engineers | Audience::Public => engineers(situation),
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
        notices: told.notices.iter().map(|it| notice(id, it)).collect(),
        acknowledged_by: last.map(|word| word.by.clone()).unwrap_or_default(),
        acknowledged_at_ms: last.map_or(0, |word| word.at_ms),
    })
}

fn notice(id: &str, state: &NoticeState) -> api::Notice {
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
        awaits: if state.is_free() {
            Vec::new()
        } else {
            told.awaits.clone()
        },
        approved_by: state
            .standing()
            .filter(|d| d.decision == "approve")
            .map(|d| d.person.clone())
            .collect(),
        addressee: told.addressee.clone(),
        by: told.by.clone(),
        language: told.language.clone(),
        digest: notice_digest(id, told),
        signed_beforehand: told.signed_beforehand.clone(),
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

/// What a person has to sign to decide a notice; `None` if there is none.
pub(crate) fn prepare(
    state: &State,
    node: &Node,
    roster: &Roster,
    id: &str,
    number: u32,
    now_ms: i64,
) -> Option<PrepareResponse> {
    let notice = state.communications.get(id)?.notice(number)?;
    let prepared = &notice.prepared;
    let (runbook, runbook_digest) = source_of(id, prepared);
    let environment = environment(node);
    let approvers = roster.people().iter().map(|person| Approver {
        person: person.id.clone(),
        name: person.name.clone(),
        roles: person.roles.iter().map(ToString::to_string).collect(),
        key_fingerprints: person.keys.iter().map(|k| k.fingerprint.clone()).collect(),
    });
    Some(PrepareResponse {
        installation: node.installation.clone(),
        environment: environment.as_str().to_owned(),
        run: RUN.to_owned(),
        incident: id.to_owned(),
        step: step_of(number),
        iteration: 0,
        runbook,
        runbook_digest,
        inputs: notice_text(id, prepared),
        inputs_digest: notice_digest(id, prepared),
        roster_digest: roster.digest_hex(),
        namespace: environment.namespace().as_str().to_owned(),
        title: prepared.title.clone(),
        description: "What is published is read by everybody and cannot be taken back.".to_owned(),
        action: "publish-notice".to_owned(),
        action_does: format!("sends this text to: {}", prepared.channels.join(", ")),
        manual: false,
        quorum: quorum(prepared).map(|q| q.to_string()).unwrap_or_default(),
        missing: missing(notice, now_ms),
        validity_ms: validity_ms(node),
        approvers: approvers.collect(),
        requesters: prepared
            .by
            .strip_prefix("person ")
            .map(str::to_owned)
            .into_iter()
            .collect(),
        decision: String::new(),
    })
}

fn environment(node: &Node) -> approval::Environment {
    match node.environment {
        Environment::Production => approval::Environment::Production,
        Environment::Drill => approval::Environment::Drill,
    }
}

fn validity_ms(node: &Node) -> i64 {
    let validity = node.plan.plan().approval_validity();
    i64::try_from(validity.as_millis()).unwrap_or(i64::MAX)
}

/// Takes in a signed decision over a notice. A refusal is an answer and changes nothing.
pub(crate) async fn decide_signed(
    node: &Node,
    meta: Meta,
    id: &str,
    (statement, signature): (&str, &str),
) -> Result<(ApproveResponse, u64), ExecuteError> {
    let mut stream: Stream<Communication> = node.stream("communication", id).await?;
    let now_ms = node.clock.now().wall_ms;
    let around = Surroundings::of(node);
    let ballot = Ballot {
        installation: &node.installation,
        environment: environment(node),
        incident: id,
        roster: &around.roster,
        revoked: &around.revoked,
        max_validity_ms: validity_ms(node),
    };
    let mut refused = None;
    let executed = stream
        .execute(meta, |state| {
            match decide_notice(state, &ballot, statement, signature, now_ms) {
                Ok(events) => {
                    refused = None;
                    Ok(events)
                }
                Err(refusal) => {
                    refused = Some(refusal);
                    Ok(Vec::new())
                }
            }
        })
        .await?;
    if let Some(refusal) = refused {
        let answer = ApproveResponse {
            accepted: false,
            code: refusal.code.as_str().to_owned(),
            reason: refusal.reason,
            missing: String::new(),
        };
        return Ok((answer, executed.position));
    }
    let notice = number_of(statement).and_then(|number| stream.state().notice(number));
    let answer = ApproveResponse {
        accepted: true,
        missing: notice.map(|it| missing(it, now_ms)).unwrap_or_default(),
        ..ApproveResponse::default()
    };
    Ok((answer, executed.position))
}

/// What a person tells.
pub(crate) struct Told<'a> {
    pub(crate) by: &'a str,
    pub(crate) audience: Audience,
    pub(crate) title: String,
    pub(crate) text: &'a str,
    /// BCP 47.
    pub(crate) language: &'a str,
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
        text: match told.audience {
            // People outside need no name.
            Audience::Public => format!("{}\n", told.text.trim_end()),
            Audience::Engineers | Audience::Executives => {
                format!("{}\n\n{} says so.\n", told.text.trim_end(), told.by)
            }
        },
        awaits: match told.audience {
            Audience::Public => APPROVERS.map(str::to_owned).to_vec(),
            Audience::Engineers | Audience::Executives => Vec::new(),
        },
        covers: vec![format!("{}: told {}", told.audience.as_str(), told.request)],
        channels: channels.map(|channel| channel.name.clone()).collect(),
        page: PageAction::None.into(),
        by: format!("person {}", told.by),
        language: told.language.to_owned(),
        ..NoticePrepared::default()
    };
    let mut stream: Stream<Communication> = node.stream("communication", id).await?;
    let command = Command::Prepare(Box::new(notice));
    stream
        .execute(meta, |state| decide(state, command.clone()))
        .await
}
