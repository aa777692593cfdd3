//! One connection with one channel, on which a command runs: bytes out, bytes in, and its exit.
//!
//! Every wait here ends: when the host is silent for too long, when the connection breaks, and within [`POLL_INTERVAL`]
//! after cancellation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client};

use crate::error::TransferError;
use crate::sanitize::clean;
use crate::ssh::Connection;
use crate::throttle::Throttle;
use crate::wait::POLL_INTERVAL;

/// The most that is buffered during a send, in bytes: more than is ever requested at once, which is at most the largest
/// window of 16 MiB …
const MAX_BACKLOG_BYTES: usize = 20 << 20;
/// … and in messages: a host with little window sends small ones. One that sends more than was requested, and reads
/// nothing, times out.
const MAX_BACKLOG: usize = 1 << 16;
/// The most that is kept of a command's standard error, in bytes.
const MAX_STDERR: usize = 1 << 10;

pub(crate) struct CommandChannel {
    connection: Connection,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<client::Msg>,
    /// Received during a send.
    backlog: VecDeque<ChannelMsg>,
    throttle: Option<Arc<Throttle>>,
    /// Bytes of the channel in both directions.
    pub(crate) wire: u64,
    stderr: Vec<u8>,
    /// How long the throttle delayed it, in total.
    throttled: Duration,
    status: Option<u32>,
    closed: bool,
    /// Sending fails once the command has ended.
    is_writing: bool,
}

impl CommandChannel {
    pub(crate) fn new(
        connection: Connection,
        channel: russh::Channel<client::Msg>,
        throttle: Option<Arc<Throttle>>,
    ) -> Self {
        let (read, write) = channel.split();
        Self {
            connection,
            read,
            write,
            backlog: VecDeque::new(),
            throttle,
            wire: 0,
            stderr: Vec::new(),
            throttled: Duration::ZERO,
            status: None,
            closed: false,
            is_writing: false,
        }
    }

    /// For commands that mostly receive: [`CommandChannel::send`] fails as soon as the command has ended, and its last
    /// output can still be read.
    pub(crate) fn writing(mut self) -> Self {
        self.is_writing = true;
        self
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.connection.address()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed || self.connection.is_closed()
    }

    /// The exit status, once the command has ended with one.
    pub(crate) fn status(&self) -> Option<u32> {
        self.status
    }

    /// What the command wrote to its standard error, safe to show.
    pub(crate) fn stderr(&self) -> String {
        clean(&String::from_utf8_lossy(&self.stderr))
    }

    pub(crate) fn protocol_error(&self, what: impl Into<String>) -> TransferError {
        TransferError::protocol(self.address(), what)
    }

    pub(crate) async fn send(&mut self, bytes: Bytes, timeout: Duration) -> Result<(), TransferError> {
        let count = bytes.len() as u64;
        let (read, backlog, is_writing) = (&mut self.read, &mut self.backlog, self.is_writing);
        let mut kept: usize = backlog.iter().map(length).sum();
        let sending = async {
            let sent = self.write.data_bytes(bytes);
            tokio::pin!(sent);
            loop {
                // One task of the library carries both directions: while its receive queue is full, it sends nothing.
                // So this also receives meanwhile; that is no more than what was requested.
                tokio::select! {
                    sent = &mut sent => return sent.map_err(|_| ()),
                    received = read.wait(), if kept < MAX_BACKLOG_BYTES && backlog.len() < MAX_BACKLOG => match received {
                        Some(message) => {
                            kept += length(&message);
                            let is_over = matches!(message, ChannelMsg::Close);
                            backlog.push_back(message);
                            if is_over && is_writing {
                                return Err(());
                            }
                        }
                        // The connection is gone: no window will be granted.
                        None if is_writing => return Err(()),
                        None => return sent.await.map_err(|_| ()),
                    },
                }
            }
        };
        // A host that reads nothing grants no window.
        match tokio::time::timeout(timeout, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(())) => return Err(self.connection.disconnected().await),
            Err(_) => return Err(self.stalled("accepting a request", timeout)),
        }
        self.wire += count;
        if let Some(throttle) = &self.throttle {
            // Sends are small, so they don't wait; what comes back does.
            let _ = throttle.count(count);
        }
        Ok(())
    }

    /// The next bytes received; none once the command has ended.
    pub(crate) async fn next(
        &mut self,
        doing: &'static str,
        timeout: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<Bytes>, TransferError> {
        self.next_since(Instant::now(), doing, timeout, ended).await
    }

    /// The same with a wait that started earlier: sending in small pieces does not extend a host's time.
    pub(crate) async fn next_since(
        &mut self,
        mut since: Instant,
        doing: &'static str,
        timeout: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<Bytes>, TransferError> {
        while !self.closed {
            if ended() {
                return Err(TransferError::Cancelled);
            }
            if since.elapsed() > timeout {
                return Err(self.stalled(doing, timeout));
            }
            let received = match self.backlog.pop_front() {
                Some(message) => Ok(Some(message)),
                None => tokio::time::timeout(POLL_INTERVAL.min(timeout), self.read.wait()).await,
            };
            match received {
                Ok(Some(ChannelMsg::Data { data })) => {
                    self.wire += data.len() as u64;
                    if let Some(throttle) = &self.throttle {
                        // While the throttle holds us, the host can't be blamed for its silence.
                        let held = throttle.acquire_async(data.len() as u64, ended).await;
                        since += held;
                        self.throttled += held;
                    }
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(ChannelMsg::ExtendedData { data, .. })) => {
                    self.wire += data.len() as u64;
                    let room = MAX_STDERR.saturating_sub(self.stderr.len());
                    self.stderr.extend(data.iter().take(room));
                }
                Ok(Some(ChannelMsg::ExitStatus { exit_status })) => self.status = Some(exit_status),
                Ok(Some(ChannelMsg::Close)) => self.closed = true,
                Ok(None) => return Err(self.connection.disconnected().await),
                Ok(Some(_)) | Err(_) => {}
            }
        }
        Ok(None)
    }

    pub(crate) fn stalled(&self, doing: &'static str, after: Duration) -> TransferError {
        TransferError::Stalled { host: self.address().to_owned(), doing, after }
    }

    /// Starts to measure progress.
    pub(crate) fn pace(&self) -> Pace {
        Pace { began: Instant::now(), throttled: self.throttled }
    }

    /// Fails where a host sends continuously, but too slowly: it counts as stalled.
    pub(crate) fn keep_pace(&self, pace: &Pace, doing: &'static str, timeout: Duration) -> Result<(), TransferError> {
        let took = pace.began.elapsed().saturating_sub(self.throttled.saturating_sub(pace.throttled));
        if took > timeout.saturating_mul(2) { Err(self.stalled(doing, took)) } else { Ok(()) }
    }

    /// Disconnects.
    pub(crate) async fn close(self) {
        // Unread data in the channel would delay the disconnect.
        drop(self.read);
        self.connection.close().await;
    }
}

/// The start of something that must be complete within twice the timeout: a packet, a line, a block. Time spent in the
/// throttle does not count against the host.
pub(crate) struct Pace {
    began: Instant,
    throttled: Duration,
}

impl Pace {
    /// Leaves out time that was spent on our side.
    pub(crate) fn exclude(&mut self, ours: Duration) {
        self.began += ours;
    }
}

/// The bytes that a message holds.
fn length(message: &ChannelMsg) -> usize {
    match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
        _ => 0,
    }
}
