//! What keeps records: settings, holds that people set, open incidents, what a jurisdiction demands.

use super::config;
use super::secret::Secret;
use super::time_text;
use crate::config::Config;
use crate::service::Service;
use sealwarden_domain::retention::Retention;
use sealwarden_seal::record::Record;
use sealwarden_wire::seal::v1::HoldEntry;
use std::collections::{BTreeMap, BTreeSet};

/// Everything in force at a moment.
pub(super) struct Holds {
    /// Each with what it covers.
    all: Vec<(HoldEntry, Covers)>,
}

/// What a hold covers.
enum Covers {
    Tenant(String),
    Subject {
        tenant: String,
        commitment: Vec<u8>,
    },
    /// All leaves of an origin; empty: of the log line.
    Origin(String),
    /// A tenant's leaves that were sealed after this time, Unix milliseconds.
    Since {
        tenant: String,
        since_ms: i64,
    },
}

/// A record and where it is.
pub(super) struct At<'a> {
    pub(super) origin: &'a str,
    pub(super) record: &'a Record,
    /// Unix milliseconds.
    pub(super) sealed_at_ms: i64,
}

impl Holds {
    /// What is in force for a tenant, or for all.
    pub(super) fn of(service: &Service, known: &Retention, tenant: Option<&str>) -> Self {
        let mut all = Vec::new();
        let now_ms = service.node.clock.now().wall_ms;
        from_settings(&service.config, tenant, now_ms, &mut all);
        let wanted = |of: &str| tenant.is_none_or(|tenant| tenant == of);
        for hold in known.holds().filter(|it| wanted(&it.set.tenant)) {
            let set = &hold.set;
            let entry = HoldEntry {
                hold: set.hold.clone(),
                tenant: set.tenant.clone(),
                scope: set.scope.clone(),
                reason: set.reason.clone(),
                by: set.by.clone(),
                since_ms: set.set_at_ms,
                leaves: 0,
            };
            let tenant = set.tenant.clone();
            let covers = if set.subject_hmac.is_empty() {
                Covers::Tenant(tenant)
            } else {
                let commitment = set.subject_hmac.to_vec();
                Covers::Subject { tenant, commitment }
            };
            all.push((entry, covers));
        }
        from_incidents(service, &mut all);
        Self { all }
    }

    /// The ids of those that events set: an order names what it has seen.
    pub(super) fn seen(known: &Retention) -> BTreeSet<String> {
        known.holds().map(|it| it.set.hold.clone()).collect()
    }

    /// All of them.
    pub(super) fn entries(&self) -> Vec<HoldEntry> {
        self.all.iter().map(|(entry, _)| entry.clone()).collect()
    }

    /// Counts a record for each hold that covers it; answers whether one does.
    pub(super) fn cover(&mut self, secret: &Secret, at: &At<'_>) -> bool {
        let mut covered = false;
        for (entry, covers) in &mut self.all {
            if covers.record(secret, at) {
                entry.leaves += 1;
                covered = true;
            }
        }
        covered
    }

    /// Those that covered something.
    pub(super) fn that_cover(self) -> Vec<HoldEntry> {
        let entries = self.all.into_iter().map(|(entry, _)| entry);
        entries.filter(|entry| entry.leaves > 0).collect()
    }
}

impl Covers {
    fn record(&self, secret: &Secret, at: &At<'_>) -> bool {
        let record = at.record;
        match self {
            Self::Tenant(tenant) => record.tenant == *tenant,
            Self::Subject { tenant, commitment } => {
                record.tenant == *tenant
                    && secret.may_be(commitment, tenant, record.subject.as_deref())
            }
            Self::Origin(origin) => origin.is_empty() || origin == at.origin,
            Self::Since { tenant, since_ms } => {
                record.tenant == *tenant && at.sealed_at_ms > *since_ms
            }
        }
    }
}

fn from_settings(
    config: &Config,
    tenant: Option<&str>,
    now_ms: i64,
    all: &mut Vec<(HoldEntry, Covers)>,
) {
    let mut named: BTreeMap<&str, _> = BTreeMap::new();
    match tenant {
        Some(tenant) => drop(named.insert(tenant, config.limits_of(tenant))),
        None => named.extend(config.tenants.iter().map(|(name, it)| (name.as_str(), it))),
    }
    for (tenant, settings) in named {
        let entry = |scope: &str, reason: String| HoldEntry {
            hold: "settings".to_owned(),
            tenant: tenant.to_owned(),
            scope: scope.to_owned(),
            reason,
            by: "the node's settings".to_owned(),
            since_ms: 0,
            leaves: 0,
        };
        let tenant = tenant.to_owned();
        if !settings.legal_hold.is_empty() {
            let entry = entry("tenant", settings.legal_hold.clone());
            all.push((entry, Covers::Tenant(tenant.clone())));
        }
        if let Some((period, text)) = config.retention.least(settings) {
            let since_ms = config::before(now_ms, &period);
            let reason = format!(
                "jurisdiction {} keeps records {text}: those sealed after {} stay",
                settings.jurisdiction,
                time_text(since_ms)
            );
            all.push((
                entry("jurisdiction", reason),
                Covers::Since { tenant, since_ms },
            ));
        }
    }
}

/// An open incident keeps what its evidence is about: all leaves of its origin, or of the log line where it names none.
fn from_incidents(service: &Service, all: &mut Vec<(HoldEntry, Covers)>) {
    let log = &service.config.log;
    service.node.board.read(|installation| {
        for (id, incident) in installation.open_incidents() {
            let Some(opened) = incident.opened.as_ref() else {
                continue;
            };
            let is_ours = if opened.origin.is_empty() {
                opened.log == *log
            } else {
                service.tree(&opened.origin).is_some()
            };
            if is_ours {
                let entry = HoldEntry {
                    hold: id.clone(),
                    tenant: String::new(),
                    scope: "incident".to_owned(),
                    reason: format!("open incident about {}: {}", opened.subject, opened.title),
                    by: "the incident".to_owned(),
                    since_ms: incident.opened_at_ms,
                    leaves: 0,
                };
                all.push((entry, Covers::Origin(opened.origin.clone())));
            }
        }
    });
}

/// Evidence bundles about these origins: they hold public files and events, no records, and stay.
pub(super) fn evidence(service: &Service, origins: &BTreeSet<String>) -> Vec<String> {
    let mut bundles = Vec::new();
    service.node.board.read(|installation| {
        for incident in installation.incidents.values() {
            let about = incident.opened.as_ref();
            if about.is_some_and(|opened| origins.contains(&opened.origin)) {
                bundles.extend(incident.evidence.iter().map(|it| it.bundle.clone()));
            }
        }
    });
    bundles
}
