//! Lines of a file that others write to.

use std::{fs::File, io::Read, os::unix::fs::FileExt};

/// A file from an offset on, without moving the offset of its handle.
pub(super) struct At<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

/// Whether a line ends before byte `offset`.
pub(super) fn ends_a_line(file: &File, offset: u64) -> std::io::Result<bool> {
    let Some(before) = offset.checked_sub(1) else {
        return Ok(true);
    };
    let mut last = [0_u8; 1];
    Ok(file.read_at(&mut last, before)? == 1 && last == [b'\n'])
}

/// Where the last complete line ends; 0 if there is none.
pub(super) fn last_line_end(file: &File) -> Option<u64> {
    const PIECE: u64 = 4096;
    let mut end = file.metadata().ok()?.len();
    while end > 0 {
        let begin = end.saturating_sub(PIECE);
        let mut piece = vec![0_u8; usize::try_from(end.saturating_sub(begin)).ok()?];
        file.read_exact_at(&mut piece, begin).ok()?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            let at = u64::try_from(at).ok()?;
            return Some(begin.saturating_add(at).saturating_add(1));
        }
        end = begin;
    }
    Some(0)
}
