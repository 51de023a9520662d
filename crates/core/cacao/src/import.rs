//! A CACAO v2.0 playbook as a runbook. What cannot be executed is refused here, all of it at once.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{Action, Quorum, Runbook, Severity};
use serde_json::{Map, Value, json};

use crate::export::{EXTENSION, Origin, export};
use crate::finding::{Finding, shown};
use crate::flow::pointer;
use crate::playbook::{Head, Playbook, StepKind, WorkflowStep};
use crate::signature;
use crate::task::Task;
use crate::yaml;

/// What a playbook of somebody else does not say, and this installation decides.
#[derive(Clone, Debug, Default)]
pub struct Importing {
    /// The runbook's name; made of the playbook's name where it is not given.
    pub name: Option<String>,
    /// The class of incidents that the runbook answers.
    pub class: Option<String>,
    /// Who approves the steps that need people and do not say whom.
    pub quorum: Option<Quorum>,
    /// Which action performs a type of command, such as `bash` by [`Action::Confirm`]. `manual` is mapped to
    /// [`Action::Confirm`] already.
    pub commands: BTreeMap<String, Action>,
    /// Values of variables, by name with the underscores. They may hold `${incident.…}`.
    pub values: BTreeMap<String, String>,
    /// The time of the import: a playbook that is not valid then is refused.
    pub now: jiff::Timestamp,
}

/// A playbook as a runbook.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The runbook, checked.
    pub runbook: Runbook,
    /// What was ignored, or differs.
    pub warnings: Vec<Finding>,
}

/// Makes a runbook of a playbook. A playbook that was exported from a runbook and not changed since gives that
/// runbook's bytes again; all others are made from the workflow.
pub fn import(playbook: &Playbook, importing: &Importing) -> Result<Imported, Vec<Finding>> {
    let mut warnings = playbook.warnings().to_vec();
    let mut findings = refusals(playbook.head(), importing);
    let (against, unchecked): (Vec<_>, Vec<_>) = signed(playbook, importing)
        .into_iter()
        .partition(Finding::is_error);
    findings.extend(against);
    warnings.extend(unchecked);
    if findings.is_empty()
        && let Some(source) = Source::of(playbook)
    {
        match source.unchanged(playbook) {
            Some(runbook) => return Ok(Imported { runbook, warnings }),
            None => warnings.push(
                Finding::error(
                    format!("/playbook_extensions/{EXTENSION}/source"),
                    "changed-since-export",
                    "the playbook differs from the runbook inside it",
                    "the runbook is made from the workflow; its text and digest are new",
                )
                .as_warning(),
            ),
        }
    }
    let mut builder = Builder::new(playbook.head(), importing);
    builder.walk(&playbook.head().workflow_start, Vec::new(), 0);
    builder.exception();
    let built = builder.finish();
    findings.extend(built.findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    let text = yaml::write(&built.runbook);
    match Runbook::parse(&format!("{}.yaml", built.name), &text) {
        Ok(runbook) => Ok(Imported { runbook, warnings }),
        Err(errors) => Err(errors
            .into_iter()
            .map(|error| {
                let place = error.step.as_ref().and_then(|step| built.places.get(step));
                Finding {
                    pointer: place.cloned().unwrap_or_default(),
                    severity: Severity::Error,
                    code: error.code,
                    message: error.message,
                    remedy: error.remedy,
                }
            })
            .collect()),
    }
}

/// Whether the playbook may be used at all now.
fn refusals(head: &Head, importing: &Importing) -> Vec<Finding> {
    let mut findings = Vec::new();
    if head.revoked {
        let message = "whoever made the playbook has revoked it";
        findings.push(Finding::error(
            "/revoked",
            "revoked",
            message,
            "get a newer version",
        ));
    }
    let time = |text: &Option<String>| {
        text.as_ref()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
    };
    if time(&head.valid_from).is_some_and(|from| importing.now < from) {
        let message = format!("it is not valid yet at {}", importing.now);
        findings.push(Finding::error(
            "/valid_from",
            "not-valid",
            message,
            "wait, or get another version",
        ));
    }
    if time(&head.valid_until).is_some_and(|until| importing.now >= until) {
        let message = format!("it is no longer valid at {}", importing.now);
        findings.push(Finding::error(
            "/valid_until",
            "not-valid",
            message,
            "get a newer version",
        ));
    }
    findings
}

/// What the signatures say against the playbook, and which say nothing.
fn signed(playbook: &Playbook, importing: &Importing) -> Vec<Finding> {
    let checked = signature::signatures(playbook.value(), importing.now);
    let bad = checked
        .into_iter()
        .enumerate()
        .filter_map(|(index, checked)| {
            let bad = checked.outcome.err()?;
            let place = format!("/signatures/{index}");
            let who = shown(&checked.signee);
            let message = format!("the signature of `{who}`: {bad}");
            Some(if bad.is_against() {
                let remedy = "get the playbook again from its maker";
                Finding::error(place, "bad-signature", message, remedy)
            } else {
                let remedy =
                    "nothing speaks against the playbook, and this signature says nothing for it";
                Finding::error(place, "unchecked-signature", message, remedy).as_warning()
            })
        });
    bad.collect()
}

/// The runbook that travels inside a playbook that was exported from it.
struct Source<'p> {
    name: &'p str,
    text: &'p str,
}

