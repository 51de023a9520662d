//! Reads a runbook's YAML into drafts of steps, hands them to the graph's checks, and makes the runbook.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::action::{Action, ActionSpec, ValueType};
use crate::condition::Condition;
use crate::evidence::{self, EvidenceField};
use crate::fields::{Fields, Reader, Shape};
use crate::finding::{self, Finding, Place};
use crate::graph;
use crate::names::is_name;
use crate::retry::{self, Retry};
use crate::runbook::{Approval, Runbook, Step, source_digest};
use crate::suggest;
use crate::template::{Part, Template};
use crate::undo;
use crate::yaml::{self, Node};

/// The most steps of a runbook.
pub const MAX_STEPS: usize = 1_000;

/// How long an attempt may take where the runbook does not say.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The same for what people do.
const MANUAL_TIMEOUT: Duration = Duration::from_hours(24);

pub(crate) const RUNBOOK: Shape = Shape {
    what: "a runbook",
    known: &[
        "runbook",
        "version",
        "class",
        "title",
        "description",
        "steps",
    ],
    unsupported: &[
        ("include", "parts of other files"),
        ("when", "conditions of a whole runbook"),
        ("undo", "undoing a whole runbook"),
    ],
};

pub(crate) const STEP: Shape = Shape {
    what: "a step",
    known: &[
        "id", "title", "action", "needs", "when", "with", "approval", "retry", "timeout", "manual",
        "undo",
    ],
    unsupported: &[("for_each", "loops"), ("runbook", "sub-runbooks")],
};

pub(crate) const APPROVAL: Shape = Shape {
    what: "an approval",
    known: &["quorum", "within"],
    unsupported: &[],
};
pub(crate) const MANUAL: Shape = Shape {
    what: "a manual task",
    known: &["instructions", "evidence"],
    unsupported: &[],
};

/// A step as far as it could be read. What could not be read has been reported already.
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) title: String,
    pub(crate) action: Option<Action>,
    pub(crate) needs: Vec<(String, Place)>,
    pub(crate) when: Option<(Condition, Place)>,
    pub(crate) inputs: Vec<(String, Template, Place)>,
    pub(crate) evidence: Vec<EvidenceField>,
    approval: Option<Approval>,
    retry: Option<Retry>,
    timeout: Option<Duration>,
    pub(crate) undo: Option<Box<Draft>>,
}

/// What is performed, and how.
pub(crate) struct Work {
    action: Option<Action>,
    inputs: Vec<(String, Template, Place)>,
    evidence: Vec<EvidenceField>,
    approval: Option<Approval>,
    retry: Option<Retry>,
    timeout: Option<Duration>,
}

/// Reads and checks one runbook.
pub(crate) fn read(file: &str, text: &str) -> Result<Runbook, Vec<Finding>> {
    let root = yaml::read(file, text)?;
    let mut reader = Reader::of_text(file, text);
    let Some(fields) = reader.fields(&root, &RUNBOOK) else {
        return Err(reader.findings);
    };
    let name = reader.required_name(&fields, "runbook").unwrap_or_default();
    check_file_name(&mut reader, &fields, file, &name);
    let version = reader
        .required(&fields, "version")
        .and_then(|node| reader.count(node, "version", 1, 1_000_000))
        .unwrap_or_default();
    let class = reader.required_name(&fields, "class").unwrap_or_default();
    let title = reader.required_text(&fields, "title").unwrap_or_default();
    let description = fields
        .get("description")
        .and_then(|node| reader.text(node, "description"))
        .unwrap_or_default();
    let drafts = read_steps(&mut reader, &fields);
    let graph = graph::check(&mut reader, &drafts);
    let warnings = graph::warnings(file, &drafts, &graph);
    if !reader.findings.is_empty() {
        finding::sort(&mut reader.findings);
        return Err(reader.findings);
    }
    let steps = drafts.into_iter().filter_map(Draft::finish).collect();
    let (source, digest) = (text.to_owned(), source_digest(text));
    let class_place = fields.place_of("class");
    let file = file.to_owned();
    Ok(Runbook {
        file,
        name,
        version,
        class,
        title,
        description,
        steps,
        source,
        digest,
        graph,
        class_place,
        warnings,
    })
}

