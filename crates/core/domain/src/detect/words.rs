//! What a detector saw and expected, in sentences.

use std::time::Duration;

use sealwarden_runbook::{
    AnomalyMethod, Bound, Detector, Measure, Rule, show_duration, show_thousandths,
};
use sealwarden_wire::event::v1::Reading;

use super::judge::Judged;

/// The longest name in a sentence, in characters: outside sources name what they like.
const MAX_NAME: usize = 128;

/// What its signals about a name are about.
pub(super) fn subject(detector: &Detector, name: &str) -> String {
    let name = short(name);
    if detector.about.is_empty() {
        let of = measure(&detector.rule).map_or("", |it| it.of().as_str());
        return format!("{of} {name}").trim_start().to_owned();
    }
    detector.about.replace("{name}", &name)
}

/// A name without what could hide the rest of a line.
fn short(name: &str) -> String {
    let plain = name.chars().filter(|c| !c.is_control());
    plain.take(MAX_NAME).collect()
}

/// The measure that a rule is about.
pub(super) fn measure(rule: &Rule) -> Option<Measure> {
    match rule {
        Rule::Proven => None,
        Rule::Window { measure, .. }
        | Rule::Anomaly { measure, .. }
        | Rule::Absence { measure, .. } => Some(*measure),
        Rule::BurnRate { bad, .. } | Rule::Release { bad, .. } => Some(*bad),
        Rule::CrossCheck { each, .. } => Some(*each),
        Rule::Probe { .. } => Some(Measure::Canaries),
    }
}

/// A length of time; from a second on in whole seconds.
fn lasting(ms: i64) -> String {
    let ms = if ms < 1000 { ms } else { ms - ms % 1000 };
    show_duration(Duration::from_millis(u64::try_from(ms).unwrap_or_default()))
}

fn quantity(value: i64, unit: &str) -> String {
    let value = show_thousandths(value);
    if unit.is_empty() {
        value
    } else {
        format!("{value} {unit}")
    }
}

/// What was seen.
pub(super) fn seen(detector: &Detector, name: &str, released: &str, it: &Judged) -> String {
    let Some(measure) = measure(&detector.rule) else {
        return String::new();
    };
    let (what, unit) = (measure.as_str(), measure.unit());
    let of = format!("{} {}", measure.of().as_str(), short(name));
    let value = quantity(it.value, unit);
    match &detector.rule {
        Rule::Proven => String::new(),
        Rule::Window { of: how, .. } => format!(
            "{what} of {of}: {} {value} over {}, from {} values.",
            how.as_str(),
            lasting(it.window_ms),
            it.samples
        ),
        Rule::Anomaly { of: how, .. } => format!(
            "{what} of {of}: {} {value} in {}, and {} before.",
            how.as_str(),
            lasting(it.window_ms),
            quantity(it.baseline, unit)
        ),
        Rule::BurnRate { all, .. } => format!(
            "{what} of {of} spend the error budget {} times as fast as it allows, over {} and its short window alike, from {} {}.",
            show_thousandths(it.value),
            lasting(it.window_ms),
            it.samples,
            all.as_str()
        ),
        Rule::Absence { .. } => format!("No {what} of {of} for {}.", lasting(it.value)),
        Rule::CrossCheck { needs, .. } => format!(
            "{} {what} of {of} have none of the {} that each of them needs.",
            it.samples,
            needs.as_str()
        ),
        Rule::Probe { .. } if it.silent => {
            format!("No canary of {of} ran for {}.", lasting(it.value))
        }
        Rule::Probe { .. } => format!(
            "{} canaries of {of} in a row were not sealed and verified in time.",
            it.samples
        ),
        Rule::Release { all, .. } => format!(
            "Since {released} the share of {what} in {} of {of} is {} times what it was before ({} %), of {}.",
            all.as_str(),
            show_thousandths(it.value),
            show_thousandths(it.baseline),
            it.samples
        ),
    }
}

/// What was expected.
pub(super) fn expected(detector: &Detector, it: &Judged) -> String {
    let Some(measure) = measure(&detector.rule) else {
        return String::new();
    };
    let limit = quantity(it.limit, measure.unit());
    match &detector.rule {
        Rule::Proven => String::new(),
        Rule::Window { limit: bound, .. } => match bound {
            Bound::Above(_) => format!("At most {limit}."),
            Bound::Below(_) => format!("At least {limit}."),
        },
        Rule::Anomaly {
            method,
            score,
            least,
            ..
        } => {
            let method = match method {
                AnomalyMethod::RobustZ => "median absolute deviations from the median",
                AnomalyMethod::Ewma { .. } => "weighted deviations from the weighted mean",
            };
            format!(
                "At most {limit}: {} {method} of the buckets before, and less than {} away.",
                show_thousandths(*score),
                quantity(*least, measure.unit())
            )
        }
        Rule::BurnRate { budget_ppm, .. } => format!(
            "At most {} times as fast, where {} % may be bad.",
            show_thousandths(it.limit),
            show_thousandths(budget_ppm / 10)
        ),
        Rule::Absence { .. } => format!("Another one within {}.", lasting(it.limit)),
        Rule::CrossCheck {
            within_ms, allowed, ..
        } => format!(
            "Each has one within {}, but for {allowed}.",
            lasting(*within_ms)
        ),
        Rule::Probe { .. } if it.silent => format!("A canary every {}.", lasting(it.limit)),
        Rule::Probe { slower_ms, .. } => format!(
            "Fewer than {} in a row; each takes at most {}.",
            show_thousandths(it.limit),
            lasting(*slower_ms)
        ),
        Rule::Release { least, .. } => format!(
            "At most {} times, or fewer than {least} bad ones.",
            show_thousandths(it.limit)
        ),
    }
}

/// The numbers behind the sentences.
pub(super) fn reading(detector: &Detector, name: &str, it: &Judged, at_ms: i64) -> Reading {
    let measure = measure(&detector.rule);
    let aggregate = match &detector.rule {
        Rule::Window { of, .. } | Rule::Anomaly { of, .. } => of.as_str(),
        Rule::Proven
        | Rule::BurnRate { .. }
        | Rule::Absence { .. }
        | Rule::CrossCheck { .. }
        | Rule::Probe { .. }
        | Rule::Release { .. } => "",
    };
    let below = matches!(
        &detector.rule,
        Rule::Window {
            limit: Bound::Below(_),
            ..
        }
    );
    let time = matches!(&detector.rule, Rule::Absence { .. }) || it.silent;
    // Times are whole milliseconds, everything else thousandths.
    let milli = |value: i64| {
        if time {
            value.saturating_mul(1000)
        } else {
            value
        }
    };
    let unit = match (&detector.rule, measure) {
        (Rule::BurnRate { .. } | Rule::Release { .. }, _) => "times",
        (_, _) if time => "ms",
        (_, Some(measure)) => measure.unit(),
        (_, None) => "",
    };
    let percent = (it.share / 10).clamp(0, 1000);
    Reading {
        kind: detector.kind.as_str().to_owned(),
        measure: measure.map_or("", Measure::as_str).to_owned(),
        name: short(name),
        aggregate: aggregate.to_owned(),
        value_milli: milli(it.value),
        limit_milli: milli(it.limit),
        below,
        unit: unit.to_owned(),
        baseline_milli: it.baseline,
        window_ms: it.window_ms,
        from_ms: at_ms.saturating_sub(it.window_ms),
        to_ms: at_ms,
        samples: it.samples,
        percent: u32::try_from(percent).unwrap_or_default(),
    }
}
