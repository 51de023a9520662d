//! Two providers as a failover set, each of which can be made to misbehave.

use async_trait::async_trait;
use sealwarden_keys::faults::{FaultSwitch, FaultyProvider};
use sealwarden_keys::set::Opened;
use sealwarden_keys::{
    AuditLine, BreakerConfig, Capabilities, CreateKey, DisableOutcome, FailoverSet, Guard, Health,
    KeyError, KeyId, KeyInfo, KeyProvider, MemberConfig, Purpose, SetConfig, Signature,
    SoftwareConfig, SoftwareProvider,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

pub(super) const HSM: &str = "hsm";
pub(super) const SPARE: &str = "spare";
const NAMES: [&str; 2] = [HSM, SPARE];

/// The first is preferred, and keeps all keys that are not for sealing.
pub(super) struct Pair {
    members: [Arc<dyn KeyProvider>; 2],
    /// Lines of both audits in the order that they were read in, with the place in each.
    lines: Mutex<(Vec<AuditLine>, [u64; 2])>,
}

impl Pair {
    pub(super) async fn open(dir: &Path) -> (Self, [FaultSwitch; 2]) {
        let (first, fault) = member(&dir.join(HSM)).await;
        let (second, spare_fault) = member(&dir.join(SPARE)).await;
        let pair = Self {
            members: [first, second],
            lines: Mutex::default(),
        };
        (pair, [fault, spare_fault])
    }

    async fn find(&self, id: &KeyId) -> Result<(&dyn KeyProvider, KeyInfo), KeyError> {
        for (member, name) in self.members.iter().zip(NAMES) {
            match member.info(id).await {
                Ok(info) => return Ok((member.as_ref(), named(info, name))),
                Err(KeyError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(KeyError::NotFound { id: id.clone() })
    }

    fn member(&self, name: &str) -> Result<&Arc<dyn KeyProvider>, KeyError> {
        let place = NAMES.iter().position(|it| *it == name);
        place
            .map(|place| &self.members[place])
            .ok_or_else(|| KeyError::NoSuchProvider {
                asked: name.to_owned(),
                known: NAMES.join(", "),
            })
    }
}

/// The same two as the product joins them: behind a breaker each, which opens with the first failure and then stays open unless somebody has them probed.
pub(super) async fn set(dir: &Path) -> (FailoverSet, [FaultSwitch; 2]) {
    let (first, fault) = member(&dir.join(HSM)).await;
    let (second, spare_fault) = member(&dir.join(SPARE)).await;
    let members = vec![(HSM, first), (SPARE, second)];
    let breaker = BreakerConfig {
        failures: 1,
        pause_ms: 600_000,
        longest_pause_ms: 600_000,
        good_probes: 3,
        ..BreakerConfig::default()
    };
    let set = set_of(dir, members, (Duration::from_millis(500), breaker)).await;
    (set, [fault, spare_fault])
}

/// A failover set of these providers, each under this deadline and behind such a breaker.
pub(super) async fn set_of(
    dir: &Path,
    members: Vec<(&str, Arc<dyn KeyProvider>)>,
    (deadline, breaker): (Duration, BreakerConfig),
) -> FailoverSet {
    let config = |(name, provider): (&str, Arc<dyn KeyProvider>)| MemberConfig {
        name: name.to_owned(),
        opener: Arc::new(Opened(provider)),
        deadline,
        probe_every: Duration::from_hours(1),
        in_flight: 8,
        breaker: breaker.clone(),
    };
    let set = FailoverSet::open(SetConfig {
        members: members.into_iter().map(config).collect(),
        others: opened(dir).await,
        dir: dir.join("key-set"),
        earlier: None,
    });
    set.await.unwrap()
}

/// Software keys in a folder.
pub(super) async fn opened(dir: &Path) -> Arc<dyn KeyProvider> {
    std::fs::create_dir_all(dir).unwrap();
    let guard = Guard::File(dir.join("guard"));
    let dir = dir.join("keys");
    let provider = SoftwareProvider::open(SoftwareConfig { dir, guard }).await;
    Arc::new(provider.unwrap())
}

async fn member(dir: &Path) -> (Arc<dyn KeyProvider>, FaultSwitch) {
    let (provider, fault) = FaultyProvider::new(opened(dir).await);
    (Arc::new(provider), fault)
}

fn named(mut info: KeyInfo, name: &str) -> KeyInfo {
    name.clone_into(&mut info.provider);
    info
}

#[async_trait]
impl KeyProvider for Pair {
    fn name(&self) -> &str {
        HSM
    }

    fn capabilities(&self) -> Capabilities {
        self.members[0].capabilities()
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        let provider = key.provider.clone().unwrap_or_else(|| HSM.to_owned());
        let member = self.member(&provider)?;
        let key = CreateKey {
            provider: None,
            ..key.clone()
        };
        Ok(named(member.create(&key).await?, &provider))
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.find(id).await.map(|(_, info)| info)
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let mut keys = Vec::new();
        for (member, name) in self.members.iter().zip(NAMES) {
            keys.extend(
                member
                    .list()
                    .await?
                    .into_iter()
                    .map(|info| named(info, name)),
            );
        }
        Ok(keys)
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        self.find(id).await?.0.sign(id, purpose, message).await
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.find(id).await?.0.disable(id).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.find(id).await?.0.destroy(id).await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.find(id).await?.0.restore(id).await
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        let mut kept = self.lines.lock().await;
        let (lines, read) = &mut *kept;
        for (member, read) in self.members.iter().zip(read) {
            for mut line in member.audit_after(*read, 512).await? {
                *read = line.cursor;
                line.cursor = u64::try_from(lines.len()).unwrap() + 1;
                lines.push(line);
            }
        }
        let start = usize::try_from(cursor).unwrap().min(lines.len());
        Ok(lines[start..].iter().take(limit).cloned().collect())
    }

    fn sealing_providers(&self) -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    fn capabilities_of(&self, provider: &str) -> Result<Capabilities, KeyError> {
        Ok(self.member(provider)?.capabilities())
    }

    fn health(&self, provider: &str) -> Result<Health, KeyError> {
        self.member(provider).map(|_| Health::unwatched())
    }

    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        let member = self.member(provider)?;
        member.probe(member.name()).await
    }
}
