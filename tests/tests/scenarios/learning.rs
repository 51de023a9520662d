//! After an incident: a postmortem from the events, a signature under its public version, action items, and the report.

use std::path::PathBuf;

use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Answer, Installation, Process, people};
use serde_json::Value;

/// An incident that people brought to its end.
async fn closed() -> (Installation, Process, String) {
    let here = Installation::new();
    let up = here.up();
    let file = here.file("contract", b"signed by both");
    here.seal(&file);
    let thief = Thief::steals_from(&here, "sealing-1").await;
    let forged = thief.forges("seal.example.com/main/1", 9).await;
    thief::shows_to_the_witness(&here, &forged, 1).await;
    let run = people::run_of_the_incident(&here);
    let ended = people::approve_until_the_end(&here, &run);
    let id = ended["incident"].as_str().expect("an incident").to_owned();
    (here, up, id)
}

fn draft(here: &Installation, id: &str, name: &str, flags: &[&str]) -> PathBuf {
    let path = here.home().join(name);
    let text = path.to_string_lossy().into_owned();
    let mut command = vec!["postmortem", "draft", id, "--out", &text];
    command.extend(flags);
    here.call(&command).must_end_with(0);
    // What is there is not lost.
    here.call(&command).must_end_with(2);
    path
}

fn record(here: &Installation, id: &str, path: &std::path::Path, person: &str) -> Answer {
    let path = path.to_string_lossy();
    here.call(&["postmortem", "record", id, &path, "--as", person])
}

/// Answers every question of a draft.
fn complete(path: &std::path::Path) {
    let text = std::fs::read_to_string(path).expect("the draft");
    let answered: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("TO COMPLETE:") {
            Some((before, _)) => format!("{before}We looked at it, and this is the answer."),
            None => line.to_owned(),
        })
        .collect();
    std::fs::write(path, answered.join("\n") + "\n").expect("the completed text");
}

fn item<'a>(listed: &'a Value, name: &str) -> &'a Value {
    let items = listed["items"].as_array().expect("items");
    items
        .iter()
        .find(|item| item["item"] == name)
        .unwrap_or_else(|| panic!("no item {name} in {listed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_told_completed_signed_and_counted() {
    let (here, up, id) = closed().await;

    let path = draft(&here, &id, "postmortem.md", &[]);
    let text = std::fs::read_to_string(&path).expect("the draft");
    for fact in [
        "class: key-compromise",
        "| sealed again | 1 |",
        "The signal proved itself",
        "mara.lindqvist",
        "## Contributing factors",
    ] {
        assert!(text.contains(fact), "{fact:?} is not in {text}");
    }
    let refused = record(&here, &id, &path, "ines.duarte");
    refused.must_end_with(2);
    assert!(
        refused.stdout.contains("questions are not answered"),
        "{refused}"
    );
    complete(&path);
    record(&here, "I-0", &path, "ines.duarte").must_end_with(2);
    let recorded = record(&here, &id, &path, "ines.duarte").good();
    assert_eq!(recorded["version"], 1, "{recorded}");
    let again = record(&here, &id, &path, "ines.duarte").good();
    assert_eq!(again["version"], 1, "the same text is one");

    let public = draft(&here, &id, "public.md", &["--public"]);
    let text = std::fs::read_to_string(&public).expect("the draft");
    assert!(!text.contains("mara"), "no names in {text}");
    let publish =
        |person: &str| here.call(&["postmortem", "publish", &id, "--as", person, "--yes"]);
    publish("leila.haddad").must_end_with(2); // nothing is recorded yet
    complete(&public);
    record(&here, &id, &public, "samuel.reyes").must_end_with(0);
    here.call(&["postmortem", "show", &id, "--public"])
        .must_end_with(1);
    publish("mara.lindqvist").must_end_with(4);
    let published = publish("leila.haddad").good();
    assert_eq!(published["approved_by"], "leila.haddad");
    assert!(checks_elsewhere(&here, &published), "{published}");

    drop(up);
    let _up = here.up();
    let shown = here.call(&["postmortem", "show", &id, "--public"]).good();
    assert_eq!(shown["sha256"], published["sha256"]);

    let report = here.call(&["report"]).good();
    let row = &report["rows"][0];
    assert_eq!(row["class"], "key-compromise", "{report}");
    assert_eq!(row["revalidated"]["of"], 1, "{report}");
    for time in ["detect_ms", "acknowledge_ms", "contain_ms", "recover_ms"] {
        assert!(row[time].is_u64(), "{time} in {report}");
    }
    let plots = here.home().join("plots");
    here.call(&["report", "--svg", &plots.to_string_lossy()])
        .must_end_with(0);
    let plot = std::fs::read_to_string(plots.join("recover.svg")).expect("a plot");
    assert!(plot.contains("key-compromise"), "{plot}");
    let later = here.call(&["report", "--since", "2999-01-01T00:00:00Z"]);
    assert_eq!(later.good()["rows"], serde_json::json!([]));
}

/// Whether `ssh-keygen` takes the signature under a published postmortem.
fn checks_elsewhere(here: &Installation, published: &Value) -> bool {
    let field = |name: &str| published[name].as_str().expect("a text").to_owned();
    let public = people::key(here, "leila.haddad")
        .public_key()
        .to_openssh()
        .expect("a key");
    let signers = here.file("signers", format!("leila {public}\n").as_bytes());
    let signature = here.file("signature", field("signature").as_bytes());
    let statement = here.file("statement", field("statement").as_bytes());
    let statement = std::fs::File::open(statement).expect("the statement");
    std::process::Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "leila", "-n", "sealwarden-approval"])
        .arg("-f")
        .arg(signers)
        .arg("-s")
        .arg(signature)
        .stdin(statement)
        .output()
        .expect("ssh-keygen runs")
        .status
        .success()
}

