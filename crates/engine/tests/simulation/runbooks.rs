//! Runbooks from seeds, and what they demand, known without reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sealwarden_domain::approval::Environment;
use sealwarden_runbook::{Action, Effect, ErrorKind, undo_id};
use sealwarden_wire::event::v1::RunStarted;

use super::people::{REQUESTER, ROSTER, Roles};
use super::seed::Chance;

pub(crate) const RUN: &str = "run-1";

/// What a step demands.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) action: Action,
    pub(crate) needs: Vec<String>,
    /// Who must approve or confirm; empty: nobody.
    pub(crate) quorum: Roles,
    /// How many people of `break-glass` may order it instead; 0: none can.
    pub(crate) glass: u32,
    pub(crate) attempts: u32,
    /// The errors after which it is tried again; `None`: all.
    pub(crate) on: Option<Vec<ErrorKind>>,
    pub(crate) timeout_ms: i64,
    /// What people hand in: name, and whether it is required.
    pub(crate) evidence: Vec<(&'static str, bool)>,
    /// On what it is performed; `None`: always.
    pub(crate) when: Option<When>,
}

/// A condition of which it is known without evaluating what it says.
#[derive(Clone, Debug)]
pub(crate) enum When {
    /// It reads the incident and always says this.
    Always(bool),
    /// A step that it needs ended so.
    Ended(String, &'static str),
    /// A step that counts found more than three; it finds seven, where it is done.
    Found(String),
    /// It reads what is not there.
    Nothing,
}

impl When {
    fn of(chance: &mut Chance, needs: &[String], steps: &BTreeMap<String, Demand>) -> Self {
        let state = *chance.pick(&["done", "skipped", "not-needed"]);
        let find = |id: &&String| steps[*id].action == Action::FindAffected;
        match (chance.below(6), needs.iter().find(find)) {
            (0, _) => Self::Nothing,
            (1..4, Some(find)) => Self::Found(find.clone()),
            (1..5, _) if !needs.is_empty() => Self::Ended(chance.pick(needs).clone(), state),
            (which, _) => Self::Always(which % 2 == 0),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Always(true) => "incident.log == 'main'".to_owned(),
            Self::Always(false) => "incident.log == 'other'".to_owned(),
            Self::Ended(step, word) => format!("steps.{step}.state == '{word}'"),
            Self::Found(step) => format!("steps.{step}.outputs.total > 3"),
            Self::Nothing => "incident.key == 'k'".to_owned(),
        }
    }
}

/// A runbook, pinned, and the demands of its steps.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) started: RunStarted,
    pub(crate) steps: BTreeMap<String, Demand>,
    pub(crate) order: Vec<String>,
}

const PLAN: &str = "\
plan: trial
version: 3
classes:
  key-compromise:
    title: A key in other hands
    severity: critical
    runbook: walk
    targets: {detect: 5s, contain: 60s, recover: 1h}
containment:
  isolate-key: {security-lead: 1, on-call-sre: 1}
  read-only: {on-call-sre: 1}
  rotate-origin: {security-lead: 1, product-owner: 1}
  reseal: {security-lead: 1, legal-counsel: 1}
  open: {on-call-sre: 1, security-lead: 1}
hold: 15m
approval_validity: 30m
";

/// The validity that the plan gives an approval, in milliseconds.
pub(crate) const VALIDITY_MS: i64 = 1_800_000;

const ROLES: [&str; 4] = [
    "security-lead",
    "on-call-sre",
    "legal-counsel",
    "product-owner",
];

/// What a runbook is made of.
const ACTIONS: [Action; 10] = [
    Action::SnapshotEvidence,
    Action::IsolateKey,
    Action::ReadOnly,
    Action::RotateOrigin,
    Action::PublishTrust,
    Action::FindAffected,
    Action::Reseal,
    Action::Reverify,
    Action::Resume,
    Action::Confirm,
];

/// What nodes demand of whoever orders this, and how many break-glass keys order it too.
type Containment = (Action, &'static [(&'static str, u32)], u32);

const CONTAINMENT: [Containment; 5] = [
    (
        Action::IsolateKey,
        &[("security-lead", 1), ("on-call-sre", 1)],
        1,
    ),
    (Action::ReadOnly, &[("on-call-sre", 1)], 1),
    (
        Action::RotateOrigin,
        &[("security-lead", 1), ("product-owner", 1)],
        2,
    ),
    (
        Action::Reseal,
        &[("security-lead", 1), ("legal-counsel", 1)],
        2,
    ),
    (
        Action::Resume,
        &[("on-call-sre", 1), ("security-lead", 1)],
        2,
    ),
];

