//! The audit finds every changed byte of a log, names where it stands, and never takes a growing log for a damaged one.

use super::writing::cosign;
use super::{Signer, grown, leaf, leaves, publish};
use crate::check::{CheckOptions, CheckReport, Damage, DamageKind, KnownRoot, check};
use crate::{LogError, SealLog};
use sealwarden_seal::merkle::Hash;
use std::fs;
use std::path::{Path, PathBuf};

const WITNESS: &str = "witness.example.com/a";

/// A log that grew to each of `sizes`, cosigned at the last but one, with a batch staged.
fn log_with_everything(dir: &Path, sizes: &[u64]) -> CheckOptions {
    let mut log = grown(dir, &sizes[..sizes.len() - 1]);
    let note = log.checkpoint_note().unwrap().note.clone();
    let (cosigned, witness) = cosign(&note, WITNESS, 2);
    log.attach_cosignatures(&cosigned).unwrap();
    let size = *sizes.last().unwrap();
    let staged = log.stage(leaves(log.size(), size)).unwrap();
    publish(&mut log, &staged);
    log.stage(leaves(size, size + 2)).unwrap();
    CheckOptions {
        witnesses: vec![witness],
        ..CheckOptions::default()
    }
}

fn audit(dir: &Path, options: &CheckOptions) -> CheckReport {
    check(dir, options, &mut |_, _| {}).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "lock" {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Flips `mask` in every `step`th byte of every file, and asserts that the audit names the file and a range with that byte.
fn flip_all(dir: &Path, options: &CheckOptions, step: usize, mask: u8) -> usize {
    let mut flipped = 0;
    for path in files(dir) {
        let name = path.strip_prefix(dir).unwrap();
        let good = fs::read(&path).unwrap();
        for place in (0..good.len()).step_by(step) {
            let mut bytes = good.clone();
            bytes[place] ^= mask;
            fs::write(&path, &bytes).unwrap();
            let report = audit(dir, options);
            let at = u64::try_from(place).unwrap();
            let named =
                |it: &Damage| it.path == name && (it.offset..it.offset + it.length).contains(&at);
            assert!(
                report.damage.iter().any(named),
                "byte {place} of {} was flipped, the audit says {:#?}",
                name.display(),
                report.damage
            );
            flipped += 1;
        }
        fs::write(&path, &good).unwrap();
    }
    let report = audit(dir, options);
    assert!(report.is_intact(), "{:#?}", report.damage);
    flipped
}

#[test]
fn an_intact_log_of_any_size_is_intact() {
    for sizes in [
        vec![1, 2],
        vec![3, 5],
        vec![255, 256],
        vec![256, 257],
        vec![100, 300, 600],
        vec![511, 512],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = log_with_everything(dir.path(), &sizes);
        let report = audit(dir.path(), &options);
        assert!(report.is_intact(), "{sizes:?}: {:#?}", report.damage);
        let log = SealLog::open(dir.path()).unwrap();
        assert_eq!((report.size, report.root), (log.size(), log.root()));
        assert_eq!((report.cosignatures, report.staged_leaves), (1, 2));
        assert_eq!(report.roots_compared, 2, "checkpoint and witnessed");
    }
    let dir = tempfile::tempdir().unwrap();
    drop(grown(dir.path(), &[]));
    assert!(audit(dir.path(), &CheckOptions::default()).is_intact());
    let error = check(
        &dir.path().join("nowhere"),
        &CheckOptions::default(),
        &mut |_, _| {},
    );
    assert!(matches!(error.unwrap_err(), LogError::Identity { .. }));
}

#[test]
fn every_byte_of_every_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    let options = log_with_everything(dir.path(), &[3, 5]);
    for mask in [0x01, 0x20, 0x80] {
        let flipped = flip_all(dir.path(), &options, 1, mask);
        assert!(flipped > 1_500, "{flipped} bytes");
    }
}

#[test]
fn bytes_all_over_a_log_with_full_tiles_count() {
    let dir = tempfile::tempdir().unwrap();
    let options = log_with_everything(dir.path(), &[3, 256, 515]);
    assert!(flip_all(dir.path(), &options, 331, 0x10) > 200);
}

#[test]
fn only_the_damaged_file_is_named_and_the_rest_is_still_audited() {
    let dir = tempfile::tempdir().unwrap();
    let options = log_with_everything(dir.path(), &[600, 601]);
    let damage = [
        ("tile/0/000", 32 * 7 + 3),
        ("tile/entries/001", 35 * 9 + 20),
        ("private/0000000000.ends", 8 * 400 + 7),
        ("tile/1/000.p/2", 33),
    ];
    for (name, place) in damage {
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[place] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
    let report = audit(dir.path(), &options);
    let mut found: Vec<_> = report
        .damage
        .iter()
        .map(|it| (it.path.to_str().unwrap(), it.offset, it.length, it.kind))
        .collect();
    found.sort_unstable();
    let mut expected: Vec<_> = damage
        .iter()
        .map(|(name, place)| {
            (
                *name,
                u64::try_from(*place).unwrap(),
                1,
                DamageKind::Changed,
            )
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(
        report.root,
        SealLog::open(dir.path()).map_or(report.root, |log| log.root())
    );
}

/// The kinds of damage that the audit reports of one file.
fn kinds(report: &CheckReport, name: &str) -> Vec<DamageKind> {
    let of_file = report.damage.iter().filter(|it| it.path == Path::new(name));
    of_file.map(|it| it.kind).collect()
}

#[test]
fn truncated_missing_appended_and_extra_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let options = log_with_everything(dir.path(), &[3, 256, 600]);
    for path in files(dir.path()) {
        let name = path.strip_prefix(dir.path()).unwrap().to_str().unwrap();
        let good = fs::read(&path).unwrap();
        let is_tile = name.starts_with("tile/") || name.starts_with("private/");

        fs::write(&path, &good[..good.len() - 1]).unwrap();
        let report = audit(dir.path(), &options);
        assert!(!kinds(&report, name).is_empty(), "{name} is one byte short");
        if is_tile {
            assert_eq!(kinds(&report, name), [DamageKind::Truncated], "{name}");
        }

        fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        let report = audit(dir.path(), &options);
        // The staged batch accounts for more private bytes.
        if name.starts_with("tile/") {
            assert_eq!(kinds(&report, name), [DamageKind::Appended], "{name}");
        }

        fs::remove_file(&path).unwrap();
        let report = audit(dir.path(), &options);
        fs::write(&path, &good).unwrap();
        // Narrower tiles than the present ones may be dropped.
        let may_go = name.ends_with(".p/3") || name.ends_with("tile/1/000.p/1");
        if is_tile && !may_go {
            assert_eq!(kinds(&report, name), [DamageKind::Missing], "{name}");
        }
    }
    for name in [
        "tile/0/000.p/07",
        "tile/0/005",
        "private/note",
        "tile/3/000",
        "surplus",
        "tile/heads/1.txt",
        "private/0000000001.ends",
    ] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"surplus").unwrap();
        let report = audit(dir.path(), &options);
        assert_eq!(
            kinds(&report, name),
            [DamageKind::Extra],
            "{name}: {:?}",
            report.damage
        );
        assert_eq!(report.damage_count, 1);
        fs::remove_file(path).unwrap();
    }
    for owner in ["heads", "heads-executor-b"] {
        let beside = dir.path().join(owner);
        fs::create_dir(&beside).unwrap();
        fs::write(
            beside.join("0000000001.txt"),
            b"an evidence log's owner keeps it",
        )
        .unwrap();
    }
    assert!(audit(dir.path(), &options).is_intact());
}

#[test]
fn a_checkpoint_that_is_gone_or_older_than_the_witnessed_one_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[5]);
    let older = fs::read(dir.path().join("checkpoint")).unwrap();
    let staged = log.stage(leaves(5, 9)).unwrap();
    publish(&mut log, &staged);
    let note = log.checkpoint_note().unwrap().note.clone();
    log.attach_cosignatures(&cosign(&note, WITNESS, 2).0)
        .unwrap();
    drop(log);
    let options = CheckOptions::default();
    let intact = audit(dir.path(), &options);
    assert!(intact.is_intact());
    assert_eq!(intact.unchecked_cosignatures, 1);

    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    let report = audit(dir.path(), &options);
    assert_eq!(kinds(&report, "checkpoint"), [DamageKind::Missing]);
    fs::write(dir.path().join("checkpoint"), older).unwrap();
    let report = audit(dir.path(), &options);
    assert_eq!(kinds(&report, "checkpoint"), [DamageKind::Contradiction]);
    assert_eq!(report.size, 5);
}

