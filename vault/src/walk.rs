//! Reading a version's blocks and checking each against its digest, with several threads.
//!
//! Memory: one block for each thread, and the digests that the manifest holds anyway. Holes are not read: where the
//! file system says there is no data, the bytes are zero.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use stackferry_volume::block::is_zero;
use stackferry_volume::io::{Cancel, Source};
use stackferry_volume::local::LocalSource;
use stackferry_volume::manifest::FileRecord;
use stackferry_volume::{BlockIndex, BlockState, Digest};

use crate::VaultError;
use crate::damage::{Damage, MAX_DAMAGE};

/// The maximum number of threads that read one version.
const MAX_THREADS: usize = 64;
/// How many runs of blocks one thread takes at a time, so that each reads some way in sequence.
const BATCH: usize = 8;

/// A file of a version, opened.
pub(crate) struct OpenedFile<'a> {
    pub(crate) record: &'a FileRecord,
    pub(crate) source: LocalSource,
}

enum WalkEvent {
    Done(u64),
    Damage(usize, Damage),
    Failed(VaultError),
}

/// What is given each block with data, once it was checked: the file's place in the list, the block, its bytes.
pub(crate) type BlockVisitor<'a> = &'a (dyn Fn(usize, BlockIndex, &[u8]) -> Result<(), VaultError> + Sync);

/// Checks every block of these files, in no order. Ends at the first damage if `stop` is set, and at [`MAX_DAMAGE`].
/// `progress` receives the bytes done so far, zeros included.
pub(crate) fn walk(
    op: &'static str,
    files: &[OpenedFile<'_>],
    threads: NonZeroUsize,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64),
    stop: bool,
    visit: BlockVisitor<'_>,
) -> Result<Vec<Damage>, VaultError> {
    let runs =
        files.iter().enumerate().flat_map(|(file, opened)| opened.record.blocks.runs().map(move |run| (file, run)));
    let queue = Mutex::new(runs);
    let take = || -> Vec<_> {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.by_ref().take(BATCH).collect()
    };
    for opened in files {
        opened.source.forget(0..opened.source.bytes());
    }
    let ended = AtomicBool::new(false);
    let is_ended = || ended.load(Ordering::Relaxed) || cancel.is_cancelled();
    let threads = threads.get().min(MAX_THREADS);
    let (sender, events) = sync_channel(threads * 2);
    let (mut damage, mut failure, mut done) = (Vec::new(), None, 0u64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, take, is_ended) = (sender.clone(), &take, &is_ended);
            scope.spawn(move || {
                let mut checker = Checker { files, sender, buf: Vec::new(), visit, is_ended };
                loop {
                    let batch = take();
                    if batch.is_empty() {
                        return;
                    }
                    for (file, run) in batch {
                        if is_ended() || checker.run(file, run.first, run.count, run.state).is_none() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        for event in events {
            match event {
                WalkEvent::Done(bytes) => {
                    done += bytes;
                    progress(done);
                }
                WalkEvent::Damage(file, found) => {
                    damage.push((file, found));
                    if stop || damage.len() >= MAX_DAMAGE {
                        ended.store(true, Ordering::Relaxed);
                    }
                }
                WalkEvent::Failed(error) => {
                    failure.get_or_insert(error);
                    ended.store(true, Ordering::Relaxed);
                }
            }
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    if cancel.is_cancelled() {
        return Err(VaultError::Cancelled { op });
    }
    damage.sort_by_key(|(file, found)| (*file, found.block));
    damage.truncate(MAX_DAMAGE);
    Ok(damage.into_iter().map(|(_, found)| found).collect())
}

/// One thread's work.
struct Checker<'a, 'f> {
    files: &'a [OpenedFile<'f>],
    sender: SyncSender<WalkEvent>,
    buf: Vec<u8>,
    visit: BlockVisitor<'a>,
    is_ended: &'a (dyn Fn() -> bool + Sync),
}

impl Checker<'_, '_> {
    /// Checks a run; none if nobody listens any more.
    fn run(&mut self, file: usize, first: BlockIndex, count: u64, state: BlockState) -> Option<()> {
        let opened = self.files.get(file)?;
        let bytes = opened.record.blocks.bytes();
        let end = first.offset().saturating_add(count.saturating_mul(stackferry_volume::BLOCK_BYTES)).min(bytes);
        if let BlockState::Data(_) = state {
            match self.block(opened, first, state) {
                Ok(()) => {
                    let len = first.len_in(bytes);
                    if let Err(error) = (self.visit)(file, first, self.buf.get(..len).unwrap_or_default()) {
                        self.sender.send(WalkEvent::Failed(error)).ok()?;
                    }
                }
                Err(found) => self.sender.send(WalkEvent::Damage(file, found)).ok()?,
            }
        } else {
            let mut at = first.offset();
            while at < end && !(self.is_ended)() {
                let block = match opened.source.next_data(at) {
                    Ok(Some(data)) if data.start < end => BlockIndex::at(data.start),
                    Ok(_) => break,
                    // Reading shows it, and is tried twice.
                    Err(_) => BlockIndex::at(at),
                };
                if let Err(found) = self.block(opened, block, BlockState::Zero) {
                    self.sender.send(WalkEvent::Damage(file, found)).ok()?;
                }
                at = block.offset().saturating_add(stackferry_volume::BLOCK_BYTES);
            }
        }
        self.sender.send(WalkEvent::Done(end.saturating_sub(first.offset()))).ok()
    }

    /// Reads one block and checks it. What does not pass is read once more, from the disk, before it is called damaged:
    /// a bit that fell over in memory is no damage of the version.
    fn block(&mut self, opened: &OpenedFile<'_>, block: BlockIndex, state: BlockState) -> Result<(), Damage> {
        let len = block.len_in(opened.record.blocks.bytes());
        self.buf.resize(len.max(self.buf.len()), 0);
        let buf = self.buf.get_mut(..len).unwrap_or_default();
        let mut why = String::new();
        for again in [false, true] {
            if again {
                let start = block.offset();
                opened.source.forget(start..start.saturating_add(len as u64));
            }
            why = match opened.source.read_at(block.offset(), buf) {
                Err(error) => format!("reading failed: {error}"),
                Ok(()) => match state {
                    BlockState::Data(digest) if Digest::of(buf) == digest => return Ok(()),
                    BlockState::Zero if is_zero(buf) => return Ok(()),
                    BlockState::Zero => "it should hold only zeros".to_owned(),
                    _ => "its digest does not match".to_owned(),
                },
            };
        }
        Err(Damage { file: opened.record.name.to_string(), block: Some(block.0), why })
    }
}
