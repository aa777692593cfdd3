//! What inspecting a disk found, and the words for it.

use std::fmt;

use super::record::{ContentRecord, ContentState};
use crate::reason::shown;

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Partitions, or one file system without a table.
    Partitions(Vec<PartitionContent>),
    /// Something that is neither a partition table nor a file system that is known here.
    NotRecognised(&'static str),
    /// An extent is missing or too short, or the partition table contradicts itself or the disk.
    Damaged(String),
    /// Something that this reader does not know.
    NotInspected(String),
}

/// One partition, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionContent {
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
    /// One that is recognised, and that this reader does not inspect, or not to the end.
    NotInspected {
        /// Its name.
        name: &'static str,
        /// Why it is not inspected.
        why: String,
    },
    /// None that is known here: what the partition is, or begins with.
    NotRecognised(String),
    /// A partition that holds no file system by its type.
    Reserved,
}

/// The maximum number of entries of a root folder that are read.
pub const MAX_ENTRIES: u64 = 1000;

impl Content {
    /// The worst of what its file systems are.
    #[must_use]
    pub fn state(&self) -> ContentState {
        match self {
            Content::Damaged(_) => ContentState::Damaged,
            Content::NotRecognised(_) => ContentState::NotRecognised,
            Content::NotInspected(_) => ContentState::NotInspected,
            Content::Partitions(volumes) => {
                let states = volumes.iter().filter_map(|volume| volume.system.state());
                states.max().unwrap_or(ContentState::NotRecognised)
            }
        }
    }

    /// The names of the file systems that were recognised, damaged ones among them.
    pub fn systems(&self) -> impl Iterator<Item = &'static str> {
        let volumes = match self {
            Content::Partitions(volumes) => volumes.as_slice(),
            _ => &[],
        };
        volumes.iter().filter_map(|volume| match &volume.system {
            FileSystem::Ntfs { .. } | FileSystem::DamagedNtfs(_) => Some("NTFS"),
            FileSystem::NotInspected { name, .. } => Some(*name),
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
            FileSystem::NotInspected { .. } => Some(ContentState::NotInspected),
            FileSystem::NotRecognised(_) => Some(ContentState::NotRecognised),
            FileSystem::Reserved => None,
        }
    }
}

impl From<&Content> for ContentRecord {
    fn from(content: &Content) -> Self {
        Self {
            state: content.state(),
            systems: content.systems().map(str::to_owned).collect(),
            text: content.to_string(),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::NotRecognised(why) => write!(f, "not recognised: {why}"),
            Content::Damaged(why) => f.write_str(why),
            Content::NotInspected(why) => write!(f, "not inspected: {why}"),
            Content::Partitions(volumes) => {
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
                let label = shown(label);
                write!(f, "NTFS `{label}`, {records} records and {entries} entries of its root folder read")
            }
            FileSystem::DamagedNtfs(why) => write!(f, "its NTFS can't be read: {why}"),
            FileSystem::NotInspected { name, why } => write!(f, "{name}, not inspected: {why}"),
            FileSystem::NotRecognised(what) => write!(f, "not recognised: {what}"),
            FileSystem::Reserved => f.write_str("a reserved partition"),
        }
    }
}
