//! `archive …`: stored documents, their revalidation, quarantine and restoring.

mod jobs;
mod mend;
mod store;

use clap::Subcommand;
use indicatif::HumanBytes;
use sealwarden_wire::archive::v1::{
    ArchiveStatus, ListRequest, ListedObject, StatusRequest, VerifyObjectRequest,
};
use serde_json::{Value, json};

use super::{Answer, client};
use crate::cli::Cli;
use crate::failure::Ending;
use crate::output;

pub(crate) use store::{Archiving, Stored};

/// The words behind `archive`.
#[derive(Debug, Subcommand)]
pub(crate) enum Archive {
    /// What is stored where, what is damaged, and how the last revalidation ended
    Status {
        /// The archive (default: all)
        archive: Option<String>,
    },
    /// Objects with their digests and leaves
    List {
        /// Only objects whose names begin so
        #[arg(default_value = "")]
        prefix: String,
        /// Only those that are quarantined or known to be damaged
        #[arg(long)]
        bad: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Read one object now and judge it; exit 1 unless it is good
    Verify {
        /// Its name
        object: String,
        #[command(flatten)]
        which: Which,
    },
    /// Look at every object again: start it and show its progress; exit 1 if something is damaged
    Revalidate {
        /// The archive (default: the only one)
        archive: Option<String>,
        /// Only start it; `archive status` shows how it goes
        #[arg(long)]
        no_wait: bool,
    },
    /// Pause the revalidation that is under way; a restart of the service does not resume it
    Pause(Which),
    /// Resume a paused revalidation where it stopped
    Resume(Which),
    /// End the revalidation that is under way; what it found so far is reported
    Cancel(Which),
    /// The report of a revalidation, as JSON
    Report {
        /// Which one, e.g. main-3 (default: the last one)
        job: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Keep people from an object: read-only, and its verdict is `quarantined`
    Quarantine {
        /// Its name
        object: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        which: Which,
    },
    /// Put intact originals back, verify them against their leaves and release them; exit 1 if one has none
    Restore {
        /// Their names
        #[arg(value_name = "OBJECT", required_unless_present = "all")]
        objects: Vec<String>,
        /// All that are damaged, or were; not what a person put into quarantine and is whole
        #[arg(long, conflicts_with = "objects")]
        all: bool,
        #[command(flatten)]
        which: Which,
    },
}

/// Which archive.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Which {
    /// The archive (default: the only one)
    #[arg(
        id = "in_archive",
        long = "archive",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) archive: String,
}

pub(crate) async fn run(cli: &Cli, what: &Archive) -> Answer {
    match what {
        Archive::Status { archive } => status(cli, archive.as_deref().unwrap_or_default()).await,
        Archive::List { prefix, bad, which } => list(cli, prefix, *bad, which).await,
        Archive::Verify { object, which } => verify(cli, object, which).await,
        Archive::Revalidate { archive, no_wait } => {
            jobs::revalidate(cli, archive.as_deref().unwrap_or_default(), *no_wait).await
        }
        Archive::Pause(which) => jobs::control(cli, which, jobs::PAUSE).await,
        Archive::Resume(which) => jobs::control(cli, which, jobs::RESUME).await,
        Archive::Cancel(which) => jobs::control(cli, which, jobs::CANCEL).await,
        Archive::Report { job, which } => {
            jobs::report(cli, job.as_deref().unwrap_or_default(), which).await
        }
        Archive::Quarantine {
            object,
            reason,
            which,
        } => mend::quarantine(cli, object, reason, which).await,
        Archive::Restore {
            objects,
            all,
            which,
        } => mend::restore(cli, objects, *all, which).await,
    }
}

async fn status(cli: &Cli, archive: &str) -> Answer {
    let request = StatusRequest {
        archive: archive.to_owned(),
    };
    let answer = client(cli)?
        .archives()
        .await?
        .status(request)
        .await?
        .into_inner();
    let good = answer
        .archives
        .iter()
        .all(|a| a.problem.is_empty() && a.damaged == 0 && a.quarantined == 0);
    if cli.json {
        let archives: Vec<Value> = answer.archives.iter().map(describe).collect();
        output::json(&json!({ "good": good, "archives": archives }));
    } else if answer.archives.is_empty() {
        output::line("no archive is configured; name one in settings.yaml:");
        output::line(
            "  verification:\n    archives:\n      - {name: main, url: /path/of/archive, backup: /another/disk}",
        );
    } else {
        answer.archives.iter().for_each(tell);
    }
    Ok(if good { Ending::Good } else { Ending::Negative })
}

