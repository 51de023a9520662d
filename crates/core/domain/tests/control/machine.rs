//! Random commands of two nodes, two grantors and an executor against one log, with clocks that differ; what must hold holds after each.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sealwarden_domain::log_control::{
    Command, DirectiveState, FenceHow, GrantClock, directive_input, fence_status,
};
use sealwarden_wire::event::v1::{DirectiveKind, Event, IntentRecorded, event::Kind};

use crate::moves::{Move, steps};
use crate::support::{
    DRIFT_MS, FIRST, KEY_DEADLINE_MS, Line, OTHER, WRITER, acknowledgement, fence, grant, hold,
    order, origin, proof, published, release, request,
};

const NODES: [&str; 2] = [WRITER, OTHER];
/// What each node's clock may lose against true time over a permit, milliseconds.
const SLOW_MS: [u64; 2] = [DRIFT_MS, DRIFT_MS - 1];
/// What each grantor's clock shows at true time 0, milliseconds.
const GRANTOR_BOOT_MS: [u64; 2] = [70_000, 3];

/// What a node's process remembers.
#[derive(Default)]
struct Process {
    /// Request -> true time when it was sent, milliseconds.
    sent: BTreeMap<String, u64>,
}

/// A permit as its node may use it, in true time.
struct Permit {
    node: String,
    origin: String,
    request_id: String,
    lifetime_ms: u64,
}

struct World {
    line: Line,
    /// True time, milliseconds.
    now: u64,
    nodes: [Process; 2],
    grantors: [GrantClock; 2],
    permits: Vec<Permit>,
    roots: BTreeMap<(String, u64), [u8; 32]>,
    isolated: BTreeSet<String>,
    acknowledged: BTreeMap<String, u64>,
    requests: u64,
}

