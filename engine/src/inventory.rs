//! One discovery round: all datastores are scanned at once, and what they hold becomes one inventory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_catalog::{
    DatastoreKey, DescriptorRow, InventoryRound, ObservedLocation, ObservedVolume, StatusReason, UnreachableDatastore,
    VolumeRow, VolumeState,
};
use stackferry_config::DatastoreConfig;
use stackferry_discover::emptied;
use stackferry_discover::{
    ContentKey, DescriptorCache, Inventory, KnownVolume, OtherFile, Scan, ScanProblem, Snapshot, Volume,
    VolumeLocation, merge, scan,
};
use stackferry_volume::name::{decode, without_vmdk};
use stackferry_volume::{FileName, Location, SiteName};

use super::{incident, renamed, replicas};
use crate::app::{App, SystemReports, mounts};
use crate::blocking::blocking;
use stackferry_problem::Problem;

/// What a round saw.
#[derive(Debug)]
pub struct Round {
    /// The volumes.
    pub inventory: Inventory,
    /// What else a person should know: datastores that can't be reached, folders that can't be read.
    pub problems: Vec<ScanProblem>,
    /// What lies on the datastores beside volumes: how much, and each with its site and datastore.
    pub others: OtherDisks,
    /// Datastores that could be looked at.
    pub reachable: usize,
    /// Datastores of which all was looked at.
    pub complete: usize,
    /// All datastores.
    pub datastores: usize,
    /// App Volumes Managers and vSphere systems that did not answer.
    pub systems_away: usize,
}

impl Round {
    /// Whether something may lie at the sources that was not seen.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.complete < self.datastores || self.systems_away > 0
    }
}

/// What lies on the datastores beside volumes.
#[derive(Debug, Default)]
pub struct OtherDisks {
    /// How much there is.
    pub count: u64,
    /// Each of it that a scan lists, with where it lies.
    pub listed: Vec<OtherEntry>,
}

/// Something on a datastore that is no volume.
#[derive(Debug)]
pub struct OtherEntry {
    /// Where it lies.
    pub location: Location,
    /// The datastore's type, as far as it is known.
    pub datastore_type: Option<String>,
    /// What it is.
    pub entry: OtherFile,
}

impl OtherDisks {
    fn of(scans: &[Scan]) -> Self {
        let listed = scans.iter().flat_map(|scan| {
            scan.others.listed.iter().map(|entry| OtherEntry {
                location: Location {
                    site: scan.site.clone(),
                    datastore: scan.datastore.clone(),
                    path: entry.path.clone(),
                },
                datastore_type: scan.datastore_type.clone(),
                entry: entry.clone(),
            })
        });
        Self { count: scans.iter().map(|scan| scan.others.count).sum(), listed: listed.collect() }
    }
}

/// Looks at every datastore, and records what is seen in the catalog.
///
/// # Errors
/// The catalog's, and, where the catalog knows no vault yet, the vault's. A datastore that can't be reached is a problem
/// in the round, not an error.
pub async fn look(app: &App) -> Result<Round, Problem> {
    // Ids are given once and for ever, and the vault knows those that were given: a catalog that was lost must not give
    // them to other disks.
    if app.config().vault().is_ok() && app.catalog().vault_id().await?.is_none() {
        app.vault().await?;
    }
    // First, since they tell in which folders volumes lie, and how datastores are called.
    let told = app.ask_systems().await;
    if app.cancel().is_cancelled() {
        return Err(Problem::interrupted("the round"));
    }
    let renamed = renamed::follow(app, &told).await?;
    let known = known_volumes(app).await?;
    load_descriptors(app).await?;
    let (looking, telling) = (app.clone(), Arc::clone(&told));
    let scanning = blocking(move || scan_all(&looking, &telling));
    let mut scans = app.unless_ended("the round", scanning).await??;
    emptied::distrust(&mut scans, &known, &told.managers);
    let mut problems = told.problems.clone();
    problems.extend(renamed);
    for scan in &scans {
        app.change_descriptors(|descriptors| descriptors.absorb(scan));
        problems.extend(scan.problems.iter().cloned());
        let key = DatastoreKey { site: scan.site.clone(), datastore: scan.datastore.clone() };
        app.metrics().sources().looked_at(&key, scan.observed, scan.reachable, scan.complete);
    }
    keep_descriptors(app, &scans).await?;
    let seen = Snapshot { scans: &scans, managers: &told.managers, vspheres: &told.vspheres };
    let mut inventory = merge(&seen, &known);
    replicas::flag(app, &mut inventory).await?;
    incident::flag(app, &mut inventory).await?;
    app.catalog().record_inventory(&to_catalog(&inventory, &seen, &known)).await?;
    let reachable = scans.iter().filter(|scan| scan.reachable).count();
    let complete = scans.iter().filter(|scan| scan.complete).count();
    let datastores = app.config().datastores.len();
    let others = OtherDisks::of(&scans);
    Ok(Round { inventory, problems, others, reachable, complete, datastores, systems_away: told.away() })
}

