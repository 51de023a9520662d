//! One action step of a playbook, as steps of a runbook.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sealwarden_runbook::{
    Action, ActionSpec, Effect, IncidentField, MAX_TEMPLATE_BYTES, is_name, show_duration,
};
use serde_json::{Map, Value, json};

use crate::finding::{Finding, shown};
use crate::import::{Importing, lines, one_line};
use crate::names::{is_variable, is_variable_byte};
use crate::playbook::{Command, Head, StepKind, Variable, WorkflowStep};

/// How long people have to approve a step of somebody else's playbook.
const WITHIN: &str = "1h";

/// A step that was made.
pub(crate) struct Made {
    pub(crate) title: String,
    pub(crate) action: Action,
    /// `with`, `manual`, `approval`, `timeout`.
    pub(crate) rest: Map<String, Value>,
    /// The variables that it gives to later steps, each with the output that holds it.
    pub(crate) gives: Vec<(String, String)>,
}

/// Makes steps of one action step.
pub(crate) struct Task<'t> {
    pub(crate) head: &'t Head,
    pub(crate) importing: &'t Importing,
    pub(crate) given: &'t BTreeMap<String, String>,
    pub(crate) pointer: String,
    pub(crate) step: &'t WorkflowStep,
    pub(crate) findings: Vec<Finding>,
}

