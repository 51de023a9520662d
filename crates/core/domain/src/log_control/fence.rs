//! Proof of fencing: which nodes could still sign with an origin's key.
//!
//! The grantor counts a permit from the grant; a node counts it from before it asked, so the node always stops first. A grant of an earlier life of the grantor has an unknown
//! age, so it counts from the start of this one: a restarted grantor waits a full lifetime.

use std::collections::BTreeMap;

use super::state::{Grant, LogControl};

/// When permits were granted, on this process's `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantClock {
    /// When this grantor started, milliseconds.
    pub started_boot_ms: u64,
    /// Request id -> when it was granted, milliseconds.
    pub granted_boot_ms: BTreeMap<String, u64>,
}

impl GrantClock {
    /// A clock that knows of no grant yet.
    pub fn starting_at(boot_ms: u64) -> Self {
        Self {
            started_boot_ms: boot_ms,
            granted_boot_ms: BTreeMap::new(),
        }
    }

    /// Remembers every permit of the log that it does not know yet as granted at `boot_ms`. Read the log before, and call this before each question: then a permit
    /// counts from no earlier than its grant, even if another process granted it or its own append had no answer.
    pub fn observe(&mut self, log: &LogControl, boot_ms: u64) {
        for grant in log
            .grants
            .values()
            .flat_map(|g| std::iter::once(g).chain(&g.earlier))
        {
            self.granted_boot_ms
                .entry(grant.request_id.clone())
                .or_insert(boot_ms);
        }
    }

    /// When a key call under this permit has surely ended, on this process's `CLOCK_BOOTTIME`, milliseconds.
    pub fn end_of(&self, grant: &Grant) -> u64 {
        self.granted_at(&grant.request_id)
            .saturating_add(grant.span_ms)
    }

    fn granted_at(&self, request_id: &str) -> u64 {
        self.granted_boot_ms
            .get(request_id)
            .copied()
            .unwrap_or(self.started_boot_ms)
    }
}

/// Why a node cannot sign any more, or that it still could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceHow {
    /// It acknowledged the directive.
    Acknowledged,
    /// It gave its permit back.
    Released,
    /// Its permit, the longest key call and the drift are over.
    RanOut,
    /// It may still hold a valid permit for this long.
    Waiting {
        /// Milliseconds until the permit has surely run out.
        remaining_ms: u64,
    },
}

/// One node's part in the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFenceStatus {
    /// The node.
    pub node: String,
    /// Its state.
    pub how: FenceHow,
}

impl NodeFenceStatus {
    /// Whether this node cannot sign any more.
    pub fn fenced(&self) -> bool {
        !matches!(self.how, FenceHow::Waiting { .. })
    }

    /// The words for the record.
    pub fn words(&self) -> String {
        match self.how {
            FenceHow::Acknowledged => "acknowledged".to_owned(),
            FenceHow::Released => "permit released".to_owned(),
            FenceHow::RanOut => "permit ran out".to_owned(),
            FenceHow::Waiting { remaining_ms } => {
                format!("no acknowledgement yet; its permit runs out in {remaining_ms} ms")
            }
        }
    }
}

/// Every node that was granted a permit for the origin of isolation `epoch`, with its state. Fenced means that all of them are.
pub fn fence_status(
    log: &LogControl,
    epoch: u64,
    clock: &GrantClock,
    boot_ms: u64,
) -> Vec<NodeFenceStatus> {
    let Some(directive) = log.directives.get(&epoch) else {
        return Vec::new();
    };
    let origin = super::state::directive_input(&directive.directive, "origin").unwrap_or_default();
    log.grants
        .iter()
        .filter_map(|(node, latest)| Some((node, latest.for_origin(origin)?)))
        .map(|(node, grant)| {
            let end = clock.end_of(grant);
            let how = if directive.acks.contains_key(node) {
                FenceHow::Acknowledged
            } else if grant.released {
                FenceHow::Released
            } else if boot_ms >= end {
                FenceHow::RanOut
            } else {
                FenceHow::Waiting {
                    remaining_ms: end - boot_ms,
                }
            };
            NodeFenceStatus {
                node: node.clone(),
                how,
            }
        })
        .collect()
}
