//! Where folders really are.

use std::path::{Path, PathBuf};

use stackferry_problem::Problem;

/// Where a folder that may have to be made really is: what is there of it may be a link that leads elsewhere. None where
/// that can't be told. Blocks for a moment.
#[must_use]
pub fn real(to: &Path) -> Option<PathBuf> {
    let there = to.ancestors().find(|folder| folder.symlink_metadata().is_ok())?;
    Some(there.canonicalize().ok()?.join(to.strip_prefix(there).ok()?))
}

/// Whether a folder is one of these, or lies in one. Blocks for a moment.
#[must_use]
pub fn is_inside(to: &Path, folders: &[PathBuf]) -> bool {
    real(to).is_some_and(|to| folders.iter().any(|root| root.canonicalize().is_ok_and(|root| to.starts_with(&root))))
}

/// The folder that a person named, as an absolute path.
///
/// # Errors
/// The working folder is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    std::path::absolute(path).map_err(|error| Problem::io("find", path.display(), &error))
}
