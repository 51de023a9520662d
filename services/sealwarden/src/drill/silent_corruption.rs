//! `drill silent-corruption`: a disk loses bytes of archived documents, and says nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use sealwarden_wire::archive::v1::{
    ListRequest, RevalidateRequest, VerifyObjectRequest, WatchRequest,
};
use serde_json::{Value, json};

use super::documents::{self, Document};
use super::sandbox::{Sandbox, Scene};
use super::score::{self, Findings, Score, Since};
use super::watch::Watch;
use super::{Narrator, act};
use crate::cli::Drill;
use crate::client::Client;
use crate::commands::archive::Archiving;
use crate::commands::verify::beside;
use crate::failure::Failure;

/// The archive's name in the sandbox.
const ARCHIVE: &str = "drill";

/// The sandbox keeps an archive and its backup store; the drill starts the revalidation.
pub(crate) const SCENE: Scene = Scene {
    settings: Cow::Borrowed(
        "verification:\n  archives:\n    - {name: drill, url: archive, backup: backup, every_h: 0}\n",
    ),
    misbehaves: None,
};

/// What a disk does to an archived document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// One bit of the document is another one; length and time of change are as they were.
    Flipped,
    /// The second half of the document is missing.
    CutShort,
    /// The document is gone.
    Removed,
    /// One bit of the seal is another one.
    SealFlipped,
}

impl Damage {
    const ALL: [Self; 4] = [
        Self::Flipped,
        Self::CutShort,
        Self::Removed,
        Self::SealFlipped,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Flipped => "one bit flipped",
            Self::CutShort => "cut to half",
            Self::Removed => "removed",
            Self::SealFlipped => "one bit of its seal flipped",
        }
    }

    fn inflict(self, document: &Path) -> anyhow::Result<()> {
        match self {
            Self::Flipped => flip(document),
            Self::SealFlipped => flip(&beside(document)),
            Self::Removed => std::fs::remove_file(document).map_err(Into::into),
            Self::CutShort => {
                let size = std::fs::metadata(document)?.len();
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(document)?
                    .set_len(size / 2)?;
                Ok(())
            }
        }
        .with_context(|| format!("damaging {}", document.display()))
    }
}

/// Changes one bit in the middle of a file, in place, and puts the time of change back: nothing but its bytes tells.
fn flip(path: &Path) -> anyhow::Result<()> {
    let changed: SystemTime = std::fs::metadata(path)?.modified()?;
    let mut bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    let byte = bytes
        .get_mut(middle)
        .context("an empty file has no bit to flip; name a folder with documents: --dir DIR")?;
    *byte ^= 1;
    std::fs::write(path, bytes)?;
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .set_modified(changed)?;
    Ok(())
}

/// A document in the archive and what was done to it.
struct Archived {
    document: Document,
    inflicted: Option<Damage>,
    /// Verdict on the damaged file, offline.
    damaged: String,
    /// What the revalidation called it.
    found: Vec<String>,
    /// The archive's own verdict at the end.
    at_the_end: String,
}

/// The story.
pub(crate) async fn play(
    narrator: Narrator,
    args: &Drill,
    sandbox: &Sandbox,
) -> Result<Score, Failure> {
    let client = sandbox.client("operator")?;
    narrator.chapter("Sealing and archiving");
    let mut archived = store(narrator, args, sandbox, &client).await?;

    narrator.chapter("The damage");
    let damaged_ms = jiff::Timestamp::now().as_millisecond();
    let bundle = documents::trust(&client, sandbox.data()).await?;
    inflict(&mut archived)?;
    for it in archived.iter_mut().filter(|it| it.inflicted.is_some()) {
        it.damaged = verdict(&it.document, &bundle);
        let words = it.inflicted.map_or("", Damage::words);
        narrator.say(&format!(
            "  {}: {words}; offline: {}",
            it.document.name, it.damaged
        ));
    }
    narrator.say("  nobody is told; sealing and verifying go on");

    narrator.chapter("The response (time since the damage)");
    let found = revalidate(&client).await?;
    narrator.say(&format!("  a revalidation looks at every object: {found}"));
    let bad = bad_objects(&client).await?;
    for it in &mut archived {
        it.found = bad.get(&it.document.name).cloned().unwrap_or_default();
    }
    let mut watch = Watch::new(narrator, damaged_ms);
    let incident = act::respond(narrator, sandbox, &mut watch, "restore", async |_| Ok(())).await?;

    narrator.chapter("Afterwards");
    afterwards(narrator, &client, &bundle, &mut archived).await?;
    let since = Since {
        at_ms: damaged_ms,
        words: "the first lost byte; how long damage goes unseen is the archive's `every_h`",
    };
    score::collect(sandbox, &incident, since, findings(&archived)).await
}

