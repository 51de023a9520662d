//! One key has one purpose and one place: looked at over all roles when they start.
//!
//! Each provider refuses to use a key for another purpose than its own. It cannot see that somebody copied a key into another role's folder, or into a token: the signing
//! key that vouches for trust and evidence would then sign checkpoints as well.

use std::sync::{Mutex, PoisonError};

use anyhow::bail;
use sealwarden_keys::{KeyInfo, KeyProvider};

/// The keys of all roles that were started.
#[derive(Default)]
pub(crate) struct Purposes(Mutex<Vec<(String, KeyInfo)>>);

impl Purposes {
    /// Adds the keys of a node. A key that another node has, or this one under another name, is refused with both names.
    pub(crate) async fn add(&self, node: &str, keys: &dyn KeyProvider) -> anyhow::Result<()> {
        let keys = keys.list().await?;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            let twin = seen.iter().find(|(of, known)| {
                known.public_key == key.public_key && (of != node || known.id != key.id)
            });
            if let Some((of, known)) = twin {
                bail!(
                    "the {} key {} of node {node} (provider {}) is the same key as the {} key {} of node {of} (provider {}): a key has one purpose and one place; move one of them away, let a new one be made, and find out who copied it",
                    key.purpose,
                    key.id,
                    key.provider,
                    known.purpose,
                    known.id,
                    known.provider
                );
            }
            seen.push((node.to_owned(), key));
        }
        Ok(())
    }
}
