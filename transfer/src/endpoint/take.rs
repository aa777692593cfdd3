//! The write subsystem's receiving end: one new file, for a restore.
//!
//! 1. The file is made under a temporary name below its datastore, without following links, and where nothing has its
//!    final name; there is room for it.
//! 2. Blocks come in order, each once. Each is checked against its digest, and written; zeros stay holes.
//! 3. At the end the whole file's digest is that which was told at first; the file gets its time and is on the disk.
//! 4. Only then it can be given its name, which replaces nothing, and be kept.
//!
//! Whatever ends the conversation before it is kept (an error, a client that is gone, a credential that is revoked)
//! removes the file. What is there is never changed: see [`NewFile`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, FileDigest, MAX_FILE_BYTES};
use stackferry_volume::local::NewFile;
use stackferry_volume::{FileName, FolderError};

use super::Shared;
use super::grants::{Granted, Target};
use super::line::Line;
use super::send::{Stop, next_frame, tell};
use crate::wire::PROTOCOL;
use crate::wire::block::{Codec, DataError, DataFrame, Failure, read_run};
use crate::wire::frame::{Frame, FrameKind, FrameReader, encode, encode_json};
use crate::wire::place::{Done, MOST_AHEAD_BYTES, New, Ready};

/// How long a file may wait, whole or not, while its client says nothing but that it lives: the other files of the volume
/// are written meanwhile.
pub(crate) const PAUSE: Duration = Duration::from_secs(12 * 3600);

pub(super) async fn serve(mut line: Line, shared: Arc<Shared>, granted: Granted) {
    line.allow(MOST_AHEAD_BYTES);
    let path = granted.target.shown_path();
    let status = match take(&mut line, &shared, &granted.target).await {
        Ok(bytes) => {
            tracing::info!(target: "audit", user = granted.user, path, bytes, "new file written");
            0
        }
        Err(Stop::Gone) => {
            tracing::warn!(target: "audit", user = granted.user, path, "new file given up: the client is gone");
            1
        }
        Err(Stop::Tell(failure)) => {
            let Failure { code, message } = &failure;
            tracing::warn!(target: "audit", user = granted.user, path, code, why = message, "new file given up");
            if let Ok(frame) = encode_json(FrameKind::Error, &failure) {
                // Whether the client still hears it makes no difference.
                let _ = line.put(frame).await;
            }
            1
        }
    };
    line.finish(status).await;
}

/// What the file system said, as it is told.
fn explain(error: &io::Error, doing: &str) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::AlreadyExists => "exists",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no_space",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "denied",
        io::ErrorKind::InvalidInput => "refused",
        io::ErrorKind::FileTooLarge => "file_too_long",
        _ => "io",
    };
    Failure { code: code.to_owned(), message: format!("{doing} failed: {error}") }
}

fn explain_folder(error: &FolderError) -> Failure {
    let code = match error {
        FolderError::Denied { .. } => "denied",
        FolderError::Refused { .. } => "refused",
        FolderError::Unreachable { .. } => "unreachable",
        _ => "io",
    };
    Failure { code: code.to_owned(), message: crate::describe(error) }
}

/// Step 1. Blocks.
fn begin(shared: &Shared, target: &Target, new: &New) -> Result<NewFile, Failure> {
    let (folder, name) = target.path.rsplit_once('/').unwrap_or(("", &target.path));
    let name = FileName::new(name).map_err(|error| Failure { code: "refused".into(), message: error.to_string() })?;
    let root = shared.folder(&target.datastore).map_err(|error| explain_folder(&error))?;
    let folder = root.make_folder(folder).map_err(|error| explain_folder(&error))?;
    let made = NewFile::create(folder, &name, new.bytes, rand::random());
    let made = made.map_err(|error| explain(&error, "making the file"))?;
    let free = made.free().map_err(|error| explain(&error, "looking for room"))?;
    if new.needed > free {
        let message = format!("{} bytes are to be written, and {free} are free", new.needed);
        return Err(Failure { code: "no_space".into(), message });
    }
    Ok(made)
}

/// So much is written before it is brought onto the disk, in bytes.
const SYNC_EVERY: u64 = 32 << 20;

/// The file while it is being written, and what is known of it.
struct Taking {
    file: NewFile,
    bytes: u64,
    /// Of the blocks that came: a file of any length costs the same memory.
    digest: FileDigest,
    stored: u64,
    /// Of these, what was not brought onto the disk yet, in bytes.
    unsynced: u64,
    unpacker: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
    block: Vec<u8>,
}

impl Taking {
    fn order(&self, first: BlockIndex, count: u64) -> Result<(), Failure> {
        if first.0 == self.digest.came() && count > 0 && count <= self.digest.due() {
            return Ok(());
        }
        let message = format!("blocks {first} and {count} more where {} is due", self.digest.came());
        Err(Failure { code: "bad_request".into(), message })
    }

    fn zero(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let run = read_run(payload);
        let (first, count) = run
            .ok_or_else(|| Failure { code: "bad_request".into(), message: "a ZERO frame of a wrong length".into() })?;
        self.order(first, count)?;
        self.digest.zero(count);
        Ok(())
    }

