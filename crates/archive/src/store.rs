//! One object store with a prefix: bounded reads, streamed writes, durable before they are answered for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};
use ring::digest::{Context, SHA256};

use crate::answer::{self, Answer};
use crate::damage::{Document, Found, Measured, SealFile};
use crate::error::StoreError;
use crate::inventory::Entry;
use crate::limits::{MAX_SEAL, at_most};
use crate::meter::Meter;
use crate::name::ObjectName;
use crate::{displace, read, walk};

/// Up to this many bytes are written at once; more in parts.
const AT_ONCE: usize = 8 * 1024 * 1024;
/// Parts that may be under way.
const PARTS_UNDER_WAY: usize = 4;
/// The permission bits that allow writing.
const WRITING: u32 = 0o222;

/// Something that a store lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key. What is no text in a file's name is shown as `\u{fffd}`.
    pub key: String,
    /// Its size, bytes.
    pub size: u64,
    /// It is a folder whose contents cannot be listed; why.
    pub closed: Option<String>,
}

/// What a store lists, piece by piece.
pub type Listing = Pin<Box<dyn Stream<Item = Result<Listed, StoreError>> + Send>>;

/// A store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: String,
    folder: Option<PathBuf>,
    place: String,
}

/// A document that is being written. Dropping it leaves the former object as it was.
pub struct Upload {
    store: Store,
    key: String,
    kept: Vec<u8>,
    parts: Option<WriteMultipart>,
    context: Context,
    size: u64,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("key", &self.key)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(
        inner: Arc<dyn ObjectStore>,
        prefix: String,
        folder: Option<PathBuf>,
        place: String,
    ) -> Self {
        Self {
            inner,
            prefix,
            folder,
            place,
        }
    }

