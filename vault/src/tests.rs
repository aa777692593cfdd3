//! Tests of the whole vault.

mod crash;
mod kill;
mod model;
mod opening;
mod reading;
mod resume;
mod rules;
mod space;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use stackferry_volume::block::is_zero;
use stackferry_volume::io::{Cancel, HoleMapSource, Sink, Source};
use stackferry_volume::manifest::{ByteCounts, FORMAT, FileRecord, FileRole, VerifyMethod};
use stackferry_volume::{
    BLOCK_BYTES, BlockIndex, BlockMap, BlockState, Digest, FileName, Fingerprint, Generation, Location, Manifest,
    SiteName, TransferId, VersionId, VolumeId,
};

use crate::{
    FolderLocation, GenerationRecord, Incoming, IncomingSpec, Vault, VaultError, VaultFile, VaultOptions, Version,
    VolumeSpec,
};

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The time at which everything in these tests happens. Journals bear the machine's own time.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

pub(crate) fn options() -> VaultOptions {
    VaultOptions {
        allow_create: true,
        program: "stackferry test".into(),
        reserve: crate::Reserve::Bytes(0),
        ..VaultOptions::default()
    }
}

pub(crate) struct Bench {
    _keep: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) vault: Vault,
}

pub(crate) fn bench() -> Bench {
    let keep = tempfile::tempdir().unwrap();
    let path = keep.path().join("vault");
    let vault = Vault::open(&path, &options()).unwrap();
    Bench { _keep: keep, path, vault }
}

impl Bench {
    pub(crate) fn reopen(&mut self) {
        self.vault = Vault::open(&self.path, &options()).unwrap();
    }

    pub(crate) fn version_path(&self, version: &VersionId, file: &str) -> PathBuf {
        self.path.join("volumes/appstack/Office").join(version.to_string()).join(file)
    }
}

pub(crate) fn volume() -> VolumeId {
    "appstack/Office".parse().unwrap()
}

pub(crate) fn spec(volume: &VolumeId, generation: u32) -> VolumeSpec {
    VolumeSpec {
        id: volume.clone(),
        stem: FileName::stem(volume.folder().as_str()).unwrap(),
        generation: GenerationRecord {
            number: Generation(generation),
            guid: Some(format!("guid-{generation}")),
            began: at("2026-11-22T04:15:00Z"),
        },
        location: FolderLocation {
            site: SiteName("dc1".into()),
            datastore: "nfs01".into(),
            folder: "cloudvolumes/apps".into(),
        },
    }
}

pub(crate) fn incoming_spec(volume: &VolumeId, transfer: u64) -> IncomingSpec {
    IncomingSpec {
        volume: volume.clone(),
        transfer: TransferId::new(transfer),
        fingerprint: fingerprint(),
        settled: true,
        fence: 7,
    }
}

pub(crate) fn fingerprint() -> Digest {
    Digest::of(b"fingerprint")
}

/// A file of three blocks and a bit: data with a hole in it, a zero block, data, and a short end.
pub(crate) fn disk(seed: u8) -> Vec<u8> {
    let block = usize::try_from(BLOCK_BYTES).unwrap();
    let mut bytes = vec![0u8; 3 * block + 5000];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let in_hole = (100_000..600_000).contains(&at) || (block..2 * block).contains(&at);
        if !in_hole {
            *byte = (u8::try_from(at % 251).unwrap()).wrapping_add(seed) | 1;
        }
    }
    bytes
}

pub(crate) fn states(bytes: &[u8]) -> Vec<(BlockIndex, BlockState)> {
    let block = usize::try_from(BLOCK_BYTES).unwrap();
    let state = |chunk: &[u8]| if is_zero(chunk) { BlockState::Zero } else { BlockState::Data(Digest::of(chunk)) };
    bytes.chunks(block).enumerate().map(|(at, chunk)| (BlockIndex(at as u64), state(chunk))).collect()
}

/// Writes these bytes, and records their blocks.
pub(crate) fn fill(file: &VaultFile, bytes: &[u8]) {
    assert_eq!(file.bytes(), bytes.len() as u64);
    for (index, state) in states(bytes) {
        let start = usize::try_from(index.offset()).unwrap();
        if state != BlockState::Zero {
            file.write_at(index.offset(), &bytes[start..start + index.len_in(file.bytes())]).unwrap();
        }
    }
    file.checkpoint(&states(bytes)).unwrap();
}

