//! The block subsystem's sending end.
//!
//! Workers walk the hole map, and read, check for zeros, hash, compare and compress blocks. Their frames are sent in the
//! file's order: each block reserves its slot in the queue, under the walker's lock, before it is read. Memory: [`QUEUE`]
//! frames and one per worker, of a block each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stackferry_volume::Entry;
use stackferry_volume::Source;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockState, Digest, is_zero};
use stackferry_volume::holes::HoleMap;
use stackferry_volume::io::Cancel;
use stackferry_volume::local::LocalSource;
use tokio::sync::{mpsc, oneshot};

use super::EndpointState;
use super::channel::{Gone, ServerChannel};
use super::grants::{GrantTarget, Granted};
use crate::local::{is_stale, read_block};
use crate::walk::{WalkStep, Walker};
use crate::wire::PROTOCOL;
use crate::wire::block::{
    Codec, End, ErrorPayload, KnownBlocks, OpenRequest, OpenResponse, Packer, encode_data, run_payload,
};
use crate::wire::compression::CompressionPolicy;
use crate::wire::frame::{Frame, FrameKind, FrameReader, HEADER_BYTES, encode, encode_json};

/// Frames waiting to be sent.
const QUEUE: usize = 4;
/// How long a client may take for each frame of its request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the file of a grant, and checks that it is still the same one.
pub(super) fn open(shared: &EndpointState, target: &GrantTarget) -> Result<LocalSource, ErrorPayload> {
    let fail = |code: &str, message: String| ErrorPayload { code: code.to_owned(), message };
    let source = shared
        .folder(&target.datastore)
        .and_then(|folder| folder.open_file(&target.path))
        .map_err(|error| fail("io", error.to_string()))?;
    match source.identity() {
        Ok(identity) if Some(identity) == target.identity => Ok(source),
        Ok(_) => Err(fail("replaced", format!("{} is another file now", target.shown_path()))),
        Err(error) => Err(fail("io", error.to_string())),
    }
}

pub(super) async fn serve(mut channel: ServerChannel, shared: Arc<EndpointState>, granted: Granted) {
    let result = async {
        let agreed = agree(&mut channel, &shared, &granted.target).await?;
        send(&channel, agreed, &shared, &granted.target).await
    }
    .await;
    let status = match result {
        Ok(()) => 0,
        Err(SendError::Gone) => 1,
        Err(SendError::Report(failure)) => {
            let ErrorPayload { code, message } = &failure;
            tracing::warn!(user = granted.user, path = granted.target.shown_path(), code, why = message, "not sent");
            if let Ok(frame) = encode_json(FrameKind::Error, &failure) {
                // Whether the client still receives it makes no difference.
                let _ = channel.send(frame).await;
            }
            1
        }
    };
    channel.finish(status).await;
}

pub(super) enum SendError {
    /// The client is gone.
    Gone,
    /// Reported to the client.
    Report(ErrorPayload),
}

pub(super) fn refusal(code: &str, message: impl Into<String>) -> SendError {
    SendError::Report(ErrorPayload { code: code.to_owned(), message: message.into() })
}

impl From<Gone> for SendError {
    fn from(_: Gone) -> Self {
        SendError::Gone
    }
}

/// The client's next frame, if it comes in time.
pub(super) async fn next_frame(
    channel: &mut ServerChannel,
    reader: &mut FrameReader,
    timeout: Duration,
) -> Result<Frame, SendError> {
    let frame = async {
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => reader.push(&channel.next().await.ok_or(SendError::Gone)?),
                Err(error) => return Err(refusal("bad_request", error.to_string())),
            }
        }
    };
    let late = || refusal("bad_request", "the next frame did not arrive in time");
    tokio::time::timeout(timeout, frame).await.map_err(|_| late())?
}

/// What to send, and how.
struct SendPlan {
    source: LocalSource,
    map: HoleMap,
    known: KnownBlocks,
    zstd: bool,
}

