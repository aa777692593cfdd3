//! What may be done with a volume, from what may be done at each of its places.

use stackferry_volume::{Reason, ReasonCode, VolumeState};

use crate::volume::{SkipReason, VolumeLocation};

/// What may be done with a volume.
pub(super) struct VolumeStatus {
    pub(super) state: VolumeState,
    pub(super) protectable: bool,
    pub(super) reason: Option<Reason>,
    pub(super) remedy: Option<String>,
}

/// One place that can be copied from is enough. Where there is none, the reason told is that of the place that will
/// be the first to be usable again.
pub(super) fn of(locations: &[VolumeLocation], conflict: Option<&String>) -> VolumeStatus {
    let usable = locations.iter().any(|location| location.seen && location.skip.is_none());
    if usable {
        return match conflict {
            None => VolumeStatus { state: VolumeState::Ready, protectable: true, reason: None, remedy: None },
            Some(text) => VolumeStatus {
                state: VolumeState::Conflict,
                protectable: true,
                reason: Some(Reason::new(ReasonCode::Conflict, text.clone())),
                remedy: Some(
                    "Find out which disk is right, and delete or rename the other one in App Volumes. All are protected \
                     meanwhile."
                        .to_owned(),
                ),
            },
        };
    }
    let order = |skip: &&SkipReason| match (skip.state, skip.reason.code) {
        (VolumeState::Deferred, ReasonCode::Unreachable) => 1,
        (VolumeState::Deferred, _) => 0,
        (VolumeState::Unprotectable, _) => 2,
        _ => 3,
    };
    match locations.iter().filter_map(|location| location.skip.as_ref()).min_by_key(order) {
        Some(skip) => VolumeStatus {
            state: skip.state,
            protectable: skip.state == VolumeState::Deferred,
            reason: Some(skip.reason.clone()),
            remedy: skip.remedy.clone(),
        },
        None => VolumeStatus {
            state: VolumeState::Gone,
            protectable: false,
            reason: Some(Reason::new(ReasonCode::Missing, "it is not known to lie anywhere")),
            remedy: None,
        },
    }
}
