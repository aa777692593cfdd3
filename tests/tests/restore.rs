//! Restores onto datastores: by every route that writes, and never over an existing file.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use stackferry_tests::check::{allocated_bytes, same_files};
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Lab, Offers, Proxy, Sshd, Tmpfs, wait_for};
use stackferry_tests::tools::{available, have, qemu_img_compare};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const APPS: &str = "cloudvolumes/apps";
const OFFICE: &str = "appstack/Office";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A disk of `data` bytes that do not compress, in a much longer file.
fn disk(lab: &Lab, datastore: &str, data: u64) -> TestDisk {
    let spec = DiskSpec::new("Office", data + 100 * MIB, 7).content(DiskContent::Plain { bytes: data });
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec }.sidecar(Sidecar::Metadata);
    TestDisk::build(&lab.folder(datastore, APPS).unwrap(), spec).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The audit records of an action, oldest first.
fn audit(lab: &Lab, action: &str) -> Vec<Value> {
    let records = lab.run_json(&["audit", "show", "--last", "1000"]).unwrap();
    let records = records.as_array().unwrap().iter().rev();
    records.filter(|record| record["action"] == action).cloned().collect()
}

/// Each file was written by a credential of its own, the descriptor's last, and each was used.
fn each_file_had_its_own(lab: &Lab, files: usize) {
    let issued: Vec<Value> =
        audit(lab, "credential_issued").into_iter().filter(|record| record["detail"]["direction"] == "write").collect();
    assert_eq!(issued.len(), files, "{issued:?}");
    assert_eq!(issued.last().unwrap()["detail"]["file"], "Office.vmdk");
    let used: BTreeSet<String> =
        audit(lab, "credential_used").iter().map(|record| record["subject"].to_string()).collect();
    assert!(issued.iter().all(|record| used.contains(&record["subject"].to_string())), "{used:?}");
    let names: BTreeSet<String> = issued.iter().map(|record| record["subject"].to_string()).collect();
    assert_eq!(names.len(), files, "none was used twice");
}

/// What lies in the folder is the disk: the same bytes, as thin, and nothing else.
fn came_back(disk: &TestDisk, folder: &Path) {
    same_files(&disk.files(), folder).unwrap();
    assert_eq!(names(folder).len(), disk.files().len(), "{:?}", names(folder));
    for file in disk.files() {
        let (own, restored) =
            (allocated_bytes(&file).unwrap(), allocated_bytes(&folder.join(file.file_name().unwrap())).unwrap());
        assert!(restored <= own + own / 100 + (64 << 10), "{} takes {restored} bytes, not {own}", file.display());
    }
    if have(available().qemu_img, "qemu-img").unwrap() {
        assert!(qemu_img_compare(&disk.path(), &folder.join("Office.vmdk")).unwrap());
    }
}

fn said(lab: &Lab, subject: &str) -> String {
    let check = lab.run_json(&["check"]).unwrap();
    let items = check["checks"].as_array().unwrap();
    items.iter().find(|item| item["subject"] == subject).unwrap().to_string()
}

/// A lab whose one volume lies on `nfs01` behind an endpoint that these datastores may be restored to.
fn behind_an_endpoint(data: u64, restore: &[&str]) -> (EndpointProcess, Lab, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = disk(&lab, "nfs01", data);
    let endpoint = lab.serve_for_restores(&["nfs01"], restore).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    (endpoint, lab, disk)
}

#[test]
fn an_endpoint_restores_a_version_unchanged() {
    let (endpoint, lab, disk) = behind_an_endpoint(20 * MIB, &["nfs01"]);
    assert!(said(&lab, "datastore nfs01").contains("may be restored to"));
    let answer = lab.run_json(&["restore", OFFICE, "--to", "datastore:nfs01/restored/deep"]).unwrap();
    assert_eq!(
        (&answer["to"], &answer["credentials"], &answer["verify_method"]),
        (&"[nfs01] restored/deep".into(), &3.into(), &"arrival".into())
    );
    came_back(&disk, &lab.path("site/nfs01/restored/deep"));
    each_file_had_its_own(&lab, 3);
    assert_eq!(endpoint.log().matches("new file written").count(), 3);
    let again = lab.run_err(&["restore", OFFICE, "--to", "datastore:nfs01/restored/deep"], 1).unwrap();
    assert_eq!(again["code"], "exists", "{again}");
    came_back(&disk, &lab.path("site/nfs01/restored/deep"));
    let over = ["restore", OFFICE, "--to", "datastore:nfs01/restored/deep", "--overwrite"];
    assert_eq!(lab.run_err(&over, 2).unwrap()["code"], "usage");
    assert_eq!(audit(&lab, "restored").len(), 1);
}

