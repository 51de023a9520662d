//! Several providers as one: sealing keys live in an ordered list of them, every other key in one that is always there.
//!
//! Each sealing key stays in the provider that made it, so using another provider means using another key: the set never
//! does that by itself. It says which providers are out ([`KeyProvider::health`]), refuses calls to those at once, and lets
//! whoever decides about signers choose ([`CreateKey::provider`], [`KeyProvider::sealing_providers`]).
//!
//! A node's own key and the installation's signing key are software keys in every installation. A sealing key that was made
//! there before a list was configured goes on there until its log is rotated.
//!
//! ```text
//! <dir>/sealing-keys.json                     which provider keeps which sealing key
//! <dir>/audit.order, audit.providers.json     the order of the merged audit
//! ```

pub mod breaker;
mod member;
mod merge;
mod registry;

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::task::JoinSet;

use self::{
    member::Member,
    merge::{Merge, Source},
    registry::{Registry, contradiction},
};
pub use self::{
    member::{MemberConfig, Opened, Opener},
    merge::EarlierOrder,
};
use crate::{
    algorithm::Signature,
    blocking::blocking,
    error::KeyError,
    health::Health,
    id::KeyId,
    private_files,
    provider::{
        AuditGap, AuditLine, Capabilities, CreateKey, DisableOutcome, KeyInfo, KeyProvider, Purpose,
    },
};

/// How long making or ending a key may take.
const MANAGE: Duration = Duration::from_secs(30);
/// The longest name of a member, in bytes.
const MAX_NAME: usize = 32;
/// The most members of a set.
const MAX_MEMBERS: usize = 16;

/// Which providers, and where the set keeps what it knows.
pub struct SetConfig {
    /// Providers of sealing keys, in order of preference.
    pub members: Vec<MemberConfig>,
    /// Makes and keeps all other keys. It may be a member as well, as the very same provider.
    pub others: Arc<dyn KeyProvider>,
    /// The set's own folder, made with mode 0700 on first use.
    pub dir: PathBuf,
    /// The order of the merged audit as an earlier version kept it, if the set has none yet.
    pub earlier: Option<EarlierOrder>,
}

/// Several providers as one; see the module's description.
///
/// Its name is that of the most preferred member. Each [`KeyInfo`] names the member that keeps the key.
pub struct FailoverSet {
    members: Vec<Arc<Member>>,
    others: Arc<dyn KeyProvider>,
    registry: Registry,
    merge: Merge,
    /// Keys known to be in `others`, so that the members need not be asked for them.
    in_others: Mutex<HashSet<KeyId>>,
    /// Ended with the set.
    _probers: JoinSet<()>,
}

/// Who keeps a key.
enum Place<'a> {
    Member(&'a Arc<Member>),
    Others,
}

impl FailoverSet {
    /// Opens all members at once. One that does not come up begins as out and is tried again and again; none coming up is an
    /// error.
    pub async fn open(config: SetConfig) -> Result<Self, KeyError> {
        let SetConfig {
            members,
            others,
            dir,
            earlier,
        } = config;
        check_names(&members).map_err(|reason| KeyError::Unsafe { reason })?;
        let made = dir.clone();
        blocking(move || Ok(private_files::private_dir(&made)?)).await?;
        let members: Vec<_> = members
            .into_iter()
            .map(|it| Arc::new(Member::new(it)))
            .collect();
        come_up(&members).await?;
        for member in &members {
            check_member(member, others.as_ref())?;
        }
        let set = Self {
            merge: Merge::open(&dir, others.as_ref(), earlier).await?,
            registry: Registry::open(&dir, names(&members)).await?,
            in_others: Mutex::default(),
            _probers: members
                .iter()
                .map(|member| member::keep_probing(Arc::clone(member)))
                .collect(),
            members,
            others,
        };
        set.check_keys().await?;
        Ok(set)
    }

    /// Learns of the keys there are, and refuses to start where one key has two names, purposes or providers.
    async fn check_keys(&self) -> Result<(), KeyError> {
        for member in &self.members {
            for info in self.keys_of(member).await {
                if !self.is_others(member) || info.purpose == Purpose::Sealing {
                    self.learn(member, &info).await?;
                }
            }
        }
        Ok(())
    }

    /// Remembers where a key is, unless it is one of the other keys under a second name.
    async fn learn(&self, member: &Member, info: &KeyInfo) -> Result<(), KeyError> {
        if self.registry.get(&info.id).as_ref() == Some(info) {
            return Ok(());
        }
        if !self.is_others(member) {
            contradiction(&self.others.list().await?, info, None)?;
        }
        self.registry.put(info).await
    }

