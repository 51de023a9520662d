//! The queue's file: frames, one a group commit, each written only after the one before it was synced.
//!
//! Frame: `"SWQ1" ‖ u64 number ‖ u32 body length ‖ SHA-256(all before ‖ body) ‖ body`. Numbers grow by one. A body is records
//! one after another (big-endian numbers):
//! `0x01 ‖ ticket[16] ‖ u8 priority ‖ u64 tree ‖ u64 size ‖ u8 1 ‖ key[16] (or u8 0) ‖ nonce[16] ‖ u32 length ‖ record`: accepted;
//! `0x02 ‖ ticket[16] ‖ u64 tree ‖ u64 index`: settled.
//!
//! A crash can tear the last frame, which nobody was told of. A broken frame before a good one was synced once, so the disk
//! lost it: that is damage, and the queue is not opened.

use super::state::{Place, State};
use super::{Entry, Priority, Ticket};
use crate::requests::RequestKey;
use ring::digest::{SHA256, digest};
use sealwarden_seal::record::NONCE_BYTES;
use sealwarden_seallog::{Leaf, MAX_RECORD_BYTES};
use std::io;
use std::path::PathBuf;

const MAGIC: [u8; 4] = *b"SWQ1";
const HEADER_BYTES: usize = 4 + 8 + 4;
const DIGEST_BYTES: usize = 32;
const ACCEPTED: u8 = 1;
const SETTLED: u8 = 2;
/// A frame whose body reaches this is closed.
pub(super) const BODY_BYTES: usize = 4 << 20;
/// No body is longer: a full one with one more record.
const MAX_BODY_BYTES: usize = BODY_BYTES + MAX_RECORD_BYTES + 1024;

/// The queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueDamage {
    /// Not what was written.
    #[error(
        "{} is damaged at byte {offset}: {reason}; tickets that were handed out may be missing: restore the file, or move it away and tell their owners to seal again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A frame while it is filled.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn accepted(&mut self, ticket: Ticket, entry: &Entry) {
        let Entry {
            priority,
            leaf,
            key,
            since,
        } = entry;
        let body = &mut self.0;
        body.push(ACCEPTED);
        body.extend(ticket.0);
        body.push(match priority {
            Priority::Critical => 0,
            Priority::Normal => 1,
        });
        body.extend(since.tree.to_be_bytes());
        body.extend(since.index.to_be_bytes());
        match key {
            Some(key) => {
                body.push(1);
                body.extend(key.0);
            }
            None => body.push(0),
        }
        body.extend(leaf.nonce);
        // The seal log's limit on records is far below this.
        let length = u32::try_from(leaf.record.len()).unwrap_or(u32::MAX);
        body.extend(length.to_be_bytes());
        body.extend(&leaf.record);
    }

    pub(super) fn settled(&mut self, ticket: Ticket, place: Place) {
        self.0.push(SETTLED);
        self.0.extend(ticket.0);
        self.0.extend(place.tree.to_be_bytes());
        self.0.extend(place.index.to_be_bytes());
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= BODY_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole frame.
    pub(super) fn frame(&self, number: u64) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADER_BYTES + DIGEST_BYTES + self.0.len());
        frame.extend(MAGIC);
        frame.extend(number.to_be_bytes());
        frame.extend(
            u32::try_from(self.0.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        let sum = checksum(&frame, &self.0);
        frame.extend(sum);
        frame.extend(&self.0);
        frame
    }
}

fn checksum(header: &[u8], body: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut all = Vec::with_capacity(header.len() + body.len());
    all.extend(header);
    all.extend(body);
    let mut sum = [0; DIGEST_BYTES];
    sum.copy_from_slice(digest(&SHA256, &all).as_ref());
    sum
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Read {
    /// Bytes of good frames.
    pub(super) length: usize,
    /// Number of the last one; 0 if there is none.
    pub(super) last: u64,
}

/// Reads all frames into `state`. What follows the last good one was torn by a crash. An error says where and why.
pub(super) fn read(bytes: &[u8], state: &mut State) -> Result<Read, (usize, String)> {
    let (mut offset, mut last) = (0, 0);
    while let Some((number, body, end)) = frame_at(bytes, offset) {
        if last != 0 && number != last + 1 {
            let reason = format!("frame {number} follows frame {last}");
            return Err((offset, reason));
        }
        apply(body, state).ok_or_else(|| (offset, format!("frame {number} makes no sense")))?;
        (offset, last) = (end, number);
    }
    let later = (offset + 1..bytes.len()).find(|at| frame_at(bytes, *at).is_some());
    if let Some(later) = later {
        let reason = format!("a frame is broken, and a good one follows at byte {later}");
        return Err((offset, reason));
    }
    Ok(Read {
        length: offset,
        last,
    })
}

/// The frame that begins at this byte, if it is whole: its number, its body, where it ends.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u64, &[u8], usize)> {
    let rest = bytes.get(at..)?;
    if !rest.starts_with(&MAGIC) {
        return None;
    }
    let (header, rest) = rest.split_at_checked(HEADER_BYTES)?;
    let (sum, rest) = rest.split_at_checked(DIGEST_BYTES)?;
    let mut fields = Fields(header.get(MAGIC.len()..)?);
    let number = fields.u64()?;
    let length = usize::try_from(fields.u32()?).ok()?;
    let body = rest.get(..length).filter(|_| length <= MAX_BODY_BYTES)?;
    let end = at + HEADER_BYTES + DIGEST_BYTES + length;
    (checksum(header, body) == sum).then_some((number, body, end))
}

fn apply(body: &[u8], state: &mut State) -> Option<()> {
    let mut fields = Fields(body);
    while !fields.0.is_empty() {
        match fields.u8()? {
            ACCEPTED => {
                let ticket = Ticket(fields.array()?);
                let entry = fields.entry()?;
                state.add(ticket, entry);
            }
            SETTLED => {
                let ticket = Ticket(fields.array()?);
                let place = fields.place()?;
                if !state.settle(ticket, place) {
                    state.remember(ticket, place);
                }
            }
            _ => return None,
        }
    }
    Some(())
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn place(&mut self) -> Option<Place> {
        let (tree, index) = (self.u64()?, self.u64()?);
        Some(Place { tree, index })
    }

    fn entry(&mut self) -> Option<Entry> {
        let priority = match self.u8()? {
            0 => Priority::Critical,
            1 => Priority::Normal,
            _ => return None,
        };
        let since = self.place()?;
        let key = match self.u8()? {
            0 => None,
            1 => Some(RequestKey(self.array()?)),
            _ => return None,
        };
        let nonce = self.array::<NONCE_BYTES>()?;
        let length = usize::try_from(self.u32()?).ok()?;
        let (record, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let record = record.to_vec();
        Some(Entry {
            priority,
            leaf: Leaf { nonce, record },
            key,
            since,
        })
    }
}
