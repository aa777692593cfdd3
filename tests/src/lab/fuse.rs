//! A file system that misbehaves on request: a folder, passed through FUSE and read-only, with the faults of real network
//! file systems. A test mounts it where a datastore should be, changes files in the folder below, and injects faults.
//!
//! What hangs can be killed, as with NFS: a process that gets SIGKILL while it waits has its request interrupted. Dropped,
//! it answers whatever hangs and unmounts itself, also while a test panics.

mod serve;

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{IoContext, LabError};
use crate::tools;

/// What a process asks of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Find a name and its attributes (`LOOKUP`, `GETATTR`).
    Stat,
    /// List a folder (`OPENDIR`, `READDIR`).
    List,
    /// Open a file.
    Open,
    /// Read from a file.
    Read,
    /// Find data or a hole (`SEEK_DATA`, `SEEK_HOLE`).
    Seek,
    /// Size and free space (`statfs`).
    Statfs,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Stat, Self::List, Self::Open, Self::Read, Self::Seek, Self::Statfs];
}

/// What the file system tells of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// What the folder below has.
    #[default]
    True,
    /// Cut to whole seconds, as VMFS and old NFS servers do.
    WholeSeconds,
    /// Cut to whole seconds, by a clock that is so many seconds ahead of ours.
    WholeSecondsAhead(i64),
    /// None: every time is 0.
    Absent,
    /// The server's clock is ahead of ours by this.
    Ahead(Duration),
    /// The server's clock is behind ours by this.
    Behind(Duration),
}

/// How the file system answers `SEEK_DATA` and `SEEK_HOLE`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HoleReporting {
    /// As the folder below does.
    #[default]
    True,
    /// Everything is a hole: `ENXIO`.
    Everything,
    /// Besides the true holes these ranges are, whatever they hold.
    Also(Range<u64>),
    /// Each answer is the offset of the question.
    NoProgress,
    /// Each answer is one byte before the question.
    Backwards,
    /// Each answer lies beyond the end of the file.
    Beyond,
    /// This error.
    Refused(Errno),
}

/// What is injected for a path and all below it.
#[derive(Debug, Clone, Copy)]
enum InjectedFault {
    Fail(Errno),
    Hang,
}

#[derive(Debug, Default)]
struct MountState {
    faults: Vec<(Operation, String, InjectedFault)>,
    requests: HashMap<(Operation, String), u64>,
    hanging: usize,
    is_closed: bool,
    cache: Duration,
    times: Times,
    holes: HashMap<String, HoleReporting>,
    allocated: HashMap<String, u64>,
    unreadable: HashMap<String, Range<u64>>,
    stalled: HashMap<String, Range<u64>>,
    hidden: Vec<String>,
}

impl MountState {
    /// What is injected for a request, of these bytes if it reads.
    fn fault(&self, operation: Operation, path: &str, part: &Range<u64>) -> Option<InjectedFault> {
        if self.stalled.get(path).is_some_and(|stalled| part.start < stalled.end && stalled.start < part.end) {
            return Some(InjectedFault::Hang);
        }
        let hit = self.faults.iter().rev().find(|(asked, at, _)| *asked == operation && is_below(path, at));
        hit.map(|(_, _, fault)| *fault)
    }
}

/// Whether a path is this one or below it; all are below the empty one.
fn is_below(path: &str, top: &str) -> bool {
    top.is_empty() || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Debug, Default)]
struct SharedMount {
    state: Mutex<MountState>,
    changed: Condvar,
}