/// Seals documents and keeps them in the archive; from here on a document's path is that of the archive's own file.
async fn store(
    narrator: Narrator,
    args: &Drill,
    sandbox: &Sandbox,
    client: &Client,
) -> Result<Vec<Archived>, Failure> {
    let documents = documents::collect(args.dir.as_deref(), &sandbox.folder)?;
    let origin = documents::seal_all(client, &documents).await?;
    let archiving = Archiving::into(client, ARCHIVE).await?;
    let mut archived = Vec::new();
    for mut document in documents {
        let seal = beside(&document.path);
        archiving
            .store_as(document.name.clone(), &document.path, &seal)
            .await?;
        document.path = sandbox
            .folder
            .join("archive/documents")
            .join(&document.name);
        archived.push(Archived {
            document,
            inflicted: None,
            damaged: String::new(),
            found: Vec::new(),
            at_the_end: String::new(),
        });
    }
    let bundle = documents::trust(client, sandbox.data()).await?;
    for it in &mut archived {
        it.document.before = verdict(&it.document, &bundle);
    }
    let valid = archived.iter().filter(|a| a.document.before == "valid");
    narrator.say(&format!(
        "  {} files sealed into {origin} and kept in an archive with a backup store; {} verify offline in the archive",
        archived.len(),
        valid.count()
    ));
    Ok(archived)
}

/// The verdict on an archived file and its seal, offline; what cannot be read is said.
fn verdict(document: &Document, bundle: &sealwarden_seal::trust::VerifiedBundle) -> String {
    match documents::verdict_of(document, bundle) {
        Ok((verdict, _)) => verdict,
        Err(_) => "not there".to_owned(),
    }
}

/// Damages documents that lie far from each other, one of each kind as far as there are documents.
fn inflict(archived: &mut [Archived]) -> anyhow::Result<()> {
    let apart = archived.len().div_ceil(Damage::ALL.len()).max(1);
    for (it, damage) in archived.iter_mut().step_by(apart).zip(Damage::ALL) {
        damage.inflict(&it.document.path)?;
        it.inflicted = Some(damage);
    }
    Ok(())
}

/// Lets the verification service look at every object, and answers its summary.
async fn revalidate(client: &Client) -> Result<String, Failure> {
    let mut archives = client.archives().await?;
    let request = RevalidateRequest {
        archive: ARCHIVE.to_owned(),
    };
    let begun = archives.revalidate(request).await?.into_inner();
    let request = WatchRequest {
        archive: begun.archive,
        job: begun.job,
    };
    let mut progress = archives.watch(request).await?.into_inner();
    let mut last = None;
    while let Some(now) = progress.message().await? {
        last = Some(now);
    }
    let last =
        last.ok_or_else(|| Failure::unavailable("the service said nothing of the revalidation"))?;
    Ok(format!(
        "{} of {} objects are damaged",
        last.damaged, last.checked
    ))
}

/// The objects that the archive calls damaged, with the kinds of damage.
async fn bad_objects(client: &Client) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let request = ListRequest {
        archive: ARCHIVE.to_owned(),
        prefix: String::new(),
        bad: true,
    };
    let mut answers = client.archives().await?.list(request).await?.into_inner();
    let mut bad = BTreeMap::new();
    while let Some(object) = answers.message().await? {
        bad.insert(object.object, object.damage);
    }
    Ok(bad)
}

