//! Silent corruption: documents of an archive are damaged on the disk in every way, found, told apart, quarantined, restored.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sealwarden_tests::Installation;
use sealwarden_tests::wait::eventually;
use serde_json::Value;

/// An installation with one archive, and documents in it.
struct Archived {
    here: Installation,
    documents: PathBuf,
}

impl Archived {
    /// `settings` stand behind those of the archive.
    fn prepare(settings: &str) -> Self {
        let here = Installation::new();
        std::fs::create_dir_all(here.data()).expect("the data folder");
        let text = format!(
            "verification:\n  archives:\n    - {{name: main, url: ../archive, backup: ../backup{settings}}}\n"
        );
        std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
        let documents = here.home().join("archive/documents");
        Self { here, documents }
    }

    /// Seals and stores documents of different sizes.
    fn store(&self, count: usize, bytes: usize) {
        let mut words: Vec<String> = ["seal", "--archive", "main"].map(str::to_owned).to_vec();
        for n in 0..count {
            let content: Vec<u8> = (0..bytes + n)
                .map(|at| u8::try_from((at * 7 + n) % 251).expect("a byte"))
                .collect();
            let file = self.here.file(&format!("{n:02}.bin"), &content);
            words.push(file.to_string_lossy().into_owned());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Asking again completes what another archive's opening or a permit kept from ending.
        eventually("documents are sealed and archived", || {
            (self.here.call(&words).code == 0).then_some(())
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.documents.join(name)
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).expect("a stored file");
        *bytes.get_mut(at).expect("a byte") ^= 1;
        std::fs::write(path, bytes).expect("a stored file");
    }

    fn swap(&self, a: &str, b: &str) {
        let aside = self.here.home().join("aside");
        std::fs::rename(self.path(a), &aside).expect("a stored file");
        std::fs::rename(self.path(b), self.path(a)).expect("a stored file");
        std::fs::rename(aside, self.path(b)).expect("a stored file");
    }

    /// Damages eleven documents and seals, each in its own way, puts one there that nobody stored, and changes the inventory.
    fn damage_everything(&self) {
        Self::flip(&self.path("00.bin"), 700);
        let half = std::fs::read(self.path("01.bin")).expect("a document");
        std::fs::write(self.path("01.bin"), half.get(..1_000).expect("a half"))
            .expect("a document");
        std::fs::remove_file(self.path("02.bin")).expect("a document");
        Self::flip(&self.path("03.bin.seal"), 60);
        std::fs::remove_file(self.path("04.bin.seal")).expect("a seal");
        self.swap("05.bin", "06.bin");
        self.swap("07.bin.seal", "08.bin.seal");
        std::fs::remove_file(self.path("09.bin")).expect("a document");
        std::fs::remove_file(self.path("09.bin.seal")).expect("a seal");
        std::fs::remove_file(self.path("10.bin")).expect("a document");
        std::os::unix::fs::symlink("11.bin", self.path("10.bin")).expect("a link");
        std::fs::write(self.path("stray.txt"), "stray").expect("a stray file");
        let page = self.here.home().join("archive/inventory/000000000001.json");
        Self::flip(&page, 9);
    }

    /// The report's damage: classes by object.
    fn report(&self) -> (Value, BTreeMap<String, BTreeSet<String>>) {
        let report = self.here.call(&["archive", "report"]).good();
        let mut by_object: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for damage in report["damage"].as_array().expect("damage") {
            let text = |field: &str| damage[field].as_str().expect("a text").to_owned();
            by_object
                .entry(text("object"))
                .or_default()
                .insert(text("class"));
        }
        (report, by_object)
    }

    fn verdict(&self, object: &str) -> String {
        let answer = self.here.call(&["archive", "verify", object]).json();
        answer["verdict"].as_str().expect("a verdict").to_owned()
    }

    /// Incidents about the archive.
    fn incidents(&self) -> usize {
        let list = self.here.call(&["incident", "list"]).good();
        let list = list["incidents"].as_array().expect("incidents").clone();
        list.iter()
            .filter(|i| i["subject"] == "archive main")
            .count()
    }
}

/// Each kind of damage has its own class.
fn told_apart(it: &Archived) {
    let (report, damage) = it.report();
    let classes = |object: &str| -> Vec<&str> {
        damage
            .get(object)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    };
    assert_eq!(classes("00.bin"), ["bytes-changed"], "{report}");
    assert_eq!(classes("01.bin"), ["truncated"]);
    assert_eq!(classes("02.bin"), ["missing"]);
    assert_eq!(classes("03.bin"), ["seal-damaged"]);
    assert_eq!(classes("04.bin"), ["seal-missing"]);
    assert_eq!(classes("05.bin"), ["document-swapped"]);
    assert_eq!(classes("06.bin"), ["document-swapped"]);
    assert_eq!(classes("07.bin"), ["seal-of-another-document"]);
    assert_eq!(classes("08.bin"), ["seal-of-another-document"]);
    assert_eq!(classes("09.bin"), ["missing", "seal-missing"]);
    assert_eq!(classes("10.bin"), ["unreadable"]);
    assert_eq!(classes("stray.txt"), ["unexpected"]);
    assert_eq!(
        classes("inventory/000000000001.json"),
        ["inventory-damaged"]
    );
    assert_eq!(damage.len(), 13, "{report}");
    let flipped = report["damage"]
        .as_array()
        .expect("damage")
        .iter()
        .find(|d| d["object"] == "00.bin");
    assert_eq!(flipped.expect("the flipped one")["first_difference"], 700);
}

#[test]
fn every_kind_of_damage_is_told_apart_and_restored_and_what_has_no_original_stays() {
    let it = Archived::prepare("");
    let up = it.here.up();
    it.store(20, 3_000);
    it.here.call(&["archive", "revalidate"]).must_end_with(0);
    let (clean, damage) = it.report();
    assert_eq!(
        (clean["checked"].as_u64(), damage.len()),
        (Some(20), 0),
        "{clean}"
    );
    assert_eq!(clean["format"], "sealwarden-archive-report/v1");

    it.damage_everything();
    it.here.call(&["archive", "revalidate"]).must_end_with(1);
    told_apart(&it);
    eventually("one incident is open", || {
        (it.incidents() == 1).then_some(())
    });
    assert_eq!(it.verdict("00.bin"), "quarantined");
    let mode = std::fs::metadata(it.path("00.bin"))
        .expect("the document")
        .permissions()
        .mode();
    assert_eq!(mode & 0o222, 0, "a quarantined document is read-only");
    assert_eq!(it.verdict("11.bin"), "valid");

    // What lies in the backup is damaged, too: nobody can give this document back.
    for entry in std::fs::read_dir(it.here.home().join("backup/versions/01.bin")).expect("versions")
    {
        let path = entry.expect("a version").path();
        if path.extension().is_none() {
            Archived::flip(&path, 5);
        }
    }
    let restored = it
        .here
        .call(&["archive", "restore", "--all"])
        .ends_with(1)
        .json();
    let outcomes: BTreeMap<String, String> = restored["objects"]
        .as_array()
        .expect("objects")
        .iter()
        .map(|o| {
            (
                o["object"].as_str().unwrap_or_default().to_owned(),
                o["outcome"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    assert_eq!(outcomes.len(), 11, "{restored}");
    assert!(
        outcomes
            .iter()
            .all(|(name, outcome)| (outcome == "restored") == (name != "01.bin")),
        "{restored}"
    );
    assert_eq!(it.verdict("01.bin"), "quarantined");
    assert_eq!(it.verdict("05.bin"), "valid");

    // Only what could not be restored is left; the stray file is said again, and it is still one incident.
    it.here.call(&["archive", "revalidate"]).must_end_with(1);
    let (again, damage) = it.report();
    assert_eq!(
        damage.keys().collect::<Vec<_>>(),
        ["01.bin", "stray.txt"],
        "{again}"
    );
    assert_eq!(again["new_damage"], 1, "{again}");
    assert_eq!(it.incidents(), 1);
    up.terminate();
}

#[test]
fn a_revalidation_goes_on_after_a_kill_and_ends_with_the_same_report() {
    // Slow enough to be killed in the middle: 1 MB at 300 kB a second.
    let it = Archived::prepare(", rate_limit_bytes_per_s: 300000, parallelism: 1");
    let up = it.here.up();
    it.store(100, 10_000);
    for n in [3, 40, 41, 77, 99] {
        Archived::flip(&it.path(&format!("{n:02}.bin")), 5);
    }
    it.here
        .call(&["archive", "revalidate", "--no-wait"])
        .must_end_with(0);
    let job = |it: &Archived| {
        it.here.call(&["archive", "status"]).json()["archives"][0]["revalidation"].clone()
    };
    eventually("it has begun to read", || {
        (job(&it)["checked"].as_u64()? >= 32).then_some(())
    });
    up.kill();

    let up = it.here.up();
    let resumed = eventually("it goes on", || {
        let now = job(&it);
        (now["checked"].as_u64()? > 0).then_some(now)
    });
    assert_eq!(resumed["job"], "main-1", "{resumed}");
    assert!(
        resumed["checked"].as_u64() >= Some(32),
        "it begins where it stopped: {resumed}"
    );
    eventually("it ends", || {
        (job(&it)["state"] == "completed").then_some(())
    });
    let (report, damage) = it.report();
    assert_eq!(report["checked"], 100, "{report}");
    assert_eq!(
        damage.keys().collect::<Vec<_>>(),
        ["03.bin", "40.bin", "41.bin", "77.bin", "99.bin"]
    );
    assert_eq!(report["damaged"], 5, "nothing is found twice: {report}");
    assert_eq!(report["new_damage"], 5, "{report}");
    up.terminate();
}

#[test]
fn names_are_kept_apart_and_refusals_say_what_to_do() {
    let it = Archived::prepare(", every_h: 0");
    let up = it.here.up();
    it.store(2, 100);
    let again = it.here.file(
        "again/00.bin".split('/').next_back().unwrap_or_default(),
        b"another document",
    );
    let name = again.to_string_lossy().into_owned();
    let refused = it
        .here
        .call(&["seal", "--force", "--archive", "main", &name])
        .ends_with(4);
    assert!(
        refused.stdout.contains("--archive-replace") || refused.stdout.contains("replace"),
        "{refused}"
    );
    it.here
        .call(&["seal", "--archive", "main", "--archive-replace", &name])
        .must_end_with(0);
    assert_eq!(it.verdict("00.bin"), "valid");
    assert_eq!(
        std::fs::read(it.path("00.bin")).expect("the document"),
        b"another document"
    );
    it.here
        .call(&[
            "seal",
            "--archive",
            "main",
            "--archive-prefix",
            "../",
            &name,
        ])
        .must_end_with(2);
    it.here
        .call(&["archive", "verify", "nothing"])
        .must_end_with(2);
    it.here
        .call(&["archive", "status", "other"])
        .must_end_with(2);
    it.here.call(&["archive", "pause"]).must_end_with(4);
    it.here
        .call(&[
            "archive",
            "quarantine",
            "01.bin",
            "--reason",
            "asked by legal",
        ])
        .must_end_with(0);
    assert_eq!(it.verdict("01.bin"), "quarantined");
    let released = it.here.call(&["archive", "restore", "01.bin"]).good();
    assert_eq!(released["objects"][0]["outcome"], "released", "{released}");
    assert_eq!(it.verdict("01.bin"), "valid");
    up.terminate();
}
