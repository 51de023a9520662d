//! Modes: what a node does with new seals by order.

use sealwarden_wire::event::v1::DirectiveKind;

use super::state::{LogControl, StopReason};

/// What a node does with new seals by order, from the weakest to the strictest. Without an order it seals them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Those that are not critical wait in the durable queue.
    QueueNoncritical,
    /// All wait in the durable queue; nothing is signed for callers.
    Queue,
    /// They are refused; what is queued waits.
    ReadOnly,
}

impl Mode {
    fn ordered_by(kind: DirectiveKind) -> Option<Self> {
        match kind {
            DirectiveKind::ReadOnly => Some(Self::ReadOnly),
            DirectiveKind::Queue => Some(Self::Queue),
            DirectiveKind::QueueNoncritical => Some(Self::QueueNoncritical),
            DirectiveKind::Unspecified
            | DirectiveKind::IsolateKey
            | DirectiveKind::RotateOrigin
            | DirectiveKind::Reseal
            | DirectiveKind::RevokeKey
            | DirectiveKind::DestroyKey
            | DirectiveKind::RestoreKey
            | DirectiveKind::Open => None,
        }
    }

    /// Its name as plans, statements and people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueNoncritical => "queue-noncritical",
            Self::Queue => "queue",
            Self::ReadOnly => "read-only",
        }
    }
}

/// A mode and the order that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedMode<'a> {
    /// The mode.
    pub mode: Mode,
    /// Epoch of the order.
    pub epoch: u64,
    /// Incident that it belongs to.
    pub incident: &'a str,
}

impl LogControl {
    /// The mode that the node enforces by order: the strictest since the last `open`. A weaker order never lifts a stricter one, for other people may approve it.
    /// Holds, permits and isolation come on top.
    pub fn ordered_mode(&self, node: &str) -> Option<OrderedMode<'_>> {
        self.modes_since_open(node)
            .max_by_key(|ordered| (ordered.mode, ordered.epoch))
    }

    /// The incident whose read-only order the node enforces.
    pub fn read_only(&self, node: &str) -> Option<&str> {
        self.ordered_mode(node)
            .filter(|ordered| ordered.mode == Mode::ReadOnly)
            .map(|ordered| ordered.incident)
    }

    /// The mode that keeps the node from signing; for a re-seal only what was ordered after its epoch.
    pub(super) fn stopping_mode(&self, node: &str, reseal: Option<u64>) -> Option<StopReason> {
        let strictest = self
            .modes_since_open(node)
            .filter(|ordered| reseal.is_none_or(|epoch| ordered.epoch > epoch))
            .max_by_key(|ordered| (ordered.mode, ordered.epoch))?;
        let incident = strictest.incident.to_owned();
        match strictest.mode {
            Mode::ReadOnly => Some(StopReason::ReadOnly { incident }),
            Mode::Queue => Some(StopReason::Queue { incident }),
            Mode::QueueNoncritical => None,
        }
    }

    /// Every order about the mode that the node acknowledged since the last `open`.
    fn modes_since_open(&self, node: &str) -> impl Iterator<Item = OrderedMode<'_>> {
        self.directives
            .iter()
            .rev()
            .filter(move |(_, d)| d.acks.contains_key(node))
            .take_while(|(_, d)| d.kind() != DirectiveKind::Open)
            .filter_map(|(epoch, d)| {
                Some(OrderedMode {
                    mode: Mode::ordered_by(d.kind())?,
                    epoch: *epoch,
                    incident: d.directive.incident.as_str(),
                })
            })
    }
}