/// What the archive says of each object now, and what an offline verifier says of its file.
async fn afterwards(
    narrator: Narrator,
    client: &Client,
    bundle: &sealwarden_seal::trust::VerifiedBundle,
    archived: &mut [Archived],
) -> Result<(), Failure> {
    let mut archives = client.archives().await?;
    for it in archived.iter_mut() {
        let request = VerifyObjectRequest {
            archive: ARCHIVE.to_owned(),
            object: it.document.name.clone(),
        };
        let answer = archives.verify(request).await?.into_inner();
        it.at_the_end = answer.verdict;
        it.document.reason = answer.reason;
        it.document.after = verdict(&it.document, bundle);
    }
    let good = archived
        .iter()
        .filter(|it| it.at_the_end == "valid" && it.document.after == "valid");
    narrator.say(&format!(
        "  {} of {} objects are valid in the archive, and offline with the seals beside them",
        good.count(),
        archived.len()
    ));
    Ok(())
}

fn findings(archived: &[Archived]) -> Findings {
    let mut table = vec![
        [
            "DOCUMENT",
            "BEFORE",
            "INFLICTED",
            "OFFLINE",
            "FOUND AS",
            "AFTER",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let hurt = archived.iter().filter(|it| it.inflicted.is_some());
    table.extend(hurt.map(|it| {
        vec![
            it.document.name.clone(),
            it.document.before.clone(),
            it.inflicted.map_or("", Damage::words).to_owned(),
            it.damaged.clone(),
            it.found.join(", "),
            it.at_the_end.clone(),
        ]
    }));
    let verdicts: Vec<Value> = archived
        .iter()
        .map(|it| {
            json!({
                "file": it.document.name, "before": it.document.before, "inflicted": it.inflicted.map(Damage::words),
                "damaged": it.inflicted.map(|_| &it.damaged), "found": it.found, "in_archive": it.at_the_end,
                "after": it.document.after, "reason": it.document.reason,
            })
        })
        .collect();
    Findings {
        title: "What was damaged, and what became of it",
        table,
        facts: vec![("verdicts", json!(verdicts))],
        problems: archived.iter().filter_map(problem).collect(),
    }
}

/// What is wrong with how one document fared.
fn problem(it: &Archived) -> Option<String> {
    let name = &it.document.name;
    if it.document.before != "valid" {
        return Some(format!("{name} was {} after archiving", it.document.before));
    }
    match (it.inflicted, it.found.is_empty()) {
        (Some(damage), true) => {
            return Some(format!(
                "{name}: {}, and the revalidation did not see it",
                damage.words()
            ));
        }
        (None, false) => {
            return Some(format!(
                "{name} was not touched, and the revalidation calls it {}",
                it.found.join(", ")
            ));
        }
        (Some(_), false) | (None, true) => {}
    }
    (it.at_the_end != "valid" || it.document.after != "valid").then(|| {
        format!(
            "{name} is {} in the archive and {} offline: {}",
            it.at_the_end, it.document.after, it.document.reason
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_shows_in_nothing_but_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("document");
        std::fs::write(&path, [0_u8; 9]).unwrap();
        let before = std::fs::metadata(&path).unwrap();
        Damage::Flipped.inflict(&path).unwrap();
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 0, 0, 1, 0, 0, 0, 0]);
        std::fs::write(&path, []).unwrap();
        let refused = Damage::Flipped.inflict(&path).unwrap_err();
        assert!(format!("{refused:#}").contains("--dir"), "{refused:#}");
    }

    #[test]
    fn damage_that_nobody_saw_and_alarms_without_damage_fail_the_drill() {
        let archived = |inflicted: Option<Damage>, found: &[&str], after: &str| Archived {
            document: Document {
                name: "a".to_owned(),
                path: "a".into(),
                before: "valid".to_owned(),
                first_seal_after: String::new(),
                after: after.to_owned(),
                reason: String::new(),
            },
            inflicted,
            damaged: String::new(),
            found: found.iter().map(|it| (*it).to_owned()).collect(),
            at_the_end: after.to_owned(),
        };
        let of = |it: Archived| findings(&[it]).problems.join("\n");
        assert_eq!(
            of(archived(Some(Damage::Removed), &["missing"], "valid")),
            ""
        );
        assert_eq!(of(archived(None, &[], "valid")), "");
        assert!(of(archived(Some(Damage::Flipped), &[], "valid")).contains("did not see it"));
        assert!(of(archived(None, &["missing"], "valid")).contains("was not touched"));
        assert!(
            of(archived(Some(Damage::Removed), &["missing"], "quarantined"))
                .contains("quarantined")
        );
    }
}
