//! Settings of the transit provider.

use std::{path::PathBuf, time::Duration};

/// How long one request may take unless configured otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// Where the keys are and how to get at them.
#[derive(Clone, Debug)]
pub struct TransitConfig {
    /// The server: `https://host:port`. Proxy settings of the environment are not followed.
    pub url: String,
    /// The only certificate authorities (PEM) that may vouch for the server.
    pub ca_file: PathBuf,
    /// How to get a token.
    pub credentials: Credentials,
    /// The namespace of the credentials; the root namespace where empty. `sys/audit-hash` exists in the root namespace
    /// only, so with [`Self::audit`] it has to be empty.
    pub credentials_namespace: String,
    /// The namespace of the transit mount; the root namespace where empty.
    pub namespace: String,
    /// Where the transit engine is mounted, such as `transit`. Every key of the mount whose name begins with a purpose
    /// (`sealing-…`) counts as this installation's.
    pub mount: String,
    /// A private folder for what the server does not keep: pinned public keys, states, messages signed.
    pub state_dir: PathBuf,
    /// The server's file audit device, where this machine can read its file.
    pub audit: Option<AuditSource>,
    /// How long an operation may take.
    pub deadline: Duration,
}

/// How to get a token.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A file with a token, mode 0600. It is read again when the server no longer takes the token, so an agent may replace
    /// it at any time; a renewable token is renewed.
    TokenFile(PathBuf),
    /// A role of the `AppRole` method; a new token is fetched when the old one ends.
    AppRole {
        /// Where the method is mounted, such as `approle`.
        mount: String,
        /// The role's id.
        role_id: String,
        /// A file with the secret id, mode 0600.
        secret_id_file: PathBuf,
    },
}

/// A file audit device of the server.
#[derive(Clone, Debug)]
pub struct AuditSource {
    /// Its file. The cursor is a byte offset into it: it must grow only. A shortened or rotated file is reported as corrupt.
    pub file: PathBuf,
    /// The name of the device: what stands after `sys/audit-hash/`.
    pub device: String,
}
