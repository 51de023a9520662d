use proptest::prelude::*;

use super::*;

/// One step of a table: what happens when, and what state follows.
enum Step {
    /// A call: `Some(latency)` or a failure.
    Call(Option<u64>),
    /// A probe, announced and finished.
    Probe(Option<u64>),
}
use Step::{Call, Probe};

const BAD: Option<u64> = None;
const FAST: Option<u64> = Some(5);
const SLOW: Option<u64> = Some(200);

fn config() -> BreakerConfig {
    BreakerConfig {
        failures: 3,
        slow_ms: 100,
        slow_window_ms: 1_000,
        slow_calls: 3,
        pause_ms: 100,
        longest_pause_ms: 800,
        good_probes: 2,
        settled_ms: 10_000,
    }
}

fn at(steady_ms: u64) -> Moment {
    Moment {
        steady_ms,
        wall_ms: 1_700_000_000_000 + i64::try_from(steady_ms).unwrap(),
    }
}

fn outcome(latency: Option<u64>) -> Outcome {
    match latency {
        Some(latency_ms) => Outcome::Answered { latency_ms },
        None => Outcome::Failed {
            reason: "down".to_owned(),
        },
    }
}

/// Runs a table and answers the breaker at its end.
fn run(name: &str, table: &[(u64, Step, &str)]) -> Breaker {
    let mut breaker = Breaker::new(config());
    for (number, (time, step, expected)) in table.iter().enumerate() {
        match step {
            Call(latency) => {
                breaker.called(breaker.calling(), &outcome(*latency), at(*time), 0);
            }
            Probe(latency) => {
                let begun = breaker.probing();
                breaker.probed(begun, &outcome(*latency), at(*time), 0);
            }
        }
        assert_eq!(
            breaker.state().as_str(),
            *expected,
            "{name}: step {number} at {time} ms: {breaker:?}"
        );
    }
    breaker
}

#[test]
fn failures_in_a_row_open_it_and_a_good_call_between_them_does_not() {
    run(
        "in a row",
        &[
            (0, Call(BAD), "closed"),
            (1, Call(BAD), "closed"),
            (2, Call(BAD), "open"),
        ],
    );
    run(
        "with a good one between",
        &[
            (0, Call(BAD), "closed"),
            (1, Call(BAD), "closed"),
            (2, Call(FAST), "closed"),
            (3, Call(BAD), "closed"),
            (4, Call(BAD), "closed"),
        ],
    );
}

#[test]
fn only_calls_that_are_slow_for_a_whole_window_open_it() {
    let breaker = run(
        "slow throughout",
        &[
            (0, Call(SLOW), "closed"),
            (500, Call(SLOW), "closed"),
            (999, Call(SLOW), "closed"),
            (1_000, Call(SLOW), "open"),
        ],
    );
    let reason = breaker.refusal().unwrap();
    assert!(
        reason.contains("4 calls") && reason.contains("100 ms"),
        "{reason}"
    );
    run(
        "one fast call begins the window anew",
        &[
            (0, Call(SLOW), "closed"),
            (500, Call(FAST), "closed"),
            (1_000, Call(SLOW), "closed"),
            (1_500, Call(SLOW), "closed"),
            (1_999, Call(SLOW), "closed"),
            (2_000, Call(SLOW), "open"),
        ],
    );
    run(
        "two slow calls far apart are no trend",
        &[(0, Call(SLOW), "closed"), (5_000, Call(SLOW), "closed")],
    );
}

#[test]
fn good_probes_in_a_row_close_it_and_a_bad_or_slow_one_sends_it_back() {
    let out = [
        (0, Call(BAD), "closed"),
        (0, Call(BAD), "closed"),
        (0, Call(BAD), "open"),
    ];
    let with = |rest: Vec<(u64, Step, &'static str)>| {
        let mut table: Vec<(u64, Step, &str)> = out
            .iter()
            .map(|(time, _, state)| (*time, Call(BAD), *state))
            .collect();
        table.extend(rest);
        run("probes", &table)
    };
    with(vec![
        (100, Probe(FAST), "half-open"),
        (101, Probe(FAST), "closed"),
        (102, Call(BAD), "closed"),
    ]);
    with(vec![
        (100, Probe(FAST), "half-open"),
        (101, Probe(BAD), "open"),
        (301, Probe(FAST), "half-open"),
        (302, Probe(SLOW), "open"),
    ]);
    // A late answer to a call from before neither closes it nor counts against it.
    let late = with(vec![
        (1, Call(FAST), "open"),
        (100, Probe(FAST), "half-open"),
        (101, Call(BAD), "half-open"),
        (102, Call(FAST), "half-open"),
    ]);
    let HealthState::HalfOpen { since_ms, reason } = late.state() else {
        panic!("{late:?}")
    };
    assert_eq!(since_ms, at(0).wall_ms);
    assert!(reason.contains("3 calls in a row"), "{reason}");
}

