//! Reports from outside: checked, and made into signals.

use sealwarden_domain::incident::time_text;
use sealwarden_runbook::Plan;
use sealwarden_wire::event::v1::{Reporter, SignalReported};
use sealwarden_wire::incident::v1::ReportRequest;

use crate::detectors::{CheckpointFinding, Foreign, KEY_COMPROMISE, Logs, judge_checkpoint};
use crate::ids::signal_id;

/// The longest sentence of a report, in bytes.
const MAX_SENTENCE: usize = 2048;
/// The longest request id, in bytes.
const MAX_REQUEST_ID: usize = 64;
/// The largest checkpoint, in bytes.
const MAX_CHECKPOINT: usize = 64 * 1024;

/// What is wrong with a report. Each names the field and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReport {
    /// The plan knows no such class.
    #[error("class is {found:?}; use one of {known}")]
    Class { found: String, known: String },
    /// No such log.
    #[error(
        "log is {0:?}, which this installation does not have; `sealwarden status` lists its logs"
    )]
    Log(String),
    /// No such origin.
    #[error(
        "origin is {0:?}, which no log of this installation has; `sealwarden status` lists them"
    )]
    Origin(String),
    /// The origin belongs to another log.
    #[error("origin {origin} belongs to log {log}, not to {named:?}; leave log empty")]
    OtherLog {
        origin: String,
        log: String,
        named: String,
    },
    /// No such key.
    #[error(
        "key is {found:?}, which is no sealing key of {place}; `sealwarden keys list` shows them"
    )]
    Key { found: String, place: String },
    /// Nothing was said.
    #[error("seen is empty; say in a sentence what was seen")]
    Empty,
    /// Too long, or not one line.
    #[error("{field} has {bytes} bytes; use at most {limit}, without control characters")]
    Text {
        field: &'static str,
        bytes: usize,
        limit: usize,
    },
    /// A time outside the possible.
    #[error("earliest_at_ms is {found}; use Unix milliseconds up to now, or 0")]
    Time { found: i64 },
    /// A checkpoint that is too large.
    #[error("checkpoint has {0} bytes; a signed checkpoint has at most {MAX_CHECKPOINT}")]
    Checkpoint(usize),
}

/// Who reports.
#[derive(Clone, Debug)]
pub(crate) struct By {
    /// The name in the certificate.
    pub(crate) name: String,
    /// A person: the signal makes them a requester.
    pub(crate) person: bool,
}

impl By {
    /// The signal's detector: another one by its name; a person is the reporter of a plain report.
    fn detector(&self) -> &str {
        if self.person { "report" } else { &self.name }
    }

    fn reporter(&self) -> Reporter {
        Reporter {
            person: self.person,
            name: self.name.clone(),
        }
    }
}

/// Makes a signal of a report. A checkpoint that its log signed and never intended proves itself, whoever reports it; all else waits for a person.
pub(crate) fn signal_of(
    request: &ReportRequest,
    by: &By,
    logs: Logs<'_>,
    plan: &Plan,
    (now_ms, skew_ms): (i64, i64),
) -> Result<SignalReported, BadReport> {
    check_texts(request)?;
    check_class(&request.class, plan)?;
    let latest = now_ms.saturating_add(skew_ms);
    if !(0..=latest).contains(&request.earliest_at_ms) {
        return Err(BadReport::Time {
            found: request.earliest_at_ms,
        });
    }
    if request.checkpoint.len() > MAX_CHECKPOINT {
        return Err(BadReport::Checkpoint(request.checkpoint.len()));
    }
    let (log, origin) = place(request, logs)?;
    if request.checkpoint.is_empty() {
        return Ok(claim(request, by, (log, origin), "", now_ms));
    }
    Ok(match judge_checkpoint(logs, &request.checkpoint) {
        CheckpointFinding::Foreign(foreign) => proof(request, by, &foreign, now_ms),
        CheckpointFinding::Intended(checkpoint) => {
            let note = format!(
                " The checkpoint is {}'s own of size {}.",
                checkpoint.origin, checkpoint.size
            );
            claim(request, by, (log, origin), &note, now_ms)
        }
        CheckpointFinding::Nothing(reason) => {
            let note = format!(" The checkpoint proves nothing: {reason}.");
            claim(request, by, (log, origin), &note, now_ms)
        }
    })
}

fn proof(request: &ReportRequest, by: &By, foreign: &Foreign<'_>, now_ms: i64) -> SignalReported {
    let checkpoint = &foreign.checkpoint;
    let seen = format!(
        "{} reports a checkpoint of {} with size {} and root {}, signed by the log's own {}: {}",
        by.name,
        checkpoint.origin,
        checkpoint.size,
        checkpoint.root.to_base64(),
        foreign.signer,
        request.seen,
    );
    foreign.signal(
        seen,
        Vec::new(),
        &[request.earliest_at_ms, now_ms],
        by.reporter(),
    )
}

