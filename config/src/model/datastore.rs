//! `[[datastore]]`: how a datastore's bytes are reached. Each route has keys of its own; one that belongs to another route
//! is an error, since it would be ignored.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod folder;
mod keys;

pub use folder::DatastoreFolder;
pub(crate) use keys::list;
pub use keys::{DatastoreKeys, Misfit};

use crate::value::{AbsPath, HostKey, HostPort, Name, Site, SourceAddress, UnixName};

/// One datastore. Its key is (site, name).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DatastoreKeys", into = "DatastoreKeys")]
pub struct DatastoreConfig {
    /// The name that vSphere gives it.
    pub name: Name,
    /// Its site.
    pub site: Site,
    /// How its bytes are reached.
    pub route: Route,
    /// The folders that are looked through, with four levels of subfolders. Those that an App Volumes Manager of the site
    /// names are looked through besides.
    pub folders: Vec<DatastoreFolder>,
}

/// How a datastore's bytes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// It is mounted on this machine.
    Local(LocalRoute),
    /// An endpoint (`stackferry serve`) on a machine that mounts it.
    Endpoint(EndpointRoute),
    /// A stock SSH server on a machine that mounts it.
    Ssh(SshRoute),
    /// The ESXi hosts that mount it.
    Esxi(EsxiRoute),
}

impl Route {
    /// The word for it.
    pub const fn kind(&self) -> RouteKind {
        match self {
            Self::Local(_) => RouteKind::Local,
            Self::Endpoint(_) => RouteKind::Endpoint,
            Self::Ssh(_) => RouteKind::Ssh,
            Self::Esxi(_) => RouteKind::Esxi,
        }
    }
}

/// The word for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RouteKind {
    /// It is mounted on this machine.
    Local,
    /// An endpoint (`stackferry serve`) on a machine that mounts it.
    Endpoint,
    /// A stock SSH server on a machine that mounts it.
    Ssh,
    /// The ESXi hosts that mount it.
    Esxi,
}

impl RouteKind {
    /// The word in the configuration, in JSON and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Endpoint => "endpoint",
            Self::Ssh => "ssh",
            Self::Esxi => "esxi",
        }
    }

    /// The port of the route's server where none is given.
    const fn default_port(self) -> u16 {
        match self {
            Self::Endpoint => 2222,
            Self::Local | Self::Ssh | Self::Esxi => 22,
        }
    }

    /// The keys that this route knows besides `name`, `site`, `route` and `folders`.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Local => &["path"],
            Self::Endpoint => &["host", "host_key", "known_hosts", "key"],
            Self::Ssh => &["host", "host_key", "known_hosts", "user", "path", "ca_key", "source_address"],
            Self::Esxi => &["vsphere", "access", "known_hosts", "ssh_port"],
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Route `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRoute {
    /// Where the datastore is mounted on this machine.
    pub path: AbsPath,
}

/// Route `endpoint`. The endpoint itself knows where the datastore lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRoute {
    /// The endpoint; port 2222 by default.
    pub host: HostPort,
    /// How the endpoint is known.
    pub trust: HostTrust,
    /// The file of the service's own private key. It may ask for credentials; it moves no file.
    pub key: AbsPath,
}

/// Route `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshRoute {
    /// The SSH server; port 22 by default.
    pub host: HostPort,
    /// How the server is known.
    pub trust: HostTrust,
    /// The user there.
    pub user: UnixName,
    /// Where the datastore is mounted on that host.
    pub path: AbsPath,
    /// The file of the private key that signs one certificate per file.
    pub ca_key: AbsPath,
    /// From where the certificates may be used. Default: from the address that the connection comes from.
    pub source_address: SourceAddress,
}

/// Route `esxi`. Which hosts mount the datastore comes from vSphere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EsxiRoute {
    /// The name of the `[[vsphere]]` entry that knows the hosts.
    pub vsphere: Name,
    /// How a file is opened.
    pub access: EsxiAccess,
    /// The file in OpenSSH's format that knows the hosts' keys. Always there for access by account.
    pub known_hosts: Option<AbsPath>,
    /// The hosts' SSH port. Default 22.
    pub ssh_port: u16,
}

/// How a file is opened on an ESXi host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum EsxiAccess {
    /// A ticket for each HTTPS request. SSH stays off.
    #[default]
    Ticket,
    /// A short-lived local account and SSH.
    Account,
}

/// How a host proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostTrust {
    /// It has this key.
    Key(HostKey),
    /// This file in OpenSSH's format knows its key.
    KnownHosts(AbsPath),
}
