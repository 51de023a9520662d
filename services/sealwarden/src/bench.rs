//! `bench`: how fast the product is, beside the limit of this machine and a plain baseline, both measured in the same run.
//!
//! Everything runs in this process, in a folder that is removed afterwards; nothing of an installation is touched.

mod bulk;
mod contain;
mod detect;
mod figures;
mod large;
mod limits;
mod load;
mod log;
mod refold;
mod runbook;
mod steps;
mod sweep;
mod transit;
mod unary;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use crate::cli::Cli;
use crate::commands::Answer;
use crate::failure::{Ending, Failure};
use crate::output;
use figures::Measured;

/// The words behind `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: What,
    /// Seconds for each measurement; limits and baselines take as long each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Folder on the disk to measure (default: the system's folder for temporary files)
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// `log`: how many leaves the log is grown to for its memory, disk and start-up; 10 million take 1.6 GB for a while
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) entries: u64,
    /// `runbook`: how many runs are open at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) runs: u32,
    /// `transit`: the OpenBao server, https://host:port; a mount is made there and removed again
    #[arg(long, value_name = "URL")]
    pub(crate) bao: Option<String>,
    /// `transit`: authorities that vouch for the server, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) bao_ca: Option<PathBuf>,
    /// `transit`: file of mode 0600 with a token that may make and remove mounts
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Measure a debug build, whose figures mean nothing
    #[arg(long)]
    pub(crate) allow_debug: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Sealing over gRPC with mutual TLS, one document a call, 256 callers
    SealUnary,
    /// Sealing over gRPC with mutual TLS in streams of chunks, every seal written out
    SealBulk,
    /// Verdicts over seals of a tree of 16 million leaves, checkpoint cached
    Verify,
    /// Revalidating an archive's documents and seals, against bare SHA-256 of the same files
    Sweep,
    /// Steps of runbooks, durable in the embedded event log
    Steps,
    /// Many open runs, a run of as many steps as a runbook may have, approvals without a pause
    Runbook,
    /// Folding an installation from its events, from memory and from the embedded event log
    Refold,
    /// Batches into a seal log's files, without network and event log
    Log,
    /// From the last approval to proven fencing of three nodes
    Contain,
    /// Events evaluated by the shipped detectors, and from an appended event to the open incident
    Detect,
    /// Sealing with a key in OpenBao beside OpenBao signing each digest itself, the same callers (see --bao)
    Transit,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::SealUnary => "seal-unary",
            Self::SealBulk => "seal-bulk",
            Self::Verify => "verify",
            Self::Sweep => "sweep",
            Self::Steps => "steps",
            Self::Runbook => "runbook",
            Self::Refold => "refold",
            Self::Log => "log",
            Self::Contain => "contain",
            Self::Detect => "detect",
            Self::Transit => "transit",
        }
    }
}

/// What a measurement works with.
pub(crate) struct Setting {
    /// How long each loop runs.
    pub(crate) span: Duration,
    /// An empty folder on the disk that is measured.
    pub(crate) folder: PathBuf,
    /// To how many leaves a log is grown.
    pub(crate) entries: u64,
    /// How many runs are open at once.
    pub(crate) runs: usize,
    bar: ProgressBar,
}

impl Setting {
    /// Tells a person what is being measured now.
    pub(crate) fn stage(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

pub(crate) async fn run(cli: &Cli, args: &Bench) -> Answer {
    if cfg!(debug_assertions) && !args.allow_debug {
        return Err(Failure::refused(
            "this is a debug build, whose figures mean nothing; build with `cargo build --release`, or give --allow-debug",
        ));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix("sealwarden-bench-");
    let folder = match &args.dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .map_err(|e| Failure::usage(format!("cannot make a folder to work in: {e}; see --dir")))?;
    let bar = if output::watched() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let setting = Setting {
        span: Duration::from_secs(args.seconds),
        folder: folder.path().to_owned(),
        entries: args.entries,
        runs: usize::try_from(args.runs).map_err(anyhow::Error::from)?,
        bar: bar.clone(),
    };
    let server = transit::Server::of(args)?;
    let measured = measure(args.what, setting, server).await?;
    bar.finish_and_clear();
    measured.tell(args.what.name(), cli.json);
    Ok(Ending::Good)
}

async fn measure(
    what: What,
    setting: Setting,
    server: Option<transit::Server>,
) -> Result<Measured, Failure> {
    let measured = match what {
        What::SealUnary => unary::measure(&setting).await?,
        What::SealBulk => bulk::measure(&setting).await?,
        What::Steps => steps::measure(&setting).await?,
        What::Runbook => runbook::measure(&setting).await?,
        What::Refold => refold::measure(&setting).await?,
        What::Contain => contain::measure(&setting).await?,
        What::Detect => detect::measure(&setting).await?,
        What::Transit => {
            let server = server.ok_or_else(transit::Server::missing)?;
            transit::measure(&setting, &server).await?
        }
        What::Verify => tokio::task::spawn_blocking(move || verify::measure(&setting))
            .await
            .map_err(anyhow::Error::from)??,
        What::Sweep => tokio::task::spawn_blocking(move || sweep::measure(&setting))
            .await
            .map_err(anyhow::Error::from)??,
        What::Log => tokio::task::spawn_blocking(move || log::measure(&setting))
            .await
            .map_err(anyhow::Error::from)??,
    };
    Ok(measured)
}
