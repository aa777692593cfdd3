//! How the volumes of a site stand, in numbers.

use serde::{Deserialize, Serialize};

/// How the volumes stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeCounts {
    /// Those that are at their source, but for App Volumes' own backups.
    pub total: u64,
    /// Those that are late, without a good version, unprotectable, or changed unexpectedly.
    pub not_safe: u64,
    /// Those that were just found and wait for their first copy.
    pub new: u64,
    /// What may still be written to the vault, in bytes; none while that is not known.
    pub vault_free: Option<u64>,
    /// The size of the vault's file system, in bytes; none while that is not known.
    pub vault_size: Option<u64>,
}
