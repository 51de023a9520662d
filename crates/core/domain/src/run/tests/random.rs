//! Whatever order commands come in: nothing starts before its needs and its quorum, and no attempt starts twice.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sealwarden_wire::event::v1::event::Kind;

use super::world::{ORDER, World, said};
use crate::approval::Decision;
use crate::approval::fixture::PEOPLE;
use crate::run::{Command, Course, Effect, Phase, RunState, prepare, prepare_for};

#[derive(Clone, Debug)]
enum Move {
    Begin(usize),
    Done(usize),
    /// It ends, and what waits for nobody starts with it.
    DoneAndNext(usize),
    NotDone(usize),
    Lose(usize, bool),
    Decide {
        person: usize,
        step: usize,
        decision: Decision,
    },
    /// A word that is no approval, if it can be said.
    Say {
        person: usize,
        step: usize,
        decision: Decision,
    },
    Pause,
    Resume,
    Abort,
    Retry(usize),
    Wait(i64),
    /// The process dies; another goes on.
    Crash,
    /// Do what is pending.
    Work,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = 0..ORDER.len();
    let decision = prop_oneof![4 => Just(Decision::Approve), 1 => Just(Decision::Deny), 3 => Just(Decision::Confirm)];
    let one = prop_oneof![
        2 => step.clone().prop_map(Move::Begin),
        2 => step.clone().prop_map(Move::Done),
        2 => step.clone().prop_map(Move::DoneAndNext),
        1 => step.clone().prop_map(Move::NotDone),
        1 => (step.clone(), any::<bool>()).prop_map(|(step, person)| Move::Lose(step, person)),
        6 => (0..PEOPLE.len(), step, decision)
            .prop_map(|(person, step, decision)| Move::Decide { person, step, decision }),
        3 => (0..PEOPLE.len(), 0..ORDER.len(), words())
            .prop_map(|(person, step, decision)| Move::Say { person, step, decision }),
        1 => Just(Move::Pause),
        2 => Just(Move::Resume),
        1 => Just(Move::Retry(0)),
        1 => (0..ORDER.len()).prop_map(Move::Retry),
        1 => (1_i64..1_200_000).prop_map(Move::Wait),
        1 => Just(Move::Crash),
        6 => Just(Move::Work),
    ];
    (prop::collection::vec(one, 0..60), any::<bool>()).prop_map(|(mut moves, abort)| {
        if abort {
            moves.insert(moves.len() / 2, Move::Abort);
        }
        moves
    })
}

fn words() -> impl Strategy<Value = Decision> {
    prop_oneof![
        Just(Decision::Retry),
        Just(Decision::Skip),
        Just(Decision::Override),
        Just(Decision::Review),
    ]
}

fn work(world: &mut World) -> Vec<Kind> {
    let mut events = Vec::new();
    for effect in world.pending() {
        match effect {
            Effect::Begin { step } => events.extend(world.begin(&step).unwrap()),
            Effect::Execute { id, .. } | Effect::Observe { id, .. } => {
                events.extend(world.end(&id.step, Ok(())).unwrap());
            }
            Effect::Take { id } => events.extend(world.run(Command::TakeStep(id)).unwrap()),
            Effect::AskPerson { .. } => {}
        }
    }
    events
}

fn play(world: &mut World, next: &Move) -> Vec<Kind> {
    match next {
        Move::Begin(step) => world.begin(ORDER[*step]).unwrap_or_default(),
        Move::Done(step) => world.end(ORDER[*step], Ok(())).unwrap_or_default(),
        Move::DoneAndNext(step) => {
            let mut end = world.end_of(ORDER[*step], Ok(()));
            end.begin_next = true;
            world.run(Command::EndStep(end)).unwrap_or_default()
        }
        Move::NotDone(step) => world.end(ORDER[*step], Err("no")).unwrap_or_default(),
        Move::Lose(step, person) => world.lose(ORDER[*step], *person).unwrap_or_default(),
        Move::Decide {
            person,
            step,
            decision,
        } => {
            if prepare(&world.state, ORDER[*step], world.at()).is_err() {
                return Vec::new();
            }
            world.decided(PEOPLE[*person].0, ORDER[*step], *decision)
        }
        Move::Say {
            person,
            step,
            decision,
        } => {
            let (step, now) = (ORDER[*step], world.at());
            if prepare_for(&world.state, step, Some(*decision), now).is_err() {
                return Vec::new();
            }
            let statement = world.word(PEOPLE[*person].0, step, *decision);
            world.submit(&statement, "").unwrap()
        }
        Move::Pause => world.run(Command::Pause(said(""))).unwrap_or_default(),
        Move::Resume => world.run(Command::Resume(said(""))).unwrap_or_default(),
        Move::Abort => world
            .run(Command::Abort {
                said: said("no"),
                undo: false,
            })
            .unwrap_or_default(),
        Move::Retry(step) => {
            let (step, said) = (ORDER[*step].to_owned(), said(""));
            let command = Command::Retry { step, said };
            world.run(command).unwrap_or_default()
        }
        Move::Wait(ms) => {
            world.now_ms += ms;
            Vec::new()
        }
        Move::Crash => {
            world.own.clear();
            Vec::new()
        }
        Move::Work => work(world),
    }
}

