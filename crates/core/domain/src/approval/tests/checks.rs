//! Every reason for which a signed statement does not count.

use std::collections::{BTreeMap, BTreeSet};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_runbook::{Quorum, Role, Roster};
use ssh_key::public::{Ed25519PublicKey, KeyData, SkEd25519};
use ssh_key::{Algorithm, HashAlg, LineEnding, PublicKey, Signature as RawSignature, SshSig};

use crate::approval::fixture::{
    NOW_MS, VALIDITY_MS, roster, roster_text, signed, signed_by, statement,
};
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
    pub(super) standing: Vec<Standing<'static>>,
    pub(super) closed: Option<&'static str>,
    pub(super) manual: bool,
    pub(super) environment: Environment,
    pub(super) at_ms: i64,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            roster: roster(),
            quorum: Some(quorum(&[("security-lead", 1), ("on-call-sre", 1)])),
            inputs: Some(sha256_hex(b"inputs")),
            nonces: BTreeSet::new(),
            standing: Vec::new(),
            closed: None,
            manual: false,
            environment: Environment::Production,
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
            used_nonces: &self.nonces,
            quorum: self.quorum.as_ref(),
            standing: &self.standing,
            max_validity_ms: VALIDITY_MS,
            anyone: false,
            takes: if self.manual {
                &[Decision::Confirm, Decision::Deny]
            } else {
                &[Decision::Approve, Decision::Deny]
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

fn changed(change: impl FnOnce(&mut Statement)) -> Statement {
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
    // Tried in tests of their own: a FIDO key below, directives in their file.
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

/// A FIDO key in software: its public line and a signature over `text` with these flags.
fn fido(text: &str, flags: u8) -> (String, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let point: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let data = KeyData::SkEd25519(SkEd25519::new(Ed25519PublicKey(point), "ssh:"));
    let namespace = Namespace::Approval.as_str();
    let message = SshSig::signed_data(namespace, HashAlg::Sha512, text.as_bytes()).unwrap();
    let trailer = [flags, 0, 0, 0, 5];
    let sha256 = |bytes: &[u8]| {
        ring::digest::digest(&ring::digest::SHA256, bytes)
            .as_ref()
            .to_vec()
    };
    let signed = [sha256(b"ssh:"), trailer.to_vec(), sha256(&message)].concat();
    let bytes = [pair.sign(&signed).as_ref(), &trailer].concat();
    let raw = RawSignature::new(Algorithm::SkEd25519, bytes).unwrap();
    let armored = SshSig::new(data.clone(), namespace, HashAlg::Sha512, raw).unwrap();
    (
        PublicKey::from(data).to_openssh().unwrap(),
        armored.to_pem(LineEnding::LF).unwrap(),
    )
}

#[test]
fn a_fido_key_counts_only_if_it_was_touched() {
    let (line, _) = fido("", 1);
    let mut scene = Scene::new();
    let text = roster_text(&BTreeMap::from([("ada", line)]));
    scene.roster = Roster::parse("roster.yaml", &text).unwrap();
    let text = changed(|s| s.roster_digest = scene.roster.digest_hex()).to_string();
    let accepted = scene.check(&(text.clone(), fido(&text, 1).1)).unwrap();
    assert_eq!(accepted.person, "ada");
    let refusal = scene.check(&(text.clone(), fido(&text, 0).1)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoTouch, "{refusal}");
}
