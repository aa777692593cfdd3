//! What App Volumes Managers know: volumes, where they lie, whether they are in use, and to whom they belong.
//!
//! A [`Manager`] is asked for a [`Report`] in every round. What comes is hostile input: it is read with patience, bounded in
//! size, and never trusted to be whole unless it says so. The only calls that change something are [`Manager::disable`] and
//! [`Manager::enable`].

mod api;
mod assignments;
mod build;
mod detail;
mod detail_cache;
mod error;
mod guard;
mod list;
mod location;
mod manager;
mod markup;
pub mod report;
mod requests;
mod session;
mod storage;
mod value;
mod version;
mod volumes;

pub use error::ManagerError;
pub use manager::{Manager, RequestTimeouts};
pub use report::{
    ManagedCopy, ManagedDatastore, ManagedLocation, ManagedVolume, Report, Status, StorageGroup, VolumeAssignment,
    VolumeFamily, VolumeRef,
};
