//! The roster in force and this data folder: what it knows of it (`DATA/roster.events`), the first one, and the file in the plan folder.
//!
//! The event log says which roster is in force, and `DATA/roster.events` holds the same line of signed changes as far as this folder has seen it. So whoever can write the
//! plan folder only proposes, whoever rewrites the event log is not believed, and a restored event log gets back what it lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use prost::Message as _;
use sealwarden_domain::approval;
use sealwarden_domain::fold::{Fold as _, event};
use sealwarden_domain::roster::{RosterAnchor, RosterLine, adopt};
use sealwarden_engine::{Board, Meta, ROSTER_FILE, RosterFile, Stream};
use sealwarden_eventlog::{Environment, EventLog, StreamName};
use sealwarden_runbook::{PlanSet, Roster};
use sealwarden_wire::event::v1::{Commit, Envelope};
use tokio_util::sync::CancellationToken;

use super::installation::{Installation, write_durably};
use super::plan;

/// What the data folder knows.
const KNOWN: &str = "roster.events";

/// What this data folder knows of the rosters that were in force, and the plan that a process starts with.
pub(crate) struct KnownRoster {
    /// The line, as far as it was seen; empty at the first start.
    line: RosterLine,
    installation: String,
    environment: Environment,
    file: PathBuf,
    /// The plan's folder.
    pub(crate) dir: PathBuf,
    /// The plan, with the roster that is known, whatever the folder's file says.
    pub(crate) plan: PlanSet,
    /// The text of the roster in that plan.
    text: String,
    /// What was last told not to fit.
    told: Option<String>,
}

/// Folds events that are, or were, in the trust stream.
fn fold(
    installation: &str,
    events: impl IntoIterator<Item = sealwarden_wire::event::v1::Event>,
) -> RosterLine {
    let envelope = Envelope {
        stream: format!("trust/{installation}"),
        ..Envelope::default()
    };
    let mut line = RosterLine::default();
    for event in events {
        // It passes over what does not verify.
        drop(line.apply(&envelope, &event));
    }
    line
}

/// The line that a data folder knows; an empty one before the first start.
pub(crate) fn known(installation: &Installation) -> anyhow::Result<RosterLine> {
    let file = installation.data.join(KNOWN);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(RosterLine::default());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    let damaged = || {
        format!(
            "{} does not hold the roster in force; put it back from a backup. Without it whoever can write the plan folder could choose who approves",
            file.display()
        )
    };
    let commit = Commit::decode(bytes.as_slice()).with_context(damaged)?;
    let line = fold(&installation.settings.installation, commit.events);
    if line.in_force().is_none() || line.passed_over().is_some() {
        bail!("{}", damaged());
    }
    Ok(line)
}

impl KnownRoster {
    /// Reads the plan of an installation: with the roster that is known to be in force, and with the folder's own before the first start.
    pub(crate) fn read(installation: &Installation, named: Option<&Path>) -> anyhow::Result<Self> {
        let dir = installation.plan_dir(named);
        let line = known(installation)?;
        let mut files = plan::read_files(&dir)?;
        let at = files.iter().position(|(name, _)| name == ROSTER_FILE);
        let mut text = at
            .and_then(|at| files.get(at))
            .map(|(_, text)| text.clone())
            .unwrap_or_default();
        if let Some(known) = line.in_force() {
            let same = |text: &str| {
                Roster::parse(ROSTER_FILE, text)
                    .is_ok_and(|it| it.digest() == known.roster.digest())
            };
            if !same(&text) {
                text.clone_from(&known.text);
                files.retain(|(name, _)| name != ROSTER_FILE);
                files.push((ROSTER_FILE.to_owned(), text.clone()));
            }
        }
        let plan = plan::usable(&dir, &files)?;
        Ok(Self {
            line,
            installation: installation.settings.installation.clone(),
            environment: installation.environment(),
            file: installation.data.join(KNOWN),
            dir,
            plan,
            text,
            told: None,
        })
    }

