//! What manual steps ask people to hand in.

use sealwarden_runbook::{Runbook, ValueType, draw_svg, draw_text};

use super::{HEAD, found, named, step, text_of};

const QUORUM: &str = "approval: {quorum: {legal-counsel: 1}, within: 1h}";

/// A manual step that asks for this.
fn asks(id: &str, evidence: &str) -> String {
    let manual = format!("manual: {{instructions: Do it., evidence: {evidence}}}");
    step(id, "confirm", &[manual.as_str(), QUORUM])
}

#[test]
fn fields_that_cannot_be_are_named_with_their_place() {
    let steps = [
        asks("a", "[{name: case, kind: texd}]"),
        asks("b", "[{name: case, kind: choice}]"),
        asks("c", "[{name: case, kind: choice, of: [one]}]"),
        asks("d", "[{name: by, kind: text}]"),
        asks("e", "[{name: case, kind: text}, {name: case, kind: file}]"),
        asks("f", "[{name: Case, kind: text, required: 1}]"),
        asks("g", "[{name: case, kind: text, of: [a, b]}]"),
        asks("h", "[{name: case, kind: text, requird: true}]"),
        asks("i", "[{name: case, kind: choice, of: [a, a]}]"),
        asks("j", "case"),
    ];
    assert_eq!(
        found(&steps),
        [
            named("unknown-evidence", 9, "a"),
            named("missing-field", 14, "b"),
            named("bad-choice", 19, "c"),
            named("duplicate-evidence", 24, "d"),
            named("duplicate-evidence", 29, "e"),
            named("bad-name", 34, "f"),
            named("wrong-type", 34, "f"),
            named("bad-input", 39, "g"),
            named("unknown-field", 44, "h"),
            named("bad-choice", 49, "i"),
            named("wrong-type", 54, "j"),
        ]
    );
    let text = text_of(&steps);
    for told in [
        "r.yaml:9:66: error[unknown-evidence] step a: there is no evidence of kind `texd` (did you mean `text`?)",
        "a choice between 1 words (name 2 to 50)",
        "`by` is an output of every manual step",
        "the evidence `case` is asked for twice",
        "`required` is true or false, and here is",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn later_steps_take_what_is_required_and_nothing_else() {
    let ask = asks(
        "ask",
        "[{name: case, kind: text}, {name: seen, kind: number}, {name: extra, kind: text, required: false}]",
    );
    let reverify = |id: &str, name: &str| {
        let with = format!("with: {{origin: '${{steps.ask.{name}}}'}}");
        step(id, "reverify", &["needs: [ask]", with.as_str()])
    };
    let when = step(
        "many",
        "close-incident",
        &["needs: [ask]", "when: steps.ask.outputs.seen > 3"],
    );
    let good = [ask.clone(), reverify("a", "case"), when];
    let read = Runbook::parse("r.yaml", &format!("{HEAD}{}", good.concat())).unwrap();
    let step = read.step("ask").unwrap();
    assert_eq!(step.output("seen"), Some(ValueType::Count));
    assert_eq!(step.output("extra"), None);
    let told = "case (text), seen (number), extra (text; optional)";
    assert!(draw_text(&read).contains("hand in  case (text)"));
    let undo = "undo: {action: confirm, manual: {instructions: Back., evidence: [{name: answer, kind: file}]}, approval: {quorum: {legal-counsel: 1}, within: 1h}}";
    let manual = "manual: {instructions: Do it.}";
    let taken_back = super::step("back", "confirm", &[manual, QUORUM, undo]);
    let back = Runbook::parse("r.yaml", &format!("{HEAD}{taken_back}")).unwrap();
    assert!(draw_text(&back).contains("hand in  answer (file)"));
    let lines = draw_svg(&read).replace("</text>", " ");
    assert!(lines.contains("hand in: case (text), seen"), "{told}");

    let bad = [ask, reverify("a", "extra"), reverify("b", "cas")];
    let text = text_of(&bad);
    for told in [
        "`${steps.ask.extra}` may not be there: the evidence `extra` is optional (let `ask` require it)",
        "`confirm` has no output `cas` (did you mean `case`?)",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}
