//! Committing: what was written becomes a version, at once.
//!
//! A number is given first, under the lock of the volume's folder, and recorded durably in `volume.json` before anything
//! bears it. A crash after that leaves a gap in the numbers, and never two versions of one number.
//!
//! 1. Every file gets its time, group and read-only mode, and is synced.
//! 2. `manifest.json` is written beside them and synced.
//! 3. The folder `files` is synced: its entries are on the disk.
//! 4. The volume's lock is taken, then the fence is asked: nothing is waited for between its answer and the next step.
//! 5. `files` is renamed into the volume's folder under the version's name, never over something.
//! 6. The volume's folder is synced, then the transfer's.
//! 7. The rest of the transfer's folder (journal, `transfer.json`) is removed.
//!
//! A crash before 5 leaves no version: the transfer is found again and resumed, or swept. The rename happens at once or
//! not at all, and all that it makes visible was on the disk before. A crash between 5 and 6 may undo it; then it is
//! as before 5. A crash before 7 ends leaves a transfer without `files`, which can't be resumed and is swept.

use std::collections::BTreeSet;
use std::fs::FileTimes;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use stackferry_volume::fingerprint::is_known;
use stackferry_volume::io::Cancel;
use stackferry_volume::local::LocalSource;
use stackferry_volume::manifest::{MANIFEST_NAME, MAX_MANIFEST_BYTES};
use stackferry_volume::{FileName, Manifest, VersionId};

use crate::dir::Moved;
use crate::incoming::{FILES, Incoming};
use crate::rebuilt::load_record;
use crate::record::version_ids;
use crate::steps::step;
use crate::walk::{OpenedFile, walk};
use crate::{Cause, Damage, VaultError};

impl Incoming {
    /// The version's number will be at least this: what was given to versions that the vault no longer knows of (it was
    /// set back to an earlier state) is not given again.
    pub fn start_numbers_at(&mut self, seq: u64) {
        self.least_seq = self.least_seq.max(seq);
    }

    /// Returns the version its id. It is for the manifest, and must be given before the commit; a transfer that is never
    /// committed leaves a gap in the numbers. `lock_until` locks the version from its first moment.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; else the system's.
    pub fn allocate(&mut self, at: Timestamp, lock_until: Option<Timestamp>) -> Result<VersionId, VaultError> {
        let (_, version) = self.vault.change(&self.record.volume, "number a version", |folder, record| {
            let there = version_ids(folder)?;
            let seq = there.last().map_or(1, |last| last.seq().saturating_add(1));
            let seq = seq.max(record.next_seq).max(self.least_seq).max(1);
            let version = VersionId::new(at, seq);
            record.next_seq = seq.saturating_add(1);
            // Locks of versions that never came to be end some day too.
            record.locks.retain(|known, until| there.contains(known) || *until > at);
            if let Some(until) = lock_until {
                record.locks.insert(version.clone(), until);
            }
            Ok((true, version))
        })?;
        self.version = Some(version.clone());
        Ok(version)
    }

