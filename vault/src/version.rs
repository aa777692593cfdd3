//! One committed version, opened for reading.
//!
//! While a [`Version`] or one of its files is open its folder is locked together with other readers: it is not deleted.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use stackferry_volume::io::{HoleMapSource, Source};
use stackferry_volume::local::LocalSource;
use stackferry_volume::manifest::{FileRecord, MANIFEST_NAME, MAX_MANIFEST_BYTES};
use stackferry_volume::{Manifest, ManifestError, VersionId, VolumeId};

use crate::dir::Dir;
use crate::error::Chain;
use crate::{Damage, Vault, VaultError};

/// A committed version.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its folder, and with it the lock.
    pub(crate) dir: Arc<Dir>,
    manifest: Arc<Manifest>,
}

/// Reads and checks the manifest in a version's folder.
pub(crate) fn load_manifest(dir: &Dir, volume: &VolumeId, version: &VersionId) -> Result<Manifest, VaultError> {
    let damaged = |source| VaultError::ManifestDamaged { volume: volume.clone(), version: version.clone(), source };
    let bytes = dir.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)?;
    let bytes = bytes.ok_or_else(|| damaged(ManifestError::Damaged("it is missing")))?;
    let manifest = Manifest::from_bytes(&bytes).map_err(damaged)?;
    if manifest.volume != *volume || manifest.version != *version {
        let why = format!("it is in {volume}@{version} and describes {}@{}", manifest.volume, manifest.version);
        return Err(damaged(ManifestError::Inconsistent(why)));
    }
    Ok(manifest)
}

impl Vault {
    /// Opens a version.
    ///
    /// # Errors
    /// `NoVolume`, `NoVersion`; `Busy` while it is being deleted; `ManifestDamaged`; else the system's.
    pub fn version(&self, volume: &VolumeId, version: &VersionId) -> Result<Version, VaultError> {
        let missing = || VaultError::NoVersion { volume: volume.clone(), version: version.clone() };
        let folder = self.0.folder(volume)?.ok_or_else(|| VaultError::NoVolume { volume: volume.clone() })?;
        let name = version.to_string();
        let dir = folder.sub(&name)?.ok_or_else(missing)?;
        if !dir.try_lock(false)? {
            return Err(VaultError::Busy { subject: format!("{volume}@{version}"), why: "it is being deleted" });
        }
        if !dir.is_still(&folder, &name)? {
            return Err(missing());
        }
        let manifest = load_manifest(&dir, volume, version)?;
        Ok(Version { dir: Arc::new(dir), manifest: Arc::new(manifest) })
    }
}

impl Version {
    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Opens one of its files, to be read at any offset. What is read is not checked: see [`Version::verify`].
    ///
    /// # Errors
    /// `NoFile`; `Damaged` where the file is missing, is no file, or has another length than the manifest says; else
    /// the system's.
    pub fn open(&self, name: &str) -> Result<VersionFile, VaultError> {
        let record = self.manifest.file(name).ok_or_else(|| VaultError::NoFile {
            volume: self.manifest.volume.clone(),
            version: self.manifest.version.clone(),
            file: name.to_owned(),
        })?;
        let source = self.source(record)?.map_err(|damage| self.damaged(damage))?;
        Ok(VersionFile { source, _hold: self.dir.clone() })
    }

    pub(crate) fn damaged(&self, damage: Damage) -> VaultError {
        let Manifest { volume, version, .. } = &*self.manifest;
        VaultError::Damaged { volume: volume.clone(), version: version.clone(), damage: Box::new(damage) }
    }

    /// The bytes of a file, or what is wrong with it.
    pub(crate) fn source(&self, record: &FileRecord) -> Result<Result<LocalSource, Damage>, VaultError> {
        let name = record.name.as_str();
        let damage = |why: String| Ok(Err(Damage { file: name.to_owned(), block: None, why }));
        let file = match self.dir.file(name) {
            Ok(Some(file)) => file,
            Ok(None) => return damage("the file is missing".to_owned()),
            Err(VaultError::Denied { op, path, uid, source }) => {
                return Err(VaultError::Denied { op, path, uid, source });
            }
            Err(error) => return damage(Chain(&error).to_string()),
        };
        let source =
            LocalSource::new(file).map_err(|error| VaultError::system("open", &self.dir.child(name), error))?;
        let (found, expected) = (source.bytes(), record.blocks.bytes());
        if found != expected {
            return damage(format!("the file has {found} bytes, not {expected}"));
        }
        Ok(Ok(source))
    }
}

/// One file of a version. While it is open the version is not deleted.
#[derive(Debug)]
pub struct VersionFile {
    source: LocalSource,
    _hold: Arc<Dir>,
}

impl VersionFile {
    /// The bytes that it takes on disk.
    ///
    /// # Errors
    /// The system's.
    pub fn allocated(&self) -> io::Result<u64> {
        self.source.stamp().map(|(_, allocated)| allocated)
    }
}

impl Source for VersionFile {
    fn bytes(&self) -> u64 {
        self.source.bytes()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.source.next_data(from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.read_at(offset, buf)
    }
    fn hole_map(&self) -> HoleMapSource {
        self.source.hole_map()
    }
}
