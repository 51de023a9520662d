use jiff::Timestamp;
use jiff::civil::{Date, time};

use super::*;
use crate::IncidentSeverity;

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn due(period: &str, start: &str, calendar: &Calendar) -> String {
    let due = Period::parse(period)
        .unwrap()
        .due(ms(start), calendar)
        .unwrap();
    Timestamp::from_millisecond(due.at_ms).unwrap().to_string()
}

fn brussels() -> Calendar {
    Calendar::new("brussels", "Europe/Brussels").unwrap()
}

fn shipped() -> Regimes {
    Regimes::parse(
        "regimes.yaml",
        include_str!("../../../../../runbooks/regimes.yaml"),
    )
    .unwrap()
}

#[test]
fn hours_run_through_changes_of_clocks() {
    // The clocks of Brussels go back on 2026-10-25: 24 hours are 24 hours all the same.
    assert_eq!(
        due("24 hours", "2026-10-24T12:00:00Z", &brussels()),
        "2026-10-25T12:00:00Z"
    );
    assert_eq!(
        due("72 hours", "2026-12-30T23:30:00Z", &brussels()),
        "2027-01-02T23:30:00Z"
    );
    assert_eq!(
        due("at once", "2026-12-30T23:30:00Z", &brussels()),
        "2026-12-30T23:30:00Z"
    );
}

#[test]
fn days_and_months_end_with_the_last_hour_of_their_last_day_where_the_authority_is() {
    // 23:30 UTC is the next day in Brussels, so the day that is not counted is the 31st.
    assert_eq!(
        due("14 days", "2026-12-30T23:30:00Z", &brussels()),
        "2027-01-14T22:59:59.999Z"
    );
    assert_eq!(
        due("1 month", "2027-01-31T10:00:00Z", &brussels()),
        "2027-02-28T22:59:59.999Z"
    );
    assert_eq!(
        due("1 month", "2028-01-31T10:00:00Z", &brussels()),
        "2028-02-29T22:59:59.999Z"
    );
    // Winter time in, summer time out.
    assert_eq!(
        due("1 month", "2027-03-05T10:00:00Z", &brussels()),
        "2027-04-05T21:59:59.999Z"
    );
}

#[test]
fn business_days_begin_after_the_day_and_pass_over_weekends_and_holidays() {
    let regimes = shipped();
    let us = regimes.calendars().get("us-federal").unwrap();
    // Monday to Friday; Thanksgiving 2026 is a Thursday, and the fourth day after Monday is then the Monday after.
    assert_eq!(
        due("4 business days", "2026-11-16T15:00:00Z", us),
        "2026-11-20T22:29:59.999Z"
    );
    assert_eq!(
        due("4 business days", "2026-11-23T15:00:00Z", us),
        "2026-11-30T22:29:59.999Z"
    );
    // On a Saturday the period begins with Monday, which is its first day.
    assert_eq!(
        due("4 business days", "2026-11-14T15:00:00Z", us),
        "2026-11-19T22:29:59.999Z"
    );
    // Late on Friday in New York is Saturday in UTC: the authority's day counts.
    assert_eq!(
        due("4 business days", "2026-11-14T03:00:00Z", us),
        "2026-11-19T22:29:59.999Z"
    );
}

#[test]
fn a_calendar_whose_holidays_end_says_so() {
    let known = Calendar::new("c", "UTC")
        .unwrap()
        .with_holidays([], day("2026-12-31"));
    let period = Period::BusinessDays(4);
    assert!(
        !period
            .due(ms("2026-12-20T10:00:00Z"), &known)
            .unwrap()
            .beyond_calendar
    );
    assert!(
        period
            .due(ms("2026-12-30T10:00:00Z"), &known)
            .unwrap()
            .beyond_calendar
    );
    assert!(
        period
            .due(ms("2026-12-20T10:00:00Z"), &brussels())
            .unwrap()
            .beyond_calendar
    );
}

#[test]
fn an_hour_that_does_not_exist_still_ends_a_day() {
    // Santiago leaves out midnight when its summer time begins (2026-09-06).
    let santiago = Calendar::new("s", "America/Santiago").unwrap();
    assert_eq!(
        due("1 day", "2026-09-04T15:00:00Z", &santiago),
        "2026-09-06T03:59:59.999Z"
    );
    let closing = brussels().closing_at(time(2, 30, 0, 0));
    assert_eq!(
        due("1 day", "2027-03-27T10:00:00Z", &closing),
        "2027-03-28T01:29:59.999Z"
    );
}

