//! What is asked of a single volume, and what that adds to what its list told.

use super::api::ManagerApi;
use super::assignments::assignment;
use super::detail_cache::{Detail, DetailKey};
use super::error::ManagerError;
use super::location::row_place;
use super::report::{ManagedLocation, ManagedVolume, VolumeFamily, VolumeRef};
use super::requests::ManagerRequest;
use super::version::ManagerGeneration;
use super::volumes::detail_fields;

/// The most places of one volume that are kept.
const MAX_PLACES: usize = 1000;

/// What is to be asked of one volume.
pub(super) struct DetailRequest {
    pub(super) at: VolumeRef,
    pub(super) key: DetailKey,
    pub(super) detail: bool,
    pub(super) assignments: bool,
    pub(super) own: Option<ManagedLocation>,
}

/// What came of it. None: there is no such volume any more.
pub(super) type DetailResult = Result<Option<Detail>, ManagerError>;

/// Asks one volume.
pub(super) async fn request_detail(
    api: &ManagerApi<'_>,
    generation: ManagerGeneration,
    want: &DetailRequest,
) -> DetailResult {
    let VolumeRef { family, id } = want.at;
    let mut detail = Detail::default();
    let (one, keys, files) = match (family, generation) {
        (VolumeFamily::AppStack, _) => {
            (ManagerRequest::AppStack(id), ["appstack", "data"], Some(ManagerRequest::AppStackFiles(id)))
        }
        (VolumeFamily::Package, _) => {
            (ManagerRequest::Package(id), ["data", "app_package"], Some(ManagerRequest::PackageFiles(id)))
        }
        (VolumeFamily::Writable, ManagerGeneration::Two) => (ManagerRequest::Writable(id), ["writable", "data"], None),
        (VolumeFamily::Writable, ManagerGeneration::Four) => {
            (ManagerRequest::NewWritable(id), ["writable", "data"], None)
        }
    };
    if want.detail {
        match api.object(one, &keys, "id", |told| detail_fields(family, told)).await {
            Ok(told) => detail.added = told,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    if let Some(files) = files {
        let own = detail.added.place.as_ref().or(want.own.as_ref());
        let places = &mut detail.places;
        let read = api.list(files, &["data", "files"], |row| {
            let place = row_place(row, own.map(|own| own.file.as_str()));
            if places.len() < MAX_PLACES {
                places.extend(place);
            }
        });
        match read.await {
            Ok(_) => {}
            // A package that is gone, or a manager that does not have the address: its own detail tells.
            Err(error) if error.is_not_found() && want.detail => {}
            Err(error) if error.is_not_found() => {
                match api.object(one, &keys, "id", |told| detail_fields(family, told)).await {
                    Ok(told) => detail.added = told,
                    Err(error) if error.is_not_found() => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    if want.assignments {
        let mut assigned = Vec::new();
        let read = api.list(ManagerRequest::AppStackAssignments(id), &["assignments", "data"], |entry| {
            assigned.extend(assignment(entry, None));
        });
        if read.await.is_ok() {
            assigned.sort();
            assigned.dedup();
            detail.assignments = Some(assigned);
        }
    }
    Ok(Some(detail))
}

/// Adds what a detail told to what the list told.
pub(super) fn apply(volume: &mut ManagedVolume, detail: &Detail) {
    volume.guid = volume.guid.take().or_else(|| detail.added.guid.clone());
    if !detail.added.revision.is_empty() {
        volume.revision.clone_from(&detail.added.revision);
    }
    if volume.attached == Some(true) && volume.attached_to.is_none() {
        volume.attached_to.clone_from(&detail.added.attached_to);
    }
    let own = volume.places.pop().or_else(|| detail.added.place.clone());
    volume.places.clone_from(&detail.places);
    if let Some(own) = own {
        let is_own = |place: &&mut ManagedLocation| {
            (&place.datastore, &place.folder, &place.file) == (&own.datastore, &own.folder, &own.file)
        };
        if volume.places.is_empty() {
            volume.places.push(own);
        } else if let Some(place) = volume.places.iter_mut().find(is_own) {
            // The list is newer than what was kept of the files.
            place.missing = own.missing.or(place.missing);
            place.reachable = own.reachable.or(place.reachable);
        }
    }
    volume.places.sort();
    volume.places.dedup();
    if let Some(assignments) = &detail.assignments {
        volume.assignments.clone_from(assignments);
    }
}
