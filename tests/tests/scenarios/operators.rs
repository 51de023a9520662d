//! Operators' verbs through the binary: what still advances in each state, also over a crash.

use std::fs;
use std::thread::JoinHandle;

use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Answer, Installation, Process, eventually, people, sealwarden};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";
const MARA: &str = "mara.lindqvist"; // security-lead, break-glass
const INES: &str = "ines.duarte"; // on-call-sre
const LEILA: &str = "leila.haddad"; // legal-counsel, compliance-owner
const SAMUEL: &str = "samuel.reyes"; // communications-lead, product-owner

/// An installation that detected a theft by itself, with its run.
async fn stolen(before: impl FnOnce(&Installation)) -> (Installation, Process, String) {
    let here = Installation::new();
    let up = here.up();
    here.seal(&here.file("file", b"x"));
    before(&here);
    let thief = Thief::steals_from(&here, "sealing-1").await;
    thief::shows_to_the_witness(&here, &thief.forges(ORIGIN, 9).await, 0).await;
    let run = people::run_of_the_incident(&here);
    (here, up, run)
}

fn is_in(here: &Installation, run: &str, state: &str) -> Value {
    eventually(&format!("the run is {state}"), || {
        let answer = here.call(&["run", "show", run]);
        (answer.code == 0)
            .then(|| answer.json())
            .filter(|shown| shown["state"] == state)
    })
}