impl Task<'_> {
    /// The steps, in the order of the commands. Commands that people perform one after another become one step.
    pub(crate) fn steps(&mut self) -> Vec<Made> {
        let StepKind::Action {
            commands,
            targets,
            out_args,
            ..
        } = &self.step.kind
        else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            actions.extend(
                self.mapped(index, command)
                    .map(|action| (action, index, command)),
            );
        }
        if actions.len() < commands.len() {
            return Vec::new();
        }
        let mut made = Vec::new();
        let mut people: Vec<(usize, &Command)> = Vec::new();
        for (action, index, command) in actions {
            if action.spec().manual {
                people.push((index, command));
                continue;
            }
            if !people.is_empty() {
                made.extend(self.manual(&std::mem::take(&mut people), targets, &[]));
            }
            made.push(self.automatic(index, action, targets));
        }
        if !people.is_empty() {
            made.extend(self.manual(&people, targets, out_args));
        }
        made
    }

    fn error(
        &mut self,
        property: &str,
        code: &'static str,
        message: String,
        remedy: impl Into<String>,
    ) {
        let place = format!("{}/{property}", self.pointer);
        self.findings
            .push(Finding::error(place, code, message, remedy));
    }

    fn mapped(&mut self, index: usize, command: &Command) -> Option<Action> {
        let given = self.importing.commands.get(&command.kind).copied();
        let action = given.or_else(|| (command.kind == "manual").then_some(Action::Confirm));
        if action.is_none() {
            let kind = shown(&command.kind);
            let remedy = format!(
                "map it to an action, for example --map {kind}=confirm: then people perform it and say so"
            );
            self.error(
                &format!("commands/{index}/type"),
                "unknown-command",
                format!("commands of type `{kind}` are not executed"),
                remedy,
            );
        }
        action
    }

    fn title(&self) -> String {
        let named = [&self.step.name, &self.step.description]
            .into_iter()
            .map(|text| one_line(text))
            .find(|text| !text.is_empty());
        named.unwrap_or_else(|| "A step without a name".to_owned())
    }

    /// What people do, and say that they did.
    fn manual(
        &mut self,
        commands: &[(usize, &Command)],
        targets: &[String],
        out_args: &[String],
    ) -> Option<Made> {
        let mut parts: Vec<String> = Vec::new();
        let description = self.step.description.trim();
        if !description.is_empty() && one_line(description) != self.title() {
            parts.push(self.values("description", description));
        }
        for (number, (index, command)) in commands.iter().enumerate() {
            let place = format!("commands/{index}");
            let mut text = self.command_text(&place, command)?;
            if command.kind != "manual" {
                text = format!("Run ({}): {text}", one_line(&command.kind));
            }
            parts.push(if commands.len() > 1 {
                format!("{}. {text}", number + 1)
            } else {
                text
            });
        }
        let names: Vec<String> = targets
            .iter()
            .filter_map(|id| self.head.target_definitions.get(id))
            .map(|target| one_line(&target.name))
            .filter(|name| !name.is_empty())
            .collect();
        if !names.is_empty() {
            let names = names.join(", ").replace("${", "$${");
            parts.push(format!("Targets: {names}"));
        }
        let gives = outputs(out_args);
        let mut manual = Map::new();
        let instructions = lines(&parts.join("\n"));
        manual.insert("instructions".to_owned(), instructions.into());
        if !gives.is_empty() {
            let evidence: Vec<Value> = gives
                .iter()
                .map(|(_, name)| json!({"name": name, "kind": "text"}))
                .collect();
            manual.insert("evidence".to_owned(), evidence.into());
        }
        let mut rest = Map::new();
        rest.insert("manual".to_owned(), manual.into());
        self.approval(&mut rest, Action::Confirm.spec());
        self.timeout(&mut rest);
        Some(Made {
            title: self.title(),
            action: Action::Confirm,
            rest,
            gives,
        })
    }

    fn command_text(&mut self, place: &str, command: &Command) -> Option<String> {
        let decoded = BASE64_STANDARD
            .decode(&command.encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let text = [
            command.text.clone(),
            decoded.unwrap_or_default(),
            command.description.clone(),
        ]
        .into_iter()
        .find(|text| !text.trim().is_empty());
        let Some(text) = text else {
            let message = "the command says nothing: nobody would know what to do".to_owned();
            self.error(
                place,
                "empty-command",
                message,
                "write `command` or `command_b64` (text, UTF-8)",
            );
            return None;
        };
        Some(self.values(&format!("{place}/command"), text.trim()))
    }

    /// What the engine does. It acts on the incident's own log and origin, not on targets.
    fn automatic(&mut self, index: usize, action: Action, targets: &[String]) -> Made {
        if targets.len() > 1 {
            let message = format!(
                "`{action}` runs once and knows no targets, and here are {}",
                targets.len()
            );
            self.error("targets", "several-targets", message, "keep one, or none");
        }
        let spec = action.spec();
        let mut with = Map::new();
        for field in spec.inputs {
            let variable = format!("__{}__", field.name.replace('-', "_"));
            let value = self.value_of(&variable).or_else(|| {
                let name = field.name.replace('-', "_");
                let known = IncidentField::ALL
                    .into_iter()
                    .find(|known| known.as_str() == name)?;
                Some(format!("${{incident.{}}}", known.as_str()))
            });
            match value {
                Some(value) => {
                    with.insert(field.name.to_owned(), value.into());
                }
                None if field.required => {
                    let message = format!(
                        "`{action}` takes `{}`, and the variable `{variable}` has no value",
                        field.name
                    );
                    self.error(
                        &format!("commands/{index}"),
                        "missing-input",
                        message,
                        format!("give one with --set {variable}=…"),
                    );
                }
                None => {}
            }
        }
        let mut rest = Map::new();
        if !with.is_empty() {
            rest.insert("with".to_owned(), with.into());
        }
        self.approval(&mut rest, spec);
        self.timeout(&mut rest);
        Made {
            title: self.title(),
            action,
            rest,
            gives: Vec::new(),
        }
    }

    fn approval(&mut self, rest: &mut Map<String, Value>, spec: &ActionSpec) {
        if !spec.manual && spec.directives.is_empty() && spec.effect == Effect::Reversible {
            return;
        }
        let Some(quorum) = &self.importing.quorum else {
            let message = format!("nobody is named who approves `{}`", spec.name);
            let remedy =
                "say who with --quorum, for example --quorum security-lead=1,on-call-sre=1";
            self.error("agent", "no-quorum", message, remedy);
            return;
        };
        let roles: Map<String, Value> = quorum
            .roles()
            .iter()
            .map(|(role, count)| (role.to_string(), (*count).into()))
            .collect();
        let approval = json!({"quorum": roles, "within": WITHIN});
        rest.insert("approval".to_owned(), approval);
    }

    fn timeout(&self, rest: &mut Map<String, Value>) {
        if let Some(timeout) = self.step.timeout.filter(|timeout| *timeout > 0) {
            let text = show_duration(Duration::from_millis(timeout));
            rest.insert("timeout".to_owned(), text.into());
        }
    }

    /// A text with its variables replaced, as a template. A small playbook can name a long value very often, so the
    /// text is given up as soon as it is longer than any template may be.
    fn values(&mut self, property: &str, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_variable(rest) {
            out.push_str(&before.replace("${", "$${"));
            if let Some(value) = self.value_of(name) {
                out.push_str(&value);
            } else {
                self.unset(property, name);
            }
            if out.len() > MAX_TEMPLATE_BYTES {
                break;
            }
            rest = after;
        }
        out.push_str(&rest.replace("${", "$${"));
        if out.len() > MAX_TEMPLATE_BYTES {
            let message =
                format!("with its variables the text has more than {MAX_TEMPLATE_BYTES} bytes");
            self.error(
                property,
                "too-long",
                message,
                "shorten it, or point to a document",
            );
            return String::new();
        }
        out
    }

    fn unset(&mut self, property: &str, name: &str) {
        let known = self.declared(name);
        let why = match known {
            None => "is not declared",
            Some(variable) if variable.external => "comes from outside",
            Some(_) => "has no value",
        };
        let what = known
            .map(|variable| one_line(&variable.description))
            .filter(|text| !text.is_empty())
            .map(|text| format!(" ({})", shown(&text)))
            .unwrap_or_default();
        let message = format!("the variable `{name}`{what} {why}");
        let remedy = format!("give its value with --set {name}=…");
        self.error(property, "unset-variable", message, remedy);
    }

    /// A variable of the step, else of the playbook.
    fn declared(&self, name: &str) -> Option<&Variable> {
        let own = self.step.step_variables.get(name);
        own.or_else(|| self.head.playbook_variables.get(name))
    }

    /// The value of a variable as a template: given for the import, by an earlier step, or written in the playbook.
    fn value_of(&self, name: &str) -> Option<String> {
        if let Some(value) = self.importing.values.get(name) {
            return Some(value.clone());
        }
        if let Some(value) = self.given.get(name) {
            return Some(value.clone());
        }
        let variable = self.declared(name);
        let value = variable.and_then(|variable| variable.value.as_ref())?;
        Some(value.replace("${", "$${"))
    }
}

