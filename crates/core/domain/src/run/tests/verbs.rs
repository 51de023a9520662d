//! What operators say to a run, and what still advances then.

use std::collections::BTreeSet;

use sealwarden_wire::event::v1::RunOutcome;
use sealwarden_wire::event::v1::event::Kind;

use super::world::{ORDER, World, said};
use crate::approval::fixture::{PEOPLE, VALIDITY_MS, roster};
use crate::approval::{Decision, DirectiveExpectation, Environment, RefusalCode, verify_directive};
use crate::fold::RejectionCode;
use crate::run::{
    Command, Course, Effect, Phase, directive_draft, idempotency_key, prepare_for, view,
};

fn pause(world: &mut World) -> Vec<Kind> {
    world.run(Command::Pause(said("look first"))).unwrap()
}

fn resume(world: &mut World) -> Vec<Kind> {
    world.run(Command::Resume(said(""))).unwrap()
}

fn abort(world: &mut World) -> Vec<Kind> {
    world
        .run(Command::Abort {
            said: said("a false alarm"),
            undo: false,
        })
        .unwrap()
}

fn retry(world: &mut World, step: &str) -> Result<Vec<Kind>, crate::fold::Rejection> {
    let (step, said) = (step.to_owned(), said("the disk has room again"));
    world.run(Command::Retry { step, said })
}

fn phase<'a>(world: &'a World, step: &str) -> &'a Phase {
    &world.state.step(step).unwrap().phase
}

/// Loses the step's attempt so that a person is asked.
fn asks_a_person(world: &mut World, step: &str) {
    world.begin(step).unwrap();
    world.lose(step, true).unwrap();
}

/// What a refused statement is answered with.
fn refused(world: &mut World, person: &str, step: &str, decision: Decision) -> String {
    let statement = world.word(person, step, decision);
    let events = world.submit(&statement, "").unwrap();
    match events.as_slice() {
        [Kind::ApprovalRefused(refused)] => refused.code.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_paused_run_starts_nothing_and_goes_on_with_what_is_under_way() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    assert_eq!(pause(&mut world).len(), 1);
    assert_eq!(pause(&mut world), [], "it is paused already");
    assert!(
        matches!(&world.pending()[..], [Effect::Execute { .. }]),
        "what is under way goes on"
    );
    let mut end = world.end_of("snapshot", Ok(()));
    end.begin_next = true;
    world.run(Command::EndStep(end)).unwrap();
    assert_eq!(phase(&world, "snapshot"), &Phase::Done);
    world.approve("isolate", &["ada", "grace"]);
    assert_eq!(world.pending(), [], "approved, and not started");
    let why = world.begin("isolate").unwrap_err();
    assert!(why.reason.contains("olga paused the run"), "{why}");
    let shown = view(&world.state, world.at());
    assert_eq!(shown.state, "paused");
    assert!(shown.reason.contains("look first"), "{}", shown.reason);

    assert_eq!(resume(&mut world).len(), 1);
    assert_eq!(resume(&mut world), []);
    assert!(matches!(&world.pending()[..], [Effect::Begin { step }] if step == "isolate"));
}

#[test]
fn a_crash_while_paused_is_observed_and_approvals_run_out_as_ever() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    pause(&mut world);
    world.own.clear();
    assert!(matches!(&world.pending()[..], [Effect::Observe { .. }]));
    world.end("snapshot", Err("no room")).unwrap();
    world.now_ms += 60_000;
    assert_eq!(world.pending(), [], "its next attempt waits for the resume");
    resume(&mut world);
    world.begin("snapshot").unwrap();
    world.end("snapshot", Ok(())).unwrap();

    world.approve("isolate", &["ada", "grace"]);
    pause(&mut world);
    world.now_ms += VALIDITY_MS;
    resume(&mut world);
    let expired = world.begin("isolate").unwrap_err();
    assert!(expired.reason.contains("2 expired"), "{expired}");
}

#[test]
fn what_people_did_is_taken_in_while_a_run_is_paused() {
    let mut world = World::after(&["snapshot", "isolate", "find"]);
    pause(&mut world);
    world.do_step("tell");
    assert_eq!(phase(&world, "tell"), &Phase::Done);
}

