//! The JSON Schema (draft 2020-12) of a runbook's file, so that editors complete and check while somebody types.
//!
//! It is made from the same tables that the reader uses: the fields of each mapping and what each action declares. It says less than the reader, which also
//! proves properties of the graph; what it refuses, the reader refuses.

use serde_json::{Map, Value, json};

use crate::action::{Action, ActionSpec, Field, ValueType};
use crate::fields::Shape;
use crate::graph::needs_approval;
use crate::read_runbook::{APPROVAL, MANUAL, MAX_STEPS, RETRY, RUNBOOK, STEP};

/// A whole number and a unit, one after another: `1h30m`.
const DURATION: &str = "^([0-9]+(ms|s|m|h|d))+$";
/// Ids, names and roles.
const NAME: &str = "^[a-z][a-z0-9-]*$";

/// The schema of `<runbook>.yaml`.
pub fn runbook_schema() -> Value {
    let mut schema = object(&RUNBOOK, &["runbook", "version", "class", "title", "steps"]);
    let about = [
        (
            "$schema",
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", json!("Sealwarden runbook")),
        (
            "$defs",
            json!({
                "duration": { "type": "string", "pattern": DURATION, "description": "Whole numbers with units ms, s, m, h, d: 500ms, 15m, 1h30m" },
                "name": { "type": "string", "pattern": NAME },
                "step": step(),
            }),
        ),
    ];
    schema.extend(about.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(schema)
}

/// A mapping with the fields of a shape and no others.
fn object(shape: &Shape, required: &[&str]) -> Map<String, Value> {
    let properties = shape.known.iter().copied();
    let properties: Map<String, Value> = properties
        .map(|name| (name.to_owned(), property(shape, name)))
        .collect();
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("required".to_owned(), json!(required));
    object.insert("additionalProperties".to_owned(), json!(false));
    object
}

/// What a field holds. One that is not described here takes anything; a test finds it.
fn property(shape: &Shape, name: &str) -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let count = |min: u32, max: u32| json!({ "type": "integer", "minimum": min, "maximum": max });
    let duration = |about: &str| json!({ "$ref": "#/$defs/duration", "description": about });
    match name {
        "runbook" => {
            json!({ "$ref": "#/$defs/name", "description": "The file's name without .yaml" })
        }
        "class" => {
            json!({ "$ref": "#/$defs/name", "description": "The class of incidents that it answers" })
        }
        "version" => count(1, 1_000_000),
        "title" => text("What it is for, in a line"),
        "description" => text("What it is, at length"),
        "steps" => {
            json!({ "type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": { "$ref": "#/$defs/step" } })
        }
        "id" => json!({ "$ref": "#/$defs/name", "description": "Unique in the runbook" }),
        "action" => json!({ "enum": Action::ALL.map(Action::name) }),
        "needs" => {
            json!({ "type": "array", "uniqueItems": true, "items": { "$ref": "#/$defs/name" }, "description": "Steps that must be done before" })
        }
        "with" => {
            json!({ "type": "object", "description": "The action's inputs; ${incident.…}, ${plan.…} and ${steps.ID.OUTPUT} are filled in" })
        }
        "approval" => Value::Object(object(&APPROVAL, &["quorum", "within"])),
        "quorum" => {
            json!({ "type": "object", "minProperties": 1, "propertyNames": { "pattern": NAME }, "additionalProperties": count(1, crate::quorum::MAX_PER_ROLE), "description": "So many people of each role; one person counts once" })
        }
        "within" => duration("How long it waits for them before somebody is told"),
        "retry" => Value::Object(object(&RETRY, &["attempts"])),
        "attempts" => count(1, 20),
        "backoff" => duration("The pause before the second attempt; each further one doubles it"),
        "jitter" => duration("Each pause is up to so much longer, differently in each run"),
        "timeout" => duration("How long one attempt may take"),
        "manual" => Value::Object(object(&MANUAL, &["instructions"])),
        "instructions" => text("What people do; references are filled in"),
        other => json!({ "description": format!("{other} of {}", shape.what) }),
    }
}

/// A step: its fields, and for each action what that takes and needs.
fn step() -> Value {
    let mut step = object(&STEP, &["id", "title", "action"]);
    let actions: Vec<Value> = Action::ALL
        .iter()
        .map(|action| {
            let spec = action.spec();
            let is_it = json!({ "properties": { "action": { "const": spec.name } }, "required": ["action"] });
            json!({ "if": is_it, "then": of_action(spec) })
        })
        .collect();
    step.insert("allOf".to_owned(), Value::Array(actions));
    Value::Object(step)
}

fn of_action(spec: &ActionSpec) -> Value {
    let mut required = Vec::new();
    if needs_approval(spec) {
        required.push("approval");
    }
    if spec.manual {
        required.push("manual");
        let forbidden = json!({ "with": false, "retry": false });
        return json!({ "description": spec.summary, "required": required, "properties": forbidden });
    }
    let needed: Vec<&str> = spec
        .inputs
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !needed.is_empty() {
        required.push("with");
    }
    let inputs: Map<String, Value> = spec
        .inputs
        .iter()
        .map(|field| (field.name.to_owned(), input(field)))
        .collect();
    let with = json!({ "properties": inputs, "required": needed, "additionalProperties": false });
    json!({ "description": spec.summary, "required": required, "properties": { "with": with, "manual": false } })
}

fn input(field: &Field) -> Value {
    match field.kind {
        ValueType::Mode => json!({ "enum": ["queue", "queue-noncritical"] }),
        ValueType::Text | ValueType::Time | ValueType::Count => {
            json!({ "type": ["string", "integer"] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{self, Node};

    /// The few keywords that the schema uses, checked against a YAML tree.
    fn fits(root: &Value, schema: &Value, node: &Value) -> bool {
        let Some(schema) = schema.as_object() else {
            return schema != &Value::Bool(false);
        };
        schema.iter().all(|(keyword, says)| match keyword.as_str() {
            "$ref" => fits(
                root,
                root.pointer(&says.as_str().unwrap()[1..]).unwrap(),
                node,
            ),
            "type" => says
                .as_array()
                .map_or_else(|| is(says, node), |all| all.iter().any(|it| is(it, node))),
            "enum" => says.as_array().unwrap().contains(node),
            "const" => says == node,
            "required" => says
                .as_array()
                .unwrap()
                .iter()
                .all(|name| node.get(name.as_str().unwrap()).is_some()),
            "properties" => says
                .as_object()
                .unwrap()
                .iter()
                .all(|(name, of)| node.get(name).is_none_or(|it| fits(root, of, it))),
            "additionalProperties" => node.as_object().is_none_or(|entries| {
                let known = schema.get("properties").and_then(Value::as_object);
                let mut others = entries
                    .iter()
                    .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                others.all(|(_, it)| fits(root, says, it))
            }),
            "items" => node
                .as_array()
                .unwrap()
                .iter()
                .all(|it| fits(root, says, it)),
            "minItems" => {
                u64::try_from(node.as_array().unwrap().len()).unwrap() >= says.as_u64().unwrap()
            }
            "minProperties" => {
                u64::try_from(node.as_object().unwrap().len()).unwrap() >= says.as_u64().unwrap()
            }
            "minimum" => node.as_i64() >= says.as_i64(),
            "maximum" => node.as_i64() <= says.as_i64(),
            "allOf" => says
                .as_array()
                .unwrap()
                .iter()
                .all(|it| !fits(root, &it["if"], node) || fits(root, &it["then"], node)),
            "pattern" | "propertyNames" | "uniqueItems" | "maxItems" | "description" | "title"
            | "$schema" | "$defs" => true,
            other => panic!("the keyword {other} is not checked here"),
        })
    }

    fn is(kind: &Value, node: &Value) -> bool {
        match kind.as_str().unwrap() {
            "object" => node.is_object(),
            "array" => node.is_array(),
            "string" => node.is_string(),
            "integer" => node.is_i64(),
            other => panic!("the type {other} is not checked here"),
        }
    }

    fn value(node: &Node) -> Value {
        if let Some(entries) = node.value.as_map() {
            let entries = entries
                .iter()
                .map(|(key, node)| (key.text.clone(), value(node)));
            return Value::Object(entries.collect());
        }
        if let Some(items) = node.value.as_list() {
            return items.iter().map(value).collect();
        }
        let number = node.value.as_int().map(|number| json!(number));
        number.unwrap_or_else(|| json!(node.value.as_text().unwrap_or_default()))
    }

    fn accepted(text: &str) -> bool {
        let schema = runbook_schema();
        fits(
            &schema,
            &schema,
            &value(&yaml::read("x.yaml", text).unwrap()),
        )
    }

    const SHIPPED: &str = include_str!("../../../../runbooks/key-compromise.yaml");

    #[test]
    fn the_shipped_runbook_fits_and_each_mistake_that_an_editor_can_see_does_not() {
        assert!(accepted(SHIPPED));
        let mistakes = [
            ("action: isolate-key", "action: isolate"),
            ("title: Open a new origin", "titel: Open a new origin"),
            ("attempts: 3", "attempts: 30"),
            ("version: 1", "version: one"),
            ("      into: ${steps.rotate.origin}\n", ""),
            (
                "      into: ${steps.rotate.origin}\n",
                "      into: x\n      onto: y\n",
            ),
            ("quorum: {legal-counsel: 1", "quorum: {legal-counsel: none"),
            (
                "    timeout: 2m\n    retry",
                "    when: \"true\"\n    retry",
            ),
        ];
        for (good, bad) in mistakes {
            assert!(SHIPPED.contains(good), "{good}");
            let text = SHIPPED.replacen(good, bad, 1);
            assert!(!accepted(&text), "{bad}");
            let refused = crate::Runbook::parse("key-compromise.yaml", &text);
            assert!(refused.is_err(), "the reader refuses it too: {bad}");
        }
    }

    #[test]
    fn every_field_and_every_action_is_described() {
        let text = runbook_schema().to_string();
        for shape in [&RUNBOOK, &STEP, &APPROVAL, &RETRY, &MANUAL] {
            for name in shape.known {
                let plain = format!("{name} of {}", shape.what);
                assert!(!text.contains(&plain), "{plain} is not described");
            }
        }
        for action in Action::ALL {
            assert!(
                text.contains(&format!("{{\"const\":\"{}\"}}", action.name())),
                "{action}"
            );
        }
    }
}