impl Shape {
    pub(crate) fn of(chance: &mut Chance) -> Self {
        let mut shape = Self {
            started: RunStarted::default(),
            steps: BTreeMap::new(),
            order: Vec::new(),
        };
        let mut text = String::from(
            "runbook: walk\nversion: 1\nclass: key-compromise\ntitle: A walk\nsteps:\n",
        );
        shape.step(&mut text, chance, Action::SnapshotEvidence, Vec::new());
        for _ in 0..=chance.below(6) {
            let action = *chance.pick(&ACTIONS);
            let mut needs: BTreeSet<String> = BTreeSet::new();
            for earlier in &shape.order {
                if chance.percent(35) {
                    needs.insert(earlier.clone());
                }
            }
            if action.spec().needs_snapshot {
                needs.insert("s0".to_owned());
            }
            shape.step(&mut text, chance, action, needs.into_iter().collect());
        }
        if chance.percent(60) {
            let all = shape.order.clone();
            shape.step(&mut text, chance, Action::CloseIncident, all);
        }
        shape.started = started(text);
        shape
    }

    fn step(&mut self, text: &mut String, chance: &mut Chance, action: Action, needs: Vec<String>) {
        let id = format!("s{}", self.order.len());
        let spec = action.spec();
        let contains = CONTAINMENT.iter().find(|(of, ..)| *of == action);
        let (_, demanded, glass) = contains.copied().unwrap_or((action, &[], 2));
        let mut quorum: Roles = demanded
            .iter()
            .map(|(role, count)| ((*role).to_owned(), *count))
            .collect();
        let asks = spec.manual || spec.effect == Effect::Destructive || chance.percent(15);
        while (asks && quorum.is_empty()) || chance.percent(10) {
            let count = 1 + u32::from(chance.percent(20));
            let mine = quorum.entry((*chance.pick(&ROLES)).to_owned()).or_insert(0);
            *mine = (*mine).max(count);
        }
        let tries = *chance.pick(&[1_u32, 1, 2, 3]);
        let attempts = if spec.manual { 1 } else { tries };
        let named = !spec.manual && chance.percent(40);
        let on = named.then(|| some_errors(chance, action));
        let timeout_s = *chance.pick(&[5_i64, 30, 120]);
        writeln!(
            text,
            "  - id: {id}\n    title: Step {id}\n    action: {action}"
        )
        .unwrap();
        if !needs.is_empty() {
            writeln!(text, "    needs: [{}]", needs.join(", ")).unwrap();
        }
        // The first step is the snapshot on which others rely, and what closes the incident ends the run.
        let may = !self.order.is_empty() && action != Action::CloseIncident;
        let when = (may && chance.percent(25)).then(|| When::of(chance, &needs, &self.steps));
        if let Some(when) = &when {
            writeln!(text, "    when: {}", when.text()).unwrap();
        }
        self.inputs(text, chance, action, &needs);
        let mut evidence = Vec::new();
        if spec.manual && chance.percent(50) {
            evidence = vec![("case", true), ("letter", true), ("seen", false)];
            writeln!(text, "      evidence:\n        - {{name: case, kind: choice, of: [one, two, three]}}\n        - {{name: letter, kind: file}}\n        - {{name: seen, kind: number, required: false}}").unwrap();
        }
        if !quorum.is_empty() {
            let roles: Vec<String> = quorum.iter().map(|(r, n)| format!("{r}: {n}")).collect();
            writeln!(
                text,
                "    approval: {{quorum: {{{}}}, within: 15m}}",
                roles.join(", ")
            )
            .unwrap();
        }
        if !spec.manual {
            let named = on.as_ref().map_or_else(String::new, |on| {
                let words: Vec<&str> = on.iter().map(|kind| kind.as_str()).collect();
                format!(", on: [{}]", words.join(", "))
            });
            writeln!(
                text,
                "    retry: {{attempts: {attempts}, backoff: 1s{named}}}"
            )
            .unwrap();
        }
        writeln!(text, "    timeout: {timeout_s}s").unwrap();
        let demand = Demand {
            action,
            needs,
            glass: if quorum.is_empty() || spec.manual {
                0
            } else {
                glass
            },
            quorum,
            attempts,
            on,
            timeout_ms: timeout_s * 1000,
            evidence,
            when,
        };
        if spec.effect == Effect::Reversible && chance.percent(35) {
            let evidence = demand.needs.iter().any(|need| need == "s0");
            let undo = undo(text, chance, evidence);
            self.steps.insert(undo_id(&id), undo);
        }
        self.steps.insert(id.clone(), demand);
        self.order.push(id);
    }