#[test]
fn an_endpoint_that_forbids_restores_names_the_setting() {
    let (_endpoint, lab, _disk) = behind_an_endpoint(2 * MIB, &[]);
    assert!(said(&lab, "datastore nfs01").contains("`restore` of [serve]"));
    let refused = lab.run_err(&["restore", OFFICE, "--to", "datastore:nfs01/restored"], 1).unwrap();
    assert_eq!((&refused["code"], &refused["subject"]), (&"refused".into(), &"nfs01".into()), "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("`restore` of [serve]"), "{refused}");
    assert!(!lab.path("site/nfs01/restored").exists());
}

#[test]
fn a_damaged_version_leaves_nothing_on_a_datastore() {
    let (_endpoint, lab, _disk) = behind_an_endpoint(6 * MIB, &["nfs01"]);
    let version = lab.versions(OFFICE).unwrap()[0]["version"].as_str().unwrap().to_owned();
    let extent = lab.vault_volume(OFFICE).join(&version).join("Office-flat.vmdk");
    let file = fs::File::options().read(true).write(true).open(extent).unwrap();
    let mut byte = [0];
    let data = stackferry_tests::check::data_ranges(&file).unwrap();
    let last = data.last().unwrap().end - 1;
    file.read_exact_at(&mut byte, last).unwrap();
    file.write_all_at(&[byte[0] ^ 1], last).unwrap();
    let damaged = lab.run_err(&["restore", OFFICE, "--to", "datastore:nfs01/restored"], 14).unwrap();
    assert_eq!(damaged["code"], "damaged", "{damaged}");
    assert!(damaged["message"].as_str().unwrap().contains(&version), "{damaged}");
    wait_empty(&lab.path("site/nfs01/restored"));
}

fn wait_empty(folder: &Path) {
    wait_for("what was given up is gone", LIMIT, || Ok(names(folder).is_empty())).unwrap();
}

/// How far a restore has come whose extent is being written.
fn wait_begun(folder: &Path) {
    wait_for("a restore that writes", LIMIT, || {
        let first = names(folder).into_iter().next();
        Ok(first.is_some_and(|name| allocated_bytes(&folder.join(name)).unwrap_or(0) > 2 * MIB))
    })
    .unwrap();
}

#[test]
fn a_failed_restore_leaves_nothing_and_can_be_repeated() {
    let (mut endpoint, mut lab, disk) = behind_an_endpoint(60 * MIB, &["nfs01"]);
    let folder = lab.path("site/nfs01/restored");
    let to = ["restore", OFFICE, "--to", "datastore:nfs01/restored"];
    lab.config.set("limits.bandwidth", "10MB/s");
    // A person asks for the end.
    let mut running = lab.spawn(&to).unwrap();
    wait_begun(&folder);
    running.signal(Signal::INT).unwrap();
    let ended = running.wait(LIMIT).unwrap().expect_code(130).unwrap();
    assert_eq!(ended.error().unwrap()["code"], "interrupted");
    wait_empty(&folder);
    // The network goes.
    let proxy = Proxy::new(endpoint.address()).unwrap();
    lab.add_endpoint_at("nfs01", &proxy.address().to_string(), endpoint.host_key()).unwrap();
    let running = lab.spawn(&to).unwrap();
    wait_begun(&folder);
    drop(proxy);
    let error = running.wait(LIMIT).unwrap().expect_code(1).unwrap().error().unwrap();
    assert_eq!(error["code"], "unreachable", "{error}");
    wait_empty(&folder);
    // The endpoint dies, and leaves what it wrote; the next restore removes that.
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    let running = lab.spawn(&to).unwrap();
    wait_begun(&folder);
    endpoint.kill().unwrap();
    let error = running.wait(LIMIT).unwrap().expect_code(1).unwrap().error().unwrap();
    assert_eq!(error["code"], "unreachable", "{error}");
    let left = names(&folder);
    assert!(left.len() == 1 && left.iter().all(|name| name.starts_with(".stackferry-restore-")), "{left:?}");
    endpoint.restart().unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    lab.config.set("limits.bandwidth", "1GB/s");
    lab.run_json(&to).unwrap();
    came_back(&disk, &folder);
}

#[test]
fn a_full_datastore_is_reported_before_the_first_write() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let _disk = disk(&lab, "nfs01", 8 * MIB);
    let small = lab.folder("nfs02", "").unwrap();
    let _mounted = Tmpfs::mount(&small, 4 * MIB).unwrap();
    let endpoint = lab.serve_for_restores(&["nfs01", "nfs02"], &["nfs02"]).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    lab.add_endpoint("nfs02", &endpoint).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    let full = lab.run_err(&["restore", OFFICE, "--to", "datastore:nfs02/restored"], 15).unwrap();
    assert_eq!(full["code"], "no_space", "{full}");
    wait_empty(&small.join("restored"));
}

