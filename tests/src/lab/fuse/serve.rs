//! The requests of the kernel to the file system, and the replies.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, Request,
};
use rustix::fs::SeekFrom;

use super::{HoleReporting, InjectedFault, Operation, SharedMount, Times};

/// How often it is looked whether a process that waits was killed.
const POLL: Duration = Duration::from_millis(20);
/// `SEEK_DATA` of lseek(2).
const SEEK_DATA: i32 = 3;
/// `SEEK_HOLE` of lseek(2).
const SEEK_HOLE: i32 = 4;

pub(super) struct Served(Arc<BackingFolder>);

struct BackingFolder {
    folder: PathBuf,
    shared: Arc<SharedMount>,
    /// Where each number was last found, relative to the folder.
    places: Mutex<HashMap<u64, String>>,
    open: Mutex<HashMap<u64, Arc<File>>>,
    next: AtomicU64,
}

impl Served {
    pub(super) fn new(folder: &Path, shared: Arc<SharedMount>) -> Self {
        let places = Mutex::new(HashMap::from([(INodeNo::ROOT.0, String::new())]));
        let (open, next) = (Mutex::default(), AtomicU64::new(1));
        Self(Arc::new(BackingFolder { folder: folder.to_owned(), shared, places, open, next }))
    }

    /// Lets a request pass, fail, or wait: `then` answers it, on a thread of its own if it waits.
    fn admit(
        &self,
        operation: Operation,
        (path, part): (String, Range<u64>),
        request: &Request,
        then: impl FnOnce(&BackingFolder, &str, Result<(), Errno>) + Send + 'static,
    ) {
        let fault = {
            let mut state = self.0.shared.state();
            *state.requests.entry((operation, path.clone())).or_default() += 1;
            state.fault(operation, &path, &part)
        };
        match fault {
            None => then(&self.0, &path, Ok(())),
            Some(InjectedFault::Fail(errno)) => then(&self.0, &path, Err(Errno::from_i32(errno.raw_os_error()))),
            Some(InjectedFault::Hang) => {
                let (inner, process) = (Arc::clone(&self.0), request.pid());
                std::thread::spawn(move || {
                    let result = inner.wait(operation, &path, &part, process);
                    then(&inner, &path, result);
                });
            }
        }
    }
}

