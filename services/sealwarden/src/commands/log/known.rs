//! What an audit can compare a log with beside its own files: the trust bundle's keys, and the intents in the event log.
//!
//! While the services run, their trust bundle is asked for and the event log is theirs. While they do not, the embedded event
//! log is opened, and every recorded intent is compared with the tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use sealwarden_domain::log_control::Origin;
use sealwarden_domain::retention::Retention;
use sealwarden_engine::Board;
use sealwarden_eventlog::Config as LogConfig;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seallog::Identity;
use sealwarden_seallog::check::{CheckOptions, ErasedPlaces, KnownRoot};
use sealwarden_wire::verify::v1::GetTrustRequest;

use crate::cli::Cli;
use crate::commands::{client, erase, trust};
use crate::failure::Failure;
use crate::trust_seen;

/// What is known of all logs.
#[derive(Default)]
pub(super) struct Known {
    bundle: Option<VerifiedBundle>,
    roots: BTreeMap<String, Vec<KnownRoot>>,
    /// Which records events say are erased, by origin.
    erased: BTreeMap<String, Vec<ErasedPlaces>>,
    /// Folders that the event log says must be there.
    pub(super) folders: Vec<PathBuf>,
    /// What could not be compared, and why.
    pub(super) notes: Vec<String>,
}

impl Known {
    /// Gathers what can be had. `installation`: the logs of the installation in the data folder are meant.
    pub(super) async fn gather(
        cli: &Cli,
        installation: bool,
        file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let mut known = Self::default();
        let events = cli.data.join("events");
        if installation && events.is_dir() {
            if in_use(&events) {
                known.notes.push(
                    "recorded intents were not compared: the event log is in use; stop the services to compare them too"
                        .to_owned(),
                );
                known.ask_what_is_erased(cli).await;
            } else {
                known.read_events(cli, &events).await;
            }
        }
        if !events.is_dir() && installation {
            known.ask_what_is_erased(cli).await;
        } else if !installation {
            known.notes.push(
                "what events say is erased was not compared: erased records of a log named by its folder count as damage; leave the folder out and name the installation with --data"
                    .to_owned(),
            );
        }
        if let Some(file) = file {
            let bytes = trust::read_limited(file, trust::MAX_BUNDLE)?;
            known.bundle = Some(trust_seen::open(&bytes, &cli.data, None)?);
        } else if installation && known.bundle.is_none() {
            known.bundle = fetch(cli).await;
        }
        if known.bundle.is_none() {
            known.notes.push(
                "keys of logs and witnesses were not compared with a trust bundle: name one with --trust"
                    .to_owned(),
            );
        }
        Ok(known)
    }

    async fn read_events(&mut self, cli: &Cli, dir: &Path) {
        let config = LogConfig::Embedded {
            dir: dir.to_owned(),
        };
        let log = match sealwarden_eventlog::open(config).await {
            Ok(log) => log,
            Err(error) => {
                let note = format!("recorded intents were not compared: {error}");
                return self.notes.push(note);
            }
        };
        let (board, follower) = Board::follow(log);
        board.caught_up().await;
        follower.abort();
        board.read(|installation| {
            for (stream, reason) in &installation.poisoned {
                let note = format!("the event stream {stream} is read only in part: {reason}");
                self.notes.push(note);
            }
            for (name, log) in &installation.logs {
                for origin in &log.origins {
                    self.take(cli, name, origin);
                }
            }
            for retention in installation.retention.values() {
                self.take_erased(retention);
            }
            let published = installation.trust.published.as_ref();
            self.bundle = published.and_then(|it| trust_seen::open_without_memory(&it.bundle).ok());
        });
    }

    fn take_erased(&mut self, retention: &Retention) {
        for erasure in retention.erasures() {
            let ordered = &erasure.ordered;
            for place in &ordered.places {
                let erased = ErasedPlaces {
                    leaves: place.first..place.first.saturating_add(place.count),
                    is_finished: erasure.finished_at_ms.is_some(),
                    source: format!("erasure {}", ordered.erasure),
                };
                let of_origin = self.erased.entry(place.origin.clone()).or_default();
                of_origin.push(erased);
            }
        }
    }

    /// Asks the services that hold the event log.
    async fn ask_what_is_erased(&mut self, cli: &Cli) {
        let erasures = match erase::all_erasures(cli).await {
            Ok(erasures) => erasures,
            Err(failure) => {
                let why = failure.message();
                return self.notes.push(format!(
                    "what events say is erased was not compared, so erased records count as damage: {why}"
                ));
            }
        };
        for erasure in erasures {
            for place in &erasure.places {
                let erased = ErasedPlaces {
                    leaves: place.first..place.first.saturating_add(place.count),
                    is_finished: erasure.finished_at_ms > 0,
                    source: format!("erasure {}", erasure.erasure),
                };
                let of_origin = self.erased.entry(place.origin.clone()).or_default();
                of_origin.push(erased);
            }
        }
    }

    fn take(&mut self, cli: &Cli, log: &str, origin: &Origin) {
        let roots = origin.intents.iter().map(|(size, intent)| KnownRoot {
            size,
            root: Hash(intent.root),
            source: format!(
                "the intent at position {} of the event log",
                intent.position
            ),
        });
        self.roots.insert(origin.origin.clone(), roots.collect());
        // Only nodes of this machine have their folder here.
        let node = cli.data.join("nodes").join(&origin.node);
        let number = origin.origin.rsplit('/').next().unwrap_or_default();
        if node.is_dir() && !number.is_empty() {
            self.folders.push(node.join("log").join(log).join(number));
        }
    }

    /// The trust bundle that was named, or is the installation's.
    pub(super) fn bundle(&self) -> Option<&VerifiedBundle> {
        self.bundle.as_ref()
    }

    /// What a log is to be compared with.
    pub(super) fn options(&self, dir: &Path) -> CheckOptions {
        let origin = Identity::read(dir).map(|it| it.origin).unwrap_or_default();
        let mut options = CheckOptions {
            roots: self.roots.get(&origin).cloned().unwrap_or_default(),
            erased: self.erased.get(&origin).cloned().unwrap_or_default(),
            ..CheckOptions::default()
        };
        if let Some(bundle) = &self.bundle {
            let witnesses = bundle.witnesses().iter();
            options.witnesses = witnesses.map(|it| it.vkey.clone()).collect();
            // The evidence log is no log of the bundle; its key is compared where evidence is verified.
            if let Some(log) = bundle.log(&origin) {
                options.vkeys.clone_from(&log.entry.vkeys);
            }
        }
        options
    }
}

async fn fetch(cli: &Cli) -> Option<VerifiedBundle> {
    let mut verification = client(cli).ok()?.verification().await.ok()?;
    let answer = verification.get_trust(GetTrustRequest {}).await.ok()?;
    trust_seen::open(&answer.into_inner().bundle, &cli.data, None).ok()
}

/// Whether a process holds the embedded event log. A log that nobody ever opened has no lock.
fn in_use(events: &Path) -> bool {
    File::options()
        .write(true)
        .open(events.join("lock"))
        .is_ok_and(|lock| lock.try_lock().is_err())
}
