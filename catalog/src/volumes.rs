//! Volumes as the last discovery round found them, and where they are.

mod inventory;
mod postponed;
mod read;
mod search;
mod upsert;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Fingerprint, Generation, Location, SiteName, VersionId, VolumeId, VolumeState};

use crate::convert::Row;
use crate::error::CatalogError;

pub(crate) use inventory::forget_generation;
#[cfg(test)]
pub(crate) use postponed::POSTPONED;
pub use postponed::PostponedVolume;
#[cfg(test)]
pub(crate) use search::{FOUND, STANDINGS};
pub use search::{
    FoundVolumes, FreshnessByKind, FreshnessLimit, Page, Standing, StandingCount, VolumeFilter, VolumeOrder,
};
pub(crate) use upsert::{ObservedBy, upsert};

/// Why a volume is not copied, or why an attempt or a job failed: a word for scripts and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReason {
    /// The word: a reason code (`attached`, `missing`, …) or an error's code.
    pub code: String,
    /// The sentence.
    pub text: String,
}

/// A datastore of a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatastoreKey {
    /// The site.
    pub site: SiteName,
    /// The datastore's name.
    pub datastore: String,
}

/// A datastore that could not be read in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreachableDatastore {
    /// Which.
    pub key: DatastoreKey,
    /// Why, for a person.
    pub why: String,
}

/// What one discovery round found.
#[derive(Debug, Clone)]
pub struct InventoryRound {
    /// When it ended.
    pub at: Timestamp,
    /// Every volume that was seen.
    pub volumes: Vec<ObservedVolume>,
    /// The datastores whose folders were all listed: what is not in `volumes` is not there.
    pub scanned: Vec<DatastoreKey>,
    /// The datastores that were asked and did not answer.
    pub unreachable: Vec<UnreachableDatastore>,
    /// Whether every source of the configuration was read in full: then a volume that was not seen at all is gone,
    /// even if it was never known to lie anywhere.
    pub complete: bool,
}

/// A volume as a round saw it.
#[derive(Debug, Clone)]
pub struct ObservedVolume {
    /// Its id.
    pub id: VolumeId,
    /// Its stem, verbatim.
    pub stem: String,
    /// Its name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<Owner>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Its generation. A new one clears the previous one's baselines and last success.
    pub generation: Generation,
    /// The lengths of its files together, in bytes.
    pub size_bytes: Option<u64>,
    /// How it stands.
    pub state: VolumeState,
    /// Whether it is attached to a machine, where that is known.
    pub attached: Option<bool>,
    /// Whether it can be copied at all.
    pub protectable: bool,
    /// Why it isn't copied.
    pub reason: Option<StatusReason>,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// Where it is.
    pub locations: Vec<ObservedLocation>,
}

/// A location as a round saw it.
#[derive(Debug, Clone)]
pub struct ObservedLocation {
    /// Where.
    pub location: Location,
    /// The datastore's type (`NFS`, `VMFS`, …), as far as it is known.
    pub datastore_type: Option<String>,
    /// Whether its bytes can be read from here.
    pub reachable: bool,
    /// What the files looked like, where they could be listed. Without one the row keeps what it had.
    pub fingerprint: Option<Fingerprint>,
    /// Whether an equal fingerprint later on proves that nothing changed; see [`stackferry_volume::FileClock::settles`].
    pub settled: bool,
}

/// What a round changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryChange {
    /// Volumes seen for the first time.
    pub new: Vec<VolumeId>,
    /// Volumes that are gone since this round.
    pub gone: Vec<VolumeId>,
    /// Volumes that were gone and are back.
    pub back: Vec<VolumeId>,
    /// Volumes that began a new generation.
    pub new_generation: Vec<VolumeId>,
}

/// Where a volume is, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationRow {
    /// Where.
    pub location: Location,
    /// The datastore's type, as far as it is known.
    pub datastore_type: Option<String>,
    /// Whether its bytes can be read from here.
    pub reachable: bool,
    /// What the files looked like when they were last seen.
    pub fingerprint: Option<Fingerprint>,
    /// Whether an equal fingerprint later on proves that nothing changed.
    pub settled: bool,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// Since when it is no longer there.
    pub gone_since: Option<Timestamp>,
}

impl StatusReason {
    /// The one in these columns of a row, if there is one.
    pub(crate) fn read(row: &Row<'_>, code: &'static str, text: &'static str) -> Result<Option<Self>, CatalogError> {
        let Some(code) = row.opt_text(code)? else { return Ok(None) };
        Ok(Some(Self { code, text: row.opt_text(text)?.unwrap_or_default() }))
    }
}

/// Everything that is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its id, which holds its kind.
    pub id: VolumeId,
    /// Its stem, verbatim.
    pub stem: String,
    /// Its name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<Owner>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Its generation.
    pub generation: Generation,
    /// The lengths of its files together, in bytes.
    pub size_bytes: Option<u64>,
    /// How it stands.
    pub state: VolumeState,
    /// Whether it is attached to a machine, where that is known.
    pub attached: Option<bool>,
    /// Whether it can be copied at all.
    pub protectable: bool,
    /// Why it isn't copied.
    pub reason: Option<StatusReason>,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// When it was first known.
    pub first_seen: Timestamp,
    /// When a round last saw it; none if it is known from the vault only.
    pub last_seen: Option<Timestamp>,
    /// Since when it is gone.
    pub gone_since: Option<Timestamp>,
    /// Since when its reason has had the code that it has now.
    pub deferred_since: Option<Timestamp>,
    /// Where it is.
    pub locations: Vec<LocationRow>,
    /// Where it was before.
    pub former_locations: Vec<LocationRow>,
    /// How many versions it has, of all generations, damaged ones too.
    pub versions: u64,
    /// How many versions of the current generation are not known to be damaged. None: it is not protected.
    pub good_versions: u64,
    /// How many of its versions are damaged, of all generations.
    pub damaged_versions: u64,
    /// Its newest version, of any generation.
    pub last_version: Option<VersionId>,
    /// What the disk of the newest version of its current generation holds; none where it was never inspected.
    pub content: Option<ContentState>,
    /// When the current generation was last found equal to a committed version: the end of the last attempt that
    /// copied it or found it unchanged, or the making of its newest good version, whichever is later.
    pub last_success: Option<Timestamp>,
    /// When the last attempt on the current generation began.
    pub last_attempt: Option<Timestamp>,
    /// Why the last failed attempt failed, if none succeeded since. A deferred one does not count as either.
    pub last_error: Option<StatusReason>,
}
