//! Why a volume can't be copied as it lies in its folder.

use std::collections::BTreeMap;

use stackferry_volume::group::{DescriptorReading, Group, Names};
use stackferry_volume::reason::shown;
use stackferry_volume::{EntryKind, FolderError, Kind, ReasonCode};

use super::walk::{Read, Walk, join};
use super::{MAX_DESCRIPTOR_BYTES, hint, why};
use crate::locks::Locks;
use crate::volume::Held;

impl Walk<'_> {
    /// Why a volume can't be copied from here now.
    pub(super) fn judge(&self, place: &Place<'_>, group: &Group, read: &Read) -> Option<Held> {
        let descriptor = match read {
            Read::Known(cached) => match &cached.content {
                Ok(descriptor) => descriptor,
                Err(error) => return Some(error.unprotectable().into()),
            },
            Read::Failed(FolderError::NotFound { .. }) => {
                let text = "its descriptor vanished while the folder was looked at".to_owned();
                return Some(Held::deferred(ReasonCode::Missing, text));
            }
            Read::Failed(error) => {
                let text = format!("its descriptor can't be read: {}", why(error));
                return Some(Held::deferred(ReasonCode::Unreachable, text).remedy(hint(error)));
            }
            Read::TooMuch => {
                let text =
                    format!("the descriptors of this datastore are longer than {MAX_DESCRIPTOR_BYTES} bytes in all");
                return Some(Held::deferred(ReasonCode::Unreachable, text).remedy("Name fewer folders in `folders`."));
            }
            Read::Ignored => return None,
        };
        if let Err(why) = descriptor.protectable() {
            return Some(why.into());
        }
        if let Some(why) = &group.problem {
            return Some(why.clone().into());
        }
        if let Some(file) = group.files.iter().find(|file| file.entry.kind == EntryKind::Unreadable) {
            let error = self.look_error(&join(place.folder, file.name.as_str()));
            let text = format!("{} can't be looked at: {}", shown(file.name.as_str()), why(&error));
            return Some(Held::deferred(ReasonCode::Unreachable, text).remedy(hint(&error)));
        }
        if let Err(error) = descriptor.check_with(|name| place.names.find(name)) {
            return Some(error.unprotectable().into());
        }
        if let Some(snapshot) = group.files.first().and_then(|own| place.snapshots.get(own.name.as_str())) {
            let (own, snapshot) = (shown(descriptor.file.as_str()), shown(snapshot));
            let text = format!("{own} has a snapshot: what was written since lies in {snapshot}");
            return Some(Held::deferred(ReasonCode::Snapshot, text).remedy(
                "Delete the snapshot in vSphere, which merges what was written into the disk; it is copied then.",
            ));
        }
        place.locks.held(group.files.iter().map(|file| &file.name))
    }
}

/// The folder that is being looked at.
pub(super) struct Place<'a> {
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
