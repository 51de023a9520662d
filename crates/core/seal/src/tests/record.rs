use super::record;
use crate::bulk::{ChunkError, MAX_CHUNK_DIGESTS, encode_records};
use crate::record::*;
use proptest::option;
use proptest::prelude::*;

fn records() -> impl Strategy<Value = Record> {
    (
        "[a-zé .-]{1,40}",
        "[a-z0-9]{1,128}",
        any::<[u8; 32]>(),
        0..=MAX_CLAIMED_AT_MS,
        option::of("[a-z ü]{1,500}"),
        option::of(("[a-z./]{1,100}", 0..=u64::MAX / 2)),
        option::of("[a-z-]{1,128}"),
    )
        .prop_map(
            |(tenant, policy, digest, claimed_at_ms, subject, original, request_id)| Record {
                tenant,
                policy,
                digest_algorithm: DigestAlgorithm::Sha256,
                digest,
                claimed_at_ms,
                subject,
                original: original.map(|(origin, index)| Original { origin, index }),
                request_id,
            },
        )
}

proptest! {
    #[test]
    fn a_record_has_one_encoding(record in records(), place in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = record.encode().unwrap();
        prop_assert_eq!(&Record::decode(&bytes).unwrap(), &record);
        prop_assert!(Record::decode(&bytes[..place.index(bytes.len())]).is_err());
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        if let Ok(other) = Record::decode(&bytes) {
            prop_assert_eq!(other.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn a_records_request_is_found_without_reading_it(record in records(), place in any::<prop::sample::Index>()) {
        let bytes = record.encode().unwrap();
        let found = request_of(&bytes).unwrap();
        prop_assert_eq!(found.tenant, record.tenant.as_bytes());
        prop_assert_eq!(found.id, record.request_id.as_ref().map(String::as_bytes));
        prop_assert_eq!(found.is_resealed, record.original.is_some());
        let _ = request_of(&bytes[..place.index(bytes.len())]);
    }

    #[test]
    fn records_of_a_chunk_are_those_of_their_digests(
        record in records(), digests in prop::collection::vec(any::<[u8; 32]>(), 1..20), subject in option::of("[a-z]{0,20}"),
    ) {
        let subjects = subject.map(|subject| vec![subject; digests.len()]).unwrap_or_default();
        let encoded = encode_records(&record, &digests, &subjects).unwrap();
        prop_assert_eq!(encoded.len(), digests.len());
        for (place, (bytes, digest)) in encoded.iter().zip(&digests).enumerate() {
            let mut expected = Record { digest: *digest, ..record.clone() };
            if let Some(subject) = subjects.get(place) {
                expected.subject = (!subject.is_empty()).then(|| subject.clone());
            }
            prop_assert_eq!(Record::decode(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn bytes_that_are_a_record_are_its_encoding(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode().unwrap(), bytes);
        }
    }
}

#[test]
fn limits_are_enforced_both_ways() {
    let broken: [fn(&mut Record); 9] = [
        |record| record.tenant.clear(),
        |record| record.policy = "x".repeat(129),
        |record| record.tenant = "a\nb".into(),
        |record| record.claimed_at_ms = -1,
        |record| record.claimed_at_ms = MAX_CLAIMED_AT_MS + 1,
        |record| record.subject = Some("x".repeat(1025)),
        |record| record.request_id = Some(String::new()),
        |record| {
            record.original = Some(Original {
                origin: "a b".into(),
                index: 0,
            });
        },
        |record| {
            record.original = Some(Original {
                origin: "a/1".into(),
                index: u64::MAX,
            });
        },
    ];
    for change in broken {
        let mut record = record();
        change(&mut record);
        assert!(record.encode().is_err(), "{record:?}");
    }
}

#[test]
fn unknown_versions_algorithms_and_flags_are_errors() {
    let bytes = record().encode().unwrap();
    let with = |place: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[place] = value;
        Record::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 2), RecordError::Version(2));
    assert_eq!(with(1, 2), RecordError::DigestAlgorithm(2));
    let flags = 2 + 32 + 8 + 1 + 4 + 1 + 9;
    assert_eq!(bytes[flags], 5);
    assert_eq!(with(flags, 0x85), RecordError::Flags(0x85));
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(
        Record::decode(&longer).unwrap_err(),
        RecordError::Trailing(1)
    );
}

#[test]
fn an_entry_commits_to_nonce_and_record() {
    let one = entry(&[1; 16], b"record");
    assert_eq!(one[0], 1);
    assert_eq!(one.len(), ENTRY_BYTES);
    let mut message = b"sealwarden/entry/v1\n".to_vec();
    message.extend_from_slice(&[1; 16]);
    message.extend_from_slice(b"record");
    assert_eq!(one[1..], crate::merkle::Hash::of(&message).0);
    assert_ne!(one, entry(&[2; 16], b"record"));
    assert_ne!(one, entry(&[1; 16], b"Record"));
}

#[test]
fn a_record_at_the_beginning_of_other_bytes_says_where_it_ends() {
    let bytes = record().encode().unwrap();
    let followed = [&bytes[..], &[1, 2, 3]].concat();
    let (found, length) = Record::decode_prefix(&followed).unwrap();
    assert_eq!((found, length), (record(), bytes.len()));
    assert_eq!(Record::decode(&followed), Err(RecordError::Trailing(3)));
}

#[test]
fn chunks_out_of_their_limits_are_refused() {
    let digests = vec![[1; 32]; MAX_CHUNK_DIGESTS + 1];
    let chunk = |digests: &[[u8; 32]], subjects: &[String]| {
        encode_records(&record(), digests, subjects).unwrap_err()
    };
    assert_eq!(chunk(&[], &[]), ChunkError::Count(0));
    assert_eq!(
        chunk(&digests, &[]),
        ChunkError::Count(MAX_CHUNK_DIGESTS + 1)
    );
    let subjects = vec!["a".to_owned()];
    let error = chunk(&digests[..2], &subjects);
    assert_eq!(
        error,
        ChunkError::Subjects {
            subjects: 1,
            digests: 2
        }
    );
    let subjects = ["a".to_owned(), "b\n".to_owned()];
    assert!(matches!(
        chunk(&digests[..2], &subjects),
        ChunkError::Record { place: 1, .. }
    ));
    for length in 0..60 {
        let _ = request_of(&vec![0xff; length]);
    }
}
