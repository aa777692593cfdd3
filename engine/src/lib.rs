//! The operations on volumes: scan, decide, copy, verify, restore, prune; the queue of jobs, and what is counted.
//!
//! Command line, HTTP API, console and the running service are thin layers over these operations.

pub mod about;
pub mod adopt;
pub mod app;
pub mod attached_too_long;
pub mod audit;
pub mod blocking;
pub mod check;
pub mod checkup;
pub mod cleanups;
pub mod copy;
pub mod decide;
pub mod execute;
pub mod find;
pub mod finding;
pub mod follow;
pub mod freshness;
pub mod grant;
pub mod health;
pub mod housekeeping;
pub mod inventory;
pub mod jobs;
pub mod kinds;
pub mod metrics;
pub mod missing;
pub mod operations;
pub mod path_conflicts;
pub mod paths;
pub mod pins;
pub mod prune;
pub mod reconcile;
pub mod restore;
pub mod restore_guide;
pub mod retention;
pub mod round;
pub mod versions;
pub mod views;
pub mod windows;
pub mod worker;

mod attached;
mod content;
mod incident;
mod key_files;
mod probe;
mod renamed;
mod replicas;
