//! Whose files are: what root makes in a folder of another user becomes that user's, since the service runs as them.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Gid, Uid};

/// The user and group whose files lie in a folder, where this process is root and they are another user's; else none:
/// then what is made is the maker's own.
///
/// # Errors
/// The folder can't be read.
pub fn owner_of(folder: &Path) -> io::Result<Option<(Uid, Gid)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let about = folder.metadata()?;
    Ok((about.uid() != 0).then(|| (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()))))
}

/// Returns a file or folder that was just made below `folder` to the owner of that.
///
/// # Errors
/// The system's.
pub fn give_to_owner(made: impl AsFd, folder: &Path) -> io::Result<()> {
    if let Some((uid, gid)) = owner_of(folder)? {
        rustix::fs::fchown(made, Some(uid), Some(gid))?;
    }
    Ok(())
}
