//! Sealing and verifying files, with and without services.

use std::path::Path;

use sealwarden_tests::{Installation, Process, binary, sealwarden};

#[test]
fn a_file_is_sealed_and_verified_here_and_by_somebody_who_has_only_the_trust_bundle() {
    let here = Installation::new();
    let up = here.up();
    let file = here.file("letter.txt", b"We agree.\n");
    let seal = here.seal(&file);

    let online = here.verify(&file).good();
    assert_eq!(online["verdict"], "valid", "{online}");
    assert_eq!(online["origin"], "seal.example.com/main/1");
    assert_eq!(online["index"], 0);
    assert_eq!(online["witnesses"][0]["local"], true);
    for name in ["reason", "sealed_at", "trust_version", "trust_issued"] {
        assert!(!online[name].is_null(), "{name} of {online}");
    }

    let trust = here.trust("trust.json");
    assert!(up.terminate().success(), "SIGTERM ends it cleanly");

    // Somebody else: another home, the three files, no services.
    let there = Installation::new();
    let offline = [
        "verify",
        path(&file),
        "--seal",
        path(&seal),
        "--trust",
        path(&trust),
        "--json",
    ];
    let answer = sealwarden(there.home(), &offline).good();
    for name in ["verdict", "origin", "index", "sealed_at", "trust_version"] {
        assert_eq!(answer[name], online[name], "{name}");
    }

    // The services are gone: whoever needs them is told so.
    here.verify(&file).must_end_with(3);
    let other = here.file("other.txt", b"x");
    here.call(&["seal", path(&other)]).must_end_with(3);
    here.call(&["status"]).must_end_with(3);
}

#[test]
fn a_restart_goes_on_where_it_was_however_it_ended() {
    let here = Installation::new();
    let up = here.up();
    let first = here.file("first", b"first");
    here.seal(&first);
    let address = here.address("sealing", "grpc");
    assert!(up.terminate().success());

    let up = here.up();
    assert_eq!(
        here.address("sealing", "grpc"),
        address,
        "addresses survive a restart"
    );
    assert_eq!(here.verify(&first).good()["verdict"], "valid");
    let second = here.file("second", b"second");
    here.seal_eventually(&second);
    up.kill();

    let _up = here.up();
    let third = here.file("third", b"third");
    here.seal_eventually(&third);
    for (index, file) in [first, second, third].iter().enumerate() {
        let answer = here.verify(file).good();
        assert_eq!(answer["verdict"], "valid", "{answer}");
        assert_eq!(answer["index"], index, "{answer}");
        assert_eq!(
            answer["origin"], "seal.example.com/main/1",
            "one tree over all restarts"
        );
    }
}

#[test]
fn any_file_can_be_sealed_empty_huge_or_binary() {
    let here = Installation::new();
    let _up = here.up();
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let huge = here.file("huge", b"");
    // 256 MiB without taking the room.
    std::fs::File::options()
        .write(true)
        .open(&huge)
        .and_then(|f| f.set_len(256 << 20))
        .expect("a sparse file");
    for file in [
        here.file("empty", b""),
        here.file("binary", &every_byte),
        huge,
    ] {
        here.seal(&file);
        assert_eq!(
            here.verify(&file).good()["verdict"],
            "valid",
            "{}",
            file.display()
        );
    }

    let piped = here.home().join("piped.seal");
    let arguments = ["seal", "-", "--out", path(&piped), "--json", "--data"];
    let mut arguments = arguments.to_vec();
    let data = here.data();
    arguments.push(path(&data));
    binary::with_input(here.home(), &arguments, b"from a pipe").must_end_with(0);
    let verify = [
        "verify",
        "-",
        "--seal",
        path(&piped),
        "--json",
        "--data",
        path(&data),
    ];
    assert_eq!(
        binary::with_input(here.home(), &verify, b"from a pipe").good()["verdict"],
        "valid"
    );
    let other = binary::with_input(here.home(), &verify, b"from another pipe").ends_with(1);
    assert_eq!(other.json()["verdict"], "document-mismatch");
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_a_usage_error_that_says_what_to_do() {
    let here = Installation::new();
    let _up = here.up();
    let file = here.file("unsealed", b"x");
    let wrong: [&[&str]; 9] = [
        &["seal", "/nowhere/at/all"],
        &["seal", path(here.home())],
        &["seal"],
        &["verify", "/nowhere/at/all"],
        &["verify", path(&file)],
        &["incident", "show", "I-00000000-1"],
        &["run", "show", "R-00000000-1"],
        &[
            "approve",
            "R-00000000-1",
            "isolate",
            "--as",
            "mara.lindqvist",
            "--yes",
        ],
        &["signal", "--seen", "odd", "--earliest", "yesterday"],
    ];
    for call in wrong {
        let answer = here.call(call).ends_with(2);
        let error = answer.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(error.len() > 10, "{call:?} says nothing: {answer}");
    }
    sealwarden(here.home(), &["seel", "x"]).must_end_with(2);
    sealwarden(here.home(), &["verify", path(&file), "--roots", "x"]).must_end_with(2);
    sealwarden(here.home(), &["status", "--data", "/nowhere/at/all"]).must_end_with(2);
    sealwarden(here.home(), &["--version"]).must_end_with(0);
    sealwarden(here.home(), &["help", "seal"]).must_end_with(0);
}

#[test]
fn a_second_seal_of_the_same_file_is_the_first_one_and_other_content_is_not_overwritten() {
    let here = Installation::new();
    let _up = here.up();
    let file = here.file("report", b"version 1");
    let seal = here.seal(&file);
    let before = std::fs::read(&seal).expect("the seal");
    let again = here.call(&["seal", path(&file)]).good();
    assert_eq!(again["seals"][0]["stage"], "already sealed", "{again}");

    std::fs::write(&file, b"version 2").expect("the file changes");
    here.call(&["seal", path(&file)]).must_end_with(2);
    assert_eq!(
        std::fs::read(&seal).expect("the seal"),
        before,
        "the old seal is untouched"
    );
    here.call(&["seal", path(&file), "--force"])
        .must_end_with(0);
    assert_eq!(here.verify(&file).good()["verdict"], "valid");
}

#[test]
fn a_data_folder_has_one_owner_at_a_time() {
    let here = Installation::new();
    let _up = here.up();
    let second = Process::try_start(here.home(), "second", &here.arguments(&["up"]));
    let log = second.expect_err("a second `up` on the same folder does not start");
    assert!(log.contains("another process holds"), "{log}");
}

#[test]
fn the_shipped_plan_is_good_and_the_installation_shows_its_keys_and_runbook() {
    let here = Installation::new();
    let _up = here.up();
    let plan = here.call(&["plan", "check"]).good();
    assert_eq!(plan["good"], true, "{plan}");
    let runbook = here.call(&["runbook", "show", "key-compromise"]).good();
    assert_eq!(
        runbook["steps"].as_array().map(Vec::len),
        Some(12),
        "{runbook}"
    );
    let keys = here.call(&["keys", "list"]).good();
    assert_eq!(
        keys["keys"][0]["origin"], "seal.example.com/main/1",
        "{keys}"
    );
    assert_eq!(keys["keys"][0]["state"], "active", "{keys}");
    let status = here.status();
    assert_eq!(status["sealing"]["mode"], "open", "{status}");
    assert_eq!(
        status["nodes"].as_array().map(Vec::len),
        Some(4),
        "{status}"
    );
    assert_eq!(
        here.call(&["incident", "list"]).good()["incidents"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