/// What earlier processes read of descriptors, once in the life of this one.
async fn load_descriptors(app: &App) -> Result<(), Problem> {
    if app.descriptors_loaded() {
        return Ok(());
    }
    for datastore in &app.config().datastores {
        let key =
            DatastoreKey { site: SiteName(datastore.site.as_str().to_owned()), datastore: datastore.name.to_string() };
        let cached = app.catalog().cached_descriptors(&key).await?;
        app.change_descriptors(|descriptors| {
            for (path, cached) in cached {
                let location = Location { site: key.site.clone(), datastore: key.datastore.clone(), path };
                descriptors.load(location, cached.bytes, cached.mtime, cached.content);
            }
        });
    }
    Ok(())
}

/// Keeps what was read for the next process.
async fn keep_descriptors(app: &App, scans: &[Scan]) -> Result<(), Problem> {
    for scan in scans.iter().filter(|scan| scan.complete) {
        let lasting: HashMap<String, DescriptorRow> = {
            let descriptors = app.descriptors();
            let lasting = descriptors.lasting(&scan.site, &scan.datastore);
            lasting
                .map(|(path, one)| {
                    let kept = DescriptorRow { bytes: one.bytes, mtime: one.mtime, content: one.head.clone() };
                    (path.to_owned(), kept)
                })
                .collect()
        };
        let key = DatastoreKey { site: scan.site.clone(), datastore: scan.datastore.clone() };
        app.catalog().store_descriptors(&key, &lasting).await?;
    }
    Ok(())
}

/// Every datastore at once, each by a thread that is left behind where its mount does not answer.
fn scan_all(app: &App, told: &Arc<SystemReports>) -> Vec<Scan> {
    let datastores = &app.config().datastores;
    std::thread::scope(|scope| {
        let scans: Vec<_> = datastores
            .iter()
            .enumerate()
            .map(|(rank, datastore)| scope.spawn(move || scan_one(app, rank, datastore, told)))
            .collect();
        scans.into_iter().filter_map(|scan| scan.join().ok()).collect()
    })
}

/// A datastore that does not answer, or whose scan panicked, is one that can't be reached: its volumes stay as they were.
fn scan_one(app: &App, rank: usize, datastore: &DatastoreConfig, told: &Arc<SystemReports>) -> Scan {
    let (scanning, scanned, telling) = (app.clone(), datastore.clone(), Arc::clone(told));
    let result = app.within(mounts::mount(datastore), move || {
        let view = scanning.view(rank, &scanned, &telling);
        scan(&view, &scanning.descriptors(), Timestamp::now())
    });
    result.unwrap_or_else(|problem| {
        let view = app.view_of(rank, datastore, told, Err(problem));
        scan(&view, &DescriptorCache::default(), Timestamp::now())
    })
}

/// What the catalog, which indexes the vault, knows of volumes.
async fn known_volumes(app: &App) -> Result<Vec<KnownVolume>, Problem> {
    let rows = app.catalog().volumes().await?;
    Ok(rows.iter().filter_map(known).collect())
}

fn known(row: &VolumeRow) -> Option<KnownVolume> {
    let places = row.locations.iter().chain(&row.former_locations);
    let content = places.clone().find_map(|place| content(&row.stem, place.fingerprint.as_ref()?));
    Some(KnownVolume {
        id: row.id.clone(),
        kind: row.id.kind(),
        stem: FileName::new(&row.stem).ok()?,
        generation: row.generation,
        guid: row.guid.clone(),
        locations: places.map(|place| place.location.clone()).collect(),
        content,
        is_gone: row.state == VolumeState::Gone,
    })
}

