//! One inventory of all scans and of what was known before: who is the same, who is new, who is gone.
//!
//! Ids are fixed for ever: what lies where a known volume lay is that volume. Sites never merge. Only AppStacks and packages
//! may lie at several places: where App Volumes gives their disk one id, or else where folder, file name and content agree;
//! a writable on two datastores belongs to two people unless its id agrees. Another id under a known name is a new
//! generation. The result depends on what was seen, not on the order in which it was.

mod ids;
mod sight;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use stackferry_volume::manifest::Owner;
use stackferry_volume::name::decode;
use stackferry_volume::{
    FileName, Fingerprint, Generation, Kind, Location, ReasonCode, SiteName, VolumeId, VolumeState,
};

use crate::attachment::Attachment;
use crate::snapshot::Snapshot;
use crate::volume::{AppVolumesInfo, ContentKey, Inventory, KnownVolume, SkipReason, Volume, VolumeLocation};
use sight::{Sighting, by_guid, sightings};

/// Makes one inventory. `known` is every volume that ever had an id, so that no id is given twice.
#[must_use]
pub fn merge(seen: &Snapshot<'_>, known: &[KnownVolume]) -> Inventory {
    let mut known: Vec<&KnownVolume> = known.iter().collect();
    known.sort_by(|one, two| one.id.cmp(&two.id));
    known.dedup_by(|later, earlier| later.id == earlier.id);
    let ranks: HashMap<(&SiteName, &str), usize> =
        seen.scans.iter().map(|scan| ((&scan.site, scan.datastore.as_str()), scan.rank)).collect();
    let sightings = sightings(seen);
    let sighted: HashSet<&Location> = sightings.iter().map(|seen| &seen.at.location).collect();
    let owner_of = owners(&known);

    let SortedSightings { mut parts, fresh } = sort_out(&sightings, &known, &owner_of);
    join_new(fresh, &known, &mut parts);
    let ids = ids::allocate(&parts, &known);
    let conflicts = conflicts(&parts, &known);

    let mut volumes = Vec::new();
    for (at, known) in known.iter().enumerate() {
        let own = parts.get(&VolumeSlot::Known(at)).map(Vec::as_slice).unwrap_or_default();
        let is_own = |location: &Location| owner_of.get(location) == Some(&at) && !sighted.contains(location);
        let absent = absent(known, known.locations.iter().filter(|location| is_own(location)), own, seen);
        let guid = own.iter().find_map(|seen| seen.guid()).map(str::to_owned);
        let is_renewed = guid.is_some() && known.guid.is_some() && guid != known.guid;
        let identity = VolumeIdentity {
            id: known.id.clone(),
            kind: known.kind,
            stem: known.stem.clone(),
            generation: if is_renewed { known.generation.next() } else { known.generation },
            guid: guid.or_else(|| known.guid.clone()),
        };
        volumes.push(volume(identity, own, absent, &ranks, conflicts.get(&VolumeSlot::Known(at))));
    }
    for (slot, id) in ids {
        let Some(own) = parts.get(&slot) else { continue };
        let Some(first) = own.first() else { continue };
        let stem = first.stem.clone().unwrap_or_else(|| id.folder().clone());
        let guid = own.iter().find_map(|seen| seen.guid()).map(str::to_owned);
        let identity = VolumeIdentity { id, kind: first.kind, stem, generation: Generation::FIRST, guid };
        volumes.push(volume(identity, own, Vec::new(), &ranks, conflicts.get(&slot)));
    }
    volumes.sort_by(|one, two| one.id.cmp(&two.id));
    Inventory { volumes }
}

/// Where an observation is counted: to a known volume by its number, or to a new one by that of its first observation,
/// so that new volumes are in the order of what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum VolumeSlot {
    Known(usize),
    New(usize),
}

/// Things, each with what tells its disk from another.
type Keyed<T> = Vec<(T, ContentKey)>;

/// What of a volume does not come from where it lies.
struct VolumeIdentity {
    id: VolumeId,
    kind: Kind,
    stem: FileName,
    generation: Generation,
    guid: Option<String>,
}

