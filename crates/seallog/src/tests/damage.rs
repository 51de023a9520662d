//! What is wrong on the disk is found before anything is signed or handed out.

use super::{Signer, grown, leaves, publish};
use crate::{LogError, SealLog};
use std::fs;
use std::path::Path;

/// 600 leaves: two full tiles, 88 hashes at level 0, 2 at level 1.
const SIZE: u64 = 600;
const EDGE: [&str; 3] = ["tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"];

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn edge_error(log: &mut SealLog) -> (String, String) {
    let error = log.stage(leaves(SIZE, SIZE + 1)).unwrap_err();
    let LogError::RightEdgeDamaged { tile, reason } = error else {
        panic!("another error: {error}")
    };
    (tile, reason)
}

#[test]
fn a_flipped_bit_anywhere_on_the_right_edge_stops_staging_and_names_the_tile() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[300, SIZE]);
    for tile in EDGE {
        let path = dir.path().join(tile);
        let length = fs::read(&path).unwrap().len();
        for place in (0..length).step_by(13).chain([length - 1]) {
            flip(&path, place);
            let (named, reason) = edge_error(&mut log);
            // Bundle and level 0 can only be told apart by the root: the wrong one of the two is named.
            assert_eq!(named, tile, "byte {place}: {reason}");
            flip(&path, place);
        }
    }
    let staged = log.stage(leaves(SIZE, SIZE + 1)).unwrap();
    publish(&mut log, &staged);
}

#[test]
fn a_tile_of_the_right_edge_that_is_short_or_gone_stops_staging() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[300, SIZE]);
    for tile in EDGE {
        let path = dir.path().join(tile);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(edge_error(&mut log).0, tile);
        fs::remove_file(&path).unwrap();
        assert_eq!(edge_error(&mut log).0, tile);
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_batch_staged_before_the_damage_is_not_published_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[300]);
    let staged = log.stage(leaves(300, 310)).unwrap();
    flip(&dir.path().join("tile/0/001.p/44"), 5);
    let note = Signer::log().sign(&staged.checkpoint_text);
    let error = log.publish(&staged, &note).unwrap_err();
    assert!(
        matches!(error, LogError::RightEdgeDamaged { .. }),
        "{error}"
    );
    assert_eq!(log.size(), 300);
    drop(log);
    let error = SealLog::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, LogError::RightEdgeDamaged { .. }),
        "{error}"
    );
}

#[test]
fn a_seal_is_not_made_from_damaged_tiles_or_records() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[SIZE]);
    let full = dir.path().join("tile/0/000");
    flip(&full, 32 * 9);
    let view = log.view().unwrap();
    let error = view.seal_of(9).unwrap_err();
    assert!(
        matches!(error, LogError::RecordDamaged { index: 9, .. }),
        "{error}"
    );
    let error = view.seal_of(8).unwrap_err();
    assert!(matches!(error, LogError::Proof { .. }), "{error}");
    flip(&full, 32 * 9);
    view.seal_of(9).unwrap();

    flip(&dir.path().join("private/0000000000.records"), 40);
    assert!(matches!(
        view.record(0).unwrap_err(),
        LogError::RecordDamaged { index: 0, .. }
    ));
    let mut read = view.iter();
    assert!(
        read.next().unwrap().is_err() && read.next().is_none(),
        "the first error ends it"
    );
    view.record(300).unwrap();
    flip(&dir.path().join("private/0000000000.ends"), 8 * 300);
    assert!(matches!(
        view.record(300).unwrap_err(),
        LogError::RecordDamaged { index: 300, .. }
    ));
}

#[test]
fn a_lost_or_older_checkpoint_is_not_taken_for_a_new_beginning() {
    let dir = tempfile::tempdir().unwrap();
    drop(grown(dir.path(), &[10]));
    let path = dir.path().join("checkpoint");
    let older = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let error = SealLog::open(dir.path()).unwrap_err();
    assert!(matches!(error, LogError::Checkpoint { .. }), "{error}");

    fs::write(&path, &older).unwrap();
    let mut log = SealLog::open(dir.path()).unwrap();
    let staged = log.stage(leaves(10, 20)).unwrap();
    publish(&mut log, &staged);
    let newer = log.checkpoint_note().unwrap().note.clone();
    assert!(log.attach_cosignatures(&newer).unwrap());
    drop(log);
    fs::write(&path, &older).unwrap();
    let error = SealLog::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("cosigned size 20"), "{error}");

    fs::write(&path, "seal.example.com/test/1\n10\nnonsense\n").unwrap();
    let error = SealLog::open(dir.path()).unwrap_err();
    assert!(matches!(error, LogError::Checkpoint { .. }), "{error}");
}

#[test]
fn a_damaged_staged_batch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[10]);
    log.stage(leaves(10, 20)).unwrap();
    drop(log);
    let path = dir.path().join("staged");
    let length = fs::read(&path).unwrap().len();
    for place in (0..length).step_by(17) {
        flip(&path, place);
        let error = SealLog::open(dir.path()).unwrap_err();
        assert!(matches!(error, LogError::StagedDamaged { .. }), "{error}");
        flip(&path, place);
    }
    assert!(SealLog::open(dir.path()).unwrap().staged().is_some());
}
