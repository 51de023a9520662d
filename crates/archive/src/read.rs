//! Reading files of a folder, on threads of their own: an object store's stream costs a thread's turn for each few kilobytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fs::OFlags;

use crate::damage::{Document, Measured, SealFile};
use crate::limits::MAX_SEAL;
use crate::meter::Meter;

/// Bytes that are read at once.
pub(crate) const PIECE: usize = 256 * 1024;

/// Opens a file that must be one: a link or a pipe in its place is damage, and must not be followed or waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// Whether an error means that nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Size and SHA-256 of a document. `None` when the meter was stopped.
pub(crate) fn document(
    path: &Path,
    at_most: u64,
    meter: &Meter,
    buffer: &mut Vec<u8>,
) -> Option<Document> {
    match measure(path, at_most, meter, buffer) {
        Ok(document) => document,
        Err(e) if is_absent(&e) => Some(Document::Missing),
        Err(e) => Some(Document::Unreadable(e.to_string())),
    }
}

fn measure(
    path: &Path,
    at_most: u64,
    meter: &Meter,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Document>> {
    let mut file = open(path)?;
    let size = file.metadata()?.len();
    if size > at_most {
        return Ok(Some(Document::Oversized(size)));
    }
    buffer.resize(PIECE, 0);
    let mut context = Context::new(&SHA256);
    let mut read = 0_u64;
    loop {
        let count = match file.read(buffer) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if count == 0 {
            break;
        }
        context.update(buffer.get(..count).unwrap_or_default());
        read = read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if read > at_most {
            return Ok(Some(Document::Oversized(read)));
        }
        if !meter.pass(count) {
            return Ok(None);
        }
        // A file that ended where it was said to end needs no further call.
        if count < PIECE && read >= size {
            break;
        }
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok(Some(Document::Present(Measured { size: read, sha256 })))
}

/// A seal's bytes, one more than it may have if there are more.
pub(crate) fn seal(path: &Path) -> SealFile {
    let read = || -> io::Result<Vec<u8>> {
        let file = open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_SEAL.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => SealFile::Present(bytes),
        Err(e) if is_absent(&e) => SealFile::Missing,
        Err(e) => SealFile::Unreadable(e.to_string()),
    }
}
