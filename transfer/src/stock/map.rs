//! Where a file has data, as the host's own Python tells it, and what speaks against believing that.
//!
//! A wrong hole would be lost data. So a map is used only if it goes through the file in order, agrees with the
//! allocated size in both directions, belongs to the file as discovery saw it, and its holes read as zeros where they
//! are sampled. Where a file system compresses, the sizes do not agree: there all is read.

use std::io;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use stackferry_volume::{HoleMapSource, Source};

use super::FORGET_AFTER;
use super::command::MAP_GREETING;

/// Holes shorter than this are read: it costs less than leaving them out.
const SHORTEST_HOLE: u64 = 64 << 10;
/// The most ranges that are kept, 16 bytes each.
const MOST_RANGES: usize = 1 << 18;
/// The most that a map may be long, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// The longest line.
const LONGEST_LINE: usize = 128;
/// How many places of the holes are read to see whether they are zero …
const SAMPLES: u64 = 16;
/// … and how many bytes at each.
const SAMPLE_BYTES: u64 = 64 << 10;
/// How far data and allocated size may differ: the file system's own blocks for the map (ext4 has 1/1024 at worst) and
/// what it allocates ahead.
pub(crate) fn slack(allocated: u64) -> u64 {
    (1 << 20) + allocated / 256
}

/// After so many failures in a row that say nothing for sure …
const MOST_FAILURES: u32 = 5;
/// … a host is not asked for so long.
const PAUSE: Duration = Duration::from_secs(600);

/// Whether a host is asked for hole maps: each asking is a login, and costs time where it is in vain. A host that has no
/// Python says so, and is asked again later, for it may be installed; one that could not start a process at that moment
/// says nothing of the next.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Until when it is not worth it.
    pause: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl Asking {
    pub(super) fn is_worth_it(&self, now: Instant) -> bool {
        self.pause.is_none_or(|until| now >= until)
    }

    /// The program ran.
    pub(super) fn has_run(&mut self) {
        *self = Self::default();
    }

    /// The host has no such program.
    pub(super) fn is_missing(&mut self, now: Instant) {
        self.pause = Some(now + FORGET_AFTER);
    }

    /// It did not run, for a reason that may pass.
    pub(super) fn has_failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= MOST_FAILURES {
            *self = Self { pause: Some(now + PAUSE), failures: 0 };
        }
    }
}

/// Whether a shell said that there is no such program: POSIX shells by 127, the C shell by its words.
pub(super) fn says_not_found(status: Option<u32>, complaints: &str) -> bool {
    match status {
        Some(127) => true,
        Some(1) => complaints.contains("Command not found"),
        _ => false,
    }
}

/// The ranges of a file that may hold something else than zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HoleMap {
    bytes: u64,
    data: Vec<Range<u64>>,
}

/// Takes what the host's program says, line by line.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    line: Vec<u8>,
    taken: usize,
    greeted: bool,
    data: Vec<Range<u64>>,
    data_bytes: u64,
    at: u64,
    /// Length, bytes on disk, time of last change in whole seconds.
    end: Option<(u64, u64, i64)>,
    wrong: Option<&'static str>,
}

