//! A datastore in memory that can fail, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use stackferry_volume::{Entry, EntryKind, Folder, FolderError, SiteName};

use crate::view::{DatastoreView, FolderSpec};

/// How a folder or file fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FakeFault {
    Denied,
    TooMany,
    Unreachable,
    Vanished,
    Io,
}

#[derive(Debug, Default)]
struct FakeState {
    folders: BTreeSet<String>,
    files: BTreeMap<String, (Entry, Vec<u8>)>,
    faults: BTreeMap<String, FakeFault>,
    reads: Vec<String>,
}

/// A datastore whose files have a length of their own and only their first bytes in memory.
#[derive(Debug, Default)]
pub(crate) struct FakeFolder(Mutex<FakeState>);

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The time at which all tests look.
pub(crate) fn now() -> Timestamp {
    at("2026-11-22T04:15:00Z")
}

/// A time long enough ago to be trusted.
pub(crate) fn before() -> Timestamp {
    at("2026-11-20T12:00:00Z")
}

impl FakeFolder {
    pub(crate) fn view(self: &Arc<Self>, name: &str, folders: &[&str]) -> DatastoreView {
        DatastoreView {
            site: SiteName("dc1".to_owned()),
            name: name.to_owned(),
            rank: 0,
            datastore_type: Some("NFS".to_owned()),
            folder: self.clone(),
            folders: folders.iter().map(|folder| FolderSpec::new(folder)).collect(),
            settle: SignedDuration::ZERO,
        }
    }

    pub(crate) fn folder(&self, path: &str) {
        let mut state = self.0.lock().unwrap();
        for (end, _) in path.match_indices('/') {
            state.folders.insert(path[..end].to_owned());
        }
        state.folders.insert(path.to_owned());
    }

    pub(crate) fn file(&self, path: &str, bytes: u64, head: &[u8]) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        self.folder(folder);
        let mut state = self.0.lock().unwrap();
        let inode = u64::try_from(state.files.len()).unwrap() + 100;
        let entry = Entry {
            name: name.to_owned(),
            utf8: true,
            kind: EntryKind::File,
            bytes,
            allocated: Some(bytes / 2),
            mtime: before(),
            changed: None,
            inode: Some(inode),
        };
        state.files.insert(path.to_owned(), (entry, head.to_vec()));
    }

    /// A whole volume: descriptor, extent of 4 KiB, metadata. `path` is without `.vmdk`.
    pub(crate) fn volume(&self, path: &str, cid: u32) {
        let (_, stem) = path.rsplit_once('/').unwrap();
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 8 VMFS \"{stem}-flat.vmdk\"\n"
        );
        self.file(&format!("{path}.vmdk"), u64::try_from(text.len()).unwrap(), text.as_bytes());
        self.file(&format!("{path}-flat.vmdk"), 4096, b"");
        self.file(&format!("{path}.vmdk.metadata"), 10, b"metadata..");
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Entry)) {
        change(&mut self.0.lock().unwrap().files.get_mut(path).unwrap().0);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().files.remove(path).unwrap();
    }

    pub(crate) fn fail(&self, path: &str, fault: FakeFault) {
        self.0.lock().unwrap().faults.insert(path.to_owned(), fault);
    }

    pub(crate) fn heal(&self, path: &str) {
        self.0.lock().unwrap().faults.remove(path);
    }

    /// The files that were read since the last call, in order.
    pub(crate) fn reads(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().reads)
    }
}

impl FakeState {
    fn check(&self, path: &str) -> Result<(), FolderError> {
        let path = path.to_owned();
        match self.faults.get(&path) {
            None => Ok(()),
            Some(FakeFault::Denied) => Err(FolderError::Denied { path }),
            Some(FakeFault::TooMany) => Err(FolderError::TooMany { path, most: 3 }),
            Some(FakeFault::Vanished) => Err(FolderError::NotFound { path }),
            Some(FakeFault::Unreachable) => {
                Err(FolderError::Unreachable { datastore: "nfs01".to_owned(), why: "it is not mounted".to_owned() })
            }
            Some(FakeFault::Io) => Err(FolderError::Io { path, source: io::Error::other("the disk is on fire") }),
        }
    }
}

impl Folder for FakeFolder {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        let state = self.0.lock().unwrap();
        state.check(path)?;
        if !path.is_empty() && !state.folders.contains(path) {
            return Err(FolderError::NotFound { path: path.to_owned() });
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let child = |full: &str| {
            full.strip_prefix(&prefix).filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned)
        };
        let folders = state.folders.iter().filter_map(|full| child(full)).map(|name| Entry {
            name,
            utf8: true,
            kind: EntryKind::Folder,
            bytes: 0,
            allocated: None,
            mtime: before(),
            changed: None,
            inode: None,
        });
        let files = state.files.iter().filter(|(full, _)| child(full).is_some()).map(|(_, (entry, _))| entry.clone());
        Ok(folders.chain(files).collect())
    }

    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError> {
        let state = self.0.lock().unwrap();
        state.check(path)?;
        Ok(state.files.get(path).map(|(entry, _)| entry.clone()))
    }

    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        let mut state = self.0.lock().unwrap();
        state.reads.push(path.to_owned());
        state.check(path)?;
        let (_, head) = state.files.get(path).ok_or_else(|| FolderError::NotFound { path: path.to_owned() })?;
        Ok(head.iter().copied().take(limit).collect())
    }
}
