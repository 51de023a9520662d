//! What nodes measure of themselves, and canaries: a slow key, one that fails, a queue that fills, documents that do not verify and canaries that fail are found by the plan's
//! detectors, from outside; and clean traffic is not.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use sealwarden_tests::wait::a_while;
use sealwarden_tests::{Installation, eventually};
use serde_json::{Value, json};

use super::outside_alerts::{TOKEN, post};
use super::token::{Token, worker};

/// An installation with a source of canaries. Its plan's detectors are the shipped ones, with these texts in place of those.
fn with_canaries(start: impl Fn(&Installation), changed: &[(&str, &str)]) -> Installation {
    let here = Installation::new();
    start(&here);
    let token = here.data().join("canary.token");
    std::fs::write(&token, TOKEN).expect("a token");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("a mode");
    let settings = "detection:\n  outside:\n    ci: {token_file: canary.token, class: kms-outage, requests_per_minute: 60000}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let file = here.data().join("plan/detectors.yaml");
    let mut plan = std::fs::read_to_string(&file).expect("the plan");
    for (from, to) in changed {
        assert_eq!(plan.matches(from).count(), 1, "{from}");
        plan = plan.replace(from, to);
    }
    std::fs::write(&file, plan).expect("the plan is ours");
    here
}

/// Tells of a canary.
fn canary(here: &Installation, id: &str, good: bool) -> String {
    let data = json!({ "log": "main", "good": good, "took_ms": 40, "reason": "" });
    let event = json!({ "specversion": "1.0", "id": id, "source": "/canary", "type": "dev.sealwarden.canary.v1", "data": data });
    let kind = "application/cloudevents+json";
    let (status, answer) = post(here, "/outside/events", TOKEN, kind, &event.to_string());
    assert_eq!(status, 200, "{answer}");
    answer
}

fn detector(here: &Installation, name: &str) -> Value {
    let listed = here.call(&["detectors", "list"]).good();
    let detectors = listed["detectors"].as_array().cloned().unwrap_or_default();
    let found = detectors.into_iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no detector {name}: {listed}"))
}

fn signals(here: &Installation, name: &str) -> u64 {
    detector(here, name)["signals"].as_u64().expect("a number")
}

fn fires(here: &Installation, name: &str) {
    eventually(&format!("the detector {name} has a signal"), || {
        (signals(here, name) > 0).then_some(())
    });
}

/// What a detector sees of a name now.
fn sees(here: &Installation, name: &str, of: &str) {
    eventually(&format!("the detector {name} sees {of}"), || {
        let watched = detector(here, name)["watched"].clone();
        let watched = watched.as_array()?.clone();
        let found = watched.into_iter().find(|it| it["name"] == of)?;
        found["reading"].is_object().then_some(())
    });
}

/// So many documents, each with a copy of this seal beside it that is not theirs.
fn wrong(here: &Installation, seal: &Path, count: u32) -> PathBuf {
    let mut list = String::new();
    for n in 0..count {
        let name = format!("wrong-{n}");
        let file = here.file(&name, name.as_bytes());
        std::fs::copy(seal, format!("{}.seal", file.display())).expect("a copy");
        writeln!(list, "{}", file.display()).expect("a string");
    }
    here.file("list", list.as_bytes())
}

fn verify_list(here: &Installation, list: &Path) -> i32 {
    let list = list.to_str().expect("a path");
    here.call(&["verify", "--from-list", list]).code
}

