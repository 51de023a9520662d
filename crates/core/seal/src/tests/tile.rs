use crate::merkle::*;
use crate::tile::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn paths_are_those_of_tlog_tiles() {
    let hashes = |level, index, width| TileId {
        kind: TileKind::Hashes { level },
        index,
        width,
    };
    let cases = [
        (hashes(0, 0, 256), "tile/0/000"),
        (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (hashes(3, 1_000, 17), "tile/3/x001/000.p/17"),
        (
            TileId {
                kind: TileKind::Entries,
                index: 5,
                width: 255,
            },
            "tile/entries/005.p/255",
        ),
    ];
    for (tile, path) in cases {
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse::<TileId>().unwrap(), tile);
    }
}

#[test]
fn other_spellings_are_not_paths() {
    let bad = [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/entries/000/",
        "tile/0/../000",
        "/tile/0/000",
        "tile/8/0/000",
        "tile/0/+00",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ];
    for path in bad {
        assert!(path.parse::<TileId>().is_err(), "{path}");
    }
}

#[test]
fn growth_writes_every_tile_it_touches_once() {
    let text = |tiles: Vec<TileId>| tiles.iter().map(TileId::to_string).collect::<Vec<_>>();
    assert_eq!(text(hash_tiles_to_write(0, 0)), [""; 0]);
    assert_eq!(text(hash_tiles_to_write(0, 1)), ["tile/0/000.p/1"]);
    assert_eq!(
        text(hash_tiles_to_write(255, 256)),
        ["tile/0/000", "tile/1/000.p/1"]
    );
    assert_eq!(
        text(hash_tiles_to_write(250, 520)),
        [
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/8",
            "tile/1/000.p/2"
        ]
    );
    assert_eq!(text(hash_tiles_to_write(300, 300)), [""; 0]);
    assert_eq!(
        text(entry_bundles_to_write(256, 257)),
        ["tile/entries/001.p/1"]
    );
    assert_eq!(
        text(hash_tiles_to_write(65_535, 65_536)),
        ["tile/0/255", "tile/1/000", "tile/2/000.p/1"]
    );
    let edge = hash_tiles_to_write(u64::MAX - 1, u64::MAX);
    assert_eq!(edge.len(), 1);
}

/// Reads nodes from the newest width of each tile, as a log does.
struct Tiles(BTreeMap<(u8, u64), Vec<Hash>>);

impl NodeReader for Tiles {
    fn node(&self, level: u32, index: u64) -> Result<Hash, NodeMissing> {
        let missing = NodeMissing { level, index };
        let place = locate_node(level, index).ok_or(missing)?;
        let hashes = self
            .0
            .get(&(place.tile_level, place.tile_index))
            .ok_or(missing)?;
        let first = usize::from(place.first);
        let run = hashes
            .get(first..first + usize::from(place.count))
            .ok_or(missing)?;
        let mut tree = MemoryTree::new();
        for hash in run {
            tree.push(*hash);
        }
        Ok(tree.root())
    }
}

#[test]
fn proofs_can_be_made_from_the_tiles_that_growth_wrote() {
    let mut tree = MemoryTree::new();
    let mut tiles = Tiles(BTreeMap::new());
    let mut old = 0;
    for size in [1, 3, 256, 257, 700, 1024, 66_000] {
        (old..size).for_each(|leaf: u64| tree.push_entry(&leaf.to_be_bytes()));
        for tile in hash_tiles_to_write(old, size) {
            let TileKind::Hashes { level } = tile.kind else {
                panic!("an entry bundle")
            };
            let nodes = (0..u64::from(tile.width)).map(|place| {
                tree.node(
                    u32::from(level) * TILE_HEIGHT,
                    tile.index * TILE_WIDTH + place,
                )
                .unwrap()
            });
            tiles.0.insert((level, tile.index), nodes.collect());
        }
        old = size;
        assert_eq!(tree_root(&tiles, size).unwrap(), tree.root());
        for index in [0, size / 2, size - 1] {
            let proof = inclusion_proof(&tiles, index, size).unwrap();
            assert_eq!(proof, tree.inclusion_proof(index, size).unwrap());
            let proof = consistency_proof(&tiles, index, size).unwrap();
            assert_eq!(proof, tree.consistency_proof(index, size).unwrap());
        }
    }
}

#[test]
fn a_bundle_holds_exactly_its_entries() {
    let mut bundle = Vec::new();
    for entry in [b"one".as_slice(), b"", &vec![9; 65_535]] {
        encode_entry(&mut bundle, entry).unwrap();
    }
    let entries = decode_bundle(&bundle, 3).unwrap();
    assert_eq!(entries[0], b"one");
    assert_eq!(entries[2].len(), 65_535);
    assert!(decode_bundle(&bundle, 2).is_err());
    assert!(decode_bundle(&bundle, 4).is_err());
    assert!(decode_bundle(&bundle[..bundle.len() - 1], 3).is_err());
    assert!(encode_entry(&mut bundle, &vec![0; 65_536]).is_err());
    assert!(decode_bundle(&[], 0).unwrap().is_empty());
}

#[test]
fn a_place_has_the_width_of_its_tree() {
    let width = |kind, index, size| tile_at(kind, index, size).map(|tile| tile.width);
    assert_eq!(width(TileKind::Entries, 0, 300), Some(256));
    assert_eq!(width(TileKind::Entries, 299, 300), Some(44));
    assert_eq!(width(TileKind::Entries, 300, 300), None);
    assert_eq!(width(TileKind::Hashes { level: 1 }, 0, 300), Some(1));
    assert_eq!(width(TileKind::Hashes { level: 63 }, 0, 300), None);
    assert_eq!(locate_node(64, 0), None);
    assert_eq!(locate_node(63, 2), None);
}

proptest! {
    #[test]
    fn every_path_reads_back(level in 0_u8..64, index in 0..=u64::MAX / 256, width in 1_u16..=256) {
        for kind in [TileKind::Hashes { level }, TileKind::Entries] {
            let tile = TileId { kind, index, width };
            prop_assert_eq!(tile.to_string().parse::<TileId>().unwrap(), tile);
        }
    }
}
