//! Walks a YAML tree and collects every mistake on the way, each with its place.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::finding::{Finding, Place};
use crate::names::{self, Role};
use crate::plan::IncidentSeverity;
use crate::quorum::Quorum;
use crate::suggest;
use crate::yaml::{Key, Node, Value};

/// The longest single-line text of a plan, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;

/// The texts that may have several lines.
const MULTILINE: [&str; 2] = ["description", "instructions"];

/// Whether a character could make a text look different from what it says when it is shown on a terminal:
/// control characters (escape sequences), and those that turn the direction of writing around.
fn is_deceptive(c: char, multiline: bool) -> bool {
    (c.is_control() && !(multiline && c == '\n'))
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Collects findings about one file.
pub(crate) struct Reader {
    file: String,
    step: Option<String>,
    text: String,
    pub(crate) findings: Vec<Finding>,
}

/// A mapping whose fields are known to be known.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n> {
    entries: &'n [(Key, Node)],
    pub(crate) place: Place,
}

/// Which fields a mapping may have.
pub(crate) struct Shape {
    /// What the mapping is, in words: "a step".
    pub(crate) what: &'static str,
    /// The fields that are understood.
    pub(crate) known: &'static [&'static str],
    /// Fields that other systems or later versions have, each with what it is: refused by name.
    pub(crate) unsupported: &'static [(&'static str, &'static str)],
}

