//! Waiting that ends on cancellation.

use std::time::Duration;

use stackferry_volume::io::Cancel;

use crate::error::TransferError;

/// How often a wait checks for cancellation.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until `doing` is done or the operation is cancelled.
///
/// # Errors
/// `Cancelled`, and those of `doing`.
pub(crate) async fn unless_cancelled<T>(
    cancel: &Cancel,
    doing: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    tokio::select! {
        biased;
        () = cancelled(cancel) => Err(TransferError::Cancelled),
        done = doing => done,
    }
}

/// How long a cleanup at another system may take after cancellation.
const CLEANUP_GRACE: Duration = Duration::from_millis(1500);

/// Waits for a cleanup, which should still be done after cancellation, but only briefly.
///
/// # Errors
/// `Cancelled`, and those of `doing`.
pub(crate) async fn soon_once_cancelled<T, E: Into<TransferError>>(
    cancel: &Cancel,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, TransferError> {
    let over = async {
        cancelled(cancel).await;
        tokio::time::sleep(CLEANUP_GRACE).await;
    };
    tokio::select! {
        biased;
        done = doing => done.map_err(Into::into),
        () = over => Err(TransferError::Cancelled),
    }
}

async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
