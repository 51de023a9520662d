//! A log line under test: commands are decided and applied, and every event is kept.

use std::collections::BTreeMap;

use sealwarden_domain::fold::event;
use sealwarden_domain::log_control::{
    Command, GrantClock, IsolationProof, KeyChanges, LogControl, Order, decide,
};
use sealwarden_domain::{At, Fold, IllegalEvent, Rejection, RejectionCode};
use sealwarden_wire::event::v1::{
    CheckpointPublished, DirectiveKind, Envelope, Event, HoldPlaced, IntentRecorded, OriginOpened,
    event::Kind,
};

pub(crate) const FIRST: &str = "seal.example.com/main/1";
pub(crate) const SECOND: &str = "seal.example.com/main/2";
pub(crate) const WRITER: &str = "sealing-1";
pub(crate) const OTHER: &str = "sealing-2";
pub(crate) const LIFETIME_MS: u64 = 5_000;
pub(crate) const KEY_DEADLINE_MS: u64 = 400;
pub(crate) const DRIFT_MS: u64 = 100;
pub(crate) const SPAN_MS: u64 = LIFETIME_MS + KEY_DEADLINE_MS + DRIFT_MS;

/// One log and everything that was written into it.
#[derive(Clone, Default)]
pub(crate) struct Line {
    pub(crate) state: LogControl,
    pub(crate) events: Vec<Event>,
    pub(crate) wall_ms: i64,
    pub(crate) boot_ms: u64,
}

impl Line {
    /// A line whose first origin is open and written by [`WRITER`].
    pub(crate) fn new() -> Self {
        let mut line = Self {
            wall_ms: 1_000_000,
            boot_ms: 50_000,
            ..Self::default()
        };
        line.done(Command::OpenOrigin(origin(FIRST, WRITER, "", 0)));
        line
    }

    /// The same, with a permit that its writer asked for as `r1`.
    pub(crate) fn with_permit() -> (Self, GrantClock) {
        let mut line = Self::new();
        let mut clock = GrantClock::starting_at(line.boot_ms);
        line.permit(WRITER, "r1", &mut clock);
        (line, clock)
    }

    pub(crate) fn at(&self) -> At {
        At {
            wall_ms: self.wall_ms,
            boot_ms: self.boot_ms,
        }
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.boot_ms += ms;
        self.wall_ms += i64::try_from(ms).unwrap();
    }

    /// Decides and applies. What a decider emits always applies.
    pub(crate) fn command(&mut self, command: Command) -> Result<Vec<Event>, Rejection> {
        let events = decide(&self.state, command, self.at())?;
        for event in &events {
            self.write(event).unwrap();
        }
        Ok(events)
    }

    pub(crate) fn done(&mut self, command: Command) -> Vec<Event> {
        self.command(command).unwrap()
    }

    /// The kind of the refusal.
    pub(crate) fn refusal(&mut self, command: Command) -> RejectionCode {
        self.command(command).unwrap_err().code
    }

    /// Writes an event as somebody could who asks no decider.
    pub(crate) fn write(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        self.events.push(event.clone());
        let position = u64::try_from(self.events.len()).unwrap();
        self.state.apply(&envelope("log/main", position), event)
    }

    pub(crate) fn forge(&mut self, kind: Kind) -> Result<(), IllegalEvent> {
        self.write(&event(kind))
    }

    pub(crate) fn refolded(&self) -> LogControl {
        let mut state = LogControl::default();
        for (event, position) in self.events.iter().zip(1..) {
            state.apply(&envelope("log/main", position), event).unwrap();
        }
        state
    }

    pub(crate) fn permit(&mut self, node: &str, request_id: &str, clock: &mut GrantClock) {
        self.done(request(node, request_id));
        let granted = self.done(grant(node, clock));
        assert_eq!(granted.len(), 1);
        clock.observe(&self.state, self.boot_ms);
    }

    pub(crate) fn order(&mut self, kind: DirectiveKind, inputs: &str) -> u64 {
        let step = format!("step-{}", self.state.epoch());
        self.done(Command::Issue(order(kind, &step, inputs)));
        self.state.epoch()
    }

    pub(crate) fn acknowledge(&mut self, epoch: u64, node: &str) {
        self.done(acknowledgement(epoch, node, None));
    }
}

