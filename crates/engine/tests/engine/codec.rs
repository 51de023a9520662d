//! Commits as bytes.

use prost::Message as _;
use sealwarden_engine::{Meta, decode, encode};
use sealwarden_eventlog::{CommitId, Recorded};
use sealwarden_wire::event::v1::{Commit, Envelope};

use crate::support::{name, word};

fn recorded(payload: Vec<u8>) -> Recorded {
    Recorded {
        stream: name("a"),
        position: 7,
        commit_id: CommitId::from_bytes([1; 16]),
        recorded_at_ms: 99,
        prev_hash: [0; 32],
        hash: [0; 32],
        payload: payload.into(),
    }
}

#[test]
fn what_is_written_is_read_with_the_logs_own_id_place_and_time() {
    let payload = encode(
        CommitId::from_bytes([2; 16]),
        &name("a"),
        &Meta::person("ann"),
        &[word("x")],
    );
    let commit = decode(&recorded(payload.to_vec())).unwrap();
    let envelope = commit.envelope.unwrap();
    assert_eq!(envelope.id, CommitId::from_bytes([1; 16]).to_string());
    assert_eq!((envelope.position, envelope.recorded_at_ms), (7, 99));
    assert_eq!(envelope.actor.unwrap().name, "ann");
    assert_eq!(envelope.traceparent, "", "there is no span here");
    assert_eq!(commit.events, [word("x")]);
}

#[test]
fn an_envelope_cannot_claim_a_place_a_time_or_another_stream() {
    let claim = |stream: &str| {
        let envelope = Envelope {
            stream: stream.to_owned(),
            position: u64::MAX,
            recorded_at_ms: i64::MIN,
            ..Envelope::default()
        };
        recorded(
            Commit {
                envelope: Some(envelope),
                events: Vec::new(),
            }
            .encode_to_vec(),
        )
    };
    let envelope = decode(&claim("node/a")).unwrap().envelope.unwrap();
    assert_eq!((envelope.position, envelope.recorded_at_ms), (7, 99));
    let error = decode(&claim("node/b")).unwrap_err();
    assert!(error.reason.contains("node/b"), "{error}");
    assert_eq!((error.stream.as_str(), error.position), ("node/a", 7));
}

#[test]
fn bytes_of_nobody_are_an_error() {
    let nameless = Commit {
        envelope: None,
        events: vec![word("x")],
    }
    .encode_to_vec();
    for payload in [
        Vec::new(),
        vec![0xff; 40],
        b"{\"json\":true}".to_vec(),
        nameless,
    ] {
        assert!(decode(&recorded(payload.clone())).is_err(), "{payload:?}");
    }
}