fn claim(
    request: &ReportRequest,
    by: &By,
    (log, origin): (String, String),
    note: &str,
    now_ms: i64,
) -> SignalReported {
    let subject = match (origin.is_empty(), log.is_empty()) {
        // What is to become of one key is a story of its own, apart from its origin's.
        (false, _) if !request.key.is_empty() => {
            format!("key {} of {origin} ({})", request.key, request.class)
        }
        (false, _) => format!("origin {origin}"),
        (true, false) => format!("log {log}"),
        (true, true) => format!("class {}", request.class),
    };
    let identity: Vec<&[u8]> = if request.request_id.is_empty() {
        vec![
            by.name.as_bytes(),
            request.class.as_bytes(),
            subject.as_bytes(),
            request.seen.as_bytes(),
            &request.checkpoint,
        ]
    } else {
        vec![by.name.as_bytes(), request.request_id.as_bytes()]
    };
    SignalReported {
        reading: None,
        key: request.key.clone(),
        signal: signal_id(by.detector(), &identity),
        detector: by.detector().to_owned(),
        class: request.class.clone(),
        subject,
        log,
        origin,
        proven: false,
        seen: format!("{}{note}", request.seen),
        expected: request.expected.clone(),
        events: Vec::new(),
        evidence: request.checkpoint.clone(),
        earliest_at_ms: if request.earliest_at_ms == 0 {
            now_ms
        } else {
            request.earliest_at_ms
        },
        reporter: Some(by.reporter()),
    }
}

/// Log and origin that the report is about. A compromise of a log's key is about its current origin.
fn place(request: &ReportRequest, logs: Logs<'_>) -> Result<(String, String), BadReport> {
    if !request.key.is_empty() {
        return place_of_key(request, logs);
    }
    if !request.origin.is_empty() {
        let found = logs
            .origin(&request.origin)
            .ok_or_else(|| BadReport::Origin(request.origin.clone()))?;
        if !request.log.is_empty() && request.log != found.log {
            return Err(BadReport::OtherLog {
                origin: request.origin.clone(),
                log: found.log.to_owned(),
                named: request.log.clone(),
            });
        }
        return Ok((found.log.to_owned(), request.origin.clone()));
    }
    // An installation with one log needs no name for it.
    let only = || logs.logs.keys().next().filter(|_| logs.logs.len() == 1);
    let name = if request.log.is_empty() {
        only().filter(|_| request.class == KEY_COMPROMISE)
    } else {
        Some(&request.log)
    };
    let Some(name) = name else {
        return Ok((String::new(), String::new()));
    };
    let control = logs
        .logs
        .get(name)
        .ok_or_else(|| BadReport::Log(name.clone()))?;
    let current = control
        .current()
        .filter(|_| request.class == KEY_COMPROMISE);
    Ok((
        name.clone(),
        current.map(|o| o.origin.clone()).unwrap_or_default(),
    ))
}

/// Log and origin of the key that the report is about: of the origin that it names, or of the one that has a key of this name.
fn place_of_key(request: &ReportRequest, logs: Logs<'_>) -> Result<(String, String), BadReport> {
    let named = |it: &str, wanted: &str| wanted.is_empty() || it == wanted;
    let mut found = logs.logs.iter().flat_map(|(log, control)| {
        let origins = control.origins.iter();
        origins.map(move |origin| (log, origin))
    });
    let found = found.find(|(log, origin)| {
        named(log, &request.log)
            && named(&origin.origin, &request.origin)
            && origin.signer(&request.key).is_some()
    });
    let (log, origin) = found.ok_or_else(|| BadReport::Key {
        found: request.key.clone(),
        place: match (request.origin.as_str(), request.log.as_str()) {
            ("", "") => "this installation".to_owned(),
            ("", log) => format!("log {log}"),
            (origin, _) => origin.to_owned(),
        },
    })?;
    Ok((log.clone(), origin.origin.clone()))
}

/// Refuses a class that the plan does not know.
pub(crate) fn check_class(class: &str, plan: &Plan) -> Result<(), BadReport> {
    if plan.class(class).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = plan.classes().keys().map(String::as_str).collect();
    let found: String = class.chars().take(64).collect();
    Err(BadReport::Class {
        found,
        known: known.join(", "),
    })
}

fn check_texts(request: &ReportRequest) -> Result<(), BadReport> {
    if request.seen.trim().is_empty() {
        return Err(BadReport::Empty);
    }
    check_text("seen", &request.seen, MAX_SENTENCE)?;
    check_text("expected", &request.expected, MAX_SENTENCE)?;
    check_text("origin", &request.origin, 255)?;
    check_text("log", &request.log, 128)?;
    check_text("key", &request.key, 128)?;
    check_text("request_id", &request.request_id, MAX_REQUEST_ID)
}

/// Refuses a text that is too long or not one line.
pub(crate) fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), BadReport> {
    if text.len() > limit || text.chars().any(char::is_control) {
        return Err(BadReport::Text {
            field,
            bytes: text.len(),
            limit,
        });
    }
    Ok(())
}

/// When a time that only moves to earlier may not be set to `at_ms`.
pub(crate) fn check_since(at_ms: i64, now_ms: i64, skew_ms: i64) -> Result<(), String> {
    if (0..=now_ms.saturating_add(skew_ms)).contains(&at_ms) {
        return Ok(());
    }
    let text = time_text(at_ms);
    Err(format!(
        "compromised_since_ms is {at_ms} ({text}); use Unix milliseconds up to now, or 0 to keep what is set"
    ))
}
