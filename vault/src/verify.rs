//! Verifying: is a version still what its manifest says?

use std::num::NonZeroUsize;

use stackferry_volume::io::Cancel;
use stackferry_volume::manifest::MANIFEST_NAME;

use crate::walk::{OpenedFile, walk};
use crate::{Damage, VaultError, Version};

impl Version {
    /// Reads every block with data, past the page cache, and checks it against its digest; checks that the rest is
    /// zero, where holes cost nothing; and that the folder holds the manifest's files and no others. Returns what is
    /// wrong, by file and block, [`crate::MAX_DAMAGE`] entries at most. `progress` receives the bytes done so far,
    /// zeros included; at the end these are the bytes of all files that could be read.
    ///
    /// # Errors
    /// `Cancelled`; `Denied` where a file may not be read; else the system's. Damage is no error.
    pub fn verify(
        &self,
        threads: NonZeroUsize,
        progress: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<Vec<Damage>, VaultError> {
        let (mut damage, mut files) = (Vec::new(), Vec::new());
        for item in self.dir.items()? {
            if item.shown != MANIFEST_NAME && self.manifest().file(&item.shown).is_none() {
                let why = "the manifest knows no such file".to_owned();
                damage.push(Damage { file: item.shown, block: None, why });
            }
        }
        damage.sort_by(|one, other| one.file.cmp(&other.file));
        for record in &self.manifest().files {
            match self.source(record)? {
                Ok(source) => files.push(OpenedFile { record, source }),
                Err(found) => damage.push(found),
            }
        }
        damage.extend(walk("verifying", &files, threads, cancel, progress, false, &|_, _, _| Ok(()))?);
        Ok(damage)
    }
}
