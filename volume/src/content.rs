//! Looking into a disk: could a machine use it? Descriptor, partition table, and of an NTFS its boot sector, its master
//! file table and its root folder.
//!
//! Digests tell that a version is what was read; this tells that what was read is a disk. What is not known here (another
//! file system, an encrypted one) is said to be so, and is no fault.
//!
//! The content is hostile input: whoever can write to the disk wrote it. What is read is bounded in bytes, and nothing
//! is written.

mod disk;
mod ntfs;
mod partition;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::descriptor::{Descriptor, SECTOR_BYTES};
use crate::io::Source;
use crate::name::FileName;
use disk::Disk;
use partition::{Partition, Table};

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing that a machine has written yet: no partition table, and zeros where it would be.
    Empty,
    /// Partitions, or one file system without a table.
    Volumes(Vec<Volume>),
    /// Something that is neither a partition table nor a file system that is known here.
    Unknown,
}

/// One partition, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its number in the table, from 1; 0 where the file system takes the whole disk.
    pub number: u32,
    /// Its file system.
    pub system: FileSystem,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// NTFS that could be read.
    Ntfs {
        /// Its label.
        label: String,
        /// How many records of the master file table were read.
        records: u64,
        /// How many entries of the root folder were seen; at most [`MOST_ENTRIES`].
        entries: u64,
    },
    /// One that is not looked into, by its name or its type in the table.
    Other(String),
}

/// The most entries of a root folder that are looked at.
pub const MOST_ENTRIES: u64 = 1000;

/// Why a machine could not use a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// An extent is not there, or shorter than the descriptor says.
    #[error("{file}: {why}")]
    Extent {
        /// The extent's file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The partition table contradicts itself or the disk.
    #[error("the partition table: {0}")]
    Table(String),
    /// A file system that should be there can't be read.
    #[error("partition {number}: {why}")]
    FileSystem {
        /// The partition, from 1; 0 where the file system takes the whole disk.
        number: u32,
        /// What is wrong.
        why: String,
    },
    /// The disk's bytes can't be read.
    #[error("reading the disk failed")]
    Read(#[from] std::io::Error),
}

/// Looks into the disk that a descriptor describes. `open` gives the files of its extents.
///
/// # Errors
/// Why a machine could not use it.
pub fn look<S: Source>(
    descriptor: &Descriptor,
    open: impl FnMut(&FileName) -> std::io::Result<S>,
) -> Result<Content, ContentError> {
    let disk = Disk::new(descriptor, open)?;
    let Some(first) = disk.sectors::<512>(0)? else { return Ok(Content::Unknown) };
    if let Some(system) = whole(&disk, &first)? {
        return Ok(Content::Volumes(vec![Volume { number: 0, system }]));
    }
    let partitions = match partition::read(&disk, &first)? {
        Table::None if first.iter().all(|byte| *byte == 0) => return Ok(Content::Empty),
        Table::None => return Ok(Content::Unknown),
        Table::Partitions(partitions) => partitions,
    };
    let mut volumes = Vec::new();
    for partition in partitions {
        let system = inside(&disk, &partition)?;
        volumes.push(Volume { number: partition.number, system });
    }
    Ok(Content::Volumes(volumes))
}

/// A file system that begins with the disk itself.
fn whole<S: Source>(disk: &Disk<S>, first: &[u8; 512]) -> Result<Option<FileSystem>, ContentError> {
    match Boot::of(first) {
        Boot::Ntfs => ntfs::read(disk, 0..disk.bytes(), 0).map(Some),
        Boot::Other(name) => Ok(Some(FileSystem::Other(name.to_owned()))),
        Boot::None => Ok(None),
    }
}

fn inside<S: Source>(disk: &Disk<S>, partition: &Partition) -> Result<FileSystem, ContentError> {
    let Some(first) = disk.sectors::<512>(partition.bytes.start)? else {
        return Ok(FileSystem::Other("too small to hold a file system".to_owned()));
    };
    match Boot::of(&first) {
        Boot::Ntfs => ntfs::read(disk, partition.bytes.clone(), partition.number),
        Boot::Other(name) => Ok(FileSystem::Other(name.to_owned())),
        Boot::None if partition.is_windows && first.iter().all(|byte| *byte == 0) => {
            Ok(FileSystem::Other("not formatted".to_owned()))
        }
        Boot::None if partition.is_windows => Err(ContentError::FileSystem {
            number: partition.number,
            why: "the table says that Windows uses it, but it does not begin with a boot sector".to_owned(),
        }),
        Boot::None => Ok(FileSystem::Other(partition.kind.clone())),
    }
}

/// What the first sector of a file system says that it is.
enum Boot {
    Ntfs,
    Other(&'static str),
    None,
}

impl Boot {
    fn of(sector: &[u8; 512]) -> Self {
        // The names that file systems of Windows write after the jump at their start (Microsoft's documentation of each).
        match sector.get(3..11) {
            Some(b"NTFS    ") => Boot::Ntfs,
            Some(b"-FVE-FS-") => Boot::Other("encrypted by BitLocker"),
            Some(b"EXFAT   ") => Boot::Other("exFAT"),
            Some([b'R', b'e', b'F', b'S', ..]) => Boot::Other("ReFS"),
            _ if sector.get(82..87) == Some(b"FAT32") => Boot::Other("FAT32"),
            _ if sector.get(54..57) == Some(b"FAT") => Boot::Other("FAT"),
            _ => Boot::None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Empty => f.write_str("an empty disk: nothing was ever written to it"),
            Content::Unknown => f.write_str("no partition table and no file system that is known here"),
            Content::Volumes(volumes) if volumes.is_empty() => f.write_str("a partition table without partitions"),
            Content::Volumes(volumes) => {
                for (at, volume) in volumes.iter().enumerate() {
                    let between = if at == 0 { "" } else { "; " };
                    match volume.number {
                        0 => write!(f, "{between}{}", volume.system)?,
                        number => write!(f, "{between}partition {number}: {}", volume.system)?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileSystem::Ntfs { label, records, entries } => {
                let label = crate::reason::shown(label);
                write!(f, "NTFS `{label}`, {records} records and {entries} entries of its root folder read")
            }
            FileSystem::Other(what) => write!(f, "{what}"),
        }
    }
}

/// Bytes of so many sectors.
const fn sectors(count: u64) -> Option<u64> {
    count.checked_mul(SECTOR_BYTES)
}