/// What told a disk from another, of what its files looked like: extents are named after the stem (`-flat.vmdk`,
/// `-f001.vmdk`) by every tool that makes such disks.
fn content(stem: &str, fingerprint: &stackferry_volume::Fingerprint) -> Option<ContentKey> {
    let is_extent = |name: &str| {
        let rest = name.strip_prefix(stem)?.strip_suffix(".vmdk")?;
        let numbered = rest
            .strip_prefix("-f")
            .is_some_and(|number| number.len() == 3 && number.bytes().all(|digit| digit.is_ascii_digit()));
        Some(rest == "-flat" || numbered)
    };
    let extents = fingerprint.files.iter().filter(|file| is_extent(&file.name) == Some(true));
    let extent_bytes = extents.map(|file| file.bytes).sum();
    (extent_bytes > 0).then_some(())?;
    Some(ContentKey { extent_bytes, cid: fingerprint.cid.clone()?, uuid: None })
}

fn to_catalog(inventory: &Inventory, seen: &Snapshot<'_>, known: &[KnownVolume]) -> InventoryRound {
    let scans = seen.scans;
    let key = |scan: &Scan| DatastoreKey { site: scan.site.clone(), datastore: scan.datastore.clone() };
    let whys: BTreeMap<&str, &str> = scans
        .iter()
        .flat_map(|scan| &scan.problems)
        .map(|problem| (problem.subject.as_str(), problem.text.as_str()))
        .collect();
    let unreachable = scans.iter().filter(|scan| !scan.reachable).map(|scan| {
        let first = scan.problems.first().map(|problem| problem.text.clone());
        let why = whys.get(scan.datastore.as_str()).map(|why| (*why).to_owned()).or(first);
        UnreachableDatastore { key: key(scan), why: why.unwrap_or_else(|| "it could not be looked at".to_owned()) }
    });
    // On a datastore that is not looked at lies what App Volumes tells of, once it has told all.
    let locations = known.iter().flat_map(|known| &known.locations);
    let told_in_full: BTreeSet<DatastoreKey> = locations
        .filter(|location| seen.is_told_only(location))
        .map(|location| DatastoreKey { site: location.site.clone(), datastore: location.datastore.clone() })
        .collect();
    InventoryRound {
        at: Timestamp::now(),
        volumes: inventory.volumes.iter().filter(|volume| volume.state != VolumeState::Gone).map(observed).collect(),
        scanned: scans.iter().filter(|scan| scan.complete).map(key).chain(told_in_full).collect(),
        unreachable: unreachable.collect(),
        complete: !scans.is_empty() && scans.iter().all(|scan| scan.complete),
    }
}

fn observed(volume: &Volume) -> ObservedVolume {
    // Where App Volumes says that it lies belongs to it, too: what is found there later is this volume.
    let is_gone = |place: &VolumeLocation| place.skip.as_ref().is_some_and(|skip| skip.state == VolumeState::Gone);
    let locations = volume.locations.iter().filter(|place| !is_gone(place)).map(|place| ObservedLocation {
        location: place.location.clone(),
        datastore_type: place.datastore_type.clone(),
        reachable: place.seen && place.reachable,
        fingerprint: place.seen.then(|| place.fingerprint.clone()),
        settled: place.settled,
    });
    ObservedVolume {
        id: volume.id.clone(),
        stem: volume.stem.to_string(),
        name: volume.name.clone(),
        owner: volume.owner.clone(),
        guid: volume.guid.clone(),
        generation: volume.generation,
        size_bytes: volume.size_bytes,
        state: volume.state,
        attached: volume.attached,
        protectable: volume.protectable,
        reason: volume
            .reason
            .as_ref()
            .map(|reason| StatusReason { code: reason.code.to_string(), text: reason.text.clone() }),
        remedy: volume.remedy.clone(),
        locations: locations.collect(),
    }
}

/// A volume's name as a person reads it, for one that is known by its location only.
#[must_use]
pub fn shown_name(location: &Location) -> String {
    decode(without_vmdk(location.file()))
}
