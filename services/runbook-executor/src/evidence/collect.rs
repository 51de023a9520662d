//! Collecting: everything that the incident's streams, logs and texts say at this moment.
//!
//! What cannot be reached does not stop the rest; `collection.txt` names it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use sealwarden_domain::approval::allowed_signers;
use sealwarden_domain::installation::Installation;
use sealwarden_domain::run::RunState;
use sealwarden_engine::{ExecuteError, Node, decode};
use sealwarden_eventlog::{Delivery, Filter, Recorded, StreamName};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::Note;
use sealwarden_seal::tile::{TILE_HEIGHT, TILE_WIDTH, TileKind, tile_at};
use sealwarden_wire::event::v1::{CheckpointSighted, event::Kind};

use super::folder::{Folder, Piecewise};
use super::heads::Kept;
use super::http::fetch;
use super::store::{EvidenceError, Place};
use super::{HEADS, line};
use crate::environment::of_approvals;

/// Commits read at once.
const PAGE: usize = 256;
/// The longest checkpoint or tile that is fetched, in bytes.
const MAX_FETCH: usize = 1024 * 1024;
/// Hash-tile levels that a tree below 2^64 leaves can have.
const LEVELS: u8 = 8;

/// Where everything comes from.
pub(super) struct Sources<'a> {
    /// The event log and the board.
    pub(super) node: &'a Node,
    /// For checkpoints and tiles.
    pub(super) http: &'a reqwest::Client,
    /// The event log's heads just before.
    pub(super) heads: Result<Option<Arc<Kept>>, EvidenceError>,
}

struct Collector<'a> {
    node: &'a Node,
    http: &'a reqwest::Client,
    folder: Folder,
    missing: Vec<String>,
}

/// Collects into a new folder; gives the digests of its files.
pub(super) async fn everything(
    from: Sources<'_>,
    place: &Place,
    state: &RunState,
    partial: PathBuf,
) -> Result<BTreeMap<String, String>, EvidenceError> {
    let Sources { node, http, heads } = from;
    let folder = tokio::task::spawn_blocking(move || Folder::anew(partial))
        .await
        .map_err(|error| EvidenceError::Log(error.to_string()))??;
    let mut collector = Collector {
        node,
        http,
        folder,
        missing: Vec::new(),
    };
    let (names, log) = node
        .board
        .read(|installation| concerned(installation, &node.installation, &place.incident));
    for name in names {
        collector.stream(&name).await?;
    }
    for category in ["sighting", "keyuse"] {
        collector.category(category).await?;
    }
    collector.heads(heads)?;
    collector.run(state)?;
    collector.installation(&place.incident, &log)?;
    collector.checkpoints(&log).await?;
    collector.finish()
}

/// Streams that belong to the incident, and its log.
fn concerned(
    installation: &Installation,
    name: &str,
    incident: &str,
) -> (BTreeSet<String>, String) {
    let mut names = BTreeSet::from([format!("incident/{incident}"), format!("trust/{name}")]);
    names.extend(installation.nodes.keys().map(|node| format!("node/{node}")));
    let Some(state) = installation.incidents.get(incident) else {
        return (names, String::new());
    };
    names.extend(
        state
            .signals
            .keys()
            .map(|signal| format!("signal/{signal}")),
    );
    names.extend(state.runs.iter().map(|run| format!("run/{}", run.run)));
    let log = state
        .opened
        .as_ref()
        .map(|opened| opened.log.clone())
        .unwrap_or_default();
    if !log.is_empty() {
        names.insert(format!("log/{log}"));
    }
    (names, log)
}

