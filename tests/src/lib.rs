//! The lab: real peers, real disks, and the end-to-end tests.
//!
//! Everything here serves the tests and the demonstration: it builds what an App Volumes site has on its
//! datastores, and checks that what came back is the same. It must never write outside the folders it is given.

pub mod avm;
pub mod browser;
pub mod check;
pub mod demo;
pub mod disk;
pub mod error;
pub mod expect;
pub mod lab;
pub mod site;
pub mod tools;

pub use error::LabError;
