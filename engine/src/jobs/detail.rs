//! What each kind of job needs to know, as it lies in the catalog. Keys are added, never renamed: a queue outlives the
//! program that filled it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stackferry_catalog::{JobKind, NewJob, Trigger};
use stackferry_volume::{VersionId, VolumeId};

/// How a copy is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CopyDetail {
    /// Makes no version where the source equals the last one.
    pub if_changed: bool,
}

/// Where a version is put back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreDetail {
    /// The folder, absolute, or `datastore:NAME/FOLDER`.
    pub to: PathBuf,
    /// Whether files of the same names are replaced.
    pub overwrite: bool,
}

/// A copy that a person or a script wants.
#[must_use]
pub fn copy(volume: &VolumeId, if_changed: bool, trigger: Trigger, actor: &str) -> NewJob {
    let job = NewJob::requested(JobKind::Copy, trigger, actor);
    NewJob { volume: Some(volume.clone()), detail: value(&CopyDetail { if_changed }), ..job }
}

/// Reading versions back: all, those of one volume, or one.
#[must_use]
pub fn verify(volume: Option<&VolumeId>, version: Option<&VersionId>, trigger: Trigger, actor: &str) -> NewJob {
    let job = NewJob::requested(JobKind::Verify, trigger, actor);
    NewJob { volume: volume.cloned(), version: version.cloned(), ..job }
}

/// Putting a version back, the newest good one if none is named. The caller has asked whether `to` is allowed.
#[must_use]
pub fn restore(
    volume: &VolumeId,
    version: Option<&VersionId>,
    to: &Path,
    overwrite: bool,
    trigger: Trigger,
    actor: &str,
) -> NewJob {
    let job = NewJob::requested(JobKind::Restore, trigger, actor);
    let detail = value(&RestoreDetail { to: to.to_path_buf(), overwrite });
    NewJob { volume: Some(volume.clone()), version: version.cloned(), detail, ..job }
}

/// Deleting what retention says.
#[must_use]
pub fn prune(trigger: Trigger, actor: &str) -> NewJob {
    NewJob::requested(JobKind::Prune, trigger, actor)
}

/// These types can always be written; where that should fail, the defaults hold.
#[must_use]
pub fn value(detail: &impl Serialize) -> Value {
    serde_json::to_value(detail).unwrap_or_default()
}
