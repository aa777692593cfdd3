//! The volumes of a vault, and their records: pins, locks, marks of damage.
//!
//! `volume.json` is written only under the lock of the volume's folder, and only by [`Dir::replace`], which documents the
//! order and the crash argument. A volume's folder is made before its `volume.json`: a crash between leaves a folder
//! that is empty or holds a temporary file, which is no volume and is used when the volume is seen again. Folders of
//! volumes are never removed.

use std::path::PathBuf;

use jiff::Timestamp;
use stackferry_volume::{Kind, VersionId, VolumeId};

use crate::dir::Dir;
use crate::error::Chain;
use crate::rebuilt::{DAMAGED_NAME, keep_damaged, load_or_begin, load_record};
use crate::record::{DamageMark, MAX_RECORD_BYTES, Pin, RECORD_NAME, VolumeRecord, VolumeSpec};
use crate::{Vault, VaultError, VaultInner};

/// Something in the vault that can't be read, or does not belong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultProblem {
    /// Where.
    pub path: PathBuf,
    /// What, for a person.
    pub why: String,
}

/// All volumes of a vault, and all that is in their place without being one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// The volumes, by id.
    pub volumes: Vec<VolumeRecord>,
    /// What could not be read.
    pub problems: Vec<VaultProblem>,
}

impl Volumes {
    fn problem(&mut self, path: PathBuf, why: impl ToString) {
        self.problems.push(VaultProblem { path, why: why.to_string() });
    }
}

impl VaultInner {
    /// The volume's folder; none if there is none.
    pub(crate) fn folder(&self, volume: &VolumeId) -> Result<Option<Dir>, VaultError> {
        match self.volumes.sub(volume.kind().as_str())? {
            Some(kind) => kind.sub(volume.folder().as_str()),
            None => Ok(None),
        }
    }

    /// The volume's folder and record.
    pub(crate) fn record(&self, volume: &VolumeId) -> Result<(Dir, VolumeRecord), VaultError> {
        let missing = || VaultError::NoVolume { volume: volume.clone() };
        let folder = self.folder(volume)?.ok_or_else(missing)?;
        let record = load_record(&folder, volume)?.ok_or_else(missing)?;
        Ok((folder, record))
    }

    /// Changes the record of a volume, under its lock, and returns the folder with the lock still held. `change`
    /// says whether there is anything to write.
    pub(crate) fn change<T>(
        &self,
        volume: &VolumeId,
        op: &'static str,
        change: impl FnOnce(&Dir, &mut VolumeRecord) -> Result<(bool, T), VaultError>,
    ) -> Result<(Dir, T), VaultError> {
        self.writable(op)?;
        let folder = self.folder(volume)?.ok_or_else(|| VaultError::NoVolume { volume: volume.clone() })?;
        folder.lock(true)?;
        let mut record =
            load_record(&folder, volume)?.ok_or_else(|| VaultError::NoVolume { volume: volume.clone() })?;
        let (changed, value) = change(&folder, &mut record)?;
        if changed {
            keep_damaged(&folder, volume)?;
            write_record(&folder, &record, self)?;
        }
        Ok((folder, value))
    }
}

fn write_record(folder: &Dir, record: &VolumeRecord, vault: &VaultInner) -> Result<(), VaultError> {
    let path = folder.child(RECORD_NAME);
    let bytes = record.to_bytes(&path)?;
    // What could not be read again is not written.
    if bytes.len() as u64 > MAX_RECORD_BYTES {
        let why = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        return Err(VaultError::system("write", &path, why));
    }
    folder.replace(RECORD_NAME, &bytes, vault.access)
}

impl Vault {
    /// Records a volume, or what is new about it: another generation, another location. Returns its record.
    ///
    /// Where versions lie but `volume.json` is missing or damaged it is rebuilt from them: see [`VolumeRecord::rebuilt`].
    ///
    /// # Errors
    /// `Conflict` where the volume is known with another stem, or its generation with another GUID; `RecordDamaged` where
    /// no version says what the folder is of; else the system's.
    pub fn ensure_volume(&self, spec: &VolumeSpec) -> Result<VolumeRecord, VaultError> {
        let op = "record a volume";
        self.0.writable(op)?;
        let kind = self.0.volumes.make(spec.id.kind().as_str(), self.0.access)?;
        let folder = kind.make(spec.id.folder().as_str(), self.0.access)?;
        folder.lock(true)?;
        if folder.stat(RECORD_NAME)?.is_none() {
            // The folders may be what a crash left: made, but not yet with their mode, nor durable.
            for dir in [&kind, &folder] {
                dir.open_to(self.0.access)?;
            }
            for parent in [&self.0.volumes, &kind] {
                parent.sync()?;
            }
        }
        let (record, new) = load_or_begin(&folder, spec)?;
        if new {
            keep_damaged(&folder, &spec.id)?;
            write_record(&folder, &record, &self.0)?;
        }
        Ok(record)
    }

    /// What is known of a volume.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; else the system's.
    pub fn volume(&self, volume: &VolumeId) -> Result<VolumeRecord, VaultError> {
        self.0.record(volume).map(|(_, record)| record)
    }

