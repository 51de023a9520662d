use crate::merkle::*;
use proptest::prelude::*;

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap()
}

fn tree(size: usize) -> (Vec<Hash>, MemoryTree) {
    let leaves: Vec<_> = (0..size)
        .map(|index| leaf_hash(&index.to_be_bytes()))
        .collect();
    let mut tree = MemoryTree::new();
    for leaf in &leaves {
        tree.push(*leaf);
    }
    (leaves, tree)
}

/// Every path of the range is the one that a proof of that leaf alone gives.
fn require_single_proofs(
    leaves: &[Hash],
    tree: &MemoryTree,
    first: usize,
    end: usize,
    size: usize,
) {
    let root = tree.root_at(wide(size)).unwrap();
    let proof = BatchProof::make(tree, wide(first)..wide(end), wide(size)).unwrap();
    assert!(proof.hashes.len() <= MAX_BATCH_PROOF_HASHES);
    let paths = proof.expand(&leaves[first..end], &root).unwrap();
    let nodes: Vec<_> = paths.nodes().copied().collect();
    let mut next = wide(first);
    paths.for_each(|index, path| {
        assert_eq!(index, next, "leaves come in order");
        next += 1;
        let path: Vec<_> = path.iter().map(|place| nodes[*place]).collect();
        assert_eq!(path, tree.inclusion_proof(index, wide(size)).unwrap());
        assert_eq!(paths.path(index).unwrap(), path);
    });
    assert_eq!(next, wide(end), "no leaf is left out");
    assert_eq!(paths.path(wide(end)), None);
}

#[test]
fn all_ranges_of_small_trees_give_the_paths_of_single_proofs() {
    let (leaves, tree) = tree(34);
    for size in 1..=34 {
        for first in 0..size {
            for end in first + 1..=size {
                require_single_proofs(&leaves, &tree, first, end, size);
            }
        }
    }
}

#[test]
fn a_whole_tree_needs_no_hash_and_a_range_at_most_two_a_level() {
    let (_, tree) = tree(1024);
    let hashes = |range| BatchProof::make(&tree, range, 1024).unwrap().hashes.len();
    assert_eq!(hashes(0..1024), 0);
    assert_eq!(hashes(512..1024), 1);
    assert_eq!(hashes(1..1023), 2);
    assert_eq!(hashes(511..513), 18);
}

#[test]
fn ranges_and_sizes_that_cannot_be_are_refused() {
    let (leaves, tree) = tree(8);
    let range = |range| BatchProof::make(&tree, range, 8).unwrap_err();
    for range in [
        range(0..0),
        range(8..9),
        range(3..9),
        range(u64::MAX - 1..u64::MAX),
    ] {
        assert!(matches!(range, BatchProofError::Range { .. }), "{range}");
    }
    assert!(
        BatchProof::make(&tree, 0..4, 16).is_err(),
        "nodes are missing"
    );
    let root = tree.root();
    let hostile = |first, size, leaves: &[Hash], hashes: usize| {
        let hashes = vec![leaf_hash(b"x"); hashes];
        let proof = BatchProof {
            first,
            size,
            hashes,
        };
        assert!(proof.expand(leaves, &root).is_err(), "{first} {size}");
    };
    for size in [0, 1, 7, 9, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX] {
        for first in [0, 1, 8, (1 << 63) - 2, u64::MAX - 1, u64::MAX] {
            for hashes in [0, 1, 2, 61, 62, 63, 125, 126, 127, 1000] {
                hostile(first, size, &leaves[..1], hashes);
                hostile(first, size, &leaves[..5], hashes);
                hostile(first, size, &[], hashes);
            }
        }
    }
}

#[test]
fn the_largest_tree_is_walked_without_a_fault() {
    let size = (1 << 63) - 1;
    for first in [0, 1, size / 2, size - 3] {
        let leaves = [leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")];
        for count in 0..=MAX_BATCH_PROOF_HASHES {
            let hashes = vec![leaf_hash(b"x"); count];
            let proof = BatchProof {
                first,
                size,
                hashes,
            };
            let wrong_root = empty_root();
            let error = proof.expand(&leaves, &wrong_root).unwrap_err();
            if let BatchProofError::Proof(ProofError::WrongRoot { computed, .. }) = error {
                let paths = proof.expand(&leaves, &computed).unwrap();
                let mut seen = 0;
                paths.for_each(|index, path| {
                    assert!(path.len() <= MAX_PROOF_HASHES);
                    assert!(paths.range().contains(&index));
                    seen += 1;
                });
                assert_eq!(seen, 3);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ranges_of_large_trees_give_the_paths_of_single_proofs(
        size in 1_usize..5000, one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
    ) {
        let (leaves, tree) = tree(size);
        let (one, other) = (one.index(size), other.index(size));
        require_single_proofs(&leaves, &tree, one.min(other), one.max(other) + 1, size);
    }

    #[test]
    fn a_changed_proof_range_or_leaf_is_refused(
        size in 2_usize..600, one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(), bit in 0_usize..256,
    ) {
        let (mut leaves, tree) = tree(size);
        let (one, other) = (one.index(size), other.index(size));
        let (first, end) = (one.min(other), one.max(other) + 1);
        let root = tree.root();
        let good = BatchProof::make(&tree, wide(first)..wide(end), wide(size)).unwrap();
        let refused = |proof: &BatchProof, leaves: &[Hash]| proof.expand(leaves, &root).is_err();
        prop_assert!(!refused(&good, &leaves[first..end]));
        if !good.hashes.is_empty() {
            let mut proof = good.clone();
            let place = place.index(proof.hashes.len());
            proof.hashes[place].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(refused(&proof, &leaves[first..end]));
            let mut proof = good.clone();
            proof.hashes.remove(place);
            prop_assert!(refused(&proof, &leaves[first..end]));
        }
        let mut proof = good.clone();
        proof.hashes.push(root);
        prop_assert!(refused(&proof, &leaves[first..end]));
        let mut proof = good.clone();
        proof.first += 1;
        prop_assert!(refused(&proof, &leaves[first..end]));
        prop_assert!(refused(&good, &leaves[first..end - 1]));
        let place = first + place.index(end - first);
        leaves[place].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(refused(&good, &leaves[first..end]));
    }
}
