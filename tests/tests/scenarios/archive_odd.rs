//! Damage that nobody thought of: what stands in a document's or a seal's place is a folder, a pipe, a link, another's, far too large, or has a strange name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use sealwarden_tests::Installation;
use sealwarden_tests::wait::eventually;
use serde_json::Value;

const NAMES: [&str; 16] = [
    "appended",
    "emptied",
    "folder",
    "full-folder",
    "pipe",
    "linked",
    "Cased",
    "hard-linked",
    "same-inode",
    "huge-seal",
    "seal-folder",
    "other-seal",
    "both-damaged",
    "older-version",
    "Rechnung März 2026 \u{1f512}",
    "deep/er/file",
];

struct Odd {
    here: Installation,
    archive: PathBuf,
}

impl Odd {
    fn document(&self, name: &str) -> PathBuf {
        self.archive.join("documents").join(name)
    }

    fn seal(&self, name: &str) -> PathBuf {
        self.document(&format!("{name}.seal"))
    }

    /// Seals and stores a document of each name, and one of the longest name that there may be.
    fn store(&self) {
        let long = "x".repeat(200);
        for name in NAMES.iter().copied().chain([long.as_str()]) {
            let (folder, last) = name.split_at(name.rfind('/').map_or(0, |at| at + 1));
            let file = self
                .here
                .file(last, format!("the document {name}").repeat(40).as_bytes());
            let file = file.to_string_lossy().into_owned();
            let mut words = vec!["seal", "--archive", "main", &file];
            if !folder.is_empty() {
                words.extend(["--archive-prefix", folder]);
            }
            eventually("a document is archived", || {
                (self.here.call(&words).code == 0).then_some(())
            });
        }
    }

    fn damage(&self) {
        let write = |path: PathBuf, bytes: &[u8]| std::fs::write(path, bytes).expect("a file");
        let remove = |path: PathBuf| std::fs::remove_file(path).expect("a file");
        let read = |path: PathBuf| std::fs::read(path).expect("a file");
        let mut longer = read(self.document("appended"));
        longer.push(b'!');
        write(self.document("appended"), &longer);
        write(self.document("emptied"), b"");
        for name in ["folder", "full-folder"] {
            remove(self.document(name));
            std::fs::create_dir(self.document(name)).expect("a folder");
        }
        write(self.document("full-folder/inside"), b"inside");
        remove(self.document("pipe"));
        let made = Command::new("mkfifo").arg(self.document("pipe")).status();
        assert!(made.expect("mkfifo runs").success());
        // A link to the very same bytes is damage as well: they are not where they were stored.
        std::fs::rename(self.document("linked"), self.archive.join("moved")).expect("a move");
        symlink("../moved", self.document("linked")).expect("a link");
        std::fs::rename(self.document("Cased"), self.document("cased")).expect("a move");
        remove(self.document("hard-linked"));
        std::fs::hard_link(self.document("same-inode"), self.document("hard-linked"))
            .expect("a hard link");
        let huge = std::fs::File::create(self.seal("huge-seal")).expect("a seal");
        huge.set_len(5 << 30).expect("a sparse file");
        remove(self.seal("seal-folder"));
        std::fs::create_dir(self.seal("seal-folder")).expect("a folder");
        write(self.seal("other-seal"), &read(self.seal("both-damaged")));
        write(
            self.document("both-damaged"),
            b"something else".repeat(200).as_slice(),
        );
        for version in std::fs::read_dir(self.here.home().join("backup/versions/both-damaged"))
            .expect("versions")
        {
            write(version.expect("a version").path(), b"damaged, too");
        }
        remove(self.document("older-version"));
        let versions = self.here.home().join("backup/versions/older-version");
        for version in std::fs::read_dir(versions).expect("versions") {
            let path = version.expect("a version").path();
            if path.extension().is_none() {
                write(path, &read(self.document("appended")));
            }
        }
        remove(self.document("Rechnung März 2026 \u{1f512}"));
        std::fs::remove_dir_all(self.document("deep")).expect("a folder");
        write(self.document("deep"), b"a file where a folder was");
        write(self.document("line\nbreak"), b"x");
        write(
            self.document("x")
                .with_file_name(OsStr::from_bytes(b"no-text-\xff")),
            b"x",
        );
        symlink(".", self.document("loop")).expect("a link to its own folder");
    }
}

