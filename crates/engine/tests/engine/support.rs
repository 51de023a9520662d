//! A fold that remembers what it was given, and logs to write into.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::fold::event;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_engine::{Stream, StreamName};
use sealwarden_eventlog::{EventLog, Faulty, Head, Memory, NewCommit, Recorded};
use sealwarden_wire::event::v1::{Envelope, Event, ServiceAnnounced, event::Kind};

/// What a fold was given, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) words: Vec<String>,
    pub(crate) envelopes: Vec<Envelope>,
}

/// The word that [`Seen`] does not take.
pub(crate) const ILLEGAL: &str = "illegal";

impl Fold for Seen {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let Some(Kind::ServiceAnnounced(e)) = &event.kind else {
            return Err(IllegalEvent::new(envelope, "not a word"));
        };
        if e.role == ILLEGAL {
            return Err(IllegalEvent::new(envelope, "an illegal word"));
        }
        self.words.push(e.role.clone());
        self.envelopes.push(envelope.clone());
        Ok(())
    }
}

/// An event that says one word of node `a`.
pub(crate) fn word(word: &str) -> Event {
    event(Kind::ServiceAnnounced(ServiceAnnounced {
        node: "a".to_owned(),
        role: word.to_owned(),
        ..ServiceAnnounced::default()
    }))
}

pub(crate) fn name(id: &str) -> StreamName {
    StreamName::new("node", id).unwrap()
}

pub(crate) fn faulty() -> Arc<Faulty<Memory>> {
    Arc::new(Faulty::new(Memory::new()))
}

/// The log as the engine knows it.
pub(crate) fn port(log: &Arc<Faulty<Memory>>) -> Arc<dyn EventLog> {
    log.clone()
}

pub(crate) async fn load(log: &Arc<Faulty<Memory>>, id: &str) -> Stream<Seen> {
    Stream::load(port(log), name(id), Seen::default())
        .await
        .unwrap()
}

/// The payloads of a stream, past all faults.
pub(crate) async fn stored(log: &Faulty<Memory>, id: &str) -> Vec<Recorded> {
    log.inner().read(&name(id), 0, 10_000).await.unwrap()
}

/// Bytes that somebody else put into a stream.
pub(crate) async fn put(log: &Faulty<Memory>, stream: &StreamName, payload: Vec<u8>) -> Recorded {
    let head: Head = log.inner().head(stream).await.unwrap();
    log.inner()
        .append(stream, head, NewCommit::new(payload))
        .await
        .unwrap()
}

/// Waits for what must come, and fails instead of hanging.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what)
        .await
        .expect("it did not happen in time")
}
