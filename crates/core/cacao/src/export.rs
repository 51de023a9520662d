//! A runbook as a CACAO v2.0 playbook.
//!
//! A runbook is a graph in which a step waits for all that it needs; a CACAO workflow is a sequence with parallel
//! sections. So the runbook's waves become the sequence: stricter than the graph, never looser. What CACAO cannot
//! say (who must approve, the exact needs, the runbook's own bytes) travels in an extension; docs/cacao.md
//! describes it. Everything is derived from the runbook, so the same runbook always gives the same playbook.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sealwarden_runbook::{Part, Reference, Runbook, Step, Template};
use serde_json::{Map, Value, json};

use crate::finding::Finding;
use crate::names::derived_id;
use crate::playbook::Playbook;

/// The extension that carries what CACAO has no words for.
pub const EXTENSION: &str = "extension-definition--5ea1ba4d-c0de-4c3a-9a0f-2d6b8e1f7a53";

/// The version of the extension's content.
pub(crate) const EXTENSION_VERSION: &str = "1.0.0";

/// Who exports, and when: what a runbook does not say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The STIX identity of whoever made the runbook, `identity--UUID`.
    pub created_by: String,
    /// When the first version was made, RFC 3339 with milliseconds.
    pub created: String,
    /// When this version was made, the same way.
    pub modified: String,
}

impl Origin {
    /// The identity of an organisation, always the same for the same name.
    pub fn identity(name: &str) -> String {
        derived_id("identity", &[name])
    }
}

/// Writes a runbook as a playbook. It fails where the origin has mistakes (an identity or a time that is none), and where the runbook says what a playbook's steps could
/// not: whoever executed it elsewhere would do something else.
pub fn export(runbook: &Runbook, origin: &Origin) -> Result<Playbook, Vec<Finding>> {
    let source: Value = serde_saphyr::from_str(runbook.source()).map_err(|error| {
        vec![Finding::error(
            "",
            "not-yaml",
            error.to_string(),
            "read the runbook again",
        )]
    })?;
    let lost = runbook.steps().iter().filter(|step| step.when.is_some());
    let lost: Vec<Finding> = lost
        .map(|step| {
            Finding::error(
                &step.id,
                "unsupported",
                format!(
                    "step {} has a condition (`when`), which a playbook's step cannot carry",
                    step.id
                ),
                "export a version without it",
            )
        })
        .collect();
    if !lost.is_empty() {
        return Err(lost);
    }
    let writer = Writer {
        runbook,
        digest: runbook.digest_hex(),
        written: steps_as_written(&source),
        workflow: Map::new(),
        agents: BTreeMap::new(),
        variables: BTreeMap::new(),
    };
    Playbook::from_value(writer.playbook(origin))
}

/// The steps of a runbook's source, by id.
fn steps_as_written(source: &Value) -> BTreeMap<String, Value> {
    let steps = source.get("steps").and_then(Value::as_array);
    let named = steps.into_iter().flatten().filter_map(|step| {
        let id = step.get("id")?.as_str()?;
        Some((id.to_owned(), step.clone()))
    });
    named.collect()
}

struct Writer<'r> {
    runbook: &'r Runbook,
    digest: String,
    written: BTreeMap<String, Value>,
    workflow: Map<String, Value>,
    agents: BTreeMap<String, Value>,
    variables: BTreeMap<String, Value>,
}

