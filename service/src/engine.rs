//! What the program does with volumes: look, decide, copy, check, put back. Commands, rounds and later the API are
//! built of these.

pub mod check;
pub mod checkup;
mod content;
pub mod copy;
pub mod debts;
pub mod decide;
pub mod find;
pub mod finding;
pub mod fresh;
pub mod held;
pub mod inventory;
pub mod pins;
pub(crate) mod places;
pub mod prune;
pub mod reconcile;
pub mod restore;
pub mod retention;
pub mod round;
pub mod steps;
pub mod versions;
pub mod windows;

mod attached;
mod incident;
mod renamed;
mod replicas;
