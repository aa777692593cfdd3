//! The route `esxi`: files of a datastore that vSphere knows, read from a host that mounts it.
//!
//! There are two kinds of access. By **ticket**: each HTTPS request of `/folder` on a host has a ticket of its own, which
//! vSphere issues for that one request and accepts once. By **account**: a local account is created on the host for one
//! connection to its SSH server, and removed after it; such an account is an administrator, since others may not log in.
//!
//! Folders are listed through vSphere's own browser. It opens no disk, and uses the client's session.
//!
//! What a copy changes at a host (an account, the SSH service) is recorded with [`CleanupLedger::record`] before, and cleared
//! with [`CleanupLedger::resolve`] after it was undone. So after a crash [`clean_up`] finds all of it. This module never
//! writes to a datastore, never touches an account that this installation did not create, and never retries a refused
//! password.

mod account;
mod cleanup;
mod dd;
mod download;
mod folder;
mod host_session;
mod location;
mod mapping;
mod password;
mod ticket;
mod workers;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use stackferry_https::{HttpsClient, Trust};
use stackferry_volume::io::Cancel;
use stackferry_vsphere::{Moid, ServiceTicket, Vsphere};
use tokio::runtime::Handle;

use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use location::DatastoreLocation;

pub use cleanup::{clean_up, foreign_accounts};
pub use folder::EsxiFolder;

/// How many hosts' HTTPS clients are kept; each keeps some connections for a few seconds.
const MAX_CLIENTS: usize = 32;

/// A datastore, and how it is read.
#[derive(Debug, Clone)]
pub struct EsxiDatastore {
    /// The vCenter Server or host that knows it.
    pub vsphere: Vsphere,
    /// That system's name in the configuration.
    pub system: String,
    /// The datastore's name.
    pub name: String,
    /// How its hosts are accessed.
    pub access: HostAccess,
    /// This installation's id: 6 hexadecimal digits, which are part of every credential's public name.
    pub install: String,
}

/// How hosts are accessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAccess {
    /// One ticket for each HTTPS request. SSH stays off.
    Ticket,
    /// One local account for each SSH connection.
    Account {
        /// Where the hosts' keys are looked up: by their names in vSphere, then by their addresses.
        known_hosts: PathBuf,
        /// The port of their SSH servers.
        ssh_port: u16,
    },
}

/// An issued credential, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EsxiCredential {
    /// Its public name: `sf-`, the installation, `-` and 8 hexadecimal digits. An account has this name on its host; a
    /// ticket is only ever shown by it.
    pub name: String,
    /// The host that it is for.
    pub host: String,
    /// When it has expired at the latest: the host sets a ticket's validity, which is shorter.
    pub expires: Timestamp,
    /// Whether it stays until it is removed, whatever `expires` says.
    pub standing: bool,
}

/// A change at a host that has to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostCleanup {
    /// A local account has to be removed.
    Account {
        /// The vSphere system's name in the configuration.
        system: String,
        /// The host's id in vSphere.
        host_id: String,
        /// The host's name.
        host_name: String,
        /// The account's name.
        name: String,
    },
    /// The SSH service, which was stopped, has to be stopped again.
    SshService {
        /// The vSphere system's name in the configuration.
        system: String,
        /// The host's id in vSphere.
        host_id: String,
        /// The host's name.
        host_name: String,
    },
}

/// Records pending cleanups. Called on the thread that copies, outside of the runtime.
pub trait CleanupLedger: Send + Sync {
    /// Records a cleanup durably, and returns its number.
    ///
    /// # Errors
    /// It could not be recorded: then nothing is changed at the host.
    fn record(&self, cleanup: &HostCleanup) -> Result<u64, TransferError>;

    /// Clears a cleanup that is done. The implementation logs a failure; repeating a cleanup does no harm.
    fn resolve(&self, number: u64);
}

