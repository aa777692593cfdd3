//! Speaks with vCenter Server and ESXi hosts: sessions, properties, browsing of datastores, local accounts, one-time tickets.
//!
//! Also home of [`web`]: HTTPS to a system whose certificate is known by its authority or by its fingerprint. Nothing here
//! knows what an App Volumes disk is, keeps anything on disk, or decides what is copied. Passwords and tickets never
//! reach an error, a log or a URL that is logged.

pub mod model;
pub mod web;

pub use model::{
    About, AttachedDisk, BrowseEntry, Datastore, FolderListing, Host, Lockdown, Moid, Mount, ServiceState,
};