pub(crate) fn record(name: &str, bytes: &[u8]) -> FileRecord {
    let mut blocks = BlockMap::new(bytes.len() as u64);
    for (index, state) in states(bytes) {
        blocks.set(index, state);
    }
    FileRecord {
        name: FileName::new(name).unwrap(),
        role: if name.ends_with("-flat.vmdk") { FileRole::Extent } else { FileRole::Descriptor },
        mtime: at("2026-01-02T03:04:05.123456789Z"),
        hole_map: HoleMapSource::Seek,
        blake3: blocks.file_digest().unwrap(),
        blocks,
    }
}

pub(crate) fn manifest(volume: &VolumeId, version: &VersionId, generation: u32, files: &[(&str, &[u8])]) -> Manifest {
    Manifest {
        format: FORMAT,
        volume: volume.clone(),
        kind: volume.kind(),
        stem: FileName::stem(volume.folder().as_str()).unwrap(),
        generation: Generation(generation),
        version: version.clone(),
        name: volume.folder().to_string(),
        owner: None,
        guid: Some(format!("guid-{generation}")),
        location: Location {
            site: SiteName("dc1".into()),
            datastore: "nfs01".into(),
            path: "cloudvolumes/apps/Office.vmdk".into(),
        },
        datastore_type: None,
        fingerprint: Fingerprint::new(vec![], None),
        files: files.iter().map(|(name, bytes)| record(name, bytes)).collect(),
        route: "local".into(),
        bytes: ByteCounts::default(),
        credentials: 0,
        app_volumes: None,
        incident: None,
        left_out: Vec::new(),
        content: None,
        program: "stackferry test".into(),
        started: at("2026-11-22T04:15:00Z"),
        ended: at("2026-11-22T04:16:00Z"),
        verify_method: VerifyMethod::Arrival,
    }
}

pub(crate) const EXTENT: &str = "Office-flat.vmdk";
pub(crate) const DESCRIPTOR: &str = "Office.vmdk";

pub(crate) fn files(extent: &[u8]) -> [(&'static str, &[u8]); 2] {
    [(DESCRIPTOR, b"# Disk DescriptorFile\n"), (EXTENT, extent)]
}

pub(crate) fn write(incoming: &Incoming, extent: &[u8]) -> Result<(), VaultError> {
    for (name, bytes) in files(extent) {
        fill(&incoming.file(&FileName::new(name).unwrap(), bytes.len() as u64)?, bytes);
    }
    Ok(())
}

/// A whole copy of the volume `appstack/Office`.
pub(crate) fn put(vault: &Vault, transfer: u64, generation: u32, extent: &[u8]) -> Result<VersionId, VaultError> {
    put_as(vault, &volume(), transfer, generation, extent)
}

pub(crate) fn put_as(
    vault: &Vault,
    volume: &VolumeId,
    transfer: u64,
    generation: u32,
    extent: &[u8],
) -> Result<VersionId, VaultError> {
    vault.ensure_volume(&spec(volume, generation))?;
    let mut incoming = vault.begin(&incoming_spec(volume, transfer), now())?;
    write(&incoming, extent)?;
    let version = incoming.allocate(at("2026-11-22T04:15:00Z"), None)?;
    incoming.commit(&manifest(volume, &version, generation, &files(extent)), &mut || Ok(()))?;
    Ok(version)
}

pub(crate) fn threads() -> NonZeroUsize {
    NonZeroUsize::new(3).unwrap()
}

pub(crate) fn assert_whole(version: &Version, extent: &[u8]) {
    let mut last = 0;
    let damage = version.verify(threads(), &mut |bytes| last = bytes, &Cancel::default()).unwrap();
    assert_eq!(damage, []);
    assert_eq!(last, version.manifest().logical_bytes());
    let file = version.open(EXTENT).unwrap();
    let mut bytes = vec![1; extent.len()];
    file.read_at(0, &mut bytes).unwrap();
    assert!(bytes == extent, "the extent has other bytes");
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn all_of_it_goes_to_other_threads() {
    fn moves<T: Send + Sync + 'static>() {}
    moves::<Vault>();
    moves::<Incoming>();
    moves::<VaultFile>();
    moves::<Version>();
    moves::<crate::VersionFile>();
    moves::<VaultError>();
}
