//! Whether an acknowledgement or a refusal in the log is really the node's word on this directive.

use std::collections::BTreeMap;

use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::{
    DirectiveState, acknowledgement_results, acknowledgement_text, refusal_text,
};
use sealwarden_engine::{Role, enrolment_text};
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_wire::event::v1::{Directive, NodeEnrolled};

use crate::executor::Executor;

/// The results that the node signed for the directive; `None` if it has not acknowledged. The error says why its acknowledgement does not count.
pub(super) fn of_node(
    executor: &Executor,
    installation: &Installation,
    directive: &DirectiveState,
    node: &str,
) -> Result<Option<BTreeMap<String, String>>, String> {
    let Some(ack) = directive.acks.get(node) else {
        return Ok(None);
    };
    verified(
        executor,
        installation,
        &directive.directive,
        node,
        &ack.note,
    )
    .map(Some)
    .map_err(|reason| format!("the acknowledgement of {node} does not count: {reason}"))
}

/// Why the node refuses the directive; `None` if it does not. The error says why a refusal in its name does not count: anybody who can write to the event log could
/// refuse for it.
pub(super) fn refusal_of(
    executor: &Executor,
    installation: &Installation,
    directive: &DirectiveState,
    node: &str,
) -> Result<Option<String>, String> {
    let Some(refusal) = directive.refusals.get(node) else {
        return Ok(None);
    };
    let name = &executor.node.installation;
    let expected = refusal_text(name, node, &directive.directive, &refusal.reason);
    let text = signed_text(executor, installation, node, &refusal.note);
    match text {
        Ok(text) if text == expected => Ok(Some(refusal.reason.clone())),
        Ok(_) => Err("it is over another directive or another reason".to_owned()),
        Err(reason) => Err(reason),
    }
    .map_err(|reason| format!("a refusal in the name of {node} does not count: {reason}"))
}

fn verified(
    executor: &Executor,
    installation: &Installation,
    directive: &Directive,
    node: &str,
    note: &str,
) -> Result<BTreeMap<String, String>, String> {
    let name = &executor.node.installation;
    let text = signed_text(executor, installation, node, note)?;
    // Everything before the node's last head is known to us.
    let expected = acknowledgement_text(name, node, directive, (0, &[0; 32]), &BTreeMap::new());
    let fixed = expected.split("head: ").next().unwrap_or_default();
    if fixed.is_empty() || !text.starts_with(fixed) {
        return Err("it is over another directive".to_owned());
    }
    Ok(acknowledgement_results(&text))
}

/// The text of a note that the node signed with the key that it was enrolled with.
fn signed_text(
    executor: &Executor,
    installation: &Installation,
    node: &str,
    note: &str,
) -> Result<String, String> {
    let name = &executor.node.installation;
    let enrolled = installation
        .nodes
        .get(node)
        .and_then(|known| known.enrolled.as_ref())
        .ok_or_else(|| format!("{node} was never enrolled"))?;
    let vkey = enrolled_key(name, executor.signer.vkey(), enrolled)?;
    let note = Note::parse(note.as_bytes()).map_err(|error| error.to_string())?;
    note.verify(std::slice::from_ref(&vkey))
        .map_err(|error| error.to_string())?;
    Ok(note.text().to_owned())
}

/// The node's key, if the installation's signing key vouches for it.
fn enrolled_key(
    installation: &str,
    signing: &Vkey,
    enrolled: &NodeEnrolled,
) -> Result<Vkey, String> {
    let vkey: Vkey = enrolled
        .vkey
        .parse()
        .map_err(|error| format!("the key of {} cannot be read: {error}", enrolled.node))?;
    let role = Role::ALL
        .into_iter()
        .find(|role| role.as_str() == enrolled.role)
        .ok_or_else(|| {
            format!(
                "{} was enrolled with the unknown role {:?}",
                enrolled.node, enrolled.role
            )
        })?;
    let note = Note::parse(enrolled.enrolment.as_bytes())
        .map_err(|error| format!("the enrolment of {}: {error}", enrolled.node))?;
    note.verify(std::slice::from_ref(signing))
        .map_err(|error| format!("the enrolment of {}: {error}", enrolled.node))?;
    if note.text() != enrolment_text(installation, &enrolled.node, role, &vkey) {
        return Err(format!(
            "the enrolment of {} is over another key",
            enrolled.node
        ));
    }
    Ok(vkey)
}
