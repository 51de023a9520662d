//! What each tenant may ask for: how much at once, how much a second, which words beside a digest, and who may speak for it; and how long its records are kept.

use crate::config::Config;
use crate::stop::Failure;
use sealwarden_seal::record::Record;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic::Status;

/// Tenants whose use is remembered at once.
const REMEMBERED: usize = 16_384;
/// What is allowed a second is given out in thousandths.
const WHOLE: i64 = 1_000;

/// A tenant's limits, and how long its records are kept. Zero and an empty list mean: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// How many digests are taken a second, single ones and those of bulk streams together; a second's worth may come at once. A chunk is taken whole
    /// while anything is left, and what it takes too much is waited for afterwards.
    pub max_per_second: u32,
    /// How many digests may be accepted and not answered.
    pub max_in_flight: u64,
    /// How many bytes subject, policy and request id of one record may have together; each has its own limit besides.
    pub max_metadata_bytes: usize,
    /// The policies that it may name.
    pub policies: Vec<String>,
    /// Names of the callers (in their certificates) that may seal for it.
    pub callers: Vec<String>,
    /// Its jurisdiction: one of `retention.jurisdictions`. Empty: none.
    pub jurisdiction: String,
    /// After how long its records are erased by themselves, such as `10 years`; `never` against what its jurisdiction says. Empty: as the jurisdiction says.
    pub retention: String,
    /// Why nothing of it may be erased at present. Empty: it may.
    pub legal_hold: String,
}

impl TenantLimits {
    fn counts(&self) -> bool {
        self.max_per_second > 0 || self.max_in_flight > 0
    }
}

/// One tenant's use.
#[derive(Debug)]
struct Use {
    /// In thousandths of a digest; below zero after a chunk that was larger than what was left.
    allowed: i64,
    filled_ms: u64,
    in_flight: Arc<AtomicU64>,
}

impl Use {
    fn refill(&mut self, limits: &TenantLimits, boot_ms: u64) {
        let rate = i64::from(limits.max_per_second);
        let passed = i64::try_from(boot_ms.saturating_sub(self.filled_ms)).unwrap_or(i64::MAX);
        let most = rate.saturating_mul(WHOLE);
        let more = passed.saturating_mul(rate);
        self.allowed = self.allowed.saturating_add(more).min(most);
        self.filled_ms = boot_ms;
    }

    fn is_idle(&self, limits: &TenantLimits) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
            && self.allowed >= i64::from(limits.max_per_second).saturating_mul(WHOLE)
    }
}

/// Digests of a tenant that are on their way; they count until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    count: u64,
    of: Arc<AtomicU64>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.of.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// The use of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Tenants(Mutex<HashMap<String, Use>>);

