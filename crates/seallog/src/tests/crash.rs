//! A batch's way to the disk, cut at every operation.

use super::naive::{check_seal, check_tiles};
use super::{Signer, leaves, publish};
use crate::check::{CheckOptions, check};
use crate::faults::{Fault, Faults, Operation};
use crate::{Leaf, LogError, SealLog, Staged};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::record::Record;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A batch that grows the log from the one size to the other.
#[derive(Clone, Copy)]
struct Growing {
    old: u64,
    new: u64,
    make: fn(u64, u64) -> Vec<Leaf>,
}

/// Its leaves stand in the staged file, and few files are synced.
const SMALL: Growing = Growing {
    old: 250,
    new: 530,
    make: leaves,
};

/// Its leaves stand in the private segments before it is staged, and many files are synced as one.
const LARGE: Growing = Growing {
    old: 250,
    new: 1_900,
    make: leaves,
};

/// As `LARGE`, over the end of a private segment: with records so long that few leaves make a large batch.
const ACROSS: Growing = Growing {
    old: 65_500,
    new: 65_560,
    make: long_leaves,
};

fn long_leaves(from: u64, to: u64) -> Vec<Leaf> {
    let mut leaves = leaves(from, to);
    for leaf in &mut leaves {
        let mut record = Record::decode(&leaf.record).unwrap();
        record.subject = Some("x".repeat(1024));
        leaf.record = record.encode().unwrap();
    }
    leaves
}

impl Growing {
    fn leaves(&self) -> Vec<Leaf> {
        (self.make)(self.old, self.new)
    }

    fn leaf(&self, index: u64) -> Leaf {
        if index < self.old {
            return super::leaf(index);
        }
        (self.make)(index, index + 1).remove(0)
    }

    /// A log of the old size.
    fn begun(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let sizes = if self.old > 300 {
            vec![self.old]
        } else {
            vec![7, self.old]
        };
        drop(super::grown(dir.path(), &sizes));
        dir
    }
}

/// Strikes at one operation, and knows what a power cut then would have lost.
#[derive(Debug)]
pub(super) struct Strike {
    at: usize,
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<String>,
    was_sync: bool,
    /// Files with unsynced contents, and what they held before.
    contents: BTreeMap<PathBuf, Option<Vec<u8>>>,
    /// Names whose folder is not synced, oldest first, and what they stood for before.
    names: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Strike {
    pub(super) fn new(at: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            at,
            fault,
            state: Mutex::default(),
        })
    }

    pub(super) fn struck(&self) -> bool {
        self.state.lock().unwrap().seen.len() > self.at
    }

    /// Takes back what no sync had made durable.
    pub(super) fn cut_power(&self, lost: Lost) {
        let state = self.state.lock().unwrap();
        let mut number = 0;
        let mut is_lost = || {
            number += 1;
            match lost {
                Lost::Nothing => false,
                Lost::Everything => true,
                Lost::Half(seed) => Hash::of(&[seed, number]).0[0] < 128,
            }
        };
        for (path, before) in state.contents.iter().filter(|(path, _)| path.is_file()) {
            if is_lost() {
                fs::write(path, before.as_deref().unwrap_or_default()).unwrap();
            }
        }
        for (path, before) in state.names.iter().rev() {
            match before {
                _ if !is_lost() => {}
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None if path.is_dir() => fs::remove_dir_all(path).unwrap(),
                None if path.exists() => fs::remove_file(path).unwrap(),
                None => {}
            }
        }
    }
}

/// What of the unsynced writes and names a power cut takes. A disk may keep any of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lost {
    Nothing,
    Everything,
    /// About one of two, picked by this number.
    Half(u8),
}

impl State {
    fn follow(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::CreateDir(path) => self.names.push((path.to_path_buf(), None)),
            Operation::Write(path) | Operation::WriteAt(path) => {
                let before = fs::read(path).ok();
                if before.is_none() {
                    self.names.push((path.to_path_buf(), None));
                }
                self.contents.entry(path.to_path_buf()).or_insert(before);
            }
            Operation::SyncFile(path) => {
                self.contents.remove(path);
            }
            Operation::Rename(from, to) => {
                self.names.push((to.to_path_buf(), fs::read(to).ok()));
                if let Some(before) = self.contents.remove(from) {
                    self.contents.insert(to.to_path_buf(), before);
                }
            }
            Operation::SyncAll(_) => {
                self.contents.clear();
                self.names.clear();
            }
            Operation::Cut(path) => {
                let before = fs::read(path).ok();
                self.contents.entry(path.to_path_buf()).or_insert(before);
            }
            Operation::SyncDir(dir) => self.names.retain(|(path, _)| path.parent() != Some(dir)),
            Operation::Remove(path) => self.names.push((path.to_path_buf(), fs::read(path).ok())),
        }
    }
}

