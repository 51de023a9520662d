//! What people hand in for a manual step, and what that does to confirmations.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::event::Kind;

use super::world::World;
use crate::approval::Decision;
use crate::fold::Rejection;
use crate::run::{Command, Given, GivenFile, Phase, RunState, prepare, view};

const MANUAL: &str = "instructions: Tell the tenants of ${steps.find.reported} seals.\n";
const ASKS: &str = "instructions: Tell the tenants of ${steps.find.reported} seals.
      evidence:
        - {name: channel, kind: choice, of: [mail, phone]}
        - {name: letter, kind: file}
        - {name: told, kind: number, required: false}
";

fn asking() -> World {
    let mut world = World::changed(&[
        (MANUAL, ASKS),
        ("${steps.rotate.origin}", "${steps.tell.channel}"),
    ]);
    for step in ["snapshot", "isolate", "find"] {
        world.do_step(step);
    }
    world
}

fn value(value: &str) -> Given {
    Given {
        value: value.to_owned(),
        file: None,
    }
}

fn file() -> Given {
    Given {
        value: "ab".repeat(32),
        file: Some(GivenFile {
            name: "letter.pdf".to_owned(),
            bytes: 7,
            stored: "evidence/inc-1/run-1-tell.given/ab".to_owned(),
        }),
    }
}

fn give(world: &mut World, given: &[(&str, Given)]) -> Result<Vec<Kind>, Rejection> {
    let given = given.iter().cloned();
    let given: BTreeMap<String, Given> = given.map(|(name, it)| (name.to_owned(), it)).collect();
    world.run(Command::GiveEvidence {
        step: "tell".to_owned(),
        by: "leila".to_owned(),
        given,
    })
}

#[test]
fn a_step_is_confirmed_only_with_its_evidence_which_everybody_signs() {
    let mut world = asking();
    let early = world.statement("leila", "tell", Decision::Confirm);
    let events = world.submit(&early, "").unwrap();
    let [Kind::ApprovalRefused(refused)] = events.as_slice() else {
        panic!("{events:?}")
    };
    let told = "its evidence is missing: channel (mail or phone), letter (file)";
    assert!(refused.reason.contains(told), "{}", refused.reason);
    let shown = view(&world.state, world.at());
    assert!(
        shown
            .reason
            .contains("to be handed in with `run done`: channel (mail or phone), letter (file)"),
        "{}",
        shown.reason
    );

    assert_eq!(
        give(&mut world, &[("channel", value("mail"))])
            .unwrap()
            .len(),
        1
    );
    give(&mut world, &[("letter", file())]).unwrap();
    assert_eq!(
        give(&mut world, &[("letter", file())]),
        Ok(Vec::new()),
        "said twice"
    );
    let prepared = prepare(&world.state, "tell", world.at()).unwrap();
    for line in [
        "evidence.channel: mail\n".to_owned(),
        format!("evidence.letter: {}\n", "ab".repeat(32)),
        "instructions: Tell the tenants of 7 seals.\n".to_owned(),
    ] {
        assert!(prepared.inputs.contains(&line), "{}", prepared.inputs);
    }
    world.decided("leila", "tell", Decision::Confirm);
    // Other evidence: what was confirmed before was something else.
    give(&mut world, &[("channel", value("phone"))]).unwrap();
    let tell = world.state.step("tell").unwrap();
    assert!(tell.decided.is_empty());
    let past = world.state.refused().last().unwrap();
    assert_eq!(
        (past.person.as_str(), past.code.as_str()),
        ("leila", "altered")
    );
    world.decided("nora", "tell", Decision::Confirm);
    assert_eq!(world.state.step("tell").unwrap().phase, Phase::Ready);
    world.decided("leila", "tell", Decision::Confirm);
    let tell = world.state.step("tell").unwrap();
    assert_eq!(tell.phase, Phase::Done);
    assert_eq!(tell.outputs["channel"], "phone");
    assert_eq!(tell.outputs["letter"], "ab".repeat(32));
    assert!(!tell.outputs.contains_key("told"), "it was optional");
    for step in ["rotate", "publish"] {
        world.do_step(step);
    }
    let (inputs, _) = world
        .state
        .step("reverify")
        .unwrap()
        .inputs
        .clone()
        .unwrap();
    assert_eq!(inputs.get("origin"), Some("phone"));
    let late = give(&mut world, &[("channel", value("mail"))]).unwrap_err();
    assert!(
        late.reason
            .contains("takes no evidence any more: it is done"),
        "{late}"
    );
    // Folded again, the log says the same.
    let mut again = RunState::default();
    for (at_ms, commit) in &world.log {
        for kind in commit {
            again.take(kind, *at_ms).unwrap();
        }
    }
    assert_eq!(again.step("tell"), world.state.step("tell"));
}

#[test]
fn a_denial_stands_whatever_is_handed_in() {
    let mut world = asking();
    world.decided("leila", "tell", Decision::Deny);
    give(
        &mut world,
        &[("channel", value("mail")), ("letter", file())],
    )
    .unwrap();
    assert!(
        world
            .state
            .step("tell")
            .unwrap()
            .denied_by(world.now_ms)
            .is_some()
    );
}

#[test]
fn what_is_not_asked_for_is_refused_in_words() {
    let mut world = asking();
    for (name, given, told) in [
        (
            "chanel",
            value("mail"),
            "the step asks for no evidence \"chanel\"; did you mean \"channel\"?",
        ),
        (
            "channel",
            value("maul"),
            "none of its choices (did you mean `mail`?)",
        ),
        ("channel", file(), "is no file: hand it in as channel=VALUE"),
        (
            "letter",
            value("x"),
            "is a file: hand it in as letter=@FILE",
        ),
        ("told", value("-3"), "write a whole number from 0"),
        ("told", value(" "), "evidence told is empty"),
        ("channel", value("mail\n"), "is not one line"),
    ] {
        let refused = give(&mut world, &[(name, given)]).unwrap_err();
        assert!(refused.reason.contains(told), "{told}: {refused}");
    }
    let mut early = World::changed(&[(MANUAL, ASKS)]);
    let refused = give(&mut early, &[("channel", value("mail"))]).unwrap_err();
    assert!(
        refused.reason.contains("its turn has not come"),
        "{refused}"
    );
    let mut plain = World::after(&["snapshot", "isolate", "find"]);
    let refused = give(&mut plain, &[("channel", value("mail"))]).unwrap_err();
    assert!(refused.reason.contains("asks for no evidence"), "{refused}");
}

#[test]
fn a_log_with_evidence_that_cannot_be_is_refused() {
    let mut world = asking();
    let events = give(&mut world.clone(), &[("channel", value("mail"))]).unwrap();
    let [Kind::EvidenceGiven(given)] = events.as_slice() else {
        panic!("{events:?}")
    };
    let mut other = given.clone();
    other.digest = "0".repeat(64);
    let mut strange = given.clone();
    strange.evidence[0].value = "pigeon".to_owned();
    for wrong in [other, strange] {
        assert!(
            world
                .state
                .take(&Kind::EvidenceGiven(wrong), world.now_ms)
                .is_err()
        );
    }
    world.state.take(&events[0], world.now_ms).unwrap();
}
