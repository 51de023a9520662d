//! The built-in operations that steps perform, and what each of them declares about itself.

mod value;
mod vendors;
mod verifiers;

use std::fmt;

use crate::directive::DirectiveKind;

pub use value::ValueType;

/// An operation that a step can perform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Seals the state of the installation as evidence.
    SnapshotEvidence,
    /// Takes a sealing key away from everybody: nodes, provider, witness.
    IsolateKey,
    /// Refuses new seals; verification goes on.
    ReadOnly,
    /// Sends new seals, all or the non-critical ones, into the durable queue.
    Divert,
    /// Takes one key of an origin out of service for ever; its other keys go on.
    RevokeKey,
    /// Erases one key at its provider.
    DestroyKey,
    /// Lets an isolated key sign again, and its origin go on.
    RestoreKey,
    /// Opens a new origin with a new key.
    RotateOrigin,
    /// Publishes a trust bundle that knows the new origin and the suspension of the old key.
    PublishTrust,
    /// Finds the seals that a compromise touches.
    FindAffected,
    /// Seals again, in the new origin, what may be.
    Reseal,
    /// Verifies every seal of an origin.
    Reverify,
    /// Opens signing again.
    Resume,
    /// Waits until a sealing node seals everything at once and nothing waits in its durable queue.
    DrainQueue,
    /// Keeps people from what is damaged in an archive.
    QuarantineArchive,
    /// Puts intact originals back into an archive.
    RestoreArchive,
    /// Looks at every object of an archive again.
    RevalidateArchive,
    /// Tells what a verifier that others run says of archived documents.
    CompareVerdicts,
    /// As that, and it must be what is known of them.
    ReplayVerdicts,
    /// Lets another vendor stand in for one that failed.
    ActivateFallback,
    /// Lets a vendor serve again that was set aside.
    TakeBackVendor,
    /// Tells a system outside to do something that can be taken back.
    CallWebhook,
    /// Tells a system outside to do something that cannot be taken back.
    CallWebhookDestructive,
    /// A person does something outside the product and says so.
    Confirm,
    /// Closes the incident.
    CloseIncident,
}

/// An input or output of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: ValueType,
    /// For inputs: whether a step must give it. Outputs are always there once the step is done.
    pub required: bool,
}

/// Whether what an action does can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A later action can restore the state before.
    Reversible,
    /// It cannot be taken back: a quorum and a completed evidence snapshot stand before it.
    Destructive,
}

/// What an action declares about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionSpec {
    /// The action.
    pub action: Action,
    /// Its name in runbooks.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What it takes.
    pub inputs: &'static [Field],
    /// What it leaves behind for later steps.
    pub outputs: &'static [Field],
    /// Whether it can be taken back.
    pub effect: Effect,
    /// Whether a completed evidence snapshot of the same run must stand before it.
    pub needs_snapshot: bool,
    /// Whether doing it twice with the same inputs leaves the same state as doing it once. Where it does not, an
    /// attempt that started and did not end is observed and never just repeated.
    pub idempotent: bool,
    /// How to find out whether it happened.
    pub observed: &'static str,
    /// The kinds of directives that it can send to nodes. Where there are several, its input `mode` names one.
    pub directives: &'static [DirectiveKind],
    /// Whether people perform it. Its approvals are their word that it is done.
    pub manual: bool,
}

impl ActionSpec {
    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<&'static Field> {
        self.inputs.iter().find(|field| field.name == name)
    }

    /// The directive that it sends with this value of its input `mode`; `None` if it sends none, or the mode names none of its own.
    pub fn directive(&self, mode: Option<&str>) -> Option<DirectiveKind> {
        match self.directives {
            [only] => Some(*only),
            kinds => kinds
                .iter()
                .copied()
                .find(|kind| mode == Some(kind.as_str())),
        }
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<&'static Field> {
        self.outputs.iter().find(|field| field.name == name)
    }
}

const fn text(name: &'static str) -> Field {
    Field {
        name,
        kind: ValueType::Text,
        required: true,
    }
}

const fn time(name: &'static str) -> Field {
    Field {
        name,
        kind: ValueType::Time,
        required: true,
    }
}

const fn count(name: &'static str) -> Field {
    Field {
        name,
        kind: ValueType::Count,
        required: true,
    }
}

