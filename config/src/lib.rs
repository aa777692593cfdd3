//! Stackferry's settings: typed, validated, secrets by reference.
//!
//! [`Config::load`] reads the file, the environment and the flags, and gives either a configuration in which everything
//! that can be checked here has been checked, or an error with file, line and column and what to do. This crate never
//! opens a path of the configuration, asks another system, or holds a secret: [`SecretRef::resolve`] fetches one when it
//! is needed.

mod error;
mod load;
mod model;
mod schema;
mod secret;
mod show;
pub mod text;
mod validate;
mod value;

pub use error::{ConfigError, Invalid, Origin};
pub use load::{MAX_FILE, Overrides};
pub use model::{
    AppVolumes, BandwidthAt, Config, DatastoreConfig, DatastoreFolder, DatastoreKeys, DigestWhen, EndpointRoute,
    EsxiAccess, EsxiRoute, History, HostTrust, Http, Keep, KeepKeys, KindKey, Limits, LocalRoute, Mail, MailTls,
    MetricsConfig, Misfit, Notify, PerVolume, Plan, PlanKeys, Restore, Retention, Route, RouteKind, Schedule, Serve,
    SshRoute, Tls, VaultConfig, VaultKind, Verify, VsphereConfig, Webhook,
};
pub use schema::schema;
pub use secret::{MAX_SECRET, Secret, SecretError, SecretRef};
pub use value::{
    AbsPath, CatalogUrl, CertificateFingerprint, DayTime, FolderPath, HostKey, HostPort, Listen, MailAddress,
    MailServer, Name, Percent, Period, Rate, ReserveSetting, Site, Size, SourceAddress, UnixName, ValueError, WebUrl,
    Window,
};
