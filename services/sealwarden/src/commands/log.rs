//! `log show | check | mirror | serve | prove`: the seal logs in a folder, their audit, and copies of them that others can serve
//! and verify. None of them changes a log.

mod around;
mod beside;
mod folders;
mod known;
mod mirror;
mod prove;
mod published;
mod serve;
mod show;
mod top;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seallog::check::{CheckOptions, CheckReport, Damage, check};
use sealwarden_seallog::{LogError, LogReader};
use serde_json::{Value, json};

use super::Answer;
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output;
use around::Around;
use known::Known;

/// The words behind `log`.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// The present trees: origin, size, root, checkpoint, witnesses
    Show {
        /// A log's folder, or one that holds logs (default: the installation's)
        dir: Option<PathBuf>,
    },
    /// Recompute every tree from its entries and compare every byte of its files; works beside a running service and offline
    Check {
        /// A log's folder, or one that holds logs (default: the installation's)
        dir: Option<PathBuf>,
        /// Trust bundle with the keys of logs and witnesses (default: the installation's, where it can be had)
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
    /// Copy a log's public files, trust bundle and anchors, checking every byte; again and again, only what is new. Private records
    /// stay. A source that shows another history than before is refused, and the proof is kept in DEST/evidence
    Mirror(mirror::Mirror),
    /// Serve a log's or a mirror's public files over HTTP (C2SP tlog-tiles), without any of the services
    Serve(serve::Serve),
    /// Prove a seal anew from a log's or a mirror's tiles, against its newest checkpoint with cosignatures
    Prove(prove::Prove),
}

pub(crate) async fn run(cli: &Cli, what: &Log) -> Answer {
    match what {
        Log::Show { dir } => show::run(cli, dir.as_deref()),
        Log::Mirror(args) => mirror::run(cli, args).await,
        Log::Serve(args) => serve::run(cli, args).await,
        Log::Prove(args) => prove::run(cli, args),
        Log::Check { dir, trust } => audit(cli, dir.as_deref(), trust.as_deref()).await,
    }
}

/// One log's audit.
struct Audited {
    dir: PathBuf,
    outcome: Result<CheckReport, LogError>,
    around: Around,
}

impl Audited {
    fn is_intact(&self) -> bool {
        self.outcome.as_ref().is_ok_and(CheckReport::is_intact)
    }

    /// The anchors, and a mirror's trust bundle; what is wrong there is damage like any other.
    fn look_around(&mut self, bundle: Option<&VerifiedBundle>) {
        if let Ok(report) = &mut self.outcome {
            let mut around = around::audit(&self.dir, bundle);
            report.files += around.files;
            report.damage_count += u64::try_from(around.damage.len()).unwrap_or(u64::MAX);
            report.damage.append(&mut around.damage);
            self.around = around;
        }
    }
}

async fn audit(cli: &Cli, dir: Option<&Path>, trust: Option<&Path>) -> Answer {
    let known = Known::gather(cli, dir.is_none(), trust).await?;
    let folders = folders::find(cli, dir, &known.folders)?;
    let mut audited = Vec::new();
    for dir in &folders {
        let options = known.options(dir);
        let mut one = audit_one(dir.clone(), options).await?;
        one.look_around(known.bundle());
        audited.push(one);
    }
    let (top, damage_above) = match dir {
        Some(dir) => (dir, top::audit(dir, &folders)),
        None => (cli.data.as_path(), Vec::new()),
    };
    let intact = damage_above.is_empty() && audited.iter().all(Audited::is_intact);
    if cli.json {
        output::json(&json!({
            "intact": intact,
            "first_damage": audited.iter().find_map(first_damage).or_else(|| damage_above.first().map(|it| damage_json(top, it))),
            "damage_above": damage_above.iter().map(|it| damage_json(top, it)).collect::<Vec<_>>(),
            "logs": audited.iter().map(describe).collect::<Vec<_>>(),
            "notes": audited.iter().flat_map(|it| &it.around.notes).chain(&known.notes).collect::<Vec<_>>(),
        }));
    } else {
        audited.iter().for_each(tell);
        for damage in &damage_above {
            output::line(&format!("{}: DAMAGED: {damage}", top.display()));
        }
        for note in audited
            .iter()
            .flat_map(|it| &it.around.notes)
            .chain(&known.notes)
        {
            output::line(&format!("note: {note}"));
        }
    }
    Ok(if intact {
        Ending::Good
    } else {
        Ending::Negative
    })
}

/// The published checkpoint; with its cosignatures, where it has them, for that is worth more than without.
fn newest(reader: &LogReader) -> Result<Option<Vec<u8>>, LogError> {
    let view = reader.view()?;
    let witnessed = view
        .witnessed()
        .filter(|it| it.checkpoint.size == view.size());
    let signed = witnessed.or(view.published());
    Ok(signed.map(|it| it.text.as_bytes().to_vec()))
}

/// A log that cannot be read. The error tells its cause itself.
fn damaged(error: &LogError) -> Failure {
    anyhow::anyhow!(error.to_string()).into()
}

