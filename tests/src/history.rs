//! The event log read from outside, and written to as a tampered service would.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use sealwarden_eventlog::{
    AppendError, Auth, CommitId, Config, Credentials, Environment, EventLog, NewCommit, StreamName,
    TlsFiles,
};
use sealwarden_wire::event::v1::{Actor, Commit, Envelope, Event, actor, event::Kind};

/// An event log that a test has opened beside the services, or after them.
pub struct History(Arc<dyn EventLog>);

impl History {
    /// The embedded log of a data folder; its services must have ended.
    pub async fn embedded(data: &Path) -> Self {
        Self::open(Config::Embedded {
            dir: data.join("events"),
        })
        .await
    }

    /// The log of a production installation on a NATS server.
    pub async fn nats(url: &str, installation: &str) -> Self {
        Self::open(Config::JetStream {
            url: url.to_owned(),
            credentials: None,
            prefix: installation.to_owned(),
            environment: Environment::Production,
        })
        .await
    }

    /// The log of a production installation, as a user of the NATS server with TLS.
    pub async fn nats_as(url: &str, authority: &Path, installation: &str) -> Self {
        let tls = TlsFiles {
            ca: authority.to_owned(),
            client: None,
        };
        Self::open(Config::JetStream {
            url: url.to_owned(),
            credentials: Some(Credentials {
                auth: Auth::None,
                tls: Some(tls),
            }),
            prefix: installation.to_owned(),
            environment: Environment::Production,
        })
        .await
    }

    async fn open(config: Config) -> Self {
        Self(
            sealwarden_eventlog::open(config)
                .await
                .expect("the event log opens"),
        )
    }

    /// All commits of a stream such as `log/main`, with their positions and times.
    pub async fn commits(&self, stream: &str) -> Vec<Commit> {
        let stream = name(stream);
        let (mut commits, mut after) = (Vec::new(), 0);
        loop {
            let page = self
                .0
                .read(&stream, after, 1000)
                .await
                .expect("a page of the stream");
            let Some(last) = page.last() else {
                return commits;
            };
            after = last.position;
            for recorded in page {
                let mut commit = Commit::decode(recorded.payload).expect("a commit");
                let envelope = commit.envelope.get_or_insert_default();
                envelope.position = recorded.position;
                envelope.recorded_at_ms = recorded.recorded_at_ms;
                commits.push(commit);
            }
        }
    }

    /// All events of a stream, in order.
    pub async fn events(&self, stream: &str) -> Vec<Kind> {
        let commits = self.commits(stream).await;
        commits
            .into_iter()
            .flat_map(|commit| commit.events)
            .filter_map(|event| event.kind)
            .collect()
    }

    /// When the first event that `is` it was stored, Unix milliseconds.
    pub async fn time_of(&self, stream: &str, is: impl Fn(&Kind) -> bool) -> Option<i64> {
        let commits = self.commits(stream).await;
        let found = commits
            .iter()
            .find(|c| c.events.iter().filter_map(|e| e.kind.as_ref()).any(&is))?;
        found
            .envelope
            .as_ref()
            .map(|envelope| envelope.recorded_at_ms)
    }

    /// Appends events to a stream in the name of a node, past every decider.
    pub async fn writes(&self, stream: &str, node: &str, kinds: Vec<Kind>) {
        self.tries_to_write(stream, node, kinds)
            .await
            .expect("the commit is stored");
    }

    /// Appends bytes that are no commit's to a stream.
    pub async fn spoils(&self, stream: &str, bytes: &'static [u8]) {
        let stream = name(stream);
        let head = self.0.head(&stream).await.expect("the stream's head");
        let payload = Bytes::from_static(bytes);
        let id = CommitId::new();
        let stored = self
            .0
            .append(&stream, head, NewCommit { id, payload })
            .await;
        stored.expect("it is stored");
    }

    /// As [`History::writes`], where it may be refused.
    pub async fn tries_to_write(
        &self,
        stream: &str,
        node: &str,
        kinds: Vec<Kind>,
    ) -> Result<(), AppendError> {
        let stream = name(stream);
        let id = CommitId::new();
        let actor = Actor {
            kind: actor::Kind::Node.into(),
            name: node.to_owned(),
        };
        let envelope = Envelope {
            id: id.to_string(),
            stream: stream.to_string(),
            actor: Some(actor),
            ..Envelope::default()
        };
        let events = kinds
            .into_iter()
            .map(|kind| Event { kind: Some(kind) })
            .collect();
        let payload: Bytes = Commit {
            envelope: Some(envelope),
            events,
        }
        .encode_to_vec()
        .into();
        loop {
            let head = self.0.head(&stream).await.expect("the stream's head");
            match self
                .0
                .append(
                    &stream,
                    head,
                    NewCommit {
                        id,
                        payload: payload.clone(),
                    },
                )
                .await
            {
                Ok(_) => return Ok(()),
                Err(AppendError::Conflict { .. }) => {} // a service was first
                Err(error) => return Err(error),
            }
        }
    }
}

fn name(stream: &str) -> StreamName {
    let (category, id) = stream.split_once('/').expect("<category>/<id>");
    StreamName::new(category, id).expect("a stream's name")
}
