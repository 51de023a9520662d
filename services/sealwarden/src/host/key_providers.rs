//! Which provider keeps which keys: software keys, and for sealing keys an ordered set of providers if any are named.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use sealwarden_engine::Role;
use sealwarden_keys::faults::{FaultSwitch, FaultyProvider};
use sealwarden_keys::pkcs11::{Limits, WorkerCommand};
use sealwarden_keys::set::{EarlierOrder, Opened};
use sealwarden_keys::transit::{AuditSource, Credentials};
use sealwarden_keys::{
    BreakerConfig, FailoverSet, Guard, KeyError, KeyProvider, MemberConfig, Opener, Pkcs11Config,
    Pkcs11Opener, SetConfig, SoftwareConfig, SoftwareProvider, TransitConfig, TransitProvider,
};
use serde::Deserialize;

use crate::cli::PKCS11_WORKER;

/// The software provider's name, for sealing keys as well as for all others.
const SOFTWARE: &str = "software";

/// The section `keys:` of `settings.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeySettings {
    /// Providers of sealing keys, in order of preference. Empty: software keys only.
    pub(crate) providers: Vec<ProviderSettings>,
}

/// One provider of sealing keys.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderSettings {
    /// Its name in commands, reports and with its keys.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// A signature takes at most so long, in milliseconds, before it counts as failed.
    #[serde(default = "default_deadline_ms")]
    pub(crate) deadline_ms: u64,
    /// It is probed so often while nobody uses it, in milliseconds.
    #[serde(default = "default_probe_every_ms")]
    pub(crate) probe_every_ms: u64,
    /// Calls under way at once; one more is refused as busy.
    #[serde(default = "default_in_flight")]
    pub(crate) in_flight: usize,
    /// When it goes out and comes back.
    #[serde(default)]
    pub(crate) breaker: BreakerConfig,
    /// Software: another folder for the keys than the node's own.
    #[serde(default)]
    pub(crate) dir: Option<PathBuf>,
    /// PKCS#11: the vendor's module.
    #[serde(default)]
    pub(crate) module: Option<PathBuf>,
    /// PKCS#11: the token's label.
    #[serde(default)]
    pub(crate) token: Option<String>,
    /// PKCS#11: file with the PIN, mode 0600.
    #[serde(default)]
    pub(crate) pin_file: Option<PathBuf>,
    /// Transit: `https://host:port`.
    #[serde(default)]
    pub(crate) url: Option<String>,
    /// Transit: authorities that vouch for the server, PEM.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Transit: file with a token, mode 0600.
    #[serde(default)]
    pub(crate) token_file: Option<PathBuf>,
    /// Transit, instead of a token: the role id of an app role.
    #[serde(default)]
    pub(crate) role_id: Option<String>,
    /// Transit, instead of a token: file with the role's secret id, mode 0600.
    #[serde(default)]
    pub(crate) secret_id_file: Option<PathBuf>,
    /// Transit: where the app role method is mounted; `approle` if not said.
    #[serde(default)]
    pub(crate) approle_mount: Option<String>,
    /// Transit: namespace of the engine.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    /// Transit: namespace of the token or app role, if not the root one.
    #[serde(default)]
    pub(crate) credentials_namespace: Option<String>,
    /// Transit: where the engine is mounted; `transit` if not said.
    #[serde(default)]
    pub(crate) mount: Option<String>,
    /// Transit: the file of the server's file audit device, where it is readable here.
    #[serde(default)]
    pub(crate) audit_file: Option<PathBuf>,
    /// Transit: the name of that audit device; `file` if not said.
    #[serde(default)]
    pub(crate) audit_device: Option<String>,
}

/// The kinds of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Files, sealed under the guard.
    Software,
    /// A PKCS#11 token.
    Pkcs11,
    /// The transit engine of an OpenBao or Vault server.
    Transit,
}

fn default_deadline_ms() -> u64 {
    5_000
}

fn default_probe_every_ms() -> u64 {
    15_000
}

fn default_in_flight() -> usize {
    64
}

