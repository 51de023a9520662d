//! Reading a long file from its beginning to its end through a window of bounded size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// How much is read at once, unless more is asked for.
const WINDOW_BYTES: u64 = 256 * 1024;

pub(super) struct Window {
    file: File,
    length: u64,
    base: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            length: file.metadata()?.len(),
            file,
            base: 0,
            bytes: Vec::new(),
        })
    }

    /// The file's length when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `length` bytes from `offset` on; `None` where the file does not go that far.
    pub(super) fn get(&mut self, offset: u64, length: u64) -> io::Result<Option<&[u8]>> {
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.length)
        {
            return Ok(None);
        }
        if self.held(offset, length).is_none() {
            let wanted = length.max(WINDOW_BYTES).min(self.length - offset);
            self.bytes.clear();
            self.bytes
                .resize(usize::try_from(wanted).map_err(io::Error::other)?, 0);
            self.base = offset;
            self.file.read_exact_at(&mut self.bytes, offset)?;
        }
        Ok(self.held(offset, length))
    }

    /// At most `length` bytes from `offset` on.
    pub(super) fn up_to(&mut self, offset: u64, length: u64) -> io::Result<Option<&[u8]>> {
        let there = self.length.saturating_sub(offset).min(length);
        self.get(offset, there)
    }

    fn held(&self, offset: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(start..end)
    }
}