    /// The keys of a member, as it says or as it last said.
    async fn keys_of(&self, member: &Arc<Member>) -> Vec<KeyInfo> {
        if !member.is_in() {
            return self.registry.of(member.name());
        }
        let ask = |it: Arc<dyn KeyProvider>| async move { it.list().await };
        match member.call(member.deadline(), None, ask).await {
            Ok(keys) => keys.into_iter().map(|info| named(member, info)).collect(),
            Err(error) => {
                tracing::warn!(provider = member.name(), %error, "its keys are told from memory");
                self.registry.of(member.name())
            }
        }
    }

    fn member(&self, name: &str) -> Result<&Arc<Member>, KeyError> {
        let found = self.members.iter().find(|member| member.name() == name);
        found.ok_or_else(|| KeyError::NoSuchProvider {
            asked: name.to_owned(),
            known: self.sealing_providers().join(", "),
        })
    }

    /// Whether a member is the provider of all other keys.
    fn is_others(&self, member: &Member) -> bool {
        member
            .provider()
            .is_some_and(|provider| Arc::ptr_eq(provider, &self.others))
    }

    /// Who keeps the key.
    async fn find(&self, id: &KeyId) -> Result<Place<'_>, KeyError> {
        if let Some(known) = self.registry.get(id) {
            return self.member(&known.provider).map(Place::Member);
        }
        if self.known_others().contains(id) {
            return Ok(Place::Others);
        }
        match self.others.info(id).await {
            Ok(info) => {
                let shared = self.members.iter().find(|member| self.is_others(member));
                if let (Some(member), Purpose::Sealing) = (shared, info.purpose) {
                    self.registry.put(&named(member, info)).await?;
                    return Ok(Place::Member(member));
                }
                self.known_others().insert(id.clone());
                return Ok(Place::Others);
            }
            Err(KeyError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.search(id).await
    }

    /// Asks all members at once who has a key that is not known here: one that does not answer keeps no other one back.
    async fn search(&self, id: &KeyId) -> Result<Place<'_>, KeyError> {
        let mut asked = JoinSet::new();
        for (index, member) in self.members.iter().enumerate() {
            let (member, key) = (Arc::clone(member), id.clone());
            asked.spawn(async move {
                let deadline = member.deadline();
                let wanted = key.clone();
                let ask = |it: Arc<dyn KeyProvider>| async move { it.info(&wanted).await };
                (index, member.call(deadline, Some(&key), ask).await)
            });
        }
        let mut trouble = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((index, Ok(info))) => {
                    if let Some(member) = self.members.get(index) {
                        self.learn(member, &named(member, info)).await?;
                        return Ok(Place::Member(member));
                    }
                }
                Ok((_, Err(KeyError::NotFound { .. }))) | Err(_) => {}
                Ok((_, Err(error))) => trouble = Some(error),
            }
        }
        // A member that cannot tell may have it.
        Err(trouble.unwrap_or_else(|| KeyError::NotFound { id: id.clone() }))
    }

    fn known_others(&self) -> std::sync::MutexGuard<'_, HashSet<KeyId>> {
        let held = self.in_others.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a name that is taken, by whomever.
    async fn check_free(&self, key: &CreateKey, wanted: &str) -> Result<(), KeyError> {
        let taken = match self.registry.get(&key.id) {
            Some(info) => Some(info),
            None => match self.others.info(&key.id).await {
                Ok(info) => Some(info),
                Err(KeyError::NotFound { .. }) => None,
                Err(error) => return Err(error),
            },
        };
        match taken {
            None => Ok(()),
            Some(info) if info.provider == wanted && info.purpose == key.purpose => {
                Err(KeyError::AlreadyExists { id: info.id })
            }
            // Not `AlreadyExists`: whoever then uses the existing key would take it for one of the other provider.
            Some(info) => Err(KeyError::Refused {
                id: info.id,
                reason: format!(
                    "a {} key of this name is in the {} provider, and a new {} key is wanted in {wanted}: choose another name",
                    info.purpose, info.provider, key.purpose
                ),
            }),
        }
    }

    async fn create_in(&self, member: &Arc<Member>, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        let wanted = CreateKey {
            provider: None,
            ..key.clone()
        };
        let info = member
            .call(MANAGE, Some(&key.id), |it| async move {
                it.create(&wanted).await
            })
            .await?;
        let info = named(member, info);
        if let Err(error) = self.learn(member, &info).await {
            // A provider that gives the same key twice is broken, or not what it says it is.
            if let Some(provider) = member.provider()
                && let Err(more) = provider.disable(&key.id).await
            {
                tracing::error!(key = %key.id, %more, "a refused new key could not be disabled");
            }
            return Err(error);
        }
        Ok(info)
    }

    /// Changes a key's life: tried whatever the breaker says, because an order must not wait for better times.
    async fn change<T, F>(
        &self,
        id: &KeyId,
        ask: impl FnOnce(Arc<dyn KeyProvider>) -> F + Send,
    ) -> Result<T, KeyError>
    where
        F: Future<Output = Result<T, KeyError>> + Send,
    {
        let member = match self.find(id).await? {
            Place::Others => return ask(Arc::clone(&self.others)).await,
            Place::Member(member) => member,
        };
        let provider = member.provider().ok_or_else(|| KeyError::Out {
            provider: member.name().to_owned(),
            reason: "it has not come up since the service started".to_owned(),
        })?;
        let changed = tokio::time::timeout(MANAGE, ask(Arc::clone(provider))).await;
        let outcome = changed.unwrap_or_else(|_elapsed| {
            Err(KeyError::Timeout {
                id: id.clone(),
                deadline_ms: u64::try_from(MANAGE.as_millis()).unwrap_or(u64::MAX),
            })
        })?;
        if let Ok(Ok(info)) = tokio::time::timeout(member.deadline(), provider.info(id)).await {
            self.registry.put(&named(member, info)).await?;
        }
        Ok(outcome)
    }

    fn sources(&self) -> Vec<Source> {
        let others = Source {
            name: self.others.name().to_owned(),
            provider: Some(Arc::clone(&self.others)),
            deadline: MANAGE,
        };
        let members = self.members.iter().filter(|it| !self.is_others(it));
        let members = members.map(|member| Source {
            name: member.name().to_owned(),
            provider: member.provider().cloned(),
            deadline: member.deadline(),
        });
        std::iter::once(others).chain(members).collect()
    }
}

