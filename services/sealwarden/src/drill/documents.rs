//! The documents of a drill: real files, copied into the sandbox, sealed, verified before and after.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seal::verdict;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use sealwarden_wire::seal::v1::{GetSealRequest, Priority, SealRequest, SealResponse, Stage};
use sealwarden_wire::verify::v1::GetTrustRequest;

use crate::client::{Client, Traced};
use crate::commands::verify::{beside, digest_of};
use crate::failure::Failure;
use crate::host::installation::write_public;
use crate::host::plan;
use crate::trust_seen;

/// Most files a drill seals.
const MAX_FILES: usize = 10_000;

/// One document and what was said of it.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Name, as the user knows it.
    pub(crate) name: String,
    /// The copy in the sandbox.
    pub(crate) path: PathBuf,
    /// Verdict after sealing.
    pub(crate) before: String,
    /// Verdict of the first seal after the incident.
    pub(crate) first_seal_after: String,
    /// Verdict of the present seal after the incident.
    pub(crate) after: String,
    /// Why.
    pub(crate) reason: String,
}

/// Copies the documents into the sandbox: those of `dir`, or this repository's `proto/` and `runbooks/`, or the shipped plan.
pub(crate) fn collect(dir: Option<&Path>, sandbox: &Path) -> anyhow::Result<Vec<Document>> {
    let target = sandbox.join("documents");
    std::fs::create_dir_all(&target)?;
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let repository = Path::new("proto").is_dir() && Path::new("runbooks").is_dir();
    match dir {
        Some(dir) => walk(dir, dir, &mut found)?,
        None if repository => {
            let here = Path::new(".");
            walk(Path::new("proto"), here, &mut found)?;
            walk(Path::new("runbooks"), here, &mut found)?;
        }
        None => found.extend(
            plan::shipped_files()
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())),
        ),
    }
    if found.is_empty() {
        bail!("there is no file to seal; name a folder with files: --dir DIR");
    }
    found.sort();
    found
        .into_iter()
        .map(|(name, bytes)| {
            let path = target.join(&name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&path, bytes).with_context(|| format!("copying {name}"))?;
            let blank = String::new();
            Ok(Document {
                name,
                path,
                before: blank.clone(),
                first_seal_after: blank.clone(),
                after: blank.clone(),
                reason: blank,
            })
        })
        .collect()
}

fn walk(dir: &Path, base: &Path, found: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let is_seal = path.extension().is_some_and(|e| e == "seal");
        if path.is_dir() && !path.is_symlink() {
            walk(&path, base, found)?;
        } else if path.is_file() && !is_seal {
            if found.len() >= MAX_FILES {
                bail!(
                    "{} holds more than {MAX_FILES} files; name a smaller folder",
                    base.display()
                );
            }
            let name = path
                .strip_prefix(base)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let bytes =
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            found.push((name, bytes));
        }
    }
    Ok(())
}

/// Seals every document up to the stage `witnessed`.
pub(crate) async fn seal_all(client: &Client, documents: &[Document]) -> Result<String, Failure> {
    let mut origin = String::new();
    let sealing = client.sealing().await?;
    for batch in documents.chunks(64) {
        let answers = batch.iter().map(|document| {
            let mut sealing = sealing.clone();
            async move {
                let answer = seal(&mut sealing, document, Priority::Normal, false).await?;
                Ok::<String, Failure>(answer.origin)
            }
        });
        for answer in futures_util::future::join_all(answers).await {
            origin = answer?;
        }
    }
    Ok(origin)
}

/// Asks for one seal up to the stage `witnessed`, and puts it beside the document unless the request has to wait under a ticket.
pub(crate) async fn seal(
    sealing: &mut SealingClient<Traced>,
    document: &Document,
    priority: Priority,
    accept_queued: bool,
) -> Result<SealResponse, Failure> {
    let request = SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: digest_of(&document.path)?.to_vec().into(),
        tenant: "drill".to_owned(),
        subject: document.name.chars().take(200).collect(),
        claimed_at_ms: jiff::Timestamp::now().as_millisecond(),
        request_id: uuid::Uuid::new_v4().to_string(),
        wait: Stage::Witnessed.into(),
        priority: priority.into(),
        accept_queued,
        ..SealRequest::default()
    };
    let answer = sealing.seal(request).await?.into_inner();
    if answer.stage() != Stage::Queued {
        write_public(&beside(&document.path), &answer.seal)?;
    }
    Ok(answer)
}

/// The present trust bundle, opened as an offline verifier would.
pub(crate) async fn trust(client: &Client, data: &Path) -> Result<VerifiedBundle, Failure> {
    let answer = client
        .verification()
        .await?
        .get_trust(GetTrustRequest {})
        .await?
        .into_inner();
    trust_seen::open(&answer.bundle, data, None)
}

/// The verdict on a document and the seal file beside it, offline.
pub(crate) fn verdict_of(
    document: &Document,
    bundle: &VerifiedBundle,
) -> Result<(String, String), Failure> {
    let seal = std::fs::read(beside(&document.path)).context("reading a seal")?;
    let digest = digest_of(&document.path)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let answer = verdict::verify(&seal, Some(digest), bundle, now_ms);
    Ok((answer.verdict.as_str().to_owned(), answer.reason))
}

/// Fetches the present seal of a document that was sealed again, and puts it in place of the old one.
pub(crate) async fn renew(client: &Client, document: &Document) -> Result<(), Failure> {
    let path = beside(&document.path);
    let bytes = std::fs::read(&path).context("reading a seal")?;
    let seal = sealwarden_seal::seal::Seal::parse(&bytes).context("parsing a seal")?;
    let origin = seal.checkpoint().context("parsing a seal")?.origin;
    let request = GetSealRequest {
        origin,
        index: seal.index,
        follow: true,
    };
    let answer = client
        .sealing()
        .await?
        .get_seal(request)
        .await?
        .into_inner();
    write_public(&path, &answer.seal)?;
    Ok(())
}
