//! A document comes in: backup first, then the archive, then the inventory. Each step is durable before the next; a crash between leaves what asking again completes.

use std::sync::Arc;

use sealwarden_archive::{Document, Entry, Measured, Meter, ObjectName, StoreError, Upload};
use sealwarden_seal::seal::Seal;
use sealwarden_wire::archive::v1::{StoreHeader, StoreRequest, StoreResponse};
use sealwarden_wire::verify::v1::VerifyRequest;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use super::inventory::Addition;
use super::open::Archive;

/// What a caller wants to store, checked.
struct Wanted {
    entry: Entry,
    seal: Vec<u8>,
    replace: bool,
}

/// Stores what a call brings.
pub(crate) async fn store(
    archive: &Archive,
    header: StoreHeader,
    mut pieces: Streaming<StoreRequest>,
) -> Result<StoreResponse, Status> {
    let wanted = check(archive, header).await?;
    let name = wanted.entry.name.clone();
    let answer = |page, known| StoreResponse {
        archive: archive.config.name.clone(),
        object: name.to_string(),
        known,
        page,
    };
    let _busy = archive.reserve(&name).ok_or_else(|| {
        Status::aborted(format!(
            "{name} is being stored or restored by another call; try again"
        ))
    })?;
    let mut replacing = None;
    let known = archive.inventory().get(&name).is_some();
    if let Some(present) = archive.inventory().get(&name) {
        if present.sha256 == wanted.entry.sha256 {
            drain(&mut pieces).await?;
            return Ok(answer(0, true));
        }
        if !wanted.replace {
            return Err(Status::already_exists(format!(
                "{name} holds another document (SHA-256 {}); choose another name, or replace it: its versions stay in the backup",
                hex(&present.sha256)
            )));
        }
    }
    for (identity, store) in [
        (&archive.backup, archive.versions.store()),
        (&archive.documents, &archive.store),
    ] {
        identity.check(store).await.map_err(|e| failed(&e))?;
    }
    let version = keep_version(archive, &wanted, &mut pieces).await?;
    if known {
        // A revalidation must not see the new bytes beside the old entry.
        replacing = Some(archive.mending.lock().await);
    }
    let meter = Meter::new(None);
    let copied = archive
        .store
        .copy_from(archive.versions.store(), &version, &name.document(), &meter)
        .await
        .map_err(|e| failed(&e))?;
    let expected = Measured {
        size: wanted.entry.size,
        sha256: wanted.entry.sha256,
    };
    if copied != expected {
        return Err(Status::data_loss(format!(
            "{name}: the backup gave other bytes back than were written; nothing was listed"
        )));
    }
    archive
        .store
        .put(&name.seal(), wanted.seal)
        .await
        .map_err(|e| failed(&e))?;
    let page = list(archive, wanted.entry).await?;
    drop(replacing);
    Ok(answer(page, false))
}

async fn list(archive: &Archive, entry: Entry) -> Result<u64, Status> {
    let (listed, answer) = oneshot::channel();
    let ending = || {
        Status::unavailable("the service is ending; the document is not listed yet: store it again")
    };
    let sent = archive.additions.send(Addition { entry, listed }).await;
    sent.map_err(|_| ending())?;
    let answered = answer.await.map_err(|_| ending())?;
    answered.map_err(|reason| {
        Status::unavailable(format!(
            "the document is stored and not listed: {reason}; store it again"
        ))
    })
}

