//! One commit as a line of `events/*.jsonl`: what it says for people, and its bytes and hashes for machines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealwarden_engine::decode;
use sealwarden_eventlog::{Recorded, StreamName};
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest readable form of one event, in characters; the payload beside it is whole.
const MAX_SHOWN: usize = 4096;
/// Events are shown as this version's types print them.
const SOFTWARE: &str = env!("CARGO_PKG_VERSION");

/// A commit's line.
pub(super) fn of(recorded: &Recorded) -> Value {
    let commit = decode(recorded);
    let shown: Vec<String> = match &commit {
        Ok(commit) => commit
            .events
            .iter()
            .map(|event| {
                let text = format!("{:?}", event.kind);
                text.chars().take(MAX_SHOWN).collect()
            })
            .collect(),
        Err(error) => vec![error.to_string()],
    };
    let envelope = commit
        .ok()
        .and_then(|commit| commit.envelope)
        .unwrap_or_default();
    json!({
        "software": SOFTWARE,
        "stream": recorded.stream.to_string(),
        "position": recorded.position,
        "recorded_at_ms": recorded.recorded_at_ms,
        "actor": envelope.actor.map(|actor| actor.name).unwrap_or_default(),
        "correlation": envelope.correlation,
        "traceparent": envelope.traceparent,
        "events": shown,
        "commit_id": recorded.commit_id.to_string(),
        "prev_hash": hex::encode(recorded.prev_hash),
        "hash": hex::encode(recorded.hash),
        "payload": STANDARD.encode(&recorded.payload),
    })
}

/// What makes a line a commit.
#[derive(Deserialize)]
struct Fields {
    stream: String,
    position: u64,
    recorded_at_ms: i64,
    commit_id: String,
    prev_hash: String,
    hash: String,
    payload: String,
}

/// Reads a line; says what is wrong with it. Hashes are taken as they stand.
pub(super) fn read(line: &[u8]) -> Result<(Recorded, Value), String> {
    let shown: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let fields = Fields::deserialize(&shown).map_err(|error| error.to_string())?;
    let stream: StreamName = fields
        .stream
        .parse()
        .map_err(|error: sealwarden_eventlog::NameError| error.to_string())?;
    let mut commit_id = [0; 16];
    bytes_of("commit_id", &fields.commit_id, &mut commit_id)?;
    let (mut prev_hash, mut hash) = ([0; 32], [0; 32]);
    bytes_of("prev_hash", &fields.prev_hash, &mut prev_hash)?;
    bytes_of("hash", &fields.hash, &mut hash)?;
    let payload = STANDARD
        .decode(&fields.payload)
        .map_err(|error| format!("payload: {error}"))?;
    let recorded = Recorded {
        stream,
        position: fields.position,
        commit_id: commit_id.into(),
        recorded_at_ms: fields.recorded_at_ms,
        prev_hash,
        hash,
        payload: payload.into(),
    };
    Ok((recorded, shown))
}

fn bytes_of(name: &str, text: &str, bytes: &mut [u8]) -> Result<(), String> {
    hex::decode_to_slice(text, bytes).map_err(|error| format!("{name}: {error}"))
}

/// The first field that does not show what the commit's payload says. Another version of this software may print an event with more fields: of its lines only the events'
/// kinds are compared.
pub(super) fn disagrees(recorded: &Recorded, shown: &Value) -> Option<&'static str> {
    const PLAIN: [&str; 6] = [
        "stream",
        "position",
        "recorded_at_ms",
        "actor",
        "correlation",
        "traceparent",
    ];
    let own = of(recorded);
    if let Some(field) = PLAIN.into_iter().find(|field| own[field] != shown[field]) {
        return Some(field);
    }
    let same = if shown["software"] == own["software"] {
        own["events"] == shown["events"]
    } else {
        kinds(&own["events"]) == kinds(&shown["events"])
    };
    (!same).then_some("events")
}

/// `Some(RunStarted(` of `Some(RunStarted(RunStarted { run: …`.
fn kinds(events: &Value) -> Option<Vec<&str>> {
    events
        .as_array()?
        .iter()
        .map(|event| {
            let text = event.as_str()?;
            let kind = text.strip_prefix("Some(").unwrap_or(text);
            Some(kind.split('(').next().unwrap_or(kind))
        })
        .collect()
}
