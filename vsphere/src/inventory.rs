//! Datastores, hosts, and the disks of virtual machines.

use std::collections::HashMap;
use std::sync::Arc;

use stackferry_volume::place::{clean_path, split_datastore_path};

use crate::error::VsphereError;
use crate::model::{AttachedDisk, Datastore, Host, HostMount, Lockdown, MachineDisks, Moid, UnreadableMachine};
use crate::properties::{self, Object, PropertySpec};
use crate::session::Session;
use crate::soap;
use crate::xml::{XmlNode, is_true};

/// The deepest nesting of folders; more is taken for a cycle.
const MAX_FOLDER_DEPTH: usize = 64;
/// The most disks in a chain of snapshots: vSphere allows 32 snapshots.
const MAX_CHAIN: usize = 64;

const DATASTORES: PropertySpec =
    PropertySpec { kind: "Datastore", paths: &["name", "parent", "summary", "host", "browser"] };
const FOLDERS: [PropertySpec; 2] = [
    PropertySpec { kind: "Datacenter", paths: &["name", "parent"] },
    PropertySpec { kind: "Folder", paths: &["name", "parent"] },
];
const HOSTS: PropertySpec = PropertySpec {
    kind: "HostSystem",
    paths: &[
        "name",
        "runtime.connectionState",
        "runtime.powerState",
        "runtime.inMaintenanceMode",
        "config.lockdownMode",
        "config.network.vnic",
        "config.virtualNicManagerInfo.netConfig",
    ],
};
const DEVICES: &str = "config.hardware.device";
const MACHINES: PropertySpec = PropertySpec {
    kind: "VirtualMachine",
    paths: &["name", "runtime.host", "runtime.powerState", "runtime.connectionState", DEVICES],
};
const NAMES: PropertySpec = PropertySpec { kind: "Datastore", paths: &["name"] };

pub(crate) async fn datastores(session: Arc<Session>) -> Result<Vec<Datastore>, VsphereError> {
    let mut folders = HashMap::new();
    if session.about().is_vcenter {
        properties::for_each_object(&session, &FOLDERS, |object| {
            let name = object.text("name").unwrap_or_default().to_owned();
            folders.insert(object.id.clone(), (name, object.moid("parent")));
            Ok(())
        })
        .await?;
    }
    let mut found = Vec::new();
    properties::for_each_object(&session, &[DATASTORES], |object| {
        // A datastore that is being removed has no properties any more.
        match (datastore(&object, &folders), object.complete()) {
            (Some(datastore), _) => found.push(datastore),
            (None, Err(error)) => {
                tracing::warn!(system = session.system(), %error, "skipping datastore {}", object.id);
            }
            (None, Ok(())) => {}
        }
        Ok(())
    })
    .await?;
    found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(found)
}

type InventoryFolders = HashMap<Moid, (String, Option<Moid>)>;

fn datastore(object: &Object, folders: &InventoryFolders) -> Option<Datastore> {
    let summary = object.get("summary")?;
    let bytes = |name: &str| summary.text_of(name).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mounts = object.get("host").map(|hosts| hosts.children.iter().filter_map(mount).collect()).unwrap_or_default();
    Some(Datastore {
        id: object.id.clone(),
        name: object.text("name").or_else(|| summary.text_of("name"))?.to_owned(),
        kind: summary.text_of("type").unwrap_or_default().to_owned(),
        url: summary.text_of("url").unwrap_or_default().to_owned(),
        capacity: bytes("capacity"),
        free: bytes("freeSpace"),
        accessible: summary.is("accessible"),
        maintenance: summary
            .text_of("maintenanceMode")
            .filter(|mode| !matches!(*mode, "" | "normal"))
            .map(str::to_owned),
        mounts,
        browser: object.moid("browser")?,
        datacenter: object.moid("parent").and_then(|parent| datacenter(parent, folders)),
    })
}

fn mount(node: &XmlNode) -> Option<HostMount> {
    let info = node.get("mountInfo")?;
    Some(HostMount {
        host: node.get("key").and_then(soap::moid)?,
        path: info.text_of("path").filter(|path| !path.is_empty()).map(str::to_owned),
        // Older servers lack these two properties; they list mounted, accessible datastores only.
        accessible: info.text_of("accessible").is_none_or(is_true) && info.text_of("mounted").is_none_or(is_true),
        read_write: info.text_of("accessMode") == Some("readWrite"),
    })
}

/// The inventory path of the datacenter above an object, without the name of the root folder, for `dcPath`.
fn datacenter(object: Moid, folders: &InventoryFolders) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    let mut current = object;
    for _ in 0..MAX_FOLDER_DEPTH {
        let (name, parent) = match folders.get(&current) {
            Some(entry) => entry,
            None => break,
        };
        if current.kind == "Datacenter" {
            names.clear();
            names.push(name);
        } else if !names.is_empty() && parent.is_some() {
            names.push(name);
        }
        match parent {
            Some(parent) => current = parent.clone(),
            None => break,
        }
    }
    names.reverse();
    (!names.is_empty()).then(|| names.join("/"))
}

pub(crate) async fn hosts(session: Arc<Session>) -> Result<Vec<Host>, VsphereError> {
    let mut found = Vec::new();
    properties::for_each_object(&session, &[HOSTS], |object| {
        found.push(host(&object));
        Ok(())
    })
    .await?;
    found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(found)
}

