//! Evidence in other hands: a copy is recorded before it leaves, says for whom and what for, and holds on a machine that knows nothing of us.

use std::fs;
use std::path::Path;

use sealwarden_tests::{Installation, people, sealwarden};

/// An open incident with a snapshot.
fn incident(here: &Installation) -> String {
    here.seal(&here.file("document", b"a document"));
    here.call(&["signal", "--seen", "a key file on a laptop"])
        .good();
    let list = here.call(&["incident", "list"]).good();
    let id = list["incidents"][0]["incident"].as_str().expect("an id");
    let class = ["--class", "key-compromise", "--reason", "to be safe"];
    here.call(&[&["incident", "classify", id], &class[..]].concat())
        .good();
    let run = people::run_of_the_incident(here);
    people::reaches(here, &run, "snapshot", "done");
    id.to_owned()
}

/// Some eighty bytes changed in turn, the archive's own headers among them; what is wrong is said each time.
fn no_byte_can_be_changed(file: &Path, trust: &str) {
    let good = fs::read(file).expect("the copy");
    let elsewhere = tempfile::tempdir().expect("another machine");
    let path = elsewhere.path().join("copy.tar");
    let name = path.display().to_string();
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a copy of the copy");
        let words = ["evidence", "verify", &name, "--trust", trust, "--json"];
        sealwarden(elsewhere.path(), &words)
    };
    assert_eq!(check(&good).good()["verified"], true);
    let step = good.len() / 80 + 1;
    for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let found = check(&bad).ends_with(1).json();
        let problem = found["problem"].as_str().expect("a problem");
        assert!(problem.contains("expected"), "byte {at}: {problem}");
    }
    check(&[good.as_slice(), b"more"].concat()).must_end_with(1);
    check(&good[..good.len() / 2]).must_end_with(1);
    check(b"").must_end_with(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_evidence_is_recorded_and_holds_without_us() {
    let here = Installation::new();
    let up = here.up();
    let id = incident(&here);
    let trust = here.trust("trust.json").display().to_string();
    let custody = || here.call(&["evidence", "custody", &id]);
    let before = custody().good();
    assert_eq!(
        before["bundles"].as_array().map(Vec::len),
        Some(1),
        "{before}"
    );
    assert_eq!(before["handed_out"].as_array().map(Vec::len), Some(0));

    // Nobody takes a copy without a purpose, of nothing, or over another file.
    let out = here.home().join("copy.tar");
    let name = out.display().to_string();
    let export = |incident: &str, purpose: &str, out: &str| {
        here.call(&[
            "evidence",
            "export",
            incident,
            "--purpose",
            purpose,
            "--out",
            out,
        ])
    };
    export(&id, "", &name).must_end_with(2);
    export("I-none", "court order 12", &name).must_end_with(2);
    export("../evidence", "court order 12", &name).must_end_with(2);
    assert!(!out.exists(), "nothing is left of what was refused");
    let taken = here.file("taken", b"another file").display().to_string();
    export(&id, "court order 12", &taken).must_end_with(2);
    assert_eq!(custody().good()["handed_out"], before["handed_out"]);

    let exported = export(&id, "court order 12", &name).good();
    assert_eq!(exported["purpose"], "court order 12", "{exported}");
    assert_eq!(
        exported["incident"].as_str(),
        Some(id.as_str()),
        "{exported}"
    );
    let after = custody().good();
    let handed = &after["handed_out"][0];
    assert_eq!(handed["person"], exported["person"], "{after}");
    assert_eq!(handed["purpose"], "court order 12", "{after}");
    assert_eq!(
        handed["bundles"][0], after["bundles"][0]["bundle"],
        "{after}"
    );
    no_byte_can_be_changed(&out, &trust);

    // It is in the log: a restart knows it, too. Damaged evidence is named, and not handed out.
    up.terminate();
    let up = here.up();
    assert_eq!(custody().good(), after);
    let bundle = after["bundles"][0]["bundle"].as_str().expect("a folder");
    let file = here.data().join(bundle).join("collection.txt");
    let good = fs::read(&file).expect("a file of the bundle");
    let mut permissions = fs::metadata(&file).expect("a file").permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a test's own file")]
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).expect("it can be written");
    fs::write(&file, [good.as_slice(), b"and more"].concat()).expect("changed");
    let damaged = custody().ends_with(1).json();
    let damage = damaged["bundles"][0]["damage"].as_str().expect("damage");
    assert!(damage.contains("collection.txt"), "{damaged}");
    let second = here.home().join("second.tar").display().to_string();
    let refused = export(&id, "court order 13", &second);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.to_string().contains("collection.txt"), "{refused}");
    assert!(!Path::new(&second).exists());
    fs::write(&file, good).expect("as it was");
    assert_eq!(custody().good(), after);
    up.terminate();
}
