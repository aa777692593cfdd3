//! Everything that one round was told, by every source.

use stackferry_volume::place::{datastore_key, path_key};
use stackferry_volume::{Location, SiteName};
use stackferry_vsphere::{AttachedDisk, Datastore, Host, UnreadableMachine};

use crate::app_volumes::Report;
use crate::scan::Scan;

/// All that is known in one round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot<'a> {
    /// The datastores that were looked at.
    pub scans: &'a [Scan],
    /// The App Volumes Managers.
    pub managers: &'a [ManagerView],
    /// The vCenters and hosts.
    pub vspheres: &'a [VsphereView],
}

impl<'a> Snapshot<'a> {
    /// What is known where nothing but folders is configured.
    #[must_use]
    pub fn folders(scans: &'a [Scan]) -> Self {
        Self { scans, ..Self::default() }
    }

    /// Whether nobody looks at the datastore of a location, while App Volumes has told all that it knows of its site: what
    /// App Volumes did not tell to lie there is not known to.
    #[must_use]
    pub fn is_told_only(&self, location: &Location) -> bool {
        let is_scanned = |scan: &Scan| scan.site == location.site && scan.datastore == location.datastore;
        let mut managers = self.managers.iter().filter(|view| view.site == location.site).peekable();
        managers.peek().is_some()
            && managers.all(|view| view.report.as_ref().is_ok_and(|report| report.complete))
            && !self.scans.iter().any(is_scanned)
    }
}

/// A configured App Volumes Manager, and what it told.
#[derive(Debug, Clone)]
pub struct ManagerView {
    /// Its name in the configuration.
    pub name: String,
    /// Its site.
    pub site: SiteName,
    /// What it told; else why it told nothing.
    pub report: Result<Report, String>,
}

/// A configured vCenter or host, and what it told.
#[derive(Debug, Clone)]
pub struct VsphereView {
    /// Its name in the configuration.
    pub name: String,
    /// Its site.
    pub site: SiteName,
    /// What it told; else why it told nothing.
    pub inventory: Result<VsphereInventory, String>,
}

/// What a vCenter or a host told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VsphereInventory {
    /// Its datastores.
    pub datastores: Vec<Datastore>,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// The disks of all its machines.
    pub attached: Vec<AttachedDisk>,
    /// Machines that may have disks beside these.
    pub unreadable: Vec<UnreadableMachine>,
}

impl VsphereView {
    /// A datastore by its name, where this system knows it.
    #[must_use]
    pub fn datastore(&self, site: &SiteName, name: &str) -> Option<&Datastore> {
        let inventory = self.inventory.as_ref().ok().filter(|_| self.site == *site)?;
        inventory.datastores.iter().find(|datastore| datastore.name == name)
    }

    /// The machine that has the disk at this place, where there is one.
    #[must_use]
    pub fn holder(&self, location: &Location) -> Option<&AttachedDisk> {
        let inventory = self.inventory.as_ref().ok().filter(|_| self.site == location.site)?;
        let (datastore, path) = (datastore_key(&location.datastore), path_key(&location.path));
        let is_here =
            |disk: &&AttachedDisk| datastore_key(&disk.datastore) == datastore && path_key(&disk.path) == path;
        inventory.attached.iter().find(is_here)
    }
}