impl<'n> Fields<'n> {
    /// The field of this name; a field without a value counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|(key, _)| key.text == name)
            .map(|(_, node)| node)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// Where the field stands, or the mapping if it has none.
    pub(crate) fn place_of(&self, name: &str) -> Place {
        self.entries
            .iter()
            .find(|(key, _)| key.text == name)
            .map_or(self.place, |(key, _)| key.place)
    }
}

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self::of_text(file, "")
    }

    /// A reader that can say where inside a value something stands.
    pub(crate) fn of_text(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            step: None,
            text: text.to_owned(),
            findings: Vec::new(),
        }
    }

    /// Findings from here on are about this step.
    pub(crate) fn enter_step(&mut self, step: Option<&str>) {
        self.step = step.map(str::to_owned);
    }

    /// Where byte `offset` of a value stands in the file: exactly where the value stands in one line as it is, else where the value begins.
    pub(crate) fn inside(&self, place: Place, value: &str, offset: usize) -> Place {
        let number = |number: u32| usize::try_from(number).ok()?.checked_sub(1);
        let found = || {
            let line = self.text.lines().nth(number(place.line)?)?;
            let (start, _) = line.char_indices().nth(number(place.column)?)?;
            let rest = line.get(start..)?;
            let quoted = usize::from(rest.starts_with(['"', '\'']));
            let as_is = rest.get(quoted..)?.starts_with(value);
            let before = value.get(..offset).filter(|_| as_is)?.chars().count();
            let column = u32::try_from(before + quoted).ok()?;
            Some(Place {
                column: place.column.checked_add(column)?,
                ..place
            })
        };
        found().unwrap_or(place)
    }

    /// Records an error.
    pub(crate) fn error(
        &mut self,
        place: Place,
        code: &'static str,
        message: String,
        remedy: impl Into<String>,
    ) {
        let mut finding = Finding::error(&self.file, place, code, message).remedy(remedy);
        finding.step.clone_from(&self.step);
        self.findings.push(finding);
    }

    /// The node as a mapping of known fields.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, shape: &Shape) -> Option<Fields<'n>> {
        let entries = self.entries(node, shape.what)?;
        for (key, _) in entries {
            let name = key.text.as_str();
            if shape.known.contains(&name) {
                continue;
            }
            if let Some((_, what)) = shape.unsupported.iter().find(|(field, _)| *field == name) {
                let message = format!("`{name}` ({what}) is not supported yet");
                self.error(
                    key.place,
                    "unsupported",
                    message,
                    "remove it: what cannot be executed is refused, never skipped",
                );
                continue;
            }
            let remedy = suggest::remedy("fields", name, shape.known.iter().copied());
            let message = format!("{} has no field `{name}`", shape.what);
            self.error(key.place, "unknown-field", message, remedy);
        }
        Some(Fields {
            entries,
            place: node.place,
        })
    }

    /// The node as a mapping with any keys.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
        let entries = node.value.as_map();
        if entries.is_none() {
            let message = format!("{what} is a mapping, and here is {}", node.value.kind());
            self.error(
                node.place,
                "wrong-type",
                message,
                "write `name: value` lines",
            );
        }
        entries
    }

    /// The required `version` of a file of the plan.
    pub(crate) fn version(&mut self, fields: &Fields<'_>) -> Option<u32> {
        let node = self.required(fields, "version")?;
        self.count(node, "version", 1, 1_000_000)
    }

    /// The required mapping `list` of at most `most` entries, each of them `one` ("a vendor") that `read` reads under its name. None of them is read where they are too many.
    pub(crate) fn named<T>(
        &mut self,
        fields: &Fields<'_>,
        (list, one): (&str, &str),
        most: usize,
        mut read: impl FnMut(&mut Self, &Key, &Node) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let node = self.required(fields, list);
        let entries = node
            .and_then(|node| self.entries(node, &format!("`{list}`")))
            .unwrap_or_default();
        let mut by_name = BTreeMap::new();
        if entries.len() > most {
            let message = format!("there are {} {list}", entries.len());
            let remedy = format!("at most {most} are read");
            self.error(fields.place, "too-many", message, remedy);
            return by_name;
        }
        for (key, node) in entries {
            let named = self.check_name(&key.text, key.place, one);
            if let Some(found) = read(self, key, node).filter(|_| named) {
                by_name.insert(key.text.clone(), found);
            }
        }
        by_name
    }

    /// The node as a list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        let items = node.value.as_list();
        if items.is_none() {
            let message = format!("{what} is a list, and here is {}", node.value.kind());
            self.error(
                node.place,
                "wrong-type",
                message,
                "write `- item` lines or [a, b]",
            );
        }
        items
    }

    /// A field that must be there.
    pub(crate) fn required<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Option<&'n Node> {
        let found = fields.get(name);
        if found.is_none() {
            let message = format!("`{name}` is missing");
            self.error(
                fields.place_of(name),
                "missing-field",
                message,
                format!("add `{name}:`"),
            );
        }
        found
    }

    /// The node as a text that says something.
    pub(crate) fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        let Some(text) = node.value.as_text() else {
            let message = format!("`{name}` is a text, and here is {}", node.value.kind());
            self.error(node.place, "wrong-type", message, "put it in quotes");
            return None;
        };
        if text.trim().is_empty() {
            self.error(
                node.place,
                "empty",
                format!("`{name}` is empty"),
                "write something",
            );
            return None;
        }
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("`{name}` has {} bytes", text.len());
            let remedy = format!("write at most {MAX_TEXT_BYTES}");
            self.error(node.place, "too-long", message, remedy);
            return None;
        }
        let long = MULTILINE.contains(&name);
        if let Some(c) = text.trim_end().chars().find(|c| is_deceptive(*c, long)) {
            let message = format!("`{name}` holds the character {}", c.escape_unicode());
            let remedy = "remove it: what people approve must look like what it is";
            self.error(node.place, "bad-character", message, remedy);
            return None;
        }
        Some(text.trim_end().to_owned())
    }

    /// A text field that must be there.
    pub(crate) fn required_text(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        let node = self.required(fields, name)?;
        self.text(node, name)
    }

    /// A field that must be there and hold a name (small letters, digits, `-`).
    pub(crate) fn required_name(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        let node = self.required(fields, name)?;
        let text = self.text(node, name)?;
        self.check_name(&text, node.place, name).then_some(text)
    }

    /// Whether a text is a name; if not, says so.
    pub(crate) fn check_name(&mut self, text: &str, place: Place, what: &str) -> bool {
        let good = names::is_name(text);
        if !good {
            let message = format!("`{}` cannot be a name ({what})", text.escape_debug());
            self.error(
                place,
                "bad-name",
                message,
                "use small letters, digits and `-`, a letter first, at most 64",
            );
        }
        good
    }

    /// The node as a whole number of a range.
    pub(crate) fn count(&mut self, node: &Node, name: &str, min: u32, max: u32) -> Option<u32> {
        let number = node
            .value
            .as_int()
            .and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let message = format!("`{name}` is a number, and here is {}", node.value.kind());
            self.error(
                node.place,
                "bad-number",
                message,
                format!("write a whole number from {min} to {max}"),
            );
        }
        number
    }

    /// The node as a duration of at least `min`.
    pub(crate) fn duration(&mut self, node: &Node, name: &str, min: Duration) -> Option<Duration> {
        let text = self.text(node, name)?;
        match names::parse_duration(&text) {
            Ok(duration) if duration >= min => Some(duration),
            Ok(_) => {
                let message = format!("`{name}` is {text}");
                let remedy = format!("at least {}", names::show_duration(min));
                self.error(node.place, "bad-duration", message, remedy);
                None
            }
            Err(bad) => {
                self.error(
                    node.place,
                    "bad-duration",
                    format!("`{name}`: {bad}"),
                    "for example 15m",
                );
                None
            }
        }
    }

    /// A duration field that must be there.
    pub(crate) fn required_duration(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        min: Duration,
    ) -> Option<Duration> {
        let node = self.required(fields, name)?;
        self.duration(node, name, min)
    }

    /// The node as a role's name.
    pub(crate) fn role(&mut self, text: &str, place: Place) -> Option<Role> {
        match Role::new(text) {
            Ok(role) => Some(role),
            Err(bad) => {
                self.error(
                    place,
                    "bad-name",
                    bad.to_string(),
                    "for example security-lead",
                );
                None
            }
        }
    }

    /// The node as a severity of incidents.
    pub(crate) fn severity(&mut self, node: &Node) -> Option<IncidentSeverity> {
        let text = self.text(node, "severity")?;
        let severity = IncidentSeverity::ALL
            .into_iter()
            .find(|known| known.as_str() == text);
        if severity.is_none() {
            let words = IncidentSeverity::ALL.map(IncidentSeverity::as_str);
            let message = format!("`{}` is no severity", text.escape_debug());
            let remedy = suggest::remedy("severities", &text, words);
            self.error(node.place, "bad-severity", message, remedy);
        }
        severity
    }

    /// The node as a quorum: a mapping from role to count.
    pub(crate) fn quorum(&mut self, node: &Node) -> Option<Quorum> {
        let entries = self.entries(node, "a quorum")?;
        let mut roles = BTreeMap::new();
        let mut good = true;
        for (key, value) in entries {
            let role = self.role(&key.text, key.place);
            let count = self.count(value, &key.text, 1, crate::quorum::MAX_PER_ROLE);
            match role.zip(count) {
                Some((role, count)) => {
                    roles.insert(role, count);
                }
                None => good = false,
            }
        }
        if !good {
            return None;
        }
        match Quorum::new(roles) {
            Ok(quorum) => Some(quorum),
            Err(bad) => {
                self.error(
                    node.place,
                    "bad-quorum",
                    bad.to_string(),
                    "for example {security-lead: 1}",
                );
                None
            }
        }
    }
}
