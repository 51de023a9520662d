//! The `Learning` service: postmortems and action items, recorded in their incident's stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use sealwarden_domain::approval::Environment;
use sealwarden_domain::incident::{Incident, time_text};
use sealwarden_domain::learning::{
    APPROVER_ROLE, Command, Item, MAX_POSTMORTEM_BYTES, Postmortem, decide,
};
use sealwarden_engine::{Meta, Node, Stream};
use sealwarden_pki::CallerRole::{Node as Peer, Operator};
use sealwarden_pki::{Caller, caller_of, require};
use sealwarden_runbook::Roster;
use sealwarden_wire::event::v1::{
    ActionItemAdded, ActionItemChecked, ActionItemDone, ActionItemDropped, ActionItemMoved,
    event::Kind,
};
use sealwarden_wire::incident::v1 as api;
use sealwarden_wire::incident::v1::change_item_request::Change;
use sealwarden_wire::incident::v1::learning_server::Learning;
use tonic::{Request, Response, Status};

use crate::grpc::{IncidentsService, not_found, operator, status};

/// Postmortems and action items.
pub(crate) struct LearningService(pub(crate) Arc<IncidentsService>);

impl LearningService {
    async fn record(
        &self,
        caller: &Caller,
        id: &str,
        command: Command,
    ) -> Result<api::Learned, Status> {
        let incidents = &self.0;
        incidents.catch_up().await?;
        self.learned(id)?; // an incident that is there
        let node = &incidents.node;
        let mut stream: Stream<Incident> = node.stream("incident", id).await.map_err(status)?;
        let meta = Meta::person(caller.name.as_str()).correlated(id.to_owned());
        let executed = stream
            .execute(meta, |incident| {
                decide(incident, &node.roster(), command.clone())
            })
            .await
            .map_err(status)?;
        incidents.folded(executed.position).await?;
        self.learned(id)
    }

    fn learned(&self, id: &str) -> Result<api::Learned, Status> {
        let node = &self.0.node;
        let now_ms = node.clock.now().wall_ms;
        self.0
            .watch
            .read(|state| {
                let incident = state.incidents.get(id).filter(|it| it.opened.is_some())?;
                Some(view(node, id, incident, now_ms))
            })
            .ok_or_else(|| not_found(id))
    }
}

/// Which of the two worlds a node's people sign for.
fn environment(node: &Node) -> Environment {
    match node.environment {
        sealwarden_eventlog::Environment::Production => Environment::Production,
        sealwarden_eventlog::Environment::Drill => Environment::Drill,
    }
}

fn view(node: &Node, id: &str, incident: &Incident, now_ms: i64) -> api::Learned {
    let learning = &incident.learning;
    api::Learned {
        incident: id.to_owned(),
        installation: node.installation.clone(),
        environment: environment(node).to_string(),
        postmortems: learning.postmortems.values().map(postmortem).collect(),
        items: learning.items.iter().map(|it| item(it, now_ms)).collect(),
        now_ms,
        publishers: publishers(&node.roster()),
    }
}

/// Keys of those who may let a postmortem go out, with whose they are.
fn publishers(roster: &Roster) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for person in roster.people() {
        if person
            .roles
            .iter()
            .any(|role| role.as_str() == APPROVER_ROLE)
        {
            let owned = person.keys.iter();
            keys.extend(owned.map(|key| (key.fingerprint.clone(), person.id.clone())));
        }
    }
    keys
}

fn postmortem(known: &Postmortem) -> api::Postmortem {
    let recorded = known.recorded.clone();
    let approval = known.approved.clone();
    let approved_at_ms = approval.as_ref().map_or(0, |approval| approval.at_ms);
    let approved = approval.map(|it| it.approved).unwrap_or_default();
    api::Postmortem {
        audience: recorded.audience,
        version: recorded.version,
        text: recorded.text,
        sha256: recorded.sha256,
        by: recorded.by,
        at_ms: known.at_ms,
        approved_by: approved.person,
        approved_at_ms,
        statement: approved.statement,
        signature: approved.signature,
    }
}

fn item(known: &Item, now_ms: i64) -> api::ActionItem {
    let added = known.added.clone();
    api::ActionItem {
        item: added.item,
        title: added.title,
        owner: added.owner,
        due_at_ms: added.due_at_ms,
        verification: added.verification,
        gates_releases: added.gates_releases,
        standing: known.standing(now_ms).as_str().to_owned(),
        added_at_ms: known.added_at_ms,
        ended_at_ms: known.ended_at_ms,
        remark: known.remark.clone(),
        by: known.by.clone(),
    }
}

