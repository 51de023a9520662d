//! Break-glass: who may order a step without its quorum. The same rule holds in the executor and on every node.

use std::collections::BTreeMap;

use sealwarden_runbook::{BREAK_GLASS, DirectiveKind, Quorum, Role};

/// Whether an order takes rights to sign away and gives none: then one senior may give it alone. `None`: a step that orders nothing.
pub fn tightens(kind: Option<DirectiveKind>) -> bool {
    match kind {
        Some(
            DirectiveKind::IsolateKey
            | DirectiveKind::ReadOnly
            | DirectiveKind::Queue
            | DirectiveKind::QueueNoncritical,
        ) => true,
        // Revoking takes a right away for ever, and that is not for one person.
        Some(
            DirectiveKind::RotateOrigin
            | DirectiveKind::Reseal
            | DirectiveKind::Open
            | DirectiveKind::RevokeKey
            | DirectiveKind::DestroyKey
            | DirectiveKind::RestoreKey,
        )
        | None => false,
    }
}

/// Whether the keys must prove a touch: for everything that one senior may not order alone.
pub fn needs_touch(kind: Option<DirectiveKind>) -> bool {
    !tightens(kind)
}

/// Whose keys order it: one of the role to tighten, two for anything else. (`None` cannot be: the role is a role.)
pub fn quorum(kind: Option<DirectiveKind>) -> Option<Quorum> {
    let role = Role::new(BREAK_GLASS).ok()?;
    let people = if tightens(kind) { 1 } else { 2 };
    Quorum::new(BTreeMap::from([(role, people)])).ok()
}
