mod systems;

use std::collections::HashSet;

use proptest::prelude::*;
use stackferry_volume::descriptor::DescriptorSummary;
use stackferry_volume::manifest::FileRole;
use stackferry_volume::{FileStamp, Unprotectable};

use super::*;
use crate::fake_folder::{before, now};
use crate::scan::{Observation, Scan};
use crate::volume::VolumeFile;

fn merge(scans: &[Scan], known: &[KnownVolume]) -> Inventory {
    super::merge(&Snapshot::folders(scans), known)
}

const APPS: &str = "cloudvolumes/apps";
const WRITABLE: &str = "cloudvolumes/writable";

fn seen(datastore: &Scan, kind: Kind, path: &str, bytes: u64, cid: &str) -> Observation {
    let location =
        Location { site: datastore.site.clone(), datastore: datastore.datastore.clone(), path: format!("{path}.vmdk") };
    let stem = location.file().strip_suffix(".vmdk").unwrap().to_owned();
    let name = format!("{stem}-flat.vmdk");
    let flat = VolumeFile {
        name: FileName::new(&name).unwrap(),
        role: FileRole::Extent,
        bytes,
        mtime: before(),
        allocated: None,
    };
    Observation {
        kind,
        stem: Some(FileName::stem(&stem).unwrap()),
        shown_name: format!("{stem}.vmdk"),
        is_backup: false,
        at: VolumeLocation {
            location,
            datastore_type: None,
            reachable: true,
            seen: true,
            files: vec![flat],
            fingerprint: Fingerprint::new(vec![FileStamp { name, bytes, mtime: before() }], Some(cid.to_owned())),
            settled: true,
            quiet: true,
            observed: now(),
            descriptor: Some(DescriptorSummary {
                cid: Some(cid.to_owned()),
                uuid: None,
                create_type: "vmfs".to_owned(),
                logical_bytes: bytes,
            }),
            skip: None,
        },
    }
}

pub(super) fn datastore(site: &str, name: &str, rank: usize) -> Scan {
    Scan {
        site: SiteName(site.to_owned()),
        datastore: name.to_owned(),
        rank,
        datastore_type: None,
        observed: now(),
        reachable: true,
        complete: true,
        observations: Vec::new(),
        problems: Vec::new(),
        others: crate::scan::OtherFiles::default(),
        looked_at: vec!["cloudvolumes".to_owned()],
        not_listed: Vec::new(),
        fresh_descriptors: BTreeMap::new(),
        descriptors_seen: BTreeSet::new(),
    }
}

pub(super) fn with(mut scan: Scan, volumes: &[(Kind, &str, u64, &str)]) -> Scan {
    for (kind, path, bytes, cid) in volumes {
        let observation = seen(&scan, *kind, path, *bytes, cid);
        scan.observations.push(observation);
    }
    scan
}

pub(super) fn office(site: &str, name: &str, rank: usize, cid: &str) -> Scan {
    with(datastore(site, name, rank), &[(Kind::Appstack, "cloudvolumes/apps/Office", 4096, cid)])
}

fn again(inventory: &Inventory) -> Vec<KnownVolume> {
    inventory.volumes.iter().map(Volume::to_known).collect()
}

/// The inventory as lines: `id state protectable [places]: reason`.
pub(super) fn lines(inventory: &Inventory) -> Vec<String> {
    inventory
        .volumes
        .iter()
        .map(|volume| {
            let places: Vec<String> = volume
                .locations
                .iter()
                .map(|place| format!("{}{}", place.location.datastore, if place.seen { "" } else { "?" }))
                .collect();
            let reason = volume.reason.as_ref().map(|reason| format!(": {} {}", reason.code, reason.text));
            let can = if volume.protectable { "" } else { " not protectable" };
            format!("{} {}{can} [{}]{}", volume.id, volume.state, places.join(" "), reason.unwrap_or_default())
        })
        .collect()
}

#[test]
fn equal_appstacks_of_one_site_are_one_volume() {
    let scans = [office("dc1", "nfs02", 1, "1"), office("dc1", "nfs01", 0, "1"), office("dc2", "nfs01", 2, "1")];
    let inventory = merge(&scans, &[]);
    let id = VolumeId::further(Kind::Appstack, &FileName::new("Office").unwrap(), "dc2", "nfs01", APPS).unwrap();
    assert_eq!(lines(&inventory), ["appstack/Office ready [nfs01 nfs02]".to_owned(), format!("{id} ready [nfs01]")]);
    let volume = &inventory.volumes[0];
    assert_eq!((volume.size_bytes, volume.attached, volume.name.as_str()), (Some(4096), None, "Office"));
}

