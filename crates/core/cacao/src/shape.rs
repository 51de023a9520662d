//! The objects of a CACAO v2.0 playbook as tables: which properties each has, and what they hold.
//!
//! Source: CACAO Security Playbooks Version 2.0, OASIS Committee Specification 01 (27 November 2023), and its
//! JSON schemas. These are draft-07 and say `unevaluatedProperties: false`, a word that draft-07 does not know:
//! validators accept more properties, and published playbooks have some. So unknown properties are warnings here,
//! except where one is nearly the name of a known property: then it is a typing mistake that would change what runs.

/// What a property holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A text.
    Text,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// `type--UUID`.
    Id,
    /// RFC 3339, in UTC with `Z`.
    Time,
    /// True or false.
    Bool,
    /// A whole number from `min` to `max`.
    Whole { min: u64, max: u64 },
    /// A text, or null for "not known".
    TextOrNull,
    /// A list of at least so many.
    List { of: &'static Kind, min: usize },
    /// An object whose keys are of one kind.
    Map { key: Key, of: &'static Kind },
    /// An object with these properties.
    Object(&'static Shape),
    /// Any object: its owner knows what it means.
    AnyObject,
    /// A workflow step; its `type` says which shape.
    Step,
    /// A STIX-like comparison.
    Condition,
    /// Base64.
    Base64,
}

/// What the keys of a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// `__name__`.
    Variable,
    /// `type--UUID`, and the value's `type` is that type.
    OwnId,
    /// `extension-definition--UUID`.
    Extension,
    /// Any text of at most 250 bytes.
    Any,
}

/// A property of an object.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// Which properties an object has.
#[derive(Debug)]
pub(crate) struct Shape {
    /// What it is, in words: "a playbook".
    pub(crate) what: &'static str,
    pub(crate) properties: &'static [Property],
    /// The shape that it extends.
    pub(crate) base: Option<&'static Shape>,
    /// Whether it may have more: its vocabulary is open.
    pub(crate) open: bool,
}

impl Shape {
    /// Its properties, those of its base last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Property> {
        self.properties
            .iter()
            .chain(self.base.into_iter().flat_map(|base| base.properties))
    }
}

const fn need(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        kind,
        required: true,
    }
}

const fn may(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        kind,
        required: false,
    }
}

const TEXTS: Kind = Kind::List {
    of: &Kind::Text,
    min: 1,
};
const IDS: Kind = Kind::List {
    of: &Kind::Id,
    min: 1,
};
const PERCENT: Kind = Kind::Whole { min: 0, max: 100 };
/// Milliseconds; the bound is far beyond what any engine waits.
const MILLISECONDS: Kind = Kind::Whole {
    min: 0,
    max: 9_007_199_254_740_991,
};
const REFERENCES: Kind = Kind::List {
    of: &Kind::Object(&REFERENCE),
    min: 1,
};
const VARIABLES: Kind = Kind::Map {
    key: Key::Variable,
    of: &Kind::Object(&VARIABLE),
};
const EXTENSIONS: Kind = Kind::Map {
    key: Key::Extension,
    of: &Kind::AnyObject,
};
const DEFINITIONS: Kind = Kind::Map {
    key: Key::OwnId,
    of: &Kind::Object(&NAMED),
};
const HEADERS: Kind = Kind::Map {
    key: Key::Any,
    of: &Kind::List {
        of: &Kind::Text,
        min: 0,
    },
};

