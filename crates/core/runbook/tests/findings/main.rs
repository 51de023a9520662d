//! A plan's mistakes are found, all of them at once, each with its line, its step and what to do.

mod conditions;
mod evidence;
mod retries;
mod undo;

use std::fmt::Write as _;

use proptest::prelude::*;
use sealwarden_runbook::{Finding, PlanSet, Runbook, SHIPPED};

const PLAN: &str = SHIPPED[0].1;
const ROSTER: &str = SHIPPED[1].1;
const RUNBOOK: &str = SHIPPED[2].1;

const HEAD: &str = "runbook: r\nversion: 1\nclass: c\ntitle: t\nsteps:\n";

/// The shipped plan with other texts for some of its files.
fn shipped_with(changed: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let mut files = SHIPPED.map(|(name, text)| (name, text.to_owned())).to_vec();
    for (name, text) in &mut files {
        if let Some((_, other)) = changed.iter().find(|(changed, _)| changed == name) {
            (*other).clone_into(text);
        }
    }
    files
}

/// A step in four lines and more: `id`, `action`, then further lines.
fn step(id: &str, action: &str, more: &[&str]) -> String {
    let mut text = format!("  - id: {id}\n    title: t\n    action: {action}\n");
    for line in more {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// The findings of a runbook with these steps, as (code, line, step).
fn found(steps: &[String]) -> Vec<(&'static str, u32, String)> {
    let findings = Runbook::parse("r.yaml", &format!("{HEAD}{}", steps.concat())).err();
    let findings = findings.unwrap_or_default();
    for finding in &findings {
        assert!(!finding.remedy.is_empty(), "no remedy: {finding}");
    }
    findings
        .into_iter()
        .map(|f| (f.code, f.place.line, f.step.unwrap_or_default()))
        .collect()
}

fn text_of(steps: &[String]) -> String {
    let findings = Runbook::parse("r.yaml", &format!("{HEAD}{}", steps.concat())).err();
    let lines: Vec<String> = findings.iter().flatten().map(ToString::to_string).collect();
    lines.join("\n")
}

fn named(code: &'static str, line: u32, step: &str) -> (&'static str, u32, String) {
    (code, line, step.to_owned())
}

/// The findings of the shipped plan after a replacement in one of its files.
fn changed(file: usize, from: &str, to: &str) -> Vec<Finding> {
    let (name, text) = SHIPPED[file];
    assert!(text.contains(from), "{from}");
    let files = shipped_with(&[(name, &text.replacen(from, to, 1))]);
    PlanSet::load(&files).err().unwrap_or_default()
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn a_cycle_is_named_with_its_path_and_line() {
    let steps = [
        step("a", "close-incident", &["needs: [c]"]),
        step("b", "close-incident", &["needs: [a]"]),
        step("c", "close-incident", &["needs: [b]"]),
    ];
    assert_eq!(
        found(&steps),
        [named("no-start", 6, ""), named("cycle", 9, "a")]
    );
    assert!(
        text_of(&steps).contains("a needs c needs b needs a"),
        "{}",
        text_of(&steps)
    );
    let itself = [
        step("x", "close-incident", &[]),
        step("a", "close-incident", &["needs: [x, a]"]),
    ];
    assert_eq!(found(&itself), [named("cycle", 12, "a")]);
    assert!(
        text_of(&itself).contains("a needs a ("),
        "{}",
        text_of(&itself)
    );
}

#[test]
fn an_unknown_need_or_action_comes_with_what_was_meant() {
    let steps = [
        step("snapshot", "snapshot-evidence", &[]),
        step("close", "close-incidnt", &["needs:", "  - snapshto"]),
    ];
    assert_eq!(
        found(&steps),
        [
            named("unknown-action", 11, "close"),
            named("unknown-need", 13, "close")
        ]
    );
    let text = text_of(&steps);
    assert!(
        text.contains("r.yaml:13:9: error[unknown-need] step close:"),
        "{text}"
    );
    assert!(text.contains("did you mean `snapshot`?"), "{text}");
    assert!(text.contains("did you mean `close-incident`?"), "{text}");
}

#[test]
fn inputs_are_checked_by_name_and_type() {
    let approval = "approval: {quorum: {x: 1}, within: 1m}";
    let steps = [
        step(
            "iso",
            "isolate-key",
            &[
                approval,
                "with:",
                "  log: main",
                "  orign: x",
                "  compromised-since: yesterday",
            ],
        ),
        step("ro", "read-only", &[approval]),
        step("rev", "reverify", &["with: {origin: 5}"]),
        step(
            "find",
            "find-affected",
            &["with: {origin: x, compromised-since: '${incident.origin}'}"],
        ),
        step(
            "two",
            "find-affected",
            &["with: {origin: x, compromised-since: '${incident.origin}a'}"],
        ),
        step("done", "close-incident", &["manual: {instructions: x}"]),
        step("ask", "confirm", &[approval]),
    ];
    assert_eq!(
        found(&steps),
        [
            named("missing-input", 10, "iso"),
            named("unknown-input", 12, "iso"),
            named("bad-input", 13, "iso"),
            named("missing-input", 14, "ro"),
            named("bad-input", 25, "find"),
            named("bad-input", 29, "two"),
            named("bad-input", 33, "done"),
            named("missing-input", 34, "ask"),
        ]
    );
}

#[test]
fn references_must_be_known_when_the_step_starts() {
    let with = |origin: &str| format!("with: {{origin: \"{origin}\"}}");
    let steps = [
        step("snap", "snapshot-evidence", &[]),
        step("late", "reverify", &[&with("${steps.snap.digest}")]),
        step("nobody", "reverify", &[&with("${steps.snip.digest}")]),
        step(
            "output",
            "reverify",
            &["needs: [snap]", &with("${steps.snap.diggest}")],
        ),
        step(
            "good",
            "reverify",
            &["needs: [snap]", &with("${steps.snap.digest}")],
        ),
        step(
            "far",
            "reverify",
            &["needs: [good]", &with("${steps.snap.digest}")],
        ),
        step("odd", "reverify", &[&with("${incident.orign}")]),
    ];
    assert_eq!(
        found(&steps),
        [
            named("not-before", 12, "late"),
            named("bad-reference", 16, "nobody"),
            named("bad-reference", 21, "output"),
            named("bad-reference", 35, "odd"),
        ]
    );
}

#[test]
fn what_cannot_be_taken_back_waits_for_a_snapshot() {
    let approval = "approval: {quorum: {x: 1}, within: 1m}";
    let with = "with: {log: main}";
    let steps = [
        step("snap", "snapshot-evidence", &[]),
        step("ro", "read-only", &[approval, with]),
        step("early", "publish-trust", &["needs: [ro]", approval, with]),
        step(
            "late",
            "publish-trust",
            &["needs: [ro, snap]", approval, with],
        ),
        step("later", "resume", &["needs: [late]", approval, with]),
    ];
    assert_eq!(found(&steps), [named("no-snapshot", 14, "early")]);
    assert!(text_of(&steps).contains("let it need `snap`"));
}

#[test]
fn what_is_diverted_is_written_out() {
    let approval = "approval: {quorum: {x: 1}, within: 1m}";
    let divert = |id, mode| step(id, "divert", &[approval, mode]);
    let steps = [
        divert("all", "with: {log: main, mode: queue}"),
        divert("some", "with: {log: main, mode: queue-noncritical}"),
        divert("none", "with: {log: main, mode: open}"),
        divert("later", "with: {log: main, mode: '${incident.subject}'}"),
        divert("missing", "with: {log: main}"),
    ];
    let wrong = found(&steps);
    let steps_of = |code: &str| {
        let of_code = wrong.iter().filter(|(found, ..)| *found == code);
        of_code.map(|(.., step)| step.clone()).collect::<Vec<_>>()
    };
    assert_eq!(steps_of("bad-input"), ["none"]);
    assert_eq!(steps_of("missing-input"), ["missing"]);
    assert!(text_of(&steps).contains("write `queue` or `queue-noncritical`"));
    assert!(wrong.iter().any(|(.., step)| step == "later"), "{wrong:?}");
    assert!(
        !wrong
            .iter()
            .any(|(.., step)| step == "all" || step == "some")
    );
}

#[test]
fn a_plan_may_leave_diversion_out_as_long_as_no_step_orders_it() {
    let without = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.starts_with("  queue"));
        lines.fold(String::new(), |text, line| text + line + "\n")
    };
    let files = |plan: &str, runbook: &str| {
        // The one shipped runbook that diverts does something else here.
        let (_, outage) = SHIPPED
            .into_iter()
            .find(|(name, _)| *name == "kms-outage.yaml")
            .unwrap();
        let outage = outage
            .replace("action: divert", "action: read-only")
            .replace("      mode: queue-noncritical\n", "")
            .replace("product-owner: 1", "security-lead: 1");
        let files = shipped_with(&[
            ("plan.yaml", plan),
            ("key-compromise.yaml", runbook),
            ("kms-outage.yaml", &outage),
        ]);
        codes(&PlanSet::load(&files).err().unwrap_or_default())
    };
    let plan = without(PLAN);
    assert!(files(&plan, RUNBOOK).is_empty());
    let diverting = RUNBOOK.replacen(
        "steps:\n",
        &format!(
            "steps:\n{}",
            step(
                "divert",
                "divert",
                &[
                    "approval: {quorum: {on-call-sre: 1, security-lead: 1}, within: 15m}",
                    "with: {log: main, mode: queue}",
                ],
            )
        ),
        1,
    );
    assert!(files(PLAN, &diverting).is_empty());
    assert_eq!(files(&plan, &diverting), ["undemanded-directive"]);
    let weak = diverting.replacen(
        "on-call-sre: 1, security-lead: 1}, within: 15m",
        "on-call-sre: 1}, within: 15m",
        1,
    );
    assert_eq!(files(PLAN, &weak), ["weak-quorum"]);
}

#[test]
fn orders_about_keys_need_two_people_an_approval_and_evidence_before() {
    let lonely = changed(
        0,
        "revoke-key: {security-lead: 1, on-call-sre: 1}",
        "revoke-key: {security-lead: 1}",
    );
    assert_eq!(codes(&lonely), ["lonely-quorum"]);
    let nobody = changed(
        0,
        "  restore-key: {security-lead: 1, product-owner: 1}\n",
        "",
    );
    assert_eq!(codes(&nobody), ["undemanded-directive"]);
    for (action, since) in [
        ("revoke-key", ", compromised-since: '2026-11-02T10:00:00Z'"),
        ("destroy-key", ""),
        ("restore-key", ""),
    ] {
        let with = format!("with: {{log: main, origin: x/main/1, key: main-1{since}}}");
        let approval = "approval: {quorum: {security-lead: 2}, within: 1h}";
        let bare = found(&[step("a", action, &[&with, approval])]);
        assert_eq!(bare, [named("no-snapshot", 6, "a")], "{action}");
        let unapproved = found(&[
            step("s", "snapshot-evidence", &[]),
            step("a", action, &["needs: [s]", &with]),
        ]);
        assert_eq!(unapproved, [named("missing-approval", 9, "a")], "{action}");
        let good = found(&[
            step("s", "snapshot-evidence", &[]),
            step("a", action, &["needs: [s]", &with, approval]),
        ]);
        assert_eq!(good, [], "{action}");
    }
}

#[test]
fn what_cannot_be_executed_is_refused_and_not_skipped() {
    let steps = [
        step("a", "close-incident", &["for_each: [1]", "runbook: other"]),
        step("b", "close-incident", &["neds: [a]"]),
        step("c", "read-only", &["with: {log: main}"]),
        step("a", "close-incident", &[]),
    ];
    assert_eq!(
        found(&steps),
        [
            named("unsupported", 9, "a"),
            named("unsupported", 10, "a"),
            named("unknown-field", 14, "b"),
            named("missing-approval", 15, "c"),
            named("duplicate-step", 19, "a"),
        ]
    );
    assert!(text_of(&steps).contains("`for_each` (loops) is not supported yet"));
    assert!(text_of(&steps).contains("did you mean `needs`?"));
}

#[test]
fn a_runbook_without_steps_or_of_another_shape_is_none() {
    let parse = |text: &str| codes(&Runbook::parse("r.yaml", text).err().unwrap_or_default());
    assert_eq!(parse(&format!("{HEAD}  []\n")), ["no-steps"]);
    assert_eq!(
        parse("runbook: r\nversion: 1\nclass: c\ntitle: t\n"),
        ["missing-field"]
    );
    assert_eq!(parse("- a\n"), ["wrong-type"]);
    assert_eq!(parse(""), ["wrong-type"]);
    assert_eq!(
        parse(&HEAD.replace("version: 1", "version: -1")),
        ["bad-number", "missing-field"]
    );
    assert_eq!(
        codes(
            &Runbook::parse("other.yaml", RUNBOOK)
                .err()
                .unwrap_or_default()
        ),
        ["wrong-file"]
    );
}

#[test]
fn texts_that_would_deceive_an_approver_are_refused() {
    for bad in ["\\e[2Jsafe", "a\\u202Eb", "one\\ntwo"] {
        let title = format!("title: \"{bad}\"");
        let text =
            format!("{HEAD}{}", step("a", "close-incident", &[])).replace("title: t", &title);
        let findings = Runbook::parse("r.yaml", &text).err().unwrap_or_default();
        assert_eq!(
            codes(&findings),
            ["bad-character", "bad-character"],
            "{bad}"
        );
    }
}

#[test]
fn steps_that_may_outlive_the_incident_are_worth_a_warning() {
    let text = [
        HEAD,
        &step("snap", "snapshot-evidence", &[]),
        &step("close", "close-incident", &[]),
    ];
    let runbook = Runbook::parse("r.yaml", &text.concat()).ok();
    let warnings = runbook
        .map(|runbook| runbook.warnings().to_vec())
        .unwrap_or_default();
    assert_eq!(codes(&warnings), ["after-close"]);
}

#[test]
fn quorums_that_the_roster_cannot_meet_are_refused() {
    let findings = changed(
        2,
        "quorum: {legal-counsel: 1, communications-lead: 1}",
        "quorum: {legal-council: 1}",
    );
    assert_eq!(codes(&findings), ["quorum-unmet"]);
    assert_eq!(findings[0].step.as_deref(), Some("confirm"));
    assert!(
        findings[0].place.line > 0 && findings[0].remedy.contains("did you mean `legal-counsel`?")
    );
    let both = "quorum: {legal-counsel: 2, compliance-owner: 1}";
    let findings = changed(
        2,
        "quorum: {legal-counsel: 1, communications-lead: 1}",
        both,
    );
    assert_eq!(codes(&findings), ["quorum-unmet"]);
    assert!(findings[0].remedy.contains("one person counts once"));
    assert_eq!(
        codes(&changed(
            0,
            "open: {on-call-sre: 1",
            "open: {on-call-sre: 3"
        )),
        ["weak-quorum", "weak-quorum", "quorum-unmet", "weak-quorum"]
    );
}

#[test]
fn a_directive_with_fewer_approvals_than_nodes_demand_is_refused() {
    let findings = changed(
        2,
        "quorum: {security-lead: 1, product-owner: 1}",
        "quorum: {security-lead: 2}",
    );
    assert_eq!(codes(&findings), ["weak-quorum"]);
    assert_eq!(findings[0].step.as_deref(), Some("rotate"));
    assert_eq!(
        codes(&changed(
            0,
            "  reseal: {security-lead: 1, compliance-owner: 1}\n",
            ""
        )),
        ["missing-field"]
    );
}

#[test]
fn the_files_of_a_plan_must_fit_together() {
    assert_eq!(
        codes(&changed(
            0,
            "runbook: key-compromise",
            "runbook: key-compromised"
        )),
        ["class-without-runbook"]
    );
    assert_eq!(
        codes(&changed(2, "class: key-compromise", "class: no-such-class")),
        ["unknown-class", "wrong-class"]
    );
    assert_eq!(
        codes(&changed(0, "contain: 60s", "contain: 2s")),
        ["bad-targets"]
    );
    assert_eq!(
        codes(&changed(0, "hold: 15m", "hold: soon\nwitnesses: 2")),
        ["bad-duration", "unknown-field"]
    );
    assert_eq!(
        codes(&changed(0, "severity: critical", "severity: crucial")),
        ["bad-severity"]
    );
    assert_eq!(
        codes(&changed(1, "jonas.weber", "ines.duarte")),
        ["bad-roster"]
    );
    assert_eq!(
        codes(&changed(1, "keys: []", "keys: [ssh-rsa AAAA]")),
        ["bad-key"]
    );
    let none: [(&str, &str); 1] = [("README.md", "# the plan")];
    assert_eq!(
        codes(&PlanSet::load(&none).err().unwrap_or_default()),
        ["missing-file", "missing-file"]
    );
}

#[test]
fn people_who_cannot_be_away_are_named_in_a_warning() {
    let roster = ROSTER.replace(
        "roles: [on-call-sre]\n    contact: \"pager:sre-secondary\"",
        "roles: [product-owner]\n    contact: x",
    );
    let files = shipped_with(&[("roster.yaml", &roster)]);
    let warnings = PlanSet::load(&files)
        .map(|set| set.check())
        .unwrap_or_default();
    assert!(codes(&warnings).contains(&"quorum-fragile"));
    assert!(
        warnings.iter().any(|w| w.message.ends_with("ines.duarte")),
        "{warnings:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for file in ["plan.yaml", "roster.yaml", "r.yaml"] {
            prop_assert!(PlanSet::load(&[(file, &text)]).is_err());
        }
    }

    #[test]
    fn yaml_like_text_never_panics(text in "[-a-c:{}\\[\\]&*!|>'\"#%@`, \n0-9$~?.<]{0,200}") {
        prop_assert!(Runbook::parse("r.yaml", &text).is_err());
    }

    /// A shipped file with a piece cut out, doubled or overwritten either loads or is refused with a place.
    #[test]
    fn a_mutilated_plan_never_panics(
        file in 0_usize..3,
        from in any::<prop::sample::Index>(),
        length in 0_usize..60,
        put in "[-a-z:{}\\[\\]&*!$, \n0-9]{0,12}",
        keep in any::<bool>(),
    ) {
        let mut files = SHIPPED.map(|(name, text)| (name, text.to_owned()));
        let chars: Vec<char> = files[file].1.chars().collect();
        let from = from.index(chars.len());
        let to = (from + length).min(chars.len());
        let mut mutant: String = chars[..from].iter().collect();
        if keep {
            mutant.extend(&chars[from..to]);
        }
        mutant.push_str(&put);
        mutant.extend(&chars[to..]);
        files[file].1 = mutant;
        match PlanSet::load(&files) {
            Ok(set) => {
                for runbook in set.runbooks().values() {
                    prop_assert!(sealwarden_runbook::draw_text(runbook).lines().all(|l| l.chars().count() <= 80));
                    prop_assert_eq!(runbook.order().len(), runbook.steps().len());
                }
            }
            Err(findings) => prop_assert!(!findings.is_empty() && findings.iter().all(Finding::is_error)),
        }
    }
}