#[test]
fn an_aborted_run_ends_with_what_is_under_way_and_takes_nothing_back() {
    let mut world = World::after(&["snapshot", "isolate"]);
    world.begin("find").unwrap();
    world.approve("rotate", &["pete", "ada"]);
    assert_eq!(abort(&mut world).len(), 1, "not ended: a step is under way");
    assert_eq!(abort(&mut world), []);
    assert_eq!(
        phase(&world, "rotate"),
        &Phase::Cancelled,
        "approved or not"
    );
    assert!(matches!(&world.pending()[..], [Effect::Execute { id, .. }] if id.step == "find"));
    for refused in [Command::Pause(said("")), Command::Resume(said(""))] {
        let why = world.run(refused).unwrap_err();
        assert!(why.reason.contains("not taken back"), "{why}");
    }
    let why = world.begin("rotate").unwrap_err();
    assert_eq!(why.code, RejectionCode::NotNow);

    let events = world.end("find", Ok(())).unwrap();
    assert!(
        matches!(events.as_slice(), [Kind::StepEnded(_), Kind::RunEnded(_)]),
        "{events:?}"
    );
    let end = world.state.ended().unwrap();
    assert_eq!(end.outcome, RunOutcome::Aborted);
    assert!(end.reason.contains("a false alarm") && end.reason.contains("3 of 8"));
    assert_eq!(view(&world.state, world.at()).state, "aborted");
    assert_eq!(phase(&world, "isolate"), &Phase::Done, "containment stays");
}

#[test]
fn an_abort_with_nothing_under_way_ends_the_run_and_wants_a_reason() {
    let mut world = World::after(&["snapshot"]);
    let why = world
        .run(Command::Abort {
            said: said(""),
            undo: false,
        })
        .unwrap_err();
    assert_eq!(why.code, RejectionCode::Invalid);
    let events = abort(&mut world);
    assert!(
        matches!(events.as_slice(), [Kind::RunAborted(_), Kind::RunEnded(_)]),
        "{events:?}"
    );
    assert!(world.pending().is_empty());
}

#[test]
fn an_attempt_that_fails_during_an_abort_is_not_tried_again() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    pause(&mut world);
    abort(&mut world);
    world.end("snapshot", Err("no room")).unwrap();
    assert_eq!(phase(&world, "snapshot"), &Phase::Cancelled);
    assert!(!world.state.is_open());
}

#[test]
fn an_abort_waits_for_a_persons_word_on_what_nobody_knows() {
    let mut world = World::after(&["snapshot", "isolate"]);
    asks_a_person(&mut world, "find");
    assert_eq!(abort(&mut world).len(), 1);
    assert!(matches!(&world.pending()[..], [Effect::AskPerson { .. }]));
    assert_eq!(view(&world.state, world.at()).state, "stuck");
    let events = world.says("ada", "find", Decision::Retry);
    assert!(
        matches!(
            events.as_slice(),
            [
                Kind::ApprovalRecorded(_),
                Kind::StepRetried(_),
                Kind::RunEnded(_)
            ]
        ),
        "{events:?}"
    );
    assert_eq!(phase(&world, "find"), &Phase::Cancelled, "not tried again");
}

#[test]
fn a_failed_step_is_retried_at_once_under_its_key() {
    let mut world = World::started();
    for _ in 0..3 {
        world.begin("snapshot").unwrap();
        world.end("snapshot", Err("no room")).unwrap();
        world.now_ms += 10_000;
    }
    assert_eq!(phase(&world, "snapshot"), &Phase::Failed);
    assert_eq!(retry(&mut world, "snapshot").unwrap().len(), 1);
    assert_eq!(
        retry(&mut world, "snapshot").unwrap(),
        [],
        "it is on its way"
    );
    let events = world.begin("snapshot").unwrap();
    let [Kind::StepStarted(started)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(started.attempt, 4);
    let key = idempotency_key("run-1", "snapshot", 0);
    assert_eq!(started.idempotency_key, key);
    let running = retry(&mut world, "snapshot").unwrap_err();
    assert!(running.reason.contains("runs"), "{running}");
    world.end("snapshot", Err("no room")).unwrap();
    assert_eq!(
        phase(&world, "snapshot"),
        &Phase::Failed,
        "one attempt was granted"
    );
    retry(&mut world, "snapshot").unwrap();
    world.begin("snapshot").unwrap();
    world.end("snapshot", Ok(())).unwrap();
    assert!(retry(&mut world, "snapshot").is_err(), "it is done");
}

#[test]
fn what_nobody_knows_is_repeated_only_on_a_persons_signed_word() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    let early = prepare_for(&world.state, "isolate", Some(Decision::Retry), world.at());
    assert!(early.is_err(), "nobody is asked yet");
    world.lose("isolate", false).unwrap();
    let observed = retry(&mut world, "isolate").unwrap_err();
    assert!(observed.reason.contains("observed"), "{observed}");
    world.lose("isolate", true).unwrap();
    let unsigned = retry(&mut world, "isolate").unwrap_err();
    assert_eq!(unsigned.code, RejectionCode::Refused);
    assert!(unsigned.reason.contains("sign"), "{unsigned}");

    let no = RefusalCode::WrongRole.as_str();
    assert_eq!(refused(&mut world, "leila", "isolate", Decision::Retry), no);
    let no = RefusalCode::Requester.as_str();
    assert_eq!(refused(&mut world, "rita", "isolate", Decision::Retry), no);
    world.says("linus", "isolate", Decision::Retry);
    assert!(matches!(&world.pending()[..], [Effect::Begin { step }] if step == "isolate"));
}

