//! Compromise, suspension, revoked certificates.

use super::*;

pub(super) const CELLS: &[Cell] = &[
    cell(
        THEFT,
        "compromise, an outside witness saw it before that by more than the skew",
        Verdict::ValidBeforeCompromise,
        "the outside witness w3 saw this checkpoint at",
        |it| {
            compromise(it, "2026-05-20T00:00:00Z");
        },
    ),
    cell(
        THEFT,
        "compromise, the outside witness's time is within the skew of it",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T12:06:00Z");
        },
    ),
    cell(
        THEFT,
        "compromise, the outside witness saw it later",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-04-20T00:00:00Z");
        },
    ),
    cell(
        THEFT,
        "compromise, only the local witness's time is before it",
        Verdict::Suspect,
        "no outside witness dates this seal",
        |it| {
            compromise(it, "2026-05-20T00:00:00Z");
            it.payload.quorum = Quorum::Count(1);
            cosigners(it, &[LOCAL]);
        },
    ),
    cell(
        THEFT,
        "a thief's checkpoint with an early claimed time and no outside time",
        Verdict::Suspect,
        "no outside witness dates this seal",
        |it| {
            compromise(it, "2026-05-20T00:00:00Z");
            it.payload.quorum = Quorum::Count(0);
            cosigners(it, &[]);
        },
    ),
    cell(
        THEFT,
        "compromise, a time-stamping authority's anchor is before it",
        Verdict::ValidBeforeCompromise,
        "the time-stamping authority CN=TSA anchored",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            let note = it.seal.note.clone();
            anchored(it, "2026-05-01T10:00:00Z", &note);
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is within the skew of it",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            let note = it.seal.note.clone();
            anchored(it, "2026-05-01T10:55:00Z", &note);
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is another checkpoint's",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            anchored(
                it,
                "2026-05-01T10:00:00Z",
                &signed_checkpoint(11, Hash([7; 32])),
            );
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is a later checkpoint's, proven to contain this one",
        Verdict::ValidBeforeCompromise,
        "anchored a later checkpoint of 20 leaves",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            anchored_later(it, "2026-05-01T10:00:00Z");
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is a later checkpoint's, and the proof does not hold",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            anchored_later(it, "2026-05-01T10:00:00Z");
            it.anchors[0].proof[0].0[0] ^= 1;
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is a later checkpoint's, beyond the end of the frozen log",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            let checkpoint = it.seal.checkpoint().unwrap();
            freeze(it, checkpoint.size, checkpoint.root);
            anchored_later(it, "2026-05-01T10:00:00Z");
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is over a text that the log did not sign",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            let note = without_log(it);
            anchored(it, "2026-05-01T10:00:00Z", &note);
        },
    ),
    cell(
        THEFT,
        "compromise, the anchor is from before the log was opened",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            it.payload.logs[0].opened = Some(at("2026-05-01T10:30:00Z"));
            let note = it.seal.note.clone();
            anchored(it, "2026-05-01T10:00:00Z", &note);
        },
    ),
    cell(
        THEFT,
        "compromise, the outside witness's time is from before the log was opened",
        Verdict::Suspect,
        "no outside witness dates this seal",
        |it| {
            compromise(it, "2026-05-20T00:00:00Z");
            it.payload.logs[0].opened = Some(at("2026-05-10T00:00:00Z"));
        },
    ),
    cell(
        THEFT,
        "anchor from the future",
        Verdict::Suspect,
        "saw this checkpoint only at",
        |it| {
            compromise(it, "2026-05-01T11:00:00Z");
            let note = it.seal.note.clone();
            anchored(it, "2026-07-01T00:00:00Z", &note);
        },
    ),
    cell(
        THEFT,
        "suspended by the online signing key, dated before it",
        Verdict::ValidBeforeCompromise,
        "(incident INC-1)",
        |it| {
            it.suspensions.push(suspension("2026-05-20T00:00:00Z"));
        },
    ),
    cell(
        THEFT,
        "suspended by the online signing key, not dated before it",
        Verdict::Suspect,
        "(incident INC-1)",
        |it| {
            it.suspensions.push(suspension("2026-05-01T12:00:00Z"));
        },
    ),
    cell(
        THEFT,
        "frozen log, checkpoint within its good history",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            let root = it.seal.checkpoint().unwrap().root;
            freeze(it, 11, root);
        },
    ),
    cell(
        THEFT,
        "frozen log, checkpoint after the cut",
        Verdict::Suspect,
        "not part of the log's good history",
        |it| {
            freeze(it, 10, Hash([1; 32]));
        },
    ),
    cell(
        THEFT,
        "frozen log, another root for the size of the cut (fork)",
        Verdict::Suspect,
        "not part of the log's good history",
        |it| {
            freeze(it, 11, Hash([1; 32]));
        },
    ),
    cell(
        CERTIFICATES,
        "revoked, an outside witness saw the checkpoint before that",
        Verdict::ValidBeforeCompromise,
        "the seal certificate of seal.example.com/main/1 was revoked at",
        |it| {
            it.payload.logs[0].certificates = vec![certificate(
                1,
                Some(("2026-05-20T00:00:00Z", RevocationReason::KeyCompromise)),
            )];
        },
    ),
    cell(
        CERTIFICATES,
        "revoked, an anchor is before that",
        Verdict::ValidBeforeCompromise,
        "the time-stamping authority CN=TSA anchored",
        |it| {
            it.payload.logs[0].certificates = vec![certificate(
                1,
                Some(("2026-05-01T11:00:00Z", RevocationReason::PrivilegeWithdrawn)),
            )];
            let note = it.seal.note.clone();
            anchored(it, "2026-05-01T10:00:00Z", &note);
        },
    ),
    cell(
        CERTIFICATES,
        "revoked, nobody independent dates the checkpoint before that",
        Verdict::Suspect,
        "was revoked at 2026-04-01T00:00:00Z (unspecified)",
        |it| {
            it.payload.logs[0].certificates = vec![certificate(
                1,
                Some(("2026-04-01T00:00:00Z", RevocationReason::Unspecified)),
            )];
        },
    ),
    cell(
        CERTIFICATES,
        "superseded beside a certificate that is not revoked",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].certificates = vec![
                certificate(
                    1,
                    Some(("2026-04-01T00:00:00Z", RevocationReason::Superseded)),
                ),
                certificate(2, None),
            ];
        },
    ),
    cell(
        CERTIFICATES,
        "superseded, and no other certificate is there",
        Verdict::Suspect,
        "(superseded)",
        |it| {
            it.payload.logs[0].certificates = vec![certificate(
                1,
                Some(("2026-04-01T00:00:00Z", RevocationReason::Superseded)),
            )];
        },
    ),
    cell(
        CERTIFICATES,
        "key compromised, another certificate is not revoked",
        Verdict::Suspect,
        "(key-compromise)",
        |it| {
            it.payload.logs[0].certificates = vec![
                certificate(
                    1,
                    Some(("2026-04-01T00:00:00Z", RevocationReason::KeyCompromise)),
                ),
                certificate(2, None),
            ];
        },
    ),
    cell(
        CERTIFICATES,
        "revoked from a time that is still to come",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].certificates = vec![certificate(
                1,
                Some((
                    "2026-07-01T00:00:00Z",
                    RevocationReason::CessationOfOperation,
                )),
            )];
        },
    ),
];