#[test]
fn pauses_double_to_a_bound_chance_adds_up_to_half_and_a_short_return_does_not_reset_them() {
    let mut breaker = Breaker::new(config());
    let mut now = 0;
    let mut pauses = Vec::new();
    breaker.open("gone".to_owned(), at(now), 0);
    for _ in 0..5 {
        let due = breaker.probe_at_ms().unwrap();
        pauses.push(due - now);
        now = due;
        let begun = breaker.probing();
        breaker.probed(begun, &outcome(BAD), at(now), 0);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 800]);

    for (chance, longest) in [(0, 800), (127, 999), (255, 1_200)] {
        let mut again = breaker.clone();
        again.open("gone".to_owned(), at(now), chance);
        assert_eq!(again.probe_at_ms(), Some(now + longest), "chance {chance}");
    }

    let close = |breaker: &mut Breaker, now: u64| {
        for _ in 0..2 {
            let begun = breaker.probing();
            breaker.probed(begun, &outcome(FAST), at(now), 0);
        }
        assert_eq!(breaker.state(), HealthState::Closed);
    };
    close(&mut breaker, now);
    let mut flapping = breaker.clone();
    flapping.open("again".to_owned(), at(now + 9_999), 0);
    assert_eq!(flapping.probe_at_ms(), Some(now + 9_999 + 800));
    breaker.open("much later".to_owned(), at(now + 10_000), 0);
    assert_eq!(breaker.probe_at_ms(), Some(now + 10_000 + 100));
}

#[test]
fn what_was_begun_before_the_last_change_of_state_does_not_count() {
    let mut breaker = Breaker::new(config());
    let hung = breaker.calling();
    for time in 0..3 {
        breaker.called(breaker.calling(), &outcome(BAD), at(time), 0);
    }
    assert_eq!(breaker.state().as_str(), "open");
    let leftover = breaker.probing();
    breaker.probed(leftover, &outcome(BAD), at(100), 0);
    assert_eq!(breaker.state().as_str(), "open");
    for _ in 0..2 {
        let begun = breaker.probing();
        // The first probe of this outage ends again, and late: it is not this one.
        breaker.probed(leftover, &outcome(SLOW), at(301), 0);
        assert_eq!(breaker.state().as_str(), "half-open");
        breaker.probed(begun, &outcome(FAST), at(301), 0);
    }
    assert_eq!(breaker.state(), HealthState::Closed);

    // Everything that hung through the outage fails now.
    for time in 400..410 {
        assert!(!breaker.called(hung, &outcome(BAD), at(time), 0));
        breaker.probed(leftover, &outcome(BAD), at(time), 0);
    }
    assert_eq!(breaker.state(), HealthState::Closed, "{breaker:?}");
    let now = breaker.calling();
    for time in 420..423 {
        breaker.called(now, &outcome(BAD), at(time), 0);
    }
    assert_eq!(
        breaker.state().as_str(),
        "open",
        "what was begun since counts"
    );
    // Good news from before is no news either.
    let begun = breaker.probing();
    breaker.probed(leftover, &outcome(FAST), at(900), 0);
    breaker.probed(leftover, &outcome(FAST), at(900), 0);
    assert_eq!(breaker.state().as_str(), "half-open");
    breaker.probed(begun, &outcome(FAST), at(900), 0);
    assert_eq!(breaker.state().as_str(), "half-open");
}

#[test]
fn a_standby_that_fails_its_probes_goes_out_without_a_single_call() {
    run(
        "idle",
        &[
            (0, Probe(FAST), "closed"),
            (1, Probe(BAD), "closed"),
            (2, Probe(BAD), "closed"),
            (3, Probe(BAD), "open"),
        ],
    );
}

#[test]
fn settings_that_make_no_breaker_are_named_with_their_bounds() {
    config().validate().unwrap();
    BreakerConfig::default().validate().unwrap();
    for (bad, named) in [
        (
            BreakerConfig {
                failures: 0,
                ..config()
            },
            "failures 0",
        ),
        (
            BreakerConfig {
                pause_ms: 1,
                ..config()
            },
            "pause_ms 1",
        ),
        (
            BreakerConfig {
                longest_pause_ms: 99,
                ..config()
            },
            "longest_pause_ms 99 is not within 100",
        ),
        (
            BreakerConfig {
                good_probes: 0,
                ..config()
            },
            "good_probes 0",
        ),
    ] {
        let error = bad.validate().unwrap_err();
        assert!(error.contains(named), "{error}");
    }
}

proptest! {
    /// However a provider behaves, it is let back in only rarely: each return costs a pause.
    #[test]
    fn it_never_flaps(steps in proptest::collection::vec((0..400_u64, any::<bool>(), any::<bool>(), any::<u8>()), 1..400)) {
        let mut breaker = Breaker::new(config());
        let (mut now, mut opened_at, mut returns) = (0, Vec::new(), 0);
        for (wait, good, probe, chance) in steps {
            now += wait;
            let before = breaker.state().as_str();
            let latency = good.then_some(1);
            if probe && breaker.probe_at_ms().is_some_and(|due| due <= now) {
                let begun = breaker.probing();
                breaker.probed(begun, &outcome(latency), at(now), chance);
            } else {
                breaker.called(breaker.calling(), &outcome(latency), at(now), chance);
            }
            let after = breaker.state().as_str();
            if before == "closed" && after == "open" {
                opened_at.push(now);
            }
            returns += usize::from(before == "half-open" && after == "closed");
            prop_assert!(!(before == "open" && after == "closed"), "without two probes");
        }
        for pair in opened_at.windows(2) {
            prop_assert!(pair[1] - pair[0] >= config().pause_ms);
        }
        prop_assert!(returns <= opened_at.len());
    }
}
