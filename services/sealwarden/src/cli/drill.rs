//! Arguments of `drill`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// Which drill
    #[arg(value_enum)]
    pub(crate) name: DrillName,
    /// Let the services talk over this NATS server (it must not hold production streams)
    #[arg(long, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// Folder of files to seal (default: proto/ and runbooks/ of this repository, or the shipped plan)
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Keep the sandbox here instead of a temporary folder that is removed
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DrillName {
    /// Names the drills, what each injects, and what it needs
    List,
    /// A sealing key is stolen and used
    KeyCompromise,
    /// The provider of the sealing keys becomes slow, and then answers no more
    HsmLatency,
    /// A release of a verifier breaks verification
    BadRelease,
    /// The vendor that time-stamps the log goes away
    VendorOutage,
    /// A disk loses bytes of archived documents, and says nothing
    SilentCorruption,
}
