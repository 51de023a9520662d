//! Texts with references: what a step takes from the incident, the plan and earlier steps.

use std::fmt;

use crate::action::ValueType;
use crate::names::is_name;
use crate::suggest;

/// The longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 4_096;

/// What an incident offers to steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IncidentField {
    /// The incident's id.
    Id,
    /// The log line concerned, such as `main`.
    Log,
    /// The origin concerned, such as `seal.example.com/main/1`.
    Origin,
    /// The earliest possible compromise: set under quorum, movable only to earlier.
    CompromisedSince,
    /// The incident's class.
    Class,
    /// The sealing key concerned, by its id; only incidents that are about one key have it.
    Key,
    /// The archive concerned, such as `main`.
    Archive,
    /// The verifier concerned that others run.
    Verifier,
    /// The vendor concerned, as in `vendors.yaml`.
    Vendor,
    /// Who stands in for that vendor, by `vendors.yaml` as it was when the run began; `none` if nobody does.
    Fallback,
}

impl IncidentField {
    /// Every field.
    pub const ALL: [Self; 10] = [
        Self::Id,
        Self::Log,
        Self::Origin,
        Self::CompromisedSince,
        Self::Class,
        Self::Key,
        Self::Archive,
        Self::Verifier,
        Self::Vendor,
        Self::Fallback,
    ];

    /// Its name in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Log => "log",
            Self::Origin => "origin",
            Self::CompromisedSince => "compromised_since",
            Self::Class => "class",
            Self::Key => "key",
            Self::Archive => "archive",
            Self::Verifier => "verifier",
            Self::Vendor => "vendor",
            Self::Fallback => "fallback",
        }
    }

    /// What it holds.
    pub fn kind(self) -> ValueType {
        match self {
            Self::CompromisedSince => ValueType::Time,
            Self::Id
            | Self::Log
            | Self::Origin
            | Self::Class
            | Self::Key
            | Self::Archive
            | Self::Verifier
            | Self::Vendor
            | Self::Fallback => ValueType::Text,
        }
    }
}

/// What the plan offers to steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanField {
    /// The plan's name.
    Name,
    /// The plan's version.
    Version,
    /// How long an automatic hold lasts, as written in the plan.
    Hold,
    /// How long an approval is valid, as written in the plan.
    ApprovalValidity,
}

impl PlanField {
    /// Every field.
    pub const ALL: [Self; 4] = [
        Self::Name,
        Self::Version,
        Self::Hold,
        Self::ApprovalValidity,
    ];

    /// Its name in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Version => "version",
            Self::Hold => "hold",
            Self::ApprovalValidity => "approval_validity",
        }
    }

    /// What it holds.
    pub fn kind(self) -> ValueType {
        match self {
            Self::Version => ValueType::Count,
            Self::Name | Self::Hold | Self::ApprovalValidity => ValueType::Text,
        }
    }
}

/// A value that is known only when the step starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `${incident.…}`
    Incident(IncidentField),
    /// `${plan.…}`
    Plan(PlanField),
    /// `${steps.<id>.<output>}`
    Step {
        /// The step, an ancestor of the one that refers to it.
        step: String,
        /// One of the outputs of that step's action.
        output: String,
    },
}

/// `steps.rotate.vkey`, without the braces.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incident(field) => write!(f, "incident.{}", field.as_str()),
            Self::Plan(field) => write!(f, "plan.{}", field.as_str()),
            Self::Step { step, output } => write!(f, "steps.{step}.{output}"),
        }
    }
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Literal(String),
    /// A value put in its place.
    Reference(Reference),
}

