use super::*;
use crate::note::{KeyId, MAX_NOTE_BYTES, NoteError, Signature, UnsignedNote, VkeyError, key_id};
use crate::seal::{MAX_SEAL_BYTES, SealError};

/// The known answer of Go's signed notes, which C2SP's are.
const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn notes_of_others_verify() {
    let vkey: Vkey = GO_VKEY.parse().unwrap();
    assert_eq!(vkey.to_string(), GO_VKEY);
    let note = Note::parse(GO_NOTE.as_bytes()).unwrap();
    assert_eq!(note.to_string(), GO_NOTE);
    let verified = note.verify(&[log_vkey(), vkey]).unwrap();
    assert_eq!(
        (verified[0].name.as_str(), verified[0].key_index),
        ("PeterNeumann", 1)
    );
    assert_eq!(verified[0].time_s, None);
}

#[test]
fn unknown_signatures_are_ignored_and_known_bad_ones_reject() {
    let keys = [log_vkey()];
    let mut note = signed_checkpoint(3, Hash([1; 32]));
    note.attach("somebody", KeyId([1, 2, 3, 4]), &[0; 64])
        .unwrap();
    note.attach(ORIGIN, KeyId([1, 2, 3, 4]), &[0; 64]).unwrap();
    assert_eq!(note.verify(&keys).unwrap().len(), 1);
    assert!(matches!(
        note.verify(&[]),
        Err(NoteError::NoTrustedSignature(_))
    ));
    note.attach(ORIGIN, log_vkey().key_id(), &[0; 64]).unwrap();
    assert!(matches!(
        note.verify(&keys),
        Err(NoteError::BadSignature { .. })
    ));
    let short = UnsignedNote::new("x\n").unwrap();
    let short = short.attach(ORIGIN, log_vkey().key_id(), &[0; 3]).unwrap();
    assert!(matches!(
        short.verify(&keys),
        Err(NoteError::BadSignature { .. })
    ));
}

#[test]
fn the_text_ends_at_the_last_empty_line() {
    let unsigned = UnsignedNote::new("a\n\n— b AAAAAAA=\n\nc\n").unwrap();
    let note = unsigned.attach("n", KeyId([0; 4]), b"s").unwrap();
    let again = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(again.text(), "a\n\n— b AAAAAAA=\n\nc\n");
    assert_eq!(again, note);
}

#[test]
fn malformed_notes_are_refused() {
    let line = "— n AAAAAAA=\n";
    let bad = [
        String::new(),
        "text\n".into(),
        "text\n\n".into(),
        format!("text\n{line}"),
        format!("text\n\n{}", line.trim_end()),
        "text\n\n-- n AAAAAAA=\n".into(),
        "text\n\n— n  AAAAAAA=\n".into(),
        "text\n\n— n AAAAAAA\n".into(),
        "text\n\n— n AAAAAAB=\n".into(),
        "text\n\n— n AAAA\n".into(),
        "text\n\n— n AAAAAA==\n".into(),
        "text\n\n— n+m AAAAAAA=\n".into(),
        "text\n\n—  AAAAAAA=\n".into(),
        "text\n\n— n\u{a0}m AAAAAAA=\n".into(),
        format!("te\txt\n\n{line}"),
        format!("te\rxt\n\n{line}"),
        format!("text\n\n{line}\u{0}"),
        format!("text\n\n{line}rest\n"),
        format!("text\n\n{}", line.repeat(65)),
    ];
    for note in &bad {
        assert!(Note::parse(note.as_bytes()).is_err(), "{note:?}");
    }
    assert!(Note::parse(format!("text\n\n{line}").as_bytes()).is_ok());
    assert!(Note::parse(format!("text\n\n{}", line.repeat(64)).as_bytes()).is_ok());
    assert!(Note::parse(&vec![b'\n'; MAX_NOTE_BYTES + 1]).is_err());
    assert!(Note::parse(b"\xff\n\n").is_err());
    assert!(UnsignedNote::new("no newline").is_err());
    assert!(UnsignedNote::new("").is_err());
    assert!(Signature::new("n", KeyId([0; 4]), &[]).is_err());
}

