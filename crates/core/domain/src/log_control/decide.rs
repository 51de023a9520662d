//! Commands to a log's control and the events they give.

use sealwarden_wire::event::v1::{
    CheckpointAnchored, CheckpointCosigned, CheckpointPublished, DirectiveKind, Event, HoldPlaced,
    IntentRecorded, KeyLifeChanged, KeyPressureChanged, OriginOpened, SignatureWithheld,
    SignedStatement, SignerAdded, SignerRetired, SignersActivated,
};

use super::fence::GrantClock;
use super::state::LogControl;
use super::{orders, permits, signers, tree};
use crate::fold::{At, Rejection, RejectionCode};

/// A containment order before it has an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Kind.
    pub kind: DirectiveKind,
    /// Log that it is for.
    pub log: String,
    /// Incident, run, step and iteration that order it.
    pub incident: String,
    /// Run.
    pub run: String,
    /// Step.
    pub step: String,
    /// Iteration.
    pub iteration: u32,
    /// Runbook's name.
    pub runbook: String,
    /// Runbook's SHA-256, hex.
    pub runbook_digest: String,
    /// Canonical inputs text.
    pub inputs: String,
    /// Signed approvals.
    pub approvals: Vec<SignedStatement>,
    /// People who cannot approve.
    pub requesters: Vec<String>,
}

/// What `isolated` needs beyond fencing, each in words for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationProof {
    /// What the provider did with the key, or that it cannot.
    pub provider: String,
    /// Which witness froze the origin at which size.
    pub witness: String,
    /// Which suspension says so.
    pub trust: String,
}

/// What a directive made of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyChanges {
    /// Their lives.
    pub lives: Vec<KeyLifeChanged>,
    /// Who signs from then on, where that changes.
    pub signers: Option<SignersActivated>,
}

/// A command to one log.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Open the first origin, or the one that a rotation ordered.
    OpenOrigin(OriginOpened),
    /// The writer has a key that may sign for its origin.
    AddSigner(SignerAdded),
    /// The writer lets other keys sign.
    ActivateSigners {
        /// The writer.
        node: String,
        /// The keys that sign now, as the caller saw them: if they changed since, nothing is decided.
        seen: Vec<String>,
        /// The change.
        change: SignersActivated,
    },
    /// The writer ends a key's service.
    RetireSigner {
        /// The writer.
        node: String,
        /// Which key, by whom and why.
        retired: SignerRetired,
    },
    /// The writer says what it does because its key provider is slow, or that this is over.
    ChangePressure(KeyPressureChanged),
    /// A node asks for a permit.
    RequestPermit {
        /// Node.
        node: String,
        /// New UUID.
        request_id: String,
    },
    /// The grantor answers the node's latest request.
    GrantPermit {
        /// Node.
        node: String,
        /// Permit's lifetime, milliseconds.
        lifetime_ms: u64,
        /// Longest key call, milliseconds.
        key_deadline_ms: u64,
        /// Allowed drift, milliseconds.
        drift_ms: u64,
        /// The grantor's memory of its grants.
        clock: GrantClock,
    },
    /// A node gives its permit back.
    ReleasePermit {
        /// Node.
        node: String,
        /// Request.
        request_id: String,
    },
    /// The writer is about to use the key.
    RecordIntent {
        /// The intent.
        intent: IntentRecorded,
        /// Epoch of the re-seal directive that it serves, if it does.
        reseal: Option<u64>,
    },
    /// The writer published a checkpoint.
    PublishCheckpoint(CheckpointPublished),
    /// The writer holds a verified timestamp over a checkpoint.
    RecordAnchor(CheckpointAnchored),
    /// The writer holds an outside witness's cosignature.
    RecordCosignature(CheckpointCosigned),
    /// A late signature was thrown away.
    WithholdSignature(SignatureWithheld),
    /// A proven signal stops signing.
    PlaceHold(HoldPlaced),
    /// The executor orders something.
    Issue(Order),
    /// A node enforces a directive; a rotation opens its origin in the same commit.
    Acknowledge {
        /// Epoch.
        epoch: u64,
        /// Node.
        node: String,
        /// Its signed note.
        note: String,
        /// The origin that a rotation opened.
        opened: Option<OriginOpened>,
        /// What the directive made of keys.
        keys: KeyChanges,
    },
    /// A node refuses a directive.
    Refuse {
        /// Epoch.
        epoch: u64,
        /// Node.
        node: String,
        /// Why.
        reason: String,
        /// Its signed note over [`super::refusal_text`].
        note: String,
    },
    /// The grantor concludes that no node can sign.
    ConcludeFence {
        /// Epoch.
        epoch: u64,
        /// The grantor's memory of its grants.
        clock: GrantClock,
    },
    /// The executor concludes that the key is isolated.
    ConcludeIsolation {
        /// Epoch.
        epoch: u64,
        /// What beyond fencing was established.
        proof: IsolationProof,
    },
}

/// Decides a command. No events means that it is already so.
pub fn decide(log: &LogControl, command: Command, at: At) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::OpenOrigin(e) => tree::open_origin(log, e),
        Command::AddSigner(e) => signers::add(log, e),
        Command::ActivateSigners { node, seen, change } => {
            signers::activate(log, &node, &seen, change)
        }
        Command::RetireSigner { node, retired } => signers::retire(log, &node, retired),
        Command::ChangePressure(e) => signers::press(log, e),
        Command::RequestPermit { node, request_id } => permits::request(log, node, request_id),
        Command::GrantPermit {
            node,
            lifetime_ms,
            key_deadline_ms,
            drift_ms,
            clock,
        } => permits::grant(
            log,
            &node,
            (lifetime_ms, key_deadline_ms, drift_ms),
            &clock,
            at,
        ),
        Command::ReleasePermit { node, request_id } => Ok(permits::release(log, node, request_id)),
        Command::RecordIntent { intent, reseal } => tree::record_intent(log, intent, reseal, at),
        Command::PublishCheckpoint(e) => tree::publish(log, e),
        Command::RecordAnchor(e) => tree::anchored(log, e),
        Command::RecordCosignature(e) => tree::cosigned(log, e),
        Command::WithholdSignature(e) => Ok(tree::withhold(e)),
        Command::PlaceHold(e) => orders::place_hold(log, e, at),
        Command::Issue(order) => orders::issue(log, order, at),
        Command::Acknowledge {
            epoch,
            node,
            note,
            opened,
            keys,
        } => orders::acknowledge(log, epoch, (node, note), opened, keys),
        Command::Refuse {
            epoch,
            node,
            reason,
            note,
        } => orders::refuse(log, epoch, node, reason, note),
        Command::ConcludeFence { epoch, clock } => orders::conclude_fence(log, epoch, &clock, at),
        Command::ConcludeIsolation { epoch, proof } => {
            orders::conclude_isolation(log, epoch, proof)
        }
    }
}

pub(super) fn not_now(reason: impl Into<String>) -> Rejection {
    Rejection::new(RejectionCode::NotNow, reason)
}

pub(super) fn refused(reason: impl Into<String>) -> Rejection {
    Rejection::new(RejectionCode::Refused, reason)
}

pub(super) fn invalid(reason: impl Into<String>) -> Rejection {
    Rejection::new(RejectionCode::Invalid, reason)
}
