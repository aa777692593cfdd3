//! Where a volume's bytes are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One App Volumes / vCenter pair. A datastore's key is (site, name): sites never merge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteName(pub String);

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where one copy of a volume is: the datastore, and the descriptor's path on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The site that the datastore belongs to.
    pub site: SiteName,
    /// The datastore's name, as vSphere calls it.
    pub datastore: String,
    /// The descriptor's path relative to the datastore, folder included: `cloudvolumes/apps/Office.vmdk`.
    pub path: String,
}

impl Location {
    /// The folder that holds the volume's files, relative to the datastore; empty for the datastore's root.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The descriptor's file name.
    #[must_use]
    pub fn file(&self) -> &str {
        self.path.rsplit_once('/').map_or(self.path.as_str(), |(_, file)| file)
    }

    /// The path of a file beside the descriptor.
    #[must_use]
    pub fn sibling(&self, file: &str) -> String {
        match self.folder() {
            "" => file.to_owned(),
            folder => format!("{folder}/{file}"),
        }
    }
}

impl fmt::Display for Location {
    /// As vSphere writes it: `[nfs01] cloudvolumes/apps/Office.vmdk`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.datastore, self.path)
    }
}
