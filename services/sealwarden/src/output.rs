//! The one place that writes to the terminal.
use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

/// A line for the user.
pub(crate) fn line(text: &str) {
    // A reader that went away (`| head`) is no error of ours.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Text that may be asked to be machine-readable: one JSON document.
pub(crate) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => complain(&format!(
            "error: the answer cannot be written as JSON: {error}"
        )),
    }
}

/// Whether a person looks at standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The text in place of what the terminal showed.
pub(crate) fn screen(text: &str) {
    // Cursor home; each line cleared to its end as it is written, then what is below: nothing flickers.
    let text = text.replace('\n', "\x1b[K\n");
    let mut out = std::io::stdout().lock();
    drop(write!(out, "\x1b[H{text}\x1b[K\n\x1b[J"));
    drop(out.flush());
}

/// A line beside the answer: warnings, errors, progress.
pub(crate) fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Whether a person looks at standard error.
pub(crate) fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Asks a question and answers whether the person typed `yes`.
pub(crate) fn confirmed(question: &str) -> bool {
    drop(write!(
        std::io::stderr().lock(),
        "{question} Type yes to go on: "
    ));
    drop(std::io::stderr().flush());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// A table with aligned columns; the first row is its head.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        line(cells.join("  ").trim_end());
    }
}

/// Unix milliseconds as a short UTC time; `-` for none.
pub(crate) fn time(ms: i64) -> String {
    if ms <= 0 {
        return "-".to_owned();
    }
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| "-".to_owned(),
        |t| t.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    )
}

/// A span of milliseconds for people.
pub(crate) fn span(ms: i64) -> String {
    match ms {
        ..0 => "-".to_owned(),
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        3_600_000..THREE_DAYS_MS => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} days {} h", ms / DAY_MS, ms % DAY_MS / 3_600_000),
    }
}

const DAY_MS: i64 = 86_400_000;
const THREE_DAYS_MS: i64 = 3 * DAY_MS;
