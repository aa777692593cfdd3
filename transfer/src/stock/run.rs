//! Runs a forced command to its end and hands on what it writes. What it may write is for the caller to limit.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Inner;
use super::command::ASKED;
use crate::error::TransferError;
use crate::line::Line;
use crate::ssh::Connection;

/// How a command ended.
pub(super) struct Ended {
    /// Its exit status; none where it was killed, or broken off by us.
    pub(super) status: Option<u32>,
    /// What it complained of.
    pub(super) complaints: String,
    /// Bytes of the channel in both directions.
    pub(super) wire: u64,
}

/// Runs the command that this connection's certificate forces. `take` is given its output, and may break it off.
pub(super) async fn run(
    inner: &Inner,
    connection: Connection,
    total: Duration,
    ended: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Ended, TransferError> {
    const DOING: &str = "running a command";
    let channel = connection.exec(ASKED).await?;
    let mut line = Line::new(connection, channel, None);
    let began = Instant::now();
    let mut result = Ok(());
    loop {
        match line.next(DOING, inner.patience.answer, ended).await {
            Ok(Some(data)) if take(&data).is_break() => break,
            Ok(Some(_)) if began.elapsed() > total => {
                result = Err(line.silent(DOING, total));
                break;
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    let finished = Ended { status: line.status(), complaints: line.complaints(), wire: line.wire };
    line.close().await;
    result.map(|()| finished)
}
