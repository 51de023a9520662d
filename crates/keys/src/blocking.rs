//! Key operations that block: files and locks.

use crate::error::KeyError;

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(KeyError::Unavailable {
            reason: format!("the key operation was ended: {error}"),
        }),
    }
}