    /// Where it lies, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        let whole = if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        };
        Path::parse(&whole).map_err(|e| self.unreadable(key, &e))
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(key))
    }

    fn unreadable(&self, key: &str, reason: &dyn std::fmt::Display) -> StoreError {
        StoreError::Unreadable {
            place: self.place.clone(),
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn unwritable(&self, key: &str, reason: &dyn std::fmt::Display) -> StoreError {
        StoreError::Unwritable {
            place: self.place.clone(),
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn not_written(&self, key: &str, error: &object_store::Error) -> StoreError {
        self.unwritable(key, &answer::words(error))
    }

    fn failed(&self, key: &str, error: &object_store::Error) -> StoreError {
        match answer::of(error) {
            Answer::NotThere => StoreError::NotFound {
                place: self.place.clone(),
                key: key.to_owned(),
            },
            Answer::No(reason) => self.unreadable(key, &reason),
            // A file that cannot be read is the file's own matter.
            Answer::None(reason) if self.folder.is_some() => self.unreadable(key, &reason),
            Answer::None(reason) => StoreError::Away {
                place: self.place.clone(),
                reason,
            },
        }
    }

    /// Refuses what is no regular file: reading a pipe in a document's place would wait for ever.
    async fn regular(&self, key: &str) -> Result<(), StoreError> {
        let Some(file) = self.file(key) else {
            return Ok(());
        };
        match tokio::fs::symlink_metadata(&file).await {
            Ok(metadata) if metadata.is_file() => Ok(()),
            Ok(_) => Err(self.unreadable(key, &"it is no regular file")),
            Err(e) if read::is_absent(&e) => Err(StoreError::NotFound {
                place: self.place.clone(),
                key: key.to_owned(),
            }),
            Err(e) => Err(self.unreadable(key, &e)),
        }
    }

    /// The bytes of a small object.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.regular(key).await?;
        let got = self
            .inner
            .get(&self.path(key)?)
            .await
            .map_err(|e| self.failed(key, &e))?;
        let found = got.meta.size;
        let too_large = |found| StoreError::TooLarge {
            place: self.place.clone(),
            key: key.to_owned(),
            found,
            limit,
        };
        if found > limit {
            return Err(too_large(found));
        }
        let mut stream = got.into_stream();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(|e| self.failed(key, &e))?);
            let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if read > limit {
                return Err(too_large(read));
            }
        }
        Ok(bytes)
    }

    /// Size of an object; `None` where there is none.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.inner.head(&self.path(key)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(key, &e)),
        }
    }

    /// Writes a small object, replacing what was there.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let put = self.inner.put(&path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|e| self.not_written(key, &e))
    }

    /// Begins to write an object of any size.
    pub fn upload(&self, key: &str) -> Upload {
        Upload {
            store: self.clone(),
            key: key.to_owned(),
            kept: Vec::new(),
            parts: None,
            context: Context::new(&SHA256),
            size: 0,
        }
    }

    /// Removes an object; none is there afterwards.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.inner.delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.not_written(key, &e)),
        }
    }

    /// What lies below a folder of the store, in no order. Of folders everything that is no folder, links and pipes too; nothing is followed.
    pub fn list(&self, below: &str) -> Result<Listing, StoreError> {
        let path = self.path(below)?;
        if let Some(folder) = &self.folder {
            return Ok(walk::below(
                folder.clone(),
                below.to_owned(),
                self.place.clone(),
            ));
        }
        let cut = if self.prefix.is_empty() {
            0
        } else {
            self.prefix.len() + 1
        };
        let place = self.place.clone();
        let listed = self.inner.list(Some(&path)).map(move |object| {
            let object = object.map_err(|e| StoreError::Unlisted {
                place: place.clone(),
                reason: answer::words(&e),
            })?;
            let key = object.location.as_ref().get(cut..).unwrap_or_default();
            Ok(Listed {
                key: key.to_owned(),
                size: object.size,
                closed: None,
            })
        });
        Ok(Box::pin(listed))
    }

    /// Copies an object from another store (or from elsewhere in this one), piece by piece; answers what was copied.
    pub async fn copy_from(
        &self,
        other: &Self,
        from: &str,
        to: &str,
        meter: &Meter,
    ) -> Result<Measured, StoreError> {
        let mut stream = other.stream(from).await?;
        let mut upload = self.upload(to);
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            if !meter.passed(piece.len()).await {
                return Err(StoreError::Stopped);
            }
            upload.write(piece).await?;
        }
        upload.finish().await
    }

    /// An object's bytes, piece by piece.
    async fn stream(
        &self,
        key: &str,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>, StoreError> {
        self.regular(key).await?;
        let got = self
            .inner
            .get(&self.path(key)?)
            .await
            .map_err(|e| self.failed(key, &e))?;
        let (store, key) = (self.clone(), key.to_owned());
        Ok(Box::pin(got.into_stream().map(move |piece| {
            piece.map_err(|e| store.failed(&key, &e))
        })))
    }

    /// Offset of the first byte in which two objects differ; the shorter one's length if it is the other's beginning, `None` if they are the same.
    pub async fn first_difference(
        &self,
        key: &str,
        other: &Self,
        other_key: &str,
        meter: &Meter,
    ) -> Result<Option<u64>, StoreError> {
        let (mut ours, mut theirs) = (self.stream(key).await?, other.stream(other_key).await?);
        let (mut a, mut b) = (Bytes::new(), Bytes::new());
        let mut offset = 0_u64;
        loop {
            if a.is_empty() {
                a = next(&mut ours).await?;
            }
            if b.is_empty() {
                b = next(&mut theirs).await?;
            }
            let length = a.len().min(b.len());
            if length == 0 {
                return Ok((a.len() != b.len()).then_some(offset));
            }
            let (left, right) = (a.split_to(length), b.split_to(length));
            if let Some(at) = left.iter().zip(&right).position(|(x, y)| x != y) {
                return Ok(Some(
                    offset.saturating_add(u64::try_from(at).unwrap_or(u64::MAX)),
                ));
            }
            offset = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            // Both sides were read.
            if !meter.passed(length.saturating_mul(2)).await {
                return Err(StoreError::Stopped);
            }
        }
    }

    /// Size and SHA-256 of an object, read piece by piece.
    pub async fn measure(&self, key: &str, meter: &Arc<Meter>) -> Result<Document, StoreError> {
        self.measure_at_most(key, u64::MAX, meter).await
    }

    async fn measure_at_most(
        &self,
        key: &str,
        at_most: u64,
        meter: &Arc<Meter>,
    ) -> Result<Document, StoreError> {
        if let Some(file) = self.file(key) {
            let meter = Arc::clone(meter);
            let read = tokio::task::spawn_blocking(move || {
                read::document(&file, at_most, &meter, &mut Vec::new())
            });
            return read
                .await
                .map_err(|e| self.unreadable(key, &e))?
                .ok_or(StoreError::Stopped);
        }
        let got = match self.inner.get(&self.path(key)?).await {
            Ok(got) => got,
            Err(e) => {
                return Ok(match answer::of(&e) {
                    Answer::NotThere => Document::Missing,
                    Answer::No(reason) => Document::Unreadable(reason),
                    Answer::None(reason) => Document::Unanswered(reason),
                });
            }
        };
        if got.meta.size > at_most {
            return Ok(Document::Oversized(got.meta.size));
        }
        let mut stream = got.into_stream();
        let (mut context, mut size) = (Context::new(&SHA256), 0_u64);
        while let Some(piece) = stream.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                // It began to answer: that the rest did not come says nothing of the object.
                Err(e) => return Ok(Document::Unanswered(answer::words(&e))),
            };
            context.update(&piece);
            size = size.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if !meter.passed(piece.len()).await {
                return Err(StoreError::Stopped);
            }
        }
        Ok(Document::Present(Measured {
            size,
            sha256: finished(context),
        }))
    }

    /// What stands in the archive for each of these entries, one after another. For folders all of it is read on one thread.
    pub async fn observe(
        &self,
        entries: Vec<Entry>,
        meter: &Arc<Meter>,
    ) -> Result<Vec<(Entry, Found)>, StoreError> {
        if self.folder.is_some() {
            let (store, meter) = (self.clone(), Arc::clone(meter));
            let read = tokio::task::spawn_blocking(move || store.observe_files(entries, &meter));
            return read.await.map_err(|e| self.unreadable("documents", &e))?;
        }
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let document = self
                .measure_at_most(&entry.name.document(), at_most(&entry), meter)
                .await?;
            let seal = self.seal_file(&entry.name).await;
            // Seals are read at the same rate: of small documents they are the larger part.
            if let SealFile::Present(bytes) = &seal
                && !meter.passed(bytes.len()).await
            {
                return Err(StoreError::Stopped);
            }
            all.push((entry, Found { document, seal }));
        }
        Ok(all)
    }

    /// As [`Store::observe`], on this thread. Only for folders; elsewhere everything is missing.
    pub fn observe_files(
        &self,
        entries: Vec<Entry>,
        meter: &Meter,
    ) -> Result<Vec<(Entry, Found)>, StoreError> {
        let mut buffer = Vec::new();
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let file = |key: &str| self.file(key).unwrap_or_default();
            let document = read::document(
                &file(&entry.name.document()),
                at_most(&entry),
                meter,
                &mut buffer,
            )
            .ok_or(StoreError::Stopped)?;
            let seal = read::seal(&file(&entry.name.seal()));
            if let SealFile::Present(bytes) = &seal
                && !meter.pass(bytes.len())
            {
                return Err(StoreError::Stopped);
            }
            all.push((entry, Found { document, seal }));
        }
        Ok(all)
    }

    /// The seal beside a document.
    pub async fn seal_file(&self, name: &ObjectName) -> SealFile {
        if let Some(file) = self.file(&name.seal()) {
            return match tokio::task::spawn_blocking(move || read::seal(&file)).await {
                Ok(seal) => seal,
                Err(e) => SealFile::Unreadable(e.to_string()),
            };
        }
        match self.get(&name.seal(), MAX_SEAL).await {
            Ok(bytes) => SealFile::Present(bytes),
            Err(e) if e.is_not_found() => SealFile::Missing,
            Err(StoreError::Away { reason, .. }) => SealFile::Unanswered(reason),
            Err(e) => SealFile::Unreadable(e.to_string()),
        }
    }

    /// Moves away what is no file, or is far too large, and stands where a document or its seal shall be written; answers where it lies then. Only folders can have such a thing.
    pub async fn clear(&self, entry: &Entry, at_ms: i64) -> Result<Vec<PathBuf>, StoreError> {
        let name = &entry.name;
        let Some(folder) = self.folder.clone() else {
            return Ok(Vec::new());
        };
        let keys = [(name.document(), at_most(entry)), (name.seal(), MAX_SEAL)];
        let moved = tokio::task::spawn_blocking(move || {
            let cleared = keys
                .iter()
                .map(|(key, at_most)| displace::clear(&folder, key, *at_most, at_ms));
            cleared
                .filter_map(Result::transpose)
                .collect::<std::io::Result<_>>()
        });
        let moved = moved
            .await
            .map_err(|e| self.unwritable(&name.document(), &e))?;
        moved.map_err(|e| self.unwritable(&name.document(), &e))
    }

    /// Makes a document and its seal read-only, or writable again, where the store has such a thing; answers whether it has. What is not there is left so.
    pub async fn protect(&self, name: &ObjectName, read_only: bool) -> Result<bool, StoreError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(false);
        };
        let keys = [name.document(), name.seal()];
        let changed = tokio::task::spawn_blocking(move || {
            for key in keys {
                let file = folder.join(key);
                match std::fs::symlink_metadata(&file) {
                    Ok(metadata) if metadata.is_file() => {
                        let mode = metadata.permissions().mode() & 0o7777;
                        let mode = if read_only {
                            mode & !WRITING
                        } else {
                            mode | 0o200
                        };
                        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
                    }
                    Ok(_) => {}
                    Err(e) if read::is_absent(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        });
        let changed = changed
            .await
            .map_err(|e| self.unwritable(&name.document(), &e))?;
        changed
            .map(|()| true)
            .map_err(|e| self.unwritable(&name.document(), &e))
    }
}

fn finished(context: Context) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    sha256
}

