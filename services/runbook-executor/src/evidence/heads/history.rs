//! The event log's history as it is read from its beginning, against what it was.
//!
//! Pure: commits go in; heads and contradictions come out.

use std::collections::BTreeMap;
use std::fmt;

use sealwarden_eventlog::{Head, Recorded};

/// Where every stream ends, as far as the log was read.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The last position that was read.
    pub(super) position: u64,
    /// Each stream's last commit up to there.
    pub(super) heads: BTreeMap<String, Head>,
    /// Kept heads through which the log did not pass so far.
    unmet: BTreeMap<String, Head>,
}

/// A place where history is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// A commit that was sealed is gone, or another stands in its place.
    Rewritten {
        /// The stream.
        stream: String,
        /// Its head as it was sealed.
        sealed: Head,
        /// The chain hash of the commit that stands there now.
        found: Option<[u8; 32]>,
    },
    /// A commit does not name the hash of the one before it.
    Broken {
        /// The stream.
        stream: String,
        /// The position of the commit.
        position: u64,
        /// The hash that it names.
        names: [u8; 32],
        /// The commit before it.
        before: Head,
    },
}

impl History {
    /// Nothing is read yet; the log should pass through `kept`.
    pub(super) fn through(kept: BTreeMap<String, Head>) -> Self {
        Self {
            unmet: kept,
            ..Self::default()
        }
    }

    /// Takes the next commit in; one that was taken in before changes nothing.
    pub(super) fn take_in(&mut self, commit: &Recorded) -> Option<Contradiction> {
        if commit.position <= self.position {
            return None;
        }
        self.position = commit.position;
        let (stream, head) = (commit.stream.to_string(), commit.head());
        if self.unmet.get(&stream) == Some(&head) {
            self.unmet.remove(&stream);
        }
        let before = self
            .heads
            .insert(stream.clone(), head)
            .unwrap_or(Head::EMPTY);
        (before.hash != commit.prev_hash).then_some(Contradiction::Broken {
            stream,
            position: commit.position,
            names: commit.prev_hash,
            before,
        })
    }

    /// Kept heads that the log, read so far, does not have.
    pub(super) fn unmet(&self) -> &BTreeMap<String, Head> {
        &self.unmet
    }

    /// What was found is dealt with.
    pub(super) fn settle(&mut self) {
        self.unmet.clear();
    }
}

impl Contradiction {
    /// What should be there.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Rewritten { stream, sealed, .. } => format!(
                "the commit sha256:{} at position {} of {stream}",
                hex::encode(sealed.hash),
                sealed.position
            ),
            Self::Broken {
                stream,
                position,
                before,
                ..
            } => format!(
                "the commit at position {position} of {stream} to follow sha256:{}, the one at position {}",
                hex::encode(before.hash),
                before.position
            ),
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rewritten {
                stream,
                sealed,
                found: Some(hash),
            } => write!(
                out,
                "another commit, sha256:{}, at position {} of {stream}",
                hex::encode(hash),
                sealed.position
            ),
            Self::Rewritten {
                stream,
                sealed,
                found: None,
            } => write!(out, "no commit at position {} of {stream}", sealed.position),
            Self::Broken {
                stream,
                position,
                names,
                ..
            } => write!(
                out,
                "a commit at position {position} of {stream} that follows sha256:{}",
                hex::encode(names)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use sealwarden_eventlog::CommitId;

    use super::*;

    fn commit(stream: &str, position: u64, prev: Head, payload: &'static str) -> Recorded {
        let stream = stream.parse().unwrap();
        let id = CommitId::from_bytes([1; 16]);
        Recorded {
            hash: Recorded::chain_hash(&prev.hash, &stream, id, payload.as_bytes()),
            stream,
            position,
            commit_id: id,
            recorded_at_ms: 0,
            prev_hash: prev.hash,
            payload: payload.into(),
        }
    }

    #[test]
    fn a_log_that_grew_meets_its_kept_heads_and_a_rewritten_one_does_not() {
        let first = commit("a/x", 1, Head::EMPTY, "one");
        let other = commit("a/y", 2, Head::EMPTY, "two");
        let later = commit("a/x", 3, first.head(), "three");
        let kept = BTreeMap::from([
            ("a/x".to_owned(), first.head()),
            ("a/y".to_owned(), other.head()),
        ]);
        let mut grown = History::through(kept.clone());
        for it in [&first, &other, &first, &later] {
            assert_eq!(grown.take_in(it), None);
        }
        assert!(grown.unmet().is_empty());
        assert_eq!((grown.position, grown.heads["a/x"]), (3, later.head()));

        let changed = commit("a/x", 1, Head::EMPTY, "0ne");
        let mut rewritten = History::through(kept);
        assert_eq!(rewritten.take_in(&changed), None, "its own chain holds");
        assert_eq!(rewritten.take_in(&other), None);
        assert_eq!(
            rewritten.unmet().keys().collect::<Vec<_>>(),
            ["a/x"],
            "only the changed stream"
        );
        let broken = rewritten.take_in(&later).unwrap();
        assert!(
            matches!(&broken, Contradiction::Broken { position: 3, before, .. } if *before == changed.head()),
            "{broken}"
        );
    }
}
