//! The key server slowed down, corrupted and stopped in mid-load: no acknowledged seal is lost, none is wrong, memory stays bounded.

use std::time::Duration;

use rustix::process::Signal;
use sealwarden_tests::load::{Load, collected, must_be_valid};
use sealwarden_tests::{Bao, Fault, FaultyServer, Installation, Process, eventually};
use serde_json::Value;

/// How much memory the process may take more than before, in KiB.
const MORE_KIB: u64 = 256 * 1024;

/// Starts with the key server behind its bad days, and what else the list of providers has.
fn up(here: &Installation, bao: &Bao, faulty: &FaultyServer, others: &str) -> Process {
    let settings = format!(
        "sealing:\n  slow_key_ms: 300\nkeys:\n  providers:\n    - {{name: bao, kind: transit, url: \"{}\", ca_file: {}, token_file: {}, audit_file: {}, audit_device: sealing, deadline_ms: 1800, breaker: {{pause_ms: 100, longest_pause_ms: 500}}}}\n{others}",
        faulty.url(),
        bao.ca().display(),
        bao.token_file(here).display(),
        bao.audit().display(),
    );
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let command = ["up", "--base", "seal.example.com"];
    Process::start(here.home(), "up", &here.arguments(&command))
}

/// Resident memory of the sealing service, in KiB.
fn memory(here: &Installation) -> u64 {
    let endpoints = std::fs::read(here.data().join("endpoints.json")).expect("endpoints.json");
    let endpoints: Value = serde_json::from_slice(&endpoints).expect("JSON");
    let pid = &endpoints["sealing"]["pid"];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.expect("its memory").split_whitespace().nth(1);
    words.and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_server_that_lies_and_stops_in_mid_load_is_stood_in_for() {
    let here = Installation::new();
    let bao = Bao::start(&here);
    let faulty = FaultyServer::before(&bao);
    let up = up(
        &here,
        &bao,
        &faulty,
        "    - {name: software, kind: software}\n",
    );
    here.key_on_duty("active", "bao");
    here.key_on_duty("standby", "software");
    here.seal_eventually(&here.file("first", b"first"));
    let trust = here.trust("trust-before.json");
    let before = memory(&here);
    let load = Load::start(&here, 16).await;
    load.acknowledged(100).await;

    faulty.set(Fault::WrongSignatures);
    eventually("a signature was changed", || {
        (faulty.corrupted() > 0).then_some(())
    });
    here.key_on_duty("active", "software");
    load.acknowledged(load.sealed() + 100).await;
    let log = up.log();
    assert!(log.contains("does not verify"), "{log}");

    faulty.set(Fault::None);
    eventually("the server signs again", || {
        let answer = here.call(&[
            "keys",
            "failback",
            "--why",
            "its signatures are right again",
        ]);
        (answer.code == 0).then_some(())
    });
    here.key_on_duty("active", "bao");
    load.acknowledged(load.sealed() + 50).await;

    bao.signal(Signal::STOP);
    here.key_on_duty("active", "software");
    load.acknowledged(load.sealed() + 100).await;
    bao.signal(Signal::CONT);

    let client = load.client();
    let outcomes = collected(&client, load.end().await).await;
    let after = memory(&here);
    assert!(after < before + MORE_KIB, "{before} KiB became {after} KiB");
    must_be_valid(&outcomes, &trust);
    assert_eq!(here.suspicions(), [""; 0], "every use has its intent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_server_without_a_stand_in_that_is_slow_or_lies_fills_the_queue_which_drains_when_it_is_well()
 {
    let here = Installation::new();
    let bao = Bao::start(&here);
    let faulty = FaultyServer::before(&bao);
    let _up = up(&here, &bao, &faulty, "");
    here.key_on_duty("active", "bao");
    here.seal_eventually(&here.file("first", b"first"));
    let trust = here.trust("trust-before.json");
    let before = memory(&here);
    let load = Load::start(&here, 16).await;
    load.acknowledged(50).await;

    faulty.set(Fault::Slow(Duration::from_millis(400)));
    load.queued(500).await;
    faulty.set(Fault::None);
    load.acknowledged(load.sealed() + 100).await;

    // Signatures that do not verify are failures of the provider: it goes out, and nothing is sealed.
    faulty.set(Fault::WrongSignatures);
    eventually("the provider is out", || {
        let status = here.status();
        let providers = status["sealing"]["providers"].as_array()?.clone();
        let is_out = |it: &Value| it["provider"] == "bao" && it["breaker"] != "closed";
        providers.iter().any(is_out).then_some(())
    });
    faulty.set(Fault::None);
    load.acknowledged(load.sealed() + 100).await;

    let client = load.client();
    let outcomes = collected(&client, load.end().await).await;
    let after = memory(&here);
    assert!(after < before + MORE_KIB, "{before} KiB became {after} KiB");
    must_be_valid(&outcomes, &trust);
    assert_eq!(here.status()["sealing"]["tickets"], 0, "all are settled");
}
