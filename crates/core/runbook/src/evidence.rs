//! `manual: {evidence: […]}`: what people hand in before a step that they perform counts as done.

use std::fmt;

use crate::action::ValueType;
use crate::fields::{Reader, Shape};
use crate::finding::Place;
use crate::suggest;
use crate::yaml::{Node, Value};

/// The most fields of evidence that a step can ask for.
pub(crate) const MAX_EVIDENCE: usize = 20;
/// The most words that a choice can have.
pub(crate) const MAX_CHOICES: usize = 50;
/// The longest value of a field that is no file, in bytes.
pub const MAX_EVIDENCE_BYTES: usize = 1000;

/// The kinds of evidence, as runbooks name them.
pub(crate) const KINDS: [(&str, &str); 4] = [
    ("text", "A line of text"),
    ("number", "A whole number from 0"),
    (
        "file",
        "A file, kept in the evidence store; its value is its SHA-256 (hex)",
    ),
    ("choice", "One of the words under `of`"),
];

pub(crate) const EVIDENCE: Shape = Shape {
    what: "a field of evidence",
    known: &["name", "kind", "required", "of"],
    unsupported: &[],
};

/// What a field of evidence holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// A line of text.
    Text,
    /// A whole number from 0.
    Number,
    /// A file; its value is the SHA-256 (64 hex digits) of its bytes.
    File,
    /// One of these words.
    Choice(Vec<String>),
}

/// Something that people hand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceField {
    /// Its name, which is also the name of the step's output.
    pub name: String,
    /// What it holds.
    pub kind: EvidenceKind,
    /// Whether the step cannot be confirmed without it. Later steps can take only what is required.
    pub required: bool,
    /// Where it stands.
    pub place: Place,
}

impl EvidenceField {
    /// The type of the output.
    pub fn value_type(&self) -> ValueType {
        match self.kind {
            EvidenceKind::Text | EvidenceKind::File | EvidenceKind::Choice(_) => ValueType::Text,
            EvidenceKind::Number => ValueType::Count,
        }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.kind == EvidenceKind::File
    }

    /// Why `value` is none of this field; of a file, `value` is its digest.
    pub fn refusal(&self, value: &str) -> Option<String> {
        let name = &self.name;
        if value.trim().is_empty() {
            return Some(format!("evidence {name} is empty"));
        }
        if value.len() > MAX_EVIDENCE_BYTES {
            let bytes = value.len();
            return Some(format!(
                "evidence {name} has {bytes} bytes; at most {MAX_EVIDENCE_BYTES} are kept: ask for a file instead"
            ));
        }
        let is_digest = |value: &str| {
            let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            value.len() == 64 && value.bytes().all(hex)
        };
        match &self.kind {
            EvidenceKind::Text => None,
            EvidenceKind::Number => (!ValueType::Count.accepts(value))
                .then(|| format!("evidence {name} is {value:?}; write a whole number from 0")),
            EvidenceKind::File => {
                (!is_digest(value)).then(|| format!("evidence {name} is no SHA-256 of a file"))
            }
            EvidenceKind::Choice(words) => (!words.iter().any(|word| word == value)).then(|| {
                let words = words.iter().map(String::as_str);
                let remedy = suggest::remedy("choices", value, words.collect::<Vec<_>>());
                format!("evidence {name} is {value:?}, which is none of its choices ({remedy})")
            }),
        }
    }
}

/// `letter (file)`, `channel (mail, phone; optional)`.
impl fmt::Display for EvidenceField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            EvidenceKind::Text => "text".to_owned(),
            EvidenceKind::Number => "number".to_owned(),
            EvidenceKind::File => "file".to_owned(),
            EvidenceKind::Choice(words) => words.join(" or "),
        };
        let optional = if self.required { "" } else { "; optional" };
        write!(f, "{} ({kind}{optional})", self.name)
    }
}

/// Reads the fields that a manual step asks for. `taken` are names of outputs that it has anyway.
pub(crate) fn read(reader: &mut Reader, node: &Node, taken: &[&str]) -> Vec<EvidenceField> {
    let mut fields: Vec<EvidenceField> = Vec::new();
    let items = reader.list(node, "`evidence`").unwrap_or_default();
    if items.len() > MAX_EVIDENCE {
        let message = format!("the step asks for {} fields of evidence", items.len());
        let remedy = format!("at most {MAX_EVIDENCE} are read");
        reader.error(node.place, "too-long", message, remedy);
        return fields;
    }
    for item in items {
        let Some(field) = read_field(reader, item) else {
            continue;
        };
        let name = field.name.as_str();
        let twice = fields.iter().any(|known| known.name == name);
        if twice || taken.contains(&name) {
            let message = if twice {
                format!("the evidence `{name}` is asked for twice")
            } else {
                format!("`{name}` is an output of every manual step")
            };
            let remedy = "give each field a name of its own";
            reader.error(field.place, "duplicate-evidence", message, remedy);
            continue;
        }
        fields.push(field);
    }
    fields
}

fn read_field(reader: &mut Reader, node: &Node) -> Option<EvidenceField> {
    let fields = reader.fields(node, &EVIDENCE)?;
    let name = reader.required_name(&fields, "name");
    let kind_node = reader.required(&fields, "kind")?;
    let word = reader.text(kind_node, "kind")?;
    let choices = fields.get("of");
    let kind = match word.as_str() {
        "text" => EvidenceKind::Text,
        "number" => EvidenceKind::Number,
        "file" => EvidenceKind::File,
        "choice" => {
            let node = reader.required(&fields, "of")?;
            EvidenceKind::Choice(read_choices(reader, node)?)
        }
        _ => {
            let message = format!("there is no evidence of kind `{}`", word.escape_debug());
            let remedy = suggest::remedy("kinds", &word, KINDS.map(|(kind, _)| kind));
            reader.error(kind_node.place, "unknown-evidence", message, remedy);
            return None;
        }
    };
    if let Some(node) = choices.filter(|_| word != "choice") {
        let message = format!("a {word} has no choices");
        reader.error(
            node.place,
            "bad-input",
            message,
            "remove `of`, or write `kind: choice`",
        );
        return None;
    }
    let required = match fields.get("required") {
        None => true,
        Some(node) => match node.value {
            Value::Bool(required) => required,
            Value::Null
            | Value::Int(_)
            | Value::OtherNumber(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => {
                let message = format!(
                    "`required` is true or false, and here is {}",
                    node.value.kind()
                );
                reader.error(node.place, "wrong-type", message, "write `true` or `false`");
                return None;
            }
        },
    };
    Some(EvidenceField {
        name: name?,
        kind,
        required,
        place: node.place,
    })
}

fn read_choices(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let items = reader.list(node, "`of`")?;
    if !(2..=MAX_CHOICES).contains(&items.len()) {
        let message = format!("a choice between {} words", items.len());
        let remedy = format!("name 2 to {MAX_CHOICES}");
        reader.error(node.place, "bad-choice", message, remedy);
        return None;
    }
    let mut words: Vec<String> = Vec::new();
    for item in items {
        let word = reader.text(item, "of")?;
        if words.contains(&word) || word.len() > MAX_EVIDENCE_BYTES {
            let message = format!("`{}` is named twice, or too long", word.escape_debug());
            reader.error(
                item.place,
                "bad-choice",
                message,
                "write it once, and briefly",
            );
            return None;
        }
        words.push(word);
    }
    Some(words)
}
