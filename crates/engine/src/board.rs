//! The whole installation, folded live.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sealwarden_domain::installation::Installation;
use sealwarden_eventlog::{Damage, Delivery, EventLog, Filter, Recorded};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::codec::decode;

/// How long to wait before following again after an interruption.
const AGAIN: Duration = Duration::from_millis(500);

/// A live fold of everything. Readers see a state that some prefix of the log had; writers decide on [`crate::Stream`], never on this.
pub struct Board {
    state: RwLock<Installation>,
    position: watch::Sender<u64>,
    caught_up: watch::Sender<bool>,
}

impl Board {
    /// Starts to follow the log. The task runs until it is aborted or the log ends.
    pub fn follow(log: Arc<dyn EventLog>) -> (Arc<Self>, JoinHandle<()>) {
        let board = Arc::new(Self {
            state: RwLock::new(Installation::default()),
            position: watch::Sender::new(0),
            caught_up: watch::Sender::new(false),
        });
        let task = tokio::spawn(run(log, Arc::clone(&board)));
        (board, task)
    }

    /// Looks at the state. Keep it short: the follower waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Installation) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of each change by the position that was folded.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }

    /// Waits until everything that was stored when following began is folded.
    pub async fn caught_up(&self) {
        let mut receiver = self.caught_up.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        drop(receiver.wait_for(|reached| *reached).await);
    }

    /// Waits until `position` is folded.
    pub async fn reached(&self, position: u64) {
        let mut receiver = self.position.subscribe();
        drop(receiver.wait_for(|at| *at >= position).await);
    }

    /// Waits until `look` gives a value, looking again after each change.
    pub async fn wait_until<T>(&self, mut look: impl FnMut(&Installation) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.read(&mut look) {
                return found;
            }
            let _ = changes.changed().await;
        }
    }

    fn take_in(&self, recorded: &Recorded) {
        if recorded.position <= *self.position.borrow() {
            return; // folded before an interruption
        }
        let decoded = decode(recorded);
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            match decoded {
                Ok(commit) => {
                    if let Err(illegal) = state.fold(&commit) {
                        tracing::error!(%illegal, "a stream is set aside");
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "a stream is set aside");
                    state.set_aside(&error.stream, error.position, &error.reason);
                }
            }
        }
        self.position.send_replace(recorded.position);
    }
}

impl Board {
    fn set_aside(&self, damage: &Damage) {
        let (stream, position) = (damage.stream.to_string(), damage.position);
        tracing::error!(
            stream,
            position,
            reason = damage.reason,
            "a stream is set aside"
        );
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .set_aside(&stream, position, &damage.reason);
        self.position.send_replace(position);
    }
}

async fn run(log: Arc<dyn EventLog>, board: Arc<Board>) {
    loop {
        let after = *board.position.borrow();
        match log.subscribe(Filter::All, after).await {
            Ok(mut subscription) => loop {
                match subscription.next().await {
                    Some(Ok(Delivery::Commit(recorded))) => board.take_in(&recorded),
                    Some(Ok(Delivery::Damaged(damage))) => board.set_aside(&damage),
                    Some(Ok(Delivery::CaughtUp(_))) => {
                        board.caught_up.send_replace(true);
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "following the event log was interrupted");
                        break;
                    }
                    None => {
                        tracing::warn!(
                            after,
                            "the event log was closed; nothing is followed any more"
                        );
                        return;
                    }
                }
            },
            Err(error) => tracing::warn!(%error, "the event log cannot be followed now"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
