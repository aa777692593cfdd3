//! The keys of a `[[datastore]]` as they stand in the file, and which of them fit together.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    DatastoreConfig, DatastoreFolder, EndpointRoute, EsxiAccess, EsxiRoute, HostTrust, LocalRoute, Route, RouteKind,
    SshRoute,
};
use crate::value::{AbsPath, FolderPath, HINT, HostKey, HostPort, HostText, Name, Site, SourceAddress, UnixName};

/// The keys of a `[[datastore]]` as they stand in the file, of all routes together.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Datastore")]
pub struct DatastoreKeys {
    /// The name that vSphere gives it.
    name: Name,
    /// Its site. Default: the only one.
    #[serde(default, skip_serializing_if = "Site::is_unset")]
    site: Site,
    /// How its bytes are reached.
    route: RouteKind,
    /// `endpoint` and `ssh`: the server, with a port where it is not 2222 or 22.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostText>,
    /// `endpoint` and `ssh`: the server's public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key: Option<HostKey>,
    /// `endpoint` and `ssh`, instead of `host_key`, and `esxi`: a file in OpenSSH's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_hosts: Option<AbsPath>,
    /// `ssh`: the user there.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UnixName>,
    /// `local` and `ssh`: where it is mounted, here or on that host.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<AbsPath>,
    /// `endpoint`: the service's own private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<AbsPath>,
    /// `ssh`: the private key that signs one certificate per file.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_key: Option<AbsPath>,
    /// `ssh`: from where the certificates may be used, as the host sees it. `connection`: the address that the
    /// connection comes from; wrong where something in between translates addresses. `any`: from everywhere. Else
    /// addresses and networks, separated by commas. Default `connection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_address: Option<SourceAddress>,
    /// `esxi`: the `[[vsphere]]` entry that knows the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    vsphere: Option<Name>,
    /// `esxi`: how a file is opened. Default `ticket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<EsxiAccess>,
    /// `esxi`: the hosts' SSH port. Default 22.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    ssh_port: Option<u16>,
    /// The folders that are looked through, with four levels of subfolders. Default: the four of App Volumes 2.x and 4.x.
    /// Those that an App Volumes Manager of the site names are looked through besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    folders: Option<Vec<DatastoreFolder>>,
}

/// Keys of a `[[datastore]]` that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The key that is wrong or missing.
    pub key: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{HINT}{}", self.text, self.hint)
    }
}

impl DatastoreKeys {
    /// The route keys that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("host", self.host.is_some()),
            ("host_key", self.host_key.is_some()),
            ("known_hosts", self.known_hosts.is_some()),
            ("user", self.user.is_some()),
            ("path", self.path.is_some()),
            ("key", self.key.is_some()),
            ("ca_key", self.ca_key.is_some()),
            ("source_address", self.source_address.is_some()),
            ("vsphere", self.vsphere.is_some()),
            ("access", self.access.is_some()),
            ("ssh_port", self.ssh_port.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
    }

    fn trust(&mut self) -> Result<HostTrust, Misfit> {
        match (self.host_key.take(), self.known_hosts.take()) {
            (Some(key), None) => Ok(HostTrust::Key(key)),
            (None, Some(file)) => Ok(HostTrust::KnownHosts(file)),
            (Some(_), Some(_)) => Err(Misfit {
                key: "known_hosts",
                text: "`host_key` and `known_hosts` are both given".to_owned(),
                hint: "keep the one that is to decide".to_owned(),
            }),
            (None, None) => Err(Misfit {
                key: "host_key",
                text: format!("route `{}` needs `host_key` or `known_hosts`", self.route),
                hint: "an unknown host is never trusted: ask it with `ssh-keyscan`, and compare with what its \
                       administrator says"
                    .to_owned(),
            }),
        }
    }

    fn host(&mut self) -> Result<HostPort, Misfit> {
        let route = self.route;
        needed(route, "host", self.host.take()).map(|host| host.or_port(route.default_port()))
    }
}

fn needed<T>(route: RouteKind, key: &'static str, value: Option<T>) -> Result<T, Misfit> {
    value.ok_or_else(|| Misfit {
        key,
        text: format!("route `{route}` needs `{key}`"),
        hint: match key {
            "path" => "name the folder where the datastore is mounted, as path = \"/mnt/nfs01\"",
            "host" => "name the server, as host = \"stor2.example.com\"",
            "key" => "name the service's private key, as key = \"/etc/stackferry/service_key\"",
            "user" => "name the user on that host, as user = \"backup\"",
            "ca_key" => "name the key that signs certificates, as ca_key = \"/etc/stackferry/user_ca\"",
            "vsphere" => "name a [[vsphere]] entry, as vsphere = \"vc1\"",
            _ => "add it",
        }
        .to_owned(),
    })
}