impl SharedMount {
    fn state(&self) -> MutexGuard<'_, MountState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A folder, mounted a second time through a file system that misbehaves on request. Paths are relative to it, without a
/// `/` in front; a fault that is injected for a folder holds for all below it, for `""` everywhere.
#[derive(Debug)]
pub struct FaultyMount {
    point: PathBuf,
    shared: Arc<SharedMount>,
    /// Where the kernel lets the connection be cut.
    abort: PathBuf,
    session: Option<BackgroundSession>,
}

impl FaultyMount {
    /// Mounts a folder on another one, which is made if it is missing. Nothing is cached, and nothing fails yet.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn mount(folder: &Path, point: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(point).at("make", point)?;
        let shared = Arc::new(SharedMount::default());
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.mount_options =
            vec![MountOption::RO, MountOption::DefaultPermissions, MountOption::FSName("stackferry-lab".to_owned())];
        let served = serve::Served::new(folder, Arc::clone(&shared));
        let session = fuser::spawn_mount(served, point, &config).at("mount a FUSE file system on", point)?;
        let mut mounted = Self { point: point.to_owned(), shared, abort: PathBuf::new(), session: Some(session) };
        let device = rustix::fs::stat(point).at("examine", point)?.st_dev;
        mounted.abort = PathBuf::from(format!("/sys/fs/fuse/connections/{}/abort", rustix::fs::minor(device)));
        Ok(mounted)
    }

    /// Whether this machine lets us mount one.
    ///
    /// # Errors
    /// It does not, and no test may be left out ([`tools::have`]).
    pub fn possible() -> Result<bool, LabError> {
        tools::have(tools::available().fuse, "FUSE: root, and a /dev/fuse that can be opened")
    }

    /// Where it is mounted.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Makes an operation fail.
    pub fn fail(&self, operation: Operation, path: &str, errno: Errno) {
        self.inject(operation, path, InjectedFault::Fail(errno));
    }

    /// Makes an operation hang until [`Self::heal`], or until the process that waits is killed.
    pub fn hang(&self, operation: Operation, path: &str) {
        self.inject(operation, path, InjectedFault::Hang);
    }

    /// Makes the whole file system hang, as an NFS mount does whose server is away.
    pub fn hang_everything(&self) {
        for operation in Operation::ALL {
            self.hang(operation, "");
        }
    }

    fn inject(&self, operation: Operation, path: &str, fault: InjectedFault) {
        self.shared.state().faults.push((operation, path.to_owned(), fault));
        self.shared.changed.notify_all();
    }

    /// Makes reading a range of a file hang, as [`Self::hang`] does.
    pub fn set_stalled(&self, path: &str, range: Range<u64>) {
        self.shared.state().stalled.insert(path.to_owned(), range);
    }

    /// Ends all that fails and hangs; what hangs goes on.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.faults.clear();
        state.stalled.clear();
        drop(state);
        self.shared.changed.notify_all();
    }

    /// How many requests hang now.
    #[must_use]
    pub fn hanging(&self) -> usize {
        self.shared.state().hanging
    }

    /// How often an operation reached the file system for exactly this path.
    #[must_use]
    pub fn requests(&self, operation: Operation, path: &str) -> u64 {
        self.shared.state().requests.get(&(operation, path.to_owned())).copied().unwrap_or(0)
    }

    /// Lets the kernel answer from its cache of names and attributes for so long, as NFS does (`actimeo`). It holds for
    /// what is asked from now on.
    pub fn cache_attributes(&self, cache: Duration) {
        self.shared.state().cache = cache;
    }

    /// What is told of times.
    pub fn set_times(&self, times: Times) {
        self.shared.state().times = times;
    }

    /// How `SEEK_DATA` and `SEEK_HOLE` are answered for a file.
    pub fn set_holes(&self, path: &str, holes: HoleReporting) {
        self.shared.state().holes.insert(path.to_owned(), holes);
    }

    /// What is told of the space that a file takes on disk, in bytes.
    pub fn set_allocated(&self, path: &str, bytes: u64) {
        self.shared.state().allocated.insert(path.to_owned(), bytes);
    }

    /// Makes a range of a file unreadable (`EIO`), as a bad sector is.
    pub fn set_unreadable(&self, path: &str, range: Range<u64>) {
        self.shared.state().unreadable.insert(path.to_owned(), range);
    }

    /// Leaves a name out of its folder's list, though it can be opened: an incomplete answer.
    pub fn hide(&self, path: &str) {
        self.shared.state().hidden.push(path.to_owned());
    }
}

impl Drop for FaultyMount {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.changed.notify_all();
        let _ = unmount(&self.point, UnmountFlags::DETACH);
        // Whoever still has a file open gets an error from now on, so nobody keeps the file system alive.
        let _ = fs::write(&self.abort, "1");
        drop(self.session.take());
    }
}

#[cfg(test)]
mod tests;
