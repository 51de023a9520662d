//! `plan sign-notice NAME`: a person signs a notice's template beforehand; and what `plan check` says of the signatures.

use std::path::PathBuf;

use sealwarden_domain::approval::{Namespace, RevokedKeys};
use sealwarden_domain::communication::{APPROVERS, signed};
use sealwarden_runbook::{Finding, NoticeTemplate, PlanSet};
use serde_json::json;

use super::Answer;
use super::approve::SigningKey;
use super::plan::folder;
use crate::cli::{Cli, Signing};
use crate::failure::{Ending, Failure};
use crate::host::installation::write_durably;
use crate::host::plan;
use crate::output;

/// What is wrong with signatures of notices, and which wait for them. Keys that were revoked are known to the running services only.
pub(super) fn findings(set: &PlanSet) -> Vec<Finding> {
    let notices = set.notices().values();
    notices.flat_map(|notice| of_notice(set, notice)).collect()
}

fn of_notice(set: &PlanSet, notice: &NoticeTemplate) -> Vec<Finding> {
    let judged = signed(notice, set.roster(), &RevokedKeys::default());
    if judged.wrong.is_empty() && !judged.complete {
        let people = match judged.people.as_slice() {
            [] => "nobody".to_owned(),
            people => people.join(", "),
        };
        let message = format!("signed beforehand by {people}");
        let remedy = format!(
            "let {} sign it: sealwarden plan sign-notice {}; unsigned, it waits for their approvals in the incident",
            APPROVERS.join(" and "),
            notice.name
        );
        let finding = Finding::warning(&notice.file, notice.place, "notice-unsigned", message);
        return vec![finding.remedy(remedy)];
    }
    let wrong = judged.wrong.into_iter().map(|reason| {
        let remedy = format!(
            "read it, remove {}.sig, and let it be signed anew: sealwarden plan sign-notice {}; until then it is not sent",
            notice.file, notice.name
        );
        Finding::error(&notice.file, notice.place, "notice-signature", reason).remedy(remedy)
    });
    wrong.collect()
}

/// Adds a person's signature to those of a notice.
pub(super) fn run(cli: &Cli, name: &str, dir: Option<PathBuf>, signing: &Signing) -> Answer {
    let dir = folder(cli, dir, "plan sign-notice NAME DIR")?;
    let set = plan::load(&dir).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let notice = named(&set, name)?;
    let key = SigningKey::find(cli, signing)?;
    let fingerprint = key.fingerprint();
    let Some((person, _)) = set.roster().by_fingerprint(&fingerprint) else {
        return Err(key.of_nobody());
    };
    let counts = |role: &str| person.roles.iter().any(|own| own.as_str() == role);
    if !APPROVERS.iter().any(|role| counts(role)) {
        return Err(Failure::refused(format!(
            "{} is neither {}; nothing was written",
            person.id,
            APPROVERS.join(" nor ")
        )));
    }
    let before = signed(notice, set.roster(), &RevokedKeys::default());
    if let Some(reason) = before.wrong.first() {
        return Err(Failure::refused(format!(
            "{reason}; read it, and remove {}.sig in {} before anybody signs it anew",
            notice.file,
            dir.display()
        )));
    }
    if !before.people.contains(&person.id) {
        if !cli.json || !signing.yes {
            output::complain(&format!(
                "{}\nSigned by legal counsel and communications, this goes to everybody BY ITSELF as soon as an incident of {} is at least {}.",
                notice.source.trim_end(),
                notice
                    .classes
                    .iter()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", "),
                notice.severity.as_str()
            ));
        }
        if !signing.yes && !output::confirmed(&format!("Sign this as {}?", person.name)) {
            return Err(Failure::usage("not signed: nothing was written"));
        }
        let signature = key.sign(&notice.source, Namespace::Notice)?;
        let text = format!("{}{}\n", notice.signatures.concat(), signature.trim());
        write_durably(&dir.join(format!("{}.sig", notice.file)), text.as_bytes())?;
    }
    // What counts is what was written.
    let set = plan::load(&dir).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let judged = signed(named(&set, name)?, set.roster(), &RevokedKeys::default());
    if cli.json {
        output::json(&json!({
            "notice": name, "person": person.id, "signed_by": judged.people, "complete": judged.complete,
        }));
    } else {
        let rest = if judged.complete {
            "it goes out by itself, from the services' next start on"
        } else {
            "the other role has to sign, too"
        };
        let people = judged.people.join(", ");
        output::line(&format!("{name}: signed by {people}; {rest}"));
    }
    Ok(Ending::Good)
}

fn named<'a>(set: &'a PlanSet, name: &str) -> Result<&'a NoticeTemplate, Failure> {
    set.notices().get(name).ok_or_else(|| {
        let known: Vec<&str> = set.notices().keys().map(String::as_str).collect();
        Failure::usage(format!(
            "the plan has no notice {name:?} (notices/{name}.md); it has: {}",
            known.join(", ")
        ))
    })
}
