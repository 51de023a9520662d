//! Whether a signed statement counts, and if not, why.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{ApproverKey, Person, Quorum, Role, Roster, Touch};

use super::refusal::{Refusal, RefusalCode};
use super::signature::{Authenticator, Signature, SignatureError};
use super::statement::{Decision, Environment, Statement, rfc3339_ms};

/// A decision of a step that still stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Who decided.
    pub person: &'a str,
    /// What.
    pub decision: Decision,
}

/// What a statement is held against.
#[derive(Clone, Debug)]
pub struct Expectation<'a> {
    /// The installation's name.
    pub installation: &'a str,
    /// Production or drill.
    pub environment: Environment,
    /// The incident's id.
    pub incident: &'a str,
    /// The run's id.
    pub run: &'a str,
    /// The step's id.
    pub step: &'a str,
    /// Its iteration.
    pub iteration: u32,
    /// The runbook's name.
    pub runbook: &'a str,
    /// SHA-256 (hex) of the runbook's file.
    pub runbook_digest: &'a str,
    /// SHA-256 (hex) of the step's resolved inputs; `None` while they are not resolved.
    pub inputs_digest: Option<&'a str>,
    /// The people, their roles and keys.
    pub roster: &'a Roster,
    /// Ids of people who cannot decide this: those who asked for the run, or had a part in what is reviewed.
    pub requesters: &'a [String],
    /// Keys that were revoked, by fingerprint.
    pub revoked: &'a BTreeSet<String>,
    /// Nonces that were used.
    pub used_nonces: &'a BTreeSet<String>,
    /// The quorum; `None` if the step needs nobody's approval.
    pub quorum: Option<&'a Quorum>,
    /// Whether anybody on the roster counts, whatever their roles.
    pub anyone: bool,
    /// Whether only keys count that prove a touch, or of which the roster waives it.
    pub touch: bool,
    /// Decisions of this step that stand, unexpired.
    pub standing: &'a [Standing<'a>],
    /// The longest time from now to the expiry, in milliseconds.
    pub max_validity_ms: i64,
    /// The decisions that the step takes.
    pub takes: &'a [Decision],
    /// Why the step takes no decisions any more, in words; `None` while it does.
    pub closed: Option<&'a str>,
}

/// A signed statement that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Whose key signed.
    pub person: String,
    /// That person's roles which the quorum asks for.
    pub roles: BTreeSet<Role>,
    /// What was decided.
    pub decision: Decision,
    /// The key, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// The statement's nonce.
    pub nonce: String,
    /// When it stops to count, Unix milliseconds.
    pub expires_ms: i64,
    /// What a FIDO key signed beside it.
    pub authenticator: Option<Authenticator>,
}

/// Checks a signed statement. First that it is authentic, then that it is about this step, then that this person may decide it now.
pub fn check(
    text: &str,
    armored: &str,
    expected: &Expectation<'_>,
    at_ms: i64,
) -> Result<Accepted, Refusal> {
    let authentic = authenticate(text, armored, expected.roster)?;
    let judge = Judge {
        authentic: &authentic,
        expected,
        at_ms,
    };
    judge.key()?;
    judge.namespace_and_place()?;
    judge.subject()?;
    judge.time()?;
    judge.person()
}

/// A statement whose signature verifies with a key of its approver.
pub(crate) struct Authentic<'a> {
    pub(crate) statement: Statement,
    pub(crate) person: &'a Person,
    pub(crate) fingerprint: String,
    /// What a FIDO key signed beside it.
    pub(crate) authenticator: Option<Authenticator>,
    key: &'a ApproverKey,
    namespace: String,
}

impl Authentic<'_> {
    /// Whether it was signed in the namespace of its own environment.
    pub(crate) fn is_in_its_namespace(&self) -> bool {
        self.namespace == self.statement.environment.namespace().as_str()
    }

    /// Whether it counts where a touch is asked for.
    pub(crate) fn is_touched(&self) -> bool {
        match self.key.touch {
            Touch::Proven => self.authenticator.is_some_and(Authenticator::is_touched),
            Touch::Waived => true,
            Touch::Unproven => false,
        }
    }
}

