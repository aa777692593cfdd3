//! One folder during a scan: its kind, its locks, and its descriptors.

use std::collections::BTreeMap;
use std::sync::Arc;

use stackferry_volume::descriptor::{Descriptor, MAX_TEXT_BYTES};
use stackferry_volume::group::{DescriptorReading, Names};
use stackferry_volume::{FolderError, Kind};

use crate::descriptor::DescriptorFile;
use crate::locks::Locks;

/// The folder that is being looked at.
pub(super) struct FolderContext<'a> {
    pub(super) folder: &'a str,
    pub(super) names: Names<'a>,
    pub(super) kind: Kind,
    pub(super) is_backup: bool,
    pub(super) locks: Locks,
    /// The descriptors that snapshots name as their parents, each with the snapshot's.
    pub(super) snapshots: BTreeMap<String, String>,
}

/// Which disks of a folder others are snapshots of.
pub(super) fn snapshots(known: &[DescriptorReading<'_>], names: &Names<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for reading in known {
        let DescriptorReading::Descriptor(child) = reading else { continue };
        let Some(hint) = child.parent_file_name_hint.as_deref() else { continue };
        // It may be a whole path, of a host or of a workstation.
        let file = hint.rsplit(['/', '\\']).next().unwrap_or(hint);
        if let Some(parent) = names.find(file).filter(|parent| parent.name != child.file.as_str()) {
            found.entry(parent.name.clone()).or_insert_with(|| child.file.as_str().to_owned());
        }
    }
    found
}

/// What is known of a candidate's descriptor.
pub(super) enum DescriptorRead {
    Known(Arc<DescriptorFile>),
    Failed(FolderError),
    /// No more descriptors are skip.
    TooMuch,
    /// It is not looked at: the volume is not protected whatever it says, or it is a piece of another disk.
    Ignored,
}

impl DescriptorRead {
    pub(super) fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            DescriptorRead::Known(cached) => cached.content.as_ref().ok(),
            _ => None,
        }
    }

    pub(super) fn reading(&self) -> DescriptorReading<'_> {
        match self {
            DescriptorRead::Known(cached) => match &cached.content {
                Ok(descriptor) => DescriptorReading::Descriptor(descriptor),
                Err(error) => DescriptorReading::Flawed(error),
            },
            _ => DescriptorReading::Unread,
        }
    }

    /// How long the descriptor's file is: a listing may give the disk's length.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            DescriptorRead::Known(cached) if cached.content.is_ok() && cached.head.len() < MAX_TEXT_BYTES => {
                u64::try_from(cached.head.len()).ok()
            }
            _ => None,
        }
    }
}

/// The path of an entry of a folder.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
