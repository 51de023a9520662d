//! What nobody writes here, and how long a file may be.

use super::source::{Source, files};

/// Names that say nothing about what is inside.
pub(crate) const SAYS_NOTHING: [&str; 8] = [
    "common", "util", "utils", "helper", "helpers", "types", "misc", "shared",
];

/// Longest source file, lines.
const MAX_LINES: usize = 600;

/// Never in the product's own code, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("unbounded_channel", "every queue has a bound"),
    ("mpsc::unbounded", "every queue has a bound"),
    ("mpsc::channel()", "every queue has a bound"),
    ("VecDeque::unbounded", "every queue has a bound"),
    (".unwrap()", "bad input never panics"),
    ("todo!(", "no stubs"),
    ("unimplemented!(", "no stubs"),
];

/// Never in the core: time, files, settings and chance come in as values.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "SystemRandom",
    "Uuid::new",
    "Uuid::now",
    "tokio::",
    "async fn",
    ".await",
    "println!",
    "eprintln!",
];

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn product_lines_with(sources: &[Source], words: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.product_lines() {
            for (word, why) in words.iter().filter(|(word, _)| line.contains(word)) {
                found.push(format!("{}:{number}: {word} ({why})", source.path));
            }
        }
    }
    found
}

#[test]
fn the_product_has_no_unbounded_queue_no_unwrap_and_no_stub() {
    report(&product_lines_with(&files(&["rs"]), BANNED));
}

#[test]
fn the_core_touches_nothing_outside() {
    let core: Vec<Source> = files(&["rs"])
        .into_iter()
        .filter(|s| s.path.starts_with("crates/core/"))
        .collect();
    let words: Vec<_> = IMPURE
        .iter()
        .map(|word| (*word, "the core is pure"))
        .collect();
    report(&product_lines_with(&core, &words));
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("HA", "CK:"),
    ];
    let mut wrong = Vec::new();
    for source in files(&["rs", "proto", "yaml", "sh", "toml", "go", "md"]) {
        for (at, line) in source.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                wrong.push(format!("{}:{}: {mark}", source.path, at + 1));
            }
        }
    }
    report(&wrong);
}

/// A test waits for what it waits for. Where nothing can announce it (another process, the kernel), it may look again and again until a deadline,
/// and says so.
#[test]
fn no_test_waits_by_the_clock() {
    let sleeps = [
        concat!("thread::", "sleep("),
        concat!("time::", "sleep("),
        concat!(" ", "sleep("),
    ];
    let mut wrong = Vec::new();
    for source in files(&["rs"]) {
        for (number, line, before) in source.test_lines() {
            let sleeps = sleeps.iter().any(|sleep| line.contains(sleep));
            let said = [line, before]
                .iter()
                .any(|l| l.contains("// bounded poll:"));
            if sleeps && !said {
                wrong.push(format!(
                    "{}:{number}: sleeps without a `// bounded poll:` that says for what",
                    source.path
                ));
            }
        }
    }
    report(&wrong);
}

#[test]
fn files_have_one_purpose_and_a_length_to_match() {
    let long: Vec<String> = files(&["rs", "proto", "yaml", "sh"])
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(source, lines)| {
            format!(
                "{} has {lines} lines; {MAX_LINES} are the most",
                source.path
            )
        })
        .collect();
    report(&long);
}

#[test]
fn modules_have_names_that_say_something() {
    let wrong: Vec<String> = files(&["rs"])
        .into_iter()
        .filter(|source| {
            let path = source.path.trim_end_matches(".rs");
            path.split('/').any(|part| SAYS_NOTHING.contains(&part))
        })
        .map(|source| format!("{}: the name says nothing", source.path))
        .collect();
    report(&wrong);
}
