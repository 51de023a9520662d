//! Mirrors: made from a log that grows, from one that lies, and from one that forgets.

use super::{ORIGIN, Signer, grown, leaves, publish};
use crate::SealLog;
use crate::check::{CheckOptions, check};
use crate::mirror::{Fetch, MirrorError, Mirrored, mirror};
use sealwarden_seal::merkle::verify_inclusion;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A log's public files, with changes, and what was asked for.
struct Served<'a> {
    dir: &'a Path,
    changed: BTreeMap<String, Option<Vec<u8>>>,
    asked: RefCell<Vec<String>>,
    /// After so many answers the source goes away.
    answers: usize,
}

impl<'a> Served<'a> {
    fn of(dir: &'a Path) -> Self {
        Self {
            dir,
            changed: BTreeMap::new(),
            asked: RefCell::default(),
            answers: usize::MAX,
        }
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

impl Fetch for Served<'_> {
    fn fetch(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        if self.asked() >= self.answers {
            return Err("the connection is gone".to_owned());
        }
        self.asked.borrow_mut().push(path.to_owned());
        let changed = self.changed.get(path).cloned();
        Ok(changed.unwrap_or_else(|| fs::read(self.dir.join(path)).ok()))
    }
}

fn run(to: &Path, source: &Served<'_>) -> Result<Mirrored, MirrorError> {
    mirror(to, source, &[Signer::log().vkey], &mut |_, _| {})
}

fn assert_intact(dir: &Path, size: u64) {
    let report = check(dir, &CheckOptions::default(), &mut |_, _| {}).unwrap();
    assert!(report.is_intact(), "{:?}", report.damage);
    assert_eq!((report.size, report.is_mirror), (size, true));
}

fn grow(log: &mut SealLog, size: u64) {
    let staged = log.stage(leaves(log.size(), size)).unwrap();
    publish(log, &staged);
}

#[test]
fn a_mirror_follows_its_log_and_proves_by_itself() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = to.path().join("copy/1");
    let mut log = grown(from.path(), &[3]);
    for size in [3, 256, 700, 700, 1_500] {
        if size > log.size() {
            grow(&mut log, size);
        }
        let before = Served::of(from.path());
        let report = run(&to, &before).unwrap();
        assert_eq!((report.size, report.root), (size, log.root()));
        assert_eq!(report.origin, ORIGIN);
        assert_intact(&to, size);
    }
    let view = crate::LogReader::open(&to).unwrap().view().unwrap();
    for index in [0, 255, 256, 1_499] {
        let proof = view.inclusion_proof(index, 1_500).unwrap();
        let leaf = super::leaf(index).hash();
        verify_inclusion(&leaf, index, 1_500, &proof, &log.root()).unwrap();
    }
    assert!(view.inclusion_proof(1_500, 1_500).is_err());
    assert!(!to.join("private").exists(), "nothing private is copied");
    // What was mirrored once is not fetched again.
    grow(&mut log, 1_501);
    let again = Served::of(from.path());
    run(&to, &again).unwrap();
    assert!(again.asked() < 12, "{:?}", again.asked.borrow());
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(grown(from.path(), &[700]));
    let mut fetched = 0;
    for answers in 1.. {
        let mut source = Served::of(from.path());
        source.answers = answers;
        match run(to.path(), &source) {
            Ok(report) => {
                assert_eq!(report.size, 700);
                assert!(report.resumed > 0);
                break;
            }
            Err(MirrorError::Unavailable { .. }) => {
                assert!(
                    !to.path().join("checkpoint").exists(),
                    "no promise before the tiles"
                );
                fetched += source.asked();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(fetched > 10);
    assert_intact(to.path(), 700);
}

#[test]
fn every_changed_file_of_a_source_is_refused_by_name() {
    let from = tempfile::tempdir().unwrap();
    drop(grown(from.path(), &[700]));
    let good = {
        let to = tempfile::tempdir().unwrap();
        let source = Served::of(from.path());
        run(to.path(), &source).unwrap();
        source.asked.into_inner()
    };
    for path in good.iter().filter(|path| path.starts_with("tile/")) {
        let bytes = fs::read(from.path().join(path)).unwrap();
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let to = tempfile::tempdir().unwrap();
            let mut source = Served::of(from.path());
            source.changed.insert(path.clone(), Some(changed));
            let error = run(to.path(), &source).unwrap_err();
            let MirrorError::Tampered { path: named, .. } = &error else {
                panic!("{path}: {error}");
            };
            assert!(named.contains(path.as_str()), "{path}: {error}");
            assert!(!to.path().join("checkpoint").exists());
        }
        let to = tempfile::tempdir().unwrap();
        let mut source = Served::of(from.path());
        source.changed.insert(path.clone(), None);
        assert!(matches!(
            run(to.path(), &source).unwrap_err(),
            MirrorError::Missing { .. }
        ));
    }
}

#[test]
fn a_partial_tile_that_is_full_by_now_is_cut_from_the_full_one() {
    let (from, later, to) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    drop(grown(from.path(), &[300]));
    let mut log = grown(later.path(), &[300]);
    grow(&mut log, 600);
    // The checkpoint of 300 leaves, and a server that has thrown the partial tiles of then away.
    let mut source = Served::of(later.path());
    let old = fs::read(from.path().join("checkpoint")).unwrap();
    source.changed.insert("checkpoint".to_owned(), Some(old));
    for path in ["tile/0/001.p/44", "tile/entries/001.p/44"] {
        source.changed.insert(path.to_owned(), None);
    }
    assert_eq!(run(to.path(), &source).unwrap().size, 300);
    assert_intact(to.path(), 300);
}

#[test]
fn another_history_is_refused_and_both_checkpoints_are_kept() {
    let honest = tempfile::tempdir().unwrap();
    let mut log = grown(honest.path(), &[300]);
    for (fork_size, equal) in [(300, true), (280, false), (900, false)] {
        let (to, forked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(to.path(), &Served::of(honest.path())).unwrap();
        let mut other = SealLog::create(forked.path(), &Signer::log().vkey).unwrap();
        let staged = other.stage(leaves(1_000, 1_000 + fork_size)).unwrap();
        publish(&mut other, &staged);
        let error = run(to.path(), &Served::of(forked.path())).unwrap_err();
        let MirrorError::Forked { evidence, size, .. } = &error else {
            panic!("{fork_size}: {error}");
        };
        assert_eq!(*size == 300, equal || fork_size > 300);
        for (file, dir) in [
            ("mirrored-checkpoint", &honest),
            ("offered-checkpoint", &forked),
        ] {
            assert_eq!(
                fs::read(evidence.join(file)).unwrap(),
                fs::read(dir.path().join("checkpoint")).unwrap()
            );
        }
        assert_intact(to.path(), 300);
        // The mirror goes on with the honest log.
        run(to.path(), &Served::of(honest.path())).unwrap();
    }
    // A source that is only behind is no fork.
    let (to, behind) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(grown(behind.path(), &[100]));
    grow(&mut log, 400);
    run(to.path(), &Served::of(honest.path())).unwrap();
    let report = run(to.path(), &Served::of(behind.path())).unwrap();
    assert_eq!((report.size, report.source_behind), (400, Some(100)));
}

#[test]
fn a_relative_folder_is_made_where_the_process_stands() {
    // Tests share their working folder, so the folder's name is its own.
    let name = format!("mirror-{}", std::process::id());
    let from = tempfile::tempdir().unwrap();
    drop(grown(from.path(), &[5]));
    let outcome = run(&Path::new(&name).join("main/1"), &Served::of(from.path()));
    fs::remove_dir_all(&name).unwrap();
    assert_eq!(outcome.unwrap().size, 5);
}

#[test]
fn a_log_of_another_key_is_not_mirrored() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(grown(from.path(), &[5]));
    let keys = [Signer::named(ORIGIN, 9).vkey];
    let error = mirror(to.path(), &Served::of(from.path()), &keys, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, MirrorError::Checkpoint { .. }), "{error}");
}

#[test]
fn every_byte_of_a_mirror_counts() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(grown(from.path(), &[300]));
    run(to.path(), &Served::of(from.path())).unwrap();
    for path in [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ] {
        let path = to.path().join(path);
        let bytes = fs::read(&path).unwrap();
        for place in (0..bytes.len()).step_by(97) {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            fs::write(&path, changed).unwrap();
            let report = check(to.path(), &CheckOptions::default(), &mut |_, _| {}).unwrap();
            let damage = report
                .damage
                .first()
                .unwrap_or_else(|| panic!("{} at {place}", path.display()));
            assert_eq!(to.path().join(&damage.path), path, "{place}: {damage}");
            let range = damage.offset..damage.offset + damage.length;
            assert!(
                range.contains(&u64::try_from(place).unwrap()),
                "{place}: {damage}"
            );
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_intact(to.path(), 300);
}

#[test]
fn a_mirror_follows_a_log_whose_keys_change() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = to.path().join("copy/1");
    let (first, second) = (Signer::log(), Signer::named(ORIGIN, 77));
    let mut log = grown(from.path(), &[300]);
    let source = Served::of(from.path());
    mirror(
        &to,
        &source,
        std::slice::from_ref(&first.vkey),
        &mut |_, _| {},
    )
    .unwrap();

    // Another key takes over: only it signs from here on.
    log.trust_keys(std::slice::from_ref(&second.vkey)).unwrap();
    let staged = log.stage(leaves(300, 310)).unwrap();
    let note = second.sign(&staged.checkpoint_text);
    log.publish(&staged, &note).unwrap();
    let alone = mirror(
        &to,
        &source,
        std::slice::from_ref(&first.vkey),
        &mut |_, _| {},
    );
    assert!(
        matches!(alone, Err(MirrorError::Checkpoint { .. })),
        "a key that the bundle does not name signs nothing"
    );
    let both = [first.vkey.clone(), second.vkey.clone()];
    let report = mirror(&to, &source, &both, &mut |_, _| {}).unwrap();
    assert_eq!((report.old_size, report.size), (300, 310));
    assert_intact(&to, 310);
    let view = crate::LogReader::open(&to).unwrap().view().unwrap();
    assert_eq!(view.size(), 310);
    // Who begins only now begins with the second key.
    let late = tempfile::tempdir().unwrap();
    mirror(late.path(), &source, &both, &mut |_, _| {}).unwrap();
    assert_intact(late.path(), 310);
    // A mirror of a log whose first key nobody vouches for any more is another log's.
    let other = [Signer::named(ORIGIN, 78).vkey, second.vkey.clone()];
    assert!(mirror(&to, &source, &other, &mut |_, _| {}).is_err());
}

#[test]
fn every_byte_of_a_mirrors_log_counts() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(grown(from.path(), &[3, 5]));
    run(to.path(), &Served::of(from.path())).unwrap();
    let report = check(to.path(), &CheckOptions::default(), &mut |_, _| {}).unwrap();
    assert!(report.is_intact());
    for name in [
        "checkpoint",
        "log.json",
        "mirror.json",
        "tile/0/000.p/5",
        "tile/entries/000.p/5",
    ] {
        let path = to.path().join(name);
        let good = fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 0x04;
            fs::write(&path, &bytes).unwrap();
            let told = check(to.path(), &CheckOptions::default(), &mut |_, _| {});
            let at = u64::try_from(place).unwrap();
            let named = told.as_ref().is_ok_and(|report| {
                let mut damage = report.damage.iter();
                damage.any(|it| {
                    it.path == Path::new(name) && (it.offset..it.offset + it.length).contains(&at)
                })
            });
            assert!(named, "byte {place} of {name}: {told:?}");
        }
        fs::write(&path, &good).unwrap();
    }
}
