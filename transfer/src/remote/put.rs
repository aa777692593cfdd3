//! Writing one new file onto a datastore of an endpoint, with the write subsystem.
//!
//! A thread reads the version's blocks and checks them; this one packs them, sends them, and waits where more than
//! [`MOST_AHEAD`] were not told to be written. Memory: the blocks that wait, two more, and the SSH window.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stackferry_volume::block::BlockIndex;

use super::ask::{EndpointClient, IssuedCredential};
use super::fetch::CREDENTIAL_LIFE;
use crate::context::CopyContext;
use crate::error::TransferError;
use crate::line::Line;
use crate::restore::{Checked, FileRestore, Piece, Placed, Written, read_ahead};
use crate::ssh::{Connection, Login};
use crate::wait::unless_cancelled;
use crate::wire::block::{Codec, Failure, Packer, encode_data, run_payload};
use crate::wire::control::Direction;
use crate::wire::frame::{Frame, FrameKind, FrameReader, encode};
use crate::wire::place::{Done, MOST_AHEAD, New, Ready};
use crate::wire::rule::Rule;
use crate::wire::{PROTOCOL, WRITE_FEATURE, WRITE_SUBSYSTEM};
use crate::words::clean;

/// What the endpoint is waited for.
const WRITING: &str = "writing a file";
/// How long a host may take to tell why it ended what it was sent: its words are in what came already, or on the way.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The receive window of such a connection is the smallest: nothing but answers comes.
const MEMORY: u64 = 4 << 20;

pub(super) fn write<'c>(
    endpoint: &'c EndpointClient,
    datastore: &str,
    file: &FileRestore<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&IssuedCredential),
) -> Result<Written<'c>, TransferError> {
    let hello = endpoint.hello()?;
    if !hello.features.iter().any(|feature| feature == WRITE_FEATURE) {
        let message = format!("{} is of an older version, which only reads", clean(&hello.program));
        return Err(TransferError::NotAllowed { host: endpoint.address(), datastore: datastore.to_owned(), message });
    }
    let credential = endpoint
        .issue_to(&context.cancel, datastore, file.path, Direction::Write, CREDENTIAL_LIFE)
        .map_err(|error| explain(error, datastore, file.path))?;
    issued(&credential);
    let written = send(endpoint, file, context, &credential);
    if written.is_err() {
        // Used or not, it is of no more use. It dies by itself soon, whatever comes of this.
        endpoint.revoke_soon(&credential.user);
    }
    written.map_err(|error| explain(error, datastore, file.path))
}

/// The endpoint's own words, as what they mean for a restore.
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
    let login = Login::Password(credential.password.clone());
    let connecting = Connection::open(endpoint.peer(), &credential.user, &login, MEMORY, endpoint.patience().login);
    let connection = runtime.block_on(unless_cancelled(&context.cancel, connecting))?;
    context.logged_in(&credential.user);
    let starting = connection.subsystem(WRITE_SUBSYSTEM);
    let channel = runtime.block_on(unless_cancelled(&context.cancel, starting))?;
    let line = Line::new(connection, channel, None).writing();
    let stall = endpoint.patience().stall;
    let mut new = NewFile { endpoint, line, reader: FrameReader::default(), stall, path: file.path.to_owned() };
    match new.send(file, context) {
        Ok(stored) => {
            let wire = new.line.wire;
            Ok(Written { placed: Box::new(new), stored, wire, checked: Checked::Arrival })
        }
        Err(error) => {
            runtime.block_on(new.line.close());
            Err(error)
        }
    }
}

/// A file on its way, or whole, at an endpoint.
struct NewFile<'c> {
    endpoint: &'c EndpointClient,
    line: Line,
    reader: FrameReader,
    stall: Duration,
    path: String,
}