#[test]
fn slow_and_failing_keys_a_full_queue_bad_verdicts_and_failed_canaries_are_found() {
    let changed = [
        ("above: 20000", "above: 4"),
        (
            "bucket: 5m\n    buckets: 48\n    score: 10\n    least: 100",
            "bucket: 1s\n    buckets: 8\n    score: 10\n    least: 20",
        ),
        // The first calls of an installation, while the token is made, are none of this test's.
        ("above: 500\n    samples: 3", "above: 150\n    samples: 3"),
    ];
    let token = std::cell::OnceCell::new();
    let begin = |here: &Installation| {
        let token = token.get_or_init(|| Token::new(here));
        drop(token.up(here).unwrap_or_else(|log| panic!("{log}")));
    };
    let here = with_canaries(begin, &changed);
    let token = token.get().expect("a token");
    let up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    let good = here.file("good", b"good");
    here.seal_eventually(&good);
    assert_eq!(here.verify(&good).good()["verdict"], "valid");

    // Slow: each call hangs for a while, and is answered in its time.
    for n in 0..5 {
        let name = format!("slow-{n}");
        let file = here.file(&name, name.as_bytes());
        let pid = Pid::from_raw(worker(&here)).expect("a process id");
        kill_process(pid, Signal::STOP).expect("a signal");
        std::thread::scope(|scope| {
            let sealing = scope.spawn(|| here.call(&["seal", file.to_str().expect("a path")]));
            a_while(500..600);
            kill_process(pid, Signal::CONT).expect("a signal");
            sealing.join().expect("the sealer ends");
        });
    }
    fires(&here, "slow-key");

    // Away: calls fail, and what is sealed meanwhile waits.
    let away = here.home().join("away");
    std::fs::rename(&token.folder, &away).expect("the token is removed");
    std::fs::create_dir(&token.folder).expect("an empty reader");
    for n in 0..8 {
        let name = format!("queued-{n}");
        let file = here.file(&name, name.as_bytes());
        here.call(&["seal", file.to_str().expect("a path")]);
    }
    fires(&here, "queue-backlog");
    fires(&here, "key-errors");
    std::fs::remove_dir(&token.folder).expect("the empty reader");
    std::fs::rename(&away, &token.folder).expect("the token is back");

    // Documents that are not what was sealed.
    let list = wrong(&here, &here.home().join("good.seal"), 120);
    assert_eq!(verify_list(&here, &list), 1);
    fires(&here, "verdicts-mostly-bad");
    fires(&here, "verdict-spike");

    // Canaries: one that fails is not enough, and the same one twice is one.
    canary(&here, "1", true);
    assert!(canary(&here, "2", false).contains("1 new"));
    assert!(canary(&here, "2", false).contains("1 known"));
    assert_eq!(signals(&here, "canary"), 0);
    canary(&here, "3", false);
    fires(&here, "canary");

    // Each is an incident of its subject; nothing of it is proven. A restart finds the same again.
    let listed = here.call(&["incident", "list"]).good().to_string();
    for subject in [
        "key provider pkcs11",
        "key providers of log main",
        "verdicts of verification-1",
    ] {
        assert!(listed.contains(subject), "{subject}: {listed}");
    }
    let names = [
        "slow-key",
        "queue-backlog",
        "key-errors",
        "verdicts-mostly-bad",
        "verdict-spike",
        "canary",
    ];
    let before = names.map(|name| signals(&here, name));
    assert!(up.terminate().success());
    let _up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    assert_eq!(names.map(|name| signals(&here, name)), before);
}

#[test]
fn clean_traffic_is_measured_and_says_nothing() {
    let here = with_canaries(|here| drop(here.up()), &[]);
    let up = here.up();
    let mut list = String::new();
    for n in 0..20 {
        let name = format!("document-{n}");
        let file = here.file(&name, name.as_bytes());
        here.seal_eventually(&file);
        writeln!(list, "{}", file.display()).expect("a string");
        canary(&here, &name, true);
    }
    let list = here.file("good-list", list.as_bytes());
    for _ in 0..6 {
        assert_eq!(verify_list(&here, &list), 0);
    }
    // Somebody tries the wrong files.
    let few = wrong(&here, &here.home().join("document-0.seal"), 10);
    assert_eq!(verify_list(&here, &few), 1);
    // What is measured last is recorded at the end, and not counted again after it.
    assert!(up.terminate().success());
    let _up = here.up();
    sees(&here, "verdicts-mostly-bad", "verification-1");
    sees(&here, "slow-key", "software");
    sees(&here, "canary", "main");
    let share = detector(&here, "verdicts-mostly-bad")["watched"][0]["reading"].clone();
    assert_eq!(share["samples"], 130, "each verdict counts once: {share}");
    let listed = here.call(&["incident", "list"]).good();
    assert_eq!(listed["incidents"], json!([]), "{listed}");
}
