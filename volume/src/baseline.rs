//! What a location's content is known to equal.

use crate::{Fingerprint, Location, VersionId};

/// A location's content equals a version as long as its fingerprint is this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The location.
    pub location: Location,
    /// What its files looked like when they were read.
    pub fingerprint: Fingerprint,
    /// The version that their content equals.
    pub version: VersionId,
    /// Whether an equal fingerprint proves an equal content; see [`crate::FileClock::settles`].
    pub settled: bool,
}