impl NewFile<'_> {
    fn send(&mut self, file: &FileRestore<'_>, context: &CopyContext) -> Result<u64, TransferError> {
        let ended = || context.cancel.is_cancelled();
        let new = New {
            protocol: PROTOCOL,
            bytes: file.blocks.bytes(),
            mtime: file.mtime,
            blake3: file.blake3,
            needed: file.needed,
        };
        self.ask(FrameKind::New, &serde_json::to_vec(&new).map_err(|error| self.line.broke(error.to_string()))?)?;
        let frame = self.answer(FrameKind::Ready, &ended)?;
        let ready: Ready = serde_json::from_slice(&frame.payload)
            .map_err(|error| self.line.broke(format!("READY is not understood: {error}")))?;
        if ready.protocol == 0 || ready.protocol > PROTOCOL {
            return Err(self.line.broke(format!("it speaks protocol {}", ready.protocol)));
        }
        let mut packer = match ready.codecs.contains(&Codec::Zstd) {
            true => Packer::new().ok(),
            false => None,
        };
        let mut rule = Rule::new(1);
        let (mut sent, mut written) = (0u64, 0u64);
        read_ahead(file, &context.cancel, |piece| {
            match piece {
                Piece::Zero(first, count) => {
                    self.put(encode(FrameKind::Zero, &run_payload(first, count)))?;
                    let end = BlockIndex(first.0.saturating_add(count)).offset().min(file.blocks.bytes());
                    context.progress.done(end.saturating_sub(first.offset()));
                }
                Piece::Data(block, bytes, digest) => {
                    while sent - written >= MOST_AHEAD {
                        written = self.taken(written, sent, &ended)?;
                    }
                    let mut frame = Vec::with_capacity(bytes.len() + 64);
                    let pack = packer.as_mut().filter(|_| rule.compress_next());
                    let (packed, began) = (pack.is_some(), Instant::now());
                    encode_data(block, &bytes, &digest, pack, &mut frame);
                    if packed {
                        rule.compressed(bytes.len(), frame.len(), began.elapsed());
                    }
                    let length = frame.len();
                    if let Some(throttle) = &context.throttle {
                        self.endpoint.runtime().block_on(throttle.take_async(length as u64, &ended));
                    }
                    let began = Instant::now();
                    self.put(Bytes::from(frame))?;
                    rule.sent(length, began.elapsed());
                    sent += 1;
                    context.progress.done(bytes.len() as u64);
                }
            }
            Ok(())
        })?;
        while written < sent {
            written = self.taken(written, sent, &ended)?;
        }
        self.ask(FrameKind::Finish, &[])?;
        self.done(&ended)
    }

    fn ask(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), TransferError> {
        self.put(encode(kind, payload))
    }

    fn put(&mut self, frame: Bytes) -> Result<(), TransferError> {
        let putting = self.line.put(frame, self.stall);
        self.endpoint.runtime().block_on(putting).map_err(|error| match error {
            // It may have told why it ended.
            TransferError::Unreachable { .. } => loop {
                match self.next(LAST_WORDS, &|| false) {
                    Ok(frame) if frame.kind == FrameKind::Error => break self.told(&frame.payload),
                    // What it had taken before.
                    Ok(_) => {}
                    Err(_) => break error,
                }
            },
            other => other,
        })
    }

    fn next(&mut self, patience: Duration, ended: &dyn Fn() -> bool) -> Result<Frame, TransferError> {
        let Self { line, reader, .. } = self;
        let since = Instant::now();
        self.endpoint.runtime().block_on(async {
            loop {
                if let Some(frame) = reader.next_frame().map_err(|error| line.broke(error.to_string()))? {
                    return Ok(frame);
                }
                match line.next_since(since, WRITING, patience, ended).await? {
                    Some(data) => reader.push(&data),
                    None => return Err(line.broke("it ended before the file was whole")),
                }
            }
        })
    }

    fn answer(&mut self, due: FrameKind, ended: &dyn Fn() -> bool) -> Result<Frame, TransferError> {
        let frame = self.next(self.stall, ended)?;
        match frame.kind {
            kind if kind == due => Ok(frame),
            FrameKind::Error => Err(self.told(&frame.payload)),
            other => Err(self.line.broke(format!("a frame of type {other:?} where {due:?} is due"))),
        }
    }

    /// The number of DATA frames that are written now.
    fn taken(&mut self, before: u64, sent: u64, ended: &dyn Fn() -> bool) -> Result<u64, TransferError> {
        let frame = self.answer(FrameKind::Taken, ended)?;
        let now = frame.payload.first_chunk::<8>().filter(|_| frame.payload.len() == 8);
        match now.map(|bytes| u64::from_le_bytes(*bytes)) {
            Some(now) if now > before && now <= sent => Ok(now),
            _ => Err(self.line.broke(format!("a TAKEN frame that does not fit {sent} blocks sent"))),
        }
    }

    fn done(&mut self, ended: &dyn Fn() -> bool) -> Result<u64, TransferError> {
        let frame = self.answer(FrameKind::Done, ended)?;
        let done: Done = serde_json::from_slice(&frame.payload)
            .map_err(|error| self.line.broke(format!("DONE is not understood: {error}")))?;
        Ok(done.stored)
    }

    fn told(&self, payload: &[u8]) -> TransferError {
        match serde_json::from_slice::<Failure>(payload) {
            Ok(failure) => {
                let host = self.line.address().to_owned();
                TransferError::Refused { host, code: clean(&failure.code), message: clean(&failure.message) }
            }
            Err(error) => self.line.broke(format!("its failure is not understood: {error}")),
        }
    }
}

impl Placed for NewFile<'_> {
    fn name(&mut self) -> Result<(), TransferError> {
        let named = self.ask(FrameKind::Name, &[]).and_then(|()| self.done(&|| false));
        named.map(|_| ()).map_err(|error| explain(error, "", &self.path))
    }

    fn keep(mut self: Box<Self>) -> Result<(), TransferError> {
        self.ask(FrameKind::Keep, &[])?;
        self.done(&|| false)?;
        let Self { endpoint, line, .. } = *self;
        endpoint.runtime().block_on(line.close());
        Ok(())
    }
}
