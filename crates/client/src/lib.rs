//! A client of Sealwarden: seals documents one at a time or in bulk, waits for their stages, verifies seals offline.
//!
//! Only digests leave the machine. A seal is a small text file that proves itself: whoever has the document, the seal and a
//! trust bundle needs no server.
//!
//! ```no_run
//! # async fn example() -> Result<(), sealwarden_client::ClientError> {
//! use sealwarden_client::{Client, Document, Outcome};
//!
//! let client = Client::of_installation("./sealwarden-data".as_ref(), "operator").await?;
//! let document = Document::new([7; 32]).for_tenant("acme");
//! match client.seal(&document).await? {
//!     Outcome::Sealed(sealed) => println!("{} #{}", sealed.origin, sealed.index),
//!     Outcome::Queued { ticket } => println!("waits under {ticket}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client::seal`] seals one digest, [`Client::wait_for`] waits for a ticket, [`Client::get`] asks for a seal again.
//! - [`Client::seal_bulk`] seals a stream of digests in chunks; each [`SealedChunk`] writes out the `.seal` files of its digests.
//! - [`verify`] says offline whether a seal holds, by a trust bundle.
//!
//! **Retries.** A call that was refused with a hint when to come again is repeated under the same request id, so that nothing
//! is sealed twice, for as long as [`Client::patience`] says. Without a hint, and where a rule stands against it, the error is
//! answered at once.

mod bulk;
mod connect;
mod error;
mod offline;
mod retry;
mod unary;

pub use bulk::{BulkError, Chunk, Work};
pub use error::ClientError;
pub use offline::{OfflineError, verify};
pub use sealwarden_seal::bulk::{MAX_CHUNK_DIGESTS, SealedChunk};
pub use sealwarden_wire::seal::v1::{Priority, Stage};
pub use unary::{Document, Outcome, Sealed};

use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use std::time::Duration;
use tonic::transport::Channel;

/// A connection to a sealing service. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    sealing: SealingClient<Channel>,
    patience: Duration,
}

impl Client {
    /// For how long refused calls are repeated in all, from their first refusal on. Zero repeats nothing.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}
