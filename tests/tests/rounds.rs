//! Rounds: new and changed volumes are copied, the others are not, and deleted ones keep their versions.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs::{self, File, FileTimes};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use stackferry_tests::check::{copy_sparse, same_files};
use stackferry_tests::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, FolderWatch, Lab, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const APPS: &str = "cloudvolumes/apps";
const WRITABLES: &str = "cloudvolumes/writable";
const MIB: u64 = 1 << 20;

fn spec(stem: &str, seed: u64) -> DiskSpec {
    DiskSpec::new(stem, 128 * MIB, seed).content(DiskContent::Plain { bytes: 3 * MIB }).sidecar(Sidecar::Metadata)
}

/// A lab whose one datastore holds an AppStack and a writable, by a route.
fn place(route: &str) -> (Option<EndpointProcess>, Lab, TestDisk, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let office = TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), spec("Office", 1)).unwrap();
    let jdoe = TestDisk::build(&lab.folder("nfs01", WRITABLES).unwrap(), spec("CORP!5C!jdoe", 2)).unwrap();
    if route == "local" {
        lab.add_local("nfs01").unwrap();
        return (None, lab, office, jdoe);
    }
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    (Some(endpoint), lab, office, jdoe)
}

/// What one round did with each volume.
fn round(lab: &Lab) -> (Value, Vec<(String, String)>) {
    let answer = lab.run_json(&["run", "--once"]).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let volumes = answer["volumes"].as_array().unwrap().iter();
    let outcomes = volumes.map(|one| (text(one, "volume"), text(one, "outcome"))).collect();
    (answer, outcomes)
}

fn expect(outcomes: &[(String, String)], expected: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> = outcomes.iter().map(|(id, outcome)| (id.as_str(), outcome.as_str())).collect();
    assert_eq!(found, expected);
}

fn volume(lab: &Lab, id: &str) -> Value {
    let volumes = lab.run_json(&["volumes"]).unwrap();
    volumes.as_array().unwrap().iter().find(|volume| volume["id"] == id).cloned().unwrap()
}

const OFFICE: &str = "appstack/Office";
const JDOE: &str = "writable/CORP!5C!jdoe";

#[test]
fn a_second_round_copies_nothing_and_reads_nothing() {
    for route in ["local", "endpoint"] {
        let (_endpoint, lab, office, jdoe) = place(route);
        let folders: Vec<PathBuf> =
            [APPS, WRITABLES].into_iter().map(|folder| lab.folder("nfs01", folder).unwrap()).collect();
        let watch = FolderWatch::new(&folders).unwrap();
        expect(&round(&lab).1, &[(OFFICE, "copied"), (JDOE, "copied")]);
        let opened = watch.opened().unwrap();
        let files: Vec<PathBuf> = office.files().into_iter().chain(jdoe.files()).collect();
        assert!(files.iter().all(|file| opened.contains(file)), "the watch misses what is opened: {opened:?}");

        let (answer, outcomes) = round(&lab);
        expect(&outcomes, &[(OFFICE, "unchanged"), (JDOE, "unchanged")]);
        assert_eq!((&answer["copied"], &answer["unchanged"]), (&Value::from(0), &Value::from(2)));
        let opened = watch.opened().unwrap();
        assert!(opened.is_empty(), "by route {route} a quiet round opened {opened:?}");
    }
}

#[test]
fn a_changed_volume_alone_gets_a_version() {
    for route in ["local", "endpoint"] {
        let (_endpoint, lab, office, mut jdoe) = place(route);
        round(&lab);
        let before = lab.path("before");
        fs::create_dir(&before).unwrap();
        for file in jdoe.files() {
            copy_sparse(&file, &before.join(file.file_name().unwrap())).unwrap();
        }
        jdoe.append_file("report.docx", 5, MIB).unwrap();
        jdoe.overwrite(6, 40 * MIB, 5000).unwrap();
        expect(&round(&lab).1, &[(OFFICE, "unchanged"), (JDOE, "copied")]);
        expect(&round(&lab).1, &[(OFFICE, "unchanged"), (JDOE, "unchanged")]);
        let versions = lab.versions(JDOE).unwrap();
        assert_eq!(versions.len(), 2);
        assert_eq!(lab.versions(OFFICE).unwrap().len(), 1);

        // The newest is what is there now; the one before is what was there then.
        same_files(&jdoe.files(), &lab.restore(JDOE, "now").unwrap()).unwrap();
        let old = format!("{JDOE}@{}", versions[1]["version"].as_str().unwrap());
        let then: Vec<PathBuf> = jdoe.files().iter().map(|file| before.join(file.file_name().unwrap())).collect();
        same_files(&then, &lab.restore(&old, "then").unwrap()).unwrap();
        same_files(&office.files(), &lab.restore(OFFICE, "office").unwrap()).unwrap();
    }
}

#[test]
fn a_touched_volume_is_read_and_found_unchanged() {
    for route in ["local", "endpoint"] {
        let (_endpoint, lab, _office, jdoe) = place(route);
        round(&lab);
        let extent = File::options().write(true).open(&jdoe.extents()[0]).unwrap();
        extent.set_times(FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(3600))).unwrap();
        let folder = lab.folder("nfs01", WRITABLES).unwrap();
        let watch = FolderWatch::new(&[folder]).unwrap();
        expect(&round(&lab).1, &[(OFFICE, "unchanged"), (JDOE, "unchanged")]);
        assert!(watch.opened().unwrap().contains(&jdoe.extents()[0]), "it was not read by route {route}");
        assert_eq!(lab.versions(JDOE).unwrap().len(), 1);
        // Found equal once, it is not read again.
        expect(&round(&lab).1, &[(OFFICE, "unchanged"), (JDOE, "unchanged")]);
        assert!(watch.opened().unwrap().is_empty());
    }
}

