//! The traits that a volume's bytes move through: [`Folder`] finds files, [`Source`] reads one, [`Sink`] writes one.
//!
//! They are plain and blocking, so that the same code serves a mounted datastore, a remote one, a vault's version and
//! a test's double. Who is async wraps them.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::block::{BlockIndex, BlockMap, BlockState};

/// The most that [`Folder::read`] gives of a file, in bytes. Descriptors are some hundred bytes long.
pub const MAX_SMALL_READ: usize = 64 << 10;

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a device, a socket: never opened, never followed.
    Other,
    /// Something that is there and can't be read: it was deleted on another NFS client, or its sector is bad. Asked for
    /// alone it shows why.
    Unreadable,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name. Where the file system's is not UTF-8: with replacement characters, and `utf8` is false.
    pub name: String,
    /// Whether `name` is the true name.
    pub utf8: bool,
    /// What it is.
    pub kind: EntryKind,
    /// Its length in bytes; 0 for what is no file.
    pub bytes: u64,
    /// The bytes that it takes on disk, where the file system reports them.
    pub allocated: Option<u64>,
    /// Its time of last change; [`UNKNOWN_MTIME`](crate::UNKNOWN_MTIME) where its system gives none.
    pub mtime: Timestamp,
    /// When anything of it was last changed, by the clock of the file system (ctime): nobody can set it. None where it
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// Its number in the file system, where that is known. On NFS, ESXi names a file's lock after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// Why a folder or a file in it could not be read. Paths are relative to the datastore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is no such file or folder.
    #[error("{path}: no such file or folder")]
    NotFound {
        /// What was asked for.
        path: String,
    },
    /// The system does not let us.
    #[error("{path}: permission denied")]
    Denied {
        /// What was asked for.
        path: String,
    },
    /// The path leaves the datastore, passes a symbolic link, or is no file or folder that may be opened.
    #[error("{path}: {why}")]
    Refused {
        /// What was asked for.
        path: String,
        /// Which of these.
        why: &'static str,
    },
    /// The folder holds more than is taken on.
    #[error("{path}: more than {most} entries")]
    TooMany {
        /// The folder.
        path: String,
        /// How many are taken on.
        most: usize,
    },
    /// The datastore can't be reached at all: not mounted, host away, login refused.
    #[error("datastore {datastore} can't be reached: {why}")]
    Unreachable {
        /// The datastore's name, or its folder.
        datastore: String,
        /// What happened, and what to do, for a person.
        why: String,
    },
    /// Any other failure of the system.
    #[error("{path}: reading failed")]
    Io {
        /// What was being read.
        path: String,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
}

/// What is shared reads as its owner does.
impl<S: Source + ?Sized> Source for Arc<S> {
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        (**self).next_data(from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }
    fn hole_map(&self) -> HoleMapSource {
        (**self).hole_map()
    }
}

/// A datastore as discovery sees it: it lists folders and reads small files. Paths are relative to the datastore's
/// root, with `/` between components; the empty path is the root.
pub trait Folder: Send + Sync {
    /// The entries of a folder, in no order, without `.` and `..`.
    ///
    /// # Errors
    /// See [`FolderError`]; a folder that isn't there is `NotFound`.
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError>;

    /// The names of what may be a folder in a folder: of all but files.
    ///
    /// # Errors
    /// See [`FolderError`].
    fn sub_folders(&self, path: &str) -> Result<Vec<String>, FolderError> {
        let entries = self.list(path)?.into_iter().filter(|entry| entry.kind != EntryKind::File);
        Ok(entries.map(|entry| entry.name).collect())
    }

    /// One entry; none where there is nothing of that name.
    ///
    /// # Errors
    /// See [`FolderError`].
    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError>;

    /// The first bytes of a regular file, at most `limit` and at most [`MAX_SMALL_READ`].
    ///
    /// # Errors
    /// See [`FolderError`].
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError>;

    /// What the clock shows now that gives the files their times; none where that is not known for certain. The clock of
    /// a file server need not be this machine's.
    fn now(&self) -> Option<Timestamp> {
        None
    }
}

impl<T: Folder + ?Sized> Folder for Arc<T> {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        (**self).list(path)
    }
    fn sub_folders(&self, path: &str) -> Result<Vec<String>, FolderError> {
        (**self).sub_folders(path)
    }
    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError> {
        (**self).stat(path)
    }
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        (**self).read(path, limit)
    }
    fn now(&self) -> Option<Timestamp> {
        (**self).now()
    }
}

/// How it was known where a file has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoleMapSource {
    /// The file system was asked (`SEEK_DATA`), and what it said held against the file's length, the space that it takes
    /// on disk and samples.
    Seek,
    /// The host's own Python asked its file system, and what it said held against the file's length, its allocated
    /// size and samples.
    Host,
    /// It was not known, or what was said of it was not believed: all was read.
    None,
}

/// One file's bytes, to be read at any offset by several threads.
pub trait Source: Send + Sync {
    /// The file's length in bytes.
    fn bytes(&self) -> u64;

    /// The next range at or after `from` that may hold something else than zeros; none if there is none up to the
    /// end. A source that does not know gives `from..bytes()`.
    ///
    /// # Errors
    /// The system's.
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>>;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` where the file ends before `buf` is full.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The same, and names the byte where reading failed.
    ///
    /// # Errors
    /// As `read_at`, with the offset of the byte that could not be read, as far as that is known.
    fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<(), (u64, io::Error)> {
        self.read_at(offset, buf).map_err(|error| (offset, error))
    }

    /// How `next_data` knows.
    fn hole_map(&self) -> HoleMapSource;
}

/// One file being written, of a length fixed when it was made, holes where nothing was written. It can be read back,
/// and remembers across a crash which of its blocks are done.
pub trait Sink: Source {
    /// Writes `data` at `offset`, leaving aligned runs of [`crate::block::STORE_ZERO_BYTES`] zeros as they are: the
    /// range must be fresh, or cleared. Returns the bytes really written.
    ///
    /// # Errors
    /// The system's; `StorageFull` where the disk is full.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<u64>;

    /// Makes a range a hole again.
    ///
    /// # Errors
    /// The system's.
    fn clear(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Brings all that was written onto the disk, and only then records these blocks as done, so that what is
    /// recorded is never more than what is there.
    ///
    /// # Errors
    /// The system's.
    fn checkpoint(&self, done: &[(BlockIndex, BlockState)]) -> io::Result<()>;

    /// The blocks that an interrupted copy recorded as done. Not to be believed before they are hashed again.
    ///
    /// # Errors
    /// The system's.
    fn recorded(&self) -> io::Result<BlockMap>;
}

/// Asks work on other threads to end soon. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<CancelNode>);

#[derive(Debug, Default)]
struct CancelNode {
    asked: AtomicBool,
    parent: Option<Cancel>,
}

impl Cancel {
    /// One that ends with this one, and can be ended by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(CancelNode { asked: AtomicBool::new(false), parent: Some(self.clone()) }))
    }

    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst) || self.0.parent.as_ref().is_some_and(Cancel::is_cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::Cancel;

    #[test]
    fn a_child_ends_with_its_parent_and_not_the_other_way() {
        let parent = Cancel::default();
        let (one, two) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !two.is_cancelled() && !parent.is_cancelled());
        parent.clone().cancel();
        assert!(two.is_cancelled());
    }
}
