//! Deleting versions. Every deletion passes here, and here is the rule: a version goes only while another one of its
//! generation can be read, or if it certainly can't be read itself. What a manifest or a mark says is not believed for
//! it: the files of the version that stays are checked ([`crate::whole`]), and read back where that leaves a doubt.
//!
//! 1. Take the volume's lock, then each version's alone: nobody reads it.
//! 2. Check whether it may be deleted at all. A version that turns out to be damaged ends it here: who plans what to
//!    delete counted on it.
//! 3. Rename the versions into `trash`, sync the volume's folder, then `trash`. The volume's lock is given back.
//! 4. Remove their files.
//! 5. Record in `volume.json` what was found damaged or whole, and remove the records of the deleted ones.
//!
//! A crash before 3 ends leaves each version whole, in its place or in `trash`; after it, it is in `trash`, where
//! [`Vault::sweep`] removes the rest. Its number is not given again: `volume.json` knows the next one. Step 5 comes
//! last since it needs space, which a full disk has only after 4; records of a version that is gone do no harm, and what
//! was found is found again.
//!
//! Reading back takes long, so it is done between two passes, without the volume's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use jiff::Timestamp;
use stackferry_volume::io::Cancel;
use stackferry_volume::{Generation, Manifest, ManifestError, VersionId, VolumeId};

use crate::dir::{Dir, Moved};
use crate::error::Chain;
use crate::record::{DamageMark, RECORD_NAME, VolumeRecord, version_ids};
use crate::version::load_manifest;
use crate::whole::{self, QuickCheck};
use crate::{Damage, Vault, VaultError, random_name};

/// Which versions of a volume are to be deleted.
#[derive(Debug, Clone, Copy)]
pub struct DeleteRequest<'a> {
    /// The versions, those first that matter least.
    pub versions: &'a [VersionId],
    /// Versions that the caller knows to be damaged, beside those that are marked: none of them is counted on.
    pub damaged: &'a BTreeSet<VersionId>,
    /// The time now: locks are compared with it.
    pub now: Timestamp,
}

/// What became of a request to delete versions.
#[derive(Debug, Default)]
pub struct DeleteOutcome {
    /// What became of each version, in the order of the request. Versions that are not in it were not tried, since `found`
    /// changes what is to be deleted.
    pub versions: Vec<(VersionId, Result<(), VaultError>)>,
    /// Versions that were found damaged, or whole though they were marked as damaged.
    pub found: Vec<FoundVersion>,
    /// Why what was found could not be recorded in the vault.
    pub not_recorded: Option<VaultError>,
}

/// What was found of a version that was checked before another one is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVersion {
    /// The version.
    pub version: VersionId,
    /// What is wrong with it; nothing if all of it was read back and found right.
    pub damage: Vec<Damage>,
}

impl Vault {
    /// Deletes a version.
    ///
    /// # Errors
    /// `Pinned`, `Locked`; `LastGood`, `NoneReadable` where no other version could be read; `Busy` while somebody reads
    /// it; `NoVolume`, `NoVersion`; else the system's.
    pub fn delete(&self, volume: &VolumeId, version: &VersionId, now: Timestamp) -> Result<(), VaultError> {
        let mut damaged = BTreeSet::new();
        loop {
            let request = DeleteRequest { versions: std::slice::from_ref(version), damaged: &damaged, now };
            let outcome = self.delete_versions(volume, request, &Cancel::default())?;
            if let Some((_, result)) = outcome.versions.into_iter().next() {
                return result;
            }
            if let Some(error) = outcome.not_recorded {
                return Err(error);
            }
            damaged.extend(outcome.found.into_iter().filter(|one| !one.damage.is_empty()).map(|one| one.version));
        }
    }

