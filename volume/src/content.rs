//! Inspecting a disk: could a machine use it, and does it hold what it is supposed to hold? Descriptor, partition table,
//! and of an NTFS its boot sector, its master file table and its root folder.
//!
//! Digests prove that a version is what was read; this says whether what was read is a disk. The answer is one of
//! [`ContentState`]: only what contradicts itself is damaged. What this reader can't follow (an encrypted file system, one
//! of another make, a structure that it does not know) is *not looked into*, and what it has no name for is *not
//! recognised*: a wiped disk and one that somebody encrypted look like that.
//!
//! The content is hostile input: whoever can write to the disk wrote it. What is read is bounded in bytes, and nothing
//! is written.

mod bytes;
mod disk;
mod ntfs;
mod partition;
mod record;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use crate::descriptor::{Descriptor, SECTOR_BYTES};
use crate::io::Source;
use crate::name::FileName;
use disk::Disk;
use partition::{Partition, Table};
use signature::Signature;

pub use record::{ContentRecord, ContentState};

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Partitions, or one file system without a table.
    Volumes(Vec<Volume>),
    /// Something that is neither a partition table nor a file system that is known here.
    NotRecognised(&'static str),
    /// An extent is missing or too short, or the partition table contradicts itself or the disk.
    Damaged(String),
    /// Something that this reader does not know.
    NotLookedInto(String),
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
        /// How many entries of the root folder were seen; at most [`MAX_ENTRIES`].
        entries: u64,
    },
    /// An NTFS that contradicts itself: why.
    DamagedNtfs(String),
    /// One that is recognised, and that this reader does not look into, or not to the end.
    NotLookedInto {
        /// Its name.
        name: &'static str,
        /// Why it is not looked into.
        why: String,
    },
    /// None that is known here: what the partition is, or begins with.
    NotRecognised(String),
    /// A partition that holds no file system by its type.
    Reserved,
}

/// The most entries of a root folder that are read.
pub const MAX_ENTRIES: u64 = 1000;

/// Inspects the disk that a descriptor describes. `open` opens the files of its extents.
///
/// # Errors
/// The disk's bytes can't be read.
pub fn look<S: Source>(descriptor: &Descriptor, open: impl FnMut(&FileName) -> io::Result<S>) -> io::Result<Content> {
    let disk = match Disk::new(descriptor, open) {
        Ok(disk) => disk,
        Err(content) => return Ok(content),
    };
    let Some(first) = disk.sectors::<512>(0)? else {
        return Ok(Content::NotRecognised("a disk that is too small for a file system"));
    };
    let whole = Partition::whole(disk.bytes());
    if let Some(system) = recognise(&disk, &whole)? {
        return Ok(Content::Volumes(vec![Volume { number: 0, system }]));
    }
    let partitions = match partition::read(&disk, &first)? {
        Table::None if first.iter().all(|byte| *byte == 0) => {
            return Ok(Content::NotRecognised("no partition table: the disk begins with zeros"));
        }
        Table::None => return Ok(Content::NotRecognised("no partition table and no file system that is known here")),
        Table::Damaged(why) => return Ok(Content::Damaged(format!("the partition table: {why}"))),
        Table::Unknown(why) => return Ok(Content::NotLookedInto(format!("the partition table: {why}"))),
        Table::Partitions(partitions) => partitions,
    };
    if partitions.is_empty() {
        return Ok(Content::NotRecognised("a partition table without partitions"));
    }
    let mut volumes = Vec::new();
    for partition in partitions {
        let system = match recognise(&disk, &partition)? {
            Some(system) => system,
            None if partition.is_reserved => FileSystem::Reserved,
            None => unrecognised(&disk, &partition)?,
        };
        volumes.push(Volume { number: partition.number, system });
    }
    Ok(Content::Volumes(volumes))
}

/// The file system that begins with a partition; none where there is none that is known.
fn recognise<S: Source>(disk: &Disk<S>, partition: &Partition) -> io::Result<Option<FileSystem>> {
    Ok(match Signature::read(disk, &partition.bytes)? {
        Signature::Ntfs => Some(ntfs::read(disk, partition.bytes.clone())?),
        Signature::Other(name) => {
            Some(FileSystem::NotLookedInto { name, why: "this program reads NTFS only".to_owned() })
        }
        Signature::Encrypted(name) => {
            Some(FileSystem::NotLookedInto { name, why: "its content is encrypted".to_owned() })
        }
        Signature::None if partition.is_container => Some(FileSystem::NotLookedInto {
            name: "an extended partition",
            why: "this program reads primary partitions only".to_owned(),
        }),
        Signature::None => None,
    })
}

fn unrecognised<S: Source>(disk: &Disk<S>, partition: &Partition) -> io::Result<FileSystem> {
    let Some(first) = disk.sectors::<512>(partition.bytes.start)? else {
        return Ok(FileSystem::NotRecognised(format!("{}, too small for a file system", partition.kind)));
    };
    let begins = if first.iter().all(|byte| *byte == 0) { "with zeros" } else { "with no file system known here" };
    Ok(FileSystem::NotRecognised(format!("{}, which begins {begins}", partition.kind)))
}

impl Content {
    /// The worst of what its file systems are.
    #[must_use]
    pub fn state(&self) -> ContentState {
        match self {
            Content::Damaged(_) => ContentState::Damaged,
            Content::NotRecognised(_) => ContentState::NotRecognised,
            Content::NotLookedInto(_) => ContentState::NotLookedInto,
            Content::Volumes(volumes) => {
                let states = volumes.iter().filter_map(|volume| volume.system.state());
                states.max().unwrap_or(ContentState::NotRecognised)
            }
        }
    }

    /// The names of the file systems that were recognised, damaged ones among them.
    pub fn systems(&self) -> impl Iterator<Item = &'static str> {
        let volumes = match self {
            Content::Volumes(volumes) => volumes.as_slice(),
            _ => &[],
        };
        volumes.iter().filter_map(|volume| match &volume.system {
            FileSystem::Ntfs { .. } | FileSystem::DamagedNtfs(_) => Some("NTFS"),
            FileSystem::NotLookedInto { name, .. } => Some(*name),
            FileSystem::NotRecognised(_) | FileSystem::Reserved => None,
        })
    }
}

impl FileSystem {
    /// What was found; none of what holds no file system by its type.
    fn state(&self) -> Option<ContentState> {
        match self {
            FileSystem::Ntfs { .. } => Some(ContentState::Healthy),
            FileSystem::DamagedNtfs(_) => Some(ContentState::Damaged),
            FileSystem::NotLookedInto { .. } => Some(ContentState::NotLookedInto),
            FileSystem::NotRecognised(_) => Some(ContentState::NotRecognised),
            FileSystem::Reserved => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::NotRecognised(why) => write!(f, "not recognised: {why}"),
            Content::Damaged(why) => f.write_str(why),
            Content::NotLookedInto(why) => write!(f, "not looked into: {why}"),
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
            FileSystem::DamagedNtfs(why) => write!(f, "its NTFS can't be read: {why}"),
            FileSystem::NotLookedInto { name, why } => write!(f, "{name}, not looked into: {why}"),
            FileSystem::NotRecognised(what) => write!(f, "not recognised: {what}"),
            FileSystem::Reserved => f.write_str("a reserved partition"),
        }
    }
}

/// Bytes of so many sectors.
const fn sectors(count: u64) -> Option<u64> {
    count.checked_mul(SECTOR_BYTES)
}