async fn agree(
    channel: &mut ServerChannel,
    shared: &Arc<EndpointState>,
    target: &GrantTarget,
) -> Result<SendPlan, SendError> {
    let mut reader = FrameReader::default();
    let first = next_frame(channel, &mut reader, REQUEST_TIMEOUT).await?;
    let open_request: OpenRequest = match first.kind {
        FrameKind::Open => {
            serde_json::from_slice(&first.payload).map_err(|error| refusal("bad_request", error.to_string()))?
        }
        _ => return Err(refusal("bad_request", "the first frame must be OPEN")),
    };
    let (shared, target) = (Arc::clone(shared), target.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let source = open(&shared, &target)?;
        let stamp = source.stamp().map_err(|error| ErrorPayload { code: "io".into(), message: error.to_string() })?;
        let holes = source.holes();
        if let Some(why) = holes.distrust {
            let path = target.shown_path();
            tracing::warn!(path, why, "the file system's hole map is not trusted: the whole file is read");
        }
        Ok::<_, ErrorPayload>((source, holes, stamp.0))
    });
    let (source, holes, stamp) = opened
        .await
        .map_err(|_| refusal("internal", "the endpoint failed; its log says why"))?
        .map_err(SendError::Report)?;
    let answer = OpenResponse {
        protocol: PROTOCOL.min(open_request.protocol),
        bytes: source.bytes(),
        mtime: stamp.mtime,
        hole_map: holes.source,
    };
    channel.send(encode_json(FrameKind::Opened, &answer).map_err(|_| SendError::Gone)?).await?;
    let mut known = KnownBlocks::new(source.bytes());
    loop {
        let frame = next_frame(channel, &mut reader, REQUEST_TIMEOUT).await?;
        match frame.kind {
            FrameKind::Known => {
                known
                    .read(&frame.payload)
                    .ok_or_else(|| refusal("bad_request", "a KNOWN frame that does not fit the file"))?;
            }
            FrameKind::Go => break,
            _ => return Err(refusal("bad_request", "KNOWN or GO is expected")),
        }
    }
    Ok(SendPlan { source, map: holes.map, known, zstd: open_request.codecs.contains(&Codec::Zstd) })
}

/// The state that the workers and the sender share.
struct SendJob {
    source: LocalSource,
    map: HoleMap,
    known: KnownBlocks,
    policy: Option<Mutex<CompressionPolicy>>,
    read: AtomicU64,
    cancel: Cancel,
}

async fn send(
    channel: &ServerChannel,
    agreed: SendPlan,
    shared: &Arc<EndpointState>,
    target: &GrantTarget,
) -> Result<(), SendError> {
    let SendPlan { source, map, known, zstd } = agreed;
    let workers = shared.workers;
    let policy = zstd.then(|| Mutex::new(CompressionPolicy::new(workers)));
    let job = Arc::new(SendJob { source, map, known, policy, read: AtomicU64::new(0), cancel: Cancel::default() });
    let (places, queue) = mpsc::channel(QUEUE);
    let reading = tokio::task::spawn_blocking({
        let job = Arc::clone(&job);
        move || read_all(&job, &places, workers)
    });
    let sent = tokio::select! {
        sent = pass_on(channel, job.policy.as_ref(), queue) => sent,
        () = channel.client_finished() => Err(SendError::Gone),
    };
    // The queue is dropped with everything in it, so that the workers end in any case.
    job.cancel.cancel();
    let walked = reading.await.map_err(|_| refusal("internal", "the endpoint failed; its log says why"))?;
    let data_frames = match (sent, walked) {
        (Err(gone), _) => return Err(gone),
        (_, Err(failure)) => return Err(SendError::Report(failure)),
        (Ok(Some(data_frames)), Ok(())) => data_frames,
        (Ok(None), Ok(())) => return Err(refusal("internal", "a worker failed; the log says why")),
    };
    let (shared, target) = (Arc::clone(shared), target.clone());
    let looking = tokio::task::spawn_blocking({
        let job = Arc::clone(&job);
        move || stamp_again(&job.source, &shared, &target)
    });
    let stamp = looking
        .await
        .map_err(|_| refusal("internal", "the endpoint failed; its log says why"))?
        .map_err(SendError::Report)?;
    let end = End { read: job.read.load(Ordering::Relaxed), bytes: stamp.bytes, mtime: stamp.mtime, data_frames };
    Ok(channel.send(encode_json(FrameKind::End, &end).map_err(|_| SendError::Gone)?).await?)
}

