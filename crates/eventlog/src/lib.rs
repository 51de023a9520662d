//! The event log: a port with its contract in prose, and three adapters that keep it.
//!
//! An event log holds many *streams*. A stream grows by *commits*; a commit is one decision, opaque
//! bytes to this crate, stored whole or not at all. Writers say which commit they believe to be the
//! last ([`Head`]) and lose when they are wrong. Commits are chained by SHA-256 within their stream,
//! so nobody rewrites the past of a stream unseen. All streams of an installation share one
//! sequence of *positions*, so what happened first is decidable across streams.
//!
//! - [`EventLog`] is the port; [`port`] says what a caller may conclude from each answer.
//! - [`Memory`] forgets with the process: tests, simulation, throw-away sandboxes.
//! - [`Embedded`] keeps the log in a folder of this machine (sled), for `sealwarden up`.
//! - [`JetStream`] keeps it on a NATS server or cluster, for services that run apart.
//! - [`Faulty`] wraps any of them and fails as scripted, for tests of everything above.
//!
//! **Invariant**: this crate knows nothing of seals, incidents or runs.
//!
//! **Invariant**: what a reader was given is durable; no adapter shows a commit before that.

mod commit;
mod config;
mod embedded;
pub mod faults;
mod jetstream;
mod memory;
mod name;
pub mod port;
mod subscription;
#[cfg(feature = "test-server")]
pub mod test_server;

pub use commit::{CommitId, Head, MAX_PAYLOAD_BYTES, NewCommit, Recorded};
pub use config::{Auth, Config, Credentials, Environment, OpenError, TlsFiles, open};
pub use embedded::Embedded;
pub use faults::Faulty;
pub use jetstream::JetStream;
pub use memory::Memory;
pub use name::{NameError, StreamName};
pub use port::{AppendError, EventLog, ReadError};
pub use subscription::{Damage, Delivery, Filter, Subscription};
