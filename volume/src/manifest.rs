//! The manifest: what a version is, where it came from, and the digests that prove it.
//!
//! It lies beside the version's files as JSON. Its last key is the BLAKE3 of every byte before that key, so a manifest
//! that was cut, edited or damaged is known as such before anything in it is believed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::block::{BlockMap, Digest};
use crate::content::ContentRecord;
use crate::fingerprint::Fingerprint;
use crate::ids::{Generation, Kind, VersionId, VolumeId};
use crate::io::HoleMapSource;
use crate::location::Location;
use crate::name::FileName;

pub use crate::name::MANIFEST_NAME;

/// The newest format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// The longest manifest that is read, in bytes: the digests of 4 TiB of data.
pub const MAX_MANIFEST_BYTES: u64 = 320 << 20;

/// Whose disk a writable volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `DOMAIN\user`, as a person reads it.
    pub name: String,
    /// The security identifier (`S-1-5-21-…`), where App Volumes or the directory names it.
    pub sid: Option<String>,
    /// The user principal name (`user@domain`), where it is known.
    pub upn: Option<String>,
}

/// What a file is to its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The text that describes the disk: `Office.vmdk`.
    Descriptor,
    /// The disk's bytes: `Office-flat.vmdk`.
    Extent,
    /// Anything else that shares the stem: `Office.vmdk.metadata`, `Office.json`.
    Sidecar,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name, in the version's folder as on the datastore.
    pub name: FileName,
    /// What it is to the volume.
    pub role: FileRole,
    /// Its time of last change at the source; restored files get it again.
    pub mtime: Timestamp,
    /// How it was known where it has no data.
    pub hole_map: HoleMapSource,
    /// The digest of the whole file; see [`BlockMap::file_digest`].
    pub blake3: Digest,
    /// Its length and the digests of its blocks.
    pub blocks: BlockMap,
}

/// A file beside a disk that a version does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub file: FileName,
    /// Why, for a person.
    pub why: String,
}

/// How many bytes one copy touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteCounts {
    /// The lengths of all files.
    pub logical: u64,
    /// Read at the source.
    pub read: u64,
    /// Known or found to be zero.
    pub zero: u64,
    /// Sent and received as SSH channel payload or HTTP body, both directions; 0 by route `local`.
    pub wire: u64,
    /// Written to the vault.
    pub stored: u64,
}

impl ByteCounts {
    /// Adds another file's counts.
    pub fn add(&mut self, other: &ByteCounts) {
        self.logical += other.logical;
        self.read += other.read;
        self.zero += other.zero;
        self.wire += other.wire;
        self.stored += other.stored;
    }
}

/// How a version's blocks were checked before it was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyMethod {
    /// Every block against its digest as it arrived.
    Arrival,
    /// That, and every block again, read back past the page cache.
    ReadBack,
}

/// What App Volumes reported of a volume that its files don't hold, and that an import does not restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppVolumesRecord {
    /// The lifecycle stage's name (`Published`).
    pub stage: Option<String>,
    /// Whether the package carries its application's `CURRENT` marker.
    pub current: Option<bool>,
    /// To whom it was assigned.
    pub assignments: Vec<String>,
    /// The manager's name in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// The package's version text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Changes when App Volumes makes a new version of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// A version's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The manifest's format, now [`FORMAT`].
    pub format: u32,
    /// The volume's id.
    pub volume: VolumeId,
    /// Its kind.
    pub kind: Kind,
    /// Its stem, verbatim.
    pub stem: FileName,
    /// Its generation.
    pub generation: Generation,
    /// The version's id.
    pub version: VersionId,
    /// The name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<Owner>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Where it was read.
    pub location: Location,
    /// The datastore's type (`NFS`, `VMFS`, …), as far as it is known.
    pub datastore_type: Option<String>,
    /// What the files looked like there.
    pub fingerprint: Fingerprint,
    /// The files: descriptor first, then extents in the disk's order, then sidecars by name.
    pub files: Vec<FileRecord>,
    /// The route they came by.
    pub route: String,
    /// The bytes of the run that made the version.
    pub bytes: ByteCounts,
    /// How many credentials opened a file in that run.
    pub credentials: u64,
    /// What App Volumes reported.
    pub app_volumes: Option<AppVolumesRecord>,
    /// Why this version is an incident: a read-only disk whose content changed unexpectedly, or a disk that lost its file
    /// system.
    pub incident: Option<String>,
    /// Files beside the disk that could not be had, or were changed meanwhile, and are not in this version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What the disk held; none in manifests of programs that did not inspect it, and where it could not be read then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentRecord>,
    /// The program that made it: `stackferry 0.1.0`.
    pub program: String,
    /// When the copy began.
    pub started: Timestamp,
    /// When its last byte was checked.
    pub ended: Timestamp,
    /// How it was checked.
    pub verify_method: VerifyMethod,
}

