//! All volumes at a glance: what a monitoring system asks every minute, in as few and as small queries as that takes. It
//! leaves out what costs much to read and says nothing there: fingerprints, texts, places that are no more.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite};
use stackferry_volume::{SiteName, VolumeId};

use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::volumes::DatastoreKey;
use stackferry_volume::VolumeState;

/// How many volumes one statement names. `SQLite` takes 32,766 values.
const AT_ONCE: usize = 1000;

/// Every volume with what is counted of its versions.
pub(crate) const VOLUMES: &str = "SELECT v.id, v.name, v.state, v.reason_code, v.protectable, v.size_bytes, v.first_seen, v.deferred_since, \
       v.confirmed, v.last_success, v.last_attempt, v.last_error_code, \
       COALESCE(SUM(n.versions), 0) AS versions, \
       COALESCE(SUM(CASE WHEN n.generation = v.generation THEN n.good END), 0) AS good_versions, \
       COALESCE(SUM(n.damaged), 0) AS damaged_versions, COALESCE(SUM(n.incidents), 0) AS incidents, \
       COALESCE(SUM(n.bytes), 0) AS logical_bytes, COALESCE(SUM(n.stored), 0) AS stored_bytes, \
       MAX(CASE WHEN n.generation = v.generation THEN n.newest_good END) AS newest_good, \
       MAX(n.last_verified) AS last_verified, MIN(n.oldest_proof) AS oldest_proof, \
       MAX(n.last_restore_test) AS last_restore_test, COALESCE(SUM(n.unusable), 0) AS unusable_versions \
     FROM volumes v LEFT JOIN tallies n ON n.volume = v.id GROUP BY v.id ORDER BY v.id";

/// One volume, and its versions counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetVolume {
    /// Its id, which holds its kind.
    pub id: VolumeId,
    /// Its name as a person reads it.
    pub name: String,
    /// How it stands.
    pub state: VolumeState,
    /// The code of why it isn't copied.
    pub reason: Option<String>,
    /// Whether it can be copied at all.
    pub protectable: bool,
    /// The lengths of its files together, in bytes.
    pub size_bytes: Option<u64>,
    /// When it was first known.
    pub first_seen: Timestamp,
    /// Since when its reason has had the code that it has now.
    pub deferred_since: Option<Timestamp>,
    /// When a round last found its source unchanged, by what its files look like.
    pub confirmed: Option<Timestamp>,
    /// When it was last found equal to a committed version by its content, or the making of its newest good version.
    pub last_success: Option<Timestamp>,
    /// When the last attempt on the current generation began.
    pub last_attempt: Option<Timestamp>,
    /// Whether the last attempt that did not end as deferred failed.
    pub has_failed: bool,
    /// A datastore where it is, one that can be reached if there is one.
    pub datastore: Option<String>,
    /// How many versions it has, of all generations, damaged ones too.
    pub versions: u64,
    /// How many versions of the current generation are not known to be damaged.
    pub good_versions: u64,
    /// How many versions are known to be damaged, of all generations.
    pub damaged_versions: u64,
    /// How many versions hold an unexpected change, of all generations.
    pub incidents: u64,
    /// The lengths of all its versions' files together, in bytes.
    pub logical_bytes: u64,
    /// What was written for all its versions, in bytes.
    pub stored_bytes: u64,
    /// When a version that is good was last read back and found whole.
    pub last_verified: Option<Timestamp>,
    /// Of its good versions of all generations, the one that was proved whole longest ago: when that was. A version is
    /// proved whole when it is made, and whenever it is read back.
    pub oldest_proof: Option<Timestamp>,
    /// When a version was last opened as a disk and could be used.
    pub last_restore_test: Option<Timestamp>,
    /// How many versions could not be used as a disk when they were last opened, and are not known to be damaged.
    pub unusable_versions: u64,
}

