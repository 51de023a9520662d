//! Statements and inputs have one text each.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::approval::fixture::statement;
use crate::approval::{Inputs, InputsError, Statement, sha256_hex};

fn text() -> String {
    statement("ada", &sha256_hex(b"inputs"), 7).to_string()
}

#[test]
fn a_statement_reads_back_as_it_was_written() {
    let written = statement("ada", &sha256_hex(b"inputs"), 7);
    assert_eq!(Statement::parse(&written.to_string()), Ok(written.clone()));
    assert!(
        written
            .to_string()
            .ends_with("expires: 2026-11-02T10:15:00Z\n")
    );
    assert_eq!(written.validate(), Ok(()));
}

/// Replaces one line of a good statement.
fn with_line(number: usize, line: &str) -> String {
    let text = text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[number - 1] = line;
    lines.join("\n") + "\n"
}

#[test]
fn every_deviation_is_refused_with_its_line() {
    let good = text();
    let swapped = good.replace(
        "incident: inc-1\nrun: run-1\n",
        "run: run-1\nincident: inc-1\n",
    );
    let missing = good.replace("incident: inc-1\n", "");
    let twice = good.replace("incident: inc-1\n", "incident: inc-1\nincident: inc-1\n");
    let cases: Vec<(String, usize, &str)> = vec![
        (String::new(), 1, "line feed"),
        (good.trim_end().to_owned(), 14, "line feed"),
        (format!("{good}\n"), 15, "nothing may follow"),
        (format!("{good}note: hi\n"), 15, "nothing may follow"),
        (good.replace('\n', "\r\n"), 1, "printable"),
        (with_line(1, "sealwarden approval v2"), 1, "expected"),
        (with_line(2, "installation: acme "), 2, "space"),
        (with_line(2, "installation:  acme"), 2, "one word"),
        (with_line(2, "installation: "), 2, "space"),
        (with_line(2, "installation: acmé"), 2, "printable"),
        (with_line(2, "place: acme"), 2, "unknown"),
        (with_line(3, "environment: test"), 3, "production or drill"),
        (swapped, 4, "missing here"),
        (missing, 4, "missing here"),
        (twice, 5, "twice"),
        (with_line(7, "iteration: 00"), 7, "plain number"),
        (with_line(7, "iteration: +1"), 7, "plain number"),
        (with_line(7, "iteration: 4294967296"), 7, "plain number"),
        (with_line(8, "runbook: leak"), 8, "sha256"),
        (
            with_line(9, &format!("inputs: sha256:{}", "A".repeat(64))),
            9,
            "sha256",
        ),
        (with_line(10, "roster: sha256:00"), 10, "sha256"),
        (
            with_line(11, "decision: maybe"),
            11,
            "approve, deny, confirm, retry",
        ),
        (with_line(13, "nonce: 0"), 13, "32"),
        (
            with_line(14, "expires: 2026-11-02T10:15:00+00:00"),
            14,
            "UTC",
        ),
        (with_line(14, "expires: 2026-11-02T10:15:00.5Z"), 14, "UTC"),
        (with_line(14, "expires: 2026-11-02 10:15:00Z"), 14, "UTC"),
    ];
    for (bad, line, word) in cases {
        let error = Statement::parse(&bad).unwrap_err();
        assert_eq!(error.line, line, "{error}\n{bad}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

proptest! {
    #[test]
    fn a_text_that_reads_is_the_only_text_of_its_statement(
        at in 0_usize..700, byte in any::<u8>(), insert in any::<bool>(),
    ) {
        let mut bytes = text().into_bytes();
        let at = at % bytes.len();
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        if let Ok(changed) = String::from_utf8(bytes)
            && let Ok(read) = Statement::parse(&changed)
        {
            prop_assert_eq!(read.to_string(), changed);
        }
    }

    #[test]
    fn any_text_reads_or_is_refused(text in "(?s).{0,200}") {
        prop_assert!(Statement::parse(&text).is_err(), "no random text has thirteen fields in order");
        if let Ok(inputs) = Inputs::parse(&text) {
            prop_assert_eq!(inputs.to_string(), text);
        }
    }
}

#[test]
fn inputs_are_sorted_lines_with_a_digest() {
    let values = BTreeMap::from([
        ("origin".to_owned(), "seal.example.com/main/1".to_owned()),
        ("log".to_owned(), "main".to_owned()),
        ("empty".to_owned(), String::new()),
    ]);
    let inputs = Inputs::new("isolate-key", values).unwrap();
    let text = "action: isolate-key\nempty: \nlog: main\norigin: seal.example.com/main/1\n";
    assert_eq!(inputs.to_string(), text);
    assert_eq!(inputs.digest(), sha256_hex(text.as_bytes()));
    assert_eq!(Inputs::parse(text), Ok(inputs));
}

#[test]
fn inputs_with_a_second_form_are_refused() {
    for value in ["two\nlines", "a\rb", "nul\0", "sep\u{2028}x"] {
        let values = BTreeMap::from([("log".to_owned(), value.to_owned())]);
        assert!(
            matches!(
                Inputs::new("resume", values),
                Err(InputsError::NotOneLine { .. })
            ),
            "{value:?}"
        );
    }
    for text in [
        "",
        "action: resume",
        "log: main\naction: resume\n",
        "action: resume\nlog: b\nbig: a\n",
        "action: resume\nlog: a\nlog: b\n",
        "action: resume\nlog\n",
        "action: resume\naction: isolate-key\n",
        "action: Resume\n",
        "action: resume\n\n",
    ] {
        assert!(Inputs::parse(text).is_err(), "{text:?}");
    }
}
