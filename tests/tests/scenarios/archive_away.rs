//! A folder archive whose disk goes away, and revalidations that are steered.

use std::path::{Path, PathBuf};

use sealwarden_tests::Installation;
use sealwarden_tests::wait::eventually;
use serde_json::Value;

fn archived(settings: &str, count: usize, bytes: usize) -> (Installation, PathBuf) {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let text = format!(
        "verification:\n  archives:\n    - {{name: main, url: ../archive, backup: ../backup, every_h: 0{settings}}}\n"
    );
    std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
    for n in 0..count {
        here.file(
            &format!("{n:03}.bin"),
            &vec![u8::try_from(n % 251).expect("a byte"); bytes],
        );
    }
    let archive = here.home().join("archive");
    (here, archive)
}

fn store(here: &Installation, count: usize) {
    let mut words: Vec<String> = ["seal", "--archive", "main"].map(str::to_owned).to_vec();
    words.extend((0..count).map(|n| {
        here.home()
            .join(format!("{n:03}.bin"))
            .display()
            .to_string()
    }));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    eventually("documents are sealed and archived", || {
        (here.call(&words).code == 0).then_some(())
    });
}

fn revalidation(here: &Installation) -> Value {
    here.call(&["archive", "status", "main"]).json()["archives"][0]["revalidation"].clone()
}

fn begun(here: &Installation) {
    here.call(&["archive", "revalidate", "--no-wait"])
        .must_end_with(0);
    eventually("it has begun to read", || {
        (revalidation(here)["checked"].as_u64()? >= 32).then_some(())
    });
}

fn ended(here: &Installation) -> Value {
    eventually("it ends", || {
        let now = revalidation(here);
        (!now["finished_at_ms"].is_null()).then_some(now)
    })
}

/// What stands where the disk was.
fn unmounted(archive: &Path) -> PathBuf {
    let aside = archive.with_extension("aside");
    std::fs::rename(archive, &aside).expect("the archive goes");
    std::fs::create_dir(archive).expect("an empty mount point");
    aside
}

fn mounted(archive: &Path, aside: &Path) {
    let left: Vec<_> = std::fs::read_dir(archive)
        .expect("the mount point")
        .collect();
    assert!(
        left.is_empty(),
        "nothing is written where the disk was: {left:?}"
    );
    std::fs::remove_dir(archive).expect("the mount point goes");
    std::fs::rename(aside, archive).expect("the archive comes back");
}

#[test]
fn a_disk_that_is_not_mounted_is_no_damage_and_nothing_is_written_in_its_place() {
    let (here, archive) = archived(
        ", rate_limit_bytes_per_s: 200000, parallelism: 1",
        80,
        5_000,
    );
    let up = here.up();
    store(&here, 80);
    begun(&here);
    let aside = unmounted(&archive);
    let waits = eventually("it says that the disk is not there", || {
        let now = revalidation(&here);
        Some(now["waiting"].as_str()?.to_owned())
    });
    assert!(waits.contains("mounted"), "{waits}");
    here.call(&["archive", "verify", "000.bin"])
        .must_end_with(3);
    here.call(&["archive", "restore", "000.bin"])
        .must_end_with(3);
    let new = here.file("new", b"new").to_string_lossy().into_owned();
    here.call(&["seal", "--archive", "main", &new])
        .must_end_with(3);
    mounted(&archive, &aside);
    let end = ended(&here);
    assert_eq!(
        (end["checked"].as_u64(), end["damaged"].as_u64()),
        (Some(80), Some(0)),
        "{end}"
    );
    up.terminate();

    // Nor is it a new archive when the service starts without it.
    let aside = unmounted(&archive);
    let up = here.up();
    let status = eventually("it says why it is not open", || {
        let status = here.call(&["archive", "status"]).ends_with(1).json();
        let problem = status["archives"][0]["problem"].as_str()?.to_owned();
        problem.contains("mounted").then_some(problem)
    });
    assert!(status.contains("archive.json"), "{status}");
    mounted(&archive, &aside);
    eventually("it is opened", || {
        (here.call(&["archive", "verify", "000.bin"]).code == 0).then_some(())
    });

    // A backup that is not there says nothing about originals.
    std::fs::remove_file(archive.join("documents/001.bin")).expect("a document");
    let backup = here.home().join("backup");
    let aside = unmounted(&backup);
    let refused = here.call(&["archive", "restore", "001.bin"]).ends_with(3);
    assert!(
        refused.stdout.contains("the backup of archive main"),
        "{refused}"
    );
    mounted(&backup, &aside);
    let restored = here.call(&["archive", "restore", "001.bin"]).good();
    assert_eq!(restored["objects"][0]["outcome"], "restored", "{restored}");
    up.terminate();
}

