//! Transfers volumes: one-time credentials, routes, the wire format, the pipeline, the endpoint.
//!
//! A copy reads a file's blocks by one of the routes, checks each against its digest, and writes it to a
//! [`stackferry_volume::Sink`]. A restore ([`restore`]) goes the other way, and creates new files only. Nothing here knows where
//! versions are stored or when a volume is due.
//!
//! The modules, lowest first; each imports only from those before it:
//! - [`error`], `sanitize`, `wait`, [`throttle`], [`dial`], [`context`], `walk`
//! - [`wire`] (our own protocol) and `sftp` (SFTP's packets)
//! - [`known_hosts`], [`ssh`] (connections), [`timeouts`], `channel` (a command on a connection), [`credential`]
//! - `receive` and `writers` (the receiving end of every route), [`resume`], [`restore`]
//! - the routes [`local`], [`remote`], [`stock`] and, on top of `stock`, [`esxi`]
//! - [`endpoint`], the server that [`remote`] talks to
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
pub mod timeouts;
pub mod wire;

mod channel;
mod receive;
mod sanitize;
mod sftp;
mod wait;
mod walk;
mod writers;

#[cfg(test)]
mod protocol_tests;

pub use context::{CopyContext, FileCopy, FileOutcome, NoProgress, OnUse, Progress};
pub use error::{DownloadFault, TransferError};
pub use throttle::Throttle;
pub use timeouts::Timeouts;

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
