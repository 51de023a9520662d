//! What witnesses say of an origin that a directive is about.

use sealwarden_domain::installation::Installation;
use sealwarden_engine::Role;

use super::acknowledgement;
use super::directive::Issued;
use crate::executor::Executor;

/// What every witness says that it did with the directive's origin, and at which size: `did` is the result's name, `frozen` or `thawed`. Else who is missing.
pub(super) fn said(
    executor: &Executor,
    installation: &Installation,
    issued: &Issued,
    did: &str,
) -> Result<String, Vec<String>> {
    let log = installation.logs.get(&issued.log);
    let Some(directive) = log.and_then(|log| log.directives.get(&issued.epoch)) else {
        return Err(vec!["the directive".to_owned()]);
    };
    let witnesses: Vec<&String> = installation
        .nodes
        .iter()
        .filter(|(_, node)| {
            node.announced
                .as_ref()
                .is_some_and(|a| a.role == Role::Verification.as_str())
        })
        .map(|(name, _)| name)
        .collect();
    if witnesses.is_empty() {
        return Err(vec![
            "a witness: no verification service has announced itself".to_owned(),
        ]);
    }
    let (mut words, mut missing) = (Vec::new(), Vec::new());
    for node in witnesses {
        let refusal = acknowledgement::refusal_of(executor, installation, directive, node);
        if let Ok(Some(reason)) = refusal {
            missing.push(format!("{node}: refuses the directive: {reason}"));
            continue;
        }
        match acknowledgement::of_node(executor, installation, directive, node) {
            Err(reason) => missing.push(reason),
            Ok(None) if refusal.is_err() => missing.push(refusal.err().unwrap_or_default()),
            Ok(None) => missing.push(format!("{node}: has not said that the origin is {did}")),
            Ok(Some(results)) => match results.get(did) {
                Some(at) => words.push(format!("{node}: {at}")),
                None => missing.push(format!(
                    "{node}: acknowledged without saying where the origin is {did}"
                )),
            },
        }
    }
    if missing.is_empty() {
        Ok(words.join("; "))
    } else {
        Err(missing)
    }
}
