//! The kinds of orders that nodes obey.

use std::fmt;

use crate::action::Action;

/// The kinds of orders that nodes obey. Nodes check the approvals that the plan demands for the kind themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirectiveKind {
    /// A sealing key must not be used any more.
    IsolateKey,
    /// New seals are refused.
    ReadOnly,
    /// A new origin with a new key is opened.
    RotateOrigin,
    /// Leaves of a frozen origin are sealed again in another one.
    Reseal,
    /// Signing is allowed again.
    Open,
    /// New seals wait in the durable queue, and nothing is signed for them.
    Queue,
    /// New seals that are not critical wait in the durable queue.
    QueueNoncritical,
    /// One key never signs again; the origin's other keys go on.
    RevokeKey,
    /// One key's private part is erased at its provider.
    DestroyKey,
    /// An isolated key may sign again.
    RestoreKey,
}

impl DirectiveKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::IsolateKey,
        Self::ReadOnly,
        Self::RotateOrigin,
        Self::Reseal,
        Self::Open,
        Self::Queue,
        Self::QueueNoncritical,
        Self::RevokeKey,
        Self::DestroyKey,
        Self::RestoreKey,
    ];

    /// The name used in plan files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IsolateKey => "isolate-key",
            Self::ReadOnly => "read-only",
            Self::RotateOrigin => "rotate-origin",
            Self::Reseal => "reseal",
            Self::Open => "open",
            Self::Queue => "queue",
            Self::QueueNoncritical => "queue-noncritical",
            Self::RevokeKey => "revoke-key",
            Self::DestroyKey => "destroy-key",
            Self::RestoreKey => "restore-key",
        }
    }

    /// Whether a plan may leave its quorum out: then nobody can order it, and no step may.
    pub(crate) fn is_optional(self) -> bool {
        match self {
            Self::Queue
            | Self::QueueNoncritical
            | Self::RevokeKey
            | Self::DestroyKey
            | Self::RestoreKey => true,
            Self::IsolateKey | Self::ReadOnly | Self::RotateOrigin | Self::Reseal | Self::Open => {
                false
            }
        }
    }

    /// The fewest people that a plan's quorum for it may ask for: what one person could order alone, one stolen key could.
    pub(crate) fn least_people(self) -> u32 {
        match self {
            Self::RevokeKey | Self::DestroyKey | Self::RestoreKey => 2,
            Self::IsolateKey
            | Self::ReadOnly
            | Self::RotateOrigin
            | Self::Reseal
            | Self::Open
            | Self::Queue
            | Self::QueueNoncritical => 1,
        }
    }

    /// The action that sends it.
    pub fn action(self) -> Action {
        match self {
            Self::IsolateKey => Action::IsolateKey,
            Self::ReadOnly => Action::ReadOnly,
            Self::RotateOrigin => Action::RotateOrigin,
            Self::Reseal => Action::Reseal,
            Self::Open => Action::Resume,
            Self::Queue | Self::QueueNoncritical => Action::Divert,
            Self::RevokeKey => Action::RevokeKey,
            Self::DestroyKey => Action::DestroyKey,
            Self::RestoreKey => Action::RestoreKey,
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for DirectiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
