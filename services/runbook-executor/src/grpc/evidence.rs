//! What people hand in for manual steps.

use std::collections::BTreeMap;

use sealwarden_domain::run::{Given, GivenFile, RunState};
use sealwarden_wire::run::v1::GivenField;
use sealwarden_wire::run::v1::given_field::Content;
use tonic::Status;

use crate::evidence::Place;
use crate::executor::Executor;

/// The most bytes that one request hands in.
pub(super) const MAX_GIVEN_BYTES: usize = 8 * 1024 * 1024;

/// The fields as a run takes them in. Files are kept first: what an event names is there.
pub(super) async fn kept(
    executor: &Executor,
    state: &RunState,
    (run, step): (&str, &str),
    fields: Vec<GivenField>,
) -> Result<BTreeMap<String, Given>, Status> {
    let bytes: usize = fields.iter().map(size).sum();
    if bytes > MAX_GIVEN_BYTES {
        return Err(Status::invalid_argument(format!(
            "the evidence has {bytes} bytes; at most {MAX_GIVEN_BYTES} are taken in at once: hand the files in one after another"
        )));
    }
    let asked = state
        .pinned()
        .and_then(|pinned| pinned.runbook().work(step));
    let mut given = BTreeMap::new();
    for field in fields {
        let GivenField {
            name,
            content,
            file_name,
        } = field;
        let is_asked = asked.is_some_and(|asked| {
            let field = asked.evidence(&name);
            field.is_some_and(sealwarden_runbook::EvidenceField::is_file)
        });
        let one = match content {
            None => {
                return Err(Status::invalid_argument(format!(
                    "evidence {name:?} has neither value nor file"
                )));
            }
            Some(Content::Value(value)) => Given { value, file: None },
            // What nobody asked for is refused by the run, and not kept.
            Some(Content::File(bytes)) if is_asked => {
                let place = Place {
                    incident: incident(state),
                    run: run.to_owned(),
                    step: step.to_owned(),
                    iteration: state.step(step).map_or(0, |step| step.iteration),
                };
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let kept = executor.evidence.keep(&place, bytes.into()).await;
                let (stored, value) =
                    kept.map_err(|error| Status::unavailable(error.to_string()))?;
                let file = GivenFile {
                    name: file_name,
                    bytes: length,
                    stored,
                };
                Given {
                    value,
                    file: Some(file),
                }
            }
            Some(Content::File(_)) => Given {
                value: String::new(),
                file: Some(GivenFile {
                    name: file_name,
                    bytes: 0,
                    stored: String::new(),
                }),
            },
        };
        if given.insert(name.clone(), one).is_some() {
            return Err(Status::invalid_argument(format!(
                "evidence {name:?} is handed in twice"
            )));
        }
    }
    Ok(given)
}

fn size(field: &GivenField) -> usize {
    match &field.content {
        None => 0,
        Some(Content::Value(value)) => value.len(),
        Some(Content::File(bytes)) => bytes.len(),
    }
}

fn incident(state: &RunState) -> String {
    let pinned = state.pinned();
    let incident = pinned.map(|pinned| pinned.started().incident.clone());
    incident.unwrap_or_default()
}
