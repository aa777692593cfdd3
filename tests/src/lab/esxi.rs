//! A stand-in for the SSH side of an ESXi host: a process of `tests/peers/esxi`, and what a test may do to it.
//!
//! What it imitates and what not is said at the head of its `main.go`. It has a loopback address of its own. Given to the
//! stand-in for vSphere, its hook makes accounts and the SSH service there those that are here.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::peer::{PeerProcess, build, can_build};
use super::vcenter;
use crate::error::{IoContext, LabError};
use crate::tools::find;

/// How the host is set up. What is left out is as on a hardened host: no SFTP, no scp, one channel per connection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Settings {
    /// Root's password.
    pub root_password: String,
    /// What is in `/vmfs/volumes`.
    pub stores: Vec<Store>,
    /// The SFTP subsystem is there, as it is by default.
    pub sftp: bool,
    /// The program scp is there.
    pub scp: bool,
    /// How vmkfstools behaves.
    pub vmkfstools: Vmkfstools,
    /// How many channels a connection may have at a time; 1 if it is 0. OpenSSH's default is 10.
    pub max_sessions: u32,
    /// Programs that its shell lacks.
    pub without: Vec<String>,
}

/// A datastore.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Store {
    /// Its name, a link in `/vmfs/volumes`.
    pub name: String,
    /// Its real name there.
    pub uuid: String,
    /// The folder with its content.
    pub dir: PathBuf,
}

/// How vmkfstools behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vmkfstools {
    /// It prints the map of a disk.
    #[default]
    Map,
    /// It is missing.
    Absent,
    /// It prints nonsense.
    Garbage,
    /// It omits data.
    Lies,
    /// It prints only a part of the map.
    Short,
    /// It fails as with a file that is locked.
    Locked,
}

/// The activity so far.
#[derive(Debug, Clone, Deserialize)]
pub struct EsxiActivity {
    /// The commands that sessions ran.
    pub commands: Vec<String>,
    /// The logins that were tried.
    pub logins: Vec<EsxiLogin>,
    /// The current accounts.
    pub accounts: Vec<String>,
    /// Whether the SSH service runs.
    pub listens: bool,
    /// The server's log.
    pub log: String,
}

/// A login that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EsxiLogin {
    /// Who.
    pub user: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Whether the account was locked.
    pub locked: bool,
}

#[derive(Debug, Deserialize)]
struct EsxiReady {
    address: String,
    port: u16,
    host_keys: Vec<String>,
    hook: PathBuf,
}

/// A running stand-in. Its SSH service is off at first.
#[derive(Debug)]
pub struct EsxiDouble {
    // In this order: the process ends before its folder goes.
    peer: PeerProcess,
    _folder: TempDir,
    ready: EsxiReady,
    settings: Settings,
}

/// Whether this machine has all it needs.
#[must_use]
pub fn can_run() -> bool {
    let libraries = ["libnss_wrapper.so", "libpam_wrapper.so"].iter().all(|name| has_library(name));
    let programs = ["sshd", "ssh-keygen", "busybox"].iter().all(|name| find(name).is_some());
    can_build() && libraries && programs && rustix::process::geteuid().is_root()
}

fn has_library(name: &str) -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders.chain([PathBuf::from("/usr/lib")]).any(|folder| folder.join(name).is_file())
}

impl EsxiDouble {
    /// Builds it if it has not been yet, and starts it.
    ///
    /// # Errors
    /// It can't be built, or lacks something.
    pub fn start(settings: Settings) -> Result<Self, LabError> {
        let folder = tempfile::Builder::new().prefix("stackferry-esxi-").tempdir();
        let folder = folder.at("make a folder in", &std::env::temp_dir())?;
        let peer = PeerProcess::start("the stand-in for an ESXi host", Command::new(build("esxi")?))?;
        let mut config = serde_json::to_value(&settings).map_err(|error| LabError::Wrong(error.to_string()))?;
        if let Some(config) = config.as_object_mut() {
            config.insert("dir".to_owned(), folder.path().to_string_lossy().into());
        }
        let ready = read(peer.request(&config)?)?;
        Ok(Self { peer, _folder: folder, ready, settings })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.ready.address
    }

    /// The port of SSH there.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ready.port
    }

    /// Its host keys: type and key.
    #[must_use]
    pub fn host_keys(&self) -> &[String] {
        &self.ready.host_keys
    }

    /// Its lines for `known_hosts`.
    #[must_use]
    pub fn known_hosts(&self) -> String {
        let line = |key: &String| format!("[{}]:{} {key}\n", self.ready.address, self.ready.port);
        self.ready.host_keys.iter().map(line).collect()
    }

    /// The Unix socket that receives changes of accounts and services.
    #[must_use]
    pub fn hook(&self) -> &Path {
        &self.ready.hook
    }

    /// This host for the inventory of the stand-in for vSphere.
    #[must_use]
    pub fn host(&self, name: &str) -> vcenter::InventoryHost {
        vcenter::InventoryHost {
            name: name.to_owned(),
            listen: format!("{}:443", self.ready.address),
            root_password: self.settings.root_password.clone(),
            hook: Some(self.ready.hook.clone()),
            ..vcenter::InventoryHost::default()
        }
    }

    /// Its datastores for the inventory of the stand-in for vSphere.
    #[must_use]
    pub fn datastores(&self) -> Vec<vcenter::InventoryDatastore> {
        let one = |store: &Store| vcenter::InventoryDatastore {
            name: store.name.clone(),
            uuid: store.uuid.clone(),
            dir: store.dir.clone(),
            ..vcenter::InventoryDatastore::default()
        };
        self.settings.stores.iter().map(one).collect()
    }

    /// Starts or stops the SSH service without vSphere knowing of it. Sessions stay open.
    ///
    /// # Errors
    /// The server does not start.
    pub fn set_service(&self, on: bool) -> Result<(), LabError> {
        self.send(&json!({ "do": "service", "on": on }))
    }

    /// Sets how vmkfstools behaves from now on.
    ///
    /// # Errors
    /// It does not answer.
    pub fn set_vmkfstools(&self, mode: Vmkfstools) -> Result<(), LabError> {
        self.send(&json!({ "do": "vmkfstools", "mode": mode }))
    }

    /// Ends every connection.
    ///
    /// # Errors
    /// The server does not start again.
    pub fn cut(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "cut" }))
    }

    /// The activity so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn activity(&self) -> Result<EsxiActivity, LabError> {
        read(self.peer.request(&json!({ "do": "told" }))?)
    }

    /// Clears the record of commands and logins.
    ///
    /// # Errors
    /// It does not answer.
    pub fn clear(&self) -> Result<(), LabError> {
        self.send(&json!({ "do": "forget" }))
    }

    fn send(&self, command: &Value) -> Result<(), LabError> {
        self.peer.request(command).map(|_| ())
    }
}

fn read<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, LabError> {
    serde_json::from_value(value).map_err(|error| LabError::Wrong(format!("the stand-in's answer: {error}")))
}
