//! Walks a source along its hole map and cuts it into blocks.
//!
//! One walker serves several threads under a lock: it only asks the file system where data is, and reads none.

use std::io;
use std::ops::Range;

use stackferry_volume::Source;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, blocks_in};

/// What comes next in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalkStep {
    /// Blocks that are all hole.
    Hole { first: BlockIndex, count: u64 },
    /// A block with data in these ranges, in bytes from the block's start.
    Read { block: BlockIndex, data: Vec<Range<usize>> },
}

/// The most blocks in one hole step, so that a large hole still shows progress.
const MAX_HOLE_BLOCKS: u64 = 1 << 16;

pub(crate) struct Walker<'a> {
    source: &'a dyn Source,
    /// Blocks to skip.
    done: &'a BlockMap,
    next: u64,
    /// The data range at or after `next`, as the source last reported it.
    data: Option<Range<u64>>,
    queried: bool,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(source: &'a dyn Source, done: &'a BlockMap) -> Self {
        Self { source, done, next: 0, data: None, queried: false }
    }

    /// The next step; none at the file's end. On error: the offset of the failed query.
    pub(crate) fn next(&mut self) -> Result<Option<WalkStep>, (u64, io::Error)> {
        let bytes = self.source.bytes();
        let blocks = blocks_in(bytes);
        while self.next < blocks && self.done.get(BlockIndex(self.next)) != BlockState::Unknown {
            self.next += 1;
        }
        if self.next >= blocks {
            return Ok(None);
        }
        let block = BlockIndex(self.next);
        let start = block.offset();
        let data_start = self.data_from(start)?.map_or(bytes, |data| data.start);
        if BlockIndex::at(data_start) > block || data_start >= bytes {
            let end = if data_start >= bytes { blocks } else { BlockIndex::at(data_start).0 };
            let most = end.min(self.next + MAX_HOLE_BLOCKS);
            let mut count = 1;
            while self.next + count < most && self.done.get(BlockIndex(self.next + count)) == BlockState::Unknown {
                count += 1;
            }
            self.next += count;
            return Ok(Some(WalkStep::Hole { first: block, count }));
        }
        let end = (start + BLOCK_BYTES).min(bytes);
        let mut data = Vec::new();
        let mut at = start;
        while at < end {
            let Some(found) = self.data_from(at)? else { break };
            if found.start >= end {
                break;
            }
            let from = usize::try_from(found.start.max(start) - start).unwrap_or(0);
            let to = usize::try_from(found.end.min(end) - start).unwrap_or(0);
            data.push(from..to);
            at = found.end.min(end);
        }
        self.next += 1;
        Ok(Some(WalkStep::Read { block, data }))
    }

    /// The data range that ends after `from`, cut to begin there.
    fn data_from(&mut self, from: u64) -> Result<Option<Range<u64>>, (u64, io::Error)> {
        let stale = self.data.as_ref().is_none_or(|data| data.end <= from);
        // Once there is no data after some offset there is none after a later one.
        if !self.queried || (stale && self.data.is_some()) {
            self.queried = true;
            self.data = self.source.next_data(from).map_err(|error| (from, error))?;
            // A range that does not advance would loop forever.
            if let Some(data) = &self.data
                && (data.end <= from || data.end <= data.start)
            {
                return Err((from, io::Error::new(io::ErrorKind::InvalidData, "the hole map does not advance")));
            }
        }
        Ok(self.data.as_ref().map(|data| data.start.max(from)..data.end))
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use stackferry_volume::HoleMapSource;

    /// A source of these data ranges, in memory.
    pub(crate) struct Ranges {
        pub(crate) bytes: u64,
        pub(crate) data: Vec<Range<u64>>,
    }

    impl Source for Ranges {
        fn bytes(&self) -> u64 {
            self.bytes
        }
        fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
            Ok(self.data.iter().find(|data| data.end > from).map(|data| data.start.max(from)..data.end))
        }
        fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(1);
            Ok(())
        }
        fn hole_map(&self) -> HoleMapSource {
            HoleMapSource::Seek
        }
    }

    proptest! {
        #[test]
        fn every_block_appears_once_in_order_with_all_its_data(
            tail in 0u64..BLOCK_BYTES,
            blocks in 0u64..40,
            cuts in prop::collection::btree_set(0u64..40 * BLOCK_BYTES, 0..20),
            done in prop::collection::btree_set(0u64..40, 0..10),
        ) {
            let bytes = blocks * BLOCK_BYTES + tail;
            let cuts: Vec<u64> = cuts.into_iter().filter(|cut| *cut <= bytes).collect();
            let data: Vec<_> = cuts.as_chunks::<2>().0.iter().map(|[start, end]| *start..*end).collect();
            let source = Ranges { bytes, data: data.clone() };
            let mut known = BlockMap::new(bytes);
            for block in &done { known.set(BlockIndex(*block), BlockState::Zero); }
            let mut walker = Walker::new(&source, &known);
            let mut seen = Vec::new();
            while let Some(step) = walker.next().unwrap() {
                match step {
                    WalkStep::Hole { first, count } => {
                        prop_assert!(count > 0);
                        let end = (first.0 + count) * BLOCK_BYTES;
                        prop_assert!(!data.iter().any(|range| range.start < end.min(bytes) && range.end > first.offset()));
                        seen.extend(first.0..first.0 + count);
                    }
                    WalkStep::Read { block, data: ranges } => {
                        let start = block.offset();
                        let expected: Vec<_> = data.iter()
                            .map(|range| range.start.max(start)..range.end.min(start + block.len_in(bytes) as u64))
                            .filter(|range| range.start < range.end)
                            .map(|range| (range.start - start) as usize..(range.end - start) as usize)
                            .collect();
                        prop_assert_eq!(ranges, expected);
                        seen.push(block.0);
                    }
                }
            }
            let expected: Vec<_> = (0..blocks_in(bytes)).filter(|block| !done.contains(block)).collect();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_hole_map_that_does_not_advance_is_an_error() {
        struct Stuck;
        impl Source for Stuck {
            fn bytes(&self) -> u64 {
                10
            }
            fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
                Ok(Some(from..from))
            }
            fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
                Ok(())
            }
            fn hole_map(&self) -> HoleMapSource {
                HoleMapSource::Seek
            }
        }
        let done = BlockMap::new(10);
        assert!(Walker::new(&Stuck, &done).next().is_err());
    }
}
