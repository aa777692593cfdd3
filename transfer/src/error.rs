//! What can go wrong in a transfer, and whether a retry may help.

mod download;

use std::io;
use std::time::Duration;

use stackferry_https::Retry;
use stackferry_volume::{BlockIndex, FolderError};
use stackferry_vsphere::VsphereError;

pub use download::DownloadFault;

/// Why a file was not copied. `file` is a path on the datastore or a file's name, `host` is `name:port`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Reading the source failed.
    #[error("reading {file} at byte {offset} failed")]
    Read {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Writing the copy failed.
    #[error("writing the copy of {file} failed")]
    Write {
        /// The file.
        file: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The folder of the source could not be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The source is not what it was when the copy began.
    #[error("{file} changed while it was copied: {what}")]
    SourceChanged {
        /// The file.
        file: String,
        /// What is different.
        what: String,
    },
    /// A block's bytes do not give the digest that was sent with them.
    #[error("block {block} of {file} from {host} does not match its digest")]
    BlockMismatch {
        /// The file.
        file: String,
        /// The block.
        block: BlockIndex,
        /// Who sent it.
        host: String,
    },
    /// A peer sent something that the protocol does not allow.
    #[error("{host} broke the protocol: {what}")]
    Protocol {
        /// Who.
        host: String,
        /// What it did.
        what: String,
    },
    /// A peer refused a request.
    #[error("{host} refused: {message}")]
    Refused {
        /// Who.
        host: String,
        /// Its error code, as documented in docs/protocol.md.
        code: String,
        /// Its message.
        message: String,
    },
    /// A host's key is in no list of known ones.
    #[error("the host key of {host} is not known{}: {key}", listed.as_ref().map(|listed| format!(" ({listed})")).unwrap_or_default())]
    HostKeyUnknown {
        /// Who.
        host: String,
        /// Its key, as a line for the list.
        key: String,
        /// Its key's fingerprint.
        fingerprint: String,
        /// What the list has of this host instead, if it has something.
        listed: Option<String>,
    },
    /// A host's key is another one than the list has.
    #[error("the host key of {host} changed: it shows {shown}, but {place} has {expected}")]
    HostKeyChanged {
        /// Who.
        host: String,
        /// The fingerprint that it shows.
        shown: String,
        /// The fingerprint that is known.
        expected: String,
        /// The file and line (`known_hosts:12`).
        place: String,
    },
    /// A list of known host keys says that a host's key must not be accepted.
    #[error("the host key of {host} is revoked: {place} has {fingerprint}")]
    HostKeyRevoked {
        /// Who.
        host: String,
        /// The key's fingerprint.
        fingerprint: String,
        /// The file and line (`known_hosts:12`).
        place: String,
    },
    /// A list of known host keys can't be used.
    #[error("{place}: {why}")]
    KnownHosts {
        /// The file and line.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// A key file of ours can't be used.
    #[error("the key {path} can't be used: {why}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A host refused the login.
    #[error("{host} refused the login of {user}")]
    LoginRefused {
        /// Who.
        host: String,
        /// As whom; a one-time user's public name.
        user: String,
        /// What to check.
        hint: String,
    },
    /// A host accepts the login, but lacks what reading a file there takes.
    #[error("{host} can't be read from: {what}")]
    Unfit {
        /// Who.
        host: String,
        /// What it lacks.
        what: String,
        /// What to do there.
        hint: String,
    },
    /// A host can't be reached, or the connection broke.
    #[error("{host} can't be reached")]
    Unreachable {
        /// Who.
        host: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A host that answered before stopped answering.
    #[error("{host} has been silent for {} seconds while {doing}", after.as_secs())]
    Stalled {
        /// Who.
        host: String,
        /// What was being waited for.
        doing: &'static str,
        /// For how long.
        after: Duration,
    },
    /// A vSphere call failed.
    #[error(transparent)]
    Vsphere(#[from] VsphereError),
    /// The answer is not the requested part of a datastore's file.
    #[error("downloading {file} from {host} failed: {fault}")]
    Download {
        /// Who.
        host: String,
        /// The file.
        file: String,
        /// What is wrong with the answer.
        fault: DownloadFault,
    },
    /// A file of that name exists. It was not touched.
    #[error("{file} exists at {host}; existing files are not overwritten")]
    Exists {
        /// Who has it.
        host: String,
        /// The file.
        file: String,
    },
    /// A datastore has too little free space for a file.
    #[error("{host} has too little free space for {file}: {message}")]
    NoRoom {
        /// Who.
        host: String,
        /// The file.
        file: String,
        /// Its message, or the numbers.
        message: String,
    },
    /// An endpoint does not allow restores to a datastore.
    #[error("{host} does not allow restores to {datastore}: {message}")]
    NotAllowed {
        /// Who.
        host: String,
        /// The datastore.
        datastore: String,
        /// Its message.
        message: String,
    },
    /// What the other side received is not what was sent.
    #[error("{host} received other data for {file} than was sent: {message}")]
    Arrived {
        /// Who.
        host: String,
        /// The file.
        file: String,
        /// What is different.
        message: String,
    },
    /// The version to restore does not match its manifest.
    #[error("{}{why}", damaged_place(file, *block))]
    VersionDamaged {
        /// The file.
        file: String,
        /// The block; none where the whole file is meant.
        block: Option<BlockIndex>,
        /// What is wrong with it.
        why: String,
    },
    /// The transfer was cancelled.
    #[error("the copy was interrupted")]
    Cancelled,
    /// A worker of the copy panicked: a defect of this program.
    #[error("a worker failed while copying {file}")]
    Worker {
        /// The file.
        file: String,
    },
}

fn damaged_place(file: &str, block: Option<BlockIndex>) -> String {
    match block {
        Some(block) => format!("{file}, block {block}: "),
        None => format!("{file}: "),
    }
}

impl TransferError {
    /// Whether a retry may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Read { .. }
            | Self::SourceChanged { .. }
            | Self::BlockMismatch { .. }
            | Self::Unreachable { .. }
            | Self::Stalled { .. }
            | Self::Arrived { .. }
            | Self::Cancelled
            | Self::Worker { .. } => Retry::Transient,
            Self::Vsphere(error) => error.retry(),
            Self::Download { fault, .. } => fault.retry(),
            Self::Refused { code, .. } if code == "busy" => Retry::Busy,
            // The peer's datastore or disk failed; the request itself is fine.
            Self::Refused { code, .. } if matches!(code.as_str(), "unreachable" | "io" | "internal") => {
                Retry::Transient
            }
            Self::Folder(FolderError::Unreachable { .. } | FolderError::Io { .. }) => Retry::Transient,
            _ => Retry::Permanent,
        }
    }

    /// Whether a disk of ours is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Write { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    pub(crate) fn protocol(host: &str, what: impl Into<String>) -> Self {
        Self::Protocol { host: host.to_owned(), what: what.into() }
    }
}
