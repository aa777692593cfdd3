//! Speaks with vCenter Server and ESXi hosts: sessions, properties, browsing of datastores, local accounts, one-time tickets.
//!
//! Nothing here knows what an App Volumes disk is, writes to disk, or decides what is copied. Passwords and tickets never
//! reach an error, a log or a URL that is logged.
//!
//! The SOAP client is made by hand, since about twenty methods are needed of an API with thousands of types. Requests have
//! the elements in the order of the API's schema, and answers are read by the names of their elements: what a newer server
//! adds does no harm.

mod accounts;
mod browse;
mod client;
mod error;
mod inventory;
pub mod model;
pub mod privilege;
mod properties;
mod services;
mod session;
mod soap;
mod task;
pub mod ticket;
mod watch;
mod xml;

pub use client::Vsphere;
pub use error::VsphereError;
pub use model::{
    About, AttachedDisk, BrowseEntry, Datastore, FolderListing, Host, Lockdown, MachineDisks, Moid, Mount,
    ServiceState, UnreadMachine,
};
pub use ticket::{ServiceTicket, TicketMethod, Via, folder_path};
pub use watch::{Change, Watch};