pub(crate) fn envelope(stream: &str, position: u64) -> Envelope {
    Envelope {
        stream: stream.to_owned(),
        position,
        recorded_at_ms: 1_000_000 + i64::try_from(position).unwrap_or(0),
        ..Envelope::default()
    }
}

pub(crate) fn origin(origin: &str, node: &str, predecessor: &str, epoch: u64) -> OriginOpened {
    OriginOpened {
        origin: origin.to_owned(),
        vkey: format!("{origin}+key"),
        key_id: format!("key-{epoch}"),
        provider: "software".to_owned(),
        provider_can_disable: false,
        node: node.to_owned(),
        predecessor: predecessor.to_owned(),
        epoch,
    }
}

pub(crate) fn request(node: &str, request_id: &str) -> Command {
    Command::RequestPermit {
        node: node.to_owned(),
        request_id: request_id.to_owned(),
    }
}

pub(crate) fn grant(node: &str, clock: &GrantClock) -> Command {
    Command::GrantPermit {
        node: node.to_owned(),
        lifetime_ms: LIFETIME_MS,
        key_deadline_ms: KEY_DEADLINE_MS,
        drift_ms: DRIFT_MS,
        clock: clock.clone(),
    }
}

pub(crate) fn release(node: &str, request_id: &str) -> Command {
    Command::ReleasePermit {
        node: node.to_owned(),
        request_id: request_id.to_owned(),
    }
}

/// An intent of [`WRITER`] under permit `r1` for [`FIRST`].
pub(crate) fn intent(old_size: u64, size: u64, root: u8) -> IntentRecorded {
    IntentRecorded {
        origin: FIRST.to_owned(),
        old_size,
        size,
        root: vec![root; 32].into(),
        message_sha256: vec![root; 32].into(),
        epoch: 0,
        node: WRITER.to_owned(),
        request_id: "r1".to_owned(),
    }
}

pub(crate) fn intend(intent: IntentRecorded) -> Command {
    Command::RecordIntent {
        intent,
        reseal: None,
    }
}

pub(crate) fn published(size: u64, root: u8) -> CheckpointPublished {
    CheckpointPublished {
        origin: FIRST.to_owned(),
        size,
        root: vec![root; 32].into(),
        node: WRITER.to_owned(),
    }
}

pub(crate) fn hold(signal: &str, expires_at_ms: i64) -> HoldPlaced {
    HoldPlaced {
        incident: "I-1".to_owned(),
        signal: signal.to_owned(),
        origin: FIRST.to_owned(),
        reason: "a checkpoint without intent".to_owned(),
        placed_at_ms: 0,
        expires_at_ms,
    }
}

pub(crate) fn order(kind: DirectiveKind, step: &str, inputs: &str) -> Order {
    Order {
        kind,
        log: "main".to_owned(),
        incident: "I-1".to_owned(),
        run: "R-1".to_owned(),
        step: step.to_owned(),
        iteration: 1,
        runbook: "key-compromise".to_owned(),
        runbook_digest: String::new(),
        inputs: inputs.to_owned(),
        approvals: Vec::new(),
        requesters: Vec::new(),
    }
}

pub(crate) fn acknowledgement(epoch: u64, node: &str, opened: Option<OriginOpened>) -> Command {
    Command::Acknowledge {
        epoch,
        node: node.to_owned(),
        note: "signed".to_owned(),
        opened,
        keys: KeyChanges::default(),
    }
}

pub(crate) fn fence(epoch: u64, clock: &GrantClock) -> Command {
    Command::ConcludeFence {
        epoch,
        clock: clock.clone(),
    }
}

pub(crate) fn proof() -> IsolationProof {
    IsolationProof {
        provider: "cannot".to_owned(),
        witness: "frozen at 3".to_owned(),
        trust: "suspended".to_owned(),
    }
}

pub(crate) fn isolate(origin: &str) -> String {
    format!("action: isolate-key\norigin: {origin}\n")
}

/// A grantor that knows only what it granted itself.
pub(crate) fn clock_of(started_boot_ms: u64, granted: &[(&str, u64)]) -> GrantClock {
    let granted_boot_ms: BTreeMap<String, u64> = granted
        .iter()
        .map(|(id, at)| ((*id).to_owned(), *at))
        .collect();
    GrantClock {
        started_boot_ms,
        granted_boot_ms,
    }
}
