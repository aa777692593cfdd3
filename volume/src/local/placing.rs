//! One new file in a datastore's folder, which has its name only once it is whole.
//!
//! 1. Nothing has the final name. Under the folder's lock, what a crash left of earlier restores is removed, and the file
//!    is made under a temporary name and locked.
//! 2. Its bytes are written sparsely; then it gets its time, and is on the disk.
//! 3. It is renamed to its final name, which fails where there is something of that name, and the folder is synced.
//!
//! Whoever drops a [`NewFile`] before [`NewFile::keep`] removes the file, under whichever of the two names it has: several
//! files can so be named one after the other, and all be taken back where one of them can't be named. A crash before 3
//! leaves a temporary file, which is not locked any more, and which the next restore into this folder removes.
//!
//! It must never write to, rename over or remove a file that it did not make itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{LocalFolder, SparseFile};
use crate::io::FolderError;
use crate::name::FileName;

/// How the names of files begin that are being restored. A volume's own file is never called so.
pub const RESTORE_PREFIX: &str = ".stackferry-restore-";
/// Restored disks are a user's own data: only who restores them may read them, until they decide otherwise.
const MODE: u32 = 0o600;
/// The maximum number of bytes of a temporary name that are taken from the file's own.
const MAX_TAIL: usize = 180;
/// How long another restore's lock of the folder is waited for, and how often it is tried.
const LOCK_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5000 });
const LOCK_LOOK: Duration = Duration::from_millis(20);

impl LocalFolder {
    /// Opens a folder of the datastore, and makes what is missing of it. No symbolic link is followed.
    ///
    /// # Errors
    /// See [`FolderError`]; `Refused` where the path is not plain.
    pub fn make_folder(&self, path: &str) -> Result<OwnedFd, FolderError> {
        const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
        let mut folder = self.open_below("", FOLDER)?;
        if path.is_empty() {
            return Ok(folder);
        }
        let mut so_far = String::new();
        for part in path.split('/') {
            if matches!(part, "" | "." | "..") {
                return Err(FolderError::Refused { path: path.to_owned(), why: "the path is not plain" });
            }
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far.push_str(part);
            folder = match self.open_below(&so_far, FOLDER) {
                Err(FolderError::NotFound { .. }) => {
                    match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                        // Somebody else was first.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(self.explain(&so_far, errno)),
                    }
                    rustix::fs::fsync(&folder).map_err(|errno| self.explain(&so_far, errno))?;
                    self.open_below(&so_far, FOLDER)?
                }
                other => other?,
            };
        }
        Ok(folder)
    }
}

/// A new file that is being written.
#[derive(Debug)]
pub struct NewFile {
    folder: OwnedFd,
    temporary: String,
    name: FileName,
    file: SparseFile,
    is_named: bool,
    is_kept: bool,
}

