//! Keys in a PKCS#11 token (an HSM, a smart card, SoftHSM2), behind a worker process.
//!
//! ```text
//! service                          worker process (same binary)
//! Pkcs11Provider -> desk (queue) ==pipe==> token -> module (.so) -> HSM
//!   <dir>/token.json     which token this folder belongs to
//!   <dir>/<id>.key.json  one record a key: purpose, state, CKA_ID, public key; nothing secret
//!   <dir>/audit.log      one JSON line a use, durable before the token is asked
//!   <dir>/lock, create.lock
//! ```
//!
//! PKCS#11 knows no time-outs and its modules share their caller's memory, so the module is loaded only by the worker
//! ([`run_worker`]), which is killed when a call takes too long and replaced. The PIN goes through the pipe, from a file
//! that is read anew for each worker.
//!
//! What the audit shows is what this provider asked the token for. Whoever has the token and a PIN can use the key
//! elsewhere, and only the HSM's own log shows that.

mod codes;
mod desk;
mod folder;
mod problem;
mod process;
mod protocol;
mod record;
mod token;
mod worker;

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ring::signature::{ED25519, UnparsedPublicKey};

use self::{
    desk::Desk,
    folder::Folder,
    process::PinFile,
    protocol::{Done, MAX_MESSAGE, TokenFacts, Work},
    record::Record,
};
pub use self::{problem::TokenProblem, worker::run_worker};
use crate::{
    algorithm::{Algorithm, Signature},
    blocking::blocking,
    error::KeyError,
    id::KeyId,
    provider::{
        AuditLine, Capabilities, CreateKey, DisableOutcome, KeyInfo, KeyProvider, KeyState,
        Purpose, is_destroyed, known,
    },
    set::Opener,
};

/// The provider's name in reports.
const NAME: &str = "pkcs11";
/// How long disabling waits for the token; the order itself is durable before.
const FORBID_PATIENCE: Duration = Duration::from_secs(1);

/// How the worker process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program; it calls [`run_worker`].
    pub program: PathBuf,
    /// Its arguments. No secret is ever among them.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// This very program with one argument, also after its file was replaced by an upgrade.
    pub fn this_program(subcommand: &str) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            args: vec![subcommand.into()],
        }
    }
}

/// How long things may take and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One try of a signature; then the worker is killed and the signature tried once more.
    pub attempt: Duration,
    /// A signature with everything, from being asked for.
    pub call: Duration,
    /// One try of making, disabling, restoring or destroying a key.
    pub manage: Duration,
    /// Loading the module and logging in.
    pub start: Duration,
    /// Calls that wait for the token; one more is refused.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempt: Duration::from_millis(1_200),
            call: Duration::from_secs(5),
            manage: Duration::from_secs(10),
            start: Duration::from_secs(10),
            waiting: 64,
        }
    }
}

impl Limits {
    /// For one try, and for all.
    fn of(&self, work: &Work) -> (Duration, Duration) {
        match work {
            Work::Sign { .. } | Work::Look => (self.attempt, self.call),
            Work::Make(_)
            | Work::Forbid(_)
            | Work::Permit(_)
            | Work::Destroy(_)
            | Work::Alone { .. }
            | Work::Vouch { .. } => (self.manage, self.manage.saturating_mul(2)),
        }
    }
}

/// Which token, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Config {
    /// The vendor's module, such as `/usr/lib/softhsm/libsofthsm2.so`.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// A file with the user's PIN, mode 0600; a line end after it does not count.
    pub pin_file: PathBuf,
    /// The folder of records and audit, made with mode 0700 on first use.
    pub dir: PathBuf,
    /// How the worker is started.
    pub worker: WorkerCommand,
    /// How long things may take.
    pub limits: Limits,
}

/// Keys in a token; see the module's description.
pub struct Pkcs11Provider {
    folder: Arc<Folder>,
    desk: Arc<Desk>,
    /// The token as it was when the provider was opened.
    token: TokenFacts,
}

impl Pkcs11Provider {
    /// Opens folder and token. The first time the token must be there; later its absence is only logged, so that a
    /// service starts without its HSM and signs when that is back. A wrong PIN and a module that does not load are
    /// always errors.
    pub async fn open(config: Pkcs11Config) -> Result<Self, KeyError> {
        let (dir, label) = (config.dir.clone(), config.token.clone());
        let (folder, known) = blocking(move || Folder::open(dir, &label)).await?;
        let folder = Arc::new(folder);
        let (desk, started) = Desk::open(config).await;
        let token = match (started, known) {
            (Ok(token), known) => {
                if known.as_ref() != Some(&token) {
                    let (folder, token) = (Arc::clone(&folder), token.clone());
                    blocking(move || folder.remember(token, known.as_ref())).await?;
                }
                token
            }
            (Err(error), Some(known)) if may_pass(&error) => {
                tracing::warn!(%error, "the token is not usable yet");
                known
            }
            (Err(error), _) => return Err(error),
        };
        let provider = Self {
            folder,
            desk: Arc::new(desk),
            token,
        };
        if provider.worker_pid().is_some() {
            for key in provider.list().await? {
                if key.state != KeyState::Destroyed {
                    provider
                        .check_alone(&provider.record(&key.id).await?)
                        .await?;
                }
                // Vendors' tools make certificates later than the key.
                if key.state == KeyState::Active {
                    provider.vouch(&key.id).await?;
                }
            }
        }
        Ok(provider)
    }

