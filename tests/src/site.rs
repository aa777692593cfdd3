//! A whole App Volumes site: datastores with the folders and files of App Volumes 2.x and 4.x, healthy and not, and
//! the list of what a good inventory of it says.
//!
//! The list is made while the files are, not by looking at them, so that it can judge what looks at them.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod build;
mod plan;

pub use plan::{DiskSize, SitePlan};

use crate::disk::TestDisk;
use crate::error::{IoContext, LabError};
use crate::expect::Expect;

/// The datastores of every site.
pub const DATASTORES: [&str; 2] = ["nfs01", "nfs02"];

/// App Volumes' folders on a datastore, 2.x and then 4.x.
pub const FOLDERS: [&str; 9] = [
    "cloudvolumes/apps",
    "cloudvolumes/writable",
    "cloudvolumes/apps_templates",
    "cloudvolumes/writable_templates",
    "appvolumes/packages",
    "appvolumes/writables",
    "appvolumes/packages_templates",
    "appvolumes/writables_templates",
    "appvolumes/writables_backup",
];

/// One place where a volume lies.
#[derive(Debug, Clone)]
pub struct SiteLocation {
    /// The datastore's name.
    pub datastore: &'static str,
    /// The descriptor's path below the datastore, whether it is there or not.
    pub path: String,
    /// The names of all files that belong to the volume, beside each other.
    pub files: Vec<String>,
    /// The disk, where it is one that can be changed.
    pub disk: Option<TestDisk>,
}

/// One volume, as a good inventory lists it.
#[derive(Debug, Clone)]
pub struct SiteVolume {
    /// `appstack`, `package`, `writable`, `template` or `image`.
    pub kind: &'static str,
    /// Its stem, verbatim.
    pub stem: String,
    /// Where it lies. More than one: equal copies that are one volume.
    pub locations: Vec<SiteLocation>,
    /// What Stackferry should think of it.
    pub expect: Expect,
    /// What is special about it; empty if nothing is.
    pub note: &'static str,
}

/// A file or folder that is no volume and must not be taken for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The datastore's name.
    pub datastore: &'static str,
    /// Its path below the datastore.
    pub path: String,
    /// What it is.
    pub note: &'static str,
}

/// A site that was built.
#[derive(Debug, Clone)]
pub struct TestSite {
    /// The folder that holds the datastores.
    pub root: PathBuf,
    /// What it was built from.
    pub plan: SitePlan,
    /// What a good inventory lists.
    pub volumes: Vec<SiteVolume>,
    /// What it does not.
    pub strays: Vec<Stray>,
}

impl TestSite {
    /// Builds a site below `root`, which is made if it is missing. None of its datastores may exist.
    ///
    /// # Errors
    /// The folder can't be written, or an external tool failed.
    pub fn build(root: &Path, plan: &SitePlan) -> Result<Self, LabError> {
        build::build(root, plan)
    }

    /// The folder of a datastore.
    #[must_use]
    pub fn datastore(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The file of a location's descriptor.
    #[must_use]
    pub fn file(&self, location: &SiteLocation) -> PathBuf {
        self.datastore(location.datastore).join(&location.path)
    }

    /// All files of a location.
    #[must_use]
    pub fn files(&self, location: &SiteLocation) -> Vec<PathBuf> {
        let descriptor = self.file(location);
        location.files.iter().map(|name| descriptor.with_file_name(name)).collect()
    }

    /// The volumes of a kind and stem; more than one if they are different volumes of one name.
    pub fn find(&self, kind: &str, stem: &str) -> impl Iterator<Item = &SiteVolume> {
        self.volumes.iter().filter(move |volume| volume.kind == kind && volume.stem == stem)
    }

    /// The disk of a volume on a datastore, to change it.
    #[must_use]
    pub fn disk_mut(&mut self, datastore: &str, kind: &str, stem: &str) -> Option<&mut TestDisk> {
        self.volumes
            .iter_mut()
            .filter(|volume| volume.kind == kind && volume.stem == stem)
            .flat_map(|volume| &mut volume.locations)
            .find(|location| location.datastore == datastore)?
            .disk
            .as_mut()
    }

    /// The volumes that can be copied, now or later.
    pub fn protectable(&self) -> impl Iterator<Item = &SiteVolume> {
        self.volumes.iter().filter(|volume| volume.expect.protectable())
    }

    /// Locks a volume's first extent, as an ESXi host does over NFS: with a file `.lck-` and the extent's file id (16
    /// hexadecimal digits, lowest byte first) beside it. Removing that file unlocks it.
    ///
    /// # Errors
    /// There is no such disk, or its folder can't be written.
    pub fn lock(&mut self, datastore: &str, kind: &str, stem: &str) -> Result<PathBuf, LabError> {
        let plan = |why: &str| LabError::Plan { subject: format!("a lock of {kind}/{stem}"), why: why.to_owned() };
        let disk = self.disk_mut(datastore, kind, stem).ok_or_else(|| plan("there is no such disk"))?;
        let extent = disk.extents().into_iter().next().ok_or_else(|| plan("it has no extent"))?;
        let inode = fs::metadata(&extent).at("inspect", &extent)?.ino();
        let id: String = inode.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let lock = extent.with_file_name(format!(".lck-{id}"));
        crate::check::write_new(&lock, &[0; 84])?;
        for volume in self.volumes.iter_mut().filter(|volume| volume.kind == kind && volume.stem == stem) {
            if volume.locations.iter().any(|location| location.datastore == datastore) {
                volume.expect = Expect::LOCKED;
            }
        }
        Ok(lock)
    }
}

impl SiteVolume {
    /// The bytes of all its first location's extents: logical, and really taken. None where there is no plain disk.
    #[must_use]
    pub fn bytes(&self) -> Option<(u64, u64)> {
        let disk = self.locations.first()?.disk.as_ref()?;
        Some((disk.spec().bytes, disk.allocated().ok()?))
    }
}

impl fmt::Display for TestSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.1}", std::time::Duration::from_millis(bytes / 1049).as_secs_f64());
        let wide = self.volumes.iter().map(|volume| volume.kind.len() + volume.stem.len() + 1).max().unwrap_or(0);
        writeln!(
            f,
            "{:wide$}  {:11}  {:>8}  {:>8}  {:22}  note",
            "volume", "datastores", "MiB", "of data", "protectable"
        )?;
        for volume in &self.volumes {
            let name = format!("{}/{}", volume.kind, volume.stem);
            let stores: Vec<&str> = volume.locations.iter().map(|location| location.datastore).collect();
            let (logical, taken) = volume
                .bytes()
                .map_or_else(|| ("-".to_owned(), "-".to_owned()), |(a, b)| ((a >> 20).to_string(), mib(b)));
            writeln!(
                f,
                "{name:wide$}  {:11}  {logical:>8}  {taken:>8}  {:22}  {}",
                stores.join(","),
                volume.expect,
                volume.note
            )?;
        }
        let protectable = self.protectable().count();
        let other = self.volumes.len() - protectable;
        let strays = self.strays.len();
        write!(f, "{protectable} volumes to protect, {other} that can't be, {strays} files that are none")
    }
}

#[cfg(test)]
mod tests;