/// The file's state after it was read. It is opened again: a network file system asks its server only then, and the name
/// may refer to another file now.
fn stamp_again(source: &LocalSource, shared: &EndpointState, target: &GrantTarget) -> Result<Entry, ErrorPayload> {
    let failed = |error: std::io::Error| {
        let code = if is_stale(&error) { "source_changed" } else { "io" };
        ErrorPayload { code: code.to_owned(), message: error.to_string() }
    };
    let again = open(shared, target)?;
    let (read, now) = (source.stamp().map_err(failed)?.0, again.stamp().map_err(failed)?.0);
    if (read.bytes, read.mtime) != (now.bytes, now.mtime) {
        let message = format!("it was changed at {}", now.mtime);
        return Err(ErrorPayload { code: "source_changed".to_owned(), message });
    }
    Ok(now)
}

/// Where frames are sent.
trait Outlet: Sync {
    fn send(&self, frame: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
}

impl Outlet for ServerChannel {
    async fn send(&self, frame: Bytes) -> Result<(), Gone> {
        ServerChannel::send(self, frame).await
    }
}

/// Sends the workers' frames in order. Returns the number of DATA frames; none where a worker failed, since its block is
/// missing then; the walk's result has the reason.
async fn pass_on(
    out: &impl Outlet,
    policy: Option<&Mutex<CompressionPolicy>>,
    mut queue: mpsc::Receiver<QueueSlot>,
) -> Result<Option<u64>, SendError> {
    let mut data_frames = 0u64;
    let mut runs = RunJoiner::default();
    while let Some(place) = queue.recv().await {
        let Ok(frame) = place.await else { return Ok(None) };
        match runs.take(&frame, Instant::now()) {
            Some(Some(finished)) => out.send(finished).await?,
            Some(None) => {}
            None => {
                if let Some(finished) = runs.finish() {
                    out.send(finished).await?;
                }
                data_frames += 1;
                let (bytes, began) = (frame.len(), Instant::now());
                out.send(frame).await?;
                if let Some(policy) = policy {
                    policy.lock().unwrap_or_else(PoisonError::into_inner).sent(bytes, began.elapsed());
                }
            }
        }
    }
    if let Some(finished) = runs.finish() {
        out.send(finished).await?;
    }
    Ok(Some(data_frames))
}

/// Joins consecutive ZERO frames, and SAME frames, so that a run of zeros is one frame. A run is sent after
/// [`RunJoiner::LONGEST`] at the latest: without frames, a slow disk full of zeros looks like a hung one to the client.
#[derive(Default)]
pub(crate) struct RunJoiner {
    open: Option<(FrameKind, BlockIndex, u64, Instant)>,
}

impl RunJoiner {
    pub(crate) const LONGEST: Duration = Duration::from_secs(1);

    /// Adds a frame of a run, and returns the previous run's frame where that one ends. None for a frame of another kind.
    fn take(&mut self, frame: &Bytes, now: Instant) -> Option<Option<Bytes>> {
        let kind = match frame.first() {
            Some(kind) if *kind == FrameKind::Zero as u8 => FrameKind::Zero,
            Some(kind) if *kind == FrameKind::Same as u8 => FrameKind::Same,
            _ => return None,
        };
        let (first, count) = crate::wire::block::read_run(frame.get(HEADER_BYTES..)?)?;
        if let Some((open, begin, length, since)) = &mut self.open
            && *open == kind
            && begin.0 + *length == first.0
            && now.duration_since(*since) < Self::LONGEST
        {
            *length += count;
            return Some(None);
        }
        let before = self.finish();
        self.open = Some((kind, first, count, now));
        Some(before)
    }

    fn finish(&mut self) -> Option<Bytes> {
        self.open.take().map(|(kind, first, count, _)| encode(kind, &run_payload(first, count)))
    }
}

/// A slot in the queue, for the frame that a worker is building.
type QueueSlot = oneshot::Receiver<Bytes>;

fn read_all(job: &SendJob, places: &mpsc::Sender<QueueSlot>, workers: usize) -> Result<(), ErrorPayload> {
    let walker = Mutex::new(Walker::new(&job.map, &job.known.done));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(|| work(job, &walker, places))).collect();
        let mut result = Ok(());
        for worker in workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => result = Err(failure),
                Err(_) => {
                    result = Err(ErrorPayload {
                        code: "internal".into(),
                        message: "a worker failed; the log says why".into(),
                    })
                }
            }
        }
        result
    })
}