    /// Deletes versions of a volume, as far as each may be deleted. When another version turns out to be damaged, nothing
    /// more is deleted: the caller makes a new plan.
    ///
    /// # Errors
    /// `NoVolume`; `RecordDamaged`; `Cancelled` while a version is read back; else the system's. What stands against one
    /// version is reported with that version.
    pub fn delete_versions(
        &self,
        volume: &VolumeId,
        request: DeleteRequest<'_>,
        cancel: &Cancel,
    ) -> Result<DeleteOutcome, VaultError> {
        let mut outcome = DeleteOutcome::default();
        let mut read = BTreeMap::new();
        loop {
            let pass = self.pass(volume, request, &read, &mut outcome)?;
            let Some(doubtful) = pass.filter(|_| outcome.found.is_empty()) else { break };
            if cancel.is_cancelled() {
                return Err(VaultError::Cancelled { op: "deleting versions" });
            }
            let damage = self.read_version(volume, &doubtful, cancel)?;
            let is_whole = damage.as_ref().is_some_and(Vec::is_empty);
            let is_marked =
                request.damaged.contains(&doubtful) || self.0.record(volume)?.1.damaged.contains_key(&doubtful);
            if let Some(damage) = damage.filter(|_| is_whole == is_marked) {
                outcome.found.push(FoundVersion { version: doubtful.clone(), damage });
            }
            read.insert(doubtful, is_whole);
            if !outcome.found.is_empty() {
                break;
            }
        }
        outcome.not_recorded = self.record_outcome(volume, &outcome, request.now).err();
        Ok(outcome)
    }

    /// One pass under the volume's lock over the versions that were not tried yet. Returns a version that must be read back
    /// before it goes on.
    fn pass(
        &self,
        volume: &VolumeId,
        request: DeleteRequest<'_>,
        read: &BTreeMap<VersionId, bool>,
        outcome: &mut DeleteOutcome,
    ) -> Result<Option<VersionId>, VaultError> {
        let op = "delete a version";
        let trash = &self.0.writable(op)?.trash;
        let mut moved: Vec<(Dir, String, usize)> = Vec::new();
        let mut doubtful = None;
        let (folder, ()) = self.0.change(volume, op, |folder, record| {
            // Pins and locks may be lost with the file.
            if let Some(why) = &record.rebuilt {
                let why = format!("{why}; pins and locks may be lost with it");
                return Err(VaultError::RecordDamaged { path: folder.child(RECORD_NAME), why });
            }
            let mut others = OtherVersions::new(folder, record, request, read)?;
            for version in request.versions.iter().skip(outcome.versions.len()) {
                let verdict = others.may_delete(version);
                outcome.found.append(&mut others.found);
                let result = match verdict {
                    // The plan that this version was to go by does not hold any more.
                    _ if !outcome.found.is_empty() => break,
                    Ok(Verdict::ReadFirst(other)) => {
                        doubtful = Some(other);
                        break;
                    }
                    Ok(Verdict::Delete(dir)) => to_trash(folder, trash, volume, version).map(|name| {
                        others.left.retain(|left| left != version);
                        moved.push((dir, name, outcome.versions.len()));
                    }),
                    Err(error) => Err(error),
                };
                outcome.versions.push((version.clone(), result));
            }
            if !moved.is_empty() {
                folder.sync()?;
                trash.sync()?;
            }
            Ok((false, ()))
        })?;
        drop(folder);
        for (held, name, at) in moved {
            let removed = trash.remove(&name);
            drop(held);
            if let Some((_, result)) = outcome.versions.get_mut(at) {
                *result = removed;
            }
        }
        Ok(doubtful)
    }

