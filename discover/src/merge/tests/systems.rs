//! What App Volumes and vSphere tell, merged with what the datastores hold.

use stackferry_volume::Kind;
use stackferry_vsphere::{AttachedDisk, Datastore, Moid};

use super::*;
use crate::app_volumes::{ManagedDatastore, ManagedLocation, ManagedVolume, Report, Status, VolumeFamily, VolumeRef};
use crate::fake_folder::now;
use crate::scan::Scan;
use crate::snapshot::{ManagerView, VsphereInventory, VsphereView};

const JDOE: &str = "cloudvolumes/writable/CORP!5C!jdoe";

/// A volume as a manager tells it, at places `datastore:path without .vmdk`.
fn told(kind: Kind, id: u64, guid: &str, places: &[&str]) -> ManagedVolume {
    let place = |text: &&str| {
        let (datastore, path) = text.split_once(':').unwrap();
        let (folder, file) = path.rsplit_once('/').unwrap();
        ManagedLocation {
            datastore: datastore.to_owned(),
            folder: folder.to_owned(),
            file: format!("{file}.vmdk"),
            reachable: Some(true),
            missing: Some(false),
            machine_manager: None,
        }
    };
    let family = match kind {
        Kind::Appstack => VolumeFamily::AppStack,
        Kind::Package => VolumeFamily::Package,
        _ => VolumeFamily::Writable,
    };
    ManagedVolume {
        at: VolumeRef { family, id },
        kind,
        name: format!("volume {id}"),
        guid: Some(guid.to_owned()),
        status: Status { word: "enabled".to_owned(), ..Status::default() },
        attached: Some(false),
        attached_word: None,
        attached_to: None,
        owner: None,
        owner_type: None,
        product: None,
        places: places.iter().map(place).collect(),
        size_mib: None,
        version: None,
        stage: None,
        current: None,
        assignments: Vec::new(),
        revision: "1".to_owned(),
    }
}

fn manager(site: &str, name: &str, volumes: Vec<ManagedVolume>) -> ManagerView {
    let datastores: BTreeSet<String> =
        volumes.iter().flat_map(|volume| &volume.places).map(|place| place.datastore.clone()).collect();
    let datastore =
        |name: String| ManagedDatastore { name, kind: None, attachable: Some(true), accessible: Some(true) };
    let site = SiteName(site.to_owned());
    let report = Report {
        manager: name.to_owned(),
        site: site.clone(),
        version: "2.17.0".to_owned(),
        observed: now(),
        complete: true,
        volumes,
        datastores: datastores.into_iter().map(datastore).collect(),
        groups: Vec::new(),
        folders: Vec::new(),
        problems: Vec::new(),
    };
    ManagerView { name: name.to_owned(), site, report: Ok(report) }
}

fn moid(kind: &str, value: &str) -> Moid {
    Moid { kind: kind.to_owned(), value: value.to_owned() }
}

fn vsphere(site: &str, datastores: &[(&str, &str)], attached: &[(&str, &str, &str)]) -> VsphereView {
    let datastore = |(name, kind): &(&str, &str)| Datastore {
        id: moid("Datastore", name),
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        url: String::new(),
        capacity: 0,
        free: 0,
        accessible: true,
        maintenance: None,
        mounts: Vec::new(),
        browser: moid("HostDatastoreBrowser", name),
        datacenter: None,
    };
    let disk = |(vm, datastore, path): &(&str, &str, &str)| AttachedDisk {
        vm: moid("VirtualMachine", vm),
        vm_name: (*vm).to_owned(),
        host: None,
        powered_on: true,
        datastore: (*datastore).to_owned(),
        path: format!("{path}.vmdk"),
        mode: "independent_nonpersistent".to_owned(),
    };
    let inventory = VsphereInventory {
        datastores: datastores.iter().map(datastore).collect(),
        hosts: Vec::new(),
        attached: attached.iter().map(disk).collect(),
        unreadable: Vec::new(),
    };
    VsphereView { name: "vc1".to_owned(), site: SiteName(site.to_owned()), inventory: Ok(inventory) }
}

fn look(scans: &[Scan], managers: &[ManagerView], vspheres: &[VsphereView], known: &[KnownVolume]) -> Inventory {
    crate::merge(&Snapshot { scans, managers, vspheres }, known)
}