#[test]
fn a_volume_gone_from_its_source_keeps_its_versions() {
    let (_endpoint, lab, office, jdoe) = place("local");
    round(&lab);
    let kept = lab.path("kept");
    fs::create_dir(&kept).unwrap();
    let copy = jdoe.replicate(&kept).unwrap();
    for file in jdoe.files() {
        fs::remove_file(file).unwrap();
    }
    for _ in 0..3 {
        expect(&round(&lab).1, &[(OFFICE, "unchanged")]);
    }
    let gone = volume(&lab, JDOE);
    assert_eq!((&gone["state"], &gone["versions"]), (&Value::from("gone"), &Value::from(1)));
    assert_eq!(lab.versions(JDOE).unwrap().len(), 1);
    same_files(&copy.files(), &lab.restore(JDOE, "restored").unwrap()).unwrap();
    let answer = lab.run(&["copy", JDOE]).unwrap().expect_code(3).unwrap().json().unwrap();
    assert_eq!(answer["outcome"], "deferred");
    assert_eq!(answer["reason"]["code"], "missing");

    // Back again, it is the same volume.
    copy.replicate(&lab.folder("nfs01", WRITABLES).unwrap()).unwrap();
    expect(&round(&lab).1, &[(OFFICE, "unchanged"), (JDOE, "unchanged")]);
    assert_eq!(volume(&lab, JDOE)["state"], "ready");
    same_files(&office.files(), &lab.restore(OFFICE, "office").unwrap()).unwrap();
}

#[test]
fn volumes_of_an_unreachable_datastore_are_not_gone() {
    let (endpoint, lab, ..) = place("endpoint");
    round(&lab);
    endpoint.unwrap().kill().unwrap();
    let answer = lab.run(&["run", "--once"]).unwrap();
    assert_eq!(answer.code, 1, "{answer:?}");
    let jdoe = volume(&lab, JDOE);
    assert_ne!(jdoe["state"], "gone");
    assert_eq!(jdoe["locations"][0]["reachable"], false);
    assert_eq!(lab.versions(JDOE).unwrap().len(), 1);
}

#[test]
fn a_manual_copy_ignores_the_schedule() {
    for route in ["local", "endpoint"] {
        let (_endpoint, lab, ..) = place(route);
        for count in 1..=2 {
            let copy = lab.run_json(&["copy", OFFICE]).unwrap();
            assert_eq!((&copy["outcome"], &copy["verified"]), (&Value::from("copied"), &Value::from(true)));
            assert_eq!(lab.versions(OFFICE).unwrap().len(), count);
        }
        let copy = lab.run_json(&["copy", OFFICE, "--if-changed"]).unwrap();
        assert_eq!(copy["outcome"], "unchanged");
        let versions = lab.versions(OFFICE).unwrap();
        assert_eq!(versions.len(), 2);
        assert_eq!(copy["version"], versions[0]["version"]);
        assert!(copy["bytes"]["stored"].as_u64().unwrap() == 0, "{copy}");
        // Without a version, unchanged or not, it is copied.
        let copy = lab.run_json(&["copy", JDOE, "--if-changed"]).unwrap();
        assert_eq!(copy["outcome"], "copied");
    }
}

#[test]
fn a_volume_locked_by_a_host_is_postponed_with_its_reason() {
    let (_endpoint, lab, office, jdoe) = place("local");
    let lock = {
        use std::os::unix::fs::MetadataExt;
        let inode = fs::metadata(&jdoe.extents()[0]).unwrap().ino();
        let id: String = inode.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        jdoe.extents()[0].with_file_name(format!(".lck-{id}"))
    };
    fs::write(&lock, [0; 84]).unwrap();
    let answer = lab.run(&["run", "--once"]).unwrap().expect_code(3).unwrap().json().unwrap();
    assert_eq!((&answer["copied"], &answer["deferred"]), (&Value::from(1), &Value::from(1)), "{answer}");
    let locked = answer["volumes"].as_array().unwrap().iter().find(|one| one["volume"] == JDOE).unwrap();
    assert_eq!(locked["reason"]["code"], "locked");
    let copy = lab.run(&["copy", JDOE]).unwrap().expect_code(3).unwrap().json().unwrap();
    assert_eq!((&copy["outcome"], &copy["reason"]["code"]), (&Value::from("deferred"), &Value::from("locked")));
    assert_eq!(lab.versions(JDOE).unwrap().len(), 0);
    fs::remove_file(lock).unwrap();
    expect(&round(&lab).1, &[(OFFICE, "unchanged"), (JDOE, "copied")]);
    same_files(&office.files(), &lab.restore(OFFICE, "office").unwrap()).unwrap();
}

#[test]
fn the_service_protects_new_volumes_and_stops_on_request() {
    let (_endpoint, mut lab, ..) = place("local");
    lab.config.set("schedule.every", "1s");
    let mut service = lab.spawn(&["run"]).unwrap();
    let limit = Duration::from_secs(60);
    let protected = |id: &str, versions: usize| {
        wait_for(&format!("{versions} versions of {id}"), limit, || Ok(lab.versions(id)?.len() == versions)).unwrap();
    };
    protected(OFFICE, 1);
    protected(JDOE, 1);
    let mut visio = TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), spec("Visio", 9)).unwrap();
    protected("appstack/Visio", 1);
    visio.overwrite(1, 10 * MIB, MIB).unwrap();
    protected("appstack/Visio", 2);
    assert!(!service.has_ended().unwrap());
    let answer = service.terminate(Duration::from_secs(20)).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    same_files(&visio.files(), &lab.restore("appstack/Visio", "restored").unwrap()).unwrap();
    assert_eq!(lab.versions(OFFICE).unwrap().len(), 1);
}
