//! Which disks are the same volume, and which only look alike.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use stackferry_tests::check::same_files;
use stackferry_tests::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use stackferry_tests::lab::Lab;
use stackferry_tests::site::{SitePlan, TestSite};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const MIB: u64 = 1 << 20;

fn spec(stem: &str, seed: u64) -> DiskSpec {
    DiskSpec::new(stem, 64 * MIB, seed).content(DiskContent::Plain { bytes: 2 * MIB }).sidecar(Sidecar::Metadata)
}

fn two_datastores() -> Lab {
    let mut lab = Lab::new(LAB).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.add_local("nfs02").unwrap();
    lab
}

fn listed(lab: &Lab) -> Vec<Value> {
    lab.run_json(&["discover"]).unwrap().as_array().unwrap().clone()
}

fn ids(listed: &[Value]) -> Vec<&str> {
    listed.iter().map(|one| one["id"].as_str().unwrap()).collect()
}

fn places(one: &Value) -> Vec<&str> {
    one["locations"].as_array().unwrap().iter().map(|place| place["datastore"].as_str().unwrap()).collect()
}

#[test]
fn two_users_of_one_name_each_get_their_own_volume_back() {
    let lab = two_datastores();
    let folder = "cloudvolumes/writable";
    let one = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("CORP!5C!jdoe", 1)).unwrap();
    let other = TestDisk::build(&lab.folder("nfs02", folder).unwrap(), spec("CORP!5C!jdoe", 2)).unwrap();
    let found = listed(&lab);
    let ids = ids(&found);
    assert_eq!((ids.len(), ids[0]), (2, "writable/CORP!5C!jdoe"));
    assert!(ids[1].strip_prefix("writable/CORP!5C!jdoe@").is_some_and(|hash| hash.len() == 8), "{ids:?}");

    let answer = lab.run_json(&["run", "--once"]).unwrap();
    assert_eq!(answer["copied"], 2);
    for (number, id) in ids.iter().enumerate() {
        let disk = if places(&found[number]) == ["nfs01"] { &one } else { &other };
        same_files(&disk.files(), &lab.restore(id, &format!("restored-{number}")).unwrap()).unwrap();
    }
    // The name alone does not say whom is meant.
    let error = lab.run_err(&["copy", "CORP\\jdoe"], 10).unwrap();
    assert_eq!(error["code"], "ambiguous_volume");
    for id in &ids {
        assert!(error["hint"].as_str().unwrap().contains(id), "{error}");
    }
    // Ids are for ever: the first one's disk goes, and the second one keeps its id. A datastore on which nothing at all
    // is left would count as one that is not mounted.
    TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("CORP!5C!asmith", 3)).unwrap();
    for file in one.files() {
        std::fs::remove_file(file).unwrap();
    }
    let left = listed(&lab);
    let ready: Vec<&str> =
        left.iter().filter(|one| one["state"] == "ready").map(|one| one["id"].as_str().unwrap()).collect();
    let expected = found.iter().find(|one| places(one) == ["nfs02"]).unwrap()["id"].as_str().unwrap();
    assert_eq!(ready, ["writable/CORP!5C!asmith", expected]);
}

#[test]
fn equal_writables_on_two_datastores_are_two_volumes() {
    let lab = two_datastores();
    let folder = "appvolumes/writables";
    let one = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("CORP!5C!jdoe", 1)).unwrap();
    one.replicate(&lab.folder("nfs02", folder).unwrap()).unwrap();
    assert_eq!(listed(&lab).len(), 2);
}

#[test]
fn an_appstack_on_two_datastores_is_one_volume_and_copied_once() {
    let lab = two_datastores();
    let folder = "cloudvolumes/apps";
    let mut one = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("Office", 1)).unwrap();
    let copy = one.replicate(&lab.folder("nfs02", folder).unwrap()).unwrap();
    let found = listed(&lab);
    assert_eq!(ids(&found), ["appstack/Office"]);
    assert_eq!(places(&found[0]), ["nfs01", "nfs02"]);
    for expected in [1, 0] {
        assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], expected);
    }
    assert_eq!(lab.versions("appstack/Office").unwrap().len(), 1);

    // One of the two is away: the other is read.
    for file in one.files() {
        std::fs::remove_file(file).unwrap();
    }
    let answer = lab.run_json(&["copy", "appstack/Office"]).unwrap();
    assert_eq!(answer["outcome"], "copied");
    same_files(&copy.files(), &lab.restore("appstack/Office", "restored").unwrap()).unwrap();

    // Of one name, but with other content: it is text, and both are protected.
    one = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("Office", 7)).unwrap();
    let found = listed(&lab);
    assert_eq!((ids(&found), &found[0]["state"]), (vec!["appstack/Office"], &Value::from("conflict")), "{found:?}");
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 1);
    same_files(&one.files(), &lab.restore("appstack/Office", "new").unwrap()).unwrap();
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 0);
    let mut copy = copy;
    copy.overwrite(3, 5 * MIB, MIB).unwrap();
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 1, "the other one changed");
    same_files(&copy.files(), &lab.restore("appstack/Office", "other").unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 0);
    }
}

