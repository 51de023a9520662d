//! What was done to the file besides growing and being rotated.

use std::{collections::BTreeSet, fs::File, io::BufReader, os::unix::fs::FileExt};

use jiff::Timestamp;

use super::{
    Break, Follower, Identity, LEAP, NAMED, Part, REMEMBERED, Seen, bytes::At, cut, unavailable,
};
use crate::{
    error::KeyError,
    provider::AuditGapKind,
    transit::{
        audit::{Said, Shown, next_line},
        memory::Digest,
        trail::sha256,
    },
};

impl Follower {
    /// Whether the newest part can be read: if it is not what was read of it, the next part begins here.
    pub(super) fn check(&mut self, told: u64) -> Result<bool, KeyError> {
        let Some(part) = self.known.parts.last().cloned() else {
            return Ok(true);
        };
        let Some(file) = self.handle(&part).map(File::try_clone) else {
            return Ok(true);
        };
        let file = file.map_err(|error| unavailable(&self.path, &error))?;
        if !is_damaged(&file, &part).map_err(|error| unavailable(&self.path, &error))? {
            return Ok(true);
        }
        // Whoever rewrites a file empties it first: what it is shows with its first line.
        let Some(first_ms) = self.first_time(&file) else {
            return Ok(false);
        };
        let kind = if first_ms < self.last_time() {
            AuditGapKind::Rewritten
        } else {
            AuditGapKind::Truncated
        };
        self.broken(kind, part.file, file, told)?;
        Ok(true)
    }

    /// An older part that cannot be found any more.
    pub(super) fn lost(&mut self, index: usize) {
        if let Some(part) = self.known.parts.get_mut(index) {
            part.gone = true;
            let last = part.last.as_ref().map_or("", |last| &last.text);
            let evidence = format!(
                "a rotated file of {} was not read to its end before it was removed or packed; its last line read: {last}",
                self.path.display()
            );
            self.tell(AuditGapKind::Lost, evidence, Vec::new());
        }
    }

    /// Goes on in `file` after something was done to the audit, of which somebody was told up to the position `told`: with the first line that is not
    /// older than the last one read.
    pub(super) fn broken(
        &mut self,
        kind: AuditGapKind,
        identity: Identity,
        file: File,
        told: u64,
    ) -> Result<(), KeyError> {
        let last_ms = self.last_time();
        let before = self.last_line();
        let Some(part) = self.known.parts.last_mut() else {
            return Ok(());
        };
        part.gone = true;
        let base = part.position(part.read()).max(told).saturating_add(LEAP);
        let again = self
            .again(&file, last_ms)
            .map_err(|error| unavailable(&self.path, &error))?;
        let removed: Vec<Seen> = self
            .recent
            .iter()
            .filter(|seen| {
                seen.at_ms > again.first_ms && !again.shown.contains(&seen.shown.digest())
            })
            .cloned()
            .collect();
        let evidence = format!(
            "{before}\nnow it has {} bytes; its first line: {}",
            again.length, again.first
        );
        self.handles.clear();
        self.add(Part::new(identity, base, again.start), Some(file));
        self.tell(kind, evidence, removed);
        Ok(())
    }

    fn tell(&mut self, kind: AuditGapKind, evidence: String, mut removed: Vec<Seen>) {
        let count = removed.len();
        removed.truncate(NAMED);
        let at_ms = Timestamp::now().as_millisecond();
        self.known.breaks.push_back(Break {
            kind,
            at_ms,
            evidence,
            removed,
            count,
        });
        let excess = self.known.breaks.len().saturating_sub(REMEMBERED);
        self.known.breaks.drain(..excess);
    }

    /// Looks through a file that is not what it was.
    fn again(&self, file: &File, last_ms: i64) -> std::io::Result<Again> {
        let mut again = Again {
            first_ms: i64::MAX,
            first: String::new(),
            start: 0,
            length: file.metadata()?.len(),
            shown: BTreeSet::new(),
        };
        let wanted: BTreeSet<Digest> = self.recent.iter().map(|it| it.shown.digest()).collect();
        let mut reader = BufReader::with_capacity(64 * 1024, At { file, offset: 0 });
        let mut offset = 0_u64;
        let mut is_newer = false;
        while let Some((bytes, taken)) = next_line(&mut reader)? {
            let (said, time) = self.interest.understand(&bytes);
            if offset == 0 {
                again.first_ms = time.unwrap_or(i64::MAX);
                again.first = cut(&bytes);
            }
            is_newer |= time.is_some_and(|at_ms| at_ms >= last_ms);
            offset = offset.saturating_add(taken);
            if !is_newer {
                again.start = offset;
            }
            if let Said::Used { messages, .. } = said {
                let known = messages.iter().map(Shown::digest);
                again.shown.extend(known.filter(|it| wanted.contains(it)));
            }
        }
        Ok(again)
    }
}

/// What a second look at a file found.
struct Again {
    first_ms: i64,
    first: String,
    /// Where lines begin that are not older than the last one read.
    start: u64,
    length: u64,
    /// Which of the uses that were read before it shows.
    shown: BTreeSet<Digest>,
}

/// Whether a part is not what was read of it any more.
fn is_damaged(file: &File, part: &Part) -> std::io::Result<bool> {
    if file.metadata()?.len() < part.read() {
        return Ok(true);
    }
    let Some(last) = &part.last else {
        return Ok(false);
    };
    let length = u64::try_from(last.length).unwrap_or(u64::MAX);
    let mut bytes = vec![0; last.length];
    file.read_exact_at(&mut bytes, last.end.saturating_sub(length))?;
    Ok(sha256(&bytes) != last.sha256)
}
