//! Where a compromised log ends: at the last checkpoint that the log intended and that somebody outside dates before the earliest possible compromise.
//!
//! The log line's stream holds what others said, with their evidence. It is verified here, newest checkpoint first, so that a node which writes what it likes
//! moves the end of no log. The price of a date that cannot be proven is an earlier end.

use sealwarden_anchors::timestamp;
use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::Origin;
use sealwarden_engine::{Node, StreamName, decode};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{Hash, empty_root};
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::trust::{FrozenAt, WitnessEntry};
use sealwarden_wire::event::v1::{CheckpointAnchored, CheckpointCosigned, event::Kind};
use std::collections::BTreeMap;

use super::outside::Outside;

/// No more claims about one origin are verified; each that fails was forged.
const MAX_CLAIMS: usize = 4096;

/// Where an origin ends, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The last checkpoint that counts.
    pub(super) end: FrozenAt,
    /// For the record.
    pub(super) words: String,
}

/// The ends of all compromised origins, by origin. None of them where nobody outside is configured: then the event log's own time decides.
pub(super) async fn of_all(
    node: &Node,
    outside: &Outside,
    witnesses: &[WitnessEntry],
    clock_skew_s: u64,
) -> BTreeMap<String, Cut> {
    let configured = !outside.tsas.is_empty() || witnesses.iter().any(|it| !it.local);
    if !configured {
        return BTreeMap::new();
    }
    let skew_ms = i64::try_from(clock_skew_s)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let compromised = node.board.read(compromised);
    let mut cuts = BTreeMap::new();
    for (log, origin) in compromised {
        let judge = Judge {
            outside,
            witnesses,
            vkeys: origin.vkeys(),
            since_ms: origin.compromised_since_ms.unwrap_or(i64::MAX),
            skew_ms,
        };
        let cut = judge.cut(node, &log, &origin).await;
        tracing::info!(
            origin = origin.origin,
            size = cut.end.size,
            words = cut.words,
            "a compromised log ends"
        );
        cuts.insert(origin.origin.clone(), cut);
    }
    cuts
}

/// Without their intents, of which there are many; what was dated was intended.
fn compromised(installation: &Installation) -> Vec<(String, Origin)> {
    let logs = installation.logs.iter();
    let all = logs.flat_map(|(name, log)| log.origins.iter().map(move |it| (name, it)));
    all.filter(|(_, it)| it.isolation.is_some())
        .map(|(name, it)| (name.clone(), it.clone()))
        .collect()
}

struct Judge<'a> {
    outside: &'a Outside,
    witnesses: &'a [WitnessEntry],
    vkeys: Vec<Vkey>,
    since_ms: i64,
    skew_ms: i64,
}

impl Judge<'_> {
    async fn cut(&self, node: &Node, log: &str, origin: &Origin) -> Cut {
        let claims = origin.dated.iter().rev();
        let early = claims.filter(|(_, it)| self.is_before(it.time_ms));
        for ((size, by), claim) in early.take(MAX_CLAIMS) {
            let Some(intent) = origin.intents.get(*size) else {
                continue;
            };
            let end = FrozenAt {
                size: *size,
                root: Hash(intent.root),
            };
            match self.evidence(node, log, claim.position, &end).await {
                Ok(words) => return Cut { end, words },
                Err(reason) => {
                    tracing::warn!(
                        origin = origin.origin,
                        size,
                        by,
                        reason,
                        "a date in the event log is not proven"
                    );
                }
            }
        }
        Cut {
            end: FrozenAt {
                size: 0,
                root: empty_root(),
            },
            words:
                "nobody outside dates a checkpoint of it before the earliest possible compromise"
                    .to_owned(),
        }
    }

    fn is_before(&self, time_ms: i64) -> bool {
        time_ms.saturating_add(self.skew_ms) < self.since_ms
    }

    async fn evidence(
        &self,
        node: &Node,
        log: &str,
        position: u64,
        end: &FrozenAt,
    ) -> Result<String, String> {
        let stream = StreamName::new("log", log).map_err(|error| error.to_string())?;
        let read = node.log.read(&stream, position.saturating_sub(1), 1).await;
        let read = read.map_err(|error| error.to_string())?;
        let recorded = read.first().filter(|it| it.position == position);
        let recorded = recorded.ok_or("its event is not where it was")?;
        let commit = decode(recorded).map_err(|error| error.to_string())?;
        let mut last = "its event holds no date of this checkpoint".to_owned();
        for event in commit.events {
            match event.kind {
                Some(Kind::CheckpointAnchored(e)) if e.size == end.size => {
                    match self.anchored(&e, end) {
                        Ok(words) => return Ok(words),
                        Err(reason) => last = reason,
                    }
                }
                Some(Kind::CheckpointCosigned(e)) if e.size == end.size => {
                    match self.cosigned(&e, end) {
                        Ok(words) => return Ok(words),
                        Err(reason) => last = reason,
                    }
                }
                Some(_) | None => {}
            }
        }
        Err(last)
    }

    fn anchored(&self, e: &CheckpointAnchored, end: &FrozenAt) -> Result<String, String> {
        self.signed(&e.note, end)?;
        let mut last = "no time-stamping authority is trusted".to_owned();
        for roots in &self.outside.roots {
            match timestamp::verify(&e.token, &e.note, roots) {
                Ok(it) if self.is_before(it.latest_ms()) => {
                    return Ok(format!("{} dates it at {}", it.tsa, date(it.latest_ms())));
                }
                Ok(it) => last = format!("{} dates it at {}", it.tsa, date(it.latest_ms())),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    fn cosigned(&self, e: &CheckpointCosigned, end: &FrozenAt) -> Result<String, String> {
        let note = self.signed(&e.note, end)?;
        for witness in self.witnesses.iter().filter(|it| !it.local) {
            let time_ms = witness
                .cosigned(&note)
                .flatten()
                .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1000))
                .filter(|time_ms| self.is_before(*time_ms));
            if let Some(time_ms) = time_ms {
                return Ok(format!(
                    "the witness {} of {} dates it at {}",
                    witness.name,
                    witness.operator,
                    date(time_ms)
                ));
            }
        }
        Err("no outside witness of the bundle cosigned it in time".to_owned())
    }

    /// The note is the log's, of exactly this checkpoint.
    fn signed(&self, note: &[u8], end: &FrozenAt) -> Result<Note, String> {
        let note = Note::parse(note).map_err(|error| error.to_string())?;
        note.verify(&self.vkeys)
            .map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
        if checkpoint.size == end.size && checkpoint.root == end.root {
            return Ok(note);
        }
        Err("its note is of another checkpoint".to_owned())
    }
}

fn date(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms)
        .map_or_else(|_| format!("{time_ms} ms"), |time| time.to_string())
}