impl Action {
    /// Every action, in the order of an incident.
    pub const ALL: [Self; 25] = [
        Self::SnapshotEvidence,
        Self::IsolateKey,
        Self::ReadOnly,
        Self::Divert,
        Self::RevokeKey,
        Self::DestroyKey,
        Self::RestoreKey,
        Self::RotateOrigin,
        Self::PublishTrust,
        Self::FindAffected,
        Self::Reseal,
        Self::Reverify,
        Self::Resume,
        Self::DrainQueue,
        Self::QuarantineArchive,
        Self::RestoreArchive,
        Self::RevalidateArchive,
        Self::CompareVerdicts,
        Self::ReplayVerdicts,
        Self::ActivateFallback,
        Self::TakeBackVendor,
        Self::CallWebhook,
        Self::CallWebhookDestructive,
        Self::Confirm,
        Self::CloseIncident,
    ];

    /// Its name in runbooks.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The action of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// The action that takes back what this one did, with inputs of the same names; `None` where a runbook must say how.
    pub fn inverse(self) -> Option<Self> {
        match self {
            Self::ReadOnly | Self::Divert => Some(Self::Resume),
            Self::IsolateKey => Some(Self::RestoreKey),
            Self::SnapshotEvidence
            | Self::RevokeKey
            | Self::DestroyKey
            | Self::RestoreKey
            | Self::RotateOrigin
            | Self::PublishTrust
            | Self::FindAffected
            | Self::Reseal
            | Self::Reverify
            | Self::Resume
            | Self::DrainQueue
            | Self::QuarantineArchive
            | Self::RestoreArchive
            | Self::RevalidateArchive
            | Self::CompareVerdicts
            | Self::ReplayVerdicts
            | Self::ActivateFallback
            | Self::TakeBackVendor
            | Self::CallWebhook
            | Self::CallWebhookDestructive
            | Self::Confirm
            | Self::CloseIncident => None,
        }
    }

