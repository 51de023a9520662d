//! The stored commits and what they must be read as.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sealwarden_wire::event::v1::Commit;

use super::sample::Vocabulary;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/events/v1")
}

/// A stored commit: `<kind>.<n>.hex`, and beside it `<kind>.<n>.txt`, what it says.
struct Golden {
    bytes: Vec<u8>,
    text: String,
}

/// All stored commits, by kind and number.
fn stored() -> BTreeMap<(String, u32), Golden> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap_or_else(|e| panic!("{}: {e}", folder().display())) {
        let path = entry.unwrap_or_else(|e| panic!("{e}")).path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(stem) = name.strip_suffix(".hex") else {
            continue;
        };
        let (kind, number) = stem
            .split_once('.')
            .unwrap_or_else(|| panic!("{name} is not <kind>.<n>.hex"));
        let number = number
            .parse()
            .unwrap_or_else(|e| panic!("{name} is not <kind>.<n>.hex: {e}"));
        let hex: String = read(&path).split_whitespace().collect();
        let bytes = hex::decode(hex).unwrap_or_else(|e| panic!("{name}: {e}"));
        found.insert(
            (kind.to_owned(), number),
            Golden {
                bytes,
                text: read(&path.with_extension("txt")),
            },
        );
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn decoded(bytes: &[u8]) -> Commit {
    Commit::decode(bytes).unwrap_or_else(|e| panic!("a stored commit does not decode: {e}"))
}

/// Whether all lines of `old` stand in `new`, in their order: a field that was added since stands between them.
fn says_all_of(new: &str, old: &str) -> bool {
    let mut lines = new.lines();
    old.lines().all(|line| lines.any(|other| other == line))
}

#[test]
fn what_was_stored_is_read_with_the_same_meaning() {
    for ((kind, number), golden) in stored() {
        let commit = decoded(&golden.bytes);
        let text = format!("{commit:#?}\n");
        assert!(
            says_all_of(&text, &golden.text),
            "{kind}.{number} is read as something else now:\n{text}"
        );
        // Nothing of it was passed over: what is read is written back to the same bytes.
        assert_eq!(
            commit.encode_to_vec(),
            golden.bytes,
            "{kind}.{number} loses something when it is read"
        );
    }
}

#[test]
fn each_kind_of_event_and_each_field_is_stored_for_later_versions() {
    let vocabulary = Vocabulary::of_today();
    let stored = stored();
    let write = std::env::var_os("SEALWARDEN_WRITE_GOLDEN").is_some();
    for (kind, field) in vocabulary.kinds() {
        let sample = vocabulary.commit(&field);
        let newest = stored.iter().rfind(|((k, _), _)| *k == kind);
        if newest.is_some_and(|(_, golden)| golden.bytes == sample) {
            continue;
        }
        assert!(
            write,
            "{kind} has a field that no stored commit has; tests/golden/README.md says how to add one"
        );
        let number = newest.map_or(1, |((_, number), _)| number + 1);
        store(&kind, number, &sample);
    }
}

/// Only ever adds files.
fn store(kind: &str, number: u32, bytes: &[u8]) {
    let hex: Vec<String> = bytes.chunks(40).map(hex::encode).collect();
    let text = format!("{:#?}\n", decoded(bytes));
    for (ending, content) in [("hex", hex.join("\n") + "\n"), ("txt", text)] {
        let path = folder().join(format!("{kind}.{number}.{ending}"));
        let file = fs::File::create_new(&path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, content.as_bytes()));
        file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn kinds_that_went_away_are_still_read() {
    let kinds: Vec<String> = Vocabulary::of_today()
        .kinds()
        .into_iter()
        .map(|(kind, _)| kind)
        .collect();
    for (kind, _) in stored().into_keys() {
        assert!(
            kinds.contains(&kind),
            "{kind} was stored once, so it stays in Event.kind"
        );
    }
}

#[test]
fn a_kind_of_a_later_version_is_passed_over_and_the_rest_is_read() {
    let Some(golden) = stored().remove(&("origin_opened".to_owned(), 1)) else {
        panic!("origin_opened.1 is missing")
    };
    // A second event of kind 4095, which nobody knows yet: tag, length, nothing inside.
    let mut bytes = golden.bytes;
    bytes.extend([0x12, 0x04, 0xfa, 0xff, 0x01, 0x00]);
    let commit = decoded(&bytes);
    assert_eq!(commit.events.len(), 2);
    assert!(
        commit
            .events
            .first()
            .is_some_and(|event| event.kind.is_some())
    );
    assert!(
        commit
            .events
            .last()
            .is_some_and(|event| event.kind.is_none())
    );
}