/// The sightings that have their volume, and those that don't yet.
struct SortedSightings<'a> {
    parts: BTreeMap<VolumeSlot, Vec<&'a Sighting<'a>>>,
    fresh: Vec<(usize, &'a Sighting<'a>)>,
}

/// Gives each sighting its volume where App Volumes' id or its place tells it.
fn sort_out<'a>(
    sightings: &'a [Sighting<'a>],
    known: &[&KnownVolume],
    owner_of: &HashMap<&Location, usize>,
) -> SortedSightings<'a> {
    let mut parts: BTreeMap<VolumeSlot, Vec<&'a Sighting<'a>>> = BTreeMap::new();
    let groups = by_guid(sightings);
    let guid_of = |at: usize| known.get(at).and_then(|known| known.guid.as_deref());
    let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, known) in known.iter().enumerate() {
        if let Some(guid) = known.guid.as_deref() {
            by_id.entry(guid).or_default().push(at);
        }
    }
    let mut slots: HashMap<usize, VolumeSlot> = HashMap::new();
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    for ((site, guid), members) in &groups {
        let at_site = |at: usize| {
            known.get(at).is_some_and(|known| known.locations.iter().any(|location| location.site == **site))
        };
        let here = members.iter().filter_map(|number| owner_of.get(&sightings.get(*number)?.at.location).copied());
        let here: BTreeSet<usize> = here.filter(|at| !taken.contains(at)).collect();
        let has_name = |at: usize| {
            let stem = known.get(at).map(|known| &known.stem);
            members.iter().any(|number| sightings.get(*number).and_then(|seen| seen.stem.as_ref()) == stem)
        };
        // Of several that had this id the one that lies here.
        let with_id = || by_id.get(guid).into_iter().flatten().copied().filter(|at| at_site(*at));
        let same = with_id().find(|at| here.contains(at)).or_else(|| with_id().next());
        // Another id under the same name is another disk, unless the one that was there before only moved.
        let not_known_yet = || here.iter().copied().find(|at| guid_of(*at).is_none());
        let replaced =
            || here.iter().copied().find(|at| guid_of(*at).is_some_and(|old| !groups.contains_key(&(*site, old))));
        // An id that came with a copied disk: what lies where a volume of another name lay is that volume.
        let same = same.filter(|at| here.contains(at) || has_name(*at) || not_known_yet().is_none());
        let home = same.or_else(not_known_yet).or_else(replaced);
        let slot = match (home, members.first()) {
            (Some(at), _) => {
                taken.insert(at);
                VolumeSlot::Known(at)
            }
            (None, Some(first)) => VolumeSlot::New(*first),
            (None, None) => continue,
        };
        slots.extend(members.iter().map(|number| (*number, slot)));
    }
    for (number, sighting) in sightings.iter().enumerate() {
        if let Some(slot) = slots.get(&number) {
            parts.entry(*slot).or_default().push(sighting);
        }
    }
    let mut fresh = Vec::new();
    for (number, sighting) in sightings.iter().enumerate().filter(|(number, _)| !slots.contains_key(number)) {
        let home = owner_of.get(&sighting.at.location).map(|at| VolumeSlot::Known(*at));
        match home {
            // Its volume has an id and is seen elsewhere: what was left behind here may be an older state of it.
            Some(slot) if parts.get(&slot).is_some_and(|own| own.iter().any(|seen| seen.guid().is_some())) => {
                fresh.push((number, sighting));
            }
            Some(slot) => parts.entry(slot).or_default().push(sighting),
            None => fresh.push((number, sighting)),
        }
    }
    SortedSightings { parts, fresh }
}

/// Which known volume each location is of. One that several claim is the first one's.
fn owners<'a>(known: &[&'a KnownVolume]) -> HashMap<&'a Location, usize> {
    let mut owners = HashMap::new();
    for (at, known) in known.iter().enumerate() {
        for location in &known.locations {
            owners.entry(location).or_insert(at);
        }
    }
    owners
}

