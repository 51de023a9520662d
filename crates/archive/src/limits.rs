//! How much is read of what stands in an object's place, which may be anything.

use crate::inventory::Entry;

/// How much more than it should have is read of a document, bytes: enough to tell a swapped one.
const SURPLUS: u64 = 64 * 1024 * 1024;
/// No seal is larger, bytes.
pub(crate) const MAX_SEAL: u64 = 256 * 1024;

/// More bytes than this are not read, nor kept when they are replaced, of what stands in a document's place.
pub(crate) fn at_most(entry: &Entry) -> u64 {
    entry.size.saturating_mul(4).saturating_add(SURPLUS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seal_is_read_whole() {
        let largest = u64::try_from(sealwarden_seal::seal::MAX_SEAL_BYTES);
        assert_eq!(largest, Ok(super::MAX_SEAL));
    }
}
