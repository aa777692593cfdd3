//! A stand-in for vCenter Server or an ESXi host: a process of `tests/peers/vcenter`, and what a test may do to it.
//!
//! What it imitates and what not is said at the head of its `main.go`. Its hosts listen on loopback addresses of their
//! own at port 443, so clients need nothing special to find them.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod inventory;

pub use inventory::{Datacenter, Datastore, Disk, Host, Inventory, Machine, Mode, User};

use super::peer::{Peer, build};
use crate::error::LabError;

/// What goes wrong with a file of `/folder`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Trouble {
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
pub struct Access {
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
    /// The ticket that was shown.
    pub ticket: String,
    /// Who was let in.
    pub user: String,
    /// What was answered.
    pub status: u16,
    /// How many bytes of the body were sent.
    pub bytes: u64,
}

/// A login that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attempt {
    /// At which host's `/folder`; empty for the SOAP interface.
    pub host: String,
    /// Who.
    pub user: String,
    /// Whether it was let in.
    pub ok: bool,
    /// Whether the user was locked out.
    pub locked: bool,
}

/// An account of a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// `accessNone`, `accessAdmin`, …
    pub mode: String,
    /// Its description.
    pub description: String,
    /// Whether it may use the shell.
    pub shell: bool,
}

/// What a host is at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HostState {
    /// Its local accounts.
    pub accounts: BTreeMap<String, Account>,
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
    /// The name that clients are told.
    pub shown_name: String,
    /// Its management address, as it stands in a URL.
    pub address: String,
    /// The SHA-256 of its certificate, in lower-case hex.
    pub sha256: String,
    /// The SHA-1 of its certificate, in upper-case hex with colons.
    pub sha1: String,
}

#[derive(Debug, Deserialize)]
struct Ready {
    url: String,
    sha256: String,
    sha1: String,
    hosts: Vec<Listener>,
}

/// A stand-in that runs.
#[derive(Debug)]
pub struct VCenter {
    peer: Peer,
    ready: Ready,
}

