//! Runs in a small world that is drawn from a seed: runbooks, executors, people, an outside, a bad network and clocks that jump. The product's own deciders, folds and
//! streams do the work; after every move a judge of their log holds it against what must always be true.
//!
//! A seed that fails says how to replay it alone, with its story.
#![cfg(test)]

mod executor;
mod judge;
mod outside;
mod people;
mod rest;
mod runbooks;
mod seed;
mod shipped;
mod story;
mod weather;
mod world;

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use tokio::task::JoinSet;

use self::world::World;

/// How many seeds a test run walks.
const SEEDS: u64 = 10_000;

/// Seeds that one thread walks side by side: while one waits for the answer to an append, others go on.
const SIDE_BY_SIDE: usize = 64;

type Seen = BTreeMap<&'static str, u64>;

/// What chance must have met somewhere among thousands of seeds; else the simulation proves less than it says.
const MUST_SEE: [&str; 25] = [
    "recorded",
    "refused",
    "started",
    "started-again",
    "ended",
    "observed",
    "failed-by-kind",
    "given",
    "unknown",
    "asked",
    "retried",
    "retried-signed",
    "skipped",
    "overridden",
    "reviewed",
    "needed",
    "not-needed",
    "undecided",
    "released",
    "aborted",
    "undone",
    "nothing-to-undo",
    "run-ended",
    "waited",
    "two-executors",
];

/// Walks one seed to its end.
async fn walk(seed: u64, told: bool) -> Result<Seen, String> {
    let mut world = World::new(seed, told).await?;
    match story(&mut world).await {
        Ok(waited) => {
            let mut seen = world.seen().clone();
            seen.insert("waited", u64::from(waited));
            seen.insert("two-executors", u64::from(world.executors.len() == 2));
            Ok(seen)
        }
        Err(broken) => Err(format!("{broken}\n\n{}", world.trace.lines.join("\n"))),
    }
}

/// Says whether the run waited for somebody when it was left alone.
async fn story(world: &mut World) -> Result<bool, String> {
    world.chaos().await?;
    world.clear().await?;
    world.restart_all().await?;
    world.rest().await?;
    world.waits_for_somebody()?;
    let waited = world.truth.is_open();
    world.help().await?;
    world.refold().await?;
    Ok(waited)
}

/// Walks every `step`th seed from `first` on; gives what was seen, or the first seed that broke something.
fn walk_many(first: u64, step: u64, end: u64, told: bool) -> Result<Seen, (u64, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut seeds = (first..end).step_by(usize::try_from(step).unwrap());
        let mut walking = JoinSet::new();
        let mut names = BTreeMap::new();
        let mut seen = Seen::new();
        loop {
            while walking.len() < SIDE_BY_SIDE
                && let Some(seed) = seeds.next()
            {
                names.insert(walking.spawn(walk(seed, told)).id(), seed);
            }
            let Some(walked) = walking.join_next_with_id().await else {
                return Ok(seen);
            };
            match walked {
                Ok((id, Ok(saw))) => {
                    names.remove(&id);
                    for (what, times) in saw {
                        *seen.entry(what).or_default() += times;
                    }
                }
                Ok((id, Err(story))) => return Err((names[&id], story)),
                Err(error) => return Err((names[&error.id()], error.to_string())),
            }
        }
    })
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_runs_keep_their_promises() {
    if let Some(seed) = setting("SEALWARDEN_SEED") {
        let walked = walk_many(seed, 1, seed + 1, true);
        let (_, story) = walked.err().unwrap_or_default();
        assert!(story.is_empty(), "seed {seed}: {story}");
        return;
    }
    let begun = Instant::now();
    let seeds = setting("SEALWARDEN_SEEDS").unwrap_or(SEEDS);
    let threads = thread::available_parallelism().map_or(2, |threads| threads.get().min(64));
    let threads = u64::try_from(threads).unwrap();
    let walked: Vec<_> = thread::scope(|scope| {
        let walkers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || walk_many(first, threads, seeds, false)))
            .collect();
        let joined = walkers.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(Result::unwrap).collect()
    });
    let mut seen = Seen::new();
    for walked in walked {
        match walked {
            Ok(saw) => {
                for (what, times) in saw {
                    *seen.entry(what).or_default() += times;
                }
            }
            Err((seed, story)) => {
                let first = story.lines().next().unwrap_or_default();
                panic!(
                    "seed {seed}: {first}\nreplay it with its story: SEALWARDEN_SEED={seed} cargo test -p sealwarden-engine --test simulation"
                );
            }
        }
    }
    println!(
        "{seeds} seeds in {:?} on {threads} threads: {seen:?}",
        begun.elapsed()
    );
    for what in MUST_SEE.iter().filter(|_| seeds >= 500) {
        assert!(
            seen.get(what).is_some_and(|times| *times > 0),
            "never seen: {what}"
        );
    }
}
