//! A manual step with evidence through the binary: what is handed in is kept, signed by everybody who confirms, and taken by later steps.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sealwarden_tests::calls::{begin, prepared, step};
use sealwarden_tests::target::Target;
use sealwarden_tests::{Installation, people};
use sha2::{Digest as _, Sha256};

const INES: &str = "ines.duarte"; // on-call-sre
const STEPS: &str = "  - id: tell
    title: Tell the regulator
    action: confirm
    manual:
      instructions: Write to the regulator and keep the letter.
      evidence:
        - {name: channel, kind: choice, of: [mail, portal]}
        - {name: letter, kind: file}
        - {name: people, kind: number}
        - {name: remark, kind: text, required: false}
    approval: {quorum: {on-call-sre: 1}, within: 1h}
";

#[test]
fn what_is_handed_in_is_kept_and_signed_and_goes_on_to_later_steps() {
    let target = Target::start();
    let call = step(
        "file",
        "    needs: [tell]\n    when: steps.tell.outputs.people > 3\n",
        "asked",
        "well",
    );
    let call = call.replace(
        "\"incident\"",
        "\"letter\": \"${steps.tell.letter}\", \"incident\"",
    );
    let needs_done = "when: steps.tell.state == 'done' && steps.tell.outputs.people > 3";
    let call = call.replace("when: steps.tell.outputs.people > 3", needs_done);
    let here = prepared(Installation::new(), &target, &format!("{STEPS}{call}"));
    let shown = here.call(&["runbook", "show", "roll-back"]).good();
    assert_eq!(people::step(&shown, "tell")["evidence"][1], "letter (file)");
    let up = here.up();
    let run = begin(&here);
    people::reaches(&here, &run, "tell", "awaiting-person");

    // Without it nobody confirms, and what does not fit is refused in words.
    let done = |more: &[&str]| {
        let words = ["run", "done", &run, "tell", "--as", INES, "--yes"];
        here.call(&[&words, more].concat())
    };
    let refused = done(&[]).ends_with(2);
    assert!(
        refused
            .to_string()
            .contains("not handed in yet: channel, letter, people"),
        "{refused}"
    );
    let refused = people::approve(&here, &run, "tell", INES).ends_with(4);
    assert!(
        refused.to_string().contains("its evidence is missing"),
        "{refused}"
    );
    for (evidence, words) in [
        ("chanel=mail", "did you mean"),
        ("channel=pigeon", "none of its choices"),
        ("people=many", "write a whole number"),
        ("letter=mail", "hand it in as letter=@FILE"),
        ("channel=@/nowhere", "cannot read /nowhere"),
        ("channel", "write NAME=VALUE"),
    ] {
        let refused = done(&["--evidence", evidence]);
        assert!(
            refused.code != 0 && refused.to_string().contains(words),
            "{words}: {refused}"
        );
    }

    let content = b"Dear regulator, \xff\x00 yours";
    let letter = here.file("letter.pdf", content);
    let letter = format!("letter=@{}", letter.display());
    done(&[
        "--only-evidence",
        "--evidence",
        &letter,
        "--evidence",
        "people=5",
    ])
    .must_end_with(0);
    let waiting = people::step(&people::run(&here, &run), "tell");
    assert_eq!(waiting["state"], "awaiting-person", "{waiting:#}");
    let digest = hex::encode(Sha256::digest(content));
    let given = &waiting["evidence"][1];
    assert_eq!(given["value"], digest.as_str());
    assert_eq!(
        (&given["file_name"], &given["bytes"]),
        (&"letter.pdf".into(), &content.len().into())
    );
    let stored = here.data().join(given["stored"].as_str().expect("a path"));
    assert_eq!(std::fs::read(&stored).expect("the letter"), content);
    let mode = std::fs::metadata(&stored)
        .expect("the letter")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // It is there after a crash, too.
    up.kill();
    let _up = here.up();
    done(&["--evidence", "channel=portal", "--note", "by courier, too"]).must_end_with(0);
    let tell = people::reaches(&here, &run, "tell", "done");
    assert_eq!(tell["outputs"]["letter"], digest.as_str());
    assert_eq!(tell["outputs"]["channel"], "portal");
    assert_eq!(tell["outputs"]["note"], "by courier, too");
    let inputs = tell["inputs"].as_str().expect("inputs");
    assert!(
        inputs.contains(&format!("evidence.letter: {digest}\n")),
        "{inputs}"
    );
    people::reaches(&here, &run, "file", "done");
    let sent = &target.book().effects[0].1;
    assert!(sent.contains(&digest), "{sent}");
    let svg = here.call(&["run", "draw", &run]).ends_with(0).stdout;
    assert!(svg.contains("hand in: channel"), "{svg}");
    let late = done(&["--evidence", "people=6"]);
    assert!(
        late.code == 4 && late.to_string().contains("takes no evidence any more"),
        "{late}"
    );

    goes_along_with_a_copy(&here, &run, &stored);
}

/// What was handed in is a part of the incident's evidence.
fn goes_along_with_a_copy(here: &Installation, run: &str, stored: &Path) {
    let incident = people::run(here, run)["incident"].clone();
    let copy = here.home().join("copy.tar").display().to_string();
    let words = ["--purpose", "for the regulator", "--out", &copy];
    let id = incident.as_str().expect("an incident");
    let exported = here
        .call(&[&["evidence", "export", id], &words[..]].concat())
        .good();
    let given = exported["given"][0].as_str().expect("a file");
    assert!(stored.ends_with(given), "{exported}");
    let trust = here.trust("trust.json").display().to_string();
    here.call(&["evidence", "verify", &copy, "--trust", &trust])
        .good();
    std::fs::write(stored, b"Dear somebody else").expect("the letter, changed");
    here.call(&["evidence", "custody", id]).must_end_with(1);
}
