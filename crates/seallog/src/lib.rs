//! The seal log on disk: tiles, staged batches, private records, recovery.