/// Overwrites bytes of a disk so that its names, lengths, times and content id stay.
fn change_unseen(disk: &TestDisk, bytes: &[u8]) {
    let extent = File::options().read(true).write(true).open(&disk.extents()[0]).unwrap();
    let modified = extent.metadata().unwrap().modified().unwrap();
    extent.write_all_at(bytes, 5 * MIB).unwrap();
    extent.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

#[test]
fn replicas_that_only_look_alike_are_a_conflict() {
    let lab = two_datastores();
    let folder = "cloudvolumes/apps";
    let one = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("Office", 1)).unwrap();
    let other = one.replicate(&lab.folder("nfs02", folder).unwrap()).unwrap();
    let round = || lab.run_json(&["run", "--once"]).unwrap()["volumes"][0]["outcome"].clone();
    let state = || listed(&lab)[0]["state"].clone();
    assert_eq!([round(), round(), state()], ["copied", "unchanged", "ready"], "equal replicas are one disk");

    // Both get equal times again: nothing but their bytes tells them apart.
    let later = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(60));
    for disk in [&one, &other] {
        File::options().write(true).open(&disk.extents()[0]).unwrap().set_times(later).unwrap();
    }
    change_unseen(&other, b"other bytes");
    assert_eq!([round(), round()], ["unchanged", "copied"], "each location is read once");
    let found = listed(&lab);
    let reason = found[0]["reason"]["text"].as_str().unwrap();
    assert_eq!((found.len(), &found[0]["state"]), (1, &"conflict".into()), "{found:?}");
    assert!(["nfs01", "nfs02", "Office", "hold different disks"].iter().all(|part| reason.contains(part)), "{reason}");
    assert_eq!([round(), state()], ["unchanged", "conflict"]);
    let versions = lab.versions("appstack/Office").unwrap();
    for (version, disk) in versions.iter().zip([&other, &one]) {
        let id = format!("appstack/Office@{}", version["version"].as_str().unwrap());
        same_files(&disk.files(), &lab.restore(&id, &id.replace('/', "-")).unwrap()).unwrap();
    }

    // The right bytes are put back, as a replication does: with times of its own.
    let (right, wrong) = (File::open(&one.extents()[0]).unwrap(), &other.extents()[0]);
    let mut bytes = [0; 11];
    right.read_exact_at(&mut bytes, 5 * MIB).unwrap();
    File::options().write(true).open(wrong).unwrap().write_all_at(&bytes, 5 * MIB).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    assert_eq!([round(), state()], ["unchanged", "ready"]);
}

/// Two that were never the same: each gets an id of its own.
#[test]
fn different_appstacks_of_one_name_are_in_conflict() {
    let lab = two_datastores();
    let folder = "cloudvolumes/apps";
    let one = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec("Office", 1)).unwrap();
    let other = TestDisk::build(&lab.folder("nfs02", folder).unwrap(), spec("Office", 2)).unwrap();
    let found = listed(&lab);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|one| one["state"] == "conflict" && one["protectable"] == true), "{found:?}");
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 2);
    for (number, volume) in found.iter().enumerate() {
        let disk = if places(volume) == ["nfs01"] { &one } else { &other };
        let restored = lab.restore(volume["id"].as_str().unwrap(), &format!("restored-{number}")).unwrap();
        same_files(&disk.files(), &restored).unwrap();
    }
}

#[test]
fn volumes_are_found_by_name_and_owner_too() {
    let lab = two_datastores();
    lab.folder("nfs02", "cloudvolumes/apps").unwrap();
    TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), spec("Google!20!Chrome", 1)).unwrap();
    TestDisk::build(&lab.folder("nfs01", "cloudvolumes/writable").unwrap(), spec("CORP!5C!jdoe", 2)).unwrap();
    let found = listed(&lab);
    let names: Vec<&str> = found.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Google Chrome", "CORP\\jdoe"]);
    for (name, id) in [
        ("Google Chrome", "appstack/Google!20!Chrome"),
        ("Google!20!Chrome", "appstack/Google!20!Chrome"),
        ("CORP\\jdoe", "writable/CORP!5C!jdoe"),
        ("corp\\JDOE", "writable/CORP!5C!jdoe"),
    ] {
        assert_eq!(lab.run_json(&["copy", name]).unwrap()["volume"], id);
    }
}

/// The site of the lab, with everything odd that it has: the list is what the site was built to be.
#[test]
fn a_site_is_listed_as_it_was_built() {
    let mut lab = Lab::new(LAB).unwrap();
    let site = TestSite::build(&lab.path("site"), &SitePlan::small()).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.add_local("nfs02").unwrap();
    let found = listed(&lab);
    assert_eq!(found.len(), site.volumes.len(), "{:?}", ids(&found));
    for volume in &site.volumes {
        let lies_at = |one: &Value| {
            let places = one["locations"].as_array().unwrap();
            volume.locations.len() == places.len()
                && volume.locations.iter().all(|location| {
                    places.iter().any(|place| {
                        place["datastore"] == location.datastore && place["path"] == location.path.as_str()
                    })
                })
        };
        let name = format!("{}/{}", volume.kind, volume.stem);
        let one = found.iter().find(|one| lies_at(one)).unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(one["protectable"], volume.expect.protectable(), "{one}");
        match volume.expect.reason() {
            Some(code) => {
                assert_eq!(one["reason"]["code"], code);
                let text = one["reason"]["text"].as_str().unwrap();
                assert!(text.contains(&volume.stem), "{text}");
                assert_eq!(lab.run(&["copy", one["id"].as_str().unwrap()]).unwrap().code, 1);
            }
            None => assert_eq!((&one["reason"], &one["state"]), (&Value::Null, &Value::from("ready")), "{one}"),
        }
    }
}
