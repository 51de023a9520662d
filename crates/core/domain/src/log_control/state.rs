//! The state of one log and the questions it answers.

use std::collections::BTreeMap;

use prost::Message as _;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_wire::event::v1::{Directive, DirectiveKind};

use super::intents::Intents;
use super::signers::{KeyPressure, Signer};

/// When a checkpoint existed, by the word of somebody outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideTime {
    /// The latest moment at which it existed, Unix milliseconds.
    pub time_ms: i64,
    /// Position of the event that holds the evidence.
    pub position: u64,
}

/// One tree of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// C2SP origin.
    pub origin: String,
    /// Verifier key that it was opened with.
    pub vkey: String,
    /// That key at its provider.
    pub key_id: String,
    /// That provider's name.
    pub provider: String,
    /// Whether that provider can stop every copy of the key.
    pub provider_can_disable: bool,
    /// Node that writes the tree.
    pub node: String,
    /// Origin that this one replaces, or empty.
    pub predecessor: String,
    /// When it was opened, Unix milliseconds.
    pub opened_at_ms: i64,
    /// Every key that signs for it, signed or may; the first is the one that it was opened with.
    pub signers: Vec<Signer>,
    /// Intents by tree size.
    pub intents: Intents,
    /// Last published size.
    pub published_size: u64,
    /// What people outside said about when its checkpoints existed, by size and who said it. Whoever relies on it verifies the evidence in the event.
    pub dated: BTreeMap<(u64, String), OutsideTime>,
    /// Epoch of the directive that isolates it.
    pub isolation: Option<u64>,
    /// Earliest possible compromise, Unix milliseconds, once an isolation names it.
    pub compromised_since_ms: Option<i64>,
}

/// The latest permit of a node, and what is left of those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Request that it answers.
    pub request_id: String,
    /// Origin whose key may be used.
    pub origin: String,
    /// How long, milliseconds.
    pub lifetime_ms: u64,
    /// Longest key call, milliseconds.
    pub key_deadline_ms: u64,
    /// Allowed drift between clocks, milliseconds.
    pub drift_ms: u64,
    /// The node gave it back.
    pub released: bool,
    /// How long after this grant a key call may still end, milliseconds: the longest sum of lifetime, key deadline and drift over this permit and those of the same
    /// origin that it renewed.
    pub span_ms: u64,
    /// The node's latest permits for other origins, one each. They may still be valid: a change of origin ends no permit.
    pub earlier: Vec<Grant>,
}

impl Grant {
    /// The node's latest permit for this origin.
    pub fn for_origin(&self, origin: &str) -> Option<&Self> {
        std::iter::once(self)
            .chain(&self.earlier)
            .find(|grant| grant.origin == origin)
    }
}

/// A bounded stop of signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Incident that it belongs to.
    pub incident: String,
    /// Signal that caused it.
    pub signal: String,
    /// Origin that it stops.
    pub origin: String,
    /// End, Unix milliseconds.
    pub expires_at_ms: i64,
    /// Position in the event log: a later `open` lifts it.
    pub position: u64,
}

/// A node's acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The signed note.
    pub note: String,
    /// Position in the event log.
    pub position: u64,
    /// When it was recorded, Unix milliseconds.
    pub at_ms: i64,
}

/// A directive and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectiveState {
    /// The directive.
    pub directive: Directive,
    /// Position in the event log.
    pub position: u64,
    /// The origin that was opened for it, if it is a rotation.
    pub opened: Option<String>,
    /// Acknowledgements by node.
    pub acks: BTreeMap<String, Ack>,
    /// Refusals by node.
    pub refusals: BTreeMap<String, NodeRefusal>,
    /// When fencing was proven, Unix milliseconds.
    pub fenced_at_ms: Option<i64>,
    /// When isolation was proven, Unix milliseconds.
    pub isolated_at_ms: Option<i64>,
}

/// A node's word that it does not obey a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRefusal {
    /// Why not.
    pub reason: String,
    /// Its signed note over [`refusal_text`].
    pub note: String,
}

impl DirectiveState {
    /// The directive's kind.
    pub fn kind(&self) -> DirectiveKind {
        self.directive.kind()
    }

