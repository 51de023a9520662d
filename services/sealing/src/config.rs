//! Settings of the sealing service, checked once.

use crate::anchoring::Anchors;
use crate::queue::Limits;
use crate::retention::RetentionSettings;
use crate::tenants::TenantLimits;
use anyhow::ensure;
use sealwarden_seal::bulk::MAX_CHUNK_DIGESTS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Settings. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The log line that this node writes: 1 to 48 of `a-z`, `0-9` and `-`.
    pub log: String,
    /// How many requests wait at most; the next one is told `RESOURCE_EXHAUSTED`.
    pub queue: usize,
    /// How many leaves one batch has at most.
    pub max_batch: usize,
    /// How many leaves of bulk streams one batch has at most, beside [`Config::max_batch`] others: more give more seals a second, fewer an earlier answer.
    pub bulk_batch: usize,
    /// How many digests of all bulk streams wait at most; a chunk that finds no room within [`Config::bulk_wait_ms`] is told `RESOURCE_EXHAUSTED`.
    pub bulk_queue: usize,
    /// How many digests of one bulk stream wait at most: its client is held back.
    pub bulk_unanswered: usize,
    /// How long a chunk waits for room, milliseconds.
    pub bulk_wait_ms: u64,
    /// Limits by tenant.
    pub tenants: BTreeMap<String, TenantLimits>,
    /// Limits of tenants that are not listed, each by itself.
    pub tenant_defaults: TenantLimits,
    /// How long records are kept, and who may erase them. By default nothing is erased.
    pub retention: RetentionSettings,
    /// Whether only tenants that are listed may seal.
    pub only_listed_tenants: bool,
    /// How many tickets wait in the durable queue at most; the next request is told `RESOURCE_EXHAUSTED`.
    pub queue_tickets: usize,
    /// How many bytes they count for at most: 256 and its record a ticket.
    pub queue_bytes: u64,
    /// How many settled tickets are remembered, at least as many as can wait.
    pub tickets_kept: usize,
    /// How many tickets are sealed a second at most when signing returns.
    pub drain_per_second: u32,
    /// Over how many of the log line's last leaves a request id gives the same seal.
    pub request_window: u64,
    /// How long a caller that asked for witnesses waits for them, milliseconds.
    pub witness_wait_ms: u64,
    /// How long a witness may take for one answer, milliseconds.
    pub witness_timeout_ms: u64,
    /// How often an outside witness's time is recorded in the log line's stream at most, seconds: where a log ends after a compromise is decided that finely.
    pub cosignatures_recorded_s: u64,
    /// Which time-stamping authorities date the log's checkpoints.
    pub anchors: Anchors,
    /// How often the key provider's audit is read, milliseconds.
    pub audit_poll_ms: u64,
    /// How often is asked what an audit kept by somebody else does not show, milliseconds, 50 to 3600000.
    pub audit_gap_poll_ms: u64,
    /// How long after a use its line may be missing in such an audit, milliseconds, 100 to 3600000: as long as the file takes to arrive here.
    pub audit_grace_ms: u64,
    /// Whether each new origin has an ML-DSA-44 key that signs beside its Ed25519 keys.
    pub post_quantum: bool,
    /// How long after it was issued a directive is still obeyed, milliseconds.
    pub directive_max_age_ms: i64,
    /// After how many days a sealing key is replaced by a planned rotation; 0: never.
    pub rotate_after_days: u32,
    /// The same in seconds, for trying it out; 0: as `rotate_after_days` says. Only one of the two may be set.
    pub rotate_after_s: u32,
    /// After how many checkpoints a sealing key is replaced by a planned rotation; 0: never.
    pub rotate_after_uses: u64,
    /// How long old and new key both sign in a planned rotation, hours: at least as long as trust bundles stay valid, or cached ones do not know the new key.
    pub rotation_overlap_hours: u32,
    /// A key call of at least this long is slow, milliseconds: after three of them, with no other provider to go to, only critical seals are made at once.
    pub slow_key_ms: u64,
    /// How far in this node's future a directive may have been issued, milliseconds.
    pub directive_max_skew_ms: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "main".to_owned(),
            queue: 16_384,
            max_batch: 8_192,
            bulk_batch: 16_384,
            bulk_queue: 131_072,
            bulk_unanswered: 32_768,
            bulk_wait_ms: 2_000,
            tenants: BTreeMap::new(),
            tenant_defaults: TenantLimits::default(),
            retention: RetentionSettings::default(),
            only_listed_tenants: false,
            queue_tickets: 262_144,
            queue_bytes: 256 << 20,
            tickets_kept: 1_048_576,
            drain_per_second: 10_000,
            request_window: 262_144,
            witness_wait_ms: 5_000,
            witness_timeout_ms: 5_000,
            cosignatures_recorded_s: 60,
            anchors: Anchors::default(),
            audit_poll_ms: 25,
            audit_gap_poll_ms: 1_000,
            audit_grace_ms: 5_000,
            post_quantum: false,
            directive_max_age_ms: 24 * 3_600_000,
            rotate_after_days: 0,
            rotate_after_s: 0,
            rotate_after_uses: 0,
            rotation_overlap_hours: 720,
            slow_key_ms: 750,
            directive_max_skew_ms: 60_000,
        }
    }
}

