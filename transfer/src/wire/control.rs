//! The requests and responses of the control subsystem, as JSON. Unknown keys are ignored on both sides, so that keys
//! can be added.

use serde::{Deserialize, Serialize};
use stackferry_volume::Entry;

use super::block::Failure;

/// The most entries in one response to `list`.
pub const LIST_PAGE: usize = 1000;
/// The fewest entries in a response to `list` that says that there are more: a server whose pages are shorter would keep
/// its client asking for ever.
pub const SMALLEST_PAGE: usize = 250;
/// The longest life of a grant, in seconds.
pub const MOST_GRANT_SECONDS: u64 = 3600;

/// A request; `id` is the client's, and comes back with the response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The client's number for it.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Who are you, and which datastores do you have?
    Hello {
        /// The newest protocol that the client speaks.
        protocol: u32,
        /// The client's program and version.
        program: String,
    },
    /// What does a folder hold? Entries in the order of their names, after the name `after`.
    List {
        /// The datastore's name.
        datastore: String,
        /// The folder, relative to the datastore.
        path: String,
        /// The last name of the page before.
        #[serde(default)]
        after: Option<String>,
    },
    /// What is at this path?
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
        /// What for.
        direction: Direction,
        /// How long it may be used to log in, in seconds, 1 to 3600.
        seconds: u64,
    },
    /// End a credential and the connection made with it.
    Revoke {
        /// The credential's user name.
        user: String,
    },
}

/// What a grant is for.
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
pub struct Response {
    /// The request's number.
    pub id: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The answer, of the request's own shape.
    Ok(serde_json::Value),
    /// Why there is none.
    Error(Failure),
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol that both speak from here on.
    pub protocol: u32,
    /// The server's program and version.
    pub program: String,
    /// What it can do beyond the protocol's first version.
    #[serde(default)]
    pub features: Vec<String>,
    /// The datastores that this client may ask for.
    pub datastores: Vec<DatastoreInfo>,
}

/// A datastore of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreInfo {
    /// Its name.
    pub name: String,
    /// Its type, as far as the endpoint can tell.
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
pub struct Listing {
    /// Up to [`LIST_PAGE`] entries, in the order of their names' bytes.
    pub entries: Vec<Entry>,
    /// Whether there are more after them.
    pub more: bool,
}

/// The answer to `describe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// What is there; none where there is nothing.
    pub entry: Option<Entry>,
}

/// The answer to `read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The bytes, as base64.
    pub base64: String,
}

/// The answer to `issue`. Its Debug form does not show the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The user to log in as: the credential's public name.
    pub user: String,
    /// The password: used once, at login.
    pub password: String,
    /// Seconds until it can no longer be used.
    pub seconds: u64,
    /// The path by which SFTP and SCP know the file.
    pub path: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("user", &self.user).field("path", &self.path).finish_non_exhaustive()
    }
}
