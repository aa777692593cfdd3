//! A real NTFS, made by `mkntfs` and filled through `ntfs-3g` and `ntfscp` (or one of them, where the other is missing).
//!
//! The files and their content are defined by the seed. The file system around them is not: `mkntfs` draws a new
//! serial number and takes the time of day, so two disks of one seed differ in metadata.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::content::{Mix, PAGE, RandomStream, Texture, fill};
use super::descriptor::SECTOR;
use super::extents::Extents;
use super::mount::{LoopDevice, NtfsMount, copy_out};
use super::partition::{PARTITION_START, TYPE_NTFS, find_ntfs, partition_range, write_table};
use crate::check::new_file;
use crate::error::{IoContext, LabError};
use crate::tools::{available, run};

/// The smallest partition that is worth an NTFS, in bytes; `mkntfs` itself refuses those below 1 MiB.
const SMALLEST: u64 = 8 << 20;
/// The largest file of the tree, in bytes.
const LARGEST_FILE: u64 = 24 << 20;
/// How much is written at a time, in pages.
const PAGES_AT_ONCE: usize = 16;

/// One file of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path from the root.
    pub path: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// What it is filled with.
    pub texture: Texture,
}

/// The files that a seed and a total define: mostly small ones, most of the bytes in large ones.
#[must_use]
pub fn plan_files(seed: u64, total: u64, mix: Mix) -> Vec<PlannedFile> {
    const FOLDERS: [&str; 8] = [
        "Program Files/Contoso/Suite",
        "Program Files/Contoso/Suite/plug-ins/de-DE",
        "Program Files (x86)/Fabrikam",
        "ProgramData/Fabrikam/Cache",
        "Users/Public/Documents/Müller & Söhne",
        "Users/Public/Documents/報告書",
        "Windows/System32/drivers",
        "SnapVolumesTemp/MountPoints",
    ];
    let mut stream = RandomStream::new(seed, "files");
    let mut files = Vec::new();
    let mut left = total;
    while left > 0 {
        let number = files.len();
        let texture = mix.draw(&mut stream);
        let (low, high) = match stream.below(10) {
            0..4 => (1, 32 << 10),
            4..8 => (32 << 10, 1 << 20),
            _ => (1 << 20, LARGEST_FILE),
        };
        // Never more than an eighth, so that small disks have several files too.
        let bytes = (low + stream.below(high - low)).min((total / 8).max(1)).min(left);
        let extension = match texture {
            Texture::Text => "xml",
            Texture::Random => "cab",
            Texture::Zero => "dat",
        };
        let folder = FOLDERS.get(usize::try_from(stream.below(8)).unwrap_or(0)).copied().unwrap_or_default();
        files.push(PlannedFile { path: format!("{folder}/file {number:05}.{extension}"), bytes, texture });
        left -= bytes;
    }
    files
}

/// Files of more bytes than this are faster through `ntfscp`: `ntfs-3g` takes writes in pieces of 4 KiB.
const LARGE: u64 = 1 << 20;

/// How files get into an NTFS; at least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FillMethods {
    /// Through a mount.
    mount: bool,
    /// With `ntfscp`, which makes no folders: without a mount, all files lie in the root.
    copy: bool,
}

/// Puts a partition table and a filled NTFS onto an empty disk.
///
/// # Errors
/// The disk is too small, a tool is missing or fails, or the disk can't be written.
pub fn write(disk: &Path, seed: u64, total: u64, mix: Mix, label: &str) -> Result<(), LabError> {
    let filler = FillMethods { mount: available().mounts_ntfs(), copy: available().ntfscp };
    write_with(disk, seed, total, mix, label, filler)
}

fn write_with(disk: &Path, seed: u64, total: u64, mix: Mix, label: &str, filler: FillMethods) -> Result<(), LabError> {
    let extents = Extents::open(disk, true)?;
    let range = partition_range(extents.bytes());
    let bytes = range.end - range.start;
    if bytes < SMALLEST.max(total.saturating_add(total / 8)) {
        return Err(LabError::Plan {
            subject: disk.display().to_string(),
            why: format!("{total} bytes of files do not fit into a partition of {bytes}"),
        });
    }
    // Beside the disk, since it may be larger than what the temporary folder holds; its name hides it.
    let work = tempfile::Builder::new()
        .prefix(".lab-")
        .tempdir_in(disk.parent().unwrap_or(Path::new(".")))
        .at("make a folder beside", disk)?;
    let image = work.path().join("partition.img");
    let file = new_file(&image)?;
    file.set_len(bytes).at("size", &image)?;
    format(&image, label)?;
    let files = plan_files(seed, total, mix);
    if filler.mount {
        let mount = NtfsMount::image(&image, true)?;
        for planned in &files {
            let path = mount.path().join(&planned.path);
            make_parents(&path)?;
            if !(filler.copy && planned.bytes > LARGE) {
                write_file(&path, seed, planned)?;
            }
        }
        mount.unmount()?;
    }
    for planned in files.iter().filter(|planned| filler.copy && (!filler.mount || planned.bytes > LARGE)) {
        let name = if filler.mount { &planned.path } else { base_name(&planned.path) };
        copy_file(work.path(), &image, seed, planned, name)?;
    }
    extents.copy_in(&file, &image, range.start)?;
    write_table(&extents, seed, TYPE_NTFS)
}

