//! Pictures of the shipped runbooks, compared with the files in `tests/golden`. `SEALWARDEN_WRITE_GOLDEN=1` writes
//! them anew: look at them before you commit them.

use std::collections::BTreeMap;
use std::path::Path;

use sealwarden_runbook::{
    Live, LiveStep, Runbook, Tone, draw_dot, draw_mermaid, draw_run_svg, draw_svg,
};

#[expect(
    clippy::disallowed_methods,
    reason = "a test may read and write the files that it is about"
)]
#[expect(clippy::unwrap_used, reason = "it fails where it cannot")]
fn golden(name: &str, picture: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("SEALWARDEN_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, picture).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        picture == expected,
        "{name} differs; SEALWARDEN_WRITE_GOLDEN=1 writes it anew"
    );
}

#[expect(clippy::unwrap_used, reason = "it fails where it cannot")]
fn read(text: &str) -> Runbook {
    Runbook::parse("key-compromise.yaml", text).unwrap()
}

fn shipped() -> Runbook {
    read(include_str!("../../../../runbooks/key-compromise.yaml"))
}

#[test]
fn the_pictures_of_the_shipped_runbook_stay_as_they_are() {
    let runbook = shipped();
    golden("key-compromise.svg", &draw_svg(&runbook));
    golden("key-compromise.dot", &draw_dot(&runbook));
    golden("key-compromise.mmd", &draw_mermaid(&runbook));
}

#[test]
fn the_picture_of_a_run_shows_each_state() {
    let step = |tone, state: &str, notes: &[&str]| LiveStep {
        tone,
        state: state.to_owned(),
        notes: notes.iter().map(ToString::to_string).collect(),
    };
    let steps = BTreeMap::from([
        (
            "snapshot".to_owned(),
            step(Tone::Done, "done", &["10:00:00 to 10:00:04"]),
        ),
        (
            "read-only".to_owned(),
            step(
                Tone::Done,
                "done",
                &[
                    "approved: ines.duarte, mara.lindqvist",
                    "10:00:41 to 10:00:42",
                ],
            ),
        ),
        (
            "isolate".to_owned(),
            step(
                Tone::Runs,
                "running",
                &["approved: ines.duarte, mara.lindqvist", "since 10:00:44"],
            ),
        ),
        ("find-affected".to_owned(), step(Tone::Waits, "waits", &[])),
        (
            "rotate".to_owned(),
            step(
                Tone::Asks,
                "waits for approvals",
                &["approved: mara.lindqvist", "missing: 1 product-owner"],
            ),
        ),
        ("confirm".to_owned(), step(Tone::Skipped, "skipped", &[])),
        (
            "reverify".to_owned(),
            step(Tone::Failed, "stuck", &["3 seals do not verify"]),
        ),
    ]);
    let live = Live {
        heading: "run 0190…: running since 2026-11-02 10:00:00, incident INC-1".to_owned(),
        steps,
    };
    let picture = draw_run_svg(&shipped(), &live);
    for word in [
        "✓ done",
        "► running",
        "? waits for approvals",
        "missing: 1 product-owner",
        "– skipped",
        "✗ stuck",
    ] {
        assert!(picture.contains(word), "{word}");
    }
    golden("run.svg", &picture);
}

#[test]
fn what_runbooks_say_cannot_change_the_picture() {
    let text = include_str!("../../../../runbooks/key-compromise.yaml").replace(
        "title: Seal the evidence as it is now",
        "title: \"</text><script>alert(1)</script> & \\\"quoted\\\" 'single' [label]; } // ]]>\"",
    );
    let runbook = read(&text);
    let svg = draw_svg(&runbook);
    assert!(
        !svg.contains("<script") && svg.contains("&lt;script"),
        "{svg}"
    );
    assert!(draw_dot(&runbook).contains("\\\"quoted\\\""));
    assert!(!draw_mermaid(&runbook).contains("<script"));
}