/// Text with references. `$${` writes a plain `${`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// `${` without `}`.
    #[error("`${{` is not closed by `}}`; write `$${{` for a plain `${{`")]
    NotClosed,
    /// Nothing offers this.
    #[error("`${{{reference}}}` refers to nothing known: {help}")]
    Unknown {
        /// What stands in the braces.
        reference: String,
        /// What was meant, perhaps.
        help: String,
    },
    /// Longer than [`MAX_TEMPLATE_BYTES`].
    #[error("the text has {0} bytes; at most {MAX_TEMPLATE_BYTES} are read")]
    TooLong(usize),
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(BadTemplate::TooLong(text.len()));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(escaped) = before.strip_suffix('$') {
                literal.push_str(escaped);
                literal.push_str("${");
                rest = after;
                continue;
            }
            literal.push_str(before);
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            let (inside, after) = after.split_once('}').ok_or(BadTemplate::NotClosed)?;
            parts.push(Part::Reference(parse_reference(inside.trim())?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// What it refers to, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Reference(reference) => Some(reference),
        })
    }

    /// The only reference, if the template is nothing else.
    pub fn as_reference(&self) -> Option<&Reference> {
        match self.0.as_slice() {
            [Part::Reference(reference)] => Some(reference),
            _ => None,
        }
    }

    /// The text, if it refers to nothing.
    pub fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with every reference replaced, or the first reference that has no value yet.
    pub fn render(
        &self,
        lookup: &dyn Fn(&Reference) -> Option<String>,
    ) -> Result<String, Reference> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Reference(reference) => {
                    text.push_str(&lookup(reference).ok_or_else(|| reference.clone())?);
                }
            }
        }
        Ok(text)
    }
}

/// The text that [`Template::parse`] reads as the same template.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Literal(text) => f.write_str(&text.replace("${", "$${"))?,
                Part::Reference(reference) => write!(f, "${{{reference}}}")?,
            }
        }
        Ok(())
    }
}

fn parse_reference(text: &str) -> Result<Reference, BadTemplate> {
    let unknown = |help: String| BadTemplate::Unknown {
        reference: text.to_owned(),
        help,
    };
    let mut words = text.split('.');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("incident"), Some(name), None, None) => IncidentField::ALL
            .into_iter()
            .find(|field| field.as_str() == name)
            .map(Reference::Incident)
            .ok_or_else(|| {
                unknown(suggest::remedy(
                    "incident's fields",
                    name,
                    IncidentField::ALL.map(IncidentField::as_str),
                ))
            }),
        (Some("plan"), Some(name), None, None) => PlanField::ALL
            .into_iter()
            .find(|field| field.as_str() == name)
            .map(Reference::Plan)
            .ok_or_else(|| {
                unknown(suggest::remedy(
                    "plan's fields",
                    name,
                    PlanField::ALL.map(PlanField::as_str),
                ))
            }),
        (Some("steps"), Some(step), Some(output), None) if is_name(step) && is_name(output) => {
            Ok(Reference::Step {
                step: step.to_owned(),
                output: output.to_owned(),
            })
        }
        _ => Err(unknown(
            "write ${incident.FIELD}, ${plan.FIELD} or ${steps.STEP.OUTPUT}".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_text_are_told_apart() {
        let template = Template::parse("tell ${steps.find.reported} of ${incident.id}").unwrap();
        assert_eq!(template.references().count(), 2);
        assert_eq!(template.as_reference(), None);
        let text = template
            .render(&|reference| Some(format!("<{reference}>")))
            .unwrap();
        assert_eq!(text, "tell <steps.find.reported> of <incident.id>");
        let only = Template::parse("${ incident.compromised_since }").unwrap();
        assert_eq!(
            only.as_reference(),
            Some(&Reference::Incident(IncidentField::CompromisedSince))
        );
        assert_eq!(
            Template::parse("costs 5$").unwrap().as_literal(),
            Some("costs 5$")
        );
    }

    #[test]
    fn a_plain_brace_can_be_written() {
        let template = Template::parse("$${x} and $${y}").unwrap();
        assert_eq!(template.as_literal(), Some("${x} and ${y}"));
        assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
    }

    #[test]
    fn what_nothing_offers_is_refused_with_a_suggestion() {
        let error = Template::parse("${incident.orign}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean `origin`?"), "{error}");
        for bad in [
            "${",
            "${}",
            "${incident}",
            "${steps.a}",
            "${steps.a.b.c}",
            "${env.HOME}",
            "${steps.A.b}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_without_a_value_is_named() {
        let template = Template::parse("${plan.name}").unwrap();
        assert_eq!(
            template.render(&|_| None),
            Err(Reference::Plan(PlanField::Name))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_comes_back(text in "[$a-z{}. ]{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                proptest::prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
            }
        }
    }
}
