//! Copying one file from an endpoint, over a connection of its own, with a credential of its own.
//!
//! One thread receives frames; it expects each block in order and refuses everything else. Workers decompress each block,
//! check it against its digest and write it. Memory: the SSH window and [`QUEUE`] frames, plus two blocks for each worker.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver as Queue, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::{ChannelMsg, client};
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState};

use super::client::{CREDENTIAL_LIFE, EndpointClient, IssuedCredential};
use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::receive::{Receiver, join};
use crate::sanitize::clean;
use crate::ssh::{Connection, SshLogin};
use crate::throttle::Throttle;
use crate::wait::{POLL_INTERVAL, unless_cancelled};
use crate::wire::block::{
    Codec, DataError, DataFrame, End, ErrorPayload, OpenRequest, OpenResponse, known_payloads, read_run,
};
use crate::wire::control::Direction;
use crate::wire::frame::{Frame, FrameKind, FrameReader, encode, encode_json};
use crate::wire::{BLOCK_SUBSYSTEM, PROTOCOL};

/// Frames waiting for a worker.
const QUEUE: usize = 4;

impl EndpointClient {
    /// Copies one file of a datastore; see [`crate::context::FileCopy`]. `issued` gets the credential before it is used, so
    /// that its public name can be recorded.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn copy(
        &self,
        datastore: &str,
        file: FileCopy<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCredential),
    ) -> Result<FileOutcome, TransferError> {
        let credential = self.issue_to(&context.cancel, datastore, file.path, Direction::Read, CREDENTIAL_LIFE)?;
        issued(&credential);
        let fetched = fetch(self, &file, context, &credential);
        if fetched.is_err() {
            // Used or not, it is not needed any more. It expires soon, whether or not this succeeds.
            self.revoke_soon(&credential.user);
        }
        fetched
    }
}

fn fetch(
    endpoint: &EndpointClient,
    file: &FileCopy<'_>,
    context: &CopyContext,
    credential: &IssuedCredential,
) -> Result<FileOutcome, TransferError> {
    let runtime = endpoint.runtime();
    let login = SshLogin::Password(credential.password.clone());
    let memory = context.throttle.as_ref().map_or(context.memory, |throttle| throttle.bound(context.memory));
    let connecting = Connection::open(endpoint.peer(), &credential.user, &login, memory, endpoint.timeouts().login);
    let connection = runtime.block_on(unless_cancelled(&context.cancel, connecting))?;
    context.logged_in(&credential.user);
    let result = receive(endpoint, file, context, &connection);
    runtime.block_on(connection.close());
    result
}

/// The stream of frames, and the bytes counted.
struct FrameStream<'a> {
    connection: &'a Connection,
    channel: russh::Channel<client::Msg>,
    reader: FrameReader,
    wire: u64,
    stall: Duration,
    throttle: Option<Arc<Throttle>>,
}

impl FrameStream<'_> {
    async fn send(&mut self, frame: Bytes) -> Result<(), TransferError> {
        self.wire += frame.len() as u64;
        if let Some(throttle) = &self.throttle {
            // Sends are small, so they don't wait; what comes back does.
            let _ = throttle.count(frame.len() as u64);
        }
        // A host that reads nothing grants no window.
        match tokio::time::timeout(self.stall, self.channel.data_bytes(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.connection.disconnected().await),
            Err(_) => Err(self.stalled("accepting the request")),
        }
    }

    fn stalled(&self, doing: &'static str) -> TransferError {
        TransferError::Stalled { host: self.connection.address().to_owned(), doing, after: self.stall }
    }

    async fn next(&mut self, ended: &dyn Fn() -> bool) -> Result<Frame, TransferError> {
        let mut since = Instant::now();
        loop {
            let next = self.reader.next_frame();
            if let Some(frame) = next.map_err(|error| self.protocol_error(error.to_string()))? {
                return Ok(frame);
            }
            if ended() {
                return Err(TransferError::Cancelled);
            }
            // Also where data arrives, but never a whole frame.
            if since.elapsed() > self.stall {
                return Err(self.stalled("sending a file"));
            }
            match tokio::time::timeout(POLL_INTERVAL.min(self.stall), self.channel.wait()).await {
                Ok(Some(ChannelMsg::Data { data })) => {
                    self.wire += data.len() as u64;
                    self.reader.push(&data);
                    if let Some(throttle) = &self.throttle {
                        // While the throttle holds us, the host can't be blamed for its silence.
                        since += throttle.acquire_async(data.len() as u64, ended).await;
                    }
                }
                Ok(Some(ChannelMsg::Close) | None) => return Err(self.connection.disconnected().await),
                Ok(Some(_)) | Err(_) => {}
            }
        }
    }

    fn protocol_error(&self, what: impl Into<String>) -> TransferError {
        TransferError::protocol(self.connection.address(), what)
    }

    fn reported(&self, payload: &[u8], path: &str) -> TransferError {
        match serde_json::from_slice::<ErrorPayload>(payload) {
            Ok(failure) if failure.code == "source_changed" || failure.code == "replaced" => {
                TransferError::SourceChanged { file: path.to_owned(), what: clean(&failure.message) }
            }
            Ok(failure) => TransferError::Refused {
                host: self.connection.address().to_owned(),
                code: clean(&failure.code),
                message: clean(&failure.message),
            },
            Err(error) => self.protocol_error(format!("its ERROR frame is invalid: {error}")),
        }
    }
}

