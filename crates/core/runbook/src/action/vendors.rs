//! What the actions about vendors declare about themselves.

use super::{Action, ActionSpec, Effect, text};

pub(super) static ACTIVATE_FALLBACK: ActionSpec = ActionSpec {
    action: Action::ActivateFallback,
    name: "activate-fallback",
    summary: "probes the vendor that stands in, and lets the services use it instead of the one that failed",
    inputs: &[text("vendor"), text("fallback")],
    outputs: &[text("fallback")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the vendor's stream says that it is set aside, by this run and step",
    directives: &[],
    manual: false,
};

pub(super) static TAKE_BACK_VENDOR: ActionSpec = ActionSpec {
    action: Action::TakeBackVendor,
    name: "take-back-vendor",
    summary: "probes a vendor that was set aside, and lets the services use it again",
    inputs: &[text("vendor")],
    outputs: &[text("answer")],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "the vendor's stream says that it is not set aside",
    directives: &[],
    manual: false,
};
