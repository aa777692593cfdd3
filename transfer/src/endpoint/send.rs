//! The block subsystem's sending end.
//!
//! A thread walks the hole map and shares the blocks out to workers, who read, look for zeros, hash, compare and
//! compress. What they make goes out in the file's order: each block's place in the queue is taken, under the walker's
//! lock, before it is read. Memory: [`QUEUE`] frames and one per worker, of a block each.

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

use super::Shared;
use super::grants::{Granted, Target};
use super::line::{Gone, Line};
use crate::local::{is_stale, read_block};
use crate::walk::{Step, Walker};
use crate::wire::PROTOCOL;
use crate::wire::block::{Codec, End, Failure, Known, Open, Opened, Packer, encode_data, run_payload};
use crate::wire::frame::{Frame, FrameKind, FrameReader, HEADER_BYTES, encode, encode_json};
use crate::wire::rule::Rule;

/// Frames that wait for the wire.
const QUEUE: usize = 4;
/// How long a client may take to say what it wants.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the file of a grant and makes sure that it is still the same one.
pub(super) fn open(shared: &Shared, target: &Target) -> Result<LocalSource, Failure> {
    let fail = |code: &str, message: String| Failure { code: code.to_owned(), message };
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

pub(super) async fn serve(mut line: Line, shared: Arc<Shared>, granted: Granted) {
    let result = async {
        let agreed = agree(&mut line, &shared, &granted.target).await?;
        send(&line, agreed, &shared, &granted.target).await
    }
    .await;
    let status = match result {
        Ok(()) => 0,
        Err(Stop::Gone) => 1,
        Err(Stop::Tell(failure)) => {
            let Failure { code, message } = &failure;
            tracing::warn!(user = granted.user, path = granted.target.shown_path(), code, why = message, "not sent");
            if let Ok(frame) = encode_json(FrameKind::Error, &failure) {
                // Whether the client still hears it makes no difference.
                let _ = line.put(frame).await;
            }
            1
        }
    };
    line.finish(status).await;
}

pub(super) enum Stop {
    /// The client is not there any more.
    Gone,
    /// The client is told.
    Tell(Failure),
}

pub(super) fn tell(code: &str, message: impl Into<String>) -> Stop {
    Stop::Tell(Failure { code: code.to_owned(), message: message.into() })
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Stop::Gone
    }
}

pub(super) async fn next_frame(line: &mut Line, reader: &mut FrameReader) -> Result<Frame, Stop> {
    let frame = async {
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => reader.push(&line.next().await.ok_or(Stop::Gone)?),
                Err(error) => return Err(tell("bad_request", error.to_string())),
            }
        }
    };
    let late = || tell("bad_request", "nothing was asked for in time");
    tokio::time::timeout(REQUEST_TIMEOUT, frame).await.map_err(|_| late())?
}

/// What is to be sent, and how.
struct Agreed {
    source: LocalSource,
    map: HoleMap,
    known: Known,
    zstd: bool,
}

async fn agree(line: &mut Line, shared: &Arc<Shared>, target: &Target) -> Result<Agreed, Stop> {
    let mut reader = FrameReader::default();
    let first = next_frame(line, &mut reader).await?;
    let open_request: Open = match first.kind {
        FrameKind::Open => {
            serde_json::from_slice(&first.payload).map_err(|error| tell("bad_request", error.to_string()))?
        }
        _ => return Err(tell("bad_request", "the first frame must be OPEN")),
    };
    let (shared, target) = (Arc::clone(shared), target.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let source = open(&shared, &target)?;
        let stamp = source.stamp().map_err(|error| Failure { code: "io".into(), message: error.to_string() })?;
        let holes = source.holes();
        if let Some(why) = holes.distrust {
            let path = target.shown_path();
            tracing::warn!(path, why, "the file system's hole map is not used: all of the file is read");
        }
        Ok::<_, Failure>((source, holes, stamp.0))
    });
    let (source, holes, stamp) =
        opened.await.map_err(|_| tell("internal", "the endpoint failed; its log says why"))?.map_err(Stop::Tell)?;
    let answer = Opened {
        protocol: PROTOCOL.min(open_request.protocol),
        bytes: source.bytes(),
        mtime: stamp.mtime,
        hole_map: holes.source,
    };
    line.put(encode_json(FrameKind::Opened, &answer).map_err(|_| Stop::Gone)?).await?;
    let mut known = Known::new(source.bytes());
    loop {
        let frame = next_frame(line, &mut reader).await?;
        match frame.kind {
            FrameKind::Known => {
                known
                    .take(&frame.payload)
                    .ok_or_else(|| tell("bad_request", "a KNOWN frame that does not fit the file"))?;
            }
            FrameKind::Go => break,
            _ => return Err(tell("bad_request", "KNOWN or GO is expected")),
        }
    }
    Ok(Agreed { source, map: holes.map, known, zstd: open_request.codecs.contains(&Codec::Zstd) })
}

