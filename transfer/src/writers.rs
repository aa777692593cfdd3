//! The workers that process a block once all of its bytes are here, whatever the route: zero check, digest, comparison
//! with the last version, writing; on several threads, while more is received.
//!
//! Memory: [`QUEUE`] waiting blocks, one for each thread, and what the receiving side holds. Buffers are reused.

use std::sync::mpsc::{Receiver as Queue, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use stackferry_volume::block::{BlockIndex, BlockState, Digest, is_zero};

use crate::context::{CopyContext, FileCopy};
use crate::error::TransferError;
use crate::receive::{Receiver, join};

/// Blocks waiting for a thread.
const QUEUE: usize = 2;

/// A block with all its bytes.
pub(crate) struct FullBlock {
    pub(crate) block: BlockIndex,
    pub(crate) bytes: Vec<u8>,
}

/// Where whole blocks go, and buffers come from.
pub(crate) struct Feed {
    queue: SyncSender<FullBlock>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Feed {
    /// A buffer of this length, with arbitrary content.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Queues a block. Waits while the threads are busy, which is the backpressure on the host: the thread that receives
    /// must run nothing else.
    pub(crate) fn send(&self, full: FullBlock) -> Result<(), TransferError> {
        self.queue.send(full).map_err(|_| TransferError::Cancelled)
    }
}

/// Runs `receive` on this thread and the writers on others, until all are done.
pub(crate) fn receive_into(
    receiver: &Receiver<'_>,
    file: &FileCopy<'_>,
    context: &CopyContext,
    receive: impl FnOnce(&Feed) -> Result<(), TransferError>,
) {
    let (queue, blocks) = sync_channel::<FullBlock>(QUEUE);
    let blocks = Arc::new(Mutex::new(blocks));
    let feed = Feed { queue, spare: Arc::default() };
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| receiver.record());
        let workers: Vec<_> = (0..context.workers.max(1))
            .map(|_| {
                // Only the workers hold the queue's receiving end: once all have ended, sending fails instead of blocking.
                let (blocks, spare) = (Arc::clone(&blocks), Arc::clone(&feed.spare));
                scope.spawn(move || receiver.run(|| work(&blocks, &spare, file, receiver)))
            })
            .collect();
        drop(blocks);
        receiver.run(|| receive(&feed));
        drop(feed);
        join(workers);
        receiver.close();
        join([recorder]);
    });
}

fn work(
    blocks: &Mutex<Queue<FullBlock>>,
    spare: &Mutex<Vec<Vec<u8>>>,
    file: &FileCopy<'_>,
    receiver: &Receiver<'_>,
) -> Result<(), TransferError> {
    loop {
        // One worker waits on the queue at a time, the others on the lock.
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(FullBlock { block, bytes }) = next else { return Ok(()) };
        if receiver.ended() {
            return Ok(());
        }
        // A truncated block must never pass for a whole one.
        if bytes.len() != block.len_in(file.bytes) {
            return Err(TransferError::Worker { file: file.path.to_owned() });
        }
        if is_zero(&bytes) {
            receiver.zero(block, 1);
        } else {
            let digest = Digest::of(&bytes);
            if receiver.base_state(block) == BlockState::Data(digest) {
                receiver.same(block, digest);
            } else {
                receiver.data(block, &bytes, digest)?;
            }
        }
        spare.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