    /// Step 2 for one block. Blocks.
    fn data(&mut self, payload: &Bytes) -> Result<(), Failure> {
        let bad = |error: DataError| {
            let code = if error == DataError::Digest { "block_mismatch" } else { "bad_request" };
            Failure { code: code.to_owned(), message: error.to_string() }
        };
        let data = DataFrame::parse(payload).map_err(bad)?;
        self.order(data.block, 1)?;
        let bytes = self.block.get_mut(..data.block.len_in(self.bytes)).unwrap_or_default();
        data.unpack(&mut self.unpacker, &mut self.scratch, bytes).map_err(bad)?;
        let stored = self.file.file().write_at(data.block.offset(), bytes);
        let stored = stored.map_err(|error| explain(&error, "writing"))?;
        self.stored += stored;
        self.unsynced += stored;
        // The client waits for the end only so long, and a disk can't be told everything then.
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.file().file().sync_data().map_err(|error| explain(&error, "bringing it onto the disk"))?;
        }
        self.digest.data(data.digest);
        Ok(())
    }

    /// Step 3. Blocks.
    fn finish(&mut self, new: &New) -> Result<(), Failure> {
        if self.digest.finish() != Some(new.blake3) {
            let message = "what was sent does not have the file's digest".to_owned();
            return Err(Failure { code: "block_mismatch".into(), message });
        }
        let untimed = self.file.finish(new.mtime).map_err(|error| explain(&error, "bringing it onto the disk"))?;
        if let Some(error) = untimed {
            tracing::warn!(%error, "a restored file could not be given its time of last change");
        }
        Ok(())
    }
}

/// Runs what blocks, and takes back what it worked with. What is dropped on the way is dropped there too.
async fn with<T: Send + 'static>(
    mut taking: Box<Taking>,
    work: impl FnOnce(&mut Taking) -> Result<T, Failure> + Send + 'static,
) -> Result<(Box<Taking>, T), Stop> {
    let worked = tokio::task::spawn_blocking(move || {
        let done = work(&mut taking)?;
        Ok::<_, Failure>((taking, done))
    });
    worked.await.map_err(|_| tell("internal", "the endpoint failed; its log says why"))?.map_err(Stop::Tell)
}

async fn take(line: &mut Line, shared: &Arc<Shared>, target: &Target) -> Result<u64, Stop> {
    let mut reader = FrameReader::default();
    let first = next_frame(line, &mut reader).await?;
    let new: New = match first.kind {
        FrameKind::New => {
            serde_json::from_slice(&first.payload).map_err(|error| tell("bad_request", error.to_string()))?
        }
        _ => return Err(tell("bad_request", "the first frame must be NEW")),
    };
    if new.bytes > MAX_FILE_BYTES {
        return Err(tell("bad_request", format!("a file has at most {MAX_FILE_BYTES} bytes")));
    }
    let (shared, target, told) = (Arc::clone(shared), target.clone(), new.clone());
    let made = tokio::task::spawn_blocking(move || {
        let file = begin(&shared, &target, &told)?;
        Ok::<_, Failure>(Box::new(Taking {
            file,
            bytes: told.bytes,
            digest: FileDigest::new(told.bytes),
            stored: 0,
            unsynced: 0,
            unpacker: zstd::bulk::Decompressor::new().map_err(|error| explain(&error, "making room"))?,
            scratch: Vec::new(),
            block: vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)],
        }))
    });
    let mut taking =
        made.await.map_err(|_| tell("internal", "the endpoint failed; its log says why"))?.map_err(Stop::Tell)?;
    let ready = Ready { protocol: PROTOCOL.min(new.protocol), codecs: vec![Codec::None, Codec::Zstd] };
    let mut result = line.put(encode_json(FrameKind::Ready, &ready).map_err(|_| Stop::Gone)?).await;
    let mut written = 0u64;
    let mut stage = Stage::Blocks;
    while result.is_ok() {
        let frame = match wait(line, &mut reader).await {
            Ok(frame) => frame,
            Err(stop) => return give_up(taking, stop).await,
        };
        let answer = match (stage, frame.kind) {
            (Stage::Blocks, FrameKind::Zero) => {
                if let Err(failure) = taking.zero(&frame.payload) {
                    return give_up(taking, Stop::Tell(failure)).await;
                }
                continue;
            }
            (Stage::Blocks, FrameKind::Data) => {
                (taking, ()) = with(taking, move |taking| taking.data(&frame.payload)).await?;
                written += 1;
                encode(FrameKind::Taken, &written.to_le_bytes())
            }
            (Stage::Blocks, FrameKind::Finish) => {
                let told = new.clone();
                (taking, ()) = with(taking, move |taking| taking.finish(&told)).await?;
                stage = Stage::Whole;
                done(&taking)?
            }
            (Stage::Whole, FrameKind::Name) => {
                let name = |taking: &mut Taking| taking.file.name().map_err(|error| explain(&error, "naming it"));
                (taking, ()) = with(taking, name).await?;
                stage = Stage::Named;
                done(&taking)?
            }
            (Stage::Named, FrameKind::Keep) => {
                let answer = done(&taking)?;
                taking.file.keep();
                // It is kept whether or not the client still hears so.
                let _ = line.put(answer).await;
                return Ok(new.bytes);
            }
            _ => return give_up(taking, tell("bad_request", "this frame is not due")).await,
        };
        result = line.put(answer).await;
    }
    give_up(taking, Stop::Gone).await
}

#[derive(Clone, Copy)]
enum Stage {
    Blocks,
    Whole,
    Named,
}

fn done(taking: &Taking) -> Result<Bytes, Stop> {
    encode_json(FrameKind::Done, &Done { stored: taking.stored }).map_err(|_| Stop::Gone)
}

async fn wait(line: &mut Line, reader: &mut FrameReader) -> Result<Frame, Stop> {
    let frame = async {
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => reader.push(&line.next().await.ok_or(Stop::Gone)?),
                Err(error) => return Err(tell("bad_request", error.to_string())),
            }
        }
    };
    tokio::time::timeout(PAUSE, frame).await.map_err(|_| tell("bad_request", "nothing was asked for in time"))?
}

/// Removes what was written, where blocking does no harm.
async fn give_up(taking: Box<Taking>, why: Stop) -> Result<u64, Stop> {
    let _ = tokio::task::spawn_blocking(move || drop(taking)).await;
    Err(why)
}