impl ProviderSettings {
    /// A provider with nothing set but its name and kind.
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            deadline_ms: default_deadline_ms(),
            probe_every_ms: default_probe_every_ms(),
            in_flight: default_in_flight(),
            breaker: BreakerConfig::default(),
            dir: None,
            module: None,
            token: None,
            pin_file: None,
            url: None,
            ca_file: None,
            token_file: None,
            role_id: None,
            secret_id_file: None,
            approle_mount: None,
            namespace: None,
            credentials_namespace: None,
            mount: None,
            audit_file: None,
            audit_device: None,
        }
    }

    /// Its paths, for resolving.
    pub(crate) fn paths(&mut self) -> [&mut Option<PathBuf>; 7] {
        [
            &mut self.dir,
            &mut self.module,
            &mut self.pin_file,
            &mut self.ca_file,
            &mut self.token_file,
            &mut self.secret_id_file,
            &mut self.audit_file,
        ]
    }

    fn validate(&self) -> anyhow::Result<()> {
        let name = &self.name;
        for (what, value, low, high) in [
            ("deadline_ms", self.deadline_ms, 10, 600_000),
            ("probe_every_ms", self.probe_every_ms, 100, 3_600_000),
            ("in_flight", u64::try_from(self.in_flight)?, 1, 10_000),
        ] {
            if !(low..=high).contains(&value) {
                bail!("key provider {name}: {what} {value} is not within {low} to {high}");
            }
        }
        self.breaker
            .validate()
            .map_err(|reason| anyhow::anyhow!("key provider {name}: breaker: {reason}"))?;
        for (field, set, kind) in self.fields() {
            if set && kind != self.kind {
                bail!(
                    "key provider {name}: {field} does not go with kind {}: remove it",
                    self.kind.as_str()
                );
            }
        }
        match self.kind {
            Kind::Software => {}
            Kind::Pkcs11 => {
                needed(name, "module", self.module.as_ref())?;
                needed(name, "token", self.token.as_ref())?;
                needed(name, "pin_file", self.pin_file.as_ref())?;
            }
            Kind::Transit => {
                needed(name, "url", self.url.as_ref())?;
                needed(name, "ca_file", self.ca_file.as_ref())?;
                self.credentials()?;
            }
        }
        Ok(())
    }

    /// The fields of one kind only: name, whether it is set, and the kind.
    fn fields(&self) -> [(&'static str, bool, Kind); 15] {
        [
            ("dir", self.dir.is_some(), Kind::Software),
            ("module", self.module.is_some(), Kind::Pkcs11),
            ("token", self.token.is_some(), Kind::Pkcs11),
            ("pin_file", self.pin_file.is_some(), Kind::Pkcs11),
            ("url", self.url.is_some(), Kind::Transit),
            ("ca_file", self.ca_file.is_some(), Kind::Transit),
            ("token_file", self.token_file.is_some(), Kind::Transit),
            ("role_id", self.role_id.is_some(), Kind::Transit),
            (
                "secret_id_file",
                self.secret_id_file.is_some(),
                Kind::Transit,
            ),
            ("approle_mount", self.approle_mount.is_some(), Kind::Transit),
            ("namespace", self.namespace.is_some(), Kind::Transit),
            (
                "credentials_namespace",
                self.credentials_namespace.is_some(),
                Kind::Transit,
            ),
            ("mount", self.mount.is_some(), Kind::Transit),
            ("audit_file", self.audit_file.is_some(), Kind::Transit),
            ("audit_device", self.audit_device.is_some(), Kind::Transit),
        ]
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        match (&self.token_file, &self.role_id, &self.secret_id_file) {
            (Some(file), None, None) => Ok(Credentials::TokenFile(file.clone())),
            (None, Some(role_id), Some(secret_id_file)) => Ok(Credentials::AppRole {
                mount: self
                    .approle_mount
                    .clone()
                    .unwrap_or_else(|| "approle".to_owned()),
                role_id: role_id.clone(),
                secret_id_file: secret_id_file.clone(),
            }),
            (Some(_), _, _) => bail!(
                "key provider {}: token_file and an AppRole are both given: keep one",
                self.name
            ),
            (None, _, _) => bail!(
                "key provider {}: give token_file, or role_id and secret_id_file",
                self.name
            ),
        }
    }

    /// What tells it from every other provider: two that are the same place hold the same keys.
    fn place(&self) -> String {
        match self.kind {
            Kind::Software => format!("software {:?}", same(self.dir.as_ref())),
            Kind::Pkcs11 => format!("pkcs11 {:?} {:?}", same(self.module.as_ref()), self.token),
            Kind::Transit => format!(
                "transit {:?} {:?} {:?}",
                self.url.as_deref().map(|url| url.trim_end_matches('/')),
                self.namespace.as_deref().unwrap_or_default(),
                self.mount.as_deref().unwrap_or("transit"),
            ),
        }
    }
}