impl<'p> Source<'p> {
    fn of(playbook: &'p Playbook) -> Option<Self> {
        let extension = playbook.head().playbook_extensions.get(EXTENSION)?;
        let text = |name: &str| extension.get(name).and_then(Value::as_str);
        Some(Self {
            name: text("runbook")?,
            text: text("source")?,
        })
    }

    /// The runbook, if exporting it again gives the playbook. Signatures are made after the export.
    fn unchanged(&self, playbook: &Playbook) -> Option<Runbook> {
        let runbook = Runbook::parse(&format!("{}.yaml", self.name), self.text).ok()?;
        let head = playbook.head();
        let origin = Origin {
            created_by: head.created_by.clone(),
            created: head.created.clone(),
            modified: head.modified.clone(),
        };
        let mut given = playbook.value().clone();
        given.as_object_mut()?.remove("signatures");
        (export(&runbook, &origin).ok()?.value() == &given).then_some(runbook)
    }
}

/// The deepest nesting of branches.
const MAX_BRANCHES: usize = 16;

/// The longest name of a runbook or step that is made of a text.
const MAX_SLUG: usize = 48;

/// What the walk has made.
struct Built {
    name: String,
    runbook: Value,
    places: BTreeMap<String, String>,
    findings: Vec<Finding>,
}

/// Walks the workflow and makes steps.
struct Builder<'p> {
    head: &'p Head,
    importing: &'p Importing,
    steps: Vec<Value>,
    /// The places of the steps in the playbook, by the runbook's step ids.
    places: BTreeMap<String, String>,
    visited: BTreeSet<&'p str>,
    /// Which expression stands for a variable that an earlier step gives.
    given: BTreeMap<String, String>,
    findings: Vec<Finding>,
}

