//! A flipped bit, on disk or on the network: it is detected and named, and never restored.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use stackferry_tests::LabError;
use stackferry_tests::check::{data_ranges, same_files};
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Faults, Lab, Proxy, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const FLAT: &str = "Office-flat.vmdk";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);

fn build(lab: &Lab, data: u64) -> TestDisk {
    let spec =
        DiskSpec::new("Office", 4 * data, 1).content(DiskContent::Plain { bytes: data }).sidecar(Sidecar::Metadata);
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec };
    TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), spec).unwrap()
}

fn local() -> (Lab, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = build(&lab, 4 * MIB);
    lab.add_local("nfs01").unwrap();
    (lab, disk)
}

fn remote(data: u64) -> (EndpointProcess, Proxy, Lab, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = build(&lab, data);
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    let proxy = Proxy::new(endpoint.address()).unwrap();
    lab.add_endpoint_at("nfs01", &proxy.address().to_string(), endpoint.host_key()).unwrap();
    (endpoint, proxy, lab, disk)
}

/// Changes a bit of a file that nobody should change, and leaves its times.
fn flip(path: &Path, offset: u64) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
    file.set_modified(modified).unwrap();
}

fn version_folder(lab: &Lab, copy: &Value) -> PathBuf {
    lab.vault_volume(OFFICE).join(copy["version"].as_str().unwrap())
}

/// An offset that has data in a file.
fn some_data(path: &Path) -> u64 {
    let ranges = data_ranges(&fs::File::open(path).unwrap()).unwrap();
    ranges.last().unwrap().start + 100
}

fn restore(lab: &Lab, target: &str, to: &Path, code: i32) -> Value {
    lab.run_err(&["restore".as_ref(), target.as_ref(), "--to".as_ref(), to.as_os_str()], code).unwrap()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_flipped_bit_in_the_vault_is_reported_and_not_restored() {
    let (lab, disk) = local();
    let copy = lab.run_json(&["copy", OFFICE]).unwrap();
    let version = copy["version"].as_str().unwrap().to_owned();
    let extent = version_folder(&lab, &copy).join(FLAT);
    let at = some_data(&extent);
    assert_eq!(lab.run_json(&["verify"]).unwrap(), json!({ "checked": 1, "ok": 1, "damaged": [] }));
    flip(&extent, at);

    // Found while restoring, before anybody verified.
    let to = lab.path("restored");
    let error = restore(&lab, OFFICE, &to, 14);
    assert_eq!(error["code"], "damaged");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(FLAT) && message.contains(&(at / MIB).to_string()), "{message}");
    assert_eq!(files_in(&to), [] as [PathBuf; 0]);

    let verified = lab.run(&["verify", OFFICE]).unwrap().expect_code(14).unwrap().json().unwrap();
    assert_eq!((&verified["checked"], &verified["ok"]), (&Value::from(1), &Value::from(0)));
    let [found] = verified["damaged"].as_array().unwrap().as_slice() else { panic!("{verified}") };
    assert_eq!(
        (&found["volume"], &found["version"], &found["file"], &found["block"]),
        (&json!(OFFICE), &json!(version), &json!(FLAT), &json!(at / MIB))
    );
    assert!(!found["why"].as_str().unwrap().is_empty());
    let listed = lab.versions(OFFICE).unwrap();
    assert_eq!(listed[0]["verified"], false);
    assert!(listed[0]["damaged"].as_str().unwrap().contains(FLAT), "{listed:?}");

    // A damaged version protects nobody: the next round copies the volume again.
    let round = lab.run_json(&["run", "--once"]).unwrap();
    assert_eq!(round["copied"], 1, "{round}");
    // And without a version named, the good one is restored; by name, the damaged one is still refused.
    let to = lab.path("good");
    lab.run_json(&["restore".as_ref(), OFFICE.as_ref(), "--to".as_ref(), to.as_os_str()]).unwrap();
    same_files(&disk.files(), &to).unwrap();
    let to = lab.path("bad");
    restore(&lab, &format!("{OFFICE}@{version}"), &to, 14);
    assert_eq!(files_in(&to), [] as [PathBuf; 0]);

    // Put right again, it is whole again.
    flip(&extent, at);
    assert_eq!(lab.run_json(&["verify"]).unwrap()["ok"], 2);
    assert_eq!(lab.versions(OFFICE).unwrap().iter().filter(|one| one["verified"] == true).count(), 2);
}