fn receive(
    endpoint: &EndpointClient,
    file: &FileCopy<'_>,
    context: &CopyContext,
    connection: &Connection,
) -> Result<FileOutcome, TransferError> {
    let runtime = endpoint.runtime();
    let starting = connection.subsystem(BLOCK_SUBSYSTEM);
    let channel = runtime.block_on(unless_cancelled(&context.cancel, starting))?;
    let mut stream = FrameStream {
        connection,
        channel,
        reader: FrameReader::default(),
        wire: 0,
        stall: endpoint.timeouts().stall,
        throttle: context.throttle.clone(),
    };
    let opened = runtime.block_on(unless_cancelled(&context.cancel, agree(&mut stream, file)))?;
    check(file, opened.bytes, opened.mtime)?;
    let receiver = Receiver::new(file, context)?;
    let (queue, frames) = sync_channel::<DataFrame>(QUEUE);
    let frames = Arc::new(Mutex::new(frames));
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| receiver.record());
        let workers: Vec<_> = (0..context.workers.max(1))
            .map(|_| {
                // Only the workers hold the queue's receiving end: once all have ended, sending fails instead of blocking.
                let frames = Arc::clone(&frames);
                scope.spawn(|| receiver.run(|| work(frames, file, connection.address(), &receiver)))
            })
            .collect();
        drop(frames);
        receiver.run(|| runtime.block_on(receive_all(&mut stream, file, &receiver, queue)));
        join(workers);
        receiver.close();
        join([recorder]);
    });
    receiver.counters.wire.fetch_add(stream.wire, Ordering::Relaxed);
    receiver.finish(opened.hole_map, 1)
}

async fn agree(stream: &mut FrameStream<'_>, file: &FileCopy<'_>) -> Result<OpenResponse, TransferError> {
    let open = OpenRequest { protocol: PROTOCOL, codecs: vec![Codec::None, Codec::Zstd] };
    let open = encode_json(FrameKind::Open, &open).map_err(|error| stream.protocol_error(error.to_string()))?;
    stream.send(open).await?;
    let frame = stream.next(&|| false).await?;
    let opened: OpenResponse = match frame.kind {
        FrameKind::Opened => serde_json::from_slice(&frame.payload)
            .map_err(|error| stream.protocol_error(format!("OPENED is invalid: {error}")))?,
        FrameKind::Error => return Err(stream.reported(&frame.payload, file.path)),
        other => return Err(stream.protocol_error(format!("a frame of type {other:?} where OPENED is expected"))),
    };
    if opened.protocol == 0 || opened.protocol > PROTOCOL {
        return Err(stream.protocol_error(format!("it speaks protocol {}", opened.protocol)));
    }
    for payload in known_payloads(&file.done, file.base) {
        stream.send(encode(FrameKind::Known, &payload)).await?;
    }
    stream.send(encode(FrameKind::Go, &[])).await?;
    Ok(opened)
}

/// The file is what discovery saw.
fn check(file: &FileCopy<'_>, bytes: u64, mtime: jiff::Timestamp) -> Result<(), TransferError> {
    let what = if bytes != file.bytes {
        format!("its length was {} bytes and is {bytes}", file.bytes)
    } else if mtime != file.mtime {
        format!("its time of last change was {} and is {mtime}", file.mtime)
    } else {
        return Ok(());
    };
    Err(TransferError::SourceChanged { file: file.path.to_owned(), what })
}

/// The block expected next: every block once, in order, but for those that were done before.
struct Expected<'a> {
    done: &'a BlockMap,
    next: u64,
}

impl Expected<'_> {
    fn skip_done(&mut self) {
        while self.next < self.done.blocks() && self.done.get(BlockIndex(self.next)) != BlockState::Unknown {
            self.next += 1;
        }
    }

    /// Accepts a run. False where another block is expected, or where it overlaps done blocks or the file's end.
    fn accept(&mut self, first: BlockIndex, count: u64) -> bool {
        self.skip_done();
        let fits = first.0 == self.next && count > 0 && count <= self.done.blocks().saturating_sub(first.0);
        if !fits || (first.0..first.0 + count).any(|block| self.done.get(BlockIndex(block)) != BlockState::Unknown) {
            return false;
        }
        self.next += count;
        true
    }

    fn is_over(&mut self) -> bool {
        self.skip_done();
        self.next >= self.done.blocks()
    }
}