async fn next(
    stream: &mut (impl Stream<Item = Result<Bytes, StoreError>> + Unpin),
) -> Result<Bytes, StoreError> {
    loop {
        match stream.next().await {
            Some(piece) => {
                let piece = piece?;
                if !piece.is_empty() {
                    return Ok(piece);
                }
            }
            None => return Ok(Bytes::new()),
        }
    }
}

impl Upload {
    /// Takes the next piece.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.context.update(&piece);
        self.size = self
            .size
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if let Some(parts) = &mut self.parts {
            let waited = parts.wait_for_capacity(PARTS_UNDER_WAY).await;
            waited.map_err(|e| self.store.not_written(&self.key, &e))?;
            parts.put(piece);
            return Ok(());
        }
        self.kept.extend_from_slice(&piece);
        if self.kept.len() > AT_ONCE {
            let path = self.store.path(&self.key)?;
            let parts = self.store.inner.put_multipart(&path).await;
            let mut parts =
                WriteMultipart::new(parts.map_err(|e| self.store.not_written(&self.key, &e))?);
            parts.put(std::mem::take(&mut self.kept).into());
            self.parts = Some(parts);
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn so_far_size(&self) -> u64 {
        self.size
    }

    /// Bytes written so far, and their SHA-256.
    pub fn so_far(&self) -> Measured {
        Measured {
            size: self.size,
            sha256: finished(self.context.clone()),
        }
    }

    /// Makes it the object, durably.
    pub async fn finish(self) -> Result<Measured, StoreError> {
        let measured = self.so_far();
        match self.parts {
            Some(parts) => parts
                .finish()
                .await
                .map(drop)
                .map_err(|e| self.store.not_written(&self.key, &e))?,
            None => self.store.put(&self.key, self.kept).await?,
        }
        Ok(measured)
    }

    /// Throws it away.
    pub async fn abort(self) {
        if let Some(parts) = self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(key = %self.key, %error, "an upload could not be thrown away");
        }
    }
}
