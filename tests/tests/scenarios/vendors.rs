//! Vendors whose services are used: probed, called away after several failures, listed, and needed by no seal.

use sealwarden_tests::wait::eventually;
use sealwarden_tests::{Installation, Process};

/// A vendor of time stamps, a process of its own.
fn stamps(here: &Installation, name: &str) -> Process {
    let dir = here.home().join(name);
    let dir = dir.to_string_lossy();
    Process::start(here.home(), name, &["drill-tsa", "--dir", &dir])
}

fn url(process: &Process) -> String {
    let line = process.ready_line();
    let mut words = line.split_whitespace();
    let url = words.find_map(|word| word.strip_prefix("tsa="));
    url.unwrap_or_else(|| panic!("no address in {line}"))
        .to_owned()
}

fn settings(here: &Installation, text: &str) {
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
}

#[test]
fn a_vendor_that_fails_several_probes_is_an_incident_and_no_seal_needs_it() {
    let here = Installation::new();
    let one = stamps(&here, "stamps-one");
    settings(
        &here,
        &format!(
            "verification:\n  vendors:\n    - {{name: stamps-one, tsa: \"{}\", roots: ../stamps-one/root.pem, every_s: 1, away_after: 2, timeout_ms: 1000}}\n",
            url(&one)
        ),
    );
    let _up = here.up();
    here.seal(&here.file("a", b"a document"));
    let probed = here.call(&["vendors", "probe", "stamps-one"]).good();
    assert_eq!(probed["well"], true, "{probed:#}");
    let list = here.call(&["vendors", "list"]).good();
    let vendors = list["vendors"].as_array().expect("vendors");
    assert_eq!(vendors.len(), 2, "{list:#}");
    assert_eq!(vendors[0]["fallback"], "stamps-two", "{list:#}");
    assert!(vendors[1]["probe"].is_null(), "{list:#}");
    assert!(here.suspicions().is_empty());

    one.kill();
    let incident = eventually("an incident is open", || here.suspicions().first().cloned());
    let shown = here.call(&["incident", "show", &incident]).good();
    assert_eq!(shown["class"], "vendor-failure", "{shown:#}");
    assert_eq!(shown["subject"], "vendor stamps-one", "{shown:#}");
    let list = here.call(&["vendors", "list"]).ends_with(1).json();
    assert_eq!(list["vendors"][0]["last"]["well"], false, "{list:#}");
    assert!(
        list["vendors"][0]["last"]["probes"].as_u64() >= Some(2),
        "{list:#}"
    );
    let probed = here.call(&["vendors", "probe", "stamps-one"]);
    assert_eq!(probed.code, 1, "{probed}");
    let check = here.call(&["vendors", "check"]).good();
    assert_eq!(check["seals"], 1, "{check:#}");
    let unknown = here.call(&["vendors", "show", "nobody"]);
    assert_eq!(unknown.code, 2, "{unknown}");
}

#[test]
fn a_plan_says_what_is_wrong_with_its_vendors() {
    let here = Installation::new();
    let up = here.up();
    assert!(up.terminate().success());
    let plan = here.call(&["plan", "check"]).good();
    let overdue = plan["findings"].as_array().expect("findings");
    let overdue = overdue
        .iter()
        .filter(|it| it["code"] == "vendor-drill-overdue");
    assert_eq!(overdue.count(), 2, "{plan:#}");
    let path = here.data().join("plan/vendors.yaml");
    let good = std::fs::read_to_string(&path).expect("the vendors");
    for (from, to, words) in [
        (
            "fallback: stamps-two",
            "fallback: stamps-tow",
            "did you mean `stamps-two`?",
        ),
        (
            "fallback: stamps-two",
            "fallback: stamps-one",
            "stands in for itself",
        ),
        ("change_notice: 30d", "change_notice: soon", "soon"),
        (
            "provides: time-stamping",
            "provide: time-stamping",
            "provide",
        ),
    ] {
        std::fs::write(&path, good.replacen(from, to, 1)).expect("the vendors");
        let answer = here.call(&["plan", "check"]).ends_with(1);
        assert!(answer.stdout.contains(words), "{words}: {answer}");
    }
}

#[test]
fn settings_of_vendors_are_checked_before_anything_starts() {
    for (text, words) in [
        (
            "verification:\n  vendors:\n    - {name: one, tsa: \"http://127.0.0.1:1\"}\n",
            "verification.vendors[0]",
        ),
        (
            "sealing:\n  anchors:\n    tsas:\n      - {name: one, url: \"http://127.0.0.1:1\", roots: one.pem, stands_in_for: two}\n",
            "no other authority",
        ),
    ] {
        let here = Installation::new();
        settings(&here, text);
        let refused = Process::try_start(here.home(), "up", &here.arguments(&["up"]));
        let log = refused.expect_err("settings that cannot be used");
        assert!(log.contains(words), "{words}: {log}");
    }
}
