//! Files on a file system that is mounted here: a datastore's folder, one file to read, one file to write.
//!
//! A datastore is hostile input: every path is opened below the datastore's folder without following a symbolic link
//! (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, Linux 5.6), and only regular files are read.

mod owner;
mod placing;
mod pulse;
mod source;
mod sparse;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::fingerprint::{is_known, time_of};
use crate::io::{Entry, EntryKind, Folder, FolderError, MAX_SMALL_READ, Source};

pub use owner::{give_to_owner, owner_of};
pub use placing::{NewFile, RESTORE_PREFIX};
pub use pulse::Pulse;
pub use source::{Holes, LocalSource};
pub use sparse::SparseFile;

/// The maximum number of entries that a folder may have to be listed: App Volumes' documented scale is some thousand volumes, with
/// up to five files each.
pub const MAX_FOLDER_ENTRIES: usize = 200_000;

/// A datastore that is mounted here.
#[derive(Debug)]
pub struct LocalFolder {
    root: OwnedFd,
    path: PathBuf,
    pulse: Arc<Pulse>,
}

impl LocalFolder {
    /// Opens the folder where a datastore is mounted.
    ///
    /// # Errors
    /// `Unreachable` where it is missing, is no folder or may not be entered.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        Self::open_with(path, Arc::default())
    }

    /// The same; all calls to the mount are seen at `pulse` while they last.
    ///
    /// # Errors
    /// As of [`LocalFolder::open`].
    pub fn open_with(path: &Path, pulse: Arc<Pulse>) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = pulse.call(|| rustix::fs::open(path, flags, Mode::empty()));
        let root = opened.map_err(|errno| FolderError::Unreachable {
            datastore: path.display().to_string(),
            why: match errno {
                Errno::NOENT => "the folder does not exist; is the datastore mounted?".to_owned(),
                Errno::NOTDIR => "it is no folder".to_owned(),
                Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
                other => io::Error::from(other).to_string(),
            },
        })?;
        Ok(Self { root, path: path.to_owned(), pulse })
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
        self.pulse.call(|| rustix::fs::fstatfs(&self.root)).is_ok_and(|stat| stat.f_type == 0x6969)
    }

    /// Whether this user may make files in it, as far as the system reports.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let ask = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        self.pulse.call(|| rustix::fs::accessat(&self.root, ".", ask, AtFlags::EACCESS)).is_ok()
    }

    fn open_below(&self, path: &str, flags: OFlags) -> Result<OwnedFd, FolderError> {
        let path_or_root = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            // EAGAIN: a rename elsewhere made the kernel unsure that the path stays below (openat2(2)); ask again.
            let flags = flags | OFlags::CLOEXEC;
            let open = || rustix::fs::openat2(&self.root, path_or_root, flags, Mode::empty(), resolve);
            match self.pulse.call(open) {
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
            // One file that was deleted elsewhere, or is on a bad sector, is not a datastore that is away.
            Errno::STALE | Errno::IO | Errno::HOSTDOWN | Errno::TIMEDOUT if !self.answers() => {
                FolderError::Unreachable {
                    datastore: self.path.display().to_string(),
                    why: io::Error::from(errno).to_string(),
                }
            }
            other => FolderError::Io { path, source: other.into() },
        }
    }

    /// Whether the datastore's own folder can be read.
    fn answers(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.pulse
            .call(|| {
                let root = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
                rustix::fs::fstat(&root)
            })
            .is_ok()
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn open_file(&self, path: &str) -> Result<LocalSource, FolderError> {
        // O_NONBLOCK: a FIFO planted under a volume's name must not hang the opening.
        let fd = self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
        let stat = self.pulse.call(|| rustix::fs::fstat(&fd)).map_err(|errno| self.explain(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FolderError::Refused { path: path.to_owned(), why: "it is no regular file" });
        }
        LocalSource::with_pulse(File::from(fd), Arc::clone(&self.pulse))
            .map_err(|source| FolderError::Io { path: path.to_owned(), source })
    }
}

impl Folder for LocalFolder {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        let fd = self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        let mut folder = rustix::fs::Dir::read_from(&fd).map_err(|errno| self.explain(path, errno))?;
        while let Some(found) = self.pulse.call(|| folder.read()) {
            let found = found.map_err(|errno| self.explain(path, errno))?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() >= MAX_FOLDER_ENTRIES {
                return Err(FolderError::TooMany { path: path.to_owned(), most: MAX_FOLDER_ENTRIES });
            }
            match self.pulse.call(|| entry(&fd, name)) {
                Ok(entry) => entries.push(entry),
                // It went away between listing and looking.
                Err(Errno::NOENT) => {}
                Err(errno) => match self.explain(&format!("{path}/{}", name.display()), errno) {
                    error @ FolderError::Unreachable { .. } => return Err(error),
                    _ => entries.push(unreadable(name)),
                },
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
        match self.pulse.call(|| entry(&fd, OsStr::new(name))) {
            Ok(entry) => Ok(Some(entry)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.explain(path, errno)),
        }
    }

    fn now(&self) -> Option<Timestamp> {
        // Of statfs(2): ext2 to ext4, XFS, Btrfs, tmpfs, ZFS, overlayfs, F2FS, exFAT, FAT, NTFS. All others, network and
        // FUSE file systems above all, may have a clock of their own.
        const OURS: [i64; 11] = [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x2fc1_2fc1,
            0x794c_7630,
            0xf2f5_2010,
            0x2011_bab0,
            0x4d44,
            0x5346_544e,
            0x7366_746e,
        ];
        let kind = self.pulse.call(|| rustix::fs::fstatfs(&self.root)).ok()?.f_type;
        OURS.contains(&kind).then(Timestamp::now)
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
    let stat = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC, STAMP)?;
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
        mtime: time_of(stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec)),
        changed: Some(time_of(stat.stx_ctime.tv_sec, i64::from(stat.stx_ctime.tv_nsec))).filter(|time| is_known(*time)),
        inode: Some(stat.stx_ino),
    })
}

fn unreadable(name: &OsStr) -> Entry {
    Entry {
        name: name.to_string_lossy().into_owned(),
        utf8: name.to_str().is_some(),
        kind: EntryKind::Unreadable,
        bytes: 0,
        allocated: None,
        mtime: Timestamp::UNIX_EPOCH,
        changed: None,
        inode: None,
    }
}

/// What is asked for each file. It is always asked with `AT_STATX_FORCE_SYNC`: a network file system answers from a cache
/// of up to a minute otherwise, and hides that another machine wrote to the file.
const STAMP: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::SIZE)
    .union(StatxFlags::BLOCKS)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::INO);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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
}
