//! The private segments, read in order: each leaf's nonce and record, and where it ends.

use super::ErasedPlaces;
use super::damage::{DamageKind, Findings, count};
use super::erased::Erased;
use super::window::Window;
use crate::leaf::{NONCE_BYTES, is_zero};
use crate::private::{END_BYTES, MAX_LEAF_BYTES, SEGMENT_LEAVES, Segment};
use sealwarden_seal::merkle::{Hash, leaf_hash};
use sealwarden_seal::record::{ENTRY_BYTES, Record, entry};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub(super) type Entry = [u8; ENTRY_BYTES];

/// One of a segment's two files.
struct Part {
    path: PathBuf,
    window: Option<Window>,
}

impl Part {
    fn open(findings: &mut Findings<'_>, path: &Path, minimum: u64, what: &str) -> Self {
        let window = match Window::open(&findings.dir.join(path)) {
            Ok(window) => {
                findings.files += 1;
                findings.bytes += window.length();
                Some(window)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                findings.missing(path, minimum, what);
                None
            }
            Err(error) => {
                findings.unreadable(path, &error);
                None
            }
        };
        Self {
            path: path.to_path_buf(),
            window,
        }
    }

    fn length(&self) -> u64 {
        self.window.as_ref().map_or(0, Window::length)
    }

    /// Reads; an error is reported once and ends the reading of this file.
    fn read<T>(
        &mut self,
        findings: &mut Findings<'_>,
        read: impl FnOnce(&mut Window) -> io::Result<Option<T>>,
    ) -> Option<T> {
        match read(self.window.as_mut()?) {
            Ok(value) => value,
            Err(error) => {
                findings.unreadable(&self.path, &error);
                self.window = None;
                None
            }
        }
    }
}

/// The segment that is being read.
struct Open {
    number: u64,
    records: Part,
    ends: Part,
    /// Where the next leaf begins; `None` once that is lost.
    start: Option<u64>,
    /// The files' common cut was reported.
    cut: bool,
}

/// Reads leaves one after another.
pub(super) struct PrivateAudit {
    size: u64,
    erased: Erased,
    open: Option<Open>,
}

impl PrivateAudit {
    pub(super) fn new(size: u64, erased: &[ErasedPlaces]) -> Self {
        Self {
            size,
            erased: Erased::new(erased),
            open: None,
        }
    }

    /// Whether some of these leaves are said to have no record, which could vote.
    pub(super) fn lacks_some(&self, leaves: &Range<u64>) -> bool {
        self.erased.any(leaves)
    }

    /// The entry that the private record of leaf `index` commits to. `wanted` are the hashes that the public files have for
    /// the leaf; a record that leads to none of them is reported.
    pub(super) fn entry(
        &mut self,
        findings: &mut Findings<'_>,
        index: u64,
        wanted: &[Hash],
    ) -> Option<Entry> {
        let number = index / SEGMENT_LEAVES;
        if self.open.as_ref().is_none_or(|open| open.number != number) {
            self.finish(findings);
            self.open = Some(self.segment(findings, number));
        }
        let named = self.erased.of(index);
        let open = self.open.as_mut()?;
        open.entry(findings, index, (wanted, named))
    }

    fn segment(&self, findings: &mut Findings<'_>, number: u64) -> Open {
        let leaves = self.leaves(number);
        let names = Segment::of(Path::new(""), number * SEGMENT_LEAVES);
        let records = Part::open(findings, &names.records, 0, "the private records");
        let bytes = leaves * END_BYTES;
        let ends = Part::open(findings, &names.ends, bytes, "the private records' places");
        if ends.window.is_some() && ends.length() < bytes {
            findings.length(&ends.path, ends.length(), bytes);
        }
        Open {
            number,
            records,
            ends,
            start: Some(0),
            cut: false,
        }
    }

    fn leaves(&self, number: u64) -> u64 {
        (self.size - number * SEGMENT_LEAVES).min(SEGMENT_LEAVES)
    }

    /// Looks at what follows the last leaf of the segment that was read.
    pub(super) fn finish(&mut self, findings: &mut Findings<'_>) {
        let Some(open) = self.open.take() else { return };
        let leaves = self.leaves(open.number);
        let ends = leaves * END_BYTES;
        let records = open.start.unwrap_or(u64::MAX);
        let (records_over, ends_over) =
            (open.records.length() > records, open.ends.length() > ends);
        // The writer appends before it publishes.
        let may_grow = leaves < SEGMENT_LEAVES;
        if (!records_over && !ends_over)
            || (may_grow && super::notes::covered(findings.dir) > self.size)
        {
            return;
        }
        if records_over {
            findings.length(&open.records.path, open.records.length(), records);
        }
        if ends_over {
            findings.length(&open.ends.path, open.ends.length(), ends);
        }
    }
}

impl Open {
    fn entry(
        &mut self,
        findings: &mut Findings<'_>,
        index: u64,
        (wanted, named): (&[Hash], Option<&ErasedPlaces>),
    ) -> Option<Entry> {
        let start = self.start?;
        let place = index % SEGMENT_LEAVES * END_BYTES;
        let end = self.end(findings, place);
        if let Some(end) = end
            && self.without_record(findings, (index, start..end), (wanted, named))
        {
            self.start = Some(end);
            return None;
        }
        let stated = end.and_then(|end| self.at(findings, start, end));
        if let Some(entry) = stated.filter(|entry| fits(entry, wanted)) {
            self.start = end;
            return Some(entry);
        }
        if let Some((entry, true_end)) = self.by_form(findings, start)
            && fits(&entry, wanted)
            && !wanted.is_empty()
        {
            // The record is good; where it ends is what was changed.
            if let Some(end) = end {
                let (found, expected) = (end.to_be_bytes(), true_end.to_be_bytes());
                let what = format!("the end of leaf {index}");
                report_at(findings, &self.ends.path, place, &found, &expected, &what);
            }
            self.start = Some(true_end);
            return Some(entry);
        }
        self.give_up_on(findings, index, start, end);
        stated
    }

