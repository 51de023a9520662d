//! The roster: its people change it by signing, and nobody by writing a file or an event.

use std::path::Path;

use sealwarden_tests::history::History;
use sealwarden_tests::{Answer, Installation, Process, people};
use sealwarden_wire::event::v1::RosterChanged;
use sealwarden_wire::event::v1::event::Kind;
use serde_json::Value;

const MARA: &str = "mara.lindqvist"; // security-lead, break-glass
const TOMAS: &str = "tomas.okafor"; // security-lead, break-glass
const INES: &str = "ines.duarte"; // on-call-sre
const JONAS: &str = "jonas.weber"; // on-call-sre
const SAMUEL: &str = "samuel.reyes"; // communications-lead, product-owner

/// The roster with one more role for Ines.
fn promoted(text: &str) -> String {
    let promoted = text.replacen("[on-call-sre]", "[on-call-sre, security-lead]", 1);
    assert_ne!(promoted, text);
    promoted
}

fn edit(here: &Installation, text: &str) {
    std::fs::write(here.data().join("plan/roster.yaml"), text).expect("the roster");
}

fn shown(here: &Installation, code: i32) -> Value {
    here.call(&["roster", "show"]).ends_with(code).json()
}

fn propose(here: &Installation, text: &str) -> Answer {
    let file = here.file("proposed.yaml", text.as_bytes());
    let file = file.to_str().expect("a path");
    here.call(&[
        "roster",
        "propose",
        file,
        "--reason",
        "Ines leads the shift",
    ])
}

fn approve(here: &Installation, person: &str) -> Answer {
    here.call(&["roster", "approve", "--as", person, "--yes"])
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .expect("cp");
    assert!(copied.success());
}

#[test]
fn an_edited_file_counts_for_nothing_until_enough_people_have_signed_it() {
    let here = Installation::new();
    let up = here.up();
    let first = shown(&here, 0);
    assert_eq!(first["number"], 0, "{first:#}");
    let text = people::roster_text(&here);
    drop(up);
    edit(&here, &promoted(&text));
    // It starts, seals, and says so.
    let _up = here.up();
    here.seal(&here.file("file", b"x"));
    let edited = shown(&here, 1);
    assert_eq!(edited["digest"], first["digest"]);
    let finding = edited["findings"][0].to_string();
    let says = "ines.duarte gets the role security-lead";
    assert!(finding.contains(says), "{finding}");
    let status = here.call(&["status"]).ends_with(1).json();
    assert!(status["roster_findings"][0].to_string().contains(says));
    let checked = here.call(&["plan", "check"]).good();
    assert!(
        checked.to_string().contains("roster-not-in-force"),
        "{checked:#}"
    );

    let proposed = propose(&here, &promoted(&text)).good();
    assert_eq!(proposed["differences"], serde_json::json!([says]));
    let inbox = here.call(&["approve", "--mine", "--as", MARA]).good();
    assert_eq!(
        inbox["roster"][0]["digest"], proposed["digest"],
        "{inbox:#}"
    );
    let refused = approve(&here, INES).ends_with(4);
    assert!(
        refused
            .to_string()
            .contains("nobody approves their own roles"),
        "{refused}"
    );
    for person in [SAMUEL, JONAS] {
        let signed = approve(&here, person).good();
        assert_eq!(signed["in_force"], false, "two juniors are no quorum");
    }
    assert_eq!(approve(&here, MARA).good()["in_force"], true);
    let now = shown(&here, 0);
    assert_eq!(
        (&now["number"], &now["digest"]),
        (&1.into(), &proposed["digest"])
    );
    approve(&here, TOMAS).must_end_with(2);
    // Whose roles they are is known at once: Ines approves as security-lead from now on, and the same text is no change any more.
    propose(&here, &promoted(&text)).must_end_with(2);
    let strange = promoted(&text).replace("roles: [on-call-sre]", "roles: [gardener]");
    let refused = propose(&here, &strange.replace("on-call-sre, ", "")).ends_with(2);
    assert!(refused.to_string().contains("quorum-unmet"), "{refused}");
}

#[test]
fn one_person_is_no_quorum_and_a_denial_ends_a_proposal() {
    let here = Installation::new();
    let _up = here.up();
    let text = promoted(&people::roster_text(&here));
    propose(&here, &text).good();
    for _ in 0..2 {
        let signed = approve(&here, MARA).good();
        assert_eq!(signed["in_force"], false, "{signed:#}");
    }
    let denied = here
        .call(&["roster", "deny", "--as", SAMUEL, "--yes"])
        .good();
    assert_eq!(denied["denied"], true, "{denied:#}");
    approve(&here, JONAS).must_end_with(2);
    // Proposed by Mara herself, who then does not count; her signature of before is worth nothing either.
    let file = here.file("proposed.yaml", text.as_bytes());
    let file = file.to_str().expect("a path");
    let by_mara = ["roster", "propose", file, "--reason", "again", "--as", MARA];
    let again = here.call(&by_mara).good();
    assert_eq!(again["approved_by"], serde_json::json!([]), "{again:#}");
    let refused = approve(&here, MARA).ends_with(4);
    assert!(
        refused.to_string().contains("what they asked for"),
        "{refused}"
    );
    // Revoked in between: it counts no more.
    approve(&here, TOMAS).good();
    let why = "left on a train";
    let revoke = [
        "roster", "revoke", TOMAS, "--why", why, "--as", MARA, "--yes",
    ];
    here.call(&revoke).good();
    let signed = approve(&here, JONAS).good();
    assert_eq!(signed["in_force"], false, "{signed:#}");
    approve(&here, TOMAS).must_end_with(4);
    assert_eq!(shown(&here, 0)["number"], 0);
}