/// Whether the step may start, said once more in other words than the decider's.
fn startable(before: &RunState, step: &str, now_ms: i64, confirming: bool) -> bool {
    let pinned = before.pinned().unwrap();
    let state = before.step(step).unwrap();
    let needs = pinned.needs(step).iter().all(|need| {
        matches!(
            before.step(need).unwrap().phase,
            Phase::Done | Phase::Skipped
        )
    });
    let latest = |person: &str| {
        state
            .decided
            .iter()
            .rev()
            .find(|decided| decided.person == person)
    };
    let standing = PEOPLE.iter().filter_map(|(person, _)| latest(person));
    let denied = standing
        .clone()
        .any(|decided| decided.decision == Decision::Deny);
    let standing: Vec<_> = standing
        .filter(|decided| decided.expires_ms > now_ms)
        .collect();
    let enough = match step {
        "isolate" | "rotate" => standing.len() >= 2,
        "publish" => !standing.is_empty(),
        // The confirmation that completes the quorum is in the same commit.
        "tell" => confirming && !standing.is_empty(),
        _ => true,
    };
    let keys: BTreeSet<&str> = state
        .verbs
        .iter()
        .filter(|said| said.decision == Decision::Override && said.expires_ms > now_ms)
        .map(|said| said.person.as_str())
        .collect();
    let overridden = match step {
        "isolate" => !keys.is_empty(),
        "rotate" | "publish" => keys.len() >= 2,
        _ => false,
    };
    let going = *before.course() == Course::Going || confirming;
    let reviewed = before
        .steps()
        .values()
        .filter_map(|step| step.overridden.as_ref())
        .all(|it| it.reviewed_by.len() >= 2 && it.reviewed_by.iter().all(|by| !it.by.contains(by)));
    going
        && needs
        && (step != "close" || reviewed)
        && (overridden
            || ((confirming || !denied)
                && enough
                && standing.iter().all(|decided| decided.person != "rita")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn nothing_starts_too_early_or_twice(moves in moves()) {
        let mut world = World::started();
        let mut started = BTreeSet::new();
        for next in &moves {
            let first = world.log.len();
            let before = world.state.clone();
            let now_ms = world.now_ms;
            play(&mut world, next);
            let mut state = before;
            for (at_ms, commit) in world.log.iter().skip(first) {
                let whole = state.clone();
                for kind in commit {
                    // What starts with the end of another step is judged on the state after that end.
                    if let Kind::StepStarted(event) = kind
                        && matches!(commit.first(), Some(Kind::StepEnded(_)))
                    {
                        prop_assert!(startable(&state, &event.step, now_ms, false), "{event:?}");
                        prop_assert!(started.insert((event.step.clone(), event.attempt)), "twice: {event:?}");
                    } else if let Kind::StepStarted(event) = kind {
                        let confirming = matches!(commit.first(), Some(Kind::ApprovalRecorded(_)));
                        prop_assert!(startable(&whole, &event.step, now_ms, confirming), "{event:?}");
                        prop_assert!(started.insert((event.step.clone(), event.attempt)), "twice: {event:?}");
                    }
                    super::world::apply(&mut state, kind, *at_ms);
                }
            }
            prop_assert_eq!(&state, &world.state, "the fold of the log is the live state");
        }
    }
}
