//! Real datastores: disks of any name, other files, folders that can't be listed, mounts that hang.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use stackferry_tests::check::same_files;
use stackferry_tests::lab::fuse::{FaultyMount, Operation};
use stackferry_tests::lab::{Lab, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const APPS: &str = "cloudvolumes/apps";
const WRITABLES: &str = "cloudvolumes/writable";
const WAIT: Duration = Duration::from_secs(120);

/// A descriptor as ESXi writes it.
fn text(extent: &str, bytes: usize) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\
         \nRW {} VMFS \"{extent}\"\n\nddb.adapterType = \"lsilogic\"\n",
        bytes / 512
    )
}

/// A small disk: its descriptor and its extent, of these names.
fn disk_of(folder: &Path, descriptor: &str, extent: &str) {
    let bytes: Vec<u8> = descriptor.bytes().cycle().take(64 << 10).collect();
    fs::write(folder.join(extent), &bytes).unwrap();
    fs::write(folder.join(descriptor), text(extent, bytes.len())).unwrap();
}

fn disk(folder: &Path, stem: &str) {
    disk_of(folder, &format!("{stem}.vmdk"), &format!("{stem}-flat.vmdk"));
}

/// A lab with a datastore `nfs01`, mounted here.
fn lab() -> Lab {
    let mut lab = Lab::new(LAB).unwrap();
    lab.folder("nfs01", APPS).unwrap();
    lab.folder("nfs01", WRITABLES).unwrap();
    lab.add_local("nfs01").unwrap();
    lab
}

/// One round that ends so; and what it did with each volume, with the code of its reason.
fn round(lab: &Lab, exit: i32) -> (Value, BTreeMap<String, String>) {
    let answer = lab.run(&["run", "--once"]).unwrap().expect_code(exit).unwrap().json().unwrap();
    let outcome = |one: &Value| match one["reason"]["code"].as_str() {
        Some(code) => format!("{}: {code}", one["outcome"].as_str().unwrap()),
        None => one["outcome"].as_str().unwrap().to_owned(),
    };
    let volumes = answer["volumes"].as_array().unwrap().iter();
    let outcomes = volumes.map(|one| (one["volume"].as_str().unwrap().to_owned(), outcome(one))).collect();
    (answer, outcomes)
}

fn codes(answer: &Value) -> Vec<(&str, &str)> {
    let problems = answer["problems"].as_array().unwrap().iter();
    problems.map(|one| (one["code"].as_str().unwrap(), one["subject"].as_str().unwrap())).collect()
}

#[test]
fn disks_of_any_name_are_copied_and_restored_verbatim() {
    let lab = lab();
    let apps = lab.folder("nfs01", APPS).unwrap();
    let long = "!E3!!81!!82!".repeat(20);
    let disks = [
        ("Air.vmdk", "Air-flat.vmdk"),
        ("Air-delta.vmdk", "Air-delta-flat.vmdk"),
        ("Air-flat.1.vmdk", "Air-flat.1-flat.vmdk"),
        ("Tool-ctk.vmdk", "Tool-ctk-flat.vmdk"),
        ("Pack-f100.vmdk", "Pack-f100-flat.vmdk"),
        ("Big-s1000.vmdk", "Big-s1000-flat.vmdk"),
        (".Hidden.vmdk", ".Hidden-flat.vmdk"),
        ("A.vmdk", "A-FLAT.VMDK"),
        ("C.VMDK", "C_flat.vmdk"),
        ("D.vmdk", "D-pt.vmdk"),
        ("E.vmdk", "E.data"),
    ];
    for (descriptor, extent) in disks {
        disk_of(&apps, descriptor, extent);
    }
    disk(&apps, &long);
    // The descriptor has the name in other capitals than the folder.
    disk_of(&apps, "F.vmdk", "f-FLAT.vmdk");
    fs::rename(apps.join("f-FLAT.vmdk"), apps.join("F-flat.vmdk")).unwrap();
    let other = lab.folder("nfs01", "AppVolumes/Packages").unwrap();
    disk(&other, "Capitals");
    let (answer, _) = round(&lab, 0);
    assert_eq!(answer["copied"], disks.len() + 3, "{answer}");
    assert_eq!(answer["problems"], Value::Array(Vec::new()));
    let restore = |id: &str, at: usize| lab.restore(id, &format!("to-{at}")).unwrap();
    for (at, (descriptor, extent)) in disks.iter().enumerate() {
        let stem = descriptor.rsplit_once('.').unwrap().0;
        let files = [apps.join(descriptor), apps.join(extent)];
        same_files(&files, &restore(&format!("appstack/{stem}"), at)).unwrap();
    }
    let files = [apps.join(format!("{long}.vmdk")), apps.join(format!("{long}-flat.vmdk"))];
    same_files(&files, &restore(&format!("appstack/{long}"), 100)).unwrap();
    same_files(&[apps.join("F.vmdk"), apps.join("F-flat.vmdk")], &restore("appstack/F", 101)).unwrap();
    assert_eq!(lab.versions("package/Capitals").unwrap().len(), 1);
}