/// A datastore of ESXi hosts. Its methods block, and must not be called on a thread that runs async tasks.
pub struct EsxiClient {
    inner: Arc<EsxiInner>,
}

struct EsxiInner {
    datastore: EsxiDatastore,
    cleanups: Arc<dyn CleanupLedger>,
    runtime: Handle,
    /// Cancelled when the program ends: then nothing waits for a system any more.
    ending: Cancel,
    location: DatastoreLocation,
    /// The host that served the last file.
    good: Mutex<Option<Moid>>,
    /// Hosts whose SSH server has no SFTP.
    no_sftp: Mutex<HashSet<Moid>>,
    /// Clients of hosts, by their address and certificates.
    clients: Mutex<HashMap<(String, Vec<String>), HttpsClient>>,
}

impl EsxiClient {
    /// A client of this datastore. Nothing is connected yet. Once `ending` is cancelled nothing waits for vSphere any more.
    #[must_use]
    pub fn new(datastore: EsxiDatastore, cleanups: Arc<dyn CleanupLedger>, runtime: Handle, ending: Cancel) -> Self {
        let location = DatastoreLocation::new(datastore.vsphere.clone(), datastore.name.clone());
        let (good, no_sftp, clients) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(EsxiInner { datastore, cleanups, runtime, ending, location, good, no_sftp, clients }) }
    }

    /// The datastore, and how it is read.
    #[must_use]
    pub fn datastore(&self) -> &EsxiDatastore {
        &self.inner.datastore
    }

    /// The datastore, for discovery. Its times are in whole seconds; it reports neither a file's allocated size nor its
    /// inode.
    #[must_use]
    pub fn folder(&self) -> EsxiFolder {
        EsxiFolder::new(Arc::clone(&self.inner))
    }

    /// The hosts that a copy would use now, in that order, by name.
    ///
    /// # Errors
    /// `Vsphere`; `Folder` where vSphere knows no such datastore.
    pub fn hosts(&self) -> Result<Vec<String>, TransferError> {
        let inner = &*self.inner;
        let found = inner.runtime.block_on(inner.location.hosts())?;
        Ok(found.1.into_iter().map(|host| host.name).collect())
    }

    /// Copies one file; see [`FileCopy`]. `issued` gets each credential before it is used, so that it can be recorded.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn copy(
        &self,
        file: FileCopy<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&EsxiCredential),
    ) -> Result<FileOutcome, TransferError> {
        match &self.inner.datastore.access {
            HostAccess::Ticket => ticket::copy(&self.inner, file, context, issued),
            HostAccess::Account { known_hosts, ssh_port } => {
                account::copy(&self.inner, known_hosts, *ssh_port, file, context, issued)
            }
        }
    }
}

impl EsxiInner {
    /// A new public name.
    fn public_name(&self) -> String {
        let mut number = [0u8; 4];
        rand::fill(&mut number);
        format!("sf-{}-{:08x}", self.datastore.install, u32::from_be_bytes(number))
    }

    /// The client for `https://authority`, whose certificate is one of those that the ticket names.
    fn web(&self, label: &str, authority: &str, ticket: &ServiceTicket) -> Result<HttpsClient, TransferError> {
        let known = ticket.thumbprints.iter().map(ToString::to_string).collect();
        let key = (authority.to_owned(), known);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        // Where vSphere names no certificate, the host's must be signed by one of the machine's authorities.
        let trust = ticket.trust().unwrap_or(Trust::System);
        let client = HttpsClient::new(label, &format!("https://{authority}"), trust)
            .map_err(|error| TransferError::Vsphere(error.into()))?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn last_good(&self) -> Option<Moid> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_good(&self, host: Option<&Moid>) {
        *self.good.lock().unwrap_or_else(PoisonError::into_inner) = host.cloned();
    }

    fn lacks_sftp(&self, host: &Moid) -> bool {
        self.no_sftp.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    fn remember_no_sftp(&self, host: &Moid) {
        self.no_sftp.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone());
    }
}