/// A path under the name that links and `..` do not change, if it is there.
fn same(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()))
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Software => SOFTWARE,
            Self::Pkcs11 => "pkcs11",
            Self::Transit => "transit",
        }
    }
}

impl KeySettings {
    /// With the provider that the command line names, which is a list of one.
    pub(crate) fn with(&self, named: Option<ProviderSettings>) -> anyhow::Result<Self> {
        let Some(named) = named else {
            return Ok(self.clone());
        };
        if !self.providers.is_empty() {
            bail!(
                "the settings have a section keys: with {} providers of sealing keys, and the command line names one with the --pkcs11 or --transit flags: leave the flags out, or remove the section",
                self.providers.len()
            );
        }
        let one = Self {
            providers: vec![named],
        };
        one.validate()?;
        Ok(one)
    }

    /// Checks what can be checked before anything is opened.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        for (index, provider) in self.providers.iter().enumerate() {
            provider.validate()?;
            let earlier = self.providers.iter().take(index);
            if let Some(same) = earlier
                .into_iter()
                .find(|it| it.place() == provider.place())
            {
                bail!(
                    "key providers {} and {} are the same place, so one key would have two roles: remove one",
                    same.name,
                    provider.name
                );
            }
            let own = provider.kind == Kind::Software && provider.dir.is_none();
            if own != (provider.name == SOFTWARE) {
                bail!(
                    "key provider {:?}: the name {SOFTWARE} is that of the node's own software keys, and of those only: {}",
                    provider.name,
                    if own {
                        "name it so, or give it another dir"
                    } else {
                        "choose another name"
                    }
                );
            }
        }
        Ok(())
    }
}

/// Where a process's keys are kept.
#[derive(Clone, Debug)]
pub(crate) struct KeySource {
    /// Passphrase that guards software keys at rest, if not a generated guard file.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Providers of sealing keys, if not software keys alone.
    pub(crate) sealing: KeySettings,
    /// In a drill: the provider that misbehaves on order.
    pub(crate) fault: Option<InjectedFault>,
}

/// A provider of sealing keys that misbehaves when a drill says so.
#[derive(Clone, Debug)]
pub(crate) struct InjectedFault {
    /// Its name in the settings.
    pub(crate) provider: &'static str,
    /// Says how.
    pub(crate) switch: FaultSwitch,
}

impl KeySource {
    /// The keys of a role whose folder is `data`.
    pub(crate) async fn of_role(
        &self,
        role: Role,
        data: &Path,
    ) -> anyhow::Result<Arc<dyn KeyProvider>> {
        let software = self.software(data).await?;
        // A set that there once was stays: the audit goes on in its order.
        let has_set = data.join("key-set").exists();
        if role != Role::Sealing || (self.sealing.providers.is_empty() && !has_set) {
            return Ok(software);
        }
        self.set(software, data).await
    }

    /// The software keys in `data`.
    pub(crate) async fn software(&self, data: &Path) -> anyhow::Result<Arc<dyn KeyProvider>> {
        let config = self.software_in(data, &data.join("keys"));
        let provider = SoftwareProvider::open(config)
            .await
            .context("opening the key folder")?;
        Ok(Arc::new(provider))
    }

    fn software_in(&self, data: &Path, dir: &Path) -> SoftwareConfig {
        let guard = match &self.passphrase_file {
            Some(path) => Guard::PassphraseFile(path.clone()),
            None => Guard::File(data.join("guard")),
        };
        SoftwareConfig {
            dir: dir.to_path_buf(),
            guard,
        }
    }

    async fn set(
        &self,
        software: Arc<dyn KeyProvider>,
        data: &Path,
    ) -> anyhow::Result<Arc<dyn KeyProvider>> {
        let mut members = Vec::new();
        for provider in &self.sealing.providers {
            members.push(self.member(provider, &software, data)?);
        }
        if members.is_empty() {
            let own = ProviderSettings::new(SOFTWARE, Kind::Software);
            members.push(self.member(&own, &software, data)?);
        }
        let set = FailoverSet::open(SetConfig {
            members,
            others: software,
            dir: data.join("key-set"),
            earlier: earlier_order(data),
        })
        .await
        .context("opening the providers of sealing keys")?;
        Ok(Arc::new(set))
    }

