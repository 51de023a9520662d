//! Orders about single keys: one of two is revoked, then destroyed; an isolated one is restored.

use sealwarden_tests::thief::Thief;
use sealwarden_tests::{Installation, Process, eventually, people};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";

/// A start with two providers of software keys.
fn up_with_two(here: &Installation) -> Process {
    let spare = here.home().join("spare");
    let settings = format!(
        "keys:\n  providers:\n    - {{name: software, kind: software}}\n    - {{name: spare, kind: software, dir: {}}}\n",
        spare.display()
    );
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let command = ["up", "--base", "seal.example.com"];
    Process::start(here.home(), "up", &here.arguments(&command))
}

/// The sealing key for which this holds, once there is one.
fn key_that(here: &Installation, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let answer = here.call(&["keys", "list"]);
        let answer = (answer.code == 0).then(|| answer.json())?;
        let keys = answer["keys"].as_array().cloned().unwrap_or_default();
        keys.into_iter()
            .find(|key| key["purpose"] == "sealing" && holds(key))
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Asks for an order about a key; the run.
fn ask(here: &Installation, verb: &str, key: &str) -> String {
    let why = "the exercise says so";
    let asked = here.call(&["keys", verb, key, "--why", why]).good();
    text(&asked, "run").to_owned()
}

/// Approves a run until this step has failed; its error.
fn fails(here: &Installation, run: &str, step: &str) -> String {
    eventually(&format!("step {step} fails"), || {
        people::approve_what_waits(here, run, &[]);
        let shown = here.call(&["run", "show", run]);
        let step = people::step(&(shown.code == 0).then(|| shown.json())?, step);
        (step["state"] == "failed").then(|| text(&step, "error").to_owned())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_of_two_is_revoked_and_destroyed_while_the_other_goes_on() {
    let here = Installation::new();
    let _up = up_with_two(&here);
    let first = key_that(&here, "the first provider signs", |it| {
        it["duty"] == "active" && it["listed"] == true
    });
    let first = text(&first, "key_id").to_owned();
    let spare = key_that(&here, "the other one stands by", |it| {
        it["duty"] == "standby" && it["listed"] == true
    });
    let old = here.file("old", b"sealed with the first key");
    here.seal(&old);
    let thief = Thief::steals_from(&here, "sealing-1").await;

    let unknown = here.call(&["keys", "revoke", "main-9", "--why", "x"]);
    assert_eq!(unknown.code, 2, "{unknown}");
    let spare_id = text(&spare, "key_id").to_owned();
    let error = fails(&here, &ask(&here, "restore", &spare_id), "restore");
    assert!(error.contains("only an isolated key"), "{error}");

    let run = ask(&here, "revoke", &first);
    let waiting = people::reaches(&here, &run, "revoke", "awaiting-approval");
    let during = here.file("during", b"nothing is stopped while it waits");
    here.seal(&during);
    assert!(text(&waiting, "missing").contains("security-lead"));
    let run = people::approve_until_the_end(&here, &run);
    assert_eq!(people::step(&run, "revoke")["state"], "done");

    let gone = key_that(&here, "the key is revoked", |it| {
        it["key_id"] == first.as_str()
    });
    assert_eq!(
        (text(&gone, "life"), text(&gone, "state")),
        ("revoked", "disabled")
    );
    key_that(&here, "the other key signs", |it| {
        it["duty"] == "active" && it["key_id"] == spare["key_id"]
    });
    let new = here.file("new", b"sealed with the other key");
    here.seal_eventually(&new);
    assert_eq!(here.verify(&new).good()["verdict"], "valid");

    // What only the revoked key signed proves nothing by itself; under a later checkpoint it does.
    let suspect = here.verify(&old).ends_with(1).json();
    assert_eq!(suspect["verdict"], "suspect", "{suspect}");
    assert!(
        text(&suspect, "reason").contains("fetch the seal again"),
        "{suspect}"
    );
    let name = old.to_str().expect("a path");
    here.call(&["seal", "--renew", name]).must_end_with(0);
    assert_eq!(here.verify(&old).good()["verdict"], "valid");
    let forged = here.file("forged", b"by the one who has the revoked key");
    let seal = thief
        .forges_a_seal(ORIGIN, b"by the one who has the revoked key")
        .await;
    here.file("forged.seal", &seal);
    let forged = here.verify(&forged).ends_with(1).json();
    assert_eq!(forged["verdict"], "suspect", "{forged}");

    let run = people::approve_until_the_end(&here, &ask(&here, "destroy", &first));
    let said = people::step(&run, "destroy")["outputs"]["outcome"].clone();
    assert!(
        said.as_str().is_some_and(|it| it.contains("destroyed")),
        "{run:#}"
    );
    key_that(&here, "the key is destroyed", |it| {
        it["key_id"] == first.as_str() && it["life"] == "destroyed" && it["state"] == "destroyed"
    });
    let error = fails(&here, &ask(&here, "restore", &first), "restore");
    assert!(error.contains("destroyed"), "{error}");
    // A key that signs is not destroyed, whoever approves it; and asking twice is one run.
    let error = fails(&here, &ask(&here, "destroy", &spare_id), "destroy");
    assert!(error.contains("signs for"), "{error}");
    let again = here.call(&["keys", "destroy", &spare_id, "--why", "again"]);
    assert_eq!(again.code, 4, "{again}");
    assert_eq!(here.verify(&old).good()["verdict"], "valid");
}

#[test]
fn an_isolated_key_is_restored_and_its_origin_goes_on() {
    let here = Installation::new();
    let _up = here.up();
    let before = here.file("before", b"before");
    here.seal(&before);
    let seen = "somebody saw a login that nobody made";
    let reported = here.call(&["signal", "--seen", seen]).good();
    let incident = text(&reported, "incident");
    let classify = [
        "incident",
        "classify",
        incident,
        "--class",
        "key-compromise",
    ];
    let reason = [
        "--reason",
        "better safe",
        "--compromised-since",
        "2020-01-01T00:00:00Z",
    ];
    here.call(&[&classify[..], &reason].concat())
        .must_end_with(0);
    let isolating = people::run_of_the_incident(&here);
    eventually("the origin is isolated", || {
        people::approve_what_waits(&here, &isolating, &["rotate"]);
        let answer = here.call(&["run", "show", &isolating]);
        let run = (answer.code == 0).then(|| answer.json())?;
        let done = |step: &str| people::step(&run, step)["state"] == "done";
        (done("isolate") && done("read-only")).then_some(())
    });
    let key = key_that(&here, "the key is isolated", |it| it["life"] == "isolated");
    assert_eq!(
        here.verify(&before).ends_with(1).json()["verdict"],
        "suspect"
    );

    let run = ask(&here, "restore", text(&key, "key_id"));
    let run = people::approve_until_the_end(&here, &run);
    for step in run["steps"].as_array().expect("steps") {
        assert_eq!(step["state"], "done", "{step:#}");
    }
    let key = key_that(&here, "the key signs again", |it| it["duty"] == "active");
    assert_eq!(
        (text(&key, "life"), text(&key, "state")),
        ("usable", "active")
    );
    let after = here.file("after", b"after");
    here.seal_eventually(&after);
    for file in [&before, &after] {
        let answer = here.verify(file).good();
        assert_eq!(answer["verdict"], "valid", "{answer}");
        assert_eq!(answer["origin"], ORIGIN, "{answer}");
    }
}
