//! Writing a volume with its locations, as a discovery round or the vault knows it.

use jiff::Timestamp;

use super::{ObservedLocation, ObservedVolume};
use crate::convert::{opt_stamp, stamp};
use crate::error::CatalogError;
use crate::session::DbSession;
use stackferry_volume::VolumeId;
use stackferry_volume::VolumeState;

/// Who saw a volume.
pub(crate) enum ObservedBy {
    /// A discovery round, at its source: replaces what is known.
    Round {
        /// See [`super::VolumeRow::deferred_since`].
        deferred_since: Option<Timestamp>,
    },
    /// Nobody, it is in the vault: what a discovery round saw of the volume, and at its locations, stays.
    Vault,
}

/// Adds a volume and its locations, or brings them up to date.
pub(crate) async fn upsert(
    tx: &mut DbSession,
    volume: &ObservedVolume,
    by: &ObservedBy,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let (last_seen, deferred_since) = match by {
        ObservedBy::Round { deferred_since } => (Some(at), *deferred_since),
        ObservedBy::Vault => (None, Some(at)),
    };
    let owner = volume.owner.as_ref();
    let gone_since = (volume.state == VolumeState::Gone).then_some(at);
    let statement = sqlx::query(
        "INSERT INTO volumes (id, kind, stem, name, owner_name, owner_sid, owner_upn, guid, generation, size_bytes, \
           state, attached, protectable, reason_code, reason_text, remedy, first_seen, last_seen, gone_since, \
           deferred_since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
         ON CONFLICT (id) DO UPDATE SET stem = excluded.stem, name = excluded.name, \
           owner_name = excluded.owner_name, owner_sid = excluded.owner_sid, owner_upn = excluded.owner_upn, \
           guid = excluded.guid, generation = excluded.generation, size_bytes = excluded.size_bytes, \
           state = excluded.state, attached = excluded.attached, protectable = excluded.protectable, \
           reason_code = excluded.reason_code, reason_text = excluded.reason_text, remedy = excluded.remedy, \
           last_seen = excluded.last_seen, gone_since = excluded.gone_since, \
           deferred_since = excluded.deferred_since WHERE excluded.last_seen IS NOT NULL",
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
    .bind(volume.size_bytes.map(|bytes| tx.number("size_bytes", bytes)).transpose()?)
    .bind(volume.state.as_str())
    .bind(volume.attached)
    .bind(volume.protectable)
    .bind(volume.reason.as_ref().map(|reason| &reason.code))
    .bind(volume.reason.as_ref().map(|reason| &reason.text))
    .bind(&volume.remedy)
    .bind(stamp(at))
    .bind(opt_stamp(last_seen))
    .bind(opt_stamp(gone_since))
    .bind(opt_stamp(deferred_since));
    tx.execute(statement).await?;
    for location in &volume.locations {
        upsert_location(tx, &volume.id, location, by, at).await?;
    }
    Ok(())
}

/// A location belongs to the volume that a discovery round saw there last.
async fn upsert_location(
    tx: &mut DbSession,
    id: &VolumeId,
    observed: &ObservedLocation,
    by: &ObservedBy,
    at: Timestamp,
) -> Result<(), CatalogError> {
    let fingerprint =
        observed.fingerprint.as_ref().map(|fingerprint| tx.json("fingerprint", fingerprint)).transpose()?;
    let statement = sqlx::query(
        "INSERT INTO locations (site, datastore, path, volume, type, reachable, fingerprint, settled, seen_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (site, datastore, path) DO UPDATE SET volume = excluded.volume, type = excluded.type, \
           reachable = excluded.reachable, \
           settled = CASE WHEN excluded.fingerprint IS NULL THEN locations.settled ELSE excluded.settled END, \
           fingerprint = COALESCE(excluded.fingerprint, locations.fingerprint), \
           seen_at = CASE WHEN excluded.fingerprint IS NULL THEN locations.seen_at ELSE excluded.seen_at END, \
           gone_since = NULL WHERE $10",
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
    .bind(matches!(by, ObservedBy::Round { .. }));
    tx.execute(statement).await.map(|_| ())
}