/// What copies of one AppStack or package have in common wherever they lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ReplicaName<'a> {
    site: &'a SiteName,
    kind: Kind,
    folder: &'a str,
    file: &'a str,
}

impl<'a> ReplicaName<'a> {
    fn of(kind: Kind, location: &'a Location) -> Option<Self> {
        kind.is_replicated().then(|| Self {
            site: &location.site,
            kind,
            folder: location.folder(),
            file: location.file(),
        })
    }
}

/// Gives each sighting of a new location its volume: a known one, one that has an id, one with others, or its own.
fn join_new<'a>(
    fresh: Vec<(usize, &'a Sighting<'a>)>,
    known: &[&KnownVolume],
    parts: &mut BTreeMap<VolumeSlot, Vec<&'a Sighting<'a>>>,
) {
    let mut homes: BTreeMap<ReplicaName<'_>, BTreeSet<VolumeSlot>> = BTreeMap::new();
    for (at, known) in known.iter().enumerate() {
        for name in known.locations.iter().filter_map(|location| ReplicaName::of(known.kind, location)) {
            homes.entry(name).or_default().insert(VolumeSlot::Known(at));
        }
    }
    for (slot, own) in &*parts {
        for name in own.iter().filter_map(|seen| ReplicaName::of(seen.kind, &seen.at.location)) {
            homes.entry(name).or_default().insert(*slot);
        }
    }
    let mut by_name: BTreeMap<ReplicaName<'_>, Keyed<(usize, &'a Sighting<'a>)>> = BTreeMap::new();
    for (number, seen) in fresh {
        let name = ReplicaName::of(seen.kind, &seen.at.location).filter(|_| seen.stem.is_some() && !seen.is_backup);
        match (name, seen.at.content()) {
            (Some(name), Some(content)) => by_name.entry(name).or_default().push(((number, seen), content)),
            _ => drop(parts.insert(VolumeSlot::New(number), vec![seen])),
        }
    }
    for (name, seen) in by_name {
        for same in components(seen) {
            let agrees = |slot: &&VolumeSlot| {
                let contents = contents_of(**slot, known, parts);
                same.iter().any(|(_, content)| contents.iter().any(|known| known.agrees(content)))
            };
            let home = homes.get(&name).and_then(|slots| slots.iter().find(agrees)).copied();
            let first = same.first().map_or(0, |((number, _), _)| *number);
            let slot = home.unwrap_or(VolumeSlot::New(first));
            parts.entry(slot).or_default().extend(same.into_iter().map(|((_, seen), _)| seen));
        }
    }
}

/// What a known volume holds where it is seen now, or, if it is seen nowhere, what it held.
fn contents_of(
    slot: VolumeSlot,
    known: &[&KnownVolume],
    parts: &BTreeMap<VolumeSlot, Vec<&Sighting<'_>>>,
) -> Vec<ContentKey> {
    let seen: Vec<ContentKey> =
        parts.get(&slot).map(|own| own.iter().filter_map(|seen| seen.at.content()).collect()).unwrap_or_default();
    if !seen.is_empty() {
        return seen;
    }
    match slot {
        VolumeSlot::Known(at) => known.get(at).and_then(|known| known.content.clone()).into_iter().collect(),
        VolumeSlot::New(_) => Vec::new(),
    }
}

/// Splits into sets of which each member agrees with another one; as many as datastores at most, so pairs are compared.
fn components<T>(mut rest: Keyed<T>) -> Vec<Keyed<T>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let mut same: Keyed<T> = rest.drain(..1).collect();
        loop {
            let (joined, other): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(_, content)| same.iter().any(|(_, own)| own.agrees(content)));
            rest = other;
            if joined.is_empty() {
                break;
            }
            same.extend(joined);
        }
        found.push(same);
    }
    found
}

