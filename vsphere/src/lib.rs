//! The vSphere client, for vCenter Server and ESXi hosts: sessions, properties, browsing of datastores, local accounts,
//! one-time tickets.
//!
//! Nothing here knows what an App Volumes disk is, writes to disk, or decides what is copied. Passwords and tickets never
//! reach an error, a log or a URL that is logged.
//!
//! The SOAP client is written by hand, since Stackferry needs about twenty methods of an API with thousands of types.
//! Requests have their elements in the order of the API's schema. Responses are read by element name, so that elements
//! that a newer server adds are ignored.

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
    About, AttachedDisk, BrowseEntry, Datastore, FolderListing, Host, HostMount, Lockdown, MachineDisks, Moid,
    UnreadableMachine,
};
pub use ticket::{ServiceTicket, TicketMethod, Via, folder_path};
pub use watch::{Change, Watch};
