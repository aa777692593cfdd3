//! Content without external tools: a partition table, and runs of data with holes
//! between them all over the disk. Bit for bit the same on every machine.

use std::path::Path;

use super::content::{Mix, PAGE, RandomStream, fill};
use super::extents::Extents;
use super::partition::{PARTITION_START, TYPE_DATA, partition_range, write_table};
use crate::error::LabError;

/// The longest run of data without a hole, in pages.
const LONGEST_RUN: u64 = 32;

/// Puts about `total` bytes of data onto an empty disk: whole pages, at most as many as the disk has.
///
/// # Errors
/// The disk can't be written.
pub fn write(disk: &Path, seed: u64, total: u64, mix: Mix) -> Result<(), LabError> {
    let extents = Extents::open(disk, true)?;
    let bytes = extents.bytes();
    let page = PAGE as u64;
    let partition = partition_range(bytes);
    let first = if partition.end - partition.start >= page { PARTITION_START / page } else { 0 };
    let pages = bytes.div_ceil(page).saturating_sub(first);
    let mut wanted = total.div_ceil(page).min(pages);

    let mut stream = RandomStream::new(seed, "runs");
    let mut buffer = vec![0; PAGE];
    let mut at = 0;
    while wanted > 0 {
        let run = (1 + stream.below(LONGEST_RUN)).min(wanted);
        // The holes are spread so that data reaches to the end, whatever has been drawn so far.
        let spare = (pages - at).saturating_sub(wanted);
        let gap = stream.below(2 * spare.saturating_mul(run) / wanted + 1).min(spare);
        let texture = mix.draw(&mut stream);
        for index in at + gap..at + gap + run {
            let offset = (first + index) * page;
            let here = usize::try_from((bytes - offset).min(page)).unwrap_or(PAGE);
            let Some(part) = buffer.get_mut(..here) else { break };
            fill(seed, "plain", texture, index, part);
            extents.write(part, offset)?;
        }
        at += gap + run;
        wanted -= run;
    }
    if first > 0 {
        write_table(&extents, seed, TYPE_DATA)?;
    }
    Ok(())
}

/// Writes data of a page or more into the first hole that is large enough, or, on a full disk, over its middle.
///
/// # Errors
/// The disk can't be read or written.
pub fn append(disk: &Path, seed: u64, label: &str, total: u64, mix: Mix) -> Result<(), LabError> {
    let extents = Extents::open(disk, true)?;
    let bytes = extents.bytes();
    let total = total.min(bytes);
    let page = PAGE as u64;
    let mut free = 0;
    for range in extents.data(0..bytes)? {
        if range.start >= free + total {
            break;
        }
        free = range.end.next_multiple_of(page);
    }
    let start = if free + total <= bytes { free } else { (bytes - total) / 2 };
    write_at(&extents, seed, label, start, total, mix)
}

/// Writes seeded data over a stretch of the disk.
///
/// # Errors
/// The disk can't be written.
pub(super) fn write_at(
    extents: &Extents,
    seed: u64,
    label: &str,
    offset: u64,
    total: u64,
    mix: Mix,
) -> Result<(), LabError> {
    let mut stream = RandomStream::new(seed, label);
    let mut buffer = vec![0; PAGE];
    let (mut at, mut index) = (offset, 0);
    while at < offset + total {
        let bytes = (offset + total - at).min(PAGE as u64);
        let Some(part) = usize::try_from(bytes).ok().and_then(|bytes| buffer.get_mut(..bytes)) else { break };
        fill(seed, label, mix.draw(&mut stream), index, part);
        extents.write(part, at)?;
        at += bytes;
        index += 1;
    }
    Ok(())
}
