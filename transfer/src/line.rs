//! One connection with one channel on it, on which a forced command runs: bytes out, bytes in, and the end.
//!
//! Whatever waits here ends: when the host says nothing for too long, when the connection breaks, and within
//! [`LOOK`] when the copy is to end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client};

use crate::error::TransferError;
use crate::ssh::Connection;
use crate::throttle::Throttle;
use crate::wait::LOOK;
use crate::words::clean;

/// The most that is kept while something is sent, in bytes: more than is ever asked for at once, which is at most the
/// largest window of 16 MiB …
const MOST_BACKLOG_BYTES: usize = 20 << 20;
/// … and in messages: a host that is short of window sends small ones. One that sends more than was asked, and takes nothing, is given up as silent.
const MOST_BACKLOG: usize = 1 << 16;
/// The most that is kept of a command's complaints, in bytes.
const MOST_COMPLAINTS: usize = 1 << 10;

pub(crate) struct Line {
    connection: Connection,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<client::Msg>,
    /// What came while something was sent.
    backlog: VecDeque<ChannelMsg>,
    throttle: Option<Arc<Throttle>>,
    /// Bytes of the channel in both directions.
    pub(crate) wire: u64,
    complaints: Vec<u8>,
    /// For how long the throttle held it back, in all.
    held: Duration,
    status: Option<u32>,
    over: bool,
    /// Sending ends when the command does.
    is_writing: bool,
}

impl Line {
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
            complaints: Vec::new(),
            held: Duration::ZERO,
            status: None,
            over: false,
            is_writing: false,
        }
    }

    /// One by which more is sent than comes: [`Line::put`] fails as soon as the command has ended, and what it said last can
    /// still be read.
    pub(crate) fn writing(mut self) -> Self {
        self.is_writing = true;
        self
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.connection.address()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.over || self.connection.is_closed()
    }

    /// The exit status, once the command has ended and told one.
    pub(crate) fn status(&self) -> Option<u32> {
        self.status
    }

    /// What the command wrote to its standard error, fit to be shown.
    pub(crate) fn complaints(&self) -> String {
        clean(&String::from_utf8_lossy(&self.complaints))
    }

    pub(crate) fn broke(&self, what: impl Into<String>) -> TransferError {
        TransferError::protocol(self.address(), what)
    }

    pub(crate) async fn put(&mut self, bytes: Bytes, patience: Duration) -> Result<(), TransferError> {
        let count = bytes.len() as u64;
        let (read, backlog, is_writing) = (&mut self.read, &mut self.backlog, self.is_writing);
        let mut kept: usize = backlog.iter().map(length).sum();
        let sending = async {
            let sent = self.write.data_bytes(bytes);
            tokio::pin!(sent);
            loop {
                // One task of the library carries both directions: while it waits for room for what came in, nothing
                // goes out. So what comes is taken meanwhile; it is no more than what was asked for.
                tokio::select! {
                    sent = &mut sent => return sent.map_err(|_| ()),
                    came = read.wait(), if kept < MOST_BACKLOG_BYTES && backlog.len() < MOST_BACKLOG => match came {
                        Some(message) => {
                            kept += length(&message);
                            let is_over = matches!(message, ChannelMsg::Close);
                            backlog.push_back(message);
                            if is_over && is_writing {
                                return Err(());
                            }
                        }
                        // The connection is gone: there is no room to come.
                        None if is_writing => return Err(()),
                        None => return sent.await.map_err(|_| ()),
                    },
                }
            }
        };
        // A host that takes nothing leaves no room to send into.
        match tokio::time::timeout(patience, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(())) => return Err(self.connection.broken().await),
            Err(_) => return Err(self.silent("taking what it is asked", patience)),
        }
        self.wire += count;
        if let Some(throttle) = &self.throttle {
            // Little is sent; what comes back waits for it.
            let _ = throttle.count(count);
        }
        Ok(())
    }

    /// The next bytes as they come; none once the command has ended.
    pub(crate) async fn next(
        &mut self,
        doing: &'static str,
        patience: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<Bytes>, TransferError> {
        self.next_since(Instant::now(), doing, patience, ended).await
    }

    /// The same, where it is waited since then already: a host that says little by little gets no more time by it.
    pub(crate) async fn next_since(
        &mut self,
        mut since: Instant,
        doing: &'static str,
        patience: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<Bytes>, TransferError> {
        while !self.over {
            if ended() {
                return Err(TransferError::Cancelled);
            }
            if since.elapsed() > patience {
                return Err(self.silent(doing, patience));
            }
            let came = match self.backlog.pop_front() {
                Some(message) => Ok(Some(message)),
                None => tokio::time::timeout(LOOK.min(patience), self.read.wait()).await,
            };
            match came {
                Ok(Some(ChannelMsg::Data { data })) => {
                    self.wire += data.len() as u64;
                    if let Some(throttle) = &self.throttle {
                        // While we take nothing, the host can't be blamed for its silence.
                        let held = throttle.take_async(data.len() as u64, ended).await;
                        since += held;
                        self.held += held;
                    }
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(ChannelMsg::ExtendedData { data, .. })) => {
                    self.wire += data.len() as u64;
                    let room = MOST_COMPLAINTS.saturating_sub(self.complaints.len());
                    self.complaints.extend(data.iter().take(room));
                }
                Ok(Some(ChannelMsg::ExitStatus { exit_status })) => self.status = Some(exit_status),
                Ok(Some(ChannelMsg::Close)) => self.over = true,
                Ok(None) => return Err(self.connection.broken().await),
                Ok(Some(_)) | Err(_) => {}
            }
        }
        Ok(None)
    }

    pub(crate) fn silent(&self, doing: &'static str, after: Duration) -> TransferError {
        TransferError::Silent { host: self.address().to_owned(), doing, after }
    }

    /// Begins to measure how much comes.
    pub(crate) fn pace(&self) -> Pace {
        Pace { began: Instant::now(), held: self.held }
    }

    /// A host that sends something all the time, but never enough, is given up as a silent one.
    pub(crate) fn keep_pace(&self, pace: &Pace, doing: &'static str, patience: Duration) -> Result<(), TransferError> {
        let took = pace.began.elapsed().saturating_sub(self.held.saturating_sub(pace.held));
        if took > patience.saturating_mul(2) { Err(self.silent(doing, took)) } else { Ok(()) }
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        // A channel with something unread in it would hold up the goodbye.
        drop(self.read);
        self.connection.close().await;
    }
}

/// Since when something is waited for that has to be whole within twice the patience: a packet, a line, a block. What
/// the throttle held back does not count against the host.
pub(crate) struct Pace {
    began: Instant,
    held: Duration,
}

impl Pace {
    /// So much of the time was ours.
    pub(crate) fn forgive(&mut self, ours: Duration) {
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
