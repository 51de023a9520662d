//! The sandbox: a folder, loopback ports, keys, roster and origins of its own.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sealwarden_engine::Role;
use sealwarden_eventlog::Environment;
use sealwarden_keys::faults::FaultSwitch;
use sealwarden_pki::IdentityFiles;
use tempfile::TempDir;

use crate::client::Client;
use crate::host::installation::{NewInstallation, private_dir, random};
use crate::host::key_providers::InjectedFault;
use crate::host::settings::FILE_NAME;
use crate::host::start::{Options, Started, start};

/// What a drill wants of its sandbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// Text of its `settings.yaml`; paths are relative to the sandbox's folder.
    pub(crate) settings: Cow<'static, str>,
    /// The provider of sealing keys that misbehaves on order.
    pub(crate) misbehaves: Option<&'static str>,
}

/// A running sandbox.
pub(crate) struct Sandbox {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Makes the provider misbehave that the scene names.
    pub(crate) fault: FaultSwitch,
    /// The services.
    pub(crate) started: Started,
    /// Removes the folder at the end, unless it is kept.
    _temporary: Option<TempDir>,
}

impl Sandbox {
    /// Starts all services in a new folder.
    pub(crate) async fn start(
        keep: Option<&Path>,
        nats: Option<String>,
        scene: Scene,
    ) -> anyhow::Result<Self> {
        let (folder, temporary) = if let Some(folder) = keep {
            private_dir(folder)?;
            if std::fs::read_dir(folder)?.next().is_some() {
                bail!(
                    "{} is not empty; a drill wants a folder of its own",
                    folder.display()
                );
            }
            (folder.to_owned(), None)
        } else {
            let temporary = tempfile::Builder::new()
                .prefix("sealwarden-drill-")
                .tempdir()
                .context("making a sandbox")?;
            (temporary.path().to_owned(), Some(temporary))
        };
        let settings_file = folder.join(FILE_NAME);
        std::fs::write(&settings_file, &*scene.settings)
            .context("writing the settings of the sandbox")?;
        let fault = FaultSwitch::default();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            data: folder.join("data"),
            new: NewInstallation {
                name: Some(format!("drill-{}", hex::encode(random::<6>()?))),
                environment: Environment::Drill,
                base: "drill.invalid".to_owned(),
            },
            nats,
            settings: Some(settings_file),
            plan: None,
            listen: loopback,
            listen_http: loopback,
            hosts: Vec::new(),
            passphrase_file: None,
            sealing_keys: None,
            fault: scene.misbehaves.map(|provider| InjectedFault {
                provider,
                switch: fault.clone(),
            }),
            roles: Role::ALL
                .map(|role| (role, format!("{}-1", role.as_str())))
                .to_vec(),
        };
        let started = Box::pin(start(options)).await?;
        Ok(Self {
            folder,
            fault,
            started,
            _temporary: temporary,
        })
    }

    /// The installation's data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.started.installation.data
    }

    /// Ends the services cleanly, then removes the folder unless it is kept.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.started.run_until(std::future::ready(())).await
    }

    /// A client with the certificate of `name`.
    pub(crate) fn client(&self, name: &str) -> anyhow::Result<Client> {
        let identity = IdentityFiles::in_dir(&self.data().join("certificates"), name).load()?;
        Ok(Client::with_identity(self.data().to_owned(), identity))
    }
}
