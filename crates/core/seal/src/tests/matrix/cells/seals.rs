//! Seals, documents and the keys of a log.

use super::*;

pub(super) const CELLS: &[Cell] = &[
    cell(
        SEAL,
        "good seal and its document",
        Verdict::Valid,
        "The document is the one sealed",
        |_| {},
    ),
    cell(
        SEAL,
        "good seal, no document given",
        Verdict::Valid,
        "No document was compared",
        |it| {
            it.digest = None;
        },
    ),
    cell(
        SEAL,
        "one byte of the document changed, or another document",
        Verdict::DocumentMismatch,
        "the document was changed",
        |it| {
            it.digest = Some([0; 32]);
        },
    ),
    cell(
        SEAL,
        "proof leads to another root",
        Verdict::BadProof,
        "not proven to be in the log",
        |it| {
            it.seal.proof[0] = Hash([0; 32]);
        },
    ),
    cell(
        SEAL,
        "record or nonce changed",
        Verdict::BadProof,
        "not proven to be in the log",
        |it| {
            it.seal.record.tenant = "other".into();
        },
    ),
    cell(
        SEAL,
        "index beyond the tree",
        Verdict::BadProof,
        "not proven to be in the log",
        |it| {
            it.seal.index = 11;
        },
    ),
    cell(
        SEAL,
        "checkpoint of a log that the bundle does not list",
        Verdict::UnknownLog,
        "get a newer bundle",
        |it| {
            it.payload.logs[0] =
                LogEntry::active(NEXT, vec![Vkey::ed25519(NEXT, public(LOG)).unwrap()]);
        },
    ),
    cell(
        SEAL,
        "no seal at all: another kind of file",
        Verdict::Malformed,
        "another kind of file",
        |it| {
            it.bytes = Some(b"hello\n".to_vec());
        },
    ),
    cell(
        SEAL,
        "cut short",
        Verdict::Malformed,
        "it was cut short",
        |it| {
            let mut bytes = bytes_of(&it.seal);
            bytes.truncate(60);
            it.bytes = Some(bytes);
        },
    ),
    cell(
        SEAL,
        "larger than a seal may be",
        Verdict::Malformed,
        "seals have at most",
        |it| {
            let mut bytes = bytes_of(&it.seal);
            bytes.resize(MAX_SEAL_BYTES + 1, b'A');
            it.bytes = Some(bytes);
        },
    ),
    cell(
        SEAL,
        "more signatures than a note may carry",
        Verdict::Malformed,
        "more than 64 signatures",
        |it| {
            let line = it.seal.note.signatures()[1].to_string();
            let many = vec![line; 70].join("\n");
            it.bytes = Some(format!("{}{many}\n", it.seal.to_text().unwrap()).into_bytes());
        },
    ),
    cell(
        KEYS,
        "planned rotation: old and new key both signed",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].vkeys.push(second_vkey());
            sign_second(&mut it.seal.note);
        },
    ),
    cell(
        KEYS,
        "planned rotation: sealed before it, the bundle lists both keys",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].vkeys.push(second_vkey());
        },
    ),
    cell(
        KEYS,
        "failover: the log's second key alone signed",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].vkeys.push(second_vkey());
            it.seal.note = without_log(it);
            sign_second(&mut it.seal.note);
        },
    ),
    cell(
        KEYS,
        "a key signed that the bundle does not list for this log",
        Verdict::BadSignature,
        "no key of its log signed it",
        |it| {
            it.seal.note = without_log(it);
            sign_second(&mut it.seal.note);
        },
    ),
    cell(
        KEYS,
        "the log retired in good order",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].state = LogState::Retired;
        },
    ),
    cell(
        KEYS,
        "both required types signed",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].vkeys.push(ml_dsa_vkey(ORIGIN, PQ));
            it.payload.logs[0].required = vec![SignatureType::Ed25519, SignatureType::MlDsa44];
            sign_ml_dsa(&mut it.seal.note, PQ);
        },
    ),
    cell(
        KEYS,
        "required ML-DSA-44 signature stripped",
        Verdict::BadSignature,
        "the ml-dsa-44 signature of its log",
        |it| {
            it.payload.logs[0].vkeys.push(ml_dsa_vkey(ORIGIN, PQ));
            it.payload.logs[0].required = vec![SignatureType::Ed25519, SignatureType::MlDsa44];
        },
    ),
    cell(
        KEYS,
        "required Ed25519 signature stripped",
        Verdict::BadSignature,
        "the ed25519 signature of its log",
        |it| {
            it.payload.logs[0].vkeys.push(ml_dsa_vkey(ORIGIN, PQ));
            it.payload.logs[0].required = vec![SignatureType::Ed25519];
            it.seal.note = without_log(it);
            sign_ml_dsa(&mut it.seal.note, PQ);
        },
    ),
    cell(
        KEYS,
        "signature of a type that is listed and not required",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.payload.logs[0].vkeys.push(ml_dsa_vkey(ORIGIN, PQ));
        },
    ),
    cell(
        KEYS,
        "the same key signed twice, both good",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            let line = it.seal.note.signatures()[0].to_string();
            it.bytes = Some(format!("{}{line}\n", it.seal.to_text().unwrap()).into_bytes());
        },
    ),
    cell(
        KEYS,
        "the same key signed twice, one bad",
        Verdict::BadSignature,
        "was changed or forged",
        |it| {
            it.seal
                .note
                .attach(ORIGIN, log_vkey().key_id(), &[0; 64])
                .unwrap();
        },
    ),
    cell(
        KEYS,
        "signatures of keys that nobody listed",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            sign_second(&mut it.seal.note);
        },
    ),
];
