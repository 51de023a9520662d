//! What can go wrong with a store.

/// A store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{place}: there is no {key}")]
    NotFound {
        /// The store.
        place: String,
        /// The object.
        key: String,
    },
    /// The object is there and cannot be read: permissions, a damaged disk, a refused request.
    #[error("{place}: {key} cannot be read: {reason}")]
    Unreadable {
        /// The store.
        place: String,
        /// The object.
        key: String,
        /// Why.
        reason: String,
    },
    /// The object cannot be written or removed.
    #[error("{place}: {key} cannot be written: {reason}; nothing counts as stored")]
    Unwritable {
        /// The store.
        place: String,
        /// The object.
        key: String,
        /// Why.
        reason: String,
    },
    /// Listing broke off.
    #[error("{place}: its objects cannot be listed: {reason}")]
    Unlisted {
        /// The store.
        place: String,
        /// Why.
        reason: String,
    },
    /// An object that has a bound is larger.
    #[error("{place}: {key} has {found} bytes; at most {limit} are read")]
    TooLarge {
        /// The store.
        place: String,
        /// The object.
        key: String,
        /// Its size, bytes.
        found: u64,
        /// The bound, bytes.
        limit: u64,
    },
    /// The store cannot be reached, or does not answer properly: nothing is known about its objects.
    #[error(
        "{place} cannot be reached: {reason}; nothing is said about its objects until it answers"
    )]
    Away {
        /// The store.
        place: String,
        /// Why.
        reason: String,
    },
    /// Something answers, and it is not the store that holds this archive.
    #[error(
        "{place} is not where {whose} lies: {reason}. Is its disk mounted, is it the right bucket? If it is the right place and everything in it is lost, put its archive.json back (the other store has one; swap the word in its `role`) and restore"
    )]
    Elsewhere {
        /// The store.
        place: String,
        /// Which archive, and whether its documents or its backup.
        whose: String,
        /// What was found.
        reason: String,
    },
    /// The caller's [`crate::Meter`] was stopped.
    #[error("reading was stopped")]
    Stopped,
}

impl StoreError {
    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