#[test]
fn a_skip_needs_the_steps_own_quorum_and_is_seen_downstream() {
    let mut world = World::after(&["snapshot", "isolate"]);
    // Behind `find` nothing cannot be taken back, and people read its output: one person will do.
    let events = world.says("grace", "find", Decision::Skip);
    assert!(
        matches!(
            events.as_slice(),
            [
                Kind::ApprovalRecorded(_),
                Kind::StepSkipped(_),
                Kind::InputsResolved(_)
            ]
        ),
        "{events:?}"
    );
    let inputs = &world.state.step("tell").unwrap().inputs;
    let text = inputs.as_ref().unwrap().0.to_string();
    assert!(text.contains("(skipped: step find) seals"), "{text}");

    let taker = prepare_for(&world.state, "rotate", Some(Decision::Skip), world.at());
    let taker = taker.unwrap_err();
    assert!(taker.reason.contains("reverify"), "{taker}");

    world.do_step("rotate");
    let no = RefusalCode::WrongRole.as_str();
    assert_eq!(refused(&mut world, "ada", "publish", Decision::Skip), no);
    world.says("leila", "publish", Decision::Skip);
    assert_eq!(phase(&world, "publish"), &Phase::Skipped);
    for step in ["tell", "reverify", "close"] {
        world.do_step(step);
    }
    let end = world.state.ended().unwrap();
    assert_eq!(end.outcome, RunOutcome::Completed);
    assert_eq!(end.reason, "6 steps are done, 2 skipped");
}

#[test]
fn evidence_is_skipped_by_those_whose_steps_rely_on_it() {
    let mut world = World::started();
    for _ in 0..3 {
        world.begin("snapshot").unwrap();
        world.end("snapshot", Err("no room")).unwrap();
        world.now_ms += 10_000;
    }
    let skip = Some(Decision::Skip);
    let shown = prepare_for(&world.state, "snapshot", skip, world.at()).unwrap();
    for role in ["security-lead: 1", "on-call-sre: 1", "product-owner: 1"] {
        assert!(shown.quorum.contains(role), "{}", shown.quorum);
    }
    let first = world.says("ada", "snapshot", Decision::Skip);
    assert_eq!(first.len(), 1, "one word is no quorum");
    let again = RefusalCode::AlreadyDecided.as_str();
    assert_eq!(
        refused(&mut world, "ada", "snapshot", Decision::Skip),
        again
    );
    for person in ["grace", "pete", "leila"] {
        if *phase(&world, "snapshot") == Phase::Failed {
            world.says(person, "snapshot", Decision::Skip);
        }
    }
    assert_eq!(phase(&world, "snapshot"), &Phase::Skipped);
    world.do_step("isolate");
    assert_eq!(phase(&world, "isolate"), &Phase::Done);
}

#[test]
fn one_senior_tightens_at_once_and_a_node_obeys() {
    let mut world = World::after(&["snapshot"]);
    world.decided("ada", "isolate", Decision::Deny);
    let no = RefusalCode::WrongRole.as_str();
    assert_eq!(
        refused(&mut world, "ada", "isolate", Decision::Override),
        no
    );
    let events = world.says("bea", "isolate", Decision::Override);
    assert!(
        matches!(
            events.as_slice(),
            [Kind::ApprovalRecorded(_), Kind::StepOverridden(_)]
        ),
        "{events:?}"
    );
    world.begin("isolate").unwrap();
    let directive = directive_draft(&world.state, "isolate", world.at()).unwrap();
    let (roster, seen) = (roster(), BTreeSet::new());
    let plan = world.state.pinned().unwrap().plan().clone();
    let kind = sealwarden_runbook::DirectiveKind::IsolateKey;
    let expected = DirectiveExpectation {
        installation: "acme",
        environment: Environment::Production,
        log: "main",
        roster: &roster,
        required: plan.containment(kind).unwrap(),
        max_validity_ms: VALIDITY_MS,
        now_ms: world.now_ms,
        max_skew_ms: 0,
        max_age_ms: 0,
        seen: &seen,
        revoked: &BTreeSet::new(),
        requesters: &["bea".to_owned()],
    };
    let keys = verify_directive(&directive, &expected).unwrap();
    assert_eq!(keys[0].person, "bea", "whoever raised it may tighten");
    let mut forged = directive;
    for signed in &mut forged.approvals {
        signed.statement = signed.statement.replace("bea", "max");
    }
    assert!(verify_directive(&forged, &expected).is_err());
}