    fn member(
        &self,
        settings: &ProviderSettings,
        software: &Arc<dyn KeyProvider>,
        data: &Path,
    ) -> anyhow::Result<MemberConfig> {
        // The folder of the only provider of a kind keeps the name it has without a list.
        let dir = if settings.name == settings.kind.as_str() {
            data.join(format!("keys-{}", settings.kind.as_str()))
        } else {
            data.join(format!("keys-{}-{}", settings.kind.as_str(), settings.name))
        };
        let opener: Arc<dyn Opener> = match settings.kind {
            Kind::Software => match &settings.dir {
                None => Arc::new(Opened(Arc::clone(software))),
                Some(other) => Arc::new(OpenSoftware(self.software_in(data, other))),
            },
            Kind::Pkcs11 => Arc::new(Pkcs11Opener::new(token(settings, dir)?)),
            Kind::Transit => Arc::new(OpenTransit(server(settings, dir)?)),
        };
        let opener: Arc<dyn Opener> = match &self.fault {
            Some(fault) if fault.provider == settings.name => Arc::new(OpenFaulty {
                inner: opener,
                switch: fault.switch.clone(),
            }),
            Some(_) | None => opener,
        };
        Ok(MemberConfig {
            name: settings.name.clone(),
            opener,
            deadline: Duration::from_millis(settings.deadline_ms),
            probe_every: Duration::from_millis(settings.probe_every_ms),
            in_flight: settings.in_flight,
            breaker: settings.breaker.clone(),
        })
    }
}

/// The audit's order as an installation without a list of providers kept it: of the two that there may be, the one last used.
fn earlier_order(data: &Path) -> Option<EarlierOrder> {
    let used = ["pkcs11", "transit"].map(|kind| {
        let path = data.join(format!("keys-{kind}/audit.order"));
        let changed = path.metadata().and_then(|it| it.modified()).ok()?;
        Some((changed, path, kind))
    });
    let (_, path, kind) = used.into_iter().flatten().max()?;
    Some(EarlierOrder {
        path,
        sealing: kind.to_owned(),
    })
}

struct OpenSoftware(SoftwareConfig);

#[async_trait]
impl Opener for OpenSoftware {
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let provider = SoftwareProvider::open(self.0.clone()).await?;
        Ok(Arc::new(provider))
    }
}

struct OpenFaulty {
    inner: Arc<dyn Opener>,
    switch: FaultSwitch,
}

#[async_trait]
impl Opener for OpenFaulty {
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let inner = self.inner.open().await?;
        Ok(Arc::new(FaultyProvider::under(inner, &self.switch)))
    }
}

struct OpenTransit(TransitConfig);

#[async_trait]
impl Opener for OpenTransit {
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let provider = TransitProvider::open(&self.0)?;
        Ok(Arc::new(provider))
    }
}

fn token(settings: &ProviderSettings, dir: PathBuf) -> anyhow::Result<Pkcs11Config> {
    let name = &settings.name;
    let call = Duration::from_millis(settings.deadline_ms);
    Ok(Pkcs11Config {
        module: needed(name, "module", settings.module.as_ref())?.clone(),
        token: needed(name, "token", settings.token.as_ref())?.clone(),
        pin_file: needed(name, "pin_file", settings.pin_file.as_ref())?.clone(),
        dir,
        worker: WorkerCommand::this_program(PKCS11_WORKER),
        limits: Limits {
            attempt: Limits::default().attempt.min(call),
            call,
            ..Limits::default()
        },
    })
}

fn server(settings: &ProviderSettings, dir: PathBuf) -> anyhow::Result<TransitConfig> {
    let name = &settings.name;
    let device = settings.audit_device.as_deref().unwrap_or("file");
    let audit = settings.audit_file.clone().map(|file| AuditSource {
        file,
        device: device.to_owned(),
    });
    Ok(TransitConfig {
        url: needed(name, "url", settings.url.as_ref())?.clone(),
        ca_file: needed(name, "ca_file", settings.ca_file.as_ref())?.clone(),
        credentials: settings.credentials()?,
        credentials_namespace: settings.credentials_namespace.clone().unwrap_or_default(),
        namespace: settings.namespace.clone().unwrap_or_default(),
        mount: settings
            .mount
            .clone()
            .unwrap_or_else(|| "transit".to_owned()),
        state_dir: dir,
        audit,
        deadline: Duration::from_millis(settings.deadline_ms),
    })
}

fn needed<'a, T>(name: &str, field: &str, value: Option<&'a T>) -> anyhow::Result<&'a T> {
    value.with_context(|| format!("key provider {name}: {field} is missing"))
}

#[cfg(test)]
mod tests;
