//! Production or drill, in the words of each crate.

use sealwarden_domain::approval;
use sealwarden_engine::Node;
use sealwarden_eventlog::Environment;
use sealwarden_seal::trust;

/// For trust bundles and suspensions.
pub(crate) fn of_trust(node: &Node) -> trust::Environment {
    match node.environment {
        Environment::Production => trust::Environment::Production,
        Environment::Drill => trust::Environment::Drill,
    }
}

/// For approvals.
pub(crate) fn of_approvals(node: &Node) -> approval::Environment {
    match node.environment {
        Environment::Production => approval::Environment::Production,
        Environment::Drill => approval::Environment::Drill,
    }
}

/// Unix milliseconds as RFC 3339 in UTC; empty for a time outside the calendar.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.to_string())
        .unwrap_or_default()
}