fn host(object: &Object) -> Host {
    Host {
        id: object.id.clone(),
        name: object.text("name").unwrap_or_default().to_owned(),
        addresses: addresses(object),
        connected: object.text("runtime.connectionState") == Some("connected"),
        powered_on: object.text("runtime.powerState") == Some("poweredOn"),
        maintenance: object.text("runtime.inMaintenanceMode").is_some_and(is_true),
        lockdown: match object.text("config.lockdownMode") {
            Some("lockdownNormal") => Lockdown::Normal,
            Some("lockdownStrict") => Lockdown::Strict,
            _ => Lockdown::Disabled,
        },
    }
}

/// The addresses of the interfaces for management traffic, or of all interfaces if none is reported, in vSphere's order.
fn addresses(object: &Object) -> Vec<String> {
    let children = |path: &str| object.get(path).map(|list| list.children.as_slice()).unwrap_or_default();
    let mut selected = Vec::new();
    for net in children("config.virtualNicManagerInfo.netConfig") {
        if net.text_of("nicType") == Some("management") {
            let keys: Vec<&str> = net.all("selectedVnic").map(|key| key.text.as_str()).collect();
            let is_selected = |vnic: &&XmlNode| vnic.text_of("key").is_some_and(|key| keys.contains(&key));
            selected.extend(net.all("candidateVnic").filter(is_selected));
        }
    }
    let mut found = distinct(selected.into_iter());
    if found.is_empty() {
        found = distinct(children("config.network.vnic").iter());
    }
    found
}

fn distinct<'a>(vnics: impl Iterator<Item = &'a XmlNode>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for address in vnics.filter_map(|vnic| vnic.at(&["spec", "ip", "ipAddress"])) {
        let address = address.text.trim();
        if !matches!(address, "" | "0.0.0.0") && !found.iter().any(|other| other == address) {
            found.push(address.to_owned());
        }
    }
    found
}

/// The disks of all machines. The same call reads the names of the datastores: a name may contain brackets, and then only
/// the list of names shows where it ends.
pub(crate) async fn attached_disks(session: Arc<Session>) -> Result<MachineDisks, VsphereError> {
    let mut names = Vec::new();
    let mut machines = Vec::new();
    properties::for_each_object(&session, &[MACHINES, NAMES], |object| {
        if object.id.kind == NAMES.kind {
            names.extend(object.text("name").map(str::to_owned));
            return Ok(());
        }
        // A machine whose disks are hidden could have any disk, so an incomplete result is an error.
        object.complete()?;
        machines.extend(machine(&object));
        Ok(())
    })
    .await?;
    let mut found = MachineDisks::default();
    for machine in machines {
        machine.add_to(&mut found, &names);
    }
    Ok(found)
}

/// A machine and the files of its disks, in vSphere's notation.
struct VirtualMachine {
    vm: Moid,
    name: String,
    host: Option<Moid>,
    powered_on: bool,
    /// Each file with the mode of its disk.
    files: Vec<(String, String)>,
    /// Why the machine may have other disks than these.
    unreadable: Option<String>,
}

/// `None` for a machine that was removed during the call.
fn machine(object: &Object) -> Option<VirtualMachine> {
    let fault = object.fault(DEVICES);
    if fault == Some("ManagedObjectNotFound") {
        return None;
    }
    let mut files = Vec::new();
    let devices = object.get(DEVICES);
    let children = devices.map(|devices| devices.children.as_slice()).unwrap_or_default();
    for device in children.iter().filter(|device| device.kind.as_deref() == Some("VirtualDisk")) {
        let mut backing = device.get("backing");
        let mode = backing.and_then(|backing| backing.text_of("diskMode")).unwrap_or_default();
        for _ in 0..MAX_CHAIN {
            let Some(this) = backing else { break };
            files.extend(this.text_of("fileName").map(|file| (file.to_owned(), mode.to_owned())));
            backing = this.get("parent");
        }
    }
    // For a machine without a connection vCenter shows the last known state.
    let state = object.text("runtime.connectionState").filter(|state| !matches!(*state, "" | "connected"));
    let unreadable = match (state, fault, devices) {
        (Some(state), _, _) => Some(format!("it is {state}")),
        (None, Some(fault), _) => Some(format!("vSphere reports {fault} for its configuration")),
        (None, None, None) => Some("it has no configuration".to_owned()),
        (None, None, Some(_)) => None,
    };
    Some(VirtualMachine {
        vm: object.id.clone(),
        name: object.text("name").unwrap_or(&object.id.value).to_owned(),
        host: object.moid("runtime.host"),
        // A suspended machine holds its disks like a running one.
        powered_on: object.text("runtime.powerState").is_some_and(|state| state != "poweredOff"),
        files,
        unreadable,
    })
}

impl VirtualMachine {
    fn add_to(self, found: &mut MachineDisks, datastores: &[String]) {
        let mut unreadable = self.unreadable;
        for (file, mode) in self.files {
            let location = split_datastore_path(&file, datastores);
            let Some((datastore, path)) = location.and_then(|(datastore, path)| Some((datastore, clean_path(path)?)))
            else {
                unreadable.get_or_insert_with(|| "the path of one of its disks can't be parsed".to_owned());
                continue;
            };
            found.attached.push(AttachedDisk {
                vm: self.vm.clone(),
                vm_name: self.name.clone(),
                host: self.host.clone(),
                powered_on: self.powered_on,
                datastore: datastore.to_owned(),
                path,
                mode,
            });
        }
        if let Some(why) = unreadable {
            found.unreadable.push(UnreadableMachine { vm: self.vm, name: self.name, host: self.host, why });
        }
    }
}

#[cfg(test)]
mod tests;
