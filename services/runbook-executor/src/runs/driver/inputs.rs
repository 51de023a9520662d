//! What a run's driver waits for.

use std::time::Duration;

use sealwarden_domain::At;
use sealwarden_domain::run::{AttemptId, Viewer, next_wake_ms};
use sealwarden_eventlog::{Delivery, Filter};
use tokio::time::Instant;

use super::Driver;
use crate::actions::{Said, Trouble};
use crate::runs::RETRY;
use crate::runs::work::Work;

/// What happens to a run's driver.
pub(super) enum Input {
    /// Somebody else appended to the run's stream.
    Changed,
    /// An attempt says how far it is.
    Said(Said),
    /// A task ended.
    Ended(AttemptId, Work),
    /// A pause is over.
    Wake,
    /// The process ends.
    Shutdown,
}

impl Driver {
    /// Waits for the next input. `looked` is when the state was asked what is to be done: what becomes due after that wakes, also when it is over by now.
    pub(super) async fn next(&mut self, looked: At) -> Input {
        loop {
            if self.subscription.is_none() {
                let filter = Filter::Stream(self.stream.name().clone());
                self.subscription = self
                    .executor
                    .node
                    .log
                    .subscribe(filter, self.stream.head().position)
                    .await
                    .ok();
            }
            if self.leases.has_changed().unwrap_or_default() {
                self.leases.mark_unchanged();
                return Input::Wake;
            }
            let wake = self.wake(looked);
            let head = self.stream.head().position;
            let subscription = &mut self.subscription;
            let changed = async {
                if let Some(subscription) = subscription {
                    subscription.next().await
                } else {
                    tokio::time::sleep(RETRY).await;
                    None
                }
            };
            tokio::select! {
                () = self.executor.node.shutdown.cancelled() => return Input::Shutdown,
                Some(said) = self.said.1.recv() => return Input::Said(said),
                Some(joined) = self.tasks.join_next_with_id() => {
                    let (task, work) = match joined {
                        Ok((task, work)) => (task, work),
                        Err(error) => (error.id(), Work::Performed(Err(Trouble::Unknown(format!("its task failed: {error}"))))),
                    };
                    if let Some((id, _)) = self.working.remove(&task) {
                        return Input::Ended(id, work);
                    }
                }
                delivery = changed => match delivery {
                    Some(Ok(Delivery::Commit(recorded))) if recorded.position > head => return Input::Changed,
                    Some(Ok(Delivery::Commit(_) | Delivery::CaughtUp(_))) => {}
                    // Reading the stream says what is wrong with it.
                    Some(Ok(Delivery::Damaged(_)) | Err(_)) => {
                        self.subscription = None;
                        return Input::Changed;
                    }
                    None => self.subscription = None,
                },
                _ = self.leases.changed() => return Input::Wake,
                () = sleep_until(wake) => return Input::Wake,
            }
        }
    }

    /// When to look again without an event. What came due since `looked` counts: a look that missed it by a moment must not be the last.
    fn wake(&self, looked: At) -> Option<Instant> {
        let others = self.executor.lease.others();
        let viewer = Viewer {
            me: &self.executor.node.name,
            is_shared: self.executor.lease.is_shared(),
            others: &others,
        };
        let retry = next_wake_ms(self.stream.state(), viewer, looked)
            .map(|ms| Instant::now() + self.left(ms) + Duration::from_millis(1));
        [retry, self.patience].into_iter().flatten().min()
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