pub(crate) static PLAYBOOK: Shape = Shape {
    what: "a playbook",
    properties: &[
        need("type", Kind::OneOf(&["playbook"])),
        need("spec_version", Kind::OneOf(&["cacao-2.0"])),
        need("id", Kind::Id),
        need("name", Kind::Text),
        may("description", Kind::Text),
        may(
            "playbook_types",
            Kind::List {
                of: &Kind::Text,
                min: 0,
            },
        ),
        may("playbook_activities", TEXTS),
        may("playbook_processing_summary", Kind::Object(&SUMMARY)),
        need("created_by", Kind::Id),
        need("created", Kind::Time),
        need("modified", Kind::Time),
        may("revoked", Kind::Bool),
        may("valid_from", Kind::Time),
        may("valid_until", Kind::Time),
        may("derived_from", IDS),
        may("related_to", IDS),
        may("priority", PERCENT),
        may("severity", PERCENT),
        may("impact", PERCENT),
        may("industry_sectors", TEXTS),
        may("labels", TEXTS),
        may("external_references", REFERENCES),
        may("markings", IDS),
        may("playbook_variables", VARIABLES),
        need("workflow_start", Kind::Id),
        may("workflow_exception", Kind::Id),
        need(
            "workflow",
            Kind::Map {
                key: Key::OwnId,
                of: &Kind::Step,
            },
        ),
        may("playbook_extensions", EXTENSIONS),
        may("authentication_info_definitions", DEFINITIONS),
        may("agent_definitions", DEFINITIONS),
        may("target_definitions", DEFINITIONS),
        may(
            "extension_definitions",
            Kind::Map {
                key: Key::OwnId,
                of: &Kind::Object(&EXTENSION),
            },
        ),
        may("data_marking_definitions", DEFINITIONS),
        may(
            "signatures",
            Kind::List {
                of: &Kind::Object(&SIGNATURE),
                min: 1,
            },
        ),
    ],
    base: None,
    open: false,
};

static SUMMARY: Shape = Shape {
    what: "a processing summary",
    properties: &[
        may("manual_playbook", Kind::Bool),
        may("external_playbooks", Kind::Bool),
        may("parallel_processing", Kind::Bool),
        may("if_logic", Kind::Bool),
        may("while_logic", Kind::Bool),
        may("switch_logic", Kind::Bool),
        may("temporal_logic", Kind::Bool),
        may("data_markings", Kind::Bool),
        may("digital_signatures", Kind::Bool),
        may("countersigned_signatures", Kind::Bool),
        may("extensions", Kind::Bool),
    ],
    base: None,
    open: false,
};

static REFERENCE: Shape = Shape {
    what: "an external reference",
    properties: &[
        need("name", Kind::Text),
        may("description", Kind::Text),
        may("source", Kind::Text),
        may("url", Kind::Text),
        may("external_id", Kind::Text),
        may("reference_id", Kind::Text),
    ],
    base: None,
    open: false,
};

static VARIABLE: Shape = Shape {
    what: "a variable",
    properties: &[
        need("type", Kind::Text),
        may("description", Kind::Text),
        may("value", Kind::TextOrNull),
        may("constant", Kind::Bool),
        may("external", Kind::Bool),
    ],
    base: None,
    open: false,
};

/// Agents, targets, markings and authentication: nothing of them is executed here, and their types are open.
static NAMED: Shape = Shape {
    what: "a definition",
    properties: &[
        need("type", Kind::Text),
        may("name", Kind::Text),
        may("description", Kind::Text),
    ],
    base: None,
    open: true,
};

static EXTENSION: Shape = Shape {
    what: "an extension definition",
    properties: &[
        need("type", Kind::OneOf(&["extension-definition"])),
        need("name", Kind::Text),
        may("description", Kind::Text),
        need("created_by", Kind::Id),
        need("schema", Kind::Text),
        need("version", Kind::Text),
        may("external_references", REFERENCES),
    ],
    base: None,
    open: false,
};

pub(crate) static SIGNATURE: Shape = Shape {
    what: "a signature",
    properties: &[
        need("type", Kind::OneOf(&["jss"])),
        need("id", Kind::Id),
        may("created_by", Kind::Id),
        need("created", Kind::Time),
        need("modified", Kind::Time),
        may("revoked", Kind::Bool),
        need("signee", Kind::Text),
        may("valid_from", Kind::Time),
        may("valid_until", Kind::Time),
        need("related_to", Kind::Id),
        need("related_version", Kind::Time),
        need("hash_algorithm", Kind::Text),
        need("algorithm", Kind::Text),
        may("public_key", Kind::Text),
        may("public_cert_chain", TEXTS),
        may("cert_url", Kind::Text),
        may("thumbprint", Kind::Text),
        need("value", Kind::Text),
        may("signature", Kind::AnyObject),
    ],
    base: None,
    open: false,
};

