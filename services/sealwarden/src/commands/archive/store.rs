//! `seal --archive`: what is sealed goes into an archive. Asking again changes nothing, so a command that broke off is given again.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::archive::v1::archives_client::ArchivesClient;
use sealwarden_wire::archive::v1::{StoreHeader, StoreRequest};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::Seal as SealArguments;
use crate::client::{Client, Traced};
use crate::failure::Failure;

/// Bytes of a message.
const PIECE: usize = 1024 * 1024;
/// Messages that are read ahead.
const AHEAD: usize = 4;

/// Documents that are sent at once.
const AT_ONCE: usize = 8;

/// A document that is in the archive.
pub(crate) struct Stored {
    archive: String,
    object: String,
    /// It was there already.
    known: bool,
}

impl Stored {
    /// What follows the words about a seal.
    pub(crate) fn words(&self) -> String {
        let already = if self.known { " already" } else { "" };
        format!(", archived{already} as {} in {}", self.object, self.archive)
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({ "archive": self.archive, "object": self.object, "known": self.known })
    }
}

/// Where files go, if an archive was named.
pub(crate) struct Archiving {
    to: Option<To>,
}

struct To {
    client: ArchivesClient<Traced>,
    archive: String,
    prefix: String,
    replace: bool,
    places: Semaphore,
}

impl Archiving {
    /// From the words of `seal`.
    pub(crate) async fn new(services: &Client, args: &SealArguments) -> Result<Self, Failure> {
        let Some(archive) = args.archive.clone() else {
            return Ok(Self { to: None });
        };
        let to = To {
            client: services.archives().await?,
            archive,
            prefix: args.archive_prefix.clone(),
            replace: args.archive_replace,
            places: Semaphore::new(AT_ONCE),
        };
        Ok(Self { to: Some(to) })
    }

    /// Into this archive, under names that the caller gives.
    pub(crate) async fn into(services: &Client, archive: &str) -> Result<Self, Failure> {
        let to = To {
            client: services.archives().await?,
            archive: archive.to_owned(),
            prefix: String::new(),
            replace: false,
            places: Semaphore::new(AT_ONCE),
        };
        Ok(Self { to: Some(to) })
    }

    /// Stores a file and its seal under this name.
    pub(crate) async fn store_as(
        &self,
        object: String,
        file: &Path,
        seal: &Path,
    ) -> Result<Option<Stored>, Failure> {
        let Some(to) = &self.to else {
            return Ok(None);
        };
        let _place = to.places.acquire().await.context("waiting for a place")?;
        to.store(object, file, seal).await.map(Some)
    }

    /// Stores a file and its seal under the file's name.
    pub(crate) async fn store(&self, file: &Path, seal: &Path) -> Result<Option<Stored>, Failure> {
        let Some(to) = &self.to else {
            return Ok(None);
        };
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| *name != "-");
        let name = name.ok_or_else(|| {
            Failure::usage(format!(
                "{} has no name to be archived under; name a file",
                file.display()
            ))
        })?;
        self.store_as(format!("{}{name}", to.prefix), file, seal)
            .await
    }
}

impl To {
    async fn store(&self, object: String, file: &Path, seal: &Path) -> Result<Stored, Failure> {
        let seal_bytes =
            std::fs::read(seal).with_context(|| format!("reading {}", seal.display()))?;
        let digest = Seal::parse(&seal_bytes)
            .map_err(|e| Failure::usage(format!("{}: {e}", seal.display())))?
            .record
            .digest;
        let reading = || format!("reading {}", file.display());
        let opened = File::open(file).with_context(reading)?;
        let size = opened.metadata().with_context(reading)?.len();
        let header = StoreHeader {
            archive: self.archive.clone(),
            object,
            seal: seal_bytes.into(),
            size,
            sha256: digest.to_vec().into(),
            replace: self.replace,
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reader = tokio::task::spawn_blocking(move || send(opened, header, &sender));
        let mut client = self.client.clone();
        let answer = client.store(ReceiverStream::new(receiver)).await;
        let read = reader.await.with_context(reading)?;
        let answer = answer?.into_inner();
        read.with_context(reading)?;
        Ok(Stored {
            archive: answer.archive,
            object: answer.object,
            known: answer.known,
        })
    }
}

/// Sends header and pieces; a service that does not want more ends it.
fn send(mut file: File, header: StoreHeader, to: &mpsc::Sender<StoreRequest>) -> io::Result<()> {
    let first = StoreRequest {
        header: Some(header),
        ..StoreRequest::default()
    };
    if to.blocking_send(first).is_err() {
        return Ok(());
    }
    let mut piece = vec![0; PIECE];
    loop {
        let count = match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let bytes = piece.get(..count).unwrap_or_default().to_vec();
        let next = StoreRequest {
            header: None,
            piece: bytes.into(),
        };
        if to.blocking_send(next).is_err() {
            return Ok(());
        }
    }
}
