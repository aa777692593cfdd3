//! The JSON that commands print, and what is expected of it.

use serde_json::Value;

use crate::error::LabError;
use crate::site::{SiteLocation, SiteVolume, TestSite};

/// Fails with a reason unless a condition holds.
pub(super) fn expect(holds: bool, why: impl FnOnce() -> String) -> Result<(), LabError> {
    if holds { Ok(()) } else { Err(LabError::Wrong(why())) }
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a listed volume is said to lie at a location.
pub(super) fn lies_at(listed: &Value, location: &SiteLocation) -> bool {
    list(listed, "locations")
        .iter()
        .any(|place| text(place, "datastore") == location.datastore && text(place, "path") == location.path)
}

/// The id under which a volume of the site is listed.
pub(super) fn id_of(listed: &[Value], volume: &SiteVolume) -> Result<String, LabError> {
    let found = listed.iter().find(|one| volume.locations.iter().all(|location| lies_at(one, location)));
    let found = found.ok_or_else(|| LabError::Wrong(format!("{}/{} is not listed", volume.kind, volume.stem)))?;
    Ok(text(found, "id").to_owned())
}

/// The volume of the site with a disk on this datastore.
pub(super) fn volume_on<'a>(
    site: &'a TestSite,
    kind: &str,
    stem: &str,
    datastore: &str,
) -> Result<(&'a SiteVolume, &'a SiteLocation), LabError> {
    let found = site.find(kind, stem).find_map(|volume| {
        let location = volume.locations.iter().find(|location| location.datastore == datastore)?;
        Some((volume, location))
    });
    found.ok_or_else(|| LabError::Wrong(format!("the site has no {kind}/{stem} on {datastore}")))
}
