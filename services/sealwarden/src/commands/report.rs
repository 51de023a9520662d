//! `report`: how long incidents took, by class and month.

mod plot;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealwarden_domain::learning::{Case, ItemCount, Row, Share, Time, rows};
use sealwarden_wire::incident::v1 as wire;
use sealwarden_wire::run::v1::Run;
use serde_json::{Value, json};

use super::postmortem::Known;
use super::{Answer, client, time_argument};
use crate::cli::Cli;
use crate::failure::Ending;
use crate::output::{self, span};

/// What to report.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// Only incidents that were opened at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only incidents that were opened before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Also write a plot of each time as SVG into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

pub(crate) async fn run(cli: &Cli, args: &Report) -> Answer {
    let bound = |name: &str, text: &Option<String>, other: i64| {
        text.as_ref()
            .map_or(Ok(other), |text| time_argument(name, text))
    };
    let since = bound("since", &args.since, 0)?;
    let until = bound("until", &args.until, i64::MAX)?;
    let asked = wire::ListRequest { open_only: false };
    let list = client(cli)?.incidents().await?.list(asked).await?;
    let mut cases = Vec::new();
    for incident in list.into_inner().incidents {
        if (since..until).contains(&incident.opened_at_ms) {
            cases.push(case(&Known::of(cli, &incident.incident).await?));
        }
    }
    let rows = rows(&cases);
    let plots = match &args.svg {
        Some(folder) => plots(folder, &rows)?,
        None => Vec::new(),
    };
    if cli.json {
        let rows: Vec<Value> = rows.iter().map(document).collect();
        let cases: Vec<Value> = cases.iter().map(case_document).collect();
        output::json(&json!({ "rows": rows, "incidents": cases, "plots": plots }));
        return Ok(Ending::Good);
    }
    if rows.is_empty() {
        output::line("no incidents in this time");
        return Ok(Ending::Good);
    }
    table(&rows);
    output::line(
        "means over those that got there; detect, contain and recover count from the first bad event, acknowledge from the opening to the first thing that a person did",
    );
    for plot in plots {
        output::line(&plot);
    }
    Ok(Ending::Good)
}

