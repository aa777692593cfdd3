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
    tokio::select! {
        biased;
        () = cancelled(cancel) => Err(TransferError::Cancelled),
        done = doing => done,
    }
}

/// How long what has to be put back at another system may take once the end was asked for.
const LAST_CHANCE: Duration = Duration::from_millis(1500);

/// Waits for something that should still be done when the end was asked for, but then not for long.
///
/// # Errors
/// `Cancelled`, and those of `doing`.
pub(crate) async fn soon_once_cancelled<T, E: Into<TransferError>>(
    cancel: &Cancel,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, TransferError> {
    let over = async {
        cancelled(cancel).await;
        tokio::time::sleep(LAST_CHANCE).await;
    };
    tokio::select! {
        biased;
        done = doing => done.map_err(Into::into),
        () = over => Err(TransferError::Cancelled),
    }
}

async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}
