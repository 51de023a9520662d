//! The disk is full: a clear error, nothing accepted is lost, and everything goes on by itself when space returns.

use std::path::Path;

use sealwarden_tests::wait::eventually;
use sealwarden_tests::{Disk, Installation, people, thief};
use serde_json::Value;

/// Enough for the services, little enough to be filled at once.
const MIB: u32 = 96;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Files with their seals, outside the disk.
fn seal_some(here: &Installation, names: std::ops::Range<u32>) -> Vec<std::path::PathBuf> {
    let mut sealed = Vec::new();
    for name in names {
        let file = here.file(&format!("file {name}"), &name.to_be_bytes());
        here.seal_eventually(&file);
        sealed.push(file);
    }
    sealed
}

fn must_all_be_valid(here: &Installation, files: &[std::path::PathBuf]) {
    for file in files {
        let answer = here.verify(file).good();
        assert_eq!(answer["verdict"], "valid", "{}: {answer}", file.display());
    }
}

#[test]
fn a_full_disk_is_an_answer_and_nothing_that_was_accepted_is_lost() {
    let here = Installation::new();
    let disk = Disk::small(&here.data(), MIB);
    let up = here.up();
    let mut files = seal_some(&here, 0..4);

    // Less than the floor is free: refused with the remedy, before anything is taken on.
    let filler = disk.fill_but(8 * 1024 * 1024);
    let late = here.file("late", b"late");
    let refused = eventually("a full disk refuses", || {
        let answer = here.call(&["seal", &text(&late)]);
        (answer.code != 0).then_some(answer)
    });
    let said = refused.to_string();
    assert!(
        said.contains("bytes free") && said.contains("free some space"),
        "{said}"
    );
    must_all_be_valid(&here, &files);

    // It is freed: sealing goes on by itself.
    drop(filler);
    here.seal_eventually(&late);
    files.push(late);

    // Somebody else takes the very last byte, in the middle of the work: whatever is answered, what was acknowledged stands.
    for round in 0..5_u32 {
        let filler = disk.fill_but(0);
        let file = here.file(&format!("none left {round}"), &round.to_be_bytes());
        let answer = here.call(&["seal", &text(&file)]);
        if answer.code == 0 {
            files.push(file);
        }
        must_all_be_valid(&here, &files);
        drop(filler);
        files.extend(seal_some(&here, 100 + round * 2..102 + round * 2));
    }
    must_all_be_valid(&here, &files);
    here.call(&["log", "check"]).good();
    assert!(up.terminate().success(), "an orderly end");

    // And after a new start.
    let up = here.up();
    must_all_be_valid(&here, &files);
    assert!(up.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_waits_for_space_and_goes_on() {
    let here = Installation::new();
    let disk = Disk::small(&here.data(), MIB);
    let up = here.up();
    let files = seal_some(&here, 0..2);
    let thief = thief::Thief::steals_from(&here, "sealing-1").await;
    let forged = thief.forges("seal.example.com/main/1", 1_000_000).await;
    thief::shows_to_the_witness(&here, &forged, 0).await;
    let run = people::run_of_the_incident(&here);
    // The last byte goes while people approve; some of it fails, some of it waits.
    let filler = disk.fill_but(0);
    for _ in 0..3 {
        people::approve_what_waits(&here, &run, &[]);
    }
    drop(filler);
    let mut up = up;
    if up.ended().is_some() {
        // A write whose outcome nobody knows ends the process: the next life reads what is really there.
        up = here.up();
    }
    let run: Value = people::approve_until_the_end(&here, &run);
    assert_eq!(run["state"], "completed", "{run:#}");
    for file in &files {
        here.call(&["seal", "--renew", &text(file)])
            .must_end_with(0);
    }
    must_all_be_valid(&here, &files);
    here.call(&["log", "check"]).good();
    assert!(up.terminate().success());
}
