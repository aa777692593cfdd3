//! Disks as App Volumes has them on a datastore: a text descriptor, one or more extents, a sidecar.
//!
//! A disk is defined by its [`DiskSpec`]; with plain content it is the same, byte for byte, wherever it is built.
//! Extents are always sparse: a disk of 20 GiB is built in the time that its data takes.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub mod broken;
pub mod content;
pub mod descriptor;
pub mod extents;
pub mod foreign;
pub mod mount;
pub mod ntfs;
pub mod partition;
pub mod plain;

pub use broken::Broken;
pub use content::Mix;
pub use foreign::Foreign;
pub use mount::{NtfsMount, digest_tree, mount_and_digest};

use crate::check::{allocated_bytes, copy_sparse, new_file, write_new};
use crate::error::{IoContext, LabError};
use content::RandomStream;
use descriptor::{DescriptorSpec, SECTOR, any_cid};
use extents::Extents;

/// The longest extent of a `twoGbMaxExtentFlat` disk, in sectors (2047 MiB).
pub const TWO_GB_EXTENT: u64 = 4_192_256;
/// How old a new disk says it is: older than what a whole-second clock leaves in doubt.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// How a disk is split into extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateType {
    /// One `VMFS` extent, as on every ESXi datastore.
    Vmfs,
    /// One `FLAT` extent that begins at an offset in its file.
    MonolithicFlat {
        /// The offset, in sectors; usually 0.
        offset: u64,
    },
    /// `FLAT` extents `-f001`, `-f002`, …
    TwoGbMaxExtentFlat {
        /// The longest extent, in sectors; [`TWO_GB_EXTENT`] as VMware does it.
        sectors: u64,
    },
}

/// What is on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskContent {
    /// Nothing: one hole.
    Empty,
    /// Seeded data without a file system.
    Plain {
        /// How much data, in bytes.
        bytes: u64,
    },
    /// A real NTFS with seeded files.
    Ntfs {
        /// How much data is in the files, in bytes.
        bytes: u64,
    },
}

impl DiskContent {
    /// A real NTFS where this machine can make one, else plain data.
    #[must_use]
    pub fn best(bytes: u64) -> Self {
        if crate::tools::available().makes_ntfs() { DiskContent::Ntfs { bytes } } else { DiskContent::Plain { bytes } }
    }
}

/// What App Volumes puts beside the disk. What is in these files is not published; the lab's are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// Nothing.
    None,
    /// `X.vmdk.metadata`, as 2.x does.
    Metadata,
    /// `X.json`, as 4.x does.
    Json,
}

/// A disk to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// The file names' stem.
    pub stem: String,
    /// The logical size, in bytes; a multiple of 512.
    pub bytes: u64,
    /// What everything on the disk, and its ids, derive from.
    pub seed: u64,
    /// How it is split.
    pub create_type: CreateType,
    /// `ddb.thinProvisioned`; the extents are sparse in any case.
    pub thin: bool,
    /// `ddb.virtualHWVersion`.
    pub hardware: u32,
    /// The descriptor's lines end with CR LF.
    pub crlf: bool,
    /// What is on it.
    pub content: DiskContent,
    /// How compressible that is.
    pub mix: Mix,
    /// The NTFS label.
    pub label: &'static str,
    /// What lies beside it.
    pub sidecar: Sidecar,
    /// The files' modification time; a day ago if none.
    pub modified: Option<SystemTime>,
}

impl DiskSpec {
    /// A thin, empty `vmfs` disk without a sidecar.
    #[must_use]
    pub fn new(stem: impl Into<String>, bytes: u64, seed: u64) -> Self {
        Self {
            stem: stem.into(),
            bytes,
            seed,
            create_type: CreateType::Vmfs,
            thin: true,
            hardware: 13,
            crlf: false,
            content: DiskContent::Empty,
            mix: Mix::default(),
            label: "CVApps",
            sidecar: Sidecar::None,
            modified: None,
        }
    }

    /// With other content.
    #[must_use]
    pub fn content(self, content: DiskContent) -> Self {
        Self { content, ..self }
    }

    /// With a sidecar.
    #[must_use]
    pub fn sidecar(self, sidecar: Sidecar) -> Self {
        Self { sidecar, ..self }
    }

    /// Split in another way.
    #[must_use]
    pub fn create_type(self, create_type: CreateType) -> Self {
        Self { create_type, ..self }
    }

