use super::*;
use crate::{Finding, PlanSet, SHIPPED};

fn parse(detector: &str) -> Result<Detectors, Vec<Finding>> {
    let lines: Vec<&str> = detector.lines().collect();
    let indented = format!("    {}\n", lines.join("\n    "));
    Detectors::parse(
        "detectors.yaml",
        &format!("version: 1\ndetectors:\n  it:\n{indented}"),
    )
}

const HEAD: &str = "title: It\nowner: on-call-sre\nclass: kms-outage\n";

fn rule(text: &str) -> Rule {
    let read = parse(&format!("{HEAD}{text}")).unwrap();
    read.detector("it").unwrap().rule.clone()
}

fn codes(text: &str) -> Vec<(&'static str, u32)> {
    let findings = parse(&format!("{HEAD}{text}")).unwrap_err();
    assert!(
        findings.iter().all(|it| !it.remedy.is_empty()),
        "{findings:?}"
    );
    let places = findings.iter().map(|it| (it.code, it.place.line));
    places.collect()
}

#[test]
fn each_kind_is_read() {
    assert_eq!(
        rule("kind: threshold\nmeasure: publish-ms\nof: most\nwindow: 1m\nabove: 1.5"),
        Rule::Window {
            measure: Measure::PublishMs,
            of: Aggregate::Most,
            window_ms: 60_000,
            limit: Bound::Above(1_500),
            samples: 1,
        }
    );
    assert!(matches!(
        rule("kind: rate\nmeasure: seals\nwindow: 1h\nbelow: 1"),
        Rule::Window {
            of: Aggregate::Sum,
            limit: Bound::Below(1_000),
            ..
        }
    ));
    assert!(matches!(
        rule(
            "kind: ewma\nmeasure: seals\nof: sum\nbucket: 1m\nbuckets: 30\nweight: 0.25\nscore: 4\nleast: 10"
        ),
        Rule::Anomaly {
            method: AnomalyMethod::Ewma { weight: 250 },
            score: 4_000,
            ..
        }
    ));
    let Rule::BurnRate {
        budget_ppm,
        windows,
        ..
    } = rule(
        "kind: burn-rate\nall: verdicts\nbad: negative-verdicts\nobjective: 99.9\nwindows: [{long: 1h, short: 5m, factor: 14.4}]",
    )
    else {
        panic!("no burn rate")
    };
    assert_eq!((budget_ppm, windows[0].factor), (1_000, 14_400));
    for text in [
        "kind: robust-z\nmeasure: seals\nof: sum\nbucket: 1m\nbuckets: 30\nscore: 4\nleast: 10",
        "kind: absence\nmeasure: permit-requests\nwithin: 2m",
        "kind: cross-check\neach: intents\nneeds: checkpoints\nwithin: 1m",
        "kind: probe\nfailures: 2\nslower: 5s\nwithin: 5m",
        "kind: release\nall: verdicts\nbad: negative-verdicts\nwindow: 30m\nfactor: 3\nleast: 5",
    ] {
        rule(text);
    }
}

#[test]
fn mistakes_are_named_with_their_line_and_a_remedy() {
    let cases = [
        ("kind: thresold", "bad-kind", 7),
        (
            "kind: rate\nmeasure: seal\nwindow: 1h\nabove: 1",
            "unknown-measure",
            8,
        ),
        ("kind: rate\nmeasure: seals\nwindow: 1h", "bad-limit", 4),
        (
            "kind: rate\nmeasure: seals\nwindow: 1h\nabove: 1\nbelow: 2",
            "bad-limit",
            4,
        ),
        (
            "kind: rate\nmeasure: seals\nwindow: 1h\nabove: 1.2345",
            "bad-number",
            10,
        ),
        (
            "kind: rate\nmeasure: seals\nwindow: 1h\nabove: -1",
            "bad-number",
            10,
        ),
        (
            "kind: rate\nmeasure: seals\nwindow: 90d\nabove: 1",
            "bad-duration",
            9,
        ),
        (
            "kind: rate\nmeasure: seals\nwindow: 10ms\nabove: 1",
            "bad-duration",
            9,
        ),
        ("kind: rate\nmeasure: seals\nabove: 1", "missing-field", 4),
        (
            "kind: rate\nmeasure: seals\nwindow: 1h\nabove: 1\nwithin: 5m",
            "unknown-field",
            11,
        ),
        ("kind: proven", "bad-kind", 3),
        (
            "kind: cross-check\neach: intents\nneeds: verdicts\nwithin: 1m",
            "bad-measure",
            9,
        ),
        (
            "kind: cross-check\neach: intents\nneeds: intents\nwithin: 1m",
            "bad-measure",
            9,
        ),
        (
            "kind: burn-rate\nall: verdicts\nbad: negative-verdicts\nobjective: 100\nwindows: []",
            "bad-number",
            10,
        ),
        (
            "kind: burn-rate\nall: verdicts\nbad: negative-verdicts\nobjective: 99\nwindows: [{long: 5m, short: 5m, factor: 2}]",
            "bad-window",
            11,
        ),
        (
            "kind: rate\nmeasure: seals\nwindow: 1h\nabove: 1\nnear: 100",
            "bad-number",
            11,
        ),
        (
            "kind: rate\nmeasure: seals\nwindow: 1h\nabove: 1\nonly: []",
            "bad-number",
            11,
        ),
    ];
    for (text, code, line) in cases {
        let found = codes(text);
        assert!(found.contains(&(code, line)), "{text}: {found:?}");
    }
    let built_in = "version: 1\ndetectors:\n  silent-audit: {title: x, owner: on-call-sre, kind: rate, class: x, measure: seals, window: 1h, above: 1}\n";
    let findings = Detectors::parse("detectors.yaml", built_in).unwrap_err();
    assert_eq!(findings[0].code, "bad-kind");
}

