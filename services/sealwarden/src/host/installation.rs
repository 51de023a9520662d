//! The data folder: what makes an installation, made on first start and never again.
//!
//! ```text
//! DATA/installation.json        name, environment, base of origins
//! DATA/plan/                    the response plan (unless --plan names another folder)
//! DATA/people/<id>/             trial approvers' SSH keys (only with the shipped plan)
//! DATA/root/id_ed25519          local trust root
//! DATA/pki/                     local certificate authority
//! DATA/certificates/            identities issued by it
//! DATA/nodes/<node>/            keys and state of each service; the sealing node's trees are in log/
//! DATA/events/                  the embedded event log
//! DATA/evidence/, evidence-log/ evidence bundles, and the log they are sealed in
//! DATA/endpoints.json           where the services listen now
//! ```

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ring::rand::{SecureRandom as _, SystemRandom};
use sealwarden_eventlog::Environment;
use sealwarden_runbook::PlanSet;
use serde::{Deserialize, Serialize};

use super::plan;

const FORMAT: &str = "sealwarden-installation/1";

/// What is fixed for the life of an installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    format: String,
    /// Name; approvals and trust bundles are bound to it.
    pub(crate) installation: String,
    environment: String,
    /// What origins begin with.
    pub(crate) base: String,
}

/// An opened data folder.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// The data folder, absolute.
    pub(crate) data: PathBuf,
    /// What is fixed.
    pub(crate) settings: Settings,
}

/// What a new installation should be.
#[derive(Clone, Debug)]
pub(crate) struct NewInstallation {
    /// Name; made up if absent.
    pub(crate) name: Option<String>,
    /// Production or drill.
    pub(crate) environment: Environment,
    /// Base of origins.
    pub(crate) base: String,
}

impl Installation {
    /// Opens the folder, or makes it. Processes that start at once agree by a lock.
    pub(crate) fn open_or_create(data: &Path, new: &NewInstallation) -> anyhow::Result<Self> {
        private_dir(data)?;
        let data = data
            .canonicalize()
            .with_context(|| format!("resolving {}", data.display()))?;
        let lock = fs::File::create(data.join("installation.lock"))
            .with_context(|| format!("creating {}/installation.lock", data.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .context("locking the data folder")?;
        if !data.join("installation.json").exists() {
            create(&data, new)?;
        }
        Self::open(&data)
    }

    /// Opens a folder that `up` or `serve` made.
    pub(crate) fn open(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("installation.json");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("{} holds no installation (no {}); start one with `sealwarden up`, or name its folder with --data", data.display(), path.display())
        })?;
        let settings: Settings = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged", path.display()))?;
        if settings.format != FORMAT {
            bail!(
                "{}: format {:?} is not {FORMAT:?}; it was made by another version",
                path.display(),
                settings.format
            );
        }
        let data = data
            .canonicalize()
            .with_context(|| format!("resolving {}", data.display()))?;
        Ok(Self { data, settings })
    }

    /// Production or drill.
    pub(crate) fn environment(&self) -> Environment {
        if self.settings.environment == Environment::Drill.as_str() {
            Environment::Drill
        } else {
            Environment::Production
        }
    }

    /// Reads the plan: `--plan DIR`, or the one in the data folder.
    pub(crate) fn plan(&self, named: Option<&Path>) -> anyhow::Result<PlanSet> {
        plan::load(&self.plan_dir(named))
    }

    /// Where the plan lies: `--plan DIR`, or in the data folder.
    pub(crate) fn plan_dir(&self, named: Option<&Path>) -> PathBuf {
        named.map_or_else(|| self.data.join("plan"), Path::to_path_buf)
    }

    /// The local trust root's private key.
    pub(crate) fn root_key(&self) -> PathBuf {
        self.data.join("root").join("id_ed25519")
    }
}

fn create(data: &Path, new: &NewInstallation) -> anyhow::Result<()> {
    let name = match &new.name {
        Some(name) => name.clone(),
        None => format!("local-{}", hex::encode(random::<4>()?)),
    };
    // The name is also the prefix of all NATS subjects.
    if name.is_empty()
        || name.len() > 32
        || !name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        bail!("{name:?} cannot be an installation's name: use 1 to 32 of a-z, 0-9 and '-'");
    }
    let root = data.join("root");
    private_dir(&root)?;
    new_ssh_key(&root.join("id_ed25519"), &format!("root of {name}"))?;
    plan::write_trial(data)?;
    let settings = Settings {
        format: FORMAT.to_owned(),
        installation: name,
        environment: new.environment.as_str().to_owned(),
        base: new.base.clone(),
    };
    let text = serde_json::to_string_pretty(&settings)?;
    write_durably(&data.join("installation.json"), text.as_bytes())
}

/// Makes a folder that only its owner can read.
pub(crate) fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("protecting {}", path.display()))
}

/// Writes a private file (mode 0600) so that after a crash it is there whole or not at all.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_whole(path, bytes, 0o600)
}

/// Writes a file that is meant for others, with the permissions that the user's umask gives, whole or not at all.
pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_whole(path, bytes, 0o666)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Makes an Ed25519 SSH key pair at `path` and `path.pub`, unless it exists, and answers the public line.
pub(crate) fn new_ssh_key(path: &Path, comment: &str) -> anyhow::Result<String> {
    let public_path = path.with_extension("pub");
    if !path.exists() {
        let seed = zeroize::Zeroizing::new(random::<32>()?);
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
        let key = ssh_key::PrivateKey::new(ssh_key::private::KeypairData::Ed25519(pair), comment)
            .context("making an SSH key")?;
        let public = key
            .public_key()
            .to_openssh()
            .context("writing an SSH key")?;
        write_durably(&public_path, format!("{public}\n").as_bytes())?;
        let private = key
            .to_openssh(ssh_key::LineEnding::LF)
            .context("writing an SSH key")?;
        write_durably(path, private.as_bytes())?;
    }
    let line = fs::read_to_string(&public_path)
        .with_context(|| format!("reading {}", public_path.display()))?;
    Ok(line.trim_end().to_owned())
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system's random source failed"))?;
    Ok(bytes)
}
