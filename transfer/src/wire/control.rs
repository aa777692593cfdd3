//! The requests and responses of the control subsystem, as JSON. Both sides ignore unknown keys, so that keys can be added.

use serde::{Deserialize, Serialize};
use stackferry_volume::Entry;

use super::block::ErrorPayload;

/// The most entries in one response to `list`.
pub const LIST_PAGE: usize = 1000;
/// The fewest entries in a response to `list` with `more`: shorter pages could keep a client requesting forever.
pub const SMALLEST_PAGE: usize = 250;
/// The longest validity of a grant, in seconds.
pub const MAX_GRANT_SECONDS: u64 = 3600;

/// A request; the response repeats its `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// The client's id for it.
    pub id: u64,
    /// The operation.
    #[serde(flatten)]
    pub op: ControlOp,
}

/// The operations of the control subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ControlOp {
    /// The server's version and datastores.
    Hello {
        /// The newest protocol version that the client supports.
        protocol: u32,
        /// The client's program and version.
        program: String,
    },
    /// A folder's entries in the order of their names, after the name `after`.
    List {
        /// The datastore's name.
        datastore: String,
        /// The folder, relative to the datastore.
        path: String,
        /// The last name of the previous page.
        #[serde(default)]
        after: Option<String>,
    },
    /// The entry at a path.
    Describe {
        /// The datastore's name.
        datastore: String,
        /// The path, relative to the datastore.
        path: String,
    },
    /// The first bytes of a small file.
    Read {
        /// The datastore's name.
        datastore: String,
        /// The path, relative to the datastore.
        path: String,
        /// How many bytes at most, up to 64 KiB.
        limit: usize,
    },
    /// A credential for one file.
    Issue {
        /// The datastore's name.
        datastore: String,
        /// The file, relative to the datastore.
        path: String,
        /// Reading or writing.
        direction: Direction,
        /// How long it may be used to log in, in seconds, 1 to 3600.
        seconds: u64,
    },
    /// Revokes a credential and ends its connection.
    Revoke {
        /// The credential's user name.
        user: String,
    },
}

/// Whether a grant reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Reading one file.
    Read,
    /// Writing one new file.
    Write,
}

/// A response: `ok` or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlResponse {
    /// The request's id.
    pub id: u64,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: ControlOutcome,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlOutcome {
    /// The result, of the operation's type.
    Ok(serde_json::Value),
    /// The error.
    Error(ErrorPayload),
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version used from here on.
    pub protocol: u32,
    /// The server's program and version.
    pub program: String,
    /// Its features beyond the protocol's first version.
    #[serde(default)]
    pub features: Vec<String>,
    /// The datastores that this client may use.
    pub datastores: Vec<DatastoreInfo>,
}

/// A datastore of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreInfo {
    /// Its name.
    pub name: String,
    /// Its type, as far as the endpoint knows.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether its folder can be opened now.
    pub reachable: bool,
    /// Whether new files may be written there.
    #[serde(default)]
    pub restore: bool,
}

/// The answer to `list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListResponse {
    /// Up to [`LIST_PAGE`] entries, in the order of their names' bytes.
    pub entries: Vec<Entry>,
    /// Whether there are more after them.
    pub more: bool,
}

/// The answer to `describe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The entry; none where the path does not exist.
    pub entry: Option<Entry>,
}

/// The answer to `read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// The bytes, as base64.
    pub base64: String,
}

/// The answer to `issue`. Its Debug form does not show the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueResponse {
    /// The user to log in as: the credential's public name.
    pub user: String,
    /// The password: used once, at login.
    pub password: String,
    /// Seconds until it expires.
    pub seconds: u64,
    /// The file's path in SFTP and SCP.
    pub path: String,
}

impl std::fmt::Debug for IssueResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssueResponse").field("user", &self.user).field("path", &self.path).finish_non_exhaustive()
    }
}
