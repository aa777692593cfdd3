//! A stand-in for vCenter Server or an ESXi host: a process of `tests/peers/vcenter`, and what a test may do to it.
//!
//! What it imitates and what not is said at the head of its `main.go`. Its hosts listen on loopback addresses of their
//! own at port 443, so clients need nothing special to find them.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod inventory;

pub use inventory::{
    Datacenter, InventoryDatastore, InventoryDisk, InventoryHost, InventoryUser, ServerKind, VCenterInventory,
    VirtualMachine,
};

use super::peer::{PeerProcess, build};
use crate::error::LabError;

/// A fault of a file of `/folder`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FolderFault {
    /// At which host; everywhere if it is empty, `vcenter` for vCenter's own listener.
    pub host: String,
    /// The datastore.
    pub datastore: String,
    /// The file's path on it.
    pub path: String,
    /// The status to answer instead; 500 is what a locked file gives. 0 sends the file.
    pub status: u16,
    /// Ends the connection after so many bytes; 0 never does.
    pub cut_after: u64,
    /// How fast it comes; 0 is as fast as it can.
    pub bytes_per_second: u64,
    /// How often it happens; 0 is always.
    pub times: u32,
}

/// A request of `/folder` that was made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FolderRequest {
    /// At which host; empty for vCenter's own listener.
    pub host: String,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The file's path on the datastore.
    pub path: String,
    /// The datastore.
    pub datastore: String,
    /// The datacenter's path, as it was given.
    pub dc_path: String,
    /// The range header, as it was given.
    pub range: String,
    /// `ticket`, `session`, `basic` or `none`.
    pub auth: String,
    /// The ticket.
    pub ticket: String,
    /// The user.
    pub user: String,
    /// The status of the response.
    pub status: u16,
    /// How many bytes of the body were sent.
    pub bytes: u64,
}

/// A login that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VCenterLogin {
    /// At which host's `/folder`; empty for the SOAP interface.
    pub host: String,
    /// Who.
    pub user: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Whether the user was locked out.
    pub locked: bool,
}

/// An account of a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HostAccount {
    /// `accessNone`, `accessAdmin`, …
    pub mode: String,
    /// Its description.
    pub description: String,
    /// Whether it may use the shell.
    pub shell: bool,
}

/// The state of a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HostState {
    /// Its local accounts.
    pub accounts: BTreeMap<String, HostAccount>,
    /// Its services that run.
    pub running: Vec<String>,
    /// Its lockdown mode.
    pub lockdown: String,
}

/// Where a host listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listener {
    /// Its name in the inventory.
    pub name: String,
    /// The name that clients see.
    pub shown_name: String,
    /// Its management address, as it stands in a URL.
    pub address: String,
    /// The SHA-256 of its certificate, in lower-case hex.
    pub sha256: String,
    /// The SHA-1 of its certificate, in upper-case hex with colons.
    pub sha1: String,
}

#[derive(Debug, Deserialize)]
struct VCenterReady {
    url: String,
    sha256: String,
    sha1: String,
    hosts: Vec<Listener>,
}

/// A running stand-in.
#[derive(Debug)]
pub struct VCenter {
    peer: PeerProcess,
    ready: VCenterReady,
}

impl VCenter {
    /// Builds it if it has not been yet, and starts it.
    ///
    /// # Errors
    /// It can't be built, or refuses the inventory.
    pub fn start(inventory: &VCenterInventory) -> Result<Self, LabError> {
        let peer = PeerProcess::start("the stand-in for vSphere", Command::new(build("vcenter")?))?;
        let config = serde_json::to_value(inventory).map_err(|error| LabError::Wrong(error.to_string()))?;
        let ready = read(peer.request(&config)?)?;
        Ok(Self { peer, ready })
    }

