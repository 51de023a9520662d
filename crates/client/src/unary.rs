//! One document at a time.

use crate::retry::Retry;
use crate::{Client, ClientError};
use sealwarden_seal::seal::Seal;
use sealwarden_wire::seal::v1::{
    GetSealRequest, Priority, SealRequest, SealResponse, Stage, WatchTicketRequest,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long the end of a stream is awaited whose last answer is there.
const STREAM_END: Duration = Duration::from_secs(1);

/// What is sealed: a digest and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// SHA-256 of the document's bytes.
    pub digest: [u8; 32],
    /// Whose it is: 1 to 64 of `a-z`, `0-9`, `.` and `-`; empty means `default`.
    pub tenant: String,
    /// The sealing policy that it is sealed under: as a tenant's name; empty means `default`. Which ones a tenant may name, and how long subject, policy and request id
    /// may be together, the service's settings say; it refuses others with both values.
    pub policy: String,
    /// What it is about: at most 256 bytes; empty means nothing. Never public.
    pub subject: String,
    /// Unix milliseconds, the client's claim; 0 means the service's time.
    pub claimed_at_ms: i64,
    /// The client's own id of this request, at most 64 characters: the same gives the same seal. Empty: one is made up, so
    /// that repeating after a lost connection is safe.
    pub request_id: String,
    /// Whether it goes first.
    pub priority: Priority,
    /// Until which stage to wait; a service that waits too long for witnesses answers with a lower one.
    pub wait: Stage,
    /// Whether a ticket is welcome while signing is stopped.
    pub accept_queued: bool,
}

impl Document {
    /// A document of the default tenant that is to be sealed now.
    pub fn new(digest: [u8; 32]) -> Self {
        Self {
            digest,
            tenant: String::new(),
            policy: String::new(),
            subject: String::new(),
            claimed_at_ms: 0,
            request_id: String::new(),
            priority: Priority::Normal,
            wait: Stage::Sealed,
            accept_queued: false,
        }
    }

    /// The same of another tenant.
    #[must_use]
    pub fn for_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }
}

/// A seal with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The `.seal` file.
    pub seal: Vec<u8>,
    /// The log.
    pub origin: String,
    /// The leaf.
    pub index: u64,
    /// How far it is.
    pub stage: Stage,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is sealed.
    Sealed(Sealed),
    /// It waits, durably, under a ticket: see [`Client::wait_for`].
    Queued {
        /// The ticket.
        ticket: String,
    },
}

impl Client {
    /// Seals one digest.
    pub async fn seal(&self, document: &Document) -> Result<Outcome, ClientError> {
        let request_id = if document.request_id.is_empty() {
            uuid::Uuid::new_v4().to_string()
        } else {
            document.request_id.clone()
        };
        let request = SealRequest {
            digest_algorithm: "sha-256".to_owned(),
            digest: document.digest.to_vec().into(),
            tenant: document.tenant.clone(),
            policy: document.policy.clone(),
            subject: document.subject.clone(),
            claimed_at_ms: document.claimed_at_ms,
            request_id,
            wait: document.wait.into(),
            priority: document.priority.into(),
            accept_queued: document.accept_queued,
        };
        let mut retry = Retry::new(self.patience);
        loop {
            match self.sealing.clone().seal(request.clone()).await {
                Ok(answer) => return outcome(answer.into_inner(), Some(&document.digest)),
                Err(status) => retry.wait(status).await?,
            }
        }
    }

    /// The present seal of a leaf, or of what it was sealed again as.
    pub async fn get(&self, origin: &str, index: u64) -> Result<Sealed, ClientError> {
        let request = GetSealRequest {
            origin: origin.to_owned(),
            index,
            follow: true,
        };
        let mut retry = Retry::new(self.patience);
        loop {
            match self.sealing.clone().get_seal(request.clone()).await {
                Ok(answer) => return sealed(answer.into_inner(), None),
                Err(status) => retry.wait(status).await?,
            }
        }
    }

    /// Waits until a ticket's document reaches a stage: sealed, witnessed or anchored. Ends early only with an error.
    pub async fn wait_for(&self, ticket: &str, stage: Stage) -> Result<Sealed, ClientError> {
        let request = WatchTicketRequest {
            ticket: ticket.to_owned(),
            until: stage.into(),
        };
        let place = |at: Stage| match at {
            Stage::Unspecified | Stage::Queued => 0,
            Stage::Sealed => 1,
            Stage::Witnessed => 2,
            Stage::Anchored => 3,
        };
        let reached = |at: Stage| place(at) >= place(stage).max(1);
        let mut retry = Retry::new(self.patience);
        loop {
            let refused = match self.sealing.clone().watch_ticket(request.clone()).await {
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    loop {
                        match answers.message().await {
                            Ok(Some(answer)) => {
                                retry.went_on();
                                let at = answer.stage();
                                if let Some(seal) = answer.seal.filter(|_| reached(at)) {
                                    // A connection forgives a thousand streams that are dropped before they end, and then closes.
                                    drop(timeout(STREAM_END, answers.message()).await);
                                    return sealed(seal, None);
                                }
                            }
                            Ok(None) => break tonic::Status::unavailable("the stream ended"),
                            Err(status) => break status,
                        }
                    }
                }
                Err(status) => status,
            };
            retry.wait(refused).await?;
        }
    }
}

fn outcome(answer: SealResponse, digest: Option<&[u8; 32]>) -> Result<Outcome, ClientError> {
    if answer.stage() == Stage::Queued {
        return Ok(Outcome::Queued {
            ticket: answer.ticket,
        });
    }
    sealed(answer, digest).map(Outcome::Sealed)
}

/// A seal that reads, and is of the document that was asked for. Whether it holds, [`crate::verify`] says.
fn sealed(answer: SealResponse, digest: Option<&[u8; 32]>) -> Result<Sealed, ClientError> {
    let seal =
        Seal::parse(&answer.seal).map_err(|error| ClientError::NotOurs(error.to_string()))?;
    if digest.is_some_and(|digest| seal.record.digest != *digest) {
        return Err(ClientError::NotOurs("its digest is another one".to_owned()));
    }
    Ok(Sealed {
        stage: answer.stage(),
        seal: answer.seal.to_vec(),
        origin: answer.origin,
        index: answer.index,
    })
}
