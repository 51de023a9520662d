//! Reads `detectors.yaml`; every mistake comes back with its place.

use std::collections::BTreeSet;
use std::time::Duration;

use super::detector::{
    Aggregate, AnomalyMethod, BUILT_IN, Bound, BurnWindow, Detector, DetectorKind, Detectors, Rule,
};
use super::measure::Measure;
use super::outside::read_outside;
use crate::digest::sha256;
use crate::fields::{Fields, Reader, Shape};
use crate::finding::Finding;
use crate::suggest;
use crate::yaml::{self, Key, Node, Value};

pub(crate) const DETECTORS_FILE: &str = "detectors.yaml";

/// The most detectors of a file, names in `only`, and pairs of windows.
const MAX_DETECTORS: usize = 256;
const MAX_ONLY: usize = 64;
const MAX_WINDOWS: usize = 4;
/// The longest window.
const MAX_WINDOW: Duration = Duration::from_hours(31 * 24);
/// What a detector has unless it says otherwise.
const NEAR: u32 = 80;
const AGAIN: Duration = Duration::from_hours(1);

pub(super) const FILE: Shape = Shape {
    what: "`detectors.yaml`",
    known: &["version", "detectors", "outside"],
    unsupported: &[],
};
pub(super) const WINDOW: Shape = Shape {
    what: "a pair of windows",
    known: &["long", "short", "factor"],
    unsupported: &[],
};

/// A kind's fields: those that every detector has, those of every kind but the built-in, and its own.
macro_rules! shape {
    ($what:literal, $($own:literal),*) => {
        Shape {
            what: $what,
            known: &["title", "owner", "kind", "class", "about", "only", "near", "again", $($own),*],
            unsupported: &[],
        }
    };
}

/// The fields of a kind, and which of its own must be there.
pub(super) fn shape(kind: DetectorKind) -> (Shape, &'static [&'static str]) {
    match kind {
        DetectorKind::Proven => (
            Shape {
                what: "a built-in detector",
                known: &["title", "owner", "kind"],
                unsupported: &[],
            },
            &[],
        ),
        DetectorKind::Threshold => (
            shape!(
                "a threshold",
                "measure",
                "of",
                "window",
                "above",
                "below",
                "samples"
            ),
            &["measure", "of", "window"],
        ),
        DetectorKind::Rate => (
            shape!("a rate", "measure", "window", "above", "below"),
            &["measure", "window"],
        ),
        DetectorKind::RobustZ => (
            shape!(
                "a robust z-score",
                "measure",
                "of",
                "bucket",
                "buckets",
                "score",
                "least"
            ),
            &["measure", "of", "bucket", "buckets", "score", "least"],
        ),
        DetectorKind::Ewma => (
            shape!(
                "an ewma", "measure", "of", "bucket", "buckets", "weight", "score", "least"
            ),
            &[
                "measure", "of", "bucket", "buckets", "weight", "score", "least",
            ],
        ),
        DetectorKind::BurnRate => (
            shape!(
                "a burn rate",
                "all",
                "bad",
                "objective",
                "windows",
                "samples"
            ),
            &["all", "bad", "objective", "windows"],
        ),
        DetectorKind::Absence => (
            shape!("an absence", "measure", "within"),
            &["measure", "within"],
        ),
        DetectorKind::CrossCheck => (
            shape!("a cross-check", "each", "needs", "within", "allowed"),
            &["each", "needs", "within"],
        ),
        DetectorKind::Probe => (
            shape!("a probe", "failures", "slower", "within"),
            &["failures", "slower", "within"],
        ),
        DetectorKind::Release => (
            shape!(
                "a release detector",
                "all",
                "bad",
                "window",
                "factor",
                "least"
            ),
            &["all", "bad", "window", "factor", "least"],
        ),
    }
}

/// Reads the text of a `detectors.yaml`; `file` is named in findings.
pub(crate) fn read_detectors(file: &str, text: &str) -> Result<Detectors, Vec<Finding>> {
    let root = yaml::read(file, text)?;
    let mut reader = Reader::new(file);
    let Some(fields) = reader.fields(&root, &FILE) else {
        return Err(reader.findings);
    };
    let version = reader.version(&fields);
    let by_name = reader.named(
        &fields,
        ("detectors", "a detector"),
        MAX_DETECTORS,
        read_detector,
    );
    let outside = read_outside(&mut reader, &fields);
    match version {
        Some(version) if reader.findings.is_empty() => Ok(Detectors {
            version,
            by_name,
            outside,
            text: text.to_owned(),
            digest: sha256(text.as_bytes()),
        }),
        _ => Err(reader.findings),
    }
}

