//! Silent corruption, answered from the finding to the closed incident by the shipped plan: people approve, nothing else is done by hand.

use sealwarden_tests::wait::eventually;
use sealwarden_tests::{Installation, people};

fn store(here: &Installation, count: u8) {
    let mut words: Vec<String> = ["seal", "--archive", "main"].map(str::to_owned).to_vec();
    for n in 0..count {
        let file = here.file(&format!("{n}.bin"), &[n; 3_000]);
        words.push(file.to_string_lossy().into_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    eventually("documents are sealed and archived", || {
        (here.call(&words).code == 0).then_some(())
    });
}

#[test]
fn damage_that_a_revalidation_finds_is_answered_by_a_run_and_what_is_lost_stays_in_quarantine() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let settings = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("the settings");
    let up = here.up();
    store(&here, 6);
    let documents = here.home().join("archive/documents");
    std::fs::write(documents.join("1.bin"), [9; 3_000]).expect("a document");
    std::fs::remove_file(documents.join("2.bin")).expect("a document");
    std::fs::remove_file(documents.join("3.bin.seal")).expect("a seal");
    // Of the fourth nobody has an original any more.
    std::fs::write(documents.join("4.bin"), [9; 10]).expect("a document");
    std::fs::remove_dir_all(here.home().join("backup/versions/4.bin")).expect("versions");
    here.call(&["archive", "revalidate"]).must_end_with(1);

    let run = people::run_of_the_incident(&here);
    let quarantined = people::reaches(&here, &run, "quarantine", "done");
    assert_eq!(quarantined["outputs"]["quarantined"], "4", "{quarantined}");
    people::reaches(&here, &run, "restore", "awaiting-approval");
    // Nothing is put back before somebody said so.
    assert!(!documents.join("2.bin").exists());
    up.kill();
    let up = here.up();
    let ended = people::approve_until_the_end(&here, &run);
    let step = |id: &str| people::step(&ended, id);
    assert_eq!(step("restore")["outputs"]["restored"], "3", "{ended:#}");
    assert_eq!(step("restore")["outputs"]["lost"], "1", "{ended:#}");
    assert_eq!(step("revalidate")["outputs"]["checked"], "6", "{ended:#}");
    assert_eq!(step("revalidate")["outputs"]["damaged"], "1", "{ended:#}");
    assert_eq!(here.status()["open_incidents"], 0);

    let verdict =
        |object: &str| here.call(&["archive", "verify", object]).json()["verdict"].clone();
    for object in ["1.bin", "2.bin", "3.bin"] {
        assert_eq!(verdict(object), "valid", "{object}");
    }
    assert_eq!(verdict("4.bin"), "quarantined");
    // What is known to be lost is no new incident at the next revalidation.
    here.call(&["archive", "revalidate"]).must_end_with(1);
    assert_eq!(here.status()["open_incidents"], 0);
    up.terminate();
}

#[test]
fn an_archive_that_goes_on_losing_documents_keeps_its_incident_open() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let settings = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("the settings");
    let up = here.up();
    store(&here, 3);
    let documents = here.home().join("archive/documents");
    std::fs::remove_file(documents.join("1.bin")).expect("a document");
    here.call(&["archive", "revalidate"]).must_end_with(1);
    let run = people::run_of_the_incident(&here);
    people::reaches(&here, &run, "restore", "awaiting-approval");
    // Found by nobody yet when the restore begins.
    std::fs::remove_file(documents.join("2.bin")).expect("a document");
    eventually("the archive was looked at again", || {
        people::approve_what_waits(&here, &run, &[]);
        let step = people::step(&people::run(&here, &run), "revalidate");
        (step["state"] == "failed").then_some(())
    });
    let step = people::step(&people::run(&here, &run), "revalidate");
    assert!(
        step["error"]
            .as_str()
            .is_some_and(|error| error.contains("(2.bin)")),
        "{step}"
    );
    assert_eq!(here.status()["open_incidents"], 1);
    up.terminate();
}
