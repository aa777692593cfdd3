//! One file that is read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, SeekFrom};
use rustix::io::Errno;

use super::{Pulse, STAMP};
use crate::block::is_zero;
use crate::fingerprint::{is_known, time_of};
use crate::holes::{HoleMap, MapBuilder, SAMPLE_BYTES, Tolerance};
use crate::io::{Entry, EntryKind, HoleMapSource, Source};

/// How many places of a file's holes are read to see whether they are zeros. A true hole costs no reading of the disk.
const SAMPLES: usize = 64;
/// Btrfs, as statfs(2) names it: it compresses, and no lie of its about holes is known.
const BTRFS: i64 = 0x9123_683e;

/// One regular file, opened for reading.
#[derive(Debug)]
pub struct LocalSource {
    file: File,
    bytes: u64,
    pulse: Arc<Pulse>,
}

/// Where a file has data, as far as that is believed.
#[derive(Debug)]
pub struct Holes {
    /// The map; everything where none is known or believed.
    pub map: HoleMap,
    /// How it is known.
    pub source: HoleMapSource,
    /// Why what the file system said is not believed.
    pub distrust: Option<&'static str>,
}

impl LocalSource {
    /// Takes a regular file that is open for reading.
    ///
    /// # Errors
    /// The system's, when asked for the file's length.
    pub fn new(file: File) -> io::Result<Self> {
        Self::with_pulse(file, Arc::default())
    }

    /// The same; all calls for the file are seen at `pulse` while they last.
    ///
    /// # Errors
    /// As of [`LocalSource::new`].
    pub fn with_pulse(file: File, pulse: Arc<Pulse>) -> io::Result<Self> {
        let mut source = Self { file, bytes: 0, pulse };
        source.bytes = source.stamp()?.0.bytes;
        // Copies read from front to back: a larger read-ahead. A refusal only costs speed.
        let _ = rustix::fs::fadvise(&source.file, 0, None, rustix::fs::Advice::Sequential);
        Ok(source)
    }

    /// Asks the file system where the file has data, and holds the answer against what else is known; see
    /// [`crate::holes`]. What is not believed does no harm: all of the file is read then.
    #[must_use]
    pub fn holes(&self) -> Holes {
        let all = |distrust| Holes { map: HoleMap::all(self.bytes), source: HoleMapSource::None, distrust };
        match self.ask_for_holes() {
            Ok(Some(map)) => Holes { map, source: HoleMapSource::Seek, distrust: None },
            Ok(None) => all(None),
            Err(why) => all(Some(why)),
        }
    }

    fn ask_for_holes(&self) -> Result<Option<HoleMap>, &'static str> {
        const FAILED: &str = "the file system fails to say where the file has data";
        let mut builder = MapBuilder::default();
        let mut at = 0;
        while at < self.bytes {
            let start = match self.pulse.call(|| rustix::fs::seek(&self.file, SeekFrom::Data(at))) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                // It does not know the question.
                Err(Errno::INVAL | Errno::OPNOTSUPP) if at == 0 => return Ok(None),
                Err(_) => return Err(FAILED),
            };
            let end = self.pulse.call(|| rustix::fs::seek(&self.file, SeekFrom::Hole(start))).map_err(|_| FAILED)?;
            builder.add(start..end)?;
            at = end;
        }
        let allocated = self.stamp().map_err(|_| FAILED)?.1;
        let compressed = self.pulse.call(|| rustix::fs::fstatfs(&self.file)).is_ok_and(|stat| stat.f_type == BTRFS);
        let tolerance = Tolerance { compressed, ..Tolerance::STRICT };
        let map = builder.finish(self.bytes, allocated, tolerance);
        match map {
            Ok(map) if self.are_zero(&map) => Ok(Some(map)),
            Ok(_) => Err("data is called a hole"),
            // Where a file system knows no `SEEK_HOLE`, Linux calls the whole file data.
            Err(_) if self.is_all_data() => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn is_all_data(&self) -> bool {
        self.pulse.call(|| next_data(&self.file, self.bytes, 0)).is_ok_and(|data| data == Some(0..self.bytes))
    }

    fn are_zero(&self, map: &HoleMap) -> bool {
        let mut buffer = vec![0; usize::try_from(SAMPLE_BYTES).unwrap_or(1 << 16)];
        map.samples(SAMPLES).into_iter().all(|(offset, bytes)| {
            let piece = buffer.get_mut(..usize::try_from(bytes).unwrap_or(0)).unwrap_or_default();
            self.read_at(offset, piece).is_ok() && is_zero(piece)
        })
    }

    /// The file as it is now, by its server and not by this machine's cache of it: its entry without a name, and the
    /// bytes that it takes on disk.
    ///
    /// # Errors
    /// The system's.
    pub fn stamp(&self) -> io::Result<(Entry, u64)> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let stat = self.pulse.call(|| rustix::fs::statx(&self.file, "", flags, STAMP))?;
        let allocated = stat.stx_blocks.saturating_mul(512);
        let entry = Entry {
            name: String::new(),
            utf8: true,
            kind: EntryKind::File,
            bytes: stat.stx_size,
            allocated: Some(allocated),
            mtime: time_of(stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec)),
            changed: Some(time_of(stat.stx_ctime.tv_sec, i64::from(stat.stx_ctime.tv_nsec)))
                .filter(|time| is_known(*time)),
            inode: Some(stat.stx_ino),
        };
        Ok((entry, allocated))
    }

    /// The file's device and inode numbers: what a grant is bound to.
    ///
    /// # Errors
    /// The system's.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = self.pulse.call(|| rustix::fs::fstat(&self.file))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Drops a range from the page cache, so that a copy of terabytes does not push out what others need. A refusal
    /// costs nothing.
    pub fn forget(&self, range: Range<u64>) {
        if let Some(len) = std::num::NonZeroU64::new(range.end.saturating_sub(range.start)) {
            let _ = rustix::fs::fadvise(&self.file, range.start, Some(len), rustix::fs::Advice::DontNeed);
        }
    }
}

pub(super) fn next_data(file: &File, bytes: u64, from: u64) -> io::Result<Option<Range<u64>>> {
    if from >= bytes {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that does not know the question has data everywhere.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..bytes)),
        Err(errno) => return Err(errno.into()),
    };
    if start >= bytes {
        return Ok(None);
    }
    let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => end.min(bytes),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => bytes,
        // The file was cut meanwhile: reading will show it.
        Err(Errno::NXIO) => bytes,
        Err(errno) => return Err(errno.into()),
    };
    Ok(Some(start..end.max(start)))
}

impl Source for LocalSource {
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.pulse.call(|| next_data(&self.file, self.bytes, from))
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.pulse.call(|| self.file.read_exact_at(buf, offset))
    }
    fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<(), (u64, io::Error)> {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            // The system gives what comes before a byte that can't be read, and fails at that byte when asked again.
            match self.pulse.call(|| self.file.read_at(rest, at)) {
                Ok(0) => return Err((at, io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    at += read as u64;
                    rest = rest.get_mut(read..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((at, error)),
            }
        }
        Ok(())
    }
    fn hole_map(&self) -> HoleMapSource {
        HoleMapSource::Seek
    }
}
