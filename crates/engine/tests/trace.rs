//! A commit carries the trace that led to it. Telemetry is started once a process, so this test has one of its own.
#![cfg(test)]

use std::sync::Arc;

use sealwarden_domain::fold::event;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_engine::{Meta, Stream, StreamName, decode};
use sealwarden_eventlog::{EventLog, Memory};
use sealwarden_telemetry::{TelemetryConfig, init, with_parent};
use sealwarden_wire::event::v1::{Envelope, Event, NodeEnrolled, event::Kind};
use tracing::{Instrument as _, info_span};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

struct Anything;

impl Fold for Anything {
    fn apply(&mut self, _: &Envelope, _: &Event) -> Result<(), IllegalEvent> {
        Ok(())
    }
}

#[tokio::test]
async fn a_commit_carries_the_trace_that_led_to_it() {
    let guard = init(&TelemetryConfig {
        service: "test".to_owned(),
        json_logs: false,
        log_filter: "error".to_owned(),
    })
    .unwrap();
    let log: Arc<dyn EventLog> = Arc::new(Memory::new());
    let name = StreamName::new("node", "a").unwrap();
    let mut stream = Stream::load(Arc::clone(&log), name.clone(), Anything)
        .await
        .unwrap();
    let enrolled = event(Kind::NodeEnrolled(NodeEnrolled::default()));
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    stream
        .execute(Meta::node("a"), |_| Ok(vec![enrolled.clone()]))
        .instrument(with_parent(Some(&parent), info_span!("step")))
        .await
        .unwrap();
    let stored = log.read(&name, 0, 1).await.unwrap();
    let traceparent = decode(&stored[0]).unwrap().envelope.unwrap().traceparent;
    let expected = format!("00-{TRACE}-");
    assert!(
        traceparent.starts_with(&expected) && traceparent != parent,
        "{traceparent}"
    );
    guard.shutdown();
}
