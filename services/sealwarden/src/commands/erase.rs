//! `erase …`: taking private records out of the log, and keeping them: legal holds.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sealwarden_wire::seal::v1::{
    ErasureEntry, ErasurePlan, ErasureRequest, HoldEntry, ListErasuresRequest, ListHoldsRequest,
    PlaceRange, ReleaseHoldRequest, SetHoldRequest,
};
use serde_json::{Value, json};

use super::{Answer, client, time_argument};
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output;

/// What an erasure cannot reach: whoever asked for it has to see to these.
const NOT_REACHED: [&str; 4] = [
    "documents and seals in archives, and their versions in backups",
    "seals and documents that callers hold, and what was exported",
    "mirrors of the log (they hold no records, only salted hashes)",
    "backups of this node's data",
];
/// Ranges that are shown.
const SHOWN: usize = 10;

/// `erase`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Erase {
    #[command(subcommand)]
    what: Option<What>,
    /// Whose records
    #[arg(long, value_name = "TENANT", required = true)]
    tenant: Option<String>,
    /// Those with this subject
    #[arg(long)]
    subject: Option<String>,
    /// Those of the document with this SHA-256 (64 hexadecimal digits)
    #[arg(long, value_name = "SHA256", conflicts_with = "file")]
    digest: Option<String>,
    /// Those of this document
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Those sealed before this time (RFC 3339, or a day such as 2020-01-01, UTC)
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// All records of the tenant
    #[arg(long, conflicts_with_all = ["subject", "digest", "file", "before"])]
    all: bool,
    /// Why, in one line; it is kept for ever, so do not name what is to be forgotten
    #[arg(long, value_name = "TEXT", required = true)]
    reason: Option<String>,
    /// Erase; without it, what would be erased is shown and nothing is changed
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Keep all records of a tenant, or of one of its subjects, until the hold is released
    Hold {
        /// Whose records
        #[arg(long)]
        tenant: String,
        /// Only those with this subject; it does not stand in the event
        #[arg(long)]
        subject: Option<String>,
        /// Why, in one line, such as a case number
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a hold
    Release {
        /// The hold, as `erase holds` lists it
        hold: String,
        /// Why, in one line
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Everything that keeps records now: holds, settings, open incidents
    Holds,
    /// Everything that was ever erased: when, by whom, why and where
    List,
}

pub(crate) async fn run(cli: &Cli, args: &Erase) -> Answer {
    match &args.what {
        None => erase(cli, args).await,
        Some(What::Hold {
            tenant,
            subject,
            reason,
        }) => {
            let request = SetHoldRequest {
                log: String::new(),
                tenant: tenant.clone(),
                subject: subject.clone().unwrap_or_default(),
                reason: reason.clone(),
            };
            let mut erasure = client(cli)?.erasure().await?;
            let hold = erasure.set_hold(request).await?.into_inner();
            tell_hold(cli, &hold, "holds");
            Ok(Ending::Good)
        }
        Some(What::Release { hold, reason }) => {
            let request = ReleaseHoldRequest {
                log: String::new(),
                hold: hold.clone(),
                reason: reason.clone(),
            };
            let mut erasure = client(cli)?.erasure().await?;
            let hold = erasure.release_hold(request).await?.into_inner();
            tell_hold(cli, &hold, "is released and held");
            Ok(Ending::Good)
        }
        Some(What::Holds) => holds(cli).await,
        Some(What::List) => list(cli).await,
    }
}

async fn erase(cli: &Cli, args: &Erase) -> Answer {
    let mut request = request(args)?;
    let mut erasure = client(cli)?.erasure().await?;
    let plan = erasure.plan_erasure(request.clone()).await?.into_inner();
    if !args.yes || plan.leaves + plan.waiting == 0 || !plan.holds.is_empty() {
        tell_plan(cli, &plan, args.yes);
        return if args.yes && !plan.holds.is_empty() {
            Err(Failure::refused("a hold stands against it").seen())
        } else if plan.holds.is_empty() {
            Ok(Ending::Good)
        } else {
            Ok(Ending::Negative)
        };
    }
    request.expected = plan.leaves;
    let done = erasure.erase(request).await?.into_inner();
    tell_plan(cli, &done, true);
    Ok(Ending::Good)
}

fn request(args: &Erase) -> Result<ErasureRequest, Failure> {
    let digest = match (&args.digest, &args.file) {
        (Some(text), _) => from_hex(text).ok_or_else(|| {
            Failure::usage(format!(
                "--digest {text:?} is no SHA-256: write its 64 hexadecimal digits"
            ))
        })?,
        (None, Some(file)) => super::verify::digest_of(file)?.to_vec(),
        (None, None) => Vec::new(),
    };
    let before_ms = match &args.before {
        Some(text) if text.len() == "2020-01-01".len() => {
            time_argument("before", &format!("{text}T00:00:00Z"))?
        }
        Some(text) => time_argument("before", text)?,
        None => 0,
    };
    Ok(ErasureRequest {
        log: String::new(),
        tenant: args.tenant.clone().unwrap_or_default(),
        subject: args.subject.clone().unwrap_or_default(),
        digest: digest.into(),
        before_ms,
        all: args.all,
        reason: args.reason.clone().unwrap_or_default(),
        expected: 0,
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let pairs = (0..32).map(|at| text.get(2 * at..2 * at + 2));
    pairs
        .map(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}

fn place_json(place: &PlaceRange) -> Value {
    json!({ "origin": place.origin, "first": place.first, "count": place.count })
}

fn hold_json(hold: &HoldEntry) -> Value {
    json!({
        "hold": hold.hold, "tenant": hold.tenant, "scope": hold.scope, "reason": hold.reason, "by": hold.by, "since_ms": hold.since_ms, "leaves": hold.leaves,
    })
}

fn tell_plan(cli: &Cli, plan: &ErasurePlan, really: bool) {
    let erased = !plan.erasures.is_empty() || !plan.withdrawals.is_empty();
    if cli.json {
        output::json(&json!({
            "erased": erased, "leaves": plan.leaves, "ranges": plan.ranges, "places": plan.places.iter().map(place_json).collect::<Vec<_>>(),
            "holds": plan.holds.iter().map(hold_json).collect::<Vec<_>>(), "waiting": plan.waiting, "unreadable": plan.unreadable,
            "erasures": plan.erasures, "withdrawals": plan.withdrawals, "being_sealed": plan.being_sealed, "evidence": plan.evidence,
            "not_reached": NOT_REACHED,
        }));
        return;
    }
    let verb = match (erased, plan.holds.is_empty()) {
        (true, _) => "erased",
        (false, true) => "would be erased",
        (false, false) => "are meant, and nothing is erased",
    };
    output::line(&format!(
        "{} records {verb}, in {} places",
        plan.leaves, plan.ranges
    ));
    for place in plan.places.iter().take(SHOWN) {
        output::line(&format!("  {}", place_words(place)));
    }
    let shown = u64::try_from(SHOWN).unwrap_or(u64::MAX);
    if plan.ranges > shown {
        let more = plan.ranges.saturating_sub(shown);
        output::line(&format!("  … and {more} more (--json lists up to 1000)"));
    }
    for hold in &plan.holds {
        output::line(&format!(
            "held by {} ({}, {}): {} of them",
            hold.hold, hold.reason, hold.by, hold.leaves
        ));
    }
    if plan.waiting > 0 {
        output::line(&format!(
            "{} requests wait to be sealed in the durable queue: {}",
            plan.waiting,
            match (erased, plan.holds.is_empty()) {
                (true, _) => "withdrawn",
                (false, true) => "would be withdrawn",
                (false, false) => "they are meant, too, and stay",
            }
        ));
    }
    if plan.being_sealed > 0 {
        output::line(&format!(
            "{} more are in a batch that is being sealed and were left alone: ask again when it is",
            plan.being_sealed
        ));
    }
    if plan.unreadable > 0 {
        output::line(&format!(
            "{} records are damaged, so nobody can say whether they are meant: see `sealwarden log check`",
            plan.unreadable
        ));
    }
    if !plan.evidence.is_empty() {
        output::line(&format!(
            "evidence about these logs stays (public files and events, no records): {}",
            plan.evidence.join(", ")
        ));
    }
    if erased {
        let recorded: Vec<_> = plan
            .erasures
            .iter()
            .chain(&plan.withdrawals)
            .cloned()
            .collect();
        output::line(&format!("recorded as {}", recorded.join(", ")));
    }
    let meant = plan.leaves + plan.waiting;
    if meant > 0 && plan.holds.is_empty() {
        output::line(&format!("not reached: {}", NOT_REACHED.join("; ")));
    }
    if !really && meant > 0 && plan.holds.is_empty() {
        output::line("nothing was changed; add --yes to erase them for good");
    }
}

fn place_words(place: &PlaceRange) -> String {
    let last = place.first.saturating_add(place.count).saturating_sub(1);
    if place.count == 1 {
        format!("{} leaf {}", place.origin, place.first)
    } else {
        format!("{} leaves {} to {last}", place.origin, place.first)
    }
}

fn tell_hold(cli: &Cli, hold: &HoldEntry, verb: &str) {
    if cli.json {
        output::json(&hold_json(hold));
        return;
    }
    let what = if hold.scope == "subject" {
        "one subject"
    } else {
        "all records"
    };
    output::line(&format!(
        "{} {verb} {what} of tenant {} ({})",
        hold.hold, hold.tenant, hold.reason
    ));
}

async fn holds(cli: &Cli) -> Answer {
    let mut erasure = client(cli)?.erasure().await?;
    let request = ListHoldsRequest::default();
    let holds = erasure.list_holds(request).await?.into_inner().holds;
    if cli.json {
        let holds: Vec<_> = holds.iter().map(hold_json).collect();
        output::json(&json!({ "holds": holds }));
        return Ok(Ending::Good);
    }
    let head = ["HOLD", "TENANT", "SCOPE", "SINCE (UTC)", "BY", "REASON"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(holds.iter().map(|hold| {
        let tenant = if hold.tenant.is_empty() {
            "all"
        } else {
            &hold.tenant
        };
        vec![
            hold.hold.clone(),
            tenant.to_owned(),
            hold.scope.clone(),
            output::time(hold.since_ms),
            hold.by.clone(),
            hold.reason.clone(),
        ]
    }));
    output::table(&rows);
    Ok(Ending::Good)
}

async fn list(cli: &Cli) -> Answer {
    let erasures = all_erasures(cli).await?;
    if cli.json {
        let one = |it: &ErasureEntry| {
            json!({
                "erasure": it.erasure, "tenant": it.tenant, "criterion": it.criterion, "reason": it.reason, "by": it.by, "leaves": it.leaves,
                "places": it.places.iter().map(place_json).collect::<Vec<_>>(), "ordered_at_ms": it.ordered_at_ms,
                "finished_at_ms": Some(it.finished_at_ms).filter(|at| *at > 0),
            })
        };
        let erasures: Vec<_> = erasures.iter().map(one).collect();
        output::json(&json!({ "erasures": erasures }));
        return Ok(Ending::Good);
    }
    let head = [
        "ERASURE",
        "TENANT",
        "RECORDS",
        "WHICH",
        "ORDERED (UTC)",
        "DONE (UTC)",
        "BY",
        "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(erasures.iter().map(|it| {
        vec![
            it.erasure.clone(),
            it.tenant.clone(),
            it.leaves.to_string(),
            it.criterion.clone(),
            output::time(it.ordered_at_ms),
            output::time(it.finished_at_ms),
            it.by.clone(),
            it.reason.clone(),
        ]
    }));
    output::table(&rows);
    Ok(Ending::Good)
}

/// Everything that was ever erased, as the sealing service says.
pub(crate) async fn all_erasures(cli: &Cli) -> Result<Vec<ErasureEntry>, Failure> {
    let mut erasure = client(cli)?.erasure().await?;
    let request = ListErasuresRequest::default();
    let mut stream = erasure.list_erasures(request).await?.into_inner();
    let mut erasures = Vec::new();
    while let Some(entry) = stream.message().await? {
        erasures.push(entry);
    }
    Ok(erasures)
}