impl TryFrom<DatastoreKeys> for DatastoreConfig {
    type Error = Misfit;

    fn try_from(mut keys: DatastoreKeys) -> Result<Self, Misfit> {
        let kind = keys.route;
        if let Some(key) = keys.given().find(|key| !kind.keys().contains(key)) {
            return Err(Misfit {
                key,
                text: format!("`{key}` does not belong to route `{kind}`"),
                hint: format!("this route takes {}", list(kind.keys())),
            });
        }
        let route = match kind {
            RouteKind::Local => Route::Local(LocalRoute { path: needed(kind, "path", keys.path.take())? }),
            RouteKind::Endpoint => Route::Endpoint(EndpointRoute {
                host: keys.host()?,
                trust: keys.trust()?,
                key: needed(kind, "key", keys.key.take())?,
            }),
            RouteKind::Ssh => Route::Ssh(SshRoute {
                host: keys.host()?,
                trust: keys.trust()?,
                user: needed(kind, "user", keys.user.take())?,
                path: needed(kind, "path", keys.path.take())?,
                ca_key: needed(kind, "ca_key", keys.ca_key.take())?,
                source_address: keys.source_address.take().unwrap_or_default(),
            }),
            RouteKind::Esxi => {
                let access = keys.access.unwrap_or_default();
                if access == EsxiAccess::Account && keys.known_hosts.is_none() {
                    return Err(Misfit {
                        key: "known_hosts",
                        text: "access by `account` needs `known_hosts`".to_owned(),
                        hint: "name the file that knows the ESXi hosts' SSH keys, or take access = \"ticket\""
                            .to_owned(),
                    });
                }
                Route::Esxi(EsxiRoute {
                    vsphere: needed(kind, "vsphere", keys.vsphere.take())?,
                    access,
                    known_hosts: keys.known_hosts.take(),
                    ssh_port: keys.ssh_port.unwrap_or(kind.default_port()),
                })
            }
        };
        let folders = match keys.folders {
            Some(folders) if folders.is_empty() => {
                return Err(Misfit {
                    key: "folders",
                    text: "`folders` is empty".to_owned(),
                    hint: "leave it out for the folders of App Volumes".to_owned(),
                });
            }
            Some(folders) => folders,
            None => DatastoreFolder::DEFAULTS
                .map(|path| DatastoreFolder { path: FolderPath::trusted(path), kind: None })
                .into(),
        };
        let twice = folders
            .iter()
            .enumerate()
            .find(|(at, folder)| folders.iter().take(*at).any(|other| other.path == folder.path));
        if let Some((_, folder)) = twice {
            return Err(Misfit {
                key: "folders",
                text: format!("folder `{}` is given twice", folder.path),
                hint: "keep one".to_owned(),
            });
        }
        Ok(Self { name: keys.name, site: keys.site, route, folders })
    }
}

/// Keys as a person reads them.
pub(crate) fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

impl From<DatastoreConfig> for DatastoreKeys {
    fn from(datastore: DatastoreConfig) -> Self {
        let mut keys = Self {
            name: datastore.name,
            site: datastore.site,
            route: datastore.route.kind(),
            host: None,
            host_key: None,
            known_hosts: None,
            user: None,
            path: None,
            key: None,
            ca_key: None,
            source_address: None,
            vsphere: None,
            access: None,
            ssh_port: None,
            folders: Some(datastore.folders),
        };
        let trust = match datastore.route {
            Route::Local(route) => {
                keys.path = Some(route.path);
                None
            }
            Route::Endpoint(route) => {
                keys.host = Some(route.host.into());
                keys.key = Some(route.key);
                Some(route.trust)
            }
            Route::Ssh(route) => {
                keys.host = Some(route.host.into());
                keys.user = Some(route.user);
                keys.path = Some(route.path);
                keys.ca_key = Some(route.ca_key);
                keys.source_address = Some(route.source_address);
                Some(route.trust)
            }
            Route::Esxi(route) => {
                keys.vsphere = Some(route.vsphere);
                keys.access = Some(route.access);
                keys.known_hosts = route.known_hosts;
                keys.ssh_port = Some(route.ssh_port);
                None
            }
        };
        match trust {
            Some(HostTrust::Key(key)) => keys.host_key = Some(key),
            Some(HostTrust::KnownHosts(file)) => keys.known_hosts = Some(file),
            None => {}
        }
        keys
    }
}

impl JsonSchema for DatastoreConfig {
    fn schema_name() -> Cow<'static, str> {
        DatastoreKeys::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DatastoreKeys::json_schema(generator)
    }
}
