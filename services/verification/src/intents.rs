//! Whether a log intended a checkpoint: the question that a stolen key cannot answer.

use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::installation::Installation;
use sealwarden_engine::Node;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::{Note, Vkey};

/// How a checkpoint stands to its log's intents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The log recorded the intent to sign exactly this root for this size.
    Intended,
    /// It did not.
    Foreign,
    /// Another installation's log that this witness serves; what it intended is not known here.
    Guest,
    /// No log of this installation has the origin.
    UnknownOrigin,
}

/// Why nobody can say now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log's intents cannot be consulted now: {0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// Reads intents from the live fold, and catches up with the event log before it says that there is none.
pub(crate) struct Intents {
    node: Arc<Node>,
    refresh: Duration,
}

/// How a checkpoint stands by what is folded.
pub(crate) fn look(
    installation: &Installation,
    checkpoint: &Checkpoint,
) -> Result<Standing, Unavailable> {
    let Some((name, log)) = installation.log_of(&checkpoint.origin) else {
        return Ok(Standing::UnknownOrigin);
    };
    let intent = log
        .origin(&checkpoint.origin)
        .and_then(|origin| origin.intents.get(checkpoint.size));
    if intent.is_some_and(|intent| intent.root == *checkpoint.root.as_bytes()) {
        return Ok(Standing::Intended);
    }
    // A stream that does not fold may hold the intent behind the place where it broke.
    match installation.poisoned.get(&format!("log/{name}")) {
        Some(reason) => Err(Unavailable(format!(
            "stream log/{name} is set aside: {reason}"
        ))),
        None => Ok(Standing::Foreign),
    }
}

/// The verifier keys of an origin: of every key that signs for it, signed or may.
pub(crate) fn vkeys_of(installation: &Installation, origin: &str) -> Option<Vec<Vkey>> {
    let (_, log) = installation.log_of(origin)?;
    Some(log.origin(origin)?.vkeys())
}

/// The note with its log's good signatures alone, if a key of the log did sign it. Signatures of others prove nothing, and could be varied without end.
pub(crate) fn log_signed(note: &Note, vkeys: &[Vkey]) -> Option<Note> {
    let signed = |vkey: &&Vkey| note.verify(std::slice::from_ref(*vkey)).is_ok();
    let signed: Vec<_> = vkeys.iter().filter(signed).collect();
    note.filtered(|it| {
        signed
            .iter()
            .any(|vkey| it.name() == vkey.name() && it.key_id() == vkey.key_id())
    })
}

impl Intents {
    pub(crate) fn new(node: Arc<Node>, refresh: Duration) -> Self {
        Self { node, refresh }
    }

    /// How a checkpoint stands. "Intended" is said at once; anything else only when all that the event log holds now is folded.
    pub(crate) async fn standing(&self, checkpoint: &Checkpoint) -> Result<Standing, Unavailable> {
        if self
            .node
            .board
            .read(|installation| look(installation, checkpoint))
            == Ok(Standing::Intended)
        {
            return Ok(Standing::Intended);
        }
        self.catch_up().await?;
        self.node
            .board
            .read(|installation| look(installation, checkpoint))
    }

    /// Waits until everything that the event log holds now is folded.
    pub(crate) async fn catch_up(&self) -> Result<(), Unavailable> {
        let work = async {
            let edge = self
                .node
                .log
                .last_position()
                .await
                .map_err(|e| Unavailable(e.to_string()))?;
            self.node.board.reached(edge).await;
            Ok(())
        };
        tokio::time::timeout(self.refresh, work)
            .await
            .unwrap_or_else(|_elapsed| {
                let waited_ms = self.refresh.as_millis();
                Err(Unavailable(format!(
                    "this node has not caught up with the event log within {waited_ms} ms"
                )))
            })
    }
}