/// What the workers and the sender share.
struct Job {
    source: LocalSource,
    map: HoleMap,
    known: Known,
    rule: Option<Mutex<Rule>>,
    read: AtomicU64,
    cancel: Cancel,
}

async fn send(line: &Line, agreed: Agreed, shared: &Arc<Shared>, target: &Target) -> Result<(), Stop> {
    let Agreed { source, map, known, zstd } = agreed;
    let workers = shared.workers;
    let rule = zstd.then(|| Mutex::new(Rule::new(workers)));
    let job = Arc::new(Job { source, map, known, rule, read: AtomicU64::new(0), cancel: Cancel::default() });
    let (places, queue) = mpsc::channel(QUEUE);
    let reading = tokio::task::spawn_blocking({
        let job = Arc::clone(&job);
        move || read_all(&job, &places, workers)
    });
    let sent = tokio::select! {
        sent = pass_on(line, job.rule.as_ref(), queue) => sent,
        () = line.hung_up() => Err(Stop::Gone),
    };
    // The queue is gone with what was waiting for it, so that the workers end in any case.
    job.cancel.cancel();
    let walked = reading.await.map_err(|_| tell("internal", "the endpoint failed; its log says why"))?;
    let data_frames = match (sent, walked) {
        (Err(gone), _) => return Err(gone),
        (_, Err(failure)) => return Err(Stop::Tell(failure)),
        (Ok(Some(data_frames)), Ok(())) => data_frames,
        (Ok(None), Ok(())) => return Err(tell("internal", "a worker failed; the log says why")),
    };
    let (shared, target) = (Arc::clone(shared), target.clone());
    let looking = tokio::task::spawn_blocking({
        let job = Arc::clone(&job);
        move || stamp_again(&job.source, &shared, &target)
    });
    let stamp =
        looking.await.map_err(|_| tell("internal", "the endpoint failed; its log says why"))?.map_err(Stop::Tell)?;
    let end = End { read: job.read.load(Ordering::Relaxed), bytes: stamp.bytes, mtime: stamp.mtime, data_frames };
    Ok(line.put(encode_json(FrameKind::End, &end).map_err(|_| Stop::Gone)?).await?)
}

/// The file as it is after it was read. It is opened anew: that is when a network file system asks its server, and the
/// name may lead to another file now.
fn stamp_again(source: &LocalSource, shared: &Shared, target: &Target) -> Result<Entry, Failure> {
    let failed = |error: std::io::Error| {
        let code = if is_stale(&error) { "source_changed" } else { "io" };
        Failure { code: code.to_owned(), message: error.to_string() }
    };
    let again = open(shared, target)?;
    let (read, now) = (source.stamp().map_err(failed)?.0, again.stamp().map_err(failed)?.0);
    if (read.bytes, read.mtime) != (now.bytes, now.mtime) {
        let message = format!("it was changed at {}", now.mtime);
        return Err(Failure { code: "source_changed".to_owned(), message });
    }
    Ok(now)
}

/// Where frames go out.
trait Outlet: Sync {
    fn put(&self, frame: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
}

impl Outlet for Line {
    async fn put(&self, frame: Bytes) -> Result<(), Gone> {
        Line::put(self, frame).await
    }
}

/// Sends what the workers make, in order. Gives the number of DATA frames; none where a worker failed, for then its
/// block is missing, and the walk's end tells why.
async fn pass_on(
    out: &impl Outlet,
    rule: Option<&Mutex<Rule>>,
    mut queue: mpsc::Receiver<Place>,
) -> Result<Option<u64>, Stop> {
    let mut data_frames = 0u64;
    let mut runs = Runs::default();
    while let Some(place) = queue.recv().await {
        let Ok(frame) = place.await else { return Ok(None) };
        match runs.take(&frame, Instant::now()) {
            Some(Some(finished)) => out.put(finished).await?,
            Some(None) => {}
            None => {
                if let Some(finished) = runs.finish() {
                    out.put(finished).await?;
                }
                data_frames += 1;
                let (bytes, began) = (frame.len(), Instant::now());
                out.put(frame).await?;
                if let Some(rule) = rule {
                    rule.lock().unwrap_or_else(PoisonError::into_inner).sent(bytes, began.elapsed());
                }
            }
        }
    }
    if let Some(finished) = runs.finish() {
        out.put(finished).await?;
    }
    Ok(Some(data_frames))
}

/// Joins ZERO frames, and SAME frames, that follow each other, so that a dense run of zeros is one frame. A run is let
/// go after [`Runs::LONGEST`]: to a client that hears nothing, a slow disk full of zeros looks like a hung one.
#[derive(Default)]
pub(crate) struct Runs {
    open: Option<(FrameKind, BlockIndex, u64, Instant)>,
}

impl Runs {
    pub(crate) const LONGEST: Duration = Duration::from_secs(1);

