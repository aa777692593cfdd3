//! The write subsystem's receiving end: one new file, for a restore.
//!
//! 1. The file is created under a temporary name below its datastore, without following links, where no file has its final
//!    name and there is enough free space.
//! 2. Blocks arrive in order, each once. Each is checked against its digest, and written; zeros stay holes.
//! 3. At the end the whole file's digest must match the request; the file gets its time of last change, and is synced.
//! 4. Only then can it be renamed to its final name, which replaces nothing, and kept.
//!
//! Whatever ends the session before it is kept (an error, a disconnect, a revoked credential) removes the file. Existing
//! files are never changed: see [`NewFile`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, FileDigest, MAX_FILE_BYTES};
use stackferry_volume::local::NewFile;
use stackferry_volume::{FileName, FolderError};

use super::EndpointState;
use super::channel::ServerChannel;
use super::grants::{GrantTarget, Granted};
use super::send::{REQUEST_TIMEOUT, SendError, next_frame, refusal};
use crate::wire::PROTOCOL;
use crate::wire::block::{Codec, DataError, DataFrame, ErrorPayload, read_run};
use crate::wire::frame::{FrameKind, FrameReader, encode, encode_json};
use crate::wire::upload::{MAX_AHEAD_BYTES, UploadDone, UploadReady, UploadRequest};

/// How long a file may wait for its client's next frame: the volume's other files are written meanwhile.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(12 * 3600);

pub(super) async fn serve(mut channel: ServerChannel, shared: Arc<EndpointState>, granted: Granted) {
    channel.allow(MAX_AHEAD_BYTES);
    let path = granted.target.shown_path();
    let status = match receive(&mut channel, &shared, &granted.target).await {
        Ok(bytes) => {
            tracing::info!(target: "audit", user = granted.user, path, bytes, "new file written");
            0
        }
        Err(SendError::Gone) => {
            tracing::warn!(target: "audit", user = granted.user, path, "new file discarded: the client is gone");
            1
        }
        Err(SendError::Report(failure)) => {
            let ErrorPayload { code, message } = &failure;
            tracing::warn!(target: "audit", user = granted.user, path, code, why = message, "new file discarded");
            if let Ok(frame) = encode_json(FrameKind::Error, &failure) {
                // Whether the client still receives it makes no difference.
                let _ = channel.send(frame).await;
            }
            1
        }
    };
    channel.finish(status).await;
}

/// A file system error, as the client sees it.
fn explain(error: &io::Error, doing: &str) -> ErrorPayload {
    let code = match error.kind() {
        io::ErrorKind::AlreadyExists => "exists",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no_space",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "denied",
        io::ErrorKind::InvalidInput => "refused",
        io::ErrorKind::FileTooLarge => "file_too_long",
        _ => "io",
    };
    ErrorPayload { code: code.to_owned(), message: format!("{doing} failed: {error}") }
}

fn explain_folder(error: &FolderError) -> ErrorPayload {
    let code = match error {
        FolderError::Denied { .. } => "denied",
        FolderError::Refused { .. } => "refused",
        FolderError::Unreachable { .. } => "unreachable",
        _ => "io",
    };
    ErrorPayload { code: code.to_owned(), message: crate::describe(error) }
}

/// Step 1. Blocks.
fn begin(shared: &EndpointState, target: &GrantTarget, new: &UploadRequest) -> Result<NewFile, ErrorPayload> {
    let (folder, name) = target.path.rsplit_once('/').unwrap_or(("", &target.path));
    let name =
        FileName::new(name).map_err(|error| ErrorPayload { code: "refused".into(), message: error.to_string() })?;
    let root = shared.folder(&target.datastore).map_err(|error| explain_folder(&error))?;
    let folder = root.make_folder(folder).map_err(|error| explain_folder(&error))?;
    let made = NewFile::create(folder, &name, new.bytes, rand::random());
    let made = made.map_err(|error| explain(&error, "creating the file"))?;
    let free = made.free().map_err(|error| explain(&error, "checking the free space"))?;
    if new.needed > free {
        let message = format!("{} bytes are needed, and {free} are free", new.needed);
        return Err(ErrorPayload { code: "no_space".into(), message });
    }
    Ok(made)
}