    /// Whether the node has answered it, either way.
    pub fn answered_by(&self, node: &str) -> bool {
        self.acks.contains_key(node) || self.refusals.contains_key(node)
    }
}

/// Why a node must not sign now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// No origin is open, or the named one is not the current one.
    NotCurrent,
    /// Another node writes this origin.
    NotWriter {
        /// The node that does.
        writer: String,
    },
    /// The key is isolated.
    Isolated {
        /// Incident.
        incident: String,
    },
    /// No key of an algorithm that has to sign may do so.
    NoKey {
        /// The algorithm.
        algorithm: String,
    },
    /// New seals are refused.
    ReadOnly {
        /// Incident.
        incident: String,
    },
    /// New seals wait in the durable queue.
    Queue {
        /// Incident.
        incident: String,
    },
    /// Signing is held.
    Hold {
        /// Incident.
        incident: String,
        /// End, Unix milliseconds.
        until_ms: i64,
    },
    /// A directive waits to be judged by this node.
    Judging {
        /// Its epoch.
        epoch: u64,
    },
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotCurrent => write!(f, "this origin is not the log's current one"),
            Self::NotWriter { writer } => write!(f, "node {writer} writes this origin"),
            Self::Isolated { incident } => {
                write!(f, "the sealing key is isolated by incident {incident}")
            }
            Self::NoKey { algorithm } => write!(
                f,
                "no {algorithm} key of this origin may sign: each is revoked, destroyed or isolated; restore one, or rotate the origin"
            ),
            Self::ReadOnly { incident } => {
                write!(f, "read-only mode, ordered by incident {incident}")
            }
            Self::Queue { incident } => {
                write!(f, "queue mode, ordered by incident {incident}")
            }
            Self::Hold { incident, .. } => {
                write!(
                    f,
                    "signing is held by incident {incident} after a proven signal"
                )
            }
            Self::Judging { epoch } => {
                write!(f, "directive {epoch} is being checked by this node")
            }
        }
    }
}

/// The folded state of `log/<name>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogControl {
    /// Origins in the order they were opened; the last is the current one.
    pub origins: Vec<Origin>,
    /// Latest permit of each node.
    pub grants: BTreeMap<String, Grant>,
    /// Requests that wait for an answer, by node.
    pub requests: BTreeMap<String, (String, String)>,
    /// Holds, oldest first.
    pub holds: Vec<Hold>,
    /// Directives by epoch.
    pub directives: BTreeMap<u64, DirectiveState>,
    /// Nodes that divert seals by themselves because their key provider is slow.
    pub pressure: BTreeMap<String, KeyPressure>,
    /// The node that folds this, if it is one: it believes an answer in its own name only with its own signature.
    own: Option<(String, Vkey)>,
}

impl LogControl {
    /// The state as a node folds it that obeys directives: whoever can write to the log cannot answer in its name.
    pub fn of_node(name: &str, vkey: Vkey) -> Self {
        Self {
            own: Some((name.to_owned(), vkey)),
            ..Self::default()
        }
    }

    /// Whether an answer to a directive may be believed: one in the folding node's own name carries its signature over this very directive; the others' answers are
    /// for others to check.
    pub(super) fn is_believable(&self, node: &str, epoch: u64, note: &str) -> bool {
        let Some((_, vkey)) = self.own.as_ref().filter(|(own, _)| own == node) else {
            return true;
        };
        let Some(state) = self.directives.get(&epoch) else {
            return false;
        };
        let signed = Note::parse(note.as_bytes())
            .ok()
            .filter(|note| note.verify(std::slice::from_ref(vkey)).is_ok());
        let directive = &state.directive;
        let lines = [
            format!("node: {node}"),
            format!("log: {}", directive.log),
            format!("epoch: {epoch}"),
            format!("kind: {}", kind_name(directive.kind())),
            format!("directive: sha256:{}", directive_digest(directive)),
        ];
        // Title and installation stand before them.
        signed.is_some_and(|note| note.text().lines().skip(2).take(lines.len()).eq(lines))
    }

    /// The origin that is written now.
    pub fn current(&self) -> Option<&Origin> {
        self.origins.last()
    }

    /// An origin by its name.
    pub fn origin(&self, origin: &str) -> Option<&Origin> {
        self.origins.iter().find(|o| o.origin == origin)
    }

