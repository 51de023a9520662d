//! Logs that nobody correct wrote: whatever they hold is an error of its stream, never a panic.

use proptest::prelude::*;
use prost::Message as _;
use sealwarden_domain::fold::event;
use sealwarden_domain::incident::{self, Incident};
use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::{Command, GrantClock, LogControl, decide, fence_status};
use sealwarden_domain::{At, Fold};
use sealwarden_wire::event::v1::{
    CheckpointPublished, Commit, Directive, DirectiveAcknowledged, DirectiveIssued,
    DirectiveRefused, Envelope, Event, Fenced, HoldPlaced, IncidentClassified, IncidentOpened,
    IncidentStageReached, IntentRecorded, Isolated, OriginOpened, PermitGranted, PermitReleased,
    PermitRequested, TrustPublished, event::Kind,
};

use crate::support::{FIRST, Line, WRITER, acknowledgement, grant, hold, intend, proof, request};

const STREAMS: [&str; 6] = [
    "log/main",
    "incident/I-1",
    "trust/t",
    "node/x",
    "run/R-1",
    "nowhere",
];

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), -2..2_i64, any::<i64>()]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(FIRST.to_owned()),
        Just(WRITER.to_owned()),
        Just("r1".to_owned()),
        Just(String::new()),
        Just("../x\norigin: y".to_owned()),
        any::<String>(),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![1; 32]),
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 31..34)
    ]
}

fn inputs() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(format!(
            "origin: {FIRST}\ninto: {FIRST}\ncompromised-since: -009999-01-01T00:00:00Z\n"
        )),
        Just(format!(
            "origin: {FIRST}\ncompromised-since: 9999-12-30T22:00:00.999999999Z\n"
        )),
        any::<String>(),
    ]
}

fn permits() -> impl Strategy<Value = Kind> {
    (word(), word(), word(), number(), number(), number()).prop_flat_map(
        |(node, request_id, origin, lifetime_ms, key_deadline_ms, drift_ms)| {
            prop_oneof![
                Just(Kind::PermitRequested(PermitRequested {
                    node: node.clone(),
                    request_id: request_id.clone(),
                    origin: origin.clone(),
                })),
                Just(Kind::PermitGranted(PermitGranted {
                    node: node.clone(),
                    request_id: request_id.clone(),
                    origin,
                    lifetime_ms,
                    key_deadline_ms,
                    drift_ms,
                })),
                Just(Kind::PermitReleased(PermitReleased { node, request_id })),
            ]
        },
    )
}

fn tree() -> impl Strategy<Value = Kind> {
    (word(), number(), number(), bytes(), word(), word()).prop_flat_map(
        |(origin, old_size, size, root, node, other)| {
            prop_oneof![
                Just(Kind::IntentRecorded(IntentRecorded {
                    origin: origin.clone(),
                    old_size,
                    size,
                    root: root.clone().into(),
                    message_sha256: root.clone().into(),
                    epoch: size,
                    node: node.clone(),
                    request_id: other.clone(),
                })),
                Just(Kind::CheckpointPublished(CheckpointPublished {
                    origin: origin.clone(),
                    size,
                    root: root.into(),
                    node: node.clone(),
                })),
                Just(Kind::OriginOpened(OriginOpened {
                    origin,
                    node,
                    vkey: other,
                    epoch: old_size,
                    ..OriginOpened::default()
                })),
            ]
        },
    )
}

fn orders() -> impl Strategy<Value = Kind> {
    (number(), 0..7_i32, inputs(), word(), time()).prop_flat_map(
        |(epoch, kind, inputs, node, at_ms)| {
            let directive = Directive {
                epoch,
                kind,
                inputs,
                issued_at_ms: at_ms,
                ..Directive::default()
            };
            let hold = HoldPlaced {
                origin: node.clone(),
                placed_at_ms: at_ms,
                expires_at_ms: at_ms,
                ..HoldPlaced::default()
            };
            prop_oneof![
                4 => Just(Kind::DirectiveIssued(DirectiveIssued { directive: Some(directive) })),
                1 => Just(Kind::DirectiveAcknowledged(DirectiveAcknowledged {
                    epoch,
                    node: node.clone(),
                    note: String::new(),
                })),
                1 => Just(Kind::DirectiveRefused(DirectiveRefused {
                    epoch,
                    node,
                    reason: String::new(),
                    note: String::new(),
                })),
                1 => Just(Kind::HoldPlaced(hold)),
                1 => Just(Kind::Fenced(Fenced { epoch, ..Fenced::default() })),
                1 => Just(Kind::Isolated(Isolated { epoch, ..Isolated::default() })),
            ]
        },
    )
}

