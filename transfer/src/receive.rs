//! The receiving end of every route: it writes blocks and records them as done.
//!
//! Order, so that a crash at any point loses at most [`MAX_UNRECORDED`] bytes of work and never trusts a byte that is
//! not on the disk:
//!  1. a block is checked against its digest, before it gets here;
//!  2. it is written to the sink (page cache);
//!  3. a thread of its own collects all blocks written so far, has the sink sync them to the disk, and only then has it
//!     record them (`Sink::checkpoint`);
//!  4. writers wait while more than [`MAX_UNRECORDED`] bytes are written and not recorded.

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use stackferry_volume::block::{BlockIndex, BlockMap, BlockState, Digest};
use stackferry_volume::{HoleMapSource, Sink};

use crate::context::{CopyContext, Counters, FileCopy, FileOutcome};
use crate::error::TransferError;

/// Blocks are recorded once so many bytes are waiting.
const RECORD_AT: u64 = 12 << 20;
/// Writers wait while so many bytes are written and not recorded. An interrupted copy reads these again, and what was in
/// flight: together less than 64 MiB.
pub(crate) const MAX_UNRECORDED: u64 = 32 << 20;

pub(crate) struct Receiver<'a> {
    path: &'a str,
    sink: &'a dyn Sink,
    base: Option<&'a BlockMap>,
    context: &'a CopyContext,
    pub(crate) counters: Counters,
    state: Mutex<ReceiveState>,
    changed: Condvar,
}

struct ReceiveState {
    blocks: BlockMap,
    same_as_base: Vec<BlockIndex>,
    waiting: Vec<(BlockIndex, BlockState)>,
    /// Bytes written and not recorded yet.
    unrecorded: u64,
    /// Bytes in `waiting`, and how many of them were written.
    waiting_bytes: u64,
    waiting_written: u64,
    closed: bool,
    failed: Option<TransferError>,
}

