//! Ids for new volumes. They are given once and for ever, so the order in which they are given is fixed too.

use std::collections::{BTreeMap, HashSet};

use stackferry_volume::name::MAX_STEM_BYTES;
use stackferry_volume::{FileName, VolumeId};

use super::{Sighting, VolumeSlot};
use crate::volume::KnownVolume;

/// The ids of all new volumes. The first of a kind and stem gets the plain id; App Volumes' own backups and names that
/// can't be used never do, so that the real volume can have it when it appears.
pub(super) fn allocate(
    parts: &BTreeMap<VolumeSlot, Vec<&Sighting<'_>>>,
    known: &[&KnownVolume],
) -> Vec<(VolumeSlot, VolumeId)> {
    let mut taken: HashSet<VolumeId> = known.iter().map(|known| known.id.clone()).collect();
    let new = parts
        .iter()
        .filter(|(slot, _)| matches!(slot, VolumeSlot::New(_)))
        .filter_map(|(slot, own)| Some((*slot, *own.first()?)));
    let mut ids = Vec::new();
    for (slot, first) in new {
        if let Some(id) = id(first, &taken) {
            taken.insert(id.clone());
            ids.push((slot, id));
        }
    }
    ids
}

fn id(first: &Sighting<'_>, taken: &HashSet<VolumeId>) -> Option<VolumeId> {
    let place = &first.at.location;
    let (stem, plain) = match &first.stem {
        Some(stem) => (stem.clone(), !first.is_backup),
        None => (usable(&first.shown_name)?, false),
    };
    let first_id = VolumeId::first(first.kind, &stem);
    if plain && !taken.contains(&first_id) {
        return Some(first_id);
    }
    // Two volumes of one folder can have one stem only where a former one left its id behind, or by an odd name.
    (0..=taken.len()).find_map(|number| {
        let folder = match number {
            0 if first.stem.is_some() => place.folder().to_owned(),
            _ => format!("{}#{number}", place.path),
        };
        let id = VolumeId::further(first.kind, &stem, &place.site.0, &place.datastore, &folder).ok()?;
        (!taken.contains(&id)).then_some(id)
    })
}

/// A stem for what has none, so that it can be listed: never used as a name on disk.
fn usable(name: &str) -> Option<FileName> {
    let mut text: String = name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    while text.len() > MAX_STEM_BYTES {
        text.pop();
    }
    FileName::stem(&text).or_else(|_| FileName::stem("_")).ok()
}
