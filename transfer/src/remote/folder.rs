//! An endpoint's datastore, for discovery: folders in pages, and small files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, Folder, FolderError};

use super::client::EndpointClient;
use crate::error::TransferError;
use crate::wire::control::{ControlOp, Described, FileContent, ListResponse, SMALLEST_PAGE};

/// How long listing one folder may take, in all its pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);

/// An endpoint's datastore, for discovery.
pub struct EndpointFolder {
    client: Arc<EndpointClient>,
    datastore: String,
}

impl EndpointFolder {
    /// The datastore of this name.
    #[must_use]
    pub fn new(client: Arc<EndpointClient>, datastore: &str) -> Self {
        Self { client, datastore: datastore.to_owned() }
    }

    fn explain(&self, path: &str, error: TransferError) -> FolderError {
        let path = path.to_owned();
        match error {
            TransferError::Refused { code, message, .. } => match code.as_str() {
                "not_found" => FolderError::NotFound { path },
                "denied" => FolderError::Denied { path },
                "unreachable" => FolderError::Unreachable { datastore: self.datastore.clone(), why: message },
                "too_many" => FolderError::TooMany { path, most: MAX_FOLDER_ENTRIES },
                "refused" => FolderError::Refused { path, why: "the endpoint does not open it" },
                _ => FolderError::Io { path, source: std::io::Error::other(message) },
            },
            other => {
                let why = crate::describe(&other);
                FolderError::Unreachable { datastore: self.datastore.clone(), why }
            }
        }
    }
}

impl Folder for EndpointFolder {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        let mut entries: Vec<Entry> = Vec::new();
        let began = Instant::now();
        while began.elapsed() < LIST_TIMEOUT {
            let after = entries.last().map(|last| last.name.clone());
            let op = ControlOp::List { datastore: self.datastore.clone(), path: path.to_owned(), after: after.clone() };
            let page: ListResponse = self.client.ask(op).map_err(|error| self.explain(path, error))?;
            // A list that does not advance would never end.
            let forward = page.entries.iter().is_sorted_by(|one, two| one.name <= two.name)
                && page.entries.first().is_none_or(|first| after.as_ref().is_none_or(|after| first.name > *after));
            if !forward || (page.more && page.entries.len() < SMALLEST_PAGE) {
                let what = format!("the list of {path} does not advance");
                return Err(self.explain(path, TransferError::protocol(&self.client.address(), what)));
            }
            entries.extend(page.entries);
            if entries.len() > MAX_FOLDER_ENTRIES {
                return Err(FolderError::TooMany { path: path.to_owned(), most: MAX_FOLDER_ENTRIES });
            }
            if !page.more {
                return Ok(entries);
            }
        }
        let host = self.client.address();
        let timeout = TransferError::Stalled { host, doing: "listing a folder", after: LIST_TIMEOUT };
        Err(self.explain(path, timeout))
    }

    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError> {
        let op = ControlOp::Describe { datastore: self.datastore.clone(), path: path.to_owned() };
        let described: Described = self.client.ask(op).map_err(|error| self.explain(path, error))?;
        Ok(described.entry)
    }

    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        let limit = limit.min(MAX_SMALL_READ);
        let op = ControlOp::Read { datastore: self.datastore.clone(), path: path.to_owned(), limit };
        let content: FileContent = self.client.ask(op).map_err(|error| self.explain(path, error))?;
        match BASE64.decode(&content.base64) {
            Ok(bytes) if bytes.len() <= limit => Ok(bytes),
            _ => {
                let what = format!("the content of {path} is not what was requested");
                Err(self.explain(path, TransferError::protocol(&self.client.address(), what)))
            }
        }
    }
}
