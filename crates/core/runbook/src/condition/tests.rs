use proptest::prelude::*;

use super::*;

/// Steps `find` and `close-it` with outputs; `find` is done.
fn kind(fact: &Fact) -> Result<ValueType, (String, String)> {
    match fact {
        Fact::Value(Reference::Incident(field)) => Ok(field.kind()),
        Fact::Value(Reference::Plan(field)) => Ok(field.kind()),
        Fact::State(_) => Ok(ValueType::Text),
        Fact::Value(Reference::Step { output, .. }) => match output.as_str() {
            "total" | "huge" => Ok(ValueType::Count),
            "closed-at" => Ok(ValueType::Time),
            "note" => Ok(ValueType::Text),
            _ => Err((format!("no output {output}"), "name another".to_owned())),
        },
    }
}

fn lookup(fact: &Fact) -> Option<(ValueType, String)> {
    let text = match fact.to_string().as_str() {
        "incident.log" => "main",
        "incident.compromised_since" => "2026-11-02T10:00:00Z",
        "plan.version" => "3",
        "steps.find.state" => "done",
        "steps[\"close-it\"].state" => "not-needed",
        "steps.find.outputs.total" => "7",
        "steps.find.outputs.huge" => "9223372036854775807",
        "steps.find.outputs[\"closed-at\"]" => "2026-11-02T09:00:00Z",
        "steps.find.outputs.note" => "größe 12",
        _ => return None,
    };
    Some((kind(fact).ok()?, text.to_owned()))
}

fn said(text: &str) -> Result<bool, String> {
    let condition = Condition::parse(text).map_err(|error| format!("{}: {error}", error.offset))?;
    condition
        .check(&kind)
        .map_err(|error| format!("{}: {error}", error.offset))?;
    condition.evaluate(&lookup).holds
}

#[test]
fn conditions_say_what_they_say_in_cel() {
    for (text, holds) in [
        ("incident.log == \"main\"", true),
        ("incident.log != 'main'", false),
        (
            "steps.find.outputs.total > 3 && steps.find.state == \"done\"",
            true,
        ),
        (
            "steps[\"close-it\"].state in [\"skipped\", \"not-needed\"]",
            true,
        ),
        ("!(steps.find.outputs.total >= 8)", true),
        ("steps.find.outputs.total * 2 - 1 == 13", true),
        ("steps.find.outputs.total - 2 - 2 == 3", true), // from the left
        ("-steps.find.outputs.total % 4 == -3", true),   // as CEL truncates
        ("-steps.find.outputs.total / 2 == -3", true),
        ("2 + 3 * 4 == 14 && incident.log == 'main'", true),
        ("incident.log + '/1' == 'main/1'", true),
        ("size(steps.find.outputs.note) == 8", true), // code points
        ("steps.find.outputs.note.size() == 8", true),
        ("int(\"12\") > plan.version", true),
        (
            "steps.find.outputs.note.startsWith('größe') && steps.find.outputs.note.endsWith(\"12\")",
            true,
        ),
        ("steps.find.outputs.note.contains('e 1')", true),
        (
            "steps.find.outputs[\"closed-at\"] < incident.compromised_since",
            true,
        ),
        (
            "incident.compromised_since == timestamp('2026-11-02T11:00:00+01:00')",
            true,
        ),
        ("has(incident.key)", false),
        ("has(steps.find.outputs.total)", true),
        ("incident.log == 'main' ? false : true", false),
        (
            "incident.log == 'x' ? true : incident.log == 'y' ? true : false",
            false,
        ),
        ("true || incident.log == 'x' && false", true), // && binds tighter
        // Whichever side decides alone decides, also where the other has no value.
        ("incident.key == 'k' && incident.log == 'other'", false),
        ("incident.log == 'main' || incident.key == 'k'", true),
        ("incident.key == 'k' || incident.log == 'main'", true),
    ] {
        assert_eq!(said(text), Ok(holds), "{text}");
    }
}

