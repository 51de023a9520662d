//! One way: `wire` (leaf) <- `core` <- `engine` <- `services` <- `tests`; leaves know no domain.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on inside this workspace, names without `sealwarden-`. A crate that is not here has no place yet: give it one.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("eventlog", &[]),
    ("keys", &[]),
    ("telemetry", &[]),
    ("pki", &["keys"]),
    ("anchors", &["seal"]),
    ("client", &["wire", "seal", "pki"]),
    ("archive", &["seal"]),
    ("channels", &["anchors", "keys"]),
    ("seal", &[]),
    ("runbook", &[]),
    ("cacao", &["runbook"]),
    ("domain", &["wire", "seal", "runbook"]),
    ("seallog", &["seal"]),
    (
        "engine",
        &[
            "wire",
            "seal",
            "runbook",
            "domain",
            "eventlog",
            "keys",
            "telemetry",
            "pki",
        ],
    ),
    ("sealing", SERVICE),
    ("verification", SERVICE),
    ("detection", SERVICE),
    ("runbook-executor", SERVICE),
    ("sealwarden", BINARY),
    ("tests", TESTS),
];

/// A service knows everything below it and no other service.
const SERVICE: &[&str] = &[
    "anchors",
    "channels",
    "archive",
    "wire",
    "seal",
    "runbook",
    "domain",
    "seallog",
    "engine",
    "eventlog",
    "keys",
    "telemetry",
    "pki",
];

const BINARY: &[&str] = &[
    "anchors",
    "channels",
    "client",
    "archive",
    "wire",
    "seal",
    "runbook",
    "cacao",
    "domain",
    "seallog",
    "engine",
    "eventlog",
    "keys",
    "telemetry",
    "pki",
    "sealing",
    "verification",
    "detection",
    "runbook-executor",
];

/// Tests look at the product from outside: through the binary, the wire and the formats.
const TESTS: &[&str] = &[
    "wire", "seal", "client", "domain", "eventlog", "keys", "pki", "seallog",
];

/// What would let a clock, a file, the network or chance into the pure core.
const IMPURE: &[&str] = &[
    "async-nats",
    "axum",
    "fastrand",
    "getrandom",
    "rand",
    "reqwest",
    "rustix",
    "sled",
    "tempfile",
    "tokio",
    "tonic",
    "uuid",
];

struct Package {
    folder: String,
    uses: BTreeSet<String>,
    uses_in_tests: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--locked",
        ])
        .current_dir(super::source::root())
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output.stdout,
        other => panic!("cargo metadata does not work: {other:?}"),
    };
    let metadata: Value =
        serde_json::from_slice(&output).unwrap_or_else(|e| panic!("cargo metadata: {e}"));
    let list = metadata["packages"].as_array().cloned().unwrap_or_default();
    list.iter().map(package).collect()
}

fn package(package: &Value) -> (String, Package) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = short(&text(&package["name"]));
    let (mut uses, mut uses_in_tests) = (BTreeSet::new(), BTreeSet::new());
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let other = short(&text(&dependency["name"]));
        if other == name {
            continue; // its own tests turn a feature of it on
        }
        if dependency["kind"].as_str() == Some("dev") {
            uses_in_tests.insert(other)
        } else {
            uses.insert(other)
        };
    }
    let folder = text(&package["manifest_path"]).replace("/Cargo.toml", "");
    (
        name,
        Package {
            folder,
            uses,
            uses_in_tests,
        },
    )
}

fn short(name: &str) -> String {
    name.strip_prefix("sealwarden-").unwrap_or(name).to_owned()
}

#[test]
fn crates_depend_one_way() {
    let packages = packages();
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        let Some(allowed) = rules.get(name.as_str()) else {
            wrong.push(format!("crate {name} has no place in the layers"));
            continue;
        };
        // Only the tests crate is made of tests; what it uses it uses in any form.
        let in_tests = package.uses_in_tests.iter().filter(|_| name == "tests");
        for other in package
            .uses
            .iter()
            .chain(in_tests)
            .filter(|other| packages.contains_key(*other))
        {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{name} must not depend on {other}"));
            }
        }
        if package.uses.contains("tests") || package.uses_in_tests.contains("tests") {
            wrong.push(format!("{name} depends on the tests"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        packages.len(),
        rules.len(),
        "a crate named in the rules does not exist"
    );
}

#[test]
fn the_core_can_reach_no_clock_file_network_or_chance() {
    let packages = packages();
    let core: Vec<_> = packages
        .iter()
        .filter(|(_, p)| p.folder.contains("/crates/core/"))
        .collect();
    assert!(
        core.len() >= 3,
        "the core has at least seal, runbook and domain"
    );
    for (name, package) in core {
        let impure: Vec<_> = package
            .uses
            .iter()
            .filter(|u| IMPURE.contains(&u.as_str()))
            .collect();
        assert!(impure.is_empty(), "{name} depends on {impure:?}");
    }
}

#[test]
fn crates_have_names_that_say_something() {
    for (name, package) in packages() {
        let folder = package
            .folder
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        for word in [name, folder] {
            assert!(
                !super::style::SAYS_NOTHING.contains(&word.as_str()),
                "a crate is called {word}"
            );
        }
    }
}