/// Every object of the report with its classes.
fn classes(report: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut by_object: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for damage in report["damage"].as_array().expect("damage") {
        let text = |field: &str| damage[field].as_str().expect("a text").to_owned();
        by_object
            .entry(text("object"))
            .or_default()
            .insert(text("class"));
    }
    by_object
}

fn outcomes(restored: &Value) -> BTreeMap<String, String> {
    let objects = restored["objects"].as_array().expect("objects").iter();
    let text = |one: &Value, field: &str| one[field].as_str().expect("a text").to_owned();
    objects
        .map(|one| (text(one, "object"), text(one, "outcome")))
        .collect()
}

#[test]
fn odd_damage_has_the_right_word_and_is_repaired_where_there_is_an_original() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let settings = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("the settings");
    let archive = here.home().join("archive");
    let it = Odd { here, archive };
    let up = it.here.up();
    it.store();
    it.here.call(&["archive", "revalidate"]).must_end_with(0);
    it.damage();
    it.here.call(&["archive", "revalidate"]).must_end_with(1);
    let report = it.here.call(&["archive", "report"]).good();
    let found = classes(&report);
    let expected: &[(&str, &[&str])] = &[
        ("appended", &["bytes-changed"]),
        ("emptied", &["truncated"]),
        ("folder", &["unreadable"]),
        ("full-folder", &["unreadable"]),
        ("full-folder/inside", &["unexpected"]),
        ("pipe", &["unreadable"]),
        ("linked", &["unreadable"]),
        ("Cased", &["missing"]),
        ("cased", &["unexpected"]),
        ("hard-linked", &["document-swapped"]),
        ("huge-seal", &["seal-damaged"]),
        ("seal-folder", &["unreadable"]),
        ("other-seal", &["seal-of-another-document"]),
        ("both-damaged", &["bytes-changed"]),
        ("older-version", &["missing"]),
        ("Rechnung März 2026 \u{1f512}", &["missing"]),
        ("deep/er/file", &["missing", "seal-missing"]),
        ("deep", &["unexpected"]),
        ("line\nbreak", &["unexpected"]),
        ("no-text-\u{fffd}", &["unexpected"]),
        ("loop", &["unexpected"]),
    ];
    let expected = expected.iter().map(|(name, classes)| {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        ((*name).to_owned(), classes)
    });
    assert_eq!(found, expected.collect(), "{report:#}");

    let answer = it.here.call(&["archive", "restore", "--all"]).ends_with(1);
    let restored = outcomes(&answer.json());
    for (name, outcome) in &restored {
        let lost = ["both-damaged", "older-version"].contains(&name.as_str());
        assert_eq!(outcome == "not-restored", lost, "{name}: {answer}");
    }
    assert_eq!(restored.len(), 15, "{answer}");
    // What stood in the way was moved aside, not removed.
    let aside = std::fs::read_dir(it.archive.join("displaced")).expect("what was displaced");
    let aside: Vec<PathBuf> = aside.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(aside.len(), 7, "{aside:?}");
    assert!(
        aside.iter().any(|path| path.join("inside").exists()),
        "{aside:?}"
    );
    let again = it.here.call(&["archive", "verify", "full-folder"]).good();
    assert_eq!(again["verdict"], "valid", "{again}");
    for name in ["cased", "line\nbreak", "loop"] {
        std::fs::remove_file(it.document(name)).expect("a stray file");
    }
    std::fs::remove_file(
        it.document("x")
            .with_file_name(OsStr::from_bytes(b"no-text-\xff")),
    )
    .expect("a stray file");
    it.here.call(&["archive", "revalidate"]).must_end_with(1);
    let left = classes(&it.here.call(&["archive", "report"]).good());
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        ["both-damaged", "older-version"]
    );
    up.terminate();
}

#[test]
fn names_that_no_store_could_keep_are_refused_before_anything_is_written() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let settings = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("the settings");
    let up = here.up();
    for name in [
        "line\nbreak",
        &"x".repeat(201),
        "back\\slash",
        "hash#1",
        "@at",
        "ends.seal",
    ] {
        let file = here.file(name, b"x").to_string_lossy().into_owned();
        let refused = here.call(&["seal", "--archive", "main", &file]);
        assert_eq!(refused.code, 2, "{name:?}: {refused}");
    }
    assert!(!here.home().join("archive/documents").exists());
    up.terminate();
}
