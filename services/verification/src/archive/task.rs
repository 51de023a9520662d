//! When a revalidation begins: the one that is under way goes on; else one that is due, or that somebody asks for.

use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::archive::{Archive as State, Command};
use sealwarden_engine::ExecuteError;

use super::job::{self, End};
use super::open::Archive;

/// The wall clock is looked at again after this long: it can be set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long to wait after an error of this machine.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Works until shutdown.
pub(crate) async fn run(archive: Arc<Archive>) -> anyhow::Result<()> {
    let shutdown = archive.node.shutdown.clone();
    loop {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        let running = archive.state(|state| state.running().cloned());
        let pause = match running {
            Some(started) if started.node == archive.node.name => {
                match job::run(&archive, &started).await {
                    Ok(End::Finished) => continue,
                    Ok(End::Shutdown) => return Ok(()),
                    Err(error) => {
                        tracing::error!(archive = %archive.config.name, error = %format!("{error:#}"), "the revalidation cannot go on");
                        AFTER_ERROR
                    }
                }
            }
            // The other node goes on with it; this one may only look.
            Some(_) => LOOK_AGAIN,
            None => match until_due(&archive) {
                Some(Duration::ZERO) => {
                    begin_scheduled(&archive).await;
                    continue;
                }
                Some(wait) => wait.min(LOOK_AGAIN),
                None => LOOK_AGAIN,
            },
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = archive.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn begin_scheduled(archive: &Archive) {
    if let Err(error) = begin(archive, "schedule").await {
        tracing::warn!(archive = %archive.config.name, %error, "a revalidation that is due cannot begin yet");
        tokio::select! {
            () = archive.node.shutdown.cancelled() => {}
            () = tokio::time::sleep(AFTER_ERROR) => {}
        }
    }
}

/// Records that a revalidation begins.
pub(crate) async fn begin(archive: &Archive, by: &str) -> Result<(), ExecuteError> {
    let start = Command::Start {
        archive: archive.config.name.clone(),
        by: by.to_owned(),
        node: archive.node.name.clone(),
        at_ms: archive.now_ms(),
    };
    archive.wish.send_replace(super::open::Wish::default());
    archive.execute("", start).await?;
    archive.wake.notify_one();
    Ok(())
}

fn until_due(archive: &Archive) -> Option<Duration> {
    let due_ms = due_at_ms(archive)?;
    let left = due_ms.saturating_sub(archive.now_ms()).max(0);
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

/// When the next revalidation begins, Unix milliseconds: so long after the beginning of the last one, or after the first document came. `None` for by hand only.
pub(crate) fn due_at_ms(archive: &Archive) -> Option<i64> {
    let config = &archive.config;
    archive.state(|state| due(state, &config.name, config.every_h, config.jitter_min))
}

fn due(state: &State, name: &str, every_h: u64, jitter_min: u64) -> Option<i64> {
    if every_h == 0 || state.pages.is_empty() {
        return None;
    }
    let last_ms = state
        .job
        .as_ref()
        .map_or(state.created_at_ms, |job| job.started.started_at_ms);
    // The same for every life of the process: drawn from the name and the number of the revalidation.
    let drawn = sealwarden_seal::merkle::Hash::of(format!("{name} {}", state.jobs).as_bytes());
    let drawn = drawn
        .0
        .iter()
        .take(7)
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let jitter_ms = drawn % jitter_min.saturating_mul(60_000).saturating_add(1);
    let every_ms = every_h.saturating_mul(3_600_000).saturating_add(jitter_ms);
    Some(last_ms.saturating_add(i64::try_from(every_ms).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revalidation_is_due_so_long_after_the_last_one_began() {
        let mut state = State::default();
        assert_eq!(due(&state, "main", 24, 10), None);
        state.pages.push([1; 32]);
        state.created_at_ms = 1_000;
        assert_eq!(due(&state, "main", 0, 10), None);
        assert_eq!(due(&state, "main", 1, 0), Some(3_601_000));
        let jittered = due(&state, "main", 1, 10).unwrap();
        assert!((3_601_000..=4_201_000).contains(&jittered));
        assert_eq!(due(&state, "main", 1, 10), Some(jittered));
        state.jobs = 1;
        assert_ne!(
            due(&state, "main", 1, 1440),
            due(
                &State {
                    jobs: 2,
                    ..state.clone()
                },
                "main",
                1,
                1440
            )
        );
    }
}
