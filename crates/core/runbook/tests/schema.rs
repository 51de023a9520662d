//! The schemas for editors: as generated, true of what ships, and false of mistakes.
//! `SEALWARDEN_WRITE_GOLDEN=1` writes the files anew.

use std::path::{Path, PathBuf};

use sealwarden_runbook::schemas;
use serde_json::Value;

/// Their keys are the plan's own words (regimes, calendars, vendors), and they have no schema.
const OWN_WORDS: [&str; 2] = ["regimes.yaml", "vendors.yaml"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../runbooks")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test may read the files that it is about"
)]
#[expect(clippy::unwrap_used, reason = "it fails where it cannot")]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test may list the files that it is about"
)]
#[expect(clippy::unwrap_used, reason = "it fails where it cannot")]
fn shipped() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let files = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .filter(|path| !OWN_WORDS.iter().any(|file| path.ends_with(file)));
    files
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                read(&path),
            )
        })
        .collect()
}

/// The place in [`schemas`] of the schema of a file.
fn kind(file: &str) -> usize {
    match file {
        "plan.yaml" => 1,
        "roster.yaml" => 2,
        "detectors.yaml" => 3,
        _ => 0,
    }
}

#[expect(clippy::unwrap_used, reason = "it fails where it cannot")]
fn errors(kind: usize, text: &str) -> Vec<String> {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    let schema = jsonschema::draft7::new(&schemas()[kind].value).unwrap();
    schema
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test may write the files that it is about"
)]
fn the_files_are_those_that_are_generated() {
    for schema in schemas() {
        let path = folder().join("schema").join(schema.file);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema.value).unwrap());
        if std::env::var_os("SEALWARDEN_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            path.is_file() && read(&path) == text,
            "{} is stale; SEALWARDEN_WRITE_GOLDEN=1 writes it anew",
            schema.file
        );
        assert!(
            jsonschema::draft7::meta::is_valid(&schema.value),
            "{}",
            schema.file
        );
    }
}

#[test]
fn what_ships_is_valid_and_names_its_schema() {
    let files = shipped();
    assert!(files.len() >= 3);
    for (file, text) in files {
        let schema = schemas()[kind(&file)].file;
        assert_eq!(
            text.lines().next(),
            Some(format!("# yaml-language-server: $schema=schema/{schema}").as_str()),
            "{file}"
        );
        assert_eq!(errors(kind(&file), &text), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn mistakes_are_told() {
    let files = shipped();
    let cases = [
        (
            "key-compromise.yaml",
            "runbook: key-compromise",
            "runbook: Key_Compromise",
        ),
        ("key-compromise.yaml", "version: 1", "version: one"),
        ("key-compromise.yaml", "class: key-compromise\n", ""),
        (
            "key-compromise.yaml",
            "action: isolate-key",
            "action: isolate-keys",
        ),
        (
            "key-compromise.yaml",
            "needs: [snapshot]",
            "needs: snapshot",
        ),
        (
            "key-compromise.yaml",
            "needs: [snapshot]",
            "nedds: [snapshot]",
        ),
        ("key-compromise.yaml", "timeout: 4h", "timeout: 4 hours"),
        (
            "key-compromise.yaml",
            "{attempts: 3, backoff: 1s}",
            "{attempts: 0, backoff: 1s}",
        ),
        (
            "key-compromise.yaml",
            "quorum: {legal-counsel: 1, communications-lead: 1}",
            "quorum: {}",
        ),
        (
            "key-compromise.yaml",
            "      into: ${steps.rotate.origin}\n",
            "",
        ),
        (
            "key-compromise.yaml",
            "      into: ${steps.rotate.origin}\n",
            "      into: x\n      onto: y\n",
        ),
        (
            "key-compromise.yaml",
            "    manual:\n      instructions: >-",
            "    manual:\n      instruction: >-",
        ),
        ("plan.yaml", "severity: critical", "severity: huge"),
        ("plan.yaml", "  open: {", "  opens: {"),
        ("plan.yaml", "hold: 15m", "hold: 15"),
        ("roster.yaml", "roles: [on-call-sre]", "roles: on-call-sre"),
        ("roster.yaml", "id: mara.lindqvist", "id: Mara Lindqvist"),
        ("roster.yaml", "    keys: []\n", ""),
        ("detectors.yaml", "kind: rate", "kind: rates"),
        (
            "detectors.yaml",
            "measure: publish-ms",
            "measure: publish-s",
        ),
        ("detectors.yaml", "    within: 2m\n", ""),
        ("detectors.yaml", "    samples: 3\n", "    sample: 3\n"),
    ];
    for (file, from, to) in cases {
        let (_, text) = files.iter().find(|(name, _)| name == file).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        let found = errors(kind(file), &text.replacen(from, to, 1));
        assert!(!found.is_empty(), "{file}: {from} -> {to}");
    }
}
