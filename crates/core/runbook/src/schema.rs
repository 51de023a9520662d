//! JSON Schemas of `plan.yaml`, `roster.yaml`, `detectors.yaml` and runbooks, for editors.
//!
//! Which fields there are comes from the reader's own tables, which actions, inputs and directives from theirs. A
//! schema refuses nothing that the reader accepts. The reader refuses more: references, cycles, quorums that nobody
//! can meet; `sealwarden plan check` says all of it.

use serde_json::{Map, Value, json};

use crate::action::{Action, ActionSpec, ValueType};
use crate::communication::{Audience, CHANNEL, COMMUNICATION, ChannelKind, ESCALATION};
use crate::directive::DirectiveKind;
use crate::error_kind::ErrorKind;
use crate::evidence::{EVIDENCE, KINDS, MAX_CHOICES, MAX_EVIDENCE};
use crate::fields::Shape;
use crate::graph::needs_approval;
use crate::names::Role;
use crate::plan::IncidentSeverity;
use crate::quorum::{MAX_PER_ROLE, MAX_ROLES};
use crate::read_plan::{CLASS, KEY, PERSON, PLAN, ROSTER, TARGETS};
use crate::read_runbook::{APPROVAL, MANUAL, MAX_STEPS, RUNBOOK, STEP};
use crate::retry::RETRY;
use crate::undo::UNDO;

/// Names: a small letter, then small letters, digits and `-`.
pub(crate) const NAME: &str = "^[a-z][a-z0-9-]{0,63}$";

/// Durations: whole numbers with units, one after another.
const DURATION: &str = "^([0-9]+(ms|s|m|h|d))+$";

/// Texts: something that is not white space.
const TEXT: &str = "\\S";

/// A schema and the name of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// The name of its file in `runbooks/schema`.
    pub file: &'static str,
    /// The schema, draft-07: what editors understand.
    pub value: Value,
}

/// The schemas of the four kinds of file.
pub fn schemas() -> [Schema; 4] {
    [
        Schema {
            file: "runbook.schema.json",
            value: runbook(),
        },
        Schema {
            file: "plan.schema.json",
            value: plan(),
        },
        Schema {
            file: "roster.schema.json",
            value: roster(),
        },
        Schema {
            file: "detectors.schema.json",
            value: crate::detectors::schema(),
        },
    ]
}

pub(crate) fn document(title: &str, object: Value) -> Value {
    let mut document = Map::new();
    document.insert(
        "$schema".to_owned(),
        "http://json-schema.org/draft-07/schema#".into(),
    );
    document.insert("title".to_owned(), title.into());
    if let Value::Object(object) = object {
        document.extend(object);
    }
    document.into()
}

