//! One file that is read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use super::timestamp;
use crate::io::{Entry, EntryKind, HoleMapSource, Source};

/// One regular file, opened for reading.
#[derive(Debug)]
pub struct LocalSource {
    file: File,
    bytes: u64,
    hole_map: HoleMapSource,
}

impl LocalSource {
    /// Takes a regular file that is open for reading.
    ///
    /// # Errors
    /// The system's, when asked for the file's length and holes.
    pub fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let mut source = Self { file, bytes, hole_map: HoleMapSource::Seek };
        source.hole_map = source.probe_holes()?;
        // Copies read from front to back: a larger read-ahead. A refusal only costs speed.
        let _ = rustix::fs::fadvise(&source.file, 0, None, rustix::fs::Advice::Sequential);
        Ok(source)
    }

    /// Where a file system knows no `SEEK_HOLE`, Linux calls the whole file data. So a file that takes much less room
    /// than its length and has no hole by that answer has holes that can't be known.
    fn probe_holes(&self) -> io::Result<HoleMapSource> {
        const SLACK_BYTES: u64 = 1 << 20;
        let takes = self.stamp()?.1;
        let whole = self.next_data(0)?.is_some_and(|data| data == (0..self.bytes));
        Ok(if whole && takes.saturating_add(SLACK_BYTES) < self.bytes {
            HoleMapSource::None
        } else {
            HoleMapSource::Seek
        })
    }

    /// The file as it is now: its entry without a name, and the bytes that it takes on disk.
    ///
    /// # Errors
    /// The system's.
    pub fn stamp(&self) -> io::Result<(Entry, u64)> {
        let mask = StatxFlags::SIZE | StatxFlags::BLOCKS | StatxFlags::MTIME | StatxFlags::INO;
        let stat = rustix::fs::statx(&self.file, "", AtFlags::EMPTY_PATH, mask)?;
        let allocated = stat.stx_blocks.saturating_mul(512);
        let entry = Entry {
            name: String::new(),
            utf8: true,
            kind: EntryKind::File,
            bytes: stat.stx_size,
            allocated: Some(allocated),
            mtime: timestamp(stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec)),
            inode: Some(stat.stx_ino),
        };
        Ok((entry, allocated))
    }

    /// The file's device and inode numbers: what a grant is bound to.
    ///
    /// # Errors
    /// The system's.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.file)?;
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
        // The file was cut meanwhile: reading will tell.
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
        next_data(&self.file, self.bytes, from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
    fn hole_map(&self) -> HoleMapSource {
        self.hole_map
    }
}
