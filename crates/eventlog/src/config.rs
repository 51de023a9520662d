//! Which log to open, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::memory::Memory;
use crate::port::EventLog;

/// Whether a log tells of the real world or of an exercise. A JetStream log carries it in its
/// metadata, and nobody opens one as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// The real world.
    Production,
    /// An exercise.
    Drill,
}

impl Environment {
    /// The word in the stream's metadata: `production` or `drill`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Drill => "drill",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How to prove to a NATS server who we are, and whom to take for it.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The name we connect by.
    pub auth: Auth,
    /// Certificates; `None`: plain TCP unless the URL says `tls://`.
    pub tls: Option<TlsFiles>,
}

/// The ways NATS knows to authenticate a client.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nothing beyond the certificate, if any.
    #[default]
    None,
    /// A `.creds` file (user JWT and seed).
    CredentialsFile(PathBuf),
    /// A user and a password.
    User {
        /// The user's name.
        user: String,
        /// The user's password.
        password: String,
    },
    /// The seed of a user nkey (`SU…`).
    NkeySeed(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets are never shown.
        match self {
            Self::None => formatter.write_str("None"),
            Self::CredentialsFile(path) => write!(formatter, "CredentialsFile({})", path.display()),
            Self::User { user, .. } => write!(formatter, "User({user})"),
            Self::NkeySeed(_) => formatter.write_str("NkeySeed"),
        }
    }
}

/// PEM files for mutual TLS with a NATS server.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authorities that may certify the server.
    pub ca: PathBuf,
    /// Our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Which log to open.
#[derive(Clone, Debug)]
pub enum Config {
    /// A new, empty log in memory.
    Memory,
    /// The log in a folder of this machine; the folder is made where it is missing.
    Embedded {
        /// The folder, on a file system that honours `fdatasync`.
        dir: PathBuf,
    },
    /// The log on a NATS server with JetStream. The server's configuration must set
    /// `jetstream { sync_interval: always }`: else a power loss takes acknowledged commits, and a
    /// client has no way to see the setting.
    JetStream {
        /// `nats://host:port` or `tls://host:port`, several separated by commas. User and password
        /// may stand before the host (`tls://user:password@host:port`); `credentials` come first.
        url: String,
        /// How to authenticate; `None` for a server that asks for nothing.
        credentials: Option<Credentials>,
        /// The installation: 1 to 32 of `a-z`, `0-9` and `-`. First token of every subject.
        prefix: String,
        /// Refused where the log at this prefix was made for the other one.
        environment: Environment,
    },
}

/// Why a log could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder.
    #[error("another process holds the event log in {dir}: stop it, or choose another folder")]
    Locked {
        /// The folder.
        dir: String,
    },
    /// The store cannot be reached.
    #[error("the event log cannot be reached: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// What is stored contradicts itself, or is no event log of this version.
    #[error("the event log is damaged: {reason}; restore it from a copy")]
    Corrupt {
        /// What was found.
        reason: String,
    },
    /// The configuration cannot work.
    #[error("the event log's configuration cannot work: {reason}")]
    Invalid {
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The log belongs to the other environment, or a drill met a production log on its server.
    #[error("{found}; it cannot be opened as {wanted}: use another server, account or prefix")]
    WrongEnvironment {
        /// What is there.
        found: String,
        /// What was asked for.
        wanted: Environment,
    },
}

/// Opens a log. It is closed when the last reference is dropped.
pub async fn open(config: Config) -> Result<Arc<dyn EventLog>, OpenError> {
    Ok(match config {
        Config::Memory => Arc::new(Memory::new()),
        Config::Embedded { dir } => Arc::new(crate::Embedded::open(dir).await?),
        Config::JetStream {
            url,
            credentials,
            prefix,
            environment,
        } => Arc::new(
            crate::JetStream::open(&url, credentials.unwrap_or_default(), &prefix, environment)
                .await?,
        ),
    })
}
