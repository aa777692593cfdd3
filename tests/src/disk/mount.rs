//! Mounting an NTFS, so that no mount, loop device or process outlives its owner, not even after a panic.
//!
//! Order of taking down: unmount, wait for `ntfs-3g` to end (only then is the image on disk), detach the loop
//! device, remove the mount point. The mount point is removed with `rmdir` alone: a recursive removal would empty
//! the disk if the unmounting had failed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::mount::UnmountFlags;

use super::extents::Extents;
use super::partition::find_ntfs;
use crate::check::new_file;
use crate::error::{IoContext, LabError};
use crate::tools::{available, command, run, wait_until};

/// How long mounting, unmounting and the last write-back may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A mounted NTFS.
#[derive(Debug)]
pub struct NtfsMount {
    point: PathBuf,
    child: Child,
    mounted: bool,
    // Dropped after the above, in this order.
    _device: Option<LoopDevice>,
    _copy: Option<tempfile::TempDir>,
}

impl NtfsMount {
    /// Mounts a file that holds an NTFS and nothing else.
    ///
    /// # Errors
    /// This machine can't mount, or the file holds no NTFS.
    pub fn image(image: &Path, write: bool) -> Result<Self, LabError> {
        Self::start(image, write, None, None)
    }

    /// Mounts the NTFS partition of a disk for reading, given its descriptor or its only extent. The disk is not
    /// changed. Without loop devices, or with several extents, the partition's data is copied out first.
    ///
    /// # Errors
    /// This machine can't mount, or the disk has no NTFS.
    pub fn disk(disk: &Path) -> Result<Self, LabError> {
        let extents = Extents::open(disk, false)?;
        let range = find_ntfs(&extents, disk)?;
        if let Some(extent) = extents.only()
            && available().loop_devices
        {
            let (start, bytes) = (range.start + extent.offset, range.end - range.start);
            let device = LoopDevice::attach(&extent.path, start, bytes, false)?;
            let path = device.0.clone();
            return Self::start(&path, false, Some(device), None);
        }
        let (folder, image) = copy_out(&extents, range)?;
        Self::start(&image, false, None, Some(folder))
    }

    fn start(
        image: &Path,
        write: bool,
        device: Option<LoopDevice>,
        copy: Option<tempfile::TempDir>,
    ) -> Result<Self, LabError> {
        if !available().mounts_ntfs() {
            return Err(LabError::Missing("ntfs-3g, /dev/fuse or root"));
        }
        let point =
            tempfile::Builder::new().prefix("stackferry-lab-mnt").tempdir().at("make", &std::env::temp_dir())?;
        let below = fs::metadata(point.path()).at("inspect", point.path())?.dev();
        // In the foreground, so that its end can be waited for.
        // Reading past the page cache, which holds the disk's own pages already, takes a third of the time.
        let options = if write { "rw,no_detach,noatime" } else { "ro,no_detach,direct_io" };
        let child = command("ntfs-3g")?
            .arg("-o")
            .arg(options)
            .arg(image)
            .arg(point.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Start { tool: "ntfs-3g".to_owned(), source })?;
        let mut mount = Self { point: point.keep(), child, mounted: true, _device: device, _copy: copy };
        wait_until("mounting an NTFS", LIMIT, || {
            if let Some(status) = mount.child.try_wait().at("wait for", Path::new("ntfs-3g"))? {
                mount.mounted = false;
                let mut stderr = String::new();
                if let Some(pipe) = mount.child.stderr.as_mut() {
                    pipe.read_to_string(&mut stderr).at("read", Path::new("ntfs-3g"))?;
                }
                return Err(LabError::Tool { tool: "ntfs-3g".to_owned(), status: status.to_string(), stderr });
            }
            Ok(fs::metadata(&mount.point).at("inspect", &mount.point)?.dev() != below)
        })?;
        Ok(mount)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Unmounts, and waits until all is written.
    ///
    /// # Errors
    /// Somebody holds it, or `ntfs-3g` failed at the end.
    pub fn unmount(mut self) -> Result<(), LabError> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), LabError> {
        if !self.mounted {
            return Ok(());
        }
        wait_until("unmounting an NTFS", LIMIT, || match rustix::mount::unmount(&self.point, UnmountFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::BUSY) => Ok(false),
            other => other.map(|()| true).at("unmount", &self.point),
        })?;
        self.mounted = false;
        let mut status = None;
        wait_until("the end of ntfs-3g", LIMIT, || {
            status = self.child.try_wait().at("wait for", Path::new("ntfs-3g"))?;
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if !status.success() => Err(LabError::Tool {
                tool: "ntfs-3g".to_owned(),
                status: status.to_string(),
                stderr: "after unmounting".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for NtfsMount {
    fn drop(&mut self) {
        if self.take_down().is_err() {
            // Lazily, and by force: a stuck mount must not stay behind a failed test.
            let _ = rustix::mount::unmount(&self.point, UnmountFlags::DETACH);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.point);
    }
}

/// A stretch of a file as a block device.
#[derive(Debug)]
pub(super) struct LoopDevice(PathBuf);

impl LoopDevice {
    pub(super) fn attach(file: &Path, offset: u64, bytes: u64, write: bool) -> Result<Self, LabError> {
        let (offset, bytes) = (offset.to_string(), bytes.to_string());
        let mut args: Vec<&OsStr> =
            ["--find", "--show", "--offset", &offset, "--sizelimit", &bytes].map(OsStr::new).into();
        if !write {
            args.push(OsStr::new("--read-only"));
        }
        args.push(file.as_os_str());
        let printed = run("losetup", &args)?;
        Ok(Self(PathBuf::from(OsStr::from_bytes(printed.trim_ascii()))))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = run("losetup", &[OsStr::new("--detach"), self.0.as_os_str()]);
    }
}

/// Copies a partition into a sparse file of its own, in a temporary folder.
pub(super) fn copy_out(
    extents: &Extents,
    range: std::ops::Range<u64>,
) -> Result<(tempfile::TempDir, PathBuf), LabError> {
    let folder = tempfile::tempdir().at("make a folder in", &std::env::temp_dir())?;
    let image = folder.path().join("partition.img");
    extents.copy_out(range, &new_file(&image)?, &image)?;
    Ok((folder, image))
}

/// The files of a disk's NTFS, each with its path from the root and its BLAKE3, in order of path.
///
/// # Errors
/// See [`NtfsMount::disk`]; or a file can't be read.
pub fn mount_and_digest(disk: &Path) -> Result<Vec<(String, blake3::Hash)>, LabError> {
    let mount = NtfsMount::disk(disk)?;
    let files = digest_tree(mount.path())?;
    mount.unmount()?;
    Ok(files)
}

/// The files below a folder, each with its path from there and its BLAKE3, in order of path.
///
/// # Errors
/// Something can't be read.
pub fn digest_tree(root: &Path) -> Result<Vec<(String, blake3::Hash)>, LabError> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let entry = entry.at("list", &folder)?;
            let path = entry.path();
            let kind = entry.file_type().at("inspect", &path)?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(File::open(&path).at("open", &path)?).at("read", &path)?;
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.push((name, hasher.finalize()));
            }
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}