async fn check(archive: &Archive, header: StoreHeader) -> Result<Wanted, Status> {
    let name =
        ObjectName::new(header.object).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let sha256 = <[u8; 32]>::try_from(&header.sha256[..]).map_err(|_| {
        Status::invalid_argument(format!("sha256 has {} bytes; send 32", header.sha256.len()))
    })?;
    let request = VerifyRequest {
        seal: header.seal.clone(),
        digest: header.sha256.clone(),
        anchors: Vec::new().into(),
    };
    let answer = archive
        .verifying
        .verify(&request)
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    if answer.verdict != "valid" && answer.verdict != "valid-before-compromise" {
        return Err(Status::failed_precondition(format!(
            "{name} is not archived, for its seal is {}: {}",
            answer.verdict, answer.reason
        )));
    }
    let seal = Seal::parse(&header.seal).map_err(|e| Status::invalid_argument(e.to_string()))?;
    // The leaf that it was first sealed as, so that renewing a seal changes nothing here.
    let (origin, index) = match seal.record.original {
        Some(original) => (original.origin, original.index),
        None => (answer.origin, answer.index),
    };
    let entry = Entry {
        name,
        size: header.size,
        sha256,
        origin,
        index,
        stored_at_ms: archive.now_ms(),
    };
    Ok(Wanted {
        entry,
        seal: header.seal.to_vec(),
        replace: header.replace,
    })
}

/// The document as a version in the backup store: one that is there, or the bytes that come.
async fn keep_version(
    archive: &Archive,
    wanted: &Wanted,
    pieces: &mut Streaming<StoreRequest>,
) -> Result<String, Status> {
    let entry = &wanted.entry;
    let meter = Arc::new(Meter::new(None));
    let (present, _) = archive
        .versions
        .intact(entry, &meter)
        .await
        .map_err(|e| failed(&e))?;
    let version = if let Some(version) = present {
        drain(pieces).await?;
        version.key
    } else {
        let (key, upload) = archive
            .versions
            .begin(&entry.name, entry.stored_at_ms, &entry.sha256);
        receive(entry, upload, pieces).await?;
        // What a disk or server acknowledged is looked at before it counts.
        let expected = Document::Present(Measured {
            size: entry.size,
            sha256: entry.sha256,
        });
        let read = archive
            .versions
            .store()
            .measure(&key, &meter)
            .await
            .map_err(|e| failed(&e))?;
        if read != expected {
            return Err(Status::data_loss(format!(
                "{}: the backup store gives other bytes back than were written",
                entry.name
            )));
        }
        key
    };
    archive
        .versions
        .put_seal(&version, &wanted.seal)
        .await
        .map_err(|e| failed(&e))?;
    Ok(version)
}

async fn receive(
    entry: &Entry,
    mut upload: Upload,
    pieces: &mut Streaming<StoreRequest>,
) -> Result<(), Status> {
    let result = fill(entry, &mut upload, pieces).await;
    match result {
        Ok(()) => upload.finish().await.map(drop).map_err(|e| failed(&e)),
        Err(status) => {
            upload.abort().await;
            Err(status)
        }
    }
}

async fn fill(
    entry: &Entry,
    upload: &mut Upload,
    pieces: &mut Streaming<StoreRequest>,
) -> Result<(), Status> {
    while let Some(request) = pieces.message().await? {
        upload.write(request.piece).await.map_err(|e| failed(&e))?;
        if upload.so_far_size() > entry.size {
            return Err(Status::invalid_argument(format!(
                "{}: more than the {} bytes that were announced came; was the file written to meanwhile?",
                entry.name, entry.size
            )));
        }
    }
    let got = upload.so_far();
    if got.size != entry.size || got.sha256 != entry.sha256 {
        return Err(Status::invalid_argument(format!(
            "{}: {} bytes with SHA-256 {} came, {} bytes with {} were announced; was the file changed meanwhile?",
            entry.name,
            got.size,
            hex(&got.sha256),
            entry.size,
            hex(&entry.sha256)
        )));
    }
    Ok(())
}

/// Lets the caller finish sending what is not needed.
async fn drain(pieces: &mut Streaming<StoreRequest>) -> Result<(), Status> {
    while pieces.message().await?.is_some() {}
    Ok(())
}

/// A store's error as an answer.
pub(crate) fn failed(error: &StoreError) -> Status {
    Status::unavailable(error.to_string())
}

/// Bytes as hex.
pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    sealwarden_seal::merkle::Hash(*bytes).to_string()
}