impl<'a> Receiver<'a> {
    /// # Errors
    /// `Write` where the sink or its block map has another length than the file: the copy would look complete and not be.
    pub(crate) fn new(file: &FileCopy<'a>, context: &'a CopyContext) -> Result<Self, TransferError> {
        if [file.sink.bytes(), file.done.bytes()] != [file.bytes; 2] {
            let what = "the copy or its record has another length than the file";
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
            return Err(TransferError::Write { file: file.path.to_owned(), source });
        }
        let state = ReceiveState {
            blocks: file.done.clone(),
            same_as_base: Vec::new(),
            waiting: Vec::new(),
            unrecorded: 0,
            waiting_bytes: 0,
            waiting_written: 0,
            closed: false,
            failed: None,
        };
        Ok(Self {
            path: file.path,
            sink: file.sink,
            base: file.base,
            context,
            counters: Counters::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, ReceiveState> {
        // A thread that panicked with the lock held failed the copy; the state is only read to say so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest that the last version has for this block.
    pub(crate) fn base_state(&self, block: BlockIndex) -> BlockState {
        self.base.map_or(BlockState::Unknown, |base| base.get(block))
    }

    /// Marks blocks that are zero at the source. They are holes in the sink already.
    pub(crate) fn zero(&self, first: BlockIndex, count: u64) {
        let bytes = self.sink.bytes();
        let end = BlockIndex(first.0.saturating_add(count)).offset().min(bytes);
        let zero = end.saturating_sub(first.offset());
        self.counters.zero.fetch_add(zero, Ordering::Relaxed);
        self.lock().blocks.set_zero(first, count);
        self.context.progress.done(zero);
    }

    /// Marks a block that equals the last version's. It is recorded like one that was written, so that an interrupted copy
    /// need not read it again: [`crate::resume`] finds it in the base.
    pub(crate) fn same(&self, block: BlockIndex, digest: Digest) {
        let bytes = block.len_in(self.sink.bytes()) as u64;
        let mut state = self.lock();
        state.blocks.set(block, BlockState::Data(digest));
        state.same_as_base.push(block);
        state.waiting.push((block, BlockState::Data(digest)));
        state.waiting_bytes += bytes;
        if state.waiting_bytes >= RECORD_AT {
            self.changed.notify_all();
        }
        drop(state);
        self.context.progress.done(bytes);
    }

    /// Writes a block whose bytes were checked against `digest`.
    pub(crate) fn data(&self, block: BlockIndex, bytes: &[u8], digest: Digest) -> Result<(), TransferError> {
        let stored = self.sink.write_at(block.offset(), bytes).map_err(|source| self.write_error(source))?;
        self.counters.stored.fetch_add(stored, Ordering::Relaxed);
        let mut state = self.lock();
        state.blocks.set(block, BlockState::Data(digest));
        state.waiting.push((block, BlockState::Data(digest)));
        state.waiting_bytes += bytes.len() as u64;
        state.waiting_written += bytes.len() as u64;
        state.unrecorded += bytes.len() as u64;
        if state.waiting_bytes >= RECORD_AT {
            self.changed.notify_all();
        }
        while state.unrecorded > MAX_UNRECORDED && state.failed.is_none() && !self.context.cancel.is_cancelled() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let failed = state.failed.is_some();
        drop(state);
        self.context.progress.done(bytes.len() as u64);
        if failed || self.context.cancel.is_cancelled() { Err(TransferError::Cancelled) } else { Ok(()) }
    }

    /// Keeps the first failure, and wakes all threads so that they end.
    pub(crate) fn fail(&self, error: TransferError) {
        let mut state = self.lock();
        // The failures that follow the first one are `Cancelled` or similar, and say less.
        if state.failed.is_none() || matches!(state.failed, Some(TransferError::Cancelled)) {
            state.failed = Some(error);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the copy failed or was cancelled.
    pub(crate) fn ended(&self) -> bool {
        self.context.cancel.is_cancelled() || self.lock().failed.is_some()
    }

    pub(crate) fn write_error(&self, source: std::io::Error) -> TransferError {
        TransferError::Write { file: self.path.to_owned(), source }
    }

    /// Records blocks as they are written, until [`Receiver::close`]. Runs on a thread of its own. An interrupted copy
    /// resumes from the record, so this records what it can after a failure, too.
    pub(crate) fn record(&self) {
        // Writers wait for this thread: a panic must not leave them waiting.
        let _guard = PanicGuard(self);
        loop {
            let mut state = self.lock();
            while state.waiting_bytes < RECORD_AT && !state.closed && state.failed.is_none() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let last = state.closed || state.failed.is_some();
            let waiting = std::mem::take(&mut state.waiting);
            state.waiting_bytes = 0;
            let written = std::mem::take(&mut state.waiting_written);
            drop(state);
            if !waiting.is_empty()
                && let Err(error) = self.sink.checkpoint(&waiting)
            {
                self.fail(self.write_error(error));
                return;
            }
            let mut state = self.lock();
            state.unrecorded = state.unrecorded.saturating_sub(written);
            let done = last && state.waiting.is_empty();
            drop(state);
            self.changed.notify_all();
            if done {
                return;
            }
        }
    }

    /// Runs one worker. Its failure stops the others at once.
    pub(crate) fn run(&self, work: impl FnOnce() -> Result<(), TransferError>) {
        let _guard = PanicGuard(self);
        if let Err(error) = work() {
            self.fail(error);
        }
    }

    /// Declares that no more blocks come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The copy's outcome, once all threads have ended.
    pub(crate) fn finish(self, hole_map: HoleMapSource, credentials: u64) -> Result<FileOutcome, TransferError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failed {
            return Err(error);
        }
        if self.context.cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        // Every route covers every block before it ends; a missing one is a defect, and must not be committed.
        if !state.blocks.is_complete() {
            return Err(TransferError::Worker { file: self.path.to_owned() });
        }
        let mut same_as_base = state.same_as_base;
        same_as_base.sort_unstable();
        let counts = self.counters.totals(state.blocks.bytes());
        Ok(FileOutcome { blocks: state.blocks, same_as_base, hole_map, counts, credentials })
    }
}

/// Fails the copy when its thread panics.
struct PanicGuard<'r, 'a>(&'r Receiver<'a>);

impl Drop for PanicGuard<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(TransferError::Worker { file: self.0.path.to_owned() });
        }
    }
}

/// Waits for all threads of a copy. A panic was reported by its [`PanicGuard`], and must not spread to the caller.
pub(crate) fn join<'s>(threads: impl IntoIterator<Item = std::thread::ScopedJoinHandle<'s, ()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}