#[test]
fn verify_finds_any_change_of_a_version() {
    let (lab, disk) = local();
    let copy = lab.run_json(&["copy", OFFICE]).unwrap();
    let folder = version_folder(&lab, &copy);
    let hole = fs::metadata(folder.join(FLAT)).unwrap().len() - 5;
    let write_into_hole =
        |path: &Path| fs::File::options().write(true).open(path).unwrap().write_all_at(b"x", hole).unwrap();
    let cut = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(MIB).unwrap();
    type Change<'a> = (&'a str, &'a str, &'a dyn Fn(&Path));
    let changes: [Change<'_>; 7] = [
        ("a bit of the descriptor", "Office.vmdk", &|path| flip(path, 30)),
        ("a bit of the sidecar", "Office.vmdk.metadata", &|path| flip(path, 3)),
        ("data where a hole was", FLAT, &write_into_hole),
        ("a cut extent", FLAT, &cut),
        ("a lost sidecar", "Office.vmdk.metadata", &|path| fs::remove_file(path).unwrap()),
        ("a bit of the manifest", "manifest.json", &|path| flip(path, 200)),
        ("a lost manifest", "manifest.json", &|path| fs::remove_file(path).unwrap()),
    ];
    for (number, (what, file, change)) in changes.into_iter().enumerate() {
        let safe = lab.path("safe");
        fs::rename(&folder, &safe).unwrap();
        copy_folder(&safe, &folder);
        change(&folder.join(file));
        let verified = lab.run(&["verify"]).unwrap().expect_code(14).unwrap().json().unwrap();
        let found = verified["damaged"].as_array().unwrap();
        assert!(found.iter().any(|one| one["file"] == file), "{what}: {verified}");
        let to = lab.path(&format!("restored-{number}"));
        restore(&lab, OFFICE, &to, 14);
        assert_eq!(files_in(&to), [] as [PathBuf; 0], "{what}");
        fs::remove_dir_all(&folder).unwrap();
        fs::rename(&safe, &folder).unwrap();
        assert_eq!(lab.run_json(&["verify"]).unwrap()["ok"], 1, "{what}");
    }
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

/// What `verify` says of the one version that is damaged. `versions` says the same.
fn finding(lab: &Lab) -> Value {
    let verified = lab.run(&["verify", OFFICE]).unwrap().expect_code(14).unwrap().json().unwrap();
    let [found] = verified["findings"].as_array().unwrap().as_slice() else { panic!("{verified}") };
    let listed = lab.versions(OFFICE).unwrap();
    let own = listed.iter().find(|one| one["version"] == found["version"]).unwrap();
    for answer in ["severity", "affected", "still_works", "next"] {
        assert_eq!(own["finding"][answer], found[answer], "{answer}");
        assert!(!found[answer].is_null(), "{answer}: {found}");
    }
    assert!(listed.iter().filter(|one| one["damaged"].is_null()).all(|one| one["finding"].is_null()), "{listed:?}");
    found.clone()
}

/// Types the command that a finding names.
fn follow(lab: &Lab, finding: &Value, code: i32) -> Value {
    let words: Vec<&str> = finding["next"].as_str().unwrap().split(' ').collect();
    assert_eq!(words[0], "stackferry");
    lab.run(&words[1..]).unwrap().expect_code(code).unwrap().json().unwrap()
}

