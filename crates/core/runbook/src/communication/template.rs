//! Templates of notices to everybody: `notices/<name>.md`, front matter between `---` lines and a text for minijinja.
//!
//! Legal counsel and communications sign a file's bytes beforehand; the armored signatures stand one after another in `notices/<name>.md.sig`.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, UndefinedBehavior, Value};

use super::read::read_language;
use crate::digest::{hex, sha256};
use crate::fields::{Reader, Shape};
use crate::finding::{Finding, Place};
use crate::names;
use crate::plan::{Class, IncidentSeverity};
use crate::yaml;

/// The folder of templates below the plan's.
pub(crate) const FOLDER: &str = "notices/";
/// The largest template, bytes, and the largest text that it makes.
const MAX_TEMPLATE: usize = 16 * 1024;
const MAX_RENDERED: usize = 32 * 1024;
/// What a text may cost to make, in minijinja's units.
const FUEL: u64 = 20_000;

/// The values that a template may name.
pub const NOTICE_FIELDS: [&str; 9] = [
    "incident",
    "class",
    "class_title",
    "severity",
    "stage",
    "opened",
    "since",
    "origin",
    "installation",
];

const FRONT: Shape = Shape {
    what: "a notice's front matter",
    known: &["title", "classes", "severity", "language"],
    unsupported: &[],
};

/// A template of a notice to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeTemplate {
    /// Its name: the file's without `.md`.
    pub name: String,
    /// Its file inside the plan.
    pub file: String,
    /// The notice's line.
    pub title: String,
    /// The classes of incidents that it is for.
    pub classes: BTreeSet<String>,
    /// How bad an incident has to be, at least.
    pub severity: IncidentSeverity,
    /// BCP 47 language.
    pub language: String,
    /// The file's whole text: what is signed.
    pub source: String,
    /// SHA-256 (hex) of it.
    pub digest: String,
    /// Armored SSH signatures, as they stand beside it.
    pub signatures: Vec<String>,
    /// Where the classes stand.
    pub place: Place,
    body: String,
}

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BadNotice {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl NoticeTemplate {
    /// Reads a template and renders it once, so that what it names is known now.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Vec<Finding>> {
        let at = |line| Place { line, column: 1 };
        let error = |line, code, message: String, remedy: &str| {
            vec![Finding::error(file, at(line), code, message).remedy(remedy)]
        };
        let name = file
            .strip_prefix(FOLDER)
            .and_then(|f| f.strip_suffix(".md"))
            .unwrap_or_default();
        if !names::is_name(name) {
            return Err(error(
                1,
                "bad-name",
                format!("`{name}` cannot be a notice's name"),
                "use small letters, digits and `-`, a letter first",
            ));
        }
        if text.len() > MAX_TEMPLATE {
            return Err(error(
                1,
                "too-long",
                format!("the notice has {} bytes", text.len()),
                "write at most 16384",
            ));
        }
        let Some((front, body)) = text
            .strip_prefix("---\n")
            .and_then(|rest| rest.split_once("\n---\n"))
        else {
            return Err(error(
                1,
                "no-front-matter",
                "the notice has no front matter".to_owned(),
                "begin with a `---` line, `title:`, `classes:` and `severity:`, and another `---` line",
            ));
        };
        // A comment in place of the first line keeps the numbers of the lines.
        let root = yaml::read(file, &format!("#\n{front}\n"))?;
        let mut reader = Reader::new(file);
        let Some(fields) = reader.fields(&root, &FRONT) else {
            return Err(reader.findings);
        };
        let title = reader.required_text(&fields, "title");
        let severity = reader
            .required(&fields, "severity")
            .and_then(|node| reader.severity(node));
        let language = match fields.get("language") {
            None => Some("en".to_owned()),
            Some(node) => read_language(&mut reader, node),
        };
        let mut classes = BTreeSet::new();
        if let Some(node) = reader.required(&fields, "classes") {
            for item in reader.list(node, "`classes`").unwrap_or_default() {
                classes.extend(reader.text(item, "classes"));
            }
        }
        let (Some(title), Some(severity), Some(language), true) =
            (title, severity, language, reader.findings.is_empty())
        else {
            return Err(reader.findings);
        };
        let lines_before = front.lines().count() + 2;
        let template = Self {
            name: name.to_owned(),
            file: file.to_owned(),
            title,
            classes,
            severity,
            language,
            source: text.to_owned(),
            digest: hex(&sha256(text.as_bytes())),
            signatures: Vec::new(),
            place: fields.place_of("classes"),
            // Empty lines in place of the front matter, for the same reason.
            body: format!("{}{body}", "\n".repeat(lines_before)),
        };
        let sample = NOTICE_FIELDS
            .iter()
            .map(|field| ((*field).to_owned(), (*field).to_owned()));
        match template.render(&sample.collect()) {
            Ok(_) => Ok(template),
            Err(bad) => {
                let line = u32::try_from(bad.line).unwrap_or(0);
                let remedy = format!("it may name {}", NOTICE_FIELDS.join(", "));
                Err(error(line, "bad-notice", bad.reason, &remedy))
            }
        }
    }

    /// Takes in the text of the signatures' file.
    pub(crate) fn sign(&mut self, text: &str) {
        const END: &str = "-----END SSH SIGNATURE-----";
        let parts = text.split_inclusive(END).filter(|part| part.contains(END));
        self.signatures = parts.map(|part| format!("{}\n", part.trim())).collect();
    }

    /// Whether an incident is its matter.
    pub fn is_for(&self, class: &str, severity: IncidentSeverity) -> bool {
        // The worst stands first.
        self.classes.contains(class) && severity <= self.severity
    }

    /// The text with these values. Names that are not there are errors; no files, no loops without end.
    pub fn render(&self, values: &BTreeMap<String, String>) -> Result<String, BadNotice> {
        let bad = |error: &minijinja::Error| BadNotice {
            file: self.file.clone(),
            line: error.line().unwrap_or(0),
            reason: match error.detail() {
                Some(detail) => format!("{}: {detail}", error.kind()),
                None => error.kind().to_string(),
            },
        };
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        let template = environment
            .template_from_str(&self.body)
            .map_err(|e| bad(&e))?;
        let pairs = values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let text = template
            .render(Value::from_pairs(pairs))
            .map_err(|e| bad(&e))?;
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_RENDERED {
            return Err(BadNotice {
                file: self.file.clone(),
                line: 1,
                reason: format!(
                    "its text has {} bytes; 1 to {MAX_RENDERED} can be sent",
                    text.len()
                ),
            });
        }
        Ok(format!("{text}\n"))
    }
}