    /// Highest epoch that was ordered; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.directives.keys().next_back().copied().unwrap_or(0)
    }

    /// Highest epoch that the node acknowledged; 0 before the first.
    pub fn acknowledged_epoch(&self, node: &str) -> u64 {
        self.directives
            .iter()
            .rev()
            .find(|(_, d)| d.acks.contains_key(node))
            .map_or(0, |(epoch, _)| *epoch)
    }

    /// Directives that the node has not answered yet, oldest first.
    pub fn unanswered<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = &'a DirectiveState> + 'a {
        self.directives
            .values()
            .filter(move |d| !d.answered_by(node))
    }

    /// Whether this run's step was already ordered in this log: a directive's approvals are good for one directive.
    pub fn ordered(&self, run: &str, step: &str, iteration: u32) -> Option<u64> {
        self.directives
            .iter()
            .find(|(_, d)| {
                d.directive.run == run
                    && d.directive.step == step
                    && d.directive.iteration == iteration
            })
            .map(|(epoch, _)| *epoch)
    }

    /// The hold that stops the origin at this time and ends last, if there is one.
    pub fn active_hold(&self, origin: &str, wall_ms: i64) -> Option<&Hold> {
        let lifted = self.holds_lifted_at(origin);
        self.holds
            .iter()
            .filter(|h| h.origin == origin && h.expires_at_ms > wall_ms && h.position > lifted)
            .max_by_key(|h| h.expires_at_ms)
    }

    /// Position up to which the origin's holds are lifted; 0 if none is. Only what the origin's own writer acknowledged lifts them: it judged the approvals, and
    /// another node's word would let somebody else start this one's key again.
    pub fn holds_lifted_at(&self, origin: &str) -> u64 {
        let Some(writer) = self.origin(origin).map(|o| o.node.as_str()) else {
            return 0;
        };
        self.directives
            .values()
            .filter(|d| d.kind() == DirectiveKind::Open && d.acks.contains_key(writer))
            .map(|d| d.position)
            .max()
            .unwrap_or(0)
    }

    /// Whether the node may use the origin's key for callers' seals, permits aside. Fails closed: an order that was not judged yet stops it.
    pub fn may_sign(&self, node: &str, origin: &str, wall_ms: i64) -> Result<(), StopReason> {
        self.may_sign_for(node, origin, wall_ms, None)
    }

    /// Like [`Self::may_sign`]; with the epoch of a re-seal directive that is being carried out into this origin, an earlier read-only order does not stop it: the
    /// directive was approved for exactly that. A later one does.
    pub fn may_sign_for(
        &self,
        node: &str,
        origin: &str,
        wall_ms: i64,
        reseal: Option<u64>,
    ) -> Result<(), StopReason> {
        let current = self
            .current()
            .filter(|o| o.origin == origin)
            .ok_or(StopReason::NotCurrent)?;
        if current.node != node {
            return Err(StopReason::NotWriter {
                writer: current.node.clone(),
            });
        }
        if let Some(d) = self.unanswered(node).find(|d| stops_signing(d.kind())) {
            return Err(StopReason::Judging {
                epoch: d.directive.epoch,
            });
        }
        if let Some(incident) = self.isolated_by(node, origin) {
            return Err(StopReason::Isolated { incident });
        }
        if let Some(algorithm) = current.lacking() {
            return Err(StopReason::NoKey {
                algorithm: algorithm.to_owned(),
            });
        }
        let reseal = reseal.filter(|epoch| self.is_resealing(node, origin, *epoch));
        if let Some(stop) = self.stopping_mode(node, reseal) {
            return Err(stop);
        }
        if let Some(hold) = self.active_hold(origin, wall_ms) {
            return Err(StopReason::Hold {
                incident: hold.incident.clone(),
                until_ms: hold.expires_at_ms,
            });
        }
        Ok(())
    }

    fn is_resealing(&self, node: &str, origin: &str, epoch: u64) -> bool {
        self.directives.get(&epoch).is_some_and(|d| {
            d.kind() == DirectiveKind::Reseal
                && !d.answered_by(node)
                && directive_input(&d.directive, "into") == Some(origin)
        })
    }

    /// The incident whose isolation of the origin the node acknowledged, unless it acknowledged a newer order to restore a key of it.
    pub fn isolated_by(&self, node: &str, origin: &str) -> Option<String> {
        let mut newest_first = self.directives.values().rev().filter(|d| {
            let decides = match d.kind() {
                DirectiveKind::IsolateKey | DirectiveKind::RestoreKey => true,
                DirectiveKind::Unspecified
                | DirectiveKind::ReadOnly
                | DirectiveKind::RotateOrigin
                | DirectiveKind::Reseal
                | DirectiveKind::Open
                | DirectiveKind::Queue
                | DirectiveKind::QueueNoncritical
                | DirectiveKind::RevokeKey
                | DirectiveKind::DestroyKey => false,
            };
            decides
                && d.acks.contains_key(node)
                && directive_input(&d.directive, "origin") == Some(origin)
        });
        newest_first
            .next()
            .filter(|d| d.kind() == DirectiveKind::IsolateKey)
            .map(|d| d.directive.incident.clone())
    }
}

