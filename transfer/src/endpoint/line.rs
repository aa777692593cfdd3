//! The server's end of the one channel of a connection.
//!
//! A channel whose messages nobody takes stands its whole connection still: the library hands them over one by one, and
//! reads nothing more meanwhile, not even the window adjustments that a blocked sender waits for. So a task of its own
//! takes what the client says from the channel's first moment on, up to [`MOST_UNHEARD`] bytes, and whoever sends
//! stops waiting when the client hangs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::server::Msg;
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};

/// The most bytes that a client may be ahead with its requests: some ten thousand of SFTP's requests to read. One that
/// is further ahead does not wait for answers, and is hung up on.
pub(crate) const MOST_UNHEARD: usize = 4 << 20;
/// How long a client may leave what it asked for unread.
pub(crate) const UNREAD: Duration = Duration::from_secs(600);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hearing {
    Open,
    /// The client sends nothing more, but may read.
    Finished,
    /// The client is gone, or was hung up on.
    Gone,
}

/// The client is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

pub(super) struct Line {
    said: mpsc::UnboundedReceiver<Bytes>,
    unheard: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    hearing: watch::Receiver<Hearing>,
    write: ChannelWriteHalf<Msg>,
}

impl Line {
    /// Takes a channel and begins to listen.
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        let (read, write) = channel.split();
        let (heard, said) = mpsc::unbounded_channel();
        let unheard = Arc::new(AtomicUsize::new(0));
        let (tell, hearing) = watch::channel(Hearing::Open);
        let most = Arc::new(AtomicUsize::new(MOST_UNHEARD));
        tokio::spawn(listen(read, heard, Arc::clone(&unheard), Arc::clone(&most), tell));
        Self { said, unheard, most, hearing, write }
    }

    pub(super) fn id(&self) -> ChannelId {
        self.write.id()
    }

    /// Lets the client be so many bytes ahead.
    pub(super) fn allow(&self, bytes: usize) {
        self.most.store(bytes, Ordering::Relaxed);
    }

    /// What the client said next; none when it sends nothing more.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.said.recv().await?;
        self.unheard.fetch_sub(bytes.len(), Ordering::Relaxed);
        Some(bytes)
    }

    /// Sends, and waits until the client's window has room for it.
    pub(super) async fn put(&self, bytes: Bytes) -> Result<(), Gone> {
        tokio::select! {
            sent = tokio::time::timeout(UNREAD, self.write.data_bytes(bytes)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Gone),
            },
            () = self.reached(Hearing::Gone) => Err(Gone),
        }
    }

    /// Ends when the client sends nothing more, or is gone.
    pub(super) async fn hung_up(&self) {
        self.reached(Hearing::Finished).await;
    }

    async fn reached(&self, hearing: Hearing) {
        // The listener is gone only after it said so, or with the program.
        let _ = self.hearing.clone().wait_for(|now| *now >= hearing).await;
    }

    /// Says how it went, and closes the channel.
    pub(super) async fn finish(self, status: u32) {
        // The client may be gone already: nothing is left to say then.
        let _ = tokio::time::timeout(GOODBYE, async {
            let _ = self.write.exit_status(status).await;
            let _ = self.write.eof().await;
            let _ = self.write.close().await;
        })
        .await;
    }
}

async fn listen(
    mut read: ChannelReadHalf,
    heard: mpsc::UnboundedSender<Bytes>,
    unheard: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    tell: watch::Sender<Hearing>,
) {
    let mut heard = Some(heard);
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if unheard.fetch_add(data.len(), Ordering::Relaxed) + data.len() > most.load(Ordering::Relaxed) {
                    tracing::warn!("a client that does not wait for answers is hung up on");
                    break;
                }
                // Whoever listened may be done; the channel is drained nevertheless.
                if let Some(heard) = &heard {
                    let _ = heard.send(data);
                }
            }
            ChannelMsg::Eof => {
                heard = None;
                tell.send_replace(Hearing::Finished);
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    tell.send_replace(Hearing::Gone);
}
