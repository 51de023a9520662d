//! `vendors …`: whose services this installation rests on, how they do, and that what was sealed needs none of them.

use std::collections::BTreeMap;

use clap::Subcommand;
use sealwarden_runbook::{Vendor, Vendors as Registry, show_duration};
use sealwarden_seal::verdict;
use sealwarden_wire::event::v1::VendorProbed;
use sealwarden_wire::seal::v1::{ExportSealsRequest, StatusRequest};
use sealwarden_wire::verify::v1::{
    GetTrustRequest, ListVendorsRequest, ProbeVendorRequest, VendorStatus,
};
use serde_json::{Value, json};

use super::{Answer, client};
use crate::cli::Cli;
use crate::client::Client;
use crate::failure::{Ending, Failure};
use crate::host::{installation::Installation, plan};
use crate::{output, trust_seen};

/// Seals that `vendors check` verifies at most.
const MAX_SEALS: u64 = 10_000;

/// The words behind `vendors`.
#[derive(Debug, Subcommand)]
pub(crate) enum Vendors {
    /// All vendors of the plan, how they do, and who stands in for whom; exit 1 if one is not well
    List,
    /// One vendor: what it promised, how to reach it, how it does
    Show {
        /// Its name
        vendor: String,
    },
    /// Use a vendor once, now; exit 1 if it is not well
    Probe {
        /// Its name
        vendor: String,
    },
    /// Prove that what was sealed needs no vendor: verifies seals of the present origin offline, and looks whether somebody stands in for each vendor; exit 1 if not
    Check,
}

pub(crate) async fn run(cli: &Cli, what: &Vendors) -> Answer {
    match what {
        Vendors::List => list(cli).await,
        Vendors::Show { vendor } => show(cli, vendor).await,
        Vendors::Probe { vendor } => probe(cli, vendor).await,
        Vendors::Check => check(cli).await,
    }
}

/// The plan's vendors; the plan of the installation has them in `vendors.yaml`.
fn registry(cli: &Cli) -> Result<Option<Registry>, Failure> {
    let folder = Installation::open(&cli.data)
        .map(|it| it.data.join("plan"))
        .map_err(|e| Failure::usage(format!("{e:#}")))?;
    let set = plan::load(&folder).map_err(|e| Failure::usage(format!("{e:#}")))?;
    Ok(set.vendors().cloned())
}

async fn statuses(client: &Client) -> Result<BTreeMap<String, VendorStatus>, Failure> {
    let mut vendors = client.vendors().await?;
    let answer = vendors.list_vendors(ListVendorsRequest {}).await?;
    let all = answer.into_inner().vendors.into_iter();
    Ok(all.map(|it| (it.vendor.clone(), it)).collect())
}

