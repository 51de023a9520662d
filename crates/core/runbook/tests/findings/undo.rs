//! Undos against the graph.

use super::{found, step, text_of};

#[test]
fn an_undo_is_checked_as_a_step_behind_the_one_that_it_takes_back() {
    let approval = "approval: {quorum: {security-lead: 1}, within: 1m}";
    let log = "with: {log: main}";
    let good = [
        step("s", "snapshot-evidence", &[]),
        step(
            "r",
            "read-only",
            &["needs: [s]", log, approval, "undo: inverse"],
        ),
        step(
            "find",
            "find-affected",
            &[
                "with: {origin: x, compromised-since: 2026-11-02T10:00:00Z}",
                "undo: {action: reverify, with: {origin: '${steps.find.total}'}}",
            ],
        ),
    ];
    assert_eq!(found(&good), []);
    let bad = [
        step("s", "snapshot-evidence", &[]),
        // Nothing is lifted without evidence.
        step("r", "read-only", &[log, approval, "undo: inverse"]),
        step(
            "new",
            "rotate-origin",
            &[
                "needs: [s]",
                "with: {log: main, origin: x}",
                approval,
                "undo: inverse",
            ],
        ),
        step("v", "reverify", &["with: {origin: x}", "undo: inverse"]),
        step("w", "reverify", &["with: {origin: x}", "undo: bakc"]),
        step(
            "i",
            "isolate-key",
            &[
                "needs: [s]",
                "with: {log: main, origin: x, compromised-since: 2026-11-02T10:00:00Z}",
                approval,
                "undo: inverse",
            ],
        ),
        step(
            "o",
            "divert",
            &[
                "needs: [s]",
                "with: {log: main, mode: queue}",
                approval,
                "undo: {action: resume, with: {log: main}}",
            ],
        ),
        step(
            "p",
            "reverify",
            &[
                "with: {origin: x}",
                "undo: {action: reverify, needs: [s], with: {origin: '${steps.v.verified}'}}",
            ],
        ),
    ];
    let codes: Vec<(&str, String)> = found(&bad)
        .into_iter()
        .map(|(code, _, step)| (code, step))
        .collect();
    let named = |code: &'static str, step: &str| (code, step.to_owned());
    assert_eq!(
        codes,
        [
            named("no-snapshot", "r.undo"),
            named("irreversible-undo", "new"),
            named("bad-undo", "v"),
            named("bad-undo", "w"),
            named("bad-undo", "i"),
            named("missing-approval", "o"),
            named("unsupported", "p"),
            named("not-before", "p.undo"),
        ]
    );
    let text = text_of(&bad);
    for told in [
        "has no inverse of its own",
        "write `undo: inverse`",
        "takes `key`, which `isolate-key` does not",
        "cannot be taken back",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}
