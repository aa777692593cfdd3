//! A file's hole map, as the host's own Python reports it. [`stackferry_volume::holes`] decides whether it is trusted; it
//! must also describe the file that discovery saw. On a compressing file system, data and allocated space do not agree:
//! there the whole file is read.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use stackferry_volume::holes::{HoleMap, MapBuilder, Tolerance};

use super::FORGET_AFTER;
use super::command::MAP_GREETING;
use super::same_second;

/// The longest map, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// The longest line, in bytes.
const LONGEST_LINE: usize = 128;
/// How many places in the holes are read to check that they are zero.
pub(crate) const SAMPLES: usize = 16;

/// After so many inconclusive failures in a row …
const MAX_FAILURES: u32 = 5;
/// … no map is requested from a host for so long.
const PAUSE: Duration = Duration::from_secs(600);

/// Decides whether to request hole maps from a host: each request is a login, and a waste where it fails. A host without
/// Python is asked again later, since it may be installed; a host that could not start a process may do so the next time.
#[derive(Debug, Default)]
pub(super) struct HoleMapBackoff {
    /// Until when no map is requested.
    pause: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl HoleMapBackoff {
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

    /// It did not run, for a possibly temporary reason.
    pub(super) fn has_failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            *self = Self { pause: Some(now + PAUSE), failures: 0 };
        }
    }
}

/// Whether a shell reported that a program does not exist: POSIX shells by 127, the C shell by its message.
pub(super) fn says_not_found(status: Option<u32>, stderr: &str) -> bool {
    match status {
        Some(127) => true,
        Some(1) => stderr.contains("Command not found"),
        _ => false,
    }
}

/// Parses the program's output, line by line.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    line: Vec<u8>,
    taken: usize,
    greeted: bool,
    data: MapBuilder,
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
            if self.taken > MAX_BYTES {
                self.wrong = Some("the map is too long");
            }
            if self.wrong.is_some() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "a line is not UTF-8")?;
        if !self.greeted {
            self.greeted = line == MAP_GREETING;
            return if self.greeted { Ok(()) } else { Err("the program did not run") };
        }
        if self.end.is_some() {
            return Err("there is data after the end");
        }
        let mut words = line.split(' ');
        let first = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).ok_or("a line is invalid");
        if first == "-1" {
            let (bytes, allocated, mtime) = (number()?, number()?, number()?);
            let unsigned = |value| u64::try_from(value).map_err(|_| "a length below zero");
            self.end = Some((unsigned(bytes)?, unsigned(allocated)?, mtime));
        } else {
            let start = first.parse::<u64>().map_err(|_| "a line is invalid")?;
            let end = u64::try_from(number()?).map_err(|_| "a line is invalid")?;
            self.data.add(start..end)?;
        }
        if words.next().is_some() { Err("a line is invalid") } else { Ok(()) }
    }

    /// Whether the program ran, and so opened the file.
    pub(super) fn has_run(&self) -> bool {
        self.greeted
    }

    /// The map, or why it is not trusted. `bytes` and `mtime_seconds` are the file's by another source.
    pub(super) fn finish(self, bytes: u64, mtime_seconds: i64) -> Result<HoleMap, &'static str> {
        if let Some(why) = self.wrong {
            return Err(why);
        }
        let Some((length, allocated, mtime)) = self.end else { return Err("the map has no end") };
        if !self.line.is_empty() {
            return Err("there is data after the end");
        }
        if length != bytes || !same_second(mtime, mtime_seconds) {
            return Err("the map describes another state of the file");
        }
        self.data.finish(bytes, allocated, Tolerance::STRICT)
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
    fn a_map_is_parsed() {
        let lines = format!("0 4096\n{} {}\n{} {}\n-1 {} {} 77\n", 8192, MIB, 5 * MIB, 6 * MIB, 9 * MIB, 2 * MIB);
        assert_eq!(map(&lines, 9 * MIB), Ok(HoleMap::of(9 * MIB, vec![0..MIB, 5 * MIB..6 * MIB])));
    }

    #[test]
    fn inconsistent_maps_are_refused() {
        let end = format!("-1 {} {MIB} 77\n", 90 * MIB);
        let good = format!("0 {MIB}\n{end}");
        assert!(map(&good, 90 * MIB).is_ok());
        for (lines, why) in [
            (format!("0 {MIB}\n"), "the map has no end"),
            (format!("0 {MIB}\n-1 {} {MIB} 77", 90 * MIB), "the map has no end"),
            (format!("{good}0 1\n"), "there is data after the end"),
            (format!("{good}x"), "there is data after the end"),
            (format!("0 {MIB}\n{} {}\n{end}", MIB - 1, MIB + 5), "the ranges do not go forward"),
            (format!("5 5\n{end}"), "the ranges do not go forward"),
            (format!("{MIB} 0\n{end}"), "the ranges do not go forward"),
            (format!("{} {}\n{end}", 90 * MIB - 5, 90 * MIB + 1), "the ranges go beyond the file"),
            (format!("0 {MIB} 3\n{end}"), "a line is invalid"),
            (format!("0\n{end}"), "a line is invalid"),
            (format!("0 -5\n{end}"), "a line is invalid"),
            ("-1 -2 0 77\n".to_owned(), "a length below zero"),
            (format!("0 {MIB}\n-1 {} {MIB} 78\n", 90 * MIB), "the map describes another state of the file"),
            (format!("0 {MIB}\n-1 {} {MIB} 77\n", 91 * MIB), "the map describes another state of the file"),
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
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = MapReader::default();
            let _ = reader.push(format!("{MAP_GREETING}\n").as_bytes());
            let _ = reader.push(&bytes);
            let _ = reader.finish(5, 77);
        }
    }
}