/// The file is synced after so many written bytes.
const SYNC_EVERY: u64 = 32 << 20;

/// A file that is being written, and its state.
struct IncomingFile {
    file: NewFile,
    bytes: u64,
    /// Of the received blocks: a file of any length takes the same memory.
    digest: FileDigest,
    stored: u64,
    /// Of these, the bytes that were not synced yet.
    unsynced: u64,
    unpacker: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
    block: Vec<u8>,
}

impl IncomingFile {
    fn order(&self, first: BlockIndex, count: u64) -> Result<(), ErrorPayload> {
        if first.0 == self.digest.came() && count > 0 && count <= self.digest.due() {
            return Ok(());
        }
        let message = format!("{count} blocks from {first} where {} is expected", self.digest.came());
        Err(ErrorPayload { code: "bad_request".into(), message })
    }

    fn zero(&mut self, payload: &[u8]) -> Result<(), ErrorPayload> {
        let run = read_run(payload);
        let (first, count) = run.ok_or_else(|| ErrorPayload {
            code: "bad_request".into(),
            message: "a ZERO frame of a wrong length".into(),
        })?;
        self.order(first, count)?;
        self.digest.zero(count);
        Ok(())
    }

    /// Step 2 for one block. Blocks.
    fn data(&mut self, payload: &Bytes) -> Result<(), ErrorPayload> {
        let bad = |error: DataError| {
            let code = if error == DataError::Digest { "block_mismatch" } else { "bad_request" };
            ErrorPayload { code: code.to_owned(), message: error.to_string() }
        };
        let data = DataFrame::parse(payload).map_err(bad)?;
        self.order(data.block, 1)?;
        let bytes = self.block.get_mut(..data.block.len_in(self.bytes)).unwrap_or_default();
        data.unpack(&mut self.unpacker, &mut self.scratch, bytes).map_err(bad)?;
        let stored = self.file.file().write_at(data.block.offset(), bytes);
        let stored = stored.map_err(|error| explain(&error, "writing"))?;
        self.stored += stored;
        self.unsynced += stored;
        // Syncing everything at the end could take longer than the client waits.
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.file().file().sync_data().map_err(|error| explain(&error, "syncing it"))?;
        }
        self.digest.data(data.digest);
        Ok(())
    }

    /// Step 3. Blocks.
    fn finish(&mut self, new: &UploadRequest) -> Result<(), ErrorPayload> {
        if self.digest.finish() != Some(new.blake3) {
            let message = "the received blocks do not match the file's digest".to_owned();
            return Err(ErrorPayload { code: "block_mismatch".into(), message });
        }
        let untimed = self.file.finish(new.mtime).map_err(|error| explain(&error, "syncing it"))?;
        if let Some(error) = untimed {
            tracing::warn!(%error, "a restored file could not be given its time of last change");
        }
        Ok(())
    }
}

/// Runs blocking work on the file, and returns the file. On failure it is dropped where blocking is allowed, too.
async fn with<T: Send + 'static>(
    mut incoming: Box<IncomingFile>,
    work: impl FnOnce(&mut IncomingFile) -> Result<T, ErrorPayload> + Send + 'static,
) -> Result<(Box<IncomingFile>, T), SendError> {
    let worked = tokio::task::spawn_blocking(move || {
        let done = work(&mut incoming)?;
        Ok::<_, ErrorPayload>((incoming, done))
    });
    worked.await.map_err(|_| refusal("internal", "the endpoint failed; its log says why"))?.map_err(SendError::Report)
}