fn work(job: &SendJob, walker: &Mutex<Walker<'_>>, places: &mpsc::Sender<QueueSlot>) -> Result<(), ErrorPayload> {
    let failed = |(offset, error): (u64, std::io::Error)| {
        job.cancel.cancel();
        let is_changed = error.kind() == std::io::ErrorKind::UnexpectedEof || is_stale(&error);
        let code = if is_changed { "source_changed" } else { "io" };
        ErrorPayload { code: code.to_owned(), message: format!("reading at byte {offset} failed: {error}") }
    };
    let mut block_bytes = vec![0u8; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)];
    let mut packer = Packer::new().map_err(|error| failed((0, error)))?;
    loop {
        if job.cancel.is_cancelled() {
            return Ok(());
        }
        let (place, taken) = oneshot::channel();
        let step = {
            let mut walker = walker.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(step) = walker.next().map_err(failed)? else { return Ok(()) };
            // Waiting here blocks the other workers, too, which is the backpressure of a full queue.
            if places.blocking_send(taken).is_err() {
                return Ok(());
            }
            step
        };
        let made = match step {
            WalkStep::Hole { first, count } => encode(FrameKind::Zero, &run_payload(first, count)),
            WalkStep::Read { block, data } => {
                let bytes = block_bytes.get_mut(..block.len_in(job.source.bytes())).unwrap_or_default();
                let read = read_block(&job.source, block, &data, bytes).map_err(failed)?;
                job.read.fetch_add(read, Ordering::Relaxed);
                make(job, block, bytes, &mut packer)
            }
        };
        // A dropped receiver means that the client is gone.
        if place.send(made).is_err() {
            return Ok(());
        }
    }
}

fn make(job: &SendJob, block: BlockIndex, bytes: &[u8], packer: &mut Packer) -> Bytes {
    if is_zero(bytes) {
        return encode(FrameKind::Zero, &run_payload(block, 1));
    }
    let digest = Digest::of(bytes);
    if job.known.base.get(block) == BlockState::Data(digest) {
        return encode(FrameKind::Same, &run_payload(block, 1));
    }
    let mut frame = Vec::with_capacity(crate::wire::block::MAX_DATA_FRAME);
    let policy = job.policy.as_ref();
    let compress = policy.is_some_and(|policy| policy.lock().unwrap_or_else(PoisonError::into_inner).compress_next());
    let began = Instant::now();
    encode_data(block, bytes, &digest, compress.then_some(packer), &mut frame);
    if compress && let Some(policy) = policy {
        policy.lock().unwrap_or_else(PoisonError::into_inner).compressed(bytes.len(), frame.len(), began.elapsed());
    }
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Outlet for Mutex<Vec<Bytes>> {
        async fn send(&self, frame: Bytes) -> Result<(), Gone> {
            self.lock().unwrap().push(frame);
            Ok(())
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_after_a_block_that_failed_to_read() {
        let sent = Mutex::new(Vec::new());
        let (places, queue) = mpsc::channel(QUEUE);
        let data = |name: &'static str| encode(FrameKind::Data, name.as_bytes());
        for made in [Some("first"), None, Some("third")] {
            let (place, taken) = oneshot::channel();
            places.send(taken).await.unwrap();
            // The worker of the second one fails.
            if let Some(name) = made {
                place.send(data(name)).unwrap();
            }
        }
        drop(places);
        assert!(matches!(pass_on(&sent, None, queue).await, Ok(None)));
        assert_eq!(sent.into_inner().unwrap(), [data("first")]);
    }

    #[test]
    fn runs_are_joined_but_not_held_back() {
        let zero = |first, count| encode(FrameKind::Zero, &run_payload(BlockIndex(first), count));
        let same = |first, count| encode(FrameKind::Same, &run_payload(BlockIndex(first), count));
        let mut runs = RunJoiner::default();
        let now = Instant::now();
        assert_eq!(runs.take(&zero(0, 1), now), Some(None));
        assert_eq!(runs.take(&zero(1, 5), now), Some(None));
        assert_eq!(runs.take(&same(6, 1), now), Some(Some(zero(0, 6))));
        assert_eq!(runs.take(&same(8, 1), now), Some(Some(same(6, 1))), "one was skipped");
        assert_eq!(runs.take(&encode(FrameKind::Data, &[]), now), None);
        let later = now + RunJoiner::LONGEST;
        assert_eq!(runs.take(&same(9, 1), later), Some(Some(same(8, 1))), "a run is sent after a second");
        assert_eq!(runs.finish(), Some(same(9, 1)));
        assert_eq!(runs.finish(), None);
    }
}