/// All volumes at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Every volume that was ever known, by id.
    pub volumes: Vec<FleetVolume>,
    /// When something was last seen on each datastore.
    pub seen: BTreeMap<DatastoreKey, Timestamp>,
}

impl Catalog {
    /// All volumes at one moment.
    ///
    /// # Errors
    /// `Row` if a row can't be understood, or `Database`.
    pub async fn fleet(&self) -> Result<Fleet, CatalogError> {
        let mut tx = self.read("counting the volumes", "the catalog").await?;
        let rows = tx.all(sqlx::query(VOLUMES), fleet_volume).await?;
        let query = sqlx::query(
            "SELECT volume, site, datastore, CASE WHEN fingerprint IS NULL THEN NULL ELSE seen_at END AS seen \
             FROM locations WHERE gone_since IS NULL ORDER BY reachable DESC, site, datastore, path",
        );
        let location = |row: &Row<'_>| {
            let key = DatastoreKey { site: SiteName(row.text("site")?), datastore: row.text("datastore")? };
            Ok((row.parsed("volume")?, key, row.opt_time("seen")?))
        };
        let locations: Vec<(VolumeId, DatastoreKey, Option<Timestamp>)> = tx.all(query, location).await?;
        drop(tx);
        let mut fleet = Fleet { volumes: rows, ..Fleet::default() };
        let mut datastores: HashMap<VolumeId, String> = HashMap::new();
        for (volume, key, seen) in locations {
            datastores.entry(volume).or_insert_with(|| key.datastore.clone());
            // What App Volumes only names was not seen.
            if let Some(seen) = seen {
                let last = fleet.seen.entry(key).or_insert(seen);
                *last = seen.max(*last);
            }
        }
        for volume in &mut fleet.volumes {
            volume.datastore = datastores.remove(&volume.id);
        }
        Ok(fleet)
    }

    /// Records that a round found nothing changed at the source of these volumes since a committed version. One
    /// transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn confirm(&self, volumes: &[VolumeId], at: Timestamp) -> Result<(), CatalogError> {
        if volumes.is_empty() {
            return Ok(());
        }
        let mut tx = self.write("recording what did not change", format!("{} volumes", volumes.len())).await?;
        for some in volumes.chunks(AT_ONCE) {
            let mut update: QueryBuilder<Sqlite> = QueryBuilder::new("UPDATE volumes SET confirmed = ");
            update.push_bind(stamp(at)).push(" WHERE id IN (");
            let mut ids = update.separated(", ");
            for id in some {
                ids.push_bind(id.to_string());
            }
            update.push(")");
            tx.execute(update.build()).await?;
        }
        tx.commit().await
    }
}

/// A volume without its datastore.
fn fleet_volume(row: &Row<'_>) -> Result<FleetVolume, CatalogError> {
    Ok(FleetVolume {
        id: row.parsed("id")?,
        name: row.text("name")?,
        state: row.parsed("state")?,
        reason: row.opt_text("reason_code")?,
        protectable: row.flag("protectable")?,
        size_bytes: row.opt_count("size_bytes")?,
        first_seen: row.time("first_seen")?,
        deferred_since: row.opt_time("deferred_since")?,
        confirmed: row.opt_time("confirmed")?,
        last_success: row.opt_time("last_success")?.max(row.opt_time("newest_good")?),
        last_attempt: row.opt_time("last_attempt")?,
        has_failed: row.opt_text("last_error_code")?.is_some(),
        datastore: None,
        versions: row.count("versions")?,
        good_versions: row.count("good_versions")?,
        damaged_versions: row.count("damaged_versions")?,
        incidents: row.count("incidents")?,
        logical_bytes: row.count("logical_bytes")?,
        stored_bytes: row.count("stored_bytes")?,
        last_verified: row.opt_time("last_verified")?,
        oldest_proof: row.opt_time("oldest_proof")?,
        last_restore_test: row.opt_time("last_restore_test")?,
        unusable_versions: row.count("unusable_versions")?,
    })
}