/// A kill between acceptance and the file, an old file, an old event log, a lost data folder.
#[test]
fn the_roster_in_force_survives_what_happens_to_files_and_to_the_event_log() {
    let here = Installation::new();
    let up = here.up();
    let old = people::roster_text(&here);
    drop(up);
    let (events, kept) = (here.data().join("events"), here.home().join("events.kept"));
    copy(&events, &kept);
    let up = here.up();
    people::change_roster(&here, &promoted(&old), &[MARA, SAMUEL]);
    let now = shown(&here, 0);
    up.kill();
    // The file of before, as after a kill, or put back by somebody: it is written again.
    edit(&here, &old);
    let up = here.up();
    assert_eq!(shown(&here, 0), now);
    assert_eq!(people::roster_text(&here), promoted(&old));
    drop(up);
    // An event log of before the change gets the change back: it carries its signatures.
    std::fs::rename(&events, here.home().join("events.lost")).expect("a folder");
    copy(&kept, &events);
    let up = here.up();
    assert_eq!(shown(&here, 0), now);
    drop(up);
    // A folder that never saw the roster in force, and a file that never was it: nothing starts.
    std::fs::remove_file(here.data().join("roster.events")).expect("a file");
    edit(&here, &promoted(&promoted(&old)));
    let refused = Process::try_start(here.home(), "up", &here.arguments(&["up"]));
    let refused = refused.expect_err("it does not start");
    assert!(refused.contains("is not the roster in force"), "{refused}");
    edit(&here, &old);
    let _up = here.up();
    assert_eq!(shown(&here, 0), now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_was_only_written_into_the_event_log_is_not_in_force() {
    let here = Installation::new();
    let up = here.up();
    let first = shown(&here, 0);
    let text = promoted(&people::roster_text(&here));
    let proposed = propose(&here, &text).good();
    approve(&here, MARA).good();
    drop(up);
    let forged = RosterChanged {
        number: 1,
        from_digest: first["digest"].as_str().expect("hex").to_owned(),
        digest: proposed["digest"].as_str().expect("hex").to_owned(),
        text,
        reason: "Ines leads the shift".to_owned(),
        proposed_by: "operator".to_owned(),
        expires_ms: proposed["expires_ms"].as_i64().expect("a time"),
        ..RosterChanged::default()
    };
    let history = History::embedded(&here.data()).await;
    let stream = format!("trust/{}", here.name());
    let written = vec![Kind::RosterChanged(forged)];
    history.writes(&stream, "runbook-executor-1", written).await;
    drop(history);
    let _up = here.up();
    let now = shown(&here, 1);
    assert_eq!(
        (&now["number"], &now["digest"]),
        (&0.into(), &first["digest"])
    );
    let said = now["findings"][0].to_string();
    assert!(
        said.contains("did not sign") && said.contains("without its quorum"),
        "{said}"
    );
    // What was signed still counts, and with one more it is in force.
    let signed = approve(&here, SAMUEL).good();
    assert_eq!(signed["in_force"], true, "{signed:#}");
}

#[test]
fn who_is_away_is_not_waited_for_and_what_nobody_can_decide_is_said() {
    let here = Installation::new();
    let up = here.up();
    let absent = |person: &str, by: &str, more: &[&str]| {
        let mut call = vec!["roster", "absent", person, "--as", by, "--yes"];
        call.extend(more);
        here.call(&call)
    };
    let tomorrow = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let until = ["--until", tomorrow.as_str()];
    absent(TOMAS, SAMUEL, &until).must_end_with(4);
    absent(TOMAS, TOMAS, &["--until", "2020-01-01T00:00:00Z"]).must_end_with(2);
    absent(TOMAS, TOMAS, &["--until", "2099-01-01T00:00:00Z"]).must_end_with(4);
    absent(TOMAS, TOMAS, &until).must_end_with(0);
    let unmet = absent(MARA, MARA, &until).ends_with(1).json();
    let unmet = unmet["unmet"].to_string();
    assert!(
        unmet.contains("cannot meet") && unmet.contains("security-lead"),
        "{unmet}"
    );
    up.kill();
    let _up = here.up();
    let shown = shown(&here, 1);
    assert!(
        shown["findings"].to_string().contains("is away"),
        "{shown:#}"
    );
    // Who signs all the same counts; whom one can reach is another question.
    let proposed = propose(&here, &promoted(&people::roster_text(&here))).good();
    assert!(
        proposed["can_sign"].to_string().contains(JONAS),
        "{proposed:#}"
    );
    assert!(
        !proposed["can_sign"].to_string().contains(MARA),
        "{proposed:#}"
    );
    approve(&here, SAMUEL).must_end_with(0);
    assert_eq!(approve(&here, MARA).good()["in_force"], true);
    absent(MARA, MARA, &["--back"]).must_end_with(0);
    let status = here.call(&["status"]).good();
    assert_eq!(status["roster_findings"], serde_json::json!([]));
}