fn read_detector(reader: &mut Reader, key: &Key, node: &Node) -> Option<Detector> {
    let kind = read_kind(reader, key, node)?;
    let (shape, needed) = shape(kind);
    let fields = reader.fields(node, &shape)?;
    let known = BUILT_IN.contains(&key.text.as_str());
    if known != (kind == DetectorKind::Proven) {
        let message = if known {
            format!("`{}` is built in: its kind is `proven`", key.text)
        } else {
            format!("no built-in detector is called `{}`", key.text)
        };
        let remedy = suggest::remedy("built-in detectors", &key.text, BUILT_IN);
        reader.error(key.place, "bad-kind", message, remedy);
    }
    let title = reader.required_text(&fields, "title");
    let owner = reader
        .required(&fields, "owner")
        .and_then(|node| Some((reader.text(node, "owner")?, node.place)))
        .and_then(|(text, place)| reader.role(&text, place));
    let data = kind != DetectorKind::Proven;
    let class = if data {
        reader.required_name(&fields, "class")
    } else {
        Some(String::new())
    };
    let mut there = true;
    for name in needed {
        there &= reader.required(&fields, name).is_some();
    }
    let about = match fields.get("about") {
        Some(node) => reader.text(node, "about")?,
        None => String::new(),
    };
    let only = read_only(reader, &fields);
    let near = fields
        .get("near")
        .map_or(Some(NEAR), |node| reader.count(node, "near", 0, 99));
    let again_ms = fields
        .get("again")
        .map_or(Some(millis(AGAIN)), |node| window(reader, node, "again"));
    let rule = if there {
        read_rule(reader, &fields, kind)
    } else {
        None
    };
    Some(Detector {
        name: key.text.clone(),
        title: title?,
        owner: owner?,
        kind,
        class: class?,
        about,
        only,
        near: near?,
        again_ms: again_ms?,
        rule: rule?,
        place: key.place,
    })
}

/// The kind says which fields there are, so it is read first.
fn read_kind(reader: &mut Reader, key: &Key, node: &Node) -> Option<DetectorKind> {
    let entries = reader.entries(node, "a detector")?;
    let Some((_, value)) = entries.iter().find(|(key, _)| key.text == "kind") else {
        let message = format!("detector `{}` has no `kind`", key.text.escape_debug());
        let remedy = format!(
            "add `kind:` and one of {}",
            DetectorKind::ALL.map(DetectorKind::as_str).join(", ")
        );
        reader.error(key.place, "missing-field", message, remedy);
        return None;
    };
    let word = reader.text(value, "kind")?;
    let kind = DetectorKind::ALL.into_iter().find(|it| it.as_str() == word);
    if kind.is_none() {
        let message = format!("there is no kind `{}`", word.escape_debug());
        let words = DetectorKind::ALL.map(DetectorKind::as_str);
        let remedy = suggest::remedy("kinds", &word, words);
        reader.error(value.place, "bad-kind", message, remedy);
    }
    kind
}

