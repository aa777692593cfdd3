//! What was seen, and what was only told of, side by side: one sighting for each place of a volume.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Deref;

use stackferry_volume::place::PlaceKey;
use stackferry_volume::reason::shown;
use stackferry_volume::{FileName, Fingerprint, Kind, Location, SiteName, VolumeState};
use stackferry_vsphere::AttachedDisk;

use crate::app_volumes::{ManagedCopy, ManagedLocation, Report};
use crate::attachment::{Attachment, AttachmentReport};
use crate::decide::{CopyFacts, UnseenReason, may_copy, not_seen};
use crate::scan::{Observation, Scan};
use crate::snapshot::Snapshot;
use crate::volume::VolumeLocation;

/// A volume at one place: as a scan saw it, or as only App Volumes knows it.
pub(super) struct Sighting<'a> {
    pub(super) observation: Observation,
    pub(super) managed: Option<ManagedCopy<'a>>,
    pub(super) attachment: Attachment,
    /// What sources tell of it that can't both be true.
    pub(super) contradiction: Option<String>,
    /// App Volumes gives its id to another person's disk, too: it tells nothing.
    shares_guid: bool,
}

impl Deref for Sighting<'_> {
    type Target = Observation;
    fn deref(&self) -> &Observation {
        &self.observation
    }
}

impl Sighting<'_> {
    /// App Volumes' id of the disk.
    pub(super) fn guid(&self) -> Option<&str> {
        self.managed.as_ref().filter(|_| !self.shares_guid)?.volume.guid.as_deref()
    }
}

/// What managers and vSphere told, by place. Both may write a path in another case than the datastore does.
struct ReportedLocations<'a> {
    seen: &'a Snapshot<'a>,
    managed: HashMap<PlaceKey, Vec<(Location, ManagedCopy<'a>)>>,
    holders: HashMap<PlaceKey, &'a AttachedDisk>,
    /// Every place where a scan saw a volume.
    observed: HashSet<&'a Location>,
    scans: HashMap<(&'a SiteName, &'a str), &'a Scan>,
    /// Ids that a site's managers give to several writables. A disk that was copied by hand for somebody else keeps its id.
    shared: HashSet<(&'a SiteName, &'a str)>,
}

