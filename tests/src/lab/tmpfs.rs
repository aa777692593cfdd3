//! A small file system of its own in memory: to fill it, to make it read-only, to be another one than its parent.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::error::{IoContext, LabError};

/// A mounted tmpfs. Dropped, it is gone with all that is in it.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of so many bytes on a folder, which is made if it is missing.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn mount(point: &Path, bytes: u64) -> Result<Self, LabError> {
        fs::create_dir_all(point).at("make", point)?;
        let options = CString::new(format!("size={bytes},mode=0700"))
            .map_err(|error| LabError::Content { path: point.to_owned(), why: error.to_string() })?;
        mount("lab", point, "tmpfs", MountFlags::empty(), options.as_c_str()).at("mount a tmpfs on", point)?;
        Ok(Self(point.to_owned()))
    }

    /// Lets nobody write to it any more, or again.
    ///
    /// # Errors
    /// Somebody writes to it just now.
    pub fn read_only(&self, yes: bool) -> Result<(), LabError> {
        let flags = if yes { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount(&self.0, flags, "").at("mount again", &self.0)
    }

    /// Whether this machine lets us mount one.
    #[must_use]
    pub fn possible() -> bool {
        tempfile::tempdir().is_ok_and(|folder| Self::mount(&folder.path().join("try"), 1 << 20).is_ok())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
