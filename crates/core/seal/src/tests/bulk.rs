use super::record;
use crate::bulk::*;
use crate::checkpoint::Checkpoint;
use crate::merkle::{BatchProof, Hash, MemoryTree, leaf_hash};
use crate::note::{KeyId, UnsignedNote};
use crate::record::{Nonce, Record, entry};
use crate::seal::{Seal, format_seal};
use proptest::prelude::*;

struct World {
    records: Vec<Vec<u8>>,
    nonces: Vec<Nonce>,
    tree: MemoryTree,
    note: String,
    proof: Vec<u8>,
    first: u64,
}

/// A chunk of so many records with other leaves before and behind it.
fn world(before: u32, count: u8, behind: u32) -> World {
    let digests: Vec<_> = (0..count).map(|byte| [byte; 32]).collect();
    let records = encode_records(&record(), &digests, &[]).unwrap();
    let nonces: Vec<Nonce> = (0..count).map(|byte| [byte; 16]).collect();
    let mut tree = MemoryTree::new();
    for number in 0..before {
        tree.push(leaf_hash(&number.to_be_bytes()));
    }
    for (nonce, record) in nonces.iter().zip(&records) {
        tree.push_entry(&entry(nonce, record));
    }
    for number in 0..behind {
        tree.push(leaf_hash(&number.to_le_bytes()));
    }
    let (size, first) = (tree.size(), u64::from(before));
    let checkpoint = Checkpoint {
        origin: "seal.example/1".to_owned(),
        size,
        root: tree.root(),
    };
    let note = UnsignedNote::new(checkpoint.to_text()).unwrap();
    let note = note
        .attach("seal.example/1", KeyId([7; 4]), &[1; 64])
        .unwrap()
        .to_string();
    let proof = BatchProof::make(&tree, first..first + u64::from(count), size).unwrap();
    let proof = proof.hashes.iter().flat_map(|hash| hash.0).collect();
    World {
        records,
        nonces,
        tree,
        note,
        proof,
        first,
    }
}

impl World {
    fn answered<'a>(&'a self, nonces: &'a [u8]) -> Answered<'a> {
        Answered {
            first_index: self.first,
            nonces,
            proof: &self.proof,
            checkpoint: self.note.as_bytes(),
        }
    }

    fn expand(&self, answered: &Answered<'_>) -> Result<SealedChunk, ExpandError> {
        SealedChunk::expand(self.records.iter().map(Vec::as_slice), answered)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_seal_of_a_chunk_is_the_one_that_a_proof_of_its_own_gives(
        before in 0_u32..300, count in 1_u8..100, behind in 0_u32..300,
    ) {
        let world = world(before, count, behind);
        let nonces = world.nonces.concat();
        let sealed = world.expand(&world.answered(&nonces)).unwrap();
        let mut seen = 0;
        sealed.for_each_seal(|index, text| {
            let proof = world.tree.inclusion_proof(index, world.tree.size()).unwrap();
            assert_eq!(index, world.first + u64::try_from(seen).unwrap());
            let alone = format_seal(&world.nonces[seen], &world.records[seen], index, &proof, &world.note);
            assert_eq!(text, alone);
            assert_eq!(Seal::parse(text.as_bytes()).unwrap().record, Record::decode(&world.records[seen]).unwrap());
            seen += 1;
        });
        prop_assert_eq!(seen, usize::from(count));
    }
}

#[test]
fn an_answer_that_does_not_prove_what_was_sent_is_refused() {
    let world = world(5, 9, 3);
    let nonces = world.nonces.concat();
    let good = world.answered(&nonces);
    world.expand(&good).unwrap();
    let mut changed = nonces.clone();
    changed[3] ^= 1;
    let hostile = [Hash([0; 32]).0; 200].concat();
    let proof = [
        Answered {
            nonces: &changed,
            ..good
        },
        Answered {
            first_index: 6,
            ..good
        },
        Answered {
            first_index: u64::MAX,
            ..good
        },
        Answered {
            proof: &world.proof[32..],
            ..good
        },
        Answered {
            proof: &hostile,
            ..good
        },
    ];
    for answered in proof {
        let error = world.expand(&answered).unwrap_err();
        assert!(matches!(error, ExpandError::Proof(_)), "{error}");
    }
    let length = [
        Answered {
            nonces: &nonces[1..],
            ..good
        },
        Answered {
            nonces: &nonces[16..],
            ..good
        },
        Answered {
            proof: &world.proof[1..],
            ..good
        },
    ];
    for answered in length {
        let error = world.expand(&answered).unwrap_err();
        assert!(matches!(error, ExpandError::Length { .. }), "{error}");
    }
    let error = world
        .expand(&Answered {
            checkpoint: b"x",
            ..good
        })
        .unwrap_err();
    assert!(matches!(error, ExpandError::Note(_)), "{error}");
}