fn again(inventory: &Inventory) -> Vec<KnownVolume> {
    inventory.volumes.iter().map(Volume::to_known).collect()
}

fn writable(site: &str, name: &str, cid: &str) -> Scan {
    with(datastore(site, name, 0), &[(Kind::Writable, JDOE, 4096, cid)])
}

#[test]
fn an_appstack_on_three_datastores_is_one_volume() {
    let mut away = datastore("dc1", "nfs02", 1);
    away.reachable = false;
    away.complete = false;
    let scans = [office("dc1", "nfs01", 0, "7"), away];
    let path = "cloudvolumes/apps/Office";
    let places = [format!("vsan01:{path}"), format!("nfs02:{path}"), format!("nfs01:{path}")];
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let manager = manager("dc1", "avm1", vec![told(Kind::Appstack, 1, "g1", &places)]);
    let vsphere = vsphere("dc1", &[("vsan01", "vsan"), ("nfs01", "NFS"), ("nfs02", "NFS")], &[]);
    let inventory = look(&scans, &[manager], &[vsphere], &[]);
    let [volume] = inventory.volumes.as_slice() else { panic!("{:?}", lines(&inventory)) };
    assert_eq!((volume.state, volume.locations.len()), (VolumeState::Ready, 3));
    let usable: Vec<_> = volume.usable().map(|place| place.location.datastore.as_str()).collect();
    assert_eq!(usable, ["nfs01"]);
    assert_eq!(volume.guid.as_deref(), Some("g1"));
    assert_eq!(look(&scans, &[], &[], &again(&inventory)).volumes.len(), 1, "and stays one when the manager is away");
}

#[test]
fn what_lies_on_vsan_only_is_unprotectable_with_a_remedy() {
    let manager = manager("dc1", "avm1", vec![told(Kind::Package, 1, "g1", &["vsan01:appvolumes/packages/Zip"])]);
    let inventory = look(&[], &[manager], &[vsphere("dc1", &[("vsan01", "vsan")], &[])], &[]);
    let volume = &inventory.volumes[0];
    assert_eq!(volume.id.to_string(), "package/Zip");
    assert_eq!((volume.state, volume.protectable), (VolumeState::Unprotectable, false));
    assert_eq!(volume.reason.as_ref().unwrap().code, ReasonCode::VsanOnly);
    assert!(volume.remedy.as_ref().unwrap().contains("storage group"));
    assert_eq!(volume.locations[0].datastore_type.as_deref(), Some("vsan"));
}

#[test]
fn one_id_makes_one_volume_and_sites_never_merge() {
    let scans = [writable("dc1", "nfs01", "1"), writable("dc1", "nfs02", "2")];
    let alone = look(&scans, &[], &[], &[]);
    assert_eq!(alone.volumes.len(), 2, "two people, as far as folders tell");
    let places = [format!("nfs01:{JDOE}"), format!("nfs02:{JDOE}")];
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let one = manager("dc1", "avm1", vec![told(Kind::Writable, 1, "g1", &places)]);
    let inventory = look(&scans, std::slice::from_ref(&one), &[], &[]);
    assert_eq!(inventory.volumes.len(), 1, "{:?}", lines(&inventory));
    assert_eq!(inventory.volumes[0].state, VolumeState::Conflict, "but its disks differ");

    let scans = [writable("dc1", "nfs01", "1"), writable("dc2", "nfs01", "1")];
    let place = format!("nfs01:{JDOE}");
    let managers = [
        manager("dc1", "avm1", vec![told(Kind::Writable, 1, "g1", &[&place])]),
        manager("dc2", "avm2", vec![told(Kind::Writable, 1, "g1", &[&place])]),
    ];
    let inventory = look(&scans, &managers, &[], &[]);
    assert_eq!(inventory.volumes.len(), 2);
    assert_eq!(look(&scans, &managers, &[], &again(&inventory)), inventory);
}