fn read_only(reader: &mut Reader, fields: &Fields<'_>) -> BTreeSet<String> {
    let Some(node) = fields.get("only") else {
        return BTreeSet::new();
    };
    let items = reader.list(node, "`only`").unwrap_or_default();
    if items.is_empty() || items.len() > MAX_ONLY {
        let message = format!("`only` names {}", items.len());
        let remedy = format!("name 1 to {MAX_ONLY}, or leave `only` out for all");
        reader.error(node.place, "bad-number", message, remedy);
    }
    let names = items.iter().map(|item| reader.text(item, "only"));
    names.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn read_rule(reader: &mut Reader, fields: &Fields<'_>, kind: DetectorKind) -> Option<Rule> {
    match kind {
        DetectorKind::Proven => Some(Rule::Proven),
        DetectorKind::Threshold => window_rule(reader, fields, true),
        DetectorKind::Rate => window_rule(reader, fields, false),
        DetectorKind::RobustZ => anomaly(reader, fields, false),
        DetectorKind::Ewma => anomaly(reader, fields, true),
        DetectorKind::BurnRate => burn_rate(reader, fields),
        DetectorKind::Absence => Some(Rule::Absence {
            measure: measure(reader, fields, "measure")?,
            within_ms: required_window(reader, fields, "within")?,
        }),
        DetectorKind::CrossCheck => {
            let (each, needs) = (
                measure(reader, fields, "each")?,
                measure(reader, fields, "needs")?,
            );
            same_subject(reader, fields, (each, "each"), (needs, "needs"))?;
            Some(Rule::CrossCheck {
                each,
                needs,
                within_ms: required_window(reader, fields, "within")?,
                allowed: optional_count(reader, fields, "allowed", 0)?,
            })
        }
        DetectorKind::Probe => Some(Rule::Probe {
            failures: reader.count(fields.get("failures")?, "failures", 1, 100)?,
            slower_ms: required_window(reader, fields, "slower")?,
            within_ms: required_window(reader, fields, "within")?,
        }),
        DetectorKind::Release => {
            let (all, bad) = all_and_bad(reader, fields)?;
            Some(Rule::Release {
                all,
                bad,
                window_ms: required_window(reader, fields, "window")?,
                factor: decimal(reader, fields.get("factor")?, "factor", 1_000, 1_000_000)?,
                least: optional_count(reader, fields, "least", 1)?,
            })
        }
    }
}

fn window_rule(reader: &mut Reader, fields: &Fields<'_>, threshold: bool) -> Option<Rule> {
    let measure = measure(reader, fields, "measure");
    let of = if threshold {
        aggregate(reader, fields)
    } else {
        Some(Aggregate::Sum)
    };
    let window_ms = required_window(reader, fields, "window");
    let limit = match (fields.get("above"), fields.get("below")) {
        (Some(node), None) => decimal(reader, node, "above", 0, MOST).map(Bound::Above),
        (None, Some(node)) => decimal(reader, node, "below", 1, MOST).map(Bound::Below),
        (None, None) | (Some(_), Some(_)) => {
            let message = "one of `above` and `below` is the limit".to_owned();
            reader.error(
                fields.place,
                "bad-limit",
                message,
                "write one of them, for example `above: 2000`",
            );
            None
        }
    };
    let samples = optional_count(reader, fields, "samples", 1)?;
    Some(Rule::Window {
        measure: measure?,
        of: of?,
        window_ms: window_ms?,
        limit: limit?,
        samples: u64::try_from(samples).unwrap_or(1),
    })
}

/// The largest limit, thousandths.
const MOST: i64 = 1_000_000_000_000_000;

fn anomaly(reader: &mut Reader, fields: &Fields<'_>, weighted: bool) -> Option<Rule> {
    let measure = measure(reader, fields, "measure");
    let of = aggregate(reader, fields);
    let bucket_ms = required_window(reader, fields, "bucket");
    let buckets = fields
        .get("buckets")
        .and_then(|node| reader.count(node, "buckets", 8, 512));
    let score = fields
        .get("score")
        .and_then(|node| decimal(reader, node, "score", 1_000, 1_000_000));
    let least = fields
        .get("least")
        .and_then(|node| decimal(reader, node, "least", 0, MOST));
    let method = if weighted {
        let node = fields.get("weight")?;
        AnomalyMethod::Ewma {
            weight: decimal(reader, node, "weight", 1, 1_000)?,
        }
    } else {
        AnomalyMethod::RobustZ
    };
    Some(Rule::Anomaly {
        measure: measure?,
        of: of?,
        method,
        bucket_ms: bucket_ms?,
        buckets: buckets?,
        score: score?,
        least: least?,
    })
}

fn burn_rate(reader: &mut Reader, fields: &Fields<'_>) -> Option<Rule> {
    let (all, bad) = all_and_bad(reader, fields)?;
    // A percentage with three digits behind the point: thousandths of a percent are hundred-thousandths.
    let objective = decimal(reader, fields.get("objective")?, "objective", 1_000, 99_999)?;
    let node = fields.get("windows")?;
    let items = reader.list(node, "`windows`")?;
    if items.is_empty() || items.len() > MAX_WINDOWS {
        let message = format!("`windows` has {} pairs", items.len());
        let remedy = format!("write 1 to {MAX_WINDOWS}: {{long: 1h, short: 5m, factor: 14.4}}");
        reader.error(node.place, "bad-number", message, remedy);
        return None;
    }
    let mut windows = Vec::new();
    for item in items {
        let fields = reader.fields(item, &WINDOW)?;
        let long_ms = required_window(reader, &fields, "long")?;
        let short_ms = required_window(reader, &fields, "short")?;
        let factor = reader
            .required(&fields, "factor")
            .and_then(|node| decimal(reader, node, "factor", 100, 10_000_000))?;
        if short_ms >= long_ms {
            let message = "the short window is not shorter than the long one".to_owned();
            let remedy = "for example {long: 1h, short: 5m, factor: 14.4}";
            reader.error(item.place, "bad-window", message, remedy);
        }
        windows.push(BurnWindow {
            long_ms,
            short_ms,
            factor,
        });
    }
    let samples = optional_count(reader, fields, "samples", 1)?;
    Some(Rule::BurnRate {
        all,
        bad,
        budget_ppm: (100_000 - objective) * 10,
        windows,
        samples: u64::try_from(samples).unwrap_or(1),
    })
}

fn all_and_bad(reader: &mut Reader, fields: &Fields<'_>) -> Option<(Measure, Measure)> {
    let (all, bad) = (
        measure(reader, fields, "all")?,
        measure(reader, fields, "bad")?,
    );
    same_subject(reader, fields, (all, "all"), (bad, "bad"))?;
    Some((all, bad))
}

/// What is compared is compared of one thing.
fn same_subject(
    reader: &mut Reader,
    fields: &Fields<'_>,
    (one, one_name): (Measure, &str),
    (other, other_name): (Measure, &str),
) -> Option<()> {
    if one.of() == other.of() && one != other {
        return Some(());
    }
    let message = if one == other {
        format!("`{one_name}` and `{other_name}` are the same measure")
    } else {
        format!(
            "`{}` is measured of a {} and `{}` of a {}",
            one.as_str(),
            one.of().as_str(),
            other.as_str(),
            other.of().as_str()
        )
    };
    let remedy = "name two measures of one thing";
    reader.error(fields.place_of(other_name), "bad-measure", message, remedy);
    None
}

fn measure(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<Measure> {
    let node = fields.get(name)?;
    let word = reader.text(node, name)?;
    let found = Measure::from_name(&word);
    if found.is_none() {
        let message = format!("there is no measure `{}`", word.escape_debug());
        let remedy = suggest::remedy("measures", &word, Measure::ALL.map(Measure::as_str));
        reader.error(node.place, "unknown-measure", message, remedy);
    }
    found
}

fn aggregate(reader: &mut Reader, fields: &Fields<'_>) -> Option<Aggregate> {
    let node = fields.get("of")?;
    let word = reader.text(node, "of")?;
    let found = Aggregate::ALL.into_iter().find(|it| it.as_str() == word);
    if found.is_none() {
        let message = format!("`{}` is no aggregate", word.escape_debug());
        let remedy = suggest::remedy("aggregates", &word, Aggregate::ALL.map(Aggregate::as_str));
        reader.error(node.place, "bad-aggregate", message, remedy);
    }
    found
}

fn required_window(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<i64> {
    let node = reader.required(fields, name)?;
    window(reader, node, name)
}

/// A length of time of a second to 31 days, milliseconds.
fn window(reader: &mut Reader, node: &Node, name: &str) -> Option<i64> {
    let duration = reader.duration(node, name, Duration::from_secs(1))?;
    if duration > MAX_WINDOW {
        let message = format!("`{name}` is longer than 31 days");
        reader.error(node.place, "bad-duration", message, "at most 31d");
        return None;
    }
    Some(millis(duration))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn optional_count(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &str,
    otherwise: u32,
) -> Option<i64> {
    let count = fields.get(name).map_or(Some(otherwise), |node| {
        reader.count(node, name, otherwise, 1_000_000_000)
    });
    count.map(i64::from)
}

/// A number with at most three digits behind the point, in thousandths.
fn decimal(reader: &mut Reader, node: &Node, name: &str, min: i64, max: i64) -> Option<i64> {
    let parsed = match &node.value {
        Value::Int(number) => number.checked_mul(1000),
        Value::OtherNumber(text) => thousandths(text),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    let good = parsed.filter(|value| (min..=max).contains(value));
    if good.is_none() {
        let message = format!("`{name}` is a number, and here is {}", node.value.kind());
        let remedy = format!(
            "write a number from {} to {}, with at most three digits behind the point",
            super::show_thousandths(min),
            super::show_thousandths(max)
        );
        reader.error(node.place, "bad-number", message, remedy);
    }
    good
}

fn thousandths(text: &str) -> Option<i64> {
    let (whole, rest) = text.split_once('.')?;
    let digits = rest.len() <= 3 && rest.bytes().all(|b| b.is_ascii_digit());
    let whole_digits = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    if !digits || !whole_digits {
        return None;
    }
    let rest: i64 = format!("{rest:0<3}").parse().ok()?;
    whole
        .parse::<i64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(rest)
}

impl Detectors {
    /// Reads the text of a `detectors.yaml`; `file` is named in findings.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Finding>> {
        read_detectors(file, text)
    }
}