fn stops_signing(kind: DirectiveKind) -> bool {
    match kind {
        // A kind that this version does not know may be a stop: it stops until it is judged.
        DirectiveKind::Unspecified
        | DirectiveKind::IsolateKey
        | DirectiveKind::ReadOnly
        | DirectiveKind::RevokeKey
        | DirectiveKind::Queue => true,
        DirectiveKind::RotateOrigin
        | DirectiveKind::DestroyKey
        | DirectiveKind::RestoreKey
        | DirectiveKind::Reseal
        | DirectiveKind::Open
        | DirectiveKind::QueueNoncritical => false,
    }
}

/// The value of one `name: value` line of a directive's inputs.
pub fn directive_input<'a>(directive: &'a Directive, name: &str) -> Option<&'a str> {
    directive
        .inputs
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The name of a kind as plans, statements and people write it.
pub fn kind_name(kind: DirectiveKind) -> &'static str {
    match kind {
        DirectiveKind::Unspecified => "unspecified",
        DirectiveKind::IsolateKey => "isolate-key",
        DirectiveKind::ReadOnly => "read-only",
        DirectiveKind::RotateOrigin => "rotate-origin",
        DirectiveKind::Reseal => "reseal",
        DirectiveKind::Open => "open",
        DirectiveKind::Queue => "queue",
        DirectiveKind::QueueNoncritical => "queue-noncritical",
        DirectiveKind::RevokeKey => "revoke-key",
        DirectiveKind::DestroyKey => "destroy-key",
        DirectiveKind::RestoreKey => "restore-key",
    }
}

/// SHA-256 (hex) of the directive's protobuf encoding: what an acknowledgement names.
pub fn directive_digest(directive: &Directive) -> String {
    hex::encode(ring::digest::digest(
        &ring::digest::SHA256,
        &directive.encode_to_vec(),
    ))
}

/// The text a node signs (as a C2SP note) to acknowledge a directive: directive, epoch and the node's last head, followed by results of the work.
pub fn acknowledgement_text(
    installation: &str,
    node: &str,
    directive: &Directive,
    head: (u64, &[u8; 32]),
    results: &BTreeMap<String, String>,
) -> String {
    let mut text = format!(
        "sealwarden acknowledgement v1\ninstallation: {installation}\nnode: {node}\nlog: {}\nepoch: {}\nkind: {}\ndirective: sha256:{}\nhead: {} sha256:{}\n",
        directive.log,
        directive.epoch,
        kind_name(directive.kind()),
        directive_digest(directive),
        head.0,
        hex::encode(head.1),
    );
    for (name, value) in results {
        let (name, value) = (one_line(name), one_line(value));
        text.extend([name.as_str(), ": ", value.as_str(), "\n"]);
    }
    text
}

/// The text a node signs (as a C2SP note) to refuse a directive.
pub fn refusal_text(installation: &str, node: &str, directive: &Directive, reason: &str) -> String {
    format!(
        "sealwarden refusal v1\ninstallation: {installation}\nnode: {node}\nlog: {}\nepoch: {}\nkind: {}\ndirective: sha256:{}\nreason: {}\n",
        directive.log,
        directive.epoch,
        kind_name(directive.kind()),
        directive_digest(directive),
        one_line(reason),
    )
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Whether a text can be a node's name: 1 to 128 of `A-Z a-z 0-9 . _ -`.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}