    /// Reads all that was written back past the page cache and checks it against the records of the manifest to be.
    /// `progress` receives the bytes done so far, zeros included.
    ///
    /// # Errors
    /// `Cancelled`; else the system's.
    pub fn read_back(
        &self,
        manifest: &Manifest,
        threads: NonZeroUsize,
        progress: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<Vec<Damage>, VaultError> {
        let mut files = Vec::new();
        for record in &manifest.files {
            let path = self.open.files.child(record.name.as_str());
            let shown = &path;
            let fail = |op| move |error: std::io::Error| VaultError::system(op, shown, error);
            let file = self.open.files.file(record.name.as_str())?;
            let file = file.ok_or_else(|| self.incomplete(format!("{} was not written", record.name)))?;
            // Only clean pages leave the cache.
            file.sync_data().map_err(fail("sync"))?;
            files.push(OpenedFile { record, source: LocalSource::new(file).map_err(fail("open"))? });
        }
        walk("reading back", &files, threads, cancel, progress, false, &|_, _, _| Ok(()))
    }

    /// Makes a version of what was written. The manifest bears the id from [`Incoming::allocate`], and lists every
    /// file that was written and of no other. The fence is asked under the volume's lock: it must not use the vault.
    ///
    /// After an error nothing was committed, except where syncing failed after the rename: then the version may be
    /// there, and is whole. What was written stays to be resumed.
    ///
    /// # Errors
    /// `Incomplete` where manifest and files don't agree; `Busy` while a file is still open; `Fenced`; else the
    /// system's.
    pub fn commit(self, manifest: &Manifest, fence: &mut dyn FnMut() -> Result<(), Cause>) -> Result<(), VaultError> {
        let vault = Arc::clone(&self.vault);
        let incoming = &vault.writable("commit a version")?.incoming;
        let bytes = self.check(manifest)?;
        let (transfer, files, access) = (&self.open.dir, &self.open.files, vault.access);
        for record in &manifest.files {
            let path = files.child(record.name.as_str());
            let file = files.file(record.name.as_str())?;
            let file = file.ok_or_else(|| self.incomplete(format!("{} is gone", record.name)))?;
            if is_known(record.mtime) {
                let times = FileTimes::new().set_modified(SystemTime::from(record.mtime));
                file.set_times(times).map_err(|error| VaultError::system("set the time of", &path, error))?;
            }
            access
                .apply(&file, access.kept())
                .map_err(|errno| VaultError::system("set mode and group of", &path, errno))?;
            step("sync file", &path)?;
            file.sync_all().map_err(|error| VaultError::system("sync", &path, error))?;
        }
        files.unlink(MANIFEST_NAME)?;
        files.write_new(MANIFEST_NAME, &bytes, access, access.kept())?;
        files.open_to(access)?;
        files.sync()?;

        let unknown = || VaultError::NoVolume { volume: manifest.volume.clone() };
        let folder = vault.folder(&manifest.volume)?.ok_or_else(unknown)?;
        folder.lock(true)?;
        let record = load_record(&folder, &manifest.volume)?.ok_or_else(unknown)?;
        if !record.knows(manifest.generation) || record.stem != manifest.stem {
            return Err(self.incomplete(format!("{} is not known with this stem and generation", manifest.volume)));
        }
        step("fence", transfer.path())?;
        fence().map_err(|source| VaultError::Fenced { transfer: self.transfer(), source })?;
        match transfer.move_to(FILES, &folder, &manifest.version.to_string())? {
            Moved::Done => {}
            Moved::Taken => return Err(self.incomplete(format!("{} exists", manifest.version))),
            Moved::Gone => return Err(self.incomplete("its files are gone".to_owned())),
        }
        folder.sync()?;
        transfer.sync()?;
        drop(folder);
        // The version is there. What is left of the transfer is swept if it can't be removed now.
        let _ = incoming.remove(&self.transfer().to_string());
        Ok(())
    }

    fn incomplete(&self, why: String) -> VaultError {
        VaultError::Incomplete { transfer: self.transfer(), why }
    }

    /// Whether the manifest lists what was written; and its bytes.
    fn check(&self, manifest: &Manifest) -> Result<Vec<u8>, VaultError> {
        if Arc::strong_count(&self.open) != 1 {
            let subject = format!("transfer {}", self.transfer());
            return Err(VaultError::Busy { subject, why: "one of its files is still open for writing" });
        }
        if self.version.as_ref() != Some(&manifest.version) || manifest.volume != *self.volume() {
            let why = format!("its manifest is of {}@{}", manifest.volume, manifest.version);
            return Err(self.incomplete(why));
        }
        let mut there: BTreeSet<FileName> = BTreeSet::new();
        for item in self.open.files.items()? {
            match item.name {
                Some(name) if name.as_str() != MANIFEST_NAME => drop(there.insert(name)),
                Some(_) => {}
                None => return Err(self.incomplete(format!("{} is no file of it", item.shown))),
            }
        }
        for record in &manifest.files {
            let written = self.open.files.stat(record.name.as_str())?.and_then(|stat| u64::try_from(stat.st_size).ok());
            if !there.remove(&record.name) || written != Some(record.blocks.bytes()) {
                let why = format!("{} was not written with {} bytes", record.name, record.blocks.bytes());
                return Err(self.incomplete(why));
            }
        }
        if let Some(name) = there.first() {
            return Err(self.incomplete(format!("{name} is not in the manifest")));
        }
        // What could not be read again must not become a version.
        let unreadable = |source| VaultError::ManifestDamaged {
            volume: manifest.volume.clone(),
            version: manifest.version.clone(),
            source,
        };
        let bytes = manifest.to_bytes().map_err(unreadable)?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(self.incomplete(format!("its manifest is longer than {MAX_MANIFEST_BYTES} bytes")));
        }
        Manifest::from_bytes(&bytes).map_err(unreadable)?;
        Ok(bytes)
    }
}
