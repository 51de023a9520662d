//! A second, simple-minded reader: it knows the formats' definitions and none of this crate's code.

use ring::digest::{SHA256, digest};
use std::fs;
use std::path::Path;

pub(super) type Digest = [u8; 32];

fn hash(prefix: u8, parts: &[&[u8]]) -> Digest {
    let mut bytes = vec![prefix];
    for part in parts {
        bytes.extend_from_slice(part);
    }
    digest(&SHA256, &bytes).as_ref().try_into().unwrap()
}

/// RFC 6962's MTH, as the text defines it.
pub(super) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => digest(&SHA256, b"").as_ref().try_into().unwrap(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            hash(1, &[&root(left), &root(right)])
        }
    }
}

fn tile_path(kind: &str, index: usize, width: usize) -> String {
    assert!(index < 1_000_000, "the tests stay below a million tiles");
    let group = if index < 1000 {
        format!("{index:03}")
    } else {
        format!("x{:03}/{:03}", index / 1000, index % 1000)
    };
    if width == 256 {
        format!("tile/{kind}/{group}")
    } else {
        format!("tile/{kind}/{group}.p/{width}")
    }
}

/// The leaf hashes of a log of `size` leaves, from its entry bundles.
pub(super) fn leaf_hashes(dir: &Path, size: usize) -> Vec<Digest> {
    let mut leaves = Vec::new();
    for first in (0..size).step_by(256) {
        let width = (size - first).min(256);
        let bundle = fs::read(dir.join(tile_path("entries", first / 256, width))).unwrap();
        let mut rest = bundle.as_slice();
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            leaves.push(hash(0, &[&rest[2..2 + length]]));
            rest = &rest[2 + length..];
        }
    }
    leaves
}

/// Rebuilds the tree from the entries and compares every tile with it.
pub(super) fn check_tiles(dir: &Path, size: usize) -> Digest {
    let leaves = leaf_hashes(dir, size);
    assert_eq!(leaves.len(), size, "every entry is in a bundle");
    let mut row = leaves.clone();
    for level in 0..8 {
        for (index, tile) in row.chunks(256).enumerate() {
            let path = tile_path(&level.to_string(), index, tile.len());
            assert_eq!(fs::read(dir.join(&path)).unwrap(), tile.concat(), "{path}");
        }
        row = row.chunks_exact(256).map(root).collect();
        if row.is_empty() {
            break;
        }
    }
    root(&leaves)
}

/// Checks a seal file by the definitions: its record's commitment, its path, its checkpoint's lines.
pub(super) fn check_seal(seal: &str, root: Digest, size: u64) {
    let seal = sealwarden_seal::seal::Seal::parse(seal.as_bytes()).unwrap();
    let record = seal.record.encode().unwrap();
    let mut salted = b"sealwarden/entry/v1\n".to_vec();
    salted.extend_from_slice(&seal.nonce);
    salted.extend_from_slice(&record);
    let commitment = digest(&SHA256, &salted);
    let mut node = hash(0, &[&[1], commitment.as_ref()]);
    let (mut index, mut last) = (seal.index, size - 1);
    for sibling in &seal.proof {
        while index % 2 == 0 && index == last {
            (index, last) = (index / 2, last / 2);
        }
        node = if index % 2 == 1 {
            hash(1, &[&sibling.0, &node])
        } else {
            hash(1, &[&node, &sibling.0])
        };
        (index, last) = (index / 2, last / 2);
    }
    assert_eq!(node, root, "leaf {} leads to the root", seal.index);
    let checkpoint = seal.checkpoint().unwrap();
    assert_eq!((checkpoint.size, checkpoint.root.0), (size, root));
}
