//! The input and the outcome of a file's copy, which every route shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stackferry_volume::io::Cancel;
use stackferry_volume::manifest::ByteCounts;
use stackferry_volume::{BlockIndex, BlockMap, HoleMapSource, Sink};

use crate::throttle::Throttle;

/// Receives a copy's progress. Called from several threads, once per block: it must be quick.
pub trait Progress: Send + Sync {
    /// So many more bytes of the file's length are done, whether read, skipped or zero.
    fn done(&self, bytes: u64);
}

/// Ignores progress.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn done(&self, _bytes: u64) {}
}

/// Receives a credential's public name.
pub type OnUse = Arc<dyn Fn(&str) + Send + Sync>;

/// What all files of one transfer share.
#[derive(Clone)]
pub struct CopyContext {
    /// Ends the transfer early.
    pub cancel: Cancel,
    /// Receives the progress.
    pub progress: Arc<dyn Progress>,
    /// The threads that read, hash, compress and write, at least 1.
    pub workers: usize,
    /// The memory that windows, buffers and queues of this transfer may take together, in bytes.
    pub memory: u64,
    /// Limits the bytes read (`local`) or on the wire (all others), together with other transfers.
    pub throttle: Option<Arc<Throttle>>,
    /// Receives the public name of each credential as soon as it has logged in: the copy itself may run long after the
    /// credential has expired. Called on the thread that copies, outside of the runtime.
    pub used: Option<OnUse>,
}

impl CopyContext {
    /// A context for one transfer of several: an equal share of the memory budget, and a thread per core.
    #[must_use]
    pub fn new(cancel: Cancel, progress: Arc<dyn Progress>, memory: u64) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        Self { cancel, progress, workers, memory, throttle: None, used: None }
    }

    pub(crate) fn logged_in(&self, name: &str) {
        if let Some(used) = &self.used {
            used(name);
        }
    }
}

/// One file to copy.
pub struct FileCopy<'a> {
    /// Its path on the datastore.
    pub path: &'a str,
    /// Its length in bytes, as discovery found it.
    pub bytes: u64,
    /// Its time of last change, as discovery found it.
    pub mtime: jiff::Timestamp,
    /// Where its bytes go: of the same length, and empty but for the blocks in `done`.
    pub sink: &'a dyn Sink,
    /// The blocks that are in the sink already and were hashed again: neither read nor sent.
    pub done: BlockMap,
    /// The digests of the last version: a block that equals it is reported, and neither sent nor written.
    pub base: Option<&'a BlockMap>,
}

/// The outcome of one file's copy.
#[derive(Debug, Clone)]
pub struct FileOutcome {
    /// Every block of the file.
    pub blocks: BlockMap,
    /// The blocks that equal the base's and were not written, in ascending order.
    pub same_as_base: Vec<BlockIndex>,
    /// The source of the file's hole map.
    pub hole_map: HoleMapSource,
    /// The bytes touched.
    pub counts: ByteCounts,
    /// The credentials that opened the file.
    pub credentials: u64,
}

/// [`ByteCounts`] that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) read: AtomicU64,
    pub(crate) zero: AtomicU64,
    pub(crate) wire: AtomicU64,
    pub(crate) stored: AtomicU64,
}

impl Counters {
    pub(crate) fn totals(&self, logical: u64) -> ByteCounts {
        ByteCounts {
            logical,
            read: self.read.load(Ordering::Relaxed),
            zero: self.zero.load(Ordering::Relaxed),
            wire: self.wire.load(Ordering::Relaxed),
            stored: self.stored.load(Ordering::Relaxed),
        }
    }
}
