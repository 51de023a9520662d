//! The commands, one file each. Each answers how it ended or why it could not work.

mod anchors;
pub(crate) mod approve;
pub(crate) mod archive;
mod backtest;
pub(crate) mod certificate;
pub(crate) mod detectors;
pub(crate) mod erase;
pub(crate) mod evidence;
pub(crate) mod export;
pub(crate) mod incident;
pub(crate) mod items;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod notice;
pub(crate) mod plan;
pub(crate) mod postmortem;
pub(crate) mod report;
pub(crate) mod roster;
pub(crate) mod run;
pub(crate) mod runbook;
pub(crate) mod seal;
mod seal_many;
mod sign_notice;
pub(crate) mod signal;
mod status;
mod ticket;
mod trust;
pub(crate) mod tsa;
mod up;
pub(crate) mod vendors;
pub(crate) mod verifier;
pub(crate) mod verify;
mod verify_many;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::failure::{Ending, Failure};

/// What a command answers.
pub(crate) type Answer = Result<Ending, Failure>;

/// Runs the command of this call.
pub(crate) async fn run(cli: Cli) -> Answer {
    match &cli.command {
        Command::Pkcs11Worker => pkcs11_worker(),
        Command::DrillTsa(args) => tsa::run(args).await,
        Command::Up(args) => up::up(&cli, args).await,
        Command::Serve(args) => up::serve(&cli, args).await,
        Command::Seal(args) => seal::run(&cli, args).await,
        Command::Verify(args) => verify::run(&cli, args).await,
        Command::Export(args) => export::export(&cli, args),
        Command::Anchor(args) => export::anchor(&cli, args).await,
        Command::Trust(what) => trust::run(&cli, what).await,
        Command::Log(what) => log::run(&cli, what).await,
        Command::Archive(what) => archive::run(&cli, what).await,
        Command::Vendors(what) => vendors::run(&cli, what).await,
        Command::Verifier(what) => verifier::run(&cli, what).await,
        Command::Keys(what) => keys::run(&cli, what).await,
        Command::Erase(args) => erase::run(&cli, args).await,
        Command::Signal(args) => signal::run(&cli, args).await,
        Command::Detectors(what) => detectors::run(&cli, what).await,
        Command::Incident(what) => incident::run(&cli, what).await,
        Command::Notice(what) => notice::run(&cli, what).await,
        Command::Postmortem(what) => postmortem::run(&cli, what).await,
        Command::Items(what) => items::run(&cli, what).await,
        Command::Report(args) => report::run(&cli, args).await,
        Command::Roster(what) => roster::run(&cli, what).await,
        Command::Run(what) => run::run(&cli, what).await,
        Command::Approve(args) => approve::run(&cli, args).await,
        Command::Plan(what) => plan::run(&cli, what).await,
        Command::Runbook(what) => runbook::run(&cli, what),
        Command::Drill(args) => crate::drill::run(&cli, args).await,
        Command::Evidence(what) => evidence::run(&cli, what).await,
        Command::Certificate(what) => certificate::run(&cli, what),
        Command::Status => status::run(&cli).await,
        Command::Bench(args) => crate::bench::run(&cli, args).await,
    }
}

/// The worker has neither runtime nor telemetry, so `main` runs it before there are any.
pub(crate) fn pkcs11_worker() -> Answer {
    sealwarden_keys::pkcs11::run_worker()
        .map(|()| Ending::Good)
        .map_err(|error| Failure::unavailable(format!("the PKCS#11 worker: {error}")))
}

/// A client for this call.
fn client(cli: &Cli) -> Result<Client, Failure> {
    Client::new(cli)
}

/// Reads an RFC 3339 time of the command line, Unix milliseconds.
fn time_argument(name: &str, text: &str) -> Result<i64, Failure> {
    text.parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|e| {
            Failure::usage(format!(
                "--{name} {text:?} is not a time such as 2026-11-23T04:05:06Z: {e}"
            ))
        })
}
