//! The plan that ships with the product is sound, and stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sealwarden_runbook::{
    Action, DirectiveKind, PlanSet, Reference, Step, draw_mermaid, draw_text,
};

#[expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may read the files that it is about, and fails where it cannot"
)]
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../runbooks");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.push((name, std::fs::read_to_string(path).unwrap()));
    }
    files
}

fn shipped() -> PlanSet {
    PlanSet::load(&files()).unwrap_or_else(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

#[test]
fn it_loads_and_only_the_missing_keys_are_worth_a_word() {
    let codes: Vec<&str> = shipped()
        .check()
        .iter()
        .map(|finding| finding.code)
        .collect();
    assert_eq!(codes, ["roster-without-keys"]);
}

#[test]
fn the_key_compromise_runbook_contains_before_it_recovers() {
    let set = shipped();
    let runbook = set.runbook_for("key-compromise").unwrap();
    let order: Vec<&str> = runbook
        .order()
        .iter()
        .map(|step| step.id.as_str())
        .collect();
    assert_eq!(
        order,
        [
            "snapshot",
            "read-only",
            "isolate",
            "find-affected",
            "rotate",
            "publish-trust",
            "reseal",
            "confirm",
            "reverify",
            "resume",
            "final-snapshot",
            "close"
        ]
    );
    let first: Vec<&str> = runbook
        .ready(&BTreeSet::new())
        .iter()
        .map(|step| step.id.as_str())
        .collect();
    assert_eq!(first, ["snapshot", "read-only"]);
    assert!(
        runbook
            .ancestors("rotate")
            .is_superset(&["isolate", "read-only", "snapshot"].into())
    );
    assert!(runbook.ancestors("close").len() == runbook.steps().len() - 1);
    assert_eq!(runbook.dependents("rotate"), ["publish-trust"].into());
}

#[test]
fn its_inputs_resolve_from_the_incident_and_from_earlier_steps() {
    let set = shipped();
    let runbook = set.runbook("key-compromise").unwrap();
    let reseal = runbook.step("reseal").unwrap();
    let lookup = |reference: &Reference| match reference {
        Reference::Incident(field) => Some(match field.as_str() {
            "compromised_since" => "2026-11-02T03:00:00Z".to_owned(),
            other => format!("the {other}"),
        }),
        Reference::Plan(field) => Some(set.plan().field(*field)),
        Reference::Step { step, output } => Some(format!("{output} of {step}")),
    };
    let inputs = reseal.resolve(&lookup).unwrap();
    assert_eq!(inputs.get("into"), Some("origin of rotate"));
    assert_eq!(
        inputs.canonical_text(),
        "sealwarden-inputs/v1\ncompromised-since \"2026-11-02T03:00:00Z\"\ninto \"origin of rotate\"\n\
         log \"the log\"\norigin \"the origin\"\n"
    );
    let waiting = reseal.resolve(&|reference| {
        if matches!(reference, Reference::Step { .. }) {
            None
        } else {
            lookup(reference)
        }
    });
    assert_eq!(
        waiting.unwrap_err().to_string(),
        "input `into` waits for ${steps.rotate.origin}"
    );
    assert!(
        reseal.resolve(&|_| Some("now".to_owned())).is_err(),
        "a time must be a time"
    );
    let confirm = runbook.step("confirm").unwrap();
    assert!(confirm.instructions().is_some());
    assert!(
        confirm
            .resolve(&lookup)
            .unwrap()
            .get("instructions")
            .unwrap()
            .contains("reported of")
    );
}

#[test]
fn nodes_demand_a_quorum_for_every_directive() {
    let set = shipped();
    for kind in DirectiveKind::ALL {
        let demanded = set.plan().containment(kind).unwrap();
        assert!(demanded.people() >= 2);
        let runbook = set.runbook("key-compromise").unwrap();
        let mut steps = runbook.steps().iter();
        if let Some(step) = steps.find(|step| step.directive() == Some(kind)) {
            let quorum = &step.approval.as_ref().unwrap().quorum;
            assert!(quorum.covers(demanded), "{kind}");
        }
    }
}

#[test]
fn it_can_be_drawn_in_80_columns_and_as_a_flow_chart() {
    let set = shipped();
    let runbook = set.runbook("key-compromise").unwrap();
    let text = draw_text(runbook);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    for step in runbook.steps() {
        assert!(
            text.contains(&step.id) && text.contains(step.action.name()),
            "{text}"
        );
    }
    let mermaid = draw_mermaid(runbook);
    // A need that another need has already is implied, and not drawn.
    let implied = |step: &Step, need: &str| {
        let mut others = step.needs.iter().filter(|other| *other != need);
        others.any(|other| runbook.ancestors(other).contains(need))
    };
    let drawn = runbook.steps().iter().flat_map(|step| {
        let needs = step.needs.iter();
        needs
            .filter(|need| !implied(step, need.as_str()))
            .collect::<Vec<_>>()
    });
    assert_eq!(mermaid.matches(" --> ").count(), drawn.count());
}

#[test]
fn trial_keys_make_a_roster_of_their_own() {
    let set = shipped();
    let mara = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILjkarp6c9a1F+abDLEDGL/Yx07+aaxDZaVLUk2CDRYq a";
    let tomas =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKsoRFj3lg/oqcLTQU4c6TL1TQdmGcowzXV15+nDBqAU b";
    let keys =
        |person: &str, line: &str| BTreeMap::from([(person.to_owned(), vec![line.to_owned()])]);
    let roster = set
        .roster()
        .with_trial_keys(&keys("mara.lindqvist", mara))
        .unwrap();
    assert_ne!(roster.digest(), set.roster().digest());
    let fingerprint = &roster.person("mara.lindqvist").unwrap().keys[0].fingerprint;
    assert!(fingerprint.starts_with("SHA256:"));
    assert_eq!(
        roster.by_fingerprint(fingerprint).unwrap().0.id,
        "mara.lindqvist"
    );
    assert!(
        roster.with_trial_keys(&keys("tomas.okafor", mara)).is_err(),
        "a shared key"
    );
    assert!(roster.with_trial_keys(&keys("nobody", tomas)).is_err());
    let again = sealwarden_runbook::Roster::parse("roster.yaml", &roster.to_yaml()).unwrap();
    assert_eq!(
        (again.digest(), &again),
        (
            roster.digest(),
            &roster.with_trial_keys(&BTreeMap::new()).unwrap()
        )
    );
    assert!(set.with_roster(roster).is_ok());
}

#[test]
fn everything_that_cannot_be_taken_back_follows_a_snapshot() {
    let set = shipped();
    let runbook = set.runbook("key-compromise").unwrap();
    let after: Vec<&str> = runbook
        .after_snapshot()
        .iter()
        .map(|step| step.id.as_str())
        .collect();
    for step in runbook
        .steps()
        .iter()
        .filter(|step| step.action.spec().needs_snapshot)
    {
        assert!(after.contains(&step.id.as_str()), "{}", step.id);
    }
    assert!(!after.contains(&"read-only"));
    assert_eq!(runbook.snapshots_before("close").len(), 2);
    assert_eq!(
        runbook.step("snapshot").unwrap().action,
        Action::SnapshotEvidence
    );
}

#[test]
fn who_could_break_the_glass_and_with_what_is_said() {
    let lines = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILjkarp6c9a1F+abDLEDGL/Yx07+aaxDZaVLUk2CDRYq",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKsoRFj3lg/oqcLTQU4c6TL1TQdmGcowzXV15+nDBqAU",
    ];
    let people = ["mara.lindqvist", "tomas.okafor"].into_iter().zip(lines);
    let keys: BTreeMap<String, Vec<String>> = people
        .map(|(person, line)| (person.to_owned(), vec![line.to_owned()]))
        .collect();
    let trial = shipped().roster().with_trial_keys(&keys).unwrap();
    let said = |roster: sealwarden_runbook::Roster, code: &str| {
        let findings = shipped().with_roster(roster).unwrap().check();
        findings.iter().filter(|it| it.code == code).count()
    };
    assert_eq!(said(trial.clone(), "touch-waived"), 2);
    assert_eq!(said(trial.clone(), "break-glass-out-of-reach"), 0);
    // The same keys as they would stand in a real roster: they approve, and break no glass.
    let plain = trial.to_yaml().replace(", touch: waived", "");
    let plain = sealwarden_runbook::Roster::parse("roster.yaml", &plain).unwrap();
    assert_eq!(said(plain.clone(), "touch-waived"), 0);
    assert_eq!(said(plain, "break-glass-out-of-reach"), 1);
}