impl Tenants {
    fn uses(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts digests of a tenant, or says which of its limits they would break. `None` where nothing is counted.
    pub(crate) fn take(
        &self,
        config: &Config,
        tenant: &str,
        digests: u64,
        boot_ms: u64,
    ) -> Result<Option<InFlight>, Failure> {
        let limits = config.limits_of(tenant);
        if !limits.counts() {
            return Ok(None);
        }
        let mut uses = self.uses();
        if uses.len() >= REMEMBERED && !uses.contains_key(tenant) {
            forget_idle(&mut uses, config, boot_ms);
            if uses.len() >= REMEMBERED {
                return Err(Failure::ManyTenants { limit: REMEMBERED });
            }
        }
        let used = uses.entry(tenant.to_owned()).or_insert_with(|| Use {
            allowed: i64::from(limits.max_per_second).saturating_mul(WHOLE),
            filled_ms: boot_ms,
            in_flight: Arc::default(),
        });
        let flying = used.in_flight.load(Ordering::Relaxed);
        // One that is larger than the limit goes alone.
        let crowded = flying > 0 && flying.saturating_add(digests) > limits.max_in_flight;
        if limits.max_in_flight > 0 && crowded {
            return Err(Failure::TenantInFlight {
                tenant: tenant.to_owned(),
                limit: limits.max_in_flight,
            });
        }
        used.refill(limits, boot_ms);
        if limits.max_per_second > 0 {
            if used.allowed <= 0 {
                let missing = WHOLE.saturating_sub(used.allowed);
                return Err(Failure::TenantRate {
                    tenant: tenant.to_owned(),
                    limit: limits.max_per_second,
                    retry_ms: missing / i64::from(limits.max_per_second) + 1,
                });
            }
            let taken = i64::try_from(digests).unwrap_or(i64::MAX);
            used.allowed = used.allowed.saturating_sub(taken.saturating_mul(WHOLE));
        }
        used.in_flight.fetch_add(digests, Ordering::Relaxed);
        Ok(Some(InFlight {
            count: digests,
            of: Arc::clone(&used.in_flight),
        }))
    }
}

fn forget_idle(uses: &mut HashMap<String, Use>, config: &Config, boot_ms: u64) {
    uses.retain(|tenant, used| {
        let limits = config.limits_of(tenant);
        used.refill(limits, boot_ms);
        !used.is_idle(limits)
    });
}

/// Whether this caller may seal under these words for this tenant.
pub(crate) fn check(config: &Config, caller: &str, record: &Record) -> Result<(), Status> {
    let tenant = &record.tenant;
    if config.only_listed_tenants && !config.tenants.contains_key(tenant) {
        return Err(Status::permission_denied(format!(
            "tenant {tenant:?} is not one of this node's (`sealing.tenants`), and no other may seal here (`only_listed_tenants`)"
        )));
    }
    let limits = config.limits_of(tenant);
    if !limits.callers.is_empty() && !limits.callers.iter().any(|it| it == caller) {
        return Err(Status::permission_denied(format!(
            "{caller} may not seal for tenant {tenant:?}: its `callers` do not name it"
        )));
    }
    if !limits.policies.is_empty() && !limits.policies.contains(&record.policy) {
        return Err(Status::invalid_argument(format!(
            "policy {:?} is none of tenant {tenant:?}: use one of {}",
            record.policy,
            limits.policies.join(", ")
        )));
    }
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let bytes = record.policy.len() + length(&record.subject) + length(&record.request_id);
    if limits.max_metadata_bytes > 0 && bytes > limits.max_metadata_bytes {
        return Err(Status::invalid_argument(format!(
            "subject, policy and request_id have {bytes} bytes together; tenant {tenant:?} may have {} (`max_metadata_bytes`)",
            limits.max_metadata_bytes
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(limits: TenantLimits) -> Config {
        Config {
            tenants: [("acme".to_owned(), limits)].into(),
            ..Config::default()
        }
    }

    #[test]
    fn a_second_has_what_the_limit_says_and_a_chunk_is_waited_for_afterwards() {
        let config = config(TenantLimits {
            max_per_second: 100,
            ..TenantLimits::default()
        });
        let tenants = Tenants::default();
        for _ in 0..100 {
            tenants.take(&config, "acme", 1, 5).unwrap();
        }
        let refused = tenants.take(&config, "acme", 1, 5).unwrap_err();
        let Failure::TenantRate { retry_ms, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(retry_ms, 11, "one digest takes 10 ms");
        tenants.take(&config, "acme", 1_000, 16).unwrap();
        assert!(
            tenants.take(&config, "acme", 1, 9_900).is_err(),
            "a chunk is paid for"
        );
        tenants.take(&config, "acme", 1, 10_100).unwrap();
        tenants.take(&config, "other", 1_000_000, 5).unwrap();
        tenants.take(&config, "other", 1_000_000, 5).unwrap();
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_is_answered() {
        let config = config(TenantLimits {
            max_in_flight: 10,
            ..TenantLimits::default()
        });
        let tenants = Tenants::default();
        let first = tenants.take(&config, "acme", 9, 0).unwrap();
        let second = tenants.take(&config, "acme", 1, 0).unwrap();
        assert!(matches!(
            tenants.take(&config, "acme", 1, 0),
            Err(Failure::TenantInFlight { limit: 10, .. })
        ));
        drop(first);
        drop(second);
        let large = tenants.take(&config, "acme", 50, 0).unwrap();
        assert!(
            large.is_some(),
            "one that is larger than the limit goes alone"
        );
        assert!(tenants.take(&config, "acme", 1, 0).is_err());
    }

    #[test]
    fn names_that_come_and_go_do_not_fill_the_memory() {
        let config = Config {
            tenant_defaults: TenantLimits {
                max_per_second: 1,
                ..TenantLimits::default()
            },
            ..Config::default()
        };
        let tenants = Tenants::default();
        for number in 0..REMEMBERED {
            tenants.take(&config, &format!("t{number}"), 1, 0).unwrap();
        }
        let refused = tenants.take(&config, "one-more", 1, 0).unwrap_err();
        assert!(matches!(refused, Failure::ManyTenants { .. }), "{refused}");
        tenants.take(&config, "one-more", 1, 2_000).unwrap();
    }
}