    /// Keeps the certificate that the token holds for a made key, if it has one by now. That it cannot be looked for stops nothing.
    async fn vouch(&self, id: &KeyId) -> Result<Record, KeyError> {
        let record = self.record(id).await?;
        if record.is_vouched() {
            return Ok(record);
        }
        let work = Work::Vouch {
            key: record.object().clone(),
            public_key: *record.public_key(),
        };
        let found = match self.desk.ask(id, work, None).await {
            Ok(Done::Vouched { certificate }) => certificate,
            Ok(done) => return Err(self.unexpected(&done)),
            Err(error) => {
                tracing::warn!(key = %id, %error, "a certificate for the key could not be looked for");
                None
            }
        };
        let Some(certificate) = found.and_then(|text| hex::decode(text).ok()) else {
            return Ok(record);
        };
        tracing::info!(key = %id, "the token holds a certificate for the key, which is kept with it");
        let id = id.clone();
        self.with_folder(move |folder| {
            let _lock = folder.lock()?;
            let record = Record::load(&folder.dir, &id)?.vouched(certificate);
            record.replace(&folder.dir)?;
            Ok(record)
        })
        .await
    }

    /// Refuses a key that the token holds under another name, too. That it cannot be asked stops nothing: a token that is away is nobody's second key.
    async fn check_alone(&self, record: &Record) -> Result<(), KeyError> {
        let work = Work::Alone {
            key: record.object().clone(),
            public_key: *record.public_key(),
        };
        match self.desk.ask(record.id(), work, None).await {
            Ok(Done::Alone) => Ok(()),
            Ok(done) => Err(self.unexpected(&done)),
            Err(error @ KeyError::Token(TokenProblem::KeyTwice { .. })) => Err(error),
            Err(error) => {
                tracing::warn!(key = %record.id(), %error, "whether the token holds the key under another name, too, could not be found out");
                Ok(())
            }
        }
    }

    /// The process id of the worker, if one runs: for monitoring.
    pub fn worker_pid(&self) -> Option<u32> {
        self.desk.worker_pid()
    }

    async fn with_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || work(&folder)).await
    }

    async fn record(&self, id: &KeyId) -> Result<Record, KeyError> {
        let id = id.clone();
        self.with_folder(move |folder| Record::load(&folder.dir, &id))
            .await
    }

    /// Lowers the record of a made key and answers it.
    async fn lower(&self, id: &KeyId, state: KeyState) -> Result<Record, KeyError> {
        let id = id.clone();
        self.with_folder(move |folder| folder.lower(&id, state))
            .await
    }

    /// Tells the token to refuse the key, without letting it delay the answer.
    async fn forbid(&self, id: &KeyId, record: &Record) -> Result<(), String> {
        let (desk, id) = (Arc::clone(&self.desk), id.clone());
        let work = Work::Forbid(record.object().clone());
        // A task of its own: it goes on when nobody waits any more.
        let told = tokio::spawn(async move {
            let told = desk.ask(&id, work, None).await;
            if let Err(error) = &told {
                tracing::warn!(key = %id, %error, "the token was not told that the key is disabled");
            }
            told
        });
        match tokio::time::timeout(FORBID_PATIENCE, told).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("it has not answered yet".to_owned()),
        }
    }

    fn copies(&self) -> &'static str {
        if self.token.hardware {
            "the key cannot be read out of the token, but a backup of the token would hold it"
        } else {
            "the token's slot is not hardware: a copy of its files made before holds the key, and with the PIN it goes on signing"
        }
    }

    fn unexpected(&self, done: &Done) -> KeyError {
        KeyError::Unavailable {
            reason: format!(
                "the worker of token {:?} answered {done:?} to another question",
                self.token.label
            ),
        }
    }
}

