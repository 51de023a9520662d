//! The JSON Schema of `detectors.yaml`, from the reader's own tables.

use serde_json::{Map, Value, json};

use super::detector::{Aggregate, DetectorKind};
use super::measure::Measure;
use super::outside::OUTSIDE;
use super::read::{FILE, WINDOW, shape};
use crate::names::Role;
use crate::schema::{NAME, document, duration, name, object, one_of, text, whole};

/// A number with at most three digits behind the point.
fn number(description: &str) -> Value {
    json!({"type": "number", "minimum": 0, "multipleOf": 0.001, "description": description})
}

fn measure(description: &str) -> Value {
    let measures = Measure::ALL.into_iter().map(|it| {
        (
            it.as_str(),
            format!("Of a {}. {}", it.of().as_str(), it.summary()),
        )
    });
    one_of(description, measures)
}

/// The type of a field of detectors.
fn field(field: &str) -> Option<Value> {
    Some(match field {
        "title" => text("What it says, in a line"),
        "owner" => {
            json!({"description": "The role that keeps it", "anyOf": [{"enum": Role::KNOWN}, name("A role of your own")]})
        }
        "kind" => one_of(
            "How it concludes",
            DetectorKind::ALL
                .into_iter()
                .map(|kind| (kind.as_str(), kind.summary().to_owned())),
        ),
        "class" => name("The class of its signals, one of plan.yaml"),
        "about" => text(
            "What its signals are about, with {name} for the log, node …; signals about the same join one incident",
        ),
        "only" => {
            json!({"type": "array", "minItems": 1, "maxItems": 64, "items": text("A name"), "description": "Which logs, nodes …; without it all"})
        }
        "near" => whole(
            0,
            99,
            "From how many percent of its limit on a near miss is recorded; 0: never; 80 unless said",
        ),
        "again" => {
            duration("For how long it says nothing more of the same after a signal; 1h unless said")
        }
        "measure" => measure("What it looks at"),
        "all" => measure("Everything"),
        "bad" => measure("What of it was bad"),
        "each" => measure("Each of these …"),
        "needs" => measure("… has one of these"),
        "of" => {
            json!({"enum": Aggregate::ALL.map(Aggregate::as_str), "description": "How the values become one"})
        }
        "window" => duration("Over which time"),
        "within" => duration("In which time"),
        "bucket" => duration("A bucket's length"),
        "slower" => duration("A canary that takes longer counts as failed"),
        "above" => number("More is a signal"),
        "below" => number("Less is a signal"),
        "score" => number("How many deviations"),
        "least" => number("The least distance, or number, that matters"),
        "weight" => number("How much the newest bucket weighs, 0.001 to 1"),
        "factor" => number("How many times"),
        "objective" => number("What share must be good, percent, such as 99.9"),
        "buckets" => whole(8, 512, "How many buckets are the baseline"),
        "samples" => whole(
            1,
            1_000_000_000,
            "How many values there must be; 1 unless said",
        ),
        "allowed" => whole(0, 1_000_000_000, "How many may lack it; none unless said"),
        "failures" => whole(1, 100, "How many failures in a row"),
        "windows" => {
            json!({"type": "array", "minItems": 1, "maxItems": 4, "items": burn_window(), "description": "Pairs of windows, one of which is enough"})
        }
        _ => return None,
    })
}

fn burn_window() -> Value {
    object(&WINDOW, WINDOW.known, |field| {
        Some(match field {
            "long" => duration("It says that it matters"),
            "short" => duration("It says that it goes on"),
            "factor" => number("How many times faster than the budget allows"),
            _ => return None,
        })
    })
}

/// One schema for each kind, chosen by the word.
fn detector() -> Value {
    let rules = DetectorKind::ALL.into_iter().map(|kind| {
        let (shape, needed) = shape(kind);
        let mut required = vec!["title", "owner", "kind"];
        if kind != DetectorKind::Proven {
            required.push("class");
        }
        required.extend(needed);
        let known: Map<String, Value> = shape
            .known
            .iter()
            .map(|name| ((*name).to_owned(), field(name).unwrap_or(Value::Bool(true))))
            .collect();
        json!({
            "if": {"properties": {"kind": {"const": kind.as_str()}}, "required": ["kind"]},
            "then": {"properties": known, "required": required, "additionalProperties": false},
        })
    });
    let rules: Vec<Value> = rules.collect();
    json!({"type": "object", "properties": {"kind": field("kind")}, "required": ["kind"], "allOf": rules})
}

/// The schema of the file.
pub(crate) fn schema() -> Value {
    let detector = detector();
    let outside = object(&OUTSIDE, &["labels", "class"], |field| {
        Some(match field {
            "labels" => {
                json!({"type": "object", "minProperties": 1, "additionalProperties": text("The value; * is any"), "description": "Labels that an alert must have"})
            }
            "class" => name("The class of its signals, one of plan.yaml"),
            "about" => {
                text("What they are about, with {label} for a label's value; without it the source")
            }
            _ => return None,
        })
    });
    let object = object(&FILE, &["version", "detectors"], |field| {
        Some(match field {
            "version" => whole(1, 1_000_000, "Its version, from 1"),
            "detectors" => {
                json!({"type": "object", "patternProperties": {NAME: detector.clone()}, "additionalProperties": false, "description": "The detectors, by name"})
            }
            "outside" => {
                json!({"type": "array", "maxItems": 256, "items": outside.clone(), "description": "What labels of outside sources mean; the first rule that matches counts"})
            }
            _ => return None,
        })
    });
    document("Sealwarden's detectors", object)
}
