//! Copying a file by SFTP: the hole map first, where the host can provide one; then many reads in flight.
//!
//! The receiving thread requests reads along the map as replies arrive, and assembles the replies to blocks. Replies may
//! arrive in any order and be shorter than requested; what is missing is requested again. Memory: the SSH window, as much
//! again for the blocks that are being assembled, and what [`crate::writers`] takes.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, is_zero};
use stackferry_volume::holes::HoleMap;
use stackferry_volume::{FolderError, HoleMapSource};
use tokio::runtime::Handle;

use super::command::{self, SFTP_READ};
use super::map::{MapReader, SAMPLES, says_not_found};
use super::run::run;
use super::sftp::{OpenHandle, Sftp};
use super::{IssuedCert, Purpose, StockInner, check_unchanged, whole_seconds};
use crate::channel::Pace;
use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::receive::Receiver;
use crate::sftp::{Attributes, SftpReply, code};
use crate::wait::unless_cancelled;
use crate::walk::{WalkStep, Walker};
use crate::writers::{Feed, FullBlock, receive_into};

/// The bytes of one read: with 16 and more in flight the fastest that was measured against OpenSSH.
const READ_BYTES: u32 = 128 << 10;
/// For a server that returns less, reads shrink to what it returns, but no further than this.
const LEAST_READ_BYTES: u32 = 4 << 10;
/// The most reads in flight, whatever the window.
const MAX_READS: usize = 256;
/// Smaller files are read whole: requesting their hole map would take longer.
pub(crate) const MAP_FROM: u64 = 8 << 20;

pub(super) fn copy(
    inner: &StockInner,
    path: &str,
    file: FileCopy<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&IssuedCert),
) -> Result<FileOutcome, TransferError> {
    // Fails before a credential is issued.
    let receiver = Receiver::new(&file, context)?;
    let answer = if file.bytes >= MAP_FROM && inner.python().is_worth_it(Instant::now()) {
        ask_for_map(inner, path, &file, context, issued)?
    } else {
        HoleMapAnswer::default()
    };
    let connection = inner.log_in_for(Purpose::Sftp, SFTP_READ, context, issued)?;
    let cancelled = || context.cancel.is_cancelled();
    let starting = Sftp::start(connection, context.throttle.clone(), inner.timeouts.answer, &cancelled);
    let Some(mut sftp) = inner.runtime.block_on(starting)? else {
        return Err(TransferError::protocol(&inner.address(), "its SFTP server ended at once"));
    };
    let address = inner.address();
    let stall = inner.timeouts.stall;
    let host = SftpHost { runtime: &inner.runtime, address: &address, root: &inner.root, stall };
    let received = receive(&host, path, &file, context, &receiver, answer.map, &mut sftp);
    receiver.counters.wire.fetch_add(answer.wire + sftp.wire(), Ordering::Relaxed);
    inner.runtime.block_on(sftp.close());
    receiver.finish(received?, 1 + answer.credentials)
}

/// The result of requesting the hole map.
#[derive(Default)]
struct HoleMapAnswer {
    map: Option<HoleMap>,
    credentials: u64,
    wire: u64,
}