#[test]
fn disks_that_are_no_volumes_are_counted_and_listed() {
    let lab = lab();
    let apps = lab.folder("nfs01", APPS).unwrap();
    disk(&apps, "Office");
    fs::write(apps.join("readme.txt"), "x").unwrap();
    fs::write(apps.join("._Office.vmdk"), "Mac OS X").unwrap();
    fs::write(apps.join(".stackferry-restore-1-Office.vmdk"), text("Office-flat.vmdk", 65536)).unwrap();
    fs::create_dir(apps.join(".snapshot")).unwrap();
    symlink("elsewhere", apps.join("link")).unwrap();
    let plain = lab.run(&["discover"]).unwrap().expect_code(0).unwrap();
    assert_eq!(plain.json().unwrap().as_array().unwrap().len(), 1);
    let all = lab.run_json(&["discover", "--all"]).unwrap();
    let others: Vec<&Value> = all.as_array().unwrap().iter().filter(|one| one["kind"] == "other").collect();
    let names: Vec<&str> = others.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["._Office.vmdk", ".snapshot", ".stackferry-restore-1-Office.vmdk", "link", "readme.txt"]);
    for other in others {
        let why = &other["reason"];
        assert!(other["id"].is_null() && other["protectable"] == false && why["code"] == "not_a_volume", "{other}");
        assert_eq!(other["locations"][0]["datastore"], "nfs01");
    }
}