fn check_file_name(reader: &mut Reader, fields: &Fields<'_>, file: &str, name: &str) {
    let expected = format!("{name}.yaml");
    if !name.is_empty() && file != expected {
        let message = format!("the runbook `{name}` stands in `{file}`");
        reader.error(
            fields.place_of("runbook"),
            "wrong-file",
            message,
            format!("name the file `{expected}`"),
        );
    }
}

fn read_steps(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Draft> {
    let Some(node) = reader.required(fields, "steps") else {
        return Vec::new();
    };
    let Some(items) = reader.list(node, "`steps`") else {
        return Vec::new();
    };
    if items.is_empty() {
        reader.error(
            fields.place_of("steps"),
            "no-steps",
            "the runbook has no steps".to_owned(),
            "add steps",
        );
    }
    if items.len() > MAX_STEPS {
        let message = format!("the runbook has {} steps", items.len());
        reader.error(
            fields.place_of("steps"),
            "too-many-steps",
            message,
            format!("at most {MAX_STEPS} are read; split it"),
        );
        return Vec::new();
    }
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    let mut drafts = Vec::new();
    for item in items {
        let Some(draft) = read_step(reader, item) else {
            continue;
        };
        if let Some(first) = seen.get(&draft.id) {
            reader.enter_step(Some(&draft.id));
            let message = format!(
                "the id `{}` stands at line {} already",
                draft.id, first.line
            );
            reader.error(
                draft.place,
                "duplicate-step",
                message,
                "give each step an id of its own",
            );
            reader.enter_step(None);
            continue;
        }
        seen.insert(draft.id.clone(), draft.place);
        drafts.push(draft);
    }
    drafts
}

fn read_step(reader: &mut Reader, node: &Node) -> Option<Draft> {
    // The id is read quietly first, so that every finding inside the step names it.
    let id = peek_id(node);
    reader.enter_step(id.as_deref());
    let draft = read_step_fields(reader, node);
    reader.enter_step(None);
    draft
}

fn peek_id(node: &Node) -> Option<String> {
    let (_, id) = node
        .value
        .as_map()?
        .iter()
        .find(|(key, _)| key.text == "id")?;
    id.value
        .as_text()
        .filter(|text| is_name(text))
        .map(str::to_owned)
}

fn read_step_fields(reader: &mut Reader, node: &Node) -> Option<Draft> {
    let fields = reader.fields(node, &STEP)?;
    let id = reader.required_name(&fields, "id");
    let title = reader.required_text(&fields, "title").unwrap_or_default();
    let needs = fields
        .get("needs")
        .map(|node| read_needs(reader, node))
        .unwrap_or_default();
    let when = fields
        .get("when")
        .and_then(|node| read_condition(reader, node));
    let work = read_work(reader, &fields);
    let draft = Draft {
        needs,
        when,
        ..Draft::of_work(id?, fields.place_of("id"), title, work)
    };
    let undo = undo::read(reader, &fields, &draft).map(Box::new);
    Some(Draft { undo, ..draft })
}

/// The fields that say what is performed and how: those of a step, and of an undo.
pub(crate) fn read_work(reader: &mut Reader, fields: &Fields<'_>) -> Work {
    let action = read_action(reader, fields);
    let spec = action.map(Action::spec);
    let mut inputs = read_inputs(reader, fields, spec);
    let (instructions, evidence) = read_manual(reader, fields, spec);
    inputs.extend(instructions);
    let approval = read_approval(reader, fields, spec);
    let retry = fields
        .get("retry")
        .and_then(|node| retry::read(reader, node, spec));
    let timeout = fields
        .get("timeout")
        .and_then(|node| reader.duration(node, "timeout", Duration::from_millis(100)));
    Work {
        action,
        inputs,
        evidence,
        approval,
        retry,
        timeout,
    }
}

fn read_condition(reader: &mut Reader, node: &Node) -> Option<(Condition, Place)> {
    let text = reader.text(node, "when")?;
    match Condition::parse(&text) {
        Ok(condition) => Some((condition, node.place)),
        Err(bad) => {
            let place = reader.inside(node.place, &text, bad.offset);
            let message = format!("`when`: {}", bad.message);
            reader.error(place, "bad-condition", message, bad.remedy);
            None
        }
    }
}

fn read_action(reader: &mut Reader, fields: &Fields<'_>) -> Option<Action> {
    let node = reader.required(fields, "action")?;
    let name = reader.text(node, "action")?;
    let action = Action::from_name(&name);
    if action.is_none() {
        let remedy = suggest::remedy("actions", &name, Action::ALL.map(Action::name));
        let message = format!("there is no action `{}`", name.escape_debug());
        reader.error(node.place, "unknown-action", message, remedy);
    }
    action
}

fn read_needs(reader: &mut Reader, node: &Node) -> Vec<(String, Place)> {
    let mut needs: Vec<(String, Place)> = Vec::new();
    for item in reader.list(node, "`needs`").unwrap_or_default() {
        let Some(need) = reader.text(item, "needs") else {
            continue;
        };
        if needs.iter().any(|(known, _)| *known == need) {
            let message = format!("`{}` is needed twice", need.escape_debug());
            reader.error(item.place, "duplicate-need", message, "write it once");
        } else {
            needs.push((need, item.place));
        }
    }
    needs
}

fn read_inputs(
    reader: &mut Reader,
    fields: &Fields<'_>,
    spec: Option<&ActionSpec>,
) -> Vec<(String, Template, Place)> {
    let mut inputs = Vec::new();
    let mut given = BTreeSet::new();
    let entries = fields
        .get("with")
        .and_then(|node| reader.entries(node, "`with`"));
    for (key, node) in entries.unwrap_or_default() {
        let name = key.text.as_str();
        given.insert(name);
        let field = spec.and_then(|spec| spec.input(name).filter(|_| !spec.manual));
        if let (Some(spec), None) = (spec, field) {
            let names = spec
                .inputs
                .iter()
                .map(|field| field.name)
                .filter(|_| !spec.manual);
            let remedy = suggest::remedy("inputs", name, names.collect::<Vec<_>>());
            let message = format!("`{}` has no input `{}`", spec.name, name.escape_debug());
            reader.error(key.place, "unknown-input", message, remedy);
            continue;
        }
        let Some(template) = read_template(reader, node, name) else {
            continue;
        };
        if let Some(field) = field {
            check_literal(reader, &template, field.kind, name, node.place);
        }
        inputs.push((name.to_owned(), template, node.place));
    }
    let expected = spec
        .filter(|spec| !spec.manual)
        .map(|spec| spec.inputs)
        .unwrap_or_default();
    for field in expected
        .iter()
        .filter(|field| field.required && !given.contains(field.name))
    {
        let message = format!("the input `{}` is missing", field.name);
        let remedy = format!("add it under `with:`; it takes a {}", field.kind.as_str());
        reader.error(fields.place_of("with"), "missing-input", message, remedy);
    }
    inputs
}

/// Text, or a number written without quotes.
fn read_template(reader: &mut Reader, node: &Node, name: &str) -> Option<Template> {
    let text = match node.value.as_int() {
        Some(number) => number.to_string(),
        None => reader.text(node, name)?,
    };
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(bad) => {
            reader.error(
                node.place,
                "bad-reference",
                format!("`{name}`: {bad}"),
                "correct it",
            );
            None
        }
    }
}