/// Reads text and signature and verifies them against the roster's keys. Says nothing about what the statement is for.
pub(crate) fn authenticate<'a>(
    text: &str,
    armored: &str,
    roster: &'a Roster,
) -> Result<Authentic<'a>, Refusal> {
    let statement = Statement::parse(text).map_err(|error| {
        Refusal::new(
            RefusalCode::Malformed,
            "",
            format!("the statement is malformed: {error}"),
        )
    })?;
    let named = statement.approver.clone();
    let refuse = |code, reason: String| Refusal::new(code, &named, reason);
    let signature = Signature::parse(armored)
        .map_err(|error| refuse(RefusalCode::Malformed, error.to_string()))?;
    let fingerprint = signature.fingerprint();
    let Some((person, key)) = roster.by_fingerprint(&fingerprint) else {
        let reason = format!(
            "the key {fingerprint} is nobody's on the roster; sign with a key that stands there"
        );
        return Err(refuse(RefusalCode::UnknownKey, reason));
    };
    signature.verify(text).map_err(|error| match error {
        SignatureError::NoTouch => Refusal::new(RefusalCode::NoTouch, &person.id, error.to_string()),
        SignatureError::Malformed(_)
        | SignatureError::KeyType(_)
        | SignatureError::NotOverText
        | SignatureError::Signing(_) => {
            let reason = format!("the signature by the key {fingerprint} does not verify over this text; show the step again and sign what is shown");
            Refusal::new(RefusalCode::Altered, &person.id, reason)
        }
    })?;
    if person.id != named {
        let reason = format!(
            "the statement names {named} as approver and the key {fingerprint} is {}'s; sign in your own name",
            person.id
        );
        return Err(Refusal::new(RefusalCode::WrongKey, &person.id, reason));
    }
    Ok(Authentic {
        statement,
        person,
        fingerprint,
        authenticator: signature.authenticator(),
        key,
        namespace: signature.namespace().to_owned(),
    })
}

struct Judge<'a> {
    authentic: &'a Authentic<'a>,
    expected: &'a Expectation<'a>,
    at_ms: i64,
}