impl MapReader {
    pub(super) fn push(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        for byte in bytes {
            self.taken += 1;
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if let Err(why) = self.take(&line) {
                    self.wrong = Some(why);
                }
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            } else {
                self.wrong = Some("a line is too long");
            }
            if self.taken > MOST_BYTES {
                self.wrong = Some("the map is too long");
            }
            if self.wrong.is_some() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "a line is no text")?;
        if !self.greeted {
            self.greeted = line == MAP_GREETING;
            return if self.greeted { Ok(()) } else { Err("the program did not run") };
        }
        if self.end.is_some() {
            return Err("something follows the end");
        }
        let mut words = line.split(' ');
        let first = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).ok_or("a line is not understood");
        if first == "-1" {
            let (bytes, allocated, mtime) = (number()?, number()?, number()?);
            let unsigned = |value| u64::try_from(value).map_err(|_| "a length below zero");
            self.end = Some((unsigned(bytes)?, unsigned(allocated)?, mtime));
        } else {
            let start = first.parse::<u64>().map_err(|_| "a line is not understood")?;
            let end = u64::try_from(number()?).map_err(|_| "a line is not understood")?;
            self.add(start..end)?;
        }
        if words.next().is_some() { Err("a line is not understood") } else { Ok(()) }
    }

    fn add(&mut self, range: Range<u64>) -> Result<(), &'static str> {
        if range.start < self.at || range.end <= range.start {
            return Err("the ranges do not go forward");
        }
        self.at = range.end;
        self.data_bytes = self.data_bytes.saturating_add(range.end - range.start);
        let pieces = self.data.len();
        match self.data.last_mut() {
            Some(last) if range.start - last.end < SHORTEST_HOLE => last.end = range.end,
            _ if pieces >= MOST_RANGES => return Err("the file has too many pieces"),
            _ => self.data.push(range),
        }
        Ok(())
    }

    /// Whether the program ran at all, and so opened the file.
    pub(super) fn has_run(&self) -> bool {
        self.greeted
    }

    /// The map, or why it is not believed. The file is of this length and time by another account.
    pub(super) fn finish(self, bytes: u64, mtime_seconds: i64) -> Result<HoleMap, &'static str> {
        if let Some(why) = self.wrong {
            return Err(why);
        }
        let Some((said, allocated, mtime)) = self.end else { return Err("the map has no end") };
        if !self.line.is_empty() {
            return Err("something follows the end");
        }
        if (said, mtime) != (bytes, mtime_seconds) {
            return Err("the map is of another state of the file");
        }
        if self.at > bytes {
            return Err("the ranges go beyond the file");
        }
        // The file's last block on disk may reach beyond its end.
        if self.data_bytes.saturating_add(slack(allocated)) < allocated {
            return Err("less is called data than the file takes on disk");
        }
        if self.data_bytes > allocated.saturating_add(slack(allocated)) {
            return Err("more is called data than the file takes on disk");
        }
        Ok(HoleMap { bytes, data: self.data })
    }
}

impl HoleMap {
    /// Data in these ranges, which go forward and end within the file.
    pub(crate) fn of(bytes: u64, data: Vec<Range<u64>>) -> Self {
        Self { bytes, data }
    }

    /// Everything is data.
    pub(crate) fn all(bytes: u64) -> Self {
        let whole = 0..bytes;
        Self { bytes, data: if bytes == 0 { Vec::new() } else { vec![whole] } }
    }

    /// Places in the holes to look at, spread over all of them at random: offset and length, at most [`SAMPLE_BYTES`].
    pub(crate) fn samples(&self) -> Vec<(u64, u32)> {
        let ends = self.data.iter().map(|range| range.end);
        let starts = self.data.iter().map(|range| range.start);
        let holes: Vec<Range<u64>> = std::iter::once(0)
            .chain(ends)
            .zip(starts.chain(std::iter::once(self.bytes)))
            .filter(|(start, end)| start < end)
            .map(|(start, end)| start..end)
            .collect();
        let total: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
        let mut places = Vec::new();
        let count = SAMPLES.min(total.div_ceil(SAMPLE_BYTES));
        for sample in 0..count {
            let (from, to) = (total / count * sample, total / count * (sample + 1));
            let mut at = rand::rng().random_range(from..to.max(from + 1));
            for hole in &holes {
                let bytes = hole.end - hole.start;
                if at < bytes {
                    let start = hole.start + at;
                    let len = (hole.end - start).min(SAMPLE_BYTES);
                    places.push((start, u32::try_from(len).unwrap_or(u32::MAX)));
                    break;
                }
                at -= bytes;
            }
        }
        places
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn map(lines: &str, bytes: u64) -> Result<HoleMap, &'static str> {
        let mut reader = MapReader::default();
        let _ = reader.push(format!("{MAP_GREETING}\n{lines}").as_bytes());
        reader.finish(bytes, 77)
    }