fn plots(folder: &Path, rows: &[Row]) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut written = Vec::new();
    for (name, title, time) in TIMES {
        let path = folder.join(format!("{name}.svg"));
        let picture = plot::bars(title, rows, *time);
        std::fs::write(&path, picture).with_context(|| format!("writing {}", path.display()))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

/// Which time of a row a plot shows.
type Of = fn(&Row) -> Time;

/// File's name, title, and what it shows.
const TIMES: &[(&str, &str, Of)] = &[
    ("detect", "Mean time to detect", |row| row.detect),
    ("acknowledge", "Mean time to acknowledge", |row| {
        row.acknowledge
    }),
    ("contain", "Mean time to contain", |row| row.contain),
    ("recover", "Mean time to recover", |row| row.recover),
];

/// What counts of an incident.
pub(crate) fn case(known: &Known) -> Case {
    let i = &known.incident;
    let reached = |name: &str| {
        let target = i.targets.iter().find(|target| target.name == name)?;
        (target.actual_ms >= 0).then_some(target.actual_ms)
    };
    let decided = i.targets.iter().filter(|target| target.actual_ms >= 0);
    let met = |target: &&wire::Target| target.actual_ms <= target.target_ms;
    let affected = Affected::of(&known.runs);
    let person = |entry: &&wire::TimelineEntry| {
        entry.actor.starts_with("person ") && entry.at_ms >= i.opened_at_ms
    };
    let first = i
        .timeline
        .iter()
        .filter(person)
        .map(|entry| entry.at_ms)
        .min();
    Case {
        incident: i.incident.clone(),
        class: i.class.clone(),
        opened_at_ms: i.opened_at_ms,
        detect_ms: reached("detect"),
        acknowledge_ms: first.map(|at| at.saturating_sub(i.opened_at_ms)),
        contain_ms: reached("contain"),
        recover_ms: reached("recover"),
        targets: Share {
            of: count(decided.clone().filter(met).count()),
            all: count(decided.count()),
        },
        revalidated: affected.revalidated(),
        failures: affected.failed.unwrap_or(0),
        items: items(&known.learned.items),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn items(items: &[wire::ActionItem]) -> ItemCount {
    let those = |word: &str| count(items.iter().filter(|it| it.standing == word).count());
    ItemCount {
        checked: Share {
            of: those("checked"),
            all: count(items.len()).saturating_sub(those("dropped")),
        },
        overdue: those("overdue"),
    }
}

/// Seals and documents in numbers, as the steps of an incident's runs gave them; `None` where no step counted it.
#[derive(Debug, Default)]
pub(crate) struct Affected {
    pub(crate) total: Option<u64>,
    pub(crate) covered: Option<u64>,
    pub(crate) reported: Option<u64>,
    pub(crate) resealed: Option<u64>,
    pub(crate) verified: Option<u64>,
    pub(crate) failed: Option<u64>,
}

impl Affected {
    pub(crate) fn of(runs: &[Run]) -> Self {
        let number = |action: &str, output: &str| {
            let mut steps = runs.iter().flat_map(|run| &run.steps);
            let step = steps.find(|step| step.action == action && step.state == "done")?;
            step.outputs.get(output)?.parse().ok()
        };
        Self {
            total: number("find-affected", "total"),
            covered: number("find-affected", "covered"),
            reported: number("find-affected", "reported"),
            resealed: number("reseal", "resealed"),
            verified: number("reverify", "verified"),
            failed: number("reverify", "failed"),
        }
    }

    /// Affected seals that were sealed again and then verified, of all that were to be.
    fn revalidated(&self) -> Share {
        match (self.covered, self.resealed, self.verified) {
            (Some(covered), Some(resealed), Some(verified)) => Share {
                of: resealed.min(verified),
                all: covered,
            },
            (Some(covered), ..) => Share {
                of: 0,
                all: covered,
            },
            (None, ..) => Share::default(),
        }
    }
}

fn table(rows: &[Row]) {
    let head = [
        "MONTH",
        "CLASS",
        "INCIDENTS",
        "OPEN",
        "DETECT",
        "ACKNOWLEDGE",
        "CONTAIN",
        "RECOVER",
        "TARGETS MET",
        "REVALIDATED",
        "FAILED",
        "ITEMS DONE",
        "OVERDUE",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        lines.push(vec![
            row.month.clone(),
            row.class.clone(),
            row.incidents.to_string(),
            row.open.to_string(),
            mean(row.detect),
            mean(row.acknowledge),
            mean(row.contain),
            mean(row.recover),
            share(row.targets),
            share(row.revalidated),
            row.failures.to_string(),
            share(row.items.checked),
            row.items.overdue.to_string(),
        ]);
    }
    output::table(&lines);
}

fn mean(time: Time) -> String {
    span(time.mean_ms().unwrap_or(-1))
}

fn share(share: Share) -> String {
    share.percent().map_or_else(
        || "-".to_owned(),
        |percent| format!("{}/{} ({percent} %)", share.of, share.all),
    )
}

fn pair(share: Share) -> Value {
    json!({ "of": share.of, "all": share.all })
}

fn document(row: &Row) -> Value {
    json!({
        "month": row.month, "class": row.class, "incidents": row.incidents, "open": row.open,
        "detect_ms": row.detect.mean_ms(), "acknowledge_ms": row.acknowledge.mean_ms(),
        "contain_ms": row.contain.mean_ms(), "recover_ms": row.recover.mean_ms(),
        "targets_met": pair(row.targets), "revalidated": pair(row.revalidated), "failures": row.failures,
        "items_checked": pair(row.items.checked), "items_overdue": row.items.overdue,
    })
}

fn case_document(case: &Case) -> Value {
    json!({
        "incident": case.incident, "class": case.class, "opened_at_ms": case.opened_at_ms,
        "detect_ms": case.detect_ms, "acknowledge_ms": case.acknowledge_ms,
        "contain_ms": case.contain_ms, "recover_ms": case.recover_ms,
        "targets_met": pair(case.targets), "revalidated": pair(case.revalidated), "failures": case.failures,
        "items_checked": pair(case.items.checked), "items_overdue": case.items.overdue,
    })
}