#[test]
fn what_has_no_value_is_an_error_and_never_a_guess() {
    for (text, why) in [
        ("incident.key == 'k'", "incident.key has no value"),
        (
            "incident.key == 'k' || incident.log == 'x'",
            "incident.key has no value",
        ),
        (
            "steps[\"close-it\"].outputs.total > 1",
            "because step close-it is not done",
        ),
        ("int(incident.log) == 1", "no whole number"),
        (
            "steps.find.outputs.total / (plan.version - 3) == 1",
            "7 / 0",
        ),
        ("steps.find.outputs.huge + 1 > 0", "64 bits"),
        (
            "steps.find.outputs.huge * steps.find.outputs.huge > 0",
            "64 bits",
        ),
        (
            "timestamp(incident.log) == incident.compromised_since",
            "no time",
        ),
    ] {
        let error = said(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn mistakes_are_named_with_their_place_and_what_was_meant() {
    for (text, offset, why) in [
        ("incident.lg == 'main'", 9, "did you mean `log`?"),
        (
            "steps.find.outptus.total > 1",
            11,
            "did you mean `outputs`?",
        ),
        ("steps.close-it.state == 'done'", 6, "steps[\"close-…\"]"),
        ("incident.log = 'main'", 13, "write `==`"),
        ("incident.log == 'main' & true", 23, "write `&&`"),
        ("${incident.log} == 'main'", 0, "without ${…}"),
        ("incident.log == main", 16, "nothing is called `main`"),
        ("incident.log == 'main", 16, "close it with '"),
        (
            "incident.log == 'ma\\xin'",
            19,
            "is not supported in a text",
        ),
        (
            "(incident.log == 'main'",
            23,
            "`)` is missing before the end",
        ),
        ("incident.log == 'main' true", 23, "join its parts by &&"),
        ("incident.log ==", 15, "a value is missing before the end"),
        ("steps.find.state == 'dome'", 20, "did you mean `done`?"),
        (
            "steps.find.state in ['done', 'failed']",
            29,
            "the states are: done, skipped, not-needed",
        ),
        (
            "steps.find.outputs.total > '3'",
            27,
            "takes a whole number, and here is a text (turn the text into a number",
        ),
        (
            "steps.find.outputs.total",
            11 + 8,
            "a condition takes a truth value",
        ),
        (
            "incident.compromised_since < '2026-11-02T10:00:00Z'",
            29,
            "turn the text into a time",
        ),
        (
            "incident.compromised_since < timestamp('yesterday')",
            39,
            "is no time",
        ),
        ("steps.all(s, s.state == 'done')", 6, "`all`"),
        (
            "incident.log.matches('m.*')",
            13,
            "CEL's `matches` is not supported",
        ),
        (
            "incident.log.startWith('m')",
            13,
            "did you mean `startsWith`?",
        ),
        ("sze(incident.log) > 1", 0, "did you mean `size`?"),
        ("size(incident.log, 1) > 1", 0, "it takes 1"),
        ("plan.version > 1.5", 15, "whole number of 64 bits"),
        (
            "plan.version > 99999999999999999999",
            15,
            "whole number of 64 bits",
        ),
        ("1 == 1", 0, "always says the same"),
        ("incident.log == r'main'", 16, "prefix `r`"),
        ("incident.log == 'main' // ok", 23, "comments"),
        ("true < (incident.log == 'x')", 0, "does not order"),
        ("", 0, "a value is missing"),
    ] {
        let error = said(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
        // Where a type is wrong, the place is that of the part.
        if !why.contains("truth value") && !text.starts_with("steps.all") {
            assert!(error.starts_with(&format!("{offset}: ")), "{text}: {error}");
        }
    }
}

#[test]
fn size_and_depth_are_bounded() {
    for (text, why) in [
        (
            format!("incident.log == '{}'", "x".repeat(1_024)),
            "at most 1024",
        ),
        (
            format!("{}true", "incident.log == 'x' || ".repeat(40)),
            "words and signs",
        ),
        (
            format!("{}incident.log == 'x'", "!".repeat(40)),
            "nests deeper",
        ),
        (
            format!("{}incident.log == 'x'", "(".repeat(40)),
            "nests deeper",
        ),
        (
            format!("{}plan.version == 1", "-".repeat(40)),
            "nests deeper",
        ),
        (
            format!("{}true", "plan.version > 1 ? true : ".repeat(18)),
            "nests deeper",
        ),
    ] {
        let error = said(&text).expect_err(&text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let wide = format!("{}false", "has(plan.version) || ".repeat(15));
    assert_eq!(said(&wide), Ok(true));
}

#[test]
fn what_a_condition_requires_and_reads_is_known() {
    let condition = Condition::parse(
        "steps.find.state == 'done' && ('done' == steps.b.state && steps.find.outputs.total > 1) && (steps.c.state == 'done' || has(incident.key))",
    );
    let condition = condition.unwrap();
    assert_eq!(
        condition.requires_done().into_iter().collect::<Vec<_>>(),
        ["b", "find"]
    );
    let seen = condition.evaluate(&lookup).seen;
    assert_eq!(seen["steps.find.outputs.total"], "7");
    assert_eq!(seen["incident.key"], "(none)");
    assert_eq!(seen.len(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_text_can_crash_it(text in "[ a-z0-9'\"\\\\().,\\[\\]!&|=<>?:+*/%-]{0,60}") {
        drop(said(&text));
    }

    #[test]
    fn no_order_of_words_can_crash_it(words in proptest::collection::vec(proptest::sample::select(vec![
        "incident", ".", "log", "steps", "[\"close-it\"]", "find", "outputs", "total", "state", "plan", "version", "has(", ")", "(", "'done'",
        "1", "9223372036854775807", "+", "-", "*", "/", "%", "!", "&&", "||", "==", "<", "in", "[", "]", ",", "?", ":", "true", "size(", "int(",
        "timestamp(", ".contains(", "incident.log", "steps.find.outputs.total", "incident.key",
    ]), 0..14)) {
        let text = words.join(" ");
        // What is accepted evaluates to a truth value or to a named error.
        if let Ok(condition) = Condition::parse(&text) && condition.check(&kind).is_ok()
            && let Err(error) = condition.evaluate(&lookup).holds
        {
            prop_assert!(!error.contains("another type") && !error.contains("no order"), "{}: {}", text, error);
        }
    }
}
