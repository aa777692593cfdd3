//! Why a volume is not copied, and what a person can do: one row for each word that a volume's reason can have.

use serde::Serialize;
use stackferry_volume::ReasonCode;

/// A word, what it means, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ReasonRow {
    /// The word.
    #[schema(value_type = String)]
    pub(crate) code: ReasonCode,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
}

macro_rules! reasons {
    ($($code:ident $meaning:literal $remedy:literal;)+) => {
        /// Every word.
        pub(crate) const REASONS: &[ReasonRow] =
            &[$(ReasonRow { code: ReasonCode::$code, meaning: $meaning, remedy: $remedy },)+];

        /// The row of a word. The compiler finds one that has none.
        pub(crate) fn row(code: ReasonCode) -> ReasonRow {
            match code {
                $(ReasonCode::$code => ReasonRow { code, meaning: $meaning, remedy: $remedy },)+
            }
        }
    };
}

reasons! {
    Attached "A machine or a user has it attached."
        "It is copied once it is detached. A user who never logs off has to be asked to.";
    AttachmentUnknown "No system that could know says that it is detached."
        "The reason names who could not say; once one of them says that it is detached, it is copied.";
    Locked "A host holds a lock on one of its files, or it can't be told whose lock it is."
        "It is copied when the lock is gone, or has not been renewed for long.";
    Snapshot "It has a snapshot: what was written since lies in another disk."
        "Delete the snapshot in vSphere, which merges it into the disk; it is copied then.";
    Provisioning "App Volumes is making it."
        "It is copied when App Volumes has finished.";
    Moving "App Volumes is moving it."
        "It is copied when App Volumes has finished.";
    Busy "It was just written to, or App Volumes works on it."
        "It is copied when it has come to rest.";
    Deleting "App Volumes is deleting it."
        "Nothing: its versions are kept.";
    Missing "It, or one of the files that it needs, is not there."
        "Restore it, or delete the volume in App Volumes.";
    Unreachable "Its datastore can't be looked at."
        "See that the host is up; `stackferry check` tells what is wrong.";
    Orphaned "App Volumes lost its owner."
        "Give it to its user again in App Volumes, or delete it there.";
    VsanOnly "It lies only where disks are objects, not files."
        "Let App Volumes replicate it to an NFS or VMFS datastore, or move it there.";
    UnsupportedDisk "Its disk format is not one that can be copied file by file."
        "Convert it to a flat or thin disk (vmkfstools -i).";
    BadDescriptor "Invalid VMDK descriptor."
        "Look at the file; the reason says what is wrong with it.";
    BadName "Its name can't be a name in the vault."
        "Rename the disk in App Volumes.";
    OutsideWindow "No window of the schedule is open."
        "It is copied when one opens; see `schedule.windows`.";
    Paused "Somebody paused it."
        "Resume it when the cause is gone.";
    AppVolumesBackup "It is a backup that App Volumes itself made."
        "Nothing: the volume itself is protected.";
    Conflict "Copies that should be one disk differ, or two disks have one name."
        "Find out in App Volumes which one is right. All are copied meanwhile.";
    Incident "Its content changed unexpectedly."
        "Find out who changed it. Former versions are kept; compare, and restore if needed.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_one_row() {
        assert_eq!(REASONS.len(), ReasonCode::ALL.len());
        for (code, row) in ReasonCode::ALL.iter().zip(REASONS) {
            assert_eq!((*code, super::row(*code)), (row.code, *row));
        }
    }
}
