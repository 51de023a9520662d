//! Flags that name the one provider of sealing keys; several are a section of the settings.

use std::path::PathBuf;

use clap::Args;

/// A PKCS#11 token for the sealing keys: all three or none.
#[derive(Clone, Debug, Args)]
pub(crate) struct Token {
    /// PKCS#11 module of an HSM: new sealing keys are made in its token, all other keys stay software keys
    #[arg(
        long = "pkcs11-module",
        value_name = "FILE",
        requires = "label",
        requires = "pin_file"
    )]
    pub(crate) module: Option<PathBuf>,
    /// Label of the token
    #[arg(long = "pkcs11-token", value_name = "LABEL", requires = "module")]
    pub(crate) label: Option<String>,
    /// File with the token's PIN, mode 0600
    #[arg(long = "pkcs11-pin-file", value_name = "FILE", requires = "module")]
    pub(crate) pin_file: Option<PathBuf>,
}

/// An OpenBao server for the sealing keys.
#[derive(Clone, Debug, Args)]
pub(crate) struct Transit {
    /// OpenBao server (https://host:port): new sealing keys are made in its transit engine, all other keys stay software keys
    #[arg(
        id = "transit_url",
        long = "transit-url",
        value_name = "URL",
        requires = "transit_ca",
        conflicts_with = "module"
    )]
    pub(crate) url: Option<String>,
    /// Certificate authorities (PEM) that vouch for the OpenBao server
    #[arg(
        id = "transit_ca",
        long = "transit-ca",
        value_name = "FILE",
        requires = "transit_url"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// File with a token for the OpenBao server, mode 0600; it may be replaced at any time
    #[arg(
        id = "transit_token_file",
        long = "transit-token-file",
        value_name = "FILE",
        requires = "transit_url"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Role id of an app role that logs in to the OpenBao server, instead of a token
    #[arg(
        id = "transit_role_id",
        long = "transit-role-id",
        value_name = "ID",
        requires = "transit_url",
        requires = "transit_secret_id_file",
        conflicts_with = "transit_token_file"
    )]
    pub(crate) role_id: Option<String>,
    /// File with the secret id of that app role, mode 0600; it may be replaced at any time
    #[arg(
        id = "transit_secret_id_file",
        long = "transit-secret-id-file",
        value_name = "FILE",
        requires = "transit_role_id"
    )]
    pub(crate) secret_id_file: Option<PathBuf>,
    /// Namespace of the transit engine on the OpenBao server (default: the root namespace)
    #[arg(
        id = "transit_namespace",
        long = "transit-namespace",
        value_name = "NAMESPACE",
        requires = "transit_url"
    )]
    pub(crate) namespace: Option<String>,
    /// Namespace that the token or the app role belongs to (default: the root namespace)
    #[arg(
        id = "transit_credentials_namespace",
        long = "transit-credentials-namespace",
        value_name = "NAMESPACE",
        requires = "transit_url"
    )]
    pub(crate) credentials_namespace: Option<String>,
    /// Where the transit engine is mounted
    #[arg(
        id = "transit_mount",
        long = "transit-mount",
        value_name = "PATH",
        default_value = "transit"
    )]
    pub(crate) mount: String,
    /// File of the OpenBao server's file audit device: every use of a sealing key in it is compared with the intents
    #[arg(
        id = "transit_audit",
        long = "transit-audit",
        value_name = "FILE",
        requires = "transit_url"
    )]
    pub(crate) audit: Option<PathBuf>,
    /// Name of that audit device
    #[arg(
        id = "transit_audit_device",
        long = "transit-audit-device",
        value_name = "NAME",
        default_value = "file"
    )]
    pub(crate) audit_device: String,
}