impl Writer<'_> {
    fn id(&self, kind: &str, seed: &str) -> String {
        derived_id(kind, &[&self.digest, seed])
    }

    fn playbook(mut self, origin: &Origin) -> Value {
        let start = self.id("start", "start");
        let stopped = self.id("end", "stopped");
        self.sequence(&start);
        let what = "A step failed: nothing that needs it starts, and people decide how to go on.";
        self.workflow.insert(
            stopped.clone(),
            json!({"type": "end", "name": "Stopped", "description": what}),
        );
        let runbook = self.runbook;
        let manual = runbook.steps().iter().all(|step| step.action.spec().manual);
        let parallel = runbook.waves().iter().any(|wave| wave.len() > 1);
        let mut playbook = json!({
            "type": "playbook",
            "spec_version": "cacao-2.0",
            "id": derived_id("playbook", &[&origin.created_by, runbook.name()]),
            "name": runbook.title(),
        });
        let rest = json!({
            "playbook_types": ["mitigation", "remediation"],
            "playbook_activities": ["execute-operation"],
            "playbook_processing_summary": {"manual_playbook": manual, "parallel_processing": parallel, "extensions": true},
            "created_by": origin.created_by,
            "created": origin.created,
            "modified": origin.modified,
            "labels": ["sealwarden", runbook.class()],
            "playbook_variables": self.variables,
            "workflow_start": start,
            "workflow_exception": stopped,
            "workflow": self.workflow,
            "playbook_extensions": {EXTENSION: {
                "runbook": runbook.name(),
                "version": runbook.version(),
                "class": runbook.class(),
                "sha256": self.digest,
                "source": runbook.source(),
            }},
            "agent_definitions": self.agents,
            "extension_definitions": {EXTENSION: {
                "type": "extension-definition",
                "name": "Sealwarden runbook",
                "description": "Quorums, needs and typed actions of a step, and the runbook that the playbook was made of.",
                "created_by": Origin::identity("sealwarden"),
                "schema": "docs/cacao.md#the-extension",
                "version": EXTENSION_VERSION,
            }},
        });
        if let (Some(object), Value::Object(rest)) = (playbook.as_object_mut(), rest) {
            if !runbook.description().is_empty() {
                object.insert("description".to_owned(), runbook.description().into());
            }
            object.extend(rest);
        }
        playbook
    }

    /// The waves one after another, from the start to the end.
    fn sequence(&mut self, start: &str) {
        let waves = self.runbook.waves();
        let end = self.id("end", "end");
        let heads: Vec<String> = waves
            .iter()
            .enumerate()
            .map(|(index, wave)| match wave.as_slice() {
                [only] => self.id("action", &only.id),
                _ => self.id("parallel", &index.to_string()),
            })
            .collect();
        let first = heads.first().unwrap_or(&end);
        let begin = json!({"type": "start", "on_completion": first});
        self.workflow.insert(start.to_owned(), begin);
        for (index, wave) in waves.iter().enumerate() {
            let next = heads.get(index + 1).unwrap_or(&end).clone();
            if let [only] = wave.as_slice() {
                self.action(only, &next);
                continue;
            }
            let branches: Vec<String> = wave
                .iter()
                .map(|step| self.id("action", &step.id))
                .collect();
            let parallel = json!({"type": "parallel", "name": format!("Wave {}", index + 1), "on_success": next, "next_steps": branches});
            self.workflow
                .extend(heads.get(index).map(|id| (id.clone(), parallel)));
            for step in wave {
                let end = self.id("end", &step.id);
                self.action(step, &end);
                self.workflow.insert(end, json!({"type": "end"}));
            }
        }
        self.workflow
            .insert(end, json!({"type": "end", "name": "Done"}));
    }

    fn action(&mut self, step: &Step, next: &str) {
        let spec = step.action.spec();
        let mut in_args: Vec<String> = Vec::new();
        let mut text = match step.instructions() {
            Some(instructions) => self.text(instructions, &mut in_args),
            None => format!("Sealwarden action {}: {}.", spec.name, spec.summary),
        };
        for (name, template) in step.inputs.iter().filter(|_| !spec.manual) {
            let value = self.text(template, &mut in_args);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "
{name} = {value}"
            );
        }
        let out_args: Vec<String> = spec
            .outputs
            .iter()
            .map(|field| {
                self.variable(
                    &format!("__steps_{}_{}__", step.id, field.name),
                    false,
                    &format!("{} of step {}", field.name, step.id),
                )
            })
            .collect();
        let doer = match &step.approval {
            Some(approval) if spec.manual => approval.quorum.to_string(),
            Some(_) | None => "Sealwarden".to_owned(),
        };
        let agent = self.agent(&doer);
        let timeout = u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut action = json!({
            "type": "action",
            "name": step.title,
            "description": spec.summary,
            "timeout": timeout,
            "on_success": next,
            "step_extensions": {EXTENSION: self.written.get(&step.id).cloned().unwrap_or(Value::Null)},
            "commands": [{"type": "manual", "command": text}],
            "agent": agent,
        });
        if let Some(object) = action.as_object_mut() {
            for (name, args) in [("in_args", in_args), ("out_args", out_args)] {
                if !args.is_empty() {
                    object.insert(name.to_owned(), args.into());
                }
            }
        }
        let id = self.id("action", &step.id);
        self.workflow.insert(id, action);
    }

    fn agent(&mut self, doer: &str) -> String {
        let kind = if doer == "Sealwarden" {
            "organization"
        } else {
            "group"
        };
        let id = self.id(kind, doer);
        self.agents
            .insert(id.clone(), json!({"type": kind, "name": doer}));
        id
    }

    fn variable(&mut self, name: &str, external: bool, description: &str) -> String {
        let value = json!({"type": "string", "description": description, "value": null, "constant": false, "external": external});
        self.variables.insert(name.to_owned(), value);
        name.to_owned()
    }

    /// A template in CACAO's words: references become variables.
    fn text(&mut self, template: &Template, in_args: &mut Vec<String>) -> String {
        let mut out = String::new();
        for part in template.parts() {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Reference(reference) => {
                    let (external, what) = match reference {
                        Reference::Incident(field) => {
                            (true, format!("{} of the incident", field.as_str()))
                        }
                        Reference::Plan(field) => (true, format!("{} of the plan", field.as_str())),
                        Reference::Step { step, output } => {
                            (false, format!("{output} of step {step}"))
                        }
                    };
                    let name = self.variable(
                        &format!("__{}__", reference.to_string().replace('.', "_")),
                        external,
                        &what,
                    );
                    let _ = write!(out, "{name}:value");
                    if !in_args.contains(&name) {
                        in_args.push(name);
                    }
                }
            }
        }
        out
    }
}
