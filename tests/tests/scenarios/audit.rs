//! `log check` on an installation: whole while it runs and after it, and the damaged byte by its place.

use std::fs;
use std::path::PathBuf;

use sealwarden_tests::{Installation, flips, people};

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_an_installation_are_audited_with_its_evidence_beside_them() {
    let here = Installation::new();
    let up = here.up();
    for n in 0..3_u8 {
        here.seal(&here.file(&format!("file {n}"), &[n]));
    }
    here.call(&["signal", "--seen", "a key file on a laptop"])
        .good();
    let list = here.call(&["incident", "list"]).good();
    let id = list["incidents"][0]["incident"].as_str().expect("an id");
    let class = ["--class", "key-compromise", "--reason", "to be safe"];
    here.call(&[&["incident", "classify", id], &class[..]].concat())
        .good();
    // The snapshot leaves copies of public files in a bundle; they are not logs.
    people::reaches(
        &here,
        &people::run_of_the_incident(&here),
        "snapshot",
        "done",
    );
    here.call(&["log", "check"]).good();

    // A clean end keeps the event log's heads; they are audited with the evidence log that they are sealed in.
    up.terminate();
    let audit = here.call(&["log", "check"]).good();
    let logs = audit["logs"].as_array().expect("logs");
    let evidence = logs.iter().find(|it| it["heads"].as_u64() >= Some(1));
    let evidence = evidence.unwrap_or_else(|| panic!("heads are audited: {audit}"));
    let heads = PathBuf::from(evidence["dir"].as_str().expect("a folder")).join("heads");
    for file in ["0000000001.txt", "0000000001.seal"] {
        flips::are_found(&heads.join(file), || here.call(&["log", "check"]));
    }
    fs::write(heads.join("notes"), "somebody's").expect("a strange file");
    here.call(&["log", "check"]).must_end_with(1);
    fs::remove_file(heads.join("notes")).expect("it goes");
    let tree = here.data().join("nodes/sealing-1/log/main/1");
    let tile = tree.join("tile/entries/000.p/3");
    let mut bytes = fs::read(&tile).expect("the entries");
    bytes[40] ^= 1;
    fs::write(&tile, bytes).expect("a flipped bit");
    let answer = here.call(&["log", "check"]);
    assert_eq!(answer.code, 1, "{answer}");
    assert!(
        answer.to_string().contains("tile/entries/000.p/3"),
        "{answer}"
    );
}
