//! What the service says and takes in of what is told to whom.

use sealwarden_domain::approval::is_line_breaking;
use sealwarden_domain::communication::Brief;
use sealwarden_engine::Meta;
use sealwarden_pki::Caller;
use sealwarden_runbook::Audience;
use sealwarden_wire::incident::v1::{
    DecideNoticeRequest, NoticesResponse, PrepareNoticeRequest, TellRequest,
};
use sealwarden_wire::run::v1::{ApproveResponse, PrepareResponse};
use tonic::Status;

use super::{IncidentsService, checked, not_found, status};
use crate::communication::{self, Surroundings, Told};

impl IncidentsService {
    pub(super) fn notices(&self, id: &str) -> Result<NoticesResponse, Status> {
        self.watch
            .read(|state| communication::notices(state, id))
            .ok_or_else(|| not_found(id))
    }

    pub(super) fn brief(&self, id: &str, audience: Audience) -> Result<Brief, Status> {
        let now_ms = self.node.clock.now().wall_ms;
        let around = Surroundings::of(&self.node);
        self.watch
            .read(|state| communication::brief(state, &around, id, audience, now_ms))
            .ok_or_else(|| not_found(id))
    }

    /// Shows what was told, as soon as this is part of it.
    pub(super) async fn notices_after(
        &self,
        id: &str,
        position: u64,
    ) -> Result<NoticesResponse, Status> {
        let seen = self
            .watch
            .wait_until(|state| (state.position >= position).then_some(()));
        self.within(seen).await?;
        self.notices(id)
    }

    pub(super) async fn tell(
        &self,
        caller: &Caller,
        asked: &TellRequest,
    ) -> Result<NoticesResponse, Status> {
        if asked.request_id.is_empty() {
            return Err(Status::invalid_argument(
                "request_id is empty; name the call, so that a repetition tells nobody twice",
            ));
        }
        let audiences = match asked.audiences.as_slice() {
            [] => vec![Audience::Engineers, Audience::Executives],
            named => named
                .iter()
                .map(|word| audience(word))
                .collect::<Result<_, _>>()?,
        };
        if audiences.contains(&Audience::Public) {
            // Its lines and paragraphs are the writer's own.
            checked("text", asked.text.replace('\n', " ").trim())?;
            checked("title", &asked.title)?;
            check_line("title", &asked.title)?;
        } else {
            checked("text", &asked.text)?;
        }
        let language = match asked.language.as_str() {
            "" => "en",
            named if sealwarden_runbook::is_language(named) => named,
            _ => {
                let reason = "language is no BCP 47 tag; write one such as en, de or pt-BR";
                return Err(Status::invalid_argument(reason));
            }
        };
        self.catch_up().await?;
        Self::notices(self, &asked.incident)?; // an incident that is there
        let mut position = 0;
        for audience in audiences {
            let told = Told {
                by: caller.name.as_str(),
                audience,
                title: match audience {
                    Audience::Public => asked.title.clone(),
                    Audience::Engineers | Audience::Executives => {
                        self.brief(&asked.incident, audience)?.title
                    }
                },
                text: &asked.text,
                language,
                request: &asked.request_id,
            };
            let meta = Meta::person(caller.name.as_str()).correlated(asked.incident.clone());
            let reachable = &self.sinks.reachable;
            let executed = communication::tell(&self.node, meta, &asked.incident, reachable, &told)
                .await
                .map_err(status)?;
            position = position.max(executed.position);
        }
        self.notices_after(&asked.incident, position).await
    }

    pub(super) fn prepare_notice(
        &self,
        asked: &PrepareNoticeRequest,
    ) -> Result<PrepareResponse, Status> {
        let now_ms = self.node.clock.now().wall_ms;
        let roster = self.node.roster();
        let prepared = self.watch.read(|state| {
            communication::prepare(
                state,
                &self.node,
                &roster,
                &asked.incident,
                asked.number,
                now_ms,
            )
        });
        prepared.ok_or_else(|| {
            Status::not_found(format!(
                "the incident has no notice {}; `sealwarden incident notices` shows them",
                asked.number
            ))
        })
    }

    pub(super) async fn decide_notice(
        &self,
        caller: &Caller,
        asked: &DecideNoticeRequest,
    ) -> Result<ApproveResponse, Status> {
        self.catch_up().await?;
        self.notices(&asked.incident)?; // an incident that is there
        let meta = Meta::person(caller.name.as_str()).correlated(asked.incident.clone());
        let (id, statement) = (&asked.incident, &asked.statement);
        let signed = (statement.as_str(), asked.signature.as_str());
        let decided = communication::decide_signed(&self.node, meta, id, signed).await;
        let (answer, position) = decided.map_err(status)?;
        self.notices_after(id, position).await?;
        Ok(answer)
    }
}

fn audience(word: &str) -> Result<Audience, Status> {
    Audience::from_name(word).ok_or_else(|| {
        let word: String = word.chars().take(64).collect();
        let known = Audience::ALL.map(Audience::as_str).join(", ");
        Status::invalid_argument(format!("there is no audience {word:?}; there are {known}"))
    })
}

/// An audience inside the organisation.
pub(super) fn internal(word: &str) -> Result<Audience, Status> {
    match audience(word)? {
        Audience::Public => Err(Status::invalid_argument(
            "the public has no brief; use engineers or executives",
        )),
        inside @ (Audience::Engineers | Audience::Executives) => Ok(inside),
    }
}

fn check_line(name: &'static str, text: &str) -> Result<(), Status> {
    if text.chars().any(is_line_breaking) {
        let reason = format!("{name} has a control character or several lines; write one line");
        return Err(Status::invalid_argument(reason));
    }
    Ok(())
}