#[test]
fn writables_of_two_people_with_one_disk_id_are_two_volumes() {
    let other = "cloudvolumes/writable/CORP!5C!asmith";
    let scans =
        [with(datastore("dc1", "nfs01", 0), &[(Kind::Writable, JDOE, 4096, "1"), (Kind::Writable, other, 4096, "1")])];
    let (first, second) = (format!("nfs01:{JDOE}"), format!("nfs01:{other}"));
    let jdoe = told(Kind::Writable, 1, "g1", &[&first]);
    let asmith = told(Kind::Writable, 2, "g1", &[&second]);
    let before = look(&scans, &[manager("dc1", "avm1", vec![jdoe.clone()])], &[], &[]);
    let ids = |inventory: &Inventory| {
        let id = |volume: &Volume| (volume.id.to_string(), volume.generation, volume.locations.len());
        inventory.volumes.iter().map(id).collect::<Vec<_>>()
    };
    let expected = [
        ("writable/CORP!5C!asmith".to_owned(), Generation::FIRST, 1),
        ("writable/CORP!5C!jdoe".to_owned(), Generation::FIRST, 1),
    ];
    let both = manager("dc1", "avm1", vec![jdoe, asmith.clone()]);
    let inventory = look(&scans, std::slice::from_ref(&both), &[], &again(&before));
    assert_eq!(ids(&inventory), expected);
    for volume in &inventory.volumes {
        assert_eq!((volume.state, volume.protectable), (VolumeState::Conflict, true));
        assert!(volume.reason.as_ref().unwrap().text.contains("several writables"), "{:?}", volume.reason);
    }
    assert_eq!(ids(&look(&scans, &[both], &[], &[])), expected, "also where nothing was known before");
    let left = [with(datastore("dc1", "nfs01", 0), &[(Kind::Writable, other, 4096, "1")])];
    let alone = look(&left, &[manager("dc1", "avm1", vec![asmith])], &[], &again(&inventory));
    assert_eq!(ids(&alone), expected, "and neither takes the other's place when that is gone");
    let states: Vec<_> = alone.volumes.iter().map(|volume| volume.state).collect();
    assert_eq!(states, [VolumeState::Ready, VolumeState::Gone]);
}

#[test]
fn a_new_id_under_an_old_name_is_a_new_generation() {
    let place = format!("nfs01:{JDOE}");
    let with_id = |guid: &str| manager("dc1", "avm1", vec![told(Kind::Writable, 1, guid, &[&place])]);
    let first = look(&[writable("dc1", "nfs01", "1")], &[with_id("g1")], &[], &[]);
    let second = look(&[writable("dc1", "nfs01", "2")], &[with_id("g2")], &[], &again(&first));
    let [volume] = second.volumes.as_slice() else { panic!("{:?}", lines(&second)) };
    assert_eq!(volume.id, first.volumes[0].id);
    assert_eq!((volume.generation, volume.guid.as_deref()), (Generation(2), Some("g2")));
    // While the manager is away nothing is known to have changed.
    let third = look(&[writable("dc1", "nfs01", "2")], &[], &[], &again(&second));
    assert_eq!((third.volumes[0].generation, third.volumes[0].guid.as_deref()), (Generation(2), Some("g2")));
}

#[test]
fn a_volume_found_in_a_folder_keeps_its_id_once_reported() {
    let alone = look(&[writable("dc1", "nfs01", "1")], &[], &[], &[]);
    let place = format!("nfs01:{JDOE}");
    let manager = manager("dc1", "avm1", vec![told(Kind::Writable, 1, "g1", &[&place])]);
    let named = look(&[writable("dc1", "nfs01", "1")], &[manager], &[], &again(&alone));
    assert_eq!(named.volumes.len(), 1);
    assert_eq!(named.volumes[0].id, alone.volumes[0].id);
    assert_eq!((named.volumes[0].generation, named.volumes[0].guid.as_deref()), (Generation::FIRST, Some("g1")));
}

