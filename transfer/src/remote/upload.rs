//! Writing one new file onto a datastore of an endpoint, with the write subsystem.
//!
//! A thread reads and checks the version's blocks; this one compresses and sends them, and waits while more than
//! [`MAX_AHEAD`] are not acknowledged. Memory: the waiting blocks, two more, and the SSH window.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stackferry_volume::block::BlockIndex;

use super::client::{CREDENTIAL_LIFE, EndpointClient, IssuedCredential};
use crate::channel::CommandChannel;
use crate::context::CopyContext;
use crate::error::TransferError;
use crate::restore::{Checked, FilePart, FileRestore, PendingFile, Written, read_ahead};
use crate::sanitize::clean;
use crate::ssh::{Connection, SshLogin};
use crate::wait::unless_cancelled;
use crate::wire::block::{Codec, ErrorPayload, Packer, encode_data, run_payload};
use crate::wire::compression::CompressionPolicy;
use crate::wire::control::Direction;
use crate::wire::frame::{Frame, FrameKind, FrameReader, encode};
use crate::wire::upload::{MAX_AHEAD, UploadDone, UploadReady, UploadRequest};
use crate::wire::{PROTOCOL, WRITE_FEATURE, WRITE_SUBSYSTEM};

/// The wait's name in errors.
const WRITING: &str = "writing a file";
/// How long to wait for the reason after a host stopped accepting data: its ERROR frame was received already, or is on the
/// way.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);
/// The smallest receive window: only answers arrive.
const MEMORY: u64 = 4 << 20;

impl EndpointClient {
    /// Writes one new file onto a datastore; see [`FileRestore`]. `issued` gets the credential before it is used, so that
    /// its public name can be recorded.
    ///
    /// # Errors
    /// See [`TransferError`]; `NotAllowed` where the endpoint's `[serve] restore` does not name the datastore, `Exists`,
    /// `NoRoom`, `VersionDamaged`, `Arrived`.
    pub fn write(
        &self,
        datastore: &str,
        file: &FileRestore<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCredential),
    ) -> Result<Written<'_>, TransferError> {
        let hello = self.hello()?;
        if !hello.features.iter().any(|feature| feature == WRITE_FEATURE) {
            let message = format!("{} is an older version, which only reads", clean(&hello.program));
            return Err(TransferError::NotAllowed { host: self.address(), datastore: datastore.to_owned(), message });
        }
        let credential = self
            .issue_to(&context.cancel, datastore, file.path, Direction::Write, CREDENTIAL_LIFE)
            .map_err(|error| explain(error, datastore, file.path))?;
        issued(&credential);
        let written = send(self, file, context, &credential);
        if written.is_err() {
            // Used or not, it is not needed any more. It expires soon, whether or not this succeeds.
            self.revoke_soon(&credential.user);
        }
        written.map_err(|error| explain(error, datastore, file.path))
    }
}

/// The endpoint's error, as what it means for a restore.
fn explain(error: TransferError, datastore: &str, path: &str) -> TransferError {
    let TransferError::Refused { host, code, message } = error else { return error };
    let file = path.to_owned();
    match code.as_str() {
        "exists" => TransferError::Exists { host, file },
        "no_space" => TransferError::NoRoom { host, file, message },
        "not_allowed" => TransferError::NotAllowed { host, datastore: datastore.to_owned(), message },
        "block_mismatch" => TransferError::Arrived { host, file, message },
        _ => TransferError::Refused { host, code, message },
    }
}

fn send<'c>(
    endpoint: &'c EndpointClient,
    file: &FileRestore<'_>,
    context: &CopyContext,
    credential: &IssuedCredential,
) -> Result<Written<'c>, TransferError> {
    let runtime = endpoint.runtime();
    let login = SshLogin::Password(credential.password.clone());
    let connecting = Connection::open(endpoint.peer(), &credential.user, &login, MEMORY, endpoint.timeouts().login);
    let connection = runtime.block_on(unless_cancelled(&context.cancel, connecting))?;
    context.logged_in(&credential.user);
    let starting = connection.subsystem(WRITE_SUBSYSTEM);
    let channel = runtime.block_on(unless_cancelled(&context.cancel, starting))?;
    let channel = CommandChannel::new(connection, channel, None).writing();
    let stall = endpoint.timeouts().stall;
    let mut new =
        EndpointUpload { endpoint, channel, reader: FrameReader::default(), stall, path: file.path.to_owned() };
    match new.send_file(file, context) {
        Ok(stored) => {
            let wire = new.channel.wire;
            Ok(Written { placed: Box::new(new), stored, wire, checked: Checked::Arrival })
        }
        Err(error) => {
            runtime.block_on(new.channel.close());
            Err(error)
        }
    }
}

/// A file at an endpoint that is being written, or complete.
struct EndpointUpload<'c> {
    endpoint: &'c EndpointClient,
    channel: CommandChannel,
    reader: FrameReader,
    stall: Duration,
    path: String,
}

