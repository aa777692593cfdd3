//! Files on a file system that is mounted here: a datastore's folder, one file to read, one file to write.
//!
//! A datastore is hostile input: every path is opened below the datastore's folder without following a symbolic link
//! (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, Linux 5.6), and only regular files are read.

mod placing;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, StatxFlags, Timespec, Timestamps,
};
use rustix::io::Errno;

use crate::block::{STORE_ZERO_BYTES, is_zero};
use crate::io::{Entry, EntryKind, Folder, FolderError, HoleMapSource, MAX_SMALL_READ, Source};
use crate::name::FileName;

pub use placing::{NewFile, RESTORE_PREFIX};

/// The most entries that a folder may have to be listed: App Volumes' documented scale is some thousand volumes, with
/// up to five files each.
pub const MAX_FOLDER_ENTRIES: usize = 200_000;

/// A datastore that is mounted here.
#[derive(Debug)]
pub struct LocalFolder {
    root: OwnedFd,
    path: PathBuf,
}

impl LocalFolder {
    /// Opens the folder where a datastore is mounted.
    ///
    /// # Errors
    /// `Unreachable` where it is missing, is no folder or may not be entered.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| FolderError::Unreachable {
            datastore: path.display().to_string(),
            why: match errno {
                Errno::NOENT => "the folder does not exist; is the datastore mounted?".to_owned(),
                Errno::NOTDIR => "it is no folder".to_owned(),
                Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
                other => io::Error::from(other).to_string(),
            },
        })?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Where the datastore is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder is on NFS, where ESXi locks a file by another one beside it.
    #[must_use]
    pub fn is_nfs(&self) -> bool {
        // NFS_SUPER_MAGIC of statfs(2).
        rustix::fs::fstatfs(&self.root).is_ok_and(|stat| stat.f_type == 0x6969)
    }

    /// Whether this user may make files in it, as far as the system tells.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let ask = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&self.root, ".", ask, AtFlags::EACCESS).is_ok()
    }

    fn open_below(&self, path: &str, flags: OFlags) -> Result<OwnedFd, FolderError> {
        let path_or_root = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            // EAGAIN: a rename elsewhere made the kernel unsure that the path stays below (openat2(2)); ask again.
            match rustix::fs::openat2(&self.root, path_or_root, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map_err(|errno| self.explain(path, errno)),
            }
        }
    }

    fn explain(&self, path: &str, errno: Errno) -> FolderError {
        let path = path.to_owned();
        match errno {
            Errno::NOENT => FolderError::NotFound { path },
            Errno::ACCESS | Errno::PERM => FolderError::Denied { path },
            Errno::LOOP => FolderError::Refused { path, why: "symbolic links are not followed" },
            Errno::XDEV => FolderError::Refused { path, why: "it leaves the datastore" },
            Errno::NOTDIR => FolderError::Refused { path, why: "it is no folder" },
            Errno::STALE | Errno::IO | Errno::HOSTDOWN | Errno::TIMEDOUT => FolderError::Unreachable {
                datastore: self.path.display().to_string(),
                why: io::Error::from(errno).to_string(),
            },
            other => FolderError::Io { path, source: other.into() },
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn open_file(&self, path: &str) -> Result<LocalSource, FolderError> {
        // O_NONBLOCK: a FIFO planted under a volume's name must not hang the opening.
        let fd = self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.explain(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FolderError::Refused { path: path.to_owned(), why: "it is no regular file" });
        }
        LocalSource::new(File::from(fd)).map_err(|source| FolderError::Io { path: path.to_owned(), source })
    }
}