/// The variables that people hand in, each with the name of a field of evidence of its own.
fn outputs(variables: &[String]) -> Vec<(String, String)> {
    let mut outputs: Vec<(String, String)> = Vec::new();
    for variable in variables {
        let word = variable.trim_matches('_').replace('_', "-");
        let word = word.to_ascii_lowercase();
        let is_free = |word: &String| {
            let own = Action::Confirm.spec().output(word).is_some();
            !own && outputs.iter().all(|(_, name)| name != word)
        };
        if outputs.iter().any(|(known, _)| known == variable) {
            continue;
        }
        let numbered = (1..=variables.len()).map(|number| format!("value-{number}"));
        let mut names = std::iter::once(word).chain(numbered);
        let name = names.find(|name| is_name(name) && is_free(name));
        outputs.extend(name.map(|name| (variable.clone(), name)));
    }
    outputs
}

/// The next `__name__:value` of a text: what stands before it, its name, what stands after it.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    const SUFFIX: &str = "__:value";
    let mut from = 0;
    loop {
        let end = from + text.get(from..)?.find(SUFFIX)? + 2;
        let before = text.get(..end)?;
        let begin = before
            .bytes()
            .rposition(|byte| !is_variable_byte(byte))
            .map_or(0, |at| at + 1);
        // Underscores may stand before the name; the shortest name that begins with two of them is meant.
        let name = before.get(begin..)?;
        if is_variable(name) {
            let after = text.get(end + SUFFIX.len() - 2..)?;
            return Some((text.get(..begin)?, name, after));
        }
        from = end;
    }
}
