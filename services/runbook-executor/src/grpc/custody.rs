//! Evidence for people: what is kept, who had it, and copies.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use sealwarden_domain::custody::{Custody, hand_out};
use sealwarden_engine::Meta;
use sealwarden_pki::{CallerRole, caller_of, require};
use sealwarden_wire::event::v1::{EvidenceHandedOut, HandedBundle};
use sealwarden_wire::run::v1::evidence_custody_server::EvidenceCustody;
use sealwarden_wire::run::v1::{
    CustodyRequest, CustodyResponse, ExportEvidenceRequest, ExportEvidenceResponse, Handing,
    KeptBundle,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::status::of_error;
use crate::environment::rfc3339;
use crate::evidence::export::{self, Statement};
use crate::evidence::{Damage, EvidenceError, Manifest, Report};
use crate::executor::Executor;

/// Bytes of a piece of an archive.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for a slow reader.
const PIECES: usize = 16;

pub(crate) struct CustodyService(pub(crate) Arc<Executor>);

type Bundles = BTreeMap<String, Result<Report, Damage>>;

/// What an incident has, all of it checked.
struct Whole {
    bundles: BTreeMap<String, Report>,
    /// What people handed in.
    given: BTreeSet<String>,
}

impl CustodyService {
    /// The incident's bundles, each checked whole.
    async fn bundles(&self, incident: &str) -> Result<Bundles, Status> {
        let node = &self.0.node;
        let known = node.board.read(|it| it.incidents.contains_key(incident));
        if !known {
            return Err(Status::not_found(format!(
                "there is no incident {incident:?}; `sealwarden incident list` shows them"
            )));
        }
        let bundles = self.0.evidence.bundles(incident).await;
        bundles.map_err(|error| of_evidence(&error))
    }

    /// All of the incident's evidence, if all of it holds.
    async fn whole(&self, incident: &str) -> Result<Whole, Status> {
        let damaged = |name: &str, damage: &Damage| {
            Status::data_loss(format!(
                "{name} is damaged ({damage}), so nothing is handed out; keep it as it is, and have a person look at it"
            ))
        };
        let mut bundles = BTreeMap::new();
        for (name, report) in self.bundles(incident).await? {
            let report = report.map_err(|damage| damaged(&name, &damage))?;
            bundles.insert(name, report);
        }
        let given = self.0.evidence.given(incident).await;
        let mut whole = BTreeSet::new();
        for (path, length) in given.map_err(|error| of_evidence(&error))? {
            length.map_err(|damage| damaged(&path, &damage))?;
            whole.insert(path);
        }
        Ok(Whole {
            bundles,
            given: whole,
        })
    }

    /// Signs what is handed out, and records it.
    async fn hand_out(
        &self,
        person: &str,
        request: ExportEvidenceRequest,
        whole: &Whole,
    ) -> Result<String, Status> {
        let node = &self.0.node;
        let statement = Statement {
            installation: node.installation.clone(),
            environment: node.environment.as_str().to_owned(),
            incident: request.incident.clone(),
            person: person.to_owned(),
            purpose: request.purpose.clone(),
            exported: rfc3339(node.clock.now().wall_ms),
            bundles: whole
                .bundles
                .iter()
                .map(|(name, report)| (name.clone(), report.manifest_sha256.clone()))
                .collect(),
            given: whole.given.clone(),
        };
        let text = statement.to_string();
        let handed = EvidenceHandedOut {
            incident: request.incident.clone(),
            bundles: whole.handed(&request.incident),
            person: person.to_owned(),
            purpose: request.purpose,
            statement_sha256: digest(&SHA256, text.as_bytes()).as_ref().to_vec().into(),
        };
        // What the rule refuses is not signed either.
        hand_out(handed.clone()).map_err(|it| super::status::of_rejection(&it))?;
        let note = self.0.signer.sign(&text).await;
        let note = note.map_err(|error| Status::unavailable(error.to_string()))?;
        let stream = node.stream::<Custody>("custody", &request.incident).await;
        let mut stream = stream.map_err(|error| of_error(&error))?;
        let executed = stream
            .execute(Meta::person(person), |_| hand_out(handed.clone()))
            .await
            .map_err(|error| of_error(&error))?;
        node.board.reached(executed.position).await;
        Ok(note.to_string())
    }
}

impl Whole {
    fn handed(&self, incident: &str) -> Vec<HandedBundle> {
        let bundles = self.bundles.iter().map(|(name, report)| HandedBundle {
            bundle: format!("evidence/{incident}/{name}"),
            manifest_sha256: report.manifest_sha256.clone(),
            files: report.files,
        });
        let given = self.given.iter().map(|path| HandedBundle {
            bundle: format!("evidence/{incident}/{path}"),
            // Its name is its digest.
            manifest_sha256: String::new(),
            files: 1,
        });
        bundles.chain(given).collect()
    }
}

#[tonic::async_trait]
impl EvidenceCustody for CustodyService {
    async fn custody(
        &self,
        request: Request<CustodyRequest>,
    ) -> Result<Response<CustodyResponse>, Status> {
        require(&caller_of(&request)?, &[CallerRole::Operator])?;
        let incident = request.into_inner().incident;
        let bundles = self.bundles(&incident).await?;
        let bundles = bundles
            .into_iter()
            .map(|(name, report)| kept(&incident, &name, report));
        let given = self.0.evidence.given(&incident).await;
        let given = given.map_err(|error| of_evidence(&error))?;
        let given = given
            .into_iter()
            .map(|(path, length)| kept_file(&incident, &path, length));
        let bundles = bundles.chain(given).collect();
        let handings = self.0.node.board.read(|installation| {
            let custody = installation.custody.get(&incident);
            let handings = custody.into_iter().flat_map(|it| &it.handings);
            handings
                .map(|it| Handing {
                    at_ms: it.at_ms,
                    person: it.handed.person.clone(),
                    purpose: it.handed.purpose.clone(),
                    bundles: it
                        .handed
                        .bundles
                        .iter()
                        .map(|it| it.bundle.clone())
                        .collect(),
                    statement_sha256: hex::encode(&it.handed.statement_sha256),
                })
                .collect()
        });
        Ok(Response::new(CustodyResponse { bundles, handings }))
    }

    type ExportStream = ReceiverStream<Result<ExportEvidenceResponse, Status>>;

    async fn export(
        &self,
        request: Request<ExportEvidenceRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let request = request.into_inner();
        let incident = request.incident.clone();
        let whole = self.whole(&incident).await?;
        let note = self.hand_out(caller.name.as_str(), request, &whole).await?;
        let dir = self.0.evidence.dir_of(&incident);
        let dir = dir.map_err(|error| of_evidence(&error))?;
        let given = whole.given;
        let manifests: BTreeMap<String, Manifest> = whole
            .bundles
            .into_iter()
            .map(|(name, report)| (name, report.manifest))
            .collect();
        let (sender, receiver) = mpsc::channel(PIECES);
        // Ends by itself: with the archive, or when nobody reads it any more.
        drop(tokio::task::spawn_blocking(move || {
            let pieces = Pieces(sender.clone());
            let out = io::BufWriter::with_capacity(PIECE_BYTES, pieces);
            if let Err(error) = export::write(&note, &dir, (&manifests, &given), out) {
                let told =
                    Status::data_loss(format!("a file of the bundle cannot be read: {error}"));
                // A reader that went away needs no reason.
                drop(sender.blocking_send(Err(told)));
            }
        }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends what is written, a piece at a time.
struct Pieces(mpsc::Sender<Result<ExportEvidenceResponse, Status>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        let piece = taken.to_vec().into();
        let sent = self.0.blocking_send(Ok(ExportEvidenceResponse { piece }));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn kept(incident: &str, name: &str, report: Result<Report, Damage>) -> KeptBundle {
    let bundle = format!("evidence/{incident}/{name}");
    match report {
        Ok(report) => KeptBundle {
            bundle,
            manifest_sha256: report.manifest_sha256,
            files: report.files,
            bytes: report.bytes,
            collected: report.manifest.collected,
            collector: report.manifest.collector,
            damage: String::new(),
        },
        Err(damage) => KeptBundle {
            bundle,
            damage: damage.to_string(),
            ..KeptBundle::default()
        },
    }
}

/// A file that a person handed in.
fn kept_file(incident: &str, path: &str, length: Result<u64, Damage>) -> KeptBundle {
    let (bytes, damage) = match length {
        Ok(bytes) => (bytes, String::new()),
        Err(damage) => (0, damage.to_string()),
    };
    KeptBundle {
        bundle: format!("evidence/{incident}/{path}"),
        files: 1,
        bytes,
        damage,
        ..KeptBundle::default()
    }
}

fn of_evidence(error: &EvidenceError) -> Status {
    match error {
        EvidenceError::Name(_) => Status::invalid_argument(error.to_string()),
        EvidenceError::Damaged { .. } => Status::data_loss(error.to_string()),
        EvidenceError::Io(_)
        | EvidenceError::Log(_)
        | EvidenceError::Sign(_)
        | EvidenceError::Execute(_) => Status::unavailable(error.to_string()),
    }
}
