//! One open folder of the vault, and all that is done in it.
//!
//! Every name is a single component, opened below the folder without following a symbolic link (`openat2`, Linux 5.6):
//! nothing here can reach out of the vault, whatever was put into it. Each call that changes what a crash leaves
//! behind passes [`step`] first.
//!
//! Locks are `flock` on the open folder: the kernel drops them when their holder dies, however it dies, and they go
//! with the folder when it is renamed. Each [`Dir`] is an open file description of its own, so threads of one process
//! exclude each other too.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use stackferry_volume::FileName;

use crate::VaultError;
use crate::access::Permissions;
use crate::steps::step;

/// The maximum number of entries that a folder of the vault may have to be listed: 100 times the design's 5,000 volumes.
const MAX_ENTRIES: usize = 500_000;
/// How deep a tree may be to be removed. The vault's own are two folders deep.
const MAX_DEPTH: usize = 16;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// An open folder.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// One entry of a folder.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its name; none where that is no [`FileName`].
    pub(crate) name: Option<FileName>,
    /// Its name as it can be shown.
    pub(crate) shown: String,
    /// Whether it is a folder.
    pub(crate) is_folder: bool,
}

/// How a rename ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It has the new name.
    Done,
    /// The new name is taken.
    Taken,
    /// There is nothing of the old name.
    Gone,
}

impl Dir {
    /// The folder at a path that the configuration or a person gave: symbolic links in it are followed. None where
    /// there is nothing.
    pub(crate) fn at(path: &Path) -> Result<Option<Self>, VaultError> {
        match rustix::fs::open(path, FOLDER | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(VaultError::system("open", path, errno)),
        }
    }

    /// A folder that is open already; `path` is what it is called in messages.
    pub(crate) fn of(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, to be shown.
    pub(crate) fn child(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn fail(&self, op: &'static str, name: &str) -> impl FnOnce(Errno) -> VaultError {
        move |errno| VaultError::system(op, &self.child(name), errno)
    }

    fn open_raw(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        if name.contains('/') || name == ".." {
            return Err(Errno::INVAL);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            match rustix::fs::openat2(&self.fd, name, flags, mode, resolve) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// A folder in this one; none where there is none.
    pub(crate) fn sub(&self, name: &str) -> Result<Option<Self>, VaultError> {
        match self.open_raw(name, FOLDER, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.child(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fail("open", name)(errno)),
        }
    }

    /// A folder in this one that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<Self, VaultError> {
        self.sub(name)?.ok_or_else(|| self.fail("open", name)(Errno::NOENT))
    }

    /// A folder in this one, made if it is missing. A new one is durable when this returns.
    pub(crate) fn make(&self, name: &str, access: Permissions) -> Result<Self, VaultError> {
        if let Some(found) = self.sub(name)? {
            return Ok(found);
        }
        step("make", &self.child(name))?;
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.fail("make", name)(errno)),
        }
        let made = self.need(name)?;
        made.open_to(access)?;
        self.sync()?;
        Ok(made)
    }

    /// Returns the folder the mode and group of the vault's folders.
    pub(crate) fn open_to(&self, access: Permissions) -> Result<(), VaultError> {
        let mode = access.folder();
        let applied = access.is_applied(&self.fd, mode).unwrap_or(false);
        if applied {
            return Ok(());
        }
        access.apply(&self.fd, mode).map_err(|errno| VaultError::system("set mode and group of", &self.path, errno))
    }

    /// Opens a regular file; none where there is nothing. Anything else than a file is refused.
    pub(crate) fn file(&self, name: &str) -> Result<Option<File>, VaultError> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// The same for a file that is to be locked: NFS 4 lets one be alone only with what is open for writing.
    pub(crate) fn file_to_lock(&self, name: &str) -> Result<Option<File>, VaultError> {
        self.open_file(name, OFlags::RDWR)
    }

    fn open_file(&self, name: &str, way: OFlags) -> Result<Option<File>, VaultError> {
        // O_NONBLOCK: a FIFO of that name must not hang the opening.
        let fd = match self.open_raw(name, way | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.fail("open", name)(errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(self.fail("examine", name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let why = "it is no regular file".to_owned();
            return Err(VaultError::RecordDamaged { path: self.child(name), why });
        }
        Ok(Some(File::from(fd)))
    }

    /// Opens a file for reading and writing, made with this mode if it is missing.
    pub(crate) fn file_to_write(&self, name: &str, access: Permissions) -> Result<File, VaultError> {
        step("make", &self.child(name))?;
        let fd = self
            .open_raw(name, OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK, access.file())
            .map_err(self.fail("open", name))?;
        access.own(&fd).map_err(self.fail("set owner and group of", name))?;
        Ok(File::from(fd))
    }

    /// The bytes of a file of at most `limit` bytes; none where there is no such file.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, VaultError> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| VaultError::system("read", &self.child(name), error))?;
        if bytes.len() as u64 > limit {
            let why = format!("it is longer than {limit} bytes");
            return Err(VaultError::RecordDamaged { path: self.child(name), why });
        }
        Ok(Some(bytes))
    }

    /// All entries, in no order.
    pub(crate) fn items(&self) -> Result<Vec<Item>, VaultError> {
        let fail = |errno| VaultError::system("list", &self.path, errno);
        let mut items = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if items.len() >= MAX_ENTRIES {
                let why = format!("it holds more than {MAX_ENTRIES} entries");
                return Err(VaultError::RecordDamaged { path: self.path.clone(), why });
            }
            let is_folder = match entry.file_type() {
                FileType::Directory => true,
                // Some file systems don't report it in the listing.
                FileType::Unknown => rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
                _ => false,
            };
            let file_name = name.to_str().and_then(|name| FileName::new(name).ok());
            items.push(Item { name: file_name, shown: name.to_string_lossy().into_owned(), is_folder });
        }
        Ok(items)
    }

    /// What is known of an entry, links not followed; none where there is nothing.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<Stat>, VaultError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fail("examine", name)(errno)),
        }
    }

