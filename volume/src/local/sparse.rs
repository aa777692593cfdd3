//! One file that is written sparsely.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::source::next_data;
use crate::block::{STORE_ZERO_BYTES, is_zero};
use crate::io::{HoleMapSource, Source};
use crate::name::FileName;

/// One file being written sparsely: what is never written stays a hole.
#[derive(Debug)]
pub struct SparseFile {
    file: File,
    bytes: u64,
}

impl SparseFile {
    /// Makes a new file of `bytes`, all hole, in an open folder.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` where there is one of that name, `FileTooLarge` where no file may be so long. No file
    /// is left then.
    pub fn create_new(folder: impl AsFd, name: &FileName, bytes: u64, mode: u32) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&folder, name.as_str(), flags, Mode::from_raw_mode(mode))?;
        if let Err(errno) = rustix::fs::ftruncate(&fd, bytes) {
            let _ = rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty());
            return Err(errno.into());
        }
        Ok(Self { file: File::from(fd), bytes })
    }

    /// Opens a file that an interrupted copy left behind.
    ///
    /// # Errors
    /// The system's; `InvalidData` where its length is not `bytes`.
    pub fn open(folder: impl AsFd, name: &FileName, bytes: u64) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(folder, name.as_str(), flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() || found.len() != bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the file that was begun"));
        }
        Ok(Self { file, bytes })
    }

    /// Writes `data` at `offset` without its aligned runs of zeros; see [`crate::io::Sink::write_at`].
    ///
    /// # Errors
    /// The system's; `InvalidInput` beyond the file's end.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<u64> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "writing beyond the end of the file"));
        }
        let mut written = 0u64;
        let mut rest = data;
        let mut at = offset;
        // The run of pieces with data that is not written yet: (offset, bytes).
        let mut pending: Option<(u64, usize)> = None;
        while !rest.is_empty() {
            let to_boundary = STORE_ZERO_BYTES - usize::try_from(at % STORE_ZERO_BYTES as u64).unwrap_or(0);
            let (piece, after) = rest.split_at(to_boundary.min(rest.len()));
            if is_zero(piece) {
                if let Some(run) = pending.take() {
                    written += self.write_run(offset, data, run)?;
                }
            } else {
                pending = Some(pending.map_or((at, piece.len()), |(start, len)| (start, len + piece.len())));
            }
            at += piece.len() as u64;
            rest = after;
        }
        if let Some(run) = pending {
            written += self.write_run(offset, data, run)?;
        }
        Ok(written)
    }

    fn write_run(&self, offset: u64, data: &[u8], (start, len): (u64, usize)) -> io::Result<u64> {
        let skip = usize::try_from(start - offset).unwrap_or(usize::MAX);
        let run = data.get(skip..skip.saturating_add(len)).unwrap_or_default();
        self.file.write_all_at(run, start)?;
        Ok(run.len() as u64)
    }

    /// Makes a range a hole again.
    ///
    /// # Errors
    /// The system's; a file system without holes gets zeros written instead.
    pub fn clear(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset.saturating_add(bytes).min(self.bytes);
        if end <= offset {
            return Ok(());
        }
        match rustix::fs::fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            offset,
            end - offset,
        ) {
            Err(Errno::OPNOTSUPP) => {
                const ZEROS: [u8; STORE_ZERO_BYTES] = [0; STORE_ZERO_BYTES];
                let mut at = offset;
                while at < end {
                    let len = usize::try_from(end - at).unwrap_or(STORE_ZERO_BYTES).min(STORE_ZERO_BYTES);
                    self.file.write_all_at(ZEROS.get(..len).unwrap_or_default(), at)?;
                    at += len as u64;
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Starts writing a range to the disk without waiting for it, so that a later [`SparseFile::sync_data`] is short.
    /// Only a hint.
    pub fn start_writeback(&self) {
        // There is no safe wrapper for sync_file_range(2); POSIX_FADV_DONTNEED starts writeback of dirty pages
        // (posix_fadvise(2), "Notes") and drops the clean ones, which a copy will not read again.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Waits until the file's bytes are on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Waits until the file's bytes and all that is known of it are on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Sets the file's time of last change. One that is not known is not set.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mtime(&self, mtime: Timestamp) -> io::Result<()> {
        if !crate::fingerprint::is_known(mtime) {
            return Ok(());
        }
        let time = Timespec { tv_sec: mtime.as_second(), tv_nsec: i64::from(mtime.subsec_nanosecond()) };
        // Before 1970 the fraction counts backwards in jiff and forwards in the kernel.
        let time = if time.tv_nsec < 0 {
            Timespec { tv_sec: time.tv_sec - 1, tv_nsec: time.tv_nsec + 1_000_000_000 }
        } else {
            time
        };
        Ok(rustix::fs::futimens(&self.file, &Timestamps { last_access: time, last_modification: time })?)
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Source for SparseFile {
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
        HoleMapSource::Seek
    }
}

#[cfg(test)]
mod tests {
    use super::super::LocalFolder;
    use super::*;
    use crate::io::Folder;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_become_holes_and_are_found_as_such() {
        let home = tempfile::tempdir().unwrap();
        let folder = File::open(home.path()).unwrap();
        let name = FileName::new("x").unwrap();
        let file = SparseFile::create_new(&folder, &name, 1 << 20, 0o600).unwrap();
        let mut data = vec![0u8; 64 << 10];
        data[5000] = 1;
        data[20_000] = 2;
        assert_eq!(file.write_at(4096, &data).unwrap(), 8192);
        let mut back = vec![9u8; data.len()];
        file.read_at(4096, &mut back).unwrap();
        assert_eq!(back, data);
        assert_eq!(file.next_data(0).unwrap(), Some(8192..12288));
        assert_eq!(file.next_data(12288).unwrap(), Some(20480..24576));
        assert_eq!(file.next_data(24576).unwrap(), None);
        assert_eq!(file.file().metadata().unwrap().blocks() * 512, 8192);
        file.clear(0, 12288).unwrap();
        assert_eq!(file.next_data(0).unwrap(), Some(20480..24576));
        assert!(file.write_at((1 << 20) - 1, &[1, 1]).is_err());
        assert!(SparseFile::create_new(&folder, &name, 1, 0o600).is_err());
        assert!(SparseFile::open(&folder, &name, 1).is_err());
        assert_eq!(SparseFile::open(&folder, &name, 1 << 20).unwrap().bytes(), 1 << 20);
    }

    #[test]
    fn times_are_kept_to_the_nanosecond() {
        let home = tempfile::tempdir().unwrap();
        let file =
            SparseFile::create_new(File::open(home.path()).unwrap(), &FileName::new("x").unwrap(), 0, 0o600).unwrap();
        for text in ["2026-11-22T04:15:00.123456789Z", "1969-12-31T23:59:58.5Z"] {
            let time: Timestamp = text.parse().unwrap();
            file.set_mtime(time).unwrap();
            let found = LocalFolder::open(home.path()).unwrap().stat("x").unwrap().unwrap().mtime;
            assert_eq!(found, time);
        }
    }
}
