//! Who may revoke whose key, and what a revoked key is worth to a node.

use sealwarden_wire::event::v1::ApproverKeyRevoked;
use sealwarden_wire::event::v1::event::Kind;

use crate::approval::fixture::{fingerprint_of, key_of, revocation, roster};
use crate::approval::{Environment, Namespace, RevokedKeys, revocation_text, revoke, sign};
use crate::fold::{Rejection, RejectionCode};

const PLACE: (&str, Environment) = ("acme", Environment::Production);

fn revoking(known: &RevokedKeys, revoked: ApproverKeyRevoked) -> Result<Vec<Kind>, Rejection> {
    revoke(known, &roster(), PLACE, revoked)
}

fn code(revoked: ApproverKeyRevoked) -> RejectionCode {
    revoking(&RevokedKeys::default(), revoked).unwrap_err().code
}

#[test]
fn the_owner_and_seniors_revoke_a_key_and_nobody_else() {
    let none = RevokedKeys::default();
    // Leila her own, ada is security-lead, bea is break-glass.
    for by in ["leila", "ada", "bea"] {
        let events = revoking(&none, revocation("leila", by, "left on a train")).unwrap();
        assert!(matches!(&events[..], [Kind::ApproverKeyRevoked(it)] if it.by == by));
    }
    let refused = revoking(&none, revocation("leila", "pete", "I say so")).unwrap_err();
    assert_eq!(refused.code, RejectionCode::Refused);
    assert!(refused.reason.contains("security-lead"), "{refused}");
    assert_eq!(
        code(revocation("leila", "mallory", "x")),
        RejectionCode::Refused
    );
}

#[test]
fn a_revocation_comes_once_and_a_revoked_key_revokes_nobody() {
    let mut known = RevokedKeys::default();
    known.add(&revocation("ada", "bea", "stolen"));
    assert_eq!(
        revoking(&known, revocation("ada", "bea", "again")),
        Ok(Vec::new())
    );
    let refused = revoking(&known, revocation("bea", "ada", "the thief says")).unwrap_err();
    assert!(refused.reason.contains("revoked itself"), "{refused}");
    assert!(known.fingerprints().contains(&fingerprint_of("ada")));
}

#[test]
fn what_was_not_signed_so_is_refused() {
    let good = || revocation("leila", "ada", "left on a train");
    let changed = |change: fn(&mut ApproverKeyRevoked)| {
        let mut revoked = good();
        change(&mut revoked);
        revoked
    };
    assert!(revoking(&RevokedKeys::default(), good()).is_ok());
    for (expected, revoked) in [
        (RejectionCode::Refused, changed(|it| it.reason.push('!'))),
        (RejectionCode::Refused, changed(|it| it.by = "bea".into())),
        (RejectionCode::Refused, changed(|it| it.signature.clear())),
        (
            RejectionCode::NotFound,
            changed(|it| it.person = "nora".into()),
        ),
        (
            RejectionCode::NotFound,
            changed(|it| it.key_fingerprint.push('x')),
        ),
        (RejectionCode::Invalid, revocation("leila", "ada", " ")),
        (
            RejectionCode::Invalid,
            revocation("leila", "ada", "a\nkey: SHA256:x"),
        ),
        (
            RejectionCode::Invalid,
            revocation("leila", "ada", &"x".repeat(501)),
        ),
    ] {
        let reason = revoked.reason.clone();
        assert_eq!(code(revoked), expected, "{reason}");
    }
    let mut drill = good();
    let text = revocation_text("acme", Environment::Drill, &drill);
    drill.signature = sign(&text, &key_of("ada"), Namespace::ApprovalDrill).unwrap();
    assert_eq!(code(drill), RejectionCode::Refused);
}
