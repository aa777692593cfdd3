//! Waiting that ends when it is told to.

use std::time::Duration;

use stackferry_volume::io::Cancel;

use crate::error::TransferError;

/// How often something that waits looks whether it should end.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// Waits, but not on once the end was asked for.
///
/// # Errors
/// `Cancelled`, and those of `doing`.
pub(crate) async fn unless_cancelled<T>(
    cancel: &Cancel,
    doing: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        () = cancelled => Err(TransferError::Cancelled),
        done = doing => done,
    }
}