impl NewFile {
    /// Makes a file of `bytes`, all hole, that is to be called `name` in this folder. `tag` distinguishes this restore's temporary
    /// files from others': 16 random hexadecimal digits.
    ///
    /// # Errors
    /// `AlreadyExists` where there is something of that name; `InvalidInput` for a name that restores use themselves; else
    /// the system's.
    pub fn create(folder: OwnedFd, name: &FileName, bytes: u64, tag: u64) -> io::Result<Self> {
        if name.as_str().starts_with(RESTORE_PREFIX) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "restores use such names themselves"));
        }
        match rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(Errno::EXIST.into()),
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // While one restore makes and locks its file, another one must not take it for a leftover.
        let alone = rustix::fs::openat(&folder, ".", flags, Mode::empty())?;
        // Without the lock nothing is removed.
        if is_locked(&alone) {
            remove_leftovers(&folder)?;
        }
        let own = name.as_str();
        let tail: String =
            own.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_TAIL).map(|(_, c)| c).collect();
        let temporary = format!("{RESTORE_PREFIX}{tag:016x}-{tail}");
        let file_name =
            FileName::new(&temporary).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let file = SparseFile::create_new(&folder, &file_name, bytes, MODE)?;
        let made = Self { folder, temporary, name: name.clone(), file, is_named: false, is_kept: false };
        // Where files can't be locked, leftovers are never removed either.
        let _ = rustix::fs::flock(made.file.file(), FlockOperation::NonBlockingLockExclusive);
        Ok(made)
    }

    /// The file, to be written.
    #[must_use]
    pub fn file(&self) -> &SparseFile {
        &self.file
    }

    /// The bytes that are free for this user on its file system; the most there can be where the file system does not report it.
    ///
    /// # Errors
    /// The system's.
    pub fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(self.file.file())?;
        if found.f_blocks == 0 {
            return Ok(u64::MAX);
        }
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Returns the file its time, and waits until it is on the disk. Returns why it could not have its time, where the file
    /// system or the user's rights do not allow it: that makes the file no worse.
    ///
    /// # Errors
    /// The system's, where the bytes could not be brought onto the disk.
    pub fn finish(&self, mtime: Timestamp) -> io::Result<Option<io::Error>> {
        let timed = self.file.set_mtime(mtime);
        self.file.sync_all()?;
        Ok(timed.err())
    }

    /// Returns the file its name, and waits until that is on the disk.
    ///
    /// # Errors
    /// `AlreadyExists` where something took the name meanwhile; else the system's.
    pub fn name(&mut self) -> io::Result<()> {
        let (old, new) = (self.temporary.as_str(), self.name.as_str());
        match rustix::fs::renameat_with(&self.folder, old, &self.folder, new, RenameFlags::NOREPLACE) {
            // NFS and some others can't; a second name replaces nothing either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::linkat(&self.folder, old, &self.folder, new, AtFlags::empty()) {
                    // Asked a second time, since the first answer was lost, NFS says so of our own link.
                    Err(Errno::EXIST) if self.is_ours() => {}
                    other => other?,
                }
                rustix::fs::unlinkat(&self.folder, old, AtFlags::empty())?;
            }
            other => other?,
        }
        self.is_named = true;
        rustix::fs::fsync(&self.folder)?;
        Ok(())
    }

    /// Leaves the file as it is from here on.
    pub fn keep(mut self) {
        self.is_kept = self.is_named;
    }

    /// Whether what has the final name is the file that was made here.
    fn is_ours(&self) -> bool {
        let own = rustix::fs::fstat(self.file.file());
        let there = rustix::fs::statat(&self.folder, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        matches!((own, there), (Ok(own), Ok(there)) if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // Also where naming answered an error, and was done nevertheless: an answer may be lost on NFS.
        if self.is_ours() {
            let _ = rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        }
        // The temporary name is this restore's own.
        let _ = rustix::fs::unlinkat(&self.folder, &self.temporary, AtFlags::empty());
        let _ = rustix::fs::fsync(&self.folder);
    }
}

/// Locks a folder. Others hold such a lock for moments; who holds it for longer is no restore, and is not waited for.
#[allow(clippy::disallowed_methods, reason = "the kernel can be asked for a lock, or waited for without an end")]
fn is_locked(folder: &OwnedFd) -> bool {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return true,
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => std::thread::sleep(LOCK_LOOK),
            Err(_) => return false,
        }
    }
}