/// Every place of every volume once. What can be copied comes first, since the first of equal names gets the plain id for
/// ever, and then the order of the configured datastores decides.
pub(super) fn sightings<'a>(seen: &'a Snapshot<'a>) -> Vec<Sighting<'a>> {
    let told = ReportedLocations::new(seen);
    let mut all: Vec<(usize, Sighting<'a>)> = Vec::new();
    let mut locations = BTreeSet::new();
    let mut matched: HashSet<&Location> = HashSet::new();
    for scan in seen.scans {
        for observation in &scan.observations {
            if locations.insert(&observation.at.location) {
                matched.extend(told.managed_at(&observation.at.location).map(|(at, _)| at));
                all.push((scan.rank, told.seen_there(scan, observation)));
            }
        }
    }
    let mut only_told: BTreeMap<&Location, ManagedCopy<'a>> = BTreeMap::new();
    for (location, managed) in told.managed.values().flatten() {
        if !matched.contains(location) {
            only_told.entry(location).or_insert(*managed);
        }
    }
    for (location, managed) in only_told {
        let rank = told.scan(location).map_or(usize::MAX, |scan| scan.rank);
        all.push((rank, told.only_told(location, managed)));
    }
    all.sort_by_cached_key(|(rank, seen)| {
        let unsafe_name = seen.stem.is_none() || seen.is_backup;
        let unprotectable = seen.at.skip.as_ref().is_some_and(|skip| skip.state == VolumeState::Unprotectable);
        let Location { site, datastore, path } = &seen.at.location;
        (unsafe_name, unprotectable, !seen.at.seen, site.clone(), *rank, datastore.clone(), path.clone())
    });
    all.into_iter().map(|(_, sighting)| sighting).collect()
}

impl<'a> ReportedLocations<'a> {
    fn new(seen: &'a Snapshot<'a>) -> Self {
        let mut managed: HashMap<PlaceKey, Vec<(Location, ManagedCopy<'_>)>> = HashMap::new();
        // Several managers of one site share one database: the first by name speaks for all, but each says what is attached.
        let mut reports: Vec<&Report> = seen.managers.iter().filter_map(|view| view.report.as_ref().ok()).collect();
        reports.sort_by(|one, two| one.manager.cmp(&two.manager));
        for report in reports {
            for volume in &report.volumes {
                for place in &volume.places {
                    let location = location(&report.site, place);
                    let told = ManagedCopy { manager: &report.manager, volume, place };
                    managed.entry(PlaceKey::from(&location)).or_default().push((location, told));
                }
            }
        }
        let mut holders: HashMap<PlaceKey, &AttachedDisk> = HashMap::new();
        for view in seen.vspheres {
            for disk in view.inventory.iter().flat_map(|inventory| &inventory.attached) {
                // Of several machines the one with the first name is told, whatever order they came in.
                let key = PlaceKey::new(&view.site, &disk.datastore, &disk.path);
                let holder = holders.entry(key).or_insert(disk);
                if disk.vm_name < holder.vm_name {
                    *holder = disk;
                }
            }
        }
        let scans = seen.scans.iter().map(|scan| ((&scan.site, scan.datastore.as_str()), scan)).collect();
        let observed = seen.scans.iter().flat_map(|scan| &scan.observations).map(|one| &one.at.location).collect();
        let shared = shared(seen);
        Self { seen, managed, holders, observed, scans, shared }
    }

    /// What managers list at a place: what is spelt the same, else what differs in case only and is seen under no name of its
    /// own.
    fn managed_at(&self, location: &Location) -> impl Iterator<Item = &(Location, ManagedCopy<'a>)> {
        let told = self.managed.get(&PlaceKey::from(location)).map(Vec::as_slice).unwrap_or_default();
        let is_exact = told.iter().any(|(at, _)| at == location);
        let fits = move |at: &Location| if is_exact { at == location } else { !self.observed.contains(at) };
        told.iter().filter(move |(at, _)| fits(at))
    }

    /// Whether the id of a volume is another one's, too, and the sentence for that.
    fn sharing(&self, site: &SiteName, managed: &ManagedCopy<'_>) -> Option<String> {
        let guid = managed.volume.guid.as_deref().filter(|_| managed.volume.kind == Kind::Writable)?;
        self.shared
            .contains(&(site, guid))
            .then(|| format!("App Volumes Manager {} gives the id {guid} to several writables", managed.manager))
    }

    fn scan(&self, location: &Location) -> Option<&'a Scan> {
        self.scans.get(&(&location.site, location.datastore.as_str())).copied()
    }

    fn seen_there(&self, scan: &Scan, observation: &Observation) -> Sighting<'a> {
        let mut observation = observation.clone();
        let location = observation.at.location.clone();
        let managed = self.managed_at(&location).map(|(_, managed)| *managed).next().filter(|_| !observation.is_backup);
        if let Some(managed) = &managed {
            observation.kind = managed.volume.kind;
        }
        let attachment = self.attachment(&location);
        let from_vsphere =
            self.seen.vspheres.iter().find_map(|view| view.datastore(&location.site, &location.datastore));
        let skip = may_copy(&CopyFacts {
            kind: observation.kind,
            location: &location,
            folder: observation.at.skip.as_ref(),
            managed,
            attachment: attachment.clone(),
            maintenance: from_vsphere.and_then(|datastore| datastore.maintenance.as_deref()),
        });
        observation.at.skip = skip;
        let sharing = managed.as_ref().and_then(|managed| self.sharing(&location.site, managed));
        let shares_guid = sharing.is_some();
        let contradiction = match &managed {
            Some(managed) if managed.place.missing == Some(true) => Some(format!(
                "App Volumes Manager {} misses it at {location}, but its files are there",
                managed.manager
            )),
            Some(_) => sharing,
            None => self.not_known(scan, &observation),
        };
        Sighting { observation, managed, attachment, contradiction, shares_guid }
    }

    /// What App Volumes should know and does not: a volume in one of its folders on a datastore of its own.
    fn not_known(&self, scan: &Scan, observation: &Observation) -> Option<String> {
        let kinds = [Kind::Appstack, Kind::Package, Kind::Writable];
        if !kinds.contains(&observation.kind) || observation.is_backup || observation.stem.is_none() {
            return None;
        }
        let mut names = Vec::new();
        for view in self.seen.managers.iter().filter(|view| view.site == scan.site) {
            let report = view.report.as_ref().ok()?;
            let knows_datastore = report.datastores.iter().any(|datastore| datastore.name == scan.datastore)
                || report
                    .volumes
                    .iter()
                    .flat_map(|volume| &volume.places)
                    .any(|place| place.datastore == scan.datastore);
            if !report.complete {
                return None;
            }
            if knows_datastore {
                names.push(report.manager.as_str());
            }
        }
        let first = names.first()?;
        Some(format!(
            "App Volumes Manager {first} does not know it; it was not imported, or its files were left behind"
        ))
    }

    /// What App Volumes knows of and no scan saw.
    fn only_told(&self, location: &Location, managed: ManagedCopy<'a>) -> Sighting<'a> {
        let scan = self.scan(location);
        let from_vsphere =
            self.seen.vspheres.iter().find_map(|view| view.datastore(&location.site, &location.datastore));
        let from_manager = self.seen.managers.iter().filter(|view| view.site == location.site).find_map(|view| {
            let datastores = &view.report.as_ref().ok()?.datastores;
            datastores.iter().find(|datastore| datastore.name == location.datastore)?.kind.as_deref()
        });
        let kind = from_vsphere.map(|datastore| datastore.kind.as_str()).or(from_manager);
        let objects = kind.filter(|kind| ["vsan", "vvol"].contains(&kind.to_lowercase().as_str()));
        let state = match (scan, objects) {
            (_, Some(kind)) => UnseenReason::Objects(kind),
            (None, None) => UnseenReason::NotConfigured,
            (Some(scan), None) if !scan.reachable => UnseenReason::Unreachable,
            (Some(scan), None) if !scan.covers(location.folder()) => UnseenReason::NotLookedAt,
            (Some(_), None) => UnseenReason::NotThere,
        };
        let shares_guid = self.sharing(&location.site, &managed).is_some();
        let missing = managed.place.missing == Some(true) || managed.volume.status.word == "missing";
        let contradiction = (state == UnseenReason::NotThere && !missing)
            .then(|| format!("App Volumes Manager {} knows it at {location}, but nothing is there", managed.manager));
        let skip = not_seen(&managed, location, &state);
        let facts = CopyFacts {
            kind: managed.volume.kind,
            location,
            folder: Some(&skip),
            managed: Some(managed),
            attachment: Attachment::NotTold,
            maintenance: None,
        };
        let file = location.file();
        let stem = stackferry_volume::name::without_vmdk(file);
        let observed = scan.map_or(jiff::Timestamp::UNIX_EPOCH, |scan| scan.observed);
        Sighting {
            attachment: self.attachment(location),
            observation: Observation {
                kind: managed.volume.kind,
                stem: FileName::stem(stem).ok(),
                shown_name: shown(file),
                is_backup: false,
                at: VolumeLocation {
                    location: location.clone(),
                    datastore_type: kind.map(str::to_owned).or_else(|| scan?.datastore_type.clone()),
                    reachable: scan.is_some_and(|scan| scan.reachable),
                    seen: false,
                    files: Vec::new(),
                    fingerprint: Fingerprint::new(Vec::new(), None),
                    settled: false,
                    quiet: false,
                    observed,
                    descriptor: None,
                    skip: may_copy(&facts).or(Some(skip)),
                },
            },
            managed: Some(managed),
            contradiction,
            shares_guid,
        }
    }

    /// Whether a disk is in use, by all that would know.
    fn attachment(&self, location: &Location) -> Attachment {
        let managers = self.seen.managers.iter().filter(|view| view.site == location.site).map(|view| {
            let report = match &view.report {
                Ok(report) => report,
                Err(why) => return AttachmentReport::of_absent(&format!("App Volumes Manager {}", view.name), why),
            };
            let mut listed = self.managed_at(location).filter(|(_, managed)| managed.manager == report.manager);
            AttachmentReport::of_manager(&view.name, listed.next().map(|(_, managed)| managed.volume), report.complete)
        });
        let holder = self.holders.get(&PlaceKey::from(location)).copied();
        let vspheres = self.seen.vspheres.iter().filter(|view| view.site == location.site);
        Attachment::of(managers.chain(vspheres.map(|view| view.word(location, holder))))
    }
}

/// The ids that several writables of one manager have.
fn shared<'a>(seen: &Snapshot<'a>) -> HashSet<(&'a SiteName, &'a str)> {
    let mut shared = HashSet::new();
    for report in seen.managers.iter().filter_map(|view| view.report.as_ref().ok()) {
        let mut first = HashMap::new();
        for volume in report.volumes.iter().filter(|volume| volume.kind == Kind::Writable) {
            let Some(guid) = volume.guid.as_deref() else { continue };
            if *first.entry(guid).or_insert(volume.at) != volume.at {
                shared.insert((&report.site, guid));
            }
        }
    }
    shared
}

/// Where a manager says that a volume lies. Its words are taken as they are.
fn location(site: &SiteName, place: &ManagedLocation) -> Location {
    let folder = place.folder.trim_matches('/');
    let path = if folder.is_empty() { place.file.clone() } else { format!("{folder}/{}", place.file) };
    Location { site: site.clone(), datastore: place.datastore.clone(), path }
}

/// Which sightings are of one disk by its id: by site and id, the sightings' numbers.
pub(super) fn by_guid<'s>(sightings: &'s [Sighting<'_>]) -> BTreeMap<(&'s SiteName, &'s str), Vec<usize>> {
    let mut found: BTreeMap<(&SiteName, &str), Vec<usize>> = BTreeMap::new();
    for (number, sighting) in sightings.iter().enumerate() {
        if let Some(guid) = sighting.guid() {
            found.entry((&sighting.at.location.site, guid)).or_default().push(number);
        }
    }
    found
}
