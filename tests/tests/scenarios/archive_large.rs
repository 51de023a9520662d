//! Large archives and large documents: no process holds a document in memory, and an archive takes little for each object.
//!
//! `SEALWARDEN_ARCHIVE_OBJECTS` and `SEALWARDEN_DOCUMENT_MIB` set other sizes, such as 100,000 objects and 1,024 MiB.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sealwarden_tests::wait::{eventually, within};
use sealwarden_tests::{Installation, binary};
use serde_json::Value;

/// How long one command may take with the sizes that somebody sets.
const LONG: Duration = Duration::from_mins(9);

fn size_of(variable: &str, usual: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(usual, |text| text.parse().expect("a number"))
}

fn archived() -> Installation {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let text = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
    here
}

/// A line of `/proc/PID/status`, in KiB; none when the process is gone.
fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|it| it.starts_with(line))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a command to its end; its answer, and the most memory that it was seen to take, in KiB.
fn watched(here: &Installation, command: &[&str]) -> (Value, u64) {
    let out = here.home().join("answer.json");
    let arguments = here.arguments(&[command, &["--json"]].concat());
    let mut child = binary::command(here.home(), &arguments)
        .stdout(File::create(&out).expect("a file"))
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts");
    let mut most = 0;
    let ended = within(LONG, "the command ends", || {
        most = memory(child.id(), "VmHWM:").unwrap_or(0).max(most);
        child.try_wait().expect("its state")
    });
    let text = std::fs::read_to_string(&out).expect("an answer");
    assert!(ended.success(), "{command:?}: {text}");
    (serde_json::from_str(&text).expect("JSON"), most)
}

/// So many MiB that repeat nowhere.
fn large(here: &Installation, mib: u64) -> PathBuf {
    let path = here.home().join("large.bin");
    let mut file = File::create(&path).expect("a file");
    let mut block: Vec<u8> = (0..1 << 20_u32)
        .map(|at: u32| at.to_le_bytes()[1])
        .collect();
    for number in 0..mib {
        block.splice(0..8, number.to_le_bytes());
        file.write_all(&block).expect("room on the disk");
    }
    path
}

fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    byte[0] ^= 1;
    file.write_all_at(&byte, at).expect("a byte");
}

#[test]
fn a_large_document_is_sealed_verified_archived_revalidated_and_restored_in_bounded_memory() {
    let mib = size_of("SEALWARDEN_DOCUMENT_MIB", 256);
    let here = archived();
    let up = here.up();
    here.seal_eventually(&here.file("small", b"small"));
    let service = here.pid("verification");
    let before = memory(service, "VmRSS:").expect("a process");
    let file = large(&here, mib);
    let name = file.to_str().expect("a path");
    let start = Instant::now();
    let (_, sealing) = watched(&here, &["seal", "--archive", "main", name]);
    let (verdict, verifying) = watched(&here, &["verify", name]);
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    let (report, _) = watched(&here, &["archive", "revalidate"]);
    assert_eq!(report["damaged"].as_u64(), Some(0), "{report}");

    // A bit in its middle is found, and the original comes back.
    flip(&here.home().join("archive/documents/large.bin"), mib << 19);
    here.call(&["archive", "revalidate"]).must_end_with(1);
    here.call(&["archive", "restore", "large.bin"]).good();
    let verdict = here.call(&["archive", "verify", "large.bin"]).good();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    let after = memory(service, "VmHWM:").expect("a process");
    println!(
        "{mib} MiB in {:.1} s; seal {sealing} KiB, verify {verifying} KiB at most; services {before} KiB before, {after} KiB at most",
        start.elapsed().as_secs_f64()
    );
    for (who, most) in [("seal", sealing), ("verify", verifying)] {
        assert!(most < 128 * 1024, "{who} took {most} KiB");
    }
    assert!(
        after < before + 96 * 1024,
        "the services took {after} KiB, {before} KiB before"
    );
    up.terminate();
}

#[test]
fn an_archive_of_many_objects_takes_little_memory_for_each() {
    let objects = size_of("SEALWARDEN_ARCHIVE_OBJECTS", 1_500);
    let here = archived();
    let up = here.up();
    here.seal_eventually(&here.file("small", b"small"));
    let service = here.pid("verification");
    let folder = here.home().join("many");
    std::fs::create_dir(&folder).expect("a folder");
    let store = |numbers: std::ops::Range<u64>| {
        let names = numbers.map(|number| {
            let path = folder.join(format!("{number:06}.bin"));
            std::fs::write(&path, number.to_le_bytes()).expect("a document");
            format!("{}\n", path.display())
        });
        let names: String = names.collect();
        let list = here.file("list", names.as_bytes());
        watched(
            &here,
            &[
                "seal",
                "--archive",
                "main",
                "--from-list",
                list.to_str().expect("a path"),
            ],
        );
    };
    let revalidated = |count: u64| {
        let (report, _) = watched(&here, &["archive", "revalidate"]);
        assert_eq!(report["checked"].as_u64(), Some(count), "{report}");
        assert_eq!(report["damaged"].as_u64(), Some(0), "{report}");
        memory(service, "VmRSS:").expect("a process")
    };
    let few = objects / 5;
    let start = Instant::now();
    store(0..few);
    let small = revalidated(few);
    store(few..objects);
    let stored_s = start.elapsed().as_secs_f64();
    let whole = revalidated(objects);
    println!(
        "{objects} objects stored in {stored_s:.1} s and revalidated at {:.1} s; services {small} KiB with {few}, {whole} KiB with all",
        start.elapsed().as_secs_f64()
    );
    // The inventory and the index of requests are held in memory; a document is not.
    let each = whole.saturating_sub(small) * 1024 / (objects - few);
    assert!(each < 24 * 1024, "{each} bytes an object");
    // One among many is found.
    flip(
        &here
            .home()
            .join(format!("archive/documents/{:06}.bin", objects / 2)),
        3,
    );
    let found = here.call(&["archive", "revalidate"]).ends_with(1).json();
    assert_eq!(found["damaged"].as_u64(), Some(1), "{found}");
    eventually("it is quarantined", || {
        let status = here.call(&["archive", "status", "main"]).json();
        (status["archives"][0]["quarantined"] == 1).then_some(())
    });
    up.terminate();
}
