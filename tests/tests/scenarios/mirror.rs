//! A log is handed over: mirrored from the running services, served and verified without them, and a source that lies is refused.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sealwarden_tests::binary::Answer;
use sealwarden_tests::{Installation, flips, sealwarden};

/// What the other operator has: a home of his own, and the trust bundle.
struct Other {
    home: tempfile::TempDir,
    trust: PathBuf,
}

impl Other {
    fn run(&self, arguments: &[&str]) -> Answer {
        sealwarden(self.home.path(), arguments)
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn mirror(&self, from: &str) -> Answer {
        let (dest, trust) = (self.path("copy/main/1"), self.trust.display().to_string());
        self.run(&[
            "log", "mirror", &dest, "--from", from, "--trust", &trust, "--json",
        ])
    }
}

/// `log serve` of a folder, ended when it is dropped.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn of(dir: &str) -> Self {
        let mut child = Command::new(sealwarden_tests::binary::path())
            .args(["log", "serve", dir, "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let out = child.stdout.take().expect("its output");
        // It tells its address when it listens.
        let mut lines = BufReader::new(out).lines();
        let mut document = String::new();
        while serde_json::from_str::<serde_json::Value>(&document).is_err() {
            document += &lines.next().expect("it says where it is").expect("text");
        }
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        let url = document["url"].as_str().expect("an address").to_owned();
        Self { child, url }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().expect("the server ends");
        self.child.wait().expect("the server ended");
    }
}

/// Copies a folder as a snapshot of the disk would: with its permissions.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp runs").success());
}

/// Where the sealing service serves its log now.
fn tiles(here: &Installation) -> String {
    format!("{}/main/1", here.address("sealing", "http"))
}

#[test]
fn a_log_is_handed_over_and_verified_without_its_operator() {
    let here = Installation::new();
    let up = here.up();
    let first = here.file("first", b"the first document");
    let seal = here.seal(&first);
    let other = Other {
        home: tempfile::tempdir().expect("a temporary folder"),
        trust: here.trust("trust.json"),
    };

    // Twice from the running services: the second time only what is new.
    let report = other.mirror(&tiles(&here)).good();
    assert_eq!(report["mirrored"][0]["size"], 1, "{report}");
    for number in 0..4 {
        here.seal(&here.file(&format!("more-{number}"), &[number]));
    }
    let report = other.mirror(&tiles(&here)).good();
    assert_eq!(report["mirrored"][0]["old_size"], 1, "{report}");
    assert_eq!(report["mirrored"][0]["size"], 5, "{report}");
    up.terminate();

    // The operator is gone. What is left proves the first document, in the tree of five leaves.
    let (dest, trust) = (other.path("copy/main/1"), other.trust.display().to_string());
    let audit = other
        .run(&["log", "check", &dest, "--trust", &trust, "--json"])
        .good();
    assert_eq!(audit["logs"][0]["mirror"], true, "{audit}");
    let anew = other.path("first.seal");
    let old = seal.display().to_string();
    let proven = other
        .run(&[
            "log", "prove", &dest, "--seal", &old, "--out", &anew, "--json",
        ])
        .good();
    assert_eq!(proven["size"], 5, "{proven}");
    let bundle = format!("{dest}/trust.json");
    let document = first.display().to_string();
    let verdict = other
        .run(&[
            "verify", &document, "--seal", &anew, "--trust", &bundle, "--json",
        ])
        .good();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");

    // A third operator takes it from the second, without any of our services.
    let served = Served::of(&dest);
    let third = other.path("third");
    let report = other
        .run(&[
            "log",
            "mirror",
            &third,
            "--from",
            &served.url,
            "--trust",
            &bundle,
            "--json",
        ])
        .good();
    assert_eq!(report["mirrored"][0]["size"], 5, "{report}");
    other.run(&["log", "check", &third, "--json"]).good();
    drop(served);
    other
        .run(&[
            "log",
            "mirror",
            &third,
            "--from",
            "http://127.0.0.1:1/main/1",
            "--json",
        ])
        .must_end_with(3);
    refuses_a_changed_tile(&other, &dest);
}

fn refuses_a_changed_tile(other: &Other, dest: &str) {
    let lying = other.home.path().join("lying");
    copy(Path::new(dest), &lying);
    let tile = lying.join("tile/0/000.p/5");
    let mut bytes = std::fs::read(&tile).expect("a tile");
    bytes[7] ^= 1;
    std::fs::write(&tile, bytes).expect("a changed tile");
    let (from, fresh) = (lying.display().to_string(), other.path("fresh"));
    let bundle = format!("{dest}/trust.json");
    let arguments = [
        "log", "mirror", &fresh, "--from", &from, "--trust", &bundle, "--json",
    ];
    let refused = other.run(&arguments).ends_with(4);
    let reason = refused.json()["error"].to_string();
    assert!(
        reason.contains("tile/0/000.p/5") && reason.contains("tampered"),
        "{reason}"
    );
    assert!(!Path::new(&fresh).join("checkpoint").exists());
}

/// An installation that is put back from a copy of its disk signs another history with the same key.
#[test]
fn another_history_of_a_log_is_refused_with_evidence() {
    let here = Installation::new();
    let up = here.up();
    here.seal(&here.file("first", b"first"));
    let other = Other {
        home: tempfile::tempdir().expect("a temporary folder"),
        trust: here.trust("trust.json"),
    };
    up.terminate();
    let snapshot = here.home().join("snapshot");
    copy(&here.data(), &snapshot);

    let up = here.up();
    here.seal(&here.file("second", b"second"));
    other.mirror(&tiles(&here)).good();
    up.terminate();
    std::fs::remove_dir_all(here.data()).expect("the data go");
    std::fs::rename(&snapshot, here.data()).expect("the copy comes back");

    let up = here.up();
    for number in 0..3 {
        here.seal(&here.file(&format!("other-{number}"), &[number]));
    }
    let refused = other.mirror(&tiles(&here)).ends_with(4);
    let reason = refused.json()["error"].to_string();
    assert!(
        reason.contains("forked") && reason.contains("at size 2"),
        "{reason}"
    );
    up.terminate();
    let dest = other.home.path().join("copy/main/1");
    let kept: Vec<_> = std::fs::read_dir(dest.join("evidence"))
        .expect("evidence is kept")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let [fork] = kept.as_slice() else {
        panic!("one fork is kept: {kept:?}");
    };
    for (file, size) in [("mirrored-checkpoint", "2"), ("offered-checkpoint", "4")] {
        let note = std::fs::read_to_string(fork.join(file)).expect("a checkpoint");
        assert_eq!(note.lines().nth(1), Some(size), "{note}");
    }
    // The mirror is what it was.
    let (dest, trust) = (
        dest.display().to_string(),
        other.trust.display().to_string(),
    );
    let audit = other
        .run(&["log", "check", &dest, "--trust", &trust, "--json"])
        .good();
    assert_eq!(audit["logs"][0]["size"], 2, "{audit}");
    // The kept proof is audited, too: it holds, and no byte of it can be changed unseen.
    assert_eq!(audit["logs"][0]["forks"][0]["size"], 2, "{audit}");
    let check = || other.run(&["log", "check", &dest, "--trust", &trust, "--json"]);
    for file in ["mirrored-checkpoint", "offered-checkpoint", "difference"] {
        flips::are_found(&fork.join(file), check);
    }
    std::fs::remove_file(fork.join("difference")).expect("a part of the proof goes");
    let found = check().ends_with(1).json();
    let named = found["first_damage"]["file"].as_str().expect("a file");
    assert!(named.ends_with("/difference"), "{found}");
}