    fn inputs(&self, text: &mut String, chance: &mut Chance, action: Action, needs: &[String]) {
        let earlier = |wanted: &[Action]| {
            needs.iter().find_map(|id| {
                let action = self.steps[id].action;
                wanted.contains(&action).then_some((id.as_str(), action))
            })
        };
        if action == Action::Confirm {
            let told = match earlier(&[Action::FindAffected, Action::Reverify]) {
                Some((id, Action::FindAffected)) => format!("${{steps.{id}.total}}"),
                Some((id, _)) => format!("${{steps.{id}.verified}}"),
                None => told_before(&self.steps, needs).unwrap_or("all".to_owned()),
            };
            writeln!(
                text,
                "    manual:\n      instructions: Tell {told} tenants."
            )
            .unwrap();
            return;
        }
        let sure = |(id, _): &(&str, Action)| self.steps[*id].when.is_none();
        let rotated = earlier(&[Action::RotateOrigin]).filter(sure);
        let rotated = rotated.filter(|_| chance.percent(70));
        let into = rotated.map_or("${incident.origin}".to_owned(), |(id, _)| {
            format!("${{steps.{id}.origin}}")
        });
        let lines: Vec<String> = action
            .spec()
            .inputs
            .iter()
            .map(|field| match field.name {
                "into" => format!("      into: {into}"),
                "compromised-since" => {
                    "      compromised-since: ${incident.compromised_since}".to_owned()
                }
                name => format!("      {name}: ${{incident.{name}}}"),
            })
            .collect();
        if !lines.is_empty() {
            writeln!(text, "    with:\n{}", lines.join("\n")).unwrap();
        }
    }
}

/// What people handed in for a step before.
fn told_before(steps: &BTreeMap<String, Demand>, needs: &[String]) -> Option<String> {
    let given = needs.iter().find(|id| !steps[*id].evidence.is_empty());
    given.map(|id| format!("${{steps.{id}.case}}"))
}

/// Some of the errors that an action can end with, one at least.
fn some_errors(chance: &mut Chance, action: Action) -> Vec<ErrorKind> {
    let sure = *chance.pick(action.errors());
    let errors = action.errors().iter().copied();
    errors
        .filter(|kind| *kind == sure || chance.percent(30))
        .collect()
}

/// How a step is taken back; what lifts containment only where evidence stands before the step.
fn undo(text: &mut String, chance: &mut Chance, evidence: bool) -> Demand {
    let lift = Roles::from([
        ("on-call-sre".to_owned(), 1),
        ("security-lead".to_owned(), 1),
    ]);
    let (line, action, quorum, glass, attempts) = match chance.below(4) {
        0 if evidence => (
            "{action: resume, with: {log: main}, approval: {quorum: {on-call-sre: 1, security-lead: 1}, within: 15m}, retry: {attempts: 2, backoff: 1s}, timeout: 30s}",
            Action::Resume,
            lift,
            2,
            2,
        ),
        1 => (
            "{action: confirm, manual: {instructions: Tell them.}, approval: {quorum: {legal-counsel: 1}, within: 15m}, timeout: 30s}",
            Action::Confirm,
            Roles::from([("legal-counsel".to_owned(), 1)]),
            0,
            1,
        ),
        2 => (
            "{action: call-webhook, with: {target: back, body: undo}, retry: {attempts: 2, backoff: 1s}, timeout: 30s}",
            Action::CallWebhook,
            Roles::new(),
            0,
            2,
        ),
        _ => (
            "{action: reverify, with: {origin: '${incident.origin}'}, retry: {attempts: 1}, timeout: 30s}",
            Action::Reverify,
            Roles::new(),
            0,
            1,
        ),
    };
    writeln!(text, "    undo: {line}").unwrap();
    Demand {
        action,
        needs: Vec::new(),
        quorum,
        glass,
        attempts,
        on: None,
        timeout_ms: 30_000,
        evidence: Vec::new(),
        when: None,
    }
}

fn started(runbook_text: String) -> RunStarted {
    let facts = [
        ("incident.id", "inc-1"),
        ("incident.log", "main"),
        ("incident.origin", "seal.example.com/main/1"),
        ("incident.compromised_since", "2026-11-02T09:00:00Z"),
        ("incident.class", "key-compromise"),
    ];
    RunStarted {
        run: RUN.to_owned(),
        incident: "inc-1".to_owned(),
        runbook: "walk".to_owned(),
        runbook_text,
        roster_text: ROSTER.clone(),
        plan_text: PLAN.to_owned(),
        installation: "acme".to_owned(),
        environment: Environment::Production.as_str().to_owned(),
        requesters: vec![REQUESTER.to_owned()],
        facts: facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..RunStarted::default()
    }
}