#[test]
fn a_moved_writable_is_known_by_its_guid() {
    let at = |datastore: &str| {
        manager("dc1", "avm1", vec![told(Kind::Writable, 1, "g1", &[&format!("{datastore}:{JDOE}")])])
    };
    let first = look(&[writable("dc1", "nfs01", "1")], &[at("nfs01")], &[], &[]);
    let moved = [datastore("dc1", "nfs01", 0), writable("dc1", "nfs02", "1")];
    let second = look(&moved, &[at("nfs02")], &[], &again(&first));
    assert_eq!(lines(&second), ["writable/CORP!5C!jdoe ready [nfs02]"]);
    let left = [writable("dc1", "nfs01", "1"), writable("dc1", "nfs02", "5")];
    let second = look(&left, &[at("nfs02")], &[], &again(&first));
    let own = second.volumes.iter().find(|volume| volume.id == first.volumes[0].id).unwrap();
    assert_eq!(own.locations.len(), 1);
    assert_eq!(own.locations[0].location.datastore, "nfs02");
    assert_eq!(second.volumes.len(), 2, "what was left behind is shown: {:?}", lines(&second));
}

#[test]
fn attachment_comes_from_either_system_and_holds_writables_only() {
    let scans = [with(
        datastore("dc1", "nfs01", 0),
        &[(Kind::Writable, JDOE, 4096, "1"), (Kind::Appstack, "cloudvolumes/apps/Office", 4096, "2")],
    )];
    let attached = [("VDI-042", "nfs01", JDOE), ("VDI-042", "nfs01", "cloudvolumes/apps/Office")];
    let inventory = look(&scans, &[], &[vsphere("dc1", &[("nfs01", "NFS")], &attached)], &[]);
    let states: Vec<_> = inventory.volumes.iter().map(|volume| (volume.kind, volume.state, volume.attached)).collect();
    assert_eq!(
        states,
        [(Kind::Appstack, VolumeState::Ready, Some(true)), (Kind::Writable, VolumeState::Deferred, Some(true))]
    );
    let mut volume = told(Kind::Writable, 1, "g1", &[&format!("nfs01:{JDOE}")]);
    volume.attached = Some(true);
    let scans = [writable("dc1", "nfs01", "1")];
    let inventory = look(&scans, &[manager("dc1", "avm1", vec![volume])], &[], &[]);
    assert_eq!(inventory.volumes[0].reason.as_ref().unwrap().code, ReasonCode::Attached);
    let detached = look(&scans, &[], &[vsphere("dc1", &[("nfs01", "NFS")], &[])], &[]);
    assert_eq!((detached.volumes[0].state, detached.volumes[0].attached), (VolumeState::Ready, Some(false)));
}

#[test]
fn a_writable_of_unknown_attachment_waits() {
    let away = ManagerView {
        name: "avm1".to_owned(),
        site: SiteName("dc1".to_owned()),
        report: Err("it can't be reached".to_owned()),
    };
    let scans = [writable("dc1", "nfs01", "1")];
    let inventory = look(&scans, std::slice::from_ref(&away), &[], &[]);
    let reason = inventory.volumes[0].reason.as_ref().unwrap();
    assert_eq!(reason.code, ReasonCode::AttachmentUnknown);
    assert!(reason.text.contains("avm1"), "{}", reason.text);
    assert_eq!(
        look(&[office("dc1", "nfs01", 0, "1")], std::slice::from_ref(&away), &[], &[]).volumes[0].state,
        VolumeState::Ready
    );
    let other_site = ManagerView { site: SiteName("dc2".to_owned()), ..away };
    assert_eq!(look(&scans, &[other_site], &[], &[]).volumes[0].state, VolumeState::Ready);
}

