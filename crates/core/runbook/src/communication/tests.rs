use super::*;
use crate::{Finding, IncidentSeverity, PlanSet, SHIPPED};

/// The shipped plan with another section.
fn with(section: &str) -> Result<PlanSet, Vec<Finding>> {
    let files = SHIPPED.map(|(name, text)| {
        if name != "plan.yaml" {
            return (name, text.to_owned());
        }
        let before = text.split("\ncommunication:").next().unwrap();
        (name, format!("{before}\n{section}"))
    });
    PlanSet::load(&files)
}

fn codes(section: &str) -> Vec<(&'static str, String)> {
    let findings = with(section).unwrap_err();
    findings.into_iter().map(|f| (f.code, f.message)).collect()
}

const GOOD: &str = "communication:
  owner: on-call-sre
  channels:
    room: {kind: slack, for: [engineers, executives]}
    pager: {kind: pagerduty, for: [engineers]}
    page: {kind: status-page, for: [public]}
  cadence: {critical: 30m, high: 2h}
  escalation:
    acknowledge: {critical: 10m}
    contacts: [on-call-sre, security-lead]
";

#[test]
fn a_section_is_read_whole() {
    let set = with(GOOD).unwrap();
    let read = set.plan().communication().unwrap();
    assert_eq!(read.owner.as_str(), "on-call-sre");
    let names = |audience| {
        let channels = read.channels_of(audience);
        channels.map(|c| c.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(Audience::Engineers), ["pager", "room"]);
    assert_eq!(names(Audience::Executives), ["room"]);
    assert_eq!(names(Audience::Public), ["page"]);
    assert_eq!(read.cadence[&IncidentSeverity::Critical].as_secs(), 1800);
    // Without times for every severity it works, and could be better.
    let warned: Vec<_> = set.check().into_iter().map(|f| f.code).collect();
    assert!(warned.contains(&"severity-without-time"), "{warned:?}");
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    for (from, to, code) in [
        (
            "owner: on-call-sre",
            "owner: on-cal-sre",
            "role-without-people",
        ),
        ("owner: on-call-sre", "oner: x", "unknown-field"),
        ("kind: slack", "kind: slak", "unknown-channel-kind"),
        (
            "kind: slack",
            "kind: slack, url: 'https://x'",
            "unsupported",
        ),
        ("for: [engineers, executives]", "for: []", "empty"),
        (
            "for: [engineers, executives]",
            "for: [enginers]",
            "unknown-audience",
        ),
        (
            "kind: pagerduty, for: [engineers]",
            "kind: pagerduty, for: [executives]",
            "wrong-audience",
        ),
        (
            "kind: status-page, for: [public]",
            "kind: status-page, for: [engineers]",
            "wrong-audience",
        ),
        ("  cadence:", "  tenants: {}\n  cadence:", "unsupported"),
        (
            "cadence: {critical: 30m",
            "cadence: {criticl: 30m",
            "bad-severity",
        ),
        (
            "cadence: {critical: 30m",
            "cadence: {critical: 1ms",
            "bad-duration",
        ),
        (
            "contacts: [on-call-sre, security-lead]",
            "contacts: [nobody]",
            "role-without-people",
        ),
        (
            "contacts: [on-call-sre, security-lead]",
            "contacts: []",
            "escalation-to-nobody",
        ),
        ("room: {", "Room!: {", "bad-name"),
    ] {
        let section = GOOD.replace(from, to);
        assert_ne!(section, GOOD, "{from}");
        let found = codes(&section);
        assert!(found.iter().any(|(c, _)| *c == code), "{to}: {found:?}");
    }
}
