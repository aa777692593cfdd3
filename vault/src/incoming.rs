//! A version that is being written: `incoming/<transfer>/`.
//!
//! The files lie in `files/`, and only that folder is renamed when the version is committed. So neither the journal nor
//! `transfer.json` can ever be part of a version, and there is no moment at which they had to be taken out of it.
//!
//! The folder's lock is held as long as the [`Incoming`] or one of its [`VaultFile`]s lives. It is made and locked
//! under a shared lock of `incoming` itself, which sweeping takes alone: nobody sees it unlocked before it is ready.
//!
//! Beginning:
//! 1. Make the folder, lock it; make `files` and `journal` in it; each is durable before the next step.
//! 2. Write `transfer.json` at once and durably (see [`Dir::replace`]).
//!
//! A crash before 2 ends leaves a folder without `transfer.json`: it can't be resumed and is swept.

mod journal;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use stackferry_volume::block::MAX_FILE_BYTES;
use stackferry_volume::io::{HoleMapSource, Sink, Source};
use stackferry_volume::local::SparseFile;
use stackferry_volume::manifest::MANIFEST_NAME;
use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest, FileName, TransferId, VersionId, VolumeId};

use crate::dir::Dir;
use crate::steps::step;
use crate::{Vault, VaultError, VaultInner};
use journal::Journal;

/// How long an interrupted copy can be resumed.
pub const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

pub(crate) const FILES: &str = "files";
const JOURNAL: &str = "journal";
const TRANSFER_NAME: &str = "transfer.json";
const TRANSFER_FORMAT: u32 = 1;
/// The longest `transfer.json` that is read, in bytes.
const MAX_TRANSFER_BYTES: u64 = 64 << 10;

/// What is to be written.
#[derive(Debug, Clone)]
pub struct IncomingSpec {
    /// The volume; the vault must know it.
    pub volume: VolumeId,
    /// The transfer; its id must be new.
    pub transfer: TransferId,
    /// The digest of the source's fingerprint, to find the interrupted copy by.
    pub fingerprint: Digest,
    /// Whether an equal fingerprint later on proves that nothing changed: what was read may be used by a later copy.
    pub settled: bool,
    /// The fencing number of the lease that the transfer runs under.
    pub fence: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TransferRecord {
    format: u32,
    pub(crate) transfer: TransferId,
    pub(crate) volume: VolumeId,
    fingerprint: Digest,
    /// Of one from before this was recorded it is not known.
    #[serde(default)]
    settled: bool,
    fence: u64,
    pub(crate) started: Timestamp,
    program: String,
}

/// A version that is being written. Dropping it keeps what was written, to be resumed within [`MAX_AGE`].
#[derive(Debug)]
pub struct Incoming {
    pub(crate) vault: Arc<VaultInner>,
    pub(crate) open: Arc<OpenTransfer>,
    pub(crate) record: TransferRecord,
    pub(crate) version: Option<VersionId>,
    pub(crate) least_seq: u64,
    resumed: bool,
}

/// The open folders of a transfer, and with them its lock.
#[derive(Debug)]
pub(crate) struct OpenTransfer {
    pub(crate) dir: Dir,
    pub(crate) files: Dir,
    journal: Dir,
}

impl OpenTransfer {
    /// The bytes that its files take on disk.
    fn allocated(&self) -> Result<u64, VaultError> {
        let mut bytes = 0u64;
        for item in self.files.items()? {
            let stat = self.files.stat(&item.shown)?;
            let blocks = stat.and_then(|stat| u64::try_from(stat.st_blocks).ok()).unwrap_or(0);
            bytes = bytes.saturating_add(blocks.saturating_mul(512));
        }
        Ok(bytes)
    }
}

impl Vault {
    /// Begins to write a version of a volume.
    ///
    /// # Errors
    /// `NoVolume`; `Busy` where the transfer's id is taken; `ReadOnly`; else the system's.
    pub fn begin(&self, spec: &IncomingSpec, now: Timestamp) -> Result<Incoming, VaultError> {
        let vault = &self.0;
        let incoming = &vault.writable("begin a transfer")?.incoming;
        vault.record(&spec.volume)?;
        let name = spec.transfer.to_string();
        let _shared = shared_lock(incoming)?;
        let taken = || VaultError::Busy { subject: format!("transfer {name}"), why: "there is one of that id" };
        if incoming.stat(&name)?.is_some() {
            return Err(taken());
        }
        let dir = incoming.make(&name, vault.access)?;
        // Two that begin under one id at once: one of them gets the lock, the other one sees it taken.
        if !dir.try_lock(true)? {
            return Err(taken());
        }
        let files = dir.make(FILES, vault.access)?;
        let journal = dir.make(JOURNAL, vault.access)?;
        let record = TransferRecord {
            format: TRANSFER_FORMAT,
            transfer: spec.transfer,
            volume: spec.volume.clone(),
            fingerprint: spec.fingerprint,
            settled: spec.settled,
            fence: spec.fence,
            started: now,
            program: vault.program.clone(),
        };
        let bytes = crate::seal::to_bytes(&record, &dir.child(TRANSFER_NAME))?;
        dir.replace(TRANSFER_NAME, &bytes, vault.access)?;
        let open = Arc::new(OpenTransfer { dir, files, journal });
        Ok(Incoming { vault: vault.clone(), open, record, version: None, least_seq: 0, resumed: false })
    }

