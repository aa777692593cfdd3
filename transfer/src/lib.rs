//! Moves volumes: one-time credentials, routes, the wire, the pipeline, the endpoint.
//!
//! A copy reads a file's blocks by one of the routes, checks each against its digest, and writes it to a
//! [`stackferry_volume::Sink`]. A restore ([`restore`]) goes the other way, and makes new files only. Nothing here knows where versions live or when a volume is due.
//!
//! Only the module [`ssh`] and what lies below [`endpoint`] may use russh, whose API moves from release to release.

pub mod context;
pub mod credential;
pub mod dial;
pub mod endpoint;
pub mod error;
pub mod esxi;
pub mod known_hosts;
pub mod local;
pub mod remote;
pub mod restore;
pub mod resume;
pub mod ssh;
pub mod stock;
pub mod throttle;
pub mod wire;

mod line;
mod receive;
mod wait;
mod walk;
mod words;
mod writers;

pub use context::{CopyContext, FileCopy, FileOutcome, OnUse, Progress, Silent};
pub use error::TransferError;
pub use throttle::Throttle;

/// An error with its causes, in one line: `a: b: c`.
#[must_use]
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