/// The shipped plan with other detectors.
fn plan(detectors: &str) -> Result<PlanSet, Vec<Finding>> {
    let files = SHIPPED.map(|(name, text)| {
        let text = if name == "detectors.yaml" {
            detectors
        } else {
            text
        };
        (name, text)
    });
    PlanSet::load(&files)
}

#[test]
fn a_detector_has_a_class_of_the_plan_and_an_owner_of_the_roster() {
    let with = |class: &str, owner: &str| {
        plan(&format!(
            "version: 1\ndetectors:\n  it: {{title: x, owner: {owner}, kind: rate, class: {class}, measure: seals, window: 1h, above: 1}}\n"
        ))
    };
    let code = |class, owner| with(class, owner).unwrap_err()[0].code;
    assert_eq!(code("kms-outages", "on-call-sre"), "unknown-class");
    assert_eq!(code("kms-outage", "on-call-sres"), "no-owner");
    let probe = "version: 1\ndetectors:\n  it: {title: x, owner: on-call-sre, kind: probe, class: kms-outage, failures: 2, slower: 5s, within: 5m}\n";
    assert!(plan(probe).is_ok());
    let warnings = with("kms-outage", "on-call-sre").unwrap().check();
    let unowned = warnings.iter().filter(|it| it.code == "detector-unowned");
    assert_eq!(unowned.count(), BUILT_IN.len());
}

#[test]
fn the_shipped_detectors_are_good_and_all_owned() {
    let set = PlanSet::load(&SHIPPED).unwrap();
    assert!(set.detectors().unwrap().detectors().len() > BUILT_IN.len());
    let about_detectors = set
        .check()
        .into_iter()
        .filter(|it| it.file == "detectors.yaml");
    assert_eq!(about_detectors.collect::<Vec<_>>(), Vec::new());
}

#[test]
fn thousandths_are_shown_as_they_are_written() {
    for (value, text) in [
        (14_400, "14.4"),
        (2_000_000, "2000"),
        (-500, "-0.5"),
        (1, "0.001"),
        (0, "0"),
    ] {
        assert_eq!(show_thousandths(value), text);
    }
}

#[test]
fn labels_of_outside_sources_are_mapped_by_the_first_rule_that_matches() {
    let text = |rules: &str| format!("version: 1\ndetectors: {{}}\noutside: {rules}\n");
    let rules = "[{labels: {team: hsm, log: \"*\"}, class: kms-outage, about: \"key providers of log {log} {x\"}, {labels: {team: hsm}, class: data-integrity}]";
    let read = Detectors::parse("detectors.yaml", &text(rules)).unwrap();
    let labels = |given: &[(&str, &str)]| {
        let given = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        given.collect::<std::collections::BTreeMap<_, _>>()
    };
    let first = |labels: &std::collections::BTreeMap<String, String>| {
        let rule = read.outside().iter().find(|rule| rule.matches(labels));
        rule.map(|rule| (rule.class.clone(), rule.about(labels)))
    };
    let both = labels(&[("team", "hsm"), ("log", "{team}")]);
    assert_eq!(
        first(&both),
        Some((
            "kms-outage".to_owned(),
            "key providers of log {team} {x".to_owned()
        )),
        "braces in a value stand for themselves"
    );
    let one = first(&labels(&[("team", "hsm")])).unwrap();
    assert_eq!(one, ("data-integrity".to_owned(), String::new()));
    assert_eq!(first(&labels(&[("team", "web")])), None);
    let findings = Detectors::parse("detectors.yaml", &text("[{labels: {}, class: x}]"));
    assert_eq!(findings.unwrap_err()[0].code, "empty");
    let unknown = text("[{labels: {a: b}, class: nonsense}]");
    assert_eq!(plan(&unknown).unwrap_err()[0].code, "unknown-class");
}