async fn audit_one(dir: PathBuf, options: CheckOptions) -> Result<Audited, Failure> {
    let bar = if output::watched() {
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {human_pos}/{human_len} leaves, {eta} left",
        );
        ProgressBar::new(0).with_style(style.map_err(anyhow::Error::from)?)
    } else {
        ProgressBar::hidden()
    };
    bar.set_message(dir.display().to_string());
    let work = move || {
        let outcome = check(&dir, &options, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        Audited {
            dir,
            outcome,
            around: Around::default(),
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(anyhow::Error::from)?)
}

fn damage_json(dir: &Path, it: &Damage) -> Value {
    json!({
        "file": dir.join(&it.path), "kind": it.kind.as_str(), "offset": it.offset, "length": it.length,
        "expected": it.expected, "found": it.found,
    })
}

fn first_damage(audited: &Audited) -> Option<Value> {
    match &audited.outcome {
        Ok(report) => report
            .damage
            .first()
            .map(|it| damage_json(&audited.dir, it)),
        Err(error) => Some(json!({
            "file": audited.dir, "kind": "missing", "offset": 0, "length": 0, "expected": "a seal log", "found": error.to_string(),
        })),
    }
}

fn describe(audited: &Audited) -> Value {
    let dir = &audited.dir;
    match &audited.outcome {
        Ok(r) => json!({
            "dir": dir, "intact": r.is_intact(), "origin": r.origin, "size": r.size, "root": r.root.to_string(),
            "mirror": r.is_mirror, "witnessed_size": r.witnessed_size, "files": r.files, "bytes": r.bytes, "roots_compared": r.roots_compared,
            "cosignatures": r.cosignatures, "unchecked_cosignatures": r.unchecked_cosignatures,
            "anchors": audited.around.anchors, "anchors_of_strangers": audited.around.strangers,
            "heads": audited.around.heads, "forks": audited.around.forks.iter().map(|it| json!({
                "size": it.size, "mirrored": it.mirrored.to_string(), "offered": it.offered.to_string(),
            })).collect::<Vec<_>>(),
            "erased_leaves": r.erased_leaves, "erasing_leaves": r.erasing_leaves, "staged_leaves": r.staged_leaves, "unpublished_files": r.unpublished_files,
            "damage_count": r.damage_count, "damage": r.damage.iter().map(|it| damage_json(dir, it)).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "dir": dir, "intact": false, "error": error.to_string() }),
    }
}

fn tell(audited: &Audited) {
    let report = match &audited.outcome {
        Ok(report) => report,
        Err(error) => {
            return output::line(&format!("{}: DAMAGED: {error}", audited.dir.display()));
        }
    };
    let verdict = if report.is_intact() {
        "intact".to_owned()
    } else {
        format!("DAMAGED in {} places", report.damage_count)
    };
    output::line(&format!(
        "{} ({}): {verdict}",
        report.origin,
        audited.dir.display()
    ));
    output::line(&format!("  {} leaves, root {}", report.size, report.root));
    output::line(&format!(
        "  compared: {} files, {} bytes, {} checkpoints and intents, {} cosignatures",
        report.files, report.bytes, report.roots_compared, report.cosignatures
    ));
    if report.is_mirror {
        output::line("  a mirror: entries and tiles were compared, there are no private records");
    }
    let Around {
        anchors, strangers, ..
    } = audited.around;
    if anchors + strangers > 0 {
        let strange = if strangers > 0 {
            format!(
                "; {strangers} more are sound, of authorities that no trust bundle at hand names"
            )
        } else {
            String::new()
        };
        output::line(&format!(
            "  {anchors} anchors by authorities of the trust bundle{strange}"
        ));
    }
    if audited.around.heads > 0 {
        output::line(&format!(
            "  {} heads of the event log hold, each sealed in this log",
            audited.around.heads
        ));
    }
    for fork in &audited.around.forks {
        output::line(&format!(
            "  proof of a fork, kept and sound: {} leaves had root {} here and {} as the source showed them later",
            fork.size, fork.mirrored, fork.offered
        ));
    }
    if report.unchecked_cosignatures > 0 {
        output::line(&format!(
            "  {} cosignatures were not checked: name a trust bundle with --trust",
            report.unchecked_cosignatures
        ));
    }
    if report.erased_leaves + report.erasing_leaves > 0 {
        output::line(&format!(
            "  {} records are erased, and {} are being erased, as events say",
            report.erased_leaves, report.erasing_leaves
        ));
    }
    if report.staged_leaves > 0 {
        output::line(&format!(
            "  {} leaves are staged and wait for their signature",
            report.staged_leaves
        ));
    }
    for (place, damage) in report.damage.iter().enumerate() {
        let first = if place == 0 { "first damage: " } else { "" };
        output::line(&format!("  {first}{damage}"));
    }
    let untold = report
        .damage_count
        .saturating_sub(u64::try_from(report.damage.len()).unwrap_or(u64::MAX));
    if untold > 0 {
        output::line(&format!("  … and {untold} more"));
    }
}