#[test]
fn a_history_rewritten_as_a_whole_contradicts_what_others_know() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[4, 8]);
    let (four, eight) = (log.view().unwrap().root_at(4).unwrap(), log.root());
    drop(log);
    let known = |size, root: Hash| KnownRoot {
        size,
        root,
        source: format!("intent of size {size}"),
    };
    let mut options = CheckOptions {
        vkeys: vec![Signer::log().vkey],
        roots: vec![known(8, eight), known(4, four), known(12, four)],
        ..CheckOptions::default()
    };
    let report = audit(dir.path(), &options);
    assert!(report.is_intact(), "{:?}", report.damage);
    assert_eq!(
        report.roots_compared, 3,
        "what lies beyond the size is left out"
    );

    // The same key writes another history of the same sizes.
    let other = tempfile::tempdir().unwrap();
    let mut log = SealLog::create(other.path(), &Signer::log().vkey).unwrap();
    for range in [(1000, 1004), (1004, 1008)] {
        let staged = log
            .stage((range.0..range.1).map(leaf).collect::<Vec<_>>())
            .unwrap();
        publish(&mut log, &staged);
    }
    drop(log);
    let report = audit(other.path(), &options);
    assert_eq!(
        kinds(&report, "intent of size 4"),
        [DamageKind::Contradiction]
    );
    assert_eq!(
        kinds(&report, "intent of size 8"),
        [DamageKind::Contradiction]
    );
    options.vkeys = vec![Signer::named("seal.example.com/other/1", 5).vkey];
    let report = audit(other.path(), &options);
    assert_eq!(kinds(&report, "log.json"), [DamageKind::Contradiction]);
}

#[test]
fn a_log_that_grows_meanwhile_is_audited_at_the_size_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[300]);
    let (mut size, mut grew) = (300, false);
    // The first report of progress comes when the snapshot is taken and most files are not read yet.
    let report = check(dir.path(), &CheckOptions::default(), &mut |_, _| {
        if !grew {
            for _ in 0..3 {
                let staged = log.stage(leaves(size, size + 250)).unwrap();
                publish(&mut log, &staged);
                size += 250;
            }
            log.stage(leaves(size, size + 9)).unwrap();
            grew = true;
        }
    })
    .unwrap();
    assert!(report.is_intact(), "{:#?}", report.damage);
    assert_eq!(report.size, 300);
    assert!(report.unpublished_files > 0);
    let now = audit(dir.path(), &CheckOptions::default());
    assert!(now.is_intact(), "{:#?}", now.damage);
    assert_eq!((now.size, now.staged_leaves), (1050, 9));
}