/// A verb about a step, signed by a person.
fn says(here: &Installation, verb: &str, run: &str, step: &str, person: &str) -> Answer {
    here.call(&[
        "run",
        verb,
        run,
        step,
        "--as",
        person,
        "--yes",
        "--why",
        "decided on the phone",
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_stays_paused_over_a_crash_until_it_is_resumed() {
    let (here, up, run) = stolen(|_| ()).await;
    people::reaches(&here, &run, "isolate", "awaiting-approval");
    let paused = here
        .call(&["run", "pause", &run, "--why", "look first"])
        .good();
    assert_eq!(paused["state"], "paused", "{paused:#}");
    for person in [MARA, INES] {
        people::approve(&here, &run, "read-only", person).must_end_with(0);
    }
    up.kill();

    let _up = here.up();
    let shown = is_in(&here, &run, "paused");
    let reason = shown["reason"].as_str().expect("a reason");
    assert!(reason.contains("look first"), "{reason}");
    let step = people::step(&shown, "read-only");
    assert_eq!(step["attempts"], 0, "approved, and not started: {step:#}");
    assert_eq!(step["approvals"].as_array().map(Vec::len), Some(2));

    here.call(&["run", "resume", &run]).must_end_with(0);
    people::reaches(&here, &run, "read-only", "done");
    let run = people::approve_until_the_end(&here, &run);
    assert_eq!(run["state"], "completed");
}

/// Somebody who looks on until the run ends, also while the service is away.
fn watch(here: &Installation, run: &str) -> JoinHandle<Answer> {
    let (home, data) = (here.home().to_owned(), here.data());
    let run = run.to_owned();
    std::thread::spawn(move || {
        let data = data.to_str().expect("a path");
        let words = ["run", "show", &run, "--watch", "--json", "--data", data];
        // The service may be away before the view has begun: then there is nothing to look at yet.
        eventually("somebody tells the view of the run", || {
            let answer = sealwarden(&home, &words);
            (answer.code != 3).then_some(answer)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_run_ends_over_a_crash_and_takes_nothing_back() {
    let (here, up, run) = stolen(|_| ()).await;
    people::reaches(&here, &run, "isolate", "awaiting-approval");
    here.call(&["run", "abort", &run]).must_end_with(2); // it cannot be taken back: why?
    for step in ["read-only", "isolate"] {
        for person in [MARA, INES] {
            people::approve(&here, &run, step, person).must_end_with(0);
        }
    }
    people::reaches(&here, &run, "read-only", "done");
    let watching = watch(&here, &run);
    here.call(&["run", "abort", &run, "--why", "we rebuild everything"])
        .must_end_with(0);
    up.kill();

    let _up = here.up();
    let shown = is_in(&here, &run, "aborted");
    let watched = watching.join().expect("a view").ends_with(1);
    let states: Vec<Value> = watched
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document a line"))
        .collect();
    let last = states.last().expect("at least the end");
    assert_eq!(last["state"], "aborted", "{last:#}");
    let reason = shown["reason"].as_str().expect("a reason");
    assert!(reason.contains("we rebuild everything"), "{reason}");
    for step in ["rotate", "resume", "close"] {
        let step = people::step(&shown, step);
        assert_eq!(step["state"], "cancelled", "{step:#}");
    }
    assert_eq!(people::step(&shown, "read-only")["state"], "done");
    let file = here.file("later", b"y");
    let refused = here.call(&["seal", file.to_str().expect("a path")]);
    assert_ne!(refused.code, 0, "signing stays stopped: {refused}");
    here.call(&["run", "resume", &run]).must_end_with(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_senior_breaks_the_glass_and_others_review_before_the_incident_closes() {
    let (here, _up, run) = stolen(|_| ()).await;
    people::reaches(&here, &run, "read-only", "awaiting-approval");
    let refused = says(&here, "override", &run, "read-only", INES).ends_with(4);
    assert!(refused.to_string().contains("break-glass"), "{refused}");
    says(&here, "override", &run, "read-only", MARA).must_end_with(0);
    let step = people::reaches(&here, &run, "read-only", "done");
    let remark = step["remark"].as_str().expect("a remark");
    assert!(remark.contains("NOT YET REVIEWED"), "{remark}");

    // Nobody was affected, so nobody is to be told: those who would confirm sign that the run goes on without it.
    people::reaches(&here, &run, "isolate", "awaiting-approval");
    let shown = eventually("the run waits for the review only", || {
        people::approve_what_waits(&here, &run, &["confirm"]);
        let shown = people::run(&here, &run);
        if people::step(&shown, "confirm")["state"] == "awaiting-person" {
            says(&here, "skip", &run, "confirm", LEILA);
            says(&here, "skip", &run, "confirm", SAMUEL);
        }
        let close = people::step(&shown, "close");
        (close["missing"].as_str()?.contains("review")).then_some(shown)
    });
    assert_eq!(people::step(&shown, "confirm")["state"], "skipped");

    let own = says(&here, "review", &run, "read-only", MARA).ends_with(4);
    assert!(own.to_string().contains("requester"), "{own}");
    says(&here, "review", &run, "read-only", INES).must_end_with(0);
    says(&here, "review", &run, "read-only", LEILA).must_end_with(0);
    let ended = is_in(&here, &run, "completed");
    let remark = people::step(&ended, "read-only")["remark"].to_string();
    assert!(remark.contains("reviewed by ines.duarte"), "{remark}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_retried_when_its_cause_is_gone() {
    // A file stands where the evidence goes.
    let (here, _up, run) = stolen(|here| {
        let evidence = here.data().join("evidence");
        if evidence.exists() {
            fs::rename(&evidence, here.data().join("evidence.away")).expect("renaming");
        }
        fs::write(&evidence, b"in the way").expect("writing");
    })
    .await;
    let stuck = is_in(&here, &run, "stuck");
    let reason = stuck["reason"].as_str().expect("a reason");
    assert!(reason.contains("run retry"), "{reason}");
    let evidence = here.data().join("evidence");
    fs::remove_file(&evidence).expect("removing");
    let away = here.data().join("evidence.away");
    if away.exists() {
        fs::rename(&away, &evidence).expect("renaming");
    }
    let verb = [
        "run",
        "retry",
        &run,
        "snapshot",
        "--why",
        "the file is gone",
    ];
    here.call(&verb).must_end_with(0);
    let step = people::reaches(&here, &run, "snapshot", "done");
    assert_eq!(step["attempts"], 4, "{step:#}");
    here.call(&verb).must_end_with(4); // it is done
}
