//! A plot: one bar a month and class.

use std::fmt::Write as _;

use sealwarden_domain::learning::{Row, Time};

use crate::output::span;

/// Pixels.
const LEFT: usize = 260;
const WIDE: usize = 420;
const BAR: usize = 18;
const GAP: usize = 8;
const TOP: usize = 44;

/// Bars as long as their times, as SVG that is readable in light and dark. A bar without a time says so.
pub(super) fn bars(title: &str, rows: &[Row], time: fn(&Row) -> Time) -> String {
    let most = rows
        .iter()
        .filter_map(|row| time(row).mean_ms())
        .max()
        .unwrap_or(0)
        .max(1);
    let height = TOP + rows.len() * (BAR + GAP) + GAP;
    let width = LEFT + WIDE + 140;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>\n  svg {{ background: #fff; font: 13px system-ui, sans-serif; }} text {{ fill: #1a1a1a; }} .title {{ font-weight: 600; font-size: 15px; }} rect {{ fill: #3b6ea8; }}\n  \
         @media (prefers-color-scheme: dark) {{ svg {{ background: #16181c; }} text {{ fill: #e8e8e8; }} rect {{ fill: #7fb0e6; }} }}\n</style>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + index * (BAR + GAP);
        let of = time(row);
        let (long, words) = match of.mean_ms() {
            Some(ms) => (long(ms, most), format!("{} (of {})", span(ms), of.count)),
            None => (0, "nobody got there".to_owned()),
        };
        let line = y + 14;
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{line}\" text-anchor=\"end\">{} {}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{long}\" height=\"{BAR}\" rx=\"2\"/><text x=\"{}\" y=\"{line}\">{words}</text>",
            LEFT - 10,
            escaped(&row.month),
            escaped(&row.class),
            LEFT + long + 8,
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A bar's length; what is not nothing is seen.
fn long(ms: i64, most: i64) -> usize {
    let wide = i64::try_from(WIDE).unwrap_or(i64::MAX);
    let long = ms.saturating_mul(wide) / most;
    usize::try_from(long).unwrap_or(0).clamp(1, WIDE)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use sealwarden_domain::learning::{Case, rows};

    use super::*;

    #[test]
    fn the_longest_bar_is_as_wide_as_the_plot_and_nothing_is_markup() {
        let case = |class: &str, contain_ms| Case {
            class: class.to_owned(),
            opened_at_ms: 1_795_420_800_000,
            contain_ms,
            ..Case::default()
        };
        let rows = rows(&[
            case("a", Some(2_000)),
            case("b<script>", Some(1)),
            case("c", None),
        ]);
        let picture = bars("Mean time to contain", &rows, |row| row.contain);
        assert!(picture.contains("width=\"420\" height=\"18\""), "{picture}");
        assert!(picture.contains("width=\"1\" height=\"18\""), "{picture}");
        assert!(picture.contains("nobody got there"), "{picture}");
        assert!(!picture.contains("<script>"), "{picture}");
    }
}
