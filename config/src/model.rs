//! The shape of the configuration: one type for each table. Only shapes, defaults and plain accessors; what several keys
//! say together is checked in `validate`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod datastore;
mod kind;
mod notify;
mod operation;
mod retention;
mod schedule;
mod system;

pub(crate) use datastore::list;
pub use datastore::{
    DatastoreConfig, DatastoreFolder, DatastoreKeys, EndpointRoute, EsxiAccess, EsxiRoute, HostTrust, LocalRoute,
    Misfit, Route, RouteKind, SshRoute,
};
pub use kind::KindKey;
pub use notify::{DigestWhen, Mail, MailTls, Notify, Webhook};
pub use operation::{
    BandwidthAt, History, Http, Limits, MetricsConfig, PerVolume, Restore, Serve, Tls, VaultConfig, VaultKind, Verify,
};
pub use retention::{Keep, KeepKeys, Retention};
pub use schedule::{Plan, PlanKeys, Schedule};
pub use system::{AppVolumes, VsphereConfig};

use crate::ConfigError;
use crate::secret::SecretRef;
use crate::value::{AbsPath, CatalogUrl, Name, Site};

/// The whole configuration. Get one by [`Config::load`] or [`Config::parse`]: only these check it and fill in what depends
/// on other keys. `Deserialize` alone gives the shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of the catalog (SQLite), journals and keys. Default `/var/lib/stackferry`.
    #[serde(default = "default_state_dir")]
    pub state_dir: AbsPath,
    /// A PostgreSQL database for the catalog instead of SQLite, where several workers share the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogUrl>,
    /// The password of the catalog's database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_password: Option<SecretRef>,
    /// Where versions live. Not needed on an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vault: Option<VaultConfig>,
    /// How each datastore's bytes are reached.
    #[serde(rename = "datastore", default, skip_serializing_if = "Vec::is_empty")]
    pub datastores: Vec<DatastoreConfig>,
    /// App Volumes Managers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_volumes: Vec<AppVolumes>,
    /// vCenter Servers or ESXi hosts.
    #[serde(rename = "vsphere", default, skip_serializing_if = "Vec::is_empty")]
    pub vspheres: Vec<VsphereConfig>,
    /// When volumes are looked for and copied.
    #[serde(default)]
    pub schedule: Schedule,
    /// How many versions are kept. Without any key: all.
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
    /// How often versions are read back.
    #[serde(default)]
    pub verify: Verify,
    /// How long it is kept what was done.
    #[serde(default)]
    pub history: History,
    /// Where the API may restore to.
    #[serde(default)]
    pub restore: Restore,
    /// What Prometheus is told.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Who is told when something is wrong. Default: nobody.
    #[serde(default, skip_serializing_if = "Notify::is_default")]
    pub notify: Notify,
    /// How much may be used at once.
    #[serde(default)]
    pub limits: Limits,
    /// The service's own web address.
    #[serde(default)]
    pub http: Http,
    /// The endpoint. Only on a machine that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serve: Option<Serve>,
}

fn default_state_dir() -> AbsPath {
    AbsPath::trusted("/var/lib/stackferry")
}

impl Config {
    /// The vault.
    ///
    /// # Errors
    /// When there is no `[vault]`: an endpoint needs none, every other command does.
    pub fn vault(&self) -> Result<&VaultConfig, ConfigError> {
        self.vault.as_ref().ok_or(ConfigError::NoSection {
            section: "vault",
            hint: "add [vault] with path = \"/srv/stackferry\", the folder where versions are to live",
        })
    }

    /// The endpoint's settings.
    ///
    /// # Errors
    /// When there is no `[serve]`.
    pub fn serve(&self) -> Result<&Serve, ConfigError> {
        self.serve.as_ref().ok_or(ConfigError::NoSection {
            section: "serve",
            hint: "add [serve] with issuers = [\"ssh-ed25519 AAAA…\"] and datastores = { nfs02 = \"/export/nfs02\" }",
        })
    }

    /// The file of the endpoint's own key: the one named in `[serve]`, else `host_key` in the state folder.
    ///
    /// # Errors
    /// When there is no `[serve]`.
    pub fn host_key(&self) -> Result<PathBuf, ConfigError> {
        let named = self.serve()?.host_key.as_ref();
        Ok(named.map_or_else(|| self.state_dir.join("host_key"), |path| path.to_path_buf()))
    }

    /// Puts what is bound to a running process back to what it was by `old`: where its state and its vault lie, where it listens.
    /// Gives the keys that were to change.
    pub fn keep_bound(&mut self, old: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        macro_rules! keep {
            ($($field:ident),+) => {
                $(if self.$field != old.$field {
                    self.$field.clone_from(&old.$field);
                    kept.push(stringify!($field));
                })+
            };
        }
        keep!(state_dir, catalog, catalog_password, vault, http, serve);
        kept
    }

    /// The datastore with this key.
    pub fn datastore(&self, site: &Site, name: &str) -> Option<&DatastoreConfig> {
        self.datastores.iter().find(|datastore| datastore.site == *site && datastore.name.as_str() == name)
    }

    /// The vSphere system of this name.
    pub fn vsphere(&self, name: &Name) -> Option<&VsphereConfig> {
        self.vspheres.iter().find(|vsphere| vsphere.name == *name)
    }
}
