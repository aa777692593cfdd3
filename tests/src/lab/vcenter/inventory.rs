//! What there is at a stand-in for vSphere when it starts. What a field that is left out means is said in the stand-in's
//! `config.go`.

use std::path::PathBuf;

use serde::Serialize;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// A vCenter Server with any number of hosts.
    #[default]
    Vcenter,
    /// One ESXi host; it has one datacenter with one host, and its users are local administrators.
    Esxi,
}

/// What there is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VCenterInventory {
    /// Which of the two it is.
    pub mode: ServerKind,
    /// Who may log in.
    pub users: Vec<InventoryUser>,
    /// What is in it.
    pub datacenters: Vec<Datacenter>,
    /// The newest version of its interface; 8.0.2.0 if it is empty.
    pub api_version: String,
    /// How long a task takes at least, in milliseconds.
    pub task_ms: u32,
    /// Ends sessions that were not used for so long, in seconds; 0 never does.
    pub idle_seconds: u32,
    /// A ticket's life in seconds; 120 if it is 0.
    pub ticket_seconds: u32,
    /// A file that gets a line of JSON for each request of `/folder`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<PathBuf>,
    /// Its certificate and key as PEM files; one is made without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The key of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Somebody who may log in.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InventoryUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// Ids of privileges that the user lacks.
    pub missing: Vec<String>,
}

/// A datacenter.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Datacenter {
    /// Its name.
    pub name: String,
    /// The inventory folder that it is in; none if it is empty.
    pub folder: String,
    /// Its hosts.
    pub hosts: Vec<InventoryHost>,
    /// Its datastores.
    pub datastores: Vec<InventoryDatastore>,
    /// Its virtual machines.
    pub vms: Vec<VirtualMachine>,
}

/// An ESXi host.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InventoryHost {
    /// What commands and the rest of the inventory call it.
    pub name: String,
    /// The name that clients are told; its address if it is empty.
    pub shown_name: String,
    /// Where its HTTPS listens; a loopback address of its own at port 443 if it is empty.
    pub listen: String,
    /// Root's password.
    pub root_password: String,
    /// The Unix socket that is told of accounts and services: [`crate::lab::EsxiDouble::hook`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<PathBuf>,
    /// `lockdownNormal`, `lockdownStrict`, or none if it is empty.
    pub lockdown: String,
    /// It does not answer vCenter.
    pub disconnected: bool,
    /// It is in maintenance mode.
    pub maintenance: bool,
    /// Its SSH service runs at the start.
    pub ssh_running: bool,
    /// The shortest password; 7 if it is 0.
    pub minimum_length: u32,
    /// The fewest classes of characters in a password; 3 if it is 0.
    pub minimum_classes: u32,
}

/// A datastore.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InventoryDatastore {
    /// Its name.
    pub name: String,
    /// `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL` or another text; VMFS if it is empty.
    #[serde(rename = "type")]
    pub kind: String,
    /// The folder with its content.
    pub dir: PathBuf,
    /// Its managed object's id; made up if it is empty.
    pub id: String,
    /// Its name in `/vmfs/volumes`; made up if it is empty.
    pub uuid: String,
    /// No host reaches it.
    pub inaccessible: bool,
    /// `normal` if it is empty.
    pub maintenance: String,
    /// Hosts may not write there.
    pub read_only: bool,
    /// Which hosts mount it; all of the datacenter's if it is empty.
    pub hosts: Vec<String>,
}

/// A virtual machine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VirtualMachine {
    /// Its name.
    pub name: String,
    /// The host that it is on; the first if it is empty.
    pub host: String,
    /// It is powered on.
    pub on: bool,
    /// Its disks.
    pub disks: Vec<InventoryDisk>,
}

/// A disk of a virtual machine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InventoryDisk {
    /// `[datastore] folder/file.vmdk`.
    pub path: String,
    /// `persistent` if it is empty.
    pub mode: String,
}
