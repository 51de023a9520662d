//! `certificate issue NAME --role ROLE`

use std::time::Duration;

use sealwarden_pki::{Authority, CallerName, CallerRole, IdentityFiles};
use serde_json::json;

use super::Answer;
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::host::installation::Installation;
use crate::output;

/// The words behind `certificate`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Certificate {
    /// Issue a client certificate from the local authority
    Issue {
        /// Name of the caller; for people their id in the roster
        name: String,
        /// What the caller may do
        #[arg(long, value_parser = ["operator", "sealer", "verifier", "detector"])]
        role: String,
        /// Days it is valid
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
}

pub(crate) fn run(cli: &Cli, what: &Certificate) -> Answer {
    match what {
        Certificate::Issue { name, role, days } => issue(cli, name, role, *days),
    }
}

fn issue(cli: &Cli, name: &str, role: &str, days: u32) -> Answer {
    let usage = |e: sealwarden_pki::PkiError| Failure::usage(e.to_string());
    let installation =
        Installation::open(&cli.data).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let name = CallerName::new(name).map_err(usage)?;
    let role: CallerRole = role.parse().map_err(usage)?;
    let authority = Authority::open_or_create(
        &installation.data.join("pki"),
        &installation.settings.installation,
    )
    .map_err(usage)?;
    let files = IdentityFiles::in_dir(&installation.data.join("certificates"), name.as_str());
    if files.cert.exists() {
        return Err(Failure::usage(format!(
            "{} exists; remove it to issue another",
            files.cert.display()
        )));
    }
    let validity = Duration::from_secs(u64::from(days) * 24 * 3600);
    let identity = authority.issue(&name, role, &[], validity).map_err(usage)?;
    files.store(&identity).map_err(usage)?;
    if cli.json {
        output::json(
            &json!({ "name": name.as_str(), "role": role.as_str(), "cert": files.cert, "key": files.key, "ca": files.ca }),
        );
    } else {
        output::line(&format!(
            "{} may act as {role} for {days} days: {}",
            name.as_str(),
            files.cert.display()
        ));
        output::line(&format!("use it here with --as {}", name.as_str()));
    }
    Ok(Ending::Good)
}
