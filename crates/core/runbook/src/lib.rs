//! Runbooks and the response plan: YAML read into validated graphs.
//!
//! A plan is a folder of `plan.yaml` (classes of incidents, targets, the quorums that nodes demand), `roster.yaml`
//! (people, roles, keys) and one `<name>.yaml` for each runbook. [`PlanSet::load`] reads the texts and proves what
//! can be proven of them; what it cannot prove is checked again when a step starts. Every mistake becomes a
//! [`Finding`] with file, line, step and remedy, and all of them are found at once.
//!
//! **Invariant:** this crate is pure. Texts come in as strings; it knows no clock, file, network or environment.
//!
//! **Invariant:** what cannot be executed is refused when it is read, never skipped when it runs.

mod action;
mod check;
mod communication;
mod condition;
mod detectors;
mod digest;
mod directive;
mod draw;
mod error_kind;
mod evidence;
mod fields;
mod finding;
mod graph;
mod inputs;
mod names;
mod obligations;
mod plan;
mod quorum;
mod read_plan;
mod read_runbook;
mod retry;
mod roster;
mod roster_change;
mod runbook;
mod schema;
mod shipped;
mod suggest;
mod template;
mod undo;
mod vendors;
mod webhooks;
mod yaml;

pub use action::{Action, ActionSpec, Effect, Field, ValueType};
pub use communication::{
    Audience, BadNotice, Channel, ChannelKind, Communication, NOTICE_FIELDS, NoticeTemplate,
    is_language,
};
pub use condition::{BadCondition, Condition, Evaluated, Fact, MAX_CONDITION_BYTES, OVER_STATES};
pub use detectors::{
    Aggregate, AnomalyMethod, BUILT_IN, Bound, BurnWindow, Detector, DetectorKind, Detectors,
    Measure, OutsideRule, Rule, SubjectKind, show_thousandths,
};
pub use directive::DirectiveKind;
pub use draw::{Live, LiveStep, Tone, draw_dot, draw_mermaid, draw_run_svg, draw_svg, draw_text};
pub use error_kind::ErrorKind;
pub use evidence::{EvidenceField, EvidenceKind, MAX_EVIDENCE_BYTES};
pub use finding::{Finding, Place, Severity};
pub use inputs::{MAX_INPUT_BYTES, ResolvedInputs, Unresolved};
pub use names::{BadDuration, BadRole, Role, is_name, is_person_id, parse_duration, show_duration};
pub use obligations::{
    BadPeriod, BadZone, Calendar, Clock, Due, Duty, Limit, OutOfRange, Period, Regime,
    RegimeTrigger, Regimes,
};
pub use plan::{Class, IncidentSeverity, Plan, PlanSet, Targets};
pub use quorum::{Approver, Assessment, BadQuorum, MAX_PER_ROLE, MAX_ROLES, Quorum, show_counts};
pub use read_runbook::MAX_STEPS;
pub use retry::Retry;
pub use roster::{
    ApproverKey, BREAK_GLASS, BadRoster, Person, Roster, Touch, is_approver_algorithm,
};
pub use runbook::{Approval, Runbook, Step};
pub use schema::{Schema, schemas};
pub use shipped::SHIPPED;
pub use suggest::closest as nearest_word;
pub use template::{
    BadTemplate, IncidentField, MAX_TEMPLATE_BYTES, Part, PlanField, Reference, Template,
};
pub use undo::{undo_id, undone_step};
pub use vendors::{Sla, Vendor, Vendors};
pub use webhooks::check_webhooks;
pub use yaml::MAX_FILE_BYTES;