/// Errors of a template against the plan's classes.
pub(crate) fn check(template: &NoticeTemplate, classes: &BTreeMap<String, Class>) -> Vec<Finding> {
    let unknown = template
        .classes
        .iter()
        .filter(|class| !classes.contains_key(*class));
    let mut findings: Vec<Finding> = unknown
        .map(|class| {
            let message = format!("the plan has no class `{}`", class.escape_debug());
            let known = classes.keys().map(String::as_str);
            let remedy = crate::suggest::remedy("classes", class, known);
            Finding::error(&template.file, template.place, "unknown-class", message).remedy(remedy)
        })
        .collect();
    if template.classes.is_empty() {
        let message = "the notice is for no class".to_owned();
        let remedy = "name the classes that it is for";
        findings
            .push(Finding::error(&template.file, template.place, "empty", message).remedy(remedy));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "---\ntitle: Seals are late\nclasses: [kms-outage]\nseverity: high\n---\nSince {{ since }} seals are late.\n\n{% if origin %}Origin: {{ origin }}{% endif %}\n";

    fn code(text: &str) -> (&'static str, u32) {
        let findings = NoticeTemplate::parse("notices/late.md", text).unwrap_err();
        (findings[0].code, findings[0].place.line)
    }

    #[test]
    fn a_template_makes_a_text_from_what_it_may_name() {
        let template = NoticeTemplate::parse("notices/late.md", GOOD).unwrap();
        assert!(template.is_for("kms-outage", IncidentSeverity::Critical));
        assert!(template.is_for("kms-outage", IncidentSeverity::High));
        assert!(!template.is_for("kms-outage", IncidentSeverity::Low));
        assert!(!template.is_for("key-compromise", IncidentSeverity::Critical));
        let values = NOTICE_FIELDS.map(|f| (f.to_owned(), "<{{ x }}>".to_owned()));
        let text = template.render(&values.into()).unwrap();
        assert_eq!(
            text, "Since <{{ x }}> seals are late.\n\nOrigin: <{{ x }}>\n",
            "values are no templates"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        assert_eq!(code("no front matter"), ("no-front-matter", 1));
        assert_eq!(
            code(&GOOD.replace("severity: high", "severity: hi")),
            ("bad-severity", 4)
        );
        assert_eq!(code(&GOOD.replace("title:", "titel:")).0, "unknown-field");
        assert_eq!(
            code(&GOOD.replace("{{ since }}", "{{ sinse }}")),
            ("bad-notice", 6)
        );
        assert_eq!(code(&GOOD.replace("{% endif %}", "")).0, "bad-notice");
        assert_eq!(
            code(&GOOD.replace(
                "{{ since }}",
                "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
            ))
            .0,
            "bad-notice"
        );
        assert_eq!(
            code(&GOOD.replace("{{ since }}", "{% include 'x' %}")).0,
            "bad-notice"
        );
        assert_eq!(code(&"x".repeat(17_000)), ("too-long", 1));
        let odd = NoticeTemplate::parse("notices/../x.md", GOOD).unwrap_err();
        assert_eq!(odd[0].code, "bad-name");
    }
}
