//! A playbook: its JSON as it came, and a typed view of what is executed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::check::Check;
use crate::finding::Finding;
use crate::{flow, json, shape};

/// A CACAO v2.0 playbook that was checked. Nothing of its JSON is lost: [`Self::value`] is what was read.
#[derive(Clone, Debug)]
pub struct Playbook {
    value: Value,
    head: Head,
    warnings: Vec<Finding>,
}

/// The parts of a playbook that are executed or shown.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) created_by: String,
    pub(crate) created: String,
    pub(crate) modified: String,
    #[serde(default)]
    pub(crate) revoked: bool,
    pub(crate) valid_from: Option<String>,
    pub(crate) valid_until: Option<String>,
    #[serde(default)]
    pub(crate) playbook_variables: BTreeMap<String, Variable>,
    pub(crate) workflow_start: String,
    pub(crate) workflow_exception: Option<String>,
    pub(crate) workflow: BTreeMap<String, WorkflowStep>,
    #[serde(default)]
    pub(crate) playbook_extensions: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) agent_definitions: BTreeMap<String, Named>,
    #[serde(default)]
    pub(crate) target_definitions: BTreeMap<String, Named>,
}

/// An agent or target.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) name: String,
}

/// A variable of a playbook or a step.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Variable {
    pub(crate) value: Option<String>,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) external: bool,
}

/// A step of a workflow.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WorkflowStep {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    /// Milliseconds that it waits before it starts.
    pub(crate) delay: Option<u64>,
    /// Milliseconds after which it has failed.
    pub(crate) timeout: Option<u64>,
    #[serde(default)]
    pub(crate) step_variables: BTreeMap<String, Variable>,
    pub(crate) on_completion: Option<String>,
    pub(crate) on_success: Option<String>,
    pub(crate) on_failure: Option<String>,
    #[serde(default)]
    pub(crate) step_extensions: BTreeMap<String, Value>,
    #[serde(flatten)]
    pub(crate) kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum StepKind {
    Start,
    End,
    Action {
        commands: Vec<Command>,
        agent: String,
        #[serde(default)]
        targets: Vec<String>,
        #[serde(default)]
        in_args: Vec<String>,
        #[serde(default)]
        out_args: Vec<String>,
    },
    PlaybookAction {
        playbook_id: String,
    },
    Parallel {
        next_steps: Vec<String>,
    },
    IfCondition {
        condition: String,
        on_true: String,
        on_false: Option<String>,
    },
    WhileCondition {
        condition: String,
        on_true: String,
    },
    SwitchCondition {
        switch: String,
        cases: BTreeMap<String, String>,
    },
}

/// A command of an action.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Command {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default, rename = "command")]
    pub(crate) text: String,
    /// The same in base64.
    #[serde(default, rename = "command_b64")]
    pub(crate) encoded: String,
}

impl WorkflowStep {
    /// Every step that this one leads to, each with the property (or path of properties) that names it.
    pub(crate) fn leads_to(&self) -> Vec<(String, &str)> {
        let mut found: Vec<(String, &str)> = Vec::new();
        match &self.kind {
            StepKind::Start
            | StepKind::End
            | StepKind::Action { .. }
            | StepKind::PlaybookAction { .. } => {}
            StepKind::Parallel { next_steps } => {
                for (index, id) in next_steps.iter().enumerate() {
                    found.push((format!("next_steps/{index}"), id));
                }
            }
            StepKind::IfCondition {
                on_true, on_false, ..
            } => {
                found.push(("on_true".to_owned(), on_true));
                found.extend(on_false.as_deref().map(|id| ("on_false".to_owned(), id)));
            }
            StepKind::WhileCondition { on_true, .. } => found.push(("on_true".to_owned(), on_true)),
            StepKind::SwitchCondition { cases, .. } => {
                for (case, id) in cases {
                    let case = case.replace('~', "~0").replace('/', "~1");
                    found.push((format!("cases/{case}"), id));
                }
            }
        }
        let ways = [
            ("on_completion", &self.on_completion),
            ("on_success", &self.on_success),
            ("on_failure", &self.on_failure),
        ];
        for (name, id) in ways {
            found.extend(id.as_deref().map(|id| (name.to_owned(), id)));
        }
        found
    }

    /// The step that follows when this one went well.
    pub(crate) fn next(&self) -> Option<&str> {
        self.on_completion.as_deref().or(self.on_success.as_deref())
    }
}

impl Playbook {
    /// Reads and checks a playbook. Gives every error found, each with the JSON pointer of its place.
    pub fn parse(text: &str) -> Result<Self, Vec<Finding>> {
        Self::from_value(json::read(text).map_err(|finding| vec![finding])?)
    }

    /// Checks a playbook that is JSON already; [`Self::parse`] has bounds for its size and depth.
    pub(crate) fn from_value(value: Value) -> Result<Self, Vec<Finding>> {
        let mut check = Check::default();
        check.object("", &value, &shape::PLAYBOOK);
        if check.findings.iter().any(Finding::is_error) {
            return Err(check.findings);
        }
        let head = match Head::deserialize(&value) {
            Ok(head) => head,
            Err(error) => {
                check.error("", "not-a-playbook", error.to_string(), "correct it");
                return Err(check.findings);
            }
        };
        flow::check(&mut check, &head);
        if check.findings.iter().any(Finding::is_error) {
            return Err(check.findings);
        }
        Ok(Self {
            value,
            head,
            warnings: check.findings,
        })
    }

    /// The playbook's JSON, nothing left out.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its identifier, the same for all its versions.
    pub fn id(&self) -> &str {
        &self.head.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// When this version was made, as it says itself.
    pub fn modified(&self) -> &str {
        &self.head.modified
    }

    /// What is doubtful in it, or ignored.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }
}
