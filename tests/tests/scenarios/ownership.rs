//! Whose an incident is: given from person to person, each time with a note, and remembered.

use sealwarden_tests::{Answer, Installation};
use serde_json::Value;

const INES: &str = "ines.duarte";
const LEILA: &str = "leila.haddad";

fn hand_over(here: &Installation, id: &str, to: &str, note: &str, by: &str) -> Answer {
    let words = ["incident", "hand-over", id, "--to", to];
    here.call(&[&words[..], &["--note", note, "--as", by]].concat())
}

/// Texts of the timeline that are about owners, with who wrote them.
fn owners(shown: &Value) -> Vec<(&str, &str)> {
    let timeline = shown["timeline"].as_array().expect("a timeline").iter();
    let entries = timeline.map(|it| {
        let word = |name: &str| it[name].as_str().expect("a text");
        (word("actor"), word("text"))
    });
    entries
        .filter(|(_, text)| text.contains("takes it over") || text.contains("hands it over"))
        .collect()
}

#[test]
fn an_incident_is_handed_over_with_a_note_and_stays_so_after_a_restart() {
    let here = Installation::new();
    let up = here.up();
    let signal = [
        "signal",
        "--class",
        "kms-outage",
        "--seen",
        "the HSM blinks",
    ];
    let id = here.call(&signal).good()["incident"].clone();
    let id = id.as_str().expect("an incident");
    let shown = here.call(&["incident", "show", id]).good();
    assert_eq!((&shown["owner"], owners(&shown)), (&"".into(), vec![]));

    let taken = hand_over(&here, id, INES, "I look at it", INES).good();
    assert_eq!(taken["owner"], INES, "{taken}");
    hand_over(&here, id, INES, "I said so", INES).good();
    let note = "the vendor is called; the token is slow since noon";
    let given = hand_over(&here, id, LEILA, note, INES).good();
    assert_eq!(given["owner"], LEILA, "{given}");
    assert!(given["owner_since_ms"].as_i64() > taken["owner_since_ms"].as_i64());

    // Who is nobody, an incident that is none, and a note that says nothing.
    let refused = hand_over(&here, id, "ines.duart", "x", INES).ends_with(2);
    let error = refused.json()["error"].to_string();
    assert!(
        error.contains("ines.duart") && error.contains("roster show"),
        "{error}"
    );
    hand_over(&here, "I-none-1", LEILA, "x", INES).must_end_with(2);
    hand_over(&here, id, LEILA, "", INES).must_end_with(2);

    assert!(up.terminate().success());
    let _up = here.up();
    let shown = here.call(&["incident", "show", id]).good();
    assert_eq!(shown["owner"], LEILA);
    assert_eq!(shown["owner_since_ms"], given["owner_since_ms"]);
    let given = format!("{INES} hands it over to {LEILA}. {note}");
    let actor = format!("person {INES}");
    let expected = [
        (actor.as_str(), "ines.duarte takes it over. I look at it"),
        (actor.as_str(), given.as_str()),
    ];
    assert_eq!(owners(&shown), expected, "{shown}");
}
