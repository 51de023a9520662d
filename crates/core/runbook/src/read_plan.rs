//! Reads `plan.yaml`, `roster.yaml` and the folder as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::communication::{self, NoticeTemplate};
use crate::detectors::{DETECTORS_FILE, read_detectors};
use crate::digest::sha256;
use crate::directive::DirectiveKind;
use crate::fields::{Fields, Reader, Shape};
use crate::finding::{self, Finding, Place};
use crate::names::{self, Role};
use crate::obligations::{REGIMES_FILE, read_regimes};
use crate::plan::{Class, IncidentSeverity, Plan, PlanSet, Targets};
use crate::quorum::Quorum;
use crate::roster::{ApproverKey, BadRoster, Person, Register, Roster};
use crate::runbook::Runbook;
use crate::suggest;
use crate::vendors::{VENDORS_FILE, read_vendors};
use crate::yaml::{self, Key, Node, Value};

pub(crate) const PLAN_FILE: &str = "plan.yaml";
pub(crate) const ROSTER_FILE: &str = "roster.yaml";

/// How the names of notices and of their signatures end.
const NOTICE: &str = ".md";
const SIGNATURES: &str = ".sig";

/// The most people of a roster.
const MAX_PEOPLE: usize = 1_000;

pub(crate) const PLAN: Shape = Shape {
    what: "a plan",
    known: &[
        "plan",
        "version",
        "classes",
        "containment",
        "hold",
        "approval_validity",
        "communication",
    ],
    unsupported: &[],
};
pub(crate) const CLASS: Shape = Shape {
    what: "a class",
    known: &["title", "severity", "runbook", "targets"],
    unsupported: &[],
};
pub(crate) const TARGETS: Shape = Shape {
    what: "`targets`",
    known: &["detect", "contain", "recover"],
    unsupported: &[],
};
pub(crate) const ROSTER: Shape = Shape {
    what: "a roster",
    known: &["people", "changed_by"],
    unsupported: &[],
};
pub(crate) const PERSON: Shape = Shape {
    what: "a person",
    known: &["id", "name", "roles", "keys", "contact"],
    unsupported: &[("delegates", "delegations")],
};

pub(crate) const KEY: Shape = Shape {
    what: "a key",
    known: &["key", "touch"],
    unsupported: &[],
};

