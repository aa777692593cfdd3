//! Deleting a version.
//!
//! 1. Take the volume's lock, then the version's alone: nobody reads it.
//! 2. Look whether it may be deleted at all.
//! 3. Rename it into `trash`, sync the volume's folder, then `trash`. The volume's lock is given back.
//! 4. Remove its files.
//! 5. Take what was noted of it out of `volume.json`.
//!
//! A crash before 3 ends leaves the version whole, in its place or in `trash`; after it, it is in `trash`, where
//! [`Vault::sweep`] removes the rest. Its number is not given again: `volume.json` knows the next one. Step 5 comes
//! last since it needs space, which a full disk has only after 4; notes of a version that is gone harm nobody.

use std::collections::BTreeSet;

use jiff::Timestamp;
use stackferry_volume::{Generation, ManifestError, VersionId, VolumeId};

use crate::dir::{Dir, Moved};
use crate::record::VolumeRecord;
use crate::version::load_manifest;
use crate::volumes::version_ids;
use crate::{Vault, VaultError, random_name};

impl Vault {
    /// Deletes a version.
    ///
    /// # Errors
    /// `Pinned`, `Locked`; `LastGood` for the last version of its generation that is good (its manifest can be read,
    /// and it is not marked as damaged); `Busy` while somebody reads it; `NoVolume`, `NoVersion`; else the system's.
    pub fn delete(&self, volume: &VolumeId, version: &VersionId, now: Timestamp) -> Result<(), VaultError> {
        let op = "delete a version";
        let trash = &self.0.writable(op)?.trash;
        let name = version.to_string();
        let missing = || VaultError::NoVersion { volume: volume.clone(), version: version.clone() };
        let mut noted = false;
        let (folder, (held, trashed)) = self.0.change(volume, op, |folder, record| {
            let dir = folder.sub(&name)?.ok_or_else(missing)?;
            if !dir.try_lock(true)? {
                return Err(VaultError::Busy { subject: format!("{volume}@{version}"), why: "it is being read" });
            }
            may_delete(folder, &dir, record, version, now)?;
            let trashed = trash_name(&format!("{}-{version}", volume.folder()));
            match folder.move_to(&name, trash, &trashed)? {
                Moved::Done => {}
                Moved::Gone => return Err(missing()),
                Moved::Taken => {
                    return Err(VaultError::Busy { subject: trashed, why: "there is one of that name in the trash" });
                }
            }
            folder.sync()?;
            trash.sync()?;
            noted = record.locks.contains_key(version) || record.damaged.contains_key(version);
            Ok((false, (dir, trashed)))
        })?;
        drop(folder);
        let removed = trash.remove(&trashed);
        drop(held);
        if noted {
            let forgotten = self.0.change(volume, op, |_, record| {
                record.locks.remove(version);
                record.damaged.remove(version);
                Ok((true, ()))
            });
            drop(forgotten);
        }
        removed
    }
}

/// A name in the trash that tells what it was, and that nobody else takes. Stems are up to 200 bytes long, and a name
/// must not be longer than 255.
pub(crate) fn trash_name(of: &str) -> String {
    let mut end = of.len().min(200);
    while !of.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{}", of.get(..end).unwrap_or_default(), random_name())
}

fn may_delete(
    folder: &Dir,
    dir: &Dir,
    record: &VolumeRecord,
    version: &VersionId,
    now: Timestamp,
) -> Result<(), VaultError> {
    let volume = || record.id.clone();
    if record.pins.contains_key(version) {
        return Err(VaultError::Pinned { volume: volume(), version: version.clone() });
    }
    if let Some(until) = record.locks.get(version).filter(|until| **until > now) {
        return Err(VaultError::Locked { volume: volume(), version: version.clone(), until: *until });
    }
    if record.damaged.contains_key(version) {
        return Ok(());
    }
    let generation = match load_manifest(dir, &record.id, version) {
        Ok(manifest) => manifest.generation,
        // A newer program can read it: it may be good.
        Err(error @ VaultError::ManifestDamaged { source: ManifestError::Format(_), .. }) => return Err(error),
        Err(error) if error.is_damaged() => return Ok(()),
        Err(error) => return Err(error),
    };
    if other_good(folder, record, version, generation)? {
        return Ok(());
    }
    Err(VaultError::LastGood { volume: volume(), version: version.clone(), generation })
}

/// Whether another version of this generation is good.
fn other_good(
    folder: &Dir,
    record: &VolumeRecord,
    version: &VersionId,
    generation: Generation,
) -> Result<bool, VaultError> {
    let bad: BTreeSet<&VersionId> = record.damaged.keys().collect();
    // The newest first: mostly the first one answers.
    for other in version_ids(folder)?.iter().rev() {
        if other == version || bad.contains(other) {
            continue;
        }
        let Some(dir) = folder.sub(&other.to_string())? else { continue };
        if load_manifest(&dir, &record.id, other).is_ok_and(|manifest| manifest.generation == generation) {
            return Ok(true);
        }
    }
    Ok(false)
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
