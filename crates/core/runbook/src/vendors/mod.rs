//! `vendors.yaml`: whose services the installation rests on, what they promised, and who stands in for them.

mod read;

pub(crate) use read::{VENDORS_FILE, read_vendors};

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;

use crate::digest::hex;
use crate::finding::{Finding, Place};
use crate::suggest;

/// A vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vendor {
    /// Its name, as in the settings.
    pub name: String,
    /// What it is for, in a line.
    pub title: String,
    /// What it provides, such as `time-stamping`.
    pub provides: String,
    /// What it promised.
    pub sla: Sla,
    /// How long before a change it says so.
    pub change_notice: Duration,
    /// Who stands in for it.
    pub fallback: Option<String>,
    /// How to reach it.
    pub contacts: Vec<String>,
    /// When its failure was tried last.
    pub last_drill: Option<Date>,
    /// How often it has to be tried.
    pub drill_every: Option<Duration>,
    /// Where it stands.
    pub place: Place,
}

/// What a vendor promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sla {
    /// How much of the time it serves, in the contract's words.
    pub availability: String,
    /// How fast it serves again.
    pub restored_within: Duration,
    /// Where the contract says so.
    pub source: String,
}

/// All vendors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vendors {
    pub(crate) version: u32,
    pub(crate) by_name: BTreeMap<String, Vendor>,
    pub(crate) digest: [u8; 32],
}

impl Vendors {
    /// The file's version, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The vendors, by name.
    pub fn all(&self) -> &BTreeMap<String, Vendor> {
        &self.by_name
    }

    /// The vendor of this name.
    pub fn get(&self, name: &str) -> Option<&Vendor> {
        self.by_name.get(name)
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest)
    }

    /// Fallbacks that are no vendors, or the vendor itself.
    pub(crate) fn errors(&self) -> Vec<Finding> {
        let wrong = |vendor: &Vendor| {
            let fallback = vendor.fallback.as_ref()?;
            let known = self.by_name.get(fallback);
            if known.is_some_and(|it| it.name != vendor.name) {
                return None;
            }
            let message = if known.is_some() {
                format!("{} stands in for itself", vendor.name)
            } else {
                format!(
                    "there is no vendor `{fallback}` that could stand in for {}",
                    vendor.name
                )
            };
            let others = self.by_name.keys().filter(|it| **it != vendor.name);
            let remedy = suggest::remedy("vendors", fallback, others.map(String::as_str));
            Some(
                Finding::error(VENDORS_FILE, vendor.place, "unknown-fallback", message)
                    .remedy(remedy),
            )
        };
        self.by_name.values().filter_map(wrong).collect()
    }

    /// Vendors that nobody stands in for.
    pub(crate) fn warnings(&self) -> Vec<Finding> {
        let alone = self.by_name.values().filter(|it| it.fallback.is_none());
        alone
            .map(|it| {
                let message = format!("nobody stands in for {}", it.name);
                Finding::warning(VENDORS_FILE, it.place, "no-fallback", message)
                    .remedy("name a fallback, or know what is done without it and skip `activate`")
            })
            .collect()
    }

    /// Vendors whose failure was not tried for longer than the plan wants, as of `today`: warnings, and how many days late each is; a vendor that was never tried is
    /// late from the beginning.
    pub fn overdue(&self, today: Date) -> Vec<Finding> {
        let late = |it: &Vendor| {
            let every = it.drill_every?;
            let days = i64::try_from(every.as_secs() / 86_400).unwrap_or(i64::MAX);
            let message = match it.last_drill {
                None => format!("the failure of {} was never tried", it.name),
                Some(last) => {
                    let since = i64::from(today.since(last).ok()?.get_days());
                    if since <= days {
                        return None;
                    }
                    format!(
                        "the failure of {} was tried on {last}, {since} days ago, and is to be every {days} days",
                        it.name
                    )
                }
            };
            let warning = Finding::warning(VENDORS_FILE, it.place, "vendor-drill-overdue", message);
            Some(
                warning
                    .remedy("sealwarden drill vendor-outage; then write the day into last_drill"),
            )
        };
        self.by_name.values().filter_map(late).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version: 1\nvendors:\n  one:\n    title: Stamps\n    provides: time-stamping\n    sla: {availability: \"99 %\", restored_within: 4h, source: contract}\n    change_notice: 30d\n    fallback: two\n    contacts: [\"tel:1\"]\n    last_drill: 2026-01-10\n    drill_every: 90d\n  two:\n    title: Stamps\n    provides: time-stamping\n    sla: {availability: \"99 %\", restored_within: 4h, source: contract}\n    change_notice: 30d\n    contacts: [\"tel:1\"]\n";

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|it| it.code).collect()
    }

    #[test]
    fn a_good_file_is_read_and_says_who_is_late() {
        let vendors = read_vendors(VENDORS_FILE, GOOD).unwrap();
        assert_eq!(vendors.get("one").unwrap().fallback.as_deref(), Some("two"));
        assert_eq!(codes(&vendors.errors()), Vec::<&str>::new());
        assert_eq!(codes(&vendors.warnings()), ["no-fallback"]);
        let on = |text: &str| vendors.overdue(text.parse().unwrap());
        assert_eq!(on("2026-04-10").len(), 0);
        let late = on("2026-04-11");
        assert_eq!(codes(&late), ["vendor-drill-overdue"]);
        assert!(late[0].message.contains("91 days ago"), "{late:?}");
    }

    #[test]
    fn mistakes_carry_their_place_and_a_remedy() {
        for (from, to, code) in [
            ("fallback: two", "fallback: tow", "unknown-fallback"),
            ("fallback: two", "fallback: one", "unknown-fallback"),
        ] {
            let vendors = read_vendors(VENDORS_FILE, &GOOD.replace(from, to)).unwrap();
            let errors = vendors.errors();
            assert_eq!(codes(&errors), [code], "{to}");
            assert!(errors[0].place.line > 0, "{to}");
        }
        for (from, to, words) in [
            (
                "last_drill: 2026-01-10",
                "last_drill: 10.1.2026",
                "10.1.2026",
            ),
            (
                "contacts: [\"tel:1\"]\n    last",
                "contacts: []\n    last",
                "contacts",
            ),
            (
                "    provides: time-stamping\n    sla: {availability: \"99 %\", restored_within: 4h, source: contract}\n    change_notice: 30d\n    fallback",
                "    fallback",
                "provides",
            ),
            (
                "change_notice: 30d\n    fallback",
                "change_notice: soon\n    fallback",
                "soon",
            ),
            ("fallback: two", "fallbak: two", "fallbak"),
        ] {
            let findings = read_vendors(VENDORS_FILE, &GOOD.replace(from, to)).unwrap_err();
            let told = findings.iter().map(ToString::to_string).collect::<String>();
            assert!(told.contains(words), "{to}: {told}");
        }
    }
}