    fn describe(&self) -> DescriptorSpec {
        let sectors = self.bytes / SECTOR;
        let stem = &self.stem;
        let mut descriptor = match self.create_type {
            CreateType::Vmfs => {
                DescriptorSpec::new("vmfs", self.seed, stem).extent(sectors, "VMFS", format!("{stem}-flat.vmdk"), None)
            }
            CreateType::MonolithicFlat { offset } => DescriptorSpec::new("monolithicFlat", self.seed, stem).extent(
                sectors,
                "FLAT",
                format!("{stem}-flat.vmdk"),
                Some(offset),
            ),
            CreateType::TwoGbMaxExtentFlat { sectors: most } => {
                let mut descriptor = DescriptorSpec::new("twoGbMaxExtentFlat", self.seed, stem);
                let (mut left, mut number) = (sectors, 1);
                while left > 0 {
                    let here = left.min(most.max(1));
                    descriptor = descriptor.extent(here, "FLAT", format!("{stem}-f{number:03}.vmdk"), Some(0));
                    left -= here;
                    number += 1;
                }
                descriptor
            }
        };
        descriptor.thin = self.thin;
        descriptor.hardware = self.hardware;
        descriptor.crlf = self.crlf;
        descriptor
    }
}

/// A disk on disk.
#[derive(Debug, Clone)]
pub struct TestDisk {
    folder: PathBuf,
    spec: DiskSpec,
    descriptor: DescriptorSpec,
}

impl TestDisk {
    /// Builds a disk in a folder. None of its files may exist.
    ///
    /// # Errors
    /// The specification makes no sense, a tool is missing, or the folder can't be written.
    pub fn build(folder: &Path, spec: DiskSpec) -> Result<Self, LabError> {
        if spec.bytes == 0 || !spec.bytes.is_multiple_of(SECTOR) {
            return Err(LabError::Plan {
                subject: spec.stem,
                why: format!("{} bytes are no whole number of sectors", spec.bytes),
            });
        }
        let disk = Self { folder: folder.to_owned(), descriptor: spec.describe(), spec };
        for line in &disk.descriptor.extents {
            let path = folder.join(&line.target);
            let bytes = (line.sectors + line.offset.unwrap_or(0)) * SECTOR;
            new_file(&path)?.set_len(bytes).at("size", &path)?;
        }
        let path = disk.path();
        new_file(&path)?;
        disk.write_descriptor()?;
        disk.write_sidecar()?;
        let DiskSpec { seed, mix, label, .. } = disk.spec;
        match disk.spec.content {
            DiskContent::Empty => {}
            DiskContent::Plain { bytes } => plain::write(&path, seed, bytes, mix)?,
            DiskContent::Ntfs { bytes } => ntfs::write(&path, seed, bytes, mix, label)?,
        }
        let modified = disk.spec.modified.unwrap_or_else(|| SystemTime::now() - AGE);
        for file in disk.files() {
            set_modified(&file, modified)?;
        }
        Ok(disk)
    }

