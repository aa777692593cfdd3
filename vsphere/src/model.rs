//! What vSphere reports, as plain data. Ids are opaque text and may contain `/`, `@` and brackets.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The id of a managed object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moid {
    /// Its type (`Datastore`, `HostSystem`, `VirtualMachine`, …).
    pub kind: String,
    /// Its value.
    pub value: String,
}

impl fmt::Display for Moid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

/// A product and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `VMware vCenter Server 8.0.2 build-…`.
    pub full_name: String,
    /// `8.0.2.0`.
    pub api_version: String,
    /// Whether it is a vCenter Server (`VirtualCenter`) and not a host (`HostAgent`).
    pub is_vcenter: bool,
}

/// A datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// Its id.
    pub id: Moid,
    /// Its name.
    pub name: String,
    /// `summary.type`: `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL`, `OTHER`, …
    pub kind: String,
    /// `summary.url`.
    pub url: String,
    /// The capacity in bytes, 0 if unknown.
    pub capacity: u64,
    /// The free space in bytes, 0 if unknown.
    pub free: u64,
    /// Whether any host can access it.
    pub accessible: bool,
    /// `summary.maintenanceMode` unless it is `normal`.
    pub maintenance: Option<String>,
    /// The hosts that mount it.
    pub mounts: Vec<HostMount>,
    /// Its `HostDatastoreBrowser`.
    pub browser: Moid,
    /// The inventory path of its datacenter, for `dcPath`; none on a host.
    pub datacenter: Option<String>,
}

/// A host's mount of a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    /// The host.
    pub host: Moid,
    /// The mount point, if reported: `/vmfs/volumes/…`.
    pub path: Option<String>,
    /// Whether the host can access it now.
    pub accessible: bool,
    /// Whether the host may write to it.
    pub read_write: bool,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: Moid,
    /// Its name in vSphere.
    pub name: String,
    /// Its management addresses, the preferred one first.
    pub addresses: Vec<String>,
    /// `runtime.connectionState` is `connected`.
    pub connected: bool,
    /// `runtime.powerState` is `poweredOn`.
    pub powered_on: bool,
    /// `runtime.inMaintenanceMode`.
    pub maintenance: bool,
    /// Whether direct logins are refused.
    pub lockdown: Lockdown,
}

impl Host {
    /// Whether files can be read through it now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.connected && self.powered_on && !self.maintenance
    }
}

/// `config.lockdownMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lockdown {
    /// `lockdownDisabled`, or not reported.
    #[default]
    Disabled,
    /// `lockdownNormal`.
    Normal,
    /// `lockdownStrict`.
    Strict,
}

/// The disks of all virtual machines that are visible to the user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineDisks {
    /// Every disk, including the bases of snapshots.
    pub attached: Vec<AttachedDisk>,
    /// Machines that may have other disks than these.
    pub unreadable: Vec<UnreadableMachine>,
}

/// A machine whose disks vSphere can't report now: it is disconnected, inaccessible, orphaned or invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableMachine {
    /// The machine.
    pub vm: Moid,
    /// Its name, or its id if it has none.
    pub name: String,
    /// The host on which it was last registered.
    pub host: Option<Moid>,
    /// Why, as text for users: `it is inaccessible`.
    pub why: String,
}

/// A disk of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// The machine.
    pub vm: Moid,
    /// Its name.
    pub vm_name: String,
    /// The host of the machine.
    pub host: Option<Moid>,
    /// Whether the machine is powered on or suspended: a suspended machine holds its disks too.
    pub powered_on: bool,
    /// The datastore's name.
    pub datastore: String,
    /// The path of the descriptor on the datastore, with single slashes.
    pub path: String,
    /// `backing.diskMode`: `persistent`, `independent_nonpersistent`, …
    pub mode: String,
}

/// The entries of a folder of a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderListing {
    /// The folder, relative to the datastore; empty for its root.
    pub folder: String,
    /// Its entries.
    pub entries: Vec<BrowseEntry>,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowseEntry {
    /// Its name.
    pub name: String,
    /// The name that users see, if it differs (a namespace folder on vSAN).
    pub friendly_name: Option<String>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length in bytes. The server omits a length of 0.
    pub bytes: u64,
    /// Its time of last change.
    pub mtime: Option<Timestamp>,
}
