//! Leases of executors that share runs: `executor/<node>`.
//!
//! While its lease lasts an executor may act on what it began or took over. It counts the lease from before it asked, others count it from when they saw it, so they never
//! call an executor gone that may still act. A lease that ran out is never prolonged: its executor begins a new epoch, and answers for nothing of before until it has taken
//! that over like anybody else ([`crate::run::Command::TakeStep`]).

use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{Envelope, Event, ExecutorLeased, ExecutorReleased};

use crate::fold::{Fold, IllegalEvent, Rejection, RejectionCode, event};

/// What is on record of one executor's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each life and with each lease that had run out; 0 before the first.
    pub epoch: u64,
    /// Counts within the epoch.
    pub renewal: u64,
    /// How long the newest renewal lasts, milliseconds.
    pub lease_ms: u64,
    /// It was given back.
    pub released: bool,
}

/// What an executor says of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begins an epoch.
    Begin {
        /// How long it lasts, milliseconds.
        lease_ms: u64,
    },
    /// Prolongs the epoch.
    Renew {
        /// The epoch that the caller began.
        epoch: u64,
        /// How long it lasts from now, milliseconds.
        lease_ms: u64,
    },
    /// Gives it back: nothing of it acts any more.
    Release {
        /// The epoch that the caller began.
        epoch: u64,
    },
}

/// Decides a command of the executor `name`. A renewal is refused once another process has begun an epoch under the same name.
pub fn decide(state: &Lease, name: &str, command: Command) -> Result<Vec<Event>, Rejection> {
    let leased = |epoch, renewal, lease_ms| {
        vec![event(Kind::ExecutorLeased(ExecutorLeased {
            executor: name.to_owned(),
            epoch,
            renewal,
            lease_ms,
        }))]
    };
    match command {
        Command::Begin { lease_ms } => Ok(leased(state.epoch.saturating_add(1), 1, lease_ms)),
        Command::Renew { epoch, lease_ms } if state.epoch == epoch && !state.released => {
            Ok(leased(epoch, state.renewal.saturating_add(1), lease_ms))
        }
        Command::Renew { epoch, .. } => Err(Rejection::new(
            RejectionCode::NotNow,
            format!(
                "another process runs as executor {name}: it began epoch {}, and this one holds {epoch}; give each executor a name of its own with --node",
                state.epoch
            ),
        )),
        Command::Release { epoch } if state.epoch == epoch && !state.released => {
            Ok(vec![event(Kind::ExecutorReleased(ExecutorReleased {
                executor: name.to_owned(),
                epoch,
            }))])
        }
        Command::Release { .. } => Ok(Vec::new()),
    }
}

impl Fold for Lease {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let illegal = |reason: &str| Err(IllegalEvent::new(envelope, reason));
        let named = |executor: &str| envelope.stream == format!("executor/{executor}");
        match &event.kind {
            Some(Kind::ExecutorLeased(leased)) => {
                let goes_on = leased.epoch == self.epoch
                    && self.epoch > 0
                    && !self.released
                    && Some(leased.renewal) == self.renewal.checked_add(1);
                let begins = Some(leased.epoch) == self.epoch.checked_add(1) && leased.renewal == 1;
                if !named(&leased.executor) {
                    return illegal("a lease in the stream of another executor");
                }
                if !goes_on && !begins {
                    return illegal("a lease that does not follow the one before it");
                }
                *self = Self {
                    epoch: leased.epoch,
                    renewal: leased.renewal,
                    lease_ms: leased.lease_ms,
                    released: false,
                };
                Ok(())
            }
            Some(Kind::ExecutorReleased(released)) => {
                if !named(&released.executor) || released.epoch != self.epoch || self.released {
                    return illegal("a lease is given back that is not held");
                }
                self.released = true;
                Ok(())
            }
            None => Ok(()), // written by a newer version
            Some(_) => illegal("an event of another stream in an executor's stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lease: &mut Lease, command: Command) -> Result<usize, Rejection> {
        let envelope = Envelope {
            stream: "executor/a".to_owned(),
            ..Envelope::default()
        };
        let events = decide(lease, "a", command)?;
        for event in &events {
            lease.apply(&envelope, event).unwrap();
        }
        Ok(events.len())
    }

    #[test]
    fn a_lease_goes_on_until_another_epoch_begins() {
        let mut lease = Lease::default();
        let (begin, renew) = (
            Command::Begin { lease_ms: 3_000 },
            Command::Renew {
                epoch: 1,
                lease_ms: 3_000,
            },
        );
        assert!(told(&mut lease, renew).is_err(), "nothing is held yet");
        assert_eq!(told(&mut lease, begin), Ok(1));
        assert_eq!(told(&mut lease, renew), Ok(1));
        assert_eq!((lease.epoch, lease.renewal), (1, 2));
        assert_eq!(told(&mut lease, begin), Ok(1));
        let refused = told(&mut lease, renew).unwrap_err();
        assert!(refused.reason.contains("--node"), "{refused}");
        assert_eq!(told(&mut lease, Command::Release { epoch: 1 }), Ok(0));
        assert_eq!(told(&mut lease, Command::Release { epoch: 2 }), Ok(1));
        assert!(lease.released);
        assert_eq!(told(&mut lease, Command::Release { epoch: 2 }), Ok(0));
        assert_eq!(told(&mut lease, begin), Ok(1), "the next life");
        assert_eq!((lease.epoch, lease.released), (3, false));
    }

    #[test]
    fn what_no_executor_writes_is_illegal() {
        let leased = |executor: &str, epoch, renewal| {
            event(Kind::ExecutorLeased(ExecutorLeased {
                executor: executor.to_owned(),
                epoch,
                renewal,
                lease_ms: 1,
            }))
        };
        let released = event(Kind::ExecutorReleased(ExecutorReleased {
            executor: "a".to_owned(),
            epoch: 1,
        }));
        let envelope = Envelope {
            stream: "executor/a".to_owned(),
            ..Envelope::default()
        };
        for wrong in [
            leased("b", 1, 1),
            leased("a", 2, 1),
            leased("a", 1, 2),
            leased("a", 0, 1),
            released,
        ] {
            let refused = Lease::default().apply(&envelope, &wrong);
            assert!(refused.is_err(), "{wrong:?}");
        }
    }
}