    /// Whether there is no record at a place any more. That is damage where nobody names it, and so is a record that is there where it is said to be erased.
    fn without_record(
        &mut self,
        findings: &mut Findings<'_>,
        (index, place): (u64, Range<u64>),
        (wanted, named): (&[Hash], Option<&ErasedPlaces>),
    ) -> bool {
        let length = place.end.saturating_sub(place.start);
        if !(count(NONCE_BYTES)..=MAX_LEAF_BYTES).contains(&length) {
            return false;
        }
        let bytes = self.records.read(findings, |window| {
            let bytes = window.get(place.start, length)?;
            // Most leaves are neither: nothing is copied for them.
            let bytes = bytes.filter(|bytes| named.is_some() || is_zero(bytes));
            Ok(bytes.map(<[u8]>::to_vec))
        });
        let Some(bytes) = bytes else {
            return false;
        };
        let whole = || commitment(&bytes).is_some_and(|entry| fits(&entry, wanted));
        let (expected, found) = match named {
            _ if is_zero(&bytes) && named.is_some() => {
                findings.erased += 1;
                return true;
            }
            None if is_zero(&bytes) => (
                format!("the nonce and record that leaf {index} commits to"),
                "zeros: they were erased, and no event names this place".to_owned(),
            ),
            None => return false,
            Some(named) if named.is_finished => (
                format!("zeros in place of leaf {index}: {} erased it", named.source),
                if whole() {
                    "its nonce and record, which are still there or were put back".to_owned()
                } else {
                    "other bytes".to_owned()
                },
            ),
            Some(_) if whole() => return false,
            Some(_) => {
                findings.erasing += 1;
                return true;
            }
        };
        findings.report(
            &self.records.path,
            DamageKind::Changed,
            (place.start, length),
            expected,
            found,
        );
        true
    }

    /// Where the leaf ends, by `….ends`.
    fn end(&mut self, findings: &mut Findings<'_>, place: u64) -> Option<u64> {
        self.ends.read(findings, |window| {
            let bytes = window.get(place, END_BYTES)?;
            Ok(bytes
                .and_then(|bytes| bytes.first_chunk::<8>())
                .map(|end| u64::from_be_bytes(*end)))
        })
    }

    fn at(&mut self, findings: &mut Findings<'_>, start: u64, end: u64) -> Option<Entry> {
        let length = end.checked_sub(start).filter(|it| *it <= MAX_LEAF_BYTES)?;
        self.records.read(findings, |window| {
            Ok(window.get(start, length)?.and_then(commitment))
        })
    }

    /// The leaf at `start` as far as the form of its record goes, and where that ends.
    fn by_form(&mut self, findings: &mut Findings<'_>, start: u64) -> Option<(Entry, u64)> {
        self.records.read(findings, |window| {
            let bytes = window.up_to(start, MAX_LEAF_BYTES)?.unwrap_or_default();
            let record = bytes.get(NONCE_BYTES..).unwrap_or_default();
            let Ok((_, length)) = Record::decode_prefix(record) else {
                return Ok(None);
            };
            let length = NONCE_BYTES + length;
            let entry = bytes.get(..length).and_then(commitment);
            Ok(entry.map(|entry| (entry, start + count(length))))
        })
    }

    /// Reports a leaf whose record is not the one in the tree, and goes on behind it if that place can be told.
    fn give_up_on(
        &mut self,
        findings: &mut Findings<'_>,
        index: u64,
        start: u64,
        end: Option<u64>,
    ) {
        if self.records.window.is_none() {
            self.start = None;
            return;
        }
        let length = self.records.length();
        let plausible = end.filter(|end| {
            end.checked_sub(start)
                .is_some_and(|it| (count(NONCE_BYTES)..=MAX_LEAF_BYTES).contains(&it))
        });
        if let Some(end) = plausible.filter(|end| *end > length) {
            if !self.cut {
                findings.length(&self.records.path, length, end);
                self.cut = true;
            }
            self.start = None;
            return;
        }
        let until = plausible.unwrap_or(length.min(start + count(NONCE_BYTES)));
        findings.report(
            &self.records.path,
            DamageKind::Changed,
            (start, until.saturating_sub(start)),
            format!("the nonce and record that leaf {index} commits to"),
            "bytes with another commitment",
        );
        self.start = plausible;
    }
}

fn fits(entry: &Entry, wanted: &[Hash]) -> bool {
    wanted.is_empty() || wanted.contains(&leaf_hash(entry))
}

fn commitment(leaf: &[u8]) -> Option<Entry> {
    let (nonce, record) = leaf.split_first_chunk::<NONCE_BYTES>()?;
    Some(entry(nonce, record))
}

/// Reports a changed field at its place in a file.
fn report_at(
    findings: &mut Findings<'_>,
    path: &Path,
    place: u64,
    found: &[u8],
    expected: &[u8],
    what: &str,
) {
    let before = findings.damage.len();
    findings.compare(path, found, expected, what);
    for damage in findings.damage.iter_mut().skip(before) {
        damage.offset += place;
    }
}
