//! A task with a thread of its own.
//!
//! A batch takes a dozen turns: for each file system call, event and signature it waits, and is woken. Among the tasks of hundreds of calls each turn would wait
//! behind theirs; a thread that wakes is let in by the operating system at once.

use std::cell::Cell;

use anyhow::Context as _;
use tokio::sync::oneshot;

thread_local! {
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread serves one task only, which may block it.
pub(crate) fn is_here() -> bool {
    IS_OWN.get()
}

/// Runs `work` on a thread of this name, and ends with it. Dropping the future drops `work`, too.
pub(crate) async fn run(
    name: &str,
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name(format!("{name}-files"))
        .build()
        .with_context(|| format!("starting the thread {name}"))?;
    let (mut answer, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            IS_OWN.set(true);
            let outcome = runtime.block_on(async {
                tokio::select! {
                    outcome = work => Some(outcome),
                    () = answer.closed() => None,
                }
            });
            // Before the answer: whoever has it finds nothing of the work running.
            drop(runtime);
            if let Some(outcome) = outcome {
                drop(answer.send(outcome));
            }
        })
        .with_context(|| format!("starting the thread {name}"))?;
    ended
        .await
        .with_context(|| format!("the thread {name} ended early"))?
}
