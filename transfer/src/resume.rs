//! Resumes an interrupted copy: what its journal says is done is hashed again before it is trusted, and everything else
//! in the partial file is punched out, so that writing continues as on a new file.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, Digest};
use stackferry_volume::io::Cancel;
use stackferry_volume::{Sink, Source};

/// The usable part of an interrupted copy.
#[derive(Debug)]
pub struct Resumed {
    /// The blocks that are in the sink and match their digest.
    pub done: BlockMap,
    /// Their number, those in `in_base` among them.
    pub taken: u64,
    /// The blocks among them that are not in the sink, but in the base: in ascending order.
    pub in_base: Vec<BlockIndex>,
    /// The blocks that were recorded as done and do not match: they are copied again.
    pub rejected: Vec<BlockIndex>,
}

/// Hashes the recorded blocks of `sink` on `workers` threads and clears all others. A block that was recorded as equal
/// to the last version's was never written; if `base` has its digest, it is done too.
///
/// # Errors
/// The sink's.
pub fn resume(sink: &dyn Sink, base: Option<&BlockMap>, workers: usize, cancel: &Cancel) -> Result<Resumed, io::Error> {
    let recorded = sink.recorded()?;
    let found =
        Mutex::new(Resumed { done: BlockMap::new(sink.bytes()), taken: 0, in_base: Vec::new(), rejected: Vec::new() });
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..workers.max(1)).map(|_| scope.spawn(|| check(sink, &recorded, &found, &next, cancel))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a thread failed while checking the interrupted copy")),
        })
    })?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.rejected.sort_unstable();
    // Blocks that were not hashed may be right: the next run checks them.
    if cancel.is_cancelled() {
        return Ok(found);
    }
    // Clears what the sink does not hold, whether it is in the base or nowhere.
    clear_rest(sink, &found.done)?;
    let equal = |block: &BlockIndex| {
        let state = recorded.get(*block);
        state != BlockState::Unknown
            && base.is_some_and(|base| base.bytes() == recorded.bytes() && base.get(*block) == state)
    };
    (found.in_base, found.rejected) = std::mem::take(&mut found.rejected).into_iter().partition(equal);
    for block in &found.in_base {
        found.done.set(*block, recorded.get(*block));
        found.taken += 1;
    }
    Ok(found)
}

fn check(
    sink: &dyn Sink,
    recorded: &BlockMap,
    found: &Mutex<Resumed>,
    next: &AtomicU64,
    cancel: &Cancel,
) -> io::Result<()> {
    let mut buffer = vec![0u8; usize::try_from(BLOCK_BYTES).unwrap_or(1 << 20)];
    loop {
        let block = BlockIndex(next.fetch_add(1, Ordering::Relaxed));
        if block.0 >= recorded.blocks() || cancel.is_cancelled() {
            return Ok(());
        }
        let BlockState::Data(digest) = recorded.get(block) else { continue };
        let bytes = buffer.get_mut(..block.len_in(sink.bytes())).unwrap_or_default();
        sink.read_at(block.offset(), bytes)?;
        let matches = Digest::of(bytes) == digest;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if matches {
            found.done.set(block, BlockState::Data(digest));
            found.taken += 1;
        } else {
            found.rejected.push(block);
        }
    }
}

/// Punches a hole for every block with data in it that is not `done`.
fn clear_rest(sink: &dyn Sink, done: &BlockMap) -> io::Result<()> {
    let mut at = 0;
    while let Some(data) = Source::next_data(sink, at)? {
        if data.end <= at {
            break;
        }
        let (first, last) = (BlockIndex::at(data.start), BlockIndex::at(data.end - 1));
        for block in (first.0..=last.0).map(BlockIndex) {
            if done.get(block) == BlockState::Unknown {
                sink.clear(block.offset(), block.len_in(sink.bytes()) as u64)?;
            }
        }
        at = data.end;
    }
    Ok(())
}