fn ask_for_map(
    inner: &StockInner,
    path: &str,
    file: &FileCopy<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&IssuedCert),
) -> Result<HoleMapAnswer, TransferError> {
    let connection = inner.log_in_for(Purpose::HoleMap, &command::hole_map(path), context, issued)?;
    let cancelled = || context.cancel.is_cancelled();
    let mut reader = MapReader::default();
    let mut take = |data: &[u8]| reader.push(data);
    let running = run(inner, connection, inner.timeouts.stall, &cancelled, &mut take);
    let ended = match inner.runtime.block_on(running) {
        Ok(ended) => ended,
        Err(error @ (TransferError::Cancelled | TransferError::Unreachable { .. })) => return Err(error),
        // A host that runs no commands can still be read. sshd also refuses one when it can't start a process at the moment.
        Err(error) => {
            inner.python().has_failed(Instant::now());
            let error = crate::describe(&error);
            tracing::info!(host = inner.address(), path = file.path, error, "no hole map");
            return Ok(HoleMapAnswer { credentials: u64::from(reader.has_run()), ..HoleMapAnswer::default() });
        }
    };
    if !reader.has_run() {
        let (host, status, stderr) = (inner.address(), ended.status, &ended.stderr);
        if says_not_found(status, stderr) {
            inner.python().is_missing(Instant::now());
            tracing::info!(
                host,
                stderr,
                "this host has no python3 for its user, so its files are read with their holes"
            );
        } else {
            inner.python().has_failed(Instant::now());
            tracing::info!(
                host,
                path = file.path,
                status,
                stderr,
                "python3 did not run: this file is read with its holes"
            );
        }
        return Ok(HoleMapAnswer { map: None, credentials: 0, wire: ended.wire });
    }
    inner.python().has_run();
    let map = reader.finish(file.bytes, whole_seconds(file.mtime));
    if let Err(why) = &map {
        tracing::info!(host = inner.address(), path, why, stderr = ended.stderr, "the hole map is not used");
    }
    Ok(HoleMapAnswer { map: map.ok(), credentials: 1, wire: ended.wire })
}

/// A host with an SFTP session.
pub(crate) struct SftpHost<'a> {
    pub(crate) runtime: &'a Handle,
    /// `host:port`.
    pub(crate) address: &'a str,
    /// The datastore's folder there.
    pub(crate) root: &'a str,
    /// How long it may take to send the next part of a file.
    pub(crate) stall: Duration,
}

/// Reads a file into the receiver. An error returned here happened before the first block; a later one is the receiver's.
pub(crate) fn receive(
    host: &SftpHost<'_>,
    path: &str,
    file: &FileCopy<'_>,
    context: &CopyContext,
    receiver: &Receiver<'_>,
    map: Option<HoleMap>,
    sftp: &mut Sftp,
) -> Result<HoleMapSource, TransferError> {
    let opening = async {
        let handle = open(host, path, file, sftp).await?;
        let map = match map {
            Some(map) if holes_are_zero(host, file, context, receiver, &map, &handle, sftp).await? => Some(map),
            _ => None,
        };
        Ok((handle, map))
    };
    let (handle, map) = host.runtime.block_on(unless_cancelled(&context.cancel, opening))?;
    let source = if map.is_some() { HoleMapSource::Host } else { HoleMapSource::None };
    let map = map.unwrap_or_else(|| HoleMap::all(file.bytes));
    receive_into(receiver, file, context, |feed| {
        let mut fetch = Fetch {
            stall: host.stall,
            file,
            receiver,
            feed,
            sftp,
            handle: &handle,
            walker: Walker::new(&map, &file.done),
            more: true,
            pieces: VecDeque::new(),
            in_flight: HashMap::new(),
            blocks: HashMap::new(),
            read_bytes: READ_BYTES,
            pace: None,
            got: 0,
            most: max_reads(context),
        };
        host.runtime.block_on(async {
            fetch.all().await?;
            check(host, file, fetch.sftp.fstat(&handle).await.map_err(|error| error.for_file(file.path))?)
        })
    });
    Ok(source)
}

/// As many reads in flight as fit into the window.
fn max_reads(context: &CopyContext) -> usize {
    let memory = context.throttle.as_ref().map_or(context.memory, |throttle| throttle.bound(context.memory));
    let reads = crate::ssh::window(memory) / READ_BYTES;
    usize::try_from(reads).unwrap_or(MAX_READS).clamp(1, MAX_READS)
}

/// Opens the file if it is the one that discovery saw.
async fn open(
    host: &SftpHost<'_>,
    path: &str,
    file: &FileCopy<'_>,
    sftp: &mut Sftp,
) -> Result<OpenHandle, TransferError> {
    let refused = |why| FolderError::Refused { path: file.path.to_owned(), why };
    match sftp.stat_below(host.root, path).await.map_err(|error| error.for_file(file.path))? {
        Some(attributes) if attributes.is_file() => {}
        Some(_) => return Err(refused("it is no regular file").into()),
        None => return Err(refused("it is or passes a symbolic link").into()),
    }
    let handle = sftp.open(path).await.map_err(|error| error.for_file(file.path))?;
    check(host, file, sftp.fstat(&handle).await.map_err(|error| error.for_file(file.path))?)?;
    Ok(handle)
}

