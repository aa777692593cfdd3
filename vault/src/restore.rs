//! Restoring: a version back as plain VMDK files.
//!
//! 1. Nothing with a final name is there, or may be overwritten; there is space.
//! 2. Every file is written sparsely under a temporary name in the target folder, each block checked as it is read.
//! 3. Every file gets its time and is synced.
//! 4. Only then the files are renamed to their names, the descriptor last; the folder is synced.
//!
//! A crash or an error before 4 leaves no file with a final name. A crash within 4 leaves some, each of them whole and
//! checked, and without the descriptor there is no disk yet. Temporary files that a crash left are removed by the next
//! restore into the same folder: each is locked by the restore that writes it, and only unlocked ones are removed.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, FlockOperation};
use stackferry_volume::FileName;
use stackferry_volume::io::{Cancel, Source};
use stackferry_volume::local::SparseFile;
use stackferry_volume::manifest::FileRole;

use crate::dir::{Dir, Moved};
use crate::steps::step;
use crate::walk::{OpenedFile, walk};
use crate::{VaultError, Version, random_name, space_of};

const PREFIX: &str = ".stackferry-restore-";
/// Restored disks are a user's own data: only who restores them may read them, until they decide otherwise.
const MODE: u32 = 0o600;
/// The maximum number of bytes of a temporary name that are taken from the file's own.
const MAX_TAIL: usize = 180;

/// What a restore did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// How many files there are.
    pub files: usize,
    /// Their lengths together, in bytes.
    pub bytes: u64,
    /// The bytes that were written; the rest are holes.
    pub stored: u64,
    /// How many files could not be given their time of last change: the file system or the user's rights do not allow it.
    pub untimed: usize,
}

