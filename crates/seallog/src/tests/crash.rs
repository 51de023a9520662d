//! A batch's way to the disk, cut at every operation.

use super::naive::{check_seal, check_tiles};
use super::{Signer, leaves, publish};
use crate::faults::{Fault, Faults, Operation};
use crate::{LogError, SealLog, Staged};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const OLD: u64 = 250;
const NEW: u64 = 530;

/// Strikes at one operation, and knows what a power cut then would have lost.
#[derive(Debug)]
struct Strike {
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
    fn new(at: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            at,
            fault,
            state: Mutex::default(),
        })
    }

    fn struck(&self) -> bool {
        self.state.lock().unwrap().seen.len() > self.at
    }

    /// Takes back everything that no sync had made durable.
    fn cut_power(&self) {
        let state = self.state.lock().unwrap();
        for (path, before) in state.contents.iter().filter(|(path, _)| path.is_file()) {
            fs::write(path, before.as_deref().unwrap_or_default()).unwrap();
        }
        for (path, before) in state.names.iter().rev() {
            match before {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None if path.is_dir() => fs::remove_dir_all(path).unwrap(),
                None if path.exists() => fs::remove_file(path).unwrap(),
                None => {}
            }
        }
    }
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
            state.was_sync = matches!(operation, Operation::SyncFile(_) | Operation::SyncDir(_));
            return self.fault;
        }
        if number < self.at {
            state.follow(operation);
        }
        Fault::None
    }
}

fn copy(from: &Path, to: &Path) {
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

fn append(log: &mut SealLog, known: &mut Known) -> Result<(), LogError> {
    let staged = log.stage(leaves(OLD, NEW))?;
    known.intent = Some(staged.clone());
    log.publish(&staged, &Signer::log().sign(&staged.checkpoint_text))?;
    known.answered = true;
    Ok(())
}

/// Does what a service does at its start, and checks that nothing was lost and no size got a second root.
fn recover_and_check(dir: &Path, known: &Known, place: &str) {
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
                OLD,
                "{place}: what was never staged is not there"
            );
            let staged = log.stage(leaves(OLD, NEW)).unwrap();
            publish(&mut log, &staged);
        }
    }
    assert!(
        !known.answered || log.size() == NEW,
        "{place}: an answered batch is there"
    );
    let root = check_tiles(dir, usize::try_from(NEW).unwrap());
    assert_eq!(log.root().0, root, "{place}");
    for (index, seal) in log
        .view()
        .unwrap()
        .seals(0..NEW)
        .unwrap()
        .iter()
        .enumerate()
        .step_by(31)
    {
        assert_eq!(
            seal.leaf,
            super::leaf(u64::try_from(index).unwrap()),
            "{place}"
        );
        check_seal(&seal.to_text(), root, NEW);
    }
    let more = log.stage(leaves(NEW, NEW + 1)).unwrap();
    assert_eq!(
        publish(&mut log, &more).size,
        NEW + 1,
        "{place}: the log goes on"
    );
}

/// Cuts one batch at each of its operations; answers how many there are.
fn cut_everywhere(fault: Fault, power_too: bool) -> usize {
    let before = tempfile::tempdir().unwrap();
    drop(super::grown(before.path(), &[7, OLD]));
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        let strike = Strike::new(at, fault);
        let mut known = Known::default();
        let mut log = SealLog::open_with(dir.path(), strike.clone()).unwrap();
        let outcome = append(&mut log, &mut known);
        drop(log);
        if !strike.struck() {
            outcome.unwrap();
            recover_and_check(dir.path(), &known, "without a fault");
            return at;
        }
        outcome.unwrap_err();
        let place = format!(
            "{fault:?} at {at}: {:?}",
            strike.state.lock().unwrap().seen.last()
        );
        if power_too {
            strike.cut_power();
        }
        recover_and_check(dir.path(), &known, &place);
    }
    unreachable!("a batch has a finite number of operations")
}

#[test]
fn a_process_that_dies_at_any_operation_loses_nothing() {
    assert!(cut_everywhere(Fault::Crash, false) > 20);
}

#[test]
fn a_write_that_stops_half_way_loses_nothing() {
    cut_everywhere(Fault::Tear, false);
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    cut_everywhere(Fault::Crash, true);
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
        strike.cut_power();
        let mut log = SealLog::create(&folder, &Signer::log().vkey).unwrap();
        let staged = log.stage(leaves(0, 3)).unwrap();
        assert_eq!(publish(&mut log, &staged).size, 3);
    }
}

#[test]
fn a_failed_sync_ends_the_log_and_any_other_failure_can_be_tried_again() {
    let before = tempfile::tempdir().unwrap();
    drop(super::grown(before.path(), &[OLD]));
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        let strike = Strike::new(at, Fault::Fail);
        let mut log = SealLog::open_with(dir.path(), strike.clone()).unwrap();
        let mut known = Known::default();
        let outcome = append(&mut log, &mut known);
        if !strike.struck() {
            outcome.unwrap();
            return;
        }
        outcome.unwrap_err();
        if strike.state.lock().unwrap().was_sync {
            let refused = log.stage(leaves(OLD, NEW)).unwrap_err();
            assert!(
                matches!(refused, LogError::Poisoned { .. }),
                "{at}: {refused}"
            );
            continue;
        }
        let staged = match &known.intent {
            Some(staged) => staged.clone(),
            None => log.stage(leaves(OLD, NEW)).unwrap(),
        };
        assert_eq!(publish(&mut log, &staged).size, NEW);
        check_tiles(dir.path(), usize::try_from(NEW).unwrap());
    }
}