impl Judge<'_> {
    fn refuse<T>(&self, code: RefusalCode, reason: String) -> Result<T, Refusal> {
        Err(Refusal::new(code, &self.authentic.person.id, reason))
    }

    fn same(&self, code: RefusalCode, what: &str, signed: &str, here: &str) -> Result<(), Refusal> {
        if signed == here {
            return Ok(());
        }
        self.refuse(code, format!("the statement is for the {what} {signed} and this is {here}; show the step again and sign what is shown"))
    }

    fn key(&self) -> Result<(), Refusal> {
        let fingerprint = &self.authentic.fingerprint;
        if !self.expected.revoked.contains(fingerprint) {
            return Ok(());
        }
        let reason = format!(
            "the key {fingerprint} of {} was revoked and counts no more; sign with another key of the roster",
            self.authentic.person.id
        );
        self.refuse(RefusalCode::RevokedKey, reason)
    }

    fn namespace_and_place(&self) -> Result<(), Refusal> {
        let (statement, expected) = (&self.authentic.statement, self.expected);
        let namespace = statement.environment.namespace().as_str();
        if !self.authentic.is_in_its_namespace() {
            let reason = format!(
                "the signature is in the namespace {} and a {} approval needs {namespace}; sign with that namespace",
                self.authentic.namespace, statement.environment,
            );
            return self.refuse(RefusalCode::WrongNamespace, reason);
        }
        let environment = (
            statement.environment.as_str(),
            expected.environment.as_str(),
        );
        self.same(
            RefusalCode::WrongEnvironment,
            "environment",
            environment.0,
            environment.1,
        )?;
        self.same(
            RefusalCode::WrongInstallation,
            "installation",
            &statement.installation,
            expected.installation,
        )
    }

    fn subject(&self) -> Result<(), Refusal> {
        let (statement, expected) = (&self.authentic.statement, self.expected);
        self.same(RefusalCode::WrongRun, "run", &statement.run, expected.run)?;
        self.same(
            RefusalCode::WrongRun,
            "incident",
            &statement.incident,
            expected.incident,
        )?;
        self.same(
            RefusalCode::WrongStep,
            "step",
            &statement.step,
            expected.step,
        )?;
        let iterations = (
            statement.iteration.to_string(),
            expected.iteration.to_string(),
        );
        self.same(
            RefusalCode::WrongStep,
            "iteration",
            &iterations.0,
            &iterations.1,
        )?;
        self.same(
            RefusalCode::WrongRunbook,
            "runbook",
            &statement.runbook,
            expected.runbook,
        )?;
        self.same(
            RefusalCode::WrongRunbook,
            "runbook digest",
            &statement.runbook_digest,
            expected.runbook_digest,
        )?;
        let roster_digest = expected.roster.digest_hex();
        self.same(
            RefusalCode::WrongRoster,
            "roster digest",
            &statement.roster_digest,
            &roster_digest,
        )?;
        let Some(inputs_digest) = expected.inputs_digest else {
            let reason = format!(
                "the inputs of step {} are not resolved yet; approve it when the steps that it needs are done",
                expected.step
            );
            return self.refuse(RefusalCode::TooEarly, reason);
        };
        self.same(
            RefusalCode::StaleInputs,
            "inputs digest",
            &statement.inputs_digest,
            inputs_digest,
        )?;
        if expected.takes.contains(&statement.decision) {
            return Ok(());
        }
        let takes: Vec<&str> = expected.takes.iter().map(|it| it.as_str()).collect();
        let reason = format!(
            "step {} takes {}, and the statement says {}",
            expected.step,
            takes.join(" or "),
            statement.decision
        );
        self.refuse(RefusalCode::WrongDecision, reason)
    }

    fn time(&self) -> Result<(), Refusal> {
        let (statement, expected) = (&self.authentic.statement, self.expected);
        if expected.used_nonces.contains(&statement.nonce) {
            let reason = format!(
                "the nonce {} was used before; every decision needs a statement of its own",
                statement.nonce
            );
            return self.refuse(RefusalCode::Replayed, reason);
        }
        if let Some(why) = expected.closed {
            return self.refuse(
                RefusalCode::StepClosed,
                format!("step {} takes no decisions any more: {why}", expected.step),
            );
        }
        let expires_ms = statement.expires_ms();
        let expires = rfc3339_ms(expires_ms);
        if expires_ms <= self.at_ms {
            let reason = format!(
                "the statement expired at {expires} and it is {}; sign a new one",
                rfc3339_ms(self.at_ms)
            );
            return self.refuse(RefusalCode::Expired, reason);
        }
        if expires_ms.saturating_sub(self.at_ms) > expected.max_validity_ms {
            let reason = format!(
                "the statement is valid until {expires}; at most {} s from now are allowed: sign one with an earlier expiry",
                expected.max_validity_ms / 1000,
            );
            return self.refuse(RefusalCode::ValidityTooLong, reason);
        }
        Ok(())
    }

    fn person(&self) -> Result<Accepted, Refusal> {
        let (authentic, expected) = (self.authentic, self.expected);
        let person = &authentic.person.id;
        if expected.requesters.contains(person) {
            let reason = format!(
                "{person} raised the signal, started the run or had a part in what is to be decided, and cannot decide it; somebody else must"
            );
            return self.refuse(RefusalCode::Requester, reason);
        }
        let roles = if expected.anyone {
            authentic.person.roles.clone()
        } else {
            counted_roles(authentic.person, expected.quorum)
        };
        if roles.is_empty() && !expected.anyone {
            return self.refuse(RefusalCode::WrongRole, self.wrong_role());
        }
        if expected.touch && !authentic.is_touched() {
            let reason = format!(
                "this takes a touch, and the key {} of {person} proves none; sign with a FIDO key of the roster (`ssh-keygen -t ed25519-sk` makes one)",
                authentic.fingerprint
            );
            return self.refuse(RefusalCode::NoTouch, reason);
        }
        let decision = authentic.statement.decision;
        if expected
            .standing
            .iter()
            .any(|other| other.person == person && other.decision == decision)
        {
            let reason = format!(
                "{person} has already decided \"{decision}\" for step {}, and one person counts once",
                expected.step
            );
            return self.refuse(RefusalCode::AlreadyDecided, reason);
        }
        Ok(Accepted {
            person: person.clone(),
            roles,
            decision,
            fingerprint: authentic.fingerprint.clone(),
            nonce: authentic.statement.nonce.clone(),
            expires_ms: authentic.statement.expires_ms(),
            authenticator: authentic.authenticator,
        })
    }

    fn wrong_role(&self) -> String {
        let person = &self.authentic.person.id;
        let roles: Vec<&str> = self
            .authentic
            .person
            .roles
            .iter()
            .map(Role::as_str)
            .collect();
        match self.expected.quorum {
            Some(quorum) => format!(
                "{person} has the roles [{}] and step {} asks for {}; somebody with such a role must decide",
                roles.join(", "),
                self.expected.step,
                in_words(quorum.roles()),
            ),
            None => format!("step {} needs nobody's approval", self.expected.step),
        }
    }
}

/// The roles of a person that a quorum asks for.
pub(crate) fn counted_roles(person: &Person, quorum: Option<&Quorum>) -> BTreeSet<Role> {
    let asked = |role: &&Role| quorum.is_some_and(|quorum| quorum.roles().contains_key(*role));
    person.roles.iter().filter(asked).cloned().collect()
}

/// `security-lead: 1, on-call-sre: 1`.
pub(crate) fn in_words(counts: &BTreeMap<Role, u32>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(role, count)| format!("{role}: {count}"))
        .collect();
    parts.join(", ")
}
