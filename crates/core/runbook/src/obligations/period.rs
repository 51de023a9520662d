//! How long after its clock started something is due.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::{Span, Timestamp};

use super::calendar::Calendar;

/// The longest period, whatever its unit: about ten years.
const MAX_HOURS: u32 = 24 * 3_660;
const MAX_DAYS: u32 = 3_660;
const MAX_MONTHS: u32 = 120;

/// A period as laws write them.
///
/// - Hours run from the instant, through nights and holidays.
/// - Days and months do not count the day on which the clock started, and end with the last hour of their last day; a month
///   ends on the day of the same number, or on the last day of a shorter month. That is Article 3(2) of Regulation (EEC, Euratom)
///   No 1182/71. Its Article 3(4), by which a last day that is a holiday moves to the next working day, is not used: a
///   deadline shown here is never later than the law's.
/// - Business days count the working days after the day on which the clock started, as in General Instruction B.1 of
///   the SEC's Form 8-K: a period that starts on a Saturday, Sunday or holiday begins with the first working day after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// As soon as it can be done: due when the clock starts.
    AtOnce,
    /// So many hours.
    Hours(u32),
    /// So many calendar days.
    Days(u32),
    /// So many working days.
    BusinessDays(u32),
    /// So many calendar months.
    Months(u32),
}

/// A text that is no period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no period; write `at once`, or a number with its unit: 24 hours, 14 days, 4 business days, 1 month"
)]
pub struct BadPeriod(pub String);

/// A time that no calendar has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{started_ms} ms of Unix time and {period} later is no time that a calendar has")]
pub struct OutOfRange {
    /// When the clock started, Unix milliseconds.
    pub started_ms: i64,
    /// The period.
    pub period: Period,
}

/// When something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The last instant at which it is in time, Unix milliseconds.
    pub at_ms: i64,
    /// Whether it counts working days of a time whose holidays the calendar does not know: it may then be later, never earlier.
    pub beyond_calendar: bool,
}

impl Period {
    /// Reads a period: `at once`, or a number and a unit.
    pub fn parse(text: &str) -> Result<Self, BadPeriod> {
        let bad = || BadPeriod(text.to_owned());
        if text == "at once" {
            return Ok(Self::AtOnce);
        }
        let (number, unit) = text.split_once(' ').ok_or_else(bad)?;
        let plain = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        let number: u32 = number.parse().ok().filter(|_| plain).ok_or_else(bad)?;
        let (period, max) = match unit {
            "hour" | "hours" => (Self::Hours(number), MAX_HOURS),
            "day" | "days" => (Self::Days(number), MAX_DAYS),
            "business day" | "business days" => (Self::BusinessDays(number), MAX_DAYS),
            "month" | "months" => (Self::Months(number), MAX_MONTHS),
            _ => return Err(bad()),
        };
        if number <= max {
            Ok(period)
        } else {
            Err(bad())
        }
    }

    /// When the period ends that starts at `started_ms` (Unix milliseconds).
    pub fn due(self, started_ms: i64, calendar: &Calendar) -> Result<Due, OutOfRange> {
        let out = || OutOfRange {
            started_ms,
            period: self,
        };
        let start = Timestamp::from_millisecond(started_ms).map_err(|_| out())?;
        let first = start.to_zoned(calendar.zone.clone()).date();
        let (last, beyond_calendar) = match self {
            Self::AtOnce => {
                return Ok(Due {
                    at_ms: started_ms,
                    beyond_calendar: false,
                });
            }
            Self::Hours(hours) => {
                let at_ms = started_ms
                    .checked_add(i64::from(hours) * 3_600_000)
                    .ok_or_else(out)?;
                Timestamp::from_millisecond(at_ms).map_err(|_| out())?;
                return Ok(Due {
                    at_ms,
                    beyond_calendar: false,
                });
            }
            Self::Days(days) => (first.checked_add(Span::new().days(i64::from(days))), false),
            Self::Months(months) => (
                first.checked_add(Span::new().months(i64::from(months))),
                false,
            ),
            Self::BusinessDays(days) => {
                let last = nth_business_day(first, days, calendar).ok_or_else(out)?;
                (Ok(last), !calendar.knows(last))
            }
        };
        let last = last.map_err(|_| out())?;
        let at_ms = end_of(last, calendar).ok_or_else(out)?;
        Ok(Due {
            at_ms,
            beyond_calendar,
        })
    }
}

/// The `days`-th working day after `first`, which is not counted itself.
fn nth_business_day(first: Date, days: u32, calendar: &Calendar) -> Option<Date> {
    let mut day = first;
    let mut counted = 0;
    while counted < days {
        day = day.tomorrow().ok()?;
        if calendar.is_business_day(day) {
            counted += 1;
        }
    }
    Some(day)
}

/// The last millisecond of a day, or the one before its closing hour.
fn end_of(day: Date, calendar: &Calendar) -> Option<i64> {
    let end = match calendar.closes {
        Some(closes) => day.to_datetime(closes),
        None => day.tomorrow().ok()?.to_datetime(Time::midnight()),
    };
    // An hour that a change of clocks left out or repeated: jiff takes the later and the earlier one of the two.
    let end = calendar
        .zone
        .to_ambiguous_timestamp(end)
        .compatible()
        .ok()?;
    end.as_millisecond().checked_sub(1)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::AtOnce => return f.write_str("at once"),
            Self::Hours(number) => (number, "hour"),
            Self::Days(number) => (number, "day"),
            Self::BusinessDays(number) => (number, "business day"),
            Self::Months(number) => (number, "month"),
        };
        let plural = if *number == 1 { "" } else { "s" };
        write!(f, "{number} {unit}{plural}")
    }
}