impl<'p> Builder<'p> {
    fn new(head: &'p Head, importing: &'p Importing) -> Self {
        Self {
            head,
            importing,
            steps: Vec::new(),
            places: BTreeMap::new(),
            visited: BTreeSet::new(),
            given: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    fn refuse(
        &mut self,
        pointer: String,
        code: &'static str,
        message: impl Into<String>,
        remedy: &str,
    ) {
        self.findings
            .push(Finding::error(pointer, code, message, remedy));
    }

    /// Makes the steps from this one to the end of its branch; gives those that whatever follows has to wait for.
    fn walk(&mut self, from: &'p str, mut needs: Vec<String>, depth: usize) -> Vec<String> {
        let head = self.head;
        let mut at = Some(from);
        while let Some((id, step)) = at.and_then(|id| head.workflow.get_key_value(id)) {
            at = step.next();
            if matches!(step.kind, StepKind::End) {
                break;
            }
            if !self.visited.insert(id) {
                let message = "two branches lead to this step: it would run twice";
                let remedy = "end each branch with an end step of its own, and name this step in `on_completion` of the step that began the branches";
                self.refuse(pointer(id), "runs-twice", message, remedy);
                break;
            }
            self.cannot_wait(id, step);
            needs = self.step(id, step, needs, depth);
        }
        needs
    }

    fn step(
        &mut self,
        id: &'p str,
        step: &'p WorkflowStep,
        needs: Vec<String>,
        depth: usize,
    ) -> Vec<String> {
        match &step.kind {
            StepKind::Start | StepKind::End => needs,
            StepKind::Action { .. } => self.action(id, step, needs),
            StepKind::PlaybookAction { playbook_id } => {
                let message = format!("it runs another playbook, `{}`", shown(playbook_id));
                self.refuse(
                    pointer(id),
                    "not-executable",
                    message,
                    "copy the steps of that playbook here",
                );
                needs
            }
            StepKind::Parallel { .. } => self.branches(step, &needs, depth),
            StepKind::IfCondition { condition, .. }
            | StepKind::WhileCondition { condition, .. } => {
                let message = format!("the condition `{}` is not executed", shown(condition));
                self.refuse(
                    pointer(id),
                    "not-executable",
                    message,
                    "make a runbook of each branch, or let people decide in a manual step",
                );
                self.branches(step, &needs, depth)
            }
            StepKind::SwitchCondition { switch, .. } => {
                let message = format!("the switch over `{}` is not executed", shown(switch));
                self.refuse(
                    pointer(id),
                    "not-executable",
                    message,
                    "make a runbook of each case, or let people decide in a manual step",
                );
                self.branches(step, &needs, depth)
            }
        }
    }

    /// All branches of a step; what follows waits for all of them.
    fn branches(&mut self, step: &'p WorkflowStep, needs: &[String], depth: usize) -> Vec<String> {
        if depth >= MAX_BRANCHES {
            let message = format!("branches nest deeper than {MAX_BRANCHES}");
            self.refuse(
                "/workflow".to_owned(),
                "too-deep",
                message,
                "make the workflow flatter",
            );
            return needs.to_vec();
        }
        let mut exits: Vec<String> = Vec::new();
        for (property, to) in step.leads_to() {
            if property.starts_with("on_c")
                || property.starts_with("on_s")
                || property == "on_failure"
            {
                continue;
            }
            for exit in self.walk(to, needs.to_vec(), depth + 1) {
                if !exits.contains(&exit) {
                    exits.push(exit);
                }
            }
        }
        exits
    }

    /// What a step asks for that the engine does not do.
    fn cannot_wait(&mut self, id: &str, step: &WorkflowStep) {
        if step.delay.is_some_and(|delay| delay > 0) {
            let remedy = "remove `delay`, or let people wait in a manual step";
            self.refuse(
                format!("{}/delay", pointer(id)),
                "not-executable",
                "steps do not wait before they start",
                remedy,
            );
        }
        if let Some(failure) = &step.on_failure
            && !self.leads_to_end(failure)
        {
            let message = format!(
                "`{failure}` would run after a failure, and a step that failed stops its branch until people decide"
            );
            let remedy = "let `on_failure` name an end step";
            self.refuse(
                format!("{}/on_failure", pointer(id)),
                "not-executable",
                message,
                remedy,
            );
        }
    }

    fn leads_to_end(&self, id: &str) -> bool {
        self.head
            .workflow
            .get(id)
            .is_some_and(|step| matches!(step.kind, StepKind::End))
    }

    /// A failure stops what needs the failed step: only an end step says the same.
    fn exception(&mut self) {
        if let Some(exception) = &self.head.workflow_exception
            && !self.leads_to_end(exception)
        {
            let message = format!(
                "`{exception}` would run after a failure, and a step that failed stops its branch until people decide"
            );
            self.refuse(
                "/workflow_exception".to_owned(),
                "not-executable",
                message,
                "let it name an end step",
            );
        }
    }

    fn action(&mut self, id: &str, step: &'p WorkflowStep, needs: Vec<String>) -> Vec<String> {
        if let Some(own) = step.step_extensions.get(EXTENSION) {
            return self.own_step(id, own, &needs);
        }
        let mut task = Task {
            head: self.head,
            importing: self.importing,
            given: &self.given,
            pointer: pointer(id),
            step,
            findings: Vec::new(),
        };
        let made = task.steps();
        let findings = task.findings;
        self.findings.extend(findings);
        let mut needs = needs;
        for mut made in made {
            let name = self.unused(&slug(&made.title));
            let mut object = Map::new();
            object.insert("id".to_owned(), name.clone().into());
            object.insert("title".to_owned(), made.title.into());
            object.insert("action".to_owned(), made.action.name().into());
            if !needs.is_empty() {
                object.insert("needs".to_owned(), needs.into());
            }
            object.append(&mut made.rest);
            for (variable, output) in made.gives {
                self.given
                    .insert(variable, format!("${{steps.{name}.{output}}}"));
            }
            self.places.insert(name.clone(), pointer(id));
            self.steps.push(Value::Object(object));
            needs = vec![name];
        }
        needs
    }

    /// A step that was exported: its own words, in the order of the workflow.
    fn own_step(&mut self, id: &str, own: &Value, needs: &[String]) -> Vec<String> {
        let (Some(object), Some(name)) = (own.as_object(), own.get("id").and_then(Value::as_str))
        else {
            let message = "the extension holds no step with an `id`";
            let place = format!("{}/step_extensions/{EXTENSION}", pointer(id));
            self.refuse(
                place,
                "bad-extension",
                message,
                "correct it, or remove the extension from this step",
            );
            return needs.to_vec();
        };
        let mut object = object.clone();
        if needs.is_empty() {
            object.remove("needs");
        } else {
            object.insert("needs".to_owned(), needs.to_vec().into());
        }
        self.places.insert(name.to_owned(), pointer(id));
        self.steps.push(Value::Object(object));
        vec![name.to_owned()]
    }

    fn unused(&self, wanted: &str) -> String {
        let numbered = (2..).map(|number: u32| format!("{wanted}-{number}"));
        std::iter::once(wanted.to_owned())
            .chain(numbered)
            .find(|name| !self.places.contains_key(name))
            .unwrap_or_default()
    }

    fn finish(mut self) -> Built {
        let extension = self.head.playbook_extensions.get(EXTENSION);
        let own = |name: &str| extension.and_then(|extension| extension.get(name));
        let text = |name: &str| own(name).and_then(Value::as_str).map(str::to_owned);
        let importing = self.importing;
        let name = importing
            .name
            .clone()
            .or_else(|| text("runbook"))
            .unwrap_or_else(|| slug(&self.head.name));
        let class = importing.class.clone().or_else(|| text("class"));
        let version = own("version").and_then(Value::as_u64).unwrap_or(1);
        if class.is_none() {
            self.refuse(
                String::new(),
                "no-class",
                "the playbook does not say which class of incidents it answers",
                "say it with --class",
            );
        }
        if self.steps.is_empty() && self.findings.is_empty() {
            let remedy = "add an action step between start and end";
            self.refuse(
                "/workflow".to_owned(),
                "no-steps",
                "the workflow does nothing",
                remedy,
            );
        }
        let mut runbook = json!({
            "runbook": name,
            "version": version,
            "class": class,
            "title": one_line(&self.head.name),
        });
        if let Some(object) = runbook.as_object_mut() {
            let description = self.head.description.trim();
            if !description.is_empty() {
                object.insert("description".to_owned(), lines(description).into());
            }
            object.insert("steps".to_owned(), Value::Array(self.steps));
        }
        Built {
            name,
            runbook,
            places: self.places,
            findings: self.findings,
        }
    }
}

/// A name made of a text: its letters and digits, small, with `-` between the words.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let short = slug.get(..MAX_SLUG).unwrap_or(slug).trim_matches('-');
    if short.is_empty() {
        "step".to_owned()
    } else {
        short.to_owned()
    }
}

/// A text on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text whose lines end in `\n` and hold no tabs.
pub(crate) fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace(['\r'], "\n")
        .replace('\t', "    ")
}
