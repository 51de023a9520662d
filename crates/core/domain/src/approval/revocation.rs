//! Revoking a key of a person: from then on it counts for nothing that has not begun.
//!
//! The rule, which the executor and every node follow:
//!
//! - Whoever owns the key revokes it, or anybody with the role `security-lead` or `break-glass`, alone: it only takes a right away, and a lost key does not wait.
//! - A revoked key never counts again, for anybody. A new key takes its place on the roster.
//! - What it signed before counts for steps that had begun by then, and for none that had not, whenever it was signed: nobody can tell when that was.
//! - A denial stands, since whoever stole the key would rather approve; its person approves anew with another key, or the glass is broken.
//!
//! ```text
//! sealwarden key revocation v1
//! installation: acme
//! environment: production
//! key: SHA256:…
//! person: ada
//! by: grace
//! reason: left on a train
//! ```
//!
//! A revocation that comes twice is one, so the text needs neither time nor nonce.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{BREAK_GLASS, Person, Roster};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{ApproverKeyRevoked, Envelope, Event};

use super::inputs::is_line_breaking;
use super::signature::Signature;
use super::statement::Environment;
use crate::fold::{Fold, IllegalEvent, Rejection, RejectionCode};

/// The longest reason, in characters.
pub const MAX_REVOCATION_REASON_CHARS: usize = 500;

/// The roles of which anybody may revoke anybody's key.
pub const REVOKERS: [&str; 2] = ["security-lead", BREAK_GLASS];

/// The text that is signed to revoke a key.
pub fn revocation_text(
    installation: &str,
    environment: Environment,
    revoked: &ApproverKeyRevoked,
) -> String {
    format!(
        "sealwarden key revocation v1\ninstallation: {installation}\nenvironment: {environment}\nkey: {}\nperson: {}\nby: {}\nreason: {}\n",
        revoked.key_fingerprint, revoked.person, revoked.by, revoked.reason
    )
}

/// The keys that were revoked, by fingerprint; the fold of `trust/<installation>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevokedKeys(BTreeMap<String, ApproverKeyRevoked>);

impl RevokedKeys {
    /// How a key was revoked, if it was.
    pub fn get(&self, fingerprint: &str) -> Option<&ApproverKeyRevoked> {
        self.0.get(fingerprint)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &ApproverKeyRevoked> {
        self.0.values()
    }

    /// Their fingerprints.
    pub fn fingerprints(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Takes one in. Who signed it was checked when it was recorded; whoever could write it otherwise can only take rights away.
    pub(crate) fn add(&mut self, revoked: &ApproverKeyRevoked) {
        self.0
            .entry(revoked.key_fingerprint.clone())
            .or_insert_with(|| revoked.clone());
    }
}

impl Fold for RevokedKeys {
    fn apply(&mut self, _envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        if let Some(Kind::ApproverKeyRevoked(revoked)) = &event.kind {
            self.add(revoked);
        }
        Ok(())
    }
}

/// Decides a revocation. No events: the key was revoked before.
pub fn revoke(
    known: &RevokedKeys,
    roster: &Roster,
    (installation, environment): (&str, Environment),
    revoked: ApproverKeyRevoked,
) -> Result<Vec<Kind>, Rejection> {
    let refused = |reason: String| Err(Rejection::new(RejectionCode::Refused, reason));
    one_line(&revoked.reason)?;
    let key = &revoked.key_fingerprint;
    let Some((owner, _)) = roster
        .by_fingerprint(key)
        .filter(|(owner, _)| owner.id == revoked.person)
    else {
        let reason = format!(
            "{} has no key {key} on the roster; `sealwarden roster show` lists them",
            revoked.person
        );
        return Err(Rejection::new(RejectionCode::NotFound, reason));
    };
    if known.get(key).is_some() {
        return Ok(Vec::new());
    }
    let text = revocation_text(installation, environment, &revoked);
    let signed = (revoked.by.as_str(), revoked.signature.as_str());
    let signer = match signer(roster, &known.fingerprints(), environment, &text, signed) {
        Ok((signer, _)) => signer,
        Err(reason) => return refused(reason),
    };
    let may = |role: &sealwarden_runbook::Role| REVOKERS.contains(&role.as_str());
    if signer.id != owner.id && !signer.roles.iter().any(may) {
        return refused(format!(
            "{} may revoke keys of their own; {} or somebody who is {} revokes this one",
            signer.id,
            owner.id,
            REVOKERS.join(" or ")
        ));
    }
    Ok(vec![Kind::ApproverKeyRevoked(revoked)])
}

/// Whose signature over a text this is, and by which key: the person who is named beside it, by a key of theirs that was not revoked, in the namespace of this environment. If not,
/// why not, in words. For texts that have one form and hold all that they bind; statements about steps are judged by [`super::check`].
pub(crate) fn signer<'a>(
    roster: &'a Roster,
    revoked: &BTreeSet<String>,
    environment: Environment,
    text: &str,
    (by, armored): (&str, &str),
) -> Result<(&'a Person, String), String> {
    let signature = Signature::parse(armored).map_err(|error| error.to_string())?;
    let key = signature.fingerprint();
    let Some((signer, _)) = roster
        .by_fingerprint(&key)
        .filter(|(signer, _)| signer.id == by)
    else {
        return Err(format!(
            "the key {key} is not {by}'s on the roster; sign in your own name, with a key that stands there"
        ));
    };
    if revoked.contains(&key) {
        return Err(format!("the key {key} is revoked itself"));
    }
    let namespace = environment.namespace().as_str();
    if signature.namespace() != namespace {
        return Err(format!(
            "it was signed in the namespace {:?}; this installation's is {namespace}",
            signature.namespace()
        ));
    }
    signature.verify(text).map_err(|error| error.to_string())?;
    Ok((signer, key))
}

/// A reason that people are to read, in one line; the error says what is wrong with it.
pub(crate) fn one_line(reason: &str) -> Result<(), Rejection> {
    let chars = reason.chars().count();
    if !reason.trim().is_empty()
        && chars <= MAX_REVOCATION_REASON_CHARS
        && !reason.chars().any(is_line_breaking)
    {
        return Ok(());
    }
    let reason = format!(
        "the reason has {chars} characters or more than one line; say it in one line of 1 to {MAX_REVOCATION_REASON_CHARS}"
    );
    Err(Rejection::new(RejectionCode::Invalid, reason))
}
