//! Where a file has data, and what speaks against believing it.
//!
//! A hole that is none would be lost data, and file systems are known to lie about holes: ZFS calls data that is not on
//! its disk yet a hole (openzfs/zfs#15526), servers of NFS 4.2 and FUSE file systems answer as they like. So whoever
//! reports holes, by whatever route, a map of them is used only if it goes through the file in order, agrees with the
//! space that the file takes on disk, and its holes read as zeros where they are sampled. Else all of the file is read.

use std::io;
use std::ops::Range;

use crate::io::{HoleMapSource, Source};

/// Holes shorter than this are read: it costs less than leaving them out.
const SHORTEST_HOLE: u64 = 64 << 10;
/// The maximum number of ranges that are kept, 16 bytes each.
const MAX_RANGES: usize = 1 << 18;
/// How many bytes are read at each place that is sampled.
pub const SAMPLE_BYTES: u64 = 64 << 10;

/// How a file's data and the space that it takes on disk may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// The file system's own blocks, and what it rounds up to, in bytes; a 256th of the space is added.
    pub slack: u64,
    /// Whether there may be more data than space. That is so where a file system compresses, and then the space says
    /// nothing about data that is missing.
    pub compressed: bool,
}

impl Tolerance {
    /// Where nothing is known of the file system.
    pub const STRICT: Self = Self { slack: 256 << 10, compressed: false };

    /// Whether a map with so much data may be of a file that takes so much space.
    ///
    /// # Errors
    /// Why not.
    pub fn check(self, data: u64, allocated: u64) -> Result<(), &'static str> {
        let slack = self.slack.saturating_add(allocated / 256);
        if data.saturating_add(slack) < allocated {
            return Err("less is called data than the file takes on disk");
        }
        if !self.compressed && data > allocated.saturating_add(slack) {
            return Err("more is called data than the file takes on disk");
        }
        Ok(())
    }
}

/// Takes a file's ranges of data in order.
#[derive(Debug, Default)]
pub struct MapBuilder {
    data: Vec<Range<u64>>,
    data_bytes: u64,
    at: u64,
}

impl MapBuilder {
    /// Takes the next range.
    ///
    /// # Errors
    /// Why the map can't be used.
    pub fn add(&mut self, range: Range<u64>) -> Result<(), &'static str> {
        if range.start < self.at || range.end <= range.start {
            return Err("the ranges do not go forward");
        }
        self.at = range.end;
        self.data_bytes = self.data_bytes.saturating_add(range.end - range.start);
        let pieces = self.data.len();
        match self.data.last_mut() {
            Some(last) if range.start - last.end < SHORTEST_HOLE => last.end = range.end,
            _ if pieces >= MAX_RANGES => return Err("the file has too many pieces"),
            _ => self.data.push(range),
        }
        Ok(())
    }

    /// The map of a file of so many bytes that takes so much space on disk.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn finish(self, bytes: u64, allocated: u64, tolerance: Tolerance) -> Result<HoleMap, &'static str> {
        if self.at > bytes {
            return Err("the ranges go beyond the file");
        }
        tolerance.check(self.data_bytes, allocated)?;
        Ok(HoleMap { bytes, data: self.data })
    }
}

/// The ranges of a file that may hold something else than zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoleMap {
    bytes: u64,
    data: Vec<Range<u64>>,
}

impl HoleMap {
    /// Data in these ranges, which go forward and end within the file.
    #[must_use]
    pub fn of(bytes: u64, data: Vec<Range<u64>>) -> Self {
        Self { bytes, data }
    }

    /// Everything is data.
    #[must_use]
    pub fn all(bytes: u64) -> Self {
        let whole = 0..bytes;
        Self { bytes, data: if bytes == 0 { Vec::new() } else { vec![whole] } }
    }

    /// Whether it has no hole.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::all(self.bytes)
    }

    fn holes(&self) -> Vec<Range<u64>> {
        let ends = self.data.iter().map(|range| range.end);
        let starts = self.data.iter().map(|range| range.start);
        std::iter::once(0)
            .chain(ends)
            .zip(starts.chain(std::iter::once(self.bytes)))
            .filter(|(start, end)| start < end)
            .map(|(start, end)| start..end)
            .collect()
    }

    /// The places in the holes to sample, at most about `most`: offset and length, at most [`SAMPLE_BYTES`], in order.
    /// What was just written beside a hole is what file systems forget, so half of them lie at the holes' beginnings and
    /// ends; the others are spread evenly over all holes. Where that is enough, all of the holes are sampled.
    #[must_use]
    pub fn samples(&self, most: usize) -> Vec<(u64, u32)> {
        let holes = self.holes();
        let total: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
        let most_bytes = SAMPLE_BYTES.saturating_mul(most as u64);
        let mut places: Vec<Range<u64>> = Vec::new();
        if total <= most_bytes && holes.len() <= most {
            for hole in &holes {
                let mut at = hole.start;
                while at < hole.end {
                    let end = (at + SAMPLE_BYTES).min(hole.end);
                    places.push(at..end);
                    at = end;
                }
            }
        } else {
            let edges = (most / 4).clamp(1, holes.len().max(1));
            for edge in 0..edges {
                // The first hole and the last one are among them.
                let at = if edges == 1 { 0 } else { edge * (holes.len() - 1) / (edges - 1) };
                if let Some(hole) = holes.get(at) {
                    places.push(hole.start..(hole.start + SAMPLE_BYTES).min(hole.end));
                    places.push(hole.end.saturating_sub(SAMPLE_BYTES).max(hole.start)..hole.end);
                }
            }
            let spread = (most.saturating_sub(2 * edges) as u64).max(1);
            let mut holes = holes.iter();
            let (mut hole, mut before) = (holes.next(), 0);
            for place in 0..spread {
                let at = total / spread * place + total / spread / 2;
                while let Some(current) = hole
                    && at - before >= current.end - current.start
                {
                    before += current.end - current.start;
                    hole = holes.next();
                }
                if let Some(current) = hole {
                    let start = current.start + (at - before);
                    places.push(start..(start + SAMPLE_BYTES).min(current.end));
                }
            }
        }
        places.sort_by_key(|place| (place.start, place.end));
        places.dedup();
        places.into_iter().map(|place| (place.start, u32::try_from(place.end - place.start).unwrap_or(0))).collect()
    }
}