    /// Whether this open folder is still the entry of that name in `parent`.
    pub(crate) fn is_still(&self, parent: &Dir, name: &str) -> Result<bool, VaultError> {
        let own = rustix::fs::fstat(&self.fd).map_err(|errno| VaultError::system("examine", &self.path, errno))?;
        Ok(parent.stat(name)?.is_some_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)))
    }

    /// Waits until the folder's entries are on the disk.
    pub(crate) fn sync(&self) -> Result<(), VaultError> {
        step("sync folder", &self.path)?;
        rustix::fs::fsync(&self.fd).map_err(|errno| VaultError::system("sync", &self.path, errno))
    }

    /// Waits for the folder's lock, alone with it (`true`) or together with others (`false`). The lock goes when the
    /// `Dir` is dropped.
    pub(crate) fn lock(&self, alone: bool) -> Result<(), VaultError> {
        let operation = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
        self.flock(operation).map(|_| ())
    }

    /// Takes the folder's lock if it is free; false if it is not.
    pub(crate) fn try_lock(&self, alone: bool) -> Result<bool, VaultError> {
        let operation = match alone {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        self.flock(operation)
    }

    fn flock(&self, operation: FlockOperation) -> Result<bool, VaultError> {
        loop {
            match rustix::fs::flock(&self.fd, operation) {
                Ok(()) => return Ok(true),
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(VaultError::system("lock", &self.path, errno)),
            }
        }
    }

    /// Renames an entry into another folder of the same file system, never over something.
    ///
    /// NFS knows no `RENAME_NOREPLACE` (`EINVAL`). There a file gets its new name by a hard link, which is never made over
    /// something, whoever else works there. A folder, of which there are no links, is renamed after a check: the caller holds
    /// the lock under which that name is made, and no rename replaces a folder that holds something (rename(2), `ENOTEMPTY`).
    pub(crate) fn move_to(&self, name: &str, to: &Dir, to_name: &str) -> Result<Moved, VaultError> {
        step("rename", &self.child(name))?;
        let renamed = match rustix::fs::renameat_with(&self.fd, name, &to.fd, to_name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::linkat(&self.fd, name, &to.fd, to_name, AtFlags::empty()) {
                    // It has its name; the former one is in nobody's way.
                    Ok(()) => {
                        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
                        Ok(())
                    }
                    Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ISDIR) => match to.stat(to_name)? {
                        Some(_) => Err(Errno::EXIST),
                        None => rustix::fs::renameat(&self.fd, name, &to.fd, to_name),
                    },
                    Err(errno) => Err(errno),
                }
            }
            other => other,
        };
        match renamed {
            Ok(()) => Ok(Moved::Done),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(Moved::Taken),
            Err(Errno::NOENT) => Ok(Moved::Gone),
            Err(Errno::XDEV) => Err(VaultError::TwoFileSystems { one: self.path.clone(), other: to.path.clone() }),
            Err(errno) => Err(self.fail("rename", name)(errno)),
        }
    }

    /// Renames an entry over whatever file has the new name.
    pub(crate) fn move_over(&self, name: &str, to_name: &str) -> Result<(), VaultError> {
        step("rename", &self.child(name))?;
        rustix::fs::renameat(&self.fd, name, &self.fd, to_name).map_err(self.fail("rename", name))
    }

    /// Writes a new file of this mode, on the disk when this returns, its name not yet: [`Dir::sync`] is the caller's.
    pub(crate) fn write_new(
        &self,
        name: &str,
        bytes: &[u8],
        access: Permissions,
        mode: Mode,
    ) -> Result<(), VaultError> {
        step("write", &self.child(name))?;
        let path = self.child(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = self.open_raw(name, flags, Mode::RUSR | Mode::WUSR).map_err(self.fail("make", name))?;
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(|error| VaultError::system("write", &path, error))?;
        access.apply(&file, mode).map_err(self.fail("set mode and group of", name))?;
        step("sync file", &path)?;
        file.sync_all().map_err(|error| VaultError::system("sync", &path, error))
    }

    /// Returns a small file new bytes, at once. The caller holds the lock under which this name is written.
    ///
    /// 1. Remove what an interrupted call left under the temporary name.
    /// 2. Write the bytes under the temporary name, and wait until they are on the disk.
    /// 3. Rename it over the file.
    /// 4. Wait until the folder is on the disk.
    ///
    /// A crash before 3 leaves the old bytes, one after it the new ones: the file system renames at once, and what the
    /// new name points to was on the disk before. After 4 the old bytes can't come back.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8], access: Permissions) -> Result<(), VaultError> {
        let temporary = format!("{name}.tmp");
        self.unlink(&temporary)?;
        self.write_new(&temporary, bytes, access, access.file())?;
        self.move_over(&temporary, name)?;
        self.sync()
    }

    /// Removes a file, if it is there.
    pub(crate) fn unlink(&self, name: &str) -> Result<(), VaultError> {
        step("remove", &self.child(name))?;
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail("remove", name)(errno)),
        }
    }

    /// Removes an entry with all that is in it, if it is there. Links are removed, not followed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), VaultError> {
        self.remove_below(OsStr::new(name), MAX_DEPTH)
    }

    fn remove_below(&self, name: &OsStr, depth: usize) -> Result<(), VaultError> {
        let path = self.path.join(name);
        let fail = |errno| VaultError::system("remove", &path, errno);
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                step("remove", &path)?;
                return rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(fail);
            }
            Ok(_) => {}
        }
        let depth = depth.checked_sub(1).ok_or_else(|| fail(Errno::LOOP))?;
        let fd = rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
        let folder = Self { fd, path: path.clone() };
        for entry in rustix::fs::Dir::read_from(&folder.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                folder.remove_below(name, depth)?;
            }
        }
        step("remove", &path)?;
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail(errno)),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn access() -> Permissions {
        Permissions::new(None).unwrap()
    }

    #[test]
    fn nothing_is_reached_through_a_link() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), b"x").unwrap();
        let inside = home.path().join("inside");
        std::fs::create_dir_all(inside.join("tree/sub")).unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        symlink(outside.join("kept"), inside.join("file")).unwrap();
        symlink(&outside, inside.join("tree/sub/link")).unwrap();
        let dir = Dir::at(&inside).unwrap().unwrap();
        for name in ["link", "../outside", "..", "/etc"] {
            assert!(dir.sub(name).is_err(), "{name}");
        }
        assert!(dir.file("file").is_err());
        assert!(dir.read("file", 9).is_err());
        dir.remove("tree").unwrap();
        dir.remove("tree").unwrap();
        dir.remove("link").unwrap();
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn a_name_that_is_taken_stays() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::at(home.path()).unwrap().unwrap();
        let (one, two) = (dir.make("one", access()).unwrap(), dir.make("two", access()).unwrap());
        one.make("x", access()).unwrap();
        two.make("x", access()).unwrap();
        assert_eq!(one.move_to("x", &two, "x").unwrap(), Moved::Taken);
        assert_eq!(one.move_to("x", &two, "y").unwrap(), Moved::Done);
        assert_eq!(one.move_to("x", &two, "z").unwrap(), Moved::Gone);
    }

    #[test]
    fn locks_exclude_within_one_process_and_go_with_their_holder() {
        let home = tempfile::tempdir().unwrap();
        let open = || Dir::at(home.path()).unwrap().unwrap();
        let (one, two) = (open(), open());
        assert!(one.try_lock(false).unwrap());
        assert!(two.try_lock(false).unwrap());
        assert!(!open().try_lock(true).unwrap());
        drop((one, two));
        let alone = open();
        assert!(alone.try_lock(true).unwrap());
        assert!(!open().try_lock(false).unwrap());
        assert!(alone.is_still(&alone, ".").unwrap());
    }

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::at(home.path()).unwrap().unwrap();
        let group = Permissions::new(Some("0")).unwrap();
        dir.make("folder", group).unwrap();
        dir.replace("file", b"x", group).unwrap();
        dir.replace("file", b"y", group).unwrap();
        let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("folder"), mode("file")), (0o750, 0o640));
        assert_eq!(dir.read("file", 1).unwrap().unwrap(), b"y");
        assert!(dir.read("file", 0).is_err());
        assert!(dir.read("none", 0).unwrap().is_none());
    }
}
