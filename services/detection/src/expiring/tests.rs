use super::*;
use sealwarden_domain::fold::event;
use sealwarden_eventlog::Head;
use sealwarden_wire::event::v1::{
    Commit, Envelope, OriginOpened, SealCertificateBound, SealCertificateImported,
    SealCertificateRevoked, event::Kind,
};

const ORIGIN: &str = "seal.example.com/main/1";
const DAY_MS: i64 = 24 * 3_600_000;
/// When the certificate of the tests ends.
const END_MS: i64 = 100 * DAY_MS;
const WARN: Option<i64> = Some(30 * DAY_MS);

fn write(state: &mut State, stream: &str, kind: Kind) {
    let envelope = Envelope {
        stream: stream.to_owned(),
        position: state.position + 1,
        recorded_at_ms: 1_000,
        ..Envelope::default()
    };
    let commit = Commit {
        envelope: Some(envelope),
        events: vec![event(kind)],
    };
    state.take_in(&commit, Head::EMPTY);
}

fn bound(certificate: &str, until_ms: i64) -> Kind {
    Kind::SealCertificateBound(SealCertificateBound {
        certificate: certificate.to_owned(),
        origin: ORIGIN.to_owned(),
        until_ms,
        ..SealCertificateBound::default()
    })
}

fn imported(certificate: &str, not_after_ms: i64) -> Kind {
    Kind::SealCertificateImported(SealCertificateImported {
        certificate: certificate.to_owned(),
        subject: "O=Example".to_owned(),
        not_after_ms,
        ..SealCertificateImported::default()
    })
}

/// A log with a certificate that ends at [`END_MS`], and a binding that ends then.
fn state(binding_ms: i64) -> State {
    let mut state = State::default();
    let opened = OriginOpened {
        origin: ORIGIN.to_owned(),
        node: "sealing-1".to_owned(),
        ..OriginOpened::default()
    };
    write(&mut state, "log/main", Kind::OriginOpened(opened));
    write(&mut state, "trust/acme", imported("aa", END_MS));
    write(&mut state, "trust/acme", bound("aa", binding_ms));
    state
}

fn signals(state: &State, now_ms: i64) -> Vec<SignalReported> {
    let effects = due(state, WARN, now_ms).into_iter();
    effects
        .map(|effect| {
            let Effect::RecordSignal { signal, .. } = effect else {
                panic!("{effect:?}");
            };
            *signal
        })
        .collect()
}

#[test]
fn a_certificate_is_told_of_once_when_it_ends_soon() {
    let mut state = state(END_MS);
    let due_ms = END_MS - 30 * DAY_MS;
    assert!(signals(&state, due_ms - 1).is_empty());
    assert_eq!(next_ms(&state, WARN, due_ms - 1), Some(due_ms));
    assert_eq!(next_ms(&state, WARN, due_ms), None, "it is due");
    assert!(due(&state, None, END_MS).is_empty(), "switched off");
    let found = signals(&state, due_ms);
    assert_eq!(found.len(), 1);
    let signal = &found[0];
    assert!(signal.proven && signal.origin.is_empty(), "{signal:?}");
    assert_eq!(
        (&*signal.class, &*signal.subject),
        ("certificate-expiring", "seal certificate of log main")
    );
    assert!(
        signal.seen.contains("(O=Example) ends at 1970-04-11"),
        "{}",
        signal.seen
    );
    // Also late: the service was away.
    assert_eq!(signals(&state, END_MS + DAY_MS), found);
    let stream = format!("signal/{}", signal.signal);
    write(&mut state, &stream, Kind::SignalReported(signal.clone()));
    assert!(signals(&state, END_MS).is_empty(), "it is told");
}

#[test]
fn what_is_bound_or_revoked_since_changes_what_ends() {
    let mut state = state(50 * DAY_MS);
    let early = signals(&state, 20 * DAY_MS);
    assert!(
        early[0].seen.contains("before the certificate does"),
        "{}",
        early[0].seen
    );
    write(&mut state, "trust/acme", bound("aa", END_MS));
    assert!(signals(&state, 60 * DAY_MS).is_empty());
    let whole = signals(&state, 80 * DAY_MS);
    assert_ne!(whole[0].signal, early[0].signal);
    // Another certificate stands for the log.
    write(&mut state, "trust/acme", imported("bb", 400 * DAY_MS));
    write(&mut state, "trust/acme", bound("bb", 400 * DAY_MS));
    assert!(signals(&state, 80 * DAY_MS).is_empty());
    let revoked = SealCertificateRevoked {
        certificate: "bb".to_owned(),
        at_ms: 1,
        ..SealCertificateRevoked::default()
    };
    write(
        &mut state,
        "trust/acme",
        Kind::SealCertificateRevoked(revoked),
    );
    assert_eq!(
        signals(&state, 80 * DAY_MS),
        whole,
        "the first one stands again"
    );
}
