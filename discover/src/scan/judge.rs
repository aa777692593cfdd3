//! Why a volume can't be copied as it lies in its folder.

use stackferry_volume::group::Group;
use stackferry_volume::reason::shown;
use stackferry_volume::{EntryKind, Folder, FolderError, ReasonCode};

use super::explain::{hint, stat_error, why};
use super::folder::{DescriptorRead, FolderContext, join};
use super::limits::MAX_DESCRIPTOR_BYTES;
use crate::volume::SkipReason;

/// Why a volume can't be copied from here now.
pub(super) fn judge(
    folder: &dyn Folder,
    place: &FolderContext<'_>,
    group: &Group,
    read: &DescriptorRead,
) -> Option<SkipReason> {
    let descriptor = match read {
        DescriptorRead::Known(cached) => match &cached.content {
            Ok(descriptor) => descriptor,
            Err(error) => return Some(error.unprotectable().into()),
        },
        DescriptorRead::Failed(FolderError::NotFound { .. }) => {
            let text = "its descriptor vanished while the folder was looked at".to_owned();
            return Some(SkipReason::deferred(ReasonCode::Missing, text));
        }
        DescriptorRead::Failed(error) => {
            let text = format!("its descriptor can't be read: {}", why(error));
            return Some(SkipReason::deferred(ReasonCode::Unreachable, text).remedy(hint(error)));
        }
        DescriptorRead::TooMuch => {
            let text = format!("the descriptors of this datastore are longer than {MAX_DESCRIPTOR_BYTES} bytes in all");
            return Some(
                SkipReason::deferred(ReasonCode::Unreachable, text).remedy("Name fewer folders in `folders`."),
            );
        }
        DescriptorRead::Ignored => return None,
    };
    if let Err(why) = descriptor.protectable() {
        return Some(why.into());
    }
    if let Some(why) = &group.problem {
        return Some(why.clone().into());
    }
    if let Some(file) = group.files.iter().find(|file| file.entry.kind == EntryKind::Unreadable) {
        let error = stat_error(folder, &join(place.folder, file.name.as_str()));
        let text = format!("{} can't be looked at: {}", shown(file.name.as_str()), why(&error));
        return Some(SkipReason::deferred(ReasonCode::Unreachable, text).remedy(hint(&error)));
    }
    if let Err(error) = descriptor.check_with(|name| place.names.find(name)) {
        return Some(error.unprotectable().into());
    }
    if let Some(snapshot) = group.files.first().and_then(|own| place.snapshots.get(own.name.as_str())) {
        let (own, snapshot) = (shown(descriptor.file.as_str()), shown(snapshot));
        let text = format!("{own} has a snapshot: what was written since lies in {snapshot}");
        return Some(SkipReason::deferred(ReasonCode::Snapshot, text).remedy(
            "Delete the snapshot in vSphere, which merges what was written into the disk; it is copied then.",
        ));
    }
    place.locks.skip_reason(group.files.iter().map(|file| &file.name))
}
