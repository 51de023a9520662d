//! Seal certificates: what is recorded, what is refused, what stands in the next bundle.

use sealwarden_domain::certificates::{Certificates, MAX_HELD, stale};
use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_wire::event::v1::{
    Envelope, Event, SealCertificateBound, SealCertificateImported, SealCertificateRevoked,
    SuspensionAdded, event::Kind,
};

const ORIGIN: &str = "seal.example.com/main/1";
const NOW_MS: i64 = 1_000_000;

struct World {
    state: Certificates,
    position: u64,
}

impl World {
    fn new() -> Self {
        Self {
            state: Certificates::default(),
            position: 0,
        }
    }

    fn take(&mut self, decided: Result<Vec<Event>, Rejection>) -> usize {
        let events = decided.unwrap();
        for event in &events {
            self.position += 1;
            let envelope = Envelope {
                position: self.position,
                ..Envelope::default()
            };
            let kind = event.kind.as_ref().unwrap();
            assert!(self.state.apply(&envelope, kind).unwrap());
        }
        events.len()
    }

    fn import(&mut self, certificate: &str) -> usize {
        self.take(self.state.import(imported(certificate)))
    }

    fn bind(&mut self, certificate: &str, keys: &[&str]) -> usize {
        self.take(
            self.state
                .bind(bound(certificate, keys), &texts(keys), NOW_MS),
        )
    }

    fn revoke(&mut self, certificate: &str, at_ms: i64) -> usize {
        self.take(self.state.revoke(revoked(certificate, at_ms), NOW_MS))
    }
}

fn texts(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|it| (*it).to_owned()).collect()
}

fn imported(certificate: &str) -> SealCertificateImported {
    SealCertificateImported {
        certificate: certificate.to_owned(),
        not_after_ms: 2 * NOW_MS,
        ..SealCertificateImported::default()
    }
}

fn bound(certificate: &str, keys: &[&str]) -> SealCertificateBound {
    SealCertificateBound {
        certificate: certificate.to_owned(),
        origin: ORIGIN.to_owned(),
        vkeys: texts(keys),
        from_ms: 0,
        until_ms: 2 * NOW_MS,
        ..SealCertificateBound::default()
    }
}

fn revoked(certificate: &str, at_ms: i64) -> SealCertificateRevoked {
    SealCertificateRevoked {
        certificate: certificate.to_owned(),
        at_ms,
        reason: "key-compromise".to_owned(),
        by: String::new(),
    }
}

#[test]
fn the_newest_binding_that_is_not_revoked_stands_for_a_log_and_all_stay_in_the_bundle() {
    let mut world = World::new();
    assert_eq!(
        (world.import("a"), world.import("b"), world.import("a")),
        (1, 1, 0)
    );
    assert!(world.state.current(ORIGIN).is_none());
    assert_eq!((world.bind("b", &["k"]), world.bind("a", &["k"])), (1, 1));
    assert_eq!(world.bind("a", &["k"]), 0, "the same words again");
    let current = |world: &World| {
        world
            .state
            .current(ORIGIN)
            .unwrap()
            .0
            .imported
            .certificate
            .clone()
    };
    assert_eq!(current(&world), "a");
    assert_eq!(world.revoke("a", 500), 1);
    assert_eq!(current(&world), "b");
    assert_eq!(world.state.of_origin(ORIGIN).count(), 2);
    // A revocation moves to earlier and never to later.
    assert_eq!((world.revoke("a", 600), world.revoke("a", 400)), (0, 1));
    assert_eq!(
        world
            .state
            .find("a")
            .unwrap()
            .revoked
            .as_ref()
            .unwrap()
            .at_ms,
        400
    );
    // What was revoked is not bound again.
    let refused = world
        .state
        .bind(bound("a", &["k", "l"]), &texts(&["k", "l"]), NOW_MS);
    assert_eq!(refused.unwrap_err().code, RejectionCode::Refused);
}

#[test]
fn a_binding_names_exactly_the_keys_that_the_log_has() {
    let mut world = World::new();
    world.import("a");
    for keys in [&["k", "l"][..], &[], &["l"]] {
        let refused = world.state.bind(bound("a", &["k"]), &texts(keys), NOW_MS);
        assert_eq!(refused.unwrap_err().code, RejectionCode::NotNow, "{keys:?}");
    }
    world.bind("a", &["k"]);
    let (_, held) = world.state.current(ORIGIN).unwrap();
    assert_eq!(stale(held, &texts(&["k"]), NOW_MS), None);
    let words = stale(held, &texts(&["k", "l"]), NOW_MS).unwrap();
    assert!(words.contains("does not name 1 of"), "{words}");
    let words = stale(held, &texts(&["k"]), 2 * NOW_MS + 1).unwrap();
    assert!(words.contains("has ended"), "{words}");
    assert_eq!(
        world.bind("a", &["k", "l"]),
        1,
        "renewed after the signers changed"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = World::new();
    let code = |decided: Result<Vec<Event>, Rejection>| decided.unwrap_err().code;
    let state = &world.state;
    assert_eq!(
        code(state.bind(bound("a", &["k"]), &texts(&["k"]), NOW_MS)),
        RejectionCode::NotFound
    );
    assert_eq!(
        code(state.revoke(revoked("a", 1), NOW_MS)),
        RejectionCode::NotFound
    );
    world.import("a");
    let state = &world.state;
    let unknown = SealCertificateRevoked {
        reason: "because".to_owned(),
        ..revoked("a", 1)
    };
    assert_eq!(code(state.revoke(unknown, NOW_MS)), RejectionCode::Invalid);
    for at_ms in [-1, 10 * NOW_MS] {
        assert_eq!(
            code(state.revoke(revoked("a", at_ms), NOW_MS)),
            RejectionCode::Invalid
        );
    }
    let late = state.bind(bound("a", &["k"]), &texts(&["k"]), 3 * NOW_MS);
    assert_eq!(code(late), RejectionCode::Refused, "expired");
    for number in 1..MAX_HELD {
        world.import(&number.to_string());
    }
    assert_eq!(
        code(world.state.import(imported("one more"))),
        RejectionCode::Refused
    );
}

#[test]
fn a_stream_with_bindings_of_unknown_certificates_does_not_fold() {
    let mut state = Certificates::default();
    let envelope = Envelope::default();
    assert!(
        state
            .apply(&envelope, &Kind::SealCertificateBound(bound("a", &["k"])))
            .is_err()
    );
    assert!(
        state
            .apply(&envelope, &Kind::SealCertificateRevoked(revoked("a", 1)))
            .is_err()
    );
    let import = Kind::SealCertificateImported(imported("a"));
    assert!(state.apply(&envelope, &import).unwrap());
    assert!(state.apply(&envelope, &import).is_err());
    let other = Kind::SuspensionAdded(SuspensionAdded::default());
    assert!(!state.apply(&envelope, &other).unwrap());
}
