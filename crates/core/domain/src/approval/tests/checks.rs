//! Every reason for which a signed statement does not count.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{Quorum, Role, Roster};

use crate::approval::fixture::{NOW_MS, VALIDITY_MS, roster, signed, signed_by, statement};
use crate::approval::{
    Accepted, Decision, Environment, Expectation, Namespace, Refusal, RefusalCode, Standing,
    Statement, check, sha256_hex,
};

/// What is expected of statements about step `isolate`; tests change what they are about.
pub(super) struct Scene {
    pub(super) roster: Roster,
    pub(super) quorum: Option<Quorum>,
    pub(super) inputs: Option<String>,
    pub(super) nonces: BTreeSet<String>,
    pub(super) revoked: BTreeSet<String>,
    pub(super) standing: Vec<Standing<'static>>,
    pub(super) closed: Option<&'static str>,
    pub(super) manual: bool,
    pub(super) environment: Environment,
    pub(super) touch: bool,
    pub(super) takes: Option<&'static [Decision]>,
    pub(super) at_ms: i64,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            roster: roster(),
            quorum: Some(quorum(&[("security-lead", 1), ("on-call-sre", 1)])),
            inputs: Some(sha256_hex(b"inputs")),
            nonces: BTreeSet::new(),
            revoked: BTreeSet::new(),
            standing: Vec::new(),
            closed: None,
            manual: false,
            environment: Environment::Production,
            touch: false,
            takes: None,
            at_ms: NOW_MS,
        }
    }

    pub(super) fn check(&self, (text, signature): &(String, String)) -> Result<Accepted, Refusal> {
        let requesters = ["rita".to_owned()];
        let expected = Expectation {
            installation: "acme",
            environment: self.environment,
            incident: "inc-1",
            run: "run-1",
            step: "isolate",
            iteration: 0,
            runbook: "leak",
            runbook_digest: &statement("ada", "", 0).runbook_digest,
            inputs_digest: self.inputs.as_deref(),
            roster: &self.roster,
            requesters: &requesters,
            revoked: &self.revoked,
            used_nonces: &self.nonces,
            quorum: self.quorum.as_ref(),
            standing: &self.standing,
            max_validity_ms: VALIDITY_MS,
            anyone: false,
            touch: self.touch,
            takes: match (self.takes, self.manual) {
                (Some(takes), _) => takes,
                (None, true) => &[Decision::Confirm, Decision::Deny],
                (None, false) => &[Decision::Approve, Decision::Deny],
            },
            closed: self.closed,
        };
        check(text, signature, &expected, self.at_ms)
    }
}

pub(super) fn quorum(roles: &[(&str, u32)]) -> Quorum {
    let roles: BTreeMap<Role, u32> = roles
        .iter()
        .map(|(role, n)| (Role::new(role).unwrap(), *n))
        .collect();
    Quorum::new(roles).unwrap()
}

fn of(person: &str) -> Statement {
    statement(person, &sha256_hex(b"inputs"), 1)
}

pub(super) fn changed(change: impl FnOnce(&mut Statement)) -> Statement {
    let mut statement = of("ada");
    change(&mut statement);
    statement
}

#[test]
fn a_good_approval_counts_with_the_roles_that_are_asked_for() {
    let accepted = Scene::new().check(&signed(&of("linus"))).unwrap();
    assert_eq!(accepted.person, "linus");
    assert_eq!(
        accepted.roles.iter().map(Role::as_str).collect::<Vec<_>>(),
        ["on-call-sre", "security-lead"]
    );
    assert_eq!(accepted.decision, Decision::Approve);
    assert!(accepted.fingerprint.starts_with("SHA256:"));
    assert_eq!(accepted.expires_ms, NOW_MS + VALIDITY_MS / 2);
}

#[test]
fn a_good_denial_counts_too() {
    let denied = changed(|s| s.decision = Decision::Deny);
    assert_eq!(
        Scene::new().check(&signed(&denied)).unwrap().decision,
        Decision::Deny
    );
}