#[test]
fn an_item_is_done_when_somebody_else_has_looked_and_gates_releases_when_it_is_late() {
    let here = Installation::new();
    let _up = here.up();
    let signal = here
        .call(&["signal", "--seen", "an odd login on the HSM"])
        .good();
    let id = signal["incident"].as_str().expect("an incident").to_owned();
    let add = |title: &str, owner: &str, due: &str| {
        here.call(&[
            "items",
            "add",
            &id,
            "--title",
            title,
            "--owner",
            owner,
            "--due",
            due,
            "--verify",
            "the alarm rings in the drill",
            "--gates-releases",
        ])
    };
    add("ring the alarm", "nobody", "2999-01-01T00:00:00Z").must_end_with(2);
    add("ring the alarm", "ines.duarte", "soon").must_end_with(2);
    add(" ", "ines.duarte", "2999-01-01T00:00:00Z").must_end_with(2);
    let added = add("ring the alarm", "ines.duarte", "2026-01-01T00:00:00Z").good();
    assert_eq!(item(&added, "A1")["standing"], "overdue", "{added}");
    here.call(&["items", "gate"]).must_end_with(1);

    let change = |verb: &str, flags: &[&str]| {
        let mut command = vec!["items", verb, &id, "A1"];
        command.extend(flags);
        here.call(&command)
    };
    let moved = change(
        "move",
        &["--due", "2999-01-01T00:00:00Z", "--reason", "late"],
    )
    .good();
    assert_eq!(item(&moved, "A1")["standing"], "open", "{moved}");
    here.call(&["items", "gate"]).must_end_with(0);
    change("move", &["--reason", "nothing"]).must_end_with(2);
    change("check", &["--found", "it rings"]).must_end_with(4);
    change("done", &["--reference", "change 12", "--as", "ines.duarte"]).must_end_with(0);
    let own = change("check", &["--found", "it rings", "--as", "ines.duarte"]);
    own.must_end_with(4);
    let checked = change("check", &["--found", "it rings", "--as", "mara.lindqvist"]).good();
    assert_eq!(item(&checked, "A1")["standing"], "checked", "{checked}");
    change("drop", &["--reason", "too late"]).must_end_with(4);

    let path = here.file("early.md", b"---\nincident: x\n");
    record(&here, &id, &path, "ines.duarte").must_end_with(2);
    let early = draft(&here, &id, "draft.md", &[]);
    complete(&early);
    let refused = record(&here, &id, &early, "ines.duarte");
    assert!(refused.stdout.contains("still open"), "{refused}");
    let listed = here.call(&["items", "list", "--open"]).good();
    assert_eq!(listed["items"], serde_json::json!([]), "{listed}");
}
