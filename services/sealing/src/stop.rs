//! Why a seal was not made, and how callers hear of it.

use crate::queue::QueueError;
use sealwarden_domain::log_control::{Mode, StopReason};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata that says when to try again, milliseconds.
pub(crate) const RETRY_AFTER: &str = "retry-after-ms";
/// What a caller is told to wait while something short is under way.
const SOON_MS: i64 = 250;
/// The longest wait that a caller is told: things may be lifted early.
const LATE_MS: i64 = 5_000;

/// Why a batch or a request did not become seals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Signing is stopped; nothing of the request is in the log.
    #[error("{0}")]
    Stopped(StopReason),
    /// This node has no valid permit.
    #[error("this node holds no valid permit to use the sealing key; it asks for one all the time")]
    NoPermit,
    /// Something that signing needs is away; nothing of the request is in the log.
    #[error("{0}")]
    Away(String),
    /// The batch is durable and was not signed in time.
    #[error("the outcome is not known: {0}; sealing the same digest again is safe")]
    Unknown(String),
    /// The writer has stopped for good.
    #[error("the log's writer has stopped and needs an operator: {0}")]
    Broken(String),
    /// The process ends.
    #[error("the sealing service is shutting down")]
    ShuttingDown,
    /// The mode sends this request into the durable queue.
    #[error(
        "{mode} mode, ordered by incident {incident}, lets only critical requests be sealed now"
    )]
    Diverted {
        /// The mode's name.
        mode: &'static str,
        /// The incident.
        incident: String,
    },
    /// The sealing key's provider is slow and there is no other: only critical requests are sealed at once.
    #[error("{0}; only critical requests are sealed now")]
    KeySlow(String),
    /// It waits under a ticket, and its caller does not want one.
    #[error(
        "this request waits in the durable queue already; ask for its ticket with `accept_queued`"
    )]
    Waits,
    /// The durable queue did not take it.
    #[error("{0}")]
    NotQueued(#[from] QueueError),
    /// No room to wait in.
    #[error("{waiting} requests wait already, which is this node's limit")]
    QueueFull {
        /// The limit.
        waiting: usize,
    },
    /// No room for a chunk within its time.
    #[error("{digests} digests in bulk wait already, which is this node's limit (`bulk_queue`)")]
    BulkFull {
        /// The limit.
        digests: usize,
    },
    /// A tenant asks for more than it may have a second.
    #[error("tenant {tenant:?} may seal {limit} digests a second (`max_per_second`)")]
    TenantRate {
        /// The tenant.
        tenant: String,
        /// Its limit.
        limit: u32,
        /// When to come again.
        retry_ms: i64,
    },
    /// A tenant has too much on its way.
    #[error("tenant {tenant:?} may have {limit} digests unanswered (`max_in_flight`)")]
    TenantInFlight {
        /// The tenant.
        tenant: String,
        /// Its limit.
        limit: u64,
    },
    /// More tenants than can be counted ask at once.
    #[error("{limit} tenants seal at once, which is as many as this node counts")]
    ManyTenants {
        /// The limit.
        limit: usize,
    },
    /// No room on the disk.
    #[error("{0}")]
    NoSpace(String),
}

impl Failure {
    /// The gRPC status, with a hint when to come again.
    pub(crate) fn to_status(&self, now_ms: i64) -> Status {
        let (code, retry_ms) = match self {
            Self::Stopped(StopReason::ReadOnly { .. }) => (Code::FailedPrecondition, None),
            Self::Stopped(reason) => (Code::Unavailable, Some(wait_for(reason, now_ms))),
            Self::NoPermit | Self::Away(_) | Self::Unknown(_) | Self::ShuttingDown => {
                (Code::Unavailable, Some(SOON_MS))
            }
            Self::Broken(_) | Self::Diverted { .. } | Self::KeySlow(_) | Self::Waits => {
                (Code::Unavailable, Some(LATE_MS))
            }
            Self::NotQueued(
                QueueError::NotWritten(_) | QueueError::Broken(_) | QueueError::Closed,
            ) => (Code::Unavailable, Some(LATE_MS)),
            Self::QueueFull { .. } | Self::BulkFull { .. } | Self::TenantInFlight { .. } => {
                (Code::ResourceExhausted, Some(SOON_MS))
            }
            Self::TenantRate { retry_ms, .. } => (Code::ResourceExhausted, Some(*retry_ms)),
            Self::ManyTenants { .. } => (Code::ResourceExhausted, Some(LATE_MS)),
            Self::NoSpace(_) | Self::NotQueued(QueueError::Full { .. }) => {
                (Code::ResourceExhausted, Some(LATE_MS))
            }
        };
        let mut status = Status::new(code, format!("not sealed: {self}"));
        if let Some(ms) = retry_ms
            && let Ok(value) = MetadataValue::try_from(ms.to_string())
        {
            status.metadata_mut().insert(RETRY_AFTER, value);
        }
        status
    }

    /// Whether a request that was stopped by this may wait in the durable queue: what stops it will pass, and this node will
    /// seal it then.
    pub(crate) fn lets_wait(&self) -> bool {
        match self {
            Self::Stopped(reason) => match reason {
                StopReason::Hold { .. }
                | StopReason::Judging { .. }
                | StopReason::Isolated { .. }
                | StopReason::NoKey { .. }
                | StopReason::Queue { .. }
                | StopReason::NotCurrent => true,
                StopReason::ReadOnly { .. } | StopReason::NotWriter { .. } => false,
            },
            Self::NoPermit
            | Self::Away(_)
            | Self::Unknown(_)
            | Self::Diverted { .. }
            | Self::KeySlow(_) => true,
            Self::Broken(_)
            | Self::ShuttingDown
            | Self::Waits
            | Self::NotQueued(_)
            | Self::QueueFull { .. }
            | Self::BulkFull { .. }
            | Self::TenantRate { .. }
            | Self::TenantInFlight { .. }
            | Self::ManyTenants { .. }
            | Self::NoSpace(_) => false,
        }
    }

    /// The service's mode in one word, as `Status` answers it.
    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Self::Stopped(reason) => match reason {
                StopReason::ReadOnly { .. } => "read-only",
                StopReason::Queue { .. } => "queue",
                StopReason::Hold { .. } | StopReason::Judging { .. } => "hold",
                StopReason::Isolated { .. } => "isolated",
                StopReason::NoKey { .. } => "no-key",
                StopReason::NotCurrent | StopReason::NotWriter { .. } => "starting",
            },
            Self::NoPermit => "no-permit",
            Self::Diverted { mode, .. } => mode,
            Self::KeySlow(_) => Mode::QueueNoncritical.as_str(),
            Self::Away(_)
            | Self::Unknown(_)
            | Self::Broken(_)
            | Self::ShuttingDown
            | Self::Waits
            | Self::NotQueued(_)
            | Self::QueueFull { .. }
            | Self::BulkFull { .. }
            | Self::TenantRate { .. }
            | Self::TenantInFlight { .. }
            | Self::ManyTenants { .. }
            | Self::NoSpace(_) => "starting",
        }
    }
}

fn wait_for(reason: &StopReason, now_ms: i64) -> i64 {
    match reason {
        StopReason::Hold { until_ms, .. } => {
            until_ms.saturating_sub(now_ms).clamp(SOON_MS, LATE_MS)
        }
        StopReason::Isolated { .. }
        | StopReason::NoKey { .. }
        | StopReason::NotWriter { .. }
        | StopReason::Queue { .. } => LATE_MS,
        StopReason::NotCurrent | StopReason::Judging { .. } | StopReason::ReadOnly { .. } => {
            SOON_MS
        }
    }
}