/// A manifest can't be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Its own digest is missing at its end, or does not match.
    #[error("the manifest is damaged: {0}")]
    Damaged(&'static str),
    /// It is whole, but does not say what a manifest says.
    #[error("the manifest can't be read")]
    Json(#[source] serde_json::Error),
    /// A newer program wrote it.
    #[error("the manifest has format {0}, this program reads up to {FORMAT}: use a newer stackferry")]
    Format(u32),
    /// It contradicts itself.
    #[error("the manifest contradicts itself: {0}")]
    Inconsistent(String),
}

const SEAL: &[u8] = b",\n  \"blake3\": \"";

impl Manifest {
    /// The bytes of `manifest.json`.
    ///
    /// # Errors
    /// Only what can't be written as JSON; nothing of a manifest is of that kind.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(ManifestError::Json)?;
        // Pretty JSON of a struct ends with a newline and a brace; the seal goes before them.
        text.truncate(text.len().saturating_sub(2));
        let digest = Digest::of(&text);
        text.extend_from_slice(SEAL);
        text.extend_from_slice(format!("{digest}\"\n}}\n").as_bytes());
        Ok(text)
    }

    /// Reads `manifest.json` and checks it: its own digest, its format, and that its files are named once each,
    /// safely, with complete digests that give each file's own.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn from_bytes(text: &[u8]) -> Result<Self, ManifestError> {
        const TAIL: usize = 64 + b"\"\n}\n".len();
        let body_len = text.len().checked_sub(TAIL + SEAL.len()).ok_or(ManifestError::Damaged("it is too short"))?;
        let (body, seal) = text.split_at_checked(body_len).ok_or(ManifestError::Damaged("it is too short"))?;
        let recorded = seal
            .strip_prefix(SEAL)
            .and_then(|rest| rest.strip_suffix(b"\"\n}\n"))
            .ok_or(ManifestError::Damaged("its end with its own digest is missing"))?;
        // As text, so that no other spelling of the same digest passes.
        if recorded != Digest::of(body).to_string().as_bytes() {
            return Err(ManifestError::Damaged("its own digest does not match"));
        }
        // The format is read first: a newer format may have other keys.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let mut whole = body.to_vec();
        whole.extend_from_slice(b"\n}");
        let Format { format } = serde_json::from_slice(&whole).map_err(ManifestError::Json)?;
        if format > FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Manifest = serde_json::from_slice(&whole).map_err(ManifestError::Json)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let mut names = std::collections::BTreeSet::new();
        for file in &self.files {
            if file.name.as_str() == MANIFEST_NAME || !names.insert(&file.name) {
                return Err(ManifestError::Inconsistent(format!("two files are named {}", file.name)));
            }
            if file.blocks.file_digest() != Some(file.blake3) {
                return Err(ManifestError::Inconsistent(format!("the blocks of {} don't give its digest", file.name)));
            }
        }
        if self.volume.kind() != self.kind {
            return Err(ManifestError::Inconsistent(format!("{} is said to be of kind {}", self.volume, self.kind)));
        }
        Ok(())
    }

    /// The record of a file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&FileRecord> {
        self.files.iter().find(|file| file.name.as_str() == name)
    }

    /// The length of all files together, in bytes.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.blocks.bytes()).sum()
    }

    /// Whether this version holds these files with the same bytes, and no others but those that were left out.
    #[must_use]
    pub fn same_content(&self, other: &[FileRecord], left_out: &[LeftOut]) -> bool {
        let is_left_out = |name: &FileName| left_out.iter().any(|left| left.file == *name);
        self.files.iter().filter(|file| !is_left_out(&file.name)).count() == other.len()
            && other.iter().all(|file| self.file(file.name.as_str()).is_some_and(|own| own.blake3 == file.blake3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockIndex, BlockState};

    pub(crate) fn sample() -> Manifest {
        let mut blocks = BlockMap::new(5);
        blocks.set(BlockIndex(0), BlockState::Data(Digest::of(b"hello")));
        let at: Timestamp = "2026-11-22T04:15:00Z".parse().unwrap();
        Manifest {
            format: FORMAT,
            volume: "appstack/Office".parse().unwrap(),
            kind: Kind::Appstack,
            stem: FileName::new("Office").unwrap(),
            generation: Generation::FIRST,
            version: VersionId::new(at, 1),
            name: "Office".into(),
            owner: None,
            guid: None,
            location: Location {
                site: crate::SiteName("default".into()),
                datastore: "nfs01".into(),
                path: "a/Office.vmdk".into(),
            },
            datastore_type: None,
            fingerprint: Fingerprint::new(vec![], None),
            files: vec![FileRecord {
                name: FileName::new("Office.vmdk").unwrap(),
                role: FileRole::Descriptor,
                mtime: at,
                hole_map: HoleMapSource::None,
                blake3: Digest::of(b"hello"),
                blocks,
            }],
            route: "local".into(),
            bytes: ByteCounts::default(),
            credentials: 0,
            app_volumes: None,
            incident: None,
            left_out: Vec::new(),
            content: None,
            program: "stackferry 0.1.0".into(),
            started: at,
            ended: at,
            verify_method: VerifyMethod::Arrival,
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_is_written_and_is_plain_json() {
        let manifest = sample();
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert!(value["blake3"].as_str().is_some_and(|hex| hex.len() == 64));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_seen() {
        let bytes = sample().to_bytes().unwrap();
        for at in 0..bytes.len() {
            for bit in [1u8, 0x20] {
                let mut other = bytes.clone();
                other[at] ^= bit;
                assert!(Manifest::from_bytes(&other).is_err(), "byte {at} bit {bit}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let mut manifest = sample();
        manifest.files[0].blake3 = Digest::of(b"other");
        assert!(matches!(Manifest::from_bytes(&manifest.to_bytes().unwrap()), Err(ManifestError::Inconsistent(_))));
        let mut manifest = sample();
        manifest.format = 2;
        assert!(matches!(Manifest::from_bytes(&manifest.to_bytes().unwrap()), Err(ManifestError::Format(2))));
        let mut manifest = sample();
        manifest.files.push(manifest.files[0].clone());
        assert!(matches!(Manifest::from_bytes(&manifest.to_bytes().unwrap()), Err(ManifestError::Inconsistent(_))));
    }
}
