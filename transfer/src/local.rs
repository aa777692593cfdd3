//! The route `local`: the datastore is mounted here.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use stackferry_volume::Source;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockState, Digest, is_zero};
use stackferry_volume::local::{LocalFolder, LocalSource};

use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::receive::{Receiver, join};
use crate::walk::{WalkStep, Walker};

/// Copies one file of a mounted datastore: reads only what its hole map calls data, once.
///
/// # Errors
/// See [`TransferError`]; `SourceChanged` where the file is not of the length and time that discovery found.
pub fn copy(folder: &LocalFolder, file: FileCopy<'_>, context: &CopyContext) -> Result<FileOutcome, TransferError> {
    let source = folder.open_file(file.path)?;
    check_unchanged(&source, &file)?;
    let receiver = Receiver::new(&file, context)?;
    let holes = source.holes();
    if let Some(why) = holes.distrust {
        tracing::warn!(path = file.path, why, "the file system's hole map is not trusted: the whole file is read");
    }
    let walker = Mutex::new(Walker::new(&holes.map, &file.done));
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| receiver.record());
        let work = || receiver.run(|| work(&source, file.path, &walker, &receiver, context));
        let workers: Vec<_> = (0..context.workers.max(1)).map(|_| scope.spawn(work)).collect();
        join(workers);
        receiver.close();
        join([recorder]);
    });
    let outcome = receiver.finish(holes.source, 0)?;
    check_unchanged(&source, &file)?;
    // A network file system asks its server only on open; and the name may refer to another file now.
    let again = folder.open_file(file.path)?;
    let read = |source| explain_read(file.path, 0, source);
    if again.identity().map_err(read)? != source.identity().map_err(read)? {
        let what = "another file has its name now".to_owned();
        return Err(TransferError::SourceChanged { file: file.path.to_owned(), what });
    }
    check_unchanged(&again, &file)?;
    Ok(outcome)
}

/// The open file is the one that discovery saw.
fn check_unchanged(source: &LocalSource, file: &FileCopy<'_>) -> Result<(), TransferError> {
    let read = |source| explain_read(file.path, 0, source);
    let (now, _) = source.stamp().map_err(read)?;
    let what = if now.bytes != file.bytes {
        format!("its length was {} bytes and is {}", file.bytes, now.bytes)
    } else if now.mtime != file.mtime {
        format!("its time of last change was {} and is {}", file.mtime, now.mtime)
    } else {
        return Ok(());
    };
    Err(TransferError::SourceChanged { file: file.path.to_owned(), what })
}

fn work(
    source: &LocalSource,
    path: &str,
    walker: &Mutex<Walker<'_>>,
    receiver: &Receiver<'_>,
    context: &CopyContext,
) -> Result<(), TransferError> {
    let mut buffer = vec![0u8; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)];
    let read_error = |(offset, source): (u64, io::Error)| explain_read(path, offset, source);
    while !receiver.ended() {
        let step = walker.lock().unwrap_or_else(PoisonError::into_inner).next().map_err(read_error)?;
        match step {
            None => break,
            Some(WalkStep::Hole { first, count }) => receiver.zero(first, count),
            Some(WalkStep::Read { block, data }) => {
                let bytes = buffer.get_mut(..block.len_in(source.bytes())).unwrap_or_default();
                let read = read_block(source, block, &data, bytes).map_err(read_error)?;
                receiver.counters.read.fetch_add(read, Ordering::Relaxed);
                if let Some(throttle) = &context.throttle {
                    throttle.acquire(read, &context.cancel);
                }
                if is_zero(bytes) {
                    receiver.zero(block, 1);
                    continue;
                }
                let digest = Digest::of(bytes);
                if receiver.base_state(block) == BlockState::Data(digest) {
                    receiver.same(block, digest);
                } else {
                    receiver.data(block, bytes, digest)?;
                }
            }
        }
    }
    Ok(())
}

/// A file that ends early was truncated while it was read: that is a change, not a broken disk.
pub(crate) fn explain_read(path: &str, offset: u64, source: io::Error) -> TransferError {
    if source.kind() == io::ErrorKind::UnexpectedEof {
        let what = format!("it ends at byte {offset}");
        return TransferError::SourceChanged { file: path.to_owned(), what };
    }
    if is_stale(&source) {
        let what = "its server has another file in its place, or none".to_owned();
        return TransferError::SourceChanged { file: path.to_owned(), what };
    }
    TransferError::Read { file: path.to_owned(), offset, source }
}

/// Whether the open file no longer exists, as a network file system reports after another machine replaced it.
pub(crate) fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::STALE.raw_os_error())
}

/// Fills a block: its data ranges from the source, zeros between them. Returns the bytes read; on failure, the offset.
pub(crate) fn read_block(
    source: &dyn Source,
    block: BlockIndex,
    data: &[std::ops::Range<usize>],
    bytes: &mut [u8],
) -> Result<u64, (u64, io::Error)> {
    let mut filled = 0;
    let mut read = 0u64;
    for range in data {
        if let Some(gap) = bytes.get_mut(filled..range.start) {
            gap.fill(0);
        }
        if let Some(part) = bytes.get_mut(range.clone()) {
            let offset = block.offset() + range.start as u64;
            source.fill(offset, part)?;
            read += part.len() as u64;
        }
        filled = range.end;
    }
    if let Some(gap) = bytes.get_mut(filled..) {
        gap.fill(0);
    }
    Ok(read)
}