impl Version {
    /// Puts the version's files into the folder `to`, which is made if it is missing. Existing files are left as they
    /// are unless `overwrite` is set. `progress` receives the bytes done so far, zeros included.
    ///
    /// # Errors
    /// `NotAFolder`, or `Exists`, before anything is written; `NoSpace`; `Damaged` at the first block that is not what the manifest says;
    /// `Cancelled`; else the system's. No file has a final name then, except where a file appeared under one in the
    /// last moment, or the system failed, while `overwrite` was set.
    pub fn restore(
        &self,
        to: &Path,
        overwrite: bool,
        progress: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<RestoreReport, VaultError> {
        if let Some(path) = to.ancestors().find(|path| path.symlink_metadata().is_ok())
            && !path.is_dir()
        {
            return Err(VaultError::NotAFolder { path: path.to_owned() });
        }
        let files = self.opened()?;
        std::fs::create_dir_all(to).map_err(|error| VaultError::system("make", to, error))?;
        let target = Dir::at(to)?.ok_or_else(|| VaultError::system("open", to, rustix::io::Errno::NOENT))?;
        self.restore_to(&target, &files, overwrite, progress, cancel)
    }

    /// The same into a folder that is open already, and that is called `to` in messages. Nothing is overwritten.
    ///
    /// # Errors
    /// As [`Version::restore`].
    pub fn restore_into(
        &self,
        folder: OwnedFd,
        to: &Path,
        progress: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<RestoreReport, VaultError> {
        self.restore_to(&Dir::of(folder, to), &self.opened()?, false, progress, cancel)
    }

    fn opened(&self) -> Result<Vec<OpenedFile<'_>>, VaultError> {
        let opened = self.manifest().files.iter().map(|record| {
            let source = self.source(record)?.map_err(|damage| self.damaged(damage))?;
            Ok(OpenedFile { record, source })
        });
        opened.collect()
    }

    fn restore_to(
        &self,
        target: &Dir,
        files: &[OpenedFile<'_>],
        overwrite: bool,
        progress: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<RestoreReport, VaultError> {
        for opened in files {
            refuse_existing(target, &opened.record.name, overwrite)?;
        }
        let mut needed = 0u64;
        for opened in files {
            let stamp = opened.source.stamp().map_err(|error| VaultError::system("examine", self.dir.path(), error))?;
            needed = needed.saturating_add(stamp.1);
        }
        let free = space_of(target)?.free;
        if needed > free {
            return Err(VaultError::NoSpace { path: target.path().to_owned(), needed, free, reserve: 0 });
        }
        let temporary = Temporary::make(target, files)?;
        let stored = AtomicU64::new(0);
        let write = |at: usize, block: stackferry_volume::BlockIndex, bytes: &[u8]| {
            let Some((name, file)) = temporary.files.get(at) else { return Ok(()) };
            let written = file.write_at(block.offset(), bytes);
            let written = written.map_err(|error| VaultError::system("write", &target.child(name), error))?;
            stored.fetch_add(written, Ordering::Relaxed);
            Ok(())
        };
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).min(MAX_THREADS);
        let damage = walk("restoring", files, threads, cancel, progress, true, &write)?;
        if let Some(damage) = damage.into_iter().next() {
            return Err(self.damaged(damage));
        }
        let mut untimed = 0;
        for (opened, (name, file)) in files.iter().zip(&temporary.files) {
            let path = target.child(name);
            // Some file systems and some users can't: the bytes are what they should be all the same.
            let timed = step("set the time of", &path).is_ok() && file.set_mtime(opened.record.mtime).is_ok();
            untimed += usize::from(!timed);
            step("sync file", &path)?;
            file.sync_all().map_err(|error| VaultError::system("sync", &path, error))?;
        }
        if cancel.is_cancelled() {
            return Err(VaultError::Cancelled { op: "restoring" });
        }
        temporary.finish(files, overwrite)?;
        let bytes = files.iter().map(|opened| opened.source.bytes()).sum();
        Ok(RestoreReport { files: files.len(), bytes, stored: stored.into_inner(), untimed })
    }
}

/// More threads than these only wait for the disk.
const MAX_THREADS: NonZeroUsize = match NonZeroUsize::new(4) {
    Some(threads) => threads,
    None => NonZeroUsize::MIN,
};

fn refuse_existing(target: &Dir, name: &FileName, overwrite: bool) -> Result<(), VaultError> {
    match target.stat(name.as_str())? {
        None => Ok(()),
        Some(found) if overwrite && FileType::from_raw_mode(found.st_mode) != FileType::Directory => Ok(()),
        Some(_) => Err(VaultError::Exists { path: target.child(name.as_str()) }),
    }
}

/// Files with temporary names, in the order of the version's files. Those that still have them are removed at the end.
struct Temporary<'a> {
    target: &'a Dir,
    files: Vec<(String, SparseFile)>,
}

impl<'a> Temporary<'a> {
    fn make(target: &'a Dir, files: &[OpenedFile<'_>]) -> Result<Self, VaultError> {
        // While one restore makes and locks its files, another one must not take them for leftovers.
        let alone = target.need(".")?;
        alone.lock(true)?;
        remove_leftovers(target)?;
        let id = random_name();
        let mut made = Self { target, files: Vec::new() };
        for (at, opened) in files.iter().enumerate() {
            let (own, bytes) = (opened.record.name.as_str(), opened.record.blocks.bytes());
            let tail: String =
                own.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_TAIL).map(|(_, c)| c).collect();
            let name = format!("{PREFIX}{id}-{at}-{tail}");
            let path = target.child(&name);
            let invalid = |error| VaultError::system("make", &path, std::io::Error::other(error));
            let file_name = FileName::new(&name).map_err(invalid)?;
            step("make", &path)?;
            let file = SparseFile::create_new(target, &file_name, bytes, MODE)
                .map_err(|error| VaultError::system("make", &path, error))?;
            // Where files can't be locked, leftovers are never removed either.
            let _ = rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockExclusive);
            made.files.push((name, file));
        }
        Ok(made)
    }

    /// Returns the files their names, the descriptor last.
    fn finish(mut self, files: &[OpenedFile<'_>], overwrite: bool) -> Result<(), VaultError> {
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|at| files.get(*at).is_some_and(|opened| opened.record.role == FileRole::Descriptor));
        let mut named: Vec<&str> = Vec::new();
        for at in order {
            let (Some(opened), Some((temporary, _))) = (files.get(at), self.files.get(at)) else { continue };
            let name = opened.record.name.as_str();
            let moved = if overwrite {
                self.target.move_over(temporary, name)
            } else {
                self.target.move_to(temporary, self.target, name).and_then(|moved| match moved {
                    Moved::Done => Ok(()),
                    Moved::Taken => Err(VaultError::Exists { path: self.target.child(name) }),
                    Moved::Gone => {
                        Err(VaultError::system("rename", &self.target.child(temporary), rustix::io::Errno::NOENT))
                    }
                })
            };
            if let Err(error) = moved {
                // What we named a moment ago is ours, since nothing was there before.
                for name in named.iter().filter(|_| !overwrite) {
                    let _ = self.target.unlink(name);
                }
                return Err(error);
            }
            named.push(name);
        }
        self.target.sync()?;
        self.files.clear();
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        for (name, _) in &self.files {
            let _ = self.target.unlink(name);
        }
    }
}

/// Removes temporary files that nobody writes any more.
fn remove_leftovers(target: &Dir) -> Result<(), VaultError> {
    for item in target.items()? {
        let Some(rest) = item.shown.strip_prefix(PREFIX) else { continue };
        let ours = rest
            .split_once('-')
            .is_some_and(|(id, _)| id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        // What can't be opened or locked is somebody else's, and in nobody's way.
        let file: Option<File> = if ours { target.file_to_lock(&item.shown).ok().flatten() } else { None };
        if let Some(file) = file
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            target.unlink(&item.shown)?;
        }
    }
    Ok(())
}