fn says(finding: &Value, severity: &str, still: &[&str], next: &str) {
    assert_eq!((&finding["severity"], &finding["next"]), (&json!(severity), &json!(next)), "{finding}");
    let text = finding["still_works"].as_str().unwrap();
    assert!(still.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_finding_has_severity_scope_and_next_step() {
    let (lab, disk) = local();
    let first = lab.run_json(&["copy", OFFICE]).unwrap();
    let extent = version_folder(&lab, &first).join(FLAT);
    let at = some_data(&extent);
    flip(&extent, at);
    // The only version: its disk is lost, but for what is at the source.
    let found = finding(&lab);
    says(&found, "lost", &["all but 1.0 MiB of 16.0 MiB", "can be copied again"], "stackferry copy appstack/Office");
    let range = json!({ "offset": at / MIB * MIB, "length": MIB });
    let affected = json!([{ "file": FLAT, "role": "extent", "bytes": MIB, "of": 16 * MIB, "ranges": [range] }]);
    assert_eq!(found["affected"], affected);
    let second = follow(&lab, &found, 0);
    assert_eq!(second["outcome"], "copied");

    // A newer good version: nothing is lost.
    let good = second["version"].as_str().unwrap();
    let found = finding(&lab);
    says(&found, "degraded", &[&format!("version {good} is good")], "stackferry verify appstack/Office");
    assert_eq!(follow(&lab, &found, 14)["ok"], 1);
    let to = lab.path("good");
    lab.run_json(&["restore".as_ref(), OFFICE.as_ref(), "--to".as_ref(), to.as_os_str()]).unwrap();
    same_files(&disk.files(), &to).unwrap();

    // The first is put right, the second loses its descriptor, and the source goes: what is left is to be kept.
    flip(&extent, at);
    fs::remove_file(version_folder(&lab, &second).join("Office.vmdk")).unwrap();
    for file in disk.files() {
        fs::remove_file(file).unwrap();
    }
    // A datastore on which nothing is left is not believed: that it was looked at in vain is told.
    lab.run(&["discover"]).unwrap().expect_code(3).unwrap();
    let found = finding(&lab);
    let kept = format!("{OFFICE}@{}", first["version"].as_str().unwrap());
    let whole = format!("the disk's own bytes ({FLAT}) are whole");
    says(&found, "degraded", &["is good", &whole], &format!("stackferry pin {kept}"));
    assert_eq!(
        (&found["affected"][0]["file"], &found["affected"][0]["role"]),
        (&json!("Office.vmdk"), &json!("descriptor"))
    );
    follow(&lab, &found, 0);
    let listed = lab.versions(OFFICE).unwrap();
    assert_eq!(listed[1]["pinned"], true, "{listed:?}");
}

#[test]
fn a_finding_claims_nothing_unknown() {
    let (lab, disk) = local();
    let copy = lab.run_json(&["copy", OFFICE]).unwrap();
    let manifest = version_folder(&lab, &copy).join("manifest.json");
    flip(&manifest, 200);
    for file in disk.files() {
        fs::remove_file(file).unwrap();
    }
    // A datastore on which nothing is left is not believed: that it was looked at in vain is told.
    lab.run(&["discover"]).unwrap().expect_code(3).unwrap();
    let found = finding(&lab);
    let this = format!("{OFFICE}@{}", copy["version"].as_str().unwrap());
    says(&found, "unknown", &["nothing proves it"], &format!("stackferry verify {this}"));
    assert_eq!((&found["affected"][0]["role"], &found["affected"][0]["of"]), (&json!("manifest"), &Value::Null));
    follow(&lab, &found, 14);
    // Put right, as after the exchange of a cable, the same command finds it whole.
    flip(&manifest, 200);
    let verified = follow(&lab, &found, 0);
    assert_eq!(verified, json!({ "checked": 1, "ok": 1, "damaged": [] }));
    assert_eq!(lab.versions(OFFICE).unwrap()[0]["finding"], Value::Null);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in files_in(from) {
        stackferry_tests::check::copy_sparse(&file, &to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn blocks_of_a_damaged_base_are_fetched_again() {
    let (_endpoint, _proxy, lab, mut disk) = remote(8 * MIB);
    let first = lab.run_json(&["copy", OFFICE]).unwrap();
    let extent = version_folder(&lab, &first).join(FLAT);
    flip(&extent, some_data(&extent));
    disk.overwrite(1, 0, 4096).unwrap();
    let second = lab.run_json(&["copy", OFFICE]).unwrap();
    assert_ne!(first["version"], second["version"]);
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
    let versions = lab.versions(OFFICE).unwrap();
    assert_eq!((&versions[0]["verified"], &versions[1]["verified"]), (&json!(true), &json!(false)), "{versions:?}");
    let records = lab.run_json(&["audit", "show"]).unwrap();
    assert!(records.as_array().unwrap().iter().any(|record| record["action"] == "damage_found"), "{records}");
}

#[test]
fn a_bad_network_fails_one_copy_and_nothing_else() {
    let (_endpoint, proxy, lab, disk) = remote(16 * MIB);
    let before = proxy.total();
    lab.run_json(&["discover"]).unwrap();
    let talk = proxy.total() - before;
    let faults = [
        Faults { flip_after: Some(talk + 6 * MIB), ..Faults::default() },
        Faults { cut_after: Some(talk + 6 * MIB), ..Faults::default() },
        Faults { cut_after: Some(talk + 30), ..Faults::default() },
    ];
    for faults in faults {
        proxy.set(faults);
        let error = lab.run_err(&["copy", OFFICE], 1).unwrap();
        let code = error["code"].as_str().unwrap();
        assert!(["unreachable", "protocol", "silent"].contains(&code), "{faults:?}: {error}");
        assert_eq!(lab.versions(OFFICE).unwrap(), [] as [Value; 0], "{faults:?}");
        let volumes = lab.run_json(&["volumes"]).unwrap();
        assert_eq!(volumes[0]["last_error"]["code"], code, "{volumes}");
    }
    proxy.set(Faults { delay: Some(Duration::from_millis(5)), ..Faults::default() });
    let copy = lab.run_json(&["copy", OFFICE]).unwrap();
    assert_eq!((&copy["outcome"], &copy["verified"]), (&json!("copied"), &json!(true)));
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
    assert_eq!(lab.run_json(&["volumes"]).unwrap()[0]["last_error"], Value::Null);
}

#[test]
fn a_stalled_copy_can_be_interrupted() {
    let (_endpoint, proxy, lab, disk) = remote(16 * MIB);
    proxy.set(Faults { stall_after: Some(8 * MIB), ..Faults::default() });
    let mut copy = lab.spawn(&["copy", OFFICE]).unwrap();
    wait_for("a stall", LIMIT, || Ok(copy.has_ended()? || proxy.passed() >= 8 * MIB - (64 << 10))).unwrap();
    let answer = copy.terminate(Duration::from_secs(15)).unwrap().expect_code(130).unwrap();
    assert_eq!(answer.error().unwrap()["code"], "interrupted");
    assert_eq!(lab.versions(OFFICE).unwrap(), [] as [Value; 0]);
    proxy.set(Faults::default());
    lab.run_json(&["copy", OFFICE]).unwrap();
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

/// The ways in which a disk changes while somebody copies it.
fn change(disk: &mut TestDisk, way: usize) {
    match way {
        // As a host does at a logoff.
        0 => disk.overwrite(9, MIB, MIB).unwrap(),
        // Only bytes in the middle, as from a guest that runs.
        1 => {
            let extent = fs::File::options().write(true).open(&disk.extents()[0]).unwrap();
            extent.write_all_at(b"changed", 3 * MIB).unwrap();
        }
        // Another file under the same name.
        _ => {
            let extent = disk.extents()[0].clone();
            let other = extent.with_extension("new");
            stackferry_tests::check::copy_sparse(&extent, &other).unwrap();
            fs::rename(other, extent).unwrap();
        }
    }
}

#[test]
fn a_disk_changed_during_its_copy_gets_no_version() {
    for route in ["local", "endpoint"] {
        for way in 0..3 {
            let (_endpoint, proxy, mut lab, mut disk) = remote(24 * MIB);
            if route == "local" {
                lab.add_local("nfs01").unwrap();
                lab.config.set("limits.bandwidth", "16MiB/s");
            } else {
                proxy.set(Faults { rate: Some(16 * MIB), ..Faults::default() });
            }
            let mut copy = lab.spawn(&["copy", OFFICE]).unwrap();
            let incoming = lab.vault().join("incoming");
            wait_for("a copy in its middle", LIMIT, || {
                if copy.has_ended()? {
                    return Err(LabError::Wrong(format!("it ended before: {}", copy.stderr())));
                }
                let transfers = files_in(&incoming);
                let bytes = transfers.iter().map(|one| one.join("files").join(FLAT));
                Ok(bytes.filter_map(|file| stackferry_tests::check::allocated_bytes(&file).ok()).sum::<u64>() > 4 * MIB)
            })
            .unwrap();
            change(&mut disk, way);
            let answer = copy.wait(LIMIT).unwrap().expect_code(1).unwrap();
            let error = answer.error().unwrap();
            assert_eq!(error["code"], "source_changed", "by {route}, way {way}: {error}");
            assert_eq!(lab.versions(OFFICE).unwrap(), [] as [Value; 0], "by {route}, way {way}");
            assert_eq!(files_in(&incoming), [] as [PathBuf; 0], "what is of no use is kept, by {route}, way {way}");

            proxy.set(Faults::default());
            lab.config.set("limits.bandwidth", "10GB/s");
            let copy = lab.run_json(&["copy", OFFICE]).unwrap();
            assert_eq!(copy["outcome"], "copied");
            same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
        }
    }
}