/// Code, and a scene with a statement that is refused with it.
fn refused_cases() -> Vec<(RefusalCode, Scene, (String, String))> {
    let scene = Scene::new;
    let with = |change: fn(&mut Scene)| {
        let mut scene = Scene::new();
        change(&mut scene);
        scene
    };
    let good = || signed(&of("ada"));
    let edited = {
        let (text, signature) = good();
        (text.replace("run: run-1", "run: run-2"), signature)
    };
    vec![
        (
            RefusalCode::Malformed,
            scene(),
            (good().0.to_uppercase(), good().1),
        ),
        (
            RefusalCode::Malformed,
            scene(),
            (good().0, "not a signature".to_owned()),
        ),
        (
            RefusalCode::UnknownKey,
            scene(),
            signed_by(&of("ada"), "mallory", Namespace::Approval),
        ),
        (
            RefusalCode::WrongNamespace,
            scene(),
            signed_by(&of("ada"), "ada", Namespace::ApprovalDrill),
        ),
        (RefusalCode::Altered, scene(), edited),
        (
            RefusalCode::Altered,
            scene(),
            (
                signed(&of("ada")).0,
                signed(&changed(|s| s.step = "find".into())).1,
            ),
        ),
        (
            RefusalCode::WrongKey,
            scene(),
            signed_by(&of("ada"), "grace", Namespace::Approval),
        ),
        (
            RefusalCode::WrongEnvironment,
            with(|s| s.environment = Environment::Drill),
            good(),
        ),
        (
            RefusalCode::WrongEnvironment,
            scene(),
            signed(&changed(|s| s.environment = Environment::Drill)),
        ),
        (
            RefusalCode::WrongInstallation,
            scene(),
            signed(&changed(|s| s.installation = "other".into())),
        ),
        (
            RefusalCode::WrongRun,
            scene(),
            signed(&changed(|s| s.run = "run-2".into())),
        ),
        (
            RefusalCode::WrongRun,
            scene(),
            signed(&changed(|s| s.incident = "inc-2".into())),
        ),
        (
            RefusalCode::WrongStep,
            scene(),
            signed(&changed(|s| s.step = "rotate".into())),
        ),
        (
            RefusalCode::WrongStep,
            scene(),
            signed(&changed(|s| s.iteration = 1)),
        ),
        (
            RefusalCode::WrongRunbook,
            scene(),
            signed(&changed(|s| s.runbook = "other".into())),
        ),
        (
            RefusalCode::WrongRunbook,
            scene(),
            signed(&changed(|s| s.runbook_digest = "0".repeat(64))),
        ),
        (
            RefusalCode::WrongRoster,
            scene(),
            signed(&changed(|s| s.roster_digest = "0".repeat(64))),
        ),
    ]
}

/// The same for authentic statements about this step, which come at the wrong time or from the wrong person.
fn untimely_cases() -> Vec<(RefusalCode, Scene, (String, String))> {
    let scene = Scene::new;
    let with = |change: fn(&mut Scene)| {
        let mut scene = Scene::new();
        change(&mut scene);
        scene
    };
    let good = || signed(&of("ada"));
    let long = changed(|s| s.expires_s = (NOW_MS + VALIDITY_MS) / 1000 + 1);
    vec![
        (
            RefusalCode::RevokedKey,
            with(|s| {
                let key = s.check(&signed(&of("ada"))).unwrap().fingerprint;
                s.revoked = BTreeSet::from([key]);
            }),
            good(),
        ),
        (RefusalCode::TooEarly, with(|s| s.inputs = None), good()),
        (
            RefusalCode::StaleInputs,
            with(|s| s.inputs = Some("0".repeat(64))),
            good(),
        ),
        (
            RefusalCode::WrongDecision,
            with(|s| s.manual = true),
            good(),
        ),
        (
            RefusalCode::WrongDecision,
            scene(),
            signed(&changed(|s| s.decision = Decision::Confirm)),
        ),
        (
            RefusalCode::Replayed,
            with(|s| s.nonces = [of("ada").nonce].into()),
            good(),
        ),
        (
            RefusalCode::StepClosed,
            with(|s| s.closed = Some("it is done")),
            good(),
        ),
        (
            RefusalCode::Expired,
            with(|s| s.at_ms = NOW_MS + VALIDITY_MS / 2),
            good(),
        ),
        (RefusalCode::ValidityTooLong, scene(), signed(&long)),
        (RefusalCode::Requester, scene(), signed(&of("rita"))),
        (RefusalCode::WrongRole, scene(), signed(&of("leila"))),
        (RefusalCode::WrongRole, with(|s| s.quorum = None), good()),
        (
            RefusalCode::AlreadyDecided,
            with(|s| {
                s.standing = vec![Standing {
                    person: "ada",
                    decision: Decision::Approve,
                }];
            }),
            good(),
        ),
    ]
}

#[test]
fn every_reason_to_refuse_is_found_and_told() {
    let mut seen = BTreeSet::new();
    for (code, scene, signed) in refused_cases().into_iter().chain(untimely_cases()) {
        let refusal = scene.check(&signed).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.len() > 20, "{refusal}");
        seen.insert(code);
    }
    // Tried in tests of their own: FIDO keys and directives in their file.
    seen.extend([
        RefusalCode::NoTouch,
        RefusalCode::WrongDirective,
        RefusalCode::QuorumMissing,
    ]);
    assert_eq!(seen, RefusalCode::ALL.into_iter().collect());
}

#[test]
fn an_opposite_decision_of_the_same_person_is_taken() {
    let mut scene = Scene::new();
    scene.standing = vec![Standing {
        person: "ada",
        decision: Decision::Deny,
    }];
    assert!(scene.check(&signed(&of("ada"))).is_ok());
}

#[test]
fn the_person_is_told_by_the_key_and_not_by_the_text() {
    let refusal = Scene::new()
        .check(&signed_by(&of("ada"), "grace", Namespace::Approval))
        .unwrap_err();
    assert_eq!(refusal.person, "grace");
    assert!(
        refusal.reason.contains("ada") && refusal.reason.contains("grace"),
        "{refusal}"
    );
}
