//! The part of the plan that a run is pinned to, as the text of a `plan.yaml`.

use std::fmt::Write as _;

use sealwarden_runbook::{DirectiveKind, Plan, Quorum, show_duration};

/// A plan of this one class: its targets and runbook, the quorums that nodes demand, and how long approvals are valid. Other classes do not bear on the run, and
/// their runbooks are not pinned with it. `None` if the plan has no such class.
pub(super) fn text(plan: &Plan, class: &str) -> Option<String> {
    let class = plan.class(class)?;
    let targets = &class.targets;
    let mut yaml = format!(
        "plan: {}\nversion: {}\nclasses:\n  {}:\n    title: {}\n    severity: {}\n    runbook: {}\n    targets:\n      detect: {}\n      contain: {}\n      recover: {}\ncontainment:\n",
        plan.name(),
        plan.version(),
        class.name,
        quoted(&class.title),
        class.severity.as_str(),
        class.runbook,
        show_duration(targets.detect),
        show_duration(targets.contain),
        show_duration(targets.recover),
    );
    for kind in DirectiveKind::ALL {
        if let Some(quorum) = plan.containment(kind) {
            // Writing to a String cannot fail.
            let _ = writeln!(yaml, "  {kind}: {}", inline(quorum));
        }
    }
    let (hold, validity) = (
        show_duration(plan.hold()),
        show_duration(plan.approval_validity()),
    );
    let _ = write!(yaml, "hold: {hold}\napproval_validity: {validity}\n");
    Some(yaml)
}

fn inline(quorum: &Quorum) -> String {
    let roles: Vec<String> = quorum
        .roles()
        .iter()
        .map(|(role, count)| format!("{role}: {count}"))
        .collect();
    format!("{{{}}}", roles.join(", "))
}

/// A JSON string is a YAML one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