fn describe(a: &ArchiveStatus) -> Value {
    json!({
        "archive": a.archive, "place": a.place, "backup": a.backup, "objects": a.objects, "bytes": a.bytes, "pages": a.pages,
        "damaged": a.damaged, "quarantined": a.quarantined, "due_at_ms": (a.due_at_ms > 0).then_some(a.due_at_ms),
        "problem": (!a.problem.is_empty()).then_some(&a.problem), "revalidation": a.job.as_ref().map(jobs::describe),
    })
}

fn tell(a: &ArchiveStatus) {
    output::line(&format!("{} ({})", a.archive, a.place));
    if !a.problem.is_empty() {
        return output::line(&format!("  cannot be worked with: {}", a.problem));
    }
    output::line(&format!("  backup:       {}", a.backup));
    output::line(&format!(
        "  objects:      {}, {}, in {} pages of the inventory",
        a.objects,
        HumanBytes(a.bytes),
        a.pages
    ));
    output::line(&format!("  damaged:      {}", a.damaged));
    output::line(&format!("  quarantined:  {}", a.quarantined));
    if let Some(job) = &a.job {
        output::line(&format!("  revalidation: {}", jobs::words(job)));
    }
    let due = if a.due_at_ms > 0 {
        format!("{} (UTC)", output::time(a.due_at_ms))
    } else {
        "by hand only".to_owned()
    };
    output::line(&format!("  next:         {due}"));
}

async fn list(cli: &Cli, prefix: &str, bad: bool, which: &Which) -> Answer {
    let request = ListRequest {
        archive: which.archive.clone(),
        prefix: prefix.to_owned(),
        bad,
    };
    let mut answers = client(cli)?
        .archives()
        .await?
        .list(request)
        .await?
        .into_inner();
    let mut documents = Vec::new();
    let mut count = 0_u64;
    while let Some(object) = answers.message().await? {
        count += 1;
        if cli.json {
            documents.push(json!({
                "object": object.object, "size": object.size, "sha256": hex::encode(&object.sha256), "origin": object.origin, "index": object.index,
                "stored_at_ms": object.stored_at_ms, "quarantined": object.quarantined, "damage": object.damage,
            }));
        } else {
            output::line(&row(&object));
        }
    }
    if cli.json {
        output::json(&json!({ "objects": documents }));
    } else if count == 0 {
        output::line(if bad {
            "nothing is quarantined or known to be damaged"
        } else {
            "nothing is stored under such a name"
        });
    }
    Ok(Ending::Good)
}

fn row(object: &ListedObject) -> String {
    let mut text = format!(
        "{}  {}  {} #{}",
        object.object,
        HumanBytes(object.size),
        object.origin,
        object.index
    );
    if object.quarantined {
        text.push_str("  quarantined");
    }
    if !object.damage.is_empty() {
        text.push_str("  ");
        text.push_str(&object.damage.join(", "));
    }
    text
}

async fn verify(cli: &Cli, object: &str, which: &Which) -> Answer {
    let request = VerifyObjectRequest {
        archive: which.archive.clone(),
        object: object.to_owned(),
    };
    let answer = client(cli)?
        .archives()
        .await?
        .verify(request)
        .await?
        .into_inner();
    if cli.json {
        let damage: Vec<Value> = answer
            .damage
            .iter()
            .map(|d| json!({ "class": d.class, "detail": d.detail }))
            .collect();
        output::json(&json!({
            "object": object, "verdict": answer.verdict, "reason": answer.reason, "origin": answer.origin, "index": answer.index, "damage": damage,
        }));
    } else {
        output::line(&format!("{object}: {}", answer.verdict));
        output::line(&format!("  {}", answer.reason));
        for damage in &answer.damage {
            output::line(&format!("  {}: {}", damage.class, damage.detail));
        }
        output::line(&format!("  stored as {} #{}", answer.origin, answer.index));
    }
    let good = answer.verdict == "valid" || answer.verdict == "valid-before-compromise";
    Ok(if good { Ending::Good } else { Ending::Negative })
}