/// A time or a count must be one value: a literal of that type or a single reference, whose type the graph's
/// checks know.
fn check_literal(reader: &mut Reader, template: &Template, kind: ValueType, name: &str, at: Place) {
    let good = match (kind, template.parts()) {
        (ValueType::Text, _) | (_, [Part::Reference(_)]) => true,
        (_, [Part::Literal(text)]) => kind.accepts(text),
        (_, _) => false,
    };
    if !good {
        let message = format!(
            "`{name}` takes a {}, and here is `{}`",
            kind.as_str(),
            template.to_string().escape_debug()
        );
        let remedy = match kind {
            ValueType::Time => "write a single ${…} or a time such as 2026-11-02T10:00:00Z",
            ValueType::Count | ValueType::Text => "write a single ${…} or a whole number",
            ValueType::Mode => "write `queue` or `queue-noncritical`",
        };
        reader.error(at, "bad-input", message, remedy);
    }
}

/// What people are asked to do, and what they hand in.
type Manual = (Option<(String, Template, Place)>, Vec<EvidenceField>);

fn read_manual(reader: &mut Reader, fields: &Fields<'_>, spec: Option<&ActionSpec>) -> Manual {
    let nothing = (None, Vec::new());
    let Some(spec) = spec else {
        return nothing;
    };
    let Some(node) = fields.get("manual") else {
        if spec.manual {
            let message = "`manual` is missing: nobody would know what to do".to_owned();
            reader.error(
                fields.place_of("manual"),
                "missing-input",
                message,
                "add `manual: {instructions: …}`",
            );
        }
        return nothing;
    };
    if !spec.manual {
        let message = format!("`{}` runs by itself and takes no `manual`", spec.name);
        reader.error(
            fields.place_of("manual"),
            "bad-input",
            message,
            "use the action `confirm`",
        );
        return nothing;
    }
    let Some(manual) = reader.fields(node, &MANUAL) else {
        return nothing;
    };
    let instructions = reader.required(&manual, "instructions").and_then(|node| {
        let template = read_template(reader, node, "instructions")?;
        Some(("instructions".to_owned(), template, node.place))
    });
    let taken: Vec<&str> = spec.outputs.iter().map(|field| field.name).collect();
    let asked = manual.get("evidence");
    let asked = asked.map(|node| evidence::read(reader, node, &taken));
    (instructions, asked.unwrap_or_default())
}