#[test]
fn a_writable_is_copied_only_when_reported_as_detached() {
    let scans = [writable("dc1", "nfs01", "1")];
    let listed = |attached, word: Option<&str>| {
        let mut volume = told(Kind::Writable, 1, "g1", &[&format!("nfs01:{JDOE}")]);
        (volume.attached, volume.attached_word) = (attached, word.map(str::to_owned));
        manager("dc1", "avm1", vec![volume])
    };
    let elsewhere =
        || manager("dc1", "avm1", vec![told(Kind::Writable, 1, "g1", &["nfs01:cloudvolumes/writable/other"])]);
    let knows = || vsphere("dc1", &[("nfs01", "NFS")], &[]);
    let stranger = || vsphere("dc1", &[("vmfs01", "VMFS")], &[]);
    let holds = || vsphere("dc1", &[("nfs01", "NFS")], &[("VDI-1", "nfs01", &JDOE.to_uppercase())]);
    let unknown = Some(ReasonCode::AttachmentUnknown);
    for (name, managers, vspheres, expected) in [
        ("says detached", vec![listed(Some(false), Some("Detached"))], vec![], None),
        ("an unknown word", vec![listed(None, Some("Getrennt"))], vec![], unknown),
        ("no word", vec![listed(None, None)], vec![], unknown),
        ("not listed", vec![elsewhere()], vec![], unknown),
        ("another datastore", vec![], vec![stranger()], unknown),
        ("no machine has it", vec![], vec![knows()], None),
        ("a machine has it, in another case", vec![], vec![holds()], Some(ReasonCode::Attached)),
        ("one says, the other can't", vec![listed(Some(false), None)], vec![stranger()], None),
        ("one can't, the other says", vec![listed(None, Some("Getrennt"))], vec![knows()], None),
        ("two contradict each other", vec![listed(Some(false), None)], vec![holds()], Some(ReasonCode::Attached)),
    ] {
        let inventory = look(&scans, &managers, &vspheres, &[]);
        let volume = inventory.volumes.iter().find(|volume| volume.id.to_string().contains("jdoe")).unwrap();
        assert_eq!(
            volume.reason.as_ref().filter(|reason| reason.code != ReasonCode::Conflict).map(|reason| reason.code),
            expected,
            "{name}"
        );
        let remedy = volume.remedy.as_deref().unwrap_or_default();
        assert!(expected != unknown || !remedy.is_empty(), "{name} says what to do");
    }
}

#[test]
fn a_place_in_another_spelling_is_the_same_place() {
    let scans = [writable("dc1", "nfs01", "1")];
    let volume = told(Kind::Writable, 1, "g1", &["nfs01:CloudVolumes/Writable/corp!5c!JDOE"]);
    let inventory = look(&scans, &[manager("dc1", "avm1", vec![volume])], &[], &[]);
    assert_eq!(inventory.volumes.len(), 1, "{:?}", lines(&inventory));
    assert_eq!((inventory.volumes[0].state, inventory.volumes[0].guid.as_deref()), (VolumeState::Ready, Some("g1")));
    assert_eq!(inventory.volumes[0].locations[0].location.path, format!("{JDOE}.vmdk"), "as the datastore has it");
}

#[test]
fn names_that_differ_in_case_are_two_volumes_if_both_exist() {
    let other = "cloudvolumes/writable/corp!5C!JDoe";
    let scans =
        [with(datastore("dc1", "nfs01", 0), &[(Kind::Writable, JDOE, 4096, "1"), (Kind::Writable, other, 4096, "2")])];
    let one = told(Kind::Writable, 1, "g1", &[&format!("nfs01:{JDOE}")]);
    let inventory = look(&scans, &[manager("dc1", "avm1", vec![one])], &[], &[]);
    let state = |path: &str| {
        let path = format!("{path}.vmdk");
        inventory.volumes.iter().find(|volume| volume.locations[0].location.path == path).unwrap().state
    };
    assert_eq!((state(JDOE), state(other)), (VolumeState::Ready, VolumeState::Deferred), "{:?}", lines(&inventory));
}

#[test]
fn what_one_source_knows_and_the_other_does_not_is_shown() {
    let path = "nfs01:cloudvolumes/apps/Office";
    let gone = look(
        &[datastore("dc1", "nfs01", 0)],
        &[manager("dc1", "avm1", vec![told(Kind::Appstack, 1, "g1", &[path])])],
        &[],
        &[],
    );
    let reason = gone.volumes[0].reason.as_ref().unwrap();
    assert_eq!((gone.volumes[0].state, reason.code), (VolumeState::Deferred, ReasonCode::Missing));

    let other = told(Kind::Appstack, 2, "g2", &["nfs01:cloudvolumes/apps/OtherFile"]);
    let unknown = look(&[office("dc1", "nfs01", 0, "1")], &[manager("dc1", "avm1", vec![other])], &[], &[]);
    let office_volume = unknown.volumes.iter().find(|volume| volume.id.to_string() == "appstack/Office").unwrap();
    assert_eq!((office_volume.state, office_volume.protectable), (VolumeState::Conflict, true));
    assert!(office_volume.reason.as_ref().unwrap().text.contains("does not know it"));

    let two = told(Kind::Appstack, 1, "g1", &[path, "nfs02:cloudvolumes/apps/Office"]);
    let scans = [office("dc1", "nfs01", 0, "1"), datastore("dc1", "nfs02", 1)];
    let partly = look(&scans, &[manager("dc1", "avm1", vec![two])], &[], &[]);
    assert_eq!((partly.volumes[0].state, partly.volumes[0].protectable), (VolumeState::Conflict, true));
    assert!(partly.volumes[0].reason.as_ref().unwrap().text.contains("nothing is there"));
}