#[async_trait]
impl KeyProvider for Pkcs11Provider {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let token = self.desk.token().unwrap_or_else(|| self.token.clone());
        Capabilities {
            can_disable: token.hardware,
            keeps_audit: false,
            attests_origin: false,
        }
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        key.fits(NAME, &[Algorithm::Ed25519])?;
        let (id, purpose) = (&key.id, key.purpose);
        let token = self.desk.token().unwrap_or_else(|| self.token.clone());
        let key = id.clone();
        let (_creating, record) = self
            .with_folder(move |folder| folder.begin(&key, purpose, &token))
            .await?;
        let done = self
            .desk
            .ask(id, Work::Make(record.object().clone()), None)
            .await?;
        let Done::Made { public_key, claims } = done else {
            return Err(self.unexpected(&done));
        };
        let record = record.made(public_key, &claims)?;
        self.check_alone(&record).await?;
        self.with_folder(move |folder| {
            let _lock = folder.lock()?;
            record.replace(&folder.dir)
        })
        .await?;
        let info = self.vouch(id).await?.info(NAME)?;
        tracing::info!(key = %id, %purpose, token = self.token.label, "key created in the token");
        Ok(info)
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.record(id).await?.info(NAME)
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.with_folder(Folder::list).await
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        // Refused uses leave no audit line: the audit lists what may have been signed.
        let record = self.record(id).await?;
        record.usable_for(purpose)?;
        if message.len() > MAX_MESSAGE {
            return Err(KeyError::Refused {
                id: id.clone(),
                reason: format!(
                    "the message has {} bytes, and a token signs at most {MAX_MESSAGE}",
                    message.len()
                ),
            });
        }
        let work = Work::Sign {
            key: record.object().clone(),
            message: message.to_vec(),
        };
        let before = self.folder.recorder(id, purpose, message);
        let done = self.desk.ask(id, work, Some(before)).await?;
        let Done::Signed { signature } = done else {
            return Err(self.unexpected(&done));
        };
        // A failing HSM can answer anything; only a signature of this key over this message leaves here.
        UnparsedPublicKey::new(&ED25519, record.public_key())
            .verify(message, &signature)
            .map_err(|_| KeyError::Corrupt {
                what: format!("the answer of the token {:?}", self.token.label),
                reason: format!("its signature with key {id} does not verify"),
            })?;
        Ok(Signature::Ed25519(signature))
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        // Durable before the token is asked: from here on this provider refuses the key, whatever the token does.
        let record = self.lower(id, KeyState::Disabled).await?;
        if record.state() == Some(KeyState::Destroyed) {
            return self.destroy(id).await;
        }
        let token = &self.token.label;
        let reason = match self.forbid(id, &record).await {
            Ok(()) => format!(
                "this provider refuses the key, and the token {token:?} itself does (CKA_SIGN is off) until somebody with a PIN switches it on again; {}",
                self.copies()
            ),
            Err(problem) => format!(
                "this provider refuses the key, and nobody else signs with it who has not both token and PIN; the token {token:?} was not told ({problem}); {}",
                self.copies()
            ),
        };
        Ok(DisableOutcome::LocalOnly { reason })
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let record = self.lower(id, KeyState::Disabled).await?;
        if record.state() != Some(KeyState::Destroyed) {
            let done = self
                .desk
                .ask(id, Work::Destroy(record.object().clone()), None)
                .await?;
            if done != Done::Destroyed {
                return Err(self.unexpected(&done));
            }
            self.lower(id, KeyState::Destroyed).await?;
        }
        Ok(DisableOutcome::LocalOnly {
            reason: format!(
                "the key is gone from the token {:?}; {}",
                self.token.label,
                self.copies()
            ),
        })
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let record = self.record(id).await?;
        if record.state() == Some(KeyState::Destroyed) {
            return Err(is_destroyed(id));
        }
        // The token first: while it refuses, this provider goes on refusing, too.
        let done = self
            .desk
            .ask(id, Work::Permit(record.object().clone()), None)
            .await?;
        if done != Done::Permitted {
            return Err(self.unexpected(&done));
        }
        let key = id.clone();
        self.with_folder(move |folder| folder.restore(&key))
            .await?
            .info(NAME)
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        self.with_folder(move |folder| folder.audit.read_after(cursor, limit))
            .await
    }

    /// Whether the token is there and logged in to.
    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        known(NAME, provider)?;
        let about = KeyId::new("none").map_err(|error| KeyError::Unavailable {
            reason: error.to_string(),
        })?;
        match self.desk.ask(&about, Work::Look, None).await {
            Ok(Done::Seen) => Ok(()),
            Ok(done) => Err(self.unexpected(&done)),
            Err(KeyError::Timeout { deadline_ms, .. }) => Err(KeyError::Unavailable {
                reason: format!(
                    "the token {:?} did not show itself within {deadline_ms} ms",
                    self.token.label
                ),
            }),
            Err(error) => Err(error),
        }
    }
}

/// Opens the provider again and again, and a refused PIN only after its file has changed: a token counts the tries.
pub struct Pkcs11Opener {
    config: Pkcs11Config,
    refused: Mutex<Option<(Option<PinFile>, KeyError)>>,
}

impl Pkcs11Opener {
    /// Opens nothing yet.
    pub fn new(config: Pkcs11Config) -> Self {
        Self {
            config,
            refused: Mutex::default(),
        }
    }
}

#[async_trait]
impl Opener for Pkcs11Opener {
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        let pin = PinFile::look(&self.config);
        let known = {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.clone()
        };
        if let Some((_, error)) = known.filter(|(with, _)| *with == pin) {
            return Err(error);
        }
        let opened = Pkcs11Provider::open(self.config.clone()).await;
        if let Err(error @ KeyError::Token(problem)) = &opened
            && problem.is_about_pin()
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some((pin, error.clone()));
        }
        let provider: Arc<dyn KeyProvider> = Arc::new(opened?);
        Ok(provider)
    }
}

fn may_pass(error: &KeyError) -> bool {
    matches!(error, KeyError::Unavailable { .. })
        || matches!(error, KeyError::Token(problem) if problem.may_pass())
}