#[test]
fn an_equal_uuid_makes_equal_too_but_another_size_never_does() {
    let pair = |one: (u64, &str), two: (u64, &str)| {
        let mut scans = [office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "2")];
        for (scan, (bytes, uuid)) in scans.iter_mut().zip([one, two]) {
            let at = &mut scan.observations[0].at;
            at.files[0].bytes = bytes;
            at.descriptor.as_mut().unwrap().uuid = Some(uuid.to_owned());
        }
        merge(&scans, &[]).volumes.len()
    };
    assert_eq!(pair((8, "a"), (8, "a")), 1);
    assert_eq!(pair((8, "a"), (8, "b")), 2);
    assert_eq!(pair((8, "a"), (9, "a")), 2);
}

#[test]
fn different_disks_of_one_name_are_a_conflict_and_protected() {
    let scans = [office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "2")];
    let first = merge(&scans, &[]);
    insta::assert_snapshot!("conflict", lines(&first).join("\n"));
    assert_eq!(merge(&scans, &again(&first)), first, "and stay one as known volumes");
    let healed = [office("dc1", "nfs01", 0, "2"), office("dc1", "nfs02", 1, "2")];
    let later = merge(&healed, &again(&first));
    assert!(later.volumes.iter().all(|volume| volume.state == VolumeState::Ready));
    assert_eq!(later.volumes.len(), 2, "ids are fixed for ever");
}

#[test]
fn a_known_volume_whose_copies_differ_keeps_its_id() {
    let equal = [office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "1")];
    let known = again(&merge(&equal, &[]));
    let differ = [office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "2")];
    insta::assert_snapshot!("known_conflict", lines(&merge(&differ, &known)).join("\n"));
    let changed = merge(&[office("dc1", "nfs01", 0, "3")], &known[..]);
    assert_eq!(changed.volumes[0].id.to_string(), "appstack/Office", "a changed disk at its place is the same volume");
}

#[test]
fn two_writables_are_two_people() {
    let jdoe = (Kind::Writable, "cloudvolumes/writable/CORP!5C!jdoe", 8, "1");
    let scans = [with(datastore("dc1", "nfs01", 0), &[jdoe]), with(datastore("dc1", "nfs02", 1), &[jdoe])];
    let inventory = merge(&scans, &[]);
    let id =
        VolumeId::further(Kind::Writable, &FileName::new("CORP!5C!jdoe").unwrap(), "dc1", "nfs02", WRITABLE).unwrap();
    assert_eq!(lines(&inventory), ["writable/CORP!5C!jdoe ready [nfs01]".to_owned(), format!("{id} ready [nfs02]")]);
    assert_eq!(inventory.volumes[0].name, "CORP\\jdoe");
    assert_eq!(inventory.volumes[1].owner.as_ref().unwrap().name, "CORP\\jdoe");
}

#[test]
fn a_known_volume_is_found_where_a_copy_of_it_turns_up() {
    let known = again(&merge(&[office("dc1", "nfs01", 0, "1")], &[]));
    let moved = [datastore("dc1", "nfs01", 0), office("dc1", "nfs02", 1, "1")];
    assert_eq!(lines(&merge(&moved, &known)), ["appstack/Office ready [nfs02]"]);
    let other = [datastore("dc1", "nfs01", 0), office("dc1", "nfs02", 1, "2")];
    insta::assert_snapshot!("other", lines(&merge(&other, &known)).join("\n"));
}

