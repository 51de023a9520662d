//! The adapters under test, each with a store of its own that can be opened again.

use std::sync::Arc;

use async_trait::async_trait;
use sealwarden_eventlog::test_server::TestServer;
use sealwarden_eventlog::{
    CommitId, Config, Environment, EventLog, Head, NewCommit, StreamName, open,
};
use tempfile::TempDir;

/// An adapter with a store.
#[async_trait]
pub(crate) trait Adapter: Send {
    /// Opens the log; all earlier references must be dropped.
    async fn open(&mut self) -> Arc<dyn EventLog>;
    /// Whether dropping the last reference closes the log.
    fn closes(&self) -> bool {
        true
    }
}

pub(crate) struct Memory(Arc<dyn EventLog>);

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Arc::new(sealwarden_eventlog::Memory::new()))
    }
}

#[async_trait]
impl Adapter for Memory {
    async fn open(&mut self) -> Arc<dyn EventLog> {
        Arc::clone(&self.0)
    }

    fn closes(&self) -> bool {
        false
    }
}

pub(crate) struct Embedded(TempDir);

impl Embedded {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Adapter for Embedded {
    async fn open(&mut self) -> Arc<dyn EventLog> {
        open(Config::Embedded {
            dir: self.0.path().join("log"),
        })
        .await
        .unwrap()
    }
}

pub(crate) struct JetStream(TestServer);

impl JetStream {
    pub(crate) fn new() -> Self {
        Self(TestServer::start().unwrap())
    }
}

#[async_trait]
impl Adapter for JetStream {
    async fn open(&mut self) -> Arc<dyn EventLog> {
        open(jetstream(&self.0.url())).await.unwrap()
    }
}

pub(crate) fn jetstream(url: &str) -> Config {
    Config::JetStream {
        url: url.to_owned(),
        credentials: None,
        prefix: "suite".to_owned(),
        environment: Environment::Production,
    }
}

pub(crate) fn stream(name: &str) -> StreamName {
    name.parse().unwrap()
}

pub(crate) fn commit(id: u8, payload: &str) -> NewCommit {
    NewCommit {
        id: CommitId::from_bytes([id; 16]),
        payload: payload.to_owned().into(),
    }
}

/// Appends `count` commits to the end of a stream.
pub(crate) async fn grow(log: &dyn EventLog, name: &str, count: usize) -> Head {
    let target = stream(name);
    let mut head = log.head(&target).await.unwrap();
    for number in 0..count {
        let payload = format!("{name} {number}");
        head = log
            .append(&target, head, NewCommit::new(payload))
            .await
            .unwrap()
            .head();
    }
    head
}
