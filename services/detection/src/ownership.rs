//! Whose an incident is.

use sealwarden_domain::incident::{self, Incident};
use sealwarden_engine::{Meta, Stream};
use sealwarden_wire::event::v1::IncidentHandedOver;
use sealwarden_wire::incident::v1::{self as api, HandOverRequest};
use tonic::{Request, Status};

use crate::grpc::{IncidentsService, checked, not_found, operator, status};
use crate::view::details;

impl IncidentsService {
    /// Gives an open incident to a person of the roster; saying it twice is saying it once.
    pub(crate) async fn handed_over(
        &self,
        request: Request<HandOverRequest>,
    ) -> Result<api::Incident, Status> {
        let caller = operator(&request)?;
        let HandOverRequest { incident, to, note } = request.into_inner();
        checked("note", &note)?;
        if note.trim().is_empty() {
            return Err(Status::invalid_argument(
                "the note is empty; say what the next one has to know",
            ));
        }
        if self.node.roster().person(&to).is_none() {
            let to: String = to.chars().take(64).collect();
            return Err(Status::invalid_argument(format!(
                "nobody on the roster is called {to:?}; `sealwarden roster show` names all"
            )));
        }
        self.catch_up().await?;
        if self.watch.read(|state| details(state, &incident)).is_none() {
            return Err(not_found(&incident));
        }
        let by = caller.name.as_str();
        let handed = IncidentHandedOver {
            to,
            by: by.to_owned(),
            note,
        };
        let stream = self.node.stream("incident", &incident).await;
        let mut stream: Stream<Incident> = stream.map_err(status)?;
        let command = incident::Command::HandOver(handed);
        let meta = Meta::person(by).correlated(incident.clone());
        let executed = stream.execute(meta, |state| incident::decide(state, command.clone()));
        let executed = executed.await.map_err(status)?;
        self.folded(executed.position).await?;
        let shown = self.watch.read(|state| details(state, &incident));
        shown.ok_or_else(|| not_found(&incident))
    }
}
