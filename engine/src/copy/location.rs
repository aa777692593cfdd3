//! Which of a volume's locations a copy reads.

use stackferry_discover::{Volume, VolumeLocation};
use stackferry_volume::Location;

use crate::app::{App, DatastoreAccess};
use stackferry_problem::Problem;

/// The places where a volume may be read now, the best first: one of `preferred`, and among equals by the cheapest route.
fn in_order<'v>(app: &App, volume: &'v Volume, preferred: &[Location]) -> Vec<&'v VolumeLocation> {
    let mut usable: Vec<&VolumeLocation> = volume.usable().collect();
    // Stable: datastores keep their configured order where the route is the same.
    usable.sort_by_key(|place| {
        let datastore = app.datastore(&place.location.site, &place.location.datastore);
        (!preferred.contains(&place.location), datastore.map(|datastore| datastore.route.kind()))
    });
    usable
}

/// Where a volume would be read now: what caps are counted by. None where it can't be read.
///
/// # Errors
/// The catalog's.
pub async fn first_place<'v>(app: &App, volume: &'v Volume) -> Result<Option<&'v VolumeLocation>, Problem> {
    let mut usable = volume.usable();
    Ok(match (usable.next(), usable.next()) {
        (only, None) => only,
        _ => in_order(app, volume, &changed_places(app, volume).await?).into_iter().next(),
    })
}

/// Where a volume is read.
///
/// # Errors
/// None of its places may be read: why, for the last.
pub fn choose(
    app: &App,
    volume: &Volume,
    preferred: &[Location],
) -> Result<(VolumeLocation, DatastoreAccess), Problem> {
    let mut last = None;
    for place in in_order(app, volume, preferred) {
        let Some(datastore) = app.datastore(&place.location.site, &place.location.datastore) else { continue };
        match app.source(datastore) {
            Ok(source) => return Ok((place.clone(), source)),
            Err(problem) => last = Some(problem),
        }
    }
    Err(last.unwrap_or_else(|| Problem::not_protectable(&volume.id, "no place it lies at can be read now", None)))
}

/// The places of a volume that are not as they were when they were last read or found equal to a version: what is new
/// can only be had there. Where the copies of one volume differ, each of them is read in its turn.
pub(super) async fn changed_places(app: &App, volume: &Volume) -> Result<Vec<Location>, Problem> {
    let baselines = app.catalog().baselines(&volume.id).await?;
    let as_it_was = |place: &VolumeLocation| {
        let mut own = baselines.iter().filter(|baseline| baseline.location == place.location);
        own.any(|baseline| baseline.settled && baseline.fingerprint == place.fingerprint)
    };
    Ok(volume.usable().filter(|place| !as_it_was(place)).map(|place| place.location.clone()).collect())
}

/// The bytes of a volume's files, for showing how far its copy is.
#[must_use]
pub fn choose_bytes(volume: &Volume) -> u64 {
    volume.usable().next().map_or(0, |place| place.files.iter().map(|file| file.bytes).sum())
}
