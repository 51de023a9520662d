//! The fold of everything: each stream for itself.

use sealwarden_domain::fold::event;
use sealwarden_domain::installation::Installation;
use sealwarden_wire::event::v1::{
    CheckpointSighted, Commit, IncidentOpened, NodeEnrolled, RunEnded, RunStarted,
    ServiceAnnounced, SignalReported, StepStarted, SuspensionAdded, TrustPublished, event::Kind,
};

use crate::support::{FIRST, WRITER, envelope, origin};

struct World {
    installation: Installation,
    position: u64,
}

impl World {
    fn new() -> Self {
        Self {
            installation: Installation::default(),
            position: 0,
        }
    }

    fn write(&mut self, stream: &str, kinds: impl IntoIterator<Item = Kind>) -> bool {
        self.position += 1;
        let commit = Commit {
            envelope: Some(envelope(stream, self.position)),
            events: kinds.into_iter().map(event).collect(),
        };
        self.installation.fold(&commit).is_ok()
    }
}

fn enrolled(node: &str) -> Kind {
    Kind::NodeEnrolled(NodeEnrolled {
        node: node.to_owned(),
        ..NodeEnrolled::default()
    })
}

fn announced(node: &str) -> Kind {
    Kind::ServiceAnnounced(ServiceAnnounced {
        node: node.to_owned(),
        ..ServiceAnnounced::default()
    })
}

fn trust(version: u64) -> Kind {
    Kind::TrustPublished(TrustPublished {
        version,
        ..TrustPublished::default()
    })
}

fn signal(id: &str) -> Kind {
    Kind::SignalReported(SignalReported {
        signal: id.to_owned(),
        ..SignalReported::default()
    })
}

fn incident(id: &str) -> Kind {
    Kind::IncidentOpened(IncidentOpened {
        incident: id.to_owned(),
        ..IncidentOpened::default()
    })
}

fn run(id: &str) -> Kind {
    Kind::RunStarted(RunStarted {
        run: id.to_owned(),
        ..RunStarted::default()
    })
}

#[test]
fn every_category_is_folded() {
    let mut world = World::new();
    assert!(world.write(
        "log/main",
        [Kind::OriginOpened(origin(FIRST, WRITER, "", 0))]
    ));
    assert!(world.write("node/a", [enrolled("a"), announced("a")]));
    assert!(world.write(
        "trust/t",
        [trust(1), Kind::SuspensionAdded(SuspensionAdded::default())]
    ));
    assert!(world.write("signal/S-1", [signal("S-1")]));
    assert!(world.write("incident/I-1", [incident("I-1")]));
    assert!(world.write(
        "run/R-1",
        [run("R-1"), Kind::StepStarted(StepStarted::default())]
    ));
    assert!(world.write("run/R-1", [Kind::RunEnded(RunEnded::default())]));
    assert!(world.write(
        "sighting/x",
        [Kind::CheckpointSighted(CheckpointSighted::default())]
    ));
    assert!(
        world.write("later/x", [trust(9)]),
        "a category of a newer version"
    );
    let i = &world.installation;
    assert!(i.poisoned.is_empty());
    assert_eq!(i.log_of(FIRST).unwrap().0, "main");
    assert!(i.nodes["a"].enrolled.is_some() && i.nodes["a"].announced.is_some());
    assert_eq!(i.trust.published.as_ref().unwrap().version, 1);
    assert_eq!(i.trust.suspensions.len(), 1);
    assert_eq!(i.open_incidents().count(), 1);
    assert!(i.signals.contains_key("S-1") && i.runs["R-1"].ended.is_some());
    assert_eq!(i.position, 9);
}

#[test]
fn no_category_speaks_for_another() {
    // Whoever may write sightings must not publish trust, and no node announces another.
    let foreign = [
        ("sighting/x", trust(1)),
        ("keyuse/x", enrolled("x")),
        ("signal/x", trust(1)),
        ("signal/x", signal("y")),
        ("node/x", trust(1)),
        ("node/x", enrolled("y")),
        ("node/x", announced("y")),
        ("run/x", enrolled("x")),
        ("run/x", run("y")),
        ("run/x", Kind::RunEnded(RunEnded::default())),
        ("trust/x", enrolled("x")),
        ("incident/x", incident("y")),
        ("log/x", signal("x")),
        ("nowhere", enrolled("x")),
    ];
    for (stream, kind) in foreign {
        let mut world = World::new();
        assert!(!world.write(stream, [kind.clone()]), "{kind:?} in {stream}");
        let i = world.installation;
        assert!(i.nodes.is_empty() && i.trust.published.is_none() && i.runs.is_empty());
        assert!(i.poisoned.contains_key(stream));
    }
}

#[test]
fn what_happens_once_happens_once() {
    for (stream, kind) in [
        ("signal/x", signal("x")),
        ("run/x", run("x")),
        ("incident/x", incident("x")),
    ] {
        let mut world = World::new();
        assert!(world.write(stream, [kind.clone()]));
        assert!(!world.write(stream, [kind]));
    }
}

#[test]
fn trust_never_goes_back() {
    let mut world = World::new();
    assert!(world.write("trust/t", [trust(1)]));
    assert!(world.write("trust/t", [trust(2)]));
    assert!(!world.write("trust/t", [trust(1)]));
    assert_eq!(world.installation.trust.published.unwrap().version, 2);
}

#[test]
fn a_poisoned_stream_is_told_once_and_stops_nobody_else() {
    let mut world = World::new();
    assert!(!world.write("node/x", [enrolled("y")]));
    assert!(world.write("node/x", [enrolled("x")]), "told once");
    assert!(world.installation.nodes.is_empty(), "and folded no more");
    assert!(world.write("node/z", [enrolled("z")]));
    world.installation.set_aside("trust/t", 4, "not a commit");
    assert_eq!(world.installation.position, 4);
    world.position = 4;
    assert!(world.write("trust/t", [trust(1)]));
    assert!(world.installation.trust.published.is_none());
    assert_eq!(
        world.installation.poisoned["trust/t"],
        "position 4: not a commit"
    );
    assert!(
        world.installation.fold(&Commit::default()).is_err(),
        "a commit of no stream"
    );
}