    /// Where it listens: `https://` and an address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.ready.url
    }

    /// The SHA-256 of its certificate, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.ready.sha256
    }

    /// The SHA-1 of its certificate, in upper-case hex with colons.
    #[must_use]
    pub fn sha1(&self) -> &str {
        &self.ready.sha1
    }

    /// Where its hosts listen.
    #[must_use]
    pub fn hosts(&self) -> &[Listener] {
        &self.ready.hosts
    }

    /// Where a host listens.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn host(&self, name: &str) -> Result<&Listener, LabError> {
        let found = self.ready.hosts.iter().find(|host| host.name == name);
        found.ok_or_else(|| LabError::Wrong(format!("there is no host {name}")))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.peer.id()
    }

    fn send(&self, command: &Value) -> Result<(), LabError> {
        self.peer.request(command).map(|_| ())
    }

    fn query<T: for<'a> Deserialize<'a>>(&self, command: &Value, key: &str) -> Result<T, LabError> {
        let mut answer = self.peer.request(command)?;
        read(answer.get_mut(key).map(Value::take).unwrap_or_default())
    }

    /// Attaches a disk to a virtual machine.
    ///
    /// # Errors
    /// There is no such machine or datastore.
    pub fn attach(&self, vm: &str, path: &str, mode: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "attach", "vm": vm, "path": path, "mode": mode }))
    }

    /// Detaches a disk from a virtual machine.
    ///
    /// # Errors
    /// It has none there.
    pub fn detach(&self, vm: &str, path: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "detach", "vm": vm, "path": path }))
    }

    /// Turns a machine on or off.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn power(&self, vm: &str, on: bool) -> Result<(), LabError> {
        self.send(&json!({ "do": "power", "vm": vm, "on": on }))
    }

    /// Renames a datastore.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn rename_datastore(&self, from: &str, to: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "rename_datastore", "datastore": from, "name": to }))
    }

    /// Whether hosts reach a datastore.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn set_accessible(&self, datastore: &str, on: bool) -> Result<(), LabError> {
        self.send(&json!({ "do": "accessible", "datastore": datastore, "on": on }))
    }

    /// A datastore's maintenance mode: `normal`, `enteringMaintenance`, `inMaintenance`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn set_maintenance(&self, datastore: &str, mode: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "maintenance", "datastore": datastore, "mode": mode }))
    }

    /// Ends all sessions, as after a restart.
    ///
    /// # Errors
    /// It does not answer.
    pub fn expire_sessions(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "expire_sessions" }))
    }

    /// Invalidates all tickets.
    ///
    /// # Errors
    /// It does not answer.
    pub fn expire_tickets(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "expire_tickets" }))
    }

    /// Revokes a privilege of a user.
    ///
    /// # Errors
    /// There is no such user.
    pub fn revoke(&self, user: &str, privilege: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "revoke", "user": user, "privilege": privilege }))
    }

    /// Grants a revoked privilege again.
    ///
    /// # Errors
    /// There is no such user.
    pub fn restore(&self, user: &str, privilege: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "restore", "user": user, "privilege": privilege }))
    }

    /// Unlocks all users.
    ///
    /// # Errors
    /// It does not answer.
    pub fn unlock(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "unlock" }))
    }

    /// Makes requests of a file fail.
    ///
    /// # Errors
    /// It does not answer.
    pub fn fail_folder(&self, trouble: &FolderFault) -> Result<(), LabError> {
        self.send(&json!({ "do": "trouble", "trouble": trouble }))
    }

    /// Removes all faults.
    ///
    /// # Errors
    /// It does not answer.
    pub fn clear_faults(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "no_trouble" }))
    }

    /// Sets a host's lockdown mode, and who is excepted.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_lockdown(&self, host: &str, mode: &str, exceptions: &[&str]) -> Result<(), LabError> {
        self.send(&json!({ "do": "lockdown", "host": host, "mode": mode, "users": exceptions }))
    }

    /// Whether a host answers vCenter.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_connected(&self, host: &str, on: bool) -> Result<(), LabError> {
        self.send(&json!({ "do": "connected", "host": host, "on": on }))
    }

    /// Whether a host is in maintenance mode.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_host_maintenance(&self, host: &str, on: bool) -> Result<(), LabError> {
        self.send(&json!({ "do": "host_maintenance", "host": host, "on": on }))
    }

    /// Starts or stops a service of a host, as its administrator does.
    ///
    /// # Errors
    /// There is no such host or service.
    pub fn set_service(&self, host: &str, service: &str, on: bool) -> Result<(), LabError> {
        self.send(&json!({ "do": "service", "host": host, "name": service, "on": on }))
    }

    /// Adds an account to a host, as another one does.
    ///
    /// # Errors
    /// There is no such host.
    pub fn add_account(&self, host: &str, name: &str) -> Result<(), LabError> {
        self.send(&json!({ "do": "add_account", "host": host, "name": name }))
    }

    /// Shuts the server down: its listener and every connection. With a host's name, that host's.
    ///
    /// # Errors
    /// There is no such host.
    pub fn down(&self, host: Option<&str>) -> Result<(), LabError> {
        self.send(&json!({ "do": "down", "host": host.unwrap_or_default() }))
    }

    /// Brings it back at the same address.
    ///
    /// # Errors
    /// There is no such host, or its port is in use.
    pub fn up(&self, host: Option<&str>) -> Result<(), LabError> {
        self.send(&json!({ "do": "up", "host": host.unwrap_or_default() }))
    }

    /// How often each SOAP method was called.
    ///
    /// # Errors
    /// It does not answer.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>, LabError> {
        self.query(&json!({ "do": "calls" }), "calls")
    }

    /// The requests of `/folder` so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn folder_requests(&self) -> Result<Vec<FolderRequest>, LabError> {
        self.list(&json!({ "do": "accesses" }), "accesses")
    }

    /// How many tickets were issued so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tickets_issued(&self) -> Result<u64, LabError> {
        self.query(&json!({ "do": "accesses" }), "tickets_issued")
    }

    /// The logins that were tried so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn logins(&self) -> Result<Vec<VCenterLogin>, LabError> {
        self.list(&json!({ "do": "logins" }), "logins")
    }

    /// The users of the open sessions.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sessions(&self) -> Result<Vec<String>, LabError> {
        self.list(&json!({ "do": "sessions" }), "sessions")
    }

    /// The state of a host.
    ///
    /// # Errors
    /// There is no such host.
    pub fn state(&self, host: &str) -> Result<HostState, LabError> {
        read(self.peer.request(&json!({ "do": "accounts", "host": host }))?)
    }

    /// Clears the record of calls, requests and logins.
    ///
    /// # Errors
    /// It does not answer.
    pub fn clear(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "forget" }))
    }

    /// Ends it by closing its stdin, and returns its exit status.
    ///
    /// # Errors
    /// The system's.
    pub fn end(mut self) -> Result<std::process::ExitStatus, LabError> {
        self.peer.end()
    }

    /// Go writes an empty list as nothing.
    fn list<T: for<'a> Deserialize<'a>>(&self, command: &Value, key: &str) -> Result<Vec<T>, LabError> {
        Ok(self.query::<Option<Vec<T>>>(command, key)?.unwrap_or_default())
    }
}

fn read<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, LabError> {
    serde_json::from_value(value).map_err(|error| LabError::Wrong(format!("the stand-in's answer: {error}")))
}