    /// Records the first roster, and gives an event log back what it lost. For processes that host an executor.
    pub(crate) async fn record(
        &self,
        log: &Arc<dyn EventLog>,
        board: &Board,
        by: &str,
    ) -> anyhow::Result<()> {
        let name = StreamName::new("trust", &self.installation)?;
        let mut stream = Stream::load(Arc::clone(log), name, RosterLine::default()).await?;
        let environment = match self.environment {
            Environment::Production => approval::Environment::Production,
            Environment::Drill => approval::Environment::Drill,
        };
        let first = (self.plan.roster(), self.text.as_str());
        let executed = stream
            .execute(Meta::node(by), |line| {
                let mut kinds = line.missing_of(&self.line);
                if kinds.is_empty() && self.line.in_force().is_none() {
                    kinds = adopt(line, environment, first)?;
                }
                Ok(kinds.into_iter().map(event).collect())
            })
            .await
            .context("recording the roster in force")?;
        board.reached(executed.position).await;
        Ok(())
    }

    /// The roster that this process knows to have been in force. A data folder that knows none takes the file's, if the event log has it on its line.
    pub(crate) fn anchor(&self, board: &Board) -> anyhow::Result<RosterAnchor> {
        if let Some(known) = self.line.in_force() {
            return Ok(RosterAnchor::new(known.number, Arc::clone(&known.roster)));
        }
        let own = self.plan.roster();
        let line = board.read(|it| it.trust.rosters.clone());
        let Some(now) = line.in_force() else {
            return Ok(RosterAnchor::new(0, Arc::new(own.clone())));
        };
        match line.named(&own.digest_hex()) {
            Some(then) => Ok(RosterAnchor::new(then.number, Arc::clone(&then.roster))),
            None => bail!(
                "{} is not the roster in force, and this data folder has never seen that one: {}. Put the roster in force there (`sealwarden roster show --yaml` prints it) and start again; `sealwarden roster propose FILE --reason …` asks for another one",
                self.dir.join(ROSTER_FILE).display(),
                now.roster.differences(own).join("; ")
            ),
        }
    }

    /// Keeps file and folder in step with the roster in force, until the process ends.
    pub(crate) async fn keep(
        mut self,
        board: Arc<Board>,
        anchor: RosterAnchor,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut changes = board.changes();
        let number = || board.read(|it| it.trust.rosters.in_force().map(|it| it.number));
        loop {
            changes.mark_unchanged();
            let seen = number();
            self.settle(&board, &anchor);
            let news = async {
                loop {
                    if changes.changed().await.is_err() {
                        return;
                    }
                    if number() != seen {
                        return;
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = news => {}
            }
        }
    }

    /// Remembers a newer roster, and writes it where an earlier one stands. A file that somebody edited is left alone.
    pub(crate) fn settle(&mut self, board: &Board, anchor: &RosterAnchor) {
        let line = board.read(|it| it.trust.rosters.clone());
        let judged = anchor.judge(&line);
        let newer = line.in_force().filter(|_| judged.finding.is_none());
        if let Some(now) = newer
            && self.line.in_force().map(|it| it.number) != Some(now.number)
        {
            let commit = Commit {
                envelope: None,
                events: line.events().into_iter().map(event).collect(),
            };
            match write_durably(&self.file, &commit.encode_to_vec()) {
                Ok(()) => {
                    tracing::info!(
                        roster = now.number,
                        digest = now.roster.digest_hex(),
                        "the roster in force"
                    );
                    self.line = line.clone();
                }
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "the roster in force is not kept in the data folder; it is tried again with the next change"
                ),
            }
        }
        let mut file = RosterFile::look(&self.dir, &judged, &line);
        if let (RosterFile::Earlier, Some(now)) = (&file, newer) {
            match write_durably(&self.dir.join(ROSTER_FILE), now.text.as_bytes()) {
                Ok(()) => file = RosterFile::InForce,
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the roster in force cannot be written into the plan folder"
                ),
            }
        }
        let finding = judged.finding.or_else(|| file.finding());
        if let Some(finding) = finding.as_ref().filter(|_| finding != self.told) {
            tracing::error!("{finding}");
        }
        self.told = finding;
    }
}