    /// All volumes, and all that could not be read: that is reported, not hidden.
    ///
    /// # Errors
    /// The system's, where nothing can be listed at all.
    pub fn volumes(&self) -> Result<Volumes, VaultError> {
        let mut found = Volumes::default();
        for item in self.0.volumes.items()? {
            let path = self.0.volumes.child(&item.shown);
            match item.shown.parse::<Kind>() {
                Ok(kind) if item.is_folder => self.volumes_of(kind, &mut found),
                _ => found.problem(path, "no kind of volume has this name"),
            }
        }
        found.volumes.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(found)
    }

    fn volumes_of(&self, kind: Kind, found: &mut Volumes) {
        let listed = self.0.volumes.need(kind.as_str()).and_then(|dir| dir.items().map(|items| (dir, items)));
        let (dir, items) = match listed {
            Ok(listed) => listed,
            Err(error) => return found.problem(self.0.volumes.child(kind.as_str()), Chain(&error)),
        };
        for item in items {
            let path = dir.child(&item.shown);
            let Some(name) = item.name.filter(|_| item.is_folder) else {
                found.problem(path, "this is no volume's folder");
                continue;
            };
            let volume = VolumeId::first(kind, &name);
            if let Err(error) = one_volume(&dir, &volume, found) {
                found.problem(path, Chain(&error));
            }
        }
    }

    /// Pins a version: it is not deleted until unpinned. Pinned again it gets the new note.
    ///
    /// # Errors
    /// `NoVolume`, `NoVersion`; else the system's.
    pub fn pin(&self, volume: &VolumeId, version: &VersionId, note: &str, at: Timestamp) -> Result<(), VaultError> {
        self.mark(volume, version, "pin a version", |record| {
            record.pins.insert(version.clone(), Pin { note: note.to_owned(), at });
            true
        })
    }

    /// Unpins a version. One that is not pinned stays as it is.
    ///
    /// # Errors
    /// `NoVolume`, `NoVersion`; else the system's.
    pub fn unpin(&self, volume: &VolumeId, version: &VersionId) -> Result<(), VaultError> {
        self.mark(volume, version, "unpin a version", |record| record.pins.remove(version).is_some())
    }

    /// Locks a version until a time. A lock only ever gets longer.
    ///
    /// # Errors
    /// `NoVolume`, `NoVersion`; else the system's.
    pub fn lock_until(&self, volume: &VolumeId, version: &VersionId, until: Timestamp) -> Result<(), VaultError> {
        self.mark(volume, version, "lock a version", |record| {
            let longer = record.locks.get(version).is_none_or(|known| *known < until);
            if longer {
                record.locks.insert(version.clone(), until);
            }
            longer
        })
    }

    /// Marks a version as damaged: it no longer counts as a good one. The first mark stays.
    ///
    /// # Errors
    /// `NoVolume`, `NoVersion`; else the system's.
    pub fn mark_damaged(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        why: &str,
        at: Timestamp,
    ) -> Result<(), VaultError> {
        self.mark(volume, version, "mark a version as damaged", |record| {
            let new = !record.damaged.contains_key(version);
            if new {
                record.damaged.insert(version.clone(), DamageMark { why: why.to_owned(), at });
            }
            new
        })
    }

    /// Removes the mark of damage from a version, after it was verified again.
    ///
    /// # Errors
    /// `NoVolume`, `NoVersion`; else the system's.
    pub fn clear_damage(&self, volume: &VolumeId, version: &VersionId) -> Result<(), VaultError> {
        self.mark(volume, version, "unmark a version", |record| record.damaged.remove(version).is_some())
    }

    fn mark(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        op: &'static str,
        change: impl FnOnce(&mut VolumeRecord) -> bool,
    ) -> Result<(), VaultError> {
        let change = |folder: &Dir, record: &mut VolumeRecord| {
            if folder.sub(&version.to_string())?.is_none() {
                return Err(VaultError::NoVersion { volume: volume.clone(), version: version.clone() });
            }
            Ok((change(record), ()))
        };
        self.0.change(volume, op, change).map(|_| ())
    }
}

fn one_volume(kind: &Dir, volume: &VolumeId, found: &mut Volumes) -> Result<(), VaultError> {
    let dir = kind.need(volume.folder().as_str())?;
    let items = dir.items()?;
    for item in &items {
        let own =
            [RECORD_NAME, DAMAGED_NAME].contains(&item.shown.as_str()) || item.shown == format!("{RECORD_NAME}.tmp");
        let version = item.is_folder && item.shown.parse::<VersionId>().is_ok();
        if !own && !version {
            found.problem(dir.child(&item.shown), "this is no version");
        }
    }
    match load_record(&dir, volume)? {
        Some(record) => {
            if let Some(why) = &record.rebuilt {
                found.problem(dir.path().to_owned(), format!("{why}; it is rebuilt from the versions"));
            }
            found.volumes.push(record);
        }
        // A crash came while the volume was first recorded: there is nothing of it yet.
        None if items.iter().all(|item| item.shown == format!("{RECORD_NAME}.tmp")) => {}
        None => found.problem(dir.path().to_owned(), format!("{RECORD_NAME} is missing")),
    }
    Ok(())
}