fn check(host: &SftpHost<'_>, file: &FileCopy<'_>, attributes: Attributes) -> Result<(), TransferError> {
    let (Some(bytes), Some(mtime)) = (attributes.bytes, attributes.mtime) else {
        let what = "it does not report a file's length and time of last change";
        return Err(TransferError::protocol(host.address, what));
    };
    check_unchanged(file, bytes, i64::from(mtime))
}

/// Samples places that the map calls holes.
async fn holes_are_zero(
    host: &SftpHost<'_>,
    file: &FileCopy<'_>,
    context: &CopyContext,
    receiver: &Receiver<'_>,
    map: &HoleMap,
    handle: &OpenHandle,
    sftp: &mut Sftp,
) -> Result<bool, TransferError> {
    let mut pending = HashMap::new();
    for (offset, bytes) in map.samples(SAMPLES) {
        pending.insert(sftp.send_read(handle, offset, bytes).await?, (offset, bytes));
    }
    let mut all_zero = true;
    while !pending.is_empty() {
        let (number, reply) = sftp.next_reply(host.stall, &|| context.cancel.is_cancelled()).await?;
        let Some((offset, bytes)) = pending.remove(&number) else {
            return Err(sftp.protocol_error(format!("a reply to request {number}, which was not sent")));
        };
        let zero = match reply {
            SftpReply::Data(data) if u32::try_from(data.len()).is_ok_and(|got| (1..=bytes).contains(&got)) => {
                receiver.counters.read.fetch_add(data.len() as u64, Ordering::Relaxed);
                is_zero(&data)
            }
            SftpReply::Status { .. } => false,
            _ => return Err(sftp.protocol_error("a reply of the wrong type or length to read")),
        };
        if !zero && all_zero {
            all_zero = false;
            tracing::warn!(
                host = host.address,
                path = file.path,
                offset,
                "the hole map calls data a hole: it is not used"
            );
        }
    }
    Ok(all_zero)
}

/// A part of a block to read, in bytes from the block's start.
#[derive(Debug, Clone)]
struct ReadRange {
    block: BlockIndex,
    part: Range<usize>,
}

/// A block that is being assembled.
struct PartialBlock {
    bytes: Vec<u8>,
    missing: usize,
}

struct Fetch<'a> {
    stall: Duration,
    file: &'a FileCopy<'a>,
    receiver: &'a Receiver<'a>,
    feed: &'a Feed,
    sftp: &'a mut Sftp,
    handle: &'a OpenHandle,
    walker: Walker<'a>,
    /// Whether the walker has more.
    more: bool,
    /// To be requested.
    pieces: VecDeque<ReadRange>,
    /// Requested, by the request's number.
    in_flight: HashMap<u32, ReadRange>,
    blocks: HashMap<BlockIndex, PartialBlock>,
    read_bytes: u32,
    most: usize,
    /// The start of the block's worth of data that is arriving.
    pace: Option<Pace>,
    got: u64,
}

