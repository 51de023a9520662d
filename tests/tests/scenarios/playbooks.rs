//! Runbooks as playbooks of others and as pictures, through the binary.

use std::path::Path;

use sealwarden_tests::binary::repository;
use sealwarden_tests::thief::Thief;
use sealwarden_tests::{Installation, people, sealwarden};
use serde_json::{Value, json};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file")
}

#[test]
fn a_runbook_travels_as_a_signed_playbook_and_comes_back() {
    let here = Installation::new();
    let call = |arguments: &[&str]| sealwarden(here.home(), arguments);
    let playbook = here.home().join("key-compromise.json");
    let exported = call(&[
        "runbook",
        "export",
        "key-compromise",
        "--out",
        text(&playbook),
        "--json",
    ])
    .good();

    let key = here.home().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", text(&key)])
        .status()
        .expect("ssh-keygen");
    assert!(made.success());
    call(&["runbook", "verify", text(&playbook)]).must_end_with(1);
    let sign = [
        "runbook",
        "sign",
        text(&playbook),
        "--key",
        text(&key),
        "--signee",
        "Mara Lindqvist",
        "--json",
    ];
    let signed = call(&sign).good();
    let fingerprint = signed["key_sha256"]
        .as_str()
        .expect("a fingerprint")
        .to_owned();
    let verified = call(&[
        "runbook",
        "verify",
        text(&playbook),
        "--key",
        &fingerprint,
        "--json",
    ])
    .good();
    assert_eq!(
        (&verified["verdict"], &verified["signatures"][0]["signee"]),
        (&json!("good"), &json!("Mara Lindqvist"))
    );
    call(&[
        "runbook",
        "verify",
        text(&playbook),
        "--key",
        &"0".repeat(64),
    ])
    .must_end_with(1);

    let back = here.home().join("key-compromise.yaml");
    let imported = call(&[
        "runbook",
        "import",
        text(&playbook),
        "--out",
        text(&back),
        "--json",
    ])
    .good();
    assert_eq!(imported["digest"], exported["digest"]);
    assert_eq!(
        read(&back),
        read(&repository().join("runbooks/key-compromise.yaml"))
    );

    let mut countersigned: Value =
        serde_json::from_str(&read(&playbook)).expect("a playbook is JSON");
    let first = countersigned["signatures"][0].clone();
    countersigned["signatures"][0]["signature"] = first;
    let countersigned = here.file("countersigned.json", countersigned.to_string().as_bytes());
    let told = call(&["runbook", "verify", text(&countersigned)]).ends_with(0);
    assert!(
        told.stdout
            .contains("others signed this signature; that was not checked"),
        "{}",
        told.stdout
    );

    let forged = here.file(
        "forged.json",
        read(&playbook)
            .replace("Let sealing go on", "Let nothing go on")
            .as_bytes(),
    );
    call(&["runbook", "verify", text(&forged)]).must_end_with(1);
    let refused = call(&["runbook", "import", text(&forged)]).ends_with(4);
    assert!(
        refused.stderr.contains("bad-signature"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_strangers_playbook_is_imported_or_refused_with_all_reasons() {
    let here = Installation::new();
    let call = |arguments: &[&str]| sealwarden(here.home(), arguments);
    let id = |kind: &str, n: u8| format!("{kind}--0000000{n}-1000-4000-a000-000100010001");
    let mut playbook = json!({
        "type": "playbook", "spec_version": "cacao-2.0", "id": id("playbook", 1), "name": "Phishing",
        "created_by": id("identity", 1), "created": "2023-11-20T15:56:00.123Z", "modified": "2023-11-20T15:56:00.123Z",
        "agent_definitions": {id("group", 1): {"type": "group", "name": "SOC"}},
        "workflow_start": id("start", 1),
        "workflow": {
            id("start", 1): {"type": "start", "on_completion": id("action", 1)},
            id("action", 1): {"type": "action", "name": "Ask", "agent": id("group", 1), "on_completion": id("action", 2),
                "commands": [{"type": "manual", "command": "Ask __who__:value whether the link was opened."}]},
            id("action", 2): {"type": "action", "name": "Look", "agent": id("group", 1), "on_completion": id("end", 1),
                "commands": [{"type": "bash", "command": "last -n 20"}]},
            id("end", 1): {"type": "end"},
        },
    });
    let file = here.file("phishing.json", playbook.to_string().as_bytes());
    let class = [
        "--class",
        "key-compromise",
        "--quorum",
        "security-lead=1,on-call-sre=1",
    ];
    let refused = call(&[&["runbook", "import", text(&file)], &class[..]].concat()).ends_with(4);
    for word in [
        "unset-variable",
        "--set __who__=",
        "unknown-command",
        "`bash`",
        "/workflow/action--00000002",
    ] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    let more = [
        "--map",
        "bash=confirm",
        "--set",
        "__who__=the person",
        "--json",
    ];
    let imported =
        call(&[&["runbook", "import", text(&file)], &class[..], &more[..]].concat()).good();
    let source = imported["source"].as_str().expect("the runbook");
    assert!(
        source.contains("Ask the person whether") && source.contains("Run (bash): last -n 20"),
        "{source}"
    );

    playbook["workflow"][id("action", 2)]["on_completion"] = Value::from(id("action", 1));
    let file = here.file("circle.json", playbook.to_string().as_bytes());
    let refused = call(&["runbook", "import", text(&file)]).ends_with(4);
    assert!(
        refused.stderr.contains("runs in a circle"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_drawn_with_its_states() {
    let here = Installation::new();
    let up = here.up();
    here.seal(&here.file("file", b"x"));
    let thief = Thief::steals_from(&here, "sealing-1").await;
    let forged = thief.forges("seal.example.com/main/1", 9).await;
    let found = here.file("found.note", forged.to_string().as_bytes());
    let signal = [
        "signal",
        "--seen",
        "found on the web",
        "--checkpoint",
        text(&found),
        "--as",
        "jonas.weber",
    ];
    assert_eq!(here.call(&signal).good()["proven"], true);
    let run = people::run_of_the_incident(&here);
    people::reaches(&here, &run, "read-only", "awaiting-approval");
    let out = here.home().join("run.svg");
    let told = here
        .call(&["run", "draw", &run, "--out", text(&out)])
        .good();
    let picture = read(&out);
    assert_eq!(told["bytes"], picture.len());
    for word in [
        "? waits for approvals",
        "missing:",
        "○ waits for other steps",
        run.get(..8).expect("an id"),
    ] {
        assert!(picture.contains(word), "{word}: {picture}");
    }
    assert!(up.terminate().success());
}

#[test]
fn a_runbook_is_drawn_in_each_form() {
    let here = Installation::new();
    let forms = [
        ("svg", "<svg"),
        ("dot", "digraph"),
        ("mermaid", "flowchart TD"),
        ("text", "key-compromise v1"),
    ];
    for (form, begin) in forms {
        let drawn = sealwarden(
            here.home(),
            &["runbook", "draw", "key-compromise", "--format", form],
        )
        .ends_with(0);
        assert!(drawn.stdout.starts_with(begin), "{form}: {}", drawn.stdout);
    }
    sealwarden(here.home(), &["runbook", "draw", "no-such"]).must_end_with(2);
}