impl Config {
    /// Refuses settings that cannot work.
    pub fn validate(&self) -> anyhow::Result<()> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        ensure!(
            (1..=48).contains(&self.log.len())
                && self.log.bytes().all(allowed)
                && !self.log.starts_with('-'),
            "log {:?} is not a log's name: use 1 to 48 of a-z, 0-9 and '-', beginning with a letter or digit",
            self.log
        );
        let largest = sealwarden_seallog::MAX_BATCH_LEAVES;
        ensure!(
            (1..=largest).contains(&self.max_batch),
            "max_batch {} is not from 1 to {largest}",
            self.max_batch
        );
        ensure!(
            (1..=1_000_000).contains(&self.queue),
            "queue {} is not from 1 to 1000000",
            self.queue
        );
        self.validate_bulk()?;
        self.validate_tenants()?;
        self.retention.validate(self)?;
        ensure!(
            (1..=16_777_216).contains(&self.queue_tickets),
            "queue_tickets {} is not from 1 to 16777216",
            self.queue_tickets
        );
        ensure!(
            (self.queue_tickets..=16_777_216).contains(&self.tickets_kept),
            "tickets_kept {} is not from queue_tickets ({}) to 16777216: callers could not collect what was queued",
            self.tickets_kept,
            self.queue_tickets
        );
        ensure!(
            self.queue_bytes >= 65_536,
            "queue_bytes {} is less than 65536, which one large request takes",
            self.queue_bytes
        );
        ensure!(
            self.drain_per_second > 0,
            "drain_per_second 0 would never empty the queue"
        );
        ensure!(
            (1..=16_777_216).contains(&self.request_window),
            "request_window {} is not from 1 to 16777216",
            self.request_window
        );
        ensure!(
            self.rotate_after_days <= 36_500,
            "rotate_after_days {} is not from 0 (never) to 36500",
            self.rotate_after_days
        );
        ensure!(
            self.rotate_after_days == 0 || self.rotate_after_s == 0,
            "rotate_after_days {} and rotate_after_s {} are both set: keep one",
            self.rotate_after_days,
            self.rotate_after_s
        );
        ensure!(
            self.rotation_overlap_hours <= 87_600,
            "rotation_overlap_hours {} is not from 0 to 87600",
            self.rotation_overlap_hours
        );
        ensure!(
            (1..=60_000).contains(&self.slow_key_ms),
            "slow_key_ms {} is not from 1 to 60000",
            self.slow_key_ms
        );
        ensure!(
            self.audit_poll_ms > 0,
            "audit_poll_ms 0 would read the audit without pause"
        );
        ensure!(
            (50..=3_600_000).contains(&self.audit_gap_poll_ms),
            "audit_gap_poll_ms {} is not from 50 to 3600000",
            self.audit_gap_poll_ms
        );
        ensure!(
            (100..=3_600_000).contains(&self.audit_grace_ms),
            "audit_grace_ms {} is not from 100 to 3600000",
            self.audit_grace_ms
        );
        ensure!(
            self.witness_timeout_ms > 0,
            "witness_timeout_ms 0 would never hear a witness"
        );
        ensure!(
            (1..=86_400).contains(&self.cosignatures_recorded_s),
            "cosignatures_recorded_s {} is not from 1 to 86400",
            self.cosignatures_recorded_s
        );
        self.anchors.validate()
    }

    /// What a tenant may ask for.
    pub(crate) fn limits_of(&self, tenant: &str) -> &TenantLimits {
        self.tenants.get(tenant).unwrap_or(&self.tenant_defaults)
    }

    fn validate_tenants(&self) -> anyhow::Result<()> {
        for tenant in self.tenants.keys() {
            let named = crate::request::name("tenant", tenant.clone());
            ensure!(
                !tenant.is_empty() && named.is_ok(),
                "tenants: {tenant:?} is not a tenant's name: use 1 to 64 of a-z, 0-9, '.' and '-'"
            );
        }
        ensure!(
            !(self.only_listed_tenants && self.tenants.is_empty()),
            "only_listed_tenants is set and no tenant is listed: nobody could seal"
        );
        Ok(())
    }

    fn validate_bulk(&self) -> anyhow::Result<()> {
        // Half a batch is left to others, so neither keeps the other out.
        let (chunk, half) = (MAX_CHUNK_DIGESTS, sealwarden_seallog::MAX_BATCH_LEAVES / 2);
        ensure!(
            (chunk..=half).contains(&self.bulk_batch),
            "bulk_batch {} is not from {chunk}, a full chunk, to {half}",
            self.bulk_batch
        );
        ensure!(
            (chunk..=16_777_216).contains(&self.bulk_queue),
            "bulk_queue {} is not from {chunk}, a full chunk, to 16777216",
            self.bulk_queue
        );
        ensure!(
            (chunk..=self.bulk_queue).contains(&self.bulk_unanswered),
            "bulk_unanswered {} is not from {chunk}, a full chunk, to bulk_queue ({})",
            self.bulk_unanswered,
            self.bulk_queue
        );
        ensure!(
            self.bulk_wait_ms <= 60_000,
            "bulk_wait_ms {} is more than 60000",
            self.bulk_wait_ms
        );
        Ok(())
    }

    /// After how long a sealing key is replaced, milliseconds; none: never.
    pub(crate) fn rotate_after_ms(&self) -> Option<i64> {
        let days = i64::from(self.rotate_after_days).saturating_mul(24 * 3_600_000);
        let seconds = i64::from(self.rotate_after_s).saturating_mul(1_000);
        Some(days.max(seconds)).filter(|ms| *ms > 0)
    }

    pub(crate) fn queue_limits(&self) -> Limits {
        Limits {
            tickets: self.queue_tickets,
            bytes: self.queue_bytes,
            kept: self.tickets_kept,
        }
    }

    pub(crate) fn bulk_wait(&self) -> Duration {
        Duration::from_millis(self.bulk_wait_ms)
    }

    pub(crate) fn witness_wait(&self) -> Duration {
        Duration::from_millis(self.witness_wait_ms)
    }

    pub(crate) fn cosignatures_recorded(&self) -> Duration {
        Duration::from_secs(self.cosignatures_recorded_s)
    }

    pub(crate) fn witness_timeout(&self) -> Duration {
        Duration::from_millis(self.witness_timeout_ms)
    }

    pub(crate) fn audit_poll(&self) -> Duration {
        Duration::from_millis(self.audit_poll_ms)
    }

    pub(crate) fn audit_gap_poll(&self) -> Duration {
        Duration::from_millis(self.audit_gap_poll_ms)
    }

    pub(crate) fn audit_grace(&self) -> Duration {
        Duration::from_millis(self.audit_grace_ms)
    }
}