#[test]
fn periods_are_written_in_one_way() {
    for text in [
        "at once",
        "1 hour",
        "24 hours",
        "14 days",
        "4 business days",
        "1 month",
    ] {
        assert_eq!(Period::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "",
        "24h",
        "hours",
        "-1 hours",
        "+1 hour",
        "01 hour",
        "0 hours",
        "1 fortnight",
        "999999999999 hours",
        "99999 days",
        "1  hour",
    ] {
        assert!(Period::parse(text).is_err(), "{text}");
    }
    assert!(Period::Hours(1).due(i64::MAX, &brussels()).is_err());
    assert!(
        Period::Months(120)
            .due(ms("9999-12-30T00:00:00Z"), &brussels())
            .is_err()
    );
}

#[test]
fn zones_come_from_the_database_that_is_compiled_in() {
    let bad = Calendar::new("c", "Europe/Atlantis").unwrap_err();
    assert!(bad.to_string().contains("Europe/Atlantis"));
    assert!(Calendar::new("c", "../../etc/passwd").is_err());
}

#[test]
fn the_shipped_regimes_say_what_they_concern() {
    let regimes = shipped();
    let concerned: Vec<&str> = regimes
        .concerned("key-compromise", IncidentSeverity::Critical)
        .map(|regime| regime.name.as_str())
        .collect();
    assert!(
        concerned.contains(&"nis2") && concerned.contains(&"gdpr") && concerned.contains(&"sec-8k")
    );
    let small: Vec<&str> = regimes
        .concerned("vendor-failure", IncidentSeverity::Medium)
        .map(|regime| regime.name.as_str())
        .collect();
    assert!(small.is_empty(), "{small:?}");
    let dora = regimes.regime("dora").unwrap();
    assert_eq!(dora.duties[0].limits.len(), 2);
    assert_eq!(
        dora.duties[2].limits[0].clock,
        Clock::Met("intermediate".to_owned())
    );
    assert!(!regimes.regime("gdpr").unwrap().checked);
}

#[test]
fn every_mistake_is_found_with_its_place() {
    let text = "\
version: 1
calendars:
  here: {zone: Europe/Atlantis}
  there: {zone: UTC, closes: \"25:00\"}
regimes:
  one:
    title: One
    source: somewhere
    as_of: 2026-13-01
    checked: perhaps
    calendar: nowhere
    when: {says: always, severity: terrible}
    duties:
      first: {title: First, told: [somebody], due: [{after: awake, within: 24h}]}
      second: {title: Second, told: [], due: [{after: met third, within: 1 hour}]}
";
    let findings = Regimes::parse("regimes.yaml", text).unwrap_err();
    let codes: Vec<(&str, u32)> = findings.iter().map(|f| (f.code, f.place.line)).collect();
    for expected in [
        ("bad-zone", 3),
        ("bad-time", 4),
        ("bad-date", 9),
        ("wrong-type", 10),
        ("unknown-calendar", 11),
        ("bad-severity", 12),
        ("bad-clock", 14),
        ("bad-period", 14),
        ("unknown-duty", 15),
        ("empty", 15),
    ] {
        assert!(
            codes.contains(&expected),
            "{expected:?} is not in {codes:?}"
        );
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_longer_period_is_never_due_earlier(start in 0_i64..4_000_000_000_000, n in 1_u32..400) {
            let calendar = brussels();
            for make in [Period::Hours, Period::Days, Period::BusinessDays] {
                let short = make(n).due(start, &calendar).unwrap();
                let long = make(n + 1).due(start, &calendar).unwrap();
                prop_assert!(start < short.at_ms && short.at_ms < long.at_ms);
            }
        }

        #[test]
        fn no_text_crashes_the_reader(text in "\\PC{0,300}") {
            prop_assert!(Regimes::parse("regimes.yaml", &text).is_err());
            prop_assert!(Period::parse(&text).is_err() || !text.is_empty());
        }
    }
}