#[test]
fn what_is_not_seen_is_gone_only_if_it_was_looked_for() {
    let known = again(&merge(&[office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "1")], &[]));
    let away = |name: &str, rank| Scan { reachable: false, complete: false, ..datastore("dc1", name, rank) };
    let blind = Scan { not_listed: vec![APPS.to_owned()], ..datastore("dc1", "nfs01", 0) };
    let narrow = Scan { looked_at: vec!["appvolumes".to_owned()], ..datastore("dc1", "nfs01", 0) };
    let empty = |name: &str, rank| datastore("dc1", name, rank);
    let texts: Vec<String> = [
        vec![empty("nfs01", 0), empty("nfs02", 1)],
        vec![empty("nfs01", 0), away("nfs02", 1)],
        vec![away("nfs01", 0), away("nfs02", 1)],
        vec![away("nfs01", 0), office("dc1", "nfs02", 1, "1")],
        vec![blind, empty("nfs02", 1)],
        vec![narrow, empty("nfs02", 1)],
        vec![],
    ]
    .iter()
    .map(|scans| lines(&merge(scans, &known)).join("\n"))
    .collect();
    insta::assert_snapshot!("absent", texts.join("\n"));
    let gone = merge(&[empty("nfs01", 0), empty("nfs02", 1)], &known);
    let back = merge(&[office("dc1", "nfs01", 0, "7")], &again(&gone));
    assert_eq!(back.volumes[0].id.to_string(), "appstack/Office");
}

#[test]
fn one_usable_place_is_enough_and_else_the_best_reason_is_told() {
    let mut scans = [office("dc1", "vsan01", 0, "1"), office("dc1", "nfs01", 1, "1")];
    let vsan = Unprotectable::new(ReasonCode::VsanOnly, "Office.vmdk is only a pointer").remedy("Add a datastore.");
    let at = &mut scans[0].observations[0].at;
    at.files.clear();
    at.skip = Some(vsan.into());
    assert_eq!(lines(&merge(&scans, &[])), ["appstack/Office ready [vsan01 nfs01]"]);
    let changed = SkipReason::deferred(ReasonCode::Busy, "Office-flat.vmdk was changed");
    scans[1].observations[0].at.skip = Some(changed);
    assert_eq!(
        lines(&merge(&scans, &[])),
        ["appstack/Office deferred [vsan01 nfs01]: busy Office-flat.vmdk was changed"]
    );
    let only = merge(&scans[..1], &[]);
    assert_eq!(
        lines(&only),
        ["appstack/Office unprotectable not protectable [vsan01]: vsan_only Office.vmdk is only a pointer"]
    );
    assert_eq!(only.volumes[0].remedy.as_deref(), Some("Add a datastore."));
}

#[test]
fn the_plain_id_is_for_what_can_be_protected() {
    let mut lost = office("dc1", "nfs01", 0, "1");
    lost.observations[0].at.descriptor = None;
    lost.observations[0].at.skip = Some(Unprotectable::new(ReasonCode::Missing, "no descriptor").into());
    let jdoe = [(Kind::Writable, "appvolumes/writables_backup/CORP!5C!jdoe", 8, "1")];
    let mut backup = with(datastore("dc1", "nfs02", 1), &jdoe);
    backup.observations[0].is_backup = true;
    backup.observations[0].at.skip = Some(Unprotectable::new(ReasonCode::AppVolumesBackup, "a backup").into());
    let mut bad = office("dc1", "nfs03", 2, "1");
    bad.observations[0].stem = None;
    bad.observations[0].shown_name = "O/ff\tice.vmdk".to_owned();
    bad.observations[0].at.skip = Some(Unprotectable::new(ReasonCode::BadName, "a bad name").into());
    let scans = [lost, backup, bad, office("dc1", "nfs04", 3, "1")];
    let inventory = merge(&scans, &[]);
    insta::assert_snapshot!("plain_id", lines(&inventory).join("\n"));
    assert_eq!(merge(&scans, &again(&inventory)), inventory);
}

#[test]
fn an_id_is_never_given_twice() {
    let scans = [office("dc1", "nfs01", 0, "1")];
    let first = merge(&scans, &[]).volumes.remove(0).to_known();
    let further = VolumeId::further(Kind::Appstack, &first.stem, "dc1", "nfs01", APPS).unwrap();
    let elsewhere = |id: VolumeId| KnownVolume { id, locations: Vec::new(), content: None, ..first.clone() };
    let known = [elsewhere(first.id.clone()), elsewhere(further.clone())];
    let inventory = merge(&scans, &known);
    let new: Vec<&Volume> = inventory.volumes.iter().filter(|volume| volume.state == VolumeState::Ready).collect();
    assert_eq!(new.len(), 1);
    assert!(new[0].id != first.id && new[0].id != further, "{}", new[0].id);
}

/// One volume at one place of a small world, in which everything meets everything.
type Place = (usize, usize, usize, u64, usize);

