//! Callers: many tasks that ask again as soon as they are answered.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::figures::{quantile, rate};

/// What came of a load.
pub(crate) struct Loaded {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Half of the answers were not slower.
    pub(crate) p50: Duration,
    /// 99 of 100 answers were not slower.
    pub(crate) p99: Duration,
    /// Processor time of the whole process for one answer, callers included. On a busy machine it says more than the rate.
    pub(crate) processor: Duration,
}

/// Lets `callers` callers ask for a time. `caller` makes the n-th caller; each call of what it makes is one request.
pub(crate) async fn load<C, F>(
    callers: usize,
    span: Duration,
    mut caller: impl FnMut(usize) -> C,
) -> anyhow::Result<Loaded>
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let mut tasks = JoinSet::new();
    let used = processor_time();
    let begun = Instant::now();
    for number in 0..callers {
        let mut ask = caller(number);
        tasks.spawn(async move {
            let mut spans = Vec::new();
            while begun.elapsed() < span {
                let from = Instant::now();
                ask().await?;
                spans.push(from.elapsed());
            }
            anyhow::Ok(spans)
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        all.extend(ended.context("a caller panicked")??);
    }
    let took = begun.elapsed();
    let answers = u32::try_from(all.len())?;
    let used = processor_time().saturating_sub(used);
    Ok(Loaded {
        rate: rate(u64::from(answers), took),
        processor: used.checked_div(answers).unwrap_or_default(),
        p50: quantile(&mut all, 500),
        p99: quantile(&mut all, 990),
    })
}

/// What this process used of all processors so far.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // The kernel gives neither below zero.
    Duration::new(
        u64::try_from(used.tv_sec).unwrap_or_default(),
        u32::try_from(used.tv_nsec).unwrap_or_default(),
    )
}