/// Key ids have 32 bits, so some hundred thousand keys hold a pair that shares one.
fn colliding_keys() -> [Vkey; 2] {
    let mut seen = std::collections::BTreeMap::new();
    for counter in 0_u64.. {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&counter.to_be_bytes());
        if let Some(other) = seen.insert(key_id(ORIGIN, 1, &key), key) {
            return [other, key].map(|key| Vkey::ed25519(ORIGIN, key).unwrap());
        }
    }
    unreachable!("the pigeonhole principle")
}

#[test]
fn two_different_keys_under_one_name_and_id_are_an_error() {
    let keys = colliding_keys();
    let note = UnsignedNote::new("x\n").unwrap();
    let note = note.attach(ORIGIN, keys[0].key_id(), &[0; 64]).unwrap();
    assert!(matches!(
        note.verify(&keys),
        Err(NoteError::AmbiguousKey { .. })
    ));
    let twice = [log_vkey(), log_vkey()];
    assert_eq!(
        signed_checkpoint(3, Hash([1; 32]))
            .verify(&twice)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn key_ids_follow_from_name_type_and_key() {
    let mut message = ORIGIN.as_bytes().to_vec();
    message.extend_from_slice(b"\n\x01");
    message.extend_from_slice(&public(LOG));
    assert_eq!(log_vkey().key_id().0, Hash::of(&message).0[..4]);
    assert_eq!(key_id(ORIGIN, 1, &public(LOG)), log_vkey().key_id());
    let cosigner = Vkey::cosignature_v1(ORIGIN, public(LOG)).unwrap();
    assert_ne!(cosigner.key_id(), log_vkey().key_id());
}

#[test]
fn verifier_keys_are_read_strictly() {
    let good = log_vkey().to_string();
    let id = log_vkey().key_id().to_string();
    let bad = [
        String::new(),
        "name".into(),
        "name+00000000".into(),
        good.replace(&id, "00000000"),
        good.replace(&id, &format!("{id}0")),
        good.replace(ORIGIN, "other"),
        good.replace(ORIGIN, ""),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
    ];
    for text in bad {
        assert!(text.parse::<Vkey>().is_err(), "{text:?}");
    }
    let ecdsa = format!("n+00000000+{}", crate::encoding::base64(&[2; 33]));
    assert!(matches!(
        ecdsa.parse::<Vkey>(),
        Err(VkeyError::Algorithm { algorithm: 2, .. })
    ));
    let short = format!("n+00000000+{}", crate::encoding::base64(&[1; 32]));
    assert!(matches!(
        short.parse::<Vkey>(),
        Err(VkeyError::KeyLength { found: 31, .. })
    ));
}

#[test]
fn checkpoints_have_three_lines_and_one_spelling() {
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: 20,
        root: Hash([3; 32]),
    };
    let text = checkpoint.to_text();
    assert_eq!(Checkpoint::parse(&text).unwrap(), checkpoint);
    let bad = [
        String::new(),
        text.trim_end().to_owned(),
        format!("{text}extension\n"),
        format!("{text}\n"),
        text.replace("\n20\n", "\n020\n"),
        text.replace("\n20\n", "\n+20\n"),
        text.replace("\n20\n", "\n-1\n"),
        text.replace("\n20\n", "\n\n"),
        text.replace("\n20\n", "\n9223372036854775808\n"),
        text.replace(ORIGIN, ""),
        text.replace(ORIGIN, "a b"),
        text.replace("=\n", "\n"),
    ];
    for text in bad {
        assert!(Checkpoint::parse(&text).is_err(), "{text:?}");
    }
}

#[test]
fn a_cosignature_covers_time_and_text() {
    let mut note = signed_checkpoint(3, Hash([1; 32]));
    cosign(&mut note, LOCAL, 1_700_000_000);
    let blob = note.signatures()[1].blob().to_vec();
    assert_eq!(blob.len(), 72);
    let cosignature = Cosignature::decode(&blob).unwrap();
    assert_eq!(cosignature.encode().as_slice(), blob);
    assert!(cosignature.verifies(note.text(), &public(LOCAL)));
    assert!(!cosignature.verifies("other\n", &public(LOCAL)));
    let later = Cosignature {
        time_s: cosignature.time_s + 1,
        ..cosignature
    };
    assert!(!later.verifies(note.text(), &public(LOCAL)));
    let message = cosignature::message(note.text(), 5);
    assert!(message.starts_with(format!("cosignature/v1\ntime 5\n{ORIGIN}\n3\n").as_bytes()));
    assert_eq!(
        note.verify(&[witness_vkey(LOCAL)]).unwrap()[0].time_s,
        Some(1_700_000_000)
    );
    assert_eq!(Cosignature::decode(&blob[..71]), None);
}

#[test]
fn only_good_lines_of_the_asked_witness_are_merged() {
    let plain = signed_checkpoint(3, Hash([1; 32]));
    let mut both = plain.clone();
    cosign(&mut both, LOCAL, 1_700_000_000);
    cosign(&mut both, OUTSIDE, 1_700_000_000);
    let body = both.to_string();
    let body = body
        .split_once(&format!(
            "{}
",
            both.signatures()[0]
        ))
        .unwrap()
        .1;
    let mut note = plain.clone();
    let merge = |note: &mut Note, body: &str, seed| {
        cosignature::merge_answer(note, body.as_bytes(), &witness_vkey(seed))
    };
    assert_eq!(merge(&mut note, body, LOCAL).unwrap(), 1);
    assert_eq!(note.signatures(), &both.signatures()[..2]);
    let mut other = signed_checkpoint(4, Hash([1; 32]));
    assert!(merge(&mut other, body, LOCAL).is_err());
    assert!(merge(&mut note, "", LOCAL).is_err());
    assert!(merge(&mut note, "x\n\n— n AAAAAAA=\n", LOCAL).is_err());
}

#[test]
fn seal_files_read_back_and_deviations_are_errors() {
    let seal = seal();
    let text = seal.to_text().unwrap();
    assert_eq!(Seal::parse(text.as_bytes()).unwrap(), seal);
    assert_eq!(seal.checkpoint().unwrap().size, 11);
    let extra = text.lines().nth(1).unwrap().to_owned();
    let bad = [
        text.replace("@v1", "@v2"),
        text.replace(&format!("{extra}\n"), ""),
        text.replace("extra ", "extra  "),
        text.replace(&extra, "extra AAAA"),
        text.replace("index 5", "index 05"),
        text.replace("index 5", "index -5"),
        text.replace("index 5", "Index 5"),
        text.replace("index 5\n", "index 5\n\n"),
        text.replace('\n', "\r\n"),
        text.replacen("\n\n", "\n", 1),
        format!("{text}\n"),
        format!(" {text}"),
        text.trim_end().to_owned(),
    ];
    for text in bad {
        assert!(Seal::parse(text.as_bytes()).is_err(), "{text}");
    }
    let long = text.replace(
        "\n\n",
        &format!(
            "\n{}\n",
            format!("{}\n", Hash([1; 32]).to_base64()).repeat(64)
        ),
    );
    assert!(matches!(
        Seal::parse(long.as_bytes()),
        Err(SealError::ProofTooLong)
    ));
    assert!(matches!(
        Seal::parse(&vec![0; MAX_SEAL_BYTES + 1]),
        Err(SealError::TooLong(_))
    ));
}

#[test]
fn a_tree_of_one_leaf_has_a_seal_without_proof_lines() {
    let record = record();
    let mut tree = MemoryTree::new();
    tree.push_entry(&entry(&NONCE, &record.encode().unwrap()));
    let note = signed_checkpoint(1, tree.root());
    let seal = Seal {
        nonce: NONCE,
        record,
        index: 0,
        proof: Vec::new(),
        note,
    };
    assert_eq!(Seal::parse(&bytes_of(&seal)).unwrap(), seal);
}