async fn list(cli: &Cli) -> Answer {
    let registry = registry(cli)?;
    let statuses = statuses(&client(cli)?).await?;
    let planned = registry.iter().flat_map(|it| it.all().values());
    let planned: BTreeMap<&str, &Vendor> = planned.map(|it| (it.name.as_str(), it)).collect();
    let mut names: Vec<&str> = planned.keys().copied().collect();
    names.extend(statuses.keys().map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let good = statuses.values().all(is_well);
    if cli.json {
        let all = names
            .iter()
            .map(|name| document(name, planned.get(name).copied(), statuses.get(*name)));
        output::json(&json!({ "good": good, "vendors": all.collect::<Vec<_>>() }));
        return Ok(ending(good));
    }
    if names.is_empty() {
        output::line("the plan names no vendor; add vendors.yaml to it");
    }
    let mut rows = vec![
        ["VENDOR", "PROVIDES", "STATE", "STANDS IN", "LAST DRILL"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for name in names {
        let vendor = planned.get(name);
        let drill = vendor
            .and_then(|it| it.last_drill)
            .map(|day| day.to_string());
        rows.push(vec![
            name.to_owned(),
            vendor.map_or_else(
                || "(not in vendors.yaml)".to_owned(),
                |it| it.provides.clone(),
            ),
            statuses
                .get(name)
                .map_or_else(|| "not probed".to_owned(), state),
            stands_in(vendor.copied(), statuses.get(name)),
            drill.unwrap_or_else(|| "never".to_owned()),
        ]);
    }
    output::table(&rows);
    Ok(ending(good))
}

fn ending(good: bool) -> Ending {
    if good { Ending::Good } else { Ending::Negative }
}

fn is_well(status: &VendorStatus) -> bool {
    status.last.as_ref().is_none_or(|it| it.well)
}

fn state(status: &VendorStatus) -> String {
    match &status.last {
        None => "not probed yet".to_owned(),
        Some(last) if last.well => format!("well ({} ms)", last.took_ms),
        Some(last) => format!("NOT WELL since {} (UTC)", output::time(last.since_ms)),
    }
}

fn stands_in(vendor: Option<&Vendor>, status: Option<&VendorStatus>) -> String {
    if let Some(now) = status.filter(|it| !it.aside_for.is_empty()) {
        return format!("{} NOW", now.aside_for);
    }
    let fallback = vendor.and_then(|it| it.fallback.clone());
    fallback.unwrap_or_else(|| "nobody".to_owned())
}

async fn show(cli: &Cli, name: &str) -> Answer {
    let registry = registry(cli)?;
    let status = statuses(&client(cli)?).await?.remove(name);
    let vendor = registry.as_ref().and_then(|it| it.get(name));
    if vendor.is_none() && status.is_none() {
        return Err(Failure::usage(format!(
            "there is no vendor {name:?}; `sealwarden vendors list` shows them"
        )));
    }
    let good = status.as_ref().is_none_or(is_well);
    if cli.json {
        output::json(&document(name, vendor, status.as_ref()));
        return Ok(ending(good));
    }
    output::line(name);
    match vendor {
        Some(it) => {
            output::line(&format!("  for:           {} ({})", it.title, it.provides));
            output::line(&format!(
                "  promised:      {}, restored within {} ({})",
                it.sla.availability,
                show_duration(it.sla.restored_within),
                it.sla.source
            ));
            output::line(&format!(
                "  changes:       said {} before",
                show_duration(it.change_notice)
            ));
            output::line(&format!("  contacts:      {}", it.contacts.join(", ")));
        }
        None => output::line("  it is probed, and is not in vendors.yaml"),
    }
    output::line(&format!(
        "  stands in:     {}",
        stands_in(vendor, status.as_ref())
    ));
    match &status {
        Some(status) => {
            output::line(&format!(
                "  probed:        {}, every {} s",
                status.probe, status.every_s
            ));
            output::line(&format!("  state:         {}", state(status)));
            if let Some(last) = &status.last {
                output::line(&format!("  it said:       {}", last.reason));
            }
        }
        None => {
            output::line("  probed:        no; name it in settings.yaml (verification: vendors)");
        }
    }
    Ok(ending(good))
}

fn document(name: &str, vendor: Option<&Vendor>, status: Option<&VendorStatus>) -> Value {
    json!({
        "vendor": name,
        "title": vendor.map(|it| &it.title), "provides": vendor.map(|it| &it.provides), "fallback": vendor.and_then(|it| it.fallback.as_ref()),
        "contacts": vendor.map(|it| &it.contacts), "change_notice": vendor.map(|it| show_duration(it.change_notice)),
        "sla": vendor.map(|it| json!({ "availability": it.sla.availability, "restored_within": show_duration(it.sla.restored_within), "source": it.sla.source })),
        "last_drill": vendor.and_then(|it| it.last_drill).map(|day| day.to_string()),
        "probe": status.map(|it| &it.probe), "last": status.and_then(|it| it.last.as_ref()).map(probed),
        "aside_for": status.map(|it| &it.aside_for).filter(|it| !it.is_empty()),
        "aside_since_ms": status.map(|it| it.aside_since_ms).filter(|it| *it > 0),
    })
}

fn probed(it: &VendorProbed) -> Value {
    json!({
        "well": it.well, "reason": it.reason, "took_ms": it.took_ms, "probes": it.probes, "since_ms": it.since_ms, "at_ms": it.at_ms, "by": it.by,
    })
}

async fn probe(cli: &Cli, name: &str) -> Answer {
    let mut vendors = client(cli)?.vendors().await?;
    let request = ProbeVendorRequest {
        vendor: name.to_owned(),
    };
    let answer = vendors.probe_vendor(request).await?.into_inner().probed;
    let it = answer.ok_or_else(|| Failure::unavailable("the service answered without a probe"))?;
    if cli.json {
        output::json(&probed(&it));
    } else {
        let word = if it.well { "well" } else { "NOT WELL" };
        output::line(&format!(
            "{name}: {word} ({} ms): {}",
            it.took_ms, it.reason
        ));
    }
    Ok(ending(it.well))
}

/// Verifies what the sealing service exports with nothing but the trust bundle, and looks who stands in.
async fn check(cli: &Cli) -> Answer {
    let client = client(cli)?;
    let mut verification = client.verification().await?;
    let trust = verification
        .get_trust(GetTrustRequest {})
        .await?
        .into_inner();
    let bundle = trust_seen::open(&trust.bundle, &cli.data, None)?;
    let mut sealing = client.sealing().await?;
    let origin = sealing.status(StatusRequest {}).await?.into_inner().origin;
    let request = ExportSealsRequest {
        origin: origin.clone(),
    };
    let mut seals = sealing.export_seals(request).await?.into_inner();
    let (mut checked, mut first) = (0_u64, None);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut verifier = verdict::Verifier::new(&bundle, 1024);
    while let Some(seal) = seals.message().await? {
        let verification = verifier.verify(&seal.seal, None, now_ms);
        checked += 1;
        if !verification.verdict.is_valid() && first.is_none() {
            first = Some(format!("index {}: {}", seal.index, verification.reason));
        }
        if checked >= MAX_SEALS {
            break;
        }
    }
    let alone: Vec<String> = registry(cli)?
        .iter()
        .flat_map(|it| it.all().values())
        .filter(|it| it.fallback.is_none())
        .map(|it| it.name.clone())
        .collect();
    let good = first.is_none() && alone.is_empty();
    if cli.json {
        output::json(&json!({
            "good": good, "origin": origin, "trust_version": trust.version, "seals": checked, "first_problem": first, "without_fallback": alone,
        }));
        return Ok(ending(good));
    }
    match &first {
        None => output::line(&format!(
            "{checked} seals of {origin} verify offline under trust bundle version {}: no vendor was asked",
            trust.version
        )),
        Some(first) => output::line(&format!(
            "of {checked} seals of {origin} not all verify offline: {first}"
        )),
    }
    if alone.is_empty() {
        output::line("somebody stands in for each vendor of the plan");
    } else {
        output::line(&format!("nobody stands in for: {}", alone.join(", ")));
    }
    Ok(ending(good))
}