/// Volumes of which copies that should be one disk differ, each with the sentence that says where.
fn conflicts(parts: &BTreeMap<VolumeSlot, Vec<&Sighting<'_>>>, known: &[&KnownVolume]) -> BTreeMap<VolumeSlot, String> {
    let mut by_name: BTreeMap<ReplicaName<'_>, Keyed<(VolumeSlot, &Location)>> = BTreeMap::new();
    for (slot, own) in parts {
        for seen in own.iter().filter(|seen| seen.stem.is_some() && !seen.is_backup) {
            let kind = match slot {
                VolumeSlot::Known(at) => known.get(*at).map_or(seen.kind, |known| known.kind),
                VolumeSlot::New(_) => seen.kind,
            };
            if let (Some(name), Some(content)) = (ReplicaName::of(kind, &seen.at.location), seen.at.content()) {
                by_name.entry(name).or_default().push(((*slot, &seen.at.location), content));
            }
        }
    }
    let mut found: BTreeMap<VolumeSlot, String> = BTreeMap::new();
    for seen in by_name.into_values() {
        let disks = components(seen);
        let mut slots = disks.iter().flatten().map(|((slot, _), _)| *slot);
        let first = slots.next();
        let has_id =
            |slot: VolumeSlot| parts.get(&slot).is_some_and(|own| own.iter().any(|seen| seen.guid().is_some()));
        // What has one id is judged below.
        if disks.len() < 2 || first.is_some_and(|first| has_id(first) && slots.all(|slot| slot == first)) {
            continue;
        }
        let mut sides: Vec<String> = disks.iter().map(|same| side(same)).collect();
        sides.sort_unstable();
        let text = format!("different disks have one name: {}", sides.join("; "));
        for ((slot, _), _) in disks.into_iter().flatten() {
            found.entry(slot).or_insert_with(|| text.clone());
        }
    }
    for (slot, own) in parts {
        let contents = own.iter().filter(|seen| seen.guid().is_some());
        let mut contents: Keyed<(VolumeSlot, &Location)> =
            contents.filter_map(|seen| Some(((*slot, &seen.at.location), seen.at.content()?))).collect();
        if own.first().is_some_and(|seen| seen.kind.is_replicated()) {
            // A replica may have a content id of its own: there only the digests tell, and sizes.
            contents.iter_mut().for_each(|(_, content)| content.cid.clear());
        }
        let disks = components(contents);
        if disks.len() > 1 {
            let mut sides: Vec<String> = disks.iter().map(|same| side(same)).collect();
            sides.sort_unstable();
            found.entry(*slot).or_insert_with(|| format!("different disks have one id: {}", sides.join("; ")));
        }
        // What App Volumes does not know is no contradiction where it knows the volume elsewhere.
        let is_known = own.iter().any(|seen| seen.managed.is_some());
        let told = own.iter().filter(|seen| seen.managed.is_some() == is_known);
        if let Some(text) = told.filter_map(|seen| seen.contradiction.as_ref()).min() {
            found.entry(*slot).or_insert_with(|| text.clone());
        }
    }
    found
}

/// The places of one disk, with what tells it from the others.
fn side(same: &[((VolumeSlot, &Location), ContentKey)]) -> String {
    let mut places: Vec<String> = same.iter().map(|((_, location), _)| location.to_string()).collect();
    places.sort_unstable();
    let content = same.iter().map(|(_, content)| content).min_by_key(|content| (content.extent_bytes, &content.cid));
    let content = content.map(|content| match content.cid.as_str() {
        "" => format!(" ({} bytes)", content.extent_bytes),
        cid => format!(" ({} bytes, CID {cid})", content.extent_bytes),
    });
    format!("{}{}", places.join(" and "), content.unwrap_or_default())
}

/// A known volume's places where it was not seen, each with the reason.
fn absent<'a>(
    known: &KnownVolume,
    places: impl Iterator<Item = &'a Location>,
    own: &[&Sighting<'_>],
    seen: &Snapshot<'_>,
) -> Vec<VolumeLocation> {
    let unseen = places.filter(|place| !own.iter().any(|seen| seen.at.location == **place));
    unseen.map(|place| absent_at(known, place, seen)).collect()
}