#[test]
fn a_restore_follows_no_symbolic_link_of_a_datastore() {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = disk(&lab, "nfs01", 3 * MIB);
    lab.add_local("nfs01").unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    let (outside, datastore) = (lab.path("outside"), lab.path("site/nfs01"));
    fs::create_dir(&outside).unwrap();
    symlink(&outside, datastore.join("link")).unwrap();
    for to in ["datastore:nfs01/link", "datastore:nfs01/link/new"] {
        let refused = lab.run_err(&["restore", OFFICE, "--to", to], 1).unwrap();
        assert_eq!(refused["code"], "source_refused", "{refused}");
    }
    assert!(names(&outside).is_empty());
    for to in ["datastore:nfs01/../outside", "datastore:nfs01", "datastore:nfs01//a", "datastore:nfs99/a"] {
        assert_eq!(lab.run_err(&["restore", OFFICE, "--to", to], 2).unwrap()["code"], "usage", "{to}");
    }
    let answer = lab.run_json(&["restore", OFFICE, "--to", "datastore:nfs01/restored"]).unwrap();
    assert_eq!(answer["credentials"], 0);
    came_back(&disk, &datastore.join("restored"));
}

#[test]
fn a_stock_host_restores_a_version_unchanged() {
    if !have(Sshd::possible(), "sshd, setpriv, unshare, or the right to mount").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let disk = disk(&lab, "nfs03", 20 * MIB);
    let host = lab.sshd_for_restores("host", Offers::All, &["nfs03"]).unwrap();
    lab.add_ssh("nfs03", &host).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    let answer = lab.run_json(&["restore", OFFICE, "--to", "datastore:nfs03/restored/deep"]).unwrap();
    assert_eq!((&answer["credentials"], &answer["verify_method"]), (&3.into(), &"host_digest".into()));
    let folder = lab.path("site/nfs03/restored");
    came_back(&disk, &folder.join("deep"));
    each_file_had_its_own(&lab, 3);
    let writing = host
        .logins()
        .into_iter()
        .filter(|login| login.command.as_deref().is_some_and(|command| command.contains("'.stackferry-restore-'")));
    assert_eq!(writing.count(), 3, "each by a forced command of its own");
    let again = lab.run_err(&["restore", OFFICE, "--to", "datastore:nfs03/restored/deep"], 1).unwrap();
    assert_eq!(again["code"], "exists", "{again}");
    // Where its user may not write, nothing is written.
    let denied = lab.run_err(&["restore", OFFICE, "--to", "datastore:nfs03/cloudvolumes/other"], 1).unwrap();
    assert_eq!(denied["code"], "permission_denied", "{denied}");
    // A person asks for the end in the middle.
    lab.config.set("limits.bandwidth", "5MB/s");
    let mut running = lab.spawn(&["restore", OFFICE, "--to", "datastore:nfs03/restored/more"]).unwrap();
    wait_begun(&folder.join("more"));
    running.signal(Signal::INT).unwrap();
    running.wait(LIMIT).unwrap().expect_code(130).unwrap();
    wait_empty(&folder.join("more"));
}

/// A restore onto a file system that gets full while it writes.
fn gets_full(lab: &mut Lab, mounted: &Path, datastore: &str) {
    lab.config.set("limits.bandwidth", "8MB/s");
    let to = format!("datastore:{datastore}/restored");
    let running = lab.spawn(&["restore", OFFICE, "--to", to.as_str()]).unwrap();
    let folder = mounted.join("restored");
    wait_begun(&folder);
    let filler = mounted.join("filler");
    let mut file = fs::File::create_new(&filler).unwrap();
    while file.write_all(&[1; 65536]).is_ok() {}
    let error = running.wait(LIMIT).unwrap().expect_code(15).unwrap().error().unwrap();
    assert_eq!(error["code"], "no_space", "{error}");
    wait_empty(&folder);
    fs::remove_file(filler).unwrap();
}

#[test]
fn a_datastore_that_fills_up_keeps_no_partial_restore() {
    if !have(Sshd::possible(), "sshd, setpriv, unshare, or the right to mount").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let _disk = disk(&lab, "nfs01", 24 * MIB);
    let mut mounts = Vec::new();
    for name in ["nfs02", "nfs03"] {
        let folder = lab.folder(name, "").unwrap();
        mounts.push((Tmpfs::mount(&folder, 60 * MIB).unwrap(), folder));
        fs::set_permissions(&mounts.last().unwrap().1, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let endpoint = lab.serve_for_restores(&["nfs01", "nfs02"], &["nfs02"]).unwrap();
    let host = lab.sshd_for_restores("host", Offers::All, &["nfs03"]).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    lab.add_endpoint("nfs02", &endpoint).unwrap();
    lab.add_ssh("nfs03", &host).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    for (name, (_, folder)) in ["nfs02", "nfs03"].into_iter().zip(&mounts) {
        gets_full(&mut lab, folder, name);
    }
    drop(host);
}