#[async_trait]
impl KeyProvider for FailoverSet {
    fn name(&self) -> &str {
        self.members
            .first()
            .map_or_else(|| self.others.name(), |member| member.name())
    }

    /// What all members that have come up can prove.
    fn capabilities(&self) -> Capabilities {
        let up = self.members.iter().filter_map(|member| member.provider());
        let all = up.map(|provider| provider.capabilities());
        let both = |a: Capabilities, b: Capabilities| Capabilities {
            can_disable: a.can_disable && b.can_disable,
            keeps_audit: a.keeps_audit && b.keeps_audit,
            attests_origin: a.attests_origin && b.attests_origin,
        };
        all.reduce(both)
            .unwrap_or_else(|| self.others.capabilities())
    }

    fn capabilities_of(&self, provider: &str) -> Result<Capabilities, KeyError> {
        let member = self.member(provider)?;
        let up = member.provider().ok_or_else(|| KeyError::Out {
            provider: provider.to_owned(),
            reason: "it has not come up since the service started".to_owned(),
        })?;
        Ok(up.capabilities())
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        if key.purpose != Purpose::Sealing {
            if let Some(asked) = &key.provider {
                crate::provider::known(self.others.name(), asked)?;
            }
            self.check_free(key, self.others.name()).await?;
            return self.others.create(key).await;
        }
        if let Some(asked) = &key.provider {
            self.check_free(key, asked).await?;
            return match self.member(asked) {
                Ok(member) => self.create_in(member, key).await,
                // Not in the list, and still the place for keys that no member can make.
                Err(_) if asked == self.others.name() => self.others.create(key).await,
                Err(unknown) => Err(unknown),
            };
        }
        for member in &self.members {
            self.check_free(key, member.name()).await?;
            match self.create_in(member, key).await {
                Err(KeyError::Unsupported { .. }) => {}
                made => return made,
            }
        }
        self.others.create(key).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let member = match self.find(id).await? {
            Place::Others => return self.others.info(id).await,
            Place::Member(member) => member,
        };
        let known = self.registry.get(id);
        let key = id.clone();
        let ask = |it: Arc<dyn KeyProvider>| async move { it.info(&key).await };
        let told = member.call(member.deadline(), Some(id), ask).await;
        match (told, known) {
            (Ok(info), _) => {
                let info = named(member, info);
                self.learn(member, &info).await?;
                Ok(info)
            }
            (
                Err(
                    KeyError::Out { .. }
                    | KeyError::Busy { .. }
                    | KeyError::Unavailable { .. }
                    | KeyError::Timeout { .. }
                    | KeyError::Token(_),
                ),
                Some(known),
            ) => Ok(known),
            (Err(error), _) => Err(error),
        }
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let mut keys = Vec::new();
        let mut seen = BTreeSet::new();
        for member in &self.members {
            let own = self.keys_of(member).await;
            keys.extend(own.into_iter().filter(|info| {
                let of_set = !self.is_others(member) || info.purpose == Purpose::Sealing;
                of_set && seen.insert(info.id.clone())
            }));
        }
        let others = self.others.list().await?;
        keys.extend(others.into_iter().filter(|info| !seen.contains(&info.id)));
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(keys)
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        let member = match self.find(id).await? {
            Place::Others => return self.others.sign(id, purpose, message).await,
            Place::Member(member) => member,
        };
        let (key, message) = (id.clone(), message.to_vec());
        let ask = |it: Arc<dyn KeyProvider>| async move { it.sign(&key, purpose, &message).await };
        member.call(member.deadline(), Some(id), ask).await
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let key = id.clone();
        self.change(id, |it| async move { it.disable(&key).await })
            .await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let key = id.clone();
        self.change(id, |it| async move { it.destroy(&key).await })
            .await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let member = match self.find(id).await? {
            Place::Others => return self.others.restore(id).await,
            Place::Member(member) => member,
        };
        let key = id.clone();
        let restored = self.change(id, |it| async move { it.restore(&key).await });
        Ok(named(member, restored.await?))
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        self.merge.read_after(&self.sources(), cursor, limit).await
    }

