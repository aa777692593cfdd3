//! Blocking work beside the asynchronous program.

use stackferry_problem::Problem;

/// Runs blocking work on a thread for it. A panic there is a problem of that work only.
///
/// # Errors
/// The work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Problem::internal("a part of the program failed; its log says where"))
}
