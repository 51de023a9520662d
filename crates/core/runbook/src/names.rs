//! Names and durations: what counts as one.

use std::fmt;
use std::time::Duration;

/// The longest duration that a plan may ask for: 400 days.
const MAX_DURATION: Duration = Duration::from_hours(400 * 24);

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Whether `text` is a name: a small letter, then small letters, digits, `-`; at most 64 of them.
/// Persons' ids may hold dots too, see [`is_person_id`].
pub fn is_name(text: &str) -> bool {
    starts_with_letter(text)
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether `text` can identify a person: like a name, and dots may stand in it (`mara.lindqvist`).
pub fn is_person_id(text: &str) -> bool {
    starts_with_letter(text)
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

fn starts_with_letter(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
}

/// A role that people have and quorums ask for, such as `security-lead`. Which roles an organisation has is
/// its own affair; [`Role::KNOWN`] are those that the shipped plan uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role(String);

/// A text that is no role's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role's name: small letters, digits and `-`, at most 64, a letter first")]
pub struct BadRole(pub String);

impl Role {
    /// The roles of the shipped plan.
    pub const KNOWN: [&'static str; 7] = [
        "on-call-sre",
        "security-lead",
        "legal-counsel",
        "compliance-owner",
        "communications-lead",
        "product-owner",
        "break-glass",
    ];

    /// Reads a role's name.
    pub fn new(text: &str) -> Result<Self, BadRole> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadRole(text.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// Not a number with a unit.
    #[error(
        "`{0}` is not a duration: write a whole number and a unit, such as 500ms, 5s, 15m, 24h or 30d"
    )]
    Form(String),
    /// Longer than any plan needs.
    #[error("`{0}` is longer than 400 days")]
    TooLong(String),
}

/// Reads a duration: whole numbers with the units `ms`, `s`, `m`, `h`, `d`, one after another (`1h30m`).
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let form = || BadDuration::Form(text.to_owned());
    let too_long = || BadDuration::TooLong(text.to_owned());
    let mut rest = text;
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(form());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(form)?;
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(form)?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(form()),
        };
        if number.is_empty() {
            return Err(form());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let part = number.checked_mul(unit_ms).ok_or_else(too_long)?;
        total_ms = total_ms.checked_add(part).ok_or_else(too_long)?;
        rest = after;
    }
    let duration = Duration::from_millis(total_ms);
    if duration > MAX_DURATION {
        Err(too_long())
    } else {
        Ok(duration)
    }
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        // 24h is what people say for a day; days begin at two.
        let enough = unit != "d" || ms >= 2 * unit_ms;
        if ms > 0 && ms.is_multiple_of(unit_ms) && enough {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_the_same() {
        for (text, ms) in [
            ("5s", 5_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(show_duration(Duration::from_millis(250)), "250ms");
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5h",
            "5µs",
            "5S",
            "s5",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_duration("401d"),
            Err(BadDuration::TooLong("401d".into()))
        );
    }

    #[test]
    fn role_names_are_small_words() {
        assert!(Role::KNOWN.iter().all(|role| Role::new(role).is_ok()));
        for bad in ["", "Security", "1st", "a b", "rôle", "-x", &"a".repeat(65)] {
            assert!(Role::new(bad).is_err(), "{bad}");
        }
    }
}
