//! Sealwarden: seals documents, watches its own seals, and runs the response when something goes wrong with them.
//!
//! This binary is a thin shell: [`cli`] parses, one file in `commands/` a command, [`host`] builds services, [`drill`] exercises them.

mod bench;
mod cli;
mod client;
mod commands;
mod drill;
mod failure;
mod host;
mod output;
mod trust_seen;

use std::process::ExitCode;

use clap::Parser as _;
use tracing::Instrument as _;

/// A call's buffers are made by one thread and freed by another, some dozens of times a seal: there the system's allocator
/// takes a sixth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse_from(cli::complete(std::env::args_os()));
    if matches!(cli.command, cli::Command::Pkcs11Worker) {
        // Nothing but the module and its pipe: standard output is that pipe.
        return match commands::pkcs11_worker() {
            Ok(verdict) => verdict.into(),
            Err(failure) => failure.report(false),
        };
    }
    sealwarden_pki::install_ring();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::from(anyhow::Error::from(error)).report(false),
    };
    let json = cli.json;
    let answer = runtime.block_on(async {
        // Those that host services start telemetry themselves, under the service's name.
        let telemetry = if cli.command.hosts_services() {
            None
        } else {
            Some(telemetry()?)
        };
        let span = tracing::info_span!("command", command = cli.command.name());
        let answer = commands::run(cli).instrument(span).await;
        drop(telemetry);
        answer
    });
    // A key call that hangs in a blocking thread must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match answer {
        Ok(verdict) => verdict.into(),
        Err(failure) => failure.report(json),
    }
}

/// Logs and traces of a short command: warnings on standard error, spans wherever `OTEL_…` says.
fn telemetry() -> Result<sealwarden_telemetry::Guard, failure::Failure> {
    let config = sealwarden_telemetry::TelemetryConfig {
        service: "sealwarden-cli".to_owned(),
        json_logs: false,
        log_filter: std::env::var("SEALWARDEN_LOG").unwrap_or_else(|_| "warn".to_owned()),
    };
    sealwarden_telemetry::init(&config).map_err(|e| failure::Failure::usage(e.to_string()))
}
