//! `seal` of many files: hashed in parallel, sealed in bulk, each seal written as soon as its chunk is durable.
//!
//! What is there at any time is bounded: so many files are hashed at once, so many chunks are on their way. A file whose seal
//! is there is passed over, so the same command again goes on where an interrupted one was. Anchors, which come at intervals, are waited
//! for when all is sealed: until then what is kept of each file is its place.

use std::collections::VecDeque;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use sealwarden_client::{BulkError, Chunk, Client, ClientError, SealedChunk, Work};
use sealwarden_wire::seal::v1::{Priority, Stage};
use tokio::sync::mpsc;

use super::seal::{Done, Report, Standing, anchored, one, standing, wait};
use crate::cli::{PriorityName, Seal, WaitStage};
use crate::client::Client as Services;
use crate::failure::Failure;
use crate::host::installation::write_public;

/// From so many files on, they are sealed in bulk.
pub(super) const MANY: usize = 64;
/// Files of one chunk: small enough that the first seals are there soon.
const CHUNK_FILES: usize = 2_048;
/// Chunks that are sent and not answered.
const UNANSWERED: usize = 4;
/// Chunks that are hashed and not sent.
const HASHED: usize = 1;
/// Files that are sealed one by one at once, where bulk does not do.
const AT_ONCE: usize = 128;
/// Threads that write seals.
const WRITERS: usize = 4;

/// A file whose digest is on its way.
struct Sent {
    file: PathBuf,
    target: PathBuf,
    digest: [u8; 32],
}

/// What the two halves share: files whose chunk is not answered, in the order of the chunks.
type Waiting = std::sync::Mutex<VecDeque<Vec<Sent>>>;

/// Tells what became of files; of those that are to be anchored, when they are.
struct Telling<'a> {
    report: &'a Report<'a>,
    until_anchored: bool,
    later: std::sync::Mutex<Vec<(PathBuf, Done)>>,
}

impl Telling<'_> {
    fn add(&self, file: PathBuf, result: Result<Done, Failure>) {
        match result {
            Ok(done) if self.until_anchored && !done.is_queued() => self
                .later
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push((file, done)),
            result => self.report.add(&file, result),
        }
    }

    /// Waits for the anchors of all that was sealed, together for no longer than the command line says.
    async fn anchored(self, services: &Services, args: &Seal) -> Result<(), Failure> {
        let Self { report, later, .. } = self;
        let later = later
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if later.is_empty() {
            return Ok(());
        }
        let client = services.sealing().await?;
        let until = Instant::now() + Duration::from_secs(args.wait_seconds);
        let mut results = stream::iter(later)
            .map(|(file, done)| {
                let client = client.clone();
                async move {
                    let patience = until.saturating_duration_since(Instant::now());
                    (file, anchored(client, patience, done).await)
                }
            })
            .buffered(AT_ONCE);
        while let Some((file, result)) = results.next().await {
            report.add(&file, result);
        }
        Ok(())
    }
}

/// Seals `files`, and reports each.
pub(super) async fn run(
    services: &Services,
    args: &Seal,
    files: Vec<PathBuf>,
    report: &Report<'_>,
) -> Result<(), Failure> {
    let client = Client::over(services.sealing_channel().await?).patience(patience(args));
    let work = Work {
        wait: wait(args),
        priority: match args.priority {
            PriorityName::Normal => Priority::Normal,
            PriorityName::Critical => Priority::Critical,
        },
        unanswered: UNANSWERED,
        ..Work::new(args.tenant.clone())
    };
    let waiting = Waiting::default();
    let telling = Telling {
        report,
        until_anchored: args.wait == Some(WaitStage::Anchored),
        later: std::sync::Mutex::default(),
    };
    let (to, source) = mpsc::channel(HASHED);
    let hashing = hash_all(args, files, &waiting, to, &telling);
    let sealing = client.seal_bulk(&work, source, |_, sealed, stage| {
        let sent = pop(&waiting);
        for (file, result) in write_all(sent, sealed, stage) {
            telling.add(file, result);
        }
    });
    let (alone, sealed) = tokio::join!(hashing, sealing);
    // What was on its way when the bulk call ended, and what never got there.
    let mut left: Vec<PathBuf> = Vec::new();
    while let Some(sent) = pop_some(&waiting) {
        left.extend(sent.into_iter().map(|sent| sent.file));
    }
    let mut alone = alone;
    if let Err(error) = sealed {
        left.append(&mut alone.unsent);
        if !asks_again(args, &error) {
            let failure = failure_of(error);
            for file in left.drain(..) {
                telling.add(file, Err(failure.again()));
            }
        }
    }
    left.append(&mut alone.waiting);
    singly(services, args, left, &telling).await?;
    telling.anchored(services, args).await
}

/// A stop of signing is told soon where the files can wait under tickets.
fn patience(args: &Seal) -> Duration {
    Duration::from_secs(if args.no_queue { 60 } else { 3 })
}

