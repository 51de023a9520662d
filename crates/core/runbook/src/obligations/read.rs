//! Reads `regimes.yaml`; every mistake comes back with its place.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};

use super::calendar::Calendar;
use super::period::Period;
use super::regime::{Clock, Duty, Limit, Regime, RegimeTrigger, Regimes};
use crate::digest::sha256;
use crate::fields::{Fields, Reader, Shape};
use crate::finding::Finding;
use crate::plan::IncidentSeverity;
use crate::suggest;
use crate::yaml::{self, Key, Node, Value};

pub(crate) const REGIMES_FILE: &str = "regimes.yaml";

/// The most regimes of a file, duties of a regime, and holidays of a calendar.
const MAX_REGIMES: usize = 200;
const MAX_DUTIES: usize = 20;
const MAX_HOLIDAYS: usize = 2_000;

/// The calendar that a regime has if it names none: days end at midnight UTC.
const UTC: &str = "utc";

const FILE: Shape = Shape {
    what: "`regimes.yaml`",
    known: &["version", "calendars", "regimes"],
    unsupported: &[],
};
const CALENDAR: Shape = Shape {
    what: "a calendar",
    known: &["zone", "closes", "holidays", "known_until"],
    unsupported: &[],
};
const REGIME: Shape = Shape {
    what: "a regime",
    known: &[
        "title", "source", "as_of", "checked", "when", "calendar", "duties",
    ],
    unsupported: &[],
};
const WHEN: Shape = Shape {
    what: "`when`",
    known: &["says", "classes", "severity"],
    unsupported: &[],
};
const DUTY: Shape = Shape {
    what: "a duty",
    known: &["title", "told", "due"],
    unsupported: &[],
};
const LIMIT: Shape = Shape {
    what: "a limit",
    known: &["after", "within"],
    unsupported: &[],
};

/// Reads the text of a `regimes.yaml`; `file` is named in findings.
pub(crate) fn read_regimes(file: &str, text: &str) -> Result<Regimes, Vec<Finding>> {
    let root = yaml::read(file, text)?;
    let mut reader = Reader::new(file);
    let Some(fields) = reader.fields(&root, &FILE) else {
        return Err(reader.findings);
    };
    let version = reader.version(&fields);
    let calendars = read_calendars(&mut reader, &fields);
    let regimes = reader.named(
        &fields,
        ("regimes", "a regime"),
        MAX_REGIMES,
        |reader, key, node| read_regime(reader, key, node, &calendars),
    );
    match version {
        Some(version) if reader.findings.is_empty() => Ok(Regimes {
            version,
            calendars,
            by_name: regimes,
            digest: sha256(text.as_bytes()),
        }),
        _ => Err(reader.findings),
    }
}

fn read_calendars(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, Calendar> {
    let mut calendars: BTreeMap<String, Calendar> = Calendar::new(UTC, "UTC")
        .into_iter()
        .map(|calendar| (calendar.name.clone(), calendar))
        .collect();
    let entries = fields
        .get("calendars")
        .and_then(|node| reader.entries(node, "`calendars`"))
        .unwrap_or_default();
    for (key, node) in entries {
        let named = reader.check_name(&key.text, key.place, "a calendar");
        if let Some(calendar) = read_calendar(reader, key, node).filter(|_| named) {
            calendars.insert(calendar.name.clone(), calendar);
        }
    }
    calendars
}

fn read_calendar(reader: &mut Reader, key: &Key, node: &Node) -> Option<Calendar> {
    let fields = reader.fields(node, &CALENDAR)?;
    let zone_node = reader.required(&fields, "zone")?;
    let zone = reader.text(zone_node, "zone")?;
    let mut calendar = match Calendar::new(&key.text, &zone) {
        Ok(calendar) => calendar,
        Err(bad) => {
            reader.error(
                zone_node.place,
                "bad-zone",
                bad.to_string(),
                "for example Europe/Helsinki",
            );
            return None;
        }
    };
    if let Some(node) = fields.get("closes") {
        let text = reader.text(node, "closes")?;
        let Ok(closes) = Time::strptime("%H:%M", &text) else {
            let message = format!("`{}` is no time of day", text.escape_debug());
            reader.error(
                node.place,
                "bad-time",
                message,
                "write hours and minutes in quotes, for example \"17:30\"",
            );
            return None;
        };
        calendar = calendar.closing_at(closes);
    }
    if let Some(node) = fields.get("holidays") {
        let items = reader.list(node, "`holidays`")?;
        if items.len() > MAX_HOLIDAYS {
            let message = format!("the calendar has {} holidays", items.len());
            let remedy = format!("at most {MAX_HOLIDAYS} are read");
            reader.error(node.place, "too-many", message, remedy);
            return None;
        }
        let days: Vec<Date> = items
            .iter()
            .filter_map(|item| read_date(reader, item, "holidays"))
            .collect();
        let until = reader
            .required(&fields, "known_until")
            .and_then(|node| read_date(reader, node, "known_until"))?;
        calendar = calendar.with_holidays(days, until);
    }
    Some(calendar)
}

fn read_date(reader: &mut Reader, node: &Node, name: &str) -> Option<Date> {
    let text = reader.text(node, name)?;
    let date = text.parse().ok();
    if date.is_none() {
        let message = format!("`{}` is no day", text.escape_debug());
        reader.error(
            node.place,
            "bad-date",
            message,
            "write year, month and day: 2026-11-26",
        );
    }
    date
}

fn read_regime(
    reader: &mut Reader,
    key: &Key,
    node: &Node,
    calendars: &BTreeMap<String, Calendar>,
) -> Option<Regime> {
    let fields = reader.fields(node, &REGIME)?;
    let title = reader.required_text(&fields, "title");
    let source = reader.required_text(&fields, "source");
    let as_of = reader
        .required(&fields, "as_of")
        .and_then(|node| read_date(reader, node, "as_of"));
    let checked = reader
        .required(&fields, "checked")
        .and_then(|node| read_bool(reader, node, "checked"));
    let trigger = reader
        .required(&fields, "when")
        .and_then(|node| read_trigger(reader, node));
    let calendar = match fields.get("calendar") {
        None => Some(UTC.to_owned()),
        Some(node) => reader.text(node, "calendar").and_then(|name| {
            let known = calendars.contains_key(&name);
            if !known {
                let message = format!("there is no calendar `{}`", name.escape_debug());
                let names = calendars.keys().map(String::as_str);
                let remedy = suggest::remedy("calendars", &name, names);
                reader.error(node.place, "unknown-calendar", message, remedy);
            }
            known.then_some(name)
        }),
    };
    let duties = read_duties(reader, &fields);
    Some(Regime {
        name: key.text.clone(),
        title: title?,
        source: source?,
        as_of: as_of?,
        checked: checked?,
        trigger: trigger?,
        calendar: calendar?,
        duties,
        place: key.place,
    })
}

fn read_bool(reader: &mut Reader, node: &Node, name: &str) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    let message = format!(
        "`{name}` is true or false, and here is {}",
        node.value.kind()
    );
    reader.error(node.place, "wrong-type", message, "write true or false");
    None
}