    /// Takes a frame of a run: perhaps with the frame of the run before it. None for a frame of another kind.
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

/// A place in the queue: the frame that a worker is making.
type Place = oneshot::Receiver<Bytes>;

fn read_all(job: &Job, places: &mpsc::Sender<Place>, workers: usize) -> Result<(), Failure> {
    let walker = Mutex::new(Walker::new(&job.map, &job.known.done));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(|| work(job, &walker, places))).collect();
        let mut result = Ok(());
        for worker in workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => result = Err(failure),
                Err(_) => {
                    result =
                        Err(Failure { code: "internal".into(), message: "a worker failed; the log says why".into() })
                }
            }
        }
        result
    })
}

fn work(job: &Job, walker: &Mutex<Walker<'_>>, places: &mpsc::Sender<Place>) -> Result<(), Failure> {
    let failed = |(offset, error): (u64, std::io::Error)| {
        job.cancel.cancel();
        let is_changed = error.kind() == std::io::ErrorKind::UnexpectedEof || is_stale(&error);
        let code = if is_changed { "source_changed" } else { "io" };
        Failure { code: code.to_owned(), message: format!("reading at byte {offset} failed: {error}") }
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
            // Waiting here holds the other workers too, which is the point: the queue is full.
            if places.blocking_send(taken).is_err() {
                return Ok(());
            }
            step
        };
        let made = match step {
            Step::Hole { first, count } => encode(FrameKind::Zero, &run_payload(first, count)),
            Step::Read { block, data } => {
                let bytes = block_bytes.get_mut(..block.len_in(job.source.bytes())).unwrap_or_default();
                let read = read_block(&job.source, block, &data, bytes).map_err(failed)?;
                job.read.fetch_add(read, Ordering::Relaxed);
                make(job, block, bytes, &mut packer)
            }
        };
        // A receiver that is gone is a client that is gone.
        if place.send(made).is_err() {
            return Ok(());
        }
    }
}

fn make(job: &Job, block: BlockIndex, bytes: &[u8], packer: &mut Packer) -> Bytes {
    if is_zero(bytes) {
        return encode(FrameKind::Zero, &run_payload(block, 1));
    }
    let digest = Digest::of(bytes);
    if job.known.base.get(block) == BlockState::Data(digest) {
        return encode(FrameKind::Same, &run_payload(block, 1));
    }
    let mut frame = Vec::with_capacity(crate::wire::block::MOST_DATA_FRAME);
    let rule = job.rule.as_ref();
    let compress = rule.is_some_and(|rule| rule.lock().unwrap_or_else(PoisonError::into_inner).compress_next());
    let began = Instant::now();
    encode_data(block, bytes, &digest, compress.then_some(packer), &mut frame);
    if compress && let Some(rule) = rule {
        rule.lock().unwrap_or_else(PoisonError::into_inner).compressed(bytes.len(), frame.len(), began.elapsed());
    }
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Outlet for Mutex<Vec<Bytes>> {
        async fn put(&self, frame: Bytes) -> Result<(), Gone> {
            self.lock().unwrap().push(frame);
            Ok(())
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_after_a_block_that_could_not_be_read() {
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
    fn runs_are_joined_but_not_kept_back() {
        let zero = |first, count| encode(FrameKind::Zero, &run_payload(BlockIndex(first), count));
        let same = |first, count| encode(FrameKind::Same, &run_payload(BlockIndex(first), count));
        let mut runs = Runs::default();
        let now = Instant::now();
        assert_eq!(runs.take(&zero(0, 1), now), Some(None));
        assert_eq!(runs.take(&zero(1, 5), now), Some(None));
        assert_eq!(runs.take(&same(6, 1), now), Some(Some(zero(0, 6))));
        assert_eq!(runs.take(&same(8, 1), now), Some(Some(same(6, 1))), "one was passed over");
        assert_eq!(runs.take(&encode(FrameKind::Data, &[]), now), None);
        let later = now + Runs::LONGEST;
        assert_eq!(runs.take(&same(9, 1), later), Some(Some(same(8, 1))), "a sign of life is due");
        assert_eq!(runs.finish(), Some(same(9, 1)));
        assert_eq!(runs.finish(), None);
    }
}