#[test]
fn an_unreadable_folder_is_reported_and_exits_3() {
    let lab = lab();
    let (apps, writables) = (lab.folder("nfs01", APPS).unwrap(), lab.folder("nfs01", WRITABLES).unwrap());
    disk(&apps, "Office");
    disk(&writables, "jdoe");
    round(&lab, 0);
    let elsewhere = lab.path("elsewhere");
    let volumes = |lab: &Lab| {
        let all = lab.run_json(&["volumes"]).unwrap();
        let states = all.as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    let root = lab.path("site/nfs01");
    // A folder that is not followed, and one below another.
    fs::rename(&writables, &elsewhere).unwrap();
    symlink(&elsewhere, &writables).unwrap();
    let (answer, outcomes) = round(&lab, 3);
    assert_eq!(codes(&answer), [("not_listed", "[nfs01] cloudvolumes/writable")]);
    assert_eq!(outcomes["appstack/Office"], "unchanged");
    assert_eq!(outcomes["writable/jdoe"], "deferred: unreachable");
    lab.run(&["discover"]).unwrap().expect_code(3).unwrap();
    fs::remove_file(&writables).unwrap();
    fs::rename(&elsewhere, &writables).unwrap();
    round(&lab, 0);
    // An empty mount point; and one whose folders are there, with nothing in them.
    fs::rename(&root, &elsewhere).unwrap();
    fs::create_dir(&root).unwrap();
    assert_eq!(codes(&round(&lab, 3).0), [("nothing_there", "[nfs01]")]);
    fs::create_dir_all(root.join(APPS)).unwrap();
    fs::create_dir_all(root.join(WRITABLES)).unwrap();
    assert_eq!(codes(&round(&lab, 3).0), [("emptied", "[nfs01]")]);
    assert_eq!(volumes(&lab), ["deferred", "deferred"], "nothing is gone");
    fs::remove_dir_all(&root).unwrap();
    fs::rename(&elsewhere, &root).unwrap();
    let (_, outcomes) = round(&lab, 0);
    assert_eq!(outcomes["writable/jdoe"], "unchanged");
}

#[test]
fn sidecar_files_never_prevent_a_copy() {
    if !FaultyMount::possible().unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let apps = lab.folder("below", APPS).unwrap();
    disk(&apps, "Office");
    disk(&apps, "Good");
    fs::write(apps.join("Office.log"), "a line\n").unwrap();
    fs::write(apps.join("Office.json"), "{}").unwrap();
    let mount = FaultyMount::mount(&lab.path("site/below"), &lab.path("site/nfs01")).unwrap();
    lab.config.local("nfs01", &lab.path("site/nfs01"));
    // A note that can't be read, and a disk with a file that can't be looked at.
    let stale = rustix::io::Errno::STALE;
    mount.fail(Operation::Open, &format!("{APPS}/Office.log"), rustix::io::Errno::ACCESS);
    mount.fail(Operation::Stat, &format!("{APPS}/Good-flat.vmdk"), stale);
    let (answer, outcomes) = round(&lab, 3);
    assert_eq!(outcomes["appstack/Office"], "copied");
    assert_eq!(outcomes["appstack/Good"], "deferred: unreachable");
    let office = answer["volumes"].as_array().unwrap().iter().find(|one| one["volume"] == "appstack/Office").unwrap();
    assert_eq!(office["left_out"][0]["file"], "Office.log");
    let good = answer["volumes"].as_array().unwrap().iter().find(|one| one["volume"] == "appstack/Good").unwrap();
    assert!(good["reason"]["text"].as_str().unwrap().contains("Good-flat.vmdk can't be looked at"), "{good}");
    let manifest: Value = {
        let version = office["version"].as_str().unwrap();
        let path = lab.vault_volume("appstack/Office").join(version).join("manifest.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    assert_eq!(manifest["left_out"][0]["file"], "Office.log");
    let restored = lab.restore("appstack/Office", "to").unwrap();
    assert!(restored.join("Office.json").exists() && !restored.join("Office.log").exists());
    mount.heal();
    let (_, outcomes) = round(&lab, 0);
    assert_eq!(outcomes["appstack/Good"], "copied");
}

#[test]
fn a_hanging_mount_delays_no_other_datastore() {
    if !FaultyMount::possible().unwrap() {
        return;
    }
    let mut lab = lab();
    disk(&lab.folder("nfs01", APPS).unwrap(), "Office");
    disk(&lab.folder("below", APPS).unwrap(), "Other");
    let mount = FaultyMount::mount(&lab.path("site/below"), &lab.path("site/nfs02")).unwrap();
    lab.config.local("nfs02", &lab.path("site/nfs02"));
    // While a disk is read its mount stops answering: the command ends when it is asked to.
    mount.hang(Operation::Read, &format!("{APPS}/Other-flat.vmdk"));
    let mut copying = lab.spawn(&["copy", "appstack/Other"]).unwrap();
    wait_for("the read to hang", WAIT, || Ok(mount.hanging() > 0)).unwrap();
    copying.signal(Signal::TERM).unwrap();
    copying.wait(WAIT).unwrap().expect_code(130).unwrap();
    mount.heal();
    mount.hang_everything();
    let (answer, outcomes) = round(&lab, 3);
    assert_eq!(outcomes["appstack/Office"], "copied", "{answer}");
    assert_eq!(codes(&answer), [("unreachable", "[nfs02]")]);
    assert!(answer["problems"][0]["message"].as_str().unwrap().contains("does not answer"), "{answer}");
    mount.heal();
    let (_, outcomes) = round(&lab, 0);
    assert_eq!(outcomes["appstack/Other"], "copied");
}

#[test]
fn locks_and_snapshots_postpone_only_their_volume() {
    let lab = lab();
    let (apps, writables) = (lab.folder("nfs01", APPS).unwrap(), lab.folder("nfs01", WRITABLES).unwrap());
    let lock = |folder: &Path, file: &str, old: u64| {
        let number = if file.is_empty() { u64::MAX } else { fs::metadata(folder.join(file)).unwrap().ino() };
        let digits: String = number.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!(".lck-{digits}"));
        fs::write(&path, [0; 84]).unwrap();
        let time = SystemTime::now() - Duration::from_secs(old);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        path
    };
    disk(&apps, "Office");
    disk(&writables, "jdoe");
    disk(&writables, "asmith");
    disk(&writables, "base");
    let delta = text("base-000001-delta.vmdk", 16 << 10).replace("parentCID=ffffffff", "parentCID=fffffffe");
    let delta = delta
        .replace("VMFS", "VMFSSPARSE")
        .replace("\"vmfs\"", "\"vmfsSparse\"\nparentFileNameHint=\"/vmfs/volumes/x/base.vmdk\"");
    fs::write(writables.join("base-000001.vmdk"), delta).unwrap();
    fs::write(writables.join("base-000001-delta.vmdk"), vec![7; 16 << 10]).unwrap();
    lock(&apps, "Office-flat.vmdk", 0);
    lock(&writables, "jdoe-flat.vmdk", 0);
    let old = lock(&writables, "", 2 * 86_400);
    let (answer, outcomes) = round(&lab, 3);
    assert_eq!(outcomes["appstack/Office"], "copied", "it is read by many all day");
    assert_eq!(outcomes["writable/jdoe"], "deferred: locked");
    assert_eq!(outcomes["writable/asmith"], "copied", "nobody renews the lock that fits no file");
    assert_eq!(outcomes["writable/base"], "deferred: snapshot");
    assert_eq!(outcomes["writable/base-000001"], "unprotectable: unsupported_disk");
    let name = old.file_name().unwrap().to_str().unwrap();
    assert_eq!(codes(&answer), [("old_lock", format!("[nfs01] {WRITABLES}/{name}").as_str())]);
    fs::remove_file(old).unwrap();
    lock(&writables, "", 0);
    fs::write(writables.join("asmith-flat.vmdk"), vec![1; 64 << 10]).unwrap();
    let (_, outcomes) = round(&lab, 3);
    assert_eq!(outcomes["writable/asmith"], "deferred: locked", "a young lock may be anyone's");
}
