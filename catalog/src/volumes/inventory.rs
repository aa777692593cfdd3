//! Recording a discovery round. A volume's row is never deleted, and a volume is called gone only on proof: its
//! datastores were listed and it wasn't there, or all sources were read and none named it.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use stackferry_volume::{Generation, Location, SiteName, VolumeId};

use super::upsert::{ObservedBy, upsert};
use super::{DatastoreKey, InventoryChange, InventoryRound};
use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::DbSession;
use stackferry_volume::VolumeState;

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
        let operation = "recording the inventory";
        let twice = |subject: String| CatalogError::Twice { operation, subject };
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

        let mut tx = self.write(operation, format!("{} volumes", round.volumes.len())).await?;
        let known = known_volumes(&mut tx).await?;
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
                forget_generation(&mut tx, &volume.id).await?;
            }
            let deferred_since = volume.reason.as_ref().map(|reason| match before {
                Some(BeforeRound { reason: Some(code), since: Some(since), .. }) if *code == reason.code => *since,
                _ => round.at,
            });
            upsert(&mut tx, volume, &ObservedBy::Round { deferred_since }, round.at).await?;
        }

        let scanned: HashSet<&DatastoreKey> = round.scanned.iter().collect();
        let unreachable: HashMap<&DatastoreKey, &str> =
            round.unreachable.iter().map(|datastore| (&datastore.key, datastore.why.as_str())).collect();
        let mut left: HashMap<VolumeId, Left> = HashMap::new();
        for (volume, location, gone) in known_locations(&mut tx).await? {
            let key = DatastoreKey { site: location.site.clone(), datastore: location.datastore.clone() };
            let left = left.entry(volume).or_default();
            if gone {
                left.former += 1;
            } else if seen_at.contains(&location) {
                left.present += 1;
            } else if scanned.contains(&key) {
                left.former += 1;
                mark_location_gone(&mut tx, &location, round.at).await?;
            } else {
                left.present += 1;
                if let Some(why) = unreachable.get(&key) {
                    left.unreachable += 1;
                    left.why.get_or_insert_with(|| format!("datastore {}: {why}", key.datastore));
                    mark_location_unreachable(&mut tx, &location).await?;
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
                mark_gone(&mut tx, id, round.at).await?;
            } else if let (true, Some(why)) = (left.unreachable == left.present, &left.why) {
                let since = match &before.reason {
                    Some(code) if code == UNREACHABLE => before.since.unwrap_or(round.at),
                    _ => round.at,
                };
                mark_unreachable(&mut tx, id, why, since).await?;
            }
        }
        tx.commit().await?;
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

struct BeforeRound {
    generation: Generation,
    gone: bool,
    reason: Option<String>,
    since: Option<Timestamp>,
}

async fn known_volumes(tx: &mut DbSession) -> Result<HashMap<VolumeId, BeforeRound>, CatalogError> {
    let query = sqlx::query("SELECT id, generation, gone_since, reason_code, deferred_since FROM volumes");
    let read = |row: &Row<'_>| {
        let known = BeforeRound {
            generation: Generation(row.small("generation")?),
            gone: row.opt_time("gone_since")?.is_some(),
            reason: row.opt_text("reason_code")?,
            since: row.opt_time("deferred_since")?,
        };
        Ok((row.parsed("id")?, known))
    };
    Ok(tx.all(query, read).await?.into_iter().collect())
}

async fn known_locations(tx: &mut DbSession) -> Result<Vec<(VolumeId, Location, bool)>, CatalogError> {
    tx.all(sqlx::query("SELECT volume, site, datastore, path, gone_since FROM locations"), |row| {
        let location =
            Location { site: SiteName(row.text("site")?), datastore: row.text("datastore")?, path: row.text("path")? };
        Ok((row.parsed("volume")?, location, row.opt_text("gone_since")?.is_some()))
    })
    .await
}

/// A new generation is another disk: what its previous generation was equal to, and when, says nothing of it.
pub(crate) async fn forget_generation(tx: &mut DbSession, id: &VolumeId) -> Result<(), CatalogError> {
    let statement = sqlx::query("DELETE FROM baselines WHERE volume = $1").bind(id.to_string());
    tx.execute(statement).await?;
    let statement = sqlx::query(
        "UPDATE volumes SET last_attempt = NULL, last_success = NULL, confirmed = NULL, last_error_code = NULL, \
           last_error_text = NULL \
         WHERE id = $1",
    )
    .bind(id.to_string());
    tx.execute(statement).await.map(|_| ())
}

async fn mark_location_gone(tx: &mut DbSession, location: &Location, at: Timestamp) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "UPDATE locations SET gone_since = $4, reachable = FALSE WHERE site = $1 AND datastore = $2 AND path = $3",
    )
    .bind(&location.site.0)
    .bind(&location.datastore)
    .bind(&location.path)
    .bind(stamp(at));
    tx.execute(statement).await.map(|_| ())
}

async fn mark_location_unreachable(tx: &mut DbSession, location: &Location) -> Result<(), CatalogError> {
    let statement =
        sqlx::query("UPDATE locations SET reachable = FALSE WHERE site = $1 AND datastore = $2 AND path = $3")
            .bind(&location.site.0)
            .bind(&location.datastore)
            .bind(&location.path);
    tx.execute(statement).await.map(|_| ())
}

async fn mark_gone(tx: &mut DbSession, id: &VolumeId, at: Timestamp) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "UPDATE volumes SET state = $2, attached = NULL, protectable = FALSE, reason_code = 'missing', \
           reason_text = $3, remedy = NULL, gone_since = $4, deferred_since = $4 WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(VolumeState::Gone.as_str())
    .bind(format!("not found at its source since {at:.0}; its versions are kept"))
    .bind(stamp(at));
    tx.execute(statement).await.map(|_| ())
}

async fn mark_unreachable(tx: &mut DbSession, id: &VolumeId, why: &str, since: Timestamp) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "UPDATE volumes SET state = $2, attached = NULL, reason_code = $3, reason_text = $4, remedy = NULL, \
           deferred_since = $5 WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(VolumeState::Deferred.as_str())
    .bind(UNREACHABLE)
    .bind(why)
    .bind(stamp(since));
    tx.execute(statement).await.map(|_| ())
}