fn rest() -> impl Strategy<Value = Kind> {
    (word(), any::<i32>(), time(), number()).prop_flat_map(|(text, stage, ms, version)| {
        prop_oneof![
            Just(Kind::IncidentOpened(IncidentOpened {
                incident: "I-1".to_owned(),
                subject: text.clone(),
                earliest_at_ms: ms,
                ..IncidentOpened::default()
            })),
            Just(Kind::IncidentClassified(IncidentClassified {
                by: text.clone(),
                compromised_since_ms: ms,
                ..IncidentClassified::default()
            })),
            Just(Kind::IncidentStageReached(IncidentStageReached {
                stage,
                reason: text
            })),
            Just(Kind::TrustPublished(TrustPublished {
                version,
                ..TrustPublished::default()
            })),
        ]
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![permits(), tree(), orders(), rest()]
}

/// Asks everything that can be asked of a log.
fn ask(log: &LogControl, at: At, epoch: u64) {
    let clock = GrantClock::starting_at(at.boot_ms);
    let mut observed = GrantClock::starting_at(0);
    observed.observe(log, at.boot_ms);
    for clock in [&clock, &observed] {
        for epoch in log.directives.keys().copied().chain([epoch]) {
            for status in fence_status(log, epoch, clock, at.boot_ms) {
                drop(status.words());
            }
        }
    }
    drop(log.may_sign_for(WRITER, FIRST, at.wall_ms, Some(epoch)));
    let commands = [
        request(WRITER, "r9"),
        grant(WRITER, &clock),
        grant("other", &observed),
        intend(IntentRecorded {
            origin: FIRST.to_owned(),
            old_size: u64::MAX,
            size: u64::MAX,
            root: vec![1; 32].into(),
            message_sha256: vec![1; 32].into(),
            epoch,
            node: WRITER.to_owned(),
            request_id: "r1".to_owned(),
        }),
        Command::PlaceHold(hold("S-9", i64::MAX)),
        acknowledgement(epoch, WRITER, None),
        Command::ConcludeFence {
            epoch,
            clock: observed,
        },
        Command::ConcludeIsolation {
            epoch,
            proof: proof(),
        },
    ];
    for command in commands {
        let Ok(events) = decide(log, command, at) else {
            continue;
        };
        let mut after = log.clone();
        for event in &events {
            after.apply(&Envelope::default(), event).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn hostile_events_are_errors_and_leave_a_state_that_answers(
        kinds in proptest::collection::vec(kind(), 0..30),
        (wall_ms, boot_ms, epoch) in (time(), number(), number()),
    ) {
        // A line that has begun well, so that what follows reaches deep.
        let mut line = Line::with_permit().0;
        line.done(request(WRITER, "r2"));
        let mut story = Incident::default();
        for kind in kinds {
            let event = event(kind);
            drop(line.state.apply(&Envelope { recorded_at_ms: wall_ms, ..Envelope::default() }, &event));
            drop(story.apply(&Envelope { recorded_at_ms: wall_ms, ..Envelope::default() }, &event));
            ask(&line.state, At { wall_ms, boot_ms }, epoch);
        }
        drop(story.requesters());
        drop(incident::time_text(wall_ms));
    }

    #[test]
    fn altered_commits_poison_at_most_their_own_stream(
        commits in proptest::collection::vec(
            (0..STREAMS.len(), proptest::collection::vec(kind(), 0..4), any::<(usize, u8)>()),
            0..20,
        ),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut installation = Installation::default();
        for (position, (stream, kinds, (place, byte))) in (1..).zip(commits) {
            let events: Vec<Event> = kinds.into_iter().map(event).collect();
            let mut bytes = Commit { envelope: None, events }.encode_to_vec();
            if let Some(altered) = place.checked_rem(bytes.len()).and_then(|at| bytes.get_mut(at)) {
                *altered ^= byte;
            }
            let Ok(mut commit) = Commit::decode(bytes.as_slice()) else { continue };
            let envelope = Envelope { stream: STREAMS[stream].to_owned(), position, ..Envelope::default() };
            commit.envelope = Some(envelope);
            let already = installation.poisoned.len();
            let folded = installation.fold(&commit);
            prop_assert_eq!(installation.poisoned.len(), already + usize::from(folded.is_err()));
            prop_assert_eq!(installation.position, position);
        }
        if let Ok(commit) = Commit::decode(noise.as_slice()) {
            drop(installation.fold(&commit));
        }
        if let Ok(event) = Event::decode(noise.as_slice()) {
            drop(LogControl::default().apply(&Envelope::default(), &event));
            drop(Incident::default().apply(&Envelope::default(), &event));
        }
    }
}