/// An object with the fields of the reader's table. A field whose type is not said here may hold anything.
pub(crate) fn object(
    shape: &Shape,
    required: &[&str],
    field: impl Fn(&str) -> Option<Value>,
) -> Value {
    let properties: Map<String, Value> = shape
        .known
        .iter()
        .map(|name| ((*name).to_owned(), field(name).unwrap_or(Value::Bool(true))))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

pub(crate) fn text(description: &str) -> Value {
    json!({"type": "string", "pattern": TEXT, "description": description})
}

pub(crate) fn name(description: &str) -> Value {
    json!({"type": "string", "pattern": NAME, "description": description})
}

pub(crate) fn duration(description: &str) -> Value {
    json!({"type": "string", "pattern": DURATION, "description": format!("{description}, such as 30s, 15m, 24h")})
}

pub(crate) fn whole(min: u32, max: u32, description: &str) -> Value {
    json!({"type": "integer", "minimum": min, "maximum": max, "description": description})
}

fn quorum(description: &str) -> Value {
    let count = whole(1, MAX_PER_ROLE, "How many people of this role");
    let known: Map<String, Value> = Role::KNOWN
        .into_iter()
        .map(|role| (role.to_owned(), count.clone()))
        .collect();
    json!({
        "type": "object",
        "description": description,
        "properties": known,
        "patternProperties": {NAME: count},
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": MAX_ROLES,
    })
}

/// Words of which one is meant, each with what it means.
pub(crate) fn one_of(
    description: &str,
    words: impl IntoIterator<Item = (&'static str, String)>,
) -> Value {
    let words: Vec<Value> = words
        .into_iter()
        .map(|(word, meaning)| json!({"const": word, "description": meaning}))
        .collect();
    json!({"description": description, "oneOf": words})
}

fn runbook() -> Value {
    let steps = json!({"type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": step(), "description": "What is done; a step starts when all that it needs is done"});
    let rules: Vec<Value> = Action::ALL
        .into_iter()
        .map(|action| rule(action.spec()))
        .collect();
    let mut object = object(
        &RUNBOOK,
        &["runbook", "version", "class", "title", "steps"],
        |field| {
            Some(match field {
                "runbook" => name("Its name, which is the file's name without .yaml"),
                "version" => whole(1, 1_000_000, "Its version, from 1"),
                "class" => name("The class of incidents that it answers, one of plan.yaml"),
                "title" => text("What it is, in a line"),
                "description" => text("What it is, at length"),
                "steps" => steps.clone(),
                _ => return None,
            })
        },
    );
    if let Some(object) = object.as_object_mut() {
        object.insert("definitions".to_owned(), json!({"rules": {"allOf": rules}}));
    }
    document("A Sealwarden runbook", object)
}

fn step() -> Value {
    let mut step = object(&STEP, &["id", "title", "action"], |field| {
        Some(match field {
            "id" => name("Its id, unique in the runbook"),
            "title" => text("What it is for, in a line"),
            "needs" => {
                json!({"type": "array", "items": name("A step"), "uniqueItems": true, "description": "The steps that must be done before"})
            }
            "when" => text(
                "The condition on which it is performed (CEL), evaluated once when its needs are over; without one it always is. It may read incident.FIELD, plan.FIELD, steps.ID.state and steps.ID.outputs.NAME",
            ),
            "undo" => {
                json!({"description": "How it is taken back by `run abort --undo`: the action's own inverse, or what is performed", "anyOf": [{"const": "inverse"}, undo()]})
            }
            _ => return work(field),
        })
    });
    add_rules(&mut step);
    step
}

fn undo() -> Value {
    let mut undo = object(&UNDO, &["action"], |field| match field {
        "title" => Some(text("What it is for, in a line")),
        _ => work(field),
    });
    add_rules(&mut undo);
    undo
}

/// The fields that say what is performed and how.
fn work(field: &str) -> Option<Value> {
    let approval = object(&APPROVAL, &["quorum", "within"], |field| {
        Some(match field {
            "quorum" => {
                quorum("Who must approve: how many people of which roles. One person counts once")
            }
            "within" => duration("How long the step waits for them before somebody is told"),
            _ => return None,
        })
    });
    let retry = object(&RETRY, &["attempts"], |field| {
        Some(match field {
            "attempts" => whole(1, 20, "Attempts altogether, the first included"),
            "backoff" => {
                duration("The pause before the second attempt; each further one doubles it")
            }
            "jitter" => duration("Each pause is up to so much longer, differently in each run"),
            "on" => {
                let kinds = ErrorKind::ALL.map(|kind| (kind.as_str(), kind.meaning().to_owned()));
                let error = one_of("An error", kinds);
                json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": error, "description": "The errors after which it is tried again; all, if this is absent. After another one the step has failed"})
            }
            _ => return None,
        })
    });
    let manual = object(&MANUAL, &["instructions"], |field| {
        Some(match field {
            "instructions" => {
                text("What people are asked to do; it may refer to ${incident.…} and ${steps.…}")
            }
            "evidence" => {
                json!({"type": "array", "maxItems": MAX_EVIDENCE, "items": evidence(), "description": "What they hand in with `run done`; it is the step's output, too"})
            }
            _ => return None,
        })
    });
    let actions = Action::ALL
        .into_iter()
        .map(|action| (action.name(), action.spec().summary.to_owned()));
    Some(match field {
        "action" => one_of("What it performs", actions),
        "with" => {
            json!({"type": "object", "description": "The action's inputs; they may refer to ${incident.…}, ${plan.…} and ${steps.…}"})
        }
        "approval" => approval,
        "retry" => retry,
        "timeout" => duration("How long one attempt may take"),
        "manual" => manual,
        _ => return None,
    })
}

/// A field of evidence.
fn evidence() -> Value {
    object(&EVIDENCE, &["name", "kind"], |field| {
        Some(match field {
            "name" => name("Its name, which later steps know as an output"),
            "kind" => one_of(
                "What it holds",
                KINDS.map(|(kind, it)| (kind, it.to_owned())),
            ),
            "required" => {
                json!({"type": "boolean", "description": "Whether the step cannot be confirmed without it; true if this is absent"})
            }
            "of" => {
                json!({"type": "array", "minItems": 2, "maxItems": MAX_CHOICES, "uniqueItems": true, "items": text("A choice"), "description": "The words of a choice"})
            }
            _ => return None,
        })
    })
}

/// Steps and undos keep to the same rules, which stand in the schema once.
fn add_rules(work: &mut Value) {
    if let Some(work) = work.as_object_mut() {
        work.insert("allOf".to_owned(), json!([{"$ref": "#/definitions/rules"}]));
    }
}

/// What a step with this action has besides.
fn rule(spec: &ActionSpec) -> Value {
    let mut then = Map::new();
    let mut required: Vec<&str> = Vec::new();
    let mut properties = Map::new();
    if needs_approval(spec) {
        required.push("approval");
    }
    if spec.manual {
        required.push("manual");
        properties.insert(
            "with".to_owned(),
            json!({"type": "object", "maxProperties": 0}),
        );
    } else {
        properties.insert("manual".to_owned(), json!({"type": "null"}));
        let inputs: Map<String, Value> = spec
            .inputs
            .iter()
            .map(|input| (input.name.to_owned(), value(input.kind)))
            .collect();
        let needed: Vec<&str> = spec
            .inputs
            .iter()
            .filter(|input| input.required)
            .map(|input| input.name)
            .collect();
        if !needed.is_empty() {
            required.push("with");
        }
        properties.insert(
            "with".to_owned(),
            json!({"properties": inputs, "required": needed, "additionalProperties": false}),
        );
    }
    then.insert("properties".to_owned(), properties.into());
    then.insert("required".to_owned(), required.into());
    json!({"if": {"properties": {"action": {"const": spec.name}}, "required": ["action"]}, "then": then})
}

/// An input: a literal of its type, or a reference.
fn value(kind: ValueType) -> Value {
    match kind {
        ValueType::Text => json!({"type": ["string", "integer"]}),
        ValueType::Time => {
            json!({"type": "string", "description": "A time such as 2026-11-02T10:00:00Z, or a ${…}"})
        }
        ValueType::Count => {
            json!({"type": ["string", "integer"], "description": "A whole number, or a ${…}"})
        }
        ValueType::Mode => {
            let modes: Vec<&str> = DirectiveKind::ALL
                .into_iter()
                .map(DirectiveKind::as_str)
                .filter(|mode| kind.accepts(mode))
                .collect();
            json!({"enum": modes, "description": "Which seals are diverted; always written out"})
        }
    }
}

fn plan() -> Value {
    let targets = object(&TARGETS, &["detect", "contain", "recover"], |field| {
        Some(match field {
            "detect" => duration("Until the incident is open"),
            "contain" => duration("Until containment is proven"),
            "recover" => duration("Until everything is verified and sealing goes on"),
            _ => return None,
        })
    });
    let severities = IncidentSeverity::ALL
        .into_iter()
        .map(|severity| (severity.as_str(), String::new()));
    let severity = one_of("How bad incidents of the class are", severities);
    let class = object(
        &CLASS,
        &["title", "severity", "runbook", "targets"],
        |field| {
            Some(match field {
                "title" => text("What it is, in a line"),
                "severity" => severity.clone(),
                "runbook" => name("The runbook that answers it"),
                "targets" => targets.clone(),
                _ => return None,
            })
        },
    );
    let kinds: Map<String, Value> = DirectiveKind::ALL
        .into_iter()
        .map(|kind| {
            (
                kind.as_str().to_owned(),
                quorum("Who must have approved before a node obeys"),
            )
        })
        .collect();
    let demanded: Vec<&str> = DirectiveKind::ALL
        .into_iter()
        .filter(|kind| !kind.is_optional())
        .map(DirectiveKind::as_str)
        .collect();
    let object = object(
        &PLAN,
        &[
            "plan",
            "version",
            "classes",
            "containment",
            "hold",
            "approval_validity",
        ],
        |field| {
            Some(match field {
                "plan" => name("The plan's name"),
                "version" => whole(1, 1_000_000, "Its version, from 1"),
                "classes" => {
                    json!({"type": "object", "patternProperties": {NAME: class.clone()}, "additionalProperties": false, "description": "The classes of incidents"})
                }
                "containment" => {
                    json!({"type": "object", "properties": kinds.clone(), "required": demanded.clone(), "additionalProperties": false, "description": "What nodes demand before they obey a directive"})
                }
                "hold" => duration("How long a proven signal stops signing by itself"),
                "approval_validity" => duration("How long an approval is good after it was signed"),
                "communication" => communication(),
                _ => return None,
            })
        },
    );
    document("A Sealwarden response plan", object)
}

/// A mapping from each severity to a duration.
fn by_severity(description: &str) -> Value {
    let times: Map<String, Value> = IncidentSeverity::ALL
        .into_iter()
        .map(|severity| (severity.as_str().to_owned(), duration("For this severity")))
        .collect();
    json!({"type": "object", "properties": times, "additionalProperties": false, "description": description})
}

fn communication() -> Value {
    let kinds = ChannelKind::ALL.map(ChannelKind::as_str);
    let audiences = Audience::ALL.map(Audience::as_str);
    let channel = object(&CHANNEL, &["kind", "for"], |field| {
        Some(match field {
            "kind" => {
                json!({"enum": kinds, "description": "What it is; its address stands in settings.yaml under the same name"})
            }
            "for" => {
                json!({"type": "array", "minItems": 1, "items": {"enum": audiences}, "description": "Who reads it"})
            }
            _ => return None,
        })
    });
    let escalation = object(&ESCALATION, &["acknowledge", "contacts"], |field| {
        Some(match field {
            "acknowledge" => by_severity(
                "How long an incident may wait for `incident ack` until the next person is asked",
            ),
            "contacts" => {
                json!({"type": "array", "items": name("A role"), "description": "Whose people are asked, one after another"})
            }
            _ => return None,
        })
    });
    object(&COMMUNICATION, &["owner", "channels"], |field| {
        Some(match field {
            "owner" => name("The role whose people own an incident until somebody acknowledges it"),
            "channels" => {
                json!({"type": "object", "patternProperties": {NAME: channel.clone()}, "additionalProperties": false, "description": "Where people are told"})
            }
            "cadence" => by_severity("How often the owner is reminded to say where things stand"),
            "escalation" => escalation.clone(),
            _ => return None,
        })
    })
}

fn roster() -> Value {
    let roles = json!({"type": "array", "description": "The roles that they have", "items": {"anyOf": [{"enum": Role::KNOWN}, name("A role of your own")]}});
    let line = || text("The line of a .pub file");
    let touch = one_of(
        "What is said of its touch",
        [
            ("required", "It is a FIDO key".to_owned()),
            (
                "waived",
                "Software may sign with it where a touch is asked for".to_owned(),
            ),
        ],
    );
    let key = object(&KEY, &["key"], |field| {
        Some(match field {
            "key" => line(),
            "touch" => touch.clone(),
            _ => return None,
        })
    });
    let keys = json!({"type": "array", "description": "OpenSSH public keys, one line each; somebody without a key cannot approve", "items": {"anyOf": [line(), key]}});
    let person = object(
        &PERSON,
        &["id", "name", "roles", "keys", "contact"],
        |field| {
            Some(match field {
                "id" => {
                    json!({"type": "string", "pattern": "^[a-z][a-z0-9.-]{0,63}$", "description": "The person's id, such as mara.lindqvist"})
                }
                "name" => text("The name shown to people"),
                "roles" => roles.clone(),
                "keys" => keys.clone(),
                "contact" => text("How to reach them"),
                _ => return None,
            })
        },
    );
    let object = object(&ROSTER, &["people"], |field| {
        Some(match field {
            "people" => {
                json!({"type": "array", "items": person, "description": "Who may approve what"})
            }
            "changed_by" => quorum(
                "Who must sign a change of this roster, two people at least; without it two people of different roles, one of them security-lead or break-glass",
            ),
            _ => return None,
        })
    });
    document("A Sealwarden roster", object)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every property that may hold anything.
    fn untyped(value: &Value, path: &str, found: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, inner) in properties {
                let path = format!("{path}/{name}");
                if inner == &Value::Bool(true) {
                    found.push(path.clone());
                }
                untyped(inner, &path, found);
            }
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = value.get(inner) {
                untyped(inner, path, found);
            }
        }
    }

    #[test]
    fn each_field_of_the_reader_has_a_type() {
        for schema in schemas() {
            let mut found = Vec::new();
            untyped(&schema.value, schema.file, &mut found);
            assert_eq!(found, Vec::<String>::new(), "say their types in this file");
        }
    }
}
