//! Texts for folders and files that can't be read.

use stackferry_volume::reason::shown;
use stackferry_volume::{Folder, FolderError};

/// A path on a datastore as vSphere writes it.
pub(super) fn subject(datastore: &str, path: &str) -> String {
    if path.is_empty() { format!("[{datastore}]") } else { format!("[{datastore}] {}", shown(path)) }
}

/// What a person can do about a folder that can't be looked at.
pub(super) fn hint(error: &FolderError) -> &'static str {
    match error {
        FolderError::NotFound { .. } => "If it was just deleted, there is nothing to do.",
        FolderError::Denied { .. } => {
            "Give the account that reads this datastore the right to list and read the folder."
        }
        FolderError::Refused { .. } => "Put a real folder in its place, or take it out of `folders`.",
        FolderError::TooMany { .. } => "Name the sub-folders to look through in `folders`.",
        FolderError::Unreachable { .. } => {
            "See that the datastore is mounted and its host is up, then run `stackferry check`."
        }
        _ => "See whether the datastore is healthy; the next round tries again.",
    }
}

/// An error without the path that it is about, which is told beside it, and with its cause.
pub(super) fn why(error: &FolderError) -> String {
    match error {
        FolderError::NotFound { .. } => "no such file or folder".to_owned(),
        FolderError::Denied { .. } => "permission denied".to_owned(),
        FolderError::Refused { why, .. } => (*why).to_owned(),
        FolderError::TooMany { most, .. } => format!("more than {most} entries"),
        FolderError::Unreachable { why, .. } => format!("the datastore can't be reached: {why}"),
        FolderError::Io { source, .. } => format!("reading failed: {source}"),
        other => other.to_string(),
    }
}

/// Why an entry can't be read.
pub(super) fn stat_error(folder: &dyn Folder, path: &str) -> FolderError {
    let unknown = || {
        let source = std::io::Error::other("it could not be read when its folder was listed");
        FolderError::Io { path: path.to_owned(), source }
    };
    folder.stat(path).err().unwrap_or_else(unknown)
}