/// A map is a source that knows where data is, and has none itself.
impl Source for HoleMap {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let next = self.data.partition_point(|range| range.end <= from);
        Ok(self.data.get(next).map(|range| range.start.max(from)..range.end))
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn hole_map(&self) -> HoleMapSource {
        HoleMapSource::Host
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a map may be a single range")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn map(data: &[Range<u64>], bytes: u64, allocated: u64) -> Result<HoleMap, &'static str> {
        let mut builder = MapBuilder::default();
        data.iter().try_for_each(|range| builder.add(range.clone()))?;
        builder.finish(bytes, allocated, Tolerance::STRICT)
    }

    #[test]
    fn short_holes_are_closed() {
        let data = [0..4096, 8192..MIB, 5 * MIB..6 * MIB];
        let map = map(&data, 9 * MIB, 2 * MIB).unwrap();
        assert_eq!(map.data, [0..MIB, 5 * MIB..6 * MIB]);
        assert_eq!(map.next_data(0).unwrap(), Some(0..MIB));
        assert_eq!(map.next_data(MIB).unwrap(), Some(5 * MIB..6 * MIB));
        assert_eq!(map.next_data(5 * MIB + 7).unwrap(), Some(5 * MIB + 7..6 * MIB));
        assert_eq!(map.next_data(6 * MIB).unwrap(), None);
        assert_eq!(HoleMap::all(0).next_data(0).unwrap(), None);
        assert!(HoleMap::all(MIB).is_all() && !map.is_all());
    }

    #[test]
    fn what_speaks_against_a_map() {
        let whole = 90 * MIB;
        for (data, allocated, expected) in [
            (vec![0..MIB, MIB - 1..2 * MIB], 2 * MIB, "the ranges do not go forward"),
            (vec![5..5], MIB, "the ranges do not go forward"),
            (vec![whole - 5..whole + 1], MIB, "the ranges go beyond the file"),
            (vec![], 3 * MIB, "less is called data than the file takes on disk"),
            (vec![0..40 * MIB], 41 * MIB, "less is called data than the file takes on disk"),
            (vec![0..2 * MIB], MIB, "more is called data than the file takes on disk"),
        ] {
            assert_eq!(map(&data, whole, allocated), Err(expected), "{data:?}");
        }
        // The file system's own blocks, and the last block that goes beyond the file.
        for (data, allocated) in [(vec![], 0), (vec![], 65536), (vec![0..40 * MIB], 40 * MIB + 131_072)] {
            assert!(map(&data, whole, allocated).is_ok(), "{data:?}");
        }
        let compressed = Tolerance { compressed: true, ..Tolerance::STRICT };
        assert!(compressed.check(20 * MIB, MIB).is_ok());
        assert!(compressed.check(MIB, 20 * MIB).is_err());
    }

    #[test]
    fn samples_cover_the_edges_of_holes_and_small_holes_whole() {
        let map = HoleMap::of(1000 * MIB, vec![10 * MIB..11 * MIB, 500 * MIB..600 * MIB]);
        let samples = map.samples(32);
        assert!(samples.len() <= 32, "{}", samples.len());
        for edge in
            [0, 10 * MIB - SAMPLE_BYTES, 11 * MIB, 500 * MIB - SAMPLE_BYTES, 600 * MIB, 1000 * MIB - SAMPLE_BYTES]
        {
            assert!(samples.contains(&(edge, 65536)), "{edge}: {samples:?}");
        }
        assert!(samples.iter().any(|(at, _)| (650 * MIB..950 * MIB).contains(at)), "{samples:?}");
        assert_eq!(map.samples(32), samples);
        let small = HoleMap::of(2 * MIB, vec![MIB..MIB + 5]);
        let covered: u64 = small.samples(64).iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        assert_eq!(covered, 2 * MIB - 5);
        assert!(HoleMap::all(MIB).samples(16).is_empty());
        let many: Vec<_> = (0..10_000).map(|at| at * MIB..at * MIB + 4096).collect();
        assert!(HoleMap::of(10_000 * MIB, many).samples(16).len() <= 16);
    }

    proptest! {
        #[test]
        fn samples_lie_in_holes(cuts in prop::collection::btree_set(0u64..1 << 24, 0..200), most in 1usize..70) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let data: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let map = HoleMap { bytes: 1 << 24, data };
            let samples = map.samples(most);
            prop_assert!(samples.len() <= 2 * most + 3);
            for (offset, len) in samples {
                let end = offset + u64::from(len);
                prop_assert!(len > 0 && u64::from(len) <= SAMPLE_BYTES && end <= map.bytes);
                prop_assert!(map.data.iter().all(|range| end <= range.start || offset >= range.end));
            }
        }
    }
}