#[test]
fn a_revalidation_is_paused_resumed_and_cancelled_and_a_restart_does_not_resume_it() {
    let (here, archive) = archived(
        ", rate_limit_bytes_per_s: 200000, parallelism: 1",
        100,
        5_000,
    );
    let up = here.up();
    store(&here, 100);
    std::fs::remove_file(archive.join("documents/000.bin")).expect("a document");
    begun(&here);
    here.call(&["archive", "pause"]).must_end_with(0);
    eventually("it pauses", || {
        (revalidation(&here)["state"] == "paused").then_some(())
    });
    let paused = revalidation(&here);
    up.kill();
    let up = here.up();
    eventually("it is still paused", || {
        (revalidation(&here)["state"] == "paused").then_some(())
    });
    assert_eq!(revalidation(&here)["checked"], paused["checked"]);
    here.call(&["archive", "resume"]).must_end_with(0);
    eventually("it reads on", || {
        (revalidation(&here)["checked"].as_u64() > paused["checked"].as_u64()).then_some(())
    });
    here.call(&["archive", "cancel"]).must_end_with(0);
    let end = ended(&here);
    assert_eq!(end["state"], "cancelled", "{end}");
    let report = here.call(&["archive", "report"]).good();
    assert_eq!(report["outcome"], "cancelled", "{report}");
    assert_eq!(
        report["damaged"], 1,
        "what it found so far is reported: {report}"
    );
    here.call(&["archive", "resume"]).must_end_with(4);
    up.terminate();
}

#[test]
fn the_rate_limit_holds_for_documents_and_seals_together() {
    // 60 documents of 100 bytes: their seals are most of what is read.
    let (here, archive) = archived(", rate_limit_bytes_per_s: 50000, parallelism: 8", 60, 100);
    let up = here.up();
    store(&here, 60);
    let mut bytes = 0;
    for entry in std::fs::read_dir(archive.join("documents")).expect("documents") {
        bytes += entry.expect("a file").metadata().expect("its size").len();
    }
    let begin = std::time::Instant::now();
    here.call(&["archive", "revalidate"]).must_end_with(0);
    // The last piece is read before it is paid for.
    let least = std::time::Duration::from_millis((bytes - 4_000) * 1_000 / 50_000);
    assert!(
        begin.elapsed() >= least,
        "{bytes} bytes in {:?}, at least {least:?}",
        begin.elapsed()
    );
    up.terminate();
}

#[test]
fn a_thousand_damaged_documents_are_one_incident_and_few_events() {
    let (here, archive) = archived("", 1_000, 50);
    let up = here.up();
    store(&here, 1_000);
    for n in 0..1_000 {
        std::fs::remove_file(archive.join(format!("documents/{n:03}.bin"))).expect("a document");
    }
    here.call(&["archive", "revalidate"]).must_end_with(1);
    let report = here.call(&["archive", "report"]).good();
    assert_eq!(
        report["by_class"]["missing"], 1_000,
        "{}",
        report["by_class"]
    );
    let incident = eventually("one incident is open", || {
        let list = here.call(&["incident", "list"]).good();
        let list = list["incidents"].as_array()?.clone();
        let [only] = list.as_slice() else { return None };
        Some(only["incident"].as_str()?.to_owned())
    });
    let shown = here.call(&["incident", "show", &incident]).good();
    let signals = shown["signals"].as_array().map_or(0, Vec::len);
    assert!((1..=2).contains(&signals), "{shown}");
    let restored = here.call(&["archive", "restore", "--all"]).good();
    assert_eq!(restored["objects"].as_array().map(Vec::len), Some(1_000));
    here.call(&["archive", "revalidate"]).must_end_with(0);
    up.terminate();
}
