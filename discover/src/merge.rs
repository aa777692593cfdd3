//! One inventory of all scans and of what was known before: who is the same, who is new, who is gone.
//!
//! Ids are fixed for ever: what lies where a known volume lay is that volume. Sites never merge. Only AppStacks and packages
//! may lie at several places, and only where folder, file name and content agree; a writable on two datastores belongs
//! to two people. The result depends on what was seen, not on the order in which it was.

mod ids;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stackferry_volume::manifest::Owner;
use stackferry_volume::name::decode;
use stackferry_volume::{FileName, Fingerprint, Generation, Kind, Location, ReasonCode, SiteName, State, VolumeId};

use crate::scan::{Observation, Scan};
use crate::volume::{ContentKey, Held, Inventory, KnownVolume, Volume, VolumeLocation};

/// Makes one inventory. `known` is every volume that ever had an id, so that no id is given twice.
#[must_use]
pub fn merge(scans: &[Scan], known: &[KnownVolume]) -> Inventory {
    let mut known: Vec<&KnownVolume> = known.iter().collect();
    known.sort_by(|one, two| one.id.cmp(&two.id));
    known.dedup_by(|later, earlier| later.id == earlier.id);
    let ranks: HashMap<(&SiteName, &str), usize> =
        scans.iter().map(|scan| ((&scan.site, scan.datastore.as_str()), scan.rank)).collect();
    let seen = in_order(scans);
    let owner_of = owners(&known);

    let mut parts: BTreeMap<Slot, Vec<&Observation>> = BTreeMap::new();
    let mut fresh = Vec::new();
    for observation in seen {
        match owner_of.get(&observation.at.location) {
            Some(at) => parts.entry(Slot::Known(*at)).or_default().push(observation),
            None => fresh.push(observation),
        }
    }
    join_new(fresh, &known, &mut parts);
    let ids = ids::allocate(&parts, &known);
    let conflicts = conflicts(&parts, &known);

    let mut volumes = Vec::new();
    for (at, known) in known.iter().enumerate() {
        let own = parts.get(&Slot::Known(at)).map(Vec::as_slice).unwrap_or_default();
        let is_own = |location: &Location| owner_of.get(location) == Some(&at);
        let absent = absent(known.locations.iter().filter(|location| is_own(location)), own, scans);
        let identity = Identity {
            id: known.id.clone(),
            kind: known.kind,
            stem: known.stem.clone(),
            generation: known.generation,
            guid: known.guid.clone(),
        };
        volumes.push(volume(identity, own, absent, &ranks, conflicts.get(&Slot::Known(at))));
    }
    for (slot, id) in ids {
        let Some(own) = parts.get(&slot) else { continue };
        let Some(first) = own.first() else { continue };
        let stem = first.stem.clone().unwrap_or_else(|| id.folder().clone());
        let identity = Identity { id, kind: first.kind, stem, generation: Generation::FIRST, guid: None };
        volumes.push(volume(identity, own, Vec::new(), &ranks, conflicts.get(&slot)));
    }
    volumes.sort_by(|one, two| one.id.cmp(&two.id));
    Inventory { volumes }
}

/// Where an observation is counted: to a known volume by its number, or to a new one by that of its first observation,
/// so that new volumes are in the order of what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Known(usize),
    New(usize),
}

/// Things, each with what tells its disk from another.
type Keyed<T> = Vec<(T, ContentKey)>;

/// What of a volume does not come from where it lies.
struct Identity {
    id: VolumeId,
    kind: Kind,
    stem: FileName,
    generation: Generation,
    guid: Option<String>,
}

/// Every observation once for each location. What can be copied comes first, since the first of equal names gets the
/// plain id for ever, and then the order of the configured datastores decides.
fn in_order(scans: &[Scan]) -> Vec<&Observation> {
    let mut all: Vec<(usize, &Observation)> =
        scans.iter().flat_map(|scan| scan.observations.iter().map(|observation| (scan.rank, observation))).collect();
    let key = |(rank, seen): &(usize, &Observation)| {
        let unsafe_name = seen.stem.is_none() || seen.is_backup;
        let unprotectable = seen.at.held.as_ref().is_some_and(|held| held.state == State::Unprotectable);
        let Location { site, datastore, path } = &seen.at.location;
        (unsafe_name, unprotectable, site.clone(), *rank, datastore.clone(), path.clone())
    };
    all.sort_by_cached_key(key);
    let mut locations = BTreeSet::new();
    all.into_iter().map(|(_, seen)| seen).filter(|seen| locations.insert(&seen.at.location)).collect()
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
struct Name<'a> {
    site: &'a SiteName,
    kind: Kind,
    folder: &'a str,
    file: &'a str,
}

