//! Figures, what they are compared with, and how they are told.

use std::time::Duration;

use serde_json::json;

use crate::output;

/// One measured value with its limit.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Its name, e.g. `seal.unary`.
    pub(crate) name: &'static str,
    /// The value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The best this machine can do, in the same unit.
    pub(crate) limit: f64,
    /// What the limit is made of.
    pub(crate) limit_is: &'static str,
}

/// What one would do without the product.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    /// The figure that it stands beside.
    pub(crate) figure: &'static str,
    /// The value, in that figure's unit.
    pub(crate) value: f64,
    /// What it is.
    pub(crate) is: &'static str,
}

/// The result of a measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// The figures.
    pub(crate) figures: Vec<Figure>,
    /// The baselines.
    pub(crate) baselines: Vec<Baseline>,
    /// Under which settings, durability first.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Measured {
    pub(crate) fn setting(&mut self, name: &'static str, value: impl Into<String>) {
        self.settings.push((name, value.into()));
    }

    fn baseline_ratio(&self, baseline: &Baseline) -> Option<f64> {
        let figure = self.figures.iter().find(|it| it.name == baseline.figure)?;
        Some(figure.value / baseline.value)
    }

    /// Writes it to the terminal.
    pub(crate) fn tell(&self, what: &str, as_json: bool) {
        if as_json {
            return output::json(&json!({
                "bench": what,
                "figures": self.figures.iter().map(|f| json!({
                    "name": f.name, "value": rounded(f.value), "unit": f.unit, "limit": rounded(f.limit),
                    "ratio": rounded(f.value / f.limit), "limit_is": f.limit_is,
                })).collect::<Vec<_>>(),
                "baselines": self.baselines.iter().map(|b| json!({
                    "figure": b.figure, "value": rounded(b.value), "ratio": self.baseline_ratio(b).map(rounded), "is": b.is,
                })).collect::<Vec<_>>(),
                "settings": self.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
            }));
        }
        let mut rows = vec![
            [
                "FIGURE",
                "VALUE",
                "LIMIT",
                "RATIO",
                "UNIT",
                "WHAT THE OTHER IS",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for f in &self.figures {
            rows.push(vec![
                f.name.to_owned(),
                grouped(f.value),
                grouped(f.limit),
                format!("{:.2}", f.value / f.limit),
                f.unit.to_owned(),
                format!("limit: {}", f.limit_is),
            ]);
            for b in self.baselines.iter().filter(|b| b.figure == f.name) {
                rows.push(vec![
                    String::new(),
                    String::new(),
                    grouped(b.value),
                    format!("{:.2}", f.value / b.value),
                    f.unit.to_owned(),
                    format!("baseline: {}", b.is),
                ]);
            }
        }
        output::table(&rows);
        for (name, value) in &self.settings {
            output::line(&format!("{name}: {value}"));
        }
    }
}

fn rounded(value: f64) -> f64 {
    if value.abs() >= 100.0 {
        value.round()
    } else {
        (value * 1000.0).round() / 1000.0
    }
}

/// A number for people: thousands apart, or three places below ten.
fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count as a floating-point number; exact below 2^53.
pub(crate) fn number(count: u64) -> f64 {
    let part = |bits: u64| f64::from(u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX));
    part(count >> 32) * 4_294_967_296.0 + part(count)
}

/// How many a second.
pub(crate) fn rate(count: u64, span: Duration) -> f64 {
    number(count) / span.as_secs_f64()
}

/// Milliseconds.
pub(crate) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// The value that `permille` of a thousand are not above. The slice is sorted by this.
pub(crate) fn quantile(spans: &mut [Duration], permille: usize) -> Duration {
    spans.sort_unstable();
    let place = spans.len() * permille / 1000;
    spans
        .get(place.min(spans.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}
