//! Versions of which only the catalog, or only the vault, knows.

use stackferry_catalog::CatalogError;
use stackferry_problem::Problem;
use stackferry_volume::{VersionId, VolumeId};

/// Why a row is marked as damaged whose version is not there.
pub(crate) const MISSING: &str = "the vault does not have this version";

/// A version's name as commands take it.
#[must_use]
pub fn named(volume: &VolumeId, version: &VersionId) -> String {
    format!("{volume}@{version}")
}

/// A version that only the vault knows is checked all the same; it gets its row when the catalog is next brought in line.
pub(crate) fn tolerate_missing_row(result: Result<(), CatalogError>) -> Result<(), Problem> {
    match result {
        Err(CatalogError::NoSuchVersion { .. }) => Ok(()),
        other => Ok(other?),
    }
}