    /// What is wrong with a version; none where it is gone.
    fn read_version(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Damage>>, VaultError> {
        let opened = match self.version(volume, version) {
            Ok(opened) => opened,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let damage = opened.verify(threads, &mut |_| {}, cancel)?;
        if damage.is_empty() {
            whole::restore_times(&opened.dir, opened.manifest());
        }
        Ok(Some(damage))
    }

    /// Records what was found, and forgets the records of versions that are gone.
    fn record_outcome(&self, volume: &VolumeId, outcome: &DeleteOutcome, now: Timestamp) -> Result<(), VaultError> {
        let gone: Vec<&VersionId> =
            outcome.versions.iter().filter(|(_, result)| result.is_ok()).map(|(version, _)| version).collect();
        if gone.is_empty() && outcome.found.is_empty() {
            return Ok(());
        }
        let recorded = self.0.change(volume, "record what was found", |_, record| {
            let mut new = false;
            for version in gone {
                new |= record.locks.remove(version).is_some() | record.damaged.remove(version).is_some();
            }
            for FoundVersion { version, damage } in &outcome.found {
                new |= match damage.first() {
                    None => record.damaged.remove(version).is_some(),
                    Some(_) if record.damaged.contains_key(version) => false,
                    Some(first) => {
                        let mark = DamageMark { why: first.to_string(), at: now };
                        record.damaged.insert(version.clone(), mark).is_none()
                    }
                };
            }
            Ok((new, ()))
        });
        recorded.map(|_| ())
    }
}

fn to_trash(folder: &Dir, trash: &Dir, volume: &VolumeId, version: &VersionId) -> Result<String, VaultError> {
    let name = trash_name(&format!("{}-{version}", volume.folder()));
    match folder.move_to(&version.to_string(), trash, &name)? {
        Moved::Done => Ok(name),
        Moved::Gone => Err(VaultError::NoVersion { volume: volume.clone(), version: version.clone() }),
        Moved::Taken => Err(VaultError::Busy { subject: name, why: "there is one of that name in the trash" }),
    }
}

/// A name in the trash that says what it was, and that nobody else takes. Stems are up to 200 bytes long, and a name
/// must not be longer than 255.
pub(crate) fn trash_name(of: &str) -> String {
    let mut end = of.len().min(200);
    while !of.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{}", of.get(..end).unwrap_or_default(), random_name())
}

/// What stands for or against a deletion.
enum Verdict {
    /// It may go. Its folder is locked.
    Delete(Dir),
    /// First this version, perhaps itself, must be read back.
    ReadFirst(VersionId),
}

/// The versions of a volume that may have to stand for one that is deleted, each checked once.
struct OtherVersions<'a> {
    folder: &'a Dir,
    record: &'a VolumeRecord,
    request: DeleteRequest<'a>,
    read: &'a BTreeMap<VersionId, bool>,
    /// Those that are there, oldest first.
    left: Vec<VersionId>,
    checks: BTreeMap<VersionId, VersionCheck>,
    /// What was found since this was last taken.
    found: Vec<FoundVersion>,
}

/// A version as it was seen in one pass.
enum VersionCheck {
    /// Its manifest can be read.
    Readable(Generation, QuickCheck),
    /// Its manifest says nothing.
    Damaged(VaultError),
    /// It can't be read, or a newer program made it.
    Unknown,
}

impl<'a> OtherVersions<'a> {
    fn new(
        folder: &'a Dir,
        record: &'a VolumeRecord,
        request: DeleteRequest<'a>,
        read: &'a BTreeMap<VersionId, bool>,
    ) -> Result<Self, VaultError> {
        let left = version_ids(folder)?;
        Ok(Self { folder, record, request, read, left, checks: BTreeMap::new(), found: Vec::new() })
    }

    fn may_delete(&mut self, version: &VersionId) -> Result<Verdict, VaultError> {
        let volume = || self.record.id.clone();
        let dir = self
            .folder
            .sub(&version.to_string())?
            .ok_or_else(|| VaultError::NoVersion { volume: volume(), version: version.clone() })?;
        if !dir.try_lock(true)? {
            let subject = format!("{}@{version}", self.record.id);
            return Err(VaultError::Busy { subject, why: "it is being read" });
        }
        if self.record.pins.contains_key(version) {
            return Err(VaultError::Pinned { volume: volume(), version: version.clone() });
        }
        if let Some(until) = self.record.locks.get(version).filter(|until| **until > self.request.now) {
            return Err(VaultError::Locked { volume: volume(), version: version.clone(), until: *until });
        }
        // Where the volume has one generation only, its manifest need not be asked for it: those of large disks are long.
        if let [only] = self.record.generations.as_slice() {
            let other = self.other(version, Some(only.number))?;
            // What was found ends it, whatever the verdict.
            if matches!(other, OtherVersion::Whole) || !self.found.is_empty() {
                return Ok(Verdict::Delete(dir));
            }
        }
        let own = match load_manifest(&dir, &self.record.id, version) {
            Ok(manifest) => Some(manifest),
            // A newer program can read it: it may be good.
            Err(error @ VaultError::ManifestDamaged { source: ManifestError::Format(_), .. }) => return Err(error),
            // Of which generation it is nobody knows.
            Err(error) if error.is_damaged() => None,
            Err(error) => return Err(error),
        };
        let generation = own.as_ref().map(|manifest| manifest.generation);
        match self.other(version, generation)? {
            OtherVersion::Whole => return Ok(Verdict::Delete(dir)),
            OtherVersion::Doubtful(other) => return Ok(Verdict::ReadFirst(other)),
            OtherVersion::None => {}
        }
        let Some(manifest) = own else {
            return Err(VaultError::NoneReadable { volume: volume(), version: version.clone() });
        };
        self.only(version, &manifest, dir)
    }

