//! The vault, the limits, what is told and to whom, and the endpoint: settings of this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{AbsPath, Listen, Name, Period, Rate, ReserveSetting, Size, UnixName, Window};

/// `[vault]`: where versions live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// How versions are stored. Default `plain`.
    #[serde(default)]
    pub kind: VaultKind,
    /// The vault's folder.
    pub path: AbsPath,
    /// A group that may read committed versions (0640/0750). Default none (0600/0700).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<UnixName>,
    /// What is kept free on the vault's file system. Default 5 %.
    #[serde(default)]
    pub reserve: ReserveSetting,
    /// No version younger than this is deleted. Default none: versions may be deleted when retention says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<Period>,
    /// Read every block back past the cache before the commit. Default no.
    #[serde(default)]
    pub read_back: bool,
    /// Set the immutable flag on committed files; needs `CAP_LINUX_IMMUTABLE`. Default no.
    #[serde(default)]
    pub immutable: bool,
}

/// How a vault stores versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum VaultKind {
    /// A folder with the volume's own files for each version.
    #[default]
    Plain,
}

/// `[verify]`: how often versions are read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Each version is read back once in this time. Default 30 days. `0s`: never by itself.
    pub every: Period,
    /// Of each volume the newest good version is opened as a disk once in this time, where it lies: descriptor, partition
    /// table, NTFS. Default 30 days. `0s`: never by itself.
    pub restore_test: Period,
}

impl Default for Verify {
    fn default() -> Self {
        let month = Period::seconds_unchecked(30 * 86_400);
        Self { every: month, restore_test: month }
    }
}

/// `[history]`: how long it is kept what was done. What is known of volumes and versions is not meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Audit records, attempts to copy and credentials that ended are kept so long. Default 400 days. `0s`: as long as
    /// `size` lets.
    pub keep: Period,
    /// They take about so much of the catalog; the oldest ones make room. Default 640 MiB.
    pub size: Size,
}

impl Default for History {
    fn default() -> Self {
        Self { keep: Period::seconds_unchecked(400 * 86_400), size: Size::bytes_unchecked(640 << 20) }
    }
}

/// `[restore]`: where the API may restore to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Restore {
    /// The folders below which the API may restore. Default none: only the command line restores.
    pub roots: Vec<AbsPath>,
    /// The datastores onto which the API may restore, new names only. Default none.
    pub datastores: Vec<Name>,
}

/// `[metrics]`: what Prometheus is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Which volumes have series of their own. Default `all`.
    pub per_volume: PerVolume,
}

/// Which volumes have series of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PerVolume {
    /// Every volume.
    #[default]
    All,
    /// Only volumes that are not in order.
    Problems,
    /// None.
    Off,
}

/// `[limits]`: how much may be used at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Transfers at the same time, 1 to 64. Default 2.
    #[schemars(range(min = 1, max = 64))]
    pub transfers: u32,
    /// Transfers at the same time from one host, 1 to 64. Default 1.
    #[schemars(range(min = 1, max = 64))]
    pub per_host: u32,
    /// Transfers at the same time from one datastore, 1 to 64. Default none: only the other caps hold.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_datastore: Option<u32>,
    /// Bytes per second of all transfers together. Default none: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Rate>,
    /// Times of day at which another bandwidth holds; the first that fits. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timetable: Vec<BandwidthAt>,
    /// Memory of all transfers together: SSH windows, buffers, queues. Default 96 MiB, at least 16 MiB.
    pub memory: Size,
}

/// `[[limits.timetable]]`: the bandwidth at a time of day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BandwidthAt {
    /// The time of day, in local time.
    pub window: Window,
    /// Bytes per second of all transfers together. Left out: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Rate>,
}

impl Limits {
    /// The least memory that transfers can work in: a few blocks of 1 MiB in every stage of one pipeline.
    pub const MIN_MEMORY: Size = Size::bytes_unchecked(16 << 20);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transfers: 2,
            per_host: 1,
            per_datastore: None,
            bandwidth: None,
            timetable: Vec::new(),
            memory: Size::bytes_unchecked(96 << 20),
        }
    }
}

/// `[http]`: the service's own web address, for metrics, health, the API and the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where to listen. Default `127.0.0.1:9812`. Any other than loopback needs `tls`.
    pub listen: Listen,
    /// The certificate to show. Default none: plain HTTP on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9812).into(), tls: None }
    }
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file with the certificate and the chain above it.
    pub cert: AbsPath,
    /// A PEM file with the private key.
    pub key: AbsPath,
}

/// `[serve]`: the endpoint on a machine that mounts datastores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Where to listen. Default `0.0.0.0:2222`.
    #[serde(default = "default_serve_listen")]
    pub listen: Listen,
    /// The endpoint's own key, made on first start. Default `<state_dir>/host_key`; see [`crate::Config::host_key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_key: Option<AbsPath>,
    /// Keys that may ask for credentials, as lines of `authorized_keys`; options such as `from="10.0.0.0/8"` may stand in
    /// front. At least one.
    pub issuers: Vec<String>,
    /// The datastores that are served, each with the folder where it lies here. At least one.
    pub datastores: BTreeMap<Name, AbsPath>,
    /// Datastores that may be restored to. Default none.
    #[serde(default)]
    pub restore: Vec<Name>,
}

fn default_serve_listen() -> Listen {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 2222).into()
}
