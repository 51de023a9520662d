use crate::merkle::*;
use proptest::prelude::*;

/// RFC 6962 2.1, word for word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let middle = leaves.len().next_power_of_two() / 2;
            node_hash(
                &naive_root(&leaves[..middle]),
                &naive_root(&leaves[middle..]),
            )
        }
    }
}

/// RFC 6962 2.1.1, word for word.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let middle = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - middle, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// RFC 6962 2.1.2's SUBPROOF, word for word.
fn naive_subproof(old: usize, leaves: &[Hash], complete: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if complete {
            Vec::new()
        } else {
            vec![naive_root(leaves)]
        };
    }
    let middle = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(middle);
    let (mut proof, sibling) = if old <= middle {
        (naive_subproof(old, left, complete), naive_root(right))
    } else {
        (naive_subproof(old - middle, right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count)
        .map(|index| leaf_hash(&index.to_be_bytes()))
        .collect()
}

fn tree(leaves: &[Hash]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap()
}

#[test]
fn roots_are_those_of_the_certificate_transparency_reference() {
    let entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = MemoryTree::new();
    assert_eq!(tree.root().to_string(), roots[0]);
    for (entry, root) in entries.iter().zip(&roots[1..]) {
        tree.push_entry(&hex::decode(entry).unwrap());
        assert_eq!(&tree.root().to_string(), root);
    }
}

#[test]
fn all_proofs_of_small_trees_are_the_rfcs_and_verify() {
    let leaves = leaves(40);
    let tree = tree(&leaves);
    for size in 1..=leaves.len() {
        let (prefix, root) = (&leaves[..size], naive_root(&leaves[..size]));
        assert_eq!(tree.root_at(wide(size)).unwrap(), root);
        for (index, leaf) in prefix.iter().enumerate() {
            let proof = tree.inclusion_proof(wide(index), wide(size)).unwrap();
            assert_eq!(proof, naive_path(index, prefix));
            verify_inclusion(leaf, wide(index), wide(size), &proof, &root).unwrap();
        }
        for old in 0..=size {
            let proof = tree.consistency_proof(wide(old), wide(size)).unwrap();
            let expected = if old == 0 {
                Vec::new()
            } else {
                naive_subproof(old, prefix, true)
            };
            assert_eq!(proof, expected);
            let old_root = naive_root(&leaves[..old]);
            verify_consistency(wide(old), &old_root, wide(size), &root, &proof).unwrap();
        }
    }
}

#[test]
fn a_leaf_is_proven_at_its_own_index_and_size_only() {
    let leaves = leaves(20);
    let tree = tree(&leaves);
    for index in 0..20 {
        let proof = tree.inclusion_proof(index, 20).unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        for other in (0..25).filter(|other| *other != index) {
            assert!(verify_inclusion(&leaf, other, 20, &proof, &tree.root()).is_err());
        }
        assert!(verify_inclusion(&leaf, index, index, &proof, &tree.root()).is_err());
    }
}

/// Proofs as they are and changed in every way, one after another through one memory: each answer is the one of hashing everything.
#[test]
fn known_paths_change_no_answer() {
    let leaves = leaves(5_000);
    let tree = tree(&leaves);
    for size in [
        1, 2, 3, 7, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 4_999, 5_000,
    ] {
        let root = tree.root_at(size).unwrap();
        let mut known = KnownPaths::under(size, root);
        let step = usize::try_from(size / 37 + 1).unwrap();
        for round in 0..2 {
            for index in (0..size).step_by(step).chain([size - 1, size]) {
                let place = usize::try_from(index).unwrap();
                let leaf = leaves.get(place).copied().unwrap_or(root);
                let proof = tree.inclusion_proof(index, size).unwrap_or_default();
                let mut answers = |leaf: &Hash, index, proof: &[Hash]| {
                    let expected = verify_inclusion(leaf, index, size, proof, &root);
                    let found = known.verify_inclusion(leaf, index, proof);
                    assert_eq!(found, expected, "leaf {index} of {size}, round {round}");
                };
                answers(&leaf, index, &proof);
                answers(&leaf, index ^ 1, &proof);
                answers(&leaf, index ^ 2_048, &proof);
                answers(&leaf_hash(b"another"), index, &proof);
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at].0[31] ^= 1;
                    answers(&leaf, index, &changed);
                    changed.swap_remove(at);
                    answers(&leaf, index, &changed);
                }
                answers(&leaf, index, &[proof.as_slice(), &[root]].concat());
                answers(&leaf, index, proof.get(1..).unwrap_or_default());
            }
        }
        assert!(known.len() <= 2_048);
        assert_eq!(known.is_empty(), size == 1, "one leaf has no path");
    }
}

#[test]
fn the_empty_tree_extends_only_itself() {
    let root = leaf_hash(b"x");
    assert!(verify_consistency(0, &empty_root(), 1, &root, &[]).is_ok());
    assert!(verify_consistency(0, &empty_root(), 0, &empty_root(), &[]).is_ok());
    assert!(verify_consistency(0, &empty_root(), 0, &root, &[]).is_err());
    assert!(verify_consistency(0, &root, 1, &root, &[]).is_err());
    assert!(verify_consistency(0, &empty_root(), 1, &root, &[root]).is_err());
    assert!(verify_consistency(1, &root, 1, &empty_root(), &[]).is_err());
    assert!(verify_consistency(2, &root, 1, &root, &[]).is_err());
    assert!(verify_consistency(1, &root, 2, &root, &[]).is_err());
}