    /// The newest interrupted copy of this volume and fingerprint, if one is younger than [`MAX_AGE`] and nobody
    /// writes it. What it recorded is not to be believed before it is hashed again.
    ///
    /// # Errors
    /// `ReadOnly`; else the system's. Leftovers that can't be read are left for [`Vault::sweep`].
    pub fn resumable(
        &self,
        volume: &VolumeId,
        fingerprint: &Digest,
        now: Timestamp,
    ) -> Result<Option<Incoming>, VaultError> {
        let vault = &self.0;
        let incoming = &vault.writable("resume a transfer")?.incoming;
        let mut found: Vec<TransferRecord> = Vec::new();
        for item in incoming.items()? {
            let Ok(Some(dir)) = incoming.sub(&item.shown) else { continue };
            let Ok(Some(record)) = read_transfer(&dir) else { continue };
            let named = record.transfer.to_string() == item.shown;
            if named && record.volume == *volume && record.fingerprint == *fingerprint {
                found.push(record);
            }
        }
        found.sort_by_key(|record| std::cmp::Reverse((record.started, record.transfer)));
        for record in found {
            let name = record.transfer.to_string();
            let Some(dir) = incoming.sub(&name)? else { continue };
            if !dir.try_lock(true)? || !dir.is_still(incoming, &name)? {
                continue;
            }
            let fresh = last_change(&dir).is_ok_and(|changed| is_fresh(changed.unwrap_or(record.started), now));
            if let (true, Some(files), Some(journal)) = (fresh, dir.sub(FILES)?, dir.sub(JOURNAL)?) {
                let open = Arc::new(OpenTransfer { dir, files, journal });
                return Ok(Some(Incoming {
                    vault: vault.clone(),
                    open,
                    record,
                    version: None,
                    least_seq: 0,
                    resumed: true,
                }));
            }
        }
        Ok(None)
    }
}

/// The shared lock of `incoming`, on an open folder of its own that ends with it.
fn shared_lock(incoming: &Dir) -> Result<Dir, VaultError> {
    let lock = incoming.need(".")?;
    lock.lock(false)?;
    Ok(lock)
}

/// Whose transfer it is; none where that was never written.
pub(crate) fn read_transfer(dir: &Dir) -> Result<Option<TransferRecord>, VaultError> {
    let Some(bytes) = dir.read(TRANSFER_NAME, MAX_TRANSFER_BYTES)? else { return Ok(None) };
    crate::seal::from_bytes(&bytes, TRANSFER_FORMAT, &dir.child(TRANSFER_NAME)).map(Some)
}

/// When anything was last recorded in a transfer's folder: its `transfer.json` and journals.
pub(crate) fn last_change(dir: &Dir) -> Result<Option<Timestamp>, VaultError> {
    let mtime = |dir: &Dir, name: &str| {
        let stat = dir.stat(name)?;
        let time = stat.and_then(|stat| Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).ok()?).ok());
        Ok::<_, VaultError>(time)
    };
    let mut newest = mtime(dir, TRANSFER_NAME)?;
    if let Some(journal) = dir.sub(JOURNAL)? {
        for item in journal.items()? {
            newest = newest.max(mtime(&journal, &item.shown)?);
        }
    }
    Ok(newest)
}

/// Whether a change is young enough to be trusted. One that lies as far in the future was recorded by a clock that was
/// wrong, and proves nothing.
pub(crate) fn is_fresh(changed: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(changed);
    age < MAX_AGE && age > SignedDuration::ZERO - MAX_AGE
}

impl Incoming {
    /// The transfer.
    #[must_use]
    pub fn transfer(&self) -> TransferId {
        self.record.transfer
    }

    /// The volume.
    #[must_use]
    pub fn volume(&self) -> &VolumeId {
        &self.record.volume
    }