/// Whether files that could not be sealed in bulk are asked for one by one, which gives tickets.
fn asks_again(args: &Seal, error: &BulkError) -> bool {
    match error {
        BulkError::Client(ClientError::Refused(status)) => {
            !args.no_queue && status.code() == tonic::Code::Unavailable
        }
        BulkError::Client(
            ClientError::Connect(_) | ClientError::Installation { .. } | ClientError::NotOurs(_),
        )
        | BulkError::Chunk { .. }
        | BulkError::Answer { .. }
        | BulkError::Order { .. } => false,
    }
}

fn failure_of(error: BulkError) -> Failure {
    match error {
        BulkError::Client(ClientError::Refused(status)) => Failure::from(*status),
        other @ (BulkError::Client(_) | BulkError::Chunk { .. }) => {
            Failure::usage(other.to_string())
        }
        other @ (BulkError::Answer { .. } | BulkError::Order { .. }) => {
            Failure::refused(other.to_string())
        }
    }
}

/// What did not go into chunks.
#[derive(Default)]
struct Alone {
    /// They wait under a ticket already.
    waiting: Vec<PathBuf>,
    /// The bulk call had ended.
    unsent: Vec<PathBuf>,
}

async fn hash_all(
    args: &Seal,
    files: Vec<PathBuf>,
    waiting: &Waiting,
    to: mpsc::Sender<Chunk>,
    telling: &Telling<'_>,
) -> Alone {
    let mut alone = Alone::default();
    let mut number = 0;
    let mut chunk = Vec::with_capacity(CHUNK_FILES);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut looked = stream::iter(files)
        .map(|file| async {
            if to.is_closed() {
                return (file, None);
            }
            let standing = standing(args, &file).await;
            (file, Some(standing))
        })
        .buffered(threads);
    while let Some((file, standing)) = looked.next().await {
        match standing {
            None => alone.unsent.push(file),
            Some(Ok(Standing::Sealed(done))) => telling.add(file, Ok(done)),
            Some(Ok(Standing::Waits)) => alone.waiting.push(file),
            Some(Ok(Standing::New { target, digest })) => chunk.push(Sent {
                file,
                target,
                digest,
            }),
            Some(Err(failure)) => telling.add(file, Err(failure)),
        }
        if chunk.len() == CHUNK_FILES {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_FILES));
            hand_over(args, number, full, waiting, &to, &mut alone).await;
            number += 1;
        }
    }
    if !chunk.is_empty() {
        hand_over(args, number, chunk, waiting, &to, &mut alone).await;
    }
    alone
}

async fn hand_over(
    args: &Seal,
    number: u64,
    sent: Vec<Sent>,
    waiting: &Waiting,
    to: &mpsc::Sender<Chunk>,
    alone: &mut Alone,
) {
    let Ok(place) = to.reserve().await else {
        alone.unsent.extend(sent.into_iter().map(|sent| sent.file));
        return;
    };
    let subjects = match &args.subject {
        Some(subject) => vec![subject.clone(); sent.len()],
        None => Vec::new(),
    };
    let chunk = Chunk {
        number,
        digests: sent.iter().map(|sent| sent.digest).collect(),
        subjects,
        claimed_at_ms: jiff::Timestamp::now().as_millisecond(),
    };
    lock(waiting).push_back(sent);
    place.send(chunk);
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, VecDeque<Vec<Sent>>> {
    waiting
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn pop_some(waiting: &Waiting) -> Option<Vec<Sent>> {
    lock(waiting).pop_front()
}

fn pop(waiting: &Waiting) -> Vec<Sent> {
    pop_some(waiting).unwrap_or_default()
}

/// Writes the seals of a chunk, durably, several at once.
fn write_all(
    sent: Vec<Sent>,
    sealed: &SealedChunk,
    stage: Stage,
) -> Vec<(PathBuf, Result<Done, Failure>)> {
    let state = match stage {
        Stage::Anchored => "anchored",
        Stage::Witnessed => "witnessed",
        Stage::Sealed | Stage::Queued | Stage::Unspecified => "sealed",
    };
    let origin = &sealed.checkpoint().origin;
    let mut seals = Vec::with_capacity(sent.len());
    let mut files = sent.into_iter();
    sealed.for_each_seal(|index, text| {
        seals.extend(files.next().map(|sent| (sent, index, text.to_owned())));
    });
    let write = |(sent, index, text): &(Sent, u64, String)| {
        let written = write_public(&sent.target, text.as_bytes());
        let done = || Done::sealed(&sent.file, sent.target.clone(), origin, *index, state);
        let result = written
            .with_context(|| format!("sealed as {origin} #{index}, and not written"))
            .map(|()| done())
            .map_err(Failure::from);
        (sent.file.clone(), result)
    };
    let share = seals.len().div_ceil(WRITERS).max(1);
    thread::scope(|scope| {
        let threads: Vec<_> = seals
            .chunks(share)
            .map(|part| scope.spawn(|| part.iter().map(write).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    })
}

async fn singly(
    services: &Services,
    args: &Seal,
    files: Vec<PathBuf>,
    telling: &Telling<'_>,
) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    let client = services.sealing().await?;
    let mut results = stream::iter(files)
        .map(|file| {
            let client = client.clone();
            async move {
                let result = one(client, args, Path::new(&file)).await;
                (file, result)
            }
        })
        .buffered(AT_ONCE);
    while let Some((file, result)) = results.next().await {
        telling.add(file, result);
    }
    Ok(())
}
