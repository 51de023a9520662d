//! Callers that seal one document after another, and what each was told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sealwarden_client::{Client, Document, Stage};
use sealwarden_seal::merkle::Hash;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a caller was told of one document.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// The seal, or the ticket.
    pub told: Result<Vec<u8>, String>,
}

impl Outcome {
    /// Whether a seal came back, and no ticket.
    pub fn is_sealed(&self) -> bool {
        self.told.is_ok()
    }
}

/// Callers at work.
pub struct Load {
    client: Client,
    stop: Arc<AtomicBool>,
    sealed: Arc<AtomicUsize>,
    queued: Arc<AtomicUsize>,
    changed: watch::Sender<()>,
    callers: JoinSet<Vec<Outcome>>,
}

impl Load {
    /// Starts so many callers, who take tickets and repeat what was refused.
    pub async fn start(here: &crate::Installation, callers: usize) -> Self {
        let address = here.address("sealing", "grpc");
        let client = Client::connect(&address, &here.identity("operator")).await;
        let client = client.expect("a connection").patience(PATIENCE);
        let mut load = Self {
            client,
            stop: Arc::default(),
            sealed: Arc::default(),
            queued: Arc::default(),
            changed: watch::Sender::new(()),
            callers: JoinSet::new(),
        };
        let number = Arc::new(AtomicUsize::new(0));
        for _ in 0..callers {
            let (client, stop, number) = (
                load.client.clone(),
                Arc::clone(&load.stop),
                Arc::clone(&number),
            );
            let (sealed, queued) = (Arc::clone(&load.sealed), Arc::clone(&load.queued));
            let changed = load.changed.clone();
            load.callers.spawn(async move {
                let mut told = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let number = number.fetch_add(1, Ordering::SeqCst);
                    let outcome = one(&client, number).await;
                    let count = if outcome.is_sealed() {
                        &sealed
                    } else {
                        &queued
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    changed.send_replace(());
                    told.push(outcome);
                }
                told
            });
        }
        load
    }

    /// Waits until so many documents are sealed since the beginning.
    pub async fn acknowledged(&self, count: usize) {
        self.counted("seals", &self.sealed, count).await;
    }

    /// Waits until so many tickets were given out since the beginning.
    pub async fn queued(&self, count: usize) {
        self.counted("tickets", &self.queued, count).await;
    }

    /// How many documents are sealed.
    pub fn sealed(&self) -> usize {
        self.sealed.load(Ordering::SeqCst)
    }

    async fn counted(&self, what: &str, counter: &AtomicUsize, count: usize) {
        let mut changes = self.changed.subscribe();
        let enough = changes.wait_for(|()| counter.load(Ordering::SeqCst) >= count);
        let came = tokio::time::timeout(PATIENCE, enough).await;
        assert!(
            came.is_ok(),
            "only {} of {count} {what} came",
            counter.load(Ordering::SeqCst)
        );
    }

    /// Lets the callers finish what they have begun; what each was told.
    pub async fn end(mut self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        while let Some(told) = self.callers.join_next().await {
            all.extend(told.expect("a caller ends"));
        }
        all
    }

    /// A connection like that of the callers.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

async fn one(client: &Client, number: usize) -> Outcome {
    let digest = Hash::of(format!("document {number}").as_bytes()).0;
    let document = Document {
        accept_queued: true,
        wait: Stage::Sealed,
        ..Document::new(digest)
    };
    let told = match client.seal(&document).await.expect("an answer") {
        sealwarden_client::Outcome::Sealed(sealed) => Ok(sealed.seal),
        sealwarden_client::Outcome::Queued { ticket } => Err(ticket),
    };
    Outcome { digest, told }
}

/// The seals that the tickets became, in their place.
pub async fn collected(client: &Client, outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let mut all = Vec::new();
    for mut outcome in outcomes {
        if let Err(ticket) = &outcome.told {
            let sealed = client.wait_for(ticket, Stage::Sealed).await;
            outcome.told = Ok(sealed.expect("a ticket becomes a seal").seal);
        }
        all.push(outcome);
    }
    all
}

/// Each seal has to prove its document by this trust bundle: proof and signature; a seal that has no witness yet may say so.
pub fn must_be_valid(outcomes: &[Outcome], trust: &Path) {
    let bundle = std::fs::read(trust).expect("the trust bundle");
    let now_ms = jiff::Timestamp::now().as_millisecond();
    assert!(!outcomes.is_empty(), "nothing was sealed");
    for outcome in outcomes {
        let seal = outcome.told.as_ref().expect("a seal");
        let checked = sealwarden_client::verify(seal, outcome.digest, &bundle, None, now_ms);
        let verdict = checked.expect("a verdict").verdict.to_string();
        assert!(
            ["valid", "unwitnessed"].contains(&verdict.as_str()),
            "{verdict}: {}",
            String::from_utf8_lossy(seal)
        );
    }
}