    /// What the action declares about itself.
    pub fn spec(self) -> &'static ActionSpec {
        match self {
            Self::SnapshotEvidence => &SNAPSHOT_EVIDENCE,
            Self::IsolateKey => &ISOLATE_KEY,
            Self::ReadOnly => &READ_ONLY,
            Self::Divert => &DIVERT,
            Self::RevokeKey => &REVOKE_KEY,
            Self::DestroyKey => &DESTROY_KEY,
            Self::RestoreKey => &RESTORE_KEY,
            Self::RotateOrigin => &ROTATE_ORIGIN,
            Self::PublishTrust => &PUBLISH_TRUST,
            Self::FindAffected => &FIND_AFFECTED,
            Self::Reseal => &RESEAL,
            Self::Reverify => &REVERIFY,
            Self::Resume => &RESUME,
            Self::DrainQueue => &DRAIN_QUEUE,
            Self::QuarantineArchive => &QUARANTINE_ARCHIVE,
            Self::RestoreArchive => &RESTORE_ARCHIVE,
            Self::RevalidateArchive => &REVALIDATE_ARCHIVE,
            Self::CompareVerdicts => &verifiers::COMPARE_VERDICTS,
            Self::ReplayVerdicts => &verifiers::REPLAY_VERDICTS,
            Self::ActivateFallback => &vendors::ACTIVATE_FALLBACK,
            Self::TakeBackVendor => &vendors::TAKE_BACK_VENDOR,
            Self::CallWebhook => &CALL_WEBHOOK,
            Self::CallWebhookDestructive => &CALL_WEBHOOK_DESTRUCTIVE,
            Self::Confirm => &CONFIRM,
            Self::CloseIncident => &CLOSE_INCIDENT,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

static SNAPSHOT_EVIDENCE: ActionSpec = ActionSpec {
    action: Action::SnapshotEvidence,
    name: "snapshot-evidence",
    summary: "collects logs, trees, key audit, runbook and approvals, and seals them in the evidence log",
    inputs: &[],
    outputs: &[text("bundle"), text("digest")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: false,
    observed: "the evidence store holds a complete, sealed bundle whose manifest names this run and step",
    directives: &[],
    manual: false,
};

static ISOLATE_KEY: ActionSpec = ActionSpec {
    action: Action::IsolateKey,
    name: "isolate-key",
    summary: "fences every node that may use the key, disables it at its provider, freezes the origin at the witness, suspends the key in the trust bundle",
    inputs: &[text("log"), text("origin"), time("compromised-since")],
    outputs: &[count("epoch"), time("fenced-at"), time("isolated-at")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the log line holds this run's directive, and each node that had a permit has acknowledged it or its permit has run out",
    directives: &[DirectiveKind::IsolateKey],
    manual: false,
};

static READ_ONLY: ActionSpec = ActionSpec {
    action: Action::ReadOnly,
    name: "read-only",
    summary: "refuses new seals with the incident's id; verification goes on",
    inputs: &[text("log")],
    outputs: &[count("epoch")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the log line holds this run's directive and its mode is read-only at that epoch or a newer one",
    directives: &[DirectiveKind::ReadOnly],
    manual: false,
};

static DIVERT: ActionSpec = ActionSpec {
    action: Action::Divert,
    name: "divert",
    summary: "sends new seals into the durable queue, all of them or those that are not critical; `resume` drains it",
    inputs: &[
        text("log"),
        Field {
            name: "mode",
            kind: ValueType::Mode,
            required: true,
        },
    ],
    outputs: &[count("epoch")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the log line holds this run's directive, and its writer has acknowledged it",
    directives: &[DirectiveKind::Queue, DirectiveKind::QueueNoncritical],
    manual: false,
};

static REVOKE_KEY: ActionSpec = ActionSpec {
    action: Action::RevokeKey,
    name: "revoke-key",
    summary: "takes one key of an origin out of service for ever: disabled at its provider, suspended in the trust bundle; the origin's other keys go on",
    inputs: &[
        text("log"),
        text("origin"),
        text("key"),
        time("compromised-since"),
    ],
    outputs: &[count("epoch"), text("outcome"), text("signers")],
    effect: Effect::Destructive,
    needs_snapshot: true,
    idempotent: true,
    observed: "the log line holds this run's directive, its writer has acknowledged it, and the trust stream holds the key's suspension",
    directives: &[DirectiveKind::RevokeKey],
    manual: false,
};

static DESTROY_KEY: ActionSpec = ActionSpec {
    action: Action::DestroyKey,
    name: "destroy-key",
    summary: "erases one key that does not sign any more at its provider; says what copies it cannot reach",
    inputs: &[text("log"), text("origin"), text("key")],
    outputs: &[count("epoch"), text("outcome")],
    effect: Effect::Destructive,
    needs_snapshot: true,
    idempotent: true,
    observed: "the log line holds this run's directive, and its writer has acknowledged it with what the provider did",
    directives: &[DirectiveKind::DestroyKey],
    manual: false,
};

static RESTORE_KEY: ActionSpec = ActionSpec {
    action: Action::RestoreKey,
    name: "restore-key",
    summary: "takes an isolation back: the key signs again, witnesses cosign its origin again, and a new trust bundle says so",
    inputs: &[text("log"), text("origin"), text("key")],
    outputs: &[count("epoch"), text("signers"), count("version")],
    effect: Effect::Reversible,
    needs_snapshot: true,
    idempotent: true,
    observed: "the log line holds this run's directive, writer and witnesses have acknowledged it, and the trust stream holds a bundle that names this run and step",
    directives: &[DirectiveKind::RestoreKey],
    manual: false,
};

static ROTATE_ORIGIN: ActionSpec = ActionSpec {
    action: Action::RotateOrigin,
    name: "rotate-origin",
    summary: "makes a new sealing key and opens a new origin with it; the old origin stays frozen",
    inputs: &[text("log"), text("origin")],
    outputs: &[text("origin"), text("vkey"), count("epoch")],
    effect: Effect::Destructive,
    needs_snapshot: true,
    idempotent: false,
    observed: "the log line holds an origin that was opened by this run's directive",
    directives: &[DirectiveKind::RotateOrigin],
    manual: false,
};

static PUBLISH_TRUST: ActionSpec = ActionSpec {
    action: Action::PublishTrust,
    name: "publish-trust",
    summary: "publishes a trust bundle with the new origin's key and the suspension of the old one",
    inputs: &[text("log")],
    outputs: &[count("version"), text("digest")],
    effect: Effect::Destructive,
    needs_snapshot: true,
    idempotent: false,
    observed: "the trust stream holds a bundle that names this run and step",
    directives: &[],
    manual: false,
};

static FIND_AFFECTED: ActionSpec = ActionSpec {
    action: Action::FindAffected,
    name: "find-affected",
    summary: "divides the origin's seals into those that intents from before the compromise cover and those to be reported",
    inputs: &[text("origin"), time("compromised-since")],
    outputs: &[count("total"), count("covered"), count("reported")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "it changes nothing: it can be done again",
    directives: &[],
    manual: false,
};

static RESEAL: ActionSpec = ActionSpec {
    action: Action::Reseal,
    name: "reseal",
    summary: "seals the covered leaves again in the new origin, each naming its original; reports the others",
    inputs: &[
        text("log"),
        text("origin"),
        text("into"),
        time("compromised-since"),
    ],
    outputs: &[count("resealed"), count("reported")],
    effect: Effect::Destructive,
    needs_snapshot: true,
    idempotent: false,
    observed: "the new origin holds a leaf for each covered original; those that are missing are sealed, none twice",
    directives: &[DirectiveKind::Reseal],
    manual: false,
};

static REVERIFY: ActionSpec = ActionSpec {
    action: Action::Reverify,
    name: "reverify",
    summary: "verifies every seal of an origin against the current trust bundle",
    inputs: &[text("origin")],
    outputs: &[count("verified"), count("failed")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "it changes nothing: it can be done again",
    directives: &[],
    manual: false,
};

static RESUME: ActionSpec = ActionSpec {
    action: Action::Resume,
    name: "resume",
    summary: "lifts read-only mode: nodes may ask for permits and seal again",
    inputs: &[text("log")],
    outputs: &[count("epoch")],
    effect: Effect::Reversible,
    needs_snapshot: true,
    idempotent: true,
    observed: "the log line holds this run's directive and its mode is open at that epoch",
    directives: &[DirectiveKind::Open],
    manual: false,
};

static DRAIN_QUEUE: ActionSpec = ActionSpec {
    action: Action::DrainQueue,
    name: "drain-queue",
    summary: "waits until the sealing node seals everything at once and no ticket waits in its durable queue; tells how many did",
    inputs: &[text("log")],
    outputs: &[text("origin"), text("provider"), count("drained")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "it changes nothing: it can be done again",
    directives: &[],
    manual: false,
};

static QUARANTINE_ARCHIVE: ActionSpec = ActionSpec {
    action: Action::QuarantineArchive,
    name: "quarantine-archive",
    summary: "waits for a revalidation that is under way, then keeps people from every object that it found damaged",
    inputs: &[text("archive")],
    outputs: &[count("quarantined")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the archive's stream says which objects are in quarantine; doing it again adds those that are missing",
    directives: &[],
    manual: false,
};

static RESTORE_ARCHIVE: ActionSpec = ActionSpec {
    action: Action::RestoreArchive,
    name: "restore-archive",
    summary: "puts intact originals back from the backup store, verifies each against its leaf, and releases it; keeps the bytes that it replaces",
    inputs: &[text("archive")],
    outputs: &[count("restored"), count("lost")],
    effect: Effect::Reversible,
    needs_snapshot: true,
    idempotent: true,
    observed: "the archive's stream says what was restored; doing it again goes on with what is left",
    directives: &[],
    manual: false,
};

static REVALIDATE_ARCHIVE: ActionSpec = ActionSpec {
    action: Action::RevalidateArchive,
    name: "revalidate-archive",
    summary: "looks at every object of an archive again; whatever is damaged and was not given up as lost fails the step",
    inputs: &[text("archive")],
    outputs: &[text("job"), count("checked"), count("damaged")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "it changes nothing that is whole: it can be done again",
    directives: &[],
    manual: false,
};

static CALL_WEBHOOK: ActionSpec = ActionSpec {
    action: Action::CallWebhook,
    name: "call-webhook",
    summary: "posts the body to a target of the settings under a key of its own, once: a flag, a roll-back, a redeployment, which another call can take back",
    inputs: &[text("target"), text("body")],
    outputs: &[count("status"), text("answer")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: false,
    observed: "the target's `observe_url` answers 200 under the same key; a target that is `idempotent` is called again; else a person is asked",
    directives: &[],
    manual: false,
};

/// The settings say of a target that it is destructive; then no other action calls it.
static CALL_WEBHOOK_DESTRUCTIVE: ActionSpec = ActionSpec {
    action: Action::CallWebhookDestructive,
    name: "call-webhook-destructive",
    summary: "as call-webhook, for what no other call takes back: people approve it, and an evidence snapshot stands before it",
    effect: Effect::Destructive,
    needs_snapshot: true,
    ..CALL_WEBHOOK
};

static CONFIRM: ActionSpec = ActionSpec {
    action: Action::Confirm,
    name: "confirm",
    summary: "asks people to do something outside the product; their approvals say that it is done",
    inputs: &[text("instructions")],
    outputs: &[text("by"), text("note")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the run holds the approvals that the step's quorum asks for",
    directives: &[],
    manual: true,
};

static CLOSE_INCIDENT: ActionSpec = ActionSpec {
    action: Action::CloseIncident,
    name: "close-incident",
    summary: "closes the incident",
    inputs: &[],
    outputs: &[time("closed-at")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the incident's stream says that it is closed",
    directives: &[],
    manual: false,
};

#[cfg(test)]
mod tests;