impl Fetch<'_> {
    async fn all(&mut self) -> Result<(), TransferError> {
        loop {
            while self.in_flight.len() < self.most
                && let Some(piece) = self.next_piece()?
            {
                let offset = piece.block.offset() + piece.part.start as u64;
                let bytes = u32::try_from(piece.part.len()).unwrap_or(READ_BYTES);
                let number = self.sftp.send_read(self.handle, offset, bytes).await?;
                self.in_flight.insert(number, piece);
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            let receiver = self.receiver;
            let (number, reply) = self.sftp.next_reply(self.stall, &|| receiver.ended()).await?;
            self.take(number, reply)?;
            self.keep_pace()?;
        }
    }

    /// A block's worth of data has to arrive in the time that a host has for a block, however small its replies are.
    fn keep_pace(&mut self) -> Result<(), TransferError> {
        if self.got >= BLOCK_BYTES {
            self.pace = None;
            self.got = 0;
        }
        let pace = self.pace.get_or_insert_with(|| self.sftp.pace());
        self.sftp.keep_pace(pace, self.stall)
    }

    /// The next range to request, of at most one read. Reports the holes before it.
    fn next_piece(&mut self) -> Result<Option<ReadRange>, TransferError> {
        while self.pieces.is_empty() && self.more {
            let step = self.walker.next();
            match step.map_err(|(offset, source)| crate::local::explain_read(self.file.path, offset, source))? {
                None => self.more = false,
                Some(WalkStep::Hole { first, count }) => {
                    if self.receiver.ended() {
                        return Err(TransferError::Cancelled);
                    }
                    self.receiver.zero(first, count);
                }
                Some(WalkStep::Read { block, data }) => self.begin(block, data),
            }
        }
        let Some(mut piece) = self.pieces.pop_front() else { return Ok(None) };
        let most = usize::try_from(self.read_bytes).unwrap_or(1 << 16);
        if piece.part.len() > most {
            let middle = piece.part.start + most;
            self.pieces.push_front(ReadRange { block: piece.block, part: middle..piece.part.end });
            piece.part.end = middle;
        }
        Ok(Some(piece))
    }

    fn begin(&mut self, block: BlockIndex, data: Vec<Range<usize>>) {
        let len = block.len_in(self.file.bytes);
        let mut bytes = self.feed.buffer(len);
        let missing = data.iter().map(Range::len).sum();
        if missing < len {
            bytes.fill(0);
        }
        self.blocks.insert(block, PartialBlock { bytes, missing });
        self.pieces.extend(data.into_iter().map(|part| ReadRange { block, part }));
    }

    fn take(&mut self, number: u32, reply: SftpReply) -> Result<(), TransferError> {
        let Some(ReadRange { block, part }) = self.in_flight.remove(&number) else {
            return Err(self.sftp.protocol_error(format!("a reply to request {number}, which was not sent")));
        };
        let data = match reply {
            SftpReply::Data(data) if (1..=part.len()).contains(&data.len()) => data,
            SftpReply::Status { code: code::EOF, .. } => {
                let what = format!("it ends before byte {}", block.offset() + part.end as u64);
                return Err(TransferError::SourceChanged { file: self.file.path.to_owned(), what });
            }
            SftpReply::Status { code: code::OK, .. } => {
                return Err(self.sftp.protocol_error("a reply to read that has no data and no error"));
            }
            SftpReply::Status { code, message } => {
                let source = std::io::Error::other(format!("the host says: {message} (SFTP status {code})"));
                let offset = block.offset() + part.start as u64;
                return Err(TransferError::Read { file: self.file.path.to_owned(), offset, source });
            }
            _ => return Err(self.sftp.protocol_error("a reply of the wrong type or length to read")),
        };
        self.receiver.counters.read.fetch_add(data.len() as u64, Ordering::Relaxed);
        let Some(growing) = self.blocks.get_mut(&block) else {
            return Err(TransferError::Worker { file: self.file.path.to_owned() });
        };
        let got = part.start..part.start + data.len();
        if let Some(place) = growing.bytes.get_mut(got.clone()) {
            place.copy_from_slice(&data);
        }
        self.got += data.len() as u64;
        growing.missing = growing.missing.saturating_sub(data.len());
        if got.end < part.end {
            let length = u32::try_from(data.len()).unwrap_or(READ_BYTES);
            self.read_bytes = self.read_bytes.min(length.max(LEAST_READ_BYTES));
            self.pieces.push_front(ReadRange { block, part: got.end..part.end });
        }
        if growing.missing == 0
            && let Some(PartialBlock { bytes, .. }) = self.blocks.remove(&block)
        {
            let before = Instant::now();
            self.feed.send(FullBlock { block, bytes })?;
            if let Some(pace) = &mut self.pace {
                pace.exclude(before.elapsed());
            }
        }
        Ok(())
    }
}
