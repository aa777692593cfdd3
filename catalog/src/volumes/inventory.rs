//! Recording a discovery round. A volume's row is never deleted, and a volume is called gone only on proof: its
//! datastores were listed and it wasn't there, or all sources were heard and none named it.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use sqlx::SqliteConnection;
use stackferry_volume::{Generation, Location, SiteName, VolumeId};

use super::{DatastoreKey, InventoryChange, InventoryRound, ObservedLocation, ObservedVolume, VolumeState};
use crate::convert::{During, opt_stamp, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;

impl Catalog {
    /// Records what a round saw, in one durable transaction:
    ///
    /// - every volume seen is added or brought up to date; `first_seen` stays, and `deferred_since` while the reason's
    ///   code stays;
    /// - a location not seen, on a datastore that was scanned, becomes a former one; on a datastore that was
    ///   unreachable, it becomes unreachable; on any other it stays as it was;
    /// - a volume not seen whose last location became a former one is `gone` (`missing`), and after a complete round
    ///   so is any other that was not seen and has no location left;
    /// - a volume not seen whose locations are all unreachable is `deferred` (`unreachable`).
    ///
    /// # Errors
    /// `Twice` if a volume or a location is named twice, `Range`, or `Database`.
    pub async fn record_inventory(&self, round: &InventoryRound) -> Result<InventoryChange, CatalogError> {
        let during = self.during("recording the inventory", format!("{} volumes", round.volumes.len()));
        let twice = |subject: String| CatalogError::Twice { operation: during.operation, subject };
        let mut seen = HashSet::new();
        let mut seen_at = HashSet::new();
        for volume in &round.volumes {
            if !seen.insert(&volume.id) {
                return Err(twice(volume.id.to_string()));
            }
            for observed in &volume.locations {
                if !seen_at.insert(&observed.location) {
                    return Err(twice(observed.location.to_string()));
                }
            }
        }

        let mut tx = self.write(&during).await?;
        let known = known_volumes(tx.conn(), &during).await?;
        let mut change = InventoryChange::default();
        for volume in &round.volumes {
            let before = known.get(&volume.id);
            match before {
                None => change.new.push(volume.id.clone()),
                Some(before) if before.gone => change.back.push(volume.id.clone()),
                Some(_) => {}
            }
            let renewed = before.is_some_and(|before| before.generation != volume.generation);
            if renewed {
                change.new_generation.push(volume.id.clone());
                forget_generation(tx.conn(), &during, &volume.id).await?;
            }
            let deferred_since = volume.reason.as_ref().map(|reason| match before {
                Some(Known { reason: Some(code), since: Some(since), .. }) if *code == reason.code => *since,
                _ => round.at,
            });
            upsert_volume(tx.conn(), &during, volume, round.at, deferred_since).await?;
            for observed in &volume.locations {
                upsert_location(tx.conn(), &during, &volume.id, observed, round.at).await?;
            }
        }

        let scanned: HashSet<&DatastoreKey> = round.scanned.iter().collect();
        let unreachable: HashMap<&DatastoreKey, &str> =
            round.unreachable.iter().map(|datastore| (&datastore.key, datastore.why.as_str())).collect();
        let mut left: HashMap<VolumeId, Left> = HashMap::new();
        for (volume, location, gone) in known_locations(tx.conn(), &during).await? {
            let key = DatastoreKey { site: location.site.clone(), datastore: location.datastore.clone() };
            let left = left.entry(volume).or_default();
            if gone {
                left.former += 1;
            } else if seen_at.contains(&location) {
                left.present += 1;
            } else if scanned.contains(&key) {
                left.former += 1;
                mark_location_gone(tx.conn(), &during, &location, round.at).await?;
            } else {
                left.present += 1;
                if let Some(why) = unreachable.get(&key) {
                    left.unreachable += 1;
                    left.why.get_or_insert_with(|| format!("datastore {}: {why}", key.datastore));
                    mark_location_unreachable(tx.conn(), &during, &location).await?;
                }
            }
        }

        for (id, before) in &known {
            if seen.contains(id) || before.gone {
                continue;
            }
            let left = left.remove(id).unwrap_or_default();
            if left.present == 0 && (left.former > 0 || round.complete) {
                change.gone.push(id.clone());
                mark_gone(tx.conn(), &during, id, round.at).await?;
            } else if let (true, Some(why)) = (left.unreachable == left.present, &left.why) {
                let since = match &before.reason {
                    Some(code) if code == UNREACHABLE => before.since.unwrap_or(round.at),
                    _ => round.at,
                };
                mark_unreachable(tx.conn(), &during, id, why, since).await?;
            }
        }
        tx.commit(&during).await?;
        change.gone.sort();
        Ok(change)
    }
}

const UNREACHABLE: &str = "unreachable";

/// What is left of a volume that a round did not see.
#[derive(Default)]
struct Left {
    present: u64,
    unreachable: u64,
    former: u64,
    why: Option<String>,
}

struct Known {
    generation: Generation,
    gone: bool,
    reason: Option<String>,
    since: Option<Timestamp>,
}

async fn known_volumes(conn: &mut SqliteConnection, during: &During) -> Result<HashMap<VolumeId, Known>, CatalogError> {
    let rows = sqlx::query("SELECT id, generation, gone_since, reason_code, deferred_since FROM volumes")
        .fetch_all(conn)
        .await
        .map_err(|error| during.sql(error))?;
    rows.iter()
        .map(|row| {
            let row = during.row(row);
            let known = Known {
                generation: Generation(row.small("generation")?),
                gone: row.opt_time("gone_since")?.is_some(),
                reason: row.opt_text("reason_code")?,
                since: row.opt_time("deferred_since")?,
            };
            Ok((row.parsed("id")?, known))
        })
        .collect()
}

async fn known_locations(
    conn: &mut SqliteConnection,
    during: &During,
) -> Result<Vec<(VolumeId, Location, bool)>, CatalogError> {
    let rows = sqlx::query("SELECT volume, site, datastore, path, gone_since FROM locations")
        .fetch_all(conn)
        .await
        .map_err(|error| during.sql(error))?;
    rows.iter()
        .map(|row| {
            let row = during.row(row);
            let location = Location {
                site: SiteName(row.text("site")?),
                datastore: row.text("datastore")?,
                path: row.text("path")?,
            };
            Ok((row.parsed("volume")?, location, row.opt_text("gone_since")?.is_some()))
        })
        .collect()
}

/// A new generation is another disk: what its former life was equal to, and when, says nothing of it.
pub(crate) async fn forget_generation(
    conn: &mut SqliteConnection,
    during: &During,
    id: &VolumeId,
) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM baselines WHERE volume = $1")
        .bind(id.to_string())
        .execute(&mut *conn)
        .await
        .map_err(|error| during.sql(error))?;
    sqlx::query(
        "UPDATE volumes SET last_attempt = NULL, last_success = NULL, confirmed = NULL, last_error_code = NULL, \
           last_error_text = NULL \
         WHERE id = $1",
    )
    .bind(id.to_string())
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn upsert_volume(
    conn: &mut SqliteConnection,
    during: &During,
    volume: &ObservedVolume,
    at: Timestamp,
    deferred_since: Option<Timestamp>,
) -> Result<(), CatalogError> {
    let size = volume.size_bytes.map(|bytes| during.number("size_bytes", bytes)).transpose()?;
    let owner = volume.owner.as_ref();
    let gone_since = (volume.state == VolumeState::Gone).then_some(at);
    sqlx::query(
        "INSERT INTO volumes (id, kind, stem, name, owner_name, owner_sid, owner_upn, guid, generation, size_bytes, \
           state, attached, protectable, reason_code, reason_text, remedy, first_seen, last_seen, gone_since, \
           deferred_since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17, $18, $19) \
         ON CONFLICT (id) DO UPDATE SET stem = excluded.stem, name = excluded.name, \
           owner_name = excluded.owner_name, owner_sid = excluded.owner_sid, owner_upn = excluded.owner_upn, \
           guid = excluded.guid, generation = excluded.generation, size_bytes = excluded.size_bytes, \
           state = excluded.state, attached = excluded.attached, protectable = excluded.protectable, \
           reason_code = excluded.reason_code, reason_text = excluded.reason_text, remedy = excluded.remedy, \
           last_seen = excluded.last_seen, gone_since = excluded.gone_since, \
           deferred_since = excluded.deferred_since",
    )
    .bind(volume.id.to_string())
    .bind(volume.id.kind().as_str())
    .bind(&volume.stem)
    .bind(&volume.name)
    .bind(owner.map(|owner| &owner.name))
    .bind(owner.and_then(|owner| owner.sid.as_ref()))
    .bind(owner.and_then(|owner| owner.upn.as_ref()))
    .bind(&volume.guid)
    .bind(i64::from(volume.generation.0))
    .bind(size)
    .bind(volume.state.as_str())
    .bind(volume.attached)
    .bind(volume.protectable)
    .bind(volume.reason.as_ref().map(|reason| &reason.code))
    .bind(volume.reason.as_ref().map(|reason| &reason.text))
    .bind(&volume.remedy)
    .bind(stamp(at))
    .bind(opt_stamp(gone_since))
    .bind(opt_stamp(deferred_since))
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn upsert_location(
    conn: &mut SqliteConnection,
    during: &During,
    id: &VolumeId,
    observed: &ObservedLocation,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let fingerprint =
        observed.fingerprint.as_ref().map(|fingerprint| during.json("fingerprint", fingerprint)).transpose()?;
    sqlx::query(
        "INSERT INTO locations (site, datastore, path, volume, type, reachable, fingerprint, settled, seen_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (site, datastore, path) DO UPDATE SET volume = excluded.volume, type = excluded.type, \
           reachable = excluded.reachable, \
           settled = CASE WHEN excluded.fingerprint IS NULL THEN locations.settled ELSE excluded.settled END, \
           fingerprint = COALESCE(excluded.fingerprint, locations.fingerprint), \
           seen_at = CASE WHEN excluded.fingerprint IS NULL THEN locations.seen_at ELSE excluded.seen_at END, \
           gone_since = NULL",
    )
    .bind(&observed.location.site.0)
    .bind(&observed.location.datastore)
    .bind(&observed.location.path)
    .bind(id.to_string())
    .bind(&observed.datastore_type)
    .bind(observed.reachable)
    .bind(fingerprint)
    .bind(observed.settled)
    .bind(stamp(at))
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn mark_location_gone(
    conn: &mut SqliteConnection,
    during: &During,
    location: &Location,
    at: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE locations SET gone_since = $4, reachable = FALSE WHERE site = $1 AND datastore = $2 AND path = $3",
    )
    .bind(&location.site.0)
    .bind(&location.datastore)
    .bind(&location.path)
    .bind(stamp(at))
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn mark_location_unreachable(
    conn: &mut SqliteConnection,
    during: &During,
    location: &Location,
) -> Result<(), CatalogError> {
    sqlx::query("UPDATE locations SET reachable = FALSE WHERE site = $1 AND datastore = $2 AND path = $3")
        .bind(&location.site.0)
        .bind(&location.datastore)
        .bind(&location.path)
        .execute(conn)
        .await
        .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn mark_gone(
    conn: &mut SqliteConnection,
    during: &During,
    id: &VolumeId,
    at: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE volumes SET state = $2, attached = NULL, protectable = FALSE, reason_code = 'missing', \
           reason_text = $3, remedy = NULL, gone_since = $4, deferred_since = $4 WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(VolumeState::Gone.as_str())
    .bind(format!("not found at its source since {at:.0}; its versions are kept"))
    .bind(stamp(at))
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}

async fn mark_unreachable(
    conn: &mut SqliteConnection,
    during: &During,
    id: &VolumeId,
    why: &str,
    since: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE volumes SET state = $2, attached = NULL, reason_code = $3, reason_text = $4, remedy = NULL, \
           deferred_since = $5 WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(VolumeState::Deferred.as_str())
    .bind(UNREACHABLE)
    .bind(why)
    .bind(stamp(since))
    .execute(conn)
    .await
    .map_err(|error| during.sql(error))?;
    Ok(())
}
