//! Why a signed statement does not count.

/// Why a signed statement does not count. The texts of [`RefusalCode::as_str`] are recorded and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// Text or signature cannot be read.
    Malformed,
    /// The key is nobody's on the roster.
    UnknownKey,
    /// The key was revoked.
    RevokedKey,
    /// Signed for another purpose, or in a drill.
    WrongNamespace,
    /// The signature is not over this text.
    Altered,
    /// A FIDO key that signed without a touch, or a key that cannot prove one where one is asked for.
    NoTouch,
    /// The key is another person's than the approver named.
    WrongKey,
    /// Signed for production and shown in a drill, or the other way.
    WrongEnvironment,
    /// Another installation's.
    WrongInstallation,
    /// Another run's or incident's.
    WrongRun,
    /// Another step's or iteration's.
    WrongStep,
    /// Another runbook, or another version of it.
    WrongRunbook,
    /// Another version of the roster.
    WrongRoster,
    /// The step's inputs are not known yet.
    TooEarly,
    /// The step's inputs are others than those signed.
    StaleInputs,
    /// `confirm` for a step that is not manual, or `approve` for one that is.
    WrongDecision,
    /// The nonce was used before.
    Replayed,
    /// The step runs or has ended.
    StepClosed,
    /// Its time is over.
    Expired,
    /// Valid for longer than the plan allows.
    ValidityTooLong,
    /// The person asked for what is to be approved.
    Requester,
    /// None of the person's roles is asked for.
    WrongRole,
    /// The same person's same decision stands already.
    AlreadyDecided,
    /// A directive whose own lines contradict each other, or that is not this node's to obey.
    WrongDirective,
    /// A directive whose approvals do not meet the quorum.
    QuorumMissing,
}

impl RefusalCode {
    /// Every code.
    pub const ALL: [Self; 25] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::RevokedKey,
        Self::WrongNamespace,
        Self::Altered,
        Self::NoTouch,
        Self::WrongKey,
        Self::WrongEnvironment,
        Self::WrongInstallation,
        Self::WrongRun,
        Self::WrongStep,
        Self::WrongRunbook,
        Self::WrongRoster,
        Self::TooEarly,
        Self::StaleInputs,
        Self::WrongDecision,
        Self::Replayed,
        Self::StepClosed,
        Self::Expired,
        Self::ValidityTooLong,
        Self::Requester,
        Self::WrongRole,
        Self::AlreadyDecided,
        Self::WrongDirective,
        Self::QuorumMissing,
    ];

    /// The word in events, answers and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::RevokedKey => "revoked-key",
            Self::WrongNamespace => "wrong-namespace",
            Self::Altered => "altered",
            Self::NoTouch => "no-touch",
            Self::WrongKey => "wrong-key",
            Self::WrongEnvironment => "wrong-environment",
            Self::WrongInstallation => "wrong-installation",
            Self::WrongRun => "wrong-run",
            Self::WrongStep => "wrong-step",
            Self::WrongRunbook => "wrong-runbook",
            Self::WrongRoster => "wrong-roster",
            Self::TooEarly => "too-early",
            Self::StaleInputs => "stale-inputs",
            Self::WrongDecision => "wrong-decision",
            Self::Replayed => "replayed",
            Self::StepClosed => "step-closed",
            Self::Expired => "expired",
            Self::ValidityTooLong => "validity-too-long",
            Self::Requester => "requester",
            Self::WrongRole => "wrong-role",
            Self::AlreadyDecided => "already-decided",
            Self::WrongDirective => "wrong-directive",
            Self::QuorumMissing => "quorum-missing",
        }
    }
}

/// A signed statement that does not count, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} [{}]", code.as_str())]
pub struct Refusal {
    /// The kind of reason.
    pub code: RefusalCode,
    /// A sentence with the values and what to do.
    pub reason: String,
    /// Whose key signed, or if that is not known who the text says; empty if neither is known.
    pub person: String,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, person: &str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            person: person.to_owned(),
        }
    }
}