    /// No other version of its generation can be read: this one goes only if it certainly can't be read either.
    fn only(&self, version: &VersionId, manifest: &Manifest, dir: Dir) -> Result<Verdict, VaultError> {
        let last = || VaultError::LastGood {
            volume: self.record.id.clone(),
            version: version.clone(),
            generation: manifest.generation,
        };
        match self.read.get(version) {
            Some(true) => return Err(last()),
            Some(false) => return Ok(Verdict::Delete(dir)),
            None => {}
        }
        match whole::quick_check(&dir, manifest) {
            QuickCheck::Broken(_) => Ok(Verdict::Delete(dir)),
            // It is marked, and marks may err.
            QuickCheck::Whole | QuickCheck::Doubtful if self.is_marked(version) => {
                Ok(Verdict::ReadFirst(version.clone()))
            }
            QuickCheck::Whole | QuickCheck::Doubtful => Err(last()),
            QuickCheck::Unknown(error) => Err(error),
        }
    }

    fn is_marked(&self, version: &VersionId) -> bool {
        self.record.damaged.contains_key(version) || self.request.damaged.contains(version)
    }

    /// Whether another version than this can be read: one of its generation, or any where that is not known. The newest
    /// is checked first, so that a newest one that is damaged is noticed, and mostly it answers.
    fn other(&mut self, version: &VersionId, generation: Option<Generation>) -> Result<OtherVersion, VaultError> {
        let mut doubtful = None;
        for other in self.left.iter().rev() {
            if other == version || self.is_marked(other) {
                continue;
            }
            if !self.checks.contains_key(other) {
                let Some(seen) = self.check(other)? else { continue };
                self.checks.insert(other.clone(), seen);
            }
            let Some(seen) = self.checks.get(other) else { continue };
            let damage = match seen {
                VersionCheck::Readable(own, _) if generation.is_some_and(|generation| *own != generation) => continue,
                VersionCheck::Readable(_, QuickCheck::Whole) => return Ok(OtherVersion::Whole),
                VersionCheck::Readable(_, QuickCheck::Doubtful) => match self.read.get(other) {
                    Some(true) => return Ok(OtherVersion::Whole),
                    Some(false) => continue,
                    None => {
                        doubtful.get_or_insert_with(|| other.clone());
                        continue;
                    }
                },
                VersionCheck::Readable(_, QuickCheck::Broken(damage)) => damage.clone(),
                VersionCheck::Damaged(error) => Damage {
                    file: stackferry_volume::manifest::MANIFEST_NAME.to_owned(),
                    block: None,
                    why: Chain(error).to_string(),
                },
                // Unknown: it is not counted on, and not called damaged.
                VersionCheck::Readable(_, QuickCheck::Unknown(_)) | VersionCheck::Unknown => continue,
            };
            self.found.push(FoundVersion { version: other.clone(), damage: vec![damage] });
            return Ok(OtherVersion::None);
        }
        Ok(doubtful.map_or(OtherVersion::None, OtherVersion::Doubtful))
    }

    /// None where it is gone.
    fn check(&self, version: &VersionId) -> Result<Option<VersionCheck>, VaultError> {
        let Some(dir) = self.folder.sub(&version.to_string())? else { return Ok(None) };
        Ok(Some(match load_manifest(&dir, &self.record.id, version) {
            Ok(manifest) => VersionCheck::Readable(manifest.generation, whole::quick_check(&dir, &manifest)),
            Err(VaultError::ManifestDamaged { source: ManifestError::Format(_), .. }) => VersionCheck::Unknown,
            Err(error) if error.is_damaged() => VersionCheck::Damaged(error),
            Err(_) => VersionCheck::Unknown,
        }))
    }
}

/// Whether another version can be read.
enum OtherVersion {
    Whole,
    Doubtful(VersionId),
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_trash_are_never_too_long() {
        for of in ["x".repeat(300), "ä".repeat(150), format!("x{}", "ä".repeat(150)), "short".into()] {
            let name = trash_name(&of);
            assert!(name.len() <= 255 && stackferry_volume::FileName::new(&name).is_ok(), "{name}");
        }
        assert_ne!(trash_name("a"), trash_name("a"));
    }
}
