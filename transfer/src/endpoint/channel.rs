//! The server's end of the one channel of a connection.
//!
//! A channel whose messages are not read blocks its whole connection: the library passes them on one by one, and reads
//! nothing more meanwhile, not even the window adjustments that a blocked sender waits for. So a task of its own receives
//! from the channel's start on, up to [`MAX_UNREAD`] bytes ahead, and a sender stops waiting when the client disconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::server::Msg;
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};

/// The most bytes that a client may be ahead with its requests: some ten thousand SFTP read requests. One that is further
/// ahead does not wait for answers, and is disconnected.
pub(crate) const MAX_UNREAD: usize = 4 << 20;
/// How long a client may leave sent data unread.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// How long closing the channel may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClientState {
    Open,
    /// The client sends nothing more, but may read.
    Finished,
    /// The client is gone, or was disconnected.
    Gone,
}

/// The client has disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

pub(super) struct ServerChannel {
    received: mpsc::UnboundedReceiver<Bytes>,
    unread: Arc<AtomicUsize>,
    max_unread: Arc<AtomicUsize>,
    state: watch::Receiver<ClientState>,
    write: ChannelWriteHalf<Msg>,
}

impl ServerChannel {
    /// Wraps a channel and starts to receive.
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        let (read, write) = channel.split();
        let (sender, received) = mpsc::unbounded_channel();
        let unread = Arc::new(AtomicUsize::new(0));
        let (state_sender, state) = watch::channel(ClientState::Open);
        let max_unread = Arc::new(AtomicUsize::new(MAX_UNREAD));
        tokio::spawn(listen(read, sender, Arc::clone(&unread), Arc::clone(&max_unread), state_sender));
        Self { received, unread, max_unread, state, write }
    }

    pub(super) fn id(&self) -> ChannelId {
        self.write.id()
    }

    /// Allows the client to be so many bytes ahead.
    pub(super) fn allow(&self, bytes: usize) {
        self.max_unread.store(bytes, Ordering::Relaxed);
    }

    /// The next data from the client; none once it sends nothing more.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.received.recv().await?;
        self.unread.fetch_sub(bytes.len(), Ordering::Relaxed);
        Some(bytes)
    }

    /// Sends, and waits for the client's window.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        tokio::select! {
            sent = tokio::time::timeout(READ_TIMEOUT, self.write.data_bytes(bytes)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Gone),
            },
            () = self.reached(ClientState::Gone) => Err(Gone),
        }
    }

    /// Ends when the client sends nothing more, or is gone.
    pub(super) async fn client_finished(&self) {
        self.reached(ClientState::Finished).await;
    }

    async fn reached(&self, state: ClientState) {
        // The receiving task ends only after the state says so, or with the program.
        let _ = self.state.clone().wait_for(|now| *now >= state).await;
    }

    /// Sends the exit status, and closes the channel.
    pub(super) async fn finish(self, status: u32) {
        // The client may be gone already.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            let _ = self.write.exit_status(status).await;
            let _ = self.write.eof().await;
            let _ = self.write.close().await;
        })
        .await;
    }
}

async fn listen(
    mut read: ChannelReadHalf,
    sender: mpsc::UnboundedSender<Bytes>,
    unread: Arc<AtomicUsize>,
    max_unread: Arc<AtomicUsize>,
    state_sender: watch::Sender<ClientState>,
) {
    let mut sender = Some(sender);
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if unread.fetch_add(data.len(), Ordering::Relaxed) + data.len() > max_unread.load(Ordering::Relaxed) {
                    tracing::warn!("a client that does not wait for answers is disconnected");
                    break;
                }
                // The receiver may be done; the channel is drained anyway.
                if let Some(sender) = &sender {
                    let _ = sender.send(data);
                }
            }
            ChannelMsg::Eof => {
                sender = None;
                state_sender.send_replace(ClientState::Finished);
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    state_sender.send_replace(ClientState::Gone);
}