#[test]
fn a_datastore_without_a_route_is_named_with_what_to_add() {
    let manager = manager("dc1", "avm1", vec![told(Kind::Package, 1, "g1", &["vmfs09:appvolumes/packages/Zip"])]);
    let inventory = look(&[], &[manager], &[], &[]);
    let volume = &inventory.volumes[0];
    assert_eq!(volume.reason.as_ref().unwrap().code, ReasonCode::Unreachable);
    assert!(volume.remedy.as_ref().unwrap().contains("vmfs09"));
}

#[test]
fn a_volume_known_by_report_only_is_gone_with_the_report() {
    let zip = told(Kind::Package, 1, "g1", &["vsan01:appvolumes/packages/Zip"]);
    let first = look(&[], &[manager("dc1", "avm1", vec![zip])], &[], &[]);
    let away = ManagerView {
        name: "avm1".to_owned(),
        site: SiteName("dc1".to_owned()),
        report: Err("it can't be reached".to_owned()),
    };
    let mut partly = manager("dc1", "avm1", Vec::new());
    if let Ok(report) = &mut partly.report {
        report.complete = false;
    }
    for silent in [&away, &partly] {
        let state = look(&[], std::slice::from_ref(silent), &[], &again(&first)).volumes[0].state;
        assert_eq!(state, VolumeState::Deferred, "it may be there all the same");
    }
    let second = look(&[], &[manager("dc1", "avm1", Vec::new())], &[], &again(&first));
    assert_eq!((second.volumes.len(), second.volumes[0].state), (1, VolumeState::Gone));
    let third = look(&[], std::slice::from_ref(&away), &[], &again(&second));
    assert_eq!(third.volumes[0].state, VolumeState::Gone);
    let mut unreachable = datastore("dc1", "vsan01", 0);
    (unreachable.reachable, unreachable.complete) = (false, false);
    assert_eq!(look(&[unreachable], &[], &[], &again(&third)).volumes[0].state, VolumeState::Gone);
}

#[test]
fn a_replica_unknown_to_app_volumes_joins_its_volume() {
    let path = "nfs01:cloudvolumes/apps/Office";
    let scans = [office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "1")];
    let mut view = manager("dc1", "avm1", vec![told(Kind::Appstack, 1, "g1", &[path])]);
    if let Ok(report) = &mut view.report {
        let nfs02 = ManagedDatastore { name: "nfs02".to_owned(), kind: None, attachable: None, accessible: None };
        report.datastores.push(nfs02);
    }
    let inventory = look(&scans, &[view], &[], &[]);
    assert_eq!(lines(&inventory), ["appstack/Office ready [nfs01 nfs02]"]);
}

#[test]
fn replicas_with_own_content_ids_of_equal_size_are_one_volume() {
    let path = "cloudvolumes/apps/Office";
    let places = [format!("nfs01:{path}"), format!("nfs02:{path}")];
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let view = manager("dc1", "avm1", vec![told(Kind::Appstack, 1, "g1", &places)]);
    let scans = [office("dc1", "nfs01", 0, "1"), office("dc1", "nfs02", 1, "2")];
    let inventory = look(&scans, std::slice::from_ref(&view), &[], &[]);
    assert_eq!(lines(&inventory), ["appstack/Office ready [nfs01 nfs02]"]);
    let longer = with(datastore("dc1", "nfs02", 1), &[(Kind::Appstack, path, 8192, "1")]);
    let inventory = look(&[office("dc1", "nfs01", 0, "1"), longer], &[view], &[], &[]);
    assert_eq!((inventory.volumes.len(), inventory.volumes[0].state), (1, VolumeState::Conflict));
}