#[test]
fn proofs_of_the_largest_sizes_never_panic() {
    let hash = leaf_hash(b"x");
    for length in [0, 1, 62, 63, 64, 200] {
        let proof = vec![hash; length];
        for size in [1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            for index in [0, 1, size / 2, size - 1, size] {
                assert!(verify_inclusion(&hash, index, size, &proof, &empty_root()).is_err());
                let _ = verify_consistency(index, &hash, size, &empty_root(), &proof);
            }
        }
    }
}

#[test]
fn missing_nodes_are_named() {
    let error = tree(&leaves(4)).inclusion_proof(0, 8).unwrap_err();
    assert_eq!(error, ProofError::Node(NodeMissing { level: 2, index: 1 }));
    assert!(tree(&leaves(4)).consistency_proof(3, 9).is_err());
}

#[test]
fn a_right_edge_needs_one_subtree_for_each_set_bit() {
    let hash = leaf_hash(b"x");
    assert!(Frontier::from_parts(5, vec![hash]).is_err());
    assert!(Frontier::from_parts(0, vec![hash]).is_err());
    assert_eq!(Frontier::nodes_of(11), [(3, 0), (1, 4), (0, 10)]);
}

proptest! {
    #[test]
    fn a_rebuilt_right_edge_grows_like_the_whole_tree(old in 0_usize..600, more in 0_usize..300) {
        let leaves = leaves(old + more);
        let before = tree(&leaves[..old]);
        let subtrees: Vec<_> = Frontier::nodes_of(wide(old))
            .into_iter()
            .map(|(level, index)| before.node(level, index).unwrap())
            .collect();
        let mut frontier = Frontier::from_parts(wide(old), subtrees).unwrap();
        prop_assert_eq!(frontier.root(), naive_root(&leaves[..old]));
        for leaf in &leaves[old..] { frontier.push(*leaf); }
        prop_assert_eq!(frontier.root(), naive_root(&leaves));
        prop_assert_eq!(frontier.size(), wide(old + more));
    }

    #[test]
    fn a_changed_proof_never_verifies(
        size in 2_usize..300, pick in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(), bit in 0_usize..256,
    ) {
        let leaves = leaves(size);
        let tree = tree(&leaves);
        let index = pick.index(size);
        let mut proof = tree.inclusion_proof(wide(index), wide(size)).unwrap();
        let check = |proof: &[Hash]| {
            verify_inclusion(&leaves[index], wide(index), wide(size), proof, &tree.root())
        };
        check(&proof).unwrap();
        let place = place.index(proof.len());
        proof[place].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(check(&proof).is_err());
        proof[place].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(check(&proof[1..]).is_err());
        proof.push(proof[0]);
        prop_assert!(check(&proof).is_err());
    }

    #[test]
    fn a_changed_consistency_proof_never_verifies(
        old in 1_usize..200, more in 1_usize..100,
        place in any::<prop::sample::Index>(), bit in 0_usize..256,
    ) {
        let leaves = leaves(old + more);
        let tree = tree(&leaves);
        let (old, new) = (wide(old), wide(old + more));
        let old_root = tree.root_at(old).unwrap();
        let mut proof = tree.consistency_proof(old, new).unwrap();
        let check = |proof: &[Hash]| verify_consistency(old, &old_root, new, &tree.root(), proof);
        check(&proof).unwrap();
        let place = place.index(proof.len());
        proof[place].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(check(&proof).is_err());
        proof[place].0[bit / 8] ^= 1 << (bit % 8);
        proof.push(proof[0]);
        prop_assert!(check(&proof).is_err());
    }

    #[test]
    fn hashes_have_one_spelling(bytes in any::<[u8; 32]>()) {
        let hash = Hash(bytes);
        prop_assert_eq!(Hash::from_hex(&hash.to_string()).unwrap(), hash);
        prop_assert_eq!(Hash::from_base64(&hash.to_base64()).unwrap(), hash);
        let upper = hash.to_string().to_uppercase();
        prop_assert_eq!(Hash::from_hex(&upper).is_ok(), upper == hash.to_string());
    }
}

#[test]
fn a_node_is_the_sha256_of_its_prefix_and_children() {
    for byte in 0..=255_u8 {
        let left = Hash::of(&[byte]);
        let right = Hash::of(&left.0);
        let bytes = [&[1], &left.0[..], &right.0[..]].concat();
        assert_eq!(node_hash(&left, &right), Hash::of(&bytes));
    }
}

#[test]
fn the_base64_of_a_hash_has_one_spelling() {
    use base64::Engine as _;
    for byte in 0..=255_u8 {
        let hash = Hash::of(&[byte]);
        let text = hash.to_base64();
        assert_eq!(Hash::from_base64(&text).unwrap(), hash);
        // Every other character in every place: the standard decoder is the judge.
        let (place, mut other) = (usize::from(byte) % 44, text.into_bytes());
        for character in 0..128_u8 {
            other[place] = character;
            let other = std::str::from_utf8(&other).unwrap();
            let judge = base64::engine::general_purpose::STANDARD.decode(other);
            let judge = judge
                .ok()
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            assert_eq!(
                Hash::from_base64(other).ok().map(|it| it.0),
                judge,
                "{other}"
            );
        }
    }
}