async fn receive(
    channel: &mut ServerChannel,
    shared: &Arc<EndpointState>,
    target: &GrantTarget,
) -> Result<u64, SendError> {
    let mut reader = FrameReader::default();
    let first = next_frame(channel, &mut reader, REQUEST_TIMEOUT).await?;
    let new: UploadRequest = match first.kind {
        FrameKind::New => {
            serde_json::from_slice(&first.payload).map_err(|error| refusal("bad_request", error.to_string()))?
        }
        _ => return Err(refusal("bad_request", "the first frame must be NEW")),
    };
    if new.bytes > MAX_FILE_BYTES {
        return Err(refusal("bad_request", format!("a file has at most {MAX_FILE_BYTES} bytes")));
    }
    let (shared, target, request) = (Arc::clone(shared), target.clone(), new.clone());
    let made = tokio::task::spawn_blocking(move || {
        let file = begin(&shared, &target, &request)?;
        Ok::<_, ErrorPayload>(Box::new(IncomingFile {
            file,
            bytes: request.bytes,
            digest: FileDigest::new(request.bytes),
            stored: 0,
            unsynced: 0,
            unpacker: zstd::bulk::Decompressor::new().map_err(|error| explain(&error, "allocating memory"))?,
            scratch: Vec::new(),
            block: vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)],
        }))
    });
    let mut incoming = made
        .await
        .map_err(|_| refusal("internal", "the endpoint failed; its log says why"))?
        .map_err(SendError::Report)?;
    let ready = UploadReady { protocol: PROTOCOL.min(new.protocol), codecs: vec![Codec::None, Codec::Zstd] };
    let mut result = channel.send(encode_json(FrameKind::Ready, &ready).map_err(|_| SendError::Gone)?).await;
    let mut written = 0u64;
    let mut stage = UploadStage::Blocks;
    while result.is_ok() {
        let frame = match next_frame(channel, &mut reader, FRAME_TIMEOUT).await {
            Ok(frame) => frame,
            Err(error) => return discard(incoming, error).await,
        };
        let answer = match (stage, frame.kind) {
            (UploadStage::Blocks, FrameKind::Zero) => {
                if let Err(failure) = incoming.zero(&frame.payload) {
                    return discard(incoming, SendError::Report(failure)).await;
                }
                continue;
            }
            (UploadStage::Blocks, FrameKind::Data) => {
                (incoming, ()) = with(incoming, move |incoming| incoming.data(&frame.payload)).await?;
                written += 1;
                encode(FrameKind::Taken, &written.to_le_bytes())
            }
            (UploadStage::Blocks, FrameKind::Finish) => {
                let request = new.clone();
                (incoming, ()) = with(incoming, move |incoming| incoming.finish(&request)).await?;
                stage = UploadStage::Whole;
                done(&incoming)?
            }
            (UploadStage::Whole, FrameKind::Name) => {
                let name =
                    |incoming: &mut IncomingFile| incoming.file.name().map_err(|error| explain(&error, "renaming it"));
                (incoming, ()) = with(incoming, name).await?;
                stage = UploadStage::Named;
                done(&incoming)?
            }
            (UploadStage::Named, FrameKind::Keep) => {
                let answer = done(&incoming)?;
                incoming.file.keep();
                // It is kept whether or not the client still receives the answer.
                let _ = channel.send(answer).await;
                return Ok(new.bytes);
            }
            _ => return discard(incoming, refusal("bad_request", "unexpected frame")).await,
        };
        result = channel.send(answer).await;
    }
    discard(incoming, SendError::Gone).await
}

#[derive(Clone, Copy)]
enum UploadStage {
    Blocks,
    Whole,
    Named,
}

fn done(incoming: &IncomingFile) -> Result<Bytes, SendError> {
    encode_json(FrameKind::Done, &UploadDone { stored: incoming.stored }).map_err(|_| SendError::Gone)
}

/// Removes what was written, on a thread that may block.
async fn discard(incoming: Box<IncomingFile>, why: SendError) -> Result<u64, SendError> {
    let _ = tokio::task::spawn_blocking(move || drop(incoming)).await;
    Err(why)
}