    /// The descriptor.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.vmdk", self.spec.stem))
    }

    /// The extents, in order.
    #[must_use]
    pub fn extents(&self) -> Vec<PathBuf> {
        self.descriptor.extents.iter().map(|line| self.folder.join(&line.target)).collect()
    }

    /// The sidecar, if there is one.
    #[must_use]
    pub fn sidecar(&self) -> Option<PathBuf> {
        let stem = &self.spec.stem;
        match self.spec.sidecar {
            Sidecar::None => None,
            Sidecar::Metadata => Some(self.folder.join(format!("{stem}.vmdk.metadata"))),
            Sidecar::Json => Some(self.folder.join(format!("{stem}.json"))),
        }
    }

    /// All its files: descriptor, extents, sidecar.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        [self.path()].into_iter().chain(self.extents()).chain(self.sidecar()).collect()
    }

    /// What it was built from.
    #[must_use]
    pub fn spec(&self) -> &DiskSpec {
        &self.spec
    }

    /// Its content id, as it is now.
    #[must_use]
    pub fn cid(&self) -> u32 {
        self.descriptor.cid
    }

    /// How many bytes its extents really take.
    ///
    /// # Errors
    /// An extent can't be looked at.
    pub fn allocated(&self) -> Result<u64, LabError> {
        self.extents().iter().map(|path| allocated_bytes(path)).sum()
    }

    /// Puts an equal disk (content, CID, times) into another folder, as replication does.
    ///
    /// # Errors
    /// A file can't be read, or exists already.
    pub fn replicate(&self, folder: &Path) -> Result<Self, LabError> {
        let copy = Self { folder: folder.to_owned(), ..self.clone() };
        for (from, to) in self.files().iter().zip(copy.files()) {
            copy_sparse(from, &to)?;
            set_modified(&to, modified(from)?)?;
        }
        Ok(copy)
    }

    /// Changes a stretch of the disk in place, and what App Volumes' hosts change with it at a logoff: the CID and
    /// the modification times. On an NTFS this writes over whatever lies there.
    ///
    /// # Errors
    /// The stretch reaches past the end, or a file can't be written.
    pub fn overwrite(&mut self, seed: u64, offset: u64, bytes: u64) -> Result<(), LabError> {
        if offset.saturating_add(bytes) > self.spec.bytes {
            return Err(LabError::Plan {
                subject: self.spec.stem.clone(),
                why: format!("{bytes} bytes at {offset} reach past the end"),
            });
        }
        let before = self.times()?;
        // Random, so that no byte range keeps its old content by accident.
        let mix = Mix { text: 0, zero: 0 };
        let extents = Extents::open(&self.path(), true)?;
        plain::write_at(&extents, seed, &format!("overwrite {offset}"), offset, bytes, mix)?;
        self.touch(before, seed)
    }

    /// Adds a file of `bytes` to the disk's NTFS (or, without one, data into a hole), and changes the CID and the
    /// modification times.
    ///
    /// # Errors
    /// The NTFS can't be mounted or is full, or a file of that name exists.
    pub fn append_file(&mut self, name: &str, seed: u64, bytes: u64) -> Result<(), LabError> {
        let before = self.times()?;
        match self.spec.content {
            DiskContent::Ntfs { .. } => {
                let texture = self.spec.mix.draw(&mut RandomStream::new(seed, name));
                ntfs::append(&self.path(), seed, &ntfs::PlannedFile { path: name.to_owned(), bytes, texture })?;
            }
            _ => plain::append(&self.path(), seed, name, bytes, Mix { text: 50, zero: 0 })?,
        }
        self.touch(before, seed)
    }

    fn times(&self) -> Result<Vec<(PathBuf, SystemTime)>, LabError> {
        [self.path()].into_iter().chain(self.extents()).map(|path| Ok((path.clone(), modified(&path)?))).collect()
    }

    /// A new CID, and times that are later than before even where the clock is coarse.
    fn touch(&mut self, before: Vec<(PathBuf, SystemTime)>, seed: u64) -> Result<(), LabError> {
        let old = self.descriptor.cid;
        let mut stream = RandomStream::new(seed, &format!("{} after {old:08x}", self.spec.stem));
        while self.descriptor.cid == old {
            self.descriptor.cid = any_cid(&mut stream);
        }
        self.write_descriptor()?;
        let now = SystemTime::now();
        before.into_iter().try_for_each(|(path, time)| set_modified(&path, now.max(time + Duration::from_millis(1))))
    }

    fn write_descriptor(&self) -> Result<(), LabError> {
        fs::write(self.path(), self.descriptor.render()).at("write", &self.path())
    }

    fn write_sidecar(&self) -> Result<(), LabError> {
        let Some(path) = self.sidecar() else { return Ok(()) };
        let guid = uuid_text(&self.descriptor.uuid);
        let DiskSpec { stem, bytes, .. } = &self.spec;
        let text = match self.spec.sidecar {
            Sidecar::Json => serde_json::json!({
                "guid": guid, "name": stem, "size_mb": bytes >> 20, "template_version": "4.15.0",
                "provisioned_by": "CORP\\packager",
            })
            .to_string(),
            _ => format!("guid={guid}\r\nname={stem}\r\nsize_mb={}\r\ntemplate_version=2.18.0\r\n", bytes >> 20),
        };
        write_new(&path, text.as_bytes())
    }
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let number = u128::from_be_bytes(*bytes);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        number >> 96,
        (number >> 80) & 0xffff,
        (number >> 64) & 0xffff,
        (number >> 48) & 0xffff,
        number & 0xffff_ffff_ffff
    )
}

fn modified(path: &Path) -> Result<SystemTime, LabError> {
    fs::metadata(path).and_then(|meta| meta.modified()).at("inspect", path)
}

pub(crate) fn set_modified(path: &Path, time: SystemTime) -> Result<(), LabError> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .at("set the time of", path)
}

#[cfg(test)]
mod tests;