impl BackingFolder {
    fn wait(&self, operation: Operation, path: &str, part: &Range<u64>, process: u32) -> Result<(), Errno> {
        let mut state = self.shared.state();
        state.hanging += 1;
        let result = loop {
            match state.fault(operation, path, part) {
                _ if state.is_closed => break Err(Errno::EIO),
                None => break Ok(()),
                Some(InjectedFault::Fail(errno)) => break Err(Errno::from_i32(errno.raw_os_error())),
                Some(InjectedFault::Hang) if is_killed(process) => break Err(Errno::EINTR),
                Some(InjectedFault::Hang) => {
                    let woken = self.shared.changed.wait_timeout(state, POLL);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        state.hanging -= 1;
        result
    }

    fn path(&self, inode: INodeNo) -> Option<String> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&inode.0).cloned()
    }

    fn file(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    /// The attributes of what is there now.
    fn attributes(&self, path: &str) -> Result<FileAttr, Errno> {
        let found = fs::symlink_metadata(self.folder.join(path)).map_err(Errno::from)?;
        let mut attributes = self.file_attributes(path, &found)?;
        if path.is_empty() {
            attributes.ino = INodeNo::ROOT;
        } else {
            self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(attributes.ino.0, path.to_owned());
        }
        Ok(attributes)
    }

    /// What is shown_time of a file, which need not be the truth.
    fn file_attributes(&self, path: &str, found: &Metadata) -> Result<FileAttr, Errno> {
        let state = self.shared.state();
        let allocated = state.allocated.get(path).map(|bytes| bytes.div_ceil(512));
        let time = |seconds: i64, nanoseconds: i64| shown_time(state.times, exact(seconds, nanoseconds));
        Ok(FileAttr {
            ino: INodeNo(found.ino()),
            size: found.size(),
            blocks: allocated.unwrap_or(found.blocks()),
            atime: time(found.atime(), found.atime_nsec()),
            mtime: time(found.mtime(), found.mtime_nsec()),
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: FileType::from_std(found.file_type()).ok_or(Errno::EIO)?,
            perm: u16::try_from(found.permissions().mode() & 0o7777).map_err(|_| Errno::EIO)?,
            nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn read(&self, path: &str, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let end = offset.saturating_add(size.into());
        let bad = self.shared.state().unreadable.get(path).cloned();
        if bad.is_some_and(|bad| offset < bad.end && bad.start < end) {
            return Err(Errno::EIO);
        }
        let file = self.file(handle)?;
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| Errno::EINVAL)?];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX))) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn seek(&self, path: &str, handle: FileHandle, offset: i64, whence: i32) -> Result<i64, Errno> {
        let file = self.file(handle)?;
        let bytes = i64::try_from(file.metadata().map_err(Errno::from)?.len()).map_err(|_| Errno::EOVERFLOW)?;
        let at = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let truth = |at: u64| {
            let to = if whence == SEEK_DATA { SeekFrom::Data(at) } else { SeekFrom::Hole(at) };
            rustix::fs::seek(&*file, to).map_err(|errno| Errno::from_i32(errno.raw_os_error()))
        };
        let signed = |at: u64| i64::try_from(at).map_err(|_| Errno::EOVERFLOW);
        if whence != SEEK_DATA && whence != SEEK_HOLE {
            return Err(Errno::EINVAL);
        }
        let holes = self.shared.state().holes.get(path).cloned().unwrap_or_default();
        match holes {
            HoleReporting::True => truth(at).and_then(signed),
            HoleReporting::Everything if whence == SEEK_DATA => Err(Errno::ENXIO),
            HoleReporting::Everything | HoleReporting::NoProgress => Ok(offset),
            HoleReporting::Also(hole) if whence == SEEK_DATA => {
                let found = truth(at)?;
                signed(if hole.contains(&found) { truth(hole.end)? } else { found })
            }
            HoleReporting::Also(hole) if hole.contains(&at) => Ok(offset),
            HoleReporting::Also(hole) => {
                let found = truth(at)?;
                signed(if at < hole.start { found.min(hole.start) } else { found })
            }
            HoleReporting::Backwards => Ok(offset.saturating_sub(1).max(0)),
            HoleReporting::Beyond => Ok(bytes.saturating_add(4096)),
            HoleReporting::Refused(errno) => Err(Errno::from_i32(errno.raw_os_error())),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<(u64, FileType, OsString)>, Errno> {
        let mut entries = vec![(1, FileType::Directory, ".".into()), (1, FileType::Directory, "..".into())];
        for entry in fs::read_dir(self.folder.join(path)).map_err(Errno::from)? {
            let entry = entry.map_err(Errno::from)?;
            let below = below(path, &entry.file_name());
            if !self.shared.state().hidden.contains(&below) {
                let kind = entry.file_type().ok().and_then(FileType::from_std).unwrap_or(FileType::RegularFile);
                entries.push((entry.ino(), kind, entry.file_name()));
            }
        }
        Ok(entries)
    }
}

/// Whether a thread has a SIGKILL to take.
fn is_killed(thread: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{thread}/status")) else { return true };
    let pending = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    ["SigPnd:", "ShdPnd:"].into_iter().filter_map(pending).any(|mask| mask & (1 << 8) != 0)
}

fn below(folder: &str, name: &OsStr) -> String {
    let name = name.to_string_lossy();
    if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") }
}

fn exact(seconds: i64, nanoseconds: i64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let rest = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    at.and_then(|at| at.checked_add(rest)).unwrap_or(UNIX_EPOCH)
}

fn shown_time(times: Times, truth: SystemTime) -> SystemTime {
    let shown_time = match times {
        Times::True => Some(truth),
        Times::Absent => None,
        Times::Ahead(by) => truth.checked_add(by),
        Times::Behind(by) => truth.checked_sub(by),
        Times::WholeSeconds => whole(truth, 0),
        Times::WholeSecondsAhead(by) => whole(truth, by),
    };
    shown_time.unwrap_or(UNIX_EPOCH)
}

/// A time without its fraction, so many seconds later.
fn whole(time: SystemTime, later: i64) -> Option<SystemTime> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.saturating_add_signed(later)))
}