fn by(caller: &Caller) -> String {
    format!("person {}", caller.name)
}

/// The command of a change.
fn change(caller: &Caller, item: String, change: Change) -> Command {
    let by = by(caller);
    match change {
        Change::Move(to) => Command::Move(ActionItemMoved {
            item,
            owner: to.owner,
            due_at_ms: to.due_at_ms,
            reason: to.reason,
            by,
        }),
        Change::Done(reference) => Command::Done(ActionItemDone {
            item,
            reference,
            by,
        }),
        Change::Check(check) => Command::Check(ActionItemChecked {
            item,
            done: check.done,
            found: check.found,
            by,
        }),
        Change::Drop(reason) => Command::Drop(ActionItemDropped { item, reason, by }),
    }
}

/// The sentence for an event of what was learned; `None` for others.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`words` names every event and sends only these here"
)]
pub(crate) fn sentence(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::PostmortemRecorded(e) => format!(
            "version {} of the {} postmortem is recorded, sha256 {} ({})",
            e.version, e.audience, e.sha256, e.by
        ),
        Kind::PostmortemApproved(e) => format!(
            "{} signed that version {} of the public postmortem may go out",
            e.person, e.version
        ),
        Kind::ActionItemAdded(e) => format!(
            "action item {}: {}, {} by {} ({})",
            e.item,
            e.title,
            e.owner,
            time_text(e.due_at_ms),
            e.by
        ),
        Kind::ActionItemMoved(e) => format!(
            "action item {} is {}'s by {}: {} ({})",
            e.item,
            e.owner,
            time_text(e.due_at_ms),
            e.reason,
            e.by
        ),
        Kind::ActionItemDone(e) => {
            format!("action item {} is done: {} ({})", e.item, e.reference, e.by)
        }
        Kind::ActionItemChecked(e) if e.done => {
            format!("action item {} was checked: {} ({})", e.item, e.found, e.by)
        }
        Kind::ActionItemChecked(e) => format!(
            "action item {} is open again: {} ({})",
            e.item, e.found, e.by
        ),
        Kind::ActionItemDropped(e) => {
            format!("action item {} is dropped: {} ({})", e.item, e.reason, e.by)
        }
        _ => return None,
    })
}

#[tonic::async_trait]
impl Learning for LearningService {
    async fn show(
        &self,
        request: Request<api::ShowLearningRequest>,
    ) -> Result<Response<api::Learned>, Status> {
        require(&caller_of(&request)?, &[Operator, Peer])?;
        self.learned(&request.get_ref().incident).map(Response::new)
    }

    async fn record_postmortem(
        &self,
        request: Request<api::RecordPostmortemRequest>,
    ) -> Result<Response<api::Learned>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        if asked.text.len() > MAX_POSTMORTEM_BYTES {
            return Err(Status::invalid_argument(format!(
                "the postmortem has {} bytes; it may have {MAX_POSTMORTEM_BYTES}",
                asked.text.len()
            )));
        }
        let command = Command::Record {
            text: asked.text,
            by: by(&caller),
        };
        self.record(&caller, &asked.incident, command)
            .await
            .map(Response::new)
    }

    async fn approve_postmortem(
        &self,
        request: Request<api::ApprovePostmortemRequest>,
    ) -> Result<Response<api::Learned>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        let node = &self.0.node;
        let command = Command::Approve {
            installation: node.installation.clone(),
            environment: environment(node),
            statement: asked.statement,
            signature: asked.signature,
        };
        self.record(&caller, &asked.incident, command)
            .await
            .map(Response::new)
    }

    async fn add_item(
        &self,
        request: Request<api::AddItemRequest>,
    ) -> Result<Response<api::Learned>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        let item = ActionItemAdded {
            item: String::new(),
            title: asked.title,
            owner: asked.owner,
            due_at_ms: asked.due_at_ms,
            verification: asked.verification,
            gates_releases: asked.gates_releases,
            by: by(&caller),
        };
        self.record(&caller, &asked.incident, Command::Add(item))
            .await
            .map(Response::new)
    }

    async fn change_item(
        &self,
        request: Request<api::ChangeItemRequest>,
    ) -> Result<Response<api::Learned>, Status> {
        let caller = operator(&request)?;
        let asked = request.into_inner();
        let Some(changed) = asked.change else {
            return Err(Status::invalid_argument(
                "the change is missing: move, done, check or drop",
            ));
        };
        let command = change(&caller, asked.item, changed);
        self.record(&caller, &asked.incident, command)
            .await
            .map(Response::new)
    }
}