pub(crate) const STEP_TYPES: [&str; 8] = [
    "start",
    "end",
    "action",
    "playbook-action",
    "parallel",
    "if-condition",
    "while-condition",
    "switch-condition",
];

/// The shape of a step of this type.
pub(crate) fn step(kind: &str) -> Option<&'static Shape> {
    match kind {
        "start" => Some(&START),
        "end" => Some(&END),
        "action" => Some(&ACTION),
        "playbook-action" => Some(&PLAYBOOK_ACTION),
        "parallel" => Some(&PARALLEL),
        "if-condition" => Some(&IF),
        "while-condition" => Some(&WHILE),
        "switch-condition" => Some(&SWITCH),
        _ => None,
    }
}

static STEP: Shape = Shape {
    what: "a step",
    properties: &[
        need("type", Kind::OneOf(&STEP_TYPES)),
        may("name", Kind::Text),
        may("description", Kind::Text),
        may("external_references", REFERENCES),
        may("delay", MILLISECONDS),
        may("timeout", MILLISECONDS),
        may("step_variables", VARIABLES),
        may("owner", Kind::Id),
        may("on_completion", Kind::Id),
        may("on_success", Kind::Id),
        may("on_failure", Kind::Id),
        may("step_extensions", EXTENSIONS),
    ],
    base: None,
    open: false,
};

static START: Shape = Shape {
    what: "a start step",
    properties: &[],
    base: Some(&STEP),
    open: false,
};

static END: Shape = Shape {
    what: "an end step",
    properties: &[],
    base: Some(&STEP),
    open: false,
};

static ACTION: Shape = Shape {
    what: "an action step",
    properties: &[
        need(
            "commands",
            Kind::List {
                of: &Kind::Object(&COMMAND),
                min: 1,
            },
        ),
        need("agent", Kind::Id),
        may("targets", IDS),
        may("in_args", TEXTS),
        may("out_args", TEXTS),
    ],
    base: Some(&STEP),
    open: false,
};

/// A command. Their types are an open vocabulary with properties of their own, so nothing is unknown here; what
/// is not mapped to an action is refused at import.
static COMMAND: Shape = Shape {
    what: "a command",
    properties: &[
        need("type", Kind::Text),
        may("description", Kind::Text),
        may("version", Kind::Text),
        may("playbook_activity", Kind::Text),
        may("command", Kind::Text),
        may("command_b64", Kind::Base64),
        may("content", Kind::Text),
        may("content_b64", Kind::Base64),
        may("headers", HEADERS),
    ],
    base: None,
    open: true,
};

static PLAYBOOK_ACTION: Shape = Shape {
    what: "a playbook-action step",
    properties: &[
        need("playbook_id", Kind::Id),
        may("playbook_version", Kind::Time),
        may("in_args", TEXTS),
        may("out_args", TEXTS),
    ],
    base: Some(&STEP),
    open: false,
};

static PARALLEL: Shape = Shape {
    what: "a parallel step",
    properties: &[need(
        "next_steps",
        Kind::List {
            of: &Kind::Id,
            min: 2,
        },
    )],
    base: Some(&STEP),
    open: false,
};

static IF: Shape = Shape {
    what: "an if-condition step",
    properties: &[
        need("condition", Kind::Condition),
        need("on_true", Kind::Id),
        may("on_false", Kind::Id),
    ],
    base: Some(&STEP),
    open: false,
};

static WHILE: Shape = Shape {
    what: "a while-condition step",
    properties: &[
        need("condition", Kind::Condition),
        need("on_true", Kind::Id),
    ],
    base: Some(&STEP),
    open: false,
};

static SWITCH: Shape = Shape {
    what: "a switch-condition step",
    properties: &[
        need("switch", Kind::Text),
        need(
            "cases",
            Kind::Map {
                key: Key::Any,
                of: &Kind::Id,
            },
        ),
    ],
    base: Some(&STEP),
    open: false,
};