impl Folder for LocalFolder {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        let fd = self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        let mut folder = rustix::fs::Dir::read_from(&fd).map_err(|errno| self.explain(path, errno))?;
        while let Some(found) = folder.read() {
            let found = found.map_err(|errno| self.explain(path, errno))?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() >= MAX_FOLDER_ENTRIES {
                return Err(FolderError::TooMany { path: path.to_owned(), most: MAX_FOLDER_ENTRIES });
            }
            match entry(&fd, name) {
                Ok(entry) => entries.push(entry),
                // It went away between listing and looking.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.explain(&format!("{path}/{}", name.display()), errno)),
            }
        }
        Ok(entries)
    }

    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let fd = match self.open_below(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(FolderError::NotFound { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        if matches!(name, "" | "." | "..") {
            return Err(FolderError::Refused { path: path.to_owned(), why: "it names no file" });
        }
        match entry(&fd, OsStr::new(name)) {
            Ok(entry) => Ok(Some(entry)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.explain(path, errno)),
        }
    }

    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        let source = self.open_file(path)?;
        let len = usize::try_from(source.bytes()).unwrap_or(usize::MAX).min(limit).min(MAX_SMALL_READ);
        let mut bytes = vec![0; len];
        source.read_at(0, &mut bytes).map_err(|source| FolderError::Io { path: path.to_owned(), source })?;
        Ok(bytes)
    }
}

fn entry(folder: impl AsFd, name: &OsStr) -> Result<Entry, Errno> {
    let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::BLOCKS | StatxFlags::MTIME | StatxFlags::INO;
    let stat = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, mask)?;
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Folder,
        _ => EntryKind::Other,
    };
    let is_file = kind == EntryKind::File;
    Ok(Entry {
        name: name.to_string_lossy().into_owned(),
        utf8: name.to_str().is_some(),
        kind,
        bytes: if is_file { stat.stx_size } else { 0 },
        allocated: is_file.then(|| stat.stx_blocks.saturating_mul(512)),
        mtime: timestamp(stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec)),
        inode: Some(stat.stx_ino),
    })
}

/// A file's time; one outside of the years that can be shown becomes the epoch, which is never trusted as fresh.
fn timestamp(seconds: i64, nanoseconds: i64) -> Timestamp {
    i32::try_from(nanoseconds)
        .ok()
        .and_then(|nanoseconds| Timestamp::new(seconds, nanoseconds).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

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

fn next_data(file: &File, bytes: u64, from: u64) -> io::Result<Option<Range<u64>>> {
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
    /// The system's; `AlreadyExists` where there is one of that name.
    pub fn create_new(folder: impl AsFd, name: &FileName, bytes: u64, mode: u32) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(folder, name.as_str(), flags, Mode::from_raw_mode(mode))?;
        rustix::fs::ftruncate(&fd, bytes)?;
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

    /// Sets the file's time of last change.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mtime(&self, mtime: Timestamp) -> io::Result<()> {
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
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn write(path: &Path, bytes: &[u8]) {
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn only_regular_files_below_the_folder_are_read() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("ds");
        std::fs::create_dir_all(root.join("apps")).unwrap();
        write(&home.path().join("secret"), b"secret");
        write(&root.join("apps/a.vmdk"), b"hello");
        symlink("../../secret", root.join("apps/link")).unwrap();
        symlink("..", root.join("apps/up")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("apps/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let folder = LocalFolder::open(&root).unwrap();
        assert_eq!(folder.read("apps/a.vmdk", 3).unwrap(), b"hel");
        for path in
            ["../secret", "apps/../../secret", "/etc/passwd", "apps/link", "apps/up/secret", "apps/fifo", "apps"]
        {
            let error = folder.read(path, 10).unwrap_err();
            assert!(matches!(error, FolderError::Refused { .. }), "{path}: {error:?}");
        }
        assert!(matches!(folder.read("apps/none", 1), Err(FolderError::NotFound { .. })));
        assert!(matches!(folder.list("none"), Err(FolderError::NotFound { .. })));
        assert!(folder.stat("none/none").unwrap().is_none());
        let mut names: Vec<_> =
            folder.list("apps").unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
        names.sort_by(|one, two| one.0.cmp(&two.0));
        let kinds: Vec<_> = names.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(
            kinds,
            [
                ("a.vmdk", EntryKind::File),
                ("fifo", EntryKind::Other),
                ("link", EntryKind::Other),
                ("up", EntryKind::Other)
            ]
        );
        assert!(matches!(LocalFolder::open(&root.join("none")), Err(FolderError::Unreachable { .. })));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_listed_as_such() {
        let home = tempfile::tempdir().unwrap();
        write(&home.path().join(OsStr::from_bytes(b"a\xff.vmdk")), b"x");
        let entries = LocalFolder::open(home.path()).unwrap().list("").unwrap();
        assert_eq!(entries.len(), 1);
        assert!(!entries[0].utf8);
    }

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
