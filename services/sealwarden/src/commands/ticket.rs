//! `FILE.seal.ticket`: what to ask for a seal with that could not be made yet, and `seal --collect`, which asks.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sealwarden_seal::seal::Seal as SealFile;
use sealwarden_wire::seal::v1::{
    GetTicketRequest, SealResponse, Stage, TicketResponse, WatchTicketRequest,
    sealing_client::SealingClient,
};
use serde::{Deserialize, Serialize};

use super::seal::{Done, state, target, write};
use crate::cli::{Seal, WaitStage};
use crate::client::Traced;
use crate::failure::Failure;
use crate::host::installation::write_public;

/// No ticket file is longer, bytes.
const MAX_BYTES: u64 = 4096;

/// The file beside a seal that does not exist yet.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TicketFile {
    /// The server's word for it.
    pub(super) ticket: String,
    /// SHA-256 of the document, hex.
    digest: String,
    tenant: String,
    /// The request's own id: asking again under it never makes a second seal.
    pub(super) request_id: String,
    /// RFC 3339.
    queued_at: String,
}

impl TicketFile {
    pub(super) fn new(ticket: String, digest: &[u8; 32], tenant: &str, request_id: String) -> Self {
        Self {
            ticket,
            digest: hex::encode(digest),
            tenant: tenant.to_owned(),
            request_id,
            queued_at: jiff::Timestamp::now().to_string(),
        }
    }

    /// Whether it is of this document of this tenant.
    pub(super) fn is_of(&self, digest: &[u8; 32], tenant: &str) -> bool {
        self.digest == hex::encode(digest) && self.tenant == tenant
    }

    /// The ticket beside a seal's place, if there is one.
    pub(super) fn read(seal: &Path) -> Result<Option<Self>, Failure> {
        let path = beside(seal);
        let wrong = |reason: String| {
            Failure::usage(format!(
                "{} is not a ticket ({reason}); remove it and seal the file again",
                path.display()
            ))
        };
        let bytes = match std::fs::metadata(&path) {
            Ok(known) if known.len() > MAX_BYTES => return Err(wrong("it is too long".to_owned())),
            Ok(_) => std::fs::read(&path).map_err(|e| wrong(e.to_string()))?,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(wrong(e.to_string())),
        };
        let ticket = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        Ok(Some(ticket))
    }

    /// Writes it beside a seal's place; answers where.
    pub(super) fn write(&self, seal: &Path) -> Result<PathBuf, Failure> {
        let path = beside(seal);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| Failure::usage(format!("the ticket cannot be written as JSON: {e}")))?;
        text.push(b'\n');
        write_public(&path, &text)?;
        Ok(path)
    }

    /// Removes the ticket of a seal that is there now.
    pub(super) fn remove(seal: &Path) -> Result<(), Failure> {
        let path = beside(seal);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::usage(format!(
                "cannot remove {}: {e}; its seal is there, remove it yourself",
                path.display()
            ))),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn beside(seal: &Path) -> PathBuf {
    let mut name = seal.as_os_str().to_owned();
    name.push(".ticket");
    PathBuf::from(name)
}

/// Fetches the seal of one file's ticket.
pub(super) async fn collect(
    client: SealingClient<Traced>,
    args: &Seal,
    file: &Path,
) -> Result<Done, Failure> {
    let target = target(args, file)?;
    let Some(ticket) = TicketFile::read(&target)? else {
        return Err(Failure::usage(format!(
            "{} does not exist; nothing of {} waits, seal it first",
            beside(&target).display(),
            file.display()
        )));
    };
    let answer = ask(client, &ticket.ticket, args.wait).await?;
    let Some(sealed) = answer.seal else {
        let (kept, before) = (beside(&target), Some(answer.position));
        return Ok(Done::queued(file, target, ticket.ticket, kept, before));
    };
    require_same(&sealed, &ticket)?;
    let state = state(&sealed);
    let done = write(file, target.clone(), sealed, state)?;
    TicketFile::remove(&target)?;
    Ok(done)
}

async fn ask(
    mut client: SealingClient<Traced>,
    ticket: &str,
    wait: Option<WaitStage>,
) -> Result<TicketResponse, Failure> {
    let ticket = ticket.to_owned();
    let until = match wait {
        None => {
            let answer = client.get_ticket(GetTicketRequest { ticket }).await?;
            return Ok(answer.into_inner());
        }
        Some(WaitStage::Sealed) => Stage::Sealed,
        // Anchors are waited for when the seal is there.
        Some(WaitStage::Witnessed | WaitStage::Anchored) => Stage::Witnessed,
    };
    let request = WatchTicketRequest {
        ticket,
        until: until.into(),
    };
    let mut answers = client.watch_ticket(request).await?.into_inner();
    loop {
        let Some(answer) = answers.message().await? else {
            return Err(Failure::unavailable(
                "the sealing service ended before the seal was there; the ticket stays good, ask again",
            ));
        };
        let reached = match until {
            Stage::Sealed => matches!(
                answer.stage(),
                Stage::Sealed | Stage::Witnessed | Stage::Anchored
            ),
            Stage::Witnessed | Stage::Anchored | Stage::Queued | Stage::Unspecified => {
                matches!(answer.stage(), Stage::Witnessed | Stage::Anchored)
            }
        };
        if reached {
            return Ok(answer);
        }
    }
}

/// The seal is of the document that the ticket was given for.
fn require_same(sealed: &SealResponse, ticket: &TicketFile) -> Result<(), Failure> {
    let seal = SealFile::parse(&sealed.seal)
        .map_err(|e| Failure::refused(format!("the server's answer is not a seal: {e}")))?;
    if hex::encode(seal.record.digest) == ticket.digest {
        return Ok(());
    }
    Err(Failure::refused(
        "the server answered with the seal of another document",
    ))
}