impl Filesystem for Served {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(folder) = self.0.path(parent) else { return reply.error(Errno::ESTALE) };
        self.admit(Operation::Stat, (below(&folder, name), 0..0), request, |inner, path, result| {
            let cache = inner.shared.state().cache;
            match result.and_then(|()| inner.attributes(path)) {
                Ok(attributes) => reply.entry(&cache, &attributes, Generation(0)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn getattr(&self, request: &Request, inode: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let Some(path) = self.0.path(inode) else { return reply.error(Errno::ESTALE) };
        self.admit(Operation::Stat, (path, 0..0), request, move |inner, path, result| {
            let cache = inner.shared.state().cache;
            let open = handle.and_then(|handle| inner.file(handle).ok());
            let found = result.and_then(|()| match open {
                Some(file) => inner.file_attributes(path, &file.metadata().map_err(Errno::from)?),
                None => inner.attributes(path),
            });
            match found {
                Ok(attributes) if attributes.ino == inode => reply.attr(&cache, &attributes),
                // Another file took its name.
                Ok(_) => reply.error(Errno::ESTALE),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let Some(path) = self.0.path(inode) else { return reply.error(Errno::ESTALE) };
        self.admit(Operation::Open, (path, 0..0), request, move |inner, path, result| {
            let file = result.and_then(|()| {
                let file = File::open(inner.folder.join(path)).map_err(Errno::from)?;
                let found = file.metadata().map_err(Errno::from)?;
                if found.ino() == inode.0 { Ok(file) } else { Err(Errno::ESTALE) }
            });
            match file {
                Ok(file) => {
                    let handle = inner.next.fetch_add(1, Ordering::Relaxed);
                    inner.open.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(file));
                    reply.opened(FileHandle(handle), FopenFlags::empty());
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let path = self.0.path(inode).unwrap_or_default();
        let part = offset..offset.saturating_add(size.into());
        self.admit(Operation::Read, (path, part), request, move |inner, path, result| {
            match result.and_then(|()| inner.read(path, handle, offset, size)) {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn lseek(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let path = self.0.path(inode).unwrap_or_default();
        self.admit(Operation::Seek, (path, 0..0), request, move |inner, path, result| {
            match result.and_then(|()| inner.seek(path, handle, offset, whence)) {
                Ok(at) => reply.offset(at),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdir(&self, request: &Request, inode: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(path) = self.0.path(inode) else { return reply.error(Errno::ESTALE) };
        self.admit(Operation::List, (path, 0..0), request, move |inner, path, result| {
            match result.and_then(|()| inner.list(path)) {
                Ok(entries) => {
                    for (next, (number, kind, name)) in (1..).zip(entries).skip_while(|(next, _)| *next <= offset) {
                        if reply.add(INodeNo(number), next, kind, name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        self.admit(Operation::Statfs, (String::new(), 0..0), request, |inner, _, result| {
            let found = result.and_then(|()| {
                rustix::fs::statvfs(&inner.folder).map_err(|errno| Errno::from_i32(errno.raw_os_error()))
            });
            match found {
                Ok(stat) => reply.statfs(
                    stat.f_blocks,
                    stat.f_bfree,
                    stat.f_bavail,
                    stat.f_files,
                    stat.f_ffree,
                    u32::try_from(stat.f_bsize).unwrap_or(4096),
                    u32::try_from(stat.f_namemax).unwrap_or(255),
                    u32::try_from(stat.f_frsize).unwrap_or(4096),
                ),
                Err(errno) => reply.error(errno),
            }
        });
    }
}
