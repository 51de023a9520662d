//! `log check` on an installation: whole while it runs and after it, and the damaged byte by its place.

use std::fs;

use sealwarden_tests::{Installation, people};

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

    drop(up);
    here.call(&["log", "check"]).good();
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