impl World {
    fn new() -> Self {
        Self {
            line: Line::new(),
            now: 0,
            nodes: Default::default(),
            grantors: GRANTOR_BOOT_MS.map(GrantClock::starting_at),
            permits: Vec::new(),
            roots: BTreeMap::new(),
            isolated: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Until when in true time the node passes its own check of the permit.
    fn valid_until(&self, permit: &Permit) -> u64 {
        let index = NODES.iter().position(|node| *node == permit.node).unwrap();
        let sent = self.nodes[index].sent.get(&permit.request_id);
        sent.map_or(0, |sent| sent + permit.lifetime_ms + SLOW_MS[index])
    }

    fn boot(&self, grantor: usize) -> u64 {
        self.now + GRANTOR_BOOT_MS[grantor]
    }

    fn epoch(&self, back: u64) -> u64 {
        self.line.state.epoch().saturating_sub(back)
    }

    fn origin_back(&self, back: usize) -> String {
        let origin = self.line.state.origins.iter().nth_back(back);
        origin.map_or_else(|| "nowhere".to_owned(), |o| o.origin.clone())
    }

    fn current(&self) -> String {
        self.line.state.current().unwrap().origin.clone()
    }

    /// As a grantor works: it reads the log, notes what is new, asks, and notes what it did.
    fn as_grantor(
        &mut self,
        grantor: usize,
        command: impl FnOnce(&GrantClock) -> Command,
    ) -> Vec<Event> {
        self.line.boot_ms = self.boot(grantor);
        self.grantors[grantor].observe(&self.line.state, self.line.boot_ms);
        let command = command(&self.grantors[grantor]);
        let events = self.line.command(command).unwrap_or_default();
        self.grantors[grantor].observe(&self.line.state, self.line.boot_ms);
        events
    }

    fn play(&mut self, step: &Move) {
        let events = match step {
            Move::Pass(ms) => {
                self.now += ms;
                self.line.pass_ms(*ms);
                Vec::new()
            }
            Move::Request(node) => {
                self.requests += 1;
                let id = format!("r{}", self.requests);
                self.nodes[*node].sent.insert(id.clone(), self.now);
                self.line
                    .command(request(NODES[*node], &id))
                    .unwrap_or_default()
            }
            Move::Grant(node, grantor) => {
                self.as_grantor(*grantor, |clock| grant(NODES[*node], clock))
            }
            Move::Renew(node, grantor, ms) => {
                self.play(&Move::Request(*node));
                self.play(&Move::Pass(*ms));
                return self.play(&Move::Grant(*node, *grantor));
            }
            Move::RestartNode(node) => {
                self.nodes[*node].sent.clear();
                Vec::new()
            }
            Move::RestartGrantor(grantor) => {
                self.grantors[*grantor] = GrantClock::starting_at(self.boot(*grantor));
                Vec::new()
            }
            Move::Release(node) => self.release(*node),
            Move::Intend {
                node,
                grow,
                root,
                stale,
                reseal,
            } => {
                let intent = self.intent(*node, *grow, *root, *stale);
                let command = Command::RecordIntent {
                    intent,
                    reseal: *reseal,
                };
                self.line.command(command).unwrap_or_default()
            }
            Move::Publish(root) => {
                let size = self.line.state.origin(FIRST).unwrap().intents.last_size();
                let checkpoint = published(size.unwrap_or(1), *root);
                self.line
                    .command(Command::PublishCheckpoint(checkpoint))
                    .unwrap_or_default()
            }
            Move::Hold(..)
            | Move::Issue(..)
            | Move::Answer { .. }
            | Move::Fence(..)
            | Move::Isolate(_) => self.play_order(step),
        };
        for event in &events {
            self.judge(event.kind.as_ref().unwrap());
        }
        self.check();
    }

    /// How long the slowest node keeps this grantor waiting.
    fn fence_in_ms(&mut self, grantor: usize, epoch: u64) -> u64 {
        let boot_ms = self.boot(grantor);
        self.grantors[grantor].observe(&self.line.state, boot_ms);
        let nodes = fence_status(&self.line.state, epoch, &self.grantors[grantor], boot_ms);
        let left = nodes.iter().map(|node| match node.how {
            FenceHow::Waiting { remaining_ms } => remaining_ms,
            FenceHow::Acknowledged | FenceHow::Released | FenceHow::RanOut => 0,
        });
        left.max().unwrap_or(0)
    }

    fn release(&mut self, node: usize) -> Vec<Event> {
        let held = self
            .line
            .state
            .grants
            .get(NODES[node])
            .map(|g| g.request_id.clone());
        self.nodes[node].sent.clear();
        held.and_then(|id| self.line.command(release(NODES[node], &id)).ok())
            .unwrap_or_default()
    }

    fn intent(&self, node: usize, grow: u64, root: u8, stale: bool) -> IntentRecorded {
        let state = &self.line.state;
        let current = state.current().unwrap();
        let last = current.intents.last_size().unwrap_or(0);
        let held = state
            .grants
            .get(NODES[node])
            .filter(|_| !stale)
            .map(|g| g.request_id.clone());
        IntentRecorded {
            origin: current.origin.clone(),
            old_size: last,
            size: last + grow,
            root: vec![root; 32].into(),
            message_sha256: vec![root; 32].into(),
            epoch: 0,
            node: NODES[node].to_owned(),
            request_id: held.unwrap_or_default(),
        }
    }

    /// As a node works: before it acknowledges an isolation it forgets its permits.
    fn answer(&mut self, node: usize, epoch: u64, refuse: bool, open: bool) -> Vec<Event> {
        let name = NODES[node];
        let kind = self
            .line
            .state
            .directives
            .get(&epoch)
            .map(DirectiveState::kind);
        if refuse {
            let reason = "not approved".to_owned();
            let command = Command::Refuse {
                epoch,
                node: name.to_owned(),
                reason,
                note: String::new(),
            };
            return self.line.command(command).unwrap_or_default();
        }
        if kind == Some(DirectiveKind::IsolateKey) {
            self.nodes[node].sent.clear();
        }
        let opened = (kind == Some(DirectiveKind::RotateOrigin) && open).then(|| {
            let next = format!(
                "seal.example.com/main/{}",
                self.line.state.origins.len() + 1
            );
            origin(&next, name, &self.current(), epoch)
        });
        self.line
            .command(acknowledgement(epoch, name, opened))
            .unwrap_or_default()
    }

    /// What each event must not be.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others forbid nothing here"
    )]
    fn judge(&mut self, kind: &Kind) {
        match kind {
            Kind::PermitGranted(e) => {
                assert!(
                    !self.isolated.contains(&e.origin),
                    "a grant follows the isolation"
                );
                self.permits.push(Permit {
                    node: e.node.clone(),
                    origin: e.origin.clone(),
                    request_id: e.request_id.clone(),
                    lifetime_ms: e.lifetime_ms,
                });
            }
            Kind::DirectiveIssued(e) => {
                let directive = e.directive.as_ref().unwrap();
                if directive.kind() == DirectiveKind::IsolateKey {
                    let name = directive_input(directive, "origin").unwrap();
                    self.isolated.insert(name.to_owned());
                }
            }
            Kind::IntentRecorded(e) => {
                let root: [u8; 32] = e.root.as_ref().try_into().unwrap();
                let known = self.roots.entry((e.origin.clone(), e.size)).or_insert(root);
                assert_eq!(*known, root, "a size gets a second root");
                let state = &self.line.state;
                assert!(state.active_hold(&e.origin, self.line.wall_ms).is_none());
                assert!(state.isolated_by(&e.node, &e.origin).is_none());
                let stops = [
                    DirectiveKind::IsolateKey,
                    DirectiveKind::ReadOnly,
                    DirectiveKind::Queue,
                ];
                assert!(
                    state
                        .unanswered(&e.node)
                        .all(|d| !stops.contains(&d.kind()))
                );
                assert_eq!(state.current().unwrap().node, e.node);
            }
            Kind::DirectiveAcknowledged(e) => {
                let before = self
                    .acknowledged
                    .insert(e.node.clone(), e.epoch)
                    .unwrap_or(0);
                assert!(before < e.epoch, "epoch {} after {before}", e.epoch);
            }
            Kind::Fenced(e) => {
                for permit in self.permits.iter().filter(|p| p.origin == e.origin) {
                    let until = self.valid_until(permit);
                    assert!(
                        until == 0 || until + KEY_DEADLINE_MS <= self.now,
                        "{} may still use its key for {} ms",
                        permit.node,
                        until + KEY_DEADLINE_MS - self.now
                    );
                }
            }
            _ => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other moves are `play`'s own"
    )]
    fn play_order(&mut self, step: &Move) -> Vec<Event> {
        match step {
            Move::Hold(signal, ms) => {
                let mut placed = hold(&format!("S-{signal}"), self.line.wall_ms + ms);
                placed.origin = self.current();
                self.line
                    .command(Command::PlaceHold(placed))
                    .unwrap_or_default()
            }
            Move::Issue(kind, index) => {
                let name = self.origin_back(*index);
                let inputs = format!("into: {name}\norigin: {name}\n");
                let name = format!("s{}", self.line.state.epoch());
                self.line
                    .command(Command::Issue(order(*kind, &name, &inputs)))
                    .unwrap_or_default()
            }
            Move::Answer {
                node,
                epoch,
                refuse,
                open,
            } => self.answer(*node, self.epoch(*epoch), *refuse, *open),
            Move::Fence(grantor, back) => {
                let epoch = self.epoch(*back);
                let left_ms = self.fence_in_ms(*grantor, epoch);
                if left_ms > 0 {
                    // Concluded at the first moment that it can be, and not before.
                    self.play(&Move::Pass(left_ms - 1));
                    assert!(
                        self.as_grantor(*grantor, |clock| fence(epoch, clock))
                            .is_empty()
                    );
                    self.play(&Move::Pass(1));
                }
                self.as_grantor(*grantor, |clock| fence(epoch, clock))
            }
            Move::Isolate(back) => {
                let command = Command::ConcludeIsolation {
                    epoch: self.epoch(*back),
                    proof: proof(),
                };
                self.line.command(command).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    fn check(&self) {
        let state = &self.line.state;
        assert_eq!(self.line.refolded(), *state, "the log and the state differ");
        assert!(
            state.directives.keys().copied().eq(1..=state.epoch()),
            "epochs have a gap"
        );
        for origin in &state.origins {
            let holders: BTreeSet<&str> = self
                .permits
                .iter()
                .filter(|p| p.origin == origin.origin && self.valid_until(p) > self.now)
                .map(|p| p.node.as_str())
                .collect();
            assert!(
                holders.len() <= 1,
                "{holders:?} may all write {}",
                origin.origin
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_sequence_of_commands_breaks_what_must_hold(
        steps in steps()
    ) {
        let mut world = World::new();
        for step in &steps {
            world.play(step);
        }
    }
}

/// A machine that does nothing would prove nothing.
#[test]
fn random_commands_reach_every_event() {
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..300 {
        let mut world = World::new();
        for step in &steps().new_tree(&mut runner).unwrap().current() {
            world.play(step);
        }
        for event in &world.line.events {
            *reached
                .entry(name(event.kind.as_ref().unwrap()))
                .or_default() += 1;
        }
    }
    let expected = [
        "acknowledged",
        "directive",
        "fenced",
        "granted",
        "held",
        "intended",
        "isolated",
        "opened",
        "published",
        "refused",
        "released",
        "requested",
    ];
    assert!(
        expected.iter().all(|name| reached.contains_key(name)),
        "{reached:?}"
    );
    assert!(
        reached["fenced"] > 20 && reached["intended"] > 100,
        "{reached:?}"
    );
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "nothing else is written to a log's stream here"
)]
fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::OriginOpened(_) => "opened",
        Kind::PermitRequested(_) => "requested",
        Kind::PermitGranted(_) => "granted",
        Kind::PermitReleased(_) => "released",
        Kind::IntentRecorded(_) => "intended",
        Kind::CheckpointPublished(_) => "published",
        Kind::HoldPlaced(_) => "held",
        Kind::DirectiveIssued(_) => "directive",
        Kind::DirectiveAcknowledged(_) => "acknowledged",
        Kind::DirectiveRefused(_) => "refused",
        Kind::Fenced(_) => "fenced",
        Kind::Isolated(_) => "isolated",
        _ => "other",
    }
}
