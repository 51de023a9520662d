//! What the actions about verifiers that others run declare about themselves.

use super::{Action, ActionSpec, Effect, count, text};

pub(super) static COMPARE_VERDICTS: ActionSpec = ActionSpec {
    action: Action::CompareVerdicts,
    name: "compare-verdicts",
    summary: "puts archived documents, and what must be refused, to a verifier that others run, and tells which of its releases say what is known of them",
    inputs: &[text("verifier")],
    outputs: &[
        text("differing"),
        text("agreed"),
        count("compared"),
        count("different"),
    ],
    effect: Effect::Reversible,
    needs_snapshot: false,
    idempotent: true,
    observed: "it changes nothing: it can be done again",
    directives: &[],
    manual: false,
};

pub(super) static REPLAY_VERDICTS: ActionSpec = ActionSpec {
    action: Action::ReplayVerdicts,
    name: "replay-verdicts",
    summary: "as compare-verdicts, and any difference or silence fails the step; the last one of a run is its re-validation, those before it prove containment",
    ..COMPARE_VERDICTS
};
