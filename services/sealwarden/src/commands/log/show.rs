//! `log show`.

use std::path::{Path, PathBuf};

use sealwarden_seal::record::Record;
use sealwarden_seallog::{LogError, LogReader, SignedCheckpoint, View};
use serde_json::{Value, json};

use super::{Answer, folders};
use crate::cli::Cli;
use crate::failure::Ending;
use crate::output;

/// What is shown of a log.
struct Shown {
    dir: PathBuf,
    origin: String,
    vkey: String,
    view: View,
    /// When the first and the last leaf claim to have been sealed, Unix milliseconds.
    first_ms: Option<i64>,
    last_ms: Option<i64>,
}

pub(super) fn run(cli: &Cli, dir: Option<&Path>) -> Answer {
    let mut all_read = true;
    let mut documents = Vec::new();
    for dir in folders::find(cli, dir, &[])? {
        match read(&dir) {
            Ok(shown) if cli.json => documents.push(describe(&shown)),
            Ok(shown) => tell(&shown),
            Err(error) => {
                all_read = false;
                if cli.json {
                    documents.push(json!({ "dir": dir, "error": error.to_string() }));
                } else {
                    output::line(&format!("{}: {error}", dir.display()));
                }
            }
        }
    }
    if cli.json {
        output::json(&json!({ "logs": documents }));
    }
    Ok(if all_read {
        Ending::Good
    } else {
        Ending::Negative
    })
}

fn read(dir: &Path) -> Result<Shown, LogError> {
    let reader = LogReader::open(dir)?;
    let view = reader.view()?;
    let claimed = |index: u64| {
        let leaf = view.record(index).ok()?;
        Some(Record::decode(&leaf.record).ok()?.claimed_at_ms)
    };
    let last = view.size().checked_sub(1);
    Ok(Shown {
        dir: dir.to_path_buf(),
        origin: reader.identity().origin.clone(),
        vkey: reader.identity().vkey.to_string(),
        first_ms: last.and_then(|_| claimed(0)),
        last_ms: last.and_then(claimed),
        view,
    })
}

/// Who signed beside the log. The names are the note's; `log check` verifies them.
fn cosigners(signed: &SignedCheckpoint) -> Vec<&str> {
    let signatures = signed.note.signatures().iter();
    signatures
        .map(sealwarden_seal::note::Signature::name)
        .filter(|name| *name != signed.checkpoint.origin)
        .collect()
}

fn describe(shown: &Shown) -> Value {
    let published = shown.view.published();
    let witnessed = shown.view.witnessed();
    json!({
        "dir": shown.dir, "origin": shown.origin, "vkey": shown.vkey, "size": shown.view.size(),
        "root": published.map(|it| it.checkpoint.root.to_string()),
        "checkpoint": published.map(|it| it.text.to_string()),
        "witnessed_size": witnessed.map(|it| it.checkpoint.size),
        "witnesses": witnessed.map(cosigners).unwrap_or_default(),
        "first_sealed_ms": shown.first_ms, "last_sealed_ms": shown.last_ms,
    })
}

fn tell(shown: &Shown) {
    output::line(&format!("{} ({})", shown.origin, shown.dir.display()));
    output::line(&format!("  key:        {}", shown.vkey));
    let Some(published) = shown.view.published() else {
        return output::line("  no batch was published yet");
    };
    output::line(&format!("  leaves:     {}", shown.view.size()));
    output::line(&format!("  root:       {}", published.checkpoint.root));
    if let (Some(first), Some(last)) = (shown.first_ms, shown.last_ms) {
        output::line(&format!(
            "  sealed:     first {}, last {} (UTC, as the service claims)",
            output::time(first),
            output::time(last)
        ));
    }
    match shown.view.witnessed() {
        Some(signed) => output::line(&format!(
            "  witnessed:  size {} by {}",
            signed.checkpoint.size,
            cosigners(signed).join(", ")
        )),
        None => output::line("  witnessed:  not yet"),
    }
    output::line("  checkpoint:");
    for text in published.text.lines() {
        output::line(&format!("    {text}"));
    }
}