fn absent_at(known: &KnownVolume, place: &Location, seen: &Snapshot<'_>) -> VolumeLocation {
    let is_managed = known.kind.is_replicated() || known.kind == Kind::Writable;
    let scan = seen.scans.iter().find(|scan| scan.site == place.site && scan.datastore == place.datastore);
    let skip = match scan {
        _ if known.is_gone => SkipReason::gone(format!("{place} is no longer there; its versions are kept")),
        None if is_managed && seen.is_told_only(place) => {
            SkipReason::gone(format!("{place}: App Volumes knows it no longer; its versions are kept"))
        }
        None => SkipReason::deferred(ReasonCode::Unreachable, format!("{place}: the datastore is not configured"))
            .remedy("Put the datastore into the configuration again."),
        Some(scan) if !scan.reachable => {
            SkipReason::deferred(ReasonCode::Unreachable, format!("{place}: the datastore can't be reached"))
        }
        Some(scan) if !scan.covers(place.folder()) => {
            SkipReason::deferred(ReasonCode::Unreachable, format!("{place}: the folder was not looked at"))
                .remedy("See that the folder can be listed and is below one of the datastore's `folders`.")
        }
        Some(_) => SkipReason::gone(format!("{place} is no longer there; its versions are kept")),
    };
    VolumeLocation {
        location: place.clone(),
        datastore_type: scan.and_then(|scan| scan.datastore_type.clone()),
        reachable: scan.is_some_and(|scan| scan.reachable),
        seen: false,
        files: Vec::new(),
        fingerprint: Fingerprint::new(Vec::new(), None),
        settled: false,
        quiet: false,
        observed: scan.map_or(jiff::Timestamp::UNIX_EPOCH, |scan| scan.observed),
        descriptor: None,
        skip: Some(skip),
    }
}

fn volume(
    identity: VolumeIdentity,
    own: &[&Sighting<'_>],
    absent: Vec<VolumeLocation>,
    ranks: &HashMap<(&SiteName, &str), usize>,
    conflict: Option<&String>,
) -> Volume {
    let VolumeIdentity { id, kind, stem, generation, guid } = identity;
    let mut locations: Vec<VolumeLocation> = own.iter().map(|seen| seen.at.clone()).chain(absent).collect();
    // A place that it left is forgotten once it is seen, or may be seen, at another one.
    let is_gone =
        |location: &VolumeLocation| location.skip.as_ref().is_some_and(|skip| skip.state == VolumeState::Gone);
    if !locations.iter().all(is_gone) {
        locations.retain(|location| !is_gone(location));
    }
    locations.sort_by_cached_key(|location| {
        let Location { site, datastore, path } = &location.location;
        let rank = ranks.get(&(site, datastore.as_str())).copied().unwrap_or(usize::MAX);
        (site.clone(), rank, datastore.clone(), path.clone())
    });
    let managed = own.iter().find_map(|seen| seen.managed.as_ref());
    let unnamed = own.first().filter(|seen| seen.stem.is_none()).map(|seen| seen.shown_name.clone());
    let told = managed.map(|managed| managed.volume.name.clone()).filter(|name| !name.is_empty());
    let name = told.or(unnamed).unwrap_or_else(|| decode(stem.as_str()));
    let by_name =
        || (kind == Kind::Writable && name.contains('\\')).then(|| Owner { name: name.clone(), sid: None, upn: None });
    let owner = managed.and_then(|managed| managed.volume.owner.clone()).or_else(by_name);
    let verdict = status::of(&locations, conflict);
    let attached: Vec<bool> = own.iter().filter_map(|seen| Attachment::is_attached(&seen.attachment)).collect();
    Volume {
        size_bytes: locations.iter().find_map(|location| location.descriptor.as_ref()).map(|disk| disk.logical_bytes),
        id,
        kind,
        stem,
        generation,
        owner,
        guid,
        locations,
        attached: attached.iter().copied().reduce(|one, other| one || other),
        state: verdict.state,
        protectable: verdict.protectable,
        reason: verdict.reason,
        remedy: verdict.remedy,
        app_volumes: managed.map(AppVolumesInfo::of),
        name,
    }
}
