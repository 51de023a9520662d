//! Work that comes again and again until shutdown.

use std::time::Duration;

use sealwarden_engine::Node;

/// Does `work` after each pause. A shutdown breaks it off: what was not recorded is done again in the next life.
pub(crate) async fn repeat<W: Future<Output = ()> + Send>(
    node: &Node,
    pause: Duration,
    mut work: impl FnMut() -> W + Send,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            () = node.shutdown.cancelled() => return Ok(()),
            () = work() => {}
        }
    }
}
