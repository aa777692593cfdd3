//! What App Volumes Managers know: volumes, where they lie, whether they are in use, and to whom they belong.
//!
//! A [`Manager`] is asked for a [`Report`] in every round. What comes is hostile input: it is read with patience, bounded in
//! size, and never trusted to be whole unless it says so. The only calls that change something are [`Manager::disable`] and
//! [`Manager::enable`].

mod assignments;
mod details;
mod error;
mod guard;
mod list;
mod look;
mod manager;
mod markup;
mod one;
mod paths;
mod places;
pub mod report;
mod session;
mod storage;
mod value;
mod version;
mod volumes;

pub use error::ManagerError;
pub use manager::{Limits, Manager};
pub use report::{
    Assignment, ManagedDatastore, ManagedPlace, ManagedVolume, Report, Status, StorageGroup, VolumeFamily, VolumeRef,
};