/// Removes temporary files that nobody writes any more.
fn remove_leftovers(folder: &OwnedFd) -> io::Result<()> {
    let mut entries = rustix::fs::Dir::read_from(folder)?;
    let mut left = Vec::new();
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let Some(rest) = name.strip_prefix(RESTORE_PREFIX.as_bytes()) else { continue };
        let Some((tag, b"-")) = rest.get(..17).and_then(|start| start.split_at_checked(16)) else { continue };
        if tag.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            left.push(name.to_owned());
        }
    }
    for name in left {
        let name = OsStr::from_bytes(&name);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // What can't be opened or locked is somebody else's, and in nobody's way.
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from) else { continue };
        if file.metadata().is_ok_and(|found| found.is_file())
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn name(text: &str) -> FileName {
        FileName::new(text).unwrap()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_only_if_it_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let root = LocalFolder::open(home.path()).unwrap();
        let there = home.path().join("a/b");
        let make = |tag| NewFile::create(root.make_folder("a/b").unwrap(), &name("x.vmdk"), 1 << 20, tag).unwrap();
        let mut new = make(1);
        new.file().write_at(4096, &[7; 4096]).unwrap();
        new.finish(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(names(&there), [".stackferry-restore-0000000000000001-x.vmdk"]);
        new.name().unwrap();
        assert_eq!(names(&there), ["x.vmdk"]);
        drop(new);
        assert!(names(&there).is_empty(), "it was not kept");
        drop(make(2));
        assert!(names(&there).is_empty());
        let mut new = make(3);
        new.name().unwrap();
        new.keep();
        assert_eq!(names(&there), ["x.vmdk"]);
        assert_eq!(std::fs::metadata(there.join("x.vmdk")).unwrap().len(), 1 << 20);
    }

    #[test]
    fn nothing_is_written_over_whenever_it_came() {
        let home = tempfile::tempdir().unwrap();
        let root = LocalFolder::open(home.path()).unwrap();
        let folder = || root.make_folder("").unwrap();
        let path = home.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let refused = NewFile::create(folder(), &name("x"), 1, 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert_eq!(NewFile::create(folder(), &name("x"), 1, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).unwrap();
        let mut new = NewFile::create(folder(), &name("x"), 1, 1).unwrap();
        std::fs::write(&path, "came meanwhile").unwrap();
        assert_eq!(new.name().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(new);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "came meanwhile");
        assert_eq!(names(home.path()), ["x"]);
        std::fs::remove_file(&path).unwrap();
        let mut new = NewFile::create(folder(), &name("x"), 1, 1).unwrap();
        new.name().unwrap();
        std::fs::rename(&path, home.path().join("y")).unwrap();
        std::fs::write(&path, "another").unwrap();
        drop(new);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another", "only what was made here is taken back");
    }

    #[test]
    fn a_name_whose_answer_was_lost_is_ours_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let root = LocalFolder::open(home.path()).unwrap();
        let new = NewFile::create(root.make_folder("").unwrap(), &name("x"), 1, 1).unwrap();
        // What the file server did before its answer was lost.
        std::fs::hard_link(home.path().join(&new.temporary), home.path().join("x")).unwrap();
        assert!(new.is_ours());
        drop(new);
        assert!(names(home.path()).is_empty(), "nothing of it is left");
    }

    #[test]
    fn a_folder_that_somebody_else_has_locked_holds_nobody_up() {
        let home = tempfile::tempdir().unwrap();
        let root = LocalFolder::open(home.path()).unwrap();
        let left = ".stackferry-restore-00000000000000aa-x";
        std::fs::write(home.path().join(left), "x").unwrap();
        let other = File::open(home.path()).unwrap();
        rustix::fs::flock(&other, FlockOperation::LockExclusive).unwrap();
        let mut new = NewFile::create(root.make_folder("").unwrap(), &name("x"), 1, 1).unwrap();
        new.name().unwrap();
        new.keep();
        assert_eq!(names(home.path()), [left, "x"], "without the lock nothing is removed");
    }

    #[test]
    fn folders_are_made_below_and_never_through_a_link() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("ds");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(home.path().join("outside")).unwrap();
        symlink("../outside", inside.join("link")).unwrap();
        symlink(home.path().join("outside"), inside.join("absolute")).unwrap();
        let root = LocalFolder::open(&inside).unwrap();
        for bad in ["link", "link/new", "absolute/new", "..", "../outside/new", "a/../b", "a//b", "/a", "a/"] {
            assert!(root.make_folder(bad).is_err(), "{bad}");
        }
        root.make_folder("a/b/c").unwrap();
        assert!(inside.join("a/b/c").is_dir());
        assert!(names(&home.path().join("outside")).is_empty());
    }

    #[test]
    fn a_sweep_removes_leftovers_but_no_running_transfer() {
        let home = tempfile::tempdir().unwrap();
        let root = LocalFolder::open(home.path()).unwrap();
        let left = ".stackferry-restore-00000000000000aa-x";
        let foreign = [
            ".stackferry-restore-00000000000000AA-x",
            ".stackferry-restore-00000000000000aa",
            ".stackferry-restore-short-x",
            "x.vmdk",
        ];
        std::fs::write(home.path().join(left), "x").unwrap();
        for name in foreign {
            std::fs::write(home.path().join(name), "x").unwrap();
        }
        let one = NewFile::create(root.make_folder("").unwrap(), &name("one"), 1, 1).unwrap();
        let two = NewFile::create(root.make_folder("").unwrap(), &name("two"), 1, 2).unwrap();
        let own = [".stackferry-restore-0000000000000001-one", ".stackferry-restore-0000000000000002-two"];
        let mut all = [&own[..], &foreign[..]].concat();
        all.sort_unstable();
        assert_eq!(names(home.path()), all);
        drop((one, two));
        assert!(NewFile::create(root.make_folder("").unwrap(), &name(left), 1, 3).is_err());
    }
}
