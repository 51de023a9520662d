//! A sealing key in other hands: noticed by what it leaves behind, contained, replaced, closed.

use std::path::Path;

use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, eventually, people, sealwarden};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";
const SUCCESSOR: &str = "seal.example.com/main/2";

fn incident(here: &Installation) -> Value {
    let id = eventually("an incident is open", || {
        let list = here.call(&["incident", "list", "--open"]).good();
        list["incidents"][0]["incident"].as_str().map(str::to_owned)
    });
    here.call(&["incident", "show", &id]).good()
}

fn detectors(incident: &Value) -> Vec<&str> {
    incident["signals"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|signal| signal["detector"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_is_noticed_contained_and_replaced_and_everything_is_verified_again() {
    let here = Installation::new();
    let _up = here.up();
    let files: Vec<_> = (0..5)
        .map(|n| here.file(&format!("file {n}"), &[n]))
        .collect();
    for file in &files {
        here.seal(file);
    }
    let old_trust = here.trust("old-trust.json");

    let thief = Thief::steals_from(&here, "sealing-1").await;
    let forged = thief.forges(ORIGIN, 9).await;
    let status = thief::shows_to_the_witness(&here, &forged, 5).await;
    assert!(
        [403, 422].contains(&status),
        "the witness answers {status} to a forged checkpoint"
    );

    let incident = incident(&here);
    assert_eq!(incident["origin"], ORIGIN, "{incident:#}");
    assert_eq!(incident["class"], "key-compromise", "{incident:#}");
    assert_eq!(detectors(&incident), ["foreign-checkpoint"], "{incident:#}");
    assert_eq!(incident["signals"][0]["proven"], true, "{incident:#}");
    signing_is_held(&here, &incident);
    assert_eq!(here.verify(&files[0]).code, 0, "verification goes on");

    let id = people::run_of_the_incident(&here);
    let run = people::approve_until_the_end(&here, &id);
    for step in run["steps"].as_array().expect("steps") {
        assert_eq!(step["state"], "done", "{step:#}");
    }
    recovered(&here, incident["incident"].as_str().expect("an id"), &files);
    nobody_goes_back(&here, &old_trust);
    stored_approvals_verify_with_ssh_keygen(&here, &run);
}

/// A hold, or what followed it: no seal is made, and who asks for one is told why, or is given a ticket.
fn signing_is_held(here: &Installation, incident: &Value) {
    let id = incident["incident"].as_str().expect("an id");
    eventually("signing is on hold", || {
        let mode = here.status()["sealing"].clone();
        let stopped = ["hold", "queue", "read-only", "isolated"].contains(&mode["mode"].as_str()?);
        (stopped && mode["reason"].as_str()?.contains(id)).then_some(())
    });
    let file = here.file("too late", b"too late");
    let answer = here.call(&["seal", file.to_str().expect("a path")]);
    assert!([1, 3, 4].contains(&answer.code), "{answer}");
    assert!(
        !here.home().join("too late.seal").exists(),
        "a seal was made: {answer}"
    );
}

fn recovered(here: &Installation, incident: &str, files: &[std::path::PathBuf]) {
    let closed = here.call(&["incident", "show", incident]).good();
    assert_eq!(closed["stage"], "closed", "{closed:#}");
    for target in closed["targets"].as_array().expect("targets") {
        assert!(
            target["actual_ms"].as_i64() >= Some(0),
            "{target} of {closed:#}"
        );
    }
    let evidence = closed["evidence"].as_array().cloned().unwrap_or_default();
    assert_eq!(evidence.len(), 2, "one bundle a snapshot: {closed:#}");
    for bundle in &evidence {
        let folder = here.data().join(bundle.as_str().expect("a folder"));
        let answer = here
            .call(&["evidence", "verify", folder.to_str().expect("a path")])
            .good();
        assert_eq!(answer["verified"], true, "{answer}");
        damaged_evidence_is_noticed(here, &folder);
    }
    for file in files {
        let before = here.verify(file).ends_with(1);
        assert_eq!(
            before.json()["verdict"],
            "suspect",
            "the old key proves nothing any more: {before}"
        );
        here.call(&["seal", "--renew", file.to_str().expect("a path")])
            .must_end_with(0);
        let after = here.verify(file).good();
        assert_eq!(
            (&after["verdict"], &after["origin"]),
            (&"valid".into(), &SUCCESSOR.into()),
            "{after}"
        );
    }
    let new = here.file("new", b"sealed after the incident");
    here.seal_eventually(&new);
    let answer = here.verify(&new).good();
    assert_eq!(answer["origin"], SUCCESSOR, "{answer}");
}

fn damaged_evidence_is_noticed(here: &Installation, folder: &Path) {
    let copy = tempfile::tempdir_in(here.home()).expect("a temporary folder");
    let target = copy.path().join("bundle");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(folder)
        .arg(&target)
        .status()
        .expect("cp runs");
    assert!(copied.success());
    let victim = target.join("manifest.txt");
    let mut bytes = std::fs::read(&victim).expect("a manifest");
    *bytes.first_mut().expect("a byte") ^= 1;
    std::fs::write(&victim, bytes).expect("the manifest is changed");
    let answer = here
        .call(&["evidence", "verify", target.to_str().expect("a path")])
        .ends_with(1);
    assert_eq!(answer.json()["verified"], false, "{answer}");
}

fn nobody_goes_back(here: &Installation, old_trust: &Path) {
    let new_trust = here.trust("new-trust.json");
    let show = |file: &Path| here.call(&["trust", "show", file.to_str().expect("a path")]);
    let bundle = show(&new_trust).good();
    let old = &bundle["payload"]["logs"][0];
    assert_eq!(
        (&old["origin"], &old["state"]),
        (&ORIGIN.into(), &"frozen".into()),
        "{bundle:#}"
    );
    assert_eq!(old["successor"], SUCCESSOR, "{bundle:#}");
    assert!(old["compromised_since"].is_string(), "{bundle:#}");
    let refused = show(old_trust).ends_with(4);
    assert!(refused.to_string().contains("refused"), "{refused}");
}

/// Each approval that counted, checked by a program that is not ours, against the keys of the roster.
fn stored_approvals_verify_with_ssh_keygen(here: &Installation, run: &Value) {
    let mut signers = String::new();
    for entry in std::fs::read_dir(here.data().join("people")).expect("the trial people") {
        let person = entry.expect("an entry").path();
        let key = std::fs::read_to_string(person.join("id_ed25519.pub")).expect("a public key");
        let name = person
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        // A public key's file ends its line.
        for part in [&name, " namespaces=\"sealwarden-approval\" ", &key] {
            signers.push_str(part);
        }
    }
    let signers = here.file("allowed_signers", signers.as_bytes());
    let mut checked = 0;
    for approval in run["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["approvals"].as_array())
        .flatten()
    {
        if approval["refused"] != "" {
            continue;
        }
        let text = |name: &str| approval[name].as_str().expect("text").to_owned();
        let signature = here.file("approval.sig", text("signature").as_bytes());
        let answer = ssh_keygen(
            here,
            &signers,
            &text("person"),
            &signature,
            &text("statement"),
        );
        assert!(answer, "ssh-keygen refuses {approval:#}");
        let edited = text("statement").replace("decision: ", "decision:  ");
        assert!(
            !ssh_keygen(here, &signers, &text("person"), &signature, &edited),
            "an edited statement passes"
        );
        checked += 1;
    }
    assert!(checked >= 14, "only {checked} approvals were stored");
}

fn ssh_keygen(
    here: &Installation,
    signers: &Path,
    person: &str,
    signature: &Path,
    statement: &str,
) -> bool {
    let statement =
        std::fs::File::open(here.file("statement", statement.as_bytes())).expect("the statement");
    std::process::Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-n",
            "sealwarden-approval",
            "-I",
            person,
            "-f",
        ])
        .arg(signers)
        .arg("-s")
        .arg(signature)
        .stdin(statement)
        .output()
        .expect("ssh-keygen runs")
        .status
        .success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_of_the_key_beside_the_service_is_noticed_by_the_audit_alone() {
    let here = Installation::new();
    let _up = here.up();
    here.seal(&here.file("file", b"x"));
    // Nobody is shown what was signed.
    let _kept = thief::misuses(&here, "sealing-1", ORIGIN, 77).await;
    let incident = incident(&here);
    assert_eq!(
        detectors(&incident),
        ["unexplained-key-use"],
        "{incident:#}"
    );
    assert_eq!(incident["signals"][0]["proven"], true, "{incident:#}");
    signing_is_held(&here, &incident);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_seal_shown_to_verify_is_not_valid_and_gives_the_thief_away() {
    let here = Installation::new();
    let up = here.up();
    for name in ["a", "b"] {
        here.seal(&here.file(name, name.as_bytes()));
    }
    let thief = Thief::steals_from(&here, "sealing-1").await;
    let document = b"I owe you everything.\n";
    let forged = here.file("forged.seal", &thief.forges_a_seal(ORIGIN, document).await);
    let file = here.file("forged", document);
    let arguments = [
        "verify",
        file.to_str().expect("a path"),
        "--seal",
        forged.to_str().expect("a path"),
    ];
    let answer = here.call(&arguments).ends_with(1);
    assert_eq!(answer.json()["verdict"], "suspect", "{answer}");
    let incident = incident(&here);
    assert_eq!(detectors(&incident), ["foreign-checkpoint"], "{incident:#}");

    // Offline nobody knows of intents; but no witness has seen that tree.
    let trust = here.trust("trust.json");
    up.terminate();
    let there = Installation::new();
    let offline = [
        "verify",
        arguments[1],
        "--seal",
        arguments[3],
        "--trust",
        trust.to_str().expect("a path"),
        "--json",
    ];
    let answer = sealwarden(there.home(), &offline).ends_with(1);
    assert_eq!(answer.json()["verdict"], "unwitnessed", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_one_subject_join_one_incident_and_suspicion_alone_holds_nothing() {
    let here = Installation::new();
    let _up = here.up();
    here.seal(&here.file("file", b"x"));
    let report = |seen: &str| {
        here.call(&["signal", "--seen", seen, "--as", "jonas.weber"])
            .good()
    };
    let first = report("an odd login on the sealing machine");
    assert_eq!(first["proven"], false, "{first}");
    let second = report("and another one");
    assert_eq!(
        first["incident"], second["incident"],
        "one subject, one incident"
    );
    here.seal_eventually(&here.file("other", b"suspicion does not stop signing"));

    let id = first["incident"].as_str().expect("an id").to_owned();
    let classified = here.call(&[
        "incident",
        "classify",
        &id,
        "--class",
        "key-compromise",
        "--reason",
        "two logins",
        "--as",
        "jonas.weber",
    ]);
    assert_eq!(classified.good()["class"], "key-compromise");
    let run = people::run_of_the_incident(&here);
    people::reaches(&here, &run, "read-only", "awaiting-approval");
    // Who raised the signal cannot approve.
    let refused = people::approve(&here, &run, "read-only", "jonas.weber").ends_with(4);
    assert!(refused.to_string().contains("requester"), "{refused}");
    people::approve(&here, &run, "read-only", "ines.duarte").must_end_with(0);
}