async fn receive_all(
    stream: &mut FrameStream<'_>,
    file: &FileCopy<'_>,
    receiver: &Receiver<'_>,
    queue: SyncSender<DataFrame>,
) -> Result<(), TransferError> {
    let mut expected = Expected { done: &file.done, next: 0 };
    let mut data_frames = 0u64;
    let ended = || receiver.ended();
    loop {
        let frame = stream.next(&ended).await?;
        match frame.kind {
            FrameKind::Zero => {
                let (first, count) =
                    read_run(&frame.payload).ok_or_else(|| stream.protocol_error("a ZERO frame of a wrong length"))?;
                if !expected.accept(first, count) {
                    return Err(stream.protocol_error(format!(
                        "{count} zero blocks from {first} where {} is expected",
                        expected.next
                    )));
                }
                receiver.zero(first, count);
            }
            FrameKind::Same => {
                let (first, count) =
                    read_run(&frame.payload).ok_or_else(|| stream.protocol_error("a SAME frame of a wrong length"))?;
                if !expected.accept(first, count) {
                    return Err(stream.protocol_error(format!(
                        "{count} equal blocks from {first} where {} is expected",
                        expected.next
                    )));
                }
                for block in (first.0..first.0 + count).map(BlockIndex) {
                    let BlockState::Data(digest) = receiver.base_state(block) else {
                        return Err(
                            stream.protocol_error(format!("block {block} is called equal, and was not compared"))
                        );
                    };
                    receiver.same(block, digest);
                }
            }
            FrameKind::Data => {
                let data =
                    DataFrame::parse(&frame.payload).map_err(|error| stream.protocol_error(error.to_string()))?;
                if !expected.accept(data.block, 1) {
                    return Err(
                        stream.protocol_error(format!("block {} where {} is expected", data.block, expected.next))
                    );
                }
                data_frames += 1;
                // This thread runs nothing else: waiting for a worker here is the backpressure on the sender.
                if queue.send(data).is_err() {
                    return Err(TransferError::Cancelled);
                }
            }
            FrameKind::End => {
                let end: End = serde_json::from_slice(&frame.payload)
                    .map_err(|error| stream.protocol_error(format!("END is invalid: {error}")))?;
                if !expected.is_over() || end.data_frames != data_frames {
                    return Err(stream.protocol_error(format!(
                        "it ended at block {} of {}",
                        expected.next,
                        file.done.blocks()
                    )));
                }
                receiver.counters.read.fetch_add(end.read, Ordering::Relaxed);
                return check(file, end.bytes, end.mtime);
            }
            FrameKind::Error => return Err(stream.reported(&frame.payload, file.path)),
            other => return Err(stream.protocol_error(format!("a frame of type {other:?} in the middle of a file"))),
        }
    }
}

fn work(
    frames: Arc<Mutex<Queue<DataFrame>>>,
    file: &FileCopy<'_>,
    host: &str,
    receiver: &Receiver<'_>,
) -> Result<(), TransferError> {
    let mut unpacker = zstd::bulk::Decompressor::new().map_err(|source| receiver.write_error(source))?;
    let mut scratch = Vec::new();
    let mut buffer = vec![0u8; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)];
    loop {
        // One worker waits on the queue at a time, the others on the lock.
        let next = frames.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(data) = next else { return Ok(()) };
        if receiver.ended() {
            return Ok(());
        }
        let bytes = buffer.get_mut(..data.block.len_in(file.bytes)).unwrap_or_default();
        let unpacked = data.unpack(&mut unpacker, &mut scratch, bytes).map_err(|error| match error {
            DataError::Digest => {
                TransferError::BlockMismatch { file: file.path.to_owned(), block: data.block, host: host.to_owned() }
            }
            other => TransferError::protocol(host, format!("block {} of {}: {other}", data.block, file.path)),
        });
        unpacked.and_then(|()| receiver.data(data.block, bytes, data.digest))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_accepted_once_and_in_order() {
        let mut done = BlockMap::new(10 << 20);
        done.set_zero(BlockIndex(3), 2);
        let mut expected = Expected { done: &done, next: 0 };
        assert!(!expected.accept(BlockIndex(1), 1), "one is missing");
        assert!(!expected.accept(BlockIndex(0), 4), "it runs over a block that is done");
        assert!(!expected.accept(BlockIndex(0), 0));
        assert!(expected.accept(BlockIndex(0), 3));
        assert!(!expected.accept(BlockIndex(2), 1), "it repeats a block");
        assert!(!expected.accept(BlockIndex(5), 6), "it runs over the end");
        assert!(!expected.is_over());
        assert!(expected.accept(BlockIndex(5), 5));
        assert!(expected.is_over());
        assert!(!expected.accept(BlockIndex(10), 1));
        assert!(!expected.accept(BlockIndex(u64::MAX), u64::MAX));
    }
}
