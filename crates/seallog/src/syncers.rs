//! Threads that sync files side by side, so that a journal commits them together.
//!
//! They stay as long as their owner: to begin and end half a dozen threads for each batch takes longer than what they do.

use crate::faults::Operation;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// How many files are synced at once; the caller's thread takes a share, too.
const AT_ONCE: usize = 8;

/// What one thread syncs, each with its place among all.
#[derive(Debug)]
struct Share {
    files: Vec<(usize, PathBuf, Kind)>,
    answer: SyncSender<Option<Failed>>,
}

/// The place of what failed first.
type Failed = (usize, io::Error);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Contents,
    Names,
}

/// The threads, begun when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Syncers(Vec<SyncSender<Share>>);

impl Syncers {
    /// Syncs all; answers the place of one that failed. Nothing counts as synced then.
    pub(crate) fn sync(&mut self, all: &[Operation<'_>]) -> Option<Failed> {
        let files: Vec<_> = (0..)
            .zip(all)
            .map(|(place, operation)| {
                let (path, kind) = what(*operation);
                (place, path.to_path_buf(), kind)
            })
            .collect();
        let mut shares = files.chunks(all.len().div_ceil(AT_ONCE).max(1));
        let own = shares.next()?;
        let (answer, answers) = sync_channel(AT_ONCE);
        let mut failed = None;
        let mut asked = 0;
        for (number, share) in shares.enumerate() {
            if self.ask(number, share, &answer) {
                asked += 1;
            } else {
                failed = failed.or(sync_share(share));
            }
        }
        failed = failed.or(sync_share(own));
        drop(answer);
        for _ in 0..asked {
            // A thread that ended without an answer synced nothing for certain.
            let ended = |_| Some((0, io::Error::other("a syncing thread ended")));
            failed = failed.or(answers.recv().unwrap_or_else(ended));
        }
        failed
    }

    /// Whether a thread took the share.
    fn ask(
        &mut self,
        number: usize,
        share: &[(usize, PathBuf, Kind)],
        answer: &SyncSender<Option<Failed>>,
    ) -> bool {
        if self.0.len() <= number {
            let (sender, shares) = sync_channel(1);
            let begun = thread::Builder::new()
                .name("seal-sync".to_owned())
                .spawn(move || serve(&shares));
            if begun.is_err() {
                return false;
            }
            self.0.push(sender);
        }
        let share = Share {
            files: share.to_vec(),
            answer: answer.clone(),
        };
        self.0
            .get(number)
            .is_some_and(|thread| thread.send(share).is_ok())
    }
}

fn serve(shares: &Receiver<Share>) {
    while let Ok(Share { files, answer }) = shares.recv() {
        // One who does not wait any more counts nothing as synced.
        drop(answer.send(sync_share(&files)));
    }
}

fn sync_share(files: &[(usize, PathBuf, Kind)]) -> Option<Failed> {
    let mut failed = files
        .iter()
        .map(|(place, path, kind)| (*place, sync_one(path, *kind)));
    failed.find_map(|(place, outcome)| Some((place, outcome.err()?)))
}

fn sync_one(path: &Path, kind: Kind) -> io::Result<()> {
    let file = File::open(path)?;
    match kind {
        Kind::Contents => file.sync_data(),
        Kind::Names => file.sync_all(),
    }
}

fn what(operation: Operation<'_>) -> (&Path, Kind) {
    match operation {
        Operation::SyncFile(path) => (path, Kind::Contents),
        Operation::CreateDir(path)
        | Operation::Write(path)
        | Operation::WriteAt(path)
        | Operation::Rename(_, path)
        | Operation::SyncDir(path)
        | Operation::SyncAll(path)
        | Operation::Cut(path)
        | Operation::Remove(path) => (path, Kind::Names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_is_named_wherever_it_stands_and_the_threads_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut syncers = Syncers::default();
        for count in [1, 2, 7, 8, 9, 40] {
            let paths: Vec<_> = (0..count)
                .map(|it: usize| dir.path().join(it.to_string()))
                .collect();
            for path in &paths {
                std::fs::write(path, b"x").unwrap();
            }
            let all: Vec<_> = paths.iter().map(|it| Operation::SyncFile(it)).collect();
            assert!(syncers.sync(&all).is_none(), "{count}");
            for (place, gone) in paths.iter().enumerate() {
                std::fs::remove_file(gone).unwrap();
                let (at, error) = syncers.sync(&all).unwrap();
                assert_eq!((at, error.kind()), (place, io::ErrorKind::NotFound));
                std::fs::write(gone, b"x").unwrap();
            }
        }
        assert!(syncers.0.len() < AT_ONCE);
        assert!(syncers.sync(&[]).is_none());
    }
}