#[test]
fn what_cannot_be_taken_back_needs_two_keys_and_the_incident_waits_for_a_review() {
    let mut world = World::after(&["snapshot", "isolate"]);
    world.says("bea", "rotate", Decision::Override);
    assert!(world.begin("rotate").is_err(), "one key is not enough");
    let events = world.says("max", "rotate", Decision::Override);
    assert!(matches!(events.last(), Some(Kind::StepOverridden(_))));
    world.begin("rotate").unwrap();
    world.end("rotate", Ok(())).unwrap();
    for step in ["find", "publish", "tell", "reverify"] {
        world.do_step(step);
    }
    let waits = world.begin("close").unwrap_err();
    assert!(waits.reason.contains("review the override") || waits.reason.contains("reviewed"));
    assert!(waits.reason.contains("rotate"), "{waits}");
    let shown = view(&world.state, world.at());
    let rotate = shown.steps.iter().find(|s| s.step == "rotate").unwrap();
    assert!(rotate.remark.contains("BREAK-GLASS by bea, max"));
    assert!(rotate.remark.contains("NOT YET REVIEWED"));

    let barred = RefusalCode::Requester.as_str();
    for person in ["bea", "max", "rita"] {
        assert_eq!(
            refused(&mut world, person, "rotate", Decision::Review),
            barred
        );
    }
    world.says("nora", "rotate", Decision::Review);
    assert!(world.begin("close").is_err());
    world.says("grace", "rotate", Decision::Review);
    world.begin("close").unwrap();
    world.end("close", Ok(())).unwrap();
    assert_eq!(world.state.ended().unwrap().outcome, RunOutcome::Completed);
}

#[test]
fn an_override_expires_and_is_verified_again_when_the_step_begins() {
    let mut world = World::after(&["snapshot"]);
    world.says("bea", "isolate", Decision::Override);
    world.now_ms += VALIDITY_MS;
    assert!(world.begin("isolate").is_err());
    world.says("bea", "isolate", Decision::Override);
    let step = world.state.steps.get_mut("isolate").unwrap();
    for said in &mut step.verbs {
        said.signature = said.signature.replace('A', "B");
    }
    let forged = world.begin("isolate").unwrap_err();
    assert_eq!(forged.code, RejectionCode::Refused, "{forged}");
}

#[test]
fn where_all_who_could_approve_asked_for_it_the_error_names_the_way_out() {
    let mut world = World::empty();
    let mut started = crate::approval::fixture::run_started(Environment::Production);
    started.requesters = ["ada", "linus", "max", "rita"].map(str::to_owned).to_vec();
    world.run(Command::Start(Box::new(started))).unwrap();
    world.do_step("snapshot");
    let why = world.begin("isolate").unwrap_err();
    assert!(why.reason.contains("run override"), "{why}");
    world.says("bea", "isolate", Decision::Override);
    world.begin("isolate").unwrap();
}

#[test]
fn decisions_that_do_not_fit_are_told_so() {
    let mut world = World::after(&["snapshot", "isolate", "find"]);
    let prepared = |world: &World, step: &str, decision: Decision| {
        prepare_for(&world.state, step, Some(decision), world.at())
            .map(|_| ())
            .map_err(|why| why.reason)
    };
    let cases = [
        ("tell", Decision::Override, "people perform it"),
        ("isolate", Decision::Skip, "it is done"),
        ("isolate", Decision::Review, "not overridden"),
        ("rotate", Decision::Retry, "it is ready"),
        ("reverify", Decision::Skip, "its turn has not come"),
    ];
    for (step, decision, word) in cases {
        let why = prepared(&world, step, decision).unwrap_err();
        assert!(why.contains(word), "{step} {decision}: {why}");
    }
    assert!(PEOPLE.len() > ORDER.len(), "fixture");
    world.begin("rotate").unwrap_err();
    assert_eq!(*world.state.course(), Course::Going);
}