fn read_approval(
    reader: &mut Reader,
    fields: &Fields<'_>,
    spec: Option<&ActionSpec>,
) -> Option<Approval> {
    let Some(node) = fields.get("approval") else {
        if let Some(spec) = spec.filter(|spec| graph::needs_approval(spec)) {
            let message = format!("`{}` must not run without approvals", spec.name);
            reader.error(
                fields.place_of("approval"),
                "missing-approval",
                message,
                "add `approval: {quorum: {…}, within: …}`",
            );
        }
        return None;
    };
    let approval = reader.fields(node, &APPROVAL)?;
    let quorum = reader
        .required(&approval, "quorum")
        .and_then(|node| reader.quorum(node));
    let within = reader.required_duration(&approval, "within", Duration::from_secs(1));
    Some(Approval {
        quorum: quorum?,
        within: within?,
        place: approval.place_of("quorum"),
    })
}

impl Draft {
    /// A draft of this work, which needs nothing.
    pub(crate) fn of_work(id: String, place: Place, title: String, work: Work) -> Self {
        Self {
            id,
            place,
            title,
            action: work.action,
            needs: Vec::new(),
            when: None,
            inputs: work.inputs,
            evidence: work.evidence,
            approval: work.approval,
            retry: work.retry,
            timeout: work.timeout,
            undo: None,
        }
    }

    /// A draft of an action with the inputs of the step that it takes back.
    pub(crate) fn inverse(
        id: String,
        place: Place,
        title: String,
        action: Action,
        inputs: Vec<(String, Template, Place)>,
    ) -> Self {
        let work = Work {
            action: Some(action),
            inputs,
            evidence: Vec::new(),
            approval: None,
            retry: None,
            timeout: None,
        };
        Self::of_work(id, place, title, work)
    }

    /// The step. Only drafts whose action is unknown, and which were reported for it, give none.
    fn finish(self) -> Option<Step> {
        let action = self.action?;
        let spec = action.spec();
        let timeout = if spec.manual { MANUAL_TIMEOUT } else { TIMEOUT };
        Some(Step {
            id: self.id,
            title: self.title,
            action,
            needs: self.needs.into_iter().map(|(need, _)| need).collect(),
            when: self.when.map(|(condition, _)| condition),
            inputs: self
                .inputs
                .into_iter()
                .map(|(name, text, _)| (name, text))
                .collect(),
            evidence: self.evidence,
            approval: self.approval,
            retry: self.retry.unwrap_or_else(|| Retry::of(spec)),
            timeout: self.timeout.unwrap_or(timeout),
            undo: self.undo.and_then(|undo| undo.finish()).map(Box::new),
            place: self.place,
        })
    }
}
