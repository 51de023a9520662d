//! What can go wrong with certificates.

use std::path::PathBuf;

use sealwarden_keys::private_files::FileError;

/// Why an authority or identity could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written, or is open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// A caller's name outside the alphabet.
    #[error(
        "{0:?} is not a caller's name: use 1 to 64 of A-Z, a-z, 0-9, '.', '_', '@' and '-', beginning with a letter or digit"
    )]
    InvalidName(String),
    /// A word that names no role.
    #[error("{0:?} is not a role: use node, operator, sealer, verifier or detector")]
    InvalidRole(String),
    /// A host that is neither an IP address nor a DNS name.
    #[error("{0:?} is not a host: use an IP address or a DNS name, without a port")]
    InvalidHost(String),
    /// Only nodes serve.
    #[error(
        "a {role} certificate is for calling, and cannot serve at {hosts:?}: issue a node certificate"
    )]
    NotAServer {
        /// The role asked for.
        role: &'static str,
        /// The hosts asked for.
        hosts: Vec<String>,
    },
    /// The certificate's lifetime would be empty or reach beyond the authority's.
    #[error(
        "a lifetime of {seconds} s does not fit: use more than 0 and end before the authority does, at {authority_ends}"
    )]
    InvalidValidity {
        /// The lifetime asked for.
        seconds: u64,
        /// When the authority's own certificate ends.
        authority_ends: String,
    },
    /// The folder holds another installation's authority.
    #[error("{} is the authority of installation {found:?}, not of {wanted:?}: use that name, or another folder", dir.display())]
    OtherInstallation {
        /// The folder.
        dir: PathBuf,
        /// The installation it belongs to.
        found: String,
        /// The installation asked for.
        wanted: String,
    },
    /// A stored certificate or key is damaged, or the two do not belong together.
    #[error("{} is unusable: {reason}; restore it from a backup, or have it issued anew", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The certificate's time is over.
    #[error("the certificate {} ended at {ended}: have it issued anew", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it ended, RFC 3339.
        ended: String,
    },
    /// A certificate that is not one of ours.
    #[error("not a certificate of this product: {0}")]
    NotOurs(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// An address that is not one.
    #[error("{url:?} is not an address to connect to: use https://host:port ({reason})")]
    InvalidUrl {
        /// The address.
        url: String,
        /// What does not fit.
        reason: String,
    },
    /// The transport could not be set up, or the other side could not be reached.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// The address.
        url: String,
        /// Every cause, outermost first.
        reason: String,
    },
}
