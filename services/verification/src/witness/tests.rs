use sealwarden_seal::merkle::Hash;
use sealwarden_seal::witness::SIZE_CONTENT_TYPE;

use super::*;

fn checkpoint() -> (Checkpoint, Note) {
    let checkpoint = Checkpoint {
        origin: "a/1".to_owned(),
        size: 3,
        root: Hash([1; 32]),
    };
    let text = format!("{checkpoint}\n\u{2014} a/1 AAAAAAAA\n");
    (checkpoint, Note::parse(text.as_bytes()).unwrap())
}

fn accept() -> Accept {
    let (checkpoint, note) = checkpoint();
    Accept {
        checkpoint,
        note,
        previous: OriginState::default(),
        log_signatures: Vec::new(),
    }
}

fn refusal(kind: RefusalKind, signed: bool, contradicts: bool) -> Refusal {
    let signed = signed.then(|| Box::new(checkpoint()));
    Refusal {
        kind,
        reason: "why".to_owned(),
        signed,
        contradicts,
    }
}

fn unavailable() -> Unavailable {
    Unavailable("down".to_owned())
}

/// Status, content type, and whether evidence is kept; 200 stands for cosigning.
fn concluded(
    decision: Result<Accept, Refusal>,
    standing: &Result<Standing, Unavailable>,
) -> (u16, &'static str, bool) {
    match conclude(decision, standing) {
        Conclusion::Cosign(_) => (200, TEXT, false),
        Conclusion::Refuse { answer, evidence } => {
            (answer.status, answer.content_type, evidence.is_some())
        }
    }
}

#[test]
fn only_an_intended_extension_is_cosigned() {
    assert_eq!(
        concluded(Ok(accept()), &Ok(Standing::Intended)),
        (200, TEXT, false)
    );
    assert_eq!(
        concluded(Ok(accept()), &Ok(Standing::Foreign)),
        (403, TEXT, true)
    );
    assert_eq!(
        concluded(Ok(accept()), &Err(unavailable())),
        (503, TEXT, false)
    );
}

#[test]
fn a_signed_checkpoint_that_was_never_intended_is_evidence_whatever_else_is_wrong() {
    let foreign = Ok(Standing::Foreign);
    let stale = RefusalKind::Stale { cosigned_size: 9 };
    assert_eq!(
        concluded(Err(refusal(stale, true, false)), &foreign),
        (409, SIZE_CONTENT_TYPE, true)
    );
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::Inconsistent, true, false)),
            &foreign
        ),
        (422, TEXT, true)
    );
    assert_eq!(
        concluded(Err(refusal(RefusalKind::Frozen, true, false)), &foreign),
        (403, TEXT, true)
    );
    assert_eq!(
        concluded(Err(refusal(RefusalKind::Malformed, true, false)), &foreign),
        (400, TEXT, true)
    );
}

#[test]
fn a_mistake_beside_an_intended_root_is_no_evidence() {
    let intended = Ok(Standing::Intended);
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::Inconsistent, true, false)),
            &intended
        ),
        (422, TEXT, false)
    );
    assert_eq!(
        concluded(Err(refusal(RefusalKind::Frozen, true, false)), &intended),
        (403, TEXT, false)
    );
}

#[test]
fn what_the_log_did_not_sign_is_no_evidence() {
    let standing = Ok(Standing::UnknownOrigin);
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::BadSignature, false, false)),
            &standing
        ),
        (403, TEXT, false)
    );
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::UnknownOrigin, false, false)),
            &standing
        ),
        (404, TEXT, false)
    );
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::Malformed, false, false)),
            &standing
        ),
        (400, TEXT, false)
    );
}

#[test]
fn without_the_event_log_nothing_is_denied_for_good_and_contradictions_are_kept() {
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::UnknownOrigin, false, false)),
            &Err(unavailable())
        ),
        (503, TEXT, false)
    );
    assert_eq!(
        concluded(
            Err(refusal(RefusalKind::Inconsistent, true, true)),
            &Err(unavailable())
        ),
        (422, TEXT, true)
    );
    let stale = RefusalKind::Stale { cosigned_size: 9 };
    assert_eq!(
        concluded(Err(refusal(stale, true, false)), &Err(unavailable())),
        (409, SIZE_CONTENT_TYPE, false)
    );
}