impl Collector<'_> {
    /// Every commit of one stream, up to its end as it is now.
    async fn stream(&mut self, name: &str) -> Result<(), EvidenceError> {
        let stream: StreamName =
            name.parse()
                .map_err(|error: sealwarden_eventlog::NameError| {
                    ExecuteError::Broken(error.to_string())
                })?;
        let end = self
            .node
            .log
            .head(&stream)
            .await
            .map_err(unavailable)?
            .position;
        if end == 0 {
            return Ok(());
        }
        let mut file = self.folder.open(&events_path(&stream))?;
        let mut after = 0;
        while after < end {
            let page = self
                .node
                .log
                .read(&stream, after, PAGE)
                .await
                .map_err(unavailable)?;
            let Some(last) = page.last() else { break };
            after = last.position;
            page.iter()
                .try_for_each(|recorded| write_commit(&mut file, recorded))?;
        }
        Ok(self.folder.close(file)?)
    }

    /// Every stream of a category, one file for all; sighted checkpoints are kept as they were seen, too.
    async fn category(&mut self, category: &str) -> Result<(), EvidenceError> {
        let mut subscription = self
            .node
            .log
            .subscribe(Filter::Category(category.to_owned()), 0)
            .await
            .map_err(unavailable)?;
        let mut file = self.folder.open(&format!("events/{category}.jsonl"))?;
        let mut sighted = Vec::new();
        while let Some(delivery) = subscription.next().await {
            match delivery.map_err(unavailable)? {
                Delivery::CaughtUp(_) => break,
                // The signal about it is part of the bundle; the stream itself cannot be.
                Delivery::Damaged(damage) => {
                    tracing::error!(stream = %damage.stream, reason = damage.reason, "a damaged stream is not in the bundle");
                }
                Delivery::Commit(recorded) => {
                    write_commit(&mut file, &recorded)?;
                    sighted.extend(sightings(&recorded));
                }
            }
        }
        self.folder.close(file)?;
        for sighting in sighted {
            let path = format!("sightings/{}.note", sha256(&sighting.note));
            if !self.folder.files().contains_key(&path) {
                self.folder.add(&path, &sighting.note)?;
            }
        }
        Ok(())
    }

    /// The event log's newest heads with their seal.
    fn heads(
        &mut self,
        heads: Result<Option<Arc<Kept>>, EvidenceError>,
    ) -> Result<(), EvidenceError> {
        match heads {
            Ok(Some(kept)) => {
                self.folder
                    .add(&format!("{HEADS}.txt"), kept.text.as_bytes())?;
                self.folder
                    .add(&format!("{HEADS}.seal"), kept.seal.as_bytes())?;
            }
            Ok(None) => self
                .missing
                .push("heads of the event log: none were kept yet".to_owned()),
            Err(error) => self
                .missing
                .push(format!("heads of the event log: {error}")),
        }
        Ok(())
    }

    /// The texts that the run is pinned to, and its approvals as people can check them.
    fn run(&mut self, state: &RunState) -> Result<(), EvidenceError> {
        let Some(pinned) = state.pinned() else {
            return Ok(());
        };
        let started = pinned.started();
        self.folder
            .add("plan/runbook.yaml", started.runbook_text.as_bytes())?;
        self.folder
            .add("plan/plan.yaml", started.plan_text.as_bytes())?;
        self.folder
            .add("plan/roster.yaml", started.roster_text.as_bytes())?;
        let namespace = of_approvals(self.node).namespace();
        self.folder.add(
            "approvals/allowed_signers",
            allowed_signers(pinned.roster(), namespace).as_bytes(),
        )?;
        for (step, state) in state.steps() {
            let signed = state.decided.iter().chain(&state.verbs);
            for (index, decided) in signed.enumerate() {
                let path = format!("approvals/{step}-{index}-{}", decided.person);
                self.folder
                    .add(&format!("{path}.txt"), decided.statement.as_bytes())?;
                self.folder
                    .add(&format!("{path}.txt.sig"), decided.signature.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Trust, acknowledgements and signals, each in its own signed form.
    fn installation(&mut self, incident: &str, log: &str) -> Result<(), EvidenceError> {
        let board = &self.node.board;
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        board.read(|installation| {
            if let Some(published) = &installation.trust.published {
                files.push(("trust/bundle.json".to_owned(), published.bundle.to_vec()));
            }
            for (index, added) in installation.trust.suspensions.iter().enumerate() {
                files.push((
                    format!("trust/suspension-{index}.note"),
                    added.note.clone().into_bytes(),
                ));
            }
            let directives = installation
                .logs
                .get(log)
                .into_iter()
                .flat_map(|log| &log.directives);
            for (epoch, directive) in directives {
                for (node, ack) in &directive.acks {
                    files.push((
                        format!("acknowledgements/{epoch}-{node}.note"),
                        ack.note.clone().into_bytes(),
                    ));
                }
            }
            let signals = installation
                .incidents
                .get(incident)
                .into_iter()
                .flat_map(|incident| incident.signals.keys());
            for signal in signals.filter_map(|id| installation.signals.get(id)) {
                files.push((
                    format!("signals/{}.evidence", signal.signal),
                    signal.evidence.to_vec(),
                ));
                files.push((
                    format!("signals/{}.txt", signal.signal),
                    describe(signal).into_bytes(),
                ));
            }
        });
        files
            .iter()
            .try_for_each(|(path, bytes)| Ok(self.folder.add(path, bytes)?))
    }

    /// Checkpoint and right-edge tiles of each origin of the log, over HTTP as anybody sees them.
    async fn checkpoints(&mut self, log: &str) -> Result<(), EvidenceError> {
        let origins = self.node.board.read(|installation| {
            let origins = installation
                .logs
                .get(log)
                .map(|log| log.origins.clone())
                .unwrap_or_default();
            let url = |node: &str| {
                installation
                    .nodes
                    .get(node)
                    .and_then(|node| node.announced.as_ref())
                    .map(|a| a.http_url.clone())
            };
            origins
                .into_iter()
                .map(|o| (o.origin, url(&o.node)))
                .collect::<Vec<_>>()
        });
        for (origin, url) in origins {
            let prefix = format!("{}/", self.node.base);
            let Some((path, url)) = origin.strip_prefix(&prefix).zip(url) else {
                self.missing.push(format!(
                    "checkpoint of {origin}: its node has announced no address"
                ));
                continue;
            };
            if let Err(reason) = self.origin(path, url.trim_end_matches('/')).await? {
                self.missing
                    .push(format!("checkpoint or tiles of {origin}: {reason}"));
            }
        }
        Ok(())
    }

    /// The inner result says what could not be fetched.
    async fn origin(&mut self, path: &str, url: &str) -> Result<Result<(), String>, EvidenceError> {
        let base = format!("{url}/{path}");
        let bytes = match fetch(self.http, &format!("{base}/checkpoint"), MAX_FETCH).await {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(Err(reason)),
        };
        self.folder
            .add(&format!("checkpoints/{path}/checkpoint"), &bytes)?;
        let checkpoint = Note::parse(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|note| Checkpoint::parse(note.text()).map_err(|error| error.to_string()));
        let size = match checkpoint {
            Ok(checkpoint) => checkpoint.size,
            Err(reason) => return Ok(Err(reason)),
        };
        for tile in edge(size) {
            match fetch(self.http, &format!("{base}/{tile}"), MAX_FETCH).await {
                Ok(bytes) => self
                    .folder
                    .add(&format!("checkpoints/{path}/{tile}"), &bytes)?,
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(()))
    }

    fn finish(mut self) -> Result<BTreeMap<String, String>, EvidenceError> {
        let mut text = String::from("What could not be collected, and why:\n");
        if self.missing.is_empty() {
            text.push_str("nothing is missing\n");
        }
        for line in &self.missing {
            tracing::warn!(missing = line, "evidence could not be collected");
            text.push_str(&line.replace('\n', " "));
            text.push('\n');
        }
        self.folder.add("collection.txt", text.as_bytes())?;
        Ok(self.folder.files().clone())
    }
}

/// Paths of the partial tiles of a tree: with them and the checkpoint its right edge can be recomputed.
fn edge(size: u64) -> Vec<String> {
    let bundle = (!size.is_multiple_of(TILE_WIDTH))
        .then(|| tile_at(TileKind::Entries, size / TILE_WIDTH, size))
        .flatten();
    let tiles = (0..LEVELS).filter_map(|level| {
        let count = size.checked_shr(u32::from(level) * TILE_HEIGHT)?;
        (!count.is_multiple_of(TILE_WIDTH))
            .then(|| tile_at(TileKind::Hashes { level }, count / TILE_WIDTH, size))
            .flatten()
    });
    tiles.chain(bundle).map(|tile| tile.to_string()).collect()
}

fn events_path(stream: &StreamName) -> String {
    format!("events/{}-{}.jsonl", stream.category(), stream.id())
}

fn write_commit(file: &mut Piecewise, recorded: &Recorded) -> std::io::Result<()> {
    file.write(format!("{}\n", line::of(recorded)).as_bytes())
}

fn sightings(recorded: &Recorded) -> Vec<CheckpointSighted> {
    let events = decode(recorded)
        .map(|commit| commit.events)
        .unwrap_or_default();
    events
        .into_iter()
        .filter_map(|event| match event.kind {
            Some(Kind::CheckpointSighted(sighted)) => Some(sighted),
            Some(_) | None => None,
        })
        .collect()
}

fn describe(signal: &sealwarden_wire::event::v1::SignalReported) -> String {
    format!(
        "signal: {}\ndetector: {}\nclass: {}\nsubject: {}\nproven: {}\nseen: {}\nexpected: {}\nevents: {:?}\n",
        signal.signal,
        signal.detector,
        signal.class,
        signal.subject,
        signal.proven,
        signal.seen,
        signal.expected,
        signal.events
    )
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unavailable(error: sealwarden_eventlog::ReadError) -> EvidenceError {
    EvidenceError::Execute(ExecuteError::Unavailable(error.to_string()))
}