fn world(places: &[Place], away: &[usize]) -> Vec<Scan> {
    let names = ["nfs01", "nfs02", "nfs03"];
    let mut scans: Vec<Scan> = (0..6).map(|at| datastore(["dc1", "dc2"][at / 3], names[at % 3], at)).collect();
    for (at, folder, stem, bytes, cid) in places {
        let (kind, folder) =
            [(Kind::Appstack, APPS), (Kind::Writable, WRITABLE), (Kind::Image, "cloudvolumes/x")][*folder];
        let path = format!("{folder}/{}", ["a", "b"][*stem]);
        let scan = &mut scans[*at];
        let mut observation = seen(scan, kind, &path, *bytes, &cid.to_string());
        if *cid == 2 {
            let disk = observation.at.descriptor.as_mut().unwrap();
            (disk.cid, disk.uuid) = (Some("1".to_owned()), Some("u".to_owned()));
        }
        if *cid == 3 {
            observation.at.descriptor.as_mut().unwrap().uuid = Some("u".to_owned());
        }
        if *cid == 4 {
            observation.at.descriptor = None;
            observation.at.skip = Some(Unprotectable::new(ReasonCode::BadDescriptor, "bad").into());
        }
        if !scan.observations.iter().any(|other| other.at.location == observation.at.location) {
            scan.observations.push(observation);
        }
    }
    for at in away {
        let scan = &mut scans[*at];
        (scan.reachable, scan.complete) = (false, false);
        scan.observations.clear();
    }
    scans
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    proptest::collection::vec((0usize..6, 0usize..3, 0usize..2, 8u64..10, 0usize..5), 0..16)
}

fn check(inventory: &Inventory, scans: &[Scan]) {
    let ids: HashSet<&VolumeId> = inventory.volumes.iter().map(|volume| &volume.id).collect();
    assert_eq!(ids.len(), inventory.volumes.len(), "an id twice");
    let mut places = HashSet::new();
    for volume in &inventory.volumes {
        for place in &volume.locations {
            assert!(places.insert(&place.location), "{} is of two volumes", place.location);
        }
        let sites: HashSet<&SiteName> = volume.locations.iter().map(|place| &place.location.site).collect();
        assert_eq!(sites.len(), 1, "{} lies at two sites", volume.id);
        assert!(volume.kind.is_replicated() || volume.locations.len() == 1, "{} lies at two places", volume.id);
        assert_eq!(volume.state == VolumeState::Ready, volume.reason.is_none());
    }
    for scan in scans {
        for seen in &scan.observations {
            assert!(places.contains(&seen.at.location), "{} is lost", seen.at.location);
        }
    }
}

proptest! {
    #[test]
    fn the_order_of_what_was_seen_does_not_matter(
        world_of in places(), turn in 0usize..6, away in proptest::collection::vec(0usize..6, 0..2),
    ) {
        let scans = world(&world_of, &away);
        let first = merge(&scans, &[]);
        check(&first, &scans);
        let mut turned = scans.clone();
        turned.rotate_left(turn);
        turned.reverse();
        turned.iter_mut().for_each(|scan| scan.observations.reverse());
        prop_assert_eq!(&merge(&turned, &[]), &first);
        let known = again(&first);
        let backwards: Vec<KnownVolume> = known.iter().rev().cloned().collect();
        prop_assert_eq!(merge(&turned, &backwards), merge(&scans, &known));
    }

    #[test]
    fn ids_stay_as_they_are(world_of in places(), then in places(), away in proptest::collection::vec(0usize..6, 0..3)) {
        let scans = world(&world_of, &[]);
        let first = merge(&scans, &[]);
        prop_assert_eq!(&merge(&scans, &again(&first)), &first, "the same again");
        let later_scans = world(&then, &away);
        let later = merge(&later_scans, &again(&first));
        check(&later, &later_scans);
        for volume in &first.volumes {
            let same = later.volumes.iter().find(|later| later.id == volume.id);
            prop_assert!(same.is_some(), "{} was forgotten", volume.id);
        }
        // What lies where a volume lay is that volume.
        for volume in &later.volumes {
            for place in &volume.locations {
                let former = first.volumes.iter().find(|first| first.locations.iter().any(|old| old.location == place.location));
                prop_assert!(former.is_none_or(|former| former.id == volume.id));
            }
        }
    }
}
