//! Runs a forced command to its end and passes on its output. The caller limits the output.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::StockInner;
use super::command::PLACEHOLDER;
use crate::channel::CommandChannel;
use crate::error::TransferError;
use crate::ssh::Connection;

/// How a command ended.
pub(super) struct CommandEnd {
    /// Its exit status; none where it was killed or stopped.
    pub(super) status: Option<u32>,
    /// Its standard error.
    pub(super) stderr: String,
    /// Bytes of the channel in both directions.
    pub(super) wire: u64,
}

/// Runs the command that this connection's certificate forces. `take` receives its output, and may stop it.
pub(super) async fn run(
    inner: &StockInner,
    connection: Connection,
    total: Duration,
    ended: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<CommandEnd, TransferError> {
    const DOING: &str = "running a command";
    let channel = connection.exec(PLACEHOLDER).await?;
    let mut channel = CommandChannel::new(connection, channel, None);
    let began = Instant::now();
    let mut result = Ok(());
    loop {
        match channel.next(DOING, inner.timeouts.answer, ended).await {
            Ok(Some(data)) if take(&data).is_break() => break,
            Ok(Some(_)) if began.elapsed() > total => {
                result = Err(channel.stalled(DOING, total));
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
    let finished = CommandEnd { status: channel.status(), stderr: channel.stderr(), wire: channel.wire };
    channel.close().await;
    result.map(|()| finished)
}
