//! What a contradiction is told as: a signal that shows what was sealed.

use ring::digest::{Context, SHA256};
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_engine::{ExecuteError, Node, Stream};
use sealwarden_wire::event::v1::{Envelope, Event, Reporter, SignalReported, event::Kind};

use super::history::Contradiction;
use super::kept::Kept;
use crate::evidence::verify::Damage;

const DETECTOR: &str = "event-heads";
const CLASS: &str = "data-integrity";
/// How many contradictions are written out.
const MAX_TOLD: usize = 8;
/// The longest evidence in a signal, in bytes: a commit has room for little more.
const MAX_EVIDENCE: usize = 512 * 1024;

/// Something about the event log or its kept heads that should not be.
pub(super) struct Finding {
    /// What is there.
    pub(super) seen: String,
    /// What should be there.
    pub(super) expected: String,
    /// Whether the evidence shows it to anybody who reads the event log.
    pub(super) proven: bool,
}

impl Finding {
    /// The log is not what it was.
    pub(super) fn of_history(
        contradictions: &[Contradiction],
        kept: Option<&Kept>,
        origin: &str,
    ) -> Self {
        let told = |each: &dyn Fn(&Contradiction) -> String| {
            let more = contradictions.len().saturating_sub(MAX_TOLD);
            let mut told: Vec<String> = contradictions.iter().take(MAX_TOLD).map(each).collect();
            if more > 0 {
                told.push(format!("{more} more"));
            }
            told.join("; ")
        };
        let by = kept.map_or_else(String::new, |kept| {
            format!(
                " The heads of {} say so, sealed at index {} of {origin}.",
                kept.heads.time, kept.index
            )
        });
        Self {
            seen: format!(
                "The event log's history was changed. It holds {}.",
                told(&|it| it.to_string())
            ),
            expected: format!("{}.{by}", told(&Contradiction::expected)),
            proven: contradictions
                .iter()
                .any(|it| matches!(it, Contradiction::Rewritten { .. })),
        }
    }

    /// The store itself found that stored bytes do not match.
    pub(super) fn of_store(reason: &str) -> Self {
        Self {
            seen: format!("The event log cannot be read on: {reason}."),
            expected: "Every commit hashes to what is stored for it.".to_owned(),
            proven: false,
        }
    }

    /// Kept heads do not hold, so older ones have to do.
    pub(super) fn of_files(damaged: &[Damage]) -> Self {
        let told: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        Self {
            seen: format!(
                "Kept heads of the event log were changed: {}.",
                told.join("; ")
            ),
            expected: "Heads are written once, with their seal in the evidence log.".to_owned(),
            proven: false,
        }
    }

    fn signal(self, node: &Node, kept: Option<&Kept>) -> SignalReported {
        let now_ms = node.clock.now().wall_ms;
        let earliest_at_ms = kept.map_or(now_ms, |kept| kept.heads.at_ms());
        SignalReported {
            key: String::new(),
            signal: signal_id(&self.seen, kept),
            detector: DETECTOR.to_owned(),
            class: CLASS.to_owned(),
            subject: format!("event log {}", node.installation),
            proven: self.proven,
            seen: self.seen,
            expected: self.expected,
            evidence: kept.map(evidence).unwrap_or_default().into(),
            earliest_at_ms,
            reporter: Some(Reporter {
                person: false,
                name: node.name.clone(),
            }),
            ..SignalReported::default()
        }
    }
}

/// The same thing seen against the same heads is one signal, however often it is seen.
fn signal_id(seen: &str, kept: Option<&Kept>) -> String {
    let mut hash = Context::new(&SHA256);
    for part in [DETECTOR, seen, kept.map_or("", |kept| &kept.text)] {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("S-{}", &hex::encode(hash.finish())[..12])
}

/// The heads and, after an empty line, their seal.
fn evidence(kept: &Kept) -> String {
    let whole = format!("{}\n{}", kept.text, kept.seal);
    if whole.len() <= MAX_EVIDENCE {
        return whole;
    }
    format!(
        "The heads text is {} bytes long; it is beside the evidence log, with this seal.\n\n{}",
        kept.text.len(),
        kept.seal
    )
}

/// Whether a signal is recorded.
#[derive(Default)]
struct Reported(bool);

impl Fold for Reported {
    fn apply(&mut self, _envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        self.0 |= matches!(event.kind, Some(Kind::SignalReported(_)));
        Ok(())
    }
}

/// Records the finding as a signal, once.
pub(super) async fn report(
    node: &Node,
    finding: Finding,
    kept: Option<&Kept>,
) -> Result<(), ExecuteError> {
    let signal = finding.signal(node, kept);
    let (id, seen) = (signal.signal.clone(), signal.seen.clone());
    let mut stream: Stream<Reported> = node.stream("signal", &id).await?;
    let executed = stream
        .execute(node.meta(), |state| {
            let once = sealwarden_domain::fold::event(Kind::SignalReported(signal.clone()));
            Ok(if state.0 { Vec::new() } else { vec![once] })
        })
        .await?;
    if !executed.events.is_empty() {
        tracing::error!(
            signal = id,
            seen,
            "the event log is not what it was; a signal is recorded"
        );
    }
    Ok(())
}