impl VCenter {
    /// Builds it if it has not been yet, and starts it.
    ///
    /// # Errors
    /// It can't be built, or refuses the inventory.
    pub fn start(inventory: &Inventory) -> Result<Self, LabError> {
        let peer = Peer::start("the stand-in for vSphere", Command::new(build("vcenter")?))?;
        let config = serde_json::to_value(inventory).map_err(|error| LabError::Wrong(error.to_string()))?;
        let ready = read(peer.ask(&config)?)?;
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

    fn tell(&self, command: &Value) -> Result<(), LabError> {
        self.peer.ask(command).map(|_| ())
    }

    fn ask<T: for<'a> Deserialize<'a>>(&self, command: &Value, key: &str) -> Result<T, LabError> {
        let mut answer = self.peer.ask(command)?;
        read(answer.get_mut(key).map(Value::take).unwrap_or_default())
    }

    /// Gives a machine a disk.
    ///
    /// # Errors
    /// There is no such machine or datastore.
    pub fn attach(&self, vm: &str, path: &str, mode: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "attach", "vm": vm, "path": path, "mode": mode }))
    }

    /// Takes a disk from a machine.
    ///
    /// # Errors
    /// It has none there.
    pub fn detach(&self, vm: &str, path: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "detach", "vm": vm, "path": path }))
    }

    /// Turns a machine on or off.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn power(&self, vm: &str, on: bool) -> Result<(), LabError> {
        self.tell(&json!({ "do": "power", "vm": vm, "on": on }))
    }

    /// Gives a datastore another name.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn rename_datastore(&self, from: &str, to: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "rename_datastore", "datastore": from, "name": to }))
    }

    /// Whether hosts reach a datastore.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn set_accessible(&self, datastore: &str, on: bool) -> Result<(), LabError> {
        self.tell(&json!({ "do": "accessible", "datastore": datastore, "on": on }))
    }

    /// A datastore's maintenance mode: `normal`, `enteringMaintenance`, `inMaintenance`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn set_maintenance(&self, datastore: &str, mode: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "maintenance", "datastore": datastore, "mode": mode }))
    }

    /// Ends all sessions, as after a restart.
    ///
    /// # Errors
    /// It does not answer.
    pub fn expire_sessions(&self) -> Result<(), LabError> {
        self.tell(&json!({ "do": "expire_sessions" }))
    }

    /// Makes all tickets worthless.
    ///
    /// # Errors
    /// It does not answer.
    pub fn expire_tickets(&self) -> Result<(), LabError> {
        self.tell(&json!({ "do": "expire_tickets" }))
    }

    /// Takes a privilege from a user.
    ///
    /// # Errors
    /// There is no such user.
    pub fn revoke(&self, user: &str, privilege: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "revoke", "user": user, "privilege": privilege }))
    }

    /// Gives a user a privilege back.
    ///
    /// # Errors
    /// There is no such user.
    pub fn restore(&self, user: &str, privilege: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "restore", "user": user, "privilege": privilege }))
    }

    /// Lets users in again who failed too often.
    ///
    /// # Errors
    /// It does not answer.
    pub fn unlock(&self) -> Result<(), LabError> {
        self.tell(&json!({ "do": "unlock" }))
    }

    /// Makes requests of a file go wrong.
    ///
    /// # Errors
    /// It does not answer.
    pub fn trouble(&self, trouble: &Trouble) -> Result<(), LabError> {
        self.tell(&json!({ "do": "trouble", "trouble": trouble }))
    }

    /// Ends all trouble.
    ///
    /// # Errors
    /// It does not answer.
    pub fn no_trouble(&self) -> Result<(), LabError> {
        self.tell(&json!({ "do": "no_trouble" }))
    }

    /// Sets a host's lockdown mode, and who is excepted.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_lockdown(&self, host: &str, mode: &str, exceptions: &[&str]) -> Result<(), LabError> {
        self.tell(&json!({ "do": "lockdown", "host": host, "mode": mode, "users": exceptions }))
    }

    /// Whether a host answers vCenter.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_connected(&self, host: &str, on: bool) -> Result<(), LabError> {
        self.tell(&json!({ "do": "connected", "host": host, "on": on }))
    }

    /// Whether a host is in maintenance mode.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_host_maintenance(&self, host: &str, on: bool) -> Result<(), LabError> {
        self.tell(&json!({ "do": "host_maintenance", "host": host, "on": on }))
    }

    /// Starts or stops a service of a host, as its administrator does.
    ///
    /// # Errors
    /// There is no such host or service.
    pub fn set_service(&self, host: &str, service: &str, on: bool) -> Result<(), LabError> {
        self.tell(&json!({ "do": "service", "host": host, "name": service, "on": on }))
    }

    /// Adds an account to a host, as another one does.
    ///
    /// # Errors
    /// There is no such host.
    pub fn add_account(&self, host: &str, name: &str) -> Result<(), LabError> {
        self.tell(&json!({ "do": "add_account", "host": host, "name": name }))
    }

    /// Takes the server away: its listener and every connection. With a host's name, that host's.
    ///
    /// # Errors
    /// There is no such host.
    pub fn down(&self, host: Option<&str>) -> Result<(), LabError> {
        self.tell(&json!({ "do": "down", "host": host.unwrap_or_default() }))
    }

    /// Brings it back at the same address.
    ///
    /// # Errors
    /// There is no such host, or somebody took its port.
    pub fn up(&self, host: Option<&str>) -> Result<(), LabError> {
        self.tell(&json!({ "do": "up", "host": host.unwrap_or_default() }))
    }

    /// How often each SOAP method was called.
    ///
    /// # Errors
    /// It does not answer.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>, LabError> {
        self.ask(&json!({ "do": "calls" }), "calls")
    }

    /// The requests of `/folder` so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn accesses(&self) -> Result<Vec<Access>, LabError> {
        self.list(&json!({ "do": "accesses" }), "accesses")
    }

    /// How many tickets were issued so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tickets_issued(&self) -> Result<u64, LabError> {
        self.ask(&json!({ "do": "accesses" }), "tickets_issued")
    }

    /// The logins that were tried so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn logins(&self) -> Result<Vec<Attempt>, LabError> {
        self.list(&json!({ "do": "logins" }), "logins")
    }

    /// The users of the sessions that are alive.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sessions(&self) -> Result<Vec<String>, LabError> {
        self.list(&json!({ "do": "sessions" }), "sessions")
    }

    /// What a host is at.
    ///
    /// # Errors
    /// There is no such host.
    pub fn state(&self, host: &str) -> Result<HostState, LabError> {
        read(self.peer.ask(&json!({ "do": "accounts", "host": host }))?)
    }

    /// Forgets which calls, requests and logins were made so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn forget(&self) -> Result<(), LabError> {
        self.tell(&json!({ "do": "forget" }))
    }

    /// Ends it by closing its stdin, and gives how it ended.
    ///
    /// # Errors
    /// The system's.
    pub fn end(mut self) -> Result<std::process::ExitStatus, LabError> {
        self.peer.end()
    }

    /// Go writes an empty list as nothing.
    fn list<T: for<'a> Deserialize<'a>>(&self, command: &Value, key: &str) -> Result<Vec<T>, LabError> {
        Ok(self.ask::<Option<Vec<T>>>(command, key)?.unwrap_or_default())
    }
}

fn read<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, LabError> {
    serde_json::from_value(value).map_err(|error| LabError::Wrong(format!("the stand-in's answer: {error}")))
}