impl Faults for Strike {
    fn before(&self, operation: Operation<'_>) -> Fault {
        let mut state = self.state.lock().unwrap();
        let number = state.seen.len();
        state.seen.push(format!("{operation:?}"));
        if number == self.at {
            state.was_sync = matches!(
                operation,
                Operation::SyncFile(_) | Operation::SyncDir(_) | Operation::SyncAll(_)
            );
            return self.fault;
        }
        if number < self.at {
            state.follow(operation);
        }
        Fault::None
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What the caller knows when the process dies: what it recorded an intent for, and what it answered.
#[derive(Default)]
struct Known {
    intent: Option<Staged>,
    answered: bool,
}

fn append(log: &mut SealLog, growing: Growing, known: &mut Known) -> Result<(), LogError> {
    let staged = log.stage(growing.leaves())?;
    known.intent = Some(staged.clone());
    log.publish(&staged, &Signer::log().sign(&staged.checkpoint_text))?;
    known.answered = true;
    Ok(())
}

/// Does what a service does at its start, and checks that nothing was lost and no size got a second root.
fn recover_and_check(dir: &Path, growing: Growing, known: &Known, place: &str) {
    let Growing { old, new, .. } = growing;
    let size = usize::try_from(new).unwrap();
    let mut log = SealLog::open(dir).unwrap_or_else(|error| panic!("{place}: {error}"));
    match (log.staged().cloned(), &known.intent) {
        (Some(staged), intent) => {
            if let Some(intent) = intent {
                assert_eq!(
                    staged, *intent,
                    "{place}: the intent's batch is the staged one"
                );
            }
            publish(&mut log, &staged);
        }
        (None, Some(intent)) => {
            assert_eq!(
                (log.size(), log.root()),
                (intent.size, intent.root),
                "{place}"
            );
            publish(&mut log, intent);
        }
        (None, None) => {
            assert_eq!(
                log.size(),
                old,
                "{place}: what was never staged is not there"
            );
            let staged = log.stage(growing.leaves()).unwrap();
            publish(&mut log, &staged);
        }
    }
    assert!(
        !known.answered || log.size() == new,
        "{place}: an answered batch is there"
    );
    // The simple-minded reader takes too long over a large tree; the audit below reads it too.
    let root = if new < 10_000 {
        check_tiles(dir, size)
    } else {
        log.root().0
    };
    assert_eq!(log.root().0, root, "{place}");
    for seal in log
        .view()
        .unwrap()
        .seals(old.saturating_sub(100)..new)
        .unwrap()
        .iter()
        .step_by(31)
    {
        assert_eq!(seal.leaf, growing.leaf(seal.index), "{place}");
        check_seal(&seal.to_text(), root, new);
    }
    let more = log.stage(leaves(new, new + 1)).unwrap();
    assert_eq!(
        publish(&mut log, &more).size,
        new + 1,
        "{place}: the log goes on"
    );
    drop(log);
    let audit = check(dir, &CheckOptions::default(), &mut |_, _| {}).unwrap();
    assert!(audit.is_intact(), "{place}: {:?}", audit.damage);
}

/// Cuts one batch at each of its operations; answers how many there are.
fn cut_everywhere(growing: Growing, fault: Fault, lost: Lost) -> usize {
    let before = growing.begun();
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        let strike = Strike::new(at, fault);
        let mut known = Known::default();
        let mut log = SealLog::open_with(dir.path(), strike.clone()).unwrap();
        let outcome = append(&mut log, growing, &mut known);
        drop(log);
        if !strike.struck() {
            outcome.unwrap();
            recover_and_check(dir.path(), growing, &known, "without a fault");
            return at;
        }
        outcome.unwrap_err();
        let place = format!(
            "{fault:?} at {at}: {:?}",
            strike.state.lock().unwrap().seen.last()
        );
        strike.cut_power(lost);
        recover_and_check(dir.path(), growing, &known, &place);
    }
    unreachable!("a batch has a finite number of operations")
}

#[test]
fn a_process_that_dies_at_any_operation_loses_nothing() {
    assert!(cut_everywhere(SMALL, Fault::Crash, Lost::Nothing) > 20);
    cut_everywhere(LARGE, Fault::Crash, Lost::Nothing);
}

#[test]
fn a_write_that_stops_half_way_loses_nothing() {
    for growing in [SMALL, LARGE] {
        cut_everywhere(growing, Fault::Tear, Lost::Nothing);
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    for growing in [SMALL, LARGE, ACROSS] {
        cut_everywhere(growing, Fault::Crash, Lost::Everything);
    }
}

#[test]
fn a_power_cut_may_keep_any_part_of_what_was_not_synced() {
    for seed in 0..2 {
        cut_everywhere(SMALL, Fault::Crash, Lost::Half(seed));
        cut_everywhere(LARGE, Fault::Tear, Lost::Half(seed));
    }
}

#[test]
fn a_log_whose_creation_was_cut_can_be_created_again() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/log");
        let strike = Strike::new(at, Fault::Crash);
        let outcome = SealLog::create_with(&folder, &Signer::log().vkey, strike.clone());
        if !strike.struck() {
            outcome.unwrap();
            return;
        }
        outcome.unwrap_err();
        strike.cut_power(Lost::Everything);
        let mut log = SealLog::create(&folder, &Signer::log().vkey).unwrap();
        let staged = log.stage(leaves(0, 3)).unwrap();
        assert_eq!(publish(&mut log, &staged).size, 3);
    }
}

#[test]
fn a_failed_sync_ends_the_log_and_any_other_failure_can_be_tried_again() {
    for growing in [SMALL, LARGE] {
        fail_everywhere(growing);
    }
}

fn fail_everywhere(growing: Growing) {
    let before = growing.begun();
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        let strike = Strike::new(at, Fault::Fail);
        let mut log = SealLog::open_with(dir.path(), strike.clone()).unwrap();
        let mut known = Known::default();
        let outcome = append(&mut log, growing, &mut known);
        if !strike.struck() {
            outcome.unwrap();
            return;
        }
        outcome.unwrap_err();
        if strike.state.lock().unwrap().was_sync {
            let refused = log.stage(growing.leaves()).unwrap_err();
            assert!(
                matches!(refused, LogError::Poisoned { .. }),
                "{at}: {refused}"
            );
            continue;
        }
        let staged = match &known.intent {
            Some(staged) => staged.clone(),
            None => log.stage(growing.leaves()).unwrap(),
        };
        assert_eq!(publish(&mut log, &staged).size, growing.new);
        check_tiles(dir.path(), usize::try_from(growing.new).unwrap());
    }
}
