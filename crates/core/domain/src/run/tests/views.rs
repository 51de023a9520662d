//! How a run looks to people and to nodes.

use std::collections::BTreeSet;

use super::world::{ORDER, World};
use crate::approval::fixture::{VALIDITY_MS, revocation, roster};
use crate::approval::{Decision, DirectiveExpectation, Environment, RefusalCode, verify_directive};
use crate::fold::RejectionCode;
use crate::run::{Command, RunState, directive_draft, prepare, view};

/// The run's word and each step's.
fn words(world: &World) -> (String, Vec<String>) {
    let run = view(&world.state, world.at());
    (
        run.state,
        run.steps.into_iter().map(|step| step.state).collect(),
    )
}

fn step(world: &World, id: &str) -> sealwarden_wire::run::v1::Step {
    view(&world.state, world.at())
        .steps
        .into_iter()
        .find(|step| step.step == id)
        .unwrap()
}

#[test]
fn a_run_is_shown_in_words() {
    let mut world = World::started();
    assert_eq!(words(&world).0, "running");
    world.do_step("snapshot");
    let (run, steps) = words(&world);
    assert_eq!(run, "waiting");
    assert_eq!(steps[..3], ["done", "awaiting-approval", "blocked"]);
    let reason = view(&world.state, world.at()).reason;
    assert!(
        reason.contains("isolate") && reason.contains("security-lead: 1"),
        "{reason}"
    );
    world.decided("ada", "isolate", Decision::Deny);
    assert_eq!(step(&world, "isolate").state, "denied");
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    let text = "fencing".to_owned();
    world
        .run(Command::Progress {
            step: "isolate".into(),
            text,
            missing: vec!["node-b".into()],
        })
        .unwrap();
    let shown = step(&world, "isolate");
    assert_eq!(
        (shown.state.as_str(), shown.missing.as_str()),
        ("running", "node-b")
    );
    assert_eq!(shown.progress, "fencing");
    world.lose("isolate", true).unwrap();
    assert_eq!(words(&world).0, "stuck");
    assert_eq!(step(&world, "isolate").state, "unknown");
    world.end("isolate", Ok(())).unwrap();
    world.do_step("find");
    assert_eq!(step(&world, "tell").state, "awaiting-person");
    assert!(
        view(&world.state, world.at())
            .reason
            .contains("confirmations")
    );
    assert_eq!(view(&RunState::default(), world.at()).run, "");
}

#[test]
fn a_completed_run_shows_when_and_with_what() {
    let world = World::after(&ORDER);
    let run = view(&world.state, world.at());
    assert_eq!(
        (run.state.as_str(), run.reason.as_str()),
        ("completed", "all 8 steps are done")
    );
    assert!(run.ended_at_ms > run.started_at_ms);
    let rotate = step(&world, "rotate");
    assert_eq!(rotate.quorum, "product-owner: 1, security-lead: 1");
    assert_eq!(rotate.outputs["epoch"], "7");
    assert!(rotate.ended_at_ms > rotate.started_at_ms && rotate.attempts == 1);
    assert!(
        rotate
            .approvals
            .iter()
            .all(|approval| approval.refused.is_empty())
    );
}

#[test]
fn every_approval_is_shown_and_why_it_does_not_count() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada"]);
    world.decided("rita", "isolate", Decision::Approve);
    world.now_ms += VALIDITY_MS;
    world.approve("isolate", &["grace", "ada"]);
    let refused: Vec<(String, String)> = step(&world, "isolate")
        .approvals
        .into_iter()
        .map(|a| (a.person, a.refused))
        .collect();
    assert_eq!(
        refused[0],
        (
            "ada".to_owned(),
            "replaced by a later decision of ada".to_owned()
        )
    );
    assert!(refused[1].1.starts_with("requester: "), "{refused:?}");
    assert_eq!((refused[2].1.as_str(), refused[3].1.as_str()), ("", ""));
    world.now_ms += VALIDITY_MS;
    assert!(
        step(&world, "isolate").approvals[3]
            .refused
            .contains("expired")
    );
}