    #[test]
    fn a_map_is_read_and_short_holes_are_closed() {
        let lines = format!("0 4096\n{} {}\n{} {}\n-1 {} {} 77\n", 8192, MIB, 5 * MIB, 6 * MIB, 9 * MIB, 2 * MIB);
        let map = map(&lines, 9 * MIB).unwrap();
        assert_eq!(map.data, [0..MIB, 5 * MIB..6 * MIB]);
        assert_eq!(map.next_data(0).unwrap(), Some(0..MIB));
        assert_eq!(map.next_data(MIB).unwrap(), Some(5 * MIB..6 * MIB));
        assert_eq!(map.next_data(5 * MIB + 7).unwrap(), Some(5 * MIB + 7..6 * MIB));
        assert_eq!(map.next_data(6 * MIB).unwrap(), None);
        for (offset, len) in map.samples() {
            assert!(len > 0 && u64::from(len) <= SAMPLE_BYTES);
            let end = offset + u64::from(len);
            assert!((offset >= MIB && end <= 5 * MIB) || (offset >= 6 * MIB && end <= 9 * MIB), "{offset}");
        }
        assert_eq!(map.samples().len(), 16);
        assert!(HoleMap::all(MIB).samples().is_empty());
        assert_eq!(HoleMap::all(0).next_data(0).unwrap(), None);
    }

    #[test]
    fn what_speaks_against_a_map() {
        let end = format!("-1 {} {MIB} 77\n", 90 * MIB);
        let good = format!("0 {MIB}\n{end}");
        assert!(map(&good, 90 * MIB).is_ok());
        for (lines, why) in [
            (format!("0 {MIB}\n"), "the map has no end"),
            (format!("0 {MIB}\n-1 {} {MIB} 77", 90 * MIB), "the map has no end"),
            (format!("{good}0 1\n"), "something follows the end"),
            (format!("{good}x"), "something follows the end"),
            (format!("0 {MIB}\n{} {}\n{end}", MIB - 1, MIB + 5), "the ranges do not go forward"),
            (format!("5 5\n{end}"), "the ranges do not go forward"),
            (format!("{MIB} 0\n{end}"), "the ranges do not go forward"),
            (format!("{} {}\n{end}", 90 * MIB - 5, 90 * MIB + 1), "the ranges go beyond the file"),
            (format!("0 {MIB} 3\n{end}"), "a line is not understood"),
            (format!("0\n{end}"), "a line is not understood"),
            (format!("0 -5\n{end}"), "a line is not understood"),
            ("-1 -2 0 77\n".to_owned(), "a length below zero"),
            (format!("0 {MIB}\n-1 {} {MIB} 78\n", 90 * MIB), "the map is of another state of the file"),
            (format!("0 {MIB}\n-1 {} {MIB} 77\n", 91 * MIB), "the map is of another state of the file"),
            (format!("0 {MIB}\n-1 {} {} 77\n", 90 * MIB, 3 * MIB), "less is called data than the file takes on disk"),
            (format!("0 {}\n{end}", 4 * MIB), "more is called data than the file takes on disk"),
            ("x".repeat(200), "a line is too long"),
        ] {
            assert_eq!(map(&lines, 90 * MIB), Err(why), "{lines}");
        }
        let mut reader = MapReader::default();
        assert!(reader.push(b"This account is currently not available.\n").is_break());
        assert!(!reader.has_run());
        assert_eq!(reader.finish(1, 77), Err("the program did not run"));
    }

    proptest! {
        #[test]
        fn samples_lie_in_holes(cuts in prop::collection::btree_set(0u64..1 << 24, 0..20)) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let data: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let map = HoleMap { bytes: 1 << 24, data };
            for (offset, len) in map.samples() {
                let end = offset + u64::from(len);
                prop_assert!(len > 0 && end <= map.bytes);
                prop_assert!(map.data.iter().all(|range| end <= range.start || offset >= range.end));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = MapReader::default();
            let _ = reader.push(format!("{MAP_GREETING}\n").as_bytes());
            let _ = reader.push(&bytes);
            let _ = reader.finish(5, 77);
        }
    }
}