    async fn audit_gaps(&self, patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        let mut gaps = Vec::new();
        for member in &self.members {
            let Some(provider) = member.provider() else {
                continue;
            };
            match tokio::time::timeout(member.deadline(), provider.audit_gaps(patience)).await {
                Ok(Ok(found)) => {
                    gaps.extend(found.into_iter().map(|gap| gap.in_provider(member.name())));
                }
                Ok(Err(error)) => {
                    tracing::warn!(provider = member.name(), %error, "its audit's gaps are not known");
                }
                Err(_elapsed) => {
                    tracing::warn!(
                        provider = member.name(),
                        "its audit's gaps are not known in time"
                    );
                }
            }
        }
        Ok(gaps)
    }

    fn sealing_providers(&self) -> Vec<String> {
        names(&self.members)
    }

    fn health(&self, provider: &str) -> Result<Health, KeyError> {
        self.member(provider).map(|member| member.health())
    }

    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        self.member(provider)?.probe().await
    }
}

/// A key under the name that its provider has in the set.
fn named(member: &Member, info: KeyInfo) -> KeyInfo {
    KeyInfo {
        provider: member.name().to_owned(),
        ..info
    }
}

fn names(members: &[Arc<Member>]) -> Vec<String> {
    let names = members.iter().map(|member| member.name().to_owned());
    names.collect()
}

/// Opens all members, each in its own time. One that is away joins later; one whose keys contradict each other is an error.
async fn come_up(members: &[Arc<Member>]) -> Result<(), KeyError> {
    let mut opening = JoinSet::new();
    for member in members {
        let member = Arc::clone(member);
        opening.spawn(async move {
            let opened = member.open().await;
            (member, opened)
        });
    }
    let mut trouble = None;
    while let Some(opened) = opening.join_next().await {
        let (member, error) = match opened {
            Ok((_, Ok(()))) | Err(_) => continue,
            Ok((member, Err(error))) => (member, error),
        };
        if error.is_a_contradiction() {
            return Err(error);
        }
        tracing::warn!(provider = member.name(), %error, "a provider of sealing keys has not come up");
        trouble = Some(error);
    }
    match trouble {
        Some(error) if members.iter().all(|it| it.provider().is_none()) => Err(error),
        Some(_) | None => Ok(()),
    }
}

fn check_names(members: &[MemberConfig]) -> Result<(), String> {
    if members.is_empty() || members.len() > MAX_MEMBERS {
        return Err(format!(
            "{} providers of sealing keys are configured: name 1 to {MAX_MEMBERS}",
            members.len()
        ));
    }
    let mut seen = BTreeSet::new();
    for member in members {
        let name = member.name.as_str();
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(format!(
                "{name:?} is no name of a key provider: use 1 to {MAX_NAME} of a-z, 0-9 and '-'"
            ));
        }
        if !seen.insert(name) {
            return Err(format!(
                "two key providers are named {name}: name each once"
            ));
        }
        let bad = |reason| format!("the breaker of key provider {name}: {reason}");
        member.breaker.validate().map_err(bad)?;
    }
    Ok(())
}

/// Only the provider of all other keys may have that one's name.
fn check_member(member: &Member, others: &dyn KeyProvider) -> Result<(), KeyError> {
    let same = member
        .provider()
        .is_some_and(|it| std::ptr::addr_eq(Arc::as_ptr(it), std::ptr::from_ref(others)));
    if member.name() != others.name() || same {
        return Ok(());
    }
    Err(KeyError::Unsafe {
        reason: format!(
            "the name {} is that of the provider of all other keys: choose another one",
            member.name()
        ),
    })
}

#[cfg(test)]
mod tests;