#[test]
fn an_approver_sees_what_will_run() {
    let mut world = World::after(&["snapshot"]);
    let shown = prepare(&world.state, "isolate", world.at()).unwrap();
    assert_eq!(shown.namespace, "sealwarden-approval");
    assert!(shown.inputs.starts_with("action: isolate-key\n"));
    assert!(shown.action_does.contains("fences every node"));
    assert_eq!(shown.missing, "on-call-sre: 1, security-lead: 1");
    assert_eq!(shown.validity_ms, VALIDITY_MS);
    assert_eq!(shown.requesters, ["rita"]);
    assert!(
        shown
            .approvers
            .iter()
            .any(|p| p.person == "ada" && p.key_fingerprints[0].starts_with("SHA256:"))
    );
    assert!(!shown.manual);
    let early = prepare(&world.state, "rotate", world.at()).unwrap_err();
    assert_eq!(early.code, RejectionCode::NotNow);
    assert!(early.reason.contains("isolate"), "{early}");
    world.do_step("isolate");
    assert!(
        prepare(&world.state, "isolate", world.at()).is_err(),
        "done"
    );
    assert_eq!(
        prepare(&world.state, "nonsense", world.at())
            .unwrap_err()
            .code,
        RejectionCode::NotFound
    );
}

#[test]
fn the_directive_of_an_approved_step_convinces_a_node() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    let directive = directive_draft(&world.state, "isolate", world.at()).unwrap();
    let (roster, seen) = (roster(), BTreeSet::new());
    let plan = world.state.pinned().unwrap().plan().clone();
    let required = plan
        .containment(sealwarden_runbook::DirectiveKind::IsolateKey)
        .unwrap();
    let mut expected = DirectiveExpectation {
        installation: "acme",
        environment: Environment::Production,
        log: "main",
        roster: &roster,
        required,
        max_validity_ms: VALIDITY_MS,
        now_ms: world.now_ms,
        max_skew_ms: 0,
        max_age_ms: 0,
        seen: &seen,
        revoked: &BTreeSet::new(),
        requesters: &[],
    };
    assert_eq!(verify_directive(&directive, &expected).unwrap().len(), 2);
    expected.environment = Environment::Drill;
    assert_eq!(
        verify_directive(&directive, &expected).unwrap_err().code,
        RefusalCode::QuorumMissing
    );
    assert_eq!(
        directive_draft(&world.state, "snapshot", world.at()),
        None,
        "it sends none"
    );
}

/// Who could bring a step further, as its view says.
fn can_sign(world: &World, id: &str) -> Vec<String> {
    let shown = view(&world.state, world.at());
    let step = shown.steps.into_iter().find(|step| step.step == id);
    step.unwrap().can_sign
}

#[test]
fn a_waiting_step_says_since_when_until_when_and_for_whom() {
    let mut world = World::started();
    assert!(
        can_sign(&world, "isolate").is_empty(),
        "its turn has not come"
    );
    world.do_step("snapshot");
    let since_ms = world.state.step("snapshot").unwrap().ended_at_ms;
    world.now_ms += 60_000;
    // Rita asked for the run; bea, leila, nora and pete have no role that is asked for.
    assert_eq!(
        can_sign(&world, "isolate"),
        ["ada", "grace", "linus", "max"]
    );
    let shown = view(&world.state, world.at());
    let step = shown
        .steps
        .iter()
        .find(|step| step.step == "isolate")
        .unwrap();
    assert_eq!(step.waits_since_ms, since_ms);
    assert_eq!(step.due_ms, since_ms + 15 * 60_000, "as the runbook says");

    // Linus has both roles: with him, either of the two is missing.
    world.approve("isolate", &["linus"]);
    assert_eq!(can_sign(&world, "isolate"), ["ada", "grace", "max"]);
    world.decided("grace", "isolate", Decision::Deny);
    assert_eq!(can_sign(&world, "isolate"), ["ada", "grace", "max"]);
    world.approve("isolate", &["ada"]);
    assert_eq!(
        can_sign(&world, "isolate"),
        ["grace"],
        "she alone takes her word back"
    );
    world.approve("isolate", &["grace"]);
    assert!(can_sign(&world, "isolate").is_empty());

    let revoked = revocation("pete", "bea", "left on a train");
    assert_eq!(can_sign(&world, "rotate"), Vec::<String>::new());
    world.run(Command::RevokeKey(revoked)).unwrap();
    world.begin("isolate").unwrap();
    world.end("isolate", Ok(())).unwrap();
    let rotate = can_sign(&world, "rotate");
    assert!(
        !rotate.contains(&"pete".to_owned()),
        "his key counts no more: {rotate:?}"
    );
}