impl<'a> Name<'a> {
    fn of(kind: Kind, location: &'a Location) -> Option<Self> {
        kind.is_replicated().then(|| Self {
            site: &location.site,
            kind,
            folder: location.folder(),
            file: location.file(),
        })
    }
}

/// Gives each observation of a new location its place: with a known volume, with others, or alone.
fn join_new<'a>(fresh: Vec<&'a Observation>, known: &[&KnownVolume], parts: &mut BTreeMap<Slot, Vec<&'a Observation>>) {
    let mut known_by_name: BTreeMap<Name<'_>, BTreeSet<usize>> = BTreeMap::new();
    for (at, known) in known.iter().enumerate() {
        for name in known.locations.iter().filter_map(|location| Name::of(known.kind, location)) {
            known_by_name.entry(name).or_default().insert(at);
        }
    }
    let mut by_name: BTreeMap<Name<'_>, Keyed<(usize, &'a Observation)>> = BTreeMap::new();
    for (number, seen) in fresh.into_iter().enumerate() {
        let name = Name::of(seen.kind, &seen.at.location).filter(|_| seen.stem.is_some() && !seen.is_backup);
        match (name, seen.at.content()) {
            (Some(name), Some(content)) => by_name.entry(name).or_default().push(((number, seen), content)),
            _ => drop(parts.insert(Slot::New(number), vec![seen])),
        }
    }
    for (name, seen) in by_name {
        for same in components(seen) {
            let agrees = |at: &&usize| {
                let contents = contents_of(**at, known, parts);
                same.iter().any(|(_, content)| contents.iter().any(|known| known.agrees(content)))
            };
            let home = known_by_name.get(&name).and_then(|known| known.iter().find(agrees)).copied();
            let first = same.first().map_or(0, |((number, _), _)| *number);
            let slot = home.map_or(Slot::New(first), Slot::Known);
            parts.entry(slot).or_default().extend(same.into_iter().map(|((_, seen), _)| seen));
        }
    }
}

/// What a known volume holds where it is seen now, or, if it is seen nowhere, what it held.
fn contents_of(at: usize, known: &[&KnownVolume], parts: &BTreeMap<Slot, Vec<&Observation>>) -> Vec<ContentKey> {
    let seen: Vec<ContentKey> = parts
        .get(&Slot::Known(at))
        .map(|own| own.iter().filter_map(|seen| seen.at.content()).collect())
        .unwrap_or_default();
    if !seen.is_empty() {
        return seen;
    }
    known.get(at).and_then(|known| known.content.clone()).into_iter().collect()
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
fn conflicts(parts: &BTreeMap<Slot, Vec<&Observation>>, known: &[&KnownVolume]) -> BTreeMap<Slot, String> {
    let mut by_name: BTreeMap<Name<'_>, Keyed<(Slot, &Location)>> = BTreeMap::new();
    for (slot, own) in parts {
        for seen in own.iter().filter(|seen| seen.stem.is_some() && !seen.is_backup) {
            let kind = match slot {
                Slot::Known(at) => known.get(*at).map_or(seen.kind, |known| known.kind),
                Slot::New(_) => seen.kind,
            };
            if let (Some(name), Some(content)) = (Name::of(kind, &seen.at.location), seen.at.content()) {
                by_name.entry(name).or_default().push(((*slot, &seen.at.location), content));
            }
        }
    }
    let mut found: BTreeMap<Slot, String> = BTreeMap::new();
    for seen in by_name.into_values() {
        let disks = components(seen);
        if disks.len() < 2 {
            continue;
        }
        let mut sides: Vec<String> = disks.iter().map(|same| side(same)).collect();
        sides.sort_unstable();
        let text = format!("different disks have one name: {}", sides.join("; "));
        for ((slot, _), _) in disks.into_iter().flatten() {
            found.entry(slot).or_insert_with(|| text.clone());
        }
    }
    found
}

/// The places of one disk, with what tells it from the others.
fn side(same: &[((Slot, &Location), ContentKey)]) -> String {
    let mut places: Vec<String> = same.iter().map(|((_, location), _)| location.to_string()).collect();
    places.sort_unstable();
    let content = same.iter().map(|(_, content)| content).min_by_key(|content| (content.extent_bytes, &content.cid));
    let content = content.map(|content| format!(" ({} bytes, CID {})", content.extent_bytes, content.cid));
    format!("{}{}", places.join(" and "), content.unwrap_or_default())
}

/// A known volume's places where it was not seen, each with the reason.
fn absent<'a>(places: impl Iterator<Item = &'a Location>, own: &[&Observation], scans: &[Scan]) -> Vec<VolumeLocation> {
    let unseen = places.filter(|place| !own.iter().any(|seen| seen.at.location == **place));
    unseen.map(|place| absent_at(place, scans)).collect()
}