impl EndpointUpload<'_> {
    fn send_file(&mut self, file: &FileRestore<'_>, context: &CopyContext) -> Result<u64, TransferError> {
        let ended = || context.cancel.is_cancelled();
        let new = UploadRequest {
            protocol: PROTOCOL,
            bytes: file.blocks.bytes(),
            mtime: file.mtime,
            blake3: file.blake3,
            needed: file.needed,
        };
        self.ask(
            FrameKind::New,
            &serde_json::to_vec(&new).map_err(|error| self.channel.protocol_error(error.to_string()))?,
        )?;
        let frame = self.answer(FrameKind::Ready, &ended)?;
        let ready: UploadReady = serde_json::from_slice(&frame.payload)
            .map_err(|error| self.channel.protocol_error(format!("READY is invalid: {error}")))?;
        if ready.protocol == 0 || ready.protocol > PROTOCOL {
            return Err(self.channel.protocol_error(format!("it speaks protocol {}", ready.protocol)));
        }
        let mut packer = match ready.codecs.contains(&Codec::Zstd) {
            true => Packer::new().ok(),
            false => None,
        };
        let mut policy = CompressionPolicy::new(1);
        let (mut sent, mut written) = (0u64, 0u64);
        read_ahead(file, &context.cancel, |piece| {
            match piece {
                FilePart::Zero(first, count) => {
                    self.send_bytes(encode(FrameKind::Zero, &run_payload(first, count)))?;
                    let end = BlockIndex(first.0.saturating_add(count)).offset().min(file.blocks.bytes());
                    context.progress.done(end.saturating_sub(first.offset()));
                }
                FilePart::Data(block, bytes, digest) => {
                    while sent - written >= MAX_AHEAD {
                        written = self.acknowledged(written, sent, &ended)?;
                    }
                    let mut frame = Vec::with_capacity(bytes.len() + 64);
                    let pack = packer.as_mut().filter(|_| policy.compress_next());
                    let (packed, began) = (pack.is_some(), Instant::now());
                    encode_data(block, &bytes, &digest, pack, &mut frame);
                    if packed {
                        policy.compressed(bytes.len(), frame.len(), began.elapsed());
                    }
                    let length = frame.len();
                    if let Some(throttle) = &context.throttle {
                        self.endpoint.runtime().block_on(throttle.acquire_async(length as u64, &ended));
                    }
                    let began = Instant::now();
                    self.send_bytes(Bytes::from(frame))?;
                    policy.sent(length, began.elapsed());
                    sent += 1;
                    context.progress.done(bytes.len() as u64);
                }
            }
            Ok(())
        })?;
        while written < sent {
            written = self.acknowledged(written, sent, &ended)?;
        }
        self.ask(FrameKind::Finish, &[])?;
        self.done(&ended)
    }

    fn ask(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), TransferError> {
        self.send_bytes(encode(kind, payload))
    }

    fn send_bytes(&mut self, frame: Bytes) -> Result<(), TransferError> {
        let putting = self.channel.send(frame, self.stall);
        self.endpoint.runtime().block_on(putting).map_err(|error| match error {
            // It may have sent the reason.
            TransferError::Unreachable { .. } => loop {
                match self.next(REASON_TIMEOUT, &|| false) {
                    Ok(frame) if frame.kind == FrameKind::Error => break self.reported(&frame.payload),
                    // An acknowledgement that was still unread.
                    Ok(_) => {}
                    Err(_) => break error,
                }
            },
            other => other,
        })
    }

    fn next(&mut self, timeout: Duration, ended: &dyn Fn() -> bool) -> Result<Frame, TransferError> {
        let Self { channel, reader, .. } = self;
        let since = Instant::now();
        self.endpoint.runtime().block_on(async {
            loop {
                if let Some(frame) = reader.next_frame().map_err(|error| channel.protocol_error(error.to_string()))? {
                    return Ok(frame);
                }
                match channel.next_since(since, WRITING, timeout, ended).await? {
                    Some(data) => reader.push(&data),
                    None => return Err(channel.protocol_error("it ended before the file was complete")),
                }
            }
        })
    }

    fn answer(&mut self, due: FrameKind, ended: &dyn Fn() -> bool) -> Result<Frame, TransferError> {
        let frame = self.next(self.stall, ended)?;
        match frame.kind {
            kind if kind == due => Ok(frame),
            FrameKind::Error => Err(self.reported(&frame.payload)),
            other => Err(self.channel.protocol_error(format!("a frame of type {other:?} where {due:?} is expected"))),
        }
    }

    /// The number of DATA frames that the endpoint has written now.
    fn acknowledged(&mut self, before: u64, sent: u64, ended: &dyn Fn() -> bool) -> Result<u64, TransferError> {
        let frame = self.answer(FrameKind::Taken, ended)?;
        let now = frame.payload.first_chunk::<8>().filter(|_| frame.payload.len() == 8);
        match now.map(|bytes| u64::from_le_bytes(*bytes)) {
            Some(now) if now > before && now <= sent => Ok(now),
            _ => Err(self.channel.protocol_error(format!("a TAKEN frame that does not fit {sent} blocks sent"))),
        }
    }

    fn done(&mut self, ended: &dyn Fn() -> bool) -> Result<u64, TransferError> {
        let frame = self.answer(FrameKind::Done, ended)?;
        let done: UploadDone = serde_json::from_slice(&frame.payload)
            .map_err(|error| self.channel.protocol_error(format!("DONE is invalid: {error}")))?;
        Ok(done.stored)
    }

    fn reported(&self, payload: &[u8]) -> TransferError {
        match serde_json::from_slice::<ErrorPayload>(payload) {
            Ok(failure) => {
                let host = self.channel.address().to_owned();
                TransferError::Refused { host, code: clean(&failure.code), message: clean(&failure.message) }
            }
            Err(error) => self.channel.protocol_error(format!("its ERROR frame is invalid: {error}")),
        }
    }
}

impl PendingFile for EndpointUpload<'_> {
    fn name(&mut self) -> Result<(), TransferError> {
        let named = self.ask(FrameKind::Name, &[]).and_then(|()| self.done(&|| false));
        named.map(|_| ()).map_err(|error| explain(error, "", &self.path))
    }

    fn keep(mut self: Box<Self>) -> Result<(), TransferError> {
        self.ask(FrameKind::Keep, &[])?;
        self.done(&|| false)?;
        let Self { endpoint, channel, .. } = *self;
        endpoint.runtime().block_on(channel.close());
        Ok(())
    }
}