    /// When it was begun.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.record.started
    }

    /// Whether its files were such that an equal fingerprint later on proves that nothing changed. If not, what was read
    /// may be of another state than what would be read now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.record.settled
    }

    /// Whether an interrupted copy goes on.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Makes a file of `bytes`, all hole; or, in a resumed transfer, opens the one that was begun. What of that one is
    /// not recorded as data is a hole again.
    ///
    /// # Errors
    /// `Incomplete` for a name or a length that no file of a version can have; `Busy` where the file is open already;
    /// else the system's.
    pub fn file(&self, name: &FileName, bytes: u64) -> Result<VaultFile, VaultError> {
        let refuse = |why: String| VaultError::Incomplete { transfer: self.transfer(), why };
        if name.as_str() == MANIFEST_NAME {
            return Err(refuse(format!("no file of a volume may be named {MANIFEST_NAME}")));
        }
        if bytes > MAX_FILE_BYTES {
            return Err(refuse(format!("{name} has {bytes} bytes, {MAX_FILE_BYTES} are the most")));
        }
        let files = &self.open.files;
        let path = files.child(name.as_str());
        let shown = &path;
        let fail = |op| move |error: io::Error| VaultError::system(op, shown, error);
        let old = self.existing(name, bytes)?;
        let begun = old.is_some();
        let file = match old {
            Some(file) => file,
            None => {
                step("make", &path)?;
                let mode = self.vault.access.file().as_raw_mode();
                let made = SparseFile::create_new(files, name, bytes, mode).map_err(fail("make"))?;
                self.vault.access.own(made.file()).map_err(|errno| fail("set owner and group of")(errno.into()))?;
                made
            }
        };
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(file.file(), lock).is_err() {
            return Err(VaultError::Busy { subject: path.display().to_string(), why: "it is being written" });
        }
        if !begun {
            // A journal without its file is worthless.
            self.open.journal.unlink(name.as_str())?;
        }
        let (journal, recorded) = Journal::open(&self.open.journal, name, bytes, self.vault.access)?;
        let unsure = recorded.runs().filter(|run| begun && !matches!(run.state, BlockState::Data(_)));
        for run in unsure {
            let len = run.count.saturating_mul(stackferry_volume::BLOCK_BYTES);
            file.clear(run.first.offset(), len).map_err(fail("clear"))?;
        }
        files.sync()?;
        self.open.journal.sync()?;
        Ok(VaultFile { file, path, journal: Mutex::new(journal), _open: self.open.clone() })
    }

    /// The file as an interrupted copy left it; none if there is none of that length, and none of that name then.
    fn existing(&self, name: &FileName, bytes: u64) -> Result<Option<SparseFile>, VaultError> {
        let files = &self.open.files;
        let Some(found) = files.stat(name.as_str())? else { return Ok(None) };
        let plain = rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::RegularFile;
        if plain && u64::try_from(found.st_size).ok() == Some(bytes) {
            // A commit that did not end may have made it read-only.
            let path = files.child(name.as_str());
            if let Some(file) = files.file(name.as_str())? {
                let access = self.vault.access;
                access.apply(&file, access.file()).map_err(|errno| VaultError::system("set mode of", &path, errno))?;
            }
            match SparseFile::open(files, name, bytes) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(VaultError::system("open", &path, error)),
            }
        }
        files.remove(name.as_str())?;
        Ok(None)
    }

    /// Reserves space for the `needed` bytes that the files take on disk in the end, beside the reserve and beside what others
    /// that are written in this process still need. What is there already, in a resumed transfer, counts.
    ///
    /// # Errors
    /// `NoSpace` if there is not so much; else the system's.
    pub fn reserve(&self, needed: u64) -> Result<(), VaultError> {
        let vault = &self.vault;
        let mut reserved = vault.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.retain(|(open, _)| open.strong_count() > 0);
        let mut outstanding = needed.saturating_sub(self.open.allocated()?);
        for (open, needed) in reserved.iter() {
            let Some(open) = open.upgrade().filter(|open| !Arc::ptr_eq(open, &self.open)) else { continue };
            // One that is committed or thrown away just now needs nothing.
            let written = open.allocated().unwrap_or(u64::MAX);
            outstanding = outstanding.saturating_add(needed.saturating_sub(written));
        }
        Vault(Arc::clone(vault)).check_space(outstanding)?;
        reserved.push((Arc::downgrade(&self.open), needed));
        Ok(())
    }

    /// Leaves out a file that was begun: the version will not hold it. Nobody may write to it any more.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_out(&self, name: &FileName) -> Result<(), VaultError> {
        self.open.files.unlink(name.as_str())?;
        self.open.journal.unlink(name.as_str())
    }

    /// Throws away all that was written.
    ///
    /// # Errors
    /// The system's. What is left then is swept later.
    pub fn discard(self) -> Result<(), VaultError> {
        self.vault.writable("discard a transfer")?.incoming.remove(&self.record.transfer.to_string())
    }
}

/// One file of a version that is being written.
#[derive(Debug)]
pub struct VaultFile {
    file: SparseFile,
    path: std::path::PathBuf,
    journal: Mutex<Journal>,
    /// Keeps the transfer's lock while the file can be written.
    _open: Arc<OpenTransfer>,
}

impl VaultFile {
    /// Where it is until the version is committed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that it takes on disk.
    ///
    /// # Errors
    /// The system's.
    pub fn stored(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.file().metadata()?.blocks().saturating_mul(512))
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for VaultFile {
    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.file.next_data(from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }
    fn hole_map(&self) -> HoleMapSource {
        self.file.hole_map()
    }
}

impl Sink for VaultFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<u64> {
        self.file.write_at(offset, data)
    }

    fn clear(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.clear(offset, bytes)
    }

    fn checkpoint(&self, done: &[(BlockIndex, BlockState)]) -> io::Result<()> {
        let mut journal = self.journal();
        step("sync data", journal.path()).map_err(io::Error::other)?;
        self.file.sync_data()?;
        journal.append(done)
    }

    fn recorded(&self) -> io::Result<BlockMap> {
        self.journal().scan().map(|(_, map)| map)
    }
}
