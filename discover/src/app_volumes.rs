//! What App Volumes Managers know: volumes, where they lie, whether they are in use, and to whom they belong.

pub mod report;

pub use report::{
    Assignment, ManagedDatastore, ManagedPlace, ManagedVolume, Report, Status, StorageGroup, VolumeFamily, VolumeRef,
};
