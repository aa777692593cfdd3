//! What vSphere says, as plain data. Ids are opaque text: they may hold `/`, `@` and brackets.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A managed object's id.
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

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `VMware vCenter Server 8.0.2 build-…`.
    pub full_name: String,
    /// `8.0.2.0`.
    pub api_version: String,
    /// Whether it is a vCenter Server (`VirtualCenter`), else a host (`HostAgent`).
    pub is_vcenter: bool,
    /// Its own id, where it tells one.
    pub instance_uuid: Option<String>,
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
    /// In bytes; 0 where it is not known.
    pub capacity: u64,
    /// In bytes; 0 where it is not known.
    pub free: u64,
    /// Whether a host reaches it.
    pub accessible: bool,
    /// `summary.maintenanceMode` where it is not `normal`.
    pub maintenance: Option<String>,
    /// Which hosts mount it.
    pub mounts: Vec<Mount>,
    /// Its browser.
    pub browser: Moid,
    /// The inventory path of its datacenter, as `dcPath` wants it; none on a host.
    pub datacenter: Option<String>,
}

/// A host's mount of a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The host.
    pub host: Moid,
    /// Where it is mounted there, where that is told: `/vmfs/volumes/…`.
    pub path: Option<String>,
    /// Whether that host reaches it now.
    pub accessible: bool,
    /// Whether it may write there.
    pub read_write: bool,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: Moid,
    /// Its name, as vSphere gives it.
    pub name: String,
    /// Its management addresses, the preferred first.
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
    /// `lockdownDisabled`, or not told.
    #[default]
    Disabled,
    /// `lockdownNormal`.
    Normal,
    /// `lockdownStrict`.
    Strict,
}

/// What vSphere tells of the disks of all machines that it shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineDisks {
    /// Every disk, each base of a snapshot too.
    pub attached: Vec<AttachedDisk>,
    /// Machines that may have disks beside these.
    pub unread: Vec<UnreadMachine>,
}

/// A machine of which vSphere can't tell the disks now: it is disconnected, inaccessible, orphaned or broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadMachine {
    /// The machine.
    pub vm: Moid,
    /// Its name; its id where it has none.
    pub name: String,
    /// The host that it was last known on.
    pub host: Option<Moid>,
    /// Why, for a person: `it is inaccessible`.
    pub why: String,
}

/// A disk that a virtual machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// The machine.
    pub vm: Moid,
    /// Its name.
    pub vm_name: String,
    /// The host that it runs on.
    pub host: Option<Moid>,
    /// Whether it is powered on, or suspended: then it holds its disks too.
    pub powered_on: bool,
    /// The datastore's name.
    pub datastore: String,
    /// The descriptor's path on it, with one `/` between its parts.
    pub path: String,
    /// `backing.diskMode`: `persistent`, `independent_nonpersistent`, …
    pub mode: String,
}

/// What lies in a folder of a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderListing {
    /// The folder, relative to the datastore; empty for its root.
    pub folder: String,
    /// What is in it.
    pub entries: Vec<BrowseEntry>,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowseEntry {
    /// Its name.
    pub name: String,
    /// The name that a person knows, where it is another one (a namespace folder on vSAN).
    pub friendly_name: Option<String>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length in bytes; the server leaves it out where it is 0.
    pub bytes: u64,
    /// Its time of last change.
    pub mtime: Option<Timestamp>,
    /// Whether the server says that it is a thin disk.
    pub thin: Option<bool>,
}

/// The state of a service of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Its key: `TSM-SSH`.
    pub key: String,
    /// Whether it runs.
    pub running: bool,
    /// `on`, `off` or `automatic`: whether it starts with the host.
    pub policy: String,
}