fn absent_at(place: &Location, scans: &[Scan]) -> VolumeLocation {
    let scan = scans.iter().find(|scan| scan.site == place.site && scan.datastore == place.datastore);
    let held = match scan {
        None => Held::deferred(ReasonCode::Unreachable, format!("{place}: the datastore is not configured"))
            .remedy("Put the datastore into the configuration again."),
        Some(scan) if !scan.reachable => {
            Held::deferred(ReasonCode::Unreachable, format!("{place}: the datastore can't be reached"))
        }
        Some(scan) if !scan.covers(place.folder()) => {
            Held::deferred(ReasonCode::Unreachable, format!("{place}: the folder was not looked at"))
                .remedy("See that the folder can be listed and is below one of the datastore's `folders`.")
        }
        Some(_) => Held::gone(format!("{place} is no longer there; its versions are kept")),
    };
    VolumeLocation {
        location: place.clone(),
        datastore_type: scan.and_then(|scan| scan.datastore_type.clone()),
        reachable: scan.is_some_and(|scan| scan.reachable),
        seen: false,
        files: Vec::new(),
        fingerprint: Fingerprint::new(Vec::new(), None),
        settled: false,
        observed: scan.map_or(jiff::Timestamp::UNIX_EPOCH, |scan| scan.observed),
        descriptor: None,
        held: Some(held),
    }
}

fn volume(
    identity: Identity,
    own: &[&Observation],
    absent: Vec<VolumeLocation>,
    ranks: &HashMap<(&SiteName, &str), usize>,
    conflict: Option<&String>,
) -> Volume {
    let Identity { id, kind, stem, generation, guid } = identity;
    let mut locations: Vec<VolumeLocation> = own.iter().map(|seen| seen.at.clone()).chain(absent).collect();
    // A place that it left is forgotten once it is seen, or may be seen, at another one.
    let is_gone = |location: &VolumeLocation| location.held.as_ref().is_some_and(|held| held.state == State::Gone);
    if !locations.iter().all(is_gone) {
        locations.retain(|location| !is_gone(location));
    }
    locations.sort_by_cached_key(|location| {
        let Location { site, datastore, path } = &location.location;
        let rank = ranks.get(&(site, datastore.as_str())).copied().unwrap_or(usize::MAX);
        (site.clone(), rank, datastore.clone(), path.clone())
    });
    let name = own.first().filter(|seen| seen.stem.is_none()).map(|seen| seen.shown_name.clone());
    let name = name.unwrap_or_else(|| decode(stem.as_str()));
    let owner =
        (kind == Kind::Writable && name.contains('\\')).then(|| Owner { name: name.clone(), sid: None, upn: None });
    let verdict = judge::judge(&locations, conflict);
    Volume {
        size_bytes: locations.iter().find_map(|location| location.descriptor.as_ref()).map(|disk| disk.logical_bytes),
        id,
        kind,
        stem,
        generation,
        name,
        owner,
        guid,
        locations,
        attached: None,
        state: verdict.state,
        protectable: verdict.protectable,
        reason: verdict.reason,
        remedy: verdict.remedy,
    }
}