/// Reads all files; every error of every file comes back.
pub(crate) fn read_set<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
) -> Result<PlanSet, Vec<Finding>> {
    let mut findings = Vec::new();
    let (mut plan, mut roster, mut runbooks) = (None, None, BTreeMap::new());
    let (mut regimes, mut detectors, mut vendors) = (None, None, None);
    let (mut notices, mut signatures) = (BTreeMap::new(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    for (name, text) in files {
        let (name, text) = (name.as_ref(), text.as_ref());
        if !is_plan_file(name) {
            continue;
        }
        if !seen.insert(name) {
            let message = "the file is given twice".to_owned();
            findings.push(Finding::error(
                name,
                Place::default(),
                "duplicate-file",
                message,
            ));
            continue;
        }
        match name {
            PLAN_FILE => plan = keep(read_plan(name, text), &mut findings),
            ROSTER_FILE => roster = keep(read_roster(name, text), &mut findings),
            DETECTORS_FILE => detectors = keep(read_detectors(name, text), &mut findings),
            VENDORS_FILE => vendors = keep(read_vendors(name, text), &mut findings),
            _ if name.ends_with(SIGNATURES) => {
                signatures.insert(name.trim_end_matches(SIGNATURES).to_owned(), text);
            }
            _ if name.ends_with(NOTICE) => {
                if let Some(notice) = keep(NoticeTemplate::parse(name, text), &mut findings) {
                    notices.insert(notice.name.clone(), notice);
                }
            }
            REGIMES_FILE => regimes = keep(read_regimes(name, text), &mut findings),
            _ => {
                if let Some(runbook) = keep(Runbook::parse(name, text), &mut findings) {
                    runbooks.insert(runbook.name().to_owned(), runbook);
                }
            }
        }
    }
    for notice in notices.values_mut() {
        let notice: &mut NoticeTemplate = notice;
        if let Some(text) = signatures.get(&notice.file) {
            notice.sign(text);
        }
    }
    for file in [PLAN_FILE, ROSTER_FILE]
        .into_iter()
        .filter(|file| !seen.contains(file))
    {
        let message = format!("the plan has no `{file}`");
        findings
            .push(Finding::error(file, Place::default(), "missing-file", message).remedy("add it"));
    }
    match (plan, roster) {
        (Some(plan), Some((roster, people_at))) if findings.is_empty() => Ok(PlanSet {
            plan,
            roster,
            people_at,
            runbooks,
            regimes,
            vendors,
            detectors,
            notices,
        }),
        _ => {
            finding::sort(&mut findings);
            Err(findings)
        }
    }
}

fn is_plan_file(name: &str) -> bool {
    if name.starts_with(communication::FOLDER) {
        return name.ends_with(NOTICE) || name.ends_with(SIGNATURES);
    }
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("yaml" | "yml"))
}

fn keep<T>(result: Result<T, Vec<Finding>>, findings: &mut Vec<Finding>) -> Option<T> {
    result
        .map_err(|mut errors| findings.append(&mut errors))
        .ok()
}

fn read_plan(file: &str, text: &str) -> Result<Plan, Vec<Finding>> {
    let root = yaml::read(file, text)?;
    let mut reader = Reader::new(file);
    let Some(fields) = reader.fields(&root, &PLAN) else {
        return Err(reader.findings);
    };
    let name = reader.required_name(&fields, "plan");
    let version = reader
        .required(&fields, "version")
        .and_then(|node| reader.count(node, "version", 1, 1_000_000));
    let classes = read_classes(&mut reader, &fields);
    let containment = read_containment(&mut reader, &fields);
    let second = Duration::from_secs(1);
    let hold = reader.required_duration(&fields, "hold", second);
    let validity = reader.required_duration(&fields, "approval_validity", second);
    let communication = fields
        .get("communication")
        .and_then(|node| communication::read(&mut reader, node));
    match (name, version, hold, validity) {
        (Some(name), Some(version), Some(hold), Some(approval_validity))
            if reader.findings.is_empty() =>
        {
            let digest = sha256(text.as_bytes());
            Ok(Plan {
                name,
                version,
                classes,
                containment,
                hold,
                approval_validity,
                communication,
                digest,
            })
        }
        _ => Err(reader.findings),
    }
}

fn read_classes(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, Class> {
    let node = reader.required(fields, "classes");
    let entries = node
        .and_then(|node| reader.entries(node, "`classes`"))
        .unwrap_or_default();
    let mut classes = BTreeMap::new();
    for (key, node) in entries {
        let named = reader.check_name(&key.text, key.place, "a class");
        if let Some(class) = read_class(reader, key, node).filter(|_| named) {
            classes.insert(class.name.clone(), class);
        }
    }
    classes
}

fn read_class(reader: &mut Reader, key: &Key, node: &Node) -> Option<Class> {
    let fields = reader.fields(node, &CLASS)?;
    let title = reader.required_text(&fields, "title");
    let severity = read_severity(reader, &fields);
    let runbook = reader.required_name(&fields, "runbook");
    let targets = reader
        .required(&fields, "targets")
        .and_then(|node| read_targets(reader, node));
    Some(Class {
        name: key.text.clone(),
        title: title?,
        severity: severity?,
        runbook: runbook?,
        targets: targets?,
        place: fields.place_of("runbook"),
    })
}

fn read_severity(reader: &mut Reader, fields: &Fields<'_>) -> Option<IncidentSeverity> {
    let node = reader.required(fields, "severity")?;
    reader.severity(node)
}

fn read_targets(reader: &mut Reader, node: &Node) -> Option<Targets> {
    let fields = reader.fields(node, &TARGETS)?;
    let least = Duration::from_millis(1);
    let detect = reader.required_duration(&fields, "detect", least);
    let contain = reader.required_duration(&fields, "contain", least);
    let recover = reader.required_duration(&fields, "recover", least);
    let targets = Targets {
        detect: detect?,
        contain: contain?,
        recover: recover?,
    };
    if targets.detect > targets.contain || targets.contain > targets.recover {
        let message = "the targets do not grow: all count from the first bad event".to_owned();
        reader.error(
            fields.place,
            "bad-targets",
            message,
            "detect <= contain <= recover",
        );
    }
    Some(targets)
}

fn read_containment(
    reader: &mut Reader,
    fields: &Fields<'_>,
) -> BTreeMap<DirectiveKind, (Quorum, Place)> {
    let mut quorums = BTreeMap::new();
    let Some(node) = reader.required(fields, "containment") else {
        return quorums;
    };
    let Some(entries) = reader.entries(node, "`containment`") else {
        return quorums;
    };
    let mut named = BTreeSet::new();
    for (key, node) in entries {
        let Some(kind) = DirectiveKind::from_name(&key.text) else {
            let kinds = DirectiveKind::ALL.map(DirectiveKind::as_str);
            let message = format!("there is no directive `{}`", key.text.escape_debug());
            let remedy = suggest::remedy("directives", &key.text, kinds);
            reader.error(key.place, "unknown-directive", message, remedy);
            continue;
        };
        named.insert(kind);
        if let Some(quorum) = reader.quorum(node) {
            quorums.insert(kind, (quorum, key.place));
        }
    }
    for kind in DirectiveKind::ALL
        .into_iter()
        .filter(|kind| !named.contains(kind) && !kind.is_optional())
    {
        let message = format!("`containment` says nothing of `{kind}`: nodes would refuse it");
        reader.error(
            node.place,
            "missing-field",
            message,
            format!("add `{kind}: {{role: count}}`"),
        );
    }
    quorums
}

/// Reads a roster; also gives where each person stands.
pub(crate) fn read_roster(
    file: &str,
    text: &str,
) -> Result<(Roster, BTreeMap<String, Place>), Vec<Finding>> {
    let root = yaml::read(file, text)?;
    let mut reader = Reader::new(file);
    let Some(fields) = reader.fields(&root, &ROSTER) else {
        return Err(reader.findings);
    };
    let node = reader.required(&fields, "people");
    let items = node
        .and_then(|node| reader.list(node, "`people`"))
        .unwrap_or_default();
    if items.len() > MAX_PEOPLE {
        let message = format!("the roster has {} people", items.len());
        reader.error(
            fields.place,
            "too-many-people",
            message,
            format!("at most {MAX_PEOPLE} are read"),
        );
        return Err(reader.findings);
    }
    let mut register = Register::default();
    let (mut people, mut places) = (Vec::new(), BTreeMap::new());
    for item in items {
        let Some(person) = read_person(&mut reader, item) else {
            continue;
        };
        if let Err(bad) = register.add(&person) {
            reader.error(item.place, "bad-roster", bad.to_string(), "correct it");
        }
        places.insert(person.id.clone(), item.place);
        people.push(person);
    }
    let changed_by = read_changed_by(&mut reader, &fields);
    if !reader.findings.is_empty() {
        return Err(reader.findings);
    }
    Roster::new(people)
        .map(|roster| (roster.with_changed_by(changed_by), places))
        .map_err(|bad| {
            vec![Finding::error(
                file,
                fields.place,
                "bad-roster",
                bad.to_string(),
            )]
        })
}

/// The roster's quorum for its own changes: two people at least, since one alone could make themselves anything.
fn read_changed_by(reader: &mut Reader, fields: &Fields<'_>) -> Option<Quorum> {
    let node = fields.get("changed_by")?;
    let quorum = reader.quorum(node)?;
    if quorum.people() < 2 {
        let message = format!("`changed_by` asks for {quorum}: one person could change everything");
        reader.error(
            node.place,
            "weak-quorum",
            message,
            "ask for two people at least",
        );
        return None;
    }
    Some(quorum)
}

fn read_person(reader: &mut Reader, node: &Node) -> Option<Person> {
    let fields = reader.fields(node, &PERSON)?;
    let id = reader.required(&fields, "id").and_then(|node| {
        let id = reader.text(node, "id")?;
        if !names::is_person_id(&id) {
            let message = format!("`{}` cannot be a person's id", id.escape_debug());
            reader.error(
                node.place,
                "bad-name",
                message,
                "use small letters, digits, `-` and `.`, a letter first",
            );
            return None;
        }
        Some(id)
    });
    let name = reader.required_text(&fields, "name");
    let contact = reader.required_text(&fields, "contact");
    let roles = reader
        .required(&fields, "roles")
        .map(|node| read_roles(reader, node));
    let keys = reader.required(&fields, "keys").map(|node| {
        let owner = id.clone().unwrap_or_default();
        read_keys(reader, node, &owner)
    });
    Some(Person {
        id: id?,
        name: name?,
        roles: roles?,
        keys: keys?,
        contact: contact?,
    })
}

fn read_roles(reader: &mut Reader, node: &Node) -> BTreeSet<Role> {
    let mut roles = BTreeSet::new();
    for item in reader.list(node, "`roles`").unwrap_or_default() {
        let text = reader.text(item, "roles");
        roles.extend(text.and_then(|text| reader.role(&text, item.place)));
    }
    roles
}

fn read_keys(reader: &mut Reader, node: &Node, owner: &str) -> Vec<ApproverKey> {
    let mut keys = Vec::new();
    for item in reader.list(node, "`keys`").unwrap_or_default() {
        let Some((line, touch)) = read_key(reader, item) else {
            continue;
        };
        let key = ApproverKey::parse(owner, &line);
        let key = match touch {
            Some(word) => key.and_then(|key| key.with_touch(owner, &word)),
            None => key,
        };
        match key {
            Ok(key) => keys.push(key),
            Err(bad @ BadRoster::Touch { .. }) => {
                let remedy = "leave `touch` out, or name a key that does as it says";
                reader.error(item.place, "bad-touch", bad.to_string(), remedy);
            }
            Err(bad) => {
                let remedy = "paste the line of the person's `.pub` file";
                reader.error(item.place, "bad-key", bad.to_string(), remedy);
            }
        }
    }
    keys
}

/// A key's line, or `{key: LINE, touch: WORD}`.
fn read_key(reader: &mut Reader, item: &Node) -> Option<(String, Option<String>)> {
    if !matches!(item.value, Value::Map(_)) {
        return Some((reader.text(item, "keys")?, None));
    }
    let fields = reader.fields(item, &KEY)?;
    let line = reader.required_text(&fields, "key");
    let touch = match fields.get("touch") {
        Some(node) => Some(reader.text(node, "touch")?),
        None => None,
    };
    Some((line?, touch))
}

impl Roster {
    /// Reads the text of a `roster.yaml`; `file` is named in findings.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Finding>> {
        read_roster(file, text).map(|(roster, _)| roster)
    }
}