fn read_trigger(reader: &mut Reader, node: &Node) -> Option<RegimeTrigger> {
    let fields = reader.fields(node, &WHEN)?;
    let says = reader.required_text(&fields, "says");
    let mut classes = BTreeSet::new();
    if let Some(node) = fields.get("classes") {
        for item in reader.list(node, "`classes`")? {
            let class = reader.text(item, "classes")?;
            if reader.check_name(&class, item.place, "a class") {
                classes.insert(class);
            }
        }
    }
    let severity = match fields.get("severity") {
        None => Some(IncidentSeverity::Low),
        Some(node) => reader.severity(node),
    };
    Some(RegimeTrigger {
        says: says?,
        classes,
        severity: severity?,
    })
}

fn read_duties(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Duty> {
    let mut duties: Vec<Duty> = Vec::new();
    let Some(node) = reader.required(fields, "duties") else {
        return duties;
    };
    let entries = reader.entries(node, "`duties`").unwrap_or_default();
    if entries.is_empty() || entries.len() > MAX_DUTIES {
        let message = format!("the regime has {} duties", entries.len());
        let remedy = format!("write 1 to {MAX_DUTIES}");
        reader.error(node.place, "bad-duties", message, remedy);
        return duties;
    }
    for (key, node) in entries {
        let named = reader.check_name(&key.text, key.place, "a duty");
        let before: Vec<String> = duties.iter().map(|duty| duty.name.clone()).collect();
        if let Some(duty) = read_duty(reader, key, node, &before).filter(|_| named) {
            duties.push(duty);
        }
    }
    duties
}

fn read_duty(reader: &mut Reader, key: &Key, node: &Node, before: &[String]) -> Option<Duty> {
    let fields = reader.fields(node, &DUTY)?;
    let title = reader.required_text(&fields, "title");
    let mut told = Vec::new();
    let node = reader.required(&fields, "told")?;
    for item in reader.list(node, "`told`")? {
        told.extend(reader.text(item, "told"));
    }
    let mut limits = Vec::new();
    let node = reader.required(&fields, "due")?;
    let items = reader.list(node, "`due`")?;
    for item in items {
        limits.extend(read_limit(reader, item, before));
    }
    if told.is_empty() || items.is_empty() {
        let message = format!("`{}` tells nobody, or is never due", key.text);
        let remedy = "name at least one in `told`, and one limit in `due`";
        reader.error(key.place, "empty", message, remedy);
    }
    Some(Duty {
        name: key.text.clone(),
        title: title?,
        told,
        limits,
    })
}

fn read_limit(reader: &mut Reader, node: &Node, before: &[String]) -> Option<Limit> {
    let fields = reader.fields(node, &LIMIT)?;
    let after_node = reader.required(&fields, "after")?;
    let after = reader.text(after_node, "after")?;
    let within_node = reader.required(&fields, "within")?;
    let within = reader.text(within_node, "within")?;
    let clock = Clock::parse(&after);
    match &clock {
        None => {
            let message = format!("`{}` starts no clock", after.escape_debug());
            let remedy = "write aware, classified, material, fixed, or `met <duty>`";
            reader.error(after_node.place, "bad-clock", message, remedy);
        }
        Some(Clock::Met(duty)) if !before.contains(duty) => {
            let message = format!("no duty before this one is called `{duty}`");
            let remedy = suggest::remedy("duties", duty, before.iter().map(String::as_str));
            reader.error(after_node.place, "unknown-duty", message, remedy);
        }
        Some(_) => {}
    }
    let period = Period::parse(&within);
    if let Err(bad) = &period {
        let remedy = "for example `24 hours`";
        reader.error(within_node.place, "bad-period", bad.to_string(), remedy);
    }
    Some(Limit {
        clock: clock?,
        within: period.ok()?,
    })
}

impl Regimes {
    /// Reads the text of a `regimes.yaml`; `file` is named in findings.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Finding>> {
        read_regimes(file, text)
    }
}