fn format(image: &Path, label: &str) -> Result<(), LabError> {
    let start = (PARTITION_START / SECTOR).to_string();
    // Forced, because it is a file; the geometry and start sector are what the partition will have on its disk.
    let args = ["-F", "-q", "-Q", "-s", "512", "-c", "4096", "-p", &start, "-H", "255", "-S", "63", "-L", label];
    let mut args: Vec<&OsStr> = args.map(OsStr::new).into();
    args.push(image.as_os_str());
    run("mkntfs", &args).map(drop)
}

fn make_parents(path: &Path) -> Result<(), LabError> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).at("make", folder))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Writes one planned file.
fn write_file(path: &Path, seed: u64, planned: &PlannedFile) -> Result<(), LabError> {
    let mut file = new_file(path)?;
    let mut buffer = vec![0; PAGE * PAGES_AT_ONCE];
    let (mut left, mut page) = (planned.bytes, 0);
    while left > 0 {
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..bytes) else { break };
        fill(seed, &planned.path, planned.texture, page, part);
        file.write_all(part).at("write", path)?;
        page += PAGES_AT_ONCE as u64;
        left -= bytes as u64;
    }
    Ok(())
}

/// Writes one planned file beside the image and lets `ntfscp` put it in under a name.
fn copy_file(work: &Path, image: &Path, seed: u64, planned: &PlannedFile, name: &str) -> Result<(), LabError> {
    let from = work.join("file");
    write_file(&from, seed, planned)?;
    let args = [OsStr::new("-q"), OsStr::new("-f"), image.as_os_str(), from.as_os_str(), OsStr::new(name)];
    let copied = run("ntfscp", &args);
    fs::remove_file(&from).at("remove", &from)?;
    copied.map(drop)
}

/// Adds a file to a disk's NTFS, through a loop device where there is one, else through a copy of the partition.
///
/// # Errors
/// The disk has no NTFS, or this machine can't mount it.
pub fn append(disk: &Path, seed: u64, planned: &PlannedFile) -> Result<(), LabError> {
    let extents = Extents::open(disk, true)?;
    let range = find_ntfs(&extents, disk)?;
    let add = |image: &Path| -> Result<(), LabError> {
        let mount = NtfsMount::image(image, true)?;
        let path = mount.path().join(&planned.path);
        make_parents(&path)?;
        write_file(&path, seed, planned)?;
        mount.unmount()
    };
    match extents.only() {
        Some(extent) if available().loop_devices => {
            let start = range.start + extent.offset;
            let device = LoopDevice::attach(&extent.path, start, range.end - range.start, true)?;
            add(device.path())
        }
        _ => {
            let (_folder, image) = copy_out(&extents, range.clone())?;
            add(&image)?;
            extents.copy_in(&File::open(&image).at("open", &image)?, &image, range.start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::mount::mount_and_digest;
    use crate::tools::have;

    #[test]
    fn a_file_plan_follows_its_seed_and_adds_up() {
        let plan = plan_files(1, 10 << 20, Mix::default());
        assert_eq!(plan, plan_files(1, 10 << 20, Mix::default()));
        assert_ne!(plan, plan_files(2, 10 << 20, Mix::default()));
        assert_eq!(plan.iter().map(|file| file.bytes).sum::<u64>(), 10 << 20);
        assert!(plan.len() >= 8);
        assert!(plan.iter().all(|file| file.bytes > 0));
    }

    #[test]
    fn ntfscp_fills_a_disk_without_mounting() {
        let tools = available();
        if !have(tools.mkntfs && tools.ntfscp && tools.mounts_ntfs(), "mkntfs, ntfscp or ntfs-3g").unwrap() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("raw");
        new_file(&disk).unwrap().set_len(32 << 20).unwrap();
        write_with(&disk, 1, 300 << 10, Mix::default(), "CVApps", FillMethods { mount: false, copy: true }).unwrap();
        let planned = plan_files(1, 300 << 10, Mix::default());
        let found = mount_and_digest(&disk).unwrap();
        assert_eq!(found.len(), planned.len());
        for file in planned {
            let name = base_name(&file.path);
            let mut content = vec![0; usize::try_from(file.bytes).unwrap()];
            fill(1, &file.path, file.texture, 0, &mut content);
            assert!(found.contains(&(name.to_owned(), blake3::hash(&content))), "{name}");
        }
    }
}
